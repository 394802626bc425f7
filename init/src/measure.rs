//! Measurement of everything that will run, before any of it runs.
//!
//! Each file is opened once; what is hashed is the descriptor, and the same descriptor is executed
//! later. Where somebody could still write to the file in between, a sealed copy in memory takes its
//! place before it is hashed. Every active PCR bank is extended and the event logged, with the names
//! and in the order that `evidence::manifest::ReferenceManifest::predict` uses. A TPM that fails is left alone from
//! then on: the box goes on at level L0 and says so, and never claims more than it verified.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use hookprobe_evidence::{
    appraise::first_divergence,
    closure::{ServiceList, ServiceSpec},
    digest::{Digest, HashAlg, MultiHasher},
    log::{self, Context, Event},
    manifest::ReferenceManifest,
    pcr::PcrIndex,
    site,
};
use hookprobe_wire::control::{Measured, PcrValue};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use thiserror::Error;

use crate::{
    clock,
    tpm::{Tpm, TpmError, TpmIdentity, Transport},
};

/// Where the event log is kept while the box runs.
pub const LOG_PATH: &str = "/run/log/hookprobe/measure.log";
/// The firmware's log as the kernel gives it, to root alone.
const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// Where a copy is kept for `attest`.
pub const FIRMWARE_COPY: &str = "/run/log/hookprobe/firmware.log";
/// Longest firmware log that is copied; usual ones have some 30 KiB.
const FIRMWARE_BYTES_MAX: u64 = 1024 * 1024;
/// Event of the site configuration.
pub const SITE_EVENT: &str = "site:hookprobe.toml";
/// In front of the events of refusals.
const VIOLATION: &str = "violation:";
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Largest file of a closure: the whole image is at most 32 MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// statfs's type of EROFS: a format that has no way to be written (linux/magic.h).
const EROFS_MAGIC: i64 = 0xe0f5_e1e2;
/// Registers that are read back.
const READ_BACK: [PcrIndex; 4] =
    [PcrIndex::UKI, PcrIndex::SITE, PcrIndex::SERVICES, PcrIndex::STATE];

/// A TPM behind any transport.
pub type AnyTpm = Tpm<Box<dyn Transport>>;

/// Why a service can't be run.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// A file of its closure can't be read.
    #[error("HP-MB-008 {event}: {source}; boot the other slot or re-flash")]
    File {
        /// The event that would measure it.
        event: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is larger than any of ours.
    #[error("HP-MB-009 {event}: larger than {FILE_BYTES_MAX} bytes; re-flash")]
    TooLarge {
        /// The event that would measure it.
        event: String,
    },
    /// It is not what was measured at boot.
    #[error(
        "HP-MB-014 {event}: digest differs from the one at boot (expected {expected}, measured \
         {measured}); boot the other slot or re-flash"
    )]
    Changed {
        /// The event that measured it at boot.
        event: String,
        /// Then.
        expected: String,
        /// Now.
        measured: String,
    },
}

/// A measured service: the descriptor to execute and what it must still be at a restart.
#[derive(Debug)]
pub struct Measurement {
    /// The binary, as it was hashed.
    pub exec: File,
    /// Path and SHA-256 of every file of the closure; the first is the binary.
    files: Vec<(String, Digest)>,
}

