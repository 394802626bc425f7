//! `hookprobe-sensor bench-xdp`: what one packet costs inside the kernel, by BPF_PROG_TEST_RUN.
//!
//! The numbers mean little by themselves (another machine, another number); their ratio to the
//! empty program of the same run does.

use std::path::Path;

use hookprobe_abi as abi;

use crate::{
    core::address::from_ip,
    object::{Maps, Object, ObjectError, PROGRAM_PASS},
};

/// Runs per measurement; the kernel reports the mean.
const REPEAT: u32 = 1_000_000;
/// Measurements, of which the median counts.
const ROUNDS: usize = 5;
/// Entries of the full block map.
const BLOCK_ENTRIES: u32 = 10_000;

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

/// Measures the empty program, then ours with an empty and with a full block map.
///
/// # Errors
/// Any [`ObjectError`].
pub fn run(object: &Path) -> Result<Vec<Line>, ObjectError> {
    let (mut object, mut maps, _records) = Object::load(object, None)?;
    let packet = packet();
    let mut lines = vec![
        measure(&mut object, "pass", PROGRAM_PASS, &packet)?,
        measure(&mut object, "ingress-block-0", abi::PROGRAM_XDP, &packet)?,
    ];
    fill(&mut maps)?;
    lines.push(measure(&mut object, "ingress-block-10000", abi::PROGRAM_XDP, &packet)?);
    Ok(lines)
}

fn measure(
    object: &mut Object,
    name: &'static str,
    program: &'static str,
    packet: &[u8],
) -> Result<Line, ObjectError> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (_, mean) = object.test_run(program, packet, REPEAT)?;
        rounds.push(u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX));
    }
    rounds.sort_unstable();
    let at = |index: usize| rounds.get(index).copied().unwrap_or(0);
    Ok(Line { name, ns: at(ROUNDS / 2), spread: (at(0), at(ROUNDS - 1)) })
}

fn fill(maps: &mut Maps) -> Result<(), ObjectError> {
    for number in 0..BLOCK_ENTRIES {
        let [_, b, c, d] = number.to_be_bytes();
        let address = from_ip(std::net::IpAddr::from([100, 64 + b, c, d]));
        maps.insert_block(address, abi::BlockEntry::default())?;
    }
    Ok(())
}

/// A TCP segment of an established connection: no record, one flow.
fn packet() -> Vec<u8> {
    let mut packet = Vec::new();
    let written = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .tcp(443, 50_000, 1, 1024)
        .ack(1)
        .write(&mut packet, &[0; 46]);
    // Into a Vec, with a payload that fits: there is no error to have.
    debug_assert!(written.is_ok());
    packet
}
