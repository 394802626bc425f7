//! Valid inputs: every message and format at least once, with its optional parts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookprobe_evidence::{
    closure::ServiceList,
    digest::{Digest, HashAlg},
    log, manifest,
    manifest::ReferenceManifest,
    pcr::PcrIndex,
    uki,
};
use hookprobe_ledger::{
    Epoch,
    store::{FORMAT, State, rows, witness},
};
use hookprobe_wire::{
    Block, Diagnostic, Event, EventType, Hash, NodeId, Seq, Severity,
    block::{self, Header, Signature},
    control, event, frame, inspector,
    ledger::{self, Payload, Record, RequestId},
    response, sensor,
};
use minicbor::{
    Encode,
    bytes::{ByteArray, ByteVec},
};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 0, 77));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77));
/// The real list of services, so that its shape is what is mutated.
const SERVICES: &str = include_str!("../../../image/rootfs/services.toml");

fn framed<M: Encode<()>>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().filter_map(|message| frame::to_vec(message).ok()).collect()
}

fn hash(byte: u8) -> Hash {
    Hash::new([byte; 32])
}

fn diagnostic() -> Diagnostic {
    Diagnostic {
        code: "HP-ST-002".into(),
        severity: Severity::Warn,
        object: "state".into(),
        cause: "no disk".into(),
        remedy: "attach one".into(),
    }
}

fn events() -> Vec<Event> {
    vec![
        Event::Boot(event::Boot {
            version: "0.1.0".into(),
            boot_id: "0".repeat(32),
            level: "T".into(),
            pcr13: Some(hash(13)),
            diagnostics: vec![diagnostic()],
        }),
        Event::Service(event::ServiceChange {
            service: "sensor".into(),
            change: "exited".into(),
            detail: "code 1".into(),
        }),
        Event::Alert(event::Alert {
            detector: "scan.trw".into(),
            severity: Severity::Critical,
            source: V6,
            interface: "eth1".into(),
            summary: "9 of 10 connections failed".into(),
            evidence: vec![event::Evidence { name: "failures".into(), value: 9 }],
            first_ns: 1,
            decided_ns: u64::MAX,
            drill: true,
            reference: None,
        }),
        Event::Mitigation(event::Mitigation {
            cause: hash(1),
            action: event::Action::BlockSource,
            subject: V4,
            mode: event::Mode::Autonomous,
            expires_ns: 600_000_000_000,
            enforced_by: vec!["xdp".into(), "nft".into()],
            reason: "R-1042".into(),
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
            code: "HP-RS-010".into(),
            reason: "gateway".into(),
        }),
    ]
}

fn record(event: &Event) -> Record {
    let (salt, bytes) = ([7; block::SALT_BYTES], event.to_cbor());
    let header = Header {
        version: block::BLOCK_VERSION,
        node_identity: NodeId::new([9; 32]),
        epoch: 1,
        seq: Seq(0),
        prev_hash: Hash::zero(),
        timestamp_ns: 1_700_000_000_000_000_000,
        event_type: event.event_type(),
        payload_hash: block::payload_hash(&salt, &bytes),
    };
    Record {
        hash: header.hash(),
        block: Block {
            signatures: vec![Signature {
                signer: header.node_identity,
                bytes: ByteArray::from([5; 64]),
            }],
            header,
        },
        payload: Some(Payload { salt: ByteArray::from(salt), bytes: ByteVec::from(bytes) }),
    }
}

pub(crate) fn control_requests() -> Vec<Vec<u8>> {
    framed(&[control::Request::Status, control::Request::Log { from: u64::MAX }])
}

pub(crate) fn control_replies() -> Vec<Vec<u8>> {
    let status = control::Status {
        name: "hp-7f3a".into(),
        version: "0.1.0".into(),
        uptime_ms: 1,
        time_s: 2,
        ready: true,
        phases: vec![control::Phase { name: "tpm".into(), ok: true, us: 3 }],
        services: vec![control::Service {
            name: "sensor".into(),
            state: control::ServiceState::Backoff,
            pid: 4,
            restarts: 5,
            up_ms: 6,
            rss_kib: 7,
            digest: "ab".repeat(32),
            verdict: "match".into(),
            last_exit: "code 1".into(),
        }],
        measured: control::Measured {
            level: "T".into(),
            level_text: "software TPM".into(),
            pcrs: vec![control::PcrValue {
                bank: "sha256".into(),
                index: 13,
                value: "ab".repeat(32),
                predicted: String::new(),
            }],
            divergence: String::new(),
            measure_us: 8,
            commands: 9,
        },
        addresses: vec!["eth0 10.20.0.2/24".into()],
        diagnostics: vec![diagnostic()],
        rss_kib: 10,
        memory_kib: (11, 12),
        state: Some("encrypted".into()),
        reload: Some(control::Errand {
            number: 1,
            state: control::ErrandState::Done,
            left: 31,
            text: "3 rules".into(),
        }),
        carry: None,
    };
    framed(&[
        control::Reply::Status(status),
        control::Reply::Log(vec![control::LogLine {
            number: 1,
            time_s: 2,
            source: "init".into(),
            severity: Severity::Info,
            text: "boot.phase".into(),
        }]),
        control::Reply::Error { code: "HP-XX-000".into(), reason: "no".into() },
    ])
}

