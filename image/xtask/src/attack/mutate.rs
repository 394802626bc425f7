//! Attack 11: evidence of the box with something changed, a million times. Every field has its turn;
//! logs are edited, cut short, reordered and extended, also record by record.
//!
//! A mutant is falsely accepted when it is affirmed and anything that a relying party reads out of
//! the result differs from the original's. What no signature covers and nobody reads (the box's
//! clock, white space of a log) may change; that Secure Boot is not known any more, and said so, is
//! less than before and no false conclusion.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use hookprobe_evidence::{
    appraise::{Appraisal, Reference, Status, appraise},
    bundle::Evidence,
    pcr::PcrIndex,
    quote::Binding,
};
use minicbor::bytes::ByteVec;

use super::{
    Campaign,
    judge::{self, found},
    tcg::{Field, Records},
};
use crate::error::{Error, Result};

/// At least so many threads; one core is left to the machine under attack.
const THREADS_MIN: usize = 1;
/// One mutant in so many is a change of the encoded bytes.
const RAW_EVERY: u64 = 16;
/// One mutant in so many changes full evidence; the others change what short evidence has, which is
/// what the quote covers and cheaper to judge. Has no divisor in common with the other: both meet.
const FULL_EVERY: u64 = 5;
/// Mutants of one seed; the next so many have the next. What comes of it does not depend on how many
/// processors there are.
const SHARD: u64 = 5000;
/// Remark that Secure Boot is off or not known.
const SECURE_BOOT: &str = "HP-MB-064";
/// Record separator of the user-space log (RFC 7464).
const RECORD: u8 = 0x1e;

/// Numbers that look random and can be had again: SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A range in `0..length`, at most 64 long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        start..(start + 1 + self.below(64)).min(length)
    }
}

/// What came of the mutants.
#[derive(Debug, Default, Clone)]
struct Tally {
    /// By what was changed.
    changes: BTreeMap<&'static str, u64>,
    mutants: u64,
    unparsable: u64,
    refused: u64,
    /// Affirmed with the same conclusions.
    same: u64,
    wrong: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        let Self { changes, mutants, unparsable, refused, same, wrong } = other;
        for (change, count) in changes {
            *self.changes.entry(change).or_default() += count;
        }
        self.mutants += mutants;
        self.unparsable += unparsable;
        self.refused += refused;
        self.same += same;
        self.wrong += wrong;
    }
}

/// Changes bytes; never into what they were, but for the rare edit that undoes itself.
fn bytes(rng: &mut Rng, all: &mut Vec<u8>) {
    if all.is_empty() {
        return all.push(rng.byte());
    }
    let at = rng.below(all.len());
    match rng.below(7) {
        0 => all.truncate(at),
        1 => all.extend((0..=rng.below(40)).map(|_| 0).collect::<Vec<u8>>()),
        2 => {
            let range = rng.range(all.len());
            all.drain(range);
        }
        3 => {
            let range = rng.range(all.len());
            let copy: Vec<u8> = all.get(range).unwrap_or_default().to_vec();
            all.splice(at..at, copy);
        }
        4 => {
            let range = rng.range(all.len());
            let moved: Vec<u8> = all.drain(range).collect();
            let to = rng.below(all.len());
            all.splice(to..to, moved);
        }
        5 => {
            let other = rng.byte();
            all.iter_mut().skip(at).take(1).for_each(|byte| *byte = other);
        }
        _ => {
            let bit = 1 << rng.below(8);
            all.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
        }
    }
}

fn byte_vec(rng: &mut Rng, field: &mut ByteVec) {
    bytes(rng, field);
}

fn optional(rng: &mut Rng, field: &mut Option<ByteVec>) {
    match field {
        Some(_) if rng.below(4) == 0 => *field = None,
        Some(inner) => bytes(rng, inner),
        None => *field = Some(vec![rng.byte(); 32].into()),
    }
}

fn number(rng: &mut Rng, field: &mut u64) {
    *field = match rng.below(3) {
        0 => field.wrapping_add(1),
        1 => field.wrapping_sub(1),
        _ => rng.next(),
    };
}

fn binding(rng: &mut Rng, binding: &mut Binding) {
    // Destructured so that a new field can't be forgotten.
    let Binding { nonce, exporter, node, epoch, length, head, root } = binding;
    match rng.below(7) {
        0 => byte_vec(rng, nonce),
        1 => optional(rng, exporter),
        2 => optional(rng, node),
        3 => number(rng, epoch),
        4 => number(rng, length),
        5 => optional(rng, head),
        _ => optional(rng, root),
    }
}

