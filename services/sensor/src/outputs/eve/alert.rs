//! Alerts of rules and of detectors.

use crate::outputs::json::{Object, Value, json};
use base64ct::{Base64, Encoding as _};
use hookprobe_behaviour::finding::{Finding, Weight};
use hookprobe_rules::rule::Target;
use hookprobe_traffic::{
    Direction,
    app::{TxRef, smtp},
    flow::Flow,
    packet::{Link, Origin, Packet, TcpFlags, Transport, extension},
    stream::Half,
};

use super::{
    Details, Parts, app, base, http, pseudo,
    text::{printable, text},
};
use crate::outputs::time;

/// Most bytes of a stream that an alert shows, as in Suricata's `payload-buffer-size`.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// The extension header of a fragment.
const IPV6_FRAGMENT: u8 = 44;

/// What a rule says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// Generator; 1 is the text rules.
    pub gid: u32,
    /// Number.
    pub sid: u32,
    /// Revision.
    pub rev: u32,
    /// Its message.
    pub message: &'a str,
    /// Text of its class.
    pub category: &'a str,
    /// 1 is worst.
    pub priority: u8,
    /// Keys with values, in the order of the rule; the same key may come again.
    pub metadata: &'a [(String, String)],
    /// `system` and `id` put together as Suricata writes them.
    pub references: &'a [String],
    /// Names and JSON of members of datasets that matched.
    pub contexts: &'a [(String, String)],
    /// The packet was dropped or rejected for it.
    pub is_blocked: bool,
    /// `target`: who is attacked.
    pub target: Option<Target>,
    /// The rule itself.
    pub text: Option<&'a str>,
}

/// Where it matched.
#[derive(Debug, Clone, Copy)]
pub struct Place<'v, 'a> {
    /// The packet at which it was decided.
    pub packet: &'v Packet<'a>,
    /// Its flow.
    pub flow: Option<&'v Flow>,
    /// Direction of the packet in its flow.
    pub direction: Direction,
    /// Transaction that matched, by its number in the flow.
    pub tx_id: Option<u64>,
    /// The transaction was not part of the match but the only one there is.
    pub is_tx_guessed: bool,
    /// Bytes of the stream matched, not those of the packet alone.
    pub is_stream: bool,
    /// The packet around this one, when it is in a tunnel.
    pub outer: Option<&'v Packet<'a>>,
}

/// The alert of a rule.
#[must_use]
pub fn alert(
    signature: &Signature<'_>,
    place: &Place<'_, '_>,
    parts: Parts,
    details: &Details,
) -> Value {
    let (packet, flow) = (place.packet, place.flow);
    let tuple = base::Tuple::of_packet(packet)
        .or_else(|| flow.map(|flow| base::Tuple::of_flow(flow, place.direction)));
    let mut out = base::header("alert", packet, flow, tuple);
    out.insert("alert".into(), rule(signature, tuple.as_ref(), parts));
    if let Some(outer) = place.outer {
        out.insert("tunnel".into(), tunnel(packet, outer));
    }
    if let Some(flow) = flow {
        put_flow(&mut out, place, flow, parts, details);
    }
    put_payload(&mut out, place, parts);
    Value::Object(out)
}

/// `source` and `target`.
fn put_ends(out: &mut Object, target: Target, tuple: &base::Tuple) {
    let (from, to) = tuple.ports.map_or((None, None), |(from, to)| (Some(from), Some(to)));
    let (there, here) = ((tuple.destination, to), (tuple.source, from));
    let (source, target) = match target {
        Target::Destination => (here, there),
        Target::Source => (there, here),
    };
    for (name, (ip, port)) in [("source", source), ("target", target)] {
        let mut end = Object::new();
        end.insert("ip".into(), json!(base::address(ip)));
        if let Some(port) = port {
            end.insert("port".into(), json!(port));
        }
        out.insert(name.into(), Value::Object(end));
    }
}

