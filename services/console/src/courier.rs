//! Whole evidence on a USB stick, for a verifier that has no network to this box.
//!
//! A process of its own that may open the stick's node and the sockets of clients; PID 1 starts it for
//! each errand and ends it when it takes too long. The stick is a stranger's: its file system is read and
//! written here, never by the kernel, and whatever it claims ends at worst this process. Nothing on it is
//! overwritten, and nothing but evidence, which is no secret, is written to it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{Date, DateTime, FileSystem, FsOptions, Time, TimeProvider};
use hookprobe_wire::{
    Decoder, FrameError,
    attest::{EVIDENCE_BYTES_MAX, Reply, Request},
    frame,
};
use thiserror::Error;

use crate::{clean, format::civil};

/// Files of one box, of one second and over one nonce; more than one only if a clock stands still.
const SAME_NAMES_MAX: u32 = 32;
/// Digits of the nonce in a file's name.
const NONCE_DIGITS: usize = 8;
/// Characters of the box's name in it.
const NAME_CHARS_MAX: usize = 40;

/// Why evidence is not on the stick.
#[derive(Debug, Error)]
pub enum CourierError {
    /// The node can't be opened.
    #[error("HP-US-020 usb: the stick can't be opened ({0}); pull it out, plug it in, ask again")]
    Open(io::Error),
    /// Not FAT.
    #[error(
        "HP-US-021 usb: no FAT file system is on its first partition ({0}); format it with FAT32, not \
         with exFAT or NTFS"
    )]
    Format(io::Error),
    /// Full, broken, pulled out.
    #[error("HP-US-022 usb: not written ({0}); make room on the stick or take another")]
    Write(io::Error),
    /// So many files with this name.
    #[error("HP-US-023 usb: {0} is on it already; set the clock of the box")]
    Exists(String),
    /// Attest is not there.
    #[error("HP-US-024 usb: attest gives no evidence ({0}); see 7 Services")]
    Attest(io::Error),
    /// Attest sends something else.
    #[error("HP-US-025 usb: attest sends no evidence ({0}); see 7 Services")]
    Frame(#[from] FrameError),
    /// Attest says why.
    #[error("{0}")]
    Refused(String),
    /// Pieces that are none.
    #[error("HP-US-026 usb: attest sent pieces that do not fit; ask again")]
    Pieces,
}

/// Asks attest for whole evidence over a nonce.
///
/// # Errors
/// [`CourierError`]; reading from `attest` has to end by itself (a timeout on the socket).
pub fn fetch(attest: &mut (impl Read + Write), nonce: &[u8]) -> Result<Vec<u8>, CourierError> {
    let request = Request::Evidence { nonce: nonce.to_vec().into(), exporter: None, full: true };
    attest.write_all(&frame::to_vec(&request)?).map_err(CourierError::Attest)?;
    let mut decoder = Decoder::new();
    let mut evidence = Vec::new();
    let mut buffer = vec![0; frame::FRAME_BYTES_MAX];
    loop {
        while let Some(reply) = decoder.next()? {
            if take(reply, &mut evidence)? {
                return Ok(evidence);
            }
        }
        let room = decoder.room().min(buffer.len());
        let got = attest.read(buffer.get_mut(..room).unwrap_or_default());
        match got.map_err(CourierError::Attest)? {
            0 => return Err(CourierError::Attest(io::ErrorKind::UnexpectedEof.into())),
            got => decoder.feed(buffer.get(..got).unwrap_or_default()),
        }
    }
}

/// Takes one piece; `true` with the last.
fn take(reply: Reply, evidence: &mut Vec<u8>) -> Result<bool, CourierError> {
    match reply {
        Reply::Part { offset, total, bytes } => {
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            let fits = usize::try_from(offset) == Ok(evidence.len())
                && total <= EVIDENCE_BYTES_MAX
                && !bytes.is_empty()
                && bytes.len() <= total.saturating_sub(evidence.len());
            if !fits {
                return Err(CourierError::Pieces);
            }
            evidence.extend_from_slice(&bytes);
            Ok(evidence.len() == total)
        }
        Reply::Error { code, reason } => {
            let text = clean::text(&format!("{code} {reason}"), clean::TEXT_CHARS_MAX);
            Err(CourierError::Refused(text))
        }
        Reply::Status(_) | Reply::Activated { .. } | Reply::Recovery(_) | Reply::Log { .. } => {
            Err(CourierError::Pieces)
        }
    }
}

/// `hookprobe-NAME-20261126T190501Z-0a1b2c3d`, without what no file name can have.
#[must_use]
pub fn name(box_name: &str, unix_s: u64, nonce: &str) -> String {
    let plain = |text: &str, most| -> String {
        text.chars()
            .filter(|char| char.is_ascii_alphanumeric() || *char == '-')
            .take(most)
            .collect()
    };
    let (year, month, day) = civil(unix_s / 86_400);
    let (hour, minute, second) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
    format!(
        "hookprobe-{}-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{}",
        plain(box_name, NAME_CHARS_MAX),
        plain(nonce, NONCE_DIGITS),
    )
}

