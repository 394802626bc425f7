//! Captures made by others: what has to be found in them, and where nothing may be.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has to fail there")]

mod testdata;

use std::{fs, net::IpAddr, path::Path};

use hookprobe_abi::{Address, Record, kind};
use hookprobe_sensor::{
    core::{Core, Effect, Finding, address},
    replay::{self, capture, replay_bytes},
};
use serde_json::Value;

/// EVE alerts of one capture.
fn alerts(file: &Path) -> Vec<Value> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let options = replay::Options {
        files: vec![file.to_path_buf()],
        eve: Some(out.path().to_path_buf()),
        ..replay::Options::default()
    };
    replay::run(&options).unwrap();
    let lines = fs::read_to_string(out.path()).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event_type"] == "alert")
        .collect()
}

/// Captures with something in them: who does it, and the detectors that may say so.
const POSITIVES: [(&str, &str, &[&str]); 5] = [
    ("ndpi/synscan.pcap", "172.16.0.8", &["scan."]),
    ("ndpi/dns-tunnel-iodine.pcap", "10.0.2.30", &["dns.tunnel"]),
    ("ndpi/bad-dns-traffic.pcap", "192.168.43.91", &["dns.tunnel"]),
    ("slips/test12-icmp-portscan.pcap", "192.168.1.109", &["scan.sweep"]),
    ("ndpi/log4j-webapp-exploit.pcap", "172.16.238.1", &["exploit.web"]),
];

/// Captures in which nothing may be found; a connection that is only odd is an anomaly at most.
const NEGATIVES: [&str; 7] = [
    "ndpi/dns.pcap",
    "ndpi/dns_dot.pcap",
    "ndpi/dns_fragmented.pcap",
    "ndpi/dns_long_domainname.pcap",
    "ndpi/dnscrypt_skype_false_positive.pcapng",
    "ndpi/googledns_android10.pcap",
    "ndpi/malformed_dns.pcap",
];

/// What differs from what is expected of a capture.
fn difference(file: &Path, expected: Option<(&str, &[&str])>) -> Option<String> {
    let alerts = alerts(file);
    let metadata = |alert: &Value, key: &str| {
        alert["alert"]["metadata"][key][0].as_str().unwrap_or_default().to_owned()
    };
    let Some((source, detectors)) = expected else {
        return (!alerts.is_empty()).then(|| format!("{alerts:?}"));
    };
    let is_it = |alert: &&Value| {
        let detector = metadata(alert, "detector");
        alert["src_ip"] == source && detectors.iter().any(|known| detector.starts_with(known))
    };
    let told = alerts.iter().filter(is_it).count();
    let others = alerts.iter().filter(|alert| metadata(alert, "weight") == "conviction").count();
    (told != 1 || others > 1).then(|| format!("{told} alerts of {}", alerts.len()))
}

/// One incident, one alert: with the detectors that a capture is for, and silence elsewhere. (Before
/// there were detectors over flows, tunnels and sweeps were among the silent ones.)
#[test]
fn each_incident_is_one_alert_and_the_rest_is_silent() {
    let Some(folder) = testdata::testdata() else { return };
    let behaviour = folder.join("behaviour");
    let positives = POSITIVES.iter().map(|(name, source, by)| (*name, Some((*source, *by))));
    let negatives = NEGATIVES.iter().map(|name| (*name, None));
    for (suite, cases) in [
        ("Behaviour, captures with an incident", positives.collect::<Vec<_>>()),
        ("Behaviour, captures without one", negatives.collect()),
    ] {
        let differ: Vec<(&str, String)> = cases
            .iter()
            .filter_map(|(name, expected)| {
                Some((*name, difference(&behaviour.join(name), *expected)?))
            })
            .collect();
        let reasons: Vec<Value> = differ
            .iter()
            .map(|(name, why)| serde_json::json!({ "what": name, "why": why }))
            .collect();
        let line = serde_json::json!({
            "suite": suite,
            "passed": cases.len() - differ.len(),
            "total": cases.len(),
            "reasons": reasons,
        });
        println!("\nconformance {line}");
        assert!(differ.is_empty(), "{differ:?}");
    }
}

/// Records of the connections of a Zeek conn.log, in order of time.
fn records_of_conn_log(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[6] != "tcp" {
            continue;
        }
        let ip = |text: &str| -> Address { address::from_ip(text.parse::<IpAddr>().unwrap()) };
        let time_ns = (fields[0].parse::<f64>().unwrap() * 1e9) as u64;
        let syn = Record {
            time_ns,
            source: ip(fields[2]),
            destination: ip(fields[4]),
            source_port: fields[3].parse().unwrap(),
            destination_port: fields[5].parse().unwrap(),
            protocol: 6,
            kind: kind::SYN,
            ..Record::default()
        };
        records.push(syn);
        let answer = match fields[11] {
            "S0" | "SH" => continue,
            "REJ" => kind::RST,
            _ => kind::SYN_ACK,
        };
        records.push(Record {
            // A round trip of 20 ms.
            time_ns: time_ns + 20_000_000,
            source: syn.destination,
            destination: syn.source,
            source_port: syn.destination_port,
            destination_port: syn.source_port,
            kind: answer,
            ..syn
        });
    }
    records.sort_by_key(|record| record.time_ns);
    records
}

