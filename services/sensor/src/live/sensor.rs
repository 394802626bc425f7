//! The state of the live sensor and what each event does to it. The loop in [`super`] calls it.

use std::{path::PathBuf, time::Duration};

use hookprobe_abi::{self as abi, Record as Packet, kind};
use hookprobe_wire::{
    Diagnostic, Severity,
    event::{Alert, Evidence, STATUS_DIAGNOSTICS_MAX},
    inspector::{Order, Report, State},
    sensor::{COUNTERS_MAX, Reply, Request, Status},
    text,
};
use rustix::process::geteuid;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::{
    attach::Attachments,
    blocklist,
    drill::Drill,
    drops::Drops,
    host::Host,
    inspector::Said,
    interfaces::Wanted,
    ledger::{QUEUE_MAX, Told},
    reload::{Addresses, Reloading, refused},
    samples::Samples,
    socket::Call,
    status::{TopFlows, kernel_counters, named},
};
use crate::{
    clock::{boot_ns, real_ns, to_real_ns},
    core::{
        Core, Effect, Finding, TimeNs,
        address::{is_drill_source, to_ip},
        scan::HELD_BACK,
    },
    object::{Maps, Object, Records, lists::List},
    watch::Scanners,
};

/// Records handled in one go, so that the beat is never late: about 5 ms.
const DRAIN_MAX: usize = 4096;
/// Places of the ledger's queue that only convictions of a scan may take: they block.
const RESERVED: usize = QUEUE_MAX / 4;
/// Characters of what is wrong with the list of addresses.
const TROUBLE_CHARS_MAX: usize = 300;
/// How long a list that was replaced is kept.
const OLD_LIST_NS: TimeNs = Duration::from_secs(1).as_nanos() as TimeNs;
/// How long a loss is shown as a diagnostic. 60 s: until a person has looked.
const LOSS_SHOWN_NS: TimeNs = Duration::from_secs(60).as_nanos() as TimeNs;

/// Numbers of the shell.
#[derive(Debug, Default)]
struct Counts {
    alerts_acknowledged: u64,
    alerts_dropped: u64,
    records_foreign: u64,
    drills: u64,
}

/// Where lists are that the kernel gets.
#[derive(Debug)]
pub struct Lists {
    /// Folder of the list of addresses, written by PID 1.
    pub detection: PathBuf,
    /// The accepted site configuration.
    pub site: PathBuf,
}

/// Everything that the loop owns but the ring buffer.
pub struct Sensor {
    object: Object,
    maps: Maps,
    /// Ring buffers that the beat looks after: samples, events of the host.
    rings: (Records, Records),
    samples: Samples,
    host: Host,
    attachments: Attachments,
    core: Core,
    effects: Vec<Effect>,
    alerts: mpsc::Sender<Alert>,
    drill: Drill,
    flows: TopFlows,
    counts: Counts,
    /// Trouble at start that does not pass.
    trouble: Vec<Diagnostic>,
    /// Why the ledger can't be reached now.
    ledger_down: Option<String>,
    drops: Drops,
    lost_total: u64,
    lost_ns: Option<TimeNs>,
    is_drained: bool,
    orders: mpsc::Sender<Order>,
    /// What the inspector was told to watch.
    watched: Option<Vec<u32>>,
    /// How the inspector was a second ago, or why it is away.
    inspector: Result<State, String>,
    scanners: Scanners,
    lists: Lists,
    has_list: bool,
    old_list_ns: Option<TimeNs>,
    reloading: Reloading<oneshot::Sender<Reply>>,
}

impl Sensor {
    pub fn new(
        mut object: Object,
        mut maps: Maps,
        rings: (Records, Records),
        wanted: Wanted,
        (alerts, orders): (mpsc::Sender<Alert>, mpsc::Sender<Order>),
        lists: Lists,
        trouble: Option<Diagnostic>,
    ) -> Self {
        let host = Host::start(&mut object, &mut maps);
        let mut own = Self {
            object,
            maps,
            rings,
            samples: Samples::default(),
            host,
            attachments: Attachments::new(wanted),
            core: Core::new(),
            effects: Vec::new(),
            alerts,
            drill: Drill::default(),
            flows: TopFlows::default(),
            counts: Counts::default(),
            trouble: trouble.into_iter().collect(),
            ledger_down: None,
            drops: Drops::default(),
            lost_total: 0,
            lost_ns: None,
            is_drained: true,
            orders,
            watched: None,
            inspector: Err("not connected yet".into()),
            scanners: Scanners::default(),
            lists,
            has_list: false,
            old_list_ns: None,
            reloading: Reloading::default(),
        };
        // What is wrong with it was said.
        let _ = own.block_list();
        own
    }

