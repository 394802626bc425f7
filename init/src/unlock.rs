//! The phase `unlock`: a helper opens the state volume while the TPM's registers still say that
//! nothing but PID 1 has run.
//!
//! The helper is a service of `services.toml` with `start = "unlock"`: measured, confined, run once.
//! It is the only child that PID 1 waits for, with a bound, before anything else runs. PID 1
//! believes of its answer only what it can check: the volume's key goes into PCR 15 before the
//! volume is mounted, and [`PHASE_EVENT`] into PCR 11 in every case, so that no later state of this
//! boot can have the volume's secret again.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt as _, fchown},
    },
    path::Path,
};

use hookprobe_evidence::{closure::Start, pcr::PcrIndex, policy::PHASE_EVENT};
use hookprobe_wire::{
    ATTEST_UID, Diagnostic, Hash, Severity,
    text::escape,
    unlock::{DIRECTORY, OUTCOME_BYTES_MAX, OUTCOME_FILE, Outcome, RECOVERY_FILE, STATE_LINK},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    boot::Boot,
    clock, devices,
    diagnostics::{diagnostic, from_text},
    limits::{READ_BYTES_MAX, RECOVERY_TRIES_MAX, UNLOCK_MS_MAX},
    log::{Splitter, leveled},
    measure::Meter,
    mount, recovery, state,
    supervise::{
        notify,
        spawn::{self, CGROUPS, Launch, SETUP_FAILED, ending},
    },
};

/// Event of an opened volume, followed by its UUID.
const VOLUME_EVENT: &str = "volume:";
/// Pause between two looks at the helper.
const LOOK_MS: u64 = 20;
/// Reads of the helper's lines between two looks at the clock: a helper that only writes must not
/// keep PID 1 from its deadline.
const READS_MAX: usize = 4;
/// Lines of the helper on the screen; a serial line takes 7 ms for each. The log has its own bound.
const SHOWN_LINES_MAX: usize = 40;

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
            measured(&mut boot.meter, &uuid, &key_identity).inspect_err(|trouble| {
                boot.state = State::Locked(trouble.cause.clone());
            })?;
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

/// Measures the volume before anything on it is used. A TPM that fails just then leaves its key in reach
/// of whoever asks next: such a volume is not mounted. Without a TPM there is nothing to measure into.
fn measured(meter: &mut Meter, uuid: &str, key_identity: &Hash) -> Result<(), Diagnostic> {
    let had_tpm = meter.has_tpm();
    meter.bytes(PcrIndex::STATE, &format!("{VOLUME_EVENT}{uuid}"), key_identity.as_bytes());
    if had_tpm && !meter.has_tpm() {
        return Err(diagnostic(
            "HP-ST-013",
            Severity::Critical,
            "state",
            "the TPM failed when the state volume was to be measured; it is not used in this boot",
            "power the box off and on; if that does not help, replace the TPM",
        ));
    }
    Ok(())
}

/// Runs the helper, and once more for each recovery key that is typed.
fn open(boot: &mut Boot) -> Option<Outcome> {
    let at = boot.services.service.iter().position(|spec| spec.start == Start::Unlock)?;
    // Without a state, too: attest keeps there what lasts as long as the boot.
    let prepared = mount::directory(DIRECTORY, 0o700, ATTEST_UID, ATTEST_UID);
    let device = state::partitions(Path::new(state::BLOCK_CLASS), state::STATE_LABEL);
    let device = device.first()?;
    if let Err(error) = prepared {
        return Some(locked(&format!("HP-ST-010 state: {DIRECTORY}: {error}; restart the box")));
    }
    let mut outcome = run(boot, at, device);
    for _ in 0..RECOVERY_TRIES_MAX {
        let Outcome::Locked { reason, recoverable: true } = &outcome else {
            break;
        };
        boot.log.say(Severity::Warn, &format!("state locked: {}", escape(reason, 400)));
        let Some(key) = recovery::ask(|line| boot.log.show(line), &escape(reason, 400)) else {
            break;
        };
        if let Err(error) = write_recovery(&key) {
            boot.log.say(Severity::Warn, &format!("recovery key not handed over: {error}"));
            break;
        }
        outcome = run(boot, at, device);
    }
    let _ = fs::remove_file(RECOVERY_FILE);
    Some(outcome)
}

fn locked(reason: &str) -> Outcome {
    Outcome::Locked { reason: reason.into(), recoverable: false }
}

/// The link to `device`, made anew: the directory is the helper's, who could have changed it.
fn link(device: &Path) -> std::io::Result<()> {
    match fs::remove_file(STATE_LINK) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::os::unix::fs::symlink(device, STATE_LINK)
}

/// One run of the helper.
fn run(boot: &mut Boot, at: usize, device: &Path) -> Outcome {
    let (Some(spec), Some(measured)) =
        (boot.services.service.get(at).cloned(), boot.measurements.get(at))
    else {
        return locked("HP-ST-011 state: no helper; re-flash");
    };
    let measurement = match measured {
        Ok(measurement) => measurement,
        Err(error) => return locked(&error.to_string()),
    };
    if let Err(error) = link(device) {
        return locked(&format!("HP-ST-010 state: {STATE_LINK}: {error}; restart the box"));
    }
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
    // Whatever it left running must not outlive its rights.
    spawn::kill_cgroup(&spec.name);
    // A link that it removed would leave the partition with its user.
    if let Err(error) = link(device) {
        boot.log.say(Severity::Warn, &format!("device not taken back: {STATE_LINK}: {error}"));
    }
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
    let mut shown = 0;
    let pid = Pid::from_raw(child.pid);
    loop {
        let ended = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        lines(boot, name, &child.output, &mut splitter, &mut shown);
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

fn lines(
    boot: &mut Boot,
    name: &str,
    output: &OwnedFd,
    splitter: &mut Splitter,
    shown: &mut usize,
) {
    let mut bytes = [0; READ_BYTES_MAX];
    for _ in 0..READS_MAX {
        let got = rustix::io::read(output, &mut bytes[..]).unwrap_or(0);
        if got == 0 {
            return;
        }
        let mut found = Vec::new();
        splitter.feed(bytes.get(..got).unwrap_or_default(), |line| found.push(line.to_owned()));
        for line in found {
            let (severity, text) = leveled(&line);
            boot.log.line(name, severity, text);
            *shown += 1;
            if *shown <= SHOWN_LINES_MAX {
                boot.log.show(&format!("       {}", escape(text, 70)));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        assert_eq!(State::Unknown.words(), "memory");
        assert_eq!(State::Locked("HP-AT-101 x".into()).words(), "locked: HP-AT-101 x");
    }

    #[test]
    fn a_volume_that_a_failing_tpm_did_not_take_note_of_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("measure.log");
        let trouble =
            measured(&mut Meter::with_dead_tpm(log.clone()), "uuid", &Hash::zero()).unwrap_err();
        assert_eq!(trouble.code, "HP-ST-013");
        // Without a TPM there is nothing that could fail.
        measured(&mut Meter::new("0", log), "uuid", &Hash::zero()).unwrap();
    }

    #[test]
    fn a_helper_that_says_nothing_useful_is_no_open_volume() {
        assert!(matches!(locked("x"), Outcome::Locked { recoverable: false, .. }));
    }
}
