//! The phase `unlock`: a helper opens the state volume while the TPM's registers still say that
//! nothing but PID 1 has run.
//!
//! The helper is a service of `services.toml` with `start = "unlock"`: measured, confined, run once.
//! It is the only child that PID 1 waits for, with a bound, before anything else runs. PID 1
//! believes of its answer only what it can check: the volume's key goes into PCR 15 before the
//! volume is mounted, and [`PHASE_EVENT`] into PCR 11 in every case, so that no later state of this
//! boot can have the volume's secret again.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt as _, fchown},
    },
    path::Path,
};

use hookprobe_evidence::{closure::Start, pcr::PcrIndex, policy::PHASE_EVENT};
use hookprobe_wire::{
    ATTEST_UID, Diagnostic, Severity,
    text::escape,
    unlock::{
        DIRECTORY, OUTCOME_BYTES_MAX, OUTCOME_FILE, Outcome, RECOVERY_BYTES_MAX, RECOVERY_FILE,
        STATE_LINK,
    },
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

use crate::{
    boot::Boot,
    clock, devices,
    diagnostics::{diagnostic, from_text},
    emergency::CONSOLES,
    limits::{READ_BYTES_MAX, RECOVERY_MS_MAX, RECOVERY_TRIES_MAX, UNLOCK_MS_MAX},
    log::{Splitter, leveled},
    mount, state,
    supervise::{
        notify,
        spawn::{self, CGROUPS, Launch, SETUP_FAILED, ending},
    },
};

/// Event of an opened volume, followed by its UUID.
const VOLUME_EVENT: &str = "volume:";
/// Pause between two looks at the helper.
const LOOK_MS: u64 = 20;

/// What holds the state from here on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody could say: there is no helper in this image, or no partition.
    #[default]
    Unknown,
    /// The opened volume.
    Encrypted,
    /// The partition itself.
    Plain,
    /// Nothing that lasts, and why.
    Locked(String),
}

impl State {
    /// Word and reason for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Unknown => "memory".into(),
            Self::Encrypted => "encrypted".into(),
            Self::Plain => "plain".into(),
            Self::Locked(why) => format!("locked: {why}"),
        }
    }
}

/// The phase.
///
/// # Errors
/// What the operator has to be told.
pub fn phase(boot: &mut Boot) -> Result<(), Diagnostic> {
    let outcome = open(boot);
    let result = settle(boot, outcome);
    // Whatever came of it: from here on this boot is another state for the TPM.
    boot.meter.bytes(PcrIndex::UKI, PHASE_EVENT, PHASE_EVENT.as_bytes());
    boot.meter_problems();
    result
}

fn settle(boot: &mut Boot, outcome: Option<Outcome>) -> Result<(), Diagnostic> {
    match outcome {
        None => Ok(()),
        Some(Outcome::Open { uuid, key_identity, created, recovered, resealed, note }) => {
            let uuid = escape(&uuid, 64);
            boot.meter.bytes(
                PcrIndex::STATE,
                &format!("{VOLUME_EVENT}{uuid}"),
                key_identity.as_bytes(),
            );
            boot.state = State::Encrypted;
            boot.log.say(
                Severity::Info,
                &format!(
                    "state volume={uuid} created={created} recovered={recovered} resealed={resealed}"
                ),
            );
            match note {
                Some(note) => Err(from_text(&escape(&note, 400), Severity::Warn)),
                None => Ok(()),
            }
        }
        Some(Outcome::Plain { created }) => {
            boot.state = State::Plain;
            boot.log.say(Severity::Info, &format!("state plain created={created}"));
            boot.report(diagnostic(
                "HP-ST-008",
                Severity::Info,
                "state",
                "not encrypted: without a TPM there is nothing that could keep its key",
                "switch the TPM on in the firmware's setup, then wipe the state partition",
            ));
            Ok(())
        }
        Some(Outcome::Locked { reason, .. }) => {
            let reason = escape(&reason, 400);
            boot.state = State::Locked(reason.clone());
            Err(from_text(&reason, Severity::Critical))
        }
    }
}