pub(crate) fn ledger_requests() -> Vec<Vec<u8>> {
    let id = RequestId(ByteArray::from([1; 16]));
    let mut requests: Vec<_> =
        events().into_iter().map(|event| ledger::Request::Append { id, event }).collect();
    requests.push(ledger::Request::Follow { from: Seq(0) });
    requests.push(ledger::Request::Read { from: Seq(u64::MAX), count: 256 });
    requests.push(ledger::Request::Head);
    framed(&requests)
}

pub(crate) fn ledger_replies() -> Vec<Vec<u8>> {
    let id = RequestId(ByteArray::from([1; 16]));
    let mut replies: Vec<_> =
        events().iter().map(|event| ledger::Reply::Block(record(event))).collect();
    replies.extend([
        ledger::Reply::Appended { id, seq: Seq(1), hash: hash(1) },
        ledger::Reply::Rejected { id, code: "HP-LG-001".into(), reason: "full".into() },
        ledger::Reply::CaughtUp { next: Seq(4) },
        ledger::Reply::Head(ledger::Head {
            node: NodeId::new([9; 32]),
            epoch: 1,
            length: 2,
            hash: hash(2),
            root: hash(3),
            verified_at_start: 4,
            volatile: false,
            queue: 5,
            rejected: 6,
            key: Some(hookprobe_wire::attest::KeyOrigin::Tpm),
        }),
    ]);
    framed(&replies)
}

pub(crate) fn ledger_records() -> Vec<Vec<u8>> {
    let mut records: Vec<_> = events().iter().map(record).collect();
    // A header that lies about its payload's type, and an erased payload.
    let mut lying = record(&Event::Lift(event::Lift {
        cause: hash(2),
        subject: V4,
        reason: "expired".into(),
        packets_dropped: 7,
    }));
    lying.block.header.event_type = EventType::Boot;
    let mut erased = lying.clone();
    erased.payload = None;
    records.extend([lying, erased]);
    framed(&records)
}

/// Kinds of [`ledger_rows`].
pub(crate) const ROW_KINDS: u8 = 5;

/// One row of each kind, the kind in front.
pub(crate) fn ledger_rows() -> Vec<Vec<u8>> {
    let record = record(&events()[2]);
    let node = record.block.header.node_identity;
    let state = State {
        format: FORMAT,
        epoch: 1,
        node,
        first: Seq(0),
        length: 5,
        hash: record.hash,
        timestamp_ns: u64::MAX,
        peaks: vec![hash(1), hash(2)],
    };
    let seen = witness::Seen { epoch: 1, length: 5, hash: record.hash };
    let payload = record.payload.as_ref().map(rows::from_payload).unwrap_or_default();
    let all = [
        rows::from_block(&record.block),
        payload,
        rows::from_state(&state),
        rows::from_epoch(&Epoch { number: 1, node, first: Seq(0) }).to_vec(),
        witness::to_slot(&seen),
    ];
    (0..ROW_KINDS).zip(all).map(|(kind, row)| [&[kind], row.as_slice()].concat()).collect()
}

pub(crate) fn sensor_requests() -> Vec<Vec<u8>> {
    framed(&[sensor::Request::Status, sensor::Request::Drill])
}

pub(crate) fn sensor_replies() -> Vec<Vec<u8>> {
    framed(&[
        sensor::Reply::Status(sensor::Status {
            interfaces: vec![sensor::Interface { name: "eth1".into(), xdp_mode: "generic".into() }],
            counters: vec![sensor::Counter { name: "packets".into(), value: 1 }],
            flows: vec![sensor::Flow {
                source: V4,
                destination: V6,
                protocol: 6,
                source_port: 40_000,
                destination_port: 443,
                packets: 2,
                bytes: 3,
                idle_ms: 4,
            }],
            diagnostics: vec![diagnostic()],
        }),
        sensor::Reply::Drill { started: true, reason: "see alerts".into() },
        sensor::Reply::Error { code: "HP-XX-000".into(), reason: "no".into() },
    ])
}

