//! The appliance in QEMU: UEFI, software TPM, disk, two network cards, and the log port.
//!
//! Every virtual machine has a folder of its own below `target/vm`; what it started is ended by
//! its own handle, never by name.

mod accel;
pub mod challenge;
pub mod folder;
mod live;
pub mod log;
pub mod proxy;
pub mod qmp;
mod screen;
mod stick;
pub mod tpm;
pub mod wire;

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result, at},
    shell,
    tree::{Image, Tree},
};

pub use accel::{Accel, probe};
pub use challenge::Port;
pub use folder::{folder, prepare, set_site};
pub use log::{Line, Log};
pub use screen::Screen;
pub use stick::Stick;

/// The firmware with its room for variables, from the package ovmf.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// What stands beside the laboratory's configuration: name and bytes.
pub const LAB_RULES: (&str, &[u8]) = ("lab.rules", include_bytes!("../../../layout/lab.rules"));
/// The laboratory's configuration.
pub const LAB_SITE: &[u8] = include_bytes!("../../../layout/lab-site.toml");
/// The drive that has nothing to boot.
const EMPTY: &str = "empty.img";
const EMPTY_BYTES: u64 = 1 << 20;
/// swtpm and QEMU make their sockets at once; a minute is a machine that is very busy.
const SOCKET_WAIT: Duration = Duration::from_secs(60);
/// How long a guest may take to power off: the services have five seconds each to end.
const POWEROFF_WAIT: Duration = Duration::from_secs(120);

/// End of the serial line in error messages: an emergency screen fits, a console's redraws do not.
const SERIAL_TAIL_BYTES: usize = 1500;

/// Where the guest's first serial line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// To this terminal, with QEMU's escape key.
    Terminal,
    /// To a file, for later.
    File,
    /// To a Unix socket, so that a test can type.
    Socket,
    /// There is none, as on most small PCs.
    None,
}

/// What is plugged in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the folder below `target/vm`.
    pub name: String,
    /// Start from the folder as it is, keeping disk and TPM; else from a fresh disk.
    pub keep: bool,
    /// Memory of the guest.
    pub memory_mib: u32,
    /// PCR banks of the TPM, e.g. `sha256,sha384`; none: no TPM.
    pub tpm_banks: Option<String>,
    /// Site configuration on the boot partition; none: as on a fresh image.
    pub site: Option<Vec<u8>>,
    /// Files beside it: names and bytes.
    pub beside: Vec<(String, Vec<u8>)>,
    /// Serial line.
    pub serial: Serial,
    /// Network cards: the first is the uplink, the second the LAN that the host plays.
    pub network: bool,
    /// Another boot blob in place of the image's.
    pub uki: Option<PathBuf>,
    /// Put in front of the disk's file name, e.g. `blkdebug:RULES:`.
    pub disk_prefix: String,
    /// A proxy between the machine and its TPM, see [`Vm::proxy`].
    pub tap: bool,
    /// An empty drive that the firmware tries to boot before the disk.
    pub empty_first: bool,
    /// A USB controller, for a [`Stick`].
    pub usb: bool,
    /// What the machine's clock says at its start, e.g. `1990-01-01T00:00:00`; none: the host's time.
    pub clock: Option<String>,
}

impl Options {
    /// The laboratory box: everything plugged in.
    #[must_use]
    pub fn lab(name: &str) -> Self {
        Self {
            name: name.into(),
            keep: false,
            memory_mib: 1024,
            tpm_banks: Some("sha256,sha384".into()),
            site: Some(LAB_SITE.to_vec()),
            beside: vec![(LAB_RULES.0.into(), LAB_RULES.1.to_vec())],
            serial: Serial::File,
            network: true,
            uki: None,
            disk_prefix: String::new(),
            tap: false,
            empty_first: false,
            usb: false,
            clock: None,
        }
    }
}

