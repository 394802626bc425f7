//! `hookprobe-sensor bench-xdp`: what one packet costs inside the kernel, by BPF_PROG_TEST_RUN.
//!
//! The numbers mean little by themselves (another machine, another number); their distance to the
//! empty program of the same run does. Sizes are instructions as the kernel keeps them, and how many
//! the verifier walked.

use std::path::Path;

use hookprobe_abi::{self as abi, bucket::Rate, config::Config, config::flag};

use crate::{
    core::address::from_ip,
    object::{
        Maps, Object, ObjectError, PROGRAM_PARSE, PROGRAM_PASS,
        lists::{List, Rule},
    },
};

/// Runs per measurement; the kernel reports the mean.
const REPEAT: u32 = 500_000;
/// Measurements, of which the median counts. They take turns, so that a slow moment of the machine
/// meets all.
const ROUNDS: usize = 9;
/// Bytes of an instruction of eBPF.
pub const INSTRUCTION_BYTES: u32 = 8;
/// Entries of the list.
const LIST_ENTRIES: u32 = 100_000;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was run.
    pub name: &'static str,
    /// Median nanoseconds per packet.
    pub ns: u64,
    /// Smallest and largest.
    pub spread: (u64, u64),
}

/// What is measured: name, program, flags, limits, and whether the source is blocked.
struct Case {
    name: &'static str,
    program: &'static str,
    flags: u32,
    limited: bool,
    source: u8,
}

const CASES: [Case; 7] = [
    case("pass", PROGRAM_PASS, 0),
    case("parse", PROGRAM_PARSE, 0),
    // Everything, as the product runs: list of 100,000, flow table, samples.
    case("full-list-100000", abi::PROGRAM_XDP, flag::SAMPLE),
    // The first packet of each flow: nothing is known of it yet.
    case("full-uncached", abi::PROGRAM_XDP, flag::SAMPLE | flag::NO_CACHE),
    case("without-flows", abi::PROGRAM_XDP, flag::NO_FLOWS),
    Case { limited: true, ..case("full-and-limits", abi::PROGRAM_XDP, flag::SAMPLE) },
    // Stands in the list: dropped.
    Case { source: LISTED, ..case("drop-by-list", abi::PROGRAM_XDP, flag::SAMPLE) },
];

/// Last byte of a source that nothing is said of.
const CLEAN: u8 = 1;
/// Last byte of one that stands in the list.
const LISTED: u8 = 2;

const fn case(name: &'static str, program: &'static str, flags: u32) -> Case {
    Case { name, program, flags, limited: false, source: CLEAN }
}

/// Measures the empty program, parsing, and the whole under several conditions.
///
/// # Errors
/// Any [`ObjectError`].
pub fn run(object: &Path) -> Result<Vec<Line>, ObjectError> {
    let (mut object, mut maps, _rings) = Object::load(object, None)?;
    maps.swap_list(&list())?;
    let mut rounds: Vec<Vec<u64>> = CASES.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (case, times) in CASES.iter().zip(&mut rounds) {
            set(&mut maps, case)?;
            let (_, mean) = object.test_run(case.program, &packet(case.source), REPEAT)?;
            times.push(u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok(CASES.iter().zip(&mut rounds).map(|(case, times)| line(case.name, times)).collect())
}

/// What the programs have: name, bytes of instructions in the kernel, instructions walked by the
/// verifier.
///
/// # Errors
/// Any [`ObjectError`].
pub fn sizes(object: &Path) -> Result<Vec<(String, u32, u32)>, ObjectError> {
    let (object, _maps, _rings) = Object::load(object, None)?;
    Ok(object.sizes())
}

fn set(maps: &mut Maps, case: &Case) -> Result<(), ObjectError> {
    // So high that nothing is dropped: what is measured is the asking.
    let rate = if case.limited { Rate::new(1_000_000_000, 1_000_000_000) } else { Rate::default() };
    let config = Config { flags: case.flags, source: rate, prefix: rate, ..maps.config()? };
    maps.configure(&config)
}

fn line(name: &'static str, times: &mut [u64]) -> Line {
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or(0);
    Line { name, ns: at(times.len() / 2), spread: (at(0), at(times.len().saturating_sub(1))) }
}

fn list() -> List {
    let rules = (0..LIST_ENTRIES).map(|number| {
        let [_, b, c, d] = number.to_be_bytes();
        let address = from_ip(std::net::IpAddr::from([100, 64 + b, c, d]));
        Rule { address, bits: 128, entry: abi::BlockEntry::default() }
    });
    let listed = Rule {
        address: from_ip(std::net::IpAddr::from([192, 0, 2, LISTED])),
        bits: 128,
        entry: abi::BlockEntry::default(),
    };
    // It fits: the number is a constant far below the limit.
    List::new(rules.chain([listed])).unwrap_or_default()
}

/// A TCP segment of an established connection: no record, one flow.
fn packet(source: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    let written = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, source], [192, 0, 2, 200], 64)
        .tcp(443, 50_000, 1, 1024)
        .ack(1)
        .write(&mut packet, &[0; 46]);
    // Into a Vec, with a payload that fits: there is no error to have.
    debug_assert!(written.is_ok());
    packet
}