fn rule(signature: &Signature<'_>, tuple: Option<&base::Tuple>, parts: Parts) -> Value {
    let action = if signature.is_blocked { "blocked" } else { "allowed" };
    let mut out = Object::with_capacity(8);
    out.insert("action".into(), Value::word(action));
    out.insert("gid".into(), json!(signature.gid));
    out.insert("signature_id".into(), json!(signature.sid));
    out.insert("rev".into(), json!(signature.rev));
    out.insert("signature".into(), json!(signature.message));
    out.insert("category".into(), json!(signature.category));
    out.insert("severity".into(), json!(signature.priority));
    if let (Some(target), Some(tuple)) = (signature.target, tuple) {
        put_ends(&mut out, target, tuple);
    }
    if let Some(text) = signature.text {
        out.insert("rule".into(), json!(text));
    }
    if parts.references && !signature.references.is_empty() {
        out.insert("references".into(), json!(signature.references));
    }
    let mut metadata = Object::new();
    // The last one of a key is the first one here.
    for (key, value) in signature.metadata.iter().rev().filter(|_| parts.rule_metadata) {
        let list = metadata.or_insert_with(key.clone(), || json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(value));
        }
    }
    if !metadata.is_empty() {
        out.insert("metadata".into(), Value::Object(metadata));
    }
    if !signature.contexts.is_empty() {
        let member = |text: &str| match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => value.into(),
            Err(_) => json!(text),
        };
        let contexts = signature.contexts.iter().map(|(name, text)| (name.clone(), member(text)));
        out.insert("context".into(), Value::Object(contexts.collect()));
    }
    Value::Object(out)
}

/// The event for a packet that is dropped: `reason` in Suricata's words, and the rule that wanted
/// it.
#[must_use]
pub fn dropped(place: &Place<'_, '_>, reason: &str, signature: Option<&Signature<'_>>) -> Value {
    let tuple = base::Tuple::of_packet(place.packet);
    let mut out = base::header("drop", place.packet, place.flow, tuple);
    if place.flow.is_some() {
        out.insert("direction".into(), Value::word(direction(place.direction)));
    }
    let mut object = headers(place.packet);
    object.insert("reason".into(), json!(reason));
    out.insert("drop".into(), Value::Object(object));
    if let Some(signature) = signature {
        out.insert("alert".into(), rule(signature, tuple.as_ref(), Parts::default()));
    }
    Value::Object(out)
}

/// The event for a packet that follows the alert of a rule with `tag`.
#[must_use]
pub fn tagged(place: &Place<'_, '_>) -> Value {
    let tuple = base::Tuple::of_packet(place.packet);
    let mut out = base::header("packet", place.packet, place.flow, tuple);
    put_packet(&mut out, place);
    Value::Object(out)
}

/// What `drop` says of the headers of a packet.
fn headers(packet: &Packet<'_>) -> Object {
    let mut out = Object::new();
    let mut put = |name: &'static str, value: Value| {
        out.insert(name.into(), value);
    };
    if let Some(ip) = packet.ip {
        if ip.version() == 4 {
            put("len", json!(ip.total_bytes));
            put("tos", json!(ip.tos));
            put("ttl", json!(ip.ttl));
            put("ipid", json!(ip.id));
        } else {
            put("len", json!(ip.total_bytes.saturating_sub(40)));
            put("tc", json!(ip.tos));
            put("hoplimit", json!(ip.ttl));
            put("flowlbl", json!(ip.flow_label));
        }
    }
    match packet.transport {
        Transport::Tcp(tcp) => {
            put("tcpseq", json!(tcp.seq));
            put("tcpack", json!(tcp.ack));
            put("tcpwin", json!(tcp.window));
            for (name, bit) in [
                ("syn", TcpFlags::SYN),
                ("ack", TcpFlags::ACK),
                ("psh", TcpFlags::PSH),
                ("rst", TcpFlags::RST),
                ("urg", TcpFlags::URG),
                ("fin", TcpFlags::FIN),
            ] {
                put(name, json!(tcp.flags.has(bit)));
            }
            put("tcpres", json!(tcp.reserved));
            put("tcpurgp", json!(tcp.urgent));
        }
        Transport::Udp { bytes, .. } => put("udplen", json!(bytes)),
        Transport::Icmp(icmp) => {
            // As they lie in memory, which is the wrong way round.
            put("icmp_id", json!(icmp.id.swap_bytes()));
            put("icmp_seq", json!(icmp.seq.swap_bytes()));
        }
        Transport::Icmp6(_) | Transport::Sctp { .. } | Transport::Other(_) | Transport::None => {}
    }
    out
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "to_server",
        Direction::ToClient => "to_client",
    }
}

