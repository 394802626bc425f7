//! A ledger, a kernel and clocks in memory, and the engine between them. A crash drops the engine and
//! keeps the rest, as a crash does.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    rc::Rc,
};

use hookprobe_response::{
    Now,
    core::{Input, Note, Policy, Wanted},
    enforce::{Counts, EnforceError, Enforcer},
    engine::{Action, Clock, Engine, Sources},
    protected::ProtectedSet,
};
use hookprobe_wire::{
    Block, Event, Hash, NodeId, Seq, Severity,
    block::{BLOCK_VERSION, Header, SALT_BYTES, payload_hash},
    event::{Alert, Lift, Mitigation, Mode, Refusal},
    ledger::{Head, Payload, Record, Request, RequestId},
};

pub(crate) const S: u64 = 1_000_000_000;
/// A real-time clock of 2025.
const EPOCH: u64 = 1_750_000_000 * S;

#[derive(Clone, Default)]
pub(crate) struct Time(Rc<Cell<u64>>);

impl Time {
    pub(crate) fn pass(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

impl Clock for Time {
    fn now(&self) -> Now {
        Now { boot_ns: 100 * S + self.0.get(), real_ns: EPOCH + self.0.get() }
    }
}

/// Kernel side of an enforcer: survives crashes, ends entries by itself.
#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) entries: RefCell<BTreeMap<IpAddr, (u64, u64)>>,
    pub(crate) protected: RefCell<Vec<IpAddr>>,
    /// Operations that still work; the ones after fail.
    pub(crate) works: Cell<Option<u32>>,
    pub(crate) blocks: Cell<u32>,
}

pub(crate) struct Fake(&'static str, pub(crate) Rc<Kernel>);

impl Fake {
    fn step(&self) -> Result<(), EnforceError> {
        match self.1.works.get() {
            Some(0) => {
                Err(EnforceError::Nft { what: "fake", why: "made to fail".into(), remedy: "none" })
            }
            Some(left) => {
                self.1.works.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Enforcer for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    fn sync(&mut self, wanted: &Wanted, _: u64) -> Result<Counts, EnforceError> {
        self.step()?;
        let mut entries = self.1.entries.borrow_mut();
        entries.retain(|subject, _| wanted.blocks.contains_key(subject));
        for (subject, end) in &wanted.blocks {
            entries.entry(*subject).or_insert((*end, 0));
        }
        *self.1.protected.borrow_mut() = wanted.protected.iter().copied().collect();
        Ok(entries.iter().map(|(subject, (_, packets))| (*subject, *packets)).collect())
    }

    fn block(&mut self, subject: IpAddr, end: u64, _: u64) -> Result<(), EnforceError> {
        self.step()?;
        self.1.blocks.set(self.1.blocks.get() + 1);
        self.1.entries.borrow_mut().insert(subject, (end, 0));
        Ok(())
    }

    fn release(&mut self, subject: IpAddr) -> Result<Option<u64>, EnforceError> {
        self.step()?;
        Ok(self.1.entries.borrow_mut().remove(&subject).map(|(_, packets)| packets))
    }
}

#[derive(Clone, Default)]
pub(crate) struct Protection(pub(crate) Rc<RefCell<Option<ProtectedSet>>>);

impl Sources for Protection {
    fn read(&mut self) -> Result<ProtectedSet, String> {
        self.0.borrow().clone().ok_or_else(|| "made to fail".into())
    }
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    names: BTreeMap<RequestId, (Seq, Hash)>,
    /// Lane: another one after a damaged one was set aside.
    pub(crate) epoch: u64,
    /// Answers appends with a rejection.
    pub(crate) refuses: bool,
}

impl Ledger {
    pub(crate) fn of_epoch(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    pub(crate) fn append(&mut self, event: &Event, timestamp_ns: u64) -> (Seq, Hash) {
        let salt = [9; SALT_BYTES];
        let bytes = event.to_cbor();
        let header = Header {
            version: BLOCK_VERSION,
            node_identity: NodeId::new([1; 32]),
            epoch: self.epoch,
            seq: Seq(self.records.len() as u64),
            prev_hash: self.records.last().map_or_else(Hash::zero, |record| record.hash),
            timestamp_ns,
            event_type: event.event_type(),
            payload_hash: payload_hash(&salt, &bytes),
        };
        let hash = header.hash();
        let seq = header.seq;
        let payload = Payload { salt: salt.into(), bytes: bytes.into() };
        let block = Block { header, signatures: Vec::new() };
        self.records.push(Record { hash, block, payload: Some(payload) });
        (seq, hash)
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            node: NodeId::new([1; 32]),
            epoch: self.epoch,
            length: self.records.len() as u64,
            hash: self.records.last().map_or_else(Hash::zero, |record| record.hash),
            root: Hash::zero(),
            verified_at_start: 0,
            volatile: false,
            queue: 0,
            rejected: 0,
            key: None,
        }
    }
}

pub(crate) struct World {
    pub(crate) time: Time,
    pub(crate) xdp: Rc<Kernel>,
    pub(crate) nft: Rc<Kernel>,
    pub(crate) protection: Protection,
    pub(crate) ledger: Ledger,
    pub(crate) policy: Policy,
    pub(crate) engine: Engine<Time, Protection>,
    /// First block that the stream has not shown.
    shown: Option<u64>,
    caught_up: bool,
    pub(crate) notes: Vec<Note>,
    /// Steps (inputs fed) that are still done; then everything is lost.
    pub(crate) steps: Option<u32>,
}

impl World {
    pub(crate) fn new(mode: Mode) -> Self {
        let policy = Policy { mode, block_ns: 600 * S };
        let (time, protection) = (Time::default(), Protection::default());
        *protection.0.borrow_mut() = Some(ProtectedSet::default());
        let (xdp, nft) = (Rc::new(Kernel::default()), Rc::new(Kernel::default()));
        let engine = engine(policy, &time, &protection, &xdp, &nft);
        let (ledger, notes) = (Ledger::default(), Vec::new());
        let mut world = Self {
            time,
            xdp,
            nft,
            protection,
            ledger,
            policy,
            engine,
            shown: None,
            caught_up: false,
            notes,
            steps: None,
        };
        world.connect();
        world
    }

    /// A new process: nothing is left but the ledger and the kernel.
    pub(crate) fn restart(&mut self) {
        self.engine = engine(self.policy, &self.time, &self.protection, &self.xdp, &self.nft);
        self.steps = None;
        // Not even the ledger's memory of names: what is answered must be seen in its blocks.
        self.ledger.names.clear();
        self.connect();
    }

    pub(crate) fn connect(&mut self) {
        self.shown = None;
        self.caught_up = false;
        self.feed(Input::Head(self.ledger.head()));
        self.stream();
    }

    /// Shows what the stream has not shown yet.
    pub(crate) fn stream(&mut self) {
        while let Some(at) = self.shown {
            if let Some(record) = self.ledger.records.get(usize::try_from(at).unwrap()) {
                self.shown = Some(at + 1);
                self.feed(Input::Record(Box::new(record.clone())));
            } else if self.caught_up {
                return;
            } else {
                self.caught_up = true;
                self.feed(Input::CaughtUp);
            }
        }
    }

    /// An input and all that follows from it, appends included.
    pub(crate) fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            match &mut self.steps {
                Some(0) => return,
                Some(steps) => *steps -= 1,
                None => {}
            }
            let mut actions = Vec::new();
            self.engine.feed(input, &mut actions);
            for action in actions {
                match action {
                    Action::Follow(from) => self.shown = Some(from.0),
                    Action::Send(Request::Append { id, event }) => {
                        inputs.push_back(self.append(id, &event));
                    }
                    Action::Note(note) => self.notes.push(note),
                    Action::Reconnect => panic!("the lane did not change"),
                    Action::Send(_) | Action::Health(..) => {}
                }
            }
        }
    }

    fn append(&mut self, id: RequestId, event: &Event) -> Input {
        if self.ledger.refuses {
            return Input::Rejected { id, code: "HP-LG-001".into(), reason: "full".into() };
        }
        let now = self.time.now().real_ns;
        let known = self.ledger.names.get(&id).copied();
        let (seq, hash) = known.unwrap_or_else(|| self.ledger.append(event, now));
        self.ledger.names.insert(id, (seq, hash));
        Input::Appended { id, seq, hash }
    }

    /// The sensor writes an alert; the stream shows it.
    pub(crate) fn alert(&mut self, source: &str) -> Hash {
        self.alert_as("scan.trw", Severity::Warn, source)
    }

    pub(crate) fn alert_as(&mut self, detector: &str, severity: Severity, source: &str) -> Hash {
        let now = self.time.now().real_ns;
        let alert = Alert {
            detector: detector.into(),
            severity,
            source: source.parse().unwrap(),
            interface: "eth1".into(),
            summary: "scans".into(),
            evidence: Vec::new(),
            first_ns: now,
            decided_ns: now,
            drill: false,
            reference: None,
        };
        let (_, hash) = self.ledger.append(&Event::Alert(alert), now);
        self.stream();
        hash
    }

    /// Time goes by in turns of a tenth of a second; the kernel ends its entries.
    pub(crate) fn pass(&mut self, ns: u64) {
        for _ in 0..ns / (S / 10) {
            self.time.pass(S / 10);
            let now = self.time.now().boot_ns;
            for kernel in [&self.xdp, &self.nft] {
                kernel.entries.borrow_mut().retain(|_, (end, _)| *end + S > now);
            }
            self.feed(Input::Tick);
            self.stream();
        }
    }

    pub(crate) fn protect(&mut self, address: &str, why: hookprobe_response::protected::Why) {
        let mut set = self.protection.0.borrow_mut();
        set.get_or_insert_default().add(address.parse().unwrap(), why);
    }

    /// Events that this service wrote.
    pub(crate) fn written(&self) -> Vec<Event> {
        let events = self.ledger.records.iter().filter_map(Record::event);
        events.filter(|event| !matches!(event, Event::Alert(_))).collect()
    }

    /// Subjects that a kernel drops now.
    pub(crate) fn dropped(kernel: &Kernel) -> Vec<String> {
        kernel.entries.borrow().keys().map(ToString::to_string).collect()
    }
}

fn engine(
    policy: Policy,
    time: &Time,
    protection: &Protection,
    xdp: &Rc<Kernel>,
    nft: &Rc<Kernel>,
) -> Engine<Time, Protection> {
    let enforcers: Vec<Box<dyn Enforcer>> =
        vec![Box::new(Fake("xdp", xdp.clone())), Box::new(Fake("nft", nft.clone()))];
    Engine::new(policy, time.clone(), protection.clone(), enforcers)
}

pub(crate) fn mitigations(world: &World) -> Vec<Mitigation> {
    let of = |event| {
        if let Event::Mitigation(it) = event { Some(it) } else { None }
    };
    world.written().into_iter().filter_map(of).collect()
}

pub(crate) fn refusals(world: &World) -> Vec<Refusal> {
    let of = |event| {
        if let Event::Refusal(it) = event { Some(it) } else { None }
    };
    world.written().into_iter().filter_map(of).collect()
}

pub(crate) fn lifts(world: &World) -> Vec<Lift> {
    let of = |event| {
        if let Event::Lift(it) = event { Some(it) } else { None }
    };
    world.written().into_iter().filter_map(of).collect()
}
