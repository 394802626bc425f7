//! A rule after compilation: data only.

use std::{net::IpAddr, sync::Arc};

use hookprobe_traffic::{Direction, app::Proto, event::Event};

use crate::{
    address::{Addresses, Ports},
    buffer::Buffer,
    chain::Op,
    few::Few,
    number::Compare,
    tags::Tag,
    threshold::Limit,
    transform::Transform,
};

/// What a rule wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Tell.
    Alert,
    /// Tell, and drop the packet or the flow.
    Drop,
    /// Drop and answer with a reset or ICMP error: to the source, the destination, both.
    Reject(RejectTarget),
    /// Look no further.
    Pass,
}

/// Who is told of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectTarget {
    /// The sender of the packet.
    Source,
    /// Its receiver.
    Destination,
    /// Both.
    Both,
}

/// Suricata's types of rules: what they look at decides when they run and what an action is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses and ports: once for each direction of a flow.
    IpOnly,
    /// The same with negated addresses: every packet.
    LikeIpOnly,
    /// The protocol found: once it is known.
    ProtocolOnly,
    /// Decoder events.
    EventOnly,
    /// One packet.
    Packet,
    /// Packet and stream.
    PacketStream,
    /// Stream.
    Stream,
    /// Protocol in the header, nothing else.
    AppLayer,
    /// Transactions.
    Transaction,
}

/// Where in the way of a packet a rule runs that does not wait for flow and stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// As soon as the packet is decoded: no flow is known.
    PreFlow,
    /// The flow is known, the session has not seen the segment.
    PreStream,
}

/// Whom an action is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// By the rule's kind.
    #[default]
    Auto,
    /// The packet.
    Packet,
    /// The flow.
    Flow,
}

/// Transports of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of protocols")]
pub(crate) struct Transports {
    pub(crate) is_any: bool,
    pub(crate) is_tcp: bool,
    pub(crate) is_udp: bool,
    pub(crate) is_icmp: bool,
    pub(crate) is_icmp6: bool,
    pub(crate) is_sctp: bool,
    pub(crate) is_arp: bool,
    /// Any frame, broken ones too.
    pub(crate) is_frame: bool,
    /// `ether`: such a rule is about each frame.
    pub(crate) is_ether: bool,
    /// 4 or 6 only.
    pub(crate) version: Option<u8>,
}

/// A protocol as rules name it: `http` stands for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppName {
    Http,
    One(Proto),
    /// Known to nobody here: never matches.
    Failed,
    Unknown,
}

impl AppName {
    pub(crate) fn fits(self, proto: Option<Proto>, is_failed: bool) -> bool {
        match self {
            Self::Http => matches!(proto, Some(Proto::Http1 | Proto::Http2)),
            // What is carried by named pipes is DCE/RPC, too.
            Self::One(Proto::Dcerpc) => matches!(proto, Some(Proto::Dcerpc | Proto::Smb)),
            // DNS in HTTP/2 is both, but not what `http` stands for.
            Self::One(own @ (Proto::Dns | Proto::Http2)) => {
                proto == Some(own) || proto == Some(Proto::Doh2)
            }
            Self::One(own) => proto == Some(own),
            Self::Failed => is_failed,
            Self::Unknown => proto.is_none() && !is_failed,
        }
    }
}

/// The header. Rules that name the same group share it.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) transports: Transports,
    pub(crate) source: Arc<Addresses>,
    pub(crate) source_ports: Arc<Ports>,
    pub(crate) destination: Arc<Addresses>,
    pub(crate) destination_ports: Arc<Ports>,
    pub(crate) is_both_ways: bool,
    /// `any any -> any any`: nothing to look at, as with the half of all rules.
    pub(crate) is_any: bool,
}

impl Header {
    /// Both, with ports: the two ways of `<>` must not be mixed.
    pub(crate) fn fits(
        &self,
        source: IpAddr,
        destination: IpAddr,
        ports: Option<(u16, u16)>,
    ) -> bool {
        let one_way = |source, destination, ports: Option<(u16, u16)>| {
            let ports_fit = match ports {
                Some((from, to)) => {
                    self.source_ports.contains(from) && self.destination_ports.contains(to)
                }
                None => self.source_ports.is_any() && self.destination_ports.is_any(),
            };
            ports_fit && self.source.contains(source) && self.destination.contains(destination)
        };
        one_way(source, destination, ports)
            || (self.is_both_ways
                && one_way(destination, source, ports.map(|(from, to)| (to, from))))
    }
}

