//! `novelty.destination`, `novelty.port`, `novelty.volume`: a device that nobody sits in front of
//! does something it never did.
//!
//! Method. For each device of a predictable class ([`crate::inventory::Class`]) the external peers
//! (registered domain where a name is known, else the /24 or /48) and the services (protocol, port)
//! of the first [`Limits::learn_ns`] are its baseline, and the payload it sends per hour is learnt
//! all the time ([`crate::baseline`]). Afterwards a peer or service that is not in the baseline is
//! an anomaly and joins it; so is an hour of more than [`Limits::deviations_min`] standard
//! deviations that is three times the highest hour before and [`Limits::volume_bytes_min`].
//!
//! Always an anomaly: at most one per device and day ([`crate::incident`]), never a reason to block.
//! A peer that half of the network talks to is no news ([`crate::prevalence`]). A device that was
//! compromised before it was learnt is not found; nor is the peer whose provider it uses anyway.
//!
//! References: RFC 8520 (manufacturer usage descriptions: such devices have few, known peers);
//! Sivanathan et al., "Classifying IoT Devices in Smart Environments Using Network Traffic
//! Characteristics", IEEE TMC 18(8), 2019.

use std::collections::BTreeSet;

use crate::{
    baseline::Baseline,
    dns::Name,
    finding::{Finding, Weight, count},
    inventory::{DeviceId, Inventory},
    network::{Networks, neighbourhood},
    observation::{Answer, Connection, DAY_NS, HOUR_NS, Observation, Protocol, TimeNs},
    peer::{self, Peer},
    prevalence::Prevalence,
    resolved::Resolved,
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a device is learnt. 7 days: weekly updates and weekends are in it.
    pub learn_ns: TimeNs,
    /// Peers of a device; with more it is not predictable and left alone.
    pub peers_max: usize,
    /// Services of a device; as `peers_max`.
    pub services_max: usize,
    /// Hours from which volumes are judged. A day.
    pub hours_min: u32,
    /// Standard deviations above the mean.
    pub deviations_min: f64,
    /// Bytes in an hour that are worth a word.
    pub volume_bytes_min: u64,
    /// Devices; the one longest silent is forgotten. At most 8 KB each: 8 MB.
    pub devices_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            learn_ns: 7 * DAY_NS,
            peers_max: 128,
            services_max: 64,
            hours_min: 24,
            deviations_min: 6.0,
            volume_bytes_min: 10_000_000,
            devices_max: 1024,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Known {
    begin_ns: TimeNs,
    peers: BTreeSet<Peer>,
    services: BTreeSet<(Protocol, u16)>,
    is_full: bool,
    hour_ns: TimeNs,
    hour_bytes: u64,
    is_hour_told: bool,
    volume: Baseline,
}

/// What the detector looks up.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Ours and others.
    pub networks: &'a Networks,
    /// Who is a device.
    pub inventory: &'a Inventory,
    /// What is common.
    pub prevalence: &'a Prevalence,
    /// Names of addresses.
    pub resolved: &'a Resolved,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Novelties {
    limits: Limits,
    devices: Table<DeviceId, Known>,
    unpredictable: u64,
    findings: u64,
}

impl Novelties {
    /// Knows no device.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        let devices = Table::new(seed, limits.devices_max);
        Self { limits, devices, unpredictable: 0, findings: 0 }
    }

    /// Takes one fact.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        around: Surroundings<'_>,
        out: &mut Vec<Finding>,
    ) {
        let (Observation::Ended(connection) | Observation::Continued(connection)) = fact else {
            return;
        };
        let is_predictable = around
            .inventory
            .device_at(connection.source)
            .is_some_and(|device| device.class().is_predictable());
        if !is_predictable || !around.networks.is_external(connection.destination) {
            return;
        }
        let id = around.inventory.id(connection.source);
        let limits = self.limits;
        let make = || Known { begin_ns: now_ns, hour_ns: now_ns, ..Known::default() };
        let Some(known) = self.devices.entry(&id, make) else {
            return;
        };
        let before = out.len();
        known.volume(now_ns, connection, &limits, out);
        let is_answered = connection.received.packets > 0
            && connection.state.outcome().is_none_or(|outcome| outcome == Answer::Accepted);
        let was_full = known.is_full;
        if is_answered && !was_full {
            known.meet(now_ns, connection, around, &limits, out);
        }
        self.unpredictable += u64::from(known.is_full && !was_full);
        self.findings += count(out.len() - before);
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("novelty_devices", count(self.devices.len())),
            ("novelty_unpredictable", self.unpredictable),
            ("novelty_findings", self.findings),
            ("novelty_devices_evicted", self.devices.evicted()),
        ]
    }
}