pub(crate) fn inspector_orders() -> Vec<Vec<u8>> {
    framed(&[
        inspector::Order::Watch { interfaces: vec![2, 70_000] },
        inspector::Order::Reload { number: Some(1) },
    ])
}

pub(crate) fn inspector_reports() -> Vec<Vec<u8>> {
    let found = events().into_iter().filter_map(|event| match event {
        Event::Alert(alert) => Some(inspector::Report::Found { alert, interface: 2 }),
        _ => None,
    });
    let state = inspector::Report::State(inspector::State {
        counters: vec![sensor::Counter { name: "packets_received".into(), value: 1 }],
        diagnostics: vec![diagnostic()],
        lost: 2,
        held_back: 3,
        read: Some(inspector::Read { number: 1, loaded: sensor::Loaded::default() }),
    });
    framed(&found.chain([state]).collect::<Vec<_>>())
}

pub(crate) fn response_requests() -> Vec<Vec<u8>> {
    framed(&[response::Request::Status])
}

pub(crate) fn response_replies() -> Vec<Vec<u8>> {
    framed(&[
        response::Reply::Status(response::Status {
            mode: event::Mode::Suggest,
            active: vec![response::Active {
                hash: hash(1),
                cause: hash(2),
                subject: V4,
                action: event::Action::BlockSource,
                remaining_ms: 3,
                packets_dropped: 4,
            }],
            active_total: 1,
            protected: vec![response::Protected {
                address: V6,
                prefix: 128,
                why: "gateway".into(),
            }],
            refused: 5,
            lifted: 6,
            enforcers: vec!["xdp".into()],
            diagnostics: vec![diagnostic()],
        }),
        response::Reply::Error { code: "HP-XX-000".into(), reason: "no".into() },
    ])
}

pub(crate) fn sites() -> Vec<Vec<u8>> {
    let full = "[node]\nname = \"hp-lab\"\nresolvers = [\"10.20.0.1\"]\n[[interface]]\nname = \
                \"eth1\"\nrole = \"lan\"\naddress = \"10.20.0.2/24\"\ngateway = \"10.20.0.1\"\n\
                [response]\nmode = \"autonomous\"\nblock_s = 60\nadministrators = [\"fe80::1\"]\n";
    let dhcp = "[[interface]]\nname = \"eth0\"\nrole = \"uplink\"\naddress = \"dhcp\"\n";
    [full, dhcp, ""].map(|text| text.into()).into()
}

pub(crate) fn services() -> Vec<Vec<u8>> {
    vec![SERVICES.into()]
}

fn file(path: &str) -> Vec<u8> {
    path.repeat(3).into_bytes()
}

/// The log of a boot that matches [`manifests`].
pub(crate) fn event_log() -> Vec<u8> {
    let banks = [HashAlg::Sha256];
    let list = ServiceList::parse(SERVICES).unwrap_or(ServiceList { service: Vec::new() });
    let mut out = Vec::new();
    for spec in list.service.iter().take(2) {
        for path in spec.closure_files() {
            let event = manifest::event(&spec.file_event(path), &file(path), &banks);
            out.extend(log::to_record(&event));
        }
        let event = manifest::event(&spec.spec_event(), &spec.canonical(), &banks);
        out.extend(log::to_record(&event));
    }
    out
}

pub(crate) fn event_logs() -> Vec<Vec<u8>> {
    let every_bank = manifest::event("a \"b\" \u{fc}", b"x", &HashAlg::ALL);
    vec![event_log(), log::to_record(&every_bank), Vec::new()]
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let mut list = ServiceList::parse(SERVICES).unwrap_or(ServiceList { service: Vec::new() });
    list.service.truncate(2);
    ReferenceManifest::predict("0.1.0", 1, &list, |path| Ok(file(path)))
        .iter()
        .map(ReferenceManifest::to_json)
        .collect()
}

