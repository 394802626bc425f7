//! `/init` of the initramfs: from the kernel to PID 1 on the read-only root.
//!
//! It loads the modules named in `/modules.list`, mounts `/root.erofs` and executes PID 1 there. It
//! decides nothing: the kernel command line, the network and the disk are not looked at. What it
//! runs is inside the same signed and measured blob as itself.

use std::{
    convert::Infallible,
    ffi::CStr,
    fs,
    io::{self, Write as _},
    os::fd::AsFd,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    mount::{MountFlags, mount_move},
    process::{chdir, chroot},
};
use thiserror::Error;

use crate::{
    clock,
    emergency::Emergency,
    limits::SMALL_FILE_BYTES_MAX,
    modules::{self, ModuleError},
    mount::{self, MountError},
};

const MODULE_LIST: &str = "/modules.list";
const ROOT_IMAGE: &str = "/root.erofs";
const ROOT: &str = "/sysroot";
/// PID 1 on the root.
const INIT: &CStr = c"/usr/lib/hookprobe/hookprobe-init";
/// Variable that tells PID 1 when user space began, in milliseconds since the kernel's start.
pub const STARTED_VARIABLE: &str = "HOOKPROBE_STAGE1_MS";

/// Why the root could not be entered.
#[derive(Debug, Error)]
pub enum Stage1Error {
    /// /proc, /sys or /dev.
    #[error(transparent)]
    Early(MountError),
    /// The list of modules.
    #[error("{MODULE_LIST}: {0}")]
    List(std::io::Error),
    /// A module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The root.
    #[error(transparent)]
    Root(MountError),
    /// Making the root the root.
    #[error("{step}: {errno}")]
    Switch {
        /// Which step.
        step: &'static str,
        /// Why.
        errno: Errno,
    },
    /// Executing PID 1.
    #[error("{}: {errno}", INIT.to_string_lossy())]
    Exec {
        /// Why.
        errno: nix::errno::Errno,
    },
}

impl Stage1Error {
    /// What is shown.
    #[must_use]
    pub fn screen(&self) -> Emergency {
        let (code, phase, remedy) = match self {
            Self::Early(_) => ("HP-BT-001", "early mounts", REFLASH),
            Self::List(_) => ("HP-BT-002", "modules", REFLASH),
            Self::Module(_) => (
                "HP-BT-003",
                "modules",
                "the kernel and its modules do not belong together; re-flash the boot medium",
            ),
            Self::Root(_) => (
                "HP-BT-004",
                "root",
                "the boot medium is damaged; boot the other slot or re-flash it",
            ),
            Self::Switch { .. } => ("HP-BT-005", "switch to root", REFLASH),
            Self::Exec { .. } => ("HP-BT-006", "start of PID 1", REFLASH),
        };
        Emergency { code: code.into(), phase, cause: self.to_string(), remedy: remedy.into() }
    }
}

const REFLASH: &str = "boot the other slot or re-flash the boot medium";

/// Goes from the initramfs to PID 1; returns only on failure.
///
/// # Errors
/// [`Stage1Error`]; the caller shows it and stays.
pub fn run() -> Result<Infallible, Stage1Error> {
    let started = clock::boot_ms();
    for entry in &mount::EARLY {
        mount::make(entry).map_err(Stage1Error::Early)?;
    }
    console();
    // A console that is a port without a chip refuses every write; that must not end the boot.
    let _ =
        io::stdout().write_all(b"\r\nHookProbe OS: the kernel runs, the root is being mounted\r\n");
    let list = fs::read_to_string(MODULE_LIST).map_err(Stage1Error::List)?;
    load_modules(&list)?;
    let _ = fs::create_dir(ROOT);
    mount::from(
        ROOT_IMAGE,
        "erofs",
        ROOT,
        MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID,
        "",
    )
    .map_err(Stage1Error::Root)?;
    // The mount holds the image open; its name and the modules' files only cost memory now.
    for path in list.lines().chain([MODULE_LIST, "/init"]) {
        let _ = fs::remove_file(path.trim());
    }
    switch_root()?;
    let environment =
        std::ffi::CString::new(format!("{STARTED_VARIABLE}={started}")).unwrap_or_default();
    let failed = nix::unistd::execve(INIT, &[INIT], &[environment.as_c_str()]);
    match failed {
        Ok(never) => Ok(never),
        Err(errno) => Err(Stage1Error::Exec { errno }),
    }
}

/// Loads every module of the list, one absolute path per line.
fn load_modules(list: &str) -> Result<(), Stage1Error> {
    if list.len() > SMALL_FILE_BYTES_MAX {
        return Err(Stage1Error::List(std::io::ErrorKind::FileTooLarge.into()));
    }
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        modules::load(path)?;
    }
    Ok(())
}

/// Standard descriptors on the console, whatever the kernel could open before /dev was there.
fn console() {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let opened = open("/dev/console", flags, Mode::empty())
        .or_else(|_| open("/dev/null", OFlags::RDWR, Mode::empty()));
    if let Ok(fd) = opened {
        let _ = rustix::stdio::dup2_stdin(fd.as_fd());
        let _ = rustix::stdio::dup2_stdout(fd.as_fd());
        let _ = rustix::stdio::dup2_stderr(fd.as_fd());
    }
}

fn switch_root() -> Result<(), Stage1Error> {
    let step = |step: &'static str| move |errno| Stage1Error::Switch { step, errno };
    for entry in &mount::EARLY {
        let target = format!("{ROOT}{}", entry.target);
        mount_move(entry.target, target.as_str())
            .map_err(step("move of /proc, /sys, /dev, /run"))?;
    }
    chdir(ROOT).map_err(step("chdir to the root"))?;
    mount_move(".", "/").map_err(step("move of the root"))?;
    chroot(".").map_err(step("chroot"))?;
    chdir("/").map_err(step("chdir to /"))
}
