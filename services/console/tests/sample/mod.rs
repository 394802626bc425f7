//! Fixed models, fed through the same door as live ones: for snapshots, laws and the picture.
//!
//! Shared by tests and by `examples/picture.rs`; each uses a part.
#![allow(dead_code, unreachable_pub, reason = "shared by binaries that each use a part")]

use std::net::{IpAddr, Ipv4Addr};

use hookprobe_console::{Event, Model, Now, Source, look::Look};
use hookprobe_wire::{
    Hash, NodeId, Seq, Severity,
    attest::{self, KeyOrigin, Measurement, Verdict},
    block::{Block, Header, Signature, payload_hash},
    control::{self, LogLine, Measured, PcrValue, Phase, Service, ServiceState},
    event::{
        Action, Alert, Boot, Diagnostic, Event as Payload, Evidence, Lift, Mitigation, Mode,
        Refusal, ServiceChange,
    },
    ledger::{self, Record},
    response, sensor,
    site::Site,
};

/// 2026-03-01 14:22:07Z
pub const UNIX_S: u64 = 1_772_374_927;
/// Seconds of samples that were taken before now.
pub const SECONDS: u64 = 60;

pub fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 20, 0, last))
}

pub fn hash(seed: u8) -> Hash {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = seed.wrapping_mul(29).wrapping_add(u8::try_from(at).unwrap_or(0).wrapping_mul(53));
    }
    Hash::new(bytes)
}

/// A chain of blocks, `first` being the place of the first one, one block a second until now.
pub fn chain(first: u64, events: &[Payload]) -> Vec<Record> {
    let mut prev_hash = if first == 0 { Hash::zero() } else { hash(99) };
    let mut records = Vec::new();

    for (seq, event) in (first..).zip(events) {
        let salt = [7; 16];
        let bytes = event.to_cbor();
        let header = Header {
            version: 1,
            node_identity: NodeId::new(*hash(1).as_bytes()),
            epoch: 4,
            seq: Seq(seq),
            prev_hash,
            timestamp_ns: (UNIX_S - 106 + (seq - first) * 12) * 1_000_000_000 + 250_000_000,
            event_type: event.event_type(),
            payload_hash: payload_hash(&salt, &bytes),
        };
        let signature = Signature { signer: header.node_identity, bytes: [9; 64].into() };
        let block = Block { header, signatures: vec![signature] };
        prev_hash = block.hash();
        records.push(Record {
            hash: prev_hash,
            block,
            payload: Some(ledger::Payload { salt: salt.into(), bytes: bytes.into() }),
        });
    }
    records
}

pub fn alert(source: u8, severity: Severity, drill: bool) -> Alert {
    Alert {
        detector: "scan.trw".into(),
        severity,
        source: ip(source),
        interface: "eth1".into(),
        summary: "port scan, 412 ports of 9 hosts in 31 s".into(),
        evidence: vec![
            Evidence { name: "failures".into(), value: 397 },
            Evidence { name: "successes".into(), value: 15 },
            Evidence { name: "hosts".into(), value: 9 },
            Evidence { name: "ports".into(), value: 412 },
        ],
        first_ns: (UNIX_S - 60) * 1_000_000_000,
        decided_ns: (UNIX_S - 29) * 1_000_000_000,
        drill,
        reference: None,
    }
}

