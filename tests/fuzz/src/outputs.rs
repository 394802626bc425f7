//! Conversations through everything that looks at them, into every log: what strangers send must
//! never break a line of EVE or of Zeek's logs.

use std::{cell::RefCell, io, io::Write, rc::Rc};

use hookprobe_sensor::{
    object::btf,
    outputs::{
        eve,
        zeek::{Format, Logs, Open},
    },
    replay::{Replay, capture::Packet, pipeline::Pipeline},
};
use hookprobe_traffic::{config::Config, engine::Engine};
use pcap_parser::Linktype;

use crate::{Outcome, Target, app};

/// The logs, and what the loader reads of the kernel's own description.
pub(crate) const TARGETS: [Target; 2] = [
    Target {
        name: "outputs",
        run: outputs,
        seeds,
        repair: |_| {},
        dictionary: &[
            b"\r\n\r\n--b",
            b"multipart/form-data; boundary=b",
            b"PORT 10,0,0,1,4,1\r\n",
            b"227 x (10,0,0,2,4,1)\r\n",
            b"NTLMSSP\0",
            b"%PDF-",
            b"<html",
            b"\x1f\x8b",
            b"\t\"\\",
        ],
    },
    Target {
        name: "btf",
        run: |bytes| match btf::offsets(bytes) {
            Ok(_) => Outcome::of("offsets"),
            Err(error) => Outcome::of(&error.to_string()),
        },
        seeds: || vec![description()],
        repair: repair_description,
        dictionary: &[b"linux_binprm\0", b"f_inode\0", &[0, 0, 0, 4], &[0, 0, 0, 0x84], &[8, 0, 0]],
    },
];

/// Ports of servers; the low bits of the first byte choose.
const PORTS: [u16; 8] = [8_000, 443, 25, 53, 67, 21, 389, 22];
/// Most pieces of one conversation.
const PIECES_MAX: usize = 64;

/// What was written, for whoever looks at it afterwards.
#[derive(Clone, Default)]
struct Kept(Rc<RefCell<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

/// The first byte picks transport, port and the format of the logs; then pieces as in
/// [`app`]: a byte for direction, loss and end, two for the length, and the bytes.
fn outputs(bytes: &[u8]) -> Outcome {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let is_tcp = first & 0x80 == 0;
    let format = if first & 0x40 == 0 { Format::Json } else { Format::Tsv };
    let port = PORTS.get(usize::from(first & 7)).copied().unwrap_or(8_000);
    let (lines, rows) = (Kept::default(), Kept::default());
    let out = rows.clone();
    let open: Open = Box::new(move |_| Ok(Box::new(out.clone())));
    let writer = eve::Writer::new(lines.clone(), eve::Settings::default());
    let mut config = Config::default();
    config.stream.is_checksum_validated = false;
    config.flow.flows_max = 8;
    let pipeline = Pipeline::new(None, Some(writer), Some(Logs::new(format, open)));
    let mut replay = Replay::with(Engine::new(config), pipeline);
    for (at, frame) in (1u64..).zip(frames(rest, is_tcp, port)) {
        replay.packet(&Packet {
            time_ns: at * 1_000_000,
            interface: 0,
            wire_bytes: u32::try_from(frame.len()).unwrap_or(0),
            link: Linktype(101),
            data: &frame,
        });
    }
    replay.finish();
    drop(replay);
    let (lines, rows) = (lines.text(), rows.text());
    lines.lines().for_each(is_object);
    match format {
        Format::Json => rows.lines().for_each(is_object),
        Format::Tsv => are_rows(&rows),
    }
    let kinds = lines.lines().filter_map(|line| line.split("event_type\":\"").nth(1));
    let kinds: Vec<_> = kinds.filter_map(|kind| kind.split('"').next()).collect();
    Outcome::of(&format!("{} {}", kinds.join(" "), "r".repeat(rows.lines().count().min(20))))
}

fn is_object(line: &str) {
    let value: Result<serde_json::Value, _> = serde_json::from_str(line);
    assert!(value.is_ok_and(|value| value.is_object()), "not one JSON object: {line}");
}

/// Every row has as many columns as its log has fields.
fn are_rows(text: &str) {
    let columns = |line: &str| line.split('\t').count();
    // The logs share what they are written to, so a row fits one of them.
    let fields: Vec<usize> = text
        .lines()
        .filter(|line| line.starts_with("#fields"))
        .map(|line| columns(line) - 1)
        .collect();
    for row in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(fields.contains(&columns(row)), "columns of no log: {row}");
    }
}

