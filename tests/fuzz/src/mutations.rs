//! A campaign of mutated evidence: no mutation may be accepted, unless it changed nothing that counts.
//!
//! Starts with evidence that is affirmed, changes it by structure (every field, and combinations that
//! a forger would make: other keys, rebuilt logs, re-signed manifests, parts of another box's
//! evidence) or by bytes, and appraises the result. *Accepted* is what ends with the status
//! `affirming`. What then has to be as before is [`Covered`]; what is not in it is named there, with
//! the reason. Everything follows from the seed and the number of the mutation.

use hookprobe_evidence::{
    appraise::{Appraisal, Reference, Status, appraise},
    bundle::{Evidence, Logs, PcrClaim, boot_nonce},
    digest::{Digest, HashAlg},
    log::{self, Event},
    pcr::PcrIndex,
    quote::{Binding, Quote},
    sample::{Sample, fixture},
    signed,
    tcg::{self, ReplayedLog},
};
use minicbor::bytes::ByteVec;
use p256::ecdsa::SigningKey;

use crate::{mutate::Rng, trust};

/// What a mutated bundle has to have unchanged when it is accepted.
///
/// Not in it, because no decision and no shown value depends on it: `taken_s` (the box's own clock, a
/// claim); the signatures' encodings (ECDSA has two for each; what they are over is in it); key ids
/// and further signatures in the manifest's envelope; the data of firmware's events (only their
/// digests are measured) and the names of events that are compared by digest alone; times in the
/// user-space log, and what either log says about registers or banks that are not quoted; the order
/// of `pcrs`.
#[derive(Debug, PartialEq, Eq)]
struct Covered {
    attest: ByteVec,
    ak_public: ByteVec,
    binding: Binding,
    pcrs: Vec<(u16, u8, Vec<u8>)>,
    epoch: Option<(ByteVec, Binding)>,
    boot_id: String,
    /// Register, digests and name of all events that the quote vouches for.
    events: Vec<(PcrIndex, Vec<Digest>, String)>,
    userspace: Vec<(PcrIndex, Vec<Digest>, String)>,
    manifest: Option<Vec<u8>>,
    ek: Option<(ByteVec, Option<ByteVec>)>,
    /// What is shown of it.
    shown: Shown,
}

/// The conclusions of an appraisal.
#[derive(Debug, PartialEq, Eq)]
struct Shown(String);

/// Registers whose events are told by their names; elsewhere only digests are compared.
const NAMED: [PcrIndex; 2] = [PcrIndex::SITE, PcrIndex::SERVICES];

/// Remark that Secure Boot is off or not shown.
const SECURE_BOOT: &str = "HP-MB-064";

impl Covered {
    fn of(evidence: &Evidence, appraisal: &Appraisal) -> Self {
        let quoted: Vec<(PcrIndex, Digest)> = appraisal
            .registers
            .iter()
            .map(|register| (register.pcr, register.value.clone()))
            .collect();
        let logs = evidence.logs.as_ref();
        let replayed = logs.and_then(|logs| ReplayedLog::replay(&logs.tcg, &quoted).ok());
        let line = |event: &Event| {
            let name = if NAMED.contains(&event.pcr) { event.name.clone() } else { String::new() };
            let mut digests: Vec<Digest> = event
                .digests
                .iter()
                .filter(|digest| {
                    quoted
                        .iter()
                        .any(|(pcr, value)| *pcr == event.pcr && value.alg() == digest.alg())
                })
                .cloned()
                .collect();
            digests.sort();
            (event.pcr, digests, name)
        };
        let mut pcrs: Vec<_> = evidence
            .pcrs
            .iter()
            .map(|claim| (claim.alg, claim.index, claim.digest.to_vec()))
            .collect();
        pcrs.sort();
        Self {
            attest: evidence.quote.attest.clone(),
            ak_public: evidence.ak_public.clone(),
            binding: evidence.binding.clone(),
            pcrs,
            epoch: evidence
                .epoch
                .as_ref()
                .map(|epoch| (epoch.quote.attest.clone(), epoch.binding.clone())),
            boot_id: evidence.boot_id.clone(),
            events: replayed
                .iter()
                .flat_map(ReplayedLog::events)
                .map(|event| line(&event.event))
                .collect(),
            userspace: logs
                .and_then(|logs| log::parse(&logs.userspace).ok())
                .iter()
                .flatten()
                .filter(|event| quoted.iter().any(|(pcr, _)| *pcr == event.pcr))
                .map(line)
                .collect(),
            manifest: evidence
                .manifest
                .as_deref()
                .and_then(|envelope| payload(envelope.as_slice())),
            ek: evidence.ek.as_ref().map(|ek| (ek.public.clone(), ek.certificate.clone())),
            shown: Shown::of(appraisal),
        }
    }
}

