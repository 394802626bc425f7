//! The phases of a boot, as one table, and what they share.
//!
//! A phase does its work at once, or (the last two) ends in the event loop. Each is timed; the
//! policy in the table says what a failure means. README.md shows the same table; a test keeps
//! the two the same.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread, time::Duration};

use hookprobe_evidence::{
    closure::ServiceList,
    manifest::{MANIFEST_PATH, ReferenceManifest},
    pcr::PcrIndex,
    policy::ReleaseKey,
    signed::{ENVELOPE_BYTES_MAX, ENVELOPE_NAME, ENVELOPE_PATH, RELEASE_KEY_PATH, open_manifest},
    site,
};
use hookprobe_wire::{
    CLIENTS_GID, Diagnostic, SENSOR_UID, SITE_FILE, SOCKET_DIR, Severity, control::Phase as Timed,
    site::Site,
};

use crate::{
    clock, coldplug, detection,
    diagnostics::{Diagnostics, diagnostic, from_text},
    emergency::Emergency,
    hardening::{self, When},
    limits::{RANDOM_MS_MAX, RANDOM_POLL_MS, SERVICES_BYTES_MAX, SMALL_FILE_BYTES_MAX},
    measure::{self, MeasureError, Measurement, Meter},
    mount,
    network::{self, Link},
    sinks::{self, Log},
    state::{self, Source},
    tpm::Device,
    unlock::{self, State},
};

const SERVICES: &str = "/etc/hookprobe/services.toml";
const BUILD_TIME: &str = "/etc/hookprobe/build-time";
const VERSION: &str = "/etc/hookprobe/version";
const DHCP_CONFIGURATION: &str = "/run/hookprobe/dhcpcd.conf";
const BPF_PINS: &str = "/sys/fs/bpf/hookprobe";
/// Group that may use the pinned maps.
const PINS_GID: u32 = 810;

/// What a failed phase means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The box goes on and says what is missing.
    Degrade,
    /// The emergency screen.
    Emergency,
}

/// When a phase is done.
#[derive(Clone, Copy)]
pub enum Work {
    /// When the function returns.
    Now(fn(&mut Boot) -> Result<(), Diagnostic>),
    /// When the event loop says so.
    InLoop,
}

/// One phase.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Name in logs and on the console.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// Its work.
    pub work: Work,
}

/// All phases in order.
pub const PHASES: [Phase; 11] = [
    Phase {
        name: "mount",
        does: "kernel file systems, /run and /tmp in memory, kernel settings",
        on_failure: OnFailure::Emergency,
        work: Work::Now(mounts),
    },
    Phase {
        name: "coldplug",
        does: "drivers for the devices found, then no module can be loaded any more",
        on_failure: OnFailure::Degrade,
        work: Work::Now(devices),
    },
    Phase {
        name: "clock",
        does: "a clock before the image's build time is stepped to it",
        on_failure: OnFailure::Degrade,
        work: Work::Now(clock_phase),
    },
    Phase {
        name: "random",
        does: "waits until the kernel's random numbers are seeded",
        on_failure: OnFailure::Degrade,
        work: Work::Now(random),
    },
    Phase {
        name: "tpm",
        does: "starts the TPM, learns its banks and its maker",
        on_failure: OnFailure::Degrade,
        work: Work::Now(tpm),
    },
    Phase {
        name: "measure",
        does: "hashes every service into PCR 13 before any of them runs",
        on_failure: OnFailure::Emergency,
        work: Work::Now(measure_phase),
    },
    Phase {
        name: "unlock",
        does: "opens the state volume by the TPM, its key into PCR 15, then PCR 11 says that this is over",
        on_failure: OnFailure::Degrade,
        work: Work::Now(unlock::phase),
    },
    Phase {
        name: "state",
        does: "site configuration into PCR 12, state volume on /var, comparison with the manifest",
        on_failure: OnFailure::Degrade,
        work: Work::Now(state_phase),
    },
    Phase {
        name: "network",
        does: "name, links, fixed addresses",
        on_failure: OnFailure::Degrade,
        work: Work::Now(network_phase),
    },
    Phase {
        name: "services",
        does: "starts the services in order, by the descriptors that were hashed",
        on_failure: OnFailure::Degrade,
        work: Work::InLoop,
    },
    Phase {
        name: "bless",
        does: "the boot counts as good once every essential service is ready",
        on_failure: OnFailure::Degrade,
        work: Work::InLoop,
    },
];

