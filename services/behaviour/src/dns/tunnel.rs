//! `dns.tunnel`: names that carry data.
//!
//! Method. What a client can send through DNS is bounded by the different names that it asks for:
//! the bytes of distinct subdomains per (client, registered domain) in a sliding window. Told when
//! there are at least [`Limits::names_min`] of them with [`Limits::bytes_min`] bytes of which half
//! do not read like words ([`super::ngram`]), as a conviction when moreover one of the signs of a
//! tunnel holds: most questions are of types that resolvers of users never ask (NULL, private use)
//! or rarely (TXT, CNAME, MX, SRV, KEY), names have bytes that no host name has, or the bytes are
//! [`Limits::certain_factor`] times the threshold.
//!
//! Heavy hitters: a domain's first few names are counted in a table of newcomers, so that a flood
//! of names of ever new domains does not push out the one that is talked to all the time. Distinct
//! names are counted exactly to 128 and then by HyperLogLog; their bytes are added when the counter
//! says that the name is new.
//!
//! What looks like a tunnel without being one: services that ask about something by its hash
//! ([`QUERY_SERVICES`]), reverse zones, service discovery; what several clients ask
//! ([`crate::prevalence`] by name) needs four times as much. What is not found: a tunnel slower
//! than `names_min` a window, and one that hides in the timing or in the answers alone.
//!
//! References: Paxson, Christodorescu, Javed, Rao, Sailer, Schales, Stoecklin, Venema, Weaver,
//! "Practical Comprehensive Bounds on Surreptitious Communication over DNS", USENIX Security 2013
//! (bytes conveyed per client and domain, 4 KB a day); RITA v5 (C2 over DNS: 100 subdomains).

use std::net::IpAddr;

use super::{Name, ngram};
use crate::{
    finding::{Finding, Weight, count, printable, thousandths},
    observation::{DAY_NS, Dns, HOUR_NS, TimeNs},
    peer::Peer,
    sketch::Distinct,
    table::{Seed, Table},
};

/// Domains that are asked with a hash or an address in front: block lists and file reputation of
/// mail filters and virus scanners. Public facts of their makers' documentation.
pub const QUERY_SERVICES: &[&str] = &[
    "spamhaus.org",
    "spamhaus.net",
    "surbl.org",
    "uribl.com",
    "spamcop.net",
    "barracudacentral.org",
    "sorbs.net",
    "dnswl.org",
    "mailspike.net",
    "sophosxl.net",
    "mcafee.com",
    "avast.com",
    "e5.sk",
    "trendmicro.com",
    "kaspersky-labs.com",
    "cymru.com",
    "webcfs00.com",
    "sonicwall.com",
];

/// Reverse zones and local discovery.
const LOCAL: &[&str] = &["in-addr.arpa", "ip6.arpa", "home.arpa", "local", "lan", "internal"];

/// Types that only software that wants bytes asks for: NULL, and private use (65280 on).
fn is_exotic(record_type: u16) -> bool {
    record_type == 10 || record_type >= 65_280
}

/// CNAME, MX, TXT, KEY, SRV: their answers hold more than an address. (HTTPS and SVCB are not here:
/// browsers ask them all the time.)
fn is_wide(record_type: u16) -> bool {
    matches!(record_type, 5 | 15 | 16 | 25 | 33) || is_exotic(record_type)
}

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Distinct names below one domain. 50: half of RITA's, which looks at a day.
    pub names_min: u64,
    /// Bytes of those names. 1024: a quarter of the day's bound of Paxson et al.
    pub bytes_min: u64,
    /// Time in which they must be asked.
    pub window_ns: TimeNs,
    /// How often the threshold makes bytes a sign of their own, and is needed of a domain that
    /// several clients ask.
    pub certain_factor: u64,
    /// Clients from which a domain is shared.
    pub clients_min: u64,
    /// Names in which a domain is a newcomer.
    pub newcomer_names_max: u64,
    /// Domains with few names. About 300 bytes each: 2.5 MB.
    pub newcomers_max: usize,
    /// Domains with more. At most 1 KB each: 4 MB.
    pub domains_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            names_min: 50,
            bytes_min: 1024,
            window_ns: HOUR_NS,
            certain_factor: 4,
            clients_min: 3,
            newcomer_names_max: 4,
            newcomers_max: 8192,
            domains_max: 4096,
        }
    }
}

#[derive(Debug, Clone)]
struct Domain {
    name: Box<[u8]>,
    begin_ns: TimeNs,
    names: Distinct,
    name_bytes: u64,
    random_names: u64,
    binary_names: u64,
    queries: u64,
    wide_queries: u64,
    exotic_queries: u64,
    answer_bytes: u64,
    server: IpAddr,
    told_ns: Option<TimeNs>,
}

type Key = (IpAddr, Peer);

