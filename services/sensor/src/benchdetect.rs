//! `hookprobe-sensor bench-detect`: what rules cost to load and to replace, and what the whole engine
//! needs for many flows at once.
//!
//! Called by `cargo xtask bench`. Memory is the kernel's word (`/proc/self/status`), so each figure
//! is that of a process that does nothing else.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use hookprobe_rules::{Config, Detector, Mode, Ruleset};
use hookprobe_traffic::engine::Engine;
use pcap_parser::Linktype;
use thiserror::Error;

use crate::replay::{Replay, capture::Packet, options, pipeline::Pipeline};

/// Between two packets: 100,000 flows begin within 4 s, before any of them times out.
const STEP_NS: u64 = 10_000;
const BEGIN_NS: u64 = 1_767_225_600_000_000_000;

/// Why there are no figures.
#[derive(Debug, Error)]
#[error("HP-SN-093 bench-detect: {0}: can't be read; check the path")]
pub struct BenchDetectError(PathBuf, #[source] io::Error);

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Rules that loaded.
    pub rules: usize,
    /// From text to rules in use.
    pub load_s: f64,
    /// The same again, while the first are in use.
    pub reload_s: f64,
    /// How long packets wait for it: the exchange alone.
    pub swap_us: f64,
    /// Resident with the rules, with both at once at most, and with the flows.
    pub rules_mib: f64,
    /// Most while rules were replaced.
    pub reload_peak_mib: f64,
    /// With all flows open.
    pub flows_mib: f64,
    /// Flows that were open.
    pub flows: u64,
    /// Packets that it took.
    pub packets: u64,
    /// Time by the clock for each of these packets.
    pub packet_ns: f64,
}

/// One line for people and programs.
impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "rules={} load_s={:.2} reload_s={:.2} swap_us={:.1} rules_mib={:.1} \
             reload_peak_mib={:.1} flows={} flows_mib={:.1} packets={} packet_ns={:.0}",
            self.rules,
            self.load_s,
            self.reload_s,
            self.swap_us,
            self.rules_mib,
            self.reload_peak_mib,
            self.flows,
            self.flows_mib,
            self.packets,
            self.packet_ns
        )
    }
}

/// Loads, replaces, and opens `flows` flows.
///
/// # Errors
/// [`BenchDetectError`].
pub fn run(rules: &Path, flows: u32) -> Result<Figures, BenchDetectError> {
    let error = |source| BenchDetectError(rules.into(), source);
    let compile = || -> Result<_, BenchDetectError> {
        let bytes = fs::read(rules).map_err(error)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut settings = Config::default();
        settings.variables = Config::shipped_variables();
        Ok(Ruleset::new(&[("rules", &text)], settings))
    };
    let start = Instant::now();
    let (first, sets) = compile()?;
    let count = first.rules().len();
    let mut detector = Detector::new(Arc::new(first), sets, Mode::Passive);
    let load_s = start.elapsed().as_secs_f64();
    let rules_mib = memory_mib("VmRSS:");
    let start = Instant::now();
    let (second, sets) = compile()?;
    let second = Arc::new(second);
    let before_swap = Instant::now();
    // The old ones are freed by whoever asked for the new ones, not by who looks at packets.
    let old = Arc::clone(detector.rules());
    detector.reload(second, sets);
    let swap_us = before_swap.elapsed().as_secs_f64() * 1e6;
    drop(old);
    let reload_s = start.elapsed().as_secs_f64();
    let reload_peak_mib = memory_mib("VmHWM:");
    let (packets, packet_ns) = open_flows(detector, flows);
    Ok(Figures {
        rules: count,
        load_s,
        reload_s,
        swap_us,
        rules_mib,
        reload_peak_mib,
        flows_mib: memory_mib("VmRSS:"),
        flows: u64::from(flows),
        packets,
        packet_ns,
    })
}

/// Packets, and nanoseconds for each. The engine lives until the end of the process, so that what
/// is measured next has all flows open.
fn open_flows(detector: Detector, flows: u32) -> (u64, f64) {
    let pipeline = Pipeline::<io::Sink>::new(Some(detector), None, None);
    let mut replay = Replay::with(Engine::new(options::engine(true)), pipeline);
    let (mut time_ns, mut packets) = (BEGIN_NS, 0);
    let start = Instant::now();
    for number in 0..flows {
        for data in &conversation(number) {
            let wire_bytes = u32::try_from(data.len()).unwrap_or(0);
            replay.packet(&Packet {
                time_ns,
                interface: 0,
                link: Linktype::ETHERNET,
                wire_bytes,
                data,
            });
            time_ns += STEP_NS;
            packets += 1;
        }
    }
    let each_ns = start.elapsed().as_secs_f64() * 1e9
        / f64::from(u32::try_from(packets).unwrap_or(1)).max(1.0);
    std::mem::forget(replay);
    (packets, each_ns)
}

/// A handshake and a request whose answer is not there yet: a flow with all of its state.
#[must_use]
pub fn conversation(number: u32) -> [Vec<u8>; 4] {
    let [_, b, c, d] = number.to_be_bytes();
    let client = Ipv4Addr::new(10, b, c, d.max(1));
    let server = Ipv4Addr::new(198, 18, c, 1);
    let port = 20_000 + u16::from(d);
    let request = format!("GET /{number:x} HTTP/1.1\r\nHost: h{}.example\r\n\r\n", number % 4096);
    let (seq, ack) = (number, number ^ 0x5555);
    let up = |builder: fn(Tcp) -> Tcp, seq: u32, ack: u32, payload: &[u8]| {
        segment((client, server), (port, 80), (seq, ack), builder, payload)
    };
    let down = |builder: fn(Tcp) -> Tcp, seq: u32, ack: u32| {
        segment((server, client), (80, port), (seq, ack), builder, &[])
    };
    [
        up(|tcp| tcp.syn(), seq, 0, &[]),
        down(|tcp| tcp.syn(), ack, seq.wrapping_add(1)),
        up(|tcp| tcp, seq.wrapping_add(1), ack.wrapping_add(1), &[]),
        up(|tcp| tcp.psh(), seq.wrapping_add(1), ack.wrapping_add(1), request.as_bytes()),
    ]
}

type Tcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

fn segment(
    (source, destination): (Ipv4Addr, Ipv4Addr),
    (from, to): (u16, u16),
    (seq, ack): (u32, u32),
    flags: fn(Tcp) -> Tcp,
    payload: &[u8],
) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(source.octets(), destination.octets(), 64)
        .tcp(from, to, seq, 65_535);
    let builder = if ack == 0 { builder } else { builder.ack(ack) };
    let mut out = Vec::new();
    let written = flags(builder).write(&mut out, payload);
    // Into a Vec, with a payload that fits: there is no error to have.
    debug_assert!(written.is_ok() && IpAddr::V4(source) != IpAddr::V4(destination));
    out
}

/// A field of `/proc/self/status` in MiB; 0 where there is none.
fn memory_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    let kib: u32 = line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    f64::from(kib) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_few_rules_and_flows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.rules");
        assert!(run(&file, 1).unwrap_err().to_string().starts_with("HP-SN-093"));
        fs::write(&file, "alert tcp any any -> any any (content:\"abc\"; sid:1;)\nbroken\n")
            .unwrap();
        let figures = run(&file, 300).unwrap();
        assert_eq!((figures.rules, figures.flows, figures.packets), (1, 300, 1200));
        assert!(figures.flows_mib > 0.0 && figures.reload_peak_mib >= figures.rules_mib);
    }
}