/// Which side of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    To(Direction),
    Either,
    Both,
}

/// A bit's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    Flow,
    Source,
    Destination,
    Pair,
    /// The transaction (`xbits` with `tx`).
    Tx,
}

/// Bits: all or any of `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) owner: Owner,
    pub(crate) bits: Vec<u32>,
    pub(crate) expire_s: u64,
    /// By `xbits`: who writes them comes after who reads them.
    pub(crate) is_written_last: bool,
}

/// `flow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent words of the keyword")]
pub(crate) struct FlowTest {
    pub(crate) direction: Option<Direction>,
    pub(crate) is_established: Option<bool>,
    pub(crate) is_stateless: bool,
    pub(crate) only_stream: bool,
    pub(crate) no_stream: bool,
    pub(crate) only_fragment: bool,
    pub(crate) no_fragment: bool,
}

impl FlowTest {
    /// It says which way and nothing else: Suricata sorts such rules by direction and tests no flow.
    pub(crate) const fn is_way_only(self) -> bool {
        self.is_established.is_none()
            && !self.is_stateless
            && !self.only_fragment
            && !self.no_fragment
    }
}

/// How flags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagMode {
    Exactly,
    AllOf,
    AnyOf,
    NoneOf,
}

/// Something about a packet or its flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Flow(FlowTest),
    Size(Compare),
    TcpFlags {
        mode: FlagMode,
        flags: u8,
        ignored: u8,
        is_none: bool,
    },
    Seq(u32),
    Ack(u32),
    Window {
        value: u16,
        is_negated: bool,
    },
    Ttl(Compare),
    Tos {
        value: u8,
        is_negated: bool,
    },
    IpId(u16),
    IpOption(u8),
    FragmentBits {
        mode: FlagMode,
        bits: u8,
    },
    FragmentOffset(Compare),
    IcmpType(Compare),
    IcmpCode(Compare),
    IcmpId(u16),
    IcmpSeq(u16),
    Icmp6Mtu(Compare),
    IpProto(Compare),
    Mss(Compare),
    WindowScale(Compare),
    SameIp,
    StreamSize {
        side: Side,
        compare: Compare,
    },
    FlowPackets(Side, Compare),
    FlowBytes(Side, Compare),
    FlowAge(Compare),
    AppProto {
        name: AppName,
        is_negated: bool,
        at: AppAt,
    },
    Event(Event),
    Bits {
        bits: Bits,
        is_set: bool,
    },
    FlowInt {
        name: u32,
        test: IntTest,
    },
    FlowVar {
        name: String,
        value: Vec<u8>,
    },
    /// A checksum that is right, or wrong.
    Checksum {
        layer: Layer,
        is_valid: bool,
    },
    VlanId {
        layer: VlanLayer,
        compare: Compare,
    },
    VlanLayers(Compare),
    /// `l3_proto`: version 4 or 6.
    IpVersion(u8),
    /// Holds for every packet (`tcp:all`).
    Always,
    /// Holds for none (`flow.elephant` where rates are not tracked).
    Never,
}

impl Test {
    /// How soon it is asked: what seldom holds first, what costs most last.
    pub(crate) const fn weight(&self) -> u8 {
        match self {
            Self::Event(_) => 0,
            Self::Seq(_)
            | Self::Ack(_)
            | Self::IpId(_)
            | Self::IpOption(_)
            | Self::IcmpId(_)
            | Self::IcmpSeq(_)
            | Self::Icmp6Mtu(_)
            | Self::SameIp
            | Self::IpVersion(_)
            | Self::Always
            | Self::Never
            | Self::VlanId { .. }
            | Self::VlanLayers(_) => 1,
            Self::TcpFlags { .. }
            | Self::Window { .. }
            | Self::Ttl(_)
            | Self::Tos { .. }
            | Self::FragmentBits { .. }
            | Self::FragmentOffset(_)
            | Self::IcmpType(_)
            | Self::IcmpCode(_)
            | Self::IpProto(_)
            | Self::Mss(_)
            | Self::WindowScale(_) => 2,
            Self::Size(_) => 3,
            Self::Flow(_) => 4,
            Self::Bits { .. } | Self::FlowInt { .. } | Self::FlowVar { .. } => 5,
            Self::StreamSize { .. }
            | Self::FlowPackets(..)
            | Self::FlowBytes(..)
            | Self::FlowAge(_)
            | Self::AppProto { .. } => 6,
            Self::Checksum { .. } => 7,
        }
    }