/// The detector.
#[derive(Debug, Clone)]
pub struct Tunnels {
    limits: Limits,
    newcomers: Table<Key, Domain>,
    domains: Table<Key, Domain>,
    /// Clients of each registered domain.
    clients: Table<Peer, Distinct>,
    queries: u64,
    findings: u64,
}

impl Tunnels {
    /// Knows no domain yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            limits,
            newcomers: Table::new(seed, limits.newcomers_max),
            domains: Table::new(seed, limits.domains_max),
            clients: Table::new(seed, limits.newcomers_max),
            queries: 0,
            findings: 0,
        }
    }

    /// Takes one DNS message.
    pub fn handle(&mut self, now_ns: TimeNs, message: &Dns<'_>, out: &mut Vec<Finding>) {
        let Some(name) = Name::new(message.name) else {
            return;
        };
        if name.below().is_empty() || is_expected(name.registered()) {
            return;
        }
        let peer = Peer::of_name(name.registered());
        let key = (message.client, peer);
        if message.response_code.is_some() {
            if let Some(domain) = self.find(&key) {
                domain.answer_bytes += u64::from(message.answer_bytes);
            }
            return;
        }
        self.queries += 1;
        if let Some(clients) = self.clients.entry(&peer, Distinct::default) {
            clients.add(&message.client);
        }
        self.admit(now_ns, &key, &name, message);
        let (limits, is_shared) = (self.limits, self.is_shared(peer));
        let Some(domain) = self.find(&key) else {
            return;
        };
        domain.ask(now_ns, &name, message.record_type, &limits);
        if let Some(finding) = domain.judge(now_ns, message.client, is_shared, &limits) {
            domain.told_ns = Some(now_ns);
            self.findings += 1;
            out.push(finding);
        }
    }

    /// Named counters since the start, losses included.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("tunnel_queries", self.queries),
            ("tunnel_findings", self.findings),
            ("tunnel_domains", count(self.newcomers.len() + self.domains.len())),
            ("tunnel_newcomers_evicted", self.newcomers.evicted()),
            ("tunnel_domains_evicted", self.domains.evicted()),
        ]
    }

    fn is_shared(&self, peer: Peer) -> bool {
        let clients = self.clients.get(&peer).map_or(0, Distinct::count);
        clients >= self.limits.clients_min
    }

    fn find(&mut self, key: &Key) -> Option<&mut Domain> {
        if self.domains.contains(key) { self.domains.touch(key) } else { self.newcomers.touch(key) }
    }

    /// Makes sure that the domain has a place, among those with many names once it has them.
    fn admit(&mut self, now_ns: TimeNs, key: &Key, name: &Name, message: &Dns<'_>) {
        if self.domains.contains(key) {
            return;
        }
        let newcomer_names_max = self.limits.newcomer_names_max;
        match self.newcomers.get(key).map(|domain| domain.names.count()) {
            None => {
                self.newcomers.insert(*key, Domain::new(now_ns, name, message.server));
            }
            Some(names) if names >= newcomer_names_max => {
                if let Some(domain) = self.newcomers.remove(key) {
                    self.domains.insert(*key, domain);
                }
            }
            Some(_) => {}
        }
    }
}

impl Domain {
    fn new(now_ns: TimeNs, name: &Name, server: IpAddr) -> Self {
        Self {
            name: name.registered().into(),
            begin_ns: now_ns,
            names: Distinct::default(),
            name_bytes: 0,
            random_names: 0,
            binary_names: 0,
            queries: 0,
            wide_queries: 0,
            exotic_queries: 0,
            answer_bytes: 0,
            server,
            told_ns: None,
        }
    }

    fn ask(&mut self, now_ns: TimeNs, name: &Name, record_type: u16, limits: &Limits) {
        if now_ns.saturating_sub(self.begin_ns) >= limits.window_ns {
            let (domain, told_ns) = (std::mem::take(&mut self.name), self.told_ns);
            *self = Self { name: domain, told_ns, ..Self::new(now_ns, name, self.server) };
        }
        self.queries += 1;
        self.wide_queries += u64::from(is_wide(record_type));
        self.exotic_queries += u64::from(is_exotic(record_type));
        let below = name.below();
        if !self.names.add(below) {
            return;
        }
        self.name_bytes += count(below.len());
        let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let is_binary = !below.iter().all(is_host_byte);
        self.binary_names += u64::from(is_binary);
        let mut labels = below.split(|byte| *byte == b'.');
        self.random_names += u64::from(is_binary || labels.any(ngram::is_random));
    }

