//! Zeek's logs from our engine's flows and transactions: conn, dns, ssl, http, ssh, dhcp, notice,
//! weird; fields, words and order as Zeek 8 writes them, so that what reads Zeek reads us.
//!
//! [`Logs`] is an [`Inspector`]. It takes a transaction when it is complete or when its flow ends,
//! and keeps for each flow only what joins two of them (a DNS query and its answer). What Zeek
//! knows and we do not is left unset: whether an SSH login succeeded, host key fingerprints.

mod conn;
mod dhcp;
mod dns;
pub mod files;
mod ftp;
mod http;
mod ident;
pub mod log;
mod mime;
mod multipart;
mod names;
mod notice;
mod oneside;
mod schema;
mod services;
mod ssh;
mod ssl;
mod weird;

use hookprobe_traffic::{
    Direction,
    app::{self, App, Proto, TxRef, dns as dns_message},
    engine::{Inspector, View},
    flow::{Flow, Reason},
    packet::{Origin, Packet, Transport, Tunnel},
    zeek::Connection,
};

use self::{
    oneside::OneSide,
    weird::{Told, Weird},
};
use super::eve::{Place, Signature};

pub use self::{
    files::{Files, Open},
    ident::Ident,
    log::Format,
    notice::{Notice, note},
};

/// Note of the alerts of rules.
const RULE_NOTE: &str = "HookProbe::Rule";
/// Ports of LLMNR and of NetBIOS's name service.
const LOCAL_NAME_PORTS: [u16; 2] = [5355, dns::NETBIOS_PORT];
/// Outer connections of one connection that are named; tunnels are not deeper.
const PARENTS_MAX: usize = 8;

/// The logs of one run.
pub struct Logs {
    files: Files,
    flows: Vec<FlowLog>,
    dhcp: dhcp::Exchanges,
    ftp: ftp::Expected,
    app: Box<app::Config>,
    told: Told,
    frame: Frame,
    is_checksum_validated: bool,
}

/// What is kept of one flow.
#[derive(Debug, Default)]
struct FlowLog {
    /// Whose it is; another flow in the slot begins anew.
    flow: u64,
    /// Services, when they are told before the connection ends.
    service: Option<Box<str>>,
    /// First transaction of the flow's protocol that was not taken.
    next_tx: u64,
    dns: Option<Box<dns::Pending>>,
    quic: Option<Box<ssl::QuicHello>>,
    one_side: Option<Box<OneSide>>,
    signs: services::Signs,
    is_handshake_written: bool,
    /// Something came that is no HTTP.
    is_http_over: bool,
    /// Begin of the connection, which makes its name; 0 before its first packet.
    first_ns: u64,
    #[expect(clippy::box_collection, reason = "few connections have some: 8 bytes, not 24")]
    parents: Option<Box<Vec<String>>>,
    tunnel: Option<&'static str>,
    /// The first packet was an answer of DNS: who sent it is the server.
    is_flipped: bool,
    #[expect(clippy::box_collection, reason = "few connections have some: 8 bytes, not 24")]
    weird: Option<Box<Vec<&'static str>>>,
}

/// One for each flow.
const _: () = assert!(size_of::<FlowLog>() <= 128);

/// Flows of the packets of one frame.
#[derive(Debug, Default)]
struct Frame {
    number: u64,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    depth: u8,
    slot: u32,
    tunnel: Option<Tunnel>,
}

impl FlowLog {
    /// The name of its connection.
    fn uid(&self) -> String {
        ident::unique('C', [self.flow, self.first_ns])
    }
}

impl Logs {
    /// Logs in `format`, opened by `open` when they get their first row.
    #[must_use]
    pub fn new(format: Format, open: Open) -> Self {
        Self {
            files: Files::new(format, open),
            flows: Vec::new(),
            dhcp: dhcp::Exchanges::default(),
            ftp: ftp::Expected::default(),
            app: Box::default(),
            told: Told::default(),
            frame: Frame::default(),
            is_checksum_validated: true,
        }
    }

    /// Takes packets with a wrong checksum, too (Zeek's `-C`).
    #[must_use]
    pub fn without_checksums(mut self) -> Self {
        self.is_checksum_validated = false;
        self
    }

    /// Writes a line of `notice.log`.
    pub fn notice(&mut self, notice: &Notice<'_>) {
        notice::write(notice, &mut self.files);
    }