impl Shown {
    /// All but the hash of the evidence, and Secure Boot, which [`Campaign::unchanged`] compares.
    fn of(appraisal: &Appraisal) -> Self {
        let mut same = appraisal.clone();
        same.evidence = Digest::zero(HashAlg::Sha256);
        same.secure_boot = None;
        same.findings.retain(|finding| finding.code != SECURE_BOOT);
        Self(format!("{same:?}"))
    }
}

/// The payload of an envelope, in the one of its two Base64 alphabets.
fn payload(envelope: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(envelope).ok()?;
    let text = value.get("payload")?.as_str()?.trim_end_matches('=');
    Some(text.replace('-', "+").replace('_', "/").into_bytes())
}

/// What became of one mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not even evidence any more.
    Unreadable,
    /// The status `contraindicated`.
    Contraindicated,
    /// The status `warning` (or none): something is missing, said so.
    Warned,
    /// Accepted, and nothing that counts was changed.
    Same,
    /// Accepted although something that counts was changed: a hole.
    FalseAccept,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mutations made.
    pub made: u64,
    /// See [`Fate`].
    pub unreadable: u64,
    /// See [`Fate`].
    pub contraindicated: u64,
    /// See [`Fate`].
    pub warned: u64,
    /// See [`Fate`].
    pub same: u64,
    /// See [`Fate`].
    pub false_accepts: u64,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, fate: Fate) {
        self.made += 1;
        *match fate {
            Fate::Unreadable => &mut self.unreadable,
            Fate::Contraindicated => &mut self.contraindicated,
            Fate::Warned => &mut self.warned,
            Fate::Same => &mut self.same,
            Fate::FalseAccept => &mut self.false_accepts,
        } += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.unreadable += other.unreadable;
        self.contraindicated += other.contraindicated;
        self.warned += other.warned;
        self.same += other.same;
        self.false_accepts += other.false_accepts;
    }
}

/// One campaign.
#[derive(Debug)]
pub struct Campaign {
    good: Evidence,
    bytes: Vec<u8>,
    /// Evidence of another box and of another boot, to mix in.
    others: Vec<Evidence>,
    reference: Reference,
    now_s: u64,
    covered: Covered,
    secure_boot: Option<bool>,
    seed: u64,
}

/// Why no campaign can begin.
#[derive(Debug)]
pub struct NotGood(pub String);

impl Campaign {
    /// With evidence that `reference` affirms.
    ///
    /// # Errors
    /// [`NotGood`] when it does not: nothing would be shown by refusing its mutations.
    pub fn new(
        good: Evidence,
        others: Vec<Evidence>,
        reference: Reference,
        now_s: u64,
        seed: u64,
    ) -> Result<Self, NotGood> {
        let appraisal = appraise(&good, &reference, now_s);
        if appraisal.status != Status::Affirming {
            return Err(NotGood(format!("{:?}: {:?}", appraisal.status, appraisal.findings)));
        }
        let covered = Covered::of(&good, &appraisal);
        let bytes = good.to_bytes();
        let secure_boot = appraisal.secure_boot;
        Ok(Self { good, bytes, others, reference, now_s, covered, secure_boot, seed })
    }

