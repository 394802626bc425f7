//! Records, map keys and the packet parser shared by the eBPF programs and user space.
//!
//! Everything is `repr(C)`, without padding, in native byte order unless a field says otherwise.
//! Nothing here may allocate, panic or depend on anything: the same source is compiled for
//! `bpfel-unknown-none` and for the box. Addresses are always 16 bytes: IPv4 as `::ffff:a.b.c.d`.

#![cfg_attr(not(feature = "user"), no_std)]

pub mod bucket;
pub mod config;
mod counter;
pub mod host;
pub mod parse;
pub mod rules;
pub mod sample;

pub use counter::{Counter, CounterValues, Reason, COUNTERS, REASONS};

/// Where the maps below are pinned, by their names.
pub const PIN_DIR: &str = "/sys/fs/bpf/hookprobe";

/// Hash map [`Address`] -> [`BlockEntry`]: sources whose packets are dropped, one by one.
pub const MAP_BLOCK: &str = "BLOCK";
/// Hash map [`Address`] -> `u8`: never dropped, whatever any rule says.
pub const MAP_PROTECTED: &str = "PROTECTED";
/// LRU hash map [`FlowKey4`] -> [`FlowStat`], per CPU.
pub const MAP_FLOWS4: &str = "FLOWS4";
/// LRU hash map [`FlowKey`] -> [`FlowStat`], per CPU; IPv6.
pub const MAP_FLOWS6: &str = "FLOWS6";
/// Per-CPU array with one entry: [`CounterValues`].
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Ring buffer of [`Record`].
pub const MAP_RECORDS: &str = "RECORDS";
/// Ring buffer of [`sample::Header`] and bytes.
pub const MAP_SAMPLES: &str = "SAMPLES";
/// Ring buffer of [`host::Event`].
pub const MAP_HOST: &str = "HOST";
/// Array with one entry: [`config::Config`].
pub const MAP_CONFIG: &str = "CONFIG";
/// Array with one entry: [`config::Guard`].
pub const MAP_GUARD: &str = "GUARD";
/// Array of maps by slot; each a hash map [`Address`] -> [`BlockEntry`].
pub const MAP_LIST_EXACT: &str = "LIST_EXACT";
/// Array of maps by slot; each a hash map [`rules::PrefixKey`] -> [`BlockEntry`].
pub const MAP_LIST_PREFIX: &str = "LIST_PREFIX";
/// Array of maps by slot; each a small LPM trie [`Address`] -> [`BlockEntry`].
pub const MAP_LIST_LPM: &str = "LIST_LPM";
/// LRU hash map [`Address`] -> `u64` (see [`bucket`]): one bucket per source.
pub const MAP_RATE_SOURCE: &str = "RATE_SOURCE";
/// The same per /24 or /64.
pub const MAP_RATE_PREFIX: &str = "RATE_PREFIX";
/// Hash map `u64` -> `u8`: devices (`dev_t` as the kernel has it) from which may be executed.
pub const MAP_EXEC_DEVICES: &str = "EXEC_DEVICES";
/// Hash map [`host::Inode`] -> `u8`: files whose opening is told.
pub const MAP_WATCHED: &str = "WATCHED";

/// Entries of [`MAP_BLOCK`].
pub const BLOCK_ENTRIES_MAX: u32 = 16_384;
/// Entries of [`MAP_PROTECTED`].
pub const PROTECTED_ENTRIES_MAX: u32 = 1024;
/// Entries of [`MAP_FLOWS4`].
pub const FLOW_ENTRIES_MAX: u32 = 16_384;
/// Entries of [`MAP_FLOWS6`].
pub const FLOW6_ENTRIES_MAX: u32 = 8192;
/// Entries of each of the maps of buckets.
pub const RATE_ENTRIES_MAX: u32 = 16_384;
/// Bytes of [`MAP_RECORDS`].
pub const RECORDS_BYTES: u32 = 512 * 1024;
/// Bytes of [`MAP_SAMPLES`].
pub const SAMPLES_BYTES: u32 = 1024 * 1024;
/// Bytes of [`MAP_HOST`].
pub const HOST_BYTES: u32 = 128 * 1024;

/// Program attached to XDP ingress.
pub const PROGRAM_XDP: &str = "hookprobe_ingress";
/// The same for TC ingress, where XDP can't be had.
pub const PROGRAM_INGRESS_TC: &str = "hookprobe_ingress_tc";
/// Program attached to TC egress: what the box itself sends.
pub const PROGRAM_EGRESS: &str = "hookprobe_egress";

/// Sixteen bytes in network order.
pub type Address = [u8; 16];

