//! One value of every message, with its optional parts.
#![allow(dead_code, reason = "no test uses all of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookprobe_wire::{
    Block, Diagnostic, Event, EventType, Hash, NodeId, Seq, Severity, attest,
    block::{BLOCK_VERSION, Header, Signature},
    control, event, inspector,
    ledger::{self, Payload, Record, RequestId},
    response, sensor,
};

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 0, 77));
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77));

pub(crate) fn hash(byte: u8) -> Hash {
    Hash::new([byte; 32])
}

pub(crate) fn id() -> RequestId {
    RequestId([0xaa; 16].into())
}

pub(crate) fn diagnostic() -> Diagnostic {
    Diagnostic {
        code: "C".into(),
        severity: Severity::Warn,
        object: "o".into(),
        cause: "w".into(),
        remedy: "r".into(),
    }
}

pub(crate) fn boot(diagnostics: usize) -> Event {
    Event::Boot(event::Boot {
        version: "0".into(),
        boot_id: "b".into(),
        level: "T".into(),
        pcr13: Some(hash(13)),
        diagnostics: vec![diagnostic(); diagnostics],
    })
}

pub(crate) fn alert(evidence: usize) -> Event {
    Event::Alert(event::Alert {
        detector: "d".into(),
        severity: Severity::Critical,
        source: V6,
        interface: "e".into(),
        summary: "s".into(),
        evidence: vec![event::Evidence { name: "n".into(), value: 9 }; evidence],
        first_ns: 1,
        decided_ns: u64::MAX,
        drill: true,
        reference: None,
    })
}

pub(crate) fn mitigation(enforcers: usize) -> Event {
    Event::Mitigation(event::Mitigation {
        cause: hash(1),
        action: event::Action::BlockSource,
        subject: V4,
        mode: event::Mode::Autonomous,
        expires_ns: 2,
        enforced_by: vec!["xdp".into(); enforcers],
        reason: "r".into(),
    })
}

pub(crate) fn other_events() -> [Event; 3] {
    [
        Event::Service(event::ServiceChange {
            service: "s".into(),
            change: "exited".into(),
            detail: "d".into(),
        }),
        Event::Lift(event::Lift {
            cause: hash(2),
            subject: V4,
            reason: "expired".into(),
            packets_dropped: 7,
        }),
        Event::Refusal(event::Refusal {
            cause: hash(3),
            subject: V6,
            code: "C".into(),
            reason: "r".into(),
        }),
    ]
}

pub(crate) fn record(signatures: usize) -> Record {
    let header = Header {
        version: BLOCK_VERSION,
        node_identity: NodeId::new([9; 32]),
        epoch: 1,
        seq: Seq(3),
        prev_hash: Hash::zero(),
        timestamp_ns: 1_700_000_000_000_000_000,
        event_type: EventType::Alert,
        payload_hash: hash(4),
    };
    let signature = Signature { signer: header.node_identity, bytes: [5; 64].into() };
    Record {
        hash: hash(6),
        block: Block { header, signatures: vec![signature; signatures] },
        payload: Some(Payload { salt: [7; 16].into(), bytes: vec![1, 2].into() }),
    }
}

pub(crate) fn head() -> ledger::Head {
    ledger::Head {
        node: NodeId::new([9; 32]),
        epoch: 1,
        length: 2,
        hash: hash(2),
        root: hash(3),
        verified_at_start: 4,
        volatile: false,
        queue: 5,
        rejected: 6,
        key: None,
    }
}

/// A status of PID 1 whose lists have so many elements, in the order of its fields.
pub(crate) fn control_status(
    [phases, services, pcrs, addresses, diagnostics]: [usize; 5],
) -> control::Reply {
    let service = control::Service {
        name: "s".into(),
        state: control::ServiceState::Backoff,
        pid: 4,
        restarts: 5,
        up_ms: 6,
        rss_kib: 7,
        digest: "ab".into(),
        verdict: "match".into(),
        last_exit: "x".into(),
    };
    let pcr = control::PcrValue {
        bank: "sha256".into(),
        index: 13,
        value: "cd".into(),
        predicted: String::new(),
    };
    control::Reply::Status(control::Status {
        name: "n".into(),
        version: "0".into(),
        uptime_ms: 1,
        time_s: 2,
        ready: true,
        phases: vec![control::Phase { name: "tpm".into(), ok: true, us: 3 }; phases],
        services: vec![service; services],
        measured: control::Measured {
            level: "T".into(),
            level_text: "t".into(),
            pcrs: vec![pcr; pcrs],
            divergence: String::new(),
            measure_us: 8,
            commands: 9,
        },
        addresses: vec!["a".into(); addresses],
        diagnostics: vec![diagnostic(); diagnostics],
        rss_kib: 10,
        memory_kib: (11, 12),
        state: None,
        reload: None,
        carry: None,
    })
}

/// The events that `attest` writes.
pub(crate) fn attest_events() -> [Event; 2] {
    [
        Event::Binding(event::Binding { epoch: 3, evidence: vec![1, 2, 3].into() }),
        Event::Attestation(event::Attestation {
            change: "enrolled".into(),
            level: "T".into(),
            ak_name: "000b".into(),
            detail: "d".into(),
        }),
    ]
}

