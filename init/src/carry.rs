//! Evidence carried out on a USB stick: which stick, and how far it is.
//!
//! The file is written by the courier, a service without rights that runs each time it is asked for
//! (`start = "carry"`): it gets the one node of the stick, reads and writes the file system on it by
//! itself and asks attest as any client does. What must never happen here: a stick that is mounted for it,
//! or that PID 1 reads a byte of; a disk given away that the box itself is on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hookprobe_wire::{
    attest::{NONCE_BYTES_MAX, NONCE_BYTES_MIN},
    control::{Errand, ErrandState},
};
use thiserror::Error;

use crate::{
    control::Peer,
    errand::{Errands, Refusal},
    limits::{CARRIES_MAX, CARRY_MS_MAX},
    state::{ESP_LABEL, STATE_LABEL},
};

/// Where the courier finds the stick: a link of root's to its node.
pub const STICK_LINK: &str = "/run/hookprobe/carry/stick";
/// Its folder, which is root's.
pub const DIRECTORY: &str = "/run/hookprobe/carry";
/// Most block devices: with more, no stick is taken.
const BLOCKS_MAX: usize = 256;

/// Why evidence was not carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CarryError {
    /// Not a console.
    #[error(
        "HP-US-001 usb: evidence was asked for by user {uid} (process {pid}), who is no console of this \
         box; find out who that is"
    )]
    Stranger {
        /// The kernel's word for who asked.
        uid: u32,
        /// Its process.
        pid: i32,
    },
    /// One is not done yet.
    #[error("HP-US-002 usb: number {0} is being written; ask again in a moment")]
    Busy(u32),
    /// The log would grow without an end.
    #[error("HP-US-003 usb: {CARRIES_MAX} couriers were sent since the start; restart the box")]
    Spent,
    /// Not a nonce.
    #[error(
        "HP-US-004 usb: a nonce of {0} bytes; {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} are allowed"
    )]
    Nonce(usize),
    /// Nothing there.
    #[error(
        "HP-US-005 usb: no stick; plug one in that is formatted with FAT (a disk of this system is \
         none), wait for its light"
    )]
    Nothing,
    /// Whose evidence goes where?
    #[error("HP-US-006 usb: {0} sticks; leave one in")]
    Several(usize),
    /// A switch on it.
    #[error("HP-US-007 usb: {0} is write-protected; move its switch or take another")]
    Protected(String),
    /// The image has none.
    #[error("HP-US-008 usb: no courier in this image; re-flash")]
    NoCourier,
    /// It could not be started.
    #[error("HP-US-009 usb: the courier did not start ({0}); see the log, then ask again")]
    Start(String),
    /// It hangs.
    #[error(
        "HP-US-010 usb: not written within {} s; take another stick", CARRY_MS_MAX / 1000
    )]
    Late,
    /// It said nothing that can be shown.
    #[error("HP-US-011 usb: the courier ended ({0}); take another stick")]
    Ended(String),
    /// No time left.
    #[error("HP-US-012 usb: the box is being switched off; ask after its start")]
    Ending,
    /// The kernel can't end it.
    #[error("HP-US-013 usb: the last courier still waits for its stick; pull that one out")]
    Stuck,
    /// Some may be the box's own, and not be seen.
    #[error("HP-US-014 usb: more than {BLOCKS_MAX} disks and partitions; pull some out")]
    Disks,
    /// It said why.
    #[error("{0}")]
    Courier(String),
}

impl From<Refusal> for CarryError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stranger(Peer { uid, pid }) => Self::Stranger { uid, pid },
            Refusal::Busy(number) => Self::Busy(number),
            Refusal::Spent => Self::Spent,
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Wait,
    /// Send a courier to this node.
    Send(PathBuf),
    /// End it: it takes too long.
    End,
}

/// Where an errand is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum At {
    #[default]
    Nowhere,
    /// Asked for.
    Asked(PathBuf),
    /// The courier runs, until when at most.
    Sent(u64),
    /// It was told to end, and did not yet.
    Stuck,
}

/// How far the last one is, and what it was asked over.
#[derive(Debug)]
pub struct Carries {
    errands: Errands,
    nonce: Vec<u8>,
    at: At,
}

impl Default for Carries {
    fn default() -> Self {
        Self { errands: Errands::new(CARRIES_MAX), nonce: Vec::new(), at: At::Nowhere }
    }
}

