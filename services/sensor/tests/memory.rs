//! What flows and rules take, by an allocator that counts. One test, because whatever else the process
//! did at the same time would be counted, too.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hookprobe_rules::{Config, Detector, Mode, Ruleset};
use hookprobe_sensor::{
    benchdetect::conversation,
    replay::{Replay, capture::Packet, options, pipeline::Pipeline},
};
use hookprobe_traffic::engine::Engine;
use pcap_parser::Linktype;

const FLOWS: u32 = 20_000;
/// Measured: 1455, of which growth left 90 unused and 300 are tables of the detectors.
const BYTES_PER_FLOW_MAX: usize = 1550;
const RULES: usize = 2000;
/// Measured: 3126, most of it the prefilter: so few rules have tables with a step for each byte.
const BYTES_PER_RULE_MAX: usize = 3500;

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Rules of the kinds that published sets are made of, each with words of its own.
fn rules(count: usize) -> String {
    let rule = |index: usize| {
        let word = format!("w{:x}", index.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
        let (header, body) = match index % 4 {
            0 => (
                "http $HOME_NET any -> $EXTERNAL_NET any",
                format!(
                    "flow:established,to_server; http.uri; content:\"/{word}/\"; content:\"x.php?\"; distance:0;"
                ),
            ),
            1 => (
                "dns $HOME_NET any -> any any",
                format!("dns.query; content:\"{word}.example\"; nocase; endswith;"),
            ),
            2 => (
                "tcp $EXTERNAL_NET any -> $HOME_NET any",
                format!(
                    "flow:established; content:\"{word}|00|\"; content:\"abc\"; distance:4; within:64;"
                ),
            ),
            _ => (
                "tcp $HOME_NET any -> $EXTERNAL_NET [80,443]",
                format!(
                    "flow:established,to_server; content:\"{word}\"; depth:64; pcre:\"/{word}[0-9]{{2,4}}x/i\";"
                ),
            ),
        };
        format!(
            "alert {header} (msg:\"{word}\"; {body} classtype:trojan-activity; sid:{}; rev:1;)\n",
            index + 1
        )
    };
    (0..count).map(rule).collect()
}

fn load(text: &str) -> (Arc<Ruleset>, hookprobe_rules::Sets) {
    let mut config = Config::default();
    config.variables = Config::shipped_variables();
    let (rules, sets) = Ruleset::new(&[("rules", text)], config);
    assert_eq!(rules.problems, []);
    (Arc::new(rules), sets)
}

fn bytes_per_rule() -> usize {
    let text = rules(RULES);
    let before = held();
    let (rules, _sets) = load(&text);
    assert_eq!(rules.rules().len(), RULES);
    (held() - before) / RULES
}

/// Open flows, each with a request that nobody acknowledged yet, before rules that remember a bit of
/// each, and all detectors.
fn bytes_per_flow() -> usize {
    let (rules, sets) =
        load("alert tcp any any -> any 80 (content:\"GET\"; flowbits:set,seen; noalert; sid:1;)\n");
    let detector = Detector::new(rules, sets, Mode::Passive);
    let pipeline = Pipeline::<io::Sink>::new(Some(detector), None, None);
    let mut replay = Replay::with(Engine::new(options::engine(true)), pipeline);
    let before = held();
    let mut time_ns = 1_767_225_600_000_000_000;
    for number in 0..FLOWS {
        for data in conversation(number) {
            let (link, wire_bytes) = (Linktype::ETHERNET, data.len() as u32);
            replay.packet(&Packet { time_ns, interface: 0, link, wire_bytes, data: &data });
            time_ns += 10_000;
        }
    }
    (held() - before) / FLOWS as usize
}

#[test]
fn flows_and_rules_take_what_is_promised() {
    let (rule, flow) = (bytes_per_rule(), bytes_per_flow());
    println!("{rule} bytes a rule, {flow} bytes a flow");
    assert!(rule <= BYTES_PER_RULE_MAX, "{rule} bytes a rule");
    assert!(flow <= BYTES_PER_FLOW_MAX, "{flow} bytes a flow");
    // A test that counts nothing would pass, too.
    assert!(rule > 500 && flow > 700, "{rule} and {flow} bytes");
}