/// What is in the ledger of the samples: a drill that ended, a scan that is blocked, another that
/// is not, a refusal.
pub fn records() -> Vec<Record> {
    let mitigation = |cause, subject| {
        Payload::Mitigation(Mitigation {
            cause,
            action: Action::BlockSource,
            subject,
            mode: Mode::Autonomous,
            expires_ns: (UNIX_S + 571) * 1_000_000_000,
            enforced_by: vec!["xdp".into(), "nft".into()],
            reason: "severity WARN or more and the source is not protected".into(),
        })
    };
    let mut events = vec![
        Payload::Boot(Boot {
            version: "0.1.0".into(),
            boot_id: "4f7f4f3e-6c0a-4b0e-9d55-0f6d7a1c2b3e".into(),
            level: "L3".into(),
            pcr13: Some(hash(13)),
            diagnostics: Vec::new(),
        }),
        Payload::Service(ServiceChange {
            service: "sensor".into(),
            change: "started".into(),
            detail: "pid 213".into(),
        }),
        Payload::Alert(alert(250, Severity::Warn, true)),
    ];
    let last = |events: &[Payload]| chain(88_112, events).last().map_or(Hash::zero(), |r| r.hash);
    events.push(mitigation(last(&events), ip(250)));
    events.push(Payload::Lift(Lift {
        cause: last(&events),
        subject: ip(250),
        reason: "expired".into(),
        packets_dropped: 118,
    }));
    events.push(Payload::Alert(alert(77, Severity::Warn, false)));
    events.push(mitigation(last(&events), ip(77)));
    events.push(Payload::Alert(Alert {
        detector: "beacon.period".into(),
        summary: "calls 198.51.100.7:443 every 60 s, jitter 0.4 s".into(),
        ..alert(31, Severity::Critical, false)
    }));
    events.push(Payload::Refusal(Refusal {
        cause: last(&events),
        subject: ip(31),
        code: "HP-RS-010".into(),
        reason: "10.20.0.31 is an administrator's address".into(),
    }));
    chain(88_112, &events)
}

pub fn service(name: &str, seed: u8, pid: u32, rss_kib: u64) -> Service {
    Service {
        name: name.into(),
        state: ServiceState::Running,
        pid,
        restarts: 0,
        up_ms: 1_051_200_000,
        rss_kib,
        digest: hash(seed).hex(),
        verdict: "match".into(),
        last_exit: String::new(),
    }
}

fn pcr(index: u8, predicted: bool) -> PcrValue {
    let value = hash(index).hex();
    PcrValue {
        bank: "sha256".into(),
        index,
        predicted: if predicted { value.clone() } else { String::new() },
        value,
    }
}

pub fn status() -> control::Status {
    control::Status {
        name: "hp-7f3a".into(),
        version: "0.1.0".into(),
        uptime_ms: 1_051_200_000,
        time_s: UNIX_S,
        ready: true,
        phases: ["mount", "clock", "tpm", "measure", "state", "network", "services"]
            .into_iter()
            .zip(1..)
            .map(|(name, ms)| Phase { name: name.into(), ok: true, us: ms * 13_000 })
            .collect(),
        services: vec![
            service("attest", 20, 209, 8_900),
            service("ledger", 21, 211, 9_400),
            service("sensor", 22, 213, 21_800),
            service("response", 23, 214, 7_100),
            service("console-serial", 24, 215, 4_300),
            service("console-tty1", 24, 216, 4_200),
        ],
        measured: Measured {
            level: "L3".into(),
            level_text: "UEFI measured boot with a TPM 2.0".into(),
            pcrs: vec![pcr(11, true), pcr(12, false), pcr(13, true)],
            divergence: String::new(),
            measure_us: 41_300,
            commands: 27,
        },
        addresses: vec!["lo 127.0.0.1/8".into(), "eth1 10.20.0.2/24".into()],
        diagnostics: Vec::new(),
        rss_kib: 55_700,
        memory_kib: (1_998_000, 1_724_000),
        state: Some("encrypted".into()),
        reload: None,
        carry: None,
    }
}

pub fn attest_status() -> attest::Status {
    attest::Status {
        level: "L3".into(),
        level_text: "UEFI measured boot with a TPM 2.0".into(),
        verdict: Verdict::Affirming,
        divergence: String::new(),
        verified_by: "self".into(),
        verified_s: UNIX_S - 17,
        verified_ago_s: 17,
        challenges: (31, 12),
        ak_name: format!("000b{}", hash(31).hex()),
        ek: "certificate of the maker: Example TPM, RSA 2048, valid until 2039".into(),
        node: Some(NodeId::new(*hash(1).as_bytes())),
        key: KeyOrigin::Tpm,
        epoch: 4,
        reset_count: 12,
        restart_count: 0,
        boot_id: "4f7f4f3e-6c0a-4b0e-9d55-0f6d7a1c2b3e".into(),
        quotes: (1_212, 3, 0),
        quote_us: 312_400,
        pcrs: vec![pcr(7, true), pcr(11, true), pcr(12, false), pcr(13, true), pcr(15, true)],
        recovery_waiting: false,
        diagnostics: Vec::new(),
    }
}