    /// Writes a line of `notice.log` for the alert of a rule.
    pub fn rule(&mut self, signature: &Signature<'_>, place: &Place<'_, '_>) {
        let ident = place.flow.map(|flow| ident_of(flow, &flow.zeek));
        let ip = place.packet.ip;
        let ends = place.flow.map(|flow| (flow.client(), flow.server()));
        let ends = ip.map(|ip| (ip.source, ip.destination)).or(ends);
        // An alert about a frame without addresses has no place in a log about hosts.
        let Some((source, destination)) = ends else {
            return;
        };
        let notice = Notice {
            time_ns: place.packet.time_ns,
            ident: ident.as_ref(),
            protocol: place.flow.map(|flow| flow.key.protocol).or(place.packet.protocol()),
            note: RULE_NOTE,
            message: signature.message,
            sub: &format!("{}:{}:{}", signature.gid, signature.sid, signature.rev),
            source,
            destination: Some(destination),
            port: place.packet.ports().map(|(_, port)| port),
        };
        self.notice(&notice);
    }

    /// Names and values: rows written, anomalies that were only counted.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("zeek_rows", self.files.rows()), ("zeek_weird_unwritten", self.told.unwritten)]
    }

    /// Writes what is open and the last lines.
    ///
    /// # Errors
    /// The log that could not be written, and what the system said.
    pub fn close(mut self) -> Result<(), (&'static str, std::io::Error)> {
        self.dhcp.end(&mut self.files);
        self.files.close()
    }

    /// The state of a flow.
    fn log_of(&mut self, flow: &Flow) -> Option<&mut FlowLog> {
        let slot = usize::try_from(flow.slot).ok()?;
        if self.flows.len() <= slot {
            // Slots are dense: the engine's cap on flows is this one's.
            self.flows.resize_with(slot + 1, FlowLog::default);
        }
        let log = self.flows.get_mut(slot)?;
        if log.flow != flow.id {
            *log = FlowLog { flow: flow.id, ..FlowLog::default() };
        }
        Some(log)
    }

    /// The state in a slot that is in use.
    fn slot(&mut self, slot: u32) -> Option<&mut FlowLog> {
        self.flows.get_mut(usize::try_from(slot).ok()?)
    }

    /// Tells what is in a tunnel the name of its outside, whichever of both comes first.
    fn tunnels(&mut self, packet: &Packet<'_>, flow: &Flow) {
        if self.frame.number != packet.number {
            self.frame.number = packet.number;
            self.frame.layers.clear();
        }
        let is_tunnel = |layer: &Layer| layer.tunnel.is_some();
        let tunnel = match packet.origin {
            Origin::Tunnel(tunnel) => Some(tunnel),
            Origin::Wire | Origin::Rebuilt => None,
            Origin::FlowEnd => return,
        };
        if self.frame.layers.len() >= PARENTS_MAX {
            return;
        }
        let layer = Layer { depth: packet.tunnel_depth, slot: flow.slot, tunnel };
        self.frame.layers.push(layer);
        // Most frames are no tunnel.
        if !self.frame.layers.iter().any(is_tunnel) {
            return;
        }
        let near = |other: &&Layer| other.depth.abs_diff(layer.depth) == 1;
        let others: Vec<Layer> = self.frame.layers.iter().filter(near).copied().collect();
        for other in others {
            let (outer, inner) =
                if other.depth < layer.depth { (other, layer) } else { (layer, other) };
            if let Some(name) = inner.tunnel.and_then(tunnel_name)
                && let Some(log) = self.slot(outer.slot)
            {
                log.tunnel = Some(name);
            }
            if let Some(uid) = self.slot(outer.slot).map(|log| log.uid())
                && let Some(log) = self.slot(inner.slot)
            {
                let parents = log.parents.get_or_insert_default();
                if parents.len() < PARENTS_MAX && !parents.contains(&uid) {
                    parents.push(uid);
                }
            }
        }
    }

    /// Takes transactions of the engine, see [`Self::take`].
    fn transactions(&mut self, flow: &Flow, is_over: bool) {
        self.take(flow, &flow.zeek, &flow.app, is_over);
    }

    /// Takes transactions: those that are complete, or all when the flow `is_over`.
    fn take(&mut self, flow: &Flow, connection: &Connection, app: &App, is_over: bool) {
        let Some(log) = usize::try_from(flow.slot).ok().and_then(|slot| self.flows.get_mut(slot))
        else {
            return;
        };
        let mut ident = None;
        for tx in app.txs() {
            let is_single = matches!(tx, TxRef::Tls(_) | TxRef::Ssh(_));
            if !is_single && tx.id() < log.next_tx {
                continue;
            }
            if !is_over && !is_due(tx) {
                break;
            }
            if is_single && std::mem::replace(&mut log.is_handshake_written, true) {
                continue;
            }
            log.next_tx = tx.id() + 1;
            let ident = ident.get_or_insert_with(|| {
                let ident = ident_of(flow, connection);
                if log.is_flipped { ident.flipped() } else { ident }
            });
            let proto = conn::transport(flow.key.protocol);
            match tx {
                TxRef::Dns(tx) => {
                    // Who answers first is the server, whatever the engine made of it.
                    let is_client = tx.direction == Direction::ToServer;
                    let is_by_orig = is_client == connection.is_originator_client();
                    if tx.id == 0
                        && is_by_orig
                        && tx.message.is_response()
                        && !ident.resp_h.is_multicast()
                    {
                        log.is_flipped = true;
                        *ident = ident.clone().flipped();
                    }
                    log.dns.get_or_insert_default().message(ident, proto, tx, &mut self.files);
                }
                TxRef::Http(tx) if tx.is_control() => {}
                TxRef::Http(tx) => {
                    for name in http::oddities(tx).filter(|_| !log.is_http_over) {
                        let weird = Weird { name, source: Some("HTTP") };
                        let seen = Some(&mut **log.weird.get_or_insert_default());
                        self.told.tell(tx.at_ns, Some(&*ident), seen, &weird, &mut self.files);
                    }
                    log.is_http_over |= http::is_broken(tx);
                    if !log.is_http_over {
                        http::write(ident, tx, &mut self.files);
                        let history = connection.history().as_str();
                        http::write_late_end(ident, tx, history, &mut self.files);
                    }
                }
                TxRef::Tls(tx) => ssl::write(ident, tx, &mut self.files),
                TxRef::Ssh(tx) => ssh::write(ident, tx, &mut self.files),
                TxRef::Quic(tx) => log.quic.get_or_insert_default().take(tx),
                TxRef::Dhcp(tx) => {
                    let is_client = tx.direction == Direction::ToServer;
                    let is_orig = is_client == connection.is_originator_client();
                    self.dhcp.message(ident, is_orig, tx, &mut self.files);
                }
                TxRef::Smtp(_) | TxRef::Record(_) => {}
            }
        }
    }

    /// Feeds connections that the engine has no session for.
    fn one_sided(&mut self, view: &View<'_, '_>, flow: &Flow) {
        let is_followed = flow.tcp.as_ref().is_some_and(|session| session.is_established());
        let is_data = flow.key.protocol == 6 && !view.packet.payload.is_empty();
        let is_passed = is_followed || !is_data || flow.app.proto().is_some();
        if is_passed || conn::is_partial(flow, &flow.zeek) || self.is_wrong(view.packet) {
            return;
        }
        let Some(log) = usize::try_from(flow.slot).ok().and_then(|slot| self.flows.get_mut(slot))
        else {
            return;
        };
        let is_from_orig =
            (view.direction == Direction::ToServer) == flow.zeek.is_originator_client();
        let direction = if is_from_orig { Direction::ToServer } else { Direction::ToClient };
        let (client, server) = (flow.key.client_port, flow.key.server_port);
        let is_straight = flow.zeek.is_originator_client();
        let ports = if is_straight { (client, server) } else { (server, client) };
        let mut one_side = log.one_side.take().unwrap_or_default();
        if one_side.segment(view.packet, direction, ports, &self.app) {
            self.take(flow, &flow.zeek, &one_side.app, false);
            one_side.app.prune();
        }
        if let Some(log) = self.slot(flow.slot) {
            log.one_side = Some(one_side);
        }
    }

    /// Services that the engine does not name.
    fn signs(&mut self, view: &View<'_, '_>, flow: &Flow) {
        let side = flow.side(view.direction);
        let payload = view.packet.payload;
        let is_tcp = matches!(view.packet.transport, Transport::Tcp(_));
        let is_named = !matches!(flow.app.proto(), None | Some(Proto::Ldap | Proto::Pgsql));
        let is_passed = payload.is_empty() || is_named || side.packets > services::PACKETS_MAX;
        if is_passed || self.is_wrong(view.packet) {
            return;
        }
        let (client, server) = (flow.key.client_port, flow.key.server_port);
        let is_straight = flow.zeek.is_originator_client();
        let seen = services::Seen {
            payload,
            is_tcp,
            is_orig: (view.direction == Direction::ToServer) == is_straight,
            is_first: side.payload_bytes == payload.len() as u64,
            ports: if is_straight { (client, server) } else { (server, client) },
            proto: flow.app.proto(),
        };
        if let Some(log) = self.slot(flow.slot) {
            log.signs.packet(&seen);
        }
    }

    /// What is left of a connection that the engine has no session for, and its service.
    fn end_one_side(&mut self, flow: &Flow, connection: &Connection) -> Option<Proto> {
        let one_side = self.slot(flow.slot)?.one_side.take()?;
        self.take(flow, connection, &one_side.app, true);
        if let Some(log) = self.slot(flow.slot) {
            // What comes next in this flow is another connection.
            (log.next_tx, log.is_handshake_written) = (0, false);
        }
        one_side.app.proto()
    }

    /// Zeek does not look into a packet with a wrong checksum; Suricata looks into such datagrams.
    fn is_wrong(&self, packet: &Packet<'_>) -> bool {
        self.is_checksum_validated
            && packet.is_checksum_wrong
            && matches!(packet.transport, Transport::Udp { .. } | Transport::Tcp(_))
    }

    /// Passes over the transactions that are there.
    fn skip(&mut self, flow: &Flow) {
        let next = flow.app.txs().map(|tx| tx.id() + 1).max().unwrap_or(0);
        if let Some(log) = self.log_of(flow) {
            log.next_tx = log.next_tx.max(next);
        }
    }

    /// LLMNR (RFC 4795) and NetBIOS's name service have DNS's messages; the engine does not look into
    /// them, Zeek does.
    fn local_names(&mut self, packet: &Packet<'_>, flow: &Flow) {
        let is_of = |port| LOCAL_NAME_PORTS.contains(&port);
        let is_asked = matches!(packet.transport, Transport::Udp { .. })
            && packet.ports().is_some_and(|(from, to)| is_of(from) || is_of(to));
        if !is_asked || flow.app.proto().is_some() || self.is_wrong(packet) {
            return;
        }
        let Ok((message, events)) = dns_message::parse(packet.payload) else {
            return;
        };
        let ident = ident_of(flow, &flow.zeek);
        let Some(log) = usize::try_from(flow.slot).ok().and_then(|slot| self.flows.get_mut(slot))
        else {
            return;
        };
        let id = log.next_tx;
        log.next_tx += 1;
        log.service = Some("dns".into());
        let direction = Direction::ToServer;
        let tx = dns_message::Tx { id, at_ns: packet.time_ns, direction, message, events };
        log.dns.get_or_insert_default().message(&ident, "udp", &tx, &mut self.files);
    }

    fn weird(&mut self, view: &View<'_, '_>) {
        let packet = view.packet;
        if packet.events.is_empty() {
            return;
        }
        let flow = view.flow.as_deref();
        let ident = match flow {
            Some(flow) => Some(ident_of(flow, &flow.zeek)),
            None => packet.ip.map(|ip| {
                let (orig_p, resp_p) = packet.ports().unwrap_or_default();
                let (orig_h, resp_h) = (ip.source, ip.destination);
                Ident { uid: String::new(), orig_h, orig_p, resp_h, resp_p }
            }),
        };
        let mut seen = flow
            .and_then(|flow| usize::try_from(flow.slot).ok())
            .and_then(|slot| self.flows.get_mut(slot))
            .map(|log| &mut **log.weird.get_or_insert_default());
        // What Suricata's protocol detection finds odd is nothing to Zeek.
        let own = packet.events.iter().filter(|event| !event.name().starts_with("applayer_"));
        for event in own {
            let weird = Weird::of_packet(event);
            let (ident, names) = (ident.as_ref(), seen.as_deref_mut());
            self.told.tell(packet.time_ns, ident, names, &weird, &mut self.files);
        }
    }
}

