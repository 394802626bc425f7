//! What the registers hold, and which event made them so.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{
    Claim, Claims, Problem, Register, Run, SITE_EVENT, VOLUME_EVENT, Verified, first_divergence,
};
use crate::{
    bundle::Evidence,
    digest::{Digest, HashAlg},
    loader,
    log::{self, Event},
    manifest::{ExpectedEvent, ReferenceManifest},
    pcr::{PcrIndex, extend},
    policy::PHASE_EVENT,
    quote::VerifiedQuote,
    site,
    tcg::{self, ReplayedLog},
};

/// Registers that decide; a quote without one of them says too little.
const REQUIRED: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15];
/// Registers of firmware.
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;
/// Registers that need no events: IMA has a log of its own, 16 and 23 anyone can reset.
const UNLOGGED: [u8; 3] = [10, 16, 23];
/// In front of the events of PCR 13.
const SERVICE_EVENT: &str = "service:";
/// Most registers beside a quote: all of every bank.
const CLAIMS_MAX: usize = 24 * HashAlg::ALL.len();

fn executables(claims: &mut Claims) -> &mut Claim {
    &mut claims.executables
}

fn storage(claims: &mut Claims) -> &mut Claim {
    &mut claims.storage_opaque
}

fn configuration(claims: &mut Claims) -> &mut Claim {
    &mut claims.configuration
}

/// The values beside a quote, in the quote's order, when they are exactly those that it is over.
pub(super) fn claimed(
    evidence: &Evidence,
    quote: &VerifiedQuote,
) -> Result<Vec<Register>, Problem> {
    if evidence.pcrs.len() > CLAIMS_MAX {
        return Err(Problem::Registers("too many values"));
    }
    let mut values: BTreeMap<(HashAlg, PcrIndex), Digest> = BTreeMap::new();
    for claim in &evidence.pcrs {
        let parse = || {
            let alg = HashAlg::from_tpm(claim.alg)?;
            Some((alg, PcrIndex::new(claim.index)?, Digest::new(alg, &claim.digest)?))
        };
        let (alg, pcr, value) = parse().ok_or(Problem::Registers("a value that is none"))?;
        if values.insert((alg, pcr), value).is_some() {
            return Err(Problem::Registers("a register twice"));
        }
    }
    let mut out = Vec::with_capacity(values.len());
    let mut hash = Sha256::new();
    for (alg, indexes) in &quote.selection {
        for pcr in indexes {
            let value = values.remove(&(*alg, *pcr)).ok_or(Problem::Registers("one is missing"))?;
            hash.update(value.as_bytes());
            out.push(Register { pcr: *pcr, value, expected: None });
        }
    }
    if !values.is_empty() {
        return Err(Problem::Registers("one was not quoted"));
    }
    if hash.finalize()[..] != quote.pcr_digest[..] {
        return Err(Problem::Registers("their hash differs"));
    }
    Ok(out)
}