/// Runs the helper, and once more for each recovery key that is typed.
fn open(boot: &mut Boot) -> Option<Outcome> {
    let at = boot.services.service.iter().position(|spec| spec.start == Start::Unlock)?;
    let device = state::partitions(Path::new(state::BLOCK_CLASS), state::STATE_LABEL);
    let device = device.first()?;
    let prepared = mount::directory(DIRECTORY, 0o700, ATTEST_UID, ATTEST_UID).and_then(|()| {
        let _ = fs::remove_file(STATE_LINK);
        std::os::unix::fs::symlink(device, STATE_LINK)
    });
    if let Err(error) = prepared {
        return Some(locked(&format!("HP-ST-010 state: {DIRECTORY}: {error}; restart the box")));
    }
    let mut outcome = run(boot, at);
    for _ in 0..RECOVERY_TRIES_MAX {
        let Outcome::Locked { reason, recoverable: true } = &outcome else {
            break;
        };
        boot.log.say(Severity::Warn, &format!("state locked: {}", escape(reason, 400)));
        let Some(key) = ask(boot, &escape(reason, 400)) else {
            break;
        };
        if write_recovery(&key).is_err() {
            break;
        }
        outcome = run(boot, at);
    }
    let _ = fs::remove_file(RECOVERY_FILE);
    Some(outcome)
}

fn locked(reason: &str) -> Outcome {
    Outcome::Locked { reason: reason.into(), recoverable: false }
}

/// One run of the helper.
fn run(boot: &mut Boot, at: usize) -> Outcome {
    let (Some(spec), Some(measured)) =
        (boot.services.service.get(at).cloned(), boot.measurements.get(at))
    else {
        return locked("HP-ST-011 state: no helper; re-flash");
    };
    let measurement = match measured {
        Ok(measurement) => measurement,
        Err(error) => return locked(&error.to_string()),
    };
    let _ = fs::remove_file(OUTCOME_FILE);
    // Limits of memory and tasks are put on later boots' services, too; that they are missing is said there.
    let cgroups = spawn::open_cgroups().is_ok();
    let refused = devices::give(&spec);
    let launch = Launch {
        spec: &spec,
        exec: &measurement.exec,
        sockets: &[],
        notify: notify::PATH,
        cgroups: cgroups.then_some(CGROUPS),
    };
    let how = match spawn::spawn(launch) {
        Ok(child) => wait(boot, &spec.name, child),
        Err(error) => error.to_string(),
    };
    devices::take_back(&spec);
    for text in refused {
        boot.log.say(Severity::Warn, &format!("device not given: {text}"));
    }
    read_outcome().unwrap_or_else(|why| {
        locked(&format!(
            "HP-ST-012 state: the helper gave no answer ({why}; {}); restart, then check the disk",
            escape(&how, 200)
        ))
    })
}

/// Waits for the helper's end, with a bound, and takes its lines; returns how it ended.
fn wait(boot: &mut Boot, name: &str, child: spawn::Child) -> String {
    let deadline = clock::boot_ms() + UNLOCK_MS_MAX;
    let mut splitter = Splitter::default();
    let pid = Pid::from_raw(child.pid);
    loop {
        let ended = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        lines(boot, name, &child.output, &mut splitter);
        match ended {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => {
                let text = setup_text(&child.setup);
                let failed = matches!(status, WaitStatus::Exited(_, SETUP_FAILED));
                return if failed && !text.is_empty() { text } else { ending(status) };
            }
            Err(errno) => return errno.to_string(),
        }
        if clock::boot_ms() > deadline {
            // Not waited for: a device may hold it. It is reaped with the others.
            let _ = kill(pid, Signal::SIGKILL);
            spawn::kill_cgroup(name);
            return format!("no end within {} s", UNLOCK_MS_MAX / 1000);
        }
        let mut wanted = [PollFd::new(&child.output, PollFlags::IN)];
        let _ = poll(&mut wanted, Some(&pause(LOOK_MS)));
        std::thread::sleep(std::time::Duration::from_millis(LOOK_MS / 4));
    }
}

