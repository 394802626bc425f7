//! Events about what passes by.

use std::{
    cell::LazyCell,
    io::{self, Write},
};

use crate::outputs::json::{Object, Value, json};
use hookprobe_behaviour::finding::Finding;
use hookprobe_traffic::{
    Direction,
    app::{Proto, TxRef, http as http1, records::Body, smtp, ssh, tls},
    engine::View,
    event::Event,
    flow::{Flow, Reason},
    packet::{Mac, Packet},
};

use super::{
    Details, Settings,
    alert::{self, Place, Signature},
    app, base,
    flows::{self, FlowEve, REMEMBERED_MAX},
    http, pseudo,
};
use crate::outputs::time;

/// Operations of ARP (RFC 826, RFC 903) that are told.
const ARP_OPCODES: [(u16, &str); 4] =
    [(1, "request"), (2, "reply"), (3, "request_reverse"), (4, "reply_reverse")];

/// The answer that gives an address.
const DHCP_ACK: u8 = 5;

/// Room for a line that is kept from one to the next: few are longer.
const LINE_BYTES: usize = 16 * 1024;

/// EVE lines to `out`.
pub struct Writer<W: Write> {
    out: W,
    /// The line that is written.
    text: Vec<u8>,
    settings: Settings,
    is_only_alerts: bool,
    /// What rules decided of the packet whose alerts are told: `verdict`, `metadata`.
    judged: Judged,
    flows: Vec<FlowEve>,
    now_ns: u64,
    lines: u64,
    alerts: u64,
    full: u64,
    failed: Option<io::Error>,
}

/// What rules decided about a packet that is told.
#[derive(Debug, Default)]
pub struct Judged {
    /// The `verdict` object.
    pub verdict: Option<Value>,
    /// `metadata` of the packet and its flow, `traffic` of the flow.
    pub metadata: Option<Object>,
}

/// `metadata` and `traffic` of a flow as they are now, made when the first event needs them.
pub type Metadata<'m> = LazyCell<Option<Object>, &'m dyn Fn() -> Option<Object>>;

/// Where events of a flow come from.
struct Scene<'s, 'p, 'm> {
    packet: &'s Packet<'p>,
    /// Which way the packet goes; `None` at the end of the flow.
    towards: Option<Direction>,
    flow: &'s Flow,
    metadata: &'s Metadata<'m>,
}

impl<W: Write> Writer<W> {
    /// Writes what `settings` want to `out`.
    pub fn new(out: W, settings: Settings) -> Self {
        Self {
            is_only_alerts: settings.types.is_only_alerts(),
            out,
            settings,
            judged: Judged::default(),
            flows: Vec::new(),
            now_ns: 0,
            lines: 0,
            alerts: 0,
            full: 0,
            text: Vec::new(),
            failed: None,
        }
    }

    /// Takes what rules decided about a packet, before its alerts or its drop are told. Packets of
    /// which nothing is told need none.
    pub fn judged(&mut self, judged: Judged) {
        self.judged = judged;
    }

    /// Whether events have metadata.
    #[must_use]
    pub const fn has_metadata(&self) -> bool {
        self.settings.details.has_metadata
    }

    /// Whether [`Self::judged`] wants to know what became of packets.
    #[must_use]
    pub const fn has_verdicts(&self) -> bool {
        self.settings.parts.verdict || self.settings.details.has_drop_verdicts
    }

    /// Takes what rules say of a flow that ends, and its metadata, before its end is told.
    pub fn flow_ends(&mut self, flow: &Flow, end: Object, metadata: Option<Object>) {
        if self.is_only_alerts {
            return;
        }
        if let Some(slot) = self.slot(flow) {
            slot.end = end;
            slot.metadata = metadata;
        }
    }

