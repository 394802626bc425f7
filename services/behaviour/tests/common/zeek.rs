//! Reads conn.log as Zeek writes it: tab-separated or JSON, plain or gzip.

use std::{collections::HashMap, fs, path::Path};

use hookprobe_behaviour::observation::{Connection, Protocol, Service, State, Volume};

/// Fields of one line by name; absent ones are not there.
pub(crate) type Line = HashMap<String, String>;

/// All lines of a log.
pub(crate) fn lines(path: &Path) -> Vec<Line> {
    let bytes = fs::read(path).unwrap();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(&bytes) } else { bytes };
    let text = String::from_utf8(bytes).unwrap();
    let mut fields: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("#fields\t") {
            fields = names.split('\t').map(String::from).collect();
        } else if line.starts_with('{') {
            lines.push(json(line));
        } else if !line.starts_with('#') {
            let values = line.split('\t').map(String::from);
            let pairs = fields.iter().cloned().zip(values);
            lines.push(pairs.filter(|(_, value)| value != "-").collect());
        }
    }
    lines
}

/// One flat object; lists and objects in it are left out.
fn json(line: &str) -> Line {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(is) => Some(is.to_string()),
        _ => None,
    };
    let fields = value.as_object().unwrap().iter();
    fields.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// RFC 1952; the checksum is not checked.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let flags = bytes[3];
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += bytes[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    miniz_oxide::inflate::decompress_to_vec(&bytes[at..]).unwrap()
}

/// Nanoseconds of a decimal number of seconds.
fn nanoseconds(seconds: &str) -> u64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    let part = format!("{part:0<9}");
    whole.parse::<u64>().unwrap() * 1_000_000_000 + part[..9].parse::<u64>().unwrap()
}

/// A line of conn.log as a connection.
pub(crate) fn connection(line: &Line) -> Connection<'static> {
    let text = |name: &str| line.get(name).map(String::as_str);
    let number = |name: &str| text(name).map_or(0, |value| value.parse::<u64>().unwrap());
    let port = |name: &str| u16::try_from(number(name)).unwrap();
    let volume = |end: &str| Volume {
        packets: number(&format!("{end}_pkts")),
        payload_bytes: number(&format!("{end}_bytes")),
        ip_bytes: number(&format!("{end}_ip_bytes")),
    };
    let first_ns = nanoseconds(text("ts").unwrap());
    let (sent, received) = (volume("orig"), volume("resp"));
    Connection {
        source: text("id.orig_h").unwrap().parse().unwrap(),
        destination: text("id.resp_h").unwrap().parse().unwrap(),
        source_port: port("id.orig_p"),
        destination_port: port("id.resp_p"),
        protocol: match text("proto") {
            Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("icmp") => Protocol::Icmp,
            _ => Protocol::Other,
        },
        first_ns,
        last_ns: first_ns + text("duration").map_or(0, nanoseconds),
        state: State::from_name(text("conn_state").unwrap_or("OTH")),
        service: match text("service") {
            Some("http") => Service::Http,
            Some("ssl") => Service::Tls,
            Some("dns") => Service::Dns,
            Some("ssh") => Service::Ssh,
            Some("smtp") => Service::Smtp,
            Some("ntp") => Service::Ntp,
            Some(_) => Service::Other,
            None => Service::Unknown,
        },
        sent,
        received,
        sent_bytes_new: sent.payload_bytes,
        received_bytes_new: received.payload_bytes,
        source_mac: None,
        server_name: None,
    }
}