impl Measurement {
    /// SHA-256 of the binary in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.files.first().map(|(_, digest)| digest.hex()).unwrap_or_default()
    }

    /// Hashes everything again before a restart: the binary by its descriptor, the others by name.
    ///
    /// # Errors
    /// [`MeasureError`]; the service must not run then.
    pub fn check(&self, spec: &ServiceSpec) -> Result<(), MeasureError> {
        for (position, (path, expected)) in self.files.iter().enumerate() {
            let event = spec.file_event(path);
            let measured = if position == 0 {
                hash(&self.exec, &[HashAlg::Sha256], &event)?
            } else {
                hash(&open(path, &event)?, &[HashAlg::Sha256], &event)?
            };
            if measured.first() != Some(expected) {
                return Err(MeasureError::Changed {
                    event,
                    expected: expected.short(),
                    measured: measured.first().map(Digest::short).unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

fn open(path: &str, event: &str) -> Result<File, MeasureError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| MeasureError::File { event: event.into(), source })
}

/// The binary as it will be executed: itself on EROFS, which nothing can write; else a copy that
/// is sealed against every change. A mount flag would not do: the same file system can be mounted
/// writable elsewhere.
fn hold(file: File, event: &str) -> Result<File, MeasureError> {
    let failed = |source| MeasureError::File { event: event.into(), source };
    if on_erofs(&file).map_err(failed)? {
        return Ok(file);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = memfd_create("hookprobe-exec", flags).map_err(|errno| failed(errno.into()))?;
    let mut copy = File::from(copy);
    let copied = std::io::copy(&mut (&file).take(FILE_BYTES_MAX + 1), &mut copy).map_err(failed)?;
    if copied > FILE_BYTES_MAX {
        return Err(MeasureError::TooLarge { event: event.into() });
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals).map_err(|errno| failed(errno.into()))?;
    Ok(copy)
}

fn on_erofs(file: &File) -> Result<bool, std::io::Error> {
    Ok(rustix::fs::fstatfs(file)?.f_type == EROFS_MAGIC)
}

/// Hashes what `file` is open on, from its start, in several algorithms at once.
fn hash(file: &File, banks: &[HashAlg], event: &str) -> Result<Vec<Digest>, MeasureError> {
    let failed = |source| MeasureError::File { event: event.into(), source };
    let mut reader = file;
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut hasher = MultiHasher::new(banks);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0u64;
    loop {
        let got = reader.read(&mut chunk).map_err(failed)?;
        if got == 0 {
            return Ok(hasher.finish());
        }
        total += got as u64;
        if total > FILE_BYTES_MAX {
            return Err(MeasureError::TooLarge { event: event.into() });
        }
        hasher.update(chunk.get(..got).unwrap_or_default());
    }
}

/// What PID 1 knows about the box's measurements.
pub struct Meter {
    tpm: Option<AnyTpm>,
    identity: Option<TpmIdentity>,
    banks: Vec<HashAlg>,
    events: Vec<Event>,
    boot_id: String,
    log_path: PathBuf,
    pcrs: Vec<(HashAlg, PcrIndex, Digest)>,
    manifest: Option<ReferenceManifest>,
    divergence: Option<String>,
    measure_us: u64,
    /// Digests of files on EROFS by device and inode, in [`Self::services`]'s algorithms.
    hashed: HashMap<(u64, u64), Vec<Digest>>,
    commands: u32,
    /// What the operator has to be told and was not yet.
    pub problems: Vec<String>,
}

impl Meter {
    /// Without a TPM.
    #[must_use]
    pub fn new(boot_id: &str, log_path: PathBuf) -> Self {
        Self {
            tpm: None,
            identity: None,
            banks: vec![HashAlg::Sha256],
            events: Vec::new(),
            boot_id: boot_id.into(),
            log_path,
            pcrs: Vec::new(),
            manifest: None,
            divergence: None,
            measure_us: 0,
            hashed: HashMap::new(),
            commands: 0,
            problems: Vec::new(),
        }
    }

    /// Takes a TPM into use.
    ///
    /// # Errors
    /// The TPM's; it is not used then.
    pub fn attach(&mut self, transport: Box<dyn Transport>) -> Result<(), TpmError> {
        let mut tpm = Tpm::new(transport);
        tpm.startup()?;
        let banks = tpm.banks()?;
        let identity = tpm.identity()?;
        let unknown = tpm.unknown_banks();
        if !unknown.is_empty() {
            self.problems.push(format!(
                "HP-TP-021 tpm: active banks {unknown:04x?} can't be extended by this version; \
                 disable them in the firmware setup"
            ));
        }
        self.banks = banks;
        self.identity = Some(identity);
        self.tpm = Some(tpm);
        Ok(())
    }

    /// The TPM's maker and firmware, when there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&TpmIdentity> {
        self.identity.as_ref()
    }

    /// Whether there is a TPM and it did not fail yet.
    #[must_use]
    pub fn has_tpm(&self) -> bool {
        self.tpm.is_some()
    }

    /// Banks that are extended.
    #[must_use]
    pub fn banks(&self) -> &[HashAlg] {
        &self.banks
    }

    /// Sets what should be measured; `None` when the image has no usable manifest.
    pub fn set_manifest(&mut self, manifest: Option<ReferenceManifest>) {
        self.manifest = manifest;
    }

    /// Takes the signed manifest in place of the image's own, when both expect the same services:
    /// it also knows PCR 11. When they differ, what is signed is about another image, and that is
    /// said.
    pub fn take_signed(&mut self, signed: ReferenceManifest) {
        match &self.manifest {
            Some(own) if own.events != signed.events => self.problems.push(
                "HP-MB-017 signed manifest: is about other services than those of this image; \
                 re-flash"
                    .into(),
            ),
            _ => self.manifest = Some(signed),
        }
    }

    /// Measures every service in order. A service whose files can't be read has an error in its
    /// place and must not run.
    pub fn services(&mut self, list: &ServiceList) -> Vec<Result<Measurement, MeasureError>> {
        let start = clock::monotonic_us();
        let measured = list.service.iter().map(|spec| self.service(spec)).collect();
        self.measure_us += clock::monotonic_us().saturating_sub(start);
        measured
    }

    fn service(&mut self, spec: &ServiceSpec) -> Result<Measurement, MeasureError> {
        let mut algs = self.banks.clone();
        if !algs.contains(&HashAlg::Sha256) {
            algs.push(HashAlg::Sha256);
        }
        let mut exec = None;
        let mut files = Vec::new();
        for path in spec.closure_files() {
            let event = spec.file_event(path);
            let mut file = open(path, &event)?;
            if exec.is_none() {
                file = hold(file, &event)?;
            }
            let digests = self.digests(&file, &algs, &event)?;
            if let Some(digest) = digests.iter().find(|d| d.alg() == HashAlg::Sha256) {
                files.push((path.to_owned(), digest.clone()));
            }
            exec.get_or_insert(file);
            self.record(PcrIndex::SERVICES, &event, digests);
        }
        self.bytes(PcrIndex::SERVICES, &spec.spec_event(), &spec.canonical());
        exec.map(|exec| Measurement { exec, files }).ok_or_else(|| MeasureError::File {
            event: spec.spec_event(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// Digests of a file; one on EROFS that was hashed in this boot is not hashed again: nothing can
    /// have written it, and closures share their libraries.
    fn digests(
        &mut self,
        file: &File,
        algs: &[HashAlg],
        event: &str,
    ) -> Result<Vec<Digest>, MeasureError> {
        let failed = |source| MeasureError::File { event: event.into(), source };
        if !on_erofs(file).map_err(failed)? {
            return hash(file, algs, event);
        }
        let data = file.metadata().map_err(failed)?;
        let inode = (data.dev(), data.ino());
        if let Some(known) = self.hashed.get(&inode) {
            return Ok(known.clone());
        }
        let digests = hash(file, algs, event)?;
        self.hashed.insert(inode, digests.clone());
        Ok(digests)
    }

    /// Measures bytes under a name.
    pub fn bytes(&mut self, pcr: PcrIndex, name: &str, bytes: &[u8]) {
        let mut hasher = MultiHasher::new(&self.banks);
        hasher.update(bytes);
        self.record(pcr, name, hasher.finish());
    }

    /// Records that something ran into a refusal, so that the state of this box is no longer the
    /// expected one for any verifier.
    pub fn violation(&mut self, error: &MeasureError) {
        let text = error.to_string();
        self.bytes(PcrIndex::SERVICES, &format!("{VIOLATION}{text}"), text.as_bytes());
        self.read_back();
        self.appraise();
    }

    /// Measures rules and lists that were read again; the event.
    ///
    /// # Errors
    /// Why it is not sure that a verifier will see it: they must not be put in force then.
    pub fn reload(&mut self, number: u32, files: &[site::File]) -> Result<String, String> {
        if self.identity.is_some() && self.tpm.is_none() {
            return Err("the TPM failed earlier in this boot".into());
        }
        let name = site::reload(number, files);
        let known = self.problems.len();
        self.bytes(PcrIndex::SITE, &name, name.as_bytes());
        match self.problems.get(known) {
            Some(problem) => Err(problem.clone()),
            None => Ok(name),
        }
    }

    /// Extends first, logs second: a log without its extend would claim what the TPM can't prove.
    fn record(&mut self, pcr: PcrIndex, name: &str, digests: Vec<Digest>) {
        let digests: Vec<Digest> =
            digests.into_iter().filter(|digest| self.banks.contains(&digest.alg())).collect();
        if let Some(tpm) = &mut self.tpm
            && let Err(error) = tpm.extend(pcr, &digests)
        {
            self.give_up(&error);
        }
        let event = Event {
            pcr,
            digests,
            name: name.into(),
            context: Context { boot_id: self.boot_id.clone(), monotonic_us: clock::monotonic_us() },
        };
        if let Err(error) = append(&self.log_path, &log::to_record(&event)) {
            self.problems
                .push(format!("HP-MB-012 {}: {error}; restart the box", self.log_path.display()));
        }
        self.events.push(event);
    }

    /// Leaves a TPM alone that failed once: what it would prove from here on has a hole.
    fn give_up(&mut self, error: &TpmError) {
        if let Some(tpm) = self.tpm.take() {
            self.commands += tpm.commands();
        }
        self.pcrs.clear();
        self.problems.push(error.to_string());
    }

    /// Reads the registers of this boot in every bank.
    pub fn read_back(&mut self) {
        let mut pcrs = Vec::new();
        for bank in self.banks.clone() {
            for pcr in READ_BACK {
                let Some(tpm) = &mut self.tpm else {
                    return;
                };
                match tpm.read(bank, pcr) {
                    Ok(digest) => pcrs.push((bank, pcr, digest)),
                    Err(error) => return self.give_up(&error),
                }
            }
        }
        self.pcrs = pcrs;
    }

    /// Compares log, registers and manifest; returns the first difference in words.
    pub fn appraise(&mut self) -> Option<String> {
        let replayed = log::replay(&self.events);
        let blob = self.pcrs.iter().find(|(bank, pcr, value)| {
            let predicted = self.manifest.as_ref().and_then(|known| known.pcr(*bank, *pcr));
            *pcr == PcrIndex::UKI && predicted.is_some_and(|predicted| predicted != *value)
        });
        let outside = self.pcrs.iter().find(|(bank, pcr, value)| {
            *pcr != PcrIndex::UKI
                && replayed
                    .get(*bank, *pcr)
                    .map_or(value != &Digest::zero(*bank), |expected| expected != value)
        });
        let by_manifest =
            self.manifest.as_ref().and_then(|manifest| first_divergence(manifest, &self.events));
        let outside = outside.or(blob);
        self.divergence = match (by_manifest, outside, &self.manifest) {
            (Some(divergence), _, _) => Some(divergence.to_string()),
            (None, Some((bank, pcr, value)), _) if *pcr == PcrIndex::UKI => Some(format!(
                "HP-MB-018 pcr {pcr} bank {bank}: the TPM holds {}, the signed manifest of this \
                 boot blob predicts another value; re-flash",
                value.short()
            )),
            (None, Some((bank, pcr, value)), _) => Some(format!(
                "HP-MB-007 pcr {pcr} bank {bank}: the TPM holds {}, the log of this boot gives \
                 another value; power the box off and on, then re-flash",
                value.short()
            )),
            (None, None, None) => Some(
                "HP-MB-013 manifest: the image has none, nothing can be compared; re-flash".into(),
            ),
            (None, None, Some(_)) => None,
        };
        self.divergence.clone()
    }

    /// `match`, `differs` or `unknown`: one service against the manifest.
    #[must_use]
    pub fn verdict(&self, spec: &ServiceSpec) -> &'static str {
        let Some(manifest) = &self.manifest else {
            return "unknown";
        };
        let prefix = format!("service:{} ", spec.name);
        let refused =
            |event: &Event| event.name.starts_with(VIOLATION) && event.name.contains(&prefix);
        if self.events.iter().any(refused) {
            return "differs";
        }
        let mut same = false;
        for expected in manifest.events.iter().filter(|e| e.name.starts_with(&prefix)) {
            let event = self.events.iter().find(|event| event.name == expected.name);
            same = event.is_some_and(|event| {
                event.digests.iter().all(|d| expected.digests.get(d.alg().name()) == Some(&d.hex()))
            });
            if !same {
                break;
            }
        }
        if same { "match" } else { "differs" }
    }

    /// A register in the SHA-256 bank, as the TPM gave it.
    #[must_use]
    pub fn pcr(&self, index: PcrIndex) -> Option<&Digest> {
        self.pcrs
            .iter()
            .find(|(bank, pcr, _)| *bank == HashAlg::Sha256 && *pcr == index)
            .map(|(_, _, digest)| digest)
    }

    /// Level and what it means on this box.
    #[must_use]
    pub fn level(&self) -> (&'static str, String) {
        match (&self.tpm, &self.identity) {
            (Some(_), Some(identity)) if identity.is_software() => {
                ("T", "software TPM: for laboratories, it proves nothing about this box".into())
            }
            (Some(_), Some(identity)) => (
                "L0",
                format!(
                    "TPM present ({} {}), its identity is not verified yet",
                    identity.manufacturer, identity.vendor
                ),
            ),
            (None, Some(_)) => {
                ("L0", "the TPM failed during this boot: what runs here can't be proven".into())
            }
            _ => ("L0", "no TPM: what runs here can't be proven".into()),
        }
    }

    /// First difference found by the last [`Self::appraise`].
    #[must_use]
    pub fn divergence(&self) -> Option<&str> {
        self.divergence.as_deref()
    }

    /// Time to measure, and TPM commands so far.
    #[must_use]
    pub fn cost(&self) -> (u64, u32) {
        let open = self.tpm.as_ref().map_or(0, Tpm::commands);
        (self.measure_us, self.commands + open)
    }

    /// For the console.
    #[must_use]
    pub fn status(&self) -> Measured {
        let (level, level_text) = self.level();
        let (measure_us, commands) = self.cost();
        let predicted = |bank, pcr| self.manifest.as_ref()?.pcr(bank, pcr);
        Measured {
            level: level.into(),
            level_text,
            pcrs: self
                .pcrs
                .iter()
                .map(|(bank, pcr, value)| PcrValue {
                    bank: bank.name().into(),
                    index: pcr.get(),
                    value: value.hex(),
                    predicted: predicted(*bank, *pcr).map(|d| d.hex()).unwrap_or_default(),
                })
                .collect(),
            divergence: self.divergence.clone().unwrap_or_default(),
            measure_us,
            commands,
        }
    }
}

/// Copies the firmware's log for services to read. Nothing in it is secret, and nothing is believed
/// that does not replay to the TPM's registers.
///
/// # Errors
/// The kernel's; a firmware without a log has none.
pub fn copy_firmware_log() -> std::io::Result<u64> {
    let path = std::path::Path::new(FIRMWARE_COPY);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut from = File::open(FIRMWARE_LOG)?.take(FIRMWARE_BYTES_MAX);
    let mut to = OpenOptions::new().create_new(true).write(true).mode(0o644).open(path)?;
    std::io::copy(&mut from, &mut to)
}

fn append(path: &std::path::Path, record: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o644).open(path)?.write_all(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dead;

    impl Transport for Dead {
        fn exchange(&mut self, _: &[u8]) -> Result<Vec<u8>, TpmError> {
            Err(TpmError::Timeout { command: "PCR_Extend", ms: 1 })
        }
    }

    impl Meter {
        /// With a TPM that worked until now.
        pub(crate) fn with_dead_tpm(log_path: PathBuf) -> Self {
            Self { tpm: Some(Tpm::new(Box::new(Dead))), ..Self::new("0", log_path) }
        }
    }

    struct Box_ {
        directory: tempfile::TempDir,
        list: ServiceList,
    }

    fn setup() -> Box_ {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("bin"), b"binary").unwrap();
        fs::write(path("bpf"), b"object").unwrap();
        let list = ServiceList::parse(&format!(
            "[[service]]\nname=\"sensor\"\nexec=\"{}\"\nfiles=[\"{}\"]\nuid=802\ngid=802\n\
             seccomp=[\"base\"]\nnetwork=\"none\"\nmemory_mib_max=1\ntasks_max=1\n",
            path("bin"),
            path("bpf")
        ))
        .unwrap();
        Box_ { directory, list }
    }

    fn meter(setup: &Box_) -> Meter {
        let mut meter = Meter::new("0", setup.directory.path().join("run/measure.log"));
        let manifest = ReferenceManifest::predict("1", 1, &setup.list, |path| {
            fs::read(path).map_err(|error| error.to_string())
        })
        .unwrap();
        meter.set_manifest(Some(manifest));
        meter
    }

    #[test]
    fn the_same_image_matches_and_the_log_on_disk_is_the_one_in_memory() {
        let setup = setup();
        let mut meter = meter(&setup);
        let measured = meter.services(&setup.list);
        assert!(measured[0].is_ok());
        assert_eq!(meter.appraise(), None);
        assert_eq!(meter.verdict(&setup.list.service[0]), "match");
        let on_disk = fs::read(setup.directory.path().join("run/measure.log")).unwrap();
        assert_eq!(log::parse(&on_disk).unwrap(), meter.events);
        assert_eq!(meter.level().0, "L0");
    }

    #[test]
    fn a_changed_file_is_named_at_boot() {
        let setup = setup();
        let mut meter = meter(&setup);
        fs::write(setup.directory.path().join("bpf"), b"objecT").unwrap();
        meter.services(&setup.list);
        let text = meter.appraise().unwrap();
        assert!(text.starts_with("HP-MB-004 service:sensor file:"), "{text}");
        assert!(text.contains("/bpf"), "{text}");
        assert_eq!(meter.verdict(&setup.list.service[0]), "differs");
    }

    #[test]
    fn a_file_changed_after_boot_stops_the_restart_but_a_replaced_path_does_not_matter() {
        let setup = setup();
        let mut meter = meter(&setup);
        let measured = meter.services(&setup.list).remove(0).unwrap();
        let spec = &setup.list.service[0];
        // Another file under the binary's name: the measured one is still what would run.
        fs::remove_file(&spec.exec).unwrap();
        fs::write(&spec.exec, b"evil").unwrap();
        measured.check(spec).unwrap();
        fs::write(&spec.files[0], b"evil").unwrap();
        let error = measured.check(spec).unwrap_err();
        assert!(error.to_string().starts_with("HP-MB-014 service:sensor"));
        meter.violation(&error);
        assert!(meter.divergence().unwrap().contains("violation"));
        assert_eq!(meter.verdict(spec), "differs");
    }

    #[test]
    fn a_missing_binary_is_one_services_problem_only() {
        let setup = setup();
        let mut meter = meter(&setup);
        fs::remove_file(&setup.list.service[0].exec).unwrap();
        let error = meter.services(&setup.list).remove(0).unwrap_err();
        assert!(error.to_string().starts_with("HP-MB-008 service:sensor"));
        assert!(meter.appraise().is_some());
    }

    #[test]
    fn a_reload_is_measured_or_is_none() {
        let (setup, files) = (setup(), [site::File::new("a.rules", b"1")]);
        let mut meter = meter(&setup);
        assert_eq!(meter.reload(1, &files).unwrap(), site::reload(1, &files));
        assert_eq!(site::reload_number(meter.events.last().unwrap()), Some(1));
        let path = setup.directory.path().join("log");
        let reload = |mut meter: Meter| meter.reload(1, &files).unwrap_err();
        assert!(reload(Meter::with_dead_tpm(path)).starts_with("HP-TP-"));
        assert!(reload(Meter::new("0", "/proc/none/log".into())).starts_with("HP-MB-012"));
    }

    #[test]
    fn a_tpm_that_does_not_answer_is_asked_once() {
        let setup = setup();
        let mut meter = meter(&setup);
        assert!(meter.attach(Box::new(Dead)).is_err());
        meter.services(&setup.list);
        meter.read_back();
        assert_eq!(meter.level(), ("L0", "no TPM: what runs here can't be proven".into()));
        assert_eq!(meter.appraise(), None);
        assert!(meter.status().pcrs.is_empty());
    }
}