    /// A packet that is dropped: why, and the rule that wanted it.
    pub fn dropped(&mut self, place: &Place<'_, '_>, reason: &str, by: Option<&Signature<'_>>) {
        let details = &self.settings.details;
        if !self.settings.types.has("drop") {
            return;
        }
        let (is_once, by) = (details.are_drops_once, by.filter(|_| details.has_drop_alerts));
        if let (true, Some(flow)) = (is_once, place.flow) {
            let index = place.direction.index();
            let told = self.slot(flow).and_then(|slot| slot.is_dropped.get_mut(index));
            if told.is_some_and(|told| std::mem::replace(told, true)) {
                return;
            }
        }
        let mut value = alert::dropped(place, reason, by);
        let details = &self.settings.details;
        put_common(&mut value, details, place, self.judged.metadata.as_ref());
        if let (true, Some(verdict), Some(object)) =
            (details.has_drop_verdicts, &self.judged.verdict, value.as_object_mut())
        {
            object.insert("verdict".into(), verdict.clone());
        }
        self.line(&value);
    }

    /// The alert of a rule; what was written, for the ledger's reference.
    pub fn alert(&mut self, signature: &Signature<'_>, place: &Place<'_, '_>) -> Option<Value> {
        // Events of flows tell of it; where there are none, nothing is kept for flows.
        if !self.is_only_alerts
            && let Some(slot) = place.flow.and_then(|flow| self.slot(flow))
        {
            slot.is_alerted = true;
        }
        self.alerts += 1;
        if !self.settings.types.has("alert") {
            return None;
        }
        let Settings { parts, details, .. } = &self.settings;
        let mut value = alert::alert(signature, place, *parts, details);
        put_common(&mut value, details, place, self.judged.metadata.as_ref());
        if let Some(xff) = &details.xff {
            xff.put(&mut value, place);
        }
        if let (true, Some(verdict), Some(object)) =
            (parts.verdict, &self.judged.verdict, value.as_object_mut())
        {
            object.insert("verdict".into(), verdict.clone());
        }
        self.line(&value);
        Some(value)
    }

    /// A packet that follows the alert of a rule with `tag`.
    pub fn tagged(&mut self, place: &Place<'_, '_>) {
        if self.settings.types.has("alert") && self.settings.parts.tagged {
            let mut value = alert::tagged(place);
            let details = &self.settings.details;
            put_common(&mut value, details, place, self.judged.metadata.as_ref());
            self.line(&value);
        }
    }

    /// Where the lines go.
    #[must_use]
    pub fn output(&self) -> &W {
        &self.out
    }

    /// Gives back where the lines went.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// The alert of a detector.
    pub fn finding(&mut self, finding: &Finding) -> Option<Value> {
        self.alerts += 1;
        if !self.settings.types.has("alert") {
            return None;
        }
        let value = alert::finding(finding);
        self.line(&value);
        Some(value)
    }