/// What the phases share and the event loop goes on with.
pub struct Boot {
    /// The log.
    pub log: Log,
    /// What is wrong.
    pub diagnostics: Diagnostics,
    /// Times of the phases done.
    pub phases: Vec<Timed>,
    /// Version of the image.
    pub version: String,
    /// The kernel's identity of this boot.
    pub boot_id: String,
    /// Milliseconds from the kernel's start to stage 1.
    pub kernel_ms: u64,
    /// The services.
    pub services: ServiceList,
    /// Their measurements, in the same order.
    pub measurements: Vec<Result<Measurement, MeasureError>>,
    /// The TPM and the event log.
    pub meter: Meter,
    /// What is configured.
    pub site: Site,
    /// Rules and lists in force.
    pub files: Vec<site::File>,
    /// Name of the box.
    pub name: String,
    /// Interfaces found at boot.
    pub links: Vec<Link>,
    /// What holds the state.
    pub state: State,
    /// Whether `/var` is a disk.
    pub persistent: bool,
}

impl Boot {
    /// At the start; `kernel_ms` is what stage 1 noted.
    #[must_use]
    pub fn new(kernel_ms: u64) -> Self {
        let boot_id = read("/proc/sys/kernel/random/boot_id").replace('-', "");
        Self {
            log: Log::open(),
            diagnostics: Diagnostics::default(),
            phases: Vec::new(),
            version: read(VERSION),
            meter: Meter::new(&boot_id, measure::LOG_PATH.into()),
            boot_id,
            kernel_ms,
            services: ServiceList { service: Vec::new() },
            measurements: Vec::new(),
            site: Site::default(),
            files: Vec::new(),
            name: "hp-0000".into(),
            links: Vec::new(),
            state: State::default(),
            persistent: false,
        }
    }

    /// Runs every phase that is not the event loop's.
    ///
    /// # Errors
    /// What the emergency screen shows.
    pub fn run(&mut self) -> Result<(), Emergency> {
        for phase in &PHASES {
            let Work::Now(work) = phase.work else {
                continue;
            };
            let start = clock::monotonic_us();
            let outcome = work(self);
            self.done(phase.name, outcome.is_ok(), start);
            if let Err(problem) = outcome {
                self.report(problem.clone());
                if phase.on_failure == OnFailure::Emergency {
                    return Err(Emergency {
                        code: problem.code,
                        phase: phase.name,
                        cause: format!("{}: {}", problem.object, problem.cause),
                        remedy: problem.remedy,
                    });
                }
            }
        }
        Ok(())
    }

    /// Notes the end of a phase that began at `start_us`.
    pub fn done(&mut self, name: &str, ok: bool, start_us: u64) {
        let us = clock::monotonic_us().saturating_sub(start_us);
        self.log.say(Severity::Info, &format!("phase name={name} ok={ok} us={us}"));
        let word = if ok { "[ OK ]" } else { "[WARN]" };
        self.log.show(&format!("{word} {name:9} {:>8} ms", us / 1000));
        self.phases.push(Timed { name: name.into(), ok, us });
    }

    /// Adds a diagnostic and logs it when it is new.
    pub fn report(&mut self, problem: Diagnostic) {
        let severity = problem.severity;
        let text = format!("diagnostic {problem}");
        if self.diagnostics.set(problem) {
            self.log.say(severity, &text);
        }
    }

    /// The same from a text `HP-XX-nnn object: cause; remedy`.
    pub fn report_text(&mut self, text: &str, severity: Severity) {
        self.report(from_text(text, severity));
    }

    /// Reports what the meter had to say.
    pub fn meter_problems(&mut self) {
        for text in std::mem::take(&mut self.meter.problems) {
            self.report_text(&text, Severity::Warn);
        }
    }

    /// Compares registers, log and manifest; says what differs.
    pub fn appraise(&mut self) {
        self.meter.read_back();
        let divergence = self.meter.appraise();
        self.meter_problems();
        if let Some(text) = divergence {
            self.report_text(&text, Severity::Critical);
        }
    }
}

/// A small file, trimmed; empty when it can't be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().chars().take(128).collect()).unwrap_or_default()
}

