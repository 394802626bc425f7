//! `brute-force`: one login after the other.
//!
//! Method. CUSUM (Page, "Continuous Inspection Schemes", Biometrika 41, 1954) over failed logins of
//! each (source, service): every failure adds 1, every minute takes the reference value
//! [`Limits::per_minute`] away, never below 0; above [`Limits::decision`] the rate has changed for
//! good. Written for single events instead of counts per minute the two are the same.
//!
//! A login is known to have failed, or is taken for one by the shape of its connection: accepted,
//! short, and with no more bytes of either side than a handshake and a few tries need (see
//! [`SERVICES`]). A short session that worked (`ssh host uptime`) has that shape, too; therefore it
//! is a suspicion until [`Limits::certain`] failures came without one session that lasted.
//!
//! What devices say in their syslog counts, too ([`Observation::LoginFailed`]), in a sum of its own:
//! anybody can send a message in a device's name, so it is never more than a suspicion.
//!
//! Reference for failed logins by flow sizes: Hofstede, Hendriks, Sperotto, Pras, "SSH Compromise
//! Detection using NetFlow/IPFIX", ACM CCR 44(5), 2014; Zeek, `base/protocols/ssh` (heuristic).

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count, thousandths},
    observation::{
        self, Answer, Connection, HOUR_NS, MINUTE_NS, Mac, Observation, Protocol, Service, TimeNs,
    },
    sketch::Distinct,
    table::{Seed, Table},
};

/// The shape of a failed login.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Name for people.
    pub name: &'static str,
    /// Ports of the service.
    pub ports: &'static [u16],
    /// Payload bytes of the client: below, nobody tried; above, somebody was let in.
    pub client_bytes: (u64, u64),
    /// Payload bytes of the server at most.
    pub server_bytes_max: u64,
    /// Seconds at most: servers give up after a minute or two.
    pub seconds_max: f64,
}

/// Services that are tried. Sizes are of the protocols' own messages: an SSH handshake with one to
/// six passwords is 1 to 4.5 KB of the client (RFC 4253, 4252); the text protocols have two short
/// lines for each try; TLS adds 3 KB of handshake.
pub const SERVICES: &[Shape] = &[
    shape("ssh", &[22, 2222], (600, 6_000), 5_000, 150.0),
    shape("ftp", &[21], (10, 400), 1_500, 60.0),
    shape("telnet", &[23, 2323], (6, 400), 1_500, 90.0),
    shape("mail", &[110, 143, 587, 25], (10, 600), 2_000, 60.0),
    shape("mail over TLS", &[465, 993, 995], (300, 2_500), 9_000, 60.0),
    shape("smb", &[445], (200, 3_000), 3_000, 30.0),
    shape("rdp", &[3389], (200, 5_000), 5_000, 60.0),
    shape("vnc", &[5900, 5901], (12, 300), 300, 60.0),
    shape("database", &[1433, 3306, 5432], (30, 1_500), 1_500, 30.0),
];

const fn shape(
    name: &'static str,
    ports: &'static [u16],
    client_bytes: (u64, u64),
    server_bytes_max: u64,
    seconds_max: f64,
) -> Shape {
    Shape { name, ports, client_bytes, server_bytes_max, seconds_max }
}

/// How a login looks to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Refused.
    Failed,
    /// Somebody works.
    Succeeded,
}

/// Takes a connection for a login.
#[must_use]
pub fn login(connection: &Connection<'_>) -> Option<(&'static str, Login)> {
    if connection.protocol != Protocol::Tcp || connection.state.outcome() != Some(Answer::Accepted)
    {
        return None;
    }
    let shape = SERVICES.iter().find(|shape| {
        shape.ports.contains(&connection.destination_port)
            || (shape.name == "ssh" && connection.service == Service::Ssh)
    })?;
    let (client_min, client_max) = shape.client_bytes;
    let (sent, received) = (connection.sent.payload_bytes, connection.received.payload_bytes);
    if sent < client_min || received == 0 {
        return None;
    }
    let is_short = sent <= client_max
        && received <= shape.server_bytes_max
        && connection.duration_s() <= shape.seconds_max;
    Some((shape.name, if is_short { Login::Failed } else { Login::Succeeded }))
}

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Reference value: failures a minute that are nobody's attack. 0.5: a client with an old
    /// password tries every few minutes.
    pub per_minute: f64,
    /// Decision value: failures above the reference. 12: twice what OpenSSH takes of one person in
    /// one connection (MaxAuthTries 6).
    pub decision: f64,
    /// Failures without a session that lasted from which there is no doubt.
    pub certain: u64,
    /// Quiet after a finding.
    pub told_ns_max: TimeNs,
    /// Sources and services; the one longest silent is forgotten. At most 1.3 KB each: 5 MB.
    pub sources_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_minute: 0.5,
            decision: 12.0,
            certain: 40,
            told_ns_max: HOUR_NS,
            sources_max: 4096,
        }
    }
}