/// Sectors that FAT may have.
const SECTOR_BYTES: [u64; 4] = [512, 1024, 2048, 4096];
/// Bytes of an entry in the root directory of FAT12 and FAT16.
const ENTRY_BYTES: u64 = 32;

/// Whether what a boot sector says fits together and into the device: the library counts on it.
fn is_sound(boot: &[u8; 512], device_bytes: u64) -> bool {
    let number = |at: usize, bytes: usize| {
        let field = boot.get(at..at + bytes).unwrap_or_default();
        field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let first = |short: u64, long: u64| if short == 0 { long } else { short };
    let (sector, cluster_sectors) = (number(11, 2), number(13, 1));
    let (reserved, tables, root_entries) = (number(14, 2), number(16, 1), number(17, 2));
    let sectors = first(number(19, 2), number(32, 4));
    let table_sectors = first(number(22, 2), number(36, 4));
    if !SECTOR_BYTES.contains(&sector) || !cluster_sectors.is_power_of_two() || table_sectors == 0 {
        return false;
    }
    let root_sectors = (root_entries * ENTRY_BYTES).div_ceil(sector);
    let data_sector = reserved + tables * table_sectors + root_sectors;
    let Some(data_sectors) = sectors.checked_sub(data_sector) else { return false };
    let clusters = data_sectors / cluster_sectors;
    let table_bits = table_sectors * sector * 8;
    // As the standard tells the three apart.
    let entry_bits = match clusters {
        0..4085 => 12,
        4085..65_525 => 16,
        _ => 32,
    };
    let is_32 = number(22, 2) == 0;
    let (flags, root_cluster, info) = (number(40, 2), number(44, 4), number(48, 2));
    let extended = !is_32
        || ((2..clusters + 2).contains(&root_cluster)
            && (flags & 0x80 == 0 || flags & 0x0f < tables)
            && info < reserved);
    reserved > 0
        && matches!(tables, 1 | 2)
        && clusters > 0
        && is_32 == (entry_bits == 32)
        && sectors * sector <= device_bytes
        && table_bits <= u64::from(u32::MAX)
        && (clusters + 2) * entry_bits <= table_bits
        && extended
}

/// The file system, after a look at what it claims.
fn open<T: Read + Write + Seek>(
    mut stick: T,
    clock: &'static dyn TimeProvider,
) -> io::Result<FileSystem<T>> {
    let bytes = stick.seek(SeekFrom::End(0))?;
    stick.rewind()?;
    let mut boot = [0; 512];
    stick.read_exact(&mut boot)?;
    if !is_sound(&boot, bytes) {
        let why = "its first sector is none of FAT's or contradicts itself";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    stick.rewind()?;
    let options = FsOptions::new().update_accessed_date(false).time_provider(clock);
    FileSystem::new(stick, options)
}

/// Writes `bytes` as a new file at the root of the FAT file system on `stick`; returns its name, which
/// is `stem` and `.evidence`. The caller makes sure that the device has it.
///
/// # Errors
/// [`CourierError`]; a file that could not be written whole is removed if that can be done.
pub fn write<T: Read + Write + Seek>(
    stick: T,
    stem: &str,
    bytes: &[u8],
    clock: &'static dyn TimeProvider,
) -> Result<String, CourierError> {
    let system = open(stick, clock).map_err(CourierError::Format)?;
    let root = system.root_dir();
    let names = (1..=SAME_NAMES_MAX).map(|number| match number {
        1 => format!("{stem}.evidence"),
        number => format!("{stem}-{number}.evidence"),
    });
    for name in names {
        match root.open_file(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => continue,
            Err(error) => return Err(CourierError::Write(error)),
        }
        let written = root.create_file(&name).and_then(|mut file| {
            file.write_all(bytes)?;
            file.flush()
        });
        if let Err(error) = written {
            let _ = root.remove(&name);
            return Err(CourierError::Write(error));
        }
        drop(root);
        system.unmount().map_err(CourierError::Write)?;
        return Ok(name);
    }
    Err(CourierError::Exists(format!("{stem}.evidence")))
}

/// As FAT counts: years from 1980 to 2107.
#[must_use]
pub fn moment(unix_s: u64) -> DateTime {
    const FIRST_S: u64 = 315_532_800;
    const LAST_S: u64 = 4_354_819_199;
    let unix_s = unix_s.clamp(FIRST_S, LAST_S);
    let small = |value: u64| u16::try_from(value).unwrap_or(0);
    let (year, month, day) = civil(unix_s / 86_400);
    DateTime {
        date: Date { year: small(year), month: small(month), day: small(day) },
        time: Time {
            hour: small(unix_s / 3600 % 24),
            min: small(unix_s / 60 % 60),
            sec: small(unix_s % 60),
            millis: 0,
        },
    }
}

#[cfg(test)]
mod tests;
