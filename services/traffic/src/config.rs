//! Every setting and limit of the engine in one place. The defaults are those that Suricata ships,
//! where it has them; memory limits are ours.

use std::net::IpAddr;

use crate::app;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Settings of an [`crate::engine::Engine`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Secret of the hash tables: random for live use, fixed for reproducible runs.
    pub seed: u64,
    /// What is decoded.
    pub decode: Decode,
    /// Fragments.
    pub defrag: Defrag,
    /// Flows.
    pub flow: Flow,
    /// TCP.
    pub stream: Stream,
    /// Application protocols.
    pub app: app::Config,
    /// Which operating system (and so which overlap policy) has an address; the most specific
    /// network counts, `Policy::Bsd` where none fits, as in Suricata.
    pub host_os: Vec<(Network, Policy)>,
    /// Bytes that streams and application layers of all flows hold together; beyond, the flows that
    /// have been quiet longest lose theirs. Fragments and the flows themselves are apart.
    pub held_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            decode: Decode::default(),
            defrag: Defrag::default(),
            flow: Flow::default(),
            stream: Stream::default(),
            app: app::Config::default(),
            host_os: Vec::new(),
            held_bytes_max: 96 << 20,
        }
    }
}

/// Settings of the decoder.
#[derive(Clone, Debug)]
pub struct Decode {
    /// UDP ports of VXLAN; empty turns it off.
    pub vxlan_ports: Vec<u16>,
    /// The last reserved byte of VXLAN must be 0, as Suricata has it; RFC 7348 says that it is to be
    /// ignored.
    pub is_vxlan_strict: bool,
    /// UDP ports of Geneve; empty turns it off.
    pub geneve_ports: Vec<u16>,
    /// IPv6 in UDP.
    pub is_teredo_on: bool,
    /// UDP ports of Teredo; empty means any.
    pub teredo_ports: Vec<u16>,
    /// UDP ports of GTP-U; empty turns it off. Suricata does not decode it, Zeek does.
    pub gtp_ports: Vec<u16>,
    /// UDP port of GRE (RFC 8086); 0 turns it off. Suricata does not decode it, Zeek does.
    pub gre_port: u16,
    /// UDP port of AYIYA; 0 turns it off. Suricata does not decode it, Zeek does.
    pub ayiya_port: u16,
    /// IP behind LLC and SNAP (IEEE 802.2). Suricata does not decode it, Zeek does.
    pub is_llc_on: bool,
    /// Tunnels in tunnels that are followed.
    pub tunnel_depth_max: u8,
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            vxlan_ports: vec![4789],
            is_vxlan_strict: true,
            geneve_ports: vec![6081],
            is_teredo_on: true,
            teredo_ports: vec![3544],
            gtp_ports: vec![2152, 2123],
            gre_port: 4754,
            ayiya_port: 5072,
            is_llc_on: true,
            tunnel_depth_max: 8,
        }
    }
}

/// Settings of the defragmenter.
#[derive(Clone, Debug)]
pub struct Defrag {
    /// Packets that are put together at the same time; the oldest goes first.
    pub packets_max: u32,
    /// Bytes of fragments that are held, of all packets together.
    pub bytes_max: usize,
    /// Fragments of one packet.
    pub fragments_max: u16,
    /// How long the rest is waited for: 60 s, as Suricata does and RFC 8200 section 4.5 says.
    pub timeout_ns: u64,
    /// Number of the frame whose fragment finds no memory: a fault made on purpose.
    pub no_memory_at: Option<u64>,
}

impl Default for Defrag {
    fn default() -> Self {
        Self {
            packets_max: 4096,
            bytes_max: 8 << 20,
            fragments_max: 1024,
            timeout_ns: 60 * SECOND_NS,
            no_memory_at: None,
        }
    }
}

/// After how many nanoseconds without a packet a flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Packets in one direction only.
    pub new_ns: u64,
    /// Packets in both directions.
    pub established_ns: u64,
    /// TCP after its end.
    pub closed_ns: u64,
}

/// Settings of the flow table.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Flows at most; the one that has been idle longest makes room.
    pub flows_max: u32,
    /// TCP.
    pub tcp: Timeouts,
    /// UDP.
    pub udp: Timeouts,
    /// ICMP.
    pub icmp: Timeouts,
    /// Everything else.
    pub other: Timeouts,
    /// VLAN identifiers are part of a flow's key.
    pub is_vlan_used: bool,
    /// Connections in Zeek's sense are followed, too: who asks for none is not told of any, and no
    /// flow lingers for them.
    pub has_connections: bool,
    /// Number of the frame that finds no memory for a flow: a fault made on purpose.
    pub no_memory_at: Option<u64>,
}

impl Default for Flow {
    fn default() -> Self {
        let timeouts = |new, established, closed| Timeouts {
            new_ns: new * SECOND_NS,
            established_ns: established * SECOND_NS,
            closed_ns: closed * SECOND_NS,
        };
        Self {
            flows_max: 262_144,
            tcp: timeouts(60, 600, 60),
            udp: timeouts(30, 300, 0),
            icmp: timeouts(30, 300, 0),
            other: timeouts(30, 300, 0),
            is_vlan_used: true,
            has_connections: true,
            no_memory_at: None,
        }
    }
}