    /// Named counters as the last event.
    pub fn stats(&mut self, now_ns: u64, counters: &[(&'static str, Vec<(&'static str, u64)>)]) {
        let mut stats = Object::new();
        for (group, numbers) in counters {
            let object = numbers.iter().map(|(name, number)| ((*name).to_owned(), json!(number)));
            stats.insert((*group).into(), Value::Object(object.collect()));
        }
        let value = json!({
            "timestamp": time::eve(now_ns),
            "event_type": "stats",
            "stats": stats,
        });
        self.line(&value);
    }

    /// Lines and alerts so far, and flows of which not everything was written.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("eve_lines", self.lines),
            ("eve_alerts", self.alerts),
            ("eve_flows_incomplete", self.full),
        ]
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// The first error of the output; nothing was written after it.
    pub fn close(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    /// An object as a line, whatever its type.
    pub fn line(&mut self, value: &Value) {
        if self.failed.is_some() {
            return;
        }
        self.lines += 1;
        self.text.clear();
        value.write(&mut self.text);
        self.text.push(b'\n');
        if let Err(error) = self.out.write_all(&self.text) {
            self.failed = Some(error);
        }
        // One long payload is no reason to keep its room.
        self.text.shrink_to(LINE_BYTES);
    }

    /// Beginning of an event.
    fn header(
        &self,
        kind: &'static str,
        packet: &Packet<'_>,
        flow: Option<&Flow>,
        tuple: Option<base::Tuple>,
        metadata: &Metadata<'_>,
    ) -> Object {
        let mut out = base::header(kind, packet, flow, tuple);
        let is_wanted = flow.is_some() && self.has_metadata();
        let metadata = is_wanted.then(|| LazyCell::force(metadata).as_ref()).flatten();
        let details = &self.settings.details;
        put_common_of(&mut out, details, packet, flow, tuple, metadata);
        out
    }

    fn slot(&mut self, flow: &Flow) -> Option<&mut FlowEve> {
        let slot = usize::try_from(flow.slot).ok()?;
        if self.flows.len() <= slot {
            // Slots are dense: the engine's cap on flows is this one's.
            self.flows.resize_with(slot + 1, FlowEve::default);
        }
        self.flows.get_mut(slot)
    }

    fn transactions(&mut self, scene: &Scene<'_, '_, '_>, is_over: bool) {
        let flow = scene.flow;
        let Some(slot) = self.slot(flow) else {
            return;
        };
        let mut state = std::mem::take(slot);
        state.is_file_waiting = false;
        state.make_room(flow);
        state.written.begin();
        let was_full = state.is_full;
        for tx in flow.app.txs() {
            state.txs = state.txs.max(tx.id() + 1);
            self.anomalies(scene, tx, &mut state);
            self.files(scene, tx, &mut state);
            let is_single = matches!(tx, TxRef::Tls(_) | TxRef::Ssh(_));
            let is_taken =
                if is_single { state.is_handshake_written } else { state.written.has(tx.id()) };
            let is_due = is_over || is_due(tx, &self.settings.details);
            let live = || flow.app.txs().map(TxRef::id).collect();
            let offered = state.written.offer(tx.id(), is_taken, is_due, live);
            state.is_full |= offered.is_none();
            if offered == Some(true) {
                state.is_handshake_written |= is_single;
                self.transaction(scene, tx);
            }
        }
        state.written.end();
        self.full += u64::from(state.is_full && !was_full);
        if let Some(slot) = self.slot(flow) {
            *slot = state;
        }
    }

    fn transaction(&mut self, scene: &Scene<'_, '_, '_>, tx: TxRef<'_>) {
        let Scene { packet, flow, metadata, .. } = *scene;
        if let TxRef::Tls(tls) = tx
            && !has_news(tls, self.settings.details.has_resumptions)
        {
            return;
        }
        let objects = app::objects(tx, flow.app.proto());
        let Some((name, _)) = objects.first() else {
            return;
        };
        let details = &self.settings.details;
        let is_left_out = match tx {
            TxRef::Dns(tx) => !details.dns.get(tx.direction.index()).is_some_and(|is_on| *is_on),
            // Only what a client was given.
            TxRef::Dhcp(tx) => !details.is_dhcp_extended && tx.message.kind() != Some(DHCP_ACK),
            _ => false,
        };
        if is_left_out || !self.settings.types.has(name) {
            return;
        }
        if let (TxRef::Dns(dns), 2, "dns") = (tx, self.settings.details.dns_version, *name) {
            for object in super::dns::dns_2(dns) {
                let tuple = base::Tuple::of_flow(flow, Direction::ToServer);
                let mut out = self.header("dns", packet, Some(flow), Some(tuple), metadata);
                out.insert("dns".into(), object);
                self.line(&Value::Object(out));
            }
            return;
        }
        let direction = match tx {
            TxRef::Dns(tx) => tx.direction,
            TxRef::Quic(tx) => tx.direction,
            TxRef::Dhcp(tx) => tx.direction,
            TxRef::Record(tx) => tx.direction.unwrap_or(Direction::ToServer),
            TxRef::Http(_) | TxRef::Tls(_) | TxRef::Ssh(_) | TxRef::Smtp(_) => Direction::ToServer,
        };
        let tuple = base::Tuple::of_flow(flow, direction);
        let mut out = self.header(name, packet, Some(flow), Some(tuple), metadata);
        if has_tx_id(tx) {
            out.insert("tx_id".into(), json!(tx.id()));
        }
        for (name, object) in objects {
            let object = app::shaped(tx, object, &self.settings.details);
            out.insert(name.into(), object);
        }
        self.line(&Value::Object(out));
    }

    /// Files that ended, with the packet that goes their way; at the end of a flow with none.
    fn files(&mut self, scene: &Scene<'_, '_, '_>, tx: TxRef<'_>, state: &mut FlowEve) {
        let Scene { packet, towards, flow, metadata } = *scene;
        if !self.settings.types.has("fileinfo") {
            return;
        }
        let mut emit = |direction: Direction, index: usize, file: &http1::File| {
            let key = (tx.id(), direction.index(), index);
            if file.state == http1::FileState::Open || state.files.contains(&key) {
                return;
            }
            if state.files.len() >= REMEMBERED_MAX {
                state.is_full = true;
                return;
            }
            if towards.is_some_and(|towards| towards != direction) && !flow.is_over(direction) {
                state.is_file_waiting = true;
                return;
            }
            state.files.push(key);
            let tuple = base::Tuple::of_flow(flow, direction);
            let mut out = self.header("fileinfo", packet, Some(flow), Some(tuple), metadata);
            for (name, mut object) in app::objects(tx, flow.app.proto()) {
                app::strip(tx, &mut object, &self.settings.details);
                out.insert(name.into(), object);
            }
            if let Some(proto) = flow.app.proto() {
                out.insert("app_proto".into(), json!(proto.name()));
            }
            let mut info = match tx {
                TxRef::Http(tx) => http::fileinfo_of(tx, file, direction),
                _ => http::fileinfo(file, tx.id()),
            };
            app::strip_digests(&mut info, &self.settings.details);
            out.insert("fileinfo".into(), info);
            self.line(&Value::Object(out));
        };
        match tx {
            TxRef::Http(tx) => {
                for (index, file) in tx.request.files.iter().enumerate() {
                    emit(Direction::ToServer, index, file);
                }
                for (index, file) in tx.response.files.iter().enumerate() {
                    emit(Direction::ToClient, index, file);
                }
            }
            TxRef::Smtp(smtp::Tx { email: Some(email), .. }) => {
                for (index, attachment) in email.attachments.iter().enumerate() {
                    emit(Direction::ToServer, index, &attachment.file);
                }
            }
            TxRef::Record(tx) => {
                if let (Some(transfer), Some(direction)) = (tx.transfer(), tx.direction) {
                    emit(direction, 0, &transfer.file);
                }
            }
            TxRef::Dns(_)
            | TxRef::Tls(_)
            | TxRef::Ssh(_)
            | TxRef::Smtp(_)
            | TxRef::Quic(_)
            | TxRef::Dhcp(_) => {}
        }
    }

    fn anomalies(&mut self, scene: &Scene<'_, '_, '_>, tx: TxRef<'_>, state: &mut FlowEve) {
        let Scene { packet, flow, metadata, .. } = *scene;
        let [_, _, is_wanted] = self.settings.details.anomalies;
        let types = &self.settings.types;
        if tx.events().is_empty() || !is_wanted || !types.has("anomaly") {
            return;
        }
        // As in Suricata: of transactions that nobody writes no anomaly is written either.
        let name = flow.app.proto().map_or("unknown", |proto| proto.name());
        if matches!(name, "dns" | "dhcp" | "http" | "mdns" | "quic" | "smtp" | "ssh" | "tls")
            && !types.has(name)
        {
            return;
        }
        for (at, event) in tx.events().iter().enumerate() {
            let key = (tx.id(), event);
            // Some come more than once.
            let before = tx.events().iter().take(at).filter(|known| *known == event).count();
            if state.anomalies.iter().filter(|known| **known == key).count() > before {
                continue;
            }
            if state.anomalies.len() >= REMEMBERED_MAX {
                state.is_full = true;
                continue;
            }
            state.anomalies.push(key);
            let tuple = base::Tuple::of_packet(packet);
            let tuple = tuple.or_else(|| Some(base::Tuple::of_flow(flow, Direction::ToServer)));
            let mut out = self.header("anomaly", packet, Some(flow), tuple, metadata);
            out.insert("tx_id".into(), json!(tx.id()));
            out.insert(
                "anomaly".into(),
                json!({
                    "app_proto": name,
                    "type": "applayer",
                    "event": event_name(flow.app.proto(), event),
                    "layer": "proto_parser",
                }),
            );
            self.line(&Value::Object(out));
        }
    }

    fn packet_anomaly(
        &mut self,
        packet: &Packet<'_>,
        flow: Option<&Flow>,
        event: Event,
        metadata: &Metadata<'_>,
    ) {
        let name = event.name();
        let [decode, stream, applayer] = self.settings.details.anomalies;
        let is_wanted = if name.starts_with("applayer_") {
            applayer
        } else if name.starts_with("stream.") {
            stream
        } else {
            decode
        };
        if !is_wanted {
            return;
        }
        let tuple = base::Tuple::of_packet(packet);
        let mut out = self.header("anomaly", packet, flow, tuple, metadata);
        let anomaly = if name.starts_with("applayer_") {
            let proto = flow.and_then(|flow| flow.app.proto());
            json!({
                "app_proto": proto.map_or("unknown", |proto| proto.name()),
                "type": "applayer",
                "event": name.to_ascii_uppercase(),
                "layer": "proto_detect",
            })
        } else {
            let kind = if name.starts_with("stream.") { "stream" } else { "decode" };
            json!({ "type": kind, "event": name })
        };
        out.insert("anomaly".into(), anomaly);
        self.line(&Value::Object(out));
    }

    /// Who has which address, as somebody says on the link.
    fn arp(&mut self, packet: &Packet<'_>) {
        let Some(arp) = packet.arp else { return };
        let Some((_, opcode)) = ARP_OPCODES.iter().find(|(number, _)| *number == arp.operation)
        else {
            return;
        };
        let mac = |mac: &Mac| super::text::hex(&mac.0, ":");
        let mut out = self.header("arp", packet, None, None, &Metadata::new(&|| None));
        out.insert(
            "arp".into(),
            json!({
                "hw_type": "ethernet",
                "proto_type": "ipv4",
                "opcode": opcode,
                "src_mac": mac(&arp.sender_mac),
                "src_ip": arp.sender.to_string(),
                "dest_mac": mac(&arp.target_mac),
                "dest_ip": arp.target.to_string(),
            }),
        );
        self.line(&Value::Object(out));
    }
}