pub fn measurements() -> Vec<Measurement> {
    let line = |pcr, name: &str, verdict: &str, seed| Measurement {
        pcr,
        name: name.into(),
        digest: hash(seed).hex(),
        verdict: verdict.into(),
    };
    vec![
        line(0, "EV_S_CRTM_VERSION", "unknown", 40),
        line(7, "EV_EFI_VARIABLE_DRIVER_CONFIG SecureBoot", "match", 41),
        line(11, ".linux", "match", 42),
        line(11, ".cmdline", "match", 43),
        line(13, "service:attest", "match", 44),
        line(13, "service:ledger", "match", 45),
        line(13, "service:sensor", "differs", 46),
        line(15, "volume:7c0d2b52-2a7f-4cf2-8f51-9f1a60b7a6c4", "unknown", 47),
        line(11, "phase:unlocked", "match", 48),
        line(12, "site:hookprobe.toml", "unknown", 49),
    ]
}

pub const RECOVERY_KEY: &str = "K3QF-9TWX-72ZB-Q8LM-4HJC-W5DN-X6RP-2VGT";

/// As long as short evidence is.
pub fn evidence() -> Vec<u8> {
    (0..900u32).map(|at| u8::try_from(at * 31 % 251).unwrap_or(0)).collect()
}

pub fn log() -> Vec<LogLine> {
    let line = |number, ago_s, source: &str, severity, text: &str| LogLine {
        number,
        time_s: UNIX_S - ago_s,
        source: source.into(),
        severity,
        text: text.into(),
    };
    vec![
        line(1, 118, "init", Severity::Info, "phase services ok in 91 ms"),
        line(2, 112, "ledger", Severity::Info, "ready blocks=88112 verified=88112"),
        line(3, 110, "sensor", Severity::Info, "attached interface=eth1 xdp=native"),
        line(4, 96, "sensor", Severity::Info, "drill played packets=118 verdict=alert"),
        line(
            5,
            45,
            "sensor",
            Severity::Warn,
            "alert detector=scan.trw source=10.20.0.77 ports=412",
        ),
        line(6, 44, "response", Severity::Info, "blocked source=10.20.0.77 ttl_s=600 by=xdp,nft"),
        line(7, 12, "sensor", Severity::Critical, "alert detector=beacon.period source=10.20.0.31"),
        line(8, 11, "response", Severity::Warn, "HP-RS-010 refused source=10.20.0.31"),
    ]
}

pub fn sensor_status(packets: u64) -> sensor::Status {
    let flow = |source, destination, protocol, ports: (u16, u16), packets| sensor::Flow {
        source: ip(source),
        destination: ip(destination),
        protocol,
        source_port: ports.0,
        destination_port: ports.1,
        packets,
        bytes: packets * 640,
        idle_ms: u64::from(source) * 17,
    };
    let counter = |name: &str, value| sensor::Counter { name: name.into(), value };
    sensor::Status {
        interfaces: vec![sensor::Interface { name: "eth1".into(), xdp_mode: "native".into() }],
        counters: vec![
            counter("packets", packets),
            counter("records_lost", 0),
            counter("flows_lost", 0),
        ],
        flows: vec![
            flow(77, 9, 6, (51_002, 22), 1_204),
            flow(31, 1, 6, (44_310, 443), 88_210),
            flow(12, 1, 17, (40_112, 53), 96),
            flow(9, 12, 1, (0, 0), 12),
        ],
        diagnostics: Vec::new(),
    }
}

pub fn response_status(records: &[Record]) -> response::Status {
    let at = |index: usize| records.get(index).map_or(Hash::zero(), |record| record.hash);
    response::Status {
        mode: Mode::Autonomous,
        active: vec![response::Active {
            hash: at(6),
            cause: at(5),
            subject: ip(77),
            action: Action::BlockSource,
            remaining_ms: 571_000,
            packets_dropped: 3_118,
        }],
        active_total: 1,
        protected: vec![
            response::Protected { address: ip(1), prefix: 32, why: "gateway".into() },
            response::Protected { address: ip(31), prefix: 32, why: "administrator".into() },
        ],
        refused: 1,
        lifted: 1,
        enforcers: vec!["xdp".into(), "nft".into()],
        diagnostics: Vec::new(),
    }
}