/// Whether a transaction can be written before its flow ends.
fn is_due(tx: TxRef<'_>) -> bool {
    match tx {
        TxRef::Tls(tx) => tx.is_established,
        // What both sides offer may still come.
        TxRef::Ssh(_) => false,
        TxRef::Http(_)
        | TxRef::Dns(_)
        | TxRef::Smtp(_)
        | TxRef::Quic(_)
        | TxRef::Dhcp(_)
        | TxRef::Record(_) => tx.is_complete(),
    }
}

/// What carries, as a service; IP in IP and GRE are none.
fn tunnel_name(tunnel: Tunnel) -> Option<&'static str> {
    match tunnel {
        Tunnel::Vxlan => Some("vxlan"),
        Tunnel::Geneve => Some("geneve"),
        Tunnel::Gtp => Some("gtpv1"),
        Tunnel::Ayiya => Some("ayiya"),
        Tunnel::Teredo => Some("teredo"),
        Tunnel::Ip4 | Tunnel::Ip6 | Tunnel::Gre | Tunnel::Erspan => None,
    }
}

/// The name of a connection: the same in every log.
fn uid_of(flow: &Flow, connection: &Connection) -> String {
    ident::unique('C', [flow.id, connection.first_ns()])
}

/// Who talks with whom, from Zeek's point of view.
#[must_use]
pub fn ident_of(flow: &Flow, connection: &Connection) -> Ident {
    let key = if connection.is_originator_client() { flow.key } else { flow.key.reversed() };
    Ident {
        uid: uid_of(flow, connection),
        orig_h: key.client,
        orig_p: key.client_port,
        resp_h: key.server,
        resp_p: key.server_port,
    }
}