/// Whether events of a transaction say its number beside its object.
fn has_tx_id(tx: TxRef<'_>) -> bool {
    match tx {
        TxRef::Http(tx) => tx.stream == 0 && !tx.is_control(),
        TxRef::Smtp(_) => true,
        TxRef::Record(tx) => matches!(tx.body, Body::Smb(_) | Body::SmbFile(_)),
        _ => false,
    }
}

/// What every event may have: `ether`, `community_id`, `metadata`.
fn put_common(
    value: &mut Value,
    details: &Details,
    place: &Place<'_, '_>,
    metadata: Option<&Object>,
) {
    let tuple = base::Tuple::of_packet(place.packet);
    if let Some(out) = value.as_object_mut() {
        put_common_of(out, details, place.packet, place.flow, tuple, metadata);
    }
}

fn put_common_of(
    out: &mut Object,
    details: &Details,
    packet: &Packet<'_>,
    flow: Option<&Flow>,
    tuple: Option<base::Tuple>,
    metadata: Option<&Object>,
) {
    if details.has_ethernet {
        base::put_ether(out, packet, tuple.as_ref());
    }
    if let Some(flow) = flow.filter(|_| details.has_community_id) {
        out.insert("community_id".into(), json!(base::community(flow)));
    }
    if let Some(metadata) = metadata.filter(|_| details.has_metadata) {
        out.extend(metadata.clone());
    }
}