impl Known {
    fn meet(
        &mut self,
        now_ns: TimeNs,
        connection: &Connection<'_>,
        around: Surroundings<'_>,
        limits: &Limits,
        out: &mut Vec<Finding>,
    ) {
        let peer = whom(connection, around.resolved);
        let service = (connection.protocol, connection.destination_port);
        let is_new_peer = self.peers.insert(peer);
        // High ports of UDP are chosen anew by the other side of a call or a stream.
        let is_service = connection.protocol == Protocol::Tcp || service.1 < 10_000;
        let is_new_service = is_service && self.services.insert(service);
        if self.peers.len() > limits.peers_max || self.services.len() > limits.services_max {
            self.is_full = true;
            (self.peers, self.services) = (BTreeSet::new(), BTreeSet::new());
            return;
        }
        let age_ns = now_ns.saturating_sub(self.begin_ns);
        let is_common = around.prevalence.is_common(Peer::of(connection));
        if age_ns < limits.learn_ns || is_common || !(is_new_peer || is_new_service) {
            return;
        }
        let (detector, what) = if is_new_service {
            ("novelty.port", format!("{} port {}", service.0.word(), service.1))
        } else {
            ("novelty.destination", peer::word(connection))
        };
        let source = connection.source;
        let name = around
            .inventory
            .device_at(source)
            .map_or_else(|| source.to_string(), |device| device.display_name());
        let days = age_ns / DAY_NS;
        let summary =
            format!("{name} ({source}) talks to {what} for the first time in {days} days");
        out.push(
            Finding::new(detector, "T1071", Weight::Anomaly, source, summary)
                .by(connection.source_mac)
                .against(Some(connection.destination), Some(connection.destination_port))
                .during(connection.first_ns, now_ns)
                .because(vec![
                    ("known_peers", count(self.peers.len())),
                    ("known_services", count(self.services.len())),
                    ("new_peer", u64::from(is_new_peer)),
                    ("new_service", u64::from(is_new_service)),
                    ("learnt_days", days),
                ]),
        );
    }

    fn volume(
        &mut self,
        now_ns: TimeNs,
        connection: &Connection<'_>,
        limits: &Limits,
        out: &mut Vec<Finding>,
    ) {
        while now_ns.saturating_sub(self.hour_ns) >= HOUR_NS {
            self.volume.learn(self.hour_bytes as f64);
            (self.hour_bytes, self.is_hour_told) = (0, false);
            // A long silence is one quiet hour, not thousands.
            let hours = now_ns.saturating_sub(self.hour_ns) / HOUR_NS;
            let skipped = if hours > 24 { hours } else { 1 };
            self.hour_ns = self.hour_ns.saturating_add(skipped * HOUR_NS);
        }
        self.hour_bytes = self.hour_bytes.saturating_add(connection.sent_bytes_new);
        let bytes = self.hour_bytes as f64;
        let is_outlier = self.volume.periods() >= limits.hours_min
            && self.hour_bytes >= limits.volume_bytes_min
            && bytes >= 3.0 * self.volume.highest()
            && self.volume.deviations(bytes) >= limits.deviations_min;
        if !is_outlier || self.is_hour_told {
            return;
        }
        self.is_hour_told = true;
        let source = connection.source;
        let summary = format!(
            "{source} sent {} MB in an hour, {:.0} times what is usual",
            self.hour_bytes / 1_000_000,
            bytes / self.volume.mean().max(1.0),
        );
        out.push(
            Finding::new("novelty.volume", "T1048", Weight::Anomaly, source, summary)
                .by(connection.source_mac)
                .during(self.hour_ns, now_ns)
                .because(vec![
                    ("hour_bytes", self.hour_bytes),
                    ("mean_bytes", self.volume.mean().round() as u64),
                    ("highest_bytes", self.volume.highest().round() as u64),
                    ("learnt_hours", u64::from(self.volume.periods())),
                ]),
        );
    }
}

