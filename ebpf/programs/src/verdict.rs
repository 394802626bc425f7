//! Whether a packet is dropped.
//!
//! Every drop goes through [`apply`] or [`limited`], and both ask PROTECTED first: no rule can take
//! its own box's way out. Every drop has a reason and every reason a counter.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::null_mut,
};

use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, maps::LruHashMap};
use hookprobe_abi::{
    Address, BlockEntry, Counter, Reason,
    bucket::Rate,
    config::{Config, LENGTHS_MAX, ListShape, flag},
    parse::Words,
    rules::{ALLOW, DRY_RUN, PrefixKey, masked_words},
};

use crate::maps::{
    BLOCK, Counters, PROTECTED, RATE_PREFIX, RATE_SOURCE, exact_rule, lpm_rule, prefix_rule,
};

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Counts only: a dry run.
    Met,
    /// Lets through, limits do not count.
    Allow,
    /// Dropped.
    Drop,
    /// Dropped, the first packet by this rule.
    FirstDrop,
}

/// The part of a packet that is judged.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub address: &'a Address,
    /// The same.
    pub words: &'a Words,
    pub v6: bool,
    pub bytes: u32,
}

/// The bytes of an address where it stands, for a lookup.
#[inline(always)]
pub fn bytes_of(words: &Words) -> &Address {
    // SAFETY: four words without padding are sixteen bytes, and bytes have no alignment.
    unsafe { &*(&raw const *words).cast() }
}

/// Exact time on the clock of rules and records.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes nothing, returns a number. Boot time, because it goes on during suspend: a
    // block ends when its wall-clock time is over.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A rule that covers the subject, null when there is none, and where it was found. Trap: an `Option`
/// of this would have LLVM read on what a `None` does not have, which the verifier refuses.
#[derive(Clone, Copy)]
pub struct Found {
    pub rule: *mut BlockEntry,
    pub reason: u32,
}

impl Found {
    const NOTHING: Self = Self { rule: null_mut(), reason: 0 };
}

/// Places to find a rule in, as [`Reason`] has them; numbers, because LLVM makes a table of names.
const BLOCKED: u32 = 0;
const LISTED: u32 = 1;
const BY_PREFIX: u32 = 2;
const BY_LPM: u32 = 3;

/// A single block, as the response makes them.
#[inline(always)]
pub fn blocked(counters: Counters, address: &Address) -> Found {
    match BLOCK.get_ptr_mut(address) {
        Some(rule) if is_alive(counters, rule) => Found { rule, reason: BLOCKED },
        _ => Found::NOTHING,
    }
}

/// The most particular rule of the list in force: the address itself, then prefixes from the longest
/// to the shortest.
#[inline(always)]
pub fn listed(counters: Counters, config: &Config, subject: Subject<'_>) -> Found {
    // Two constants rather than an index: the verifier does not follow a bound through the stack.
    let [first, second] = &config.lists;
    let (slot, shape) = if config.slot == 0 { (0, first) } else { (1, second) };
    if shape.has_exact != 0
        && let Some(rule) = exact_rule(slot, subject.address)
        && is_alive(counters, rule)
    {
        return Found { rule, reason: LISTED };
    }
    if let Some(rule) = by_prefix(counters, shape, slot, subject) {
        return Found { rule, reason: BY_PREFIX };
    }
    if shape.has_lpm != 0
        && let Some(rule) = lpm_rule(slot, *subject.words)
        && is_alive(counters, rule)
    {
        return Found { rule, reason: BY_LPM };
    }
    Found::NOTHING
}

#[inline(always)]
fn by_prefix(
    counters: Counters,
    shape: &ListShape,
    slot: u32,
    subject: Subject<'_>,
) -> Option<*mut BlockEntry> {
    // Trap: a place chosen by `v6` has no bound that the verifier knows, so the values are chosen.
    // SAFETY: both are aligned words of a live map value.
    let (four, six) = unsafe {
        (
            (&raw const shape.lengths4).cast::<u64>().read_volatile(),
            (&raw const shape.lengths6).cast::<u64>().read_volatile(),
        )
    };
    let mut lengths = if subject.v6 { six } else { four };
    for _ in 0..LENGTHS_MAX {
        let length = lengths as u8;
        lengths >>= 8;
        if length == 0 {
            break;
        }
        let [a, b, c, d] = masked_words(*subject.words, length).0;
        let key = [u32::from(length), a, b, c, d];
        // SAFETY: of the same size and alignment, and valid for every bit pattern.
        let key: &PrefixKey = unsafe { &*(&raw const key).cast() };
        if let Some(rule) = prefix_rule(slot, key)
            && is_alive(counters, rule)
        {
            return Some(rule);
        }
    }
    None
}