/// Parsers of one age write the names of their events in capitals.
fn event_name(proto: Option<Proto>, event: &str) -> String {
    match proto {
        Some(Proto::Http1 | Proto::Tls | Proto::Smtp) => event.to_ascii_uppercase(),
        _ => event.to_owned(),
    }
}

/// Whether a transaction can be written before its flow ends.
fn is_due(tx: TxRef<'_>, details: &Details) -> bool {
    match tx {
        TxRef::Tls(tx) => {
            let [client, server] = tx.progress;
            client >= tls::progress::CLIENT_HANDSHAKE_DONE
                && server >= tls::progress::SERVER_HANDSHAKE_DONE
        }
        TxRef::Ssh(tx) => {
            let is_done = |side: &ssh::Side| side.progress >= ssh::progress::BANNER_DONE;
            let has_kex = tx.client.kex.is_some() && tx.server.kex.is_some();
            is_done(&tx.client) && is_done(&tx.server) && (has_kex || !details.is_hassh_awaited)
        }
        // A frame about the connection is nobody's answer.
        TxRef::Http(tx) if tx.is_control() => true,
        TxRef::Http(_)
        | TxRef::Dns(_)
        | TxRef::Smtp(_)
        | TxRef::Quic(_)
        | TxRef::Dhcp(_)
        | TxRef::Record(_) => tx.is_complete(),
    }
}