    fn judge(
        &self,
        now_ns: TimeNs,
        client: IpAddr,
        is_shared: bool,
        limits: &Limits,
    ) -> Option<Finding> {
        if self.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS) {
            return None;
        }
        let names = self.names.count();
        let factor = if is_shared { limits.certain_factor } else { 1 };
        let is_much = names >= limits.names_min * factor
            && self.name_bytes >= limits.bytes_min * factor
            && self.random_names * 2 >= names;
        if !is_much {
            return None;
        }
        let has_sign = self.wide_queries * 2 >= self.queries
            || self.exotic_queries * 10 >= self.queries
            || self.binary_names * 10 >= names
            || self.name_bytes >= limits.bytes_min * limits.certain_factor;
        let weight = if has_sign && !is_shared { Weight::Conviction } else { Weight::Suspicion };
        Some(self.finding(now_ns, client, weight))
    }

    fn finding(&self, now_ns: TimeNs, client: IpAddr, weight: Weight) -> Finding {
        let (names, domain) = (self.names.count(), printable(&self.name));
        let summary = format!(
            "{client} sends data through names below {domain}: {names} different names, {} bytes",
            self.name_bytes,
        );
        let random = self.random_names as f64 / names.max(1) as f64;
        Finding::new("dns.tunnel", "T1071.004", weight, client, summary)
            .against(Some(self.server), Some(53))
            .about(domain)
            .during(self.begin_ns, now_ns)
            .because(vec![
                ("distinct_names", names),
                ("distinct_bytes", self.name_bytes),
                ("queries", self.queries),
                ("random_x1000", thousandths(random)),
                ("binary_names", self.binary_names),
                ("wide_type_queries", self.wide_queries),
                ("exotic_type_queries", self.exotic_queries),
                ("answer_bytes", self.answer_bytes),
            ])
    }
}

/// Reverse zones, discovery, and services that are asked by hash.
fn is_expected(registered: &[u8]) -> bool {
    let ends = |zone: &&str| {
        let zone = zone.as_bytes();
        registered == zone
            || (registered.ends_with(zone)
                && registered.get(registered.len() - zone.len() - 1) == Some(&b'.'))
    };
    LOCAL.iter().chain(QUERY_SERVICES).any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::SECOND_NS;

    /// Questions, one a second, as (client, name, type).
    fn run(questions: impl IntoIterator<Item = (u8, String, u16)>) -> Vec<Finding> {
        let mut detector = Tunnels::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        for (second, (client, name, record_type)) in (0..).zip(questions) {
            let message = Dns {
                client: [10, 0, 0, client].into(),
                server: [10, 0, 0, 1].into(),
                name: name.as_bytes(),
                record_type,
                response_code: None,
                message_bytes: 90,
                answer_bytes: 0,
                addresses: &[],
            };
            detector.handle(second * SECOND_NS, &message, &mut out);
        }
        out
    }

    /// Hexadecimal digits that are different for each number.
    fn encoded(number: u64) -> String {
        format!("{:016x}{:08x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number * 77_777)
    }

    #[test]
    fn encoded_names_of_wide_types_are_convicted_once() {
        let found = run((0..300).map(|n| (5, format!("{}.t.example.com", encoded(n)), 16)));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].weight, Weight::Conviction);
        assert_eq!(found[0].name.as_deref(), Some("example.com"));
    }

    #[test]
    fn what_several_clients_ask_takes_more() {
        let name =
            |n: u64| (u8::try_from(n % 6).unwrap(), format!("{}.cdn.example.com", encoded(n)), 1);
        assert_eq!(run((0..400).map(name)), [], "66 names each");
    }

    #[test]
    fn words_repetitions_and_block_lists_are_nobody() {
        let hosts = ["mail", "calendar", "drive", "photos", "static", "images", "login", "video"];
        let word = |n: usize| format!("{}-{}.server.example.com", hosts[n % 8], hosts[n / 8 % 8]);
        assert_eq!(run((0..600).map(|n| (5, word(n), 16))), []);
        assert_eq!(run((0..600).map(|n| (5, format!("{}.example.com", encoded(n % 9)), 16))), []);
        assert_eq!(run((0..600).map(|n| (5, format!("{}.zen.spamhaus.org", encoded(n)), 1))), []);
    }

    #[test]
    fn a_busy_domain_survives_a_flood_of_others() {
        let mixed = (0..40_000_u64).map(|n| {
            let name = if n % 400 == 0 {
                format!("{}.tunnel.example.com", encoded(n))
            } else {
                format!("www.{}.com", encoded(n))
            };
            (5, name, 10)
        });
        // 100 names in 11 hours: too slow for the window, but never pushed out.
        assert_eq!(run(mixed), []);
        let quick = (0..8_000_u64).map(|n| {
            let is_tunnel = n % 50 == 0 && n < 3_600;
            let name = if is_tunnel { "tunnel.example" } else { "example.net" };
            (5, format!("{}.{name}.com", encoded(n)), 10)
        });
        assert!(run(quick).iter().any(|it| it.name.as_deref() == Some("example.com")));
    }
}