/// Whether the rule has not ended; one that has is as good as none.
#[inline(always)]
fn is_alive(counters: Counters, rule: *mut BlockEntry) -> bool {
    // SAFETY: map values live as long as this run (RCU); the field is only written whole.
    let expires_ns = unsafe { (&raw const (*rule).expires_ns).read_volatile() };
    if expires_ns != 0 && now_ns() >= expires_ns {
        counters.count(Counter::BlockExpired);
        return false;
    }
    true
}

/// What a rule does to the subject.
#[inline(always)]
pub fn apply(counters: Counters, subject: Subject<'_>, found: Found) -> Verdict {
    let Found { rule, reason } = found;
    // Protection is looked up after the rules, because no rule is by far the most common case and
    // the outcome is the same.
    if is_protected(counters, subject.address) {
        return Verdict::Allow;
    }
    // SAFETY: map values live as long as this run (RCU); the field is only written whole.
    let flags = unsafe { (&raw const (*rule).flags).read_volatile() };
    if flags & ALLOW != 0 {
        counters.count(Counter::Allowed);
        return Verdict::Allow;
    }
    // SAFETY: aligned fields of a live map value, shared between CPUs, hence atomic. Trap: without
    // target-cpu v3 the old value can't be had and the object does not build.
    let before = unsafe {
        add(&raw mut (*rule).bytes, u64::from(subject.bytes));
        add(&raw mut (*rule).packets, 1)
    };
    if flags & DRY_RUN != 0 {
        match reason {
            BLOCKED => counters.count(Counter::DryBlock),
            LISTED => counters.count(Counter::DryList),
            BY_PREFIX => counters.count(Counter::DryPrefix),
            _ => counters.count(Counter::DryLpm),
        }
        return Verdict::Met;
    }
    match reason {
        BLOCKED => counters.count(Counter::DroppedBlock),
        LISTED => counters.count(Counter::DroppedList),
        BY_PREFIX => counters.count(Counter::DroppedPrefix),
        _ => counters.count(Counter::DroppedLpm),
    }
    if before == 0 { Verdict::FirstDrop } else { Verdict::Drop }
}

#[inline(always)]
fn is_protected(counters: Counters, address: &Address) -> bool {
    let is_protected = PROTECTED.get_ptr(address).is_some();
    if is_protected {
        counters.count(Counter::Protected);
    }
    is_protected
}

/// Whether the subject, or its neighbourhood, sends too much.
#[inline(always)]
pub fn limited(counters: Counters, config: &Config, subject: Subject<'_>, coarse_ns: u64) -> bool {
    let reason = if config.source.interval_ns != 0
        && !take(counters, &RATE_SOURCE, subject.address, &config.source, coarse_ns)
    {
        Reason::RateSource
    } else if config.prefix.interval_ns != 0 {
        let length = if subject.v6 { 64 } else { 96 + 24 };
        let prefix = masked_words(*subject.words, length);
        if take(counters, &RATE_PREFIX, bytes_of(&prefix), &config.prefix, coarse_ns) {
            return false;
        }
        Reason::RatePrefix
    } else {
        return false;
    };
    if is_protected(counters, subject.address) {
        return false;
    }
    let is_dry = config.flags & flag::RATE_DRY_RUN != 0;
    counters.count(if is_dry { reason.dry() } else { reason.dropped() });
    !is_dry
}

/// Takes a token; `false` when there is none. Two CPUs at the same moment may take one for both:
/// a limit is no account, and a lock would cost more than all of this.
#[inline(always)]
fn take(
    counters: Counters,
    buckets: &LruHashMap<Address, u64>,
    key: &Address,
    rate: &Rate,
    now_ns: u64,
) -> bool {
    let Some(bucket) = buckets.get_ptr_mut(key) else {
        let Some(full_ns) = rate.take(0, now_ns) else { return false };
        if buckets.insert(key, &full_ns, 0).is_err() {
            counters.count(Counter::RatesLost);
        }
        return true;
    };
    // SAFETY: an aligned word of a live map value, read and written whole.
    match rate.take(unsafe { bucket.read_volatile() }, now_ns) {
        Some(full_ns) => {
            // SAFETY: as above.
            unsafe { bucket.write_volatile(full_ns) };
            true
        }
        None => false,
    }
}

/// Adds to a shared number, returns what it was.
///
/// # Safety
/// `slot` is valid and aligned.
#[inline(always)]
unsafe fn add(slot: *mut u64, by: u64) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(slot, by) }
}
