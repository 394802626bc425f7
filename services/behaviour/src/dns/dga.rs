//! `dns.dga`: a client that looks for its master among names that do not exist.
//!
//! Method. Distinct registered domains that a client was told do not exist (NXDOMAIN, RFC 8020) in
//! a window, gated by the n-gram score of the registered label ([`super::ngram`]): only labels that
//! read as random count. Told when there are [`Limits::random_min`] of them and they are at least a
//! fifth of the distinct domains that the client asked for. Single labels (a browser that tests for
//! hijacked answers, search domains) have no registered domain and never count.
//!
//! Always a suspicion: typing errors of a mail server, broken search lists and ad blockers answer
//! NXDOMAIN too, and it never blocks alone. Generators that join dictionary words are not found.
//!
//! References: Antonakakis et al., "From Throw-Away Traffic to Bots: Detecting the Rise of
//! DGA-Based Malware", USENIX Security 2012 (NXDOMAIN); Schiavoni et al., DIMVA 2014 (n-grams).

use std::net::IpAddr;

use super::{Name, ngram};
use crate::{
    finding::{Finding, Weight, count, printable, thousandths},
    observation::{DAY_NS, Dns, MINUTE_NS, TimeNs},
    sketch::Distinct,
    table::{Seed, Table},
};

const NXDOMAIN: u16 = 3;

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Distinct random domains that do not exist. 10: Conficker asked 250 a day, Cryptolocker a
    /// thousand in minutes; a broken configuration repeats a few.
    pub random_min: u64,
    /// They must be asked in this time.
    pub window_ns: TimeNs,
    /// One in so many distinct domains must be random and absent.
    pub share: u64,
    /// Clients; the one longest silent is forgotten. At most 1.5 KB each: 3 MB.
    pub clients_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { random_min: 10, window_ns: 30 * MINUTE_NS, share: 5, clients_max: 2048 }
    }
}

#[derive(Debug, Clone, Default)]
struct Client {
    begin_ns: TimeNs,
    asked: Distinct,
    absent: Distinct,
    random: Distinct,
    score_sum: f64,
    told_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Generated {
    limits: Limits,
    clients: Table<IpAddr, Client>,
    absent: u64,
    findings: u64,
}

impl Generated {
    /// Knows no client yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self { limits, clients: Table::new(seed, limits.clients_max), absent: 0, findings: 0 }
    }

    /// Takes one DNS message; only answers count.
    pub fn handle(&mut self, now_ns: TimeNs, message: &Dns<'_>, out: &mut Vec<Finding>) {
        let (Some(code), Some(name)) = (message.response_code, Name::new(message.name)) else {
            return;
        };
        let limits = self.limits;
        let begin = || Client { begin_ns: now_ns, ..Client::default() };
        let Some(client) = self.clients.entry(&message.client, begin) else {
            return;
        };
        if now_ns.saturating_sub(client.begin_ns) >= limits.window_ns {
            *client = Client { told_ns: client.told_ns, ..begin() };
        }
        client.asked.add(name.registered());
        if code != NXDOMAIN {
            return;
        }
        self.absent += 1;
        client.absent.add(name.registered());
        // A name below a domain that exists is not this; a flood of them is a tunnel's.
        let label = name.registered_label();
        if !ngram::is_random(label) || !client.random.add(name.registered()) {
            return;
        }
        client.score_sum += ngram::score(label);
        let is_told = client.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS);
        if is_told || !client.is_convinced(&limits) {
            return;
        }
        client.told_ns = Some(now_ns);
        self.findings += 1;
        out.push(client.finding(now_ns, message, name.registered()));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("dga_absent", self.absent),
            ("dga_findings", self.findings),
            ("dga_clients", count(self.clients.len())),
            ("dga_clients_evicted", self.clients.evicted()),
        ]
    }
}

impl Client {
    fn is_convinced(&self, limits: &Limits) -> bool {
        let random = self.random.count();
        random >= limits.random_min && random.saturating_mul(limits.share) >= self.asked.count()
    }

    fn finding(&self, now_ns: TimeNs, message: &Dns<'_>, domain: &[u8]) -> Finding {
        let random = self.random.count();
        let summary = format!(
            "{} asks for names as a generator makes them: {random} random domains that do not \
             exist, the last one {}",
            message.client,
            printable(domain),
        );
        let mean = self.score_sum / random.max(1) as f64;
        Finding::new("dns.dga", "T1568.002", Weight::Suspicion, message.client, summary)
            .about(printable(domain))
            .during(self.begin_ns, now_ns)
            .because(vec![
                ("random_absent_domains", random),
                ("absent_domains", self.absent.count()),
                ("asked_domains", self.asked.count()),
                ("ngram_below_zero_x1000", thousandths(-mean)),
            ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::SECOND_NS;

    fn run(names: impl Iterator<Item = (String, u16)>) -> Vec<Finding> {
        let mut detector = Generated::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        for (n, (name, code)) in names.enumerate() {
            let message = Dns {
                client: "10.0.0.5".parse().unwrap(),
                server: "10.0.0.1".parse().unwrap(),
                name: name.as_bytes(),
                record_type: 1,
                response_code: Some(code),
                message_bytes: 60,
                answer_bytes: 0,
                addresses: &[],
            };
            detector.handle(count(n) * SECOND_NS, &message, &mut out);
        }
        out
    }

    /// Letters as a linear congruential generator gives them.
    fn random(seed: u64) -> String {
        let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
        };
        (0..14).map(|_| letter()).collect()
    }

    #[test]
    fn a_generator_is_one_suspicion() {
        let found = run((0..200).map(|n| (format!("{}.com", random(n)), NXDOMAIN)));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].weight, Weight::Suspicion);
        assert!(!found[0].weight.may_block());
    }

    #[test]
    fn absent_words_and_search_domains_are_nobody() {
        let words = ["printer", "intranet", "wpad", "mailserver", "fileserver", "backup"];
        let name = |n: usize| format!("{}{}.example.com", words[n % 6], n);
        assert_eq!(run((0..500).map(|n| (name(n), NXDOMAIN))), []);
        assert_eq!(run((0..500).map(|n| (random(n), NXDOMAIN))), [], "single labels");
    }

    #[test]
    fn random_names_that_exist_are_nobody() {
        assert_eq!(run((0..500).map(|n| (format!("{}.com", random(n)), 0))), []);
    }
}