    /// Puts the list of addresses in force. The loop waits for it: a hundred thousand take a tenth
    /// of a second, at the start and when somebody asks.
    fn block_list(&mut self) -> Addresses {
        let said = |why: String| {
            warn!("{why}");
            text::escape(&why, TROUBLE_CHARS_MAX)
        };
        let list = match blocklist::load(&self.lists.detection, &self.lists.site) {
            Ok(Some(list)) => list,
            // Without a file the list of before has to go.
            Ok(None) if self.has_list => List::default(),
            Ok(None) => return Ok(0),
            Err(error) => return Err(said(error.to_string())),
        };
        self.maps.swap_list(&list).map_err(|error| said(crate::causes(&error)))?;
        self.has_list = !list.is_empty();
        self.old_list_ns = Some(boot_ns());
        Ok(list.len() as u64)
    }

    /// The inspector said something, or is away.
    pub fn said(&mut self, said: Said) {
        match said {
            Said::Report(report) => match *report {
                Report::Found { alert, interface } => self.found(alert, interface),
                Report::State(state) => {
                    if self.inspector.is_err() {
                        info!("packets are inspected");
                    }
                    tell(self.reloading.read(state.read.as_ref()));
                    self.inspector = Ok(state);
                }
            },
            Said::Away { reason } => {
                if self.inspector.is_ok() {
                    warn!(
                        "HP-SN-089 inspector: {reason}; packets are not inspected until it is back"
                    );
                }
                self.inspector = Err(reason);
                tell(self.reloading.away());
            }
        }
    }

    /// The inspector is convinced of something.
    fn found(&mut self, mut alert: Alert, interface: u32) {
        // A wait that ends is on no interface, unless there is only one.
        let name =
            self.interface_name(interface).or_else(|| match self.attachments.indices()[..] {
                [only] => self.interface_name(only),
                _ => None,
            });
        alert.interface = name.unwrap_or_else(|| "-".into());
        // Drills are this process's business alone.
        alert.drill = false;
        self.tell(alert);
    }

    /// Gives the inspector what nobody looked at while it was away, some each second, once its lists are in
    /// force: before that a name would be looked up in none.
    fn hand_over(&mut self) {
        let is_ready = self.inspector.as_ref().is_ok_and(|state| state.read.is_some());
        if is_ready && self.orders.capacity() > 1 {
            let samples = self.samples.missed();
            if !samples.is_empty() {
                let _ = self.orders.try_send(Order::Missed { samples });
            }
        }
    }

    /// Has the inspector watch what is attached.
    fn watch(&mut self) {
        let interfaces = self.attachments.indices();
        if self.watched.as_ref() != Some(&interfaces)
            && self.orders.try_send(Order::Watch { interfaces: interfaces.clone() }).is_ok()
        {
            self.watched = Some(interfaces);
        }
    }

    /// One sentence for PID 1.
    pub fn state(&self) -> String {
        match self.attachments.attached() {
            0 => "degraded: no interface is watched".into(),
            count => format!("watching {count} interface(s)"),
        }
    }

    /// Takes records out of the ring buffer; `true` when it is empty.
    pub fn drain(&mut self, records: &mut Records) -> bool {
        self.is_drained = false;
        for _ in 0..DRAIN_MAX {
            let Some(item) = records.next() else {
                self.is_drained = true;
                break;
            };
            let record = parse_record(&item);
            drop(item);
            match record {
                Some(record) => self.record(&record),
                None => self.counts.records_foreign += 1,
            }
        }
        self.apply();
        self.is_drained
    }