    /// With the sample box of `evidence`: a TPM of a maker that the verifier trusts, Secure Boot, an
    /// encrypted volume, a site configuration that was asked for. Mixed in are another box and
    /// another boot, both of which are good by themselves.
    ///
    /// # Errors
    /// [`NotGood`].
    pub fn sample(seed: u64) -> Result<Self, NotGood> {
        // The maker's key is on P-256 here: on P-384, verifying it would be half of the time.
        let with_maker = |mut sample: Sample| {
            sample.certificate = Some(fixture("p256.ek"));
            sample
        };
        let good = with_maker(Sample::new());
        let mut other_box = with_maker(Sample::new());
        if let Ok(key) = SigningKey::from_slice(&[0x2b; 32]) {
            other_box.ak = key;
        }
        let mut older = with_maker(Sample::new());
        older.clock.reset_count -= 1;
        older.boot_id = "fedcba9876543210fedcba9876543210".into();
        older.binding.nonce = vec![3; 32].into();
        older.binding.epoch -= 1;
        if let Some(epoch) = &mut older.epoch {
            epoch.epoch -= 1;
            epoch.nonce = boot_nonce(&older.boot_id).into();
        }
        let mut forged = with_maker(Sample::new());
        if let Ok(key) = SigningKey::from_slice(&[0x2c; 32]) {
            forged.release = key;
        }
        let others = vec![other_box.evidence(), older.evidence(), forged.evidence(), good.short()];
        let reference =
            Reference { ek_roots: Some(vec![fixture("p256.root")]), ..good.reference() };
        Self::new(good.evidence(), others, reference, Sample::NOW_S, seed)
    }