/// Whole records of a user-space log: removed, doubled, exchanged.
fn records(rng: &mut Rng, log: &mut ByteVec) {
    let mut all: Vec<Vec<u8>> =
        log.split(|byte| *byte == RECORD).skip(1).map(<[u8]>::to_vec).collect();
    if all.len() < 2 {
        return bytes(rng, log);
    }
    let (one, other) = (rng.below(all.len()), rng.below(all.len()));
    match rng.below(4) {
        0 => {
            all.remove(one);
        }
        1 => {
            let copy = all.get(one).cloned().unwrap_or_default();
            all.insert(other, copy);
        }
        2 => all.swap(one, other),
        _ => all.iter_mut().skip(one).take(1).for_each(|record| bytes(rng, record)),
    }
    let joined: Vec<u8> =
        all.into_iter().flat_map(|record| [vec![RECORD], record].concat()).collect();
    *log = joined.into();
}

/// Whole records of the firmware's log, or one field of one.
fn firmware(rng: &mut Rng, log: &mut ByteVec) -> &'static str {
    let Some(records) = Records::of(log).filter(|records| records.all.len() > 1) else {
        bytes(rng, log);
        return "firmware log";
    };
    let count = records.all.len();
    let (one, other) = (rng.below(count), rng.below(count));
    let mut order: Vec<usize> = (0..count).collect();
    let change = match rng.below(5) {
        0 => {
            order.remove(one);
            "firmware event removed"
        }
        1 => {
            order.insert(other, one);
            "firmware event doubled"
        }
        2 => {
            order.swap(one, other);
            "firmware events exchanged"
        }
        3 => {
            order.truncate(one);
            "firmware log cut"
        }
        _ => return firmware_field(rng, log, &records, one),
    };
    *log = records.in_order(log, &order).into();
    change
}

fn firmware_field(rng: &mut Rng, log: &mut ByteVec, records: &Records, one: usize) -> &'static str {
    let wanted = Field::ALL.get(rng.below(Field::ALL.len())).copied().unwrap_or(Field::Pcr);
    let Some((_, fields)) = records.all.get(one) else { return "nothing" };
    let places: Vec<_> = fields.iter().filter(|(field, _)| *field == wanted).collect();
    let Some((_, range)) = places.get(rng.below(places.len())) else { return "nothing" };
    let at = range.start + rng.below(range.len());
    let bit = 1 << rng.below(8);
    log.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
    match wanted {
        Field::Pcr => "firmware event: register",
        Field::Kind => "firmware event: type",
        Field::Count => "firmware event: count of digests",
        Field::Algorithm => "firmware event: algorithm",
        Field::Digest => "firmware event: digest",
        Field::Size => "firmware event: size",
        Field::Data => "firmware event: data",
    }
}

/// Changes one field and says which; `full`: one of those that only full evidence has.
fn field(rng: &mut Rng, evidence: &mut Evidence, full: bool) -> &'static str {
    // Destructured so that a new field can't be forgotten.
    let Evidence {
        version,
        quote,
        ak_public,
        binding: made_for,
        pcrs,
        epoch,
        boot_id,
        taken_s,
        logs,
        manifest,
        ek,
    } = evidence;
    if full {
        return match (rng.below(10), logs, ek) {
            (0, Some(logs), _) => named("firmware log: bytes", || byte_vec(rng, &mut logs.tcg)),
            (1..=4, Some(logs), _) => firmware(rng, &mut logs.tcg),
            (5, Some(logs), _) => {
                named("service log: bytes", || byte_vec(rng, &mut logs.userspace))
            }
            (6, Some(logs), _) => {
                named("service log: events", || records(rng, &mut logs.userspace))
            }
            (7, _, Some(ek)) => named("endorsement key", || byte_vec(rng, &mut ek.public)),
            (8, _, Some(ek)) => named("its certificate", || optional(rng, &mut ek.certificate)),
            _ => named("manifest", || optional(rng, manifest)),
        };
    }
    match (rng.below(12), epoch) {
        (0, _) => named("version", || *version = version.wrapping_add(1 + rng.byte() % 7)),
        (1, _) => named("quote", || byte_vec(rng, &mut quote.attest)),
        (2, _) => named("signature", || byte_vec(rng, &mut quote.signature)),
        (3, _) => named("attestation key", || byte_vec(rng, ak_public)),
        (4 | 5, _) => named("binding", || binding(rng, made_for)),
        (6, Some(epoch)) => named("epoch quote", || byte_vec(rng, &mut epoch.quote.attest)),
        (7, Some(epoch)) => named("epoch signature", || byte_vec(rng, &mut epoch.quote.signature)),
        (8, Some(epoch)) => named("epoch binding", || binding(rng, &mut epoch.binding)),
        (9, _) => named("boot id", || boot_id.push('0')),
        (10, _) => named("time", || number(rng, taken_s)),
        _ => named("registers", || claims(rng, pcrs)),
    }
}