pub fn head(records: &[Record]) -> ledger::Head {
    let last = records.last();
    ledger::Head {
        node: NodeId::new(*hash(1).as_bytes()),
        epoch: 4,
        length: last.map_or(0, |record| record.block.header.seq.0 + 1),
        hash: last.map_or(Hash::zero(), |record| record.hash),
        root: hash(50),
        verified_at_start: 88_112,
        volatile: false,
        queue: 0,
        rejected: 0,
        key: Some(KeyOrigin::Tpm),
    }
}

pub fn site() -> Site {
    let text = b"[node]\nname = \"hp-7f3a\"\nresolvers = [\"10.20.0.1\"]\n\
        [[interface]]\nname = \"eth1\"\nrole = \"lan\"\naddress = \"10.20.0.2/24\"\n\
        [response]\nmode = \"autonomous\"\nblock_s = 600\nadministrators = [\"10.20.0.31\"]\n";
    Site::parse(text).unwrap_or_default()
}

/// The states of which every screen has a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Loading,
    Ok,
    Warn,
    Failed,
    Disconnected,
    /// Everything is there but the attester.
    Unverified,
    /// The last verification is five minutes old.
    Stale,
    /// The attester has doubts, and a recovery key waits to be noted.
    Recovery,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Loading,
        Self::Ok,
        Self::Warn,
        Self::Failed,
        Self::Disconnected,
        Self::Unverified,
        Self::Stale,
        Self::Recovery,
    ];
}

/// Feeds a model, one event at a time.
pub struct Feed {
    pub model: Model,
    now: Now,
}

impl Feed {
    pub fn new(look: Look) -> Self {
        Self { model: Model::new(look, false), now: Now { mono_ms: 0, unix_s: UNIX_S - SECONDS } }
    }

    pub fn event(&mut self, event: Event) {
        self.model.update(self.now, event, &mut Vec::new());
    }

    pub fn later(&mut self, seconds: u64) {
        self.now.mono_ms += seconds * 1000;
        self.now.unix_s += seconds;
    }
}