fn mounts(boot: &mut Boot) -> Result<(), Diagnostic> {
    for entry in &mount::BASE {
        if let Err(error) = mount::make(entry) {
            let text = error.to_string();
            boot.report(diagnostic(
                "HP-BT-011",
                Severity::Warn,
                entry.target,
                &text,
                "use the kernel of the image",
            ));
        }
    }
    let pins = mount::directory(BPF_PINS, 0o770, SENSOR_UID, PINS_GID);
    let sockets = mount::directory(SOCKET_DIR, 0o755, 0, CLIENTS_GID);
    for (path, made) in [(BPF_PINS, pins), (SOCKET_DIR, sockets)] {
        if let Err(error) = made {
            boot.report(diagnostic(
                "HP-BT-012",
                Severity::Warn,
                path,
                &error.to_string(),
                "use the kernel of the image",
            ));
        }
    }
    harden(boot, When::Early);
    Ok(())
}

/// Applies the settings of one moment.
pub fn harden(boot: &mut Boot, when: When) {
    for text in hardening::apply(when) {
        boot.report(diagnostic(
            "HP-BT-013",
            Severity::Warn,
            "kernel setting",
            &text,
            "use the kernel of the image",
        ));
    }
}

fn devices(boot: &mut Boot) -> Result<(), Diagnostic> {
    let found = coldplug::run();
    boot.log.find_port();
    if let Some(port) = sinks::port(hookprobe_wire::attest::PORT_NAME) {
        // Only in a laboratory: challenges come in here, see `attest`.
        let _ = std::os::unix::fs::symlink(port, hookprobe_wire::attest::PORT_LINK);
    }
    boot.log.say(
        Severity::Info,
        &format!("coldplug modules={} rounds={}", found.modules, found.rounds),
    );
    harden(boot, When::AfterModules);
    match found.failures.first() {
        None => Ok(()),
        Some(first) => Err(diagnostic(
            "HP-BT-020",
            Severity::Warn,
            "drivers",
            &format!("{} could not be loaded, the first: {first}", found.failures.len()),
            "a device may be missing; re-flash if one is",
        )),
    }
}

fn clock_phase(boot: &mut Boot) -> Result<(), Diagnostic> {
    let Ok(built_s) = read(BUILD_TIME).parse::<u64>() else {
        return Ok(());
    };
    let now_s = clock::wall_s();
    if now_s >= built_s {
        return Ok(());
    }
    let stepped = clock::step(built_s);
    boot.report(diagnostic(
        "HP-CK-001",
        Severity::Warn,
        "clock",
        &format!("was {now_s}, before the image was built; set to the build time {built_s}"),
        "connect a time server or replace the battery of the clock",
    ));
    stepped.map_err(|errno| {
        diagnostic(
            "HP-CK-002",
            Severity::Warn,
            "clock",
            &format!("can't be set: {errno}"),
            "set the clock in the firmware setup",
        )
    })
}

fn random(_: &mut Boot) -> Result<(), Diagnostic> {
    let start = clock::monotonic_us();
    let mut byte = [0; 1];
    while rustix::rand::getrandom(&mut byte[..], rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        if clock::monotonic_us().saturating_sub(start) > RANDOM_MS_MAX * 1000 {
            return Err(diagnostic(
                "HP-BT-030",
                Severity::Critical,
                "random",
                "the kernel's random numbers are not seeded, keys made now may be weak",
                "use a machine with a random number generator",
            ));
        }
        thread::sleep(Duration::from_millis(RANDOM_POLL_MS));
    }
    Ok(())
}

fn tpm(boot: &mut Boot) -> Result<(), Diagnostic> {
    let path = Path::new(coldplug::TPM_DEVICE);
    if !path.exists() {
        if coldplug::tpm_expected() {
            return Err(diagnostic(
                "HP-TP-020",
                Severity::Warn,
                "tpm",
                "the firmware announces a TPM but the kernel has no driver for it",
                "use the kernel of the image",
            ));
        }
        boot.log.say(Severity::Info, "tpm none level=L0");
        // The box protects all the same; nobody may believe that it can prove what it runs.
        boot.report(diagnostic(
            "HP-TP-022",
            Severity::Info,
            "tpm",
            "none found: what runs here can't be proven (level L0)",
            "switch the TPM on in the firmware's setup, or add one",
        ));
        return Ok(());
    }
    let attached = Device::open(path).and_then(|device| boot.meter.attach(Box::new(device)));
    boot.meter_problems();
    match attached {
        Ok(()) => {
            let (level, text) = boot.meter.level();
            let banks: Vec<&str> = boot.meter.banks().iter().map(|bank| bank.name()).collect();
            let text = format!("tpm level={level} banks={} {text}", banks.join(","));
            boot.log.say(Severity::Info, &text);
            if let Err(error) = measure::copy_firmware_log() {
                boot.report(diagnostic(
                    "HP-TP-023",
                    Severity::Warn,
                    "firmware log",
                    &format!("{error}: what ran before the kernel can't be told by name"),
                    "update the firmware, or set its TPM to version 2.0 with SHA-256",
                ));
            }
            Ok(())
        }
        Err(error) => Err(from_text(&error.to_string(), Severity::Warn)),
    }
}