/// A rule: what happens to packets of a source. User space writes the first two fields, the
/// programs the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockEntry {
    /// End, in nanoseconds of CLOCK_BOOTTIME (`bpf_ktime_get_boot_ns`). 0: never ends by itself.
    pub expires_ns: u64,
    /// [`rules::DRY_RUN`], [`rules::ALLOW`]; 0 drops.
    pub flags: u64,
    /// Packets dropped by this entry, or that would have been.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// Direction of an IPv4 conversation, in 16 bytes: what is hashed for each packet. Aligned so that
/// addresses are copied as words.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    /// From.
    pub source: [u8; 4],
    /// To.
    pub destination: [u8; 4],
    /// As in [`FlowKey`].
    pub source_port: u16,
    /// As in [`FlowKey`].
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 0.
    pub reserved: [u8; 3],
}

impl From<FlowKey4> for FlowKey {
    fn from(key: FlowKey4) -> Self {
        Self {
            source: parse::mapped(key.source),
            destination: parse::mapped(key.destination),
            source_port: key.source_port,
            destination_port: key.destination_port,
            protocol: key.protocol,
            reserved: [0; 3],
        }
    }
}

/// Direction of a conversation.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// From.
    pub source: Address,
    /// To.
    pub destination: Address,
    /// From port in host order, ICMP type, or 0.
    pub source_port: u16,
    /// To port in host order, ICMP code, or 0.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 0.
    pub reserved: [u8; 3],
}

/// What is known of a direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStat {
    /// Packets.
    pub packets: u64,
    /// Bytes with headers.
    pub bytes: u64,
    /// First packet, CLOCK_BOOTTIME nanoseconds.
    pub first_ns: u64,
    /// Last packet, CLOCK_MONOTONIC_COARSE nanoseconds: the exact time costs more than the rest of
    /// the entry's update.
    pub last_coarse_ns: u64,
    /// [`config::Config::generation`] under which the lists had nothing about the source.
    pub generation: u64,
    /// Interface index.
    pub interface: u32,
    /// TCP flags seen, ORed.
    pub tcp_flags: u8,
    /// Packets with payload that were looked at for [`sample`]s, at most
    /// [`sample::PACKETS_PER_FLOW`].
    pub looked_at: u8,
    /// What the first of them was, see [`sample::kind`].
    pub sampled_as: u8,
    /// 0.
    pub reserved: u8,
}

/// Why a record was sent.
pub mod kind {
    /// TCP SYN without ACK: somebody tries to open a connection.
    pub const SYN: u8 = 1;
    /// TCP SYN and ACK: it was accepted. Source is who answers.
    pub const SYN_ACK: u8 = 2;
    /// TCP RST in answer: it was refused. Source is who answers.
    pub const RST: u8 = 3;
    /// First packet of a UDP or other flow.
    pub const FLOW: u8 = 4;
    /// First packet that a block entry dropped.
    pub const FIRST_DROP: u8 = 5;
    /// ICMP or ICMPv6 destination unreachable; source is who says so, the addresses are those of the
    /// packet that it is about, reversed (source: who could not be reached).
    pub const UNREACHABLE: u8 = 6;
}

/// Seen on the way out (TC egress) rather than in (XDP).
pub const FLAG_EGRESS: u8 = 1;

/// What the programs tell user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// From.
    pub source: Address,
    /// To.
    pub destination: Address,
    /// From port in host order, or 0.
    pub source_port: u16,
    /// To port in host order, or 0.
    pub destination_port: u16,
    /// Bytes of the packet.
    pub bytes: u32,
    /// Interface index.
    pub interface: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// [`FLAG_EGRESS`].
    pub flags: u8,
    /// TCP flags of the packet.
    pub tcp_flags: u8,
}

// Sizes are part of the contract: a change here is a change of both sides at once.
const _: () = assert!(core::mem::size_of::<BlockEntry>() == 32);
const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);
const _: () = assert!(core::mem::size_of::<FlowKey4>() == 16);
const _: () = assert!(core::mem::size_of::<FlowStat>() == 48);
const _: () = assert!(core::mem::size_of::<Record>() == 56);

#[cfg(feature = "user")]
mod user {
    // SAFETY: every type is repr(C), Copy, without padding (sizes asserted above) and valid for
    // every bit pattern.
    unsafe impl aya::Pod for super::BlockEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey4 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowStat {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Record {}
    // SAFETY: as above, sizes asserted where it is defined.
    unsafe impl aya::Pod for super::config::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::config::Guard {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::rules::PrefixKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::host::Inode {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::host::Offsets {}
}
