//! The mixed capture of the detection benchmark: every capture of the test data at once, over and
//! over, with other addresses each time so that every round is new flows to an engine. Captures get
//! addresses of their own, too: many are of the same ten machines, and their flows would mix.
//!
//! Addresses are shifted in place and the checksums over them corrected (RFC 1624), so that an
//! engine that verifies checksums sees what it saw before. The result depends on the captures
//! only.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::error::{Error, Result, at};

/// Largest capture that takes part; larger ones would be most of the mix.
const CAPTURE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long a capture may last in the mix; longer ones are played faster. 20 s: less than any
/// timeout of a flow, so that its end never depends on the speed.
const CAPTURE_NS_MAX: u64 = 20_000_000_000;
/// From the begin of one round to the begin of the next: what a round lasts, and a pause.
const ROUND_NS: u64 = 21_000_000_000;
/// When the first round begins: 2026-01-01.
const BEGIN_NS: u64 = 1_767_225_600_000_000_000;
/// Bytes read at once; also the largest block.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Most bytes of a captured packet, as in a pcap header.
const SNAP_BYTES: u32 = 262_144;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mix {
    /// Captures that take part.
    pub(super) captures: u64,
    /// Packets in the file.
    pub(super) packets: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Rounds.
    pub(super) rounds: u64,
}

/// One packet of a round.
#[derive(Debug, Clone)]
struct Packet {
    /// Since the begin of the round.
    offset_ns: u64,
    wire_bytes: u32,
    data: Vec<u8>,
    /// Which capture it is from.
    capture: u64,
}

/// How addresses move: the second octet by one, the third by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shift(u8, u8);

/// Rounds before addresses of one group of 256 captures meet those of the next.
const ROUNDS_APART: u64 = 64;

impl Shift {
    fn of(round: u64, capture: u64) -> Self {
        let second = round + capture / 256 * ROUNDS_APART;
        Self(u8::try_from(second % 256).unwrap_or(0), u8::try_from(capture % 256).unwrap_or(0))
    }
}

/// Writes the captures below `folder` to `out`: one round, and more until there are `bytes_min` bytes.
pub(super) fn write(folder: &Path, out: &Path, bytes_min: u64) -> Result<Mix> {
    let mut files = Vec::new();
    captures(folder, &mut files)?;
    files.sort();
    let mut mix = Mix::default();
    let mut round = Vec::new();
    for file in &files {
        // A capture of hostile bytes that can't be read to its end gives what it has.
        let mut packets = read(file)?;
        if !packets.is_empty() {
            mix.captures += 1;
            settle(&mut packets, mix.captures);
            round.append(&mut packets);
        }
    }
    if round.is_empty() {
        return Err(Error::Check(format!("{}: no captures", folder.display())));
    }
    round.sort_by_key(|packet| packet.offset_ns);
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(out).map_err(at(out))?);
    let header = header();
    file.write_all(&header).map_err(at(out))?;
    mix.bytes = header.len() as u64;
    while mix.rounds == 0 || mix.bytes < bytes_min {
        for packet in &round {
            let mut data = packet.data.clone();
            shift(&mut data, Shift::of(mix.rounds, packet.capture));
            let time_ns = BEGIN_NS + mix.rounds * ROUND_NS + packet.offset_ns;
            let record = record(time_ns, packet.wire_bytes, &data);
            file.write_all(&record).and_then(|()| file.write_all(&data)).map_err(at(out))?;
            mix.packets += 1;
            mix.bytes += (record.len() + data.len()) as u64;
        }
        mix.rounds += 1;
    }
    file.flush().map_err(at(out))?;
    Ok(mix)
}

