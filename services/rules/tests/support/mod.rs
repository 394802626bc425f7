//! Packets and a judge of them, for tests that ask with which packet a rule fires.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::{fmt::Write, sync::Arc};

use hookprobe_rules::{Config, Detector, Mode, Ruleset};
use hookprobe_traffic::{
    config,
    engine::{Engine, Inspector, View},
    packet::{Frame, Link, Origin},
};

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Notes with which packet a rule fires, from 1; 0: when something ended.
pub(crate) struct Judge {
    detector: Detector,
    rules: Arc<Ruleset>,
    number: u64,
    /// Packet and rule.
    pub(crate) fired: Vec<(u64, u64)>,
    pub(crate) dropped: Vec<u64>,
}

impl Inspector for Judge {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        let is_end = view.packet.origin == Origin::FlowEnd;
        let number = if is_end { 0 } else { self.number };
        let verdict = self.detector.inspect(view);
        let (rules, is_dropped) = (verdict.alerts.clone(), verdict.drop.is_some());
        for alert in rules {
            let rule = &self.rules.rules()[alert.rule as usize];
            self.fired.push((number, rule.sid.into()));
        }
        if is_dropped {
            self.dropped.push(number);
        }
    }

    fn reads_raw_streams(&self) -> bool {
        true
    }
}

/// IPv4 with `flags` of fragmentation.
pub(crate) fn ip4(from: [u8; 4], to: [u8; 4], flags: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 7, flags << 5, 0, 64, protocol, 0, 0];
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

pub(crate) fn tcp(ports: (u16, u16), flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

/// A handshake, then messages of the client (true) and the server: each acknowledged at once by the
/// other side.
pub(crate) fn conversation(port: u16, messages: &[(bool, &[u8])]) -> Vec<Vec<u8>> {
    let (mut seq, mut ack) = (101_u32, 501_u32);
    let client = |flags, seq, ack, data: &[u8]| {
        ip4(CLIENT, SERVER, 2, 6, &tcp((4000, port), flags, seq, ack, data))
    };
    let server = |flags, seq, ack, data: &[u8]| {
        ip4(SERVER, CLIENT, 2, 6, &tcp((port, 4000), flags, seq, ack, data))
    };
    let mut out =
        vec![client(2, 100, 0, b""), server(0x12, 500, 101, b""), client(0x10, 101, 501, b"")];
    for (is_client, data) in messages {
        let length = u32::try_from(data.len()).unwrap();
        if *is_client {
            out.push(client(0x18, seq, ack, data));
            seq += length;
            out.push(server(0x10, ack, seq, b""));
        } else {
            out.push(server(0x18, ack, seq, data));
            ack += length;
            out.push(client(0x10, seq, ack, b""));
        }
    }
    out
}

/// The packets with which the rule `HEAD|OPTIONS` fires.
pub(crate) fn at(packets: &[Vec<u8>], rule: &str) -> Vec<u64> {
    let (head, options) = rule.split_once('|').unwrap();
    let mut text = String::new();
    writeln!(text, "alert {head} any any -> any any ({options} sid:1;)").unwrap();
    let judge = judge(packets, &text, Mode::Passive, |_| {});
    judge.fired.into_iter().map(|(number, _)| number).collect()
}

/// What `rules` say of `packets`; `set` changes the engine's settings.
pub(crate) fn judge(
    packets: &[Vec<u8>],
    rules: &str,
    mode: Mode,
    set: impl FnOnce(&mut config::Config),
) -> Judge {
    let (ruleset, sets) = Ruleset::new(&[("test", rules)], Config::default());
    assert!(ruleset.problems.is_empty(), "{:?}", ruleset.problems);
    let rules = Arc::new(ruleset);
    let detector = Detector::new(Arc::clone(&rules), sets, mode);
    let mut judge = Judge { detector, rules, number: 0, fired: Vec::new(), dropped: Vec::new() };
    let mut settings = config::Config::default();
    settings.stream.is_checksum_validated = false;
    settings.stream.is_inline = mode == Mode::Inline;
    set(&mut settings);
    let mut engine = Engine::new(settings);
    let link = Link::from_linktype(101).unwrap();
    for (number, bytes) in (1..).zip(packets) {
        judge.number = number;
        let wire_bytes = u32::try_from(bytes.len()).unwrap();
        engine.handle(Frame { time_ns: number * 1_000_000, wire_bytes, link, bytes }, &mut judge);
    }
    engine.finish(&mut judge);
    judge.fired.sort_unstable();
    judge
}
