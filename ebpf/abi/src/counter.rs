//! What the programs count. One entry per CPU holds all of it, so that a packet looks it up once.

/// All counters of one CPU, by [`Counter`].
pub type CounterValues = [u64; COUNTERS];

/// Index into [`CounterValues`].
#[repr(usize)]
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
    /// Dropped, see [`Reason::Block`].
    DroppedBlock = 9,
    /// Packets of a blocked source that passed because it is protected.
    Protected = 10,
    /// Records lost because the ring buffer was full.
    RecordsLost = 11,
    /// Flows not counted because the table refused the entry.
    FlowsLost = 12,
    /// Rules met after their end: passed.
    BlockExpired = 13,
    /// Dropped, see [`Reason::List`].
    DroppedList = 14,
    /// Dropped, see [`Reason::Prefix`].
    DroppedPrefix = 15,
    /// Dropped, see [`Reason::Lpm`].
    DroppedLpm = 16,
    /// Dropped, see [`Reason::RateSource`].
    DroppedRateSource = 17,
    /// Dropped, see [`Reason::RatePrefix`].
    DroppedRatePrefix = 18,
    /// Not dropped by [`Reason::Block`] because of the dry run.
    DryBlock = 19,
    /// Not dropped by [`Reason::List`] because of the dry run.
    DryList = 20,
    /// Not dropped by [`Reason::Prefix`] because of the dry run.
    DryPrefix = 21,
    /// Not dropped by [`Reason::Lpm`] because of the dry run.
    DryLpm = 22,
    /// Not dropped by [`Reason::RateSource`] because of the dry run.
    DryRateSource = 23,
    /// Not dropped by [`Reason::RatePrefix`] because of the dry run.
    DryRatePrefix = 24,
    /// Packets that a rule with [`crate::rules::ALLOW`] let through.
    Allowed = 25,
    /// Packets of the box that were dropped because of where they go; the reason counts, too.
    EgressDropped = 26,
    /// Samples sent.
    Samples = 27,
    /// Samples lost because the ring buffer was full.
    SamplesLost = 28,
    /// Buckets that the table refused: the packet passed.
    RatesLost = 29,
    /// Programs started on the box.
    HostExec = 30,
    /// Connections that the box began.
    HostConnect = 31,
    /// Watched files opened.
    HostOpen = 32,
    /// Executions refused.
    ExecDenied = 33,
    /// Executions that would have been refused but for the dry run.
    ExecDry = 34,
    /// Events of the host lost because the ring buffer was full.
    HostLost = 35,
}

impl Counter {
    /// All of them, in order of index.
    pub const ALL: [(Counter, &'static str); 36] = [
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
        (Counter::DroppedList, "dropped_list"),
        (Counter::DroppedPrefix, "dropped_prefix"),
        (Counter::DroppedLpm, "dropped_lpm"),
        (Counter::DroppedRateSource, "dropped_rate_source"),
        (Counter::DroppedRatePrefix, "dropped_rate_prefix"),
        (Counter::DryBlock, "dry_block"),
        (Counter::DryList, "dry_list"),
        (Counter::DryPrefix, "dry_prefix"),
        (Counter::DryLpm, "dry_lpm"),
        (Counter::DryRateSource, "dry_rate_source"),
        (Counter::DryRatePrefix, "dry_rate_prefix"),
        (Counter::Allowed, "allowed"),
        (Counter::EgressDropped, "egress_dropped"),
        (Counter::Samples, "samples"),
        (Counter::SamplesLost, "samples_lost"),
        (Counter::RatesLost, "rates_lost"),
        (Counter::HostExec, "host_exec"),
        (Counter::HostConnect, "host_connect"),
        (Counter::HostOpen, "host_open"),
        (Counter::ExecDenied, "exec_denied"),
        (Counter::ExecDry, "exec_dry"),
        (Counter::HostLost, "host_lost"),
    ];

    /// What was lost because nobody fetched it in time or a table was full.
    pub const LOSSES: [Counter; 5] = [
        Counter::RecordsLost,
        Counter::SamplesLost,
        Counter::HostLost,
        Counter::FlowsLost,
        Counter::RatesLost,
    ];
}

/// Number of counters.
pub const COUNTERS: usize = Counter::ALL.len();

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its source stands in [`crate::MAP_BLOCK`].
    Block,
    /// Its source stands in the list.
    List,
    /// A prefix of the list covers its source; found by one hash per length.
    Prefix,
    /// A prefix of the list covers its source; found by the trie for rare lengths.
    Lpm,
    /// Its source sends too much.
    RateSource,
    /// All sources of its /24 or /64 together send too much.
    RatePrefix,
}

/// All reasons.
pub const REASONS: [Reason; 6] = [
    Reason::Block,
    Reason::List,
    Reason::Prefix,
    Reason::Lpm,
    Reason::RateSource,
    Reason::RatePrefix,
];

impl Reason {
    /// The counter of packets dropped for it.
    #[inline(always)]
    pub const fn dropped(self) -> Counter {
        match self {
            Self::Block => Counter::DroppedBlock,
            Self::List => Counter::DroppedList,
            Self::Prefix => Counter::DroppedPrefix,
            Self::Lpm => Counter::DroppedLpm,
            Self::RateSource => Counter::DroppedRateSource,
            Self::RatePrefix => Counter::DroppedRatePrefix,
        }
    }

    /// The counter of packets that a dry run let through.
    #[inline(always)]
    pub const fn dry(self) -> Counter {
        match self {
            Self::Block => Counter::DryBlock,
            Self::List => Counter::DryList,
            Self::Prefix => Counter::DryPrefix,
            Self::Lpm => Counter::DryLpm,
            Self::RateSource => Counter::DryRateSource,
            Self::RatePrefix => Counter::DryRatePrefix,
        }
    }
}
