//! Captures of Slips and nDPI: what has to be found in them, and where nothing may be said.
#![cfg(feature = "traffic")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::net::IpAddr;

use common::capture::run;
use hookprobe_behaviour::{Config, Finding, Networks, Weight, network::Prefix};

/// Findings in a capture of the shared test data.
fn found(path: &str) -> Option<Vec<Finding>> {
    found_by(path, &Config::default())
}

fn found_by(path: &str, config: &Config) -> Option<Vec<Finding>> {
    let path = common::testdata(&format!("behaviour/{path}"))?;
    let (found, counters) = run(&path, config);
    for finding in &found {
        println!("{finding}");
    }
    assert!(counters["facts"] > 0, "the capture says something");
    assert_eq!(counters["findings_held_back"] + counters["findings_dropped"], 0);
    Some(found)
}

/// The one finding of a detector.
fn only<'a>(found: &'a [Finding], detector: &str) -> &'a Finding {
    let its: Vec<_> = found.iter().filter(|it| it.detector == detector).collect();
    common::rate("Behaviour, detectors alone on captures with an incident", its.len() == 1);
    assert_eq!(its.len(), 1, "{detector} in {found:#?}");
    its[0]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn slips_icmp_sweep() {
    let Some(found) = found("slips/test12-icmp-portscan.pcap") else {
        return;
    };
    let sweep = only(&found, "scan.sweep");
    assert_eq!(sweep.source, ip("192.168.1.109"));
    assert!(sweep.number("answered").unwrap() >= 2, "{sweep}");
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// `curl https://testing.com; sleep 2` from a university's public address, which is ours here.
#[test]
fn slips_two_second_beacon() {
    let ours = Prefix { address: ip("147.32.80.37"), length: 32 };
    let config = Config { networks: Networks::with([ours]), ..Config::default() };
    let Some(found) = found_by("slips/test-cc/test-cc-capture-1.pcap", &config) else {
        return;
    };
    let beacon = only(&found, "beacon");
    assert_eq!(beacon.source, ip("147.32.80.37"));
    assert_eq!(beacon.name.as_deref(), Some("testing.com"));
    assert!(beacon.number("score_x1000").unwrap() >= 900, "{beacon}");
    assert!((2000..=4000).contains(&beacon.number("interval_ms").unwrap()), "{beacon}");
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn ndpi_iodine() {
    let Some(found) = found("ndpi/dns-tunnel-iodine.pcap") else {
        return;
    };
    let tunnel = only(&found, "dns.tunnel");
    assert_eq!((tunnel.source, tunnel.name.as_deref()), (ip("10.0.2.30"), Some("pirate.sea")));
    assert_eq!(tunnel.weight, Weight::Conviction);
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// dnscat2.
#[test]
fn ndpi_bad_dns_traffic() {
    let Some(found) = found("ndpi/bad-dns-traffic.pcap") else {
        return;
    };
    let tunnel = only(&found, "dns.tunnel");
    assert_eq!(tunnel.name.as_deref(), Some("skullseclabs.org"));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn ndpi_synscan_is_one_incident() {
    let Some(found) = found("ndpi/synscan.pcap") else {
        return;
    };
    let scan = only(&found, "scan.vertical");
    assert_eq!((scan.source, scan.destination), (ip("172.16.0.8"), Some(ip("64.13.134.52"))));
    assert_eq!(scan.weight, Weight::Conviction);
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// Infections of several machines, a connection or two each: nothing repeats, so all there is are
/// the signs of the one that speaks TLS.
#[test]
fn ndpi_emotet() {
    let Some(found) = found("ndpi/emotet.pcap") else {
        return;
    };
    let signs = only(&found, "c2.markers");
    assert_eq!((signs.source, signs.destination), (ip("10.4.25.101"), Some(ip("138.197.147.101"))));
    assert_eq!(signs.weight, Weight::Anomaly);
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// A login whose name is a lookup (CVE-2021-44228), and what the server fetches then.
#[test]
fn ndpi_log4j() {
    let Some(found) = found("ndpi/log4j-webapp-exploit.pcap") else {
        return;
    };
    let attack = only(&found, "exploit.web");
    let ends = (attack.source, attack.destination, attack.name.as_deref());
    assert_eq!(ends, (ip("172.16.238.1"), Some(ip("172.16.238.10")), Some("jndi")));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn ordinary_captures_are_silent() {
    let names = [
        "dns.pcap",
        "dns_dot.pcap",
        "dns_long_domainname.pcap",
        "googledns_android10.pcap",
        "dnscrypt_skype_false_positive.pcapng",
    ];
    for name in names {
        if let Some(found) = found(&format!("ndpi/{name}")) {
            common::rate("Behaviour, detectors alone on captures without one", found.is_empty());
            assert_eq!(found, [], "{name}");
        }
    }
}

#[test]
fn hostile_captures_are_survived_in_silence() {
    for name in ["malformed_dns.pcap", "dns_fragmented.pcap"] {
        if let Some(found) = found(&format!("ndpi/{name}")) {
            common::rate("Behaviour, detectors alone on captures without one", found.is_empty());
            assert_eq!(found, [], "{name}");
        }
    }
}