/// Service in findings about what devices say.
const CLAIMED: &str = "a service that says so in its log";

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Target {
    server: IpAddr,
    port: Option<u16>,
    mac: Option<Mac>,
}

#[derive(Debug, Clone, Default)]
struct Source {
    sum: f64,
    last_ns: TimeNs,
    first_ns: TimeNs,
    failures: u64,
    successes: u64,
    hosts: Distinct,
    told: Option<(TimeNs, Weight)>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct BruteForce {
    limits: Limits,
    sources: Table<(IpAddr, &'static str), Source>,
    failures: u64,
    findings: u64,
}

impl BruteForce {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self { limits, sources: Table::new(seed, limits.sources_max), failures: 0, findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        match fact {
            Observation::Ended(connection) => self.ended(now_ns, connection, out),
            Observation::LoginFailed(login) => self.claimed(now_ns, login, out),
            _ => {}
        }
    }

    /// A device says that it refused somebody.
    fn claimed(&mut self, now_ns: TimeNs, claim: &observation::Login, out: &mut Vec<Finding>) {
        let limits = self.limits;
        let make = || Source { first_ns: now_ns, ..Source::default() };
        let Some(source) = self.sources.entry(&(claim.client, CLAIMED), make) else {
            return;
        };
        source.hosts.add(&claim.server);
        self.failures += 1;
        source.fail(now_ns, &limits);
        if source.verdict(now_ns, &limits).is_none()
            || source
                .told
                .is_some_and(|(told_ns, _)| now_ns.saturating_sub(told_ns) < limits.told_ns_max)
        {
            return;
        }
        let weight = Weight::Suspicion;
        source.told = Some((now_ns, weight));
        self.findings += 1;
        let target = Target { server: claim.server, port: None, mac: None };
        out.push(source.finding(claim.client, target, CLAIMED, weight, now_ns, &limits));
    }

    /// A connection that may have been a login.
    fn ended(&mut self, now_ns: TimeNs, connection: &Connection<'_>, out: &mut Vec<Finding>) {
        let Some((service, login)) = login(connection) else {
            return;
        };
        let limits = self.limits;
        let key = (connection.source, service);
        let make = || Source { first_ns: connection.first_ns, ..Source::default() };
        let Some(source) = self.sources.entry(&key, make) else {
            return;
        };
        source.hosts.add(&connection.destination);
        if login == Login::Succeeded {
            source.successes += 1;
            return;
        }
        self.failures += 1;
        source.fail(now_ns, &limits);
        let Some(weight) = source.verdict(now_ns, &limits) else {
            return;
        };
        source.told = Some((now_ns, weight));
        self.findings += 1;
        let target = Target {
            server: connection.destination,
            port: Some(connection.destination_port),
            mac: connection.source_mac,
        };
        out.push(source.finding(connection.source, target, service, weight, now_ns, &limits));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("brute_failures", self.failures),
            ("brute_findings", self.findings),
            ("brute_sources", count(self.sources.len())),
            ("brute_sources_evicted", self.sources.evicted()),
        ]
    }
}

impl Source {
    fn fail(&mut self, now_ns: TimeNs, limits: &Limits) {
        let minutes = now_ns.saturating_sub(self.last_ns) as f64 / MINUTE_NS as f64;
        let drained = self.sum - minutes * limits.per_minute;
        if drained <= 0.0 {
            // A new episode: what was before is forgotten.
            (self.first_ns, self.failures, self.successes) = (now_ns, 0, 0);
            self.hosts = Distinct::default();
        }
        self.sum = drained.max(0.0) + 1.0;
        self.failures += 1;
        self.last_ns = self.last_ns.max(now_ns);
    }

