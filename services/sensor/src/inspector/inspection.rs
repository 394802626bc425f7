//! The inspection of whole packets: a thread of its own beside the loop.
//!
//! ```text
//! ring of packets -> engine -> Watch (rules, detectors, model, names) -> Found -> loop -> sensor
//!                                                                      -> EVE file of alerts
//! ```
//!
//! The loop never waits for it and it never waits for the loop: what does not fit into the channel is
//! dropped and counted, and so is what the kernel had no room for in the ring. Rules and lists are
//! made ready in another thread and put in force between two packets.
//!
//! Time of the engine is CLOCK_BOOTTIME plus what it was behind 1970 when the thread began: it never
//! jumps when somebody sets the clock. What is told, in EVE and to the ledger, carries the clock as it is
//! set then ([`wall`](super::wall)).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as orders,
    },
    thread::{self, JoinHandle},
};

use hookprobe_behaviour::{
    finding::Finding,
    model::forest::ForestSeed,
    network::{Networks, Prefix},
    observation::{Login, Observation},
};
use hookprobe_traffic::{
    config::Config,
    engine::{Engine, Inspector, View},
    flow::{Flow, Reason},
    packet::{Frame, Link},
    zeek::Connection,
};
use hookprobe_wire::{
    event::Alert,
    inspector::{Read, Sample},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    missed::Missed,
    packets::{Ring, Seen},
    rotating::Rotating,
    supplies::{Supplies, Supply},
    wall::Wall,
};
use crate::{
    clock::{boot_ns, real_ns},
    core::TimeNs,
    files,
    outputs::{
        eve::{self, Place, Signature, Types},
        events, time,
    },
    watch::{Limits, Repeats, Settings, Told, Watch},
};

/// What waits for the loop. 256: as many as wait for the ledger.
pub const FOUND_MAX: usize = 256;
/// Orders that wait for the thread; it takes them five times a second at least.
const ORDERS_MAX: usize = 64;
/// How long the thread sleeps without packets: the latest end of a wait is noticed then.
const POLL_MS: u16 = 200;
/// Blocks in one go, so that orders and waits are never late.
const BLOCKS_MAX: usize = 16;
/// Flows at most. 50,000 take half of what the service may have; a site has some thousand.
const FLOWS_MAX: u32 = 50_000;
/// Bytes of streams at most.
const STREAM_BYTES_MAX: usize = 24 << 20;
/// Bytes of streams and application layers at most: with the flows (50 MiB), 20,000 rules twice while
/// they are exchanged (80 MiB) and the detectors, less than the service may have.
const HELD_BYTES_MAX: usize = 48 << 20;
/// How often the model is kept.
const KEEP_NS: TimeNs = 3_600_000_000_000;
/// How often counters are published.
const SECOND_NS: TimeNs = 1_000_000_000;
/// Counters of what was held back by bounds for all sources together.
const HELD_BACK: [&str; 3] =
    ["detect_alerts_held_back", "behaviour_findings_held_back", "behaviour_names_held_back"];
/// Name of the file of alerts, in the folder of the state.
const EVE_FILE: &str = "eve.json";

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// With times since 1970 and without an interface.
    pub alert: Alert,
    /// Index of the interface of the packet that decided; 0 when none did.
    pub interface: u32,
}

/// What the loop wants.
enum Order {
    Watch(Vec<u32>),
    Supply(Supply),
    /// What was put in force before it.
    Read(Read),
    Login(Login),
    Missed(Vec<Sample>),
}

/// Whether rules and lists are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Yes,
    /// And they may have changed since it began.
    Again,
}