impl Run<'_> {
    /// All about registers.
    pub(super) fn registers(&mut self, verified: &Verified, manifest: Option<&ReferenceManifest>) {
        let complete = |(bank, indexes): &(HashAlg, Vec<PcrIndex>)| {
            *bank != HashAlg::Sha1
                && REQUIRED.iter().all(|pcr| indexes.iter().any(|index| index.get() == *pcr))
        };
        if !verified.quote.selection.iter().any(complete) {
            self.fail(executables, Claim::WRONG, &Problem::Selection);
        }
        let log = self.replay();
        if let Some(log) = &log {
            self.firmware(log);
            self.userspace(log);
        }
        if let Some(manifest) = manifest {
            // Services first: the blob contains them, so that a changed file changes PCR 11 as well,
            // and the file is what a reader wants to hear of.
            let good = self.services(log.as_ref(), manifest) & self.boot(log.as_ref(), manifest);
            if good {
                self.claim(executables, Claim::GOOD);
                self.claim(|c| &mut c.file_system, Claim::GOOD);
            }
        }
        self.site(log.as_ref());
        self.volume(log.as_ref());
    }

    /// Values of one register in all quoted banks.
    fn quoted(&self, pcr: PcrIndex) -> Vec<Digest> {
        let of = self.out.registers.iter().filter(|register| register.pcr == pcr);
        of.map(|register| register.value.clone()).collect()
    }

    /// Replays the log in the evidence; every register with a value has to come out of it.
    fn replay(&mut self) -> Option<ReplayedLog> {
        let logs = self.evidence.logs.as_ref()?;
        let quoted: Vec<(PcrIndex, Digest)> = self
            .out
            .registers
            .iter()
            .filter(|register| !UNLOGGED.contains(&register.pcr.get()))
            .map(|register| (register.pcr, register.value.clone()))
            .collect();
        let log = match ReplayedLog::replay(&logs.tcg, &quoted) {
            Ok(log) => log,
            Err(error) => {
                self.fail(executables, Claim::CRYPTO_FAILED, &error);
                return None;
            }
        };
        for failure in log.failures() {
            self.fail(executables, Claim::CRYPTO_FAILED, failure);
        }
        let failed = |pcr: &PcrIndex| log.failures().iter().any(|failure| failure.pcr() == *pcr);
        self.explained = quoted.iter().map(|(pcr, _)| *pcr).filter(|pcr| !failed(pcr)).collect();
        Some(log)
    }

    /// Firmware's part of the log: Secure Boot, and whether the firmware measured at all.
    fn firmware(&mut self, log: &ReplayedLog) {
        self.basis.firmware = FIRMWARE.filter_map(PcrIndex::new).all(|pcr| {
            self.explained.contains(&pcr)
                && log.of(pcr).any(|event| !event.event.digests.is_empty())
        });
        self.out.secure_boot = log.events().iter().find_map(|event| event.secure_boot);
        if self.out.secure_boot != Some(true) {
            self.note(&Problem::SecureBoot);
        }
    }

    /// PID 1's own log has to be the end of the replayed one, event by event, and in front of that
    /// end there may be nothing that only PID 1 measures.
    fn userspace(&mut self, log: &ReplayedLog) {
        let Some(logs) = &self.evidence.logs else {
            return;
        };
        let events = match log::parse(&logs.userspace) {
            Ok(events) => events,
            Err(error) => return self.fail(executables, Claim::CRYPTO_FAILED, &error),
        };
        let ours: Vec<(usize, &Event)> = events
            .iter()
            .enumerate()
            .filter(|(_, event)| self.explained.contains(&event.pcr))
            .collect();
        let at = log.events().len().saturating_sub(ours.len());
        let (before, tail) = log.events().split_at_checked(at).unwrap_or_default();
        let mut tail = tail.iter().map(|event| &event.event);
        for (record, event) in ours {
            let same = tail.next().is_some_and(|replayed| {
                replayed.pcr == event.pcr
                    && replayed.name == tcg::shown(&event.name)
                    && replayed.digests.iter().all(|d| event.digest(d.alg()) == Some(d))
            });
            if !same {
                let problem = Problem::LogsDisagree { record, name: tcg::shown(&event.name) };
                return self.fail(executables, Claim::CRYPTO_FAILED, &problem);
            }
        }
        if let Some(missing) =
            before.iter().map(|event| &event.event).find(|event| only_ours(event))
        {
            let problem = Problem::LogShort { name: missing.name.clone() };
            self.fail(executables, Claim::CRYPTO_FAILED, &problem);
        }
    }

    /// PCR 4 and 11: the boot blob. What the blob extends is public, so another system could extend
    /// it, too; that the firmware ran the blob and nothing before it is in PCR 4, which no system can
    /// have for another.
    fn boot(&mut self, log: Option<&ReplayedLog>, manifest: &ReferenceManifest) -> bool {
        if self.predicted(PcrIndex::UKI, manifest) {
            return self.loader(log, manifest);
        }
        let events: Vec<&Event> =
            log.into_iter().flat_map(|log| log.of(PcrIndex::UKI)).map(|e| &e.event).collect();
        let problem = if events.is_empty() || manifest.boot.is_empty() {
            self.differs(PcrIndex::UKI, manifest)
        } else {
            first_boot_divergence(&manifest.boot, &events)
                .unwrap_or_else(|| self.differs(PcrIndex::UKI, manifest))
        };
        self.diverges(&problem);
        false
    }

    /// PCR 4: the blob ran, and nothing else before it; how many boot options failed first is told
    /// and counts for nothing.
    fn loader(&mut self, log: Option<&ReplayedLog>, manifest: &ReferenceManifest) -> bool {
        let known = |bank: HashAlg| manifest.pcr(bank, PcrIndex::LOADER).is_some();
        if !HashAlg::ALL.into_iter().any(known) {
            return true;
        }
        let quoted = self.quoted(PcrIndex::LOADER);
        let failed: Option<Vec<usize>> = quoted
            .iter()
            .map(|value| {
                let accepted = loader::accepted(manifest, value.alg());
                accepted.iter().position(|accepted| accepted == value)
            })
            .collect();
        // All banks tell of the same boot, and one of them at least can be believed.
        if let Some([first, others @ ..]) = failed.as_deref()
            && others.iter().all(|other| other == first)
            && quoted.iter().any(|value| value.alg() != HashAlg::Sha1)
        {
            for register in &mut self.out.registers {
                if register.pcr == PcrIndex::LOADER {
                    register.expected = Some(register.value.clone());
                }
            }
            if *first > 0 {
                self.note(&Problem::OptionsFailed { count: *first });
            }
            return true;
        }
        self.predicted(PcrIndex::LOADER, manifest);
        let problem = first_foreign(log, manifest)
            .unwrap_or_else(|| self.differs(PcrIndex::LOADER, manifest));
        self.diverges(&problem);
        false
    }

    /// PCR 13: the services, event by event where there is a log.
    fn services(&mut self, log: Option<&ReplayedLog>, manifest: &ReferenceManifest) -> bool {
        let good = self.predicted(PcrIndex::SERVICES, manifest);
        let events: Vec<Event> = log
            .into_iter()
            .flat_map(|log| log.of(PcrIndex::SERVICES))
            .map(|event| event.event.clone())
            .collect();
        if self.explained.contains(&PcrIndex::SERVICES)
            && let Some(divergence) = first_divergence(manifest, &events)
        {
            self.diverges(&divergence);
            return false;
        }
        if !good {
            let problem = self.differs(PcrIndex::SERVICES, manifest);
            self.diverges(&problem);
        }
        good
    }

    /// Whether a register has its predicted value in every quoted bank, and is quoted at all.
    fn predicted(&mut self, pcr: PcrIndex, manifest: &ReferenceManifest) -> bool {
        let mut strong = false;
        let mut same = true;
        for register in self.out.registers.iter_mut().filter(|register| register.pcr == pcr) {
            let bank = register.value.alg();
            register.expected = manifest.pcr(bank, pcr);
            strong |= bank != HashAlg::Sha1;
            same &= register.expected.as_ref() == Some(&register.value);
        }
        strong && same
    }

    /// The first bank in which a register has another value than predicted.
    fn differs(&self, pcr: PcrIndex, manifest: &ReferenceManifest) -> Problem {
        let short = |digest: Option<Digest>| digest.map_or("nothing".into(), |d| d.short());
        let quoted = self.quoted(pcr);
        let other = |value: &&Digest| manifest.pcr(value.alg(), pcr).as_ref() != Some(value);
        let Some(value) = quoted.iter().find(other) else {
            return Problem::Selection;
        };
        let bank = value.alg();
        let expected = short(manifest.pcr(bank, pcr));
        Problem::Predicted { pcr, bank, expected, measured: value.short() }
    }

    fn diverges(&mut self, problem: &dyn std::fmt::Display) {
        if self.out.divergence.is_none() {
            self.out.divergence = Some(problem.to_string());
        }
        self.fail(executables, Claim::WRONG, problem);
    }

    /// PCR 12: the site configuration, then reloads of the files beside it, and nothing else.
    fn site(&mut self, log: Option<&ReplayedLog>) {
        let quoted = self.quoted(PcrIndex::SITE);
        let mut events: Vec<&Event> = Vec::new();
        if self.explained.contains(&PcrIndex::SITE)
            && let Some(log) = log
        {
            events = log.of(PcrIndex::SITE).map(|event| &event.event).collect();
            if let Some(problem) = foreign_site(&events) {
                return self.fail(configuration, Claim::WRONG, &problem);
            }
        }
        let reloads = events.get(1..).unwrap_or_default();
        match &self.reference.site {
            Some(site) => {
                // What a reload extended is in its name; the configuration is still that of the start.
                let reloaded = |start: Digest| {
                    let name = |event: &&Event| start.alg().digest(&[event.name.as_bytes()]);
                    reloads
                        .iter()
                        .map(name)
                        .fold(start.clone(), |pcr, digest| extend(&pcr, &digest))
                };
                let known: Vec<(Digest, &Digest)> = quoted
                    .iter()
                    .filter_map(|value| Some((reloaded(site.pcr(value)?), value)))
                    .collect();
                let same = known.iter().all(|(expected, value)| expected == *value);
                if known.is_empty() || !same {
                    self.fail(configuration, Claim::WRONG, &Problem::Site);
                } else {
                    self.claim(configuration, Claim::GOOD);
                }
            }
            None => {
                // One event under that name, but the name is the log's word.
                self.note(&Problem::SiteUnknown);
                let before = before_reloads(&events);
                let good = Claim::CONFIGURATION_PLAUSIBLE;
                self.unchanged(PcrIndex::SITE, configuration, good, &before);
            }
        }
        if let Some(last) = reloads.last() {
            self.note(&Problem::Reloaded { event: last.name.clone(), count: reloads.len() });
        }
    }

    /// PCR 15: one state volume.
    fn volume(&mut self, log: Option<&ReplayedLog>) {
        if self.explained.contains(&PcrIndex::STATE)
            && let Some(log) = log
        {
            let names: Vec<String> =
                log.of(PcrIndex::STATE).map(|event| event.event.name.clone()).collect();
            let other = names.iter().enumerate().find_map(|(at, name)| {
                (at > 0 || !name.starts_with(VOLUME_EVENT)).then(|| name.clone())
            });
            if let Some(event) = other {
                let problem = Problem::Volume { event };
                return self.fail(storage, Claim::WRONG, &problem);
            }
            if names.is_empty() {
                return self.fail(storage, Claim::UNSAFE, &Problem::NoVolume);
            }
            return self.claim(storage, Claim::GOOD);
        }
        let zero = |value: &Digest| *value == Digest::zero(value.alg());
        if self.quoted(PcrIndex::STATE).iter().all(zero) {
            return self.fail(storage, Claim::UNSAFE, &Problem::NoVolume);
        }
        self.unchanged(PcrIndex::STATE, storage, Claim::GOOD, &[]);
    }

    /// A register that only a log explains: it is in this evidence, or was in earlier evidence and
    /// led to the same value, or to one of `passed`, which its log has on the way.
    fn unchanged(
        &mut self,
        pcr: PcrIndex,
        which: fn(&mut Claims) -> &mut Claim,
        good: Claim,
        passed: &[Digest],
    ) {
        let earlier = self.reference.memory.as_ref().map(|memory| &memory.explained);
        let quoted = self.quoted(pcr);
        let before: Vec<Option<bool>> = quoted
            .iter()
            .map(|value| {
                let known = earlier?.get(&super::Memory::register(pcr, value))?;
                let on_the_way = |one: &Digest| one.alg() == value.alg() && one.is_hex(known);
                Some(value.is_hex(known) || passed.iter().any(on_the_way))
            })
            .collect();
        if before.contains(&Some(false)) {
            self.fail(which, Claim::UNSAFE, &Problem::Changed { pcr });
        } else if self.explained.contains(&pcr) || before.contains(&Some(true)) {
            self.claim(which, good);
        } else {
            self.fail(which, Claim::UNSAFE, &Problem::Unexplained { pcr });
        }
    }
}