/// A status of `attest` whose lists have so many elements, in the order of its fields.
pub(crate) fn attest_status([pcrs, diagnostics]: [usize; 2]) -> attest::Reply {
    let pcr = control::PcrValue {
        bank: "sha256".into(),
        index: 11,
        value: "ab".into(),
        predicted: "ab".into(),
    };
    attest::Reply::Status(attest::Status {
        level: "T".into(),
        level_text: "t".into(),
        verdict: attest::Verdict::Affirming,
        divergence: String::new(),
        verified_by: "self".into(),
        verified_s: 1,
        verified_ago_s: 2,
        challenges: (3, 4),
        ak_name: "000b".into(),
        ek: "e".into(),
        node: Some(NodeId::new([9; 32])),
        key: attest::KeyOrigin::Tpm,
        epoch: 5,
        reset_count: 6,
        restart_count: 7,
        boot_id: "b".into(),
        quotes: (8, 9, 10),
        quote_us: 11,
        pcrs: vec![pcr; pcrs],
        recovery_waiting: true,
        diagnostics: vec![diagnostic(); diagnostics],
    })
}

/// Measurements of a boot.
pub(crate) fn attest_log(lines: usize) -> attest::Reply {
    let line = attest::Measurement {
        pcr: 13,
        name: "service:ledger spec".into(),
        digest: "cd".into(),
        verdict: "match".into(),
    };
    attest::Reply::Log { total: 300, lines: vec![line; lines] }
}

pub(crate) fn log(lines: usize) -> control::Reply {
    let line = control::LogLine {
        number: 1,
        time_s: 2,
        source: "init".into(),
        severity: Severity::Info,
        text: "t".into(),
    };
    control::Reply::Log(vec![line; lines])
}

/// As [`control_status`], for the sensor.
pub(crate) fn sensor_status(
    [interfaces, counters, flows, diagnostics]: [usize; 4],
) -> sensor::Reply {
    let flow = sensor::Flow {
        source: V4,
        destination: V6,
        protocol: 6,
        source_port: 40_000,
        destination_port: 443,
        packets: 2,
        bytes: 3,
        idle_ms: 4,
    };
    let interface = sensor::Interface { name: "e".into(), xdp_mode: "generic".into() };
    sensor::Reply::Status(sensor::Status {
        interfaces: vec![interface; interfaces],
        counters: vec![sensor::Counter { name: "packets".into(), value: 1 }; counters],
        flows: vec![flow; flows],
        diagnostics: vec![diagnostic(); diagnostics],
    })
}

/// As [`control_status`], for the inspector.
pub(crate) fn inspector_state([counters, diagnostics]: [usize; 2]) -> inspector::Report {
    inspector::Report::State(inspector::State {
        counters: vec![sensor::Counter { name: "packets_received".into(), value: 1 }; counters],
        diagnostics: vec![diagnostic(); diagnostics],
        lost: 2,
        held_back: 3,
        read: None,
    })
}

/// What a reload put in force.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn loaded() -> sensor::Loaded {
    sensor::Loaded { rules: 1, rejected: 2, names: 3, addresses: 4, ms: 5, trouble: "t".into() }
}

/// An inspector that has read rules and lists again.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn inspector_read() -> inspector::Report {
    let read = Some(inspector::Read { number: 7, loaded: loaded() });
    inspector::Report::State(inspector::State { read, ..inspector::State::default() })
}

/// First payloads that nobody looked at.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn missed(samples: usize) -> inspector::Order {
    let sample = inspector::Sample {
        source: V4,
        destination: V6,
        ports: (40_000, 53),
        protocol: 17,
        interface: 2,
        kind: inspector::SampleKind::Dns,
        bytes: vec![1, 2].into(),
    };
    inspector::Order::Missed { samples: vec![sample; samples] }
}

/// A box that has read them again.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn reloading() -> control::Reply {
    let control::Reply::Status(status) = control_status([0; 5]) else { return log(0) };
    control::Reply::Status(control::Status { reload: Some(errand()), ..status })
}

/// A box that has carried evidence out.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn carrying() -> control::Reply {
    let control::Reply::Status(status) = control_status([0; 5]) else { return log(0) };
    control::Reply::Status(control::Status { carry: Some(errand()), ..status })
}

fn errand() -> control::Errand {
    control::Errand { number: 1, state: control::ErrandState::Failed, left: 31, text: "x".into() }
}

/// As [`control_status`], for the response.
pub(crate) fn response_status(
    [active, protected, enforcers, diagnostics]: [usize; 4],
) -> response::Reply {
    let one = response::Active {
        hash: hash(1),
        cause: hash(2),
        subject: V4,
        action: event::Action::BlockSource,
        remaining_ms: 3,
        packets_dropped: 4,
    };
    let kept = response::Protected { address: V4, prefix: 32, why: "self".into() };
    response::Reply::Status(response::Status {
        mode: event::Mode::Observe,
        active: vec![one; active],
        active_total: 5,
        protected: vec![kept; protected],
        refused: 6,
        lifted: 7,
        enforcers: vec!["nft".into(); enforcers],
        diagnostics: vec![diagnostic(); diagnostics],
    })
}
