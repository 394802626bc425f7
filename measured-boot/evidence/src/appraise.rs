//! Appraisal (RFC 9334): evidence of a box against what the verifier brings.
//!
//! In this order, and a failure of the first three ends it: the attestation key can only sign what
//! its TPM made; the quote is that key's and answers this challenge; the register values beside it
//! are the ones that it is over. Only then are logs replayed, the manifest opened under the
//! *verifier's* release key, events compared, and what is remembered of the box with what it says.
//!
//! Must never happen here: a value from the evidence on both sides of a comparison; an affirming
//! claim that no check gave. Called by `attest` about its own box, by `hookprobe-verify` about
//! others.

mod cache;
mod divergence;
mod firmware;
mod identity;
mod problem;
mod reference;
mod registers;
mod result;

use std::{fmt::Display, sync::Arc};

pub use cache::Cache;
pub use divergence::{Divergence, first_divergence};
pub use firmware::firmware_of;
pub use reference::{Firmware, Memory, Reference, Site, VALIDITY_S};
pub use result::{
    Appraisal, Claim, Claims, Finding, LedgerHead, PROFILE, Register, Severity, Status,
};

use problem::Problem;

use crate::{
    bundle::Evidence,
    digest::HashAlg,
    levels::{self, Basis},
    manifest::ReferenceManifest,
    pcr::PcrIndex,
    quote::{AttestationKey, VerifiedQuote},
};

/// Event of the site configuration in PCR 12.
pub const SITE_EVENT: &str = "site:hookprobe.toml";
/// In front of the event of the state volume in PCR 15.
pub const VOLUME_EVENT: &str = "volume:";

/// Appraises `evidence`; `now_s` is the verifier's clock, seconds since 1970.
#[must_use]
pub fn appraise(evidence: &Evidence, reference: &Reference, now_s: u64) -> Appraisal {
    appraise_with(&mut Cache::default(), evidence, reference, now_s)
}

/// [`appraise`] for who appraises often: what was verified once, byte by byte the same, is not
/// verified again.
#[must_use]
pub fn appraise_with(
    cache: &mut Cache,
    evidence: &Evidence,
    reference: &Reference,
    now_s: u64,
) -> Appraisal {
    let mut run = Run::new(evidence, reference, now_s);
    if let Some(verified) = run.quote() {
        run.identity(&verified);
        let manifest = run.manifest(cache);
        run.registers(&verified, manifest.as_deref());
        run.firmware_since(&verified);
        run.remember(&verified, manifest.as_deref());
    }
    run.finish()
}

/// What the first three steps give to the others.
struct Verified {
    key: AttestationKey,
    quote: VerifiedQuote,
}

/// One appraisal under way.
struct Run<'a> {
    evidence: &'a Evidence,
    reference: &'a Reference,
    now_s: u64,
    basis: Basis,
    /// Registers that a log explained.
    explained: Vec<PcrIndex>,
    out: Appraisal,
}

impl<'a> Run<'a> {
    fn new(evidence: &'a Evidence, reference: &'a Reference, now_s: u64) -> Self {
        let out = Appraisal {
            status: Status::None,
            claims: Claims::default(),
            level: levels::Level::L0,
            evidence: HashAlg::Sha256.digest(&[&evidence.to_bytes()]),
            issued_s: now_s,
            expires_s: now_s.saturating_add(reference.validity_s),
            findings: Vec::new(),
            divergence: None,
            nonce: evidence.binding.nonce.to_vec(),
            ak_name: None,
            node: None,
            epoch: None,
            ledger: None,
            clock: None,
            image: None,
            secure_boot: None,
            endorsement: String::new(),
            registers: Vec::new(),
            memory: None,
        };
        let (basis, explained) = (Basis::default(), Vec::new());
        Self { evidence, reference, now_s, basis, explained, out }
    }

    /// Makes a claim; of two the worse stands.
    fn claim(&mut self, which: fn(&mut Claims) -> &mut Claim, value: Claim) {
        let claim = which(&mut self.out.claims);
        if (value.tier(), value) > (claim.tier(), *claim) {
            *claim = value;
        }
    }

    /// Makes a claim because of a problem, which is as serious as the claim.
    fn fail(
        &mut self,
        which: fn(&mut Claims) -> &mut Claim,
        value: Claim,
        problem: &(impl Display + ?Sized),
    ) {
        let severity = match value.tier() {
            Status::None | Status::Affirming => Severity::Info,
            Status::Warning => Severity::Warn,
            Status::Contraindicated => Severity::Critical,
        };
        self.out.findings.push(Finding::from_text(severity, &problem.to_string()));
        self.claim(which, value);
    }

    /// Says something that changes no claim.
    fn note(&mut self, problem: &Problem) {
        self.out.findings.push(Finding::from_text(Severity::Info, &problem.to_string()));
    }