/// Settings of the TCP stream engine; names follow `stream:` in suricata.yaml.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of suricata.yaml")]
pub struct Stream {
    /// `midstream`: flows without a handshake are followed.
    pub is_midstream: bool,
    /// `async-oneside`: flows of which one side is never seen are followed.
    pub is_async_oneside: bool,
    /// `checksum-validation`: segments with a wrong checksum are not part of the stream.
    pub is_checksum_validated: bool,
    /// `inline`: bytes are inspected when they come, not when they are acknowledged.
    pub is_inline: bool,
    /// `reassembly.check-overlap-different-data`: acknowledged bytes stay for a window, so that a late
    /// segment with other bytes is noticed. Rules that ask for that event switch it on.
    pub is_overlap_checked: bool,
    /// `drop-invalid`: inline, what does not fit the session is dropped.
    pub is_invalid_dropped: bool,
    /// `reassembly.urgent.policy`.
    pub urgent: Urgent,
    /// `reassembly.depth`: bytes of each direction; 0 is no limit.
    pub depth_bytes: u32,
    /// `reassembly.memcap`: bytes of all streams that are held.
    pub bytes_max: usize,
    /// Bytes of one direction that are held: beyond lie only bytes that would be far from the window.
    pub half_bytes_max: u32,
    /// Segments of one direction whose borders are known; more are dropped.
    pub segments_max: u32,
    /// `reassembly.toserver-chunk-size`: raw inspection to the server waits for so many bytes.
    pub raw_toserver_bytes_min: u32,
    /// `reassembly.toclient-chunk-size`.
    pub raw_toclient_bytes_min: u32,
    /// `max-synack-queued`: different SYN/ACKs of one handshake that are remembered.
    pub synacks_max: u8,
    /// `max-syn-queued`.
    pub syns_max: u8,
    /// Number of the frame whose segments find no memory: a fault made on purpose.
    pub no_memory_at: Option<u64>,
    /// Number of the frame that finds no memory for a session: likewise.
    pub no_session_at: Option<u64>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            is_midstream: false,
            is_async_oneside: false,
            is_checksum_validated: true,
            is_inline: false,
            is_overlap_checked: false,
            is_invalid_dropped: true,
            urgent: Urgent::default(),
            depth_bytes: 1 << 20,
            bytes_max: 64 << 20,
            half_bytes_max: 1 << 20,
            segments_max: 4096,
            raw_toserver_bytes_min: 2560,
            raw_toclient_bytes_min: 2560,
            synacks_max: 5,
            syns_max: 10,
            no_memory_at: None,
            no_session_at: None,
        }
    }
}

/// What becomes of urgent data (RFC 6093): `reassembly.urgent.policy` of suricata.yaml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgent {
    /// The last byte of an urgent segment is no part of the stream.
    #[default]
    OutOfBand,
    /// It is a byte like others.
    Inline,
    /// Urgent segments are dropped where packets can be held back.
    Drop,
    /// The last byte is missing in the stream.
    Gap,
}

/// Who wins where fragments or segments overlap: the behaviour of the system that receives them.
/// Names as in `host-os-policy` of suricata.yaml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// BSD.
    #[default]
    Bsd,
    /// BSD, favouring what came last.
    BsdRight,
    /// Linux before 2.2.
    OldLinux,
    /// Linux.
    Linux,
    /// Solaris before 2.6.
    OldSolaris,
    /// Solaris.
    Solaris,
    /// HP-UX 10.20.
    HpUx10,
    /// HP-UX 11.
    HpUx11,
    /// IRIX.
    Irix,
    /// Mac OS.
    MacOs,
    /// Windows before Vista.
    Windows,
    /// Windows Vista and later.
    Vista,
    /// Windows Server 2003.
    Windows2k3,
    /// What came first.
    First,
    /// What came last.
    Last,
}

impl Policy {
    /// By its name in suricata.yaml.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bsd" => Self::Bsd,
            "bsd-right" => Self::BsdRight,
            "old-linux" => Self::OldLinux,
            "linux" => Self::Linux,
            "old-solaris" => Self::OldSolaris,
            "solaris" => Self::Solaris,
            "hpux10" => Self::HpUx10,
            "hpux11" => Self::HpUx11,
            "irix" => Self::Irix,
            "macos" => Self::MacOs,
            "windows" => Self::Windows,
            "vista" => Self::Vista,
            "windows2k3" => Self::Windows2k3,
            "first" => Self::First,
            "last" => Self::Last,
            _ => return None,
        })
    }
}

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Bits behind the prefix do not count.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix_bits: u8,
}

impl Network {
    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other, bits) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()) << 96, u128::from(other.to_bits()) << 96, 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let ignored = 128 - u32::from(self.prefix_bits.min(bits));
        (own ^ other).checked_shr(ignored).unwrap_or(0) == 0
    }
}

impl Config {
    /// The overlap policy of a receiver.
    #[must_use]
    pub fn policy_of(&self, address: IpAddr) -> Policy {
        let fitting = self.host_os.iter().filter(|(network, _)| network.contains(address));
        fitting.max_by_key(|(network, _)| network.prefix_bits).map_or(Policy::Bsd, |found| found.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Network, Policy};

    #[test]
    fn the_most_specific_network_names_the_policy() {
        let network =
            |text: &str, prefix_bits| Network { address: text.parse().unwrap(), prefix_bits };
        let config = Config {
            host_os: vec![
                (network("0.0.0.0", 0), Policy::Windows),
                (network("10.1.0.0", 16), Policy::Linux),
                (network("10.1.2.3", 32), Policy::Last),
                (network("2001:db8::", 32), Policy::Vista),
            ],
            ..Config::default()
        };
        let policy = |text: &str| config.policy_of(text.parse().unwrap());
        assert_eq!(policy("192.0.2.1"), Policy::Windows);
        assert_eq!(policy("10.1.9.9"), Policy::Linux);
        assert_eq!(policy("10.1.2.3"), Policy::Last);
        assert_eq!(policy("2001:db8::1"), Policy::Vista);
        assert_eq!(policy("2001:db9::1"), Policy::Bsd);
    }
}