    /// The mutation with this number: bytes as a verifier would get them.
    #[must_use]
    pub fn mutation(&self, number: u64) -> Vec<u8> {
        let mut rng = Rng::new(self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        // The first number is mixed already; the one after it does not resemble its neighbours'.
        let _ = rng.draw();
        if rng.below(4) == 0 {
            return self.by_bytes(&mut rng);
        }
        let mut evidence = self.good.clone();
        for _ in 0..=rng.below(3) {
            self.by_structure(&mut evidence, &mut rng);
        }
        evidence.to_bytes()
    }

    /// What becomes of it.
    #[must_use]
    pub fn try_one(&self, bytes: &[u8]) -> Fate {
        let Ok(evidence) = Evidence::parse(bytes) else {
            return Fate::Unreadable;
        };
        let appraisal = appraise(&evidence, &self.reference, self.now_s);
        match appraisal.status {
            Status::Contraindicated => Fate::Contraindicated,
            Status::Warning | Status::None => Fate::Warned,
            Status::Affirming if self.unchanged(&evidence, &appraisal) => Fate::Same,
            Status::Affirming => Fate::FalseAccept,
        }
    }

    /// Nothing that counts differs. Two things may be less than before, and say so or decide nothing:
    /// the firmware's data beside its digests, without which Secure Boot is not known; and the begin
    /// of the user-space log, whose events stand in the TCG log as well.
    fn unchanged(&self, evidence: &Evidence, appraisal: &Appraisal) -> bool {
        let mut now = Covered::of(evidence, appraisal);
        if self.covered.userspace.ends_with(&now.userspace) {
            now.userspace.clone_from(&self.covered.userspace);
        }
        let secure_boot = appraisal.secure_boot == self.secure_boot
            || appraisal.secure_boot.is_none()
                && appraisal.findings.iter().any(|finding| finding.code == SECURE_BOOT);
        now == self.covered && secure_boot
    }

    /// What differs in an accepted mutation.
    #[must_use]
    pub fn difference(&self, bytes: &[u8]) -> String {
        let Ok(evidence) = Evidence::parse(bytes) else { return "unreadable".into() };
        let appraisal = appraise(&evidence, &self.reference, self.now_s);
        let (now, before) =
            (format!("{:#?}", Covered::of(&evidence, &appraisal)), format!("{:#?}", self.covered));
        let differing =
            now.lines().zip(before.lines()).filter(|(now, before)| now != before).take(8);
        differing.map(|(now, before)| format!("{before}\n    -> {now}\n")).collect()
    }

    fn by_bytes(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for _ in 0..=rng.below(3) {
            edit(&mut bytes, rng);
        }
        bytes
    }

    /// One change that a forger could make with the evidence, his own keys and other boxes' evidence.
    fn by_structure(&self, evidence: &mut Evidence, rng: &mut Rng) {
        match rng.below(22) {
            0 => evidence.version = evidence.version.wrapping_add(rng.draw() as u8),
            1 => edit(&mut evidence.quote.attest, rng),
            2 => edit(&mut evidence.quote.signature, rng),
            3 => edit(&mut evidence.ak_public, rng),
            4 => edit_binding(&mut evidence.binding, rng),
            5 => edit_pcrs(&mut evidence.pcrs, rng),
            6 => match &mut evidence.epoch {
                Some(epoch) if rng.below(4) != 0 => match rng.below(3) {
                    0 => edit(&mut epoch.quote.attest, rng),
                    1 => edit(&mut epoch.quote.signature, rng),
                    _ => edit_binding(&mut epoch.binding, rng),
                },
                epoch => *epoch = None,
            },
            7 => edit_text(&mut evidence.boot_id, rng),
            8 => evidence.taken_s = rng.draw(),
            9 => with_logs(evidence, |logs| edit(&mut logs.tcg, rng)),
            10 => with_logs(evidence, |logs| edit(&mut logs.userspace, rng)),
            11 => edit_events(evidence, rng),
            12 => match &mut evidence.manifest {
                Some(manifest) if rng.below(4) != 0 => edit(manifest, rng),
                manifest => *manifest = None,
            },
            13 => edit_manifest(evidence, rng),
            14 => match &mut evidence.ek {
                Some(ek) if rng.below(4) != 0 => match &mut ek.certificate {
                    Some(certificate) if rng.below(2) == 0 => edit(certificate, rng),
                    certificate if rng.below(4) == 0 => *certificate = None,
                    _ => edit(&mut ek.public, rng),
                },
                ek => *ek = None,
            },
            15 => evidence.logs = None,
            16 => other_signature(&mut evidence.quote),
            17 => self.forge(evidence, rng),
            18 => edit_attest(&mut evidence.quote, rng),
            19 | 20 => self.splice(evidence, rng),
            _ => {
                // Values and log follow the change, the quote can't.
                edit_pcrs(&mut evidence.pcrs, rng);
                edit_events(evidence, rng);
            }
        }
    }

    /// A quote of the forger's own key over whatever he likes.
    fn forge(&self, evidence: &mut Evidence, rng: &mut Rng) {
        if rng.below(2) == 0 {
            edit_attest(&mut evidence.quote, rng);
        }
        if rng.below(2) == 0 {
            edit_binding(&mut evidence.binding, rng);
        }
        evidence.quote.signature = trust::tpmt_signature(&evidence.quote.attest).into();
        if rng.below(2) == 0 {
            evidence.ak_public = trust::ak_public().into();
        }
        if rng.below(2) == 0
            && let Some(epoch) = &mut evidence.epoch
        {
            epoch.quote.signature = trust::tpmt_signature(&epoch.quote.attest).into();
        }
    }

    /// Parts of other evidence.
    fn splice(&self, evidence: &mut Evidence, rng: &mut Rng) {
        let Some(other) = self.others.get(rng.below(self.others.len())) else { return };
        match rng.below(12) {
            0 => evidence.quote = other.quote.clone(),
            1 => evidence.ak_public = other.ak_public.clone(),
            2 => evidence.binding = other.binding.clone(),
            3 => evidence.pcrs.clone_from(&other.pcrs),
            4 => evidence.epoch.clone_from(&other.epoch),
            5 => evidence.boot_id.clone_from(&other.boot_id),
            6 => evidence.logs.clone_from(&other.logs),
            7 => evidence.manifest.clone_from(&other.manifest),
            8 => evidence.ek.clone_from(&other.ek),
            9 => {
                evidence.quote = other.quote.clone();
                evidence.binding = other.binding.clone();
                evidence.pcrs.clone_from(&other.pcrs);
            }
            10 => *evidence = Evidence { ek: evidence.ek.take(), ..other.clone() },
            _ => *evidence = other.clone(),
        }
    }
}

fn with_logs(evidence: &mut Evidence, change: impl FnOnce(&mut Logs)) {
    if let Some(logs) = &mut evidence.logs {
        change(logs);
    }
}

/// One change of a byte string.
fn edit(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let length = bytes.len();
    let at = rng.below(length);
    match rng.below(9) {
        0 | 1 => {
            let bit = 1 << rng.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        2 => {
            let value = rng.draw() as u8;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        3 => bytes.truncate(at),
        4 => bytes.insert(at.min(length), rng.draw() as u8),
        5 if length > 0 => drop(bytes.remove(at)),
        6 => {
            let (from, to) = (at, (at + rng.below(33)).min(length));
            let part = bytes.get(from..to).unwrap_or_default().to_vec();
            let into = rng.below(length + 1);
            bytes.splice(into..into, part);
        }
        7 => {
            let to = (at + rng.below(33)).min(length);
            if let Some(part) = bytes.get_mut(at..to) {
                part.fill([0, 0xff][rng.below(2)]);
            }
        }
        _ => {
            let other = rng.below(length);
            if length > 0 {
                bytes.swap(at, other);
            }
        }
    }
}

fn edit_number(number: &mut u64, rng: &mut Rng) {
    *number = match rng.below(4) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => 0,
        _ => rng.draw(),
    };
}

fn edit_text(text: &mut String, rng: &mut Rng) {
    let mut bytes = std::mem::take(text).into_bytes();
    edit(&mut bytes, rng);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

fn edit_optional(bytes: &mut Option<ByteVec>, rng: &mut Rng) {
    match bytes {
        Some(inside) if rng.below(4) != 0 => edit(inside, rng),
        Some(_) => *bytes = None,
        None => *bytes = Some(vec![rng.draw() as u8; 32].into()),
    }
}

fn edit_binding(binding: &mut Binding, rng: &mut Rng) {
    match rng.below(7) {
        0 => edit(&mut binding.nonce, rng),
        1 => edit_optional(&mut binding.exporter, rng),
        2 => edit_optional(&mut binding.node, rng),
        3 => edit_number(&mut binding.epoch, rng),
        4 => edit_number(&mut binding.length, rng),
        5 => edit_optional(&mut binding.head, rng),
        _ => edit_optional(&mut binding.root, rng),
    }
}

fn edit_pcrs(pcrs: &mut Vec<PcrClaim>, rng: &mut Rng) {
    let at = rng.below(pcrs.len());
    match rng.below(6) {
        0 if !pcrs.is_empty() => drop(pcrs.remove(at)),
        1 if !pcrs.is_empty() => pcrs.push(pcrs[at].clone()),
        2 if !pcrs.is_empty() => {
            let other = rng.below(pcrs.len());
            pcrs.swap(at, other);
        }
        3 => pcrs.push(PcrClaim {
            alg: [4, 0xb, 0xc, 0xd][rng.below(4)],
            index: rng.draw() as u8 % 32,
            digest: vec![rng.draw() as u8; 32].into(),
        }),
        4 => {
            if let Some(claim) = pcrs.get_mut(at) {
                edit(&mut claim.digest, rng);
            }
        }
        _ => {
            if let Some(claim) = pcrs.get_mut(at) {
                claim.alg = [4, 0xb, 0xc, 0xd][rng.below(4)];
                claim.index = claim.index.wrapping_add(rng.below(3) as u8);
            }
        }
    }
}

/// Edits PID 1's log and writes the TCG log again, so that both agree.
fn edit_events(evidence: &mut Evidence, rng: &mut Rng) {
    let Some(logs) = &mut evidence.logs else { return };
    let Ok(mut events) = log::parse(&logs.userspace) else { return };
    let at = rng.below(events.len());
    match rng.below(6) {
        0 if !events.is_empty() => drop(events.remove(at)),
        1 if !events.is_empty() => {
            let copy = events[at].clone();
            events.insert(rng.below(events.len()), copy);
        }
        2 if !events.is_empty() => {
            let other = rng.below(events.len());
            events.swap(at, other);
        }
        3 => {
            if let Some(event) = events.get_mut(at) {
                edit_text(&mut event.name, rng);
            }
        }
        4 => {
            let content = rng.draw().to_le_bytes();
            if let Some(event) = events.get_mut(at) {
                for digest in &mut event.digests {
                    *digest = digest.alg().digest(&[&content]);
                }
            }
        }
        _ => {
            if let Some(event) = events.get_mut(at) {
                event.pcr = PcrIndex::new(rng.draw() as u8 % 24).unwrap_or(event.pcr);
            }
        }
    }
    logs.userspace = events.iter().flat_map(log::to_record).collect::<Vec<u8>>().into();
    if rng.below(3) != 0 {
        // Without the firmware's part: a forger may as well leave that out.
        let banks = [HashAlg::Sha256];
        logs.tcg = tcg::merge(&[], &events, &banks).into();
    }
}

/// Edits what is inside the envelope, and may sign it with a key of his own.
fn edit_manifest(evidence: &mut Evidence, rng: &mut Rng) {
    let Some(envelope) = evidence.manifest.as_deref() else { return };
    let own = hookprobe_evidence::policy::ReleaseKey::new(*trust::signing_key().verifying_key());
    let Some(text) = payload(envelope) else { return };
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(envelope) else { return };
    if rng.below(2) == 0 {
        // Signed, but by whom?
        let claims = crate::trust_seeds::manifest();
        evidence.manifest = Some(signed::seal_manifest(&claims, &own.id(), trust::sign).into());
        return;
    }
    let mut text = text;
    edit(&mut text, rng);
    let mut value = value;
    if let Some(payload) = value.get_mut("payload") {
        *payload = String::from_utf8_lossy(&text).into_owned().into();
    }
    evidence.manifest = serde_json::to_vec(&value).ok().map(Into::into);
}

/// The other signature that ECDSA accepts for the same message: (r, n - s).
fn other_signature(quote: &mut Quote) {
    let Some((head, s)) = quote.signature.split_last_chunk::<32>() else { return };
    let head = head.to_vec();
    let Some(r) = head.get(6..38).map(<[u8]>::to_vec) else { return };
    let mut whole = s.to_vec();
    let mut rs = r;
    rs.append(&mut whole);
    let Ok(signature) = p256::ecdsa::Signature::from_slice(&rs) else { return };
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r, -*s);
    if let Ok(other) = other {
        let bytes = other.to_bytes();
        let mut out = head;
        out.extend(bytes.get(32..).unwrap_or_default());
        quote.signature = out.into();
    }
}

/// Edits a field of TPMS_ATTEST at its place.
fn edit_attest(quote: &mut Quote, rng: &mut Rng) {
    // magic, type, qualifiedSigner (34 bytes), extraData (32), clock, resets, restarts, safe,
    // firmware version, then the selection and the digest.
    const FIELDS: [(usize, usize); 10] = [
        (0, 4),
        (4, 2),
        (8, 34),
        (44, 32),
        (76, 8),
        (84, 4),
        (88, 4),
        (92, 1),
        (93, 8),
        (101, 200),
    ];
    let (at, bytes) = FIELDS[rng.below(FIELDS.len())];
    let length = quote.attest.len();
    let at = at + rng.below(bytes.min(length.saturating_sub(at)));
    if let Some(byte) = quote.attest.get_mut(at) {
        *byte = byte.wrapping_add(1 + rng.below(255) as u8);
    }
}