/// A connection that carries the pieces, or datagrams with them.
fn frames(mut bytes: &[u8], is_tcp: bool, port: u16) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut sent = [1_000u32, 2_000];
    if is_tcp {
        frames.push(segment(true, port, 0x02, [999, 0], &[]));
        frames.push(segment(false, port, 0x12, [1_999, 1_000], &[]));
        frames.push(segment(true, port, 0x10, sent, &[]));
    }
    while let [flags, high, low, behind @ ..] = bytes
        && frames.len() < PIECES_MAX
    {
        let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x7ff).min(behind.len());
        let (data, later) = behind.split_at(length);
        bytes = later;
        let is_client = flags & 1 == 0;
        if !is_tcp {
            frames.push(datagram(is_client, port, data));
            continue;
        }
        let own = usize::from(!is_client);
        let lost = if flags & 0x60 == 0x60 { 7 } else { 0 };
        let numbers = [sent[own].wrapping_add(lost), sent[1 - own]];
        let is_last = flags & 0x18 == 0x18;
        frames.push(segment(is_client, port, if is_last { 0x19 } else { 0x18 }, numbers, data));
        sent[own] = numbers[0].wrapping_add(data.len() as u32 + u32::from(is_last));
        frames.push(segment(!is_client, port, 0x10, [numbers[1], sent[own]], &[]));
    }
    frames
}

fn segment(is_client: bool, port: u16, flags: u8, [seq, ack]: [u32; 2], data: &[u8]) -> Vec<u8> {
    let mut tcp = ports(is_client, port);
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    tcp.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    tcp.extend(data);
    ip4(is_client, 6, &tcp)
}

fn datagram(is_client: bool, port: u16, data: &[u8]) -> Vec<u8> {
    let mut udp = ports(is_client, port);
    udp.extend(u16::try_from(data.len() + 8).unwrap_or(8).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data);
    ip4(is_client, 17, &udp)
}

fn ports(is_client: bool, port: u16) -> Vec<u8> {
    let (from, to) = if is_client { (40_000, port) } else { (port, 40_000) };
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

fn ip4(is_client: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if is_client { (1, 2) } else { (2, 1) };
    let total = u16::try_from(payload.len() + 20).unwrap_or(20).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 7, 0, 0, 64, protocol, 0, 0];
    packet.extend([10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(payload);
    packet
}

fn seeds() -> Vec<Vec<u8>> {
    let form = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n\
        Content-Length: 92\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; \
        filename=\"g\"\r\n\r\n%PDF-1\r\n--b\r\n\r\n<html>\r\n--b--\r\n";
    let ldap = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0";
    let bound = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0";
    let mut all = vec![
        app::talk(0, &[(0, form), (1, b"HTTP/1.1 200 k\r\nContent-Length: 3\r\n\r\nGIF")]),
        app::talk(
            0x45,
            &[
                (1, b"220 hp\r\n"),
                (0, b"USER a\r\nPORT 10,0,0,1,31,64\r\nEPRT |1|10.0.0.1|8000|\r\nPASV\r\nEPSV\r\n"),
                (1, b"227 x (10,0,0,2,31,64)\r\n229 x (|||8000|)\r\n"),
            ],
        ),
        app::talk(6, &[(0, ldap), (1, bound)]),
        app::talk(0x40, &[(0, b"NICK a\r\nUSER a b c :d\r\n"), (1, b":hp 001 a :hi\r\n")]),
        app::talk(0, &[(1, b"J\0\0\0\x0a8.0\0"), (0, b"\x01\0\0\x01\x8d")]),
    ];
    all.extend(app::conversations());
    all
}

/// Strings, and one structure with one member.
fn description() -> Vec<u8> {
    let strings =
        b"\0linux_binprm\0file\0filename\0f_inode\0inode\0i_sb\0i_ino\0super_block\0s_dev\0";
    let at = |name: &[u8]| {
        let found = strings.windows(name.len()).position(|part| part == name).unwrap_or(0);
        u32::try_from(found).unwrap_or(0)
    };
    let members: [(&[u8], &[&[u8]]); 4] = [
        (b"linux_binprm\0", &[b"file\0", b"filename\0"]),
        (b"file\0", &[b"f_inode\0"]),
        (b"inode\0", &[b"i_sb\0", b"i_ino\0"]),
        (b"super_block\0", &[b"s_dev\0"]),
    ];
    let mut types = Vec::new();
    for (name, fields) in members {
        let info = 4 << 24 | u32::try_from(fields.len()).unwrap_or(0);
        for word in [at(name), info, 64] {
            types.extend(word.to_le_bytes());
        }
        for (place, field) in (0u32..).zip(fields) {
            for word in [at(field), 0, place * 64] {
                types.extend(word.to_le_bytes());
            }
        }
    }
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(0);
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, length(&types), length(&types), length(strings)] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(types);
    bytes.extend_from_slice(strings);
    bytes
}

/// Puts the magic number back.
fn repair_description(bytes: &mut [u8]) {
    for (byte, right) in bytes.iter_mut().zip([0x9f, 0xeb, 1, 0, 24, 0, 0, 0]) {
        *byte = right;
    }
}