fn tunnel(packet: &Packet<'_>, outer: &Packet<'_>) -> Value {
    let mut out = Object::new();
    if let Some(tuple) = base::Tuple::of_packet(outer) {
        let (source, destination) = tuple.ports.unwrap_or_default();
        out.insert("src_ip".into(), json!(base::address(tuple.source)));
        out.insert("src_port".into(), json!(source));
        out.insert("dest_ip".into(), json!(base::address(tuple.destination)));
        out.insert("dest_port".into(), json!(destination));
        let is_fragment = outer.ip.is_some_and(|ip| ip.extensions & extension::FRAGMENT != 0);
        let protocol = if is_fragment { IPV6_FRAGMENT } else { tuple.protocol };
        out.insert("proto".into(), json!(base::protocol(protocol)));
    }
    out.insert("depth".into(), json!(packet.tunnel_depth));
    out.insert("pcap_cnt".into(), json!(outer.number));
    out.insert("pkt_src".into(), json!(base::packet_source(outer)));
    Value::Object(out)
}

fn put_flow(out: &mut Object, place: &Place<'_, '_>, flow: &Flow, parts: Parts, details: &Details) {
    if let Some(id) = place.tx_id {
        out.insert("tx_id".into(), json!(id));
        if place.is_tx_guessed {
            out.insert("tx_guessed".into(), json!(true));
        }
        if let Some(tx) = flow.app.txs().find(|tx| tx.id() == id).filter(|_| parts.app) {
            for (name, direction) in
                [("ts_progress", Direction::ToServer), ("tc_progress", Direction::ToClient)]
            {
                if let Some(word) = progress(tx, direction) {
                    out.insert(name.into(), json!(word));
                }
            }
            put_tx(out, place, flow, tx, parts, details);
        }
    }
    base::put_app_proto(out, flow);
    out.insert("direction".into(), Value::word(direction(place.direction)));
    if !parts.flow {
        return;
    }
    let mut counters = base::flow_counters(flow);
    let tuple = base::Tuple::of_flow(flow, Direction::ToServer);
    counters.insert("src_ip".into(), json!(base::address(tuple.source)));
    counters.insert("dest_ip".into(), json!(base::address(tuple.destination)));
    if let Some((source, destination)) = tuple.ports {
        counters.insert("src_port".into(), json!(source));
        counters.insert("dest_port".into(), json!(destination));
    }
    out.insert("flow".into(), Value::Object(counters));
}