fn diagnostic(
    code: &str,
    severity: Severity,
    object: &str,
    cause: &str,
    remedy: &str,
) -> Diagnostic {
    Diagnostic {
        code: code.into(),
        severity,
        object: object.into(),
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

fn degrade(status: &mut control::Status, records: &mut [Record], state: State) {
    if state == State::Warn {
        status.measured.level = "L0".into();
        status.measured.level_text = "no TPM: nothing proves what was started".into();
        status.measured.pcrs.clear();
        status.measured.commands = 0;
        status.state = Some("memory".into());
        if let Some(service) = status.services.get_mut(3) {
            service.state = ServiceState::Backoff;
            service.restarts = 3;
            service.up_ms = 2_000;
            service.pid = 0;
            service.last_exit = "exit 1: HP-RS-002 nft: table busy, trying again".into();
        }
        status.diagnostics.push(diagnostic(
            "HP-ST-002",
            Severity::Warn,
            "state",
            "no state partition, the ledger is kept in memory and is lost at power off",
            "add a disk of 64 MiB or more and restart",
        ));
    }
    if state == State::Failed {
        status.measured.divergence = DIVERGENCE.into();
        status.state = Some("locked: HP-AT-110 volume: the TPM refuses the policy".into());
        if let Some(pcr) = status.measured.pcrs.get_mut(2) {
            pcr.predicted = hash(66).hex();
        }
        if let Some(service) = status.services.get_mut(2) {
            service.state = ServiceState::Failed;
            service.verdict = "differs".into();
            service.pid = 0;
            service.restarts = 12;
            service.last_exit = "refused: digest differs from manifest".into();
        }
        if let Some(payload) = records.get_mut(3).and_then(|record| record.payload.as_mut()) {
            payload.salt = [8; 16].into();
        }
        if let Some(record) = records.get_mut(5) {
            record.block.header.prev_hash = hash(5);
            record.hash = record.block.hash();
        }
    }
}

const DIVERGENCE: &str = "HP-MB-004 service:sensor file:/usr/lib/hookprobe/hookprobe-sensor: \
     digest differs from manifest (expected sha256:3f9a1c02, measured sha256:c01d77e4); boot the \
     other slot or re-flash";

/// What the attester says in a state; none when it is not there.
fn attest_in(state: State) -> Option<attest::Status> {
    let mut status = attest_status();
    match state {
        State::Loading | State::Unverified => return None,
        State::Ok | State::Disconnected => {}
        State::Warn => {
            status.level = "L0".into();
            status.level_text = "no TPM: nothing proves what was started, and the ledger's key is \
                 drawn for each boot"
                .into();
            status.verdict = Verdict::None;
            (status.verified_s, status.verified_ago_s) = (0, 0);
            (status.challenges, status.quotes, status.quote_us) = ((0, 0), (0, 0, 0), 0);
            (status.ak_name, status.ek) = (String::new(), String::new());
            (status.key, status.epoch, status.reset_count) = (KeyOrigin::Boot, 0, 0);
            status.pcrs.clear();
        }
        State::Failed => {
            status.verdict = Verdict::Contraindicated;
            status.divergence = DIVERGENCE.into();
            status.key = KeyOrigin::Boot;
            if let Some(pcr) = status.pcrs.get_mut(3) {
                pcr.predicted = hash(66).hex();
            }
        }
        State::Stale => {
            status.verified_ago_s = 300;
            status.verified_s = UNIX_S - 300;
        }
        State::Recovery => {
            status.verdict = Verdict::Warning;
            status.divergence = "HP-QV-041 PCR 7: secure boot is off; turn it on in the firmware \
                 setup"
                .into();
            status.recovery_waiting = true;
        }
    }
    Some(status)
}

/// The model of a state.
pub fn model(state: State, look: Look) -> Model {
    let mut feed = Feed::new(look);
    if state == State::Loading {
        feed.later(1);
        feed.event(Event::Tick);
        return feed.model;
    }
    for source in Source::ALL {
        feed.event(Event::Connected(source));
    }
    feed.event(Event::Site(Ok(Box::new(site()))));
    let mut packets = 5_000_000;
    for second in 0..SECONDS {
        packets += 200 + (second * 37 % 11) * 40 + if second % 17 > 12 { 1_200 } else { 0 };
        feed.later(1);
        let mut sensor = sensor_status(packets);
        if state == State::Warn
            && let Some(lost) = sensor.counters.get_mut(1)
        {
            lost.value = 12;
        }
        feed.event(Event::Sensor(sensor::Reply::Status(sensor)));
    }
    let mut records = records();
    let mut status = status();
    degrade(&mut status, &mut records, state);
    let mut head = head(&records);
    head.volatile = state == State::Warn;
    feed.event(Event::Init(control::Reply::Status(status)));
    feed.event(Event::Init(control::Reply::Log(log())));
    feed.event(Event::Response(response::Reply::Status(response_status(&records))));
    feed.event(Event::Ledger(ledger::Reply::Head(head.clone())));
    feed.event(Event::Blocks(ledger::Reply::Head(head)));
    for record in records {
        feed.event(Event::Blocks(ledger::Reply::Block(record)));
    }
    feed.event(Event::Blocks(ledger::Reply::CaughtUp { next: Seq(88_121) }));
    match attest_in(state) {
        Some(status) => {
            feed.event(Event::Attest(None, attest::Reply::Status(status)));
            let lines = measurements();
            let total = u32::try_from(lines.len()).unwrap_or(0);
            feed.event(Event::Attest(None, attest::Reply::Log { total, lines }));
        }
        None => {
            let reason = "No such file or directory (os error 2)".into();
            feed.event(Event::Disconnected(Source::Attest, reason));
        }
    }
    if state == State::Disconnected {
        for source in Source::ALL {
            feed.event(Event::Disconnected(source, "Connection refused (os error 111)".into()));
        }
        feed.later(12);
        feed.event(Event::Tick);
    }
    feed.model
}
