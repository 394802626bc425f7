//! Captures and reference results of others, where they are at hand.
#![allow(dead_code, clippy::unwrap_used, reason = "support of tests; each uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use hookprobe_traffic::packet::{Frame, Link};

/// The folder of test data: `HOOKPROBE_TESTDATA`, or beside the repository.
pub(crate) fn testdata() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    let folder = std::env::var_os("HOOKPROBE_TESTDATA").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Calls `take` with each frame of a pcap or pcapng file.
pub(crate) fn frames(path: &Path, mut take: impl FnMut(Frame<'_>)) {
    let bytes = fs::read(path).unwrap();
    match bytes[..4] {
        [0x0a, 0x0d, 0x0d, 0x0a] => pcapng(&bytes, &mut take),
        [0xa1, 0xb2, 0xc3, 0xd4] => pcap(&bytes, u32::from_be_bytes, 1000, &mut take),
        [0xa1, 0xb2, 0x3c, 0x4d] => pcap(&bytes, u32::from_be_bytes, 1, &mut take),
        [0x4d, 0x3c, 0xb2, 0xa1] => pcap(&bytes, u32::from_le_bytes, 1, &mut take),
        _ => pcap(&bytes, u32::from_le_bytes, 1000, &mut take),
    }
}

fn pcap(bytes: &[u8], order: fn([u8; 4]) -> u32, scale: u64, take: &mut dyn FnMut(Frame<'_>)) {
    let word = |at: usize| order(bytes[at..at + 4].try_into().unwrap());
    let Some(link) = Link::from_linktype(word(20)) else { return };
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let length = word(at + 8) as usize;
        let Some(data) = bytes.get(at + 16..at + 16 + length) else { break };
        let time_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * scale;
        take(Frame { time_ns, wire_bytes: word(at + 12), link, bytes: data });
        at += 16 + length;
    }
}

/// Little-endian, with time stamps in powers of ten.
fn pcapng(bytes: &[u8], take: &mut dyn FnMut(Frame<'_>)) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut interfaces = Vec::new();
    let mut at = 0;
    while at + 12 <= bytes.len() {
        let length = word(at + 4) as usize;
        match word(at) {
            1 => {
                let mut scale = 1000;
                let mut option = at + 16;
                while option + 4 < at + length - 4 {
                    let (kind, size) = (word(option) & 0xffff, word(option) >> 16);
                    if kind == 9 {
                        scale = 10u64.pow(9 - u32::from(bytes[option + 4]));
                    }
                    if kind == 0 {
                        break;
                    }
                    option += 4 + (size as usize).next_multiple_of(4);
                }
                interfaces.push((Link::from_linktype(word(at + 8) & 0xffff), scale));
            }
            6 => {
                let (link, scale) = interfaces[word(at + 8) as usize];
                let ticks = u64::from(word(at + 12)) << 32 | u64::from(word(at + 16));
                let data = &bytes[at + 28..at + 28 + word(at + 20) as usize];
                if let Some(link) = link {
                    let (time_ns, wire_bytes) = (ticks * scale, word(at + 24));
                    take(Frame { time_ns, wire_bytes, link, bytes: data });
                }
            }
            _ => {}
        }
        at += length;
    }
}