/// How far one side of a transaction is, in the words of rules that name it.
fn progress(tx: TxRef<'_>, direction: Direction) -> Option<String> {
    const HTTP: [&str; 6] = ["started", "line", "headers", "body", "trailer", "complete"];
    const SSH: [&str; 4] = ["in_progress", "banner_wait_eol", "banner_done", "finished"];
    const CLIENT: [&str; 5] =
        ["in_progress", "hello_done", "cert_done", "handshake_done", "finished"];
    const SERVER: [&str; 6] =
        ["in_progress", "hello", "cert_done", "hello_done", "handshake_done", "finished"];
    const SMTP: [&str; 3] = ["started", "data", "complete"];
    let at = usize::from(tx.progress(direction));
    let (request, client) = match direction {
        Direction::ToServer => ("request", "client"),
        Direction::ToClient => ("response", "server"),
    };
    let (side, word) = match tx {
        TxRef::Http(tx) if tx.stream == 0 && !tx.is_control() => (request, HTTP.get(at)?),
        TxRef::Ssh(_) => (request, SSH.get(at)?),
        TxRef::Tls(_) if direction == Direction::ToServer => (client, CLIENT.get(at)?),
        TxRef::Tls(_) => (client, SERVER.get(at)?),
        TxRef::Smtp(smtp) => {
            let at = match smtp.progress {
                smtp::progress::COMPLETE => 2,
                _ => usize::from(smtp.email.is_some()),
            };
            (request, SMTP.get(at)?)
        }
        _ => return None,
    };
    Some(format!("{side}_{word}"))
}

fn put_tx(
    out: &mut Object,
    place: &Place<'_, '_>,
    flow: &Flow,
    tx: TxRef<'_>,
    parts: Parts,
    details: &Details,
) {
    for (name, mut object) in app::objects(tx, flow.app.proto()) {
        app::strip(tx, &mut object, details);
        if let (TxRef::Dns(_), Some(object)) = (tx, object.as_object_mut()) {
            object.remove("grouped");
        }
        if let (true, TxRef::Http(http), Some(object)) =
            (parts.http_body_printable || parts.http_body, tx, object.as_object_mut())
        {
            for (key, direction) in [
                ("http_request_body", Direction::ToServer),
                ("http_response_body", Direction::ToClient),
            ] {
                let (_, bytes) = http.body(direction).window();
                if bytes.is_empty() {
                    continue;
                }
                if parts.http_body_printable {
                    object.insert(format!("{key}_printable").into(), json!(printable(bytes)));
                }
                if parts.http_body {
                    object.insert(key.into(), json!(Base64::encode_string(bytes)));
                }
            }
        }
        out.insert(name.into(), object);
    }
    let mut files: Vec<Value> = match tx {
        TxRef::Http(http) => {
            let files = match place.direction {
                Direction::ToServer => &http.request.files,
                Direction::ToClient => &http.response.files,
            };
            files.iter().map(|file| http::fileinfo_of(http, file, place.direction)).collect()
        }
        TxRef::Smtp(smtp::Tx { email: Some(email), id, .. }) => {
            let files = email.attachments.iter().map(|attachment| &attachment.file);
            files.map(|file| http::fileinfo(file, *id)).collect()
        }
        TxRef::Record(tx) => tx
            .transfer()
            .map(|transfer| http::fileinfo(&transfer.file, tx.id))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    files.iter_mut().for_each(|file| app::strip_digests(file, details));
    if !files.is_empty() {
        out.insert("files".into(), json!(files));
    }
}

fn put_payload(out: &mut Object, place: &Place<'_, '_>, parts: Parts) {
    let Parts { payload, payload_printable, packet, .. } = parts;
    if payload || payload_printable {
        let session = place.flow.and_then(|flow| flow.tcp.as_ref()).filter(|_| place.is_stream);
        let stream = session.and_then(|session| stream(session.half(place.direction)));
        let bytes = stream.as_deref().unwrap_or(place.packet.payload);
        let bytes = bytes.get(..PAYLOAD_BYTES_MAX).unwrap_or(bytes);
        if payload && !bytes.is_empty() {
            out.insert("payload".into(), json!(Base64::encode_string(bytes)));
        }
        if payload_printable && !bytes.is_empty() {
            out.insert("payload_printable".into(), json!(printable(bytes)));
        }
        if parts.payload_length && (session.is_none() || !bytes.is_empty()) {
            out.insert("payload_length".into(), json!(bytes.len()));
        }
        out.insert("stream".into(), json!(u8::from(session.is_some())));
    }
    if packet {
        put_packet(out, place);
    }
}

/// What is held of a stream and acknowledged, with words where bytes are missing; `None` if it is
/// nothing.
fn stream(half: &Half) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = half.base();
    let limit = half.acked();
    while let Some((start, bytes)) = half.chunk(at) {
        if bytes.is_empty() || start >= limit || out.len() >= PAYLOAD_BYTES_MAX {
            break;
        }
        let most = usize::try_from(limit - start).unwrap_or(usize::MAX);
        let bytes = bytes.get(..most).unwrap_or(bytes);
        if start > at {
            out.extend_from_slice(format!("[{} bytes missing]", start - at).as_bytes());
        }
        out.extend_from_slice(bytes);
        at = start + bytes.len() as u64;
    }
    (!out.is_empty()).then_some(out)
}

