//! From flows to facts: an inspector of `hookprobe-traffic` that holds the detectors.
//!
//! One packet at a time: the first of a flow makes [`Observation::Started`], the first one back
//! [`Observation::Answered`], transactions of the application layer make the facts that they are,
//! Zeek's end of a connection makes [`Observation::Ended`], and a long flow is told in between
//! ([`CONTINUE_NS`]). What a connection was told is kept by flow slot, so nothing is counted twice.
//!
//! Must never happen here: state that outgrows the engine's table of flows, a fact that is made
//! from a packet that the engine found invalid. Called by the engine of whoever runs it.

mod facts;

use hookprobe_traffic::{
    Direction,
    app::{State as AppState, TxRef},
    engine::{Inspector, View},
    flow::{Flow, Reason},
    packet::{Packet, TcpFlags, Transport},
    zeek,
};

use crate::{
    Behaviour, Finding,
    observation::{Answer, MINUTE_NS, Mac, Observation, Service, TimeNs},
};

/// How often a flow that goes on is told. 5 min: exfiltration is seen while it happens, and a
/// hundred thousand flows make 330 facts a second.
pub const CONTINUE_NS: TimeNs = 5 * MINUTE_NS;

/// Findings that wait to be taken; more are dropped and counted. The gate lets 120 a minute
/// through, so this is half an hour of a caller that never takes.
pub const FINDINGS_MAX: usize = 4096;

/// What was told about the flow in a slot.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Lower half of its number: the next flow in the slot has another, four thousand million further on
    /// is not the next.
    flow: u32,
    /// What was told once, of [`once`].
    done: u8,
    /// Known only while the flow has its application layer.
    service: Service,
    /// Zeros where it is not known.
    client_mac: Mac,
    /// The first transaction that was not told; nobody counts to four thousand million in one flow.
    next_tx: u32,
    /// Of a flow that was told in between: most are over before.
    between: Option<Box<Between>>,
    server_name: Option<Box<str>>,
}

mod once {
    pub(super) const ANSWERED: u8 = 1;
    pub(super) const HELLO: u8 = 2;
}

/// One for each flow: 4 MB for 100,000.
const _: () = assert!(size_of::<Told>() <= 40);

impl Told {
    /// Whether it is told for the first time.
    const fn first(&mut self, what: u8) -> bool {
        let is_first = self.done & what == 0;
        self.done |= what;
        is_first
    }

    fn client_mac(&self) -> Option<Mac> {
        (self.client_mac != Mac::default()).then_some(self.client_mac)
    }

    /// When it was last told: at its begin, if not since.
    fn at_ns(&self, flow: &Flow) -> TimeNs {
        self.between.as_ref().map_or(flow.first_ns, |between| between.at_ns)
    }

    /// What was told of its bytes; the next connection in the flow begins with none.
    fn bytes_told(&mut self) -> [u64; 2] {
        self.between.as_mut().map(|between| std::mem::take(&mut between.bytes)).unwrap_or_default()
    }
}

/// The number behind that of a transaction.
fn following(id: u64) -> u32 {
    u32::try_from(id + 1).unwrap_or(u32::MAX)
}

/// When a flow was last told, and its bytes by then.
#[derive(Debug, Clone, Default)]
struct Between {
    at_ns: TimeNs,
    bytes: [u64; 2],
}

/// Who takes the facts: [`Behaviour`], or what holds one and looks at more than it does.
pub trait Facts {
    /// One fact that became known at `now_ns`.
    fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>);
    /// Time passed; every older fact was handled.
    fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Finding>);
    /// The input is over.
    fn finish(&mut self, out: &mut Vec<Finding>);
    /// Named counters since the start.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

impl Facts for Behaviour {
    fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        Self::handle(self, now_ns, fact, out);
    }

    fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Finding>) {
        Self::tick(self, now_ns, out);
    }

    fn finish(&mut self, out: &mut Vec<Finding>) {
        Self::finish(self, out);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Self::counters(self)
    }
}

/// The inspector.
#[derive(Debug)]
pub struct Glue<F: Facts = Behaviour> {
    facts: F,
    slots: Vec<Told>,
    findings: Vec<Finding>,
    dropped: u64,
}

impl<F: Facts> Glue<F> {
    /// Around detectors.
    #[must_use]
    pub fn new(facts: F) -> Self {
        Self { facts, slots: Vec::new(), findings: Vec::new(), dropped: 0 }
    }

