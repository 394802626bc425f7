//! `c2.markers`: several small signs of a program that calls home, at one place.
//!
//! Method. For each pair (internal client, external server) the signs below are collected for a day.
//! None means much: libraries leave the server name out, updates use odd ports. [`TELL_MIN`] of
//! them at the same pair are an anomaly (at most one per device and day), [`SUSPECT_MIN`] are a
//! suspicion. A server that half of the network uses is left out.
//!
//! - `unnamed`: TLS or QUIC without a server name (but DNS over TLS, whose servers are configured by
//!   address: RFC 8310, section 5);
//! - `no_alpn`: TLS at port 443 that offers no protocol, which browsers and updaters do;
//! - `unasked`: the client's questions to DNS are seen and none had this address in its answer;
//! - `numeric`: HTTP whose host is an address, not a name;
//! - `odd_port`: TLS, HTTP or SSH at a port where nobody expects it;
//! - `upload_only`: a TLS exchange that sent more than it received, ten times or more.
//!
//! Reference: Anderson, McGrew, "Identifying Encrypted Malware Traffic with Contextual Flow Data",
//! AISec 2016 (unnamed TLS, DNS context, ports of malware against enterprise traffic); the risks
//! that nDPI counts (numeric host, known protocol on other port, missing SNI).

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    network::Networks,
    observation::{Connection, DAY_NS, Observation, Service, TimeNs, TlsHello},
    peer::Peer,
    prevalence::Prevalence,
    resolved::Resolved,
    table::{Seed, Table},
};

/// Signs that make an anomaly.
pub const TELL_MIN: u32 = 2;
/// Signs that make a suspicion.
pub const SUSPECT_MIN: u32 = 3;
/// Pairs; the one longest silent is forgotten. About 130 bytes each: 1 MB.
pub const PAIRS_MAX: usize = 8192;
/// Bytes from which the direction of an exchange says something.
const UPLOAD_BYTES_MIN: u64 = 20_000;

const NAMES: [&str; 6] = ["unnamed", "unasked", "numeric", "odd_port", "upload_only", "no_alpn"];
const UNNAMED: u8 = 1;
const UNASKED: u8 = 2;
const NUMERIC: u8 = 4;
const ODD_PORT: u8 = 8;
const UPLOAD_ONLY: u8 = 16;
const NO_ALPN: u8 = 32;

/// DNS over TLS.
const DOT_PORT: u16 = 853;

/// Ports of TLS that are registered for it or widely used.
const TLS_PORTS: &[u16] = &[
    443, 465, 563, 587, 25, 143, 110, 389, 636, 853, 989, 990, 992, 993, 994, 995, 1883, 5061,
    5222, 5223, 5228, 5229, 5230, 5671, 8443, 8883, 9443, 4443, 10_443,
];
/// Ports of HTTP.
const HTTP_PORTS: &[u16] = &[
    80, 81, 591, 631, 2869, 3000, 3128, 5000, 5357, 7547, 8000, 8008, 8080, 8081, 8088, 8123, 8888,
];

#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    signs: u8,
    first_ns: TimeNs,
    told: u32,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Markers {
    pairs: Table<(IpAddr, IpAddr), Pair>,
    findings: u64,
}

impl Markers {
    /// Knows no pair.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { pairs: Table::new(seed, PAIRS_MAX), findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        networks: &Networks,
        prevalence: &Prevalence,
        resolved: &Resolved,
        out: &mut Vec<Finding>,
    ) {
        let (client, server, port, mut signs) = match fact {
            Observation::TlsHello(hello) => {
                (hello.client, hello.server, hello.server_port, signs_of_hello(hello))
            }
            Observation::Ended(connection) => {
                let (client, server) = (connection.source, connection.destination);
                (client, server, connection.destination_port, signs(connection))
            }
            _ => return,
        };
        if signs == 0 || !networks.is_internal(client) || !networks.is_external(server) {
            return;
        }
        if prevalence.is_common(Peer::Ip(server)) {
            return;
        }
        if resolved.is_unasked(client, server) {
            signs |= UNASKED;
        }
        let make = || Pair { first_ns: now_ns, ..Pair::default() };
        let Some(pair) = self.pairs.entry(&(client, server), make) else {
            return;
        };
        if now_ns.saturating_sub(pair.first_ns) >= DAY_NS {
            *pair = make();
        }
        pair.signs |= signs;
        let found = pair.signs.count_ones();
        let is_told = pair.told >= SUSPECT_MIN || (pair.told >= TELL_MIN && found < SUSPECT_MIN);
        if found < TELL_MIN || is_told {
            return;
        }
        pair.told = found;
        self.findings += 1;
        out.push(finding(now_ns, client, server, port, pair));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("marker_pairs", count(self.pairs.len())),
            ("marker_findings", self.findings),
            ("marker_pairs_evicted", self.pairs.evicted()),
        ]
    }
}