impl Carries {
    /// Somebody asks; the number of the errand that begins. `look` finds the stick.
    ///
    /// # Errors
    /// [`CarryError`]; those who may not ask are counted.
    pub fn ask(
        &mut self,
        peer: Peer,
        consoles: &[i32],
        nonce: &[u8],
        look: impl FnOnce() -> Result<PathBuf, CarryError>,
    ) -> Result<u32, CarryError> {
        self.errands.check(peer, consoles)?;
        if !(NONCE_BYTES_MIN..=NONCE_BYTES_MAX).contains(&nonce.len()) {
            return Err(CarryError::Nonce(nonce.len()));
        }
        if self.is_out() {
            return Err(CarryError::Stuck);
        }
        let node = look()?;
        self.nonce = nonce.to_vec();
        let number = self.errands.begin(&format!("writing to {}", node.display()));
        self.at = At::Asked(node);
        Ok(number)
    }

    /// What is to be done at a time of the boot.
    #[must_use]
    pub fn turn(&self, now_ms: u64) -> Turn {
        match &self.at {
            At::Asked(node) => Turn::Send(node.clone()),
            At::Sent(until_ms) if now_ms >= *until_ms => Turn::End,
            At::Nowhere | At::Sent(_) | At::Stuck => Turn::Wait,
        }
    }

    /// The courier runs.
    pub fn sent(&mut self, now_ms: u64) {
        self.at = At::Sent(now_ms + CARRY_MS_MAX);
    }

    /// Whether a courier's process is there.
    #[must_use]
    pub fn is_out(&self) -> bool {
        matches!(self.at, At::Sent(_) | At::Stuck)
    }

    /// It could not be sent, or has to end; what that means stands in the error.
    pub fn failed(&mut self, error: &CarryError) {
        self.at = if *error == CarryError::Late { At::Stuck } else { At::Nowhere };
        self.errands.set(ErrandState::Failed, error.to_string());
    }

    /// The courier's process is gone: well or not, with its last line (without its level). None where
    /// this was said before.
    ///
    /// # Errors
    /// [`CarryError::Courier`] with what it said, [`CarryError::Ended`] where that is no reason.
    pub fn ended(
        &mut self,
        good: bool,
        how: &str,
        said: &str,
    ) -> Option<Result<String, CarryError>> {
        let before = std::mem::take(&mut self.at);
        if !matches!(before, At::Sent(_)) {
            // An errand that waits is not this one's.
            if matches!(before, At::Asked(_)) {
                self.at = before;
            }
            return None;
        }
        if good {
            self.errands.set(ErrandState::Done, said.into());
            return Some(Ok(said.into()));
        }
        let reasoned = said.starts_with("HP-");
        let error =
            if reasoned { CarryError::Courier(said.into()) } else { CarryError::Ended(how.into()) };
        self.errands.set(ErrandState::Failed, error.to_string());
        Some(Err(error))
    }

    /// The nonce in hexadecimal.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.nonce.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Which one is the last of this boot; 0: none yet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.errands.number()
    }

    /// For the console.
    #[must_use]
    pub fn status(&self) -> Option<Errand> {
        self.errands.status()
    }

    /// Requests of those who may not.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.errands.refused()
    }
}

/// A disk as sysfs shows it.
#[derive(Debug, Default)]
struct Disk {
    name: String,
    usb: bool,
    /// It has a partition of this box.
    ours: bool,
    protected: bool,
    empty: bool,
    /// Numbers and names of its partitions.
    partitions: Vec<(u32, String)>,
}

/// The node of the one stick that is plugged in: its first partition, or all of it where it has none.
///
/// # Errors
/// None or several, write-protected, or too many disks to know.
pub fn stick(class: &Path) -> Result<PathBuf, CarryError> {
    let mut sticks: Vec<Disk> = disks(class)?;
    sticks.retain(|disk| disk.usb && !disk.ours && !disk.empty);
    let [disk] = sticks.as_slice() else {
        let count = sticks.len();
        return Err(if count == 0 { CarryError::Nothing } else { CarryError::Several(count) });
    };
    if disk.protected {
        return Err(CarryError::Protected(disk.name.clone()));
    }
    let name = disk.partitions.iter().min().map_or(&disk.name, |(_, name)| name);
    Ok(Path::new("/dev").join(name))
}