/// What of PCR 12's events is not the one site configuration with reloads behind it.
fn foreign_site(events: &[&Event]) -> Option<Problem> {
    let Some((first, reloads)) = events.split_first() else { return Some(Problem::NoSite) };
    let foreign = |event: &str| Some(Problem::Override { event: event.to_owned() });
    if first.name != SITE_EVENT {
        return foreign(&first.name);
    }
    let mut last = 0;
    for event in reloads {
        match site::reload_number(event) {
            Some(number) if number > last => last = number,
            _ if event.name == SITE_EVENT => return foreign(&format!("{SITE_EVENT} again")),
            _ => return foreign(&event.name),
        }
    }
    None
}

/// What PCR 12 held before each reload, in every bank of the log.
fn before_reloads(events: &[&Event]) -> Vec<Digest> {
    let mut out = Vec::new();
    for bank in HashAlg::ALL {
        let mut pcr = Digest::zero(bank);
        for digest in events.iter().filter_map(|event| event.digest(bank)) {
            pcr = extend(&pcr, digest);
            out.push(pcr.clone());
        }
    }
    out
}

/// The first event of PCR 4 that no boot of the manifest's blob has.
fn first_foreign(log: Option<&ReplayedLog>, manifest: &ReferenceManifest) -> Option<Problem> {
    let digest = log?
        .of(PcrIndex::LOADER)
        .filter(|_| !manifest.loader.is_empty())
        .flat_map(|event| event.event.digests.iter().map(move |digest| (event, digest)))
        .find(|(_, digest)| !loader::is_known(manifest, digest));
    digest.map(|(event, digest)| Problem::Foreign {
        event: event.event.name.clone(),
        bank: digest.alg(),
        measured: digest.short(),
    })
}