/// `packet` and `packet_info`. A packet made of fragments gets the link header of the last of them.
fn put_packet(out: &mut Object, place: &Place<'_, '_>) {
    let packet = place.packet;
    let made = place.flow.filter(|_| packet.origin == Origin::FlowEnd);
    if let Some(bytes) = made.and_then(|flow| pseudo::packet(flow, place.direction)) {
        out.insert("packet".into(), json!(Base64::encode_string(&bytes)));
        let (number, name) = Link::Ethernet.linktype();
        out.insert("packet_info".into(), json!({ "linktype": number, "linktype_name": name }));
        return;
    }
    let is_rebuilt = packet.origin == Origin::Rebuilt && packet.tunnel_depth == 0;
    let link_header = place.outer.filter(|_| is_rebuilt).and_then(link_header);
    let bytes = [link_header.unwrap_or_default(), packet.data].concat();
    out.insert("packet".into(), json!(Base64::encode_string(&bytes)));
    let (number, name) = packet.link.linktype();
    out.insert("packet_info".into(), json!({ "linktype": number, "linktype_name": name }));
}

/// What is before the IP header.
fn link_header<'a>(packet: &Packet<'a>) -> Option<&'a [u8]> {
    // The header is a part of the bytes: where it begins is a difference of addresses.
    let at = packet.ip?.header.as_ptr().addr().checked_sub(packet.data.as_ptr().addr())?;
    packet.data.get(..at)
}

/// The alert of a detector: no packet is to blame, a host is.
#[must_use]
pub fn finding(finding: &Finding) -> Value {
    let mut metadata = Object::new();
    metadata.insert("detector".into(), json!([finding.detector]));
    metadata.insert("mitre_technique_id".into(), json!([finding.technique]));
    metadata.insert("weight".into(), json!([finding.weight.word()]));
    for (name, value) in &finding.evidence {
        metadata.insert((*name).into(), json!([value.to_string()]));
    }
    if let Some(name) = &finding.name {
        metadata.insert("name".into(), json!([text(name.as_bytes())]));
    }
    metadata.insert("first_seen".into(), json!([time::eve(finding.first_ns)]));
    let mut out = Object::new();
    out.insert("timestamp".into(), json!(time::eve(finding.decided_ns)));
    out.insert("event_type".into(), Value::word("alert"));
    out.insert("src_ip".into(), json!(base::address(finding.source)));
    if let Some(destination) = finding.destination {
        out.insert("dest_ip".into(), json!(base::address(destination)));
    }
    if let Some(port) = finding.port {
        out.insert("dest_port".into(), json!(port));
    }
    let severity = match finding.weight {
        Weight::Conviction => 1,
        Weight::Suspicion => 2,
        Weight::Anomaly => 3,
    };
    out.insert(
        "alert".into(),
        json!({
            "action": "allowed",
            "signature": format!("HookProbe {}: {}", finding.detector, finding.summary),
            "category": "Behaviour",
            "severity": severity,
            "metadata": metadata,
        }),
    );
    Value::Object(out)
}