fn disks(class: &Path) -> Result<Vec<Disk>, CarryError> {
    let mut disks: Vec<Disk> = Vec::new();
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    for (count, entry) in entries.enumerate() {
        if count >= BLOCKS_MAX {
            return Err(CarryError::Disks);
        }
        let Ok(path) = fs::canonicalize(entry.path()) else { continue };
        let Some(name) = name_of(&path) else { continue };
        let number = read(&path, "partition").parse().ok();
        let of = if number.is_some() { path.parent() } else { Some(path.as_path()) };
        let Some((of, disk_name)) = of.and_then(|of| Some((of, name_of(of)?))) else { continue };
        let at = disks.iter().position(|disk| disk.name == disk_name).unwrap_or_else(|| {
            disks.push(Disk {
                name: disk_name,
                usb: on_usb(of),
                protected: read(of, "ro") == "1",
                // A card reader without a card.
                empty: read(of, "size") == "0",
                ..Disk::default()
            });
            disks.len() - 1
        });
        let Some(disk) = disks.get_mut(at) else { continue };
        if let Some(number) = number {
            let labels = read(&path, "uevent");
            let is_ours = |label| labels.lines().any(|line| line == format!("PARTNAME={label}"));
            disk.ours |= is_ours(ESP_LABEL) || is_ours(STATE_LABEL);
            disk.partitions.push((number, name));
        }
    }
    Ok(disks)
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn read(path: &Path, file: &str) -> String {
    fs::read_to_string(path.join(file)).unwrap_or_default().trim().to_owned()
}

/// Whether a bus of USB (`usb1`) is on the way to a device.
fn on_usb(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.strip_prefix("usb").is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use hookprobe_wire::CONSOLE_UID;

    use super::*;

    const USB: &str = "devices/pci0/0000:00:04.0/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0/block";
    const SATA: &str = "devices/pci0/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block";

    /// A tree as sysfs; partitions as `(name, number, label)`.
    struct Sysfs(tempfile::TempDir);

    impl Sysfs {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("class")).unwrap();
            Self(directory)
        }

        fn class(&self) -> PathBuf {
            self.0.path().join("class")
        }

        fn disk(
            self,
            bus: &str,
            name: &str,
            files: &[(&str, &str)],
            parts: &[(u32, &str)],
        ) -> Self {
            let disk = self.0.path().join(bus).join(name);
            fs::create_dir_all(&disk).unwrap();
            for (file, text) in [("ro", "0\n"), ("size", "2048\n")].iter().chain(files) {
                fs::write(disk.join(file), text).unwrap();
            }
            symlink(&disk, self.class().join(name)).unwrap();
            for (number, label) in parts {
                let name = format!("{name}{number}");
                let part = disk.join(&name);
                fs::create_dir(&part).unwrap();
                fs::write(part.join("partition"), format!("{number}\n")).unwrap();
                fs::write(part.join("uevent"), format!("DEVNAME={name}\nPARTNAME={label}\n"))
                    .unwrap();
                symlink(&part, self.class().join(name)).unwrap();
            }
            self
        }
    }

    fn ours() -> Sysfs {
        Sysfs::new().disk(SATA, "sda", &[], &[(1, ESP_LABEL), (2, STATE_LABEL)])
    }

    #[test]
    fn the_one_stick_is_found() {
        let sysfs = ours();
        assert_eq!(stick(&sysfs.class()), Err(CarryError::Nothing));
        let sysfs = sysfs.disk(USB, "sdb", &[], &[(2, "more"), (1, "")]);
        assert_eq!(stick(&sysfs.class()), Ok("/dev/sdb1".into()));
        let sysfs = sysfs.disk(&USB.replace("1-1", "1-2"), "sdc", &[("size", "0\n")], &[]);
        assert_eq!(stick(&sysfs.class()), Ok("/dev/sdb1".into()));
        let sysfs = sysfs.disk(&USB.replace("1-1", "1-3"), "sdd", &[], &[]);
        assert_eq!(stick(&sysfs.class()), Err(CarryError::Several(2)));
    }

    #[test]
    fn a_stick_without_partitions_is_taken_whole_unless_it_is_write_protected() {
        let sysfs = ours().disk(USB, "sdb", &[], &[]);
        assert_eq!(stick(&sysfs.class()), Ok("/dev/sdb".into()));
        let sysfs = ours().disk(USB, "sdb", &[("ro", "1\n")], &[]);
        assert_eq!(stick(&sysfs.class()), Err(CarryError::Protected("sdb".into())));
    }

    #[test]
    fn the_disk_that_the_box_is_on_is_no_stick() {
        for label in [ESP_LABEL, STATE_LABEL] {
            let sysfs = Sysfs::new().disk(USB, "sda", &[], &[(1, "x"), (2, label)]);
            assert_eq!(stick(&sysfs.class()), Err(CarryError::Nothing));
        }
    }

    #[test]
    fn more_disks_than_are_looked_at_are_none() {
        let sysfs = ours().disk(USB, "sdb", &[], &[]);
        for number in 0..BLOCKS_MAX {
            symlink(sysfs.0.path(), sysfs.class().join(format!("loop{number}"))).unwrap();
        }
        assert_eq!(stick(&sysfs.class()), Err(CarryError::Disks));
    }

    const CONSOLE: Peer = Peer { uid: CONSOLE_UID, pid: 40 };

    fn ask(carries: &mut Carries) -> Result<u32, CarryError> {
        carries.ask(CONSOLE, &[40], &[0xab; 8], || Ok("/dev/sdb1".into()))
    }

    #[test]
    fn only_what_begins_has_a_number() {
        let mut carries = Carries::default();
        let stranger = Peer { uid: 802, pid: 40 };
        let nowhere = || -> Result<PathBuf, CarryError> { panic!("was looked for") };
        let refused = carries.ask(stranger, &[40], &[1; 8], nowhere);
        assert_eq!(refused, Err(CarryError::Stranger { uid: 802, pid: 40 }));
        assert_eq!(carries.ask(CONSOLE, &[40], &[1; 7], nowhere), Err(CarryError::Nonce(7)));
        let none = || Err(CarryError::Nothing);
        assert_eq!(carries.ask(CONSOLE, &[40], &[1; 8], none), Err(CarryError::Nothing));
        assert_eq!((carries.refused(), carries.number()), (1, 0));
        assert_eq!(ask(&mut carries), Ok(1));
        assert_eq!(carries.nonce(), "ab".repeat(8));
        assert_eq!(ask(&mut carries), Err(CarryError::Busy(1)));
    }

    #[test]
    fn what_the_courier_says_is_what_is_shown() {
        let mut carries = Carries::default();
        let text = |carries: &Carries| carries.status().unwrap().text;
        ask(&mut carries).unwrap();
        assert_eq!(carries.turn(0), Turn::Send("/dev/sdb1".into()));
        carries.sent(0);
        assert_eq!(carries.turn(CARRY_MS_MAX - 1), Turn::Wait);
        carries.ended(true, "exit status 0", "written x").unwrap().unwrap();
        assert_eq!((text(&carries), carries.turn(u64::MAX)), ("written x".into(), Turn::Wait));
        for (how, said, shown) in [
            ("exit status 1", "HP-US-023 usb: full", "HP-US-023 usb: full"),
            ("signal 6", "panicked at", "HP-US-011 usb: the courier ended (signal 6)"),
        ] {
            ask(&mut carries).unwrap();
            carries.sent(0);
            carries.ended(false, how, said).unwrap().unwrap_err();
            assert!(text(&carries).starts_with(shown), "{}", text(&carries));
        }
    }

    #[test]
    fn a_courier_that_hangs_is_given_up_and_its_end_is_nobody_elses() {
        let mut carries = Carries::default();
        ask(&mut carries).unwrap();
        carries.sent(5);
        assert_eq!(carries.turn(5 + CARRY_MS_MAX), Turn::End);
        carries.failed(&CarryError::Late);
        assert!(carries.is_out());
        assert_eq!(ask(&mut carries), Err(CarryError::Stuck));
        assert_eq!(carries.number(), 1);
        assert_eq!(carries.ended(true, "exit status 0", "written x"), None);
        assert!(carries.status().unwrap().text.starts_with("HP-US-010"));
        assert_eq!(ask(&mut carries), Ok(2));
        assert_eq!(carries.ended(false, "signal 9", ""), None);
        assert_eq!(carries.turn(0), Turn::Send("/dev/sdb1".into()));
        carries.failed(&CarryError::Start("fork".into()));
        assert!(!carries.is_out());
        assert_eq!(ask(&mut carries), Ok(3));
    }
}
