//! Records, map keys and the packet parser shared by the eBPF programs and user space.
//!
//! Everything is `repr(C)`, without padding, in native byte order unless a field says otherwise.
//! Nothing here may allocate, panic or depend on anything: the same source is compiled for
//! `bpfel-unknown-none` and for the box. Addresses are always 16 bytes: IPv4 as `::ffff:a.b.c.d`.

#![cfg_attr(not(feature = "user"), no_std)]

pub mod parse;

/// Where the maps below are pinned, by their names.
pub const PIN_DIR: &str = "/sys/fs/bpf/hookprobe";

/// Hash map [`Address`] -> [`BlockEntry`]: sources whose packets are dropped.
pub const MAP_BLOCK: &str = "BLOCK";
/// Hash map [`Address`] -> `u8`: sources that are never dropped, checked before [`MAP_BLOCK`].
pub const MAP_PROTECTED: &str = "PROTECTED";
/// LRU hash map [`FlowKey`] -> [`FlowStat`], per CPU.
pub const MAP_FLOWS: &str = "FLOWS";
/// Per-CPU array of `u64` indexed by [`Counter`].
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Ring buffer of [`Record`].
pub const MAP_RECORDS: &str = "RECORDS";

/// Entries of [`MAP_BLOCK`].
pub const BLOCK_ENTRIES_MAX: u32 = 16_384;
/// Entries of [`MAP_PROTECTED`].
pub const PROTECTED_ENTRIES_MAX: u32 = 1024;
/// Entries of [`MAP_FLOWS`].
pub const FLOW_ENTRIES_MAX: u32 = 16_384;
/// Bytes of [`MAP_RECORDS`].
pub const RECORDS_BYTES: u32 = 512 * 1024;

/// Program attached to XDP ingress.
pub const PROGRAM_XDP: &str = "hookprobe_ingress";
/// Program attached to TC egress: what the box itself sends.
pub const PROGRAM_EGRESS: &str = "hookprobe_egress";

/// Sixteen bytes in network order.
pub type Address = [u8; 16];

/// Source that is blocked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockEntry {
    /// End, in nanoseconds of CLOCK_BOOTTIME (`bpf_ktime_get_boot_ns`). 0: never ends by itself.
    pub expires_ns: u64,
    /// Packets dropped by this entry.
    pub packets: u64,
    /// Bytes dropped by this entry.
    pub bytes: u64,
}

/// Direction of a conversation.
#[repr(C)]
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
    /// Last packet, CLOCK_BOOTTIME nanoseconds.
    pub last_ns: u64,
    /// Interface index.
    pub interface: u32,
    /// TCP flags seen, ORed.
    pub tcp_flags: u8,
    /// 0.
    pub reserved: [u8; 3],
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

/// Index into [`MAP_COUNTERS`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Packets that came in.
    Packets = 0,
    /// Bytes that came in.
    Bytes = 1,
    /// Packets that the box sent.
    EgressPackets = 2,
    /// Bytes that the box sent.
    EgressBytes = 3,
    /// IPv4 packets in.
    Ipv4 = 4,
    /// IPv6 packets in.
    Ipv6 = 5,
    /// Packets in that are neither.
    OtherEther = 6,
    /// Headers cut short or lying: passed, not parsed.
    Malformed = 7,
    /// Fragments other than the first: passed, ports unknown.
    Fragments = 8,
    /// Packets dropped because their source is blocked.
    DroppedBlock = 9,
    /// Packets of a blocked source that passed because it is protected.
    Protected = 10,
    /// Records lost because the ring buffer was full.
    RecordsLost = 11,
    /// Flows not counted because the table refused the entry.
    FlowsLost = 12,
    /// Block entries met after their end: passed.
    BlockExpired = 13,
}

impl Counter {
    /// All of them, in order of index.
    pub const ALL: [(Counter, &'static str); 14] = [
        (Counter::Packets, "packets"),
        (Counter::Bytes, "bytes"),
        (Counter::EgressPackets, "egress_packets"),
        (Counter::EgressBytes, "egress_bytes"),
        (Counter::Ipv4, "ipv4"),
        (Counter::Ipv6, "ipv6"),
        (Counter::OtherEther, "other_ether"),
        (Counter::Malformed, "malformed"),
        (Counter::Fragments, "fragments"),
        (Counter::DroppedBlock, "dropped_block"),
        (Counter::Protected, "protected"),
        (Counter::RecordsLost, "records_lost"),
        (Counter::FlowsLost, "flows_lost"),
        (Counter::BlockExpired, "block_expired"),
    ];
}

/// Number of counters.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

// Sizes are part of the contract: a change here is a change of both sides at once.
const _: () = assert!(core::mem::size_of::<BlockEntry>() == 24);
const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);
const _: () = assert!(core::mem::size_of::<FlowStat>() == 40);
const _: () = assert!(core::mem::size_of::<Record>() == 56);

#[cfg(feature = "user")]
mod user {
    // SAFETY: every type is repr(C), Copy, without padding (sizes asserted above) and valid for
    // every bit pattern.
    unsafe impl aya::Pod for super::BlockEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowStat {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Record {}
}
