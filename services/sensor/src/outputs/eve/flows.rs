//! Events about flows, and what is kept of a flow for all of its events.

use crate::outputs::json::{Object, Value, json};
use hookprobe_traffic::{
    Direction,
    app::TxRef,
    flow::{Flow, Reason},
    packet::{Ether, Mac},
    stream::TcpState,
};

use super::{Details, base, written::Written};
use crate::outputs::time;

/// Hardware addresses of one end of a flow that are written.
const MACS_MAX: usize = 8;

/// Files and anomalies of one flow that are remembered as written; what is beyond is not written.
pub(super) const REMEMBERED_MAX: usize = 256;

/// What is kept of one flow.
#[derive(Debug, Default)]
pub(super) struct FlowEve {
    /// Transactions that were written.
    pub(super) written: Written,
    pub(super) is_handshake_written: bool,
    pub(super) is_alerted: bool,
    /// Transaction, direction, index of files that were written.
    pub(super) files: Vec<(u64, usize, usize)>,
    /// A file waits for a packet of its direction.
    pub(super) is_file_waiting: bool,
    /// Transaction and name of anomalies that were written.
    pub(super) anomalies: Vec<(u64, &'static str)>,
    /// Hardware addresses of client and server.
    pub(super) macs: [Vec<Mac>; 2],
    /// Bits, variables and labels that rules set until its end: `metadata` and `traffic`.
    pub(super) metadata: Option<Object>,
    /// What rules say of the flow at its end, for the `flow` object.
    pub(super) end: Object,
    /// Transactions that began.
    pub(super) txs: u64,
    /// Directions in which a packet was told as dropped.
    pub(super) is_dropped: [bool; 2],
    /// Something of the flow was not written, as too much of it is remembered.
    pub(super) is_full: bool,
}

impl FlowEve {
    /// Forgets files and anomalies of transactions that are gone, where one of the lists is full.
    pub(super) fn make_room(&mut self, flow: &Flow) {
        if self.files.len() < REMEMBERED_MAX && self.anomalies.len() < REMEMBERED_MAX {
            return;
        }
        let mut live: Vec<u64> = flow.app.txs().map(TxRef::id).collect();
        live.sort_unstable();
        self.files.retain(|(id, ..)| live.binary_search(id).is_ok());
        self.anomalies.retain(|(id, _)| live.binary_search(id).is_ok());
    }