/// The loop's end.
pub struct Inspection {
    orders: Option<orders::SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
    supplies: Supplies,
    counters: Arc<Mutex<Vec<(String, u64)>>>,
    read: Arc<Mutex<Option<Read>>>,
    watched: Vec<u32>,
    orders_lost: u64,
    reading: Arc<Mutex<Reading>>,
    /// Number of the last order to read; 0: none but the start's.
    wanted: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Inspection {
    /// Begins; rules and names follow as soon as they are read.
    #[must_use]
    pub fn start(ring: Ring, supplies: Supplies, found: mpsc::Sender<Found>) -> Self {
        let (sender, receiver) = orders::sync_channel(ORDERS_MAX);
        let counters = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let read = Arc::new(Mutex::new(None));
        let shared = Shared {
            counters: Arc::clone(&counters),
            read: Arc::clone(&read),
            ends: Arc::clone(&ends),
        };
        let work = Work::new(ring, receiver, &supplies, found, shared);
        let thread = thread::Builder::new().name("inspect".into()).spawn(move || work.run());
        let mut own = Self {
            orders: Some(sender),
            thread: thread.ok(),
            supplies,
            counters,
            read,
            watched: Vec::new(),
            orders_lost: 0,
            reading: Arc::new(Mutex::new(Reading::No)),
            wanted: Arc::new(AtomicU64::new(0)),
            ends,
        };
        own.reload(0);
        own
    }

    /// Reads rules and names again and puts them in force; packets and flows go on meanwhile. What is
    /// being read already is read once more after that: two sets in the making are more memory than
    /// there is. [`Self::read`] has `number` when it is done.
    pub fn reload(&mut self, number: u64) {
        self.wanted.store(number, Ordering::SeqCst);
        let (Some(sender), supplies) = (self.orders.clone(), self.supplies.clone()) else {
            return;
        };
        {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            if *reading != Reading::No {
                *reading = Reading::Again;
                return;
            }
            *reading = Reading::Yes;
        }
        let (reading, wanted) = (Arc::clone(&self.reading), Arc::clone(&self.wanted));
        let started = thread::Builder::new().name("supplies".into()).spawn(move || {
            loop {
                // Before the first file is opened: an order that comes later reads them again.
                let number = wanted.load(Ordering::SeqCst);
                // Ends with the thread that would take it.
                let loaded = supplies.load(|supply| drop(sender.send(Order::Supply(supply))));
                let _ = sender.send(Order::Read(Read { number, loaded }));
                let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
                if *reading == Reading::Yes {
                    *reading = Reading::No;
                    break;
                }
                *reading = Reading::Yes;
            }
        });
        if let Err(error) = &started {
            *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading::No;
            warn!("HP-SN-078 rules: {error}; not read, restart the inspector");
        }
    }

    /// What is in force since rules and lists were last read.
    #[must_use]
    pub fn read(&self) -> Option<Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Inspects packets of these interfaces.
    pub fn watch(&mut self, interfaces: Vec<u32>) {
        if interfaces != self.watched && self.order(Order::Watch(interfaces.clone())) {
            self.watched = interfaces;
        }
    }

    /// A failed login that a device told of.
    pub fn login(&mut self, login: Login) {
        self.order(Order::Login(login));
    }

    /// First payloads of flows that began while nobody looked.
    pub fn missed(&mut self, samples: Vec<Sample>) {
        self.order(Order::Missed(samples));
    }

    /// Named counters, as of the last second.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        counters.push(("orders_lost".into(), self.orders_lost));
        counters
    }

    /// What was lost, as of the last second: every counter whose name says so.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sum_of(|name| name.ends_with("_lost"))
    }

    /// What was not told because too much was told already; not that anomalies of a device are told
    /// once a day.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.sum_of(|name| HELD_BACK.contains(&name))
    }

    fn sum_of(&self, is_meant: impl Fn(&str) -> bool) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().filter(|(name, _)| is_meant(name)).map(|(_, value)| value).sum()
    }

    /// Whether the thread still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn order(&mut self, order: Order) -> bool {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok());
        self.orders_lost += u64::from(!sent);
        sent
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        // The thread keeps the model and ends, whoever else may still order.
        self.ends.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is said about packets on its way out.
struct Out {
    found: mpsc::Sender<Found>,
    eve: eve::Writer<Rotating>,
    repeats: Repeats,
    interface: u32,
    /// Of the engine's time, what is not time since the start.
    epoch_ns: TimeNs,
    wall: Wall,
    dropped: u64,
}

impl Out {
    /// Whether there was room for it.
    fn send(&mut self, mut alert: Alert) -> bool {
        let wall = self.wall;
        (alert.first_ns, alert.decided_ns) =
            (wall.real(alert.first_ns), wall.real(alert.decided_ns));
        let is_sent = self.found.try_send(Found { alert, interface: self.interface }).is_ok();
        self.dropped += u64::from(!is_sent);
        is_sent
    }
}

impl Told for Out {
    fn rule(&mut self, signature: &Signature<'_>, place: &Place<'_, '_>) {
        let Some(source) = events::source(place) else { return };
        let (gid, sid) = (signature.gid, signature.sid);
        let (now_ns, severity) = (place.packet.time_ns, events::rule_severity(signature.priority));
        // Before anything is written: a rule that matches each packet must not cost a line each.
        if !self.repeats.is_news(now_ns, (gid, sid), severity, source) {
            return;
        }
        let record = self.eve.alert(signature, place);
        let Some(alert) = events::of_rule(signature, place, "", record.as_ref()) else { return };
        if !self.send(alert) {
            self.repeats.forget(gid, sid, source);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let record = self.eve.finding(finding);
        self.send(events::of_finding(finding, "", record.as_ref()));
    }

    fn wait_ends(&mut self) {
        self.interface = 0;
    }
}

/// What the engine shows packets to.
struct Eyes {
    watch: Watch,
    out: Out,
}

impl Inspector for Eyes {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        self.watch.packet(view, &mut self.out);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        self.watch.connection_end(flow, connection);
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        self.watch.flow_end(flow, reason, &mut self.out);
    }

