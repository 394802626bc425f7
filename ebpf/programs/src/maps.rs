//! The maps, and what is counted in them.

use aya_ebpf::{
    btf_maps::{ArrayOfMaps, HashMap as InnerHash, LpmTrie as InnerTrie, lpm_trie::Key},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf},
};
use hookprobe_abi::{
    Address, BLOCK_ENTRIES_MAX, BlockEntry, Counter, CounterValues, FLOW_ENTRIES_MAX,
    FLOW6_ENTRIES_MAX, FlowKey, FlowKey4, FlowStat, HOST_BYTES, PROTECTED_ENTRIES_MAX,
    RATE_ENTRIES_MAX, RECORDS_BYTES, Record, SAMPLES_BYTES,
    config::{Config, Guard, SLOTS},
    host::{EXEC_DEVICES_MAX, Inode, WATCHED_MAX},
    parse::{Ip, Transport, Words},
    rules::{LIST_EXACT_MAX, LIST_LPM_MAX, LIST_PREFIX_MAX, PrefixKey},
};

/// BPF_F_NO_PREALLOC: a list takes the memory of its entries, not of its limit.
const NO_PREALLOC: usize = 1;

#[map]
pub static BLOCK: HashMap<Address, BlockEntry> = HashMap::with_max_entries(BLOCK_ENTRIES_MAX, 0);
#[map]
pub static PROTECTED: HashMap<Address, u8> = HashMap::with_max_entries(PROTECTED_ENTRIES_MAX, 0);
#[map]
pub static FLOWS4: LruPerCpuHashMap<FlowKey4, FlowStat> =
    LruPerCpuHashMap::with_max_entries(FLOW_ENTRIES_MAX, 0);
#[map]
pub static FLOWS6: LruPerCpuHashMap<FlowKey, FlowStat> =
    LruPerCpuHashMap::with_max_entries(FLOW6_ENTRIES_MAX, 0);
#[map]
static COUNTERS: PerCpuArray<CounterValues> = PerCpuArray::with_max_entries(1, 0);
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_BYTES, 0);
#[map]
pub static HOST: RingBuf = RingBuf::with_byte_size(HOST_BYTES, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static GUARD: Array<Guard> = Array::with_max_entries(1, 0);
#[map]
pub static RATE_SOURCE: LruHashMap<Address, u64> =
    LruHashMap::with_max_entries(RATE_ENTRIES_MAX, 0);
#[map]
pub static RATE_PREFIX: LruHashMap<Address, u64> =
    LruHashMap::with_max_entries(RATE_ENTRIES_MAX, 0);
#[map]
pub static EXEC_DEVICES: HashMap<u64, u8> = HashMap::with_max_entries(EXEC_DEVICES_MAX, 0);
#[map]
pub static WATCHED: HashMap<Inode, u8> = HashMap::with_max_entries(WATCHED_MAX, 0);

type Exact = InnerHash<Address, BlockEntry, { LIST_EXACT_MAX as usize }, NO_PREALLOC>;
type Prefix = InnerHash<PrefixKey, BlockEntry, { LIST_PREFIX_MAX as usize }, NO_PREALLOC>;
type Lpm = InnerTrie<Address, BlockEntry, { LIST_LPM_MAX as usize }, NO_PREALLOC>;

#[btf_map]
static LIST_EXACT: ArrayOfMaps<Exact, SLOTS> = ArrayOfMaps::new();
#[btf_map]
static LIST_PREFIX: ArrayOfMaps<Prefix, SLOTS> = ArrayOfMaps::new();
#[btf_map]
static LIST_LPM: ArrayOfMaps<Lpm, SLOTS> = ArrayOfMaps::new();

/// A packet as it was parsed. It is kept in a map rather than on the stack, because of the verifier:
/// it follows every number on the stack along each way through the parser, and would walk all that
/// comes after once for each of the ways, a million instructions and more. What it finds in a map it
/// takes for any number, and one walk is enough.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Parsed {
    pub ip: Ip<Words>,
    pub transport: Transport,
    /// The transport header is cut short or lies.
    pub is_cut: bool,
}

#[map]
static PARSED: PerCpuArray<Parsed> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's room for a packet; `None` never happens.
#[inline(always)]
pub fn room() -> Option<*mut Parsed> {
    PARSED.get_ptr_mut(0)
}

/// This CPU's counters.
#[derive(Clone, Copy)]
pub struct Counters(*mut u64);

impl Counters {
    /// `None` never happens: the map has its one entry.
    #[inline(always)]
    pub fn get() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(|values| Self(values.cast()))
    }

    /// Adds one.
    #[inline(always)]
    pub fn count(self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `by`.
    #[inline(always)]
    pub fn add(self, counter: Counter, by: u64) {
        // SAFETY: a counter is an index below COUNTERS, the length of the entry; it is this CPU's
        // own and programs for packets are not preempted by each other on it.
        unsafe { *self.0.add(counter as usize) += by };
    }
}

/// What user space wants; `None` never happens.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// What user space wants of the guard; `None` never happens.
#[inline(always)]
pub fn guard() -> Option<&'static Guard> {
    GUARD.get(0)
}

/// The rule for exactly `address` in a slot.
#[inline(always)]
pub fn exact_rule(slot: u32, address: &Address) -> Option<*mut BlockEntry> {
    LIST_EXACT.get_value_ptr_mut(slot, address)
}

/// The rule for a prefix in a slot.
#[inline(always)]
pub fn prefix_rule(slot: u32, key: &PrefixKey) -> Option<*mut BlockEntry> {
    LIST_PREFIX.get_value_ptr_mut(slot, key)
}

/// The rule of the longest prefix in a slot's trie.
#[inline(always)]
pub fn lpm_rule(slot: u32, address: Words) -> Option<*mut BlockEntry> {
    let [a, b, c, d] = address.0;
    let key: [u32; 5] = [128, a, b, c, d];
    const _: () = assert!(size_of::<[u32; 5]>() == size_of::<Key<Address>>());
    // SAFETY: of the same size, less strictly aligned, and valid for every bit pattern.
    let key: &Key<Address> = unsafe { &*(&raw const key).cast() };
    LIST_LPM.get_value_ptr_mut(slot, key)
}

/// Tells user space, or counts that it could not be told.
#[inline(always)]
pub fn send(counters: Counters, record: &Record) {
    if RECORDS.output::<Record>(record, 0).is_err() {
        counters.count(Counter::RecordsLost);
    }
}