    /// A packet of the flow has these addresses.
    pub(super) fn note(&mut self, ether: &Ether, direction: Direction) {
        let pair = match direction {
            Direction::ToServer => [ether.source, ether.destination],
            Direction::ToClient => [ether.destination, ether.source],
        };
        for (list, mac) in self.macs.iter_mut().zip(pair) {
            if list.len() < MACS_MAX && !list.contains(&mac) {
                list.push(mac);
            }
        }
    }
}

/// One direction of a flow.
#[must_use]
pub(super) fn netflow(flow: &Flow, direction: Direction, state: &FlowEve, now_ns: u64) -> Value {
    let mut out = base::flow_header(flow, now_ns.max(flow.last_ns));
    out.insert("event_type".into(), Value::word("netflow"));
    out.remove("ip_v");
    let tuple = base::Tuple::of_flow(flow, direction);
    let ports = tuple.ports.map_or([Value::Null, Value::Null], |(a, b)| [json!(a), json!(b)]);
    let [source, destination] = ports;
    for (name, value) in [
        ("src_ip", json!(base::address(tuple.source))),
        ("dest_ip", json!(base::address(tuple.destination))),
        ("src_port", source),
        ("dest_port", destination),
    ] {
        if value != Value::Null {
            out.insert(name.into(), value);
        }
    }
    // Each direction is of the protocol that its own bytes show.
    base::put_app_proto(&mut out, flow);
    for name in ["app_proto_ts", "app_proto_tc", "app_proto_orig", "app_proto_expected"] {
        out.remove(name);
    }
    for name in ["response_icmp_type", "response_icmp_code"] {
        out.remove(name);
    }
    if let (1 | 58, Direction::ToClient) = (flow.key.protocol, direction) {
        out.insert("icmp_type".into(), json!(flow.key.server_port));
    }
    out.or_insert_with("app_proto", || Value::word("unknown"));
    let own = flow.app.sides.get(direction.index()).copied().flatten();
    if let Some(proto) = own {
        out.insert("app_proto".into(), json!(proto.name()));
    }
    let side = flow.side(direction);
    let mut object = Object::new();
    for (name, value) in [
        ("pkts", json!(side.packets)),
        ("bytes", json!(side.bytes)),
        ("start", json!(time::eve(flow.first_ns))),
        ("end", json!(time::eve(flow.last_ns))),
        ("age", json!(age(flow))),
        ("min_ttl", json!(side.ttl_min)),
        ("max_ttl", json!(side.ttl_max)),
    ] {
        object.insert(name.into(), value);
    }
    if state.txs > 0 {
        object.insert("tx_cnt".into(), json!(state.txs));
    }
    out.insert("netflow".into(), Value::Object(object));
    if let Some(session) = &flow.tcp {
        let flags = session.half(direction).flags_seen;
        let mut tcp = Object::new();
        tcp.insert("tcp_flags".into(), json!(format!("{flags:02x}")));
        put_flags(&mut tcp, flags);
        out.insert("tcp".into(), Value::Object(tcp));
    }
    Value::Object(out)
}

/// A flow that has ended.
#[must_use]
pub(super) fn flow(
    flow: &Flow,
    reason: Reason,
    state: &FlowEve,
    details: &Details,
    now_ns: u64,
) -> Value {
    let mut out = base::flow_header(flow, now_ns.max(flow.last_ns));
    base::put_app_proto(&mut out, flow);
    let changes = flow.app.pending();
    if let Some(expected) = changes {
        // Nothing came of what was to follow.
        let before = out.get_mut("app_proto").map(|known| std::mem::replace(known, Value::Null));
        out.insert("app_proto".into(), Value::word("failed"));
        out.insert("app_proto_orig".into(), before.unwrap_or_default());
        if let Some(expected) = expected {
            out.insert("app_proto_expected".into(), json!(expected.name()));
        }
    }
    let mut object = base::flow_counters(flow);
    let [client, server] = &state.macs;
    if !client.is_empty() {
        let list = |macs: &[Mac]| -> Value {
            macs.iter().map(|mac| super::text::hex(&mac.0, ":")).collect()
        };
        let ether = json!({ "src_macs": list(client), "dest_macs": list(server) });
        out.insert("ether".into(), ether);
    }
    object.insert("end".into(), json!(time::eve(flow.last_ns)));
    object.insert("age".into(), json!(age(flow)));
    object.insert("state".into(), json!(base::flow_state(flow.state)));
    let reason = match reason {
        Reason::Timeout => "timeout",
        Reason::Evicted => "forced",
        Reason::Reused => "tcp_reuse",
        Reason::Shutdown => "shutdown",
    };
    object.insert("reason".into(), json!(reason));
    object.insert("alerted".into(), json!(state.is_alerted));
    if state.txs > 0 && changes.is_none() {
        object.insert("tx_cnt".into(), json!(state.txs));
    }
    object.extend(state.end.clone());
    out.insert("flow".into(), Value::Object(object));
    if details.has_community_id {
        out.insert("community_id".into(), json!(base::community(flow)));
    }
    if let Some(metadata) = state.metadata.as_ref().filter(|_| details.has_metadata) {
        out.extend(metadata.clone());
    }
    if flow.key.protocol == 6 {
        out.insert("tcp".into(), tcp(flow));
    }
    Value::Object(out)
}

/// Whole seconds between those of the first and the last packet.
fn age(flow: &Flow) -> u64 {
    let seconds = |ns: u64| ns / 1_000_000_000;
    seconds(flow.last_ns).saturating_sub(seconds(flow.first_ns))
}

/// Flags of TCP by name.
fn put_flags(out: &mut Object, flags: u8) {
    for (bit, name) in
        ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"].into_iter().enumerate()
    {
        if flags >> bit & 1 == 1 {
            out.insert(name.into(), json!(true));
        }
    }
}

fn tcp(flow: &Flow) -> Value {
    let flags =
        |direction| flow.tcp.as_ref().map_or(0, |session| session.half(direction).flags_seen);
    let (there, back) = (flags(Direction::ToServer), flags(Direction::ToClient));
    let all = there | back;
    let mut out = Object::new();
    for (key, value) in [("tcp_flags", all), ("tcp_flags_ts", there), ("tcp_flags_tc", back)] {
        out.insert(key.into(), json!(format!("{value:02x}")));
    }
    put_flags(&mut out, all);
    if let Some(session) = &flow.tcp {
        let state = match session.state {
            TcpState::None => "none",
            TcpState::SynSent => "syn_sent",
            TcpState::SynReceived => "syn_recv",
            TcpState::Established => "established",
            TcpState::FinWait1 => "fin_wait1",
            TcpState::FinWait2 => "fin_wait2",
            TcpState::TimeWait => "time_wait",
            TcpState::LastAck => "last_ack",
            TcpState::CloseWait => "close_wait",
            TcpState::Closing => "closing",
            TcpState::Closed => "closed",
        };
        out.insert("state".into(), json!(state));
        for (name, direction) in [("ts_gap", Direction::ToServer), ("tc_gap", Direction::ToClient)]
        {
            if session.half(direction).has_gap() {
                out.insert(name.into(), json!(true));
            }
        }
        let urgent = [
            ("ts_urgent_oob_data", Direction::ToServer),
            ("tc_urgent_oob_data", Direction::ToClient),
        ];
        for (name, direction) in urgent {
            let count = session.half(direction).urgent_bytes();
            if count > 0 {
                out.insert(name.into(), json!(count));
            }
        }
        // A stream lies in one region here, however far apart its pieces are.
        for name in ["ts_max_regions", "tc_max_regions"] {
            out.insert(name.into(), json!(1));
        }
    }
    Value::Object(out)
}