fn measure_phase(boot: &mut Boot) -> Result<(), Diagnostic> {
    let unusable = |code: &str, cause: String| {
        diagnostic(
            code,
            Severity::Critical,
            "services.toml",
            &cause,
            "boot the other slot or re-flash",
        )
    };
    let length = fs::metadata(SERVICES).map_or(0, |data| data.len());
    if length > SERVICES_BYTES_MAX as u64 {
        return Err(unusable("HP-BT-040", format!("{length} bytes")));
    }
    let text =
        fs::read_to_string(SERVICES).map_err(|error| unusable("HP-BT-040", error.to_string()))?;
    boot.services = ServiceList::parse(&text).map_err(|error| {
        from_text(&format!("{error}; boot the other slot or re-flash"), Severity::Critical)
    })?;
    boot.meter.set_manifest(manifest());
    match envelope() {
        Ok(signed) => boot.meter.take_signed(signed),
        Err(text) => boot.report_text(&text, Severity::Warn),
    }
    boot.measurements = boot.meter.services(&boot.services);
    boot.meter_problems();
    let unread: Vec<String> = boot
        .measurements
        .iter()
        .filter_map(|measured| measured.as_ref().err().map(ToString::to_string))
        .collect();
    for text in unread {
        boot.report_text(&text, Severity::Critical);
    }
    Ok(())
}

/// The reference manifest of the image; that there is none is found out by the comparison.
fn manifest() -> Option<ReferenceManifest> {
    let length = fs::metadata(MANIFEST_PATH).ok()?.len();
    (length <= hookprobe_evidence::manifest::MANIFEST_BYTES_MAX as u64).then_some(())?;
    ReferenceManifest::parse(&fs::read(MANIFEST_PATH).ok()?).ok()
}

/// The signed manifest that stands beside the boot blob, checked under the release key of the image;
/// a copy of it goes where those can read it who need its policies.
fn envelope() -> Result<ReferenceManifest, String> {
    let unsigned = |why: String| {
        format!(
            "HP-MB-016 signed manifest: {why}; the TPM gives nothing to this image, boot a signed one"
        )
    };
    let key = fs::metadata(RELEASE_KEY_PATH)
        .and_then(|data| match data.len() <= SMALL_FILE_BYTES_MAX as u64 {
            true => fs::read_to_string(RELEASE_KEY_PATH),
            false => Err(std::io::ErrorKind::FileTooLarge.into()),
        })
        .map_err(|error| unsigned(format!("{RELEASE_KEY_PATH}: {error}")))?;
    let key = ReleaseKey::from_pem(&key).map_err(|error| unsigned(error.to_string()))?;
    let bytes = state::read_boot_file(ENVELOPE_NAME, ENVELOPE_BYTES_MAX)
        .map_err(|_| unsigned(format!("{ENVELOPE_NAME} can't be read off the boot partition")))?;
    if bytes.is_empty() || bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(unsigned(format!("{ENVELOPE_NAME} has {} bytes", bytes.len())));
    }
    let manifest = open_manifest(&bytes, &key).map_err(|error| error.to_string())?;
    fs::write(ENVELOPE_PATH, &bytes)
        .and_then(|()| fs::set_permissions(ENVELOPE_PATH, fs::Permissions::from_mode(0o644)))
        .map_err(|error| unsigned(format!("{ENVELOPE_PATH}: {error}")))?;
    Ok(manifest)
}