impl Inspector for Logs {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        if let Some(flow) = view.flow.as_deref().filter(|flow| flow.zeek.is_live()) {
            // Makes the state of the slot.
            let Some(log) = self.log_of(flow) else {
                return;
            };
            if log.first_ns == 0 {
                log.first_ns = flow.zeek.first_ns();
            }
            self.tunnels(view.packet, flow);
            if view.is_app_changed && !conn::is_partial(flow, &flow.zeek) {
                if self.is_wrong(view.packet) {
                    self.skip(flow);
                }
                self.transactions(flow, false);
            }
            self.local_names(view.packet, flow);
            self.one_sided(view, flow);
            self.signs(view, flow);
            if flow.app.proto() == Some(Proto::Ftp) {
                self.ftp.control(view.packet.payload, flow.server());
            }
        }
        self.weird(view);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        let alone = self.end_one_side(flow, connection);
        let ident = ident_of(flow, connection);
        let mut ended = self.log_of(flow).map(std::mem::take).unwrap_or_default();
        let service = ended.service.take().map(String::from);
        let mut service = service.unwrap_or_else(|| {
            conn::service(
                flow,
                connection,
                &conn::Hints { tunnel: ended.tunnel, alone, signs: ended.signs },
            )
        });
        if service.is_empty() && self.ftp.take((ident.resp_h, ident.resp_p)) {
            service.push_str("ftp-data");
        }
        let parents = ended.parents.take().unwrap_or_default();
        conn::write(&ident, flow, connection, &service, &parents, &mut self.files);
        ended.first_ns = 0;
        // The flow may go on, as another connection.
        if let Some(log) = self.slot(flow.slot) {
            *log = ended;
        }
        self.dhcp.expire(flow.last_ns, &mut self.files);
    }

    fn flow_end(&mut self, flow: &mut Flow, _reason: Reason) {
        if !conn::is_partial(flow, &flow.zeek) {
            self.transactions(flow, true);
        }
        let ident = ident_of(flow, &flow.zeek);
        let Some(log) = self.log_of(flow) else {
            return;
        };
        // The connection may end later, when nobody knows any more what was spoken.
        if log.one_side.is_none() {
            let hints = conn::Hints { tunnel: log.tunnel, alone: None, signs: log.signs };
            log.service.get_or_insert_with(|| conn::service(flow, &flow.zeek, &hints).into());
        }
        let ident = if log.is_flipped { ident.flipped() } else { ident };
        let (dns, quic) = (log.dns.take(), log.quic.take());
        if let Some(mut pending) = dns {
            pending.end(&ident, &mut self.files);
        }
        if let Some(hello) = quic {
            hello.write(&ident, &mut self.files);
        }
    }
}