/// The peer as the baseline remembers it.
fn whom(connection: &Connection<'_>, resolved: &Resolved) -> Peer {
    let domain = connection.server_name.and_then(|name| Name::new(name.as_bytes()));
    match domain {
        Some(name) => Peer::of_name(name.registered()),
        None => resolved
            .domain(connection.destination)
            .unwrap_or_else(|| Peer::Ip(neighbourhood(connection.destination))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observation::{Arp, Mac, State, Volume},
        prevalence,
        testing::connection,
    };

    const BULB: Mac = Mac([0x00, 0x17, 0x88, 1, 2, 3]);
    const LAPTOP: Mac = Mac([0x3c, 0xd9, 0x2b, 1, 2, 3]);

    /// Exchanges as (hour, server, port, megabytes sent) of a device.
    fn run(
        mac: Mac,
        exchanges: impl IntoIterator<Item = (u64, String, u16, u64)>,
    ) -> Vec<&'static str> {
        let networks = Networks::default();
        let mut inventory = Inventory::new(Seed(1));
        let ip = "192.168.1.9".parse().unwrap();
        let arp =
            Arp { is_reply: true, frame_mac: mac, sender_mac: mac, sender_ip: ip, target_ip: ip };
        inventory.handle(0, &Observation::Arp(arp), &networks);
        let prevalence = Prevalence::new(Seed(1), prevalence::Limits::default());
        let resolved = Resolved::new(Seed(1));
        let around = Surroundings {
            networks: &networks,
            inventory: &inventory,
            prevalence: &prevalence,
            resolved: &resolved,
        };
        let (mut detector, mut out) = (Novelties::new(Seed(1), Limits::default()), Vec::new());
        for (hour, server, port, megabytes) in exchanges {
            let mut exchange = connection("192.168.1.9", &server, port);
            (exchange.state, exchange.sent_bytes_new) = (State::Sf, megabytes * 1_000_000);
            exchange.received = Volume { packets: 9, payload_bytes: 900, ip_bytes: 1300 };
            (exchange.first_ns, exchange.last_ns) = (hour * HOUR_NS, hour * HOUR_NS);
            detector.handle(hour * HOUR_NS, &Observation::Ended(exchange), around, &mut out);
        }
        out.iter().map(|finding| finding.detector).collect()
    }

    fn usual(hours: u64) -> impl Iterator<Item = (u64, String, u16, u64)> {
        (0..hours).map(|hour| (hour, format!("203.0.113.{}", hour % 3), 443, 1))
    }

    #[test]
    fn a_bulb_that_meets_a_stranger_is_news() {
        let stranger = (24 * 9, "198.51.100.7".to_owned(), 443, 0);
        let telnet = (24 * 10, "203.0.113.1".to_owned(), 23, 0);
        let flood = (24 * 11, "203.0.113.1".to_owned(), 443, 900);
        let news = run(BULB, usual(24 * 9).chain([stranger, telnet, flood]));
        assert_eq!(news, ["novelty.destination", "novelty.port", "novelty.volume"]);
    }

    #[test]
    fn what_is_learnt_and_what_a_laptop_does_is_none() {
        assert!(run(BULB, usual(24 * 30)).is_empty());
        let strangers = (0..400).map(|n| (n, format!("198.51.{n}.7", n = n % 200), 443, 1));
        assert!(run(LAPTOP, strangers).is_empty());
    }
}