fn state_phase(boot: &mut Boot) -> Result<(), Diagnostic> {
    let prepared = detection::prepare();
    let copy = |root: &Path| match &prepared {
        Ok(()) => detection::copy(root),
        Err(problem) => (Vec::new(), vec![problem.clone()]),
    };
    let (bytes, (files, problems)) = match state::read_site(copy) {
        Ok(read) => read,
        Err(error) => (Err(error), Default::default()),
    };
    let bytes = bytes.unwrap_or_else(|error| {
        boot.report_text(&error.to_string(), Severity::Info);
        Vec::new()
    });
    for problem in &problems {
        boot.report_text(problem, Severity::Warn);
    }
    let sources = state::partitions(Path::new(state::BLOCK_CLASS), state::ESP_LABEL).len();
    if sources > 1 {
        boot.report(diagnostic(
            "HP-CF-014",
            Severity::Warn,
            "hookprobe.toml",
            &format!("{sources} partitions are named {}, the first was read", state::ESP_LABEL),
            "remove the disk that does not belong to this box",
        ));
    }
    // Measured before a byte of it is looked at.
    boot.meter.bytes(PcrIndex::SITE, measure::SITE_EVENT, &site::measured(&bytes, &files));
    boot.files = files;
    match Site::parse(&bytes) {
        Ok(site) => boot.site = site,
        Err(error) => boot.report_text(&error.to_string(), Severity::Warn),
    }
    let written = fs::write(SITE_FILE, boot.site.to_toml())
        .and_then(|()| fs::set_permissions(SITE_FILE, fs::Permissions::from_mode(0o644)));
    if let Err(error) = written {
        boot.report(diagnostic(
            "HP-CF-013",
            Severity::Critical,
            SITE_FILE,
            &error.to_string(),
            "restart the box",
        ));
    }
    boot.appraise();
    let outcome = mount_state(boot);
    directories(boot);
    outcome
}

fn mount_state(boot: &mut Boot) -> Result<(), Diagnostic> {
    let source = match &boot.state {
        State::Encrypted => Source::Volume,
        State::Unknown | State::Plain => Source::Partition,
        // The phase before has said why.
        State::Locked(_) => {
            memory(boot);
            return Ok(());
        }
    };
    match state::mount_state(source) {
        Ok(others) => {
            boot.persistent = true;
            if !others.is_empty() {
                boot.report(diagnostic(
                    "HP-ST-005",
                    Severity::Warn,
                    "state",
                    &format!("{} more partitions are named {}", others.len(), state::STATE_LABEL),
                    "remove the disk that does not belong to this box",
                ));
            }
            Ok(())
        }
        Err(error) => {
            memory(boot);
            boot.state = State::Unknown;
            Err(from_text(&error.to_string(), Severity::Warn))
        }
    }
}

fn memory(boot: &mut Boot) {
    if let Err(error) = state::mount_memory() {
        boot.report(diagnostic(
            "HP-ST-006",
            Severity::Critical,
            "state",
            &error.to_string(),
            "nothing can be kept; re-flash",
        ));
    }
}

fn directories(boot: &mut Boot) {
    let mut failed = Vec::new();
    for spec in &boot.services.service {
        for path in &spec.directories {
            if let Err(error) = mount::directory(path, 0o700, spec.uid, spec.gid) {
                failed.push(format!("{path} for {}: {error}", spec.name));
            }
        }
    }
    for text in failed {
        boot.report(diagnostic(
            "HP-ST-007",
            Severity::Critical,
            "directory",
            &text,
            "check the state partition",
        ));
    }
}

fn network_phase(boot: &mut Boot) -> Result<(), Diagnostic> {
    boot.links = network::links(Path::new(network::NET_CLASS));
    boot.name = network::node_name(&boot.site, &boot.links);
    // A name that the kernel refuses is only missing in its own messages.
    let _ = rustix::system::sethostname(boot.name.as_bytes());
    let (dhcp, mut problems) = network::configure(&boot.site, &boot.links);
    let text = network::dhcp_configuration(&dhcp);
    if let Err(error) = fs::write(DHCP_CONFIGURATION, text) {
        problems.push(format!("HP-NW-004 {DHCP_CONFIGURATION}: {error}; restart the box"));
    }
    let mut problems = problems.iter().map(|text| from_text(text, Severity::Warn));
    let first = problems.next();
    problems.for_each(|problem| boot.report(problem));
    first.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        let mut out = String::from("| phase | what it does | when it fails |\n|---|---|---|\n");
        for phase in &PHASES {
            let policy = match phase.on_failure {
                OnFailure::Degrade => "the box goes on and says so",
                OnFailure::Emergency => "emergency screen",
            };
            out.push_str(&format!("| {} | {} | {policy} |\n", phase.name, phase.does));
        }
        out
    }

    #[test]
    fn the_readme_shows_the_table() {
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table()), "put this into init/README.md:\n{}", table());
    }

    #[test]
    fn everything_is_measured_before_anything_runs() {
        let at = |name| PHASES.iter().position(|phase| phase.name == name).unwrap();
        assert!(at("tpm") < at("measure"));
        assert!(at("measure") < at("state"));
        assert!(at("state") < at("services"));
    }
}