fn pause(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(0),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

fn lines(boot: &mut Boot, name: &str, output: &OwnedFd, splitter: &mut Splitter) {
    let mut bytes = [0; READ_BYTES_MAX];
    while let Ok(got) = rustix::io::read(output, &mut bytes[..]) {
        if got == 0 {
            return;
        }
        let mut found = Vec::new();
        splitter.feed(bytes.get(..got).unwrap_or_default(), |line| found.push(line.to_owned()));
        for line in found {
            let (severity, text) = leveled(&line);
            boot.log.line(name, severity, text);
            boot.log.show(&format!("       {}", escape(text, 70)));
        }
    }
}

fn setup_text(setup: &OwnedFd) -> String {
    let mut bytes = [0; 512];
    let got = rustix::io::read(setup, &mut bytes[..]).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(..got).unwrap_or_default()).into_owned()
}

fn read_outcome() -> Result<Outcome, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(OUTCOME_FILE)
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(OUTCOME_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > OUTCOME_BYTES_MAX {
        return Err("too long".into());
    }
    hookprobe_wire::frame::decode_body(&bytes).map_err(|error| error.to_string())
}

fn write_recovery(key: &str) -> std::io::Result<()> {
    let _ = fs::remove_file(RECOVERY_FILE);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(RECOVERY_FILE)?;
    fchown(&file, Some(ATTEST_UID), Some(ATTEST_UID))?;
    file.write_all(key.as_bytes())
}

/// Asks on every console at once; `None` when nobody typed anything in time.
fn ask(boot: &mut Boot, reason: &str) -> Option<String> {
    let consoles: Vec<File> = CONSOLES.iter().filter_map(|path| console(path)).collect();
    if consoles.is_empty() {
        return None;
    }
    let seconds = RECOVERY_MS_MAX / 1000;
    for line in [
        "",
        "The state of this box is locked:",
        reason,
        "Type its recovery key (8 groups) and Enter to open it. Enter alone goes on without it:",
        "the box protects, but remembers nothing. Type the key only on a box that you trust.",
    ] {
        boot.log.show(line);
    }
    boot.log.show(&format!("Waiting {seconds} s."));
    let mut typed = vec![Vec::new(); consoles.len()];
    let mut deadline = clock::boot_ms() + RECOVERY_MS_MAX;
    loop {
        let left = deadline.saturating_sub(clock::boot_ms());
        if left == 0 {
            return None;
        }
        let mut wanted: Vec<PollFd<'_>> =
            consoles.iter().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        let _ = poll(&mut wanted, Some(&pause(left.min(1000))));
        for (mut file, typed) in consoles.iter().zip(&mut typed) {
            let mut bytes = [0; RECOVERY_BYTES_MAX];
            let Ok(got) = file.read(&mut bytes) else {
                continue;
            };
            if got > 0 {
                // Somebody is there: time for the whole key.
                deadline = deadline.max(clock::boot_ms() + RECOVERY_MS_MAX);
            }
            typed.extend_from_slice(bytes.get(..got).unwrap_or_default());
            if let Some(end) = typed.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let line = String::from_utf8_lossy(typed.get(..end).unwrap_or_default());
                let line = line.trim().to_owned();
                return (!line.is_empty()).then_some(line);
            }
            if typed.len() > RECOVERY_BYTES_MAX {
                return None;
            }
        }
    }
}

fn console(path: &str) -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        assert_eq!(State::Unknown.words(), "memory");
        assert_eq!(State::Locked("HP-AT-101 x".into()).words(), "locked: HP-AT-101 x");
    }

    #[test]
    fn a_helper_that_says_nothing_useful_is_no_open_volume() {
        assert!(matches!(locked("x"), Outcome::Locked { recoverable: false, .. }));
    }
}