    /// The detectors.
    #[must_use]
    pub fn facts(&self) -> &F {
        &self.facts
    }

    /// The detectors, to be given something.
    pub fn facts_mut(&mut self) -> &mut F {
        &mut self.facts
    }

    /// Gives a fact that is not from packets.
    pub fn hear(&mut self, now_ns: TimeNs, fact: &Observation<'_>) {
        self.tell(now_ns, fact);
    }

    /// Takes what was found since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Lets waits end: once a second of the input's time, after the engine's own tick.
    pub fn tick(&mut self, now_ns: TimeNs) {
        self.facts.tick(now_ns, &mut self.findings);
        self.bound();
    }

    /// The input is over; call it after the engine's `finish`.
    pub fn finish(&mut self) {
        self.facts.finish(&mut self.findings);
        self.bound();
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.facts.counters();
        counters.push(("findings_dropped", self.dropped));
        counters
    }

    fn tell(&mut self, now_ns: TimeNs, fact: &Observation<'_>) {
        self.facts.handle(now_ns, fact, &mut self.findings);
        self.bound();
    }

    fn bound(&mut self) {
        if let Some(over) = self.findings.len().checked_sub(FINDINGS_MAX) {
            self.dropped += crate::finding::count(over);
            self.findings.truncate(FINDINGS_MAX);
        }
    }

    /// What was told about a flow; a new flow in the slot has been told nothing.
    fn told(&mut self, flow: &Flow) -> &mut Told {
        let at = flow.slot as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Told::default);
        }
        // The engine's slots are dense, so the slot is there now.
        #[expect(clippy::indexing_slicing, reason = "resized to hold it just above")]
        let told = &mut self.slots[at];
        let number = flow.id as u32;
        if told.flow != number {
            *told = Told { flow: number, ..Told::default() };
        }
        told
    }

    /// Begin, answer and length of the flow of a packet.
    fn connection(&mut self, view: &View<'_, '_>, flow: &Flow) {
        let (packet, now_ns) = (view.packet, view.packet.time_ns);
        let is_forward = view.direction == Direction::ToServer;
        let told = self.told(flow);
        if is_forward && told.client_mac().is_none() {
            told.client_mac = facts::sender(packet).unwrap_or_default();
        }
        if view.is_first && is_forward && facts::begins(packet) {
            let mut begin = facts::connection(flow, told.client_mac(), None);
            (begin.state, begin.last_ns) = (crate::observation::State::S0, begin.first_ns);
            self.tell(now_ns, &Observation::Started(begin));
        } else if !is_forward && told.first(once::ANSWERED) {
            let connection = facts::connection(flow, told.client_mac(), None);
            self.tell(now_ns, &Observation::Answered(connection, answer(packet)));
        } else if now_ns.saturating_sub(told.at_ns(flow)) >= CONTINUE_NS {
            let name = told.server_name.clone();
            let mut connection = facts::connection(flow, told.client_mac(), name.as_deref());
            let now = [connection.sent.payload_bytes, connection.received.payload_bytes];
            let between = Box::new(Between { at_ns: now_ns, bytes: now });
            let before = told.between.replace(between).unwrap_or_default();
            facts::since(&mut connection, before.bytes);
            self.tell(now_ns, &Observation::Continued(connection));
        }
    }

    /// What the application layer learnt from this packet.
    fn application(&mut self, view: &View<'_, '_>, flow: &Flow) {
        let (packet, now_ns) = (view.packet, view.packet.time_ns);
        match &flow.app.state {
            AppState::Tls(tls) => self.tls(now_ns, flow, tls),
            AppState::Http(_) => {
                self.http(flow);
                self.requests(now_ns, flow, false);
            }
            AppState::Dns(_) | AppState::Quic(_) | AppState::Dhcp(_) => {
                for tx in flow.app.txs() {
                    let told = self.told(flow);
                    if tx.id() < u64::from(told.next_tx) {
                        continue;
                    }
                    told.next_tx = following(tx.id());
                    self.message(packet, flow, tx);
                }
            }
            // Other protocols hold no fact of their own; their connections do.
            _ => {}
        }
    }

    fn message(&mut self, packet: &Packet<'_>, flow: &Flow, tx: TxRef<'_>) {
        let now_ns = packet.time_ns;
        match tx {
            TxRef::Dns(tx) if matches!(&flow.app.state, AppState::Dns(dns) if dns.is_mdns) => {
                for named in facts::names(packet, tx) {
                    self.tell(now_ns, &Observation::Named(named));
                }
            }
            TxRef::Dns(tx) => {
                let addresses = facts::addresses(tx);
                if let Some(message) = facts::dns(flow, tx, &addresses) {
                    self.tell(now_ns, &Observation::Dns(message));
                }
            }
            TxRef::Quic(tx) => {
                let Some(hello) = &tx.client_hello else {
                    return;
                };
                let name = hello.server_name.as_deref().and_then(facts::host);
                let fact = facts::hello(flow, name, tx.ja4.as_deref());
                let told = self.told(flow);
                if told.first(once::HELLO) {
                    told.server_name = name.map(Box::from);
                    self.tell(now_ns, &Observation::TlsHello(fact));
                }
            }
            TxRef::Dhcp(tx) => {
                if let Some(message) = facts::dhcp(packet, tx) {
                    self.tell(now_ns, &Observation::Dhcp(message));
                }
            }
            _ => {}
        }
    }

    fn tls(&mut self, now_ns: TimeNs, flow: &Flow, tls: &hookprobe_traffic::app::tls::Tls) {
        let Some(hello) = &tls.tx.client_hello else {
            return;
        };
        let name = hello.server_name.as_deref().and_then(facts::host);
        let told = self.told(flow);
        if told.first(once::HELLO) {
            told.server_name = name.map(Box::from);
            let fact = facts::hello(flow, name, tls.tx.ja4.as_deref());
            self.tell(now_ns, &Observation::TlsHello(fact));
        }
    }

    fn http(&mut self, flow: &Flow) {
        if self.told(flow).server_name.is_some() {
            return;
        }
        let host = flow.app.txs().find_map(|tx| match tx {
            TxRef::Http(tx) => tx.request.host.as_deref().and_then(facts::host).map(Box::from),
            _ => None,
        });
        self.told(flow).server_name = host;
    }
}