    fn record(&mut self, record: &Packet) {
        if record.kind == kind::FIRST_DROP {
            info!(
                source = %to_ip(&record.source),
                time_ns = to_real_ns(record.time_ns),
                "first_drop"
            );
        }
        self.core.handle(record.time_ns, record, &mut self.effects);
    }

    /// Five times a second: ends of waits, the next frame of a drill.
    pub fn beat(&mut self, records: &mut Records) {
        self.drain(records);
        self.samples.drain(&mut self.rings.0, self.inspector.is_err());
        self.host.drain(&mut self.rings.1);
        if self.is_drained {
            self.core.tick(boot_ns(), &mut self.effects);
            self.apply();
        }
        if let Some(frame) = self.drill.next_frame() {
            self.run_drill(&frame);
        }
    }

    /// Once a second: interfaces and counters.
    pub fn second(&mut self) {
        self.attachments.check(&mut self.object);
        self.host.second();
        tell(self.reloading.tick(boot_ns()));
        self.hand_over();
        self.watch();
        // A program runs for microseconds: a second later none is in the old list.
        if self.old_list_ns.is_some_and(|at| boot_ns().saturating_sub(at) >= OLD_LIST_NS) {
            self.old_list_ns = None;
            if let Err(error) = self.maps.release_old_list() {
                warn!("{}", crate::causes(&error));
            }
        }
        let counts = self.maps.counters().unwrap_or([0; abi::COUNTERS]);
        let count = |counter: abi::Counter| counts.get(counter as usize).copied().unwrap_or(0);
        let dropped = abi::REASONS.iter().map(|reason| count(reason.dropped())).sum();
        if let Some(total) = self.drops.counted(boot_ns(), dropped) {
            info!(total, "drops");
        }
        let lost: u64 = abi::Counter::LOSSES.iter().map(|counter| count(*counter)).sum();
        let lost = lost.saturating_add(self.inspector.as_ref().map_or(0, |state| state.lost));
        if lost > self.lost_total {
            if self.lost_ns.is_none() {
                warn!("HP-SN-030 sensor: {lost} records, samples or flows lost, a table was full");
            }
            self.lost_ns = Some(boot_ns());
        }
        self.lost_total = lost;
        let is_over = |since: &TimeNs| boot_ns().saturating_sub(*since) >= LOSS_SHOWN_NS;
        if self.lost_ns.as_ref().is_some_and(is_over) {
            self.lost_ns = None;
        }
    }

    /// Answers a client.
    pub fn answer(&mut self, call: Call) {
        let reply = match call.request {
            Request::Status => Reply::Status(self.status()),
            Request::Drill => self.start_drill(),
            Request::Reload => return self.reload(call.uid, call.reply),
        };
        // A client that left does not want it.
        let _ = call.reply.send(reply);
    }

    /// What the ledger said.
    pub fn told(&mut self, told: Told) {
        match told {
            Told::Acknowledged { alert, seq, hash } => {
                if self.ledger_down.take().is_some() {
                    info!("ledger is back");
                }
                self.counts.alerts_acknowledged += 1;
                info!(
                    seq = %seq,
                    hash = %hash,
                    source = %alert.source,
                    detector = %alert.detector,
                    first_ns = alert.first_ns,
                    decided_ns = alert.decided_ns,
                    acked_ns = real_ns(),
                    "alert"
                );
            }
            Told::Down { reason } => {
                if self.ledger_down.is_none() {
                    warn!("HP-SN-020 ledger: {reason}; alerts wait, see its log");
                }
                self.ledger_down = Some(reason);
            }
            Told::Dropped { code, reason } => {
                self.counts.alerts_dropped += 1;
                warn!("HP-SN-022 ledger: refused an alert ({code} {reason}); see its log");
            }
        }
    }