#[test]
fn horizontal_scan_between_successes_is_found() {
    let Some(folder) = testdata::testdata() else { return };
    let log = folder.join("behaviour/slips/port-scans/horizontal/conn.log");
    let records = records_of_conn_log(&fs::read_to_string(log).unwrap());
    let (mut core, mut out) = (Core::new(), Vec::new());
    for record in &records {
        core.handle(record.time_ns, record, &mut out);
    }
    core.tick(u64::MAX, &mut out);
    let findings: Vec<&Finding> = out.iter().map(|Effect::Alert(finding)| finding).collect();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let source = address::to_ip(&findings[0].source).to_string();
    assert_eq!(source, "10.0.2.112");
}

#[test]
fn every_capture_is_read_without_a_panic() {
    let Some(folder) = testdata::testdata() else { return };
    let mut captures = 0;
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let extension = path.extension().and_then(|text| text.to_str());
            let bytes = fs::metadata(&path).unwrap().len();
            if matches!(extension, Some("pcap" | "pcapng")) && bytes < 2_000_000 {
                let (summary, result) = replay_bytes(&fs::read(&path).unwrap());
                assert!(summary.alerts <= summary.records);
                if let Err(error) = result {
                    println!("{}: {error}", path.display());
                }
                captures += 1;
            }
        }
    }
    println!("{captures} captures");
    assert!(captures > 0);
}

/// A pcap file of the given packets, Ethernet, microseconds.
fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for (micros, data) in packets {
        let length = u32::try_from(data.len()).unwrap();
        for number in [
            u32::try_from(micros / 1_000_000).unwrap(),
            u32::try_from(micros % 1_000_000).unwrap(),
            length,
            length,
        ] {
            file.extend(number.to_le_bytes());
        }
        file.extend(data);
    }
    file
}

fn tcp(source: [u8; 4], destination: [u8; 4], port: u16, rst: bool) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut out = Vec::new();
    if rst {
        let builder = builder.ipv4(destination, source, 64).tcp(port, 4000, 0, 0);
        builder.rst().ack(1).write(&mut out, &[]).unwrap();
    } else {
        let builder = builder.ipv4(source, destination, 64).tcp(4000, port, 0, 0);
        builder.syn().write(&mut out, &[]).unwrap();
    }
    out
}

fn scan() -> Vec<u8> {
    let mut packets = Vec::new();
    for port in 1..=20_u16 {
        let at = u64::from(port) * 1000;
        packets.push((at, tcp([192, 0, 2, 9], [192, 0, 2, 1], port, false)));
        packets.push((at + 500, tcp([192, 0, 2, 9], [192, 0, 2, 1], port, true)));
    }
    pcap(&packets)
}

#[test]
fn own_scan_and_its_broken_off_copies() {
    let file = scan();
    let (summary, result) = replay_bytes(&file);
    assert_eq!((summary.packets, summary.records, summary.alerts), (40, 40, 1));
    assert_eq!(summary.flows, 20);
    assert_eq!(result, Ok(()));
    for length in 0..file.len() {
        let (summary, result) = replay_bytes(&file[..length]);
        assert!(summary.packets <= 40);
        let whole = 24 + 16 * summary.packets + 54 * summary.packets == length as u64;
        assert_eq!(result.is_ok(), whole && length >= 24, "{length}: {result:?}");
    }
}

/// Found by `cargo fuzz-loop --target capture`: a hop-by-hop header says that another header
/// follows, and the packet ends there.
#[test]
fn ipv6_extension_header_that_is_cut_off_is_malformed() {
    let hex = concat!(
        "d4c3b2a1020004000000000000000000ffff000001000000",
        "01000000000000003e0000003e000000",
        "02000000000102000000000986dd",
        "6000000000080040000000000000000000000000000000000000000000000000000000000000000",
        "13c00010400000000",
    );
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let (summary, result) = replay_bytes(&bytes);
    assert_eq!(result, Ok(()));
    assert_eq!((summary.packets, summary.malformed, summary.records), (1, 1, 0));
}

#[test]
fn lengths_that_lie_are_an_error() {
    let mut file = scan();
    file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let (summary, result) = replay_bytes(&file);
    assert_eq!(summary.packets, 0);
    assert!(result.is_err());
    assert_eq!(replay_bytes(b"").1, Err(capture::CaptureError::Empty));
    assert_eq!(replay_bytes(&[0; 64]).1, Err(capture::CaptureError::Format));
}

proptest::proptest! {
    #[test]
    fn changed_bytes_never_panic(
        changes in proptest::collection::vec((0_usize..2500, proptest::num::u8::ANY), 1..40),
    ) {
        let mut file = scan();
        for (at, byte) in changes {
            if let Some(slot) = file.get_mut(at) {
                *slot = byte;
            }
        }
        replay::fuzz_capture(&file);
    }

    #[test]
    fn noise_after_any_magic_never_panics(
        magic in 0_usize..4,
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
    ) {
        let magic: &[u8] = match magic {
            0 => &[0xd4, 0xc3, 0xb2, 0xa1],
            1 => &[0xa1, 0xb2, 0x3c, 0x4d],
            2 => &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff,
                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0],
            _ => &[0xa1, 0xb2, 0xcd, 0x34],
        };
        let mut file = magic.to_vec();
        file.extend(noise);
        replay::fuzz_capture(&file);
    }
}