fn captures(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let extension = path.extension().and_then(|text| text.to_str());
        if path.is_dir() {
            captures(&path, files)?;
        } else if matches!(extension, Some("pcap" | "pcapng"))
            && fs::metadata(&path).map_err(at(&path))?.len() <= CAPTURE_BYTES_MAX
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Begins at the round's begin, a little later for each capture; lasts no longer than allowed.
fn settle(packets: &mut [Packet], index: u64) {
    let first = packets.iter().map(|packet| packet.offset_ns).min().unwrap_or(0);
    let last = packets.iter().map(|packet| packet.offset_ns).max().unwrap_or(0);
    let slower = (last - first).div_ceil(CAPTURE_NS_MAX).max(1);
    for packet in packets {
        packet.offset_ns = (packet.offset_ns - first) / slower + index * 100_000;
        packet.capture = index;
    }
}

/// The Ethernet packets of one capture.
fn read(path: &Path) -> Result<Vec<Packet>> {
    let file = File::open(path).map_err(at(path))?;
    let Ok(mut reader) = create_reader(BUFFER_BYTES, file) else {
        return Ok(Vec::new());
    };
    let mut packets = Vec::new();
    let mut links = Vec::new();
    loop {
        let needs_more = match reader.next() {
            Ok((length, block)) => {
                take(&block, &mut links, &mut packets);
                reader.consume(length);
                false
            }
            Err(PcapError::Incomplete(_)) => true,
            Err(_) => return Ok(packets),
        };
        if needs_more {
            let before = reader.data().len();
            if reader.refill().is_err() || reader.data().len() == before {
                return Ok(packets);
            }
        }
    }
}

fn take(block: &PcapBlockOwned<'_>, links: &mut Vec<(Linktype, u64)>, packets: &mut Vec<Packet>) {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
            *links = vec![(header.network, unit)];
        }
        PcapBlockOwned::Legacy(packet) => {
            if let Some((Linktype::ETHERNET, unit)) = links.first().copied() {
                packets.push(Packet {
                    offset_ns: u64::from(packet.ts_sec) * 1_000_000_000
                        + u64::from(packet.ts_usec) * unit,
                    wire_bytes: packet.origlen,
                    data: packet.data.to_vec(),
                    capture: 0,
                });
            }
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            let units = interface.ts_resolution().filter(|units| *units > 0);
            links.push((interface.linktype, 1_000_000_000 / units.unwrap_or(1_000_000)));
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let interface = links.get(packet.if_id as usize).copied();
            if let Some((Linktype::ETHERNET, unit)) = interface {
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
                packets.push(Packet {
                    offset_ns: units.saturating_mul(unit),
                    wire_bytes: packet.origlen,
                    data: data.to_vec(),
                    capture: 0,
                });
            }
        }
        PcapBlockOwned::NG(_) => {}
    }
}