/// Whether PID 1 measures it and nothing before PID 1 does, by the name in the replayed log. PCR 12
/// is left to [`Run::site`]: the stub measures there too, and the log may call that what it likes.
fn only_ours(event: &Event) -> bool {
    match event.pcr {
        PcrIndex::UKI => event.name == PHASE_EVENT,
        PcrIndex::STATE => event.name.starts_with(VOLUME_EVENT),
        PcrIndex::SERVICES => event.name.starts_with(SERVICE_EVENT),
        _ => false,
    }
}

/// First event of PCR 11 that is not the expected one. Only digests are compared: what stub and
/// firmware call their events differs from what the composer does.
fn first_boot_divergence(expected: &[ExpectedEvent], measured: &[&Event]) -> Option<Problem> {
    let short = |text: &str| text.chars().take(8).collect::<String>();
    for (at, expected) in expected.iter().enumerate() {
        let event = expected.name.clone();
        let Some(found) = measured.get(at) else {
            let first = expected.digests.values().next().map_or("nothing".into(), |d| short(d));
            return Some(Problem::Boot { event, expected: first, measured: "nothing".into() });
        };
        for digest in &found.digests {
            let predicted = expected.digests.get(digest.alg().name());
            if predicted.is_none_or(|predicted| !digest.is_hex(predicted)) {
                let expected = predicted.map_or("nothing".into(), |digest| short(digest));
                return Some(Problem::Boot { event, expected, measured: digest.short() });
            }
        }
    }
    measured.get(expected.len()).map(|more| Problem::Boot {
        event: more.name.clone(),
        expected: "nothing".into(),
        measured: more.digests.first().map(Digest::short).unwrap_or_default(),
    })
}