fn signs_of_hello(hello: &TlsHello<'_>) -> u8 {
    if hello.server_port == DOT_PORT {
        return 0;
    }
    // JA4: `t13d1516h2_..`, the last two characters of its first part are the first protocol.
    let first_part = hello.ja4.and_then(|ja4| ja4.split('_').next());
    let offers_none = first_part.is_some_and(|part| part.ends_with("00"));
    let is_bare = hello.server_port == 443 && offers_none;
    u8::from(hello.server_name.is_none()) * UNNAMED + u8::from(is_bare) * NO_ALPN
}

fn signs(connection: &Connection<'_>) -> u8 {
    let port = connection.destination_port;
    let is_odd = match connection.service {
        Service::Tls => !TLS_PORTS.contains(&port),
        Service::Http => !HTTP_PORTS.contains(&port),
        Service::Ssh => !matches!(port, 22 | 2222),
        _ => false,
    };
    let is_numeric = connection.service == Service::Http
        && connection.server_name.is_some_and(|name| {
            let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
            host.parse::<IpAddr>().is_ok() || name.parse::<IpAddr>().is_ok()
        });
    let (sent, received) = (connection.sent.payload_bytes, connection.received.payload_bytes);
    let is_upload =
        connection.service == Service::Tls && sent >= UPLOAD_BYTES_MIN && sent / 10 >= received;
    u8::from(is_odd) * ODD_PORT + u8::from(is_numeric) * NUMERIC + u8::from(is_upload) * UPLOAD_ONLY
}

fn finding(now_ns: TimeNs, client: IpAddr, server: IpAddr, port: u16, pair: &Pair) -> Finding {
    let sign = |at: usize| u64::from(pair.signs >> at & 1);
    let words: Vec<&str> =
        NAMES.iter().enumerate().filter(|(at, _)| sign(*at) == 1).map(|(_, name)| *name).collect();
    let weight =
        if pair.signs.count_ones() >= SUSPECT_MIN { Weight::Suspicion } else { Weight::Anomaly };
    let summary = format!("{client} talks to {server} in an odd way: {}", words.join(", "));
    let evidence = NAMES.iter().enumerate().map(|(at, name)| (*name, sign(at))).collect();
    Finding::new("c2.markers", "T1071", weight, client, summary)
        .against(Some(server), Some(port))
        .during(pair.first_ns, now_ns)
        .because(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observation::Dns, prevalence, testing::connection};

    #[test]
    fn signs_add_up_to_a_suspicion() {
        let (mut markers, mut out) = (Markers::new(Seed(1)), Vec::new());
        let mut resolved = Resolved::new(Seed(1));
        let prevalence = Prevalence::new(Seed(1), prevalence::Limits::default());
        let networks = Networks::default();
        let (client, server) = ([10, 0, 0, 5].into(), [203, 0, 113, 9].into());
        let mut tell = |fact: Observation<'_>, resolved: &Resolved| {
            markers.handle(0, &fact, &networks, &prevalence, resolved, &mut out);
            out.iter().map(|finding: &Finding| finding.weight).collect::<Vec<_>>()
        };
        let ja4 = Some("t12i190600_d83cc789557e_2dae41c691ec");
        let hello = |server_port| TlsHello { client, server, server_port, server_name: None, ja4 };
        assert_eq!(tell(Observation::TlsHello(hello(853)), &resolved), []);
        assert_eq!(tell(Observation::TlsHello(hello(8443)), &resolved), [], "one sign");
        let after = tell(Observation::TlsHello(hello(443)), &resolved);
        assert_eq!(after, [Weight::Anomaly]);
        for _ in 0..20 {
            resolved.learn(&Dns {
                client,
                server: client,
                name: b"www.example.com",
                record_type: 1,
                response_code: Some(0),
                message_bytes: 90,
                answer_bytes: 4,
                addresses: &[[203, 0, 113, 1].into()],
            });
        }
        let after = tell(Observation::TlsHello(hello(443)), &resolved);
        assert_eq!(after, [Weight::Anomaly, Weight::Suspicion]);
        let mut odd = connection("10.0.0.5", "203.0.113.9", 4321);
        odd.service = Service::Tls;
        assert_eq!(tell(Observation::Ended(odd), &resolved).len(), 2, "told enough");
    }
}