/// Whether a handshake got as far as a certificate, TLS 1.3 or, where these are told, a resumption.
fn has_news(tx: &tls::Tx, has_resumptions: bool) -> bool {
    let is_modern = tx.server_hello.as_ref().is_some_and(|hello| hello.negotiated() >= 0x0304);
    tx.certificate().is_some() || tx.is_resumed && has_resumptions || is_modern
}

/// As an inspector does, with what rules know of the flow.
impl<W: Write> Writer<W> {
    /// A packet, after its alerts.
    pub fn packet(&mut self, view: &View<'_, '_>, metadata: &Metadata<'_>) {
        self.now_ns = self.now_ns.max(view.packet.time_ns);
        if self.is_only_alerts {
            return;
        }
        let flow = view.flow.as_deref();
        if self.settings.details.has_ethernet
            && let (Some(flow), Some(ether)) = (flow, &view.packet.ether)
            && let Some(slot) = self.slot(flow)
        {
            slot.note(ether, view.direction);
        }
        if view.packet.arp.is_some() && self.settings.types.has("arp") {
            self.arp(view.packet);
        }
        if !view.packet.events.is_empty() && self.settings.types.has("anomaly") {
            for event in view.packet.events.iter() {
                self.packet_anomaly(view.packet, flow, event, metadata);
            }
        }
        if let Some(flow) = flow
            && (view.is_app_changed || self.slot(flow).is_some_and(|slot| slot.is_file_waiting))
        {
            let towards = Some(view.direction);
            self.transactions(&Scene { packet: view.packet, towards, flow, metadata }, false);
        }
    }

    /// A flow ended; [`Self::flow_ends`] came before.
    pub fn flow_end(&mut self, flow: &Flow, reason: Reason) {
        if self.is_only_alerts {
            return;
        }
        let known = self.slot(flow).and_then(|slot| slot.metadata.take());
        let make = || known.clone();
        let (packet, metadata) = (&pseudo::end_of(flow, self.now_ns), &Metadata::new(&make));
        self.transactions(&Scene { packet, towards: None, flow, metadata }, true);
        let Some(mut state) = self.slot(flow).map(std::mem::take) else {
            return;
        };
        state.metadata = known;
        if self.settings.types.has("flow") {
            let value = flows::flow(flow, reason, &state, &self.settings.details, self.now_ns);
            self.line(&value);
        }
        if self.settings.types.has("netflow") {
            for direction in Direction::BOTH.into_iter().filter(|one| flow.side(*one).packets > 0) {
                let value = flows::netflow(flow, direction, &state, self.now_ns);
                self.line(&value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumptions_are_told_where_they_are_wanted() {
        let mut tx = tls::Tx::default();
        tx.is_resumed = true;
        assert!(has_news(&tx, true) && !has_news(&tx, false));
    }
}