/// Makes a change and gives its name.
fn named(name: &'static str, change: impl FnOnce()) -> &'static str {
    change();
    name
}

fn claims(rng: &mut Rng, pcrs: &mut Vec<hookprobe_evidence::bundle::PcrClaim>) {
    if pcrs.is_empty() {
        return;
    }
    let (one, other) = (rng.below(pcrs.len()), rng.below(pcrs.len()));
    match rng.below(4) {
        0 => {
            pcrs.remove(one);
        }
        1 => {
            let copy = pcrs.get(one).cloned();
            pcrs.extend(copy);
        }
        2 => pcrs.swap(one, other),
        _ => {
            if let Some(claim) = pcrs.get_mut(one) {
                match rng.below(3) {
                    0 => claim.alg ^= 1 << rng.below(16),
                    1 => claim.index ^= 1 << rng.below(8),
                    _ => bytes(rng, &mut claim.digest),
                }
            }
        }
    }
}

/// Whether an affirmed mutant says nothing but what the original says.
fn same(mutant: &Appraisal, original: &Appraisal) -> bool {
    let unknown = mutant.secure_boot.is_none() && found(mutant, SECURE_BOOT);
    conclusions(mutant) == conclusions(original)
        && (unknown || mutant.secure_boot == original.secure_boot)
}

/// What a relying party reads out of an appraisal, but for Secure Boot, see [`same`].
fn conclusions(appraisal: &Appraisal) -> impl PartialEq + std::fmt::Debug {
    // In whatever order they stand beside the quote.
    let mut registers: Vec<(PcrIndex, String)> =
        appraisal.registers.iter().map(|r| (r.pcr, r.value.hex())).collect();
    registers.sort();
    (
        (appraisal.claims, appraisal.level, appraisal.divergence.clone()),
        (appraisal.ak_name.clone(), appraisal.node.clone(), appraisal.epoch),
        (appraisal.ledger.clone(), appraisal.clock, appraisal.image.clone()),
        appraisal.nonce.clone(),
        registers,
    )
}

/// The original in both lengths, and what is made of it.
struct Original {
    full: Evidence,
    short: Evidence,
    reference: Reference,
    now_s: u64,
    full_appraisal: Appraisal,
    short_appraisal: Appraisal,
}

impl Original {
    fn run(&self, seed: u64, mutants: u64) -> Tally {
        let mut rng = Rng(seed);
        let mut tally = Tally::default();
        for turn in 0..mutants {
            tally.mutants += 1;
            let full = turn % FULL_EVERY == 0;
            let (base, expected) = if full {
                (&self.full, &self.full_appraisal)
            } else {
                (&self.short, &self.short_appraisal)
            };
            let (change, encoded) = if turn % RAW_EVERY == 1 {
                let mut encoded = base.to_bytes();
                bytes(&mut rng, &mut encoded);
                (if full { "encoded full evidence" } else { "encoded evidence" }, encoded)
            } else {
                let mut mutant = base.clone();
                (field(&mut rng, &mut mutant, full), mutant.to_bytes())
            };
            *tally.changes.entry(change).or_default() += 1;
            let Ok(mutant) = Evidence::parse(&encoded) else {
                tally.unparsable += 1;
                continue;
            };
            let appraisal = appraise(&mutant, &self.reference, self.now_s);
            if appraisal.status != Status::Affirming {
                tally.refused += 1;
            } else if same(&appraisal, expected) {
                tally.same += 1;
            } else {
                tally.wrong += 1;
                eprintln!(
                    "note: mutant {turn} of seed {seed:#x} was affirmed with other conclusions: \
                     {:?}, Secure Boot {:?} where the original has {:?}, {:?}",
                    conclusions(&appraisal),
                    appraisal.secure_boot,
                    conclusions(expected),
                    expected.secure_boot
                );
            }
        }
        tally
    }
}

impl Original {
    /// Of a box's evidence: short evidence is judged by who has seen the logs once.
    fn new(
        full: Evidence,
        envelope_in_short: bool,
        mut reference: Reference,
        now_s: u64,
    ) -> Result<Self> {
        reference.memory = appraise(&full, &reference, now_s).memory;
        let manifest = full.manifest.clone().filter(|_| envelope_in_short);
        let short = Evidence { logs: None, manifest, ek: None, ..full.clone() };
        let full_appraisal = appraise(&full, &reference, now_s);
        let short_appraisal = appraise(&short, &reference, now_s);
        for appraisal in [&full_appraisal, &short_appraisal] {
            if appraisal.status != Status::Affirming {
                let words = judge::words(appraisal);
                return Err(Error::Check(format!("the original is not affirmed: {words}")));
            }
        }
        Ok(Self { full, short, reference, now_s, full_appraisal, short_appraisal })
    }
}

/// Mutants that are judged while other attacks go on.
pub(super) struct Running {
    seed: u64,
    threads: Vec<JoinHandle<Tally>>,
}

/// Begins with the evidence of the intact box.
pub(super) fn begin(campaign: &Campaign<'_>) -> Result<Running> {
    let known = campaign.known()?.clone();
    let mut reference = campaign.judge.reference(&known.nonce)?;
    reference.ak_name = Some(known.ak.clone());
    // Certificate chains are not what is attacked here, and take most of the time.
    reference.ek_roots = None;
    let envelope = known.evidence.manifest.as_ref();
    reference.manifest = envelope.and_then(|envelope| campaign.judge.open(envelope));
    let original = Original::new(known.evidence, false, reference, judge::now_s())?;
    let original = Arc::new(original);
    let drawn =
        judge::nonce()?.iter().take(8).fold(0u64, |seed, byte| seed << 8 | u64::from(*byte));
    let seed = campaign.scale.seed.unwrap_or(drawn);
    let cores = thread::available_parallelism().map_or(THREADS_MIN, NonZero::get);
    let shards = campaign.scale.mutants.div_ceil(SHARD);
    let next = Arc::new(AtomicU64::new(0));
    let threads = (0..cores.saturating_sub(1).max(THREADS_MIN))
        .map(|_| {
            let (original, next) = (Arc::clone(&original), Arc::clone(&next));
            thread::spawn(move || {
                let mut tally = Tally::default();
                loop {
                    let shard = next.fetch_add(1, Ordering::Relaxed);
                    if shard >= shards {
                        return tally;
                    }
                    tally.add(original.run(seed.wrapping_add(shard), SHARD));
                }
            })
        })
        .collect();
    Ok(Running { seed, threads })
}

/// Waits until all are judged.
pub(super) fn end(campaign: &mut Campaign<'_>, running: Running) {
    let seed = running.seed;
    let tallies: Vec<Option<Tally>> =
        running.threads.into_iter().map(|thread| thread.join().ok()).collect();
    let panics = tallies.iter().filter(|tally| tally.is_none()).count();
    let mut total = Tally::default();
    tallies.into_iter().flatten().for_each(|one| total.add(one));
    let ok = panics == 0 && total.wrong == 0 && total.refused > 0;
    for (change, count) in &total.changes {
        println!("attack 11: {count:>7} {change}");
    }
    let text = format!(
        "{} bundles, seed {seed}: {} unreadable, {} not affirmed, {} affirmed with unchanged \
         conclusions, {} falsely accepted, {panics} panics",
        total.mutants, total.unparsable, total.refused, total.same, total.wrong
    );
    campaign.saw(11, ok, text);
}

#[cfg(test)]
mod tests {
    use hookprobe_evidence::sample::Sample;

    use super::*;

    /// The campaign on a box that does not exist: nothing is accepted falsely, and most mutants are
    /// not affirmed at all.
    #[test]
    fn mutants_of_a_sample() {
        let sample = Sample::new();
        // As on a box: mutants do not carry the endorsement key.
        let mut reference = sample.reference();
        reference.ek_roots = None;
        let original = Original::new(sample.evidence(), true, reference, Sample::NOW_S).unwrap();
        let begun = std::time::Instant::now();
        let tally = original.run(7, 3000);
        println!("{tally:?} in {:?}", begun.elapsed());
        assert_eq!(tally.wrong, 0);
        // Every field of every part has its turn.
        let changes: Vec<_> = tally.changes.keys().copied().collect();
        assert_eq!(
            changes.iter().filter(|change| change.starts_with("firmware event")).count(),
            10
        );
        assert_eq!((changes.len(), changes.contains(&"nothing")), (30, false), "{changes:?}");
        assert!(tally.refused + tally.unparsable > tally.mutants * 3 / 4, "{tally:?}");
    }
}