    /// Key, signature, challenge, register values; `None` ends the appraisal.
    fn quote(&mut self) -> Option<Verified> {
        let evidence = self.evidence;
        let key = match AttestationKey::from_public(&evidence.ak_public) {
            Ok(key) => key,
            Err(error) => {
                self.fail(|c| &mut c.instance_identity, Claim::UNKNOWN, &error);
                return None;
            }
        };
        let quote = match evidence.quote.verify(&key, &evidence.binding) {
            Ok(quote) => quote,
            Err(error) => {
                self.fail(|c| &mut c.instance_identity, Claim::CRYPTO_FAILED, &error);
                return None;
            }
        };
        match registers::claimed(evidence, &quote) {
            Ok(registers) => self.out.registers = registers,
            Err(problem) => {
                self.fail(|c| &mut c.instance_identity, Claim::CRYPTO_FAILED, &problem);
                return None;
            }
        }
        self.basis.quote = true;
        if self.is_enrolled() {
            self.claim(|c| &mut c.instance_identity, Claim::GOOD);
        }
        self.out.ak_name = Some(key.name().clone());
        self.out.clock = Some(quote.clock);
        let binding = &evidence.binding;
        self.out.epoch = Some(binding.epoch);
        self.out.node = binding.node.as_ref().map(|node| node.to_vec());
        let bytes = |hash: &Option<minicbor::bytes::ByteVec>| hash.as_ref().map(|h| h.to_vec());
        self.out.ledger = Some((binding.length, bytes(&binding.head), bytes(&binding.root)));
        Some(Verified { key, quote })
    }

    /// The manifest to compare with: the verifier's own, or the evidence's under a release key that
    /// the verifier has.
    fn manifest(&mut self, cache: &mut Cache) -> Option<Arc<ReferenceManifest>> {
        let manifest = match (&self.reference.manifest, &self.evidence.manifest) {
            (Some(manifest), _) => Arc::new(manifest.clone()),
            (None, Some(envelope)) => match self.open(cache, envelope) {
                Ok(manifest) => manifest,
                Err(problem) => {
                    self.fail(|c| &mut c.executables, Claim::WRONG, &problem);
                    return None;
                }
            },
            (None, None) => {
                self.fail(|c| &mut c.executables, Claim::UNRECOGNIZED, &Problem::NoManifest);
                return None;
            }
        };
        self.out.image = Some((manifest.version.clone(), manifest.generation));
        let before = self.reference.memory.as_ref().map_or(0, |memory| memory.generation);
        if manifest.generation < before {
            let (before, now) = (before.to_string(), manifest.generation.to_string());
            let problem = Problem::Rollback { what: "the image's generation", before, now };
            self.fail(|c| &mut c.executables, Claim::UNSAFE, &problem);
        }
        let minimum = self.reference.generation_min;
        if manifest.generation < minimum {
            let problem = Problem::Generation { got: manifest.generation, minimum };
            self.fail(|c| &mut c.executables, Claim::WRONG, &problem);
        }
        if let Some(minimum) = &self.reference.version_min
            && numbers(&manifest.version) < numbers(minimum)
        {
            let (got, minimum) = (manifest.version.clone(), minimum.clone());
            let problem = Problem::Version { got, minimum };
            self.fail(|c| &mut c.executables, Claim::WRONG, &problem);
        }
        Some(manifest)
    }

    /// Opens an envelope under any of the verifier's keys.
    fn open(&self, cache: &mut Cache, envelope: &[u8]) -> Result<Arc<ReferenceManifest>, String> {
        let mut first = None;
        for key in &self.reference.release_keys {
            match cache.open(envelope, key) {
                Ok(manifest) => return Ok(manifest),
                Err(error) => first = first.or(Some(error.to_string())),
            }
        }
        Err(first.unwrap_or_else(|| Problem::NoReleaseKey.to_string()))
    }

    /// What to remember: only of a box whose quote verified and whose counters did not go back.
    fn remember(&mut self, verified: &Verified, manifest: Option<&ReferenceManifest>) {
        let (binding, clock) = (&self.evidence.binding, verified.quote.clock);
        let earlier = self.reference.memory.as_ref();
        let mut explained = earlier.map(|memory| memory.explained.clone()).unwrap_or_default();
        for register in &self.out.registers {
            if [PcrIndex::SITE, PcrIndex::STATE].contains(&register.pcr)
                && self.explained.contains(&register.pcr)
            {
                let key = Memory::register(register.pcr, &register.value);
                explained.insert(key, register.value.hex());
            }
        }
        self.out.memory = Some(Memory {
            ak_name: verified.key.name().hex(),
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock_ms: clock.clock_ms,
            epoch: binding.epoch,
            boot_id: self.evidence.epoch.as_ref().map(|_| self.evidence.boot_id.clone()),
            node: binding.node.as_ref().map(|node| crate::hex::hex(node)),
            ledger_length: binding.length,
            ledger_head: binding.head.as_ref().map(|head| crate::hex::hex(head)),
            // The highest that was seen: looking twice makes an older image no better.
            generation: manifest
                .map(|manifest| manifest.generation)
                .max(earlier.map(|memory| memory.generation))
                .unwrap_or(0),
            explained,
            firmware: self.firmware_to_remember(verified),
        });
    }

    fn finish(mut self) -> Appraisal {
        self.out.level = levels::level(self.basis);
        self.out.status = self.out.claims.status();
        self.out.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if self.out.status == Status::Contraindicated {
            self.out.memory = None;
        }
        self.out
    }
}

/// The numbers that a version begins with: `0.10.2-rc1` is 0, 10, 2.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