impl<F: Facts> Glue<F> {
    /// Tells requests that are complete; all where the flow `is_over`.
    fn requests(&mut self, now_ns: TimeNs, flow: &Flow, is_over: bool) {
        for tx in flow.app.txs() {
            let TxRef::Http(tx) = tx else {
                continue;
            };
            if tx.id < u64::from(self.told(flow).next_tx) {
                continue;
            }
            if !is_over && !facts::is_asked(tx) {
                break;
            }
            self.told(flow).next_tx = following(tx.id);
            self.tell(now_ns, &Observation::Request(facts::request(flow, tx)));
        }
    }
}

impl<F: Facts> Inspector for Glue<F> {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        let (packet, now_ns) = (view.packet, view.packet.time_ns);
        if packet.is_invalid {
            return;
        }
        if let Some(arp) = facts::arp(packet) {
            self.tell(now_ns, &Observation::Arp(arp));
        }
        if let Some(advertisement) = facts::router_advertisement(packet) {
            self.tell(now_ns, &Observation::RouterAdvertisement(advertisement));
        }
        let Some(flow) = view.flow.take() else {
            return;
        };
        if packet.ip.is_some() {
            self.connection(view, flow);
        }
        if view.is_app_changed {
            self.application(view, flow);
        }
        view.flow = Some(flow);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        let told = self.told(flow);
        let name = told.server_name.clone();
        let before = told.bytes_told();
        let service = told.service;
        let mut ended = facts::ended(flow, connection, told.client_mac(), name.as_deref());
        if ended.service == Service::Unknown {
            ended.service = service;
        }
        facts::since(&mut ended, before);
        // A connection ends when its last wait is over, which is later than its last packet; what
        // the detectors need is the latter, and time does not go back for it.
        self.tell(ended.last_ns, &Observation::Ended(ended));
    }

    fn flow_end(&mut self, flow: &mut Flow, _reason: Reason) {
        // What was cut off may have done its work before.
        self.requests(flow.last_ns, flow, true);
        // Its last connection may end later: Zeek waits longer than the flow table.
        self.told(flow).service = facts::service(flow);
    }
}

/// What the first packet of the server says.
fn answer(packet: &Packet<'_>) -> Answer {
    match packet.transport {
        Transport::Tcp(tcp) if tcp.flags.has(TcpFlags::RST) && packet.payload.is_empty() => {
            Answer::Refused
        }
        Transport::Icmp(icmp) | Transport::Icmp6(icmp) if icmp.about.is_some() => {
            Answer::Unreachable
        }
        _ => Answer::Accepted,
    }
}