/// Where the first packet of a file of ours ends.
pub(super) fn end_of_first(file: &[u8]) -> usize {
    let length = file.get(32..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    40 + usize::try_from(u32::from_le_bytes(length)).unwrap_or(0)
}

fn header() -> Vec<u8> {
    let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(SNAP_BYTES.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out
}

fn record(time_ns: u64, wire_bytes: u32, data: &[u8]) -> Vec<u8> {
    let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = whole(time_ns / 1_000_000_000).to_vec();
    out.extend(whole(time_ns % 1_000_000_000 / 1000));
    out.extend(whole(data.len() as u64));
    out.extend(wire_bytes.to_le_bytes());
    out
}

/// Moves the addresses of an Ethernet frame and corrects its checksums.
fn shift(frame: &mut [u8], by: Shift) {
    let mut at = 12;
    let mut ether_type = word(frame, at);
    for _ in 0..3 {
        if !matches!(ether_type, Some(0x8100 | 0x88a8 | 0x9100)) {
            break;
        }
        at += 4;
        ether_type = word(frame, at);
    }
    at += 2;
    match ether_type {
        Some(0x0800) => shift_ipv4(frame, at, by),
        Some(0x86dd) => shift_ipv6(frame, at, by),
        _ => {}
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(slot) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = value.to_be_bytes();
    }
}

/// Moves the bytes of the word at `at`; what was there and what is.
fn move_word(bytes: &mut [u8], at: usize, (first, second): (u8, u8)) -> Option<(u16, u16)> {
    let old = word(bytes, at)?;
    let [high, low] = old.to_be_bytes();
    let new = u16::from_be_bytes([high.wrapping_add(first), low.wrapping_add(second)]);
    set_word(bytes, at, new);
    Some((old, new))
}

/// RFC 1624, equation 3.
fn correct(bytes: &mut [u8], at: usize, changes: &[(u16, u16)]) {
    let Some(sum) = word(bytes, at) else { return };
    let mut total = u32::from(!sum);
    for (old, new) in changes {
        total += u32::from(!old) + u32::from(*new);
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    set_word(bytes, at, !u16::try_from(total).unwrap_or(0));
}

fn shift_ipv4(frame: &mut [u8], at: usize, by: Shift) {
    let Some(first) = frame.get(at).copied() else { return };
    let header = usize::from(first & 0x0f) * 4;
    let mut changes = Vec::new();
    for address in [at + 12, at + 16] {
        // Multicast, broadcast and loopback mean what they mean.
        if frame.get(address).is_some_and(|byte| *byte < 224 && *byte != 127 && *byte != 0) {
            changes.extend(move_word(frame, address, (0, by.0)));
            changes.extend(move_word(frame, address + 2, (by.1, 0)));
        }
    }
    correct(frame, at + 10, &changes);
    let is_first = word(frame, at + 6).is_some_and(|word| word & 0x1fff == 0);
    if is_first && let Some(protocol) = frame.get(at + 9).copied() {
        correct_transport(frame, at + header, protocol, &changes);
    }
}

fn shift_ipv6(frame: &mut [u8], at: usize, by: Shift) {
    let mut changes = Vec::new();
    for address in [at + 8, at + 24] {
        // Global unicast only: the rest of 2000::/3 moves in its third group.
        if frame.get(address).is_some_and(|byte| byte >> 5 == 1) {
            changes.extend(move_word(frame, address + 4, (by.1, by.0)));
        }
    }
    if let Some(protocol) = frame.get(at + 6).copied() {
        correct_transport(frame, at + 40, protocol, &changes);
    }
}

fn correct_transport(frame: &mut [u8], at: usize, protocol: u8, changes: &[(u16, u16)]) {
    match protocol {
        6 => correct(frame, at + 16, changes),
        17 if word(frame, at + 6) != Some(0) => correct(frame, at + 6, changes),
        58 => correct(frame, at + 2, changes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frame with checksums.
    fn frame(source: [u8; 4]) -> Vec<u8> {
        let mut out = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source, [10, 200, 0, 9], 64)
            .tcp(1000, 80, 7, 9)
            .write(&mut out, b"GET /")
            .unwrap();
        out
    }

    #[test]
    fn a_shifted_frame_is_the_frame_of_the_other_addresses() {
        for (round, capture) in [(0, 0), (1, 0), (55, 7), (56, 255), (255, 1)] {
            let mut shifted = frame([192, 168, 1, 2]);
            shift(&mut shifted, Shift(round, capture));
            let third = |octet: u8| octet.wrapping_add(capture);
            let mut expect = Vec::new();
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4(
                    [192, 168_u8.wrapping_add(round), third(1), 2],
                    [10, 200_u8.wrapping_add(round), third(0), 9],
                    64,
                )
                .tcp(1000, 80, 7, 9)
                .write(&mut expect, b"GET /")
                .unwrap();
            assert_eq!(shifted, expect, "{round}");
        }
    }

    #[test]
    fn multicast_stays_and_cut_frames_are_left() {
        let mut shifted = frame([224, 0, 0, 251]);
        shift(&mut shifted, Shift(3, 4));
        assert_eq!(shifted.get(26..30), Some(&[224, 0, 0, 251][..]));
        for length in 0..shifted.len() {
            let mut cut = shifted.get(..length).unwrap_or_default().to_vec();
            shift(&mut cut, Shift(9, 9));
            assert_eq!(cut.len(), length);
        }
    }

    #[test]
    fn long_captures_are_played_faster() {
        let packet = |seconds: u64| Packet {
            offset_ns: seconds * 1_000_000_000,
            wire_bytes: 0,
            data: vec![],
            capture: 0,
        };
        let mut packets = [packet(100), packet(400), packet(160)];
        settle(&mut packets, 1);
        let offsets: Vec<u64> = packets.iter().map(|packet| packet.offset_ns / 1_000_000).collect();
        assert_eq!(offsets, [0, 20_000, 4000]);
        // Every capture of every round has addresses of its own.
        let all: std::collections::BTreeSet<(u8, u8)> = (0..64)
            .flat_map(|round| (0..1024).map(move |capture| Shift::of(round, capture)))
            .map(|Shift(second, third)| (second, third))
            .collect();
        assert_eq!(all.len(), 65_536);
    }
}