    /// Whether rules that match change what it says of the same packet.
    pub(crate) const fn is_of_state(&self) -> bool {
        matches!(self, Self::Bits { .. } | Self::FlowInt { .. } | Self::FlowVar { .. })
    }
}

/// Which tags of VLANs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VlanLayer {
    /// From the outermost.
    Number(usize),
    /// From the innermost: 0 is that.
    FromInner(usize),
    Any,
    All,
}

/// A header with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Ip4,
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    Icmp4,
    Icmp6,
}

/// Which side's protocol is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AppAt {
    #[default]
    Direction,
    Final,
    Either,
    ToServer,
    ToClient,
    Original,
}

/// A number of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntTest {
    Compare(IntCompare, IntValue),
    IsSet,
    IsNotSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntCompare {
    Less,
    LessEqual,
    Equal,
    NotEqual,
    GreaterEqual,
    Greater,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntValue {
    Number(u32),
    Variable(u32),
}

/// Something about a transaction that is no buffer.
#[derive(Clone, Debug)]
pub(crate) enum TxTest {
    DnsOpcode(Compare),
    DnsRcode(Compare),
    DnsRrtype(Compare),
    /// Versions: any of these, or none of those.
    TlsVersion {
        versions: Vec<u16>,
        is_negated: bool,
    },
    TlsChain(Compare),
    Event {
        name: String,
    },
    FileSize(Compare),
    /// There is a file (`filestore`).
    HasFile,
    /// What the server's certificate says (`tls.subject`, `tls.issuerdn`).
    CertText {
        is_issuer: bool,
        text: Vec<u8>,
        is_negated: bool,
    },
    CertTime(CertTime),
    /// The last message that says how far the handshake is (`ssl_state`): any of these, or not one
    /// of those, as bits of [`hookprobe_traffic::app::tls::Stage`].
    TlsStage {
        stages: u8,
        negated: u8,
    },
    /// The transaction is as far as its place says (`http1:request_line`).
    Reached,
    /// `app-layer-state`.
    Progress(Compare),
    /// Frames of HTTP/2.
    Frame(FrameTest),
}

/// A test of the frames of a transaction of HTTP/2: one of them has to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameTest {
    Kind(u8),
    Error(u32),
    Priority(Compare),
    Window(Compare),
    /// Number of the setting.
    Setting(u16, Compare),
}

/// A test of the validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertTime {
    Expired,
    Valid,
    /// Seconds since 1970, both ends in.
    NotBefore(i64, i64),
    NotAfter(i64, i64),
}

/// What is done after a match.
#[derive(Clone, Debug)]
pub(crate) enum Post {
    Set(Bits),
    Unset(Bits),
    Toggle(Bits),
    IntSet(u32, IntValue),
    IntAdd(u32, IntValue),
    IntSubtract(u32, IntValue),
    /// The flow is looked at no more.
    Bypass,
    /// What follows is told, too; with the alert, not with the match.
    Tag(Tag),
}

/// A buffer with its chain.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) buffer: Buffer,
    pub(crate) transforms: Vec<Transform>,
    /// Equal keys: equal transforms.
    pub(crate) key: String,
    pub(crate) ops: Vec<Op>,
    pub(crate) is_multi: bool,
    /// `absent` stands alone in it, or may also be absent.
    pub(crate) is_absent: bool,
    /// Only in this direction (`file.data:to_client` and such).
    pub(crate) only: Option<Direction>,
}