    fn app_lost(&mut self, flow: &Flow) {
        self.watch.app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        self.watch.reads_raw_streams()
    }
}

/// What the loop sees of the thread.
struct Shared {
    counters: Arc<Mutex<Vec<(String, u64)>>>,
    read: Arc<Mutex<Option<Read>>>,
    ends: Arc<AtomicBool>,
}

/// The thread's state.
struct Work {
    ring: Ring,
    orders: orders::Receiver<Order>,
    engine: Engine,
    eyes: Eyes,
    supplies: Supplies,
    shared: Shared,
    published_ns: TimeNs,
    kept_ns: TimeNs,
    /// Of the last frame, since the start of the kernel.
    last_ns: TimeNs,
    reloads: u64,
    missed: Missed,
}

/// Alerts alone, with the hardware addresses by which a host is found.
fn eve_settings() -> eve::Settings {
    let types = Types::only(&["alert".to_owned()]).unwrap_or_default();
    let details = eve::Details { has_ethernet: true, ..eve::Details::default() };
    eve::Settings { types, details, ..eve::Settings::default() }
}

impl Work {
    fn new(
        ring: Ring,
        orders: orders::Receiver<Order>,
        supplies: &Supplies,
        found: mpsc::Sender<Found>,
        shared: Shared,
    ) -> Self {
        let now_ns = boot_ns();
        let eve = Rotating::new(supplies.state.join(EVE_FILE));
        let out = Out {
            found,
            eve: eve::Writer::new(eve, eve_settings()),
            repeats: Repeats::new(Limits::default()),
            interface: 0,
            epoch_ns: real_ns().saturating_sub(now_ns),
            wall: Wall::default(),
            dropped: 0,
        };
        let watch = Watch::new(None, settings(supplies));
        Self {
            ring,
            orders,
            engine: Engine::new(engine_settings()),
            eyes: Eyes { watch, out },
            supplies: supplies.clone(),
            shared,
            published_ns: 0,
            kept_ns: now_ns,
            last_ns: 0,
            reloads: 0,
            missed: Missed::default(),
        }
    }

    fn run(mut self) {
        info!("inspecting packets");
        while self.obey() && !self.shared.ends.load(Ordering::Relaxed) {
            self.wait();
            for _ in 0..BLOCKS_MAX {
                if !self.block() {
                    break;
                }
            }
            let now_ns = boot_ns();
            if now_ns.saturating_sub(self.published_ns) >= SECOND_NS {
                self.second(now_ns);
            }
        }
        self.supplies.keep(self.eyes.watch.model());
    }

    fn wait(&self) {
        let mut polled = [PollFd::new(self.ring.descriptor(), PollFlags::POLLIN)];
        // Interrupted or out of memory: the ring is looked at all the same.
        let _ = poll(&mut polled, PollTimeout::from(POLL_MS));
    }

