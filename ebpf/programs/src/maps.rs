//! The maps and everything that is done with them.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{HashMap, LruPerCpuHashMap, PerCpuArray, RingBuf},
};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use hookprobe_abi::{
    Address, BLOCK_ENTRIES_MAX, BlockEntry, COUNTERS as COUNTER_COUNT, Counter, FLOW_ENTRIES_MAX,
    FlowKey, FlowStat, PROTECTED_ENTRIES_MAX, RECORDS_BYTES, Record,
    parse::{Ip, Transport},
};

use crate::frame::Frame;

#[map]
static BLOCK: HashMap<Address, BlockEntry> = HashMap::with_max_entries(BLOCK_ENTRIES_MAX, 0);
#[map]
static PROTECTED: HashMap<Address, u8> = HashMap::with_max_entries(PROTECTED_ENTRIES_MAX, 0);
#[map]
static FLOWS: LruPerCpuHashMap<FlowKey, FlowStat> =
    LruPerCpuHashMap::with_max_entries(FLOW_ENTRIES_MAX, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// What happens to a packet because of its source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Pass,
    /// Dropped.
    Drop,
    /// Dropped, the first one of this entry.
    FirstDrop,
}

/// Adds one.
#[inline(always)]
pub fn count(counter: Counter) {
    count_by(counter, 1);
}

/// Adds `by`.
#[inline(always)]
pub fn count_by(counter: Counter, by: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own and programs are not preempted by each other on it.
        unsafe { *slot += by };
    }
}

/// Whether packets of `source` are dropped.
#[inline(always)]
pub fn verdict(source: &Address, now_ns: u64, bytes: u32) -> Verdict {
    let Some(entry) = BLOCK.get_ptr_mut(source) else {
        return Verdict::Pass;
    };
    // Protection stands above the block. It is looked up second, because no entry in BLOCK is by
    // far the most common case and the outcome is the same.
    if PROTECTED.get_ptr(source).is_some() {
        count(Counter::Protected);
        return Verdict::Pass;
    }
    // SAFETY: map values live as long as this run (RCU); expires_ns is only written whole.
    let expires_ns = unsafe { (&raw const (*entry).expires_ns).read_volatile() };
    if expires_ns != 0 && now_ns >= expires_ns {
        count(Counter::BlockExpired);
        return Verdict::Pass;
    }
    // SAFETY: aligned fields of a live map value, shared between CPUs, hence atomic. Trap: without
    // target-cpu v3 the old value can't be had and the object does not build.
    let before = unsafe {
        add(&raw mut (*entry).bytes, u64::from(bytes));
        add(&raw mut (*entry).packets, 1)
    };
    if before == 0 { Verdict::FirstDrop } else { Verdict::Drop }
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

/// Counts a packet in its flow; `true` when it is the first one of it.
#[inline(always)]
pub fn observe_flow<F: Frame>(frame: &F, ip: &Ip, transport: &Transport, now_ns: u64) -> bool {
    let key = FlowKey {
        source: ip.source,
        destination: ip.destination,
        source_port: transport.source_port,
        destination_port: transport.destination_port,
        protocol: ip.protocol,
        reserved: [0; 3],
    };
    let packets = u64::from(frame.segments());
    let bytes = u64::from(frame.bytes());
    if let Some(stat) = FLOWS.get_ptr_mut(&key) {
        // SAFETY: this CPU's own copy of a live map value.
        let stat = unsafe { &mut *stat };
        if stat.packets == 0 {
            // Another CPU made the entry; ours starts here.
            stat.first_ns = now_ns;
        }
        stat.packets += packets;
        stat.bytes += bytes;
        stat.last_ns = now_ns;
        stat.interface = frame.interface();
        stat.tcp_flags |= transport.tcp_flags;
        return false;
    }
    let stat = FlowStat {
        packets,
        bytes,
        first_ns: now_ns,
        last_ns: now_ns,
        interface: frame.interface(),
        tcp_flags: transport.tcp_flags,
        reserved: [0; 3],
    };
    if FLOWS.insert(&key, &stat, u64::from(BPF_NOEXIST)).is_err() {
        count(Counter::FlowsLost);
    }
    true
}

/// Tells user space, or counts that it could not be told.
#[inline(always)]
pub fn send(record: &Record) {
    if RECORDS.output::<Record>(record, 0).is_err() {
        count(Counter::RecordsLost);
    }
}