    /// Tells once, and once more when a suspicion becomes a conviction.
    fn verdict(&self, now_ns: TimeNs, limits: &Limits) -> Option<Weight> {
        if self.sum <= limits.decision {
            return None;
        }
        let is_certain = self.failures >= limits.certain && self.successes == 0;
        let weight = if is_certain { Weight::Conviction } else { Weight::Suspicion };
        let is_news = self.told.is_none_or(|(told_ns, told)| {
            now_ns.saturating_sub(told_ns) >= limits.told_ns_max || weight > told
        });
        is_news.then_some(weight)
    }

    fn finding(
        &self,
        client: IpAddr,
        target: Target,
        service: &str,
        weight: Weight,
        now_ns: TimeNs,
        limits: &Limits,
    ) -> Finding {
        let hosts = self.hosts.count();
        let whom = if hosts <= 1 { target.server.to_string() } else { format!("{hosts} hosts") };
        let summary = format!(
            "{client} guesses passwords for {service} of {whom}: {} logins failed",
            self.failures,
        );
        Finding::new("brute-force", "T1110", weight, client, summary)
            .by(target.mac)
            .against((hosts <= 1).then_some(target.server), target.port)
            .during(self.first_ns, now_ns)
            .because(vec![
                ("failures", self.failures),
                ("successes", self.successes),
                ("distinct_hosts", hosts),
                ("cusum_x1000", thousandths(self.sum)),
                ("decision_x1000", thousandths(limits.decision)),
                ("reference_per_minute_x1000", thousandths(limits.per_minute)),
            ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observation::{SECOND_NS, State, Volume},
        testing::connection,
    };

    /// One SSH login each `step_s`; how many findings.
    fn findings(logins: u64, step_s: u64, bytes: u64) -> Vec<Finding> {
        let mut detector = BruteForce::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        for n in 0..logins {
            let at_ns = n * step_s * SECOND_NS;
            let mut login = connection("203.0.113.7", "10.0.0.5", 22);
            login.state = State::Sf;
            (login.first_ns, login.last_ns) = (at_ns, at_ns + 2 * SECOND_NS);
            login.sent = Volume { packets: 12, payload_bytes: bytes, ip_bytes: bytes + 600 };
            login.received = Volume { packets: 12, payload_bytes: 2_400, ip_bytes: 3_000 };
            detector.handle(login.last_ns, &Observation::Ended(login), &mut out);
        }
        out
    }

    #[test]
    fn a_guesser_is_told_as_a_suspicion_and_then_as_a_conviction() {
        let found = findings(200, 3, 1_900);
        let weights: Vec<_> = found.iter().map(|finding| finding.weight).collect();
        assert_eq!(weights, [Weight::Suspicion, Weight::Conviction]);
        assert_eq!(found[0].number("failures"), Some(13));
    }

    #[test]
    fn what_devices_say_is_a_suspicion_once_and_never_more() {
        let mut detector = BruteForce::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        let claim = observation::Login {
            client: "203.0.113.7".parse().unwrap(),
            server: "10.0.0.5".parse().unwrap(),
        };
        for second in 0..200 {
            let fact = Observation::LoginFailed(claim);
            detector.handle(second * SECOND_NS, &fact, &mut out);
        }
        let weights: Vec<_> = out.iter().map(|finding| finding.weight).collect();
        assert_eq!(weights, [Weight::Suspicion]);
    }

    #[test]
    fn an_old_password_every_five_minutes_is_nobody() {
        assert_eq!(findings(500, 300, 1_900), []);
    }

    #[test]
    fn sessions_that_carry_work_are_nobody() {
        assert_eq!(findings(500, 3, 60_000), []);
    }

    #[test]
    fn a_person_who_forgot_is_nobody() {
        assert_eq!(findings(6, 5, 1_900), []);
    }
}