    /// Does what the core wants.
    fn apply(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Alert(finding) => self.send(&finding),
            }
        }
    }

    /// PID 1 alone measures what is read, so nobody else may ask; or who runs this by hand.
    fn reload(&mut self, uid: Option<u32>, to: oneshot::Sender<Reply>) {
        let is_known = uid.is_some_and(|uid| uid == 0 || uid == geteuid().as_raw());
        let reason = if !is_known {
            let who = uid.map_or("?".into(), |uid| uid.to_string());
            warn!("HP-SN-094 sensor: user {who} asked for a reload and was refused; find out why");
            "HP-SN-094 only PID 1 may ask; use the console"
        } else if self.reloading.is_waiting() {
            "one is under way; ask again when it is done"
        } else {
            let addresses = self.block_list();
            let number = self.reloading.number(boot_ns());
            match &self.inspector {
                Ok(_) if self.orders.try_send(Order::Reload { number: Some(number) }).is_ok() => {
                    return self.reloading.ordered(boot_ns(), number, addresses, to);
                }
                Ok(_) => "the inspector takes no orders now; ask again",
                Err(_) => "the inspector is away and will read them at its start",
            }
        };
        let _ = to.send(refused(reason));
    }

    fn send(&mut self, finding: &Finding) {
        let alert = self.to_alert(finding);
        self.tell(alert);
    }

    /// Tells the ledger, unless another detector told of the same scan just now.
    fn tell(&mut self, alert: Alert) {
        let source = alert.source;
        // A drill proves the path whatever else is going on.
        let is_news = alert.drill
            || self.scanners.is_news(boot_ns(), &alert.detector, alert.severity, source);
        if is_news && !self.queue(alert) {
            self.scanners.forget(source);
        }
    }

    /// Whether there was room for it. The last places are for what is acted upon.
    fn queue(&mut self, alert: Alert) -> bool {
        info!(
            source = %alert.source,
            detector = %alert.detector,
            interface = %alert.interface,
            drill = alert.drill,
            "decided: {}",
            alert.summary
        );
        let may_block = alert.severity >= Severity::Warn && alert.detector.starts_with("scan.");
        let has_room = may_block || self.alerts.capacity() > RESERVED;
        let is_sent = has_room && self.alerts.try_send(alert).is_ok();
        if !is_sent {
            self.counts.alerts_dropped += 1;
            // Once for a flood; the counter has the rest.
            if self.counts.alerts_dropped.is_power_of_two() {
                let dropped = self.counts.alerts_dropped;
                warn!("HP-SN-021 sensor: {dropped} alerts dropped, too many wait; see the ledger");
            }
        }
        is_sent
    }

    fn to_alert(&self, finding: &Finding) -> Alert {
        let is_drill =
            is_drill_source(&finding.source) && self.drill.owns(boot_ns(), &finding.source);
        let interface = match self.interface_name(finding.interface) {
            Some(name) => name,
            None if is_drill => "drill".into(),
            None => format!("if{}", finding.interface),
        };
        let evidence = finding
            .evidence
            .iter()
            .map(|(name, value)| Evidence { name: (*name).into(), value: *value });
        Alert {
            detector: finding.detector.into(),
            severity: Severity::Warn,
            source: to_ip(&finding.source),
            interface,
            summary: finding.summary.clone(),
            evidence: evidence.collect(),
            first_ns: to_real_ns(finding.first_ns),
            decided_ns: to_real_ns(finding.decided_ns),
            drill: is_drill,
            reference: None,
        }
    }

    /// Name of a watched interface.
    fn interface_name(&self, index: u32) -> Option<String> {
        self.attachments.name_of(index).map(str::to_owned)
    }

    fn start_drill(&mut self) -> Reply {
        // A block of a drill before a restart may still be in force and would prove nothing.
        let is_blocked = |source: &abi::Address| self.maps.block.get(source, 0).is_ok();
        let (started, reason) = match self.drill.start(boot_ns(), is_blocked) {
            Ok(frames) => {
                self.counts.drills += 1;
                info!("drill started");
                for frame in frames {
                    self.run_drill(&frame);
                }
                (true, "a scan from 198.51.100.0/24 is played; watch alerts and blocks".into())
            }
            Err(reason) => (false, reason),
        };
        Reply::Drill { started, reason }
    }

    fn run_drill(&mut self, frame: &[u8]) {
        let action = match self.object.test_run(abi::PROGRAM_XDP, frame, 1) {
            Ok((action, _)) => action,
            Err(error) => {
                warn!("{}", crate::causes(&error));
                // Not a drop; the drill ends in time.
                0
            }
        };
        if let Some((outcome, after_ms)) = self.drill.verdict(boot_ns(), action) {
            info!(result = %outcome.word(), after_ms, "drill");
        }
    }

    fn status(&mut self) -> Status {
        let mut counters = kernel_counters(&self.maps);
        for (name, value) in self.core.counters() {
            counters.push(named(name, value));
        }
        let more = self.samples.counters().into_iter().chain(self.host.counters());
        counters.extend(more.map(|(name, value)| named(name, value)));
        let queued = QUEUE_MAX.saturating_sub(self.alerts.capacity());
        for (name, value) in [
            ("scan_doubles", self.scanners.doubles()),
            ("alerts_queued", u64::try_from(queued).unwrap_or(u64::MAX)),
            ("alerts_acknowledged", self.counts.alerts_acknowledged),
            ("alerts_dropped", self.counts.alerts_dropped),
            ("records_foreign", self.counts.records_foreign),
            ("drills", self.counts.drills),
        ] {
            counters.push(named(name, value));
        }
        counters.extend(self.inspector.iter().flat_map(|state| state.counters.iter().cloned()));
        // The wire takes so many; the last are the least.
        counters.truncate(COUNTERS_MAX);
        Status {
            interfaces: self.attachments.interfaces(),
            counters,
            flows: self.flows.get(&self.maps),
            diagnostics: self.diagnostics(),
        }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut diagnostics = self.attachments.diagnostics();
        diagnostics.extend(self.trouble.clone());
        diagnostics.extend(self.host.diagnostics());
        let warning = |code: &str, object: &str, cause: String, remedy: &str| Diagnostic {
            code: code.into(),
            severity: Severity::Warn,
            object: object.into(),
            cause,
            remedy: remedy.into(),
        };
        match &self.inspector {
            Ok(state) => diagnostics.extend(state.diagnostics.iter().cloned()),
            Err(reason) => diagnostics.push(warning(
                "HP-SN-089",
                "inspector",
                format!("packets are not inspected: {reason}"),
                "scans are still seen; see the inspector's log on the Services screen",
            )),
        }
        if let Some(reason) = &self.ledger_down {
            let cause = format!("can't be reached: {reason}");
            diagnostics.push(warning(
                "HP-SN-020",
                "ledger",
                cause,
                "alerts wait; see its log on the Services screen",
            ));
        }
        if self.counts.alerts_dropped > 0 {
            let cause = format!("{} alerts were dropped", self.counts.alerts_dropped);
            let remedy = "see the ledger's log; they are not recorded anywhere";
            diagnostics.push(warning("HP-SN-021", "sensor", cause, remedy));
        }
        let held_back = self.core.counters().into_iter().find(|(name, _)| *name == HELD_BACK);
        let inspected = self.inspector.as_ref().map_or(0, |state| state.held_back);
        let held_back = held_back.map_or(0, |(_, count)| count).saturating_add(inspected);
        if held_back > 0 {
            let cause = format!("{held_back} decisions held back, too many alerts a minute");
            let remedy = "somebody scans from many or forged addresses; look for one interface";
            diagnostics.push(warning("HP-SN-031", "sensor", cause, remedy));
        }
        if self.lost_ns.is_some() {
            let cause =
                format!("{} records, samples or flows lost since the start", self.lost_total);
            let remedy = "more packets than this board can look at; watch fewer interfaces";
            diagnostics.push(warning("HP-SN-030", "sensor", cause, remedy));
        }
        diagnostics.truncate(STATUS_DIAGNOSTICS_MAX);
        diagnostics
    }
}

/// Answers who asked for a reload; one that left does not want it.
fn tell(answer: Option<(oneshot::Sender<Reply>, Reply)>) {
    if let Some((to, reply)) = answer {
        let _ = to.send(reply);
    }
}

/// The record in an item of the ring buffer.
fn parse_record(item: &[u8]) -> Option<Packet> {
    let bytes: &[u8; size_of::<Packet>()] = item.try_into().ok()?;
    Some(crate::object::record_from(bytes))
}