/// What an engine looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// `Rule::buffers`.
    Buffer(u16),
    /// The payload chain in the stream.
    Stream,
    /// `Rule::tx_tests`.
    Test(u16),
}

/// One step of the inspection of a transaction, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Engine {
    pub(crate) id: u8,
    pub(crate) proto: Option<Proto>,
    pub(crate) direction: Direction,
    pub(crate) progress: u8,
    pub(crate) look: Look,
    /// The prefilter waits for this one.
    pub(crate) is_prefiltered: bool,
}

/// Several for each rule about transactions.
const _: () = assert!(size_of::<Engine>() <= 10);

/// `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `src_ip`.
    Source,
    /// `dest_ip`.
    Destination,
}

/// A rule.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a rule")]
pub struct Rule {
    /// Place in the order of evaluation.
    pub order: u32,
    /// Generator.
    pub gid: u32,
    /// Number.
    pub sid: u32,
    /// Revision.
    pub rev: u32,
    /// `msg`.
    pub message: String,
    /// What it wants.
    pub action: Action,
    /// For whom.
    pub scope: Scope,
    /// Nothing is told (`noalert`, or `pass` without `alert`).
    pub is_silent: bool,
    /// 1 is worst.
    pub priority: u8,
    /// Text of its class; shared by the rules of the class.
    pub category: Arc<str>,
    /// `metadata`.
    pub metadata: Vec<(String, String)>,
    /// `reference`, with the system's address in front.
    pub references: Vec<String>,
    /// `target`.
    pub target: Option<Target>,
    /// When it runs.
    pub kind: Kind,
    /// Line of its file.
    pub line: usize,
    /// Its text, if [`crate::Config::is_text_kept`].
    pub text: Option<Box<str>>,
    pub(crate) header: Header,
    pub(crate) hook: Option<Hook>,
    pub(crate) app: Option<AppName>,
    /// In the order of [`Test::weight`].
    pub(crate) tests: Vec<Test>,
    pub(crate) payload: Vec<Op>,
    pub(crate) packet_buffers: Few<Match>,
    pub(crate) buffers: Vec<Match>,
    pub(crate) tx_tests: Few<(TxTest, &'static [crate::buffer::Place])>,
    pub(crate) engines: Vec<Engine>,
    pub(crate) base64: Few<Op>,
    pub(crate) post: Few<Post>,
    pub(crate) limit: Option<Box<Limit>>,
    pub(crate) filter: Option<Box<Limit>>,
    pub(crate) needs_packet: bool,
    pub(crate) needs_stream: bool,
    pub(crate) only_stream: bool,
    pub(crate) is_transactional: bool,
}

impl Rule {
    /// It asks for a state of a transaction.
    pub(crate) fn is_about_state(&self) -> bool {
        let mut tests = self.tx_tests.iter();
        tests.any(|(test, _)| matches!(test, TxTest::Reached | TxTest::Progress(_)))
    }

    /// It is about a state of a transaction alone, and this is that state.
    pub(crate) fn is_hook_at(&self, progress: u8) -> bool {
        let mut tests = self.tx_tests.iter();
        tests.any(|(test, places)| {
            matches!(test, TxTest::Reached)
                && self.buffers.is_empty()
                && places.iter().any(|place| place.progress == progress)
        })
    }

    /// Gives back what its lists have too much: a rule changes no more, and there are many.
    pub(crate) fn shrink(&mut self) {
        self.metadata.shrink_to_fit();
        self.references.shrink_to_fit();
        self.tests.shrink_to_fit();
        self.engines.shrink_to_fit();
        self.payload.shrink_to_fit();
        self.buffers.shrink_to_fit();
        shrink_ops(&mut self.payload);
        shrink_ops(&mut self.base64);
        for found in self.packet_buffers.iter_mut().chain(&mut self.buffers) {
            found.transforms.shrink_to_fit();
            found.ops.shrink_to_fit();
            shrink_ops(&mut found.ops);
        }
    }
}

fn shrink_ops(ops: &mut [Op]) {
    for op in ops {
        if let Op::Content(content) = op {
            content.pattern.shrink_to_fit();
        }
    }
}