/// A running machine. Dropping it ends QEMU and swtpm.
#[derive(Debug)]
pub struct Vm {
    /// Its folder.
    pub dir: PathBuf,
    /// What PID 1 wrote to the log port.
    pub log: Log,
    qemu: Child,
    tpm: Option<tpm::Server>,
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Before the TPM: its end would look like a failing TPM to the guest.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn wait_for_socket(path: &Path) -> Result<()> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > SOCKET_WAIT {
            return Err(Error::Compose(format!("{} did not appear", path.display())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn log_file(dir: &Path, name: &str) -> Result<Stdio> {
    let path = dir.join(name);
    Ok(File::create(&path).map_err(at(&path))?.into())
}

impl Vm {
    /// Starts a machine. The folder is made first where it is missing.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn start(tree: &Tree, image: &Image, options: &Options) -> Result<Self> {
        let dir = prepare(tree, image, options)?;
        launch(tree, dir, options, &[])
    }

    /// Waits until a log line satisfies `want`; lines seen earlier by an earlier wait are skipped.
    ///
    /// # Errors
    /// [`Error::Guest`] after `wait`, or at once when QEMU ends.
    pub fn wait(
        &mut self,
        what: &str,
        wait: Duration,
        mut want: impl FnMut(&Line) -> bool,
    ) -> Result<Line> {
        let start = Instant::now();
        loop {
            while let Some(line) = self.log.next() {
                if want(&line) {
                    return Ok(line);
                }
            }
            let ended = self.qemu.try_wait().ok().flatten().is_some();
            let stuck = self.emergency();
            if ended || stuck || start.elapsed() > wait {
                return Err(Error::Guest {
                    what: match (ended, stuck) {
                        (true, _) => format!("{what} (QEMU ended)"),
                        (_, true) => format!("{what} (the box shows its emergency screen)"),
                        _ => what.into(),
                    },
                    seconds: start.elapsed().as_secs(),
                    phase: self.log.last_phase(),
                    tail: self.tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the emergency screen was written to the serial line.
    fn emergency(&self) -> bool {
        let serial = fs::read(self.dir.join("serial.txt")).unwrap_or_default();
        String::from_utf8_lossy(&serial).contains("HookProbe OS can't go on")
    }

    /// End of what the guest said, for error messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log.txt")).unwrap_or_default();
        let serial = fs::read(self.dir.join("serial.txt")).unwrap_or_default();
        let start = serial.len().saturating_sub(SERIAL_TAIL_BYTES);
        let serial: String = String::from_utf8_lossy(serial.get(start..).unwrap_or_default())
            .chars()
            .filter(|char| !char.is_control() || *char == '\n')
            .collect();
        format!(
            "{}\n--- end of the serial line\n{}",
            shell::tail(&log, 15),
            shell::tail(&serial, 15)
        )
    }

    /// The control connection of QEMU.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn qmp(&self) -> Result<qmp::Qmp> {
        qmp::Qmp::connect(&self.dir.join("qmp.sock"))
    }

    /// The serial line, when it is a socket.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn serial(&self) -> Result<UnixStream> {
        let path = self.dir.join("serial.sock");
        UnixStream::connect(&path).map_err(at(path))
    }

    /// Presses the power button and waits until the guest is off.
    ///
    /// # Errors
    /// [`Error::Guest`] when it stays on.
    pub fn power_off(&mut self) -> Result<()> {
        self.qmp()?.execute("system_powerdown", serde_json::Value::Null)?;
        self.wait_off(POWEROFF_WAIT)
    }

    /// Waits until QEMU has ended by itself.
    ///
    /// # Errors
    /// [`Error::Guest`] after `wait`.
    pub fn wait_off(&mut self, wait: Duration) -> Result<()> {
        let start = Instant::now();
        while self.qemu.try_wait().ok().flatten().is_none() {
            if start.elapsed() > wait {
                return Err(Error::Guest {
                    what: "power off".into(),
                    seconds: wait.as_secs(),
                    phase: self.log.last_phase(),
                    tail: self.tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends the TPM while the guest runs.
    pub fn kill_tpm(&mut self) {
        self.tpm = None;
    }

    /// The proxy at the TPM.
    ///
    /// # Errors
    /// [`Error::Check`] on a machine without the option `tap`.
    pub fn proxy(&self) -> Result<&proxy::Proxy> {
        self.tpm
            .as_ref()
            .and_then(tpm::Server::proxy)
            .ok_or_else(|| Error::Check("this machine has no proxy at its TPM".into()))
    }

    /// Waits for QEMU, for a machine on this terminal.
    pub fn join(mut self) {
        let _ = self.qemu.wait();
    }
}

/// Starts QEMU and the TPM on a folder as it is; `more` goes to QEMU.
fn launch(tree: &Tree, dir: PathBuf, options: &Options, more: &[&str]) -> Result<Vm> {
    let tpm =
        options.tpm_banks.as_ref().map(|_| tpm::Server::start(&dir, options.tap)).transpose()?;
    for name in ["log.txt", "serial.txt", "qmp.sock", "serial.sock", challenge::SOCKET] {
        let _ = fs::remove_file(dir.join(name));
    }
    if options.empty_first {
        let path = dir.join(EMPTY);
        let made = File::create(&path).and_then(|file| file.set_len(EMPTY_BYTES));
        made.map_err(at(&path))?;
    }
    let mut command = Command::new("qemu-system-x86_64");
    command.args(arguments(tree, &dir, options)?).args(more);
    if options.serial == Serial::Terminal {
        command.stderr(Stdio::inherit());
    } else {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(&dir, "qemu.log")?);
    }
    let qemu = command
        .spawn()
        .map_err(|source| Error::Spawn { program: "qemu-system-x86_64".into(), source })?;
    let log = Log::new(dir.join("log.txt"));
    let mut vm = Vm { dir, log, qemu, tpm };
    if let Err(error) = wait_for_socket(&vm.dir.join("qmp.sock")) {
        let said = fs::read_to_string(vm.dir.join("qemu.log")).unwrap_or_default();
        let _ = vm.qemu.kill();
        return Err(Error::Compose(format!("{error}\n{}", shell::tail(&said, 10))));
    }
    Ok(vm)
}

fn arguments(tree: &Tree, dir: &Path, options: &Options) -> Result<Vec<String>> {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut all: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
    let accel = probe(tree)?;
    // Translated, a second processor costs more than it gives, and QEMU 7.2 was seen to start one
    // with a kernel oops.
    let processors = if accel == Accel::Kvm { "2" } else { "1" };
    add(&["-name", &options.name, "-machine", &format!("q35,accel={}", accel.name())]);
    add(&["-cpu", "max", "-smp", processors, "-m", &options.memory_mib.to_string()]);
    add(&["-display", "none", "-nodefaults", "-no-user-config", "-vga", "std", "-boot", "c"]);
    add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}")]);
    add(&["-drive", &format!("if=pflash,format=raw,file={}", path("vars.fd"))]);
    add(&[
        "-drive",
        &format!("if=none,id=disk,format=raw,file={}{}", options.disk_prefix, path("disk.img")),
    ]);
    add(&["-device", "virtio-blk-pci,drive=disk,id=disk0,bootindex=1,romfile="]);
    if options.empty_first {
        add(&["-drive", &format!("if=none,id=empty,format=raw,file={}", path(EMPTY))]);
        add(&["-device", "virtio-blk-pci,drive=empty,id=disk1,bootindex=0,romfile="]);
    }
    if options.usb {
        add(&["-device", "qemu-xhci,id=usb0"]);
    }
    if options.tpm_banks.is_some() {
        add(&["-chardev", &format!("socket,id=tpm,path={}", path(tpm::SOCKET))]);
        add(&["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]);
    }
    if let Some(clock) = &options.clock {
        add(&["-rtc", &format!("base={clock}")]);
    }
    if options.network {
        add(&["-netdev", "user,id=uplink,restrict=on"]);
        add(&[
            "-device",
            "virtio-net-pci,id=nic0,netdev=uplink,mac=52:54:00:48:50:01,addr=0x10,romfile=",
        ]);
        add(&[
            "-netdev",
            &format!(
                "dgram,id=lan,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                path("lan-guest.sock"),
                path("lan-host.sock"),
            ),
        ]);
        // On a port of its own, so that a test can pull it out.
        add(&["-device", "pcie-root-port,id=port1,chassis=1,addr=0x11"]);
        add(&[
            "-device",
            "virtio-net-pci,id=nic1,bus=port1,netdev=lan,mac=52:54:00:48:50:02,romfile=",
        ]);
    }
    match options.serial {
        Serial::None => add(&["-serial", "none"]),
        Serial::Terminal => add(&["-serial", "mon:stdio"]),
        Serial::File => add(&["-serial", &format!("file:{}", path("serial.txt"))]),
        Serial::Socket => {
            add(&[
                "-chardev",
                &format!(
                    "socket,id=serial,path={},server=on,wait=off,logfile={}",
                    path("serial.sock"),
                    path("serial.txt"),
                ),
            ]);
            add(&["-serial", "chardev:serial"]);
        }
    }
    add(&[
        "-device",
        "virtio-serial-pci",
        "-chardev",
        &format!("file,id=log,path={}", path("log.txt")),
    ]);
    add(&["-device", "virtserialport,chardev=log,name=hookprobe.log"]);
    add(&[
        "-chardev",
        &format!("socket,id=attest,path={},server=on,wait=off", path(challenge::SOCKET)),
    ]);
    let port = hookprobe_wire::attest::PORT_NAME;
    add(&["-device", &format!("virtserialport,chardev=attest,name={port}")]);
    add(&["-qmp", &format!("unix:{},server=on,wait=off", path("qmp.sock"))]);
    Ok(all)
}
