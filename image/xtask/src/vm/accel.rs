//! Whether KVM really works here. `/dev/kvm` may be there and still hang with a stock kernel, so
//! it is believed only after a kernel ran on it; the answer is kept for this machine.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    compose,
    error::{Result, at},
    tree::Tree,
};

/// With KVM the kernel powers off in about a second; a hang is what has to be told apart.
const PROBE_WAIT: Duration = Duration::from_secs(20);

/// How instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// Translated: slower, works everywhere.
    Tcg,
}

impl Accel {
    /// QEMU's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Tries KVM once with a short boot; falls back to TCG and says so.
///
/// # Errors
/// Where the answer can't be kept.
pub fn probe(tree: &Tree) -> Result<Accel> {
    let known = tree.target("vm/accel");
    match fs::read_to_string(&known).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        _ => {}
    }
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if device.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        eprintln!(
            "note: no right to use /dev/kvm (group kvm?); QEMU translates instructions (slower)"
        );
        return Ok(Accel::Tcg);
    }
    let accel = if device.is_ok() && boots(tree) { Accel::Kvm } else { Accel::Tcg };
    if accel == Accel::Tcg {
        eprintln!("note: KVM does not work here; QEMU translates instructions (slower)");
    }
    let dir = tree.target("vm");
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let word = if accel == Accel::Kvm { "kvm" } else { "tcg" };
    fs::write(&known, word).map_err(at(&known))?;
    Ok(accel)
}

fn boots(tree: &Tree) -> bool {
    let Ok(initrd) = compose::poweroff_initrd(tree) else {
        return false;
    };
    let child = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35,accel=kvm",
            "-cpu",
            "max",
            "-m",
            "256",
            "-nodefaults",
            "-display",
            "none",
        ])
        .args(["-no-reboot", "-append", "console=ttyS0 panic=-1", "-kernel"])
        .arg(tree.image().kernel())
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let start = Instant::now();
    while start.elapsed() < PROBE_WAIT {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