    /// The frames of one block through the engine; `false` when there is none.
    fn block(&mut self) -> bool {
        let (now_ns, epoch_ns) = (boot_ns(), self.eyes.out.epoch_ns);
        // Between the two clocks now: the kernel stamps frames with the one that can be set.
        let behind_ns = real_ns().saturating_sub(now_ns);
        let (engine, eyes, last_ns) = (&mut self.engine, &mut self.eyes, &mut self.last_ns);
        *last_ns = (*last_ns).min(now_ns);
        self.ring.block(|seen: Seen<'_>| {
            // A clock that was set since the frame came must not send it back in time.
            let since_boot_ns = seen.real_ns.saturating_sub(behind_ns).clamp(*last_ns, now_ns);
            *last_ns = since_boot_ns;
            eyes.out.interface = seen.interface;
            engine.validate_checksums(!seen.has_no_checksum);
            let frame = Frame {
                time_ns: epoch_ns.saturating_add(since_boot_ns),
                wire_bytes: seen.wire_bytes,
                link: Link::Ethernet,
                bytes: seen.bytes,
            };
            engine.handle(frame, eyes);
        })
    }

    /// Once a second: waits end, counters are published, the model is kept now and then.
    fn second(&mut self, now_ns: TimeNs) {
        self.published_ns = now_ns;
        self.eyes.out.interface = 0;
        let time_ns = self.eyes.out.epoch_ns.saturating_add(now_ns);
        self.look_at_the_wall(time_ns);
        self.engine.tick(time_ns, &mut self.eyes);
        self.eyes.watch.tick(time_ns, &mut self.eyes.out);
        let counters = self.numbers();
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
        if now_ns.saturating_sub(self.kept_ns) >= KEEP_NS {
            self.kept_ns = now_ns;
            let (supplies, model) = (self.supplies.clone(), self.eyes.watch.model().clone());
            // The disk may be slow; a failure is said by it, one to begin costs an hour of learning.
            let _ = thread::Builder::new().spawn(move || supplies.keep(&model));
        }
    }

    /// Before lines of this second are written.
    fn look_at_the_wall(&mut self, time_ns: TimeNs) {
        let wall = &mut self.eyes.out.wall;
        if let Some(by_ns) = wall.look(time_ns, real_ns()) {
            let order = if by_ns < 0 { "lines after this are earlier than before" } else { "" };
            info!(by_ms = by_ns / 1_000_000, "the clock was set {order}");
        }
        time::correct(wall.shift_ns());
    }

    fn numbers(&mut self) -> Vec<(String, u64)> {
        let (received, lost) = self.ring.counts();
        let out = &self.eyes.out;
        let mut counters: Vec<(String, u64)> = vec![
            ("packets_received".into(), received),
            ("packets_lost".into(), lost),
            ("found_lost".into(), out.dropped),
            ("rules_reloads".into(), self.reloads),
            ("clock_steps".into(), out.wall.steps()),
            ("eve_lost".into(), self.eyes.out.eve.output().lost()),
            ("flows_now".into(), self.engine.flows().into()),
            ("stream_bytes_now".into(), self.engine.buffered_bytes() as u64),
            ("app_bytes_now".into(), self.engine.app_bytes() as u64),
        ];
        let named = |group: &'static str| {
            move |(name, value): (&'static str, u64)| (format!("{group}_{name}"), value)
        };
        counters.extend(self.engine.counters().iter().map(named("traffic")));
        counters.extend(self.eyes.watch.rule_counters().into_iter().map(named("detect")));
        counters.extend(self.eyes.watch.behaviour_counters().into_iter().map(named("behaviour")));
        counters.extend(out.repeats.counters().map(named("detect")));
        counters.extend(self.missed.counters().map(|(name, value)| (name.into(), value)));
        counters
    }

    fn read_missed(&mut self, samples: &[Sample]) {
        let time_ns = self.eyes.out.epoch_ns.saturating_add(boot_ns());
        for sample in samples {
            let Eyes { watch, out } = &mut self.eyes;
            out.interface = sample.interface;
            self.missed.read(sample, |fact| watch.hear(time_ns, fact, out));
        }
    }

    /// Does what the loop wants; `false` when it has gone.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Watch(interfaces)) => {
                    if let Err(error) = self.ring.watch(&interfaces) {
                        warn!("{}", crate::causes(&error));
                    }
                }
                Ok(Order::Supply(Supply::Rules(rules, sets))) => {
                    self.reloads += 1;
                    self.eyes.watch.reload(rules, sets);
                }
                Ok(Order::Supply(Supply::Names(names))) => {
                    drop(self.eyes.watch.set_names(names));
                }
                Ok(Order::Read(read)) => {
                    *self.shared.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
                }
                Ok(Order::Login(login)) => {
                    let time_ns = self.eyes.out.epoch_ns.saturating_add(boot_ns());
                    let fact = Observation::LoginFailed(login);
                    self.eyes.out.interface = 0;
                    self.eyes.watch.hear(time_ns, &fact, &mut self.eyes.out);
                }
                Ok(Order::Missed(samples)) => self.read_missed(&samples),
                Err(orders::TryRecvError::Empty) => return true,
                Err(orders::TryRecvError::Disconnected) => return false,
            }
        }
    }
}

/// The engine as it is live: bounded by what the service may have.
fn engine_settings() -> Config {
    let mut config = Config { seed: random(), ..Config::default() };
    config.flow.flows_max = FLOWS_MAX;
    config.stream.bytes_max = STREAM_BYTES_MAX;
    config.held_bytes_max = HELD_BYTES_MAX;
    config
}

/// The detectors as they are live.
fn settings(supplies: &Supplies) -> Settings {
    let site = files::site(&supplies.site);
    let home = site.detection.home.iter().filter_map(|text| {
        let (address, length) = text.split_once('/')?;
        Some(Prefix { address: address.parse().ok()?, length: length.parse().ok()? })
    });
    let behaviour = hookprobe_behaviour::Config {
        seed: hookprobe_behaviour::Seed(random()),
        networks: Networks::with(home),
        ..hookprobe_behaviour::Config::default()
    };
    let model = supplies.model(ForestSeed(random()));
    Settings { behaviour, model: Some(model), ..Settings::default() }
}

/// A secret that nobody outside knows.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Fails only before the kernel's generator is ready, which PID 1 waits for.
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        return boot_ns();
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_the_box_name_hardware_addresses() {
        let settings = eve_settings();
        assert!(settings.details.has_ethernet);
        assert_eq!(Some(settings.types), Types::only(&["alert".to_owned()]).ok());
    }
}