pub(crate) fn module_indexes() -> Vec<Vec<u8>> {
    vec![
        b"module virtio_net /m/virtio_net.ko net_failover,failover\nmodule net_failover \
          /m/net_failover.ko failover\nmodule failover /m/failover.ko -\nalias \
          pci:v00001AF4d0000100[0-9]* virtio-net\nalias pci:v*d*sv*sd*bc02sc?0i* virtio_net\n\
          always failover\n"
            .to_vec(),
        b"module a /a b\nmodule b /b a\nalways a\n".to_vec(),
    ]
}

/// The smallest PE32+ with a section, put together by the composer itself.
pub(crate) fn ukis() -> Vec<Vec<u8>> {
    let mut stub = vec![0u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x80]);
    put(0x80, b"PE\0\0");
    put(0x94, &112u16.to_le_bytes());
    put(0x98, &0x20bu16.to_le_bytes());
    put(0x98 + 32, &0x1000u32.to_le_bytes());
    put(0x98 + 36, &0x200u32.to_le_bytes());
    put(0x98 + 56, &0x1000u32.to_le_bytes());
    put(0x98 + 60, &0x400u32.to_le_bytes());
    let sections: [(&str, &[u8]); 3] =
        [(".osrel", b"ID=hookprobe"), (".cmdline", b"quiet"), (".linux", &[7; 700])];
    uki::compose(&stub, &sections).into_iter().chain([stub]).collect()
}

pub(crate) fn tpm_responses() -> Vec<Vec<u8>> {
    let response = |tag: u16, rc: u32, body: &[u8]| {
        let mut out = tag.to_be_bytes().to_vec();
        out.extend((10 + body.len() as u32).to_be_bytes());
        out.extend(rc.to_be_bytes());
        out.extend(body);
        out
    };
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let banks =
        [&[0][..], &words(&[5, 2]), &[0, 4, 3, 255, 255, 255], &[0, 0x0b, 3, 255, 255, 255]];
    let identity =
        [&[0][..], &words(&[6, 3, 0x105, 0x4942_4d00, 0x106, 0x5357_2020, 0x10b, 0x2019_1023])];
    let zero = Digest::zero(HashAlg::Sha256);
    let [bits, ..] = (1u32 << PcrIndex::SERVICES.get()).to_le_bytes();
    let read = [
        &words(&[7, 1])[..],
        &[0, 0x0b, 3, bits, 0x20, 0],
        &words(&[1]),
        &[0, 32],
        zero.as_bytes(),
    ];
    vec![
        response(0x8001, 0, &[]),
        response(0x8001, 0x100, &[]),
        response(0x8001, 0x922, &[]),
        response(0x8001, 0, &banks.concat()),
        response(0x8001, 0, &identity.concat()),
        response(0x8002, 0, &[0, 0, 0, 0, 0, 0, 1, 0, 0]),
        response(0x8001, 0, &read.concat()),
    ]
}

/// An Ethernet frame with IPv4 and TCP.
fn tcp(source: u8, destination_port: u16, flags: u8) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, source, 8, 0];
    out.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, source, 10, 0, 0, 1]);
    out.extend(40_000u16.to_be_bytes());
    out.extend(destination_port.to_be_bytes());
    out.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    for (at, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        for field in [1_700_000_000, at as u32 * 1000, length, length] {
            out.extend(field.to_le_bytes());
        }
        out.extend(packet);
    }
    out
}

/// One section, one interface, enhanced packet blocks.
fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padding = body.len().next_multiple_of(4) - body.len();
        let length = (12 + body.len() + padding) as u32;
        out.extend(kind.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(body);
        out.extend(&[0; 4][..padding]);
        out.extend(length.to_le_bytes());
    };
    let section = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    block(0x0a0d_0d0a, &[&section[..], &[0xff; 8]].concat());
    // Ethernet, no limit, if_tsresol = nanoseconds, end of options.
    block(1, &[1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    for packet in packets {
        let length = packet.len() as u32;
        let mut body: Vec<u8> =
            [0, 0, 7, length, length].iter().flat_map(|field| field.to_le_bytes()).collect();
        body.extend(packet);
        block(6, &body);
    }
    out
}

pub(crate) fn captures() -> Vec<Vec<u8>> {
    let (syn, syn_ack, rst) = (2, 0x12, 0x14);
    let mut udp = tcp(9, 53, 0);
    udp[23] = 17;
    let few = [tcp(7, 443, syn), tcp(1, 443, syn_ack), tcp(7, 22, rst), udp];
    // Enough refused connections for the scan detector to speak.
    let scan: Vec<_> = (1..40).map(|port| tcp(66, port, syn)).collect();
    vec![pcap(&few), pcapng(&few), pcap(&scan), pcap(&[])]
}
