//! Detectors without signatures: scans, beacons, tunnels, anomalies.
//!
//! [`Behaviour::handle`] takes facts about traffic ([`Observation`]) and gives findings; it knows no
//! clock, no file, no chance: the same facts give the same findings live, in a replay and whatever
//! the hash seed. Every table has a cap, forgets what was longest unused, and counts what it forgot;
//! nothing here may panic, whatever the traffic says.
//!
//! Who makes facts: [`traffic::Glue`], an inspector of `hookprobe-traffic` that this crate provides
//! (the dependency goes this way: traffic knows no detector). Whoever runs an engine holds a `Glue`
//! with a `Behaviour` in it, passes it to the engine, calls [`traffic::Glue::tick`] once a second of
//! the input's time and [`traffic::Glue::finish`] at the end. A reader of Zeek's logs works as well,
//! see `tests`. Who takes findings: the sensor, which makes alerts, EVE events and Zeek notices of
//! them.
//!
//! | detector | module | weight |
//! |---|---|---|
//! | `scan.horizontal`, `.vertical`, `.block`, `.slow` | [`scan`] | conviction, by breadth alone a suspicion |
//! | `scan.sweep` | [`scan::sweep`] | suspicion |
//! | `brute-force` | [`brute`] | suspicion, then conviction |
//! | `beacon` | [`beacon`] | suspicion |
//! | `dns.tunnel` | [`dns::tunnel`] | conviction or suspicion |
//! | `dns.dga` | [`dns::dga`] | suspicion |
//! | `arp.spoof`, `arp.storm` | [`lan::arp`] | conviction or suspicion |
//! | `dhcp.rogue`, `ra.rogue` | [`lan::dhcp`], [`lan::router`] | conviction or suspicion |
//! | `exfiltration` | [`exfiltration`] | suspicion |
//! | `spread.mail`, `spread.lateral` | [`spread`] | suspicion |
//! | `exploit.web` | [`exploit`] | suspicion |
//! | `c2.markers` | [`marker`] | suspicion or anomaly |
//! | `novelty.destination`, `.port`, `.volume` | [`novelty`] | anomaly |
//!
//! Only a conviction may lead to a block by itself ([`finding::Weight`]). [`incident::Gate`] makes one
//! incident of what belongs together and at most one anomaly per device and day.

#![forbid(unsafe_code)]

pub mod baseline;
pub mod beacon;
pub mod brute;
pub mod dns;
pub mod exfiltration;
pub mod exploit;
pub mod finding;
pub mod incident;
pub mod inventory;
pub mod lan;
pub mod marker;
pub mod model;
pub mod network;
pub mod novelty;
pub mod observation;
pub mod peer;
pub mod prevalence;
pub mod resolved;
pub mod scan;
pub mod sketch;
pub mod spread;
pub mod table;
#[cfg(feature = "traffic")]
pub mod traffic;

#[cfg(test)]
mod testing;

use std::net::IpAddr;

pub use crate::{
    finding::{Finding, Weight},
    network::Networks,
    observation::{Observation, TimeNs},
    table::Seed,
};

/// What the site says, and every detector's numbers.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Keys the hashes of the tables; a random number live. Changes no finding.
    pub seed: Seed,
    /// The site's networks.
    pub networks: Networks,
    /// The site's DHCP servers; none: they are learnt.
    pub dhcp_servers: Vec<IpAddr>,
    /// Port scans.
    pub scan: scan::Limits,
    /// ICMP sweeps.
    pub sweep: scan::sweep::Limits,
    /// Guessed passwords.
    pub brute: brute::Limits,
    /// Beacons.
    pub beacon: beacon::Limits,
    /// DNS tunnels.
    pub tunnel: dns::tunnel::Limits,
    /// Generated domains.
    pub dga: dns::dga::Limits,
    /// ARP.
    pub arp: lan::arp::Limits,
    /// DHCP servers.
    pub dhcp: lan::dhcp::Limits,
    /// Routers.
    pub router: lan::router::Limits,
    /// Uploads.
    pub exfiltration: exfiltration::Limits,
    /// Fan-out.
    pub spread: spread::Limits,
    /// News of devices.
    pub novelty: novelty::Limits,
    /// Who talks to what.
    pub prevalence: prevalence::Limits,
    /// What is told.
    pub gate: incident::Limits,
}

/// All detectors and what they share.
#[derive(Debug, Clone)]
pub struct Behaviour {
    networks: Networks,
    inventory: inventory::Inventory,
    prevalence: prevalence::Prevalence,
    resolved: resolved::Resolved,
    scans: scan::Scans,
    sweeps: scan::sweep::Sweeps,
    brute: brute::BruteForce,
    beacons: beacon::Beacons,
    tunnels: dns::tunnel::Tunnels,
    generated: dns::dga::Generated,
    arp: lan::arp::ArpSpoofs,
    dhcp: lan::dhcp::RogueServers,
    routers: lan::router::RogueRouters,
    exfiltrations: exfiltration::Exfiltrations,
    exploits: exploit::Exploits,
    spreads: spread::Spreads,
    markers: marker::Markers,
    novelties: novelty::Novelties,
    gate: incident::Gate,
    /// Before the gate; empty between calls.
    found: Vec<Finding>,
    now_ns: TimeNs,
    facts: u64,
}

impl Behaviour {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let seed = config.seed;
        Self {
            networks: config.networks.clone(),
            inventory: inventory::Inventory::new(seed),
            prevalence: prevalence::Prevalence::new(seed, config.prevalence),
            resolved: resolved::Resolved::new(seed),
            scans: scan::Scans::new(seed, config.scan),
            sweeps: scan::sweep::Sweeps::new(seed, config.sweep),
            brute: brute::BruteForce::new(seed, config.brute),
            beacons: beacon::Beacons::new(seed, config.beacon),
            tunnels: dns::tunnel::Tunnels::new(seed, config.tunnel),
            generated: dns::dga::Generated::new(seed, config.dga),
            arp: lan::arp::ArpSpoofs::new(seed, config.arp),
            dhcp: lan::dhcp::RogueServers::new(seed, config.dhcp, config.dhcp_servers.clone()),
            routers: lan::router::RogueRouters::new(seed, config.router),
            exfiltrations: exfiltration::Exfiltrations::new(seed, config.exfiltration),
            exploits: exploit::Exploits::new(seed),
            spreads: spread::Spreads::new(seed, config.spread),
            markers: marker::Markers::new(seed),
            novelties: novelty::Novelties::new(seed, config.novelty),
            gate: incident::Gate::new(seed, config.gate),
            found: Vec::new(),
            now_ns: 0,
            facts: 0,
        }
    }

    /// Takes one fact that became known at `now_ns`. Time never goes back: facts of two queues may
    /// come in slightly wrong order.
    pub fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        self.now_ns = self.now_ns.max(now_ns);
        self.facts += 1;
        self.learn(fact);
        self.detect(fact);
        self.pass(out);
    }

    /// Lets waits end. Call it only when every fact older than `now_ns` was handled, else an answer
    /// that is still in a queue counts as missing.
    pub fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Finding>) {
        self.now_ns = self.now_ns.max(now_ns);
        self.scans.tick(self.now_ns, &mut self.found);
        self.pass(out);
    }

    /// The input is over: judges what was kept for later.
    pub fn finish(&mut self, out: &mut Vec<Finding>) {
        // Far enough for every wait to end.
        let end_ns = self.now_ns.saturating_add(observation::MINUTE_NS);
        self.scans.tick(end_ns, &mut self.found);
        self.beacons.finish(self.now_ns, &self.prevalence, &mut self.found);
        self.pass(out);
    }

    /// The devices that were seen.
    #[must_use]
    pub fn inventory(&self) -> &inventory::Inventory {
        &self.inventory
    }

    /// Regularity of a pair.
    #[must_use]
    pub fn beacon(&self, source: IpAddr, peer: peer::Peer) -> Option<beacon::Summary> {
        self.beacons.summary(source, peer)
    }

    /// Named counters since the start, losses included.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![("facts", self.facts)];
        counters.extend(self.gate.counters());
        counters.extend(self.inventory.counters());
        counters.extend(self.prevalence.counters());
        counters.extend(self.resolved.counters());
        counters.extend(self.scans.counters());
        counters.extend(self.sweeps.counters());
        counters.extend(self.brute.counters());
        counters.extend(self.beacons.counters());
        counters.extend(self.tunnels.counters());
        counters.extend(self.generated.counters());
        counters.extend(self.arp.counters());
        counters.extend(self.dhcp.counters());
        counters.extend(self.routers.counters());
        counters.extend(self.exfiltrations.counters());
        counters.extend(self.exploits.counters());
        counters.extend(self.spreads.counters());
        counters.extend(self.markers.counters());
        counters.extend(self.novelties.counters());
        counters
    }

    /// What detectors look up is there before they look.
    fn learn(&mut self, fact: &Observation<'_>) {
        self.inventory.handle(self.now_ns, fact, &self.networks);
        match fact {
            Observation::Ended(connection) | Observation::Continued(connection) => {
                self.prevalence.learn(self.now_ns, connection, &self.networks);
            }
            Observation::Dns(message) => self.resolved.learn(message),
            Observation::Dhcp(message) => {
                if let Some(router) = message.router {
                    self.arp.is_router(router);
                }
            }
            Observation::Started(_)
            | Observation::Answered(..)
            | Observation::TlsHello(_)
            | Observation::Arp(_)
            | Observation::RouterAdvertisement(_)
            | Observation::Named(_)
            | Observation::Request(_)
            | Observation::LoginFailed(_) => {}
        }
    }

    fn detect(&mut self, fact: &Observation<'_>) {
        let (now_ns, out) = (self.now_ns, &mut self.found);
        let (networks, prevalence) = (&self.networks, &self.prevalence);
        self.scans.handle(now_ns, fact, out);
        match fact {
            Observation::Dns(message) => {
                self.tunnels.handle(now_ns, message, out);
                self.generated.handle(now_ns, message, out);
            }
            Observation::Dhcp(message) => self.dhcp.handle(now_ns, message, out),
            Observation::Arp(arp) => self.arp.handle(now_ns, arp, out),
            Observation::RouterAdvertisement(advertisement) => {
                self.routers.handle(now_ns, advertisement, out);
            }
            Observation::Started(_) | Observation::Answered(..) => {
                self.sweeps.handle(now_ns, fact, out);
            }
            Observation::TlsHello(_) => {
                self.markers.handle(now_ns, fact, networks, prevalence, &self.resolved, out);
            }
            Observation::Ended(_) | Observation::Continued(_) => {
                self.sweeps.handle(now_ns, fact, out);
                self.brute.handle(now_ns, fact, out);
                self.beacons.handle(now_ns, fact, networks, prevalence, out);
                self.exfiltrations.handle(now_ns, fact, networks, prevalence, out);
                self.spreads.handle(now_ns, fact, networks, out);
                self.markers.handle(now_ns, fact, networks, prevalence, &self.resolved, out);
                let around = novelty::Surroundings {
                    networks,
                    inventory: &self.inventory,
                    prevalence,
                    resolved: &self.resolved,
                };
                self.novelties.handle(now_ns, fact, around, out);
            }
            Observation::LoginFailed(_) => self.brute.handle(now_ns, fact, out),
            Observation::Request(request) => self.exploits.handle(now_ns, request, networks, out),
            Observation::Named(_) => {}
        }
    }

    /// Lets through what is to be told.
    fn pass(&mut self, out: &mut Vec<Finding>) {
        for mut finding in self.found.drain(..) {
            if finding.source_mac.is_none() {
                finding.source_mac =
                    self.inventory.device_at(finding.source).map(|device| device.mac);
            }
            if self.gate.passes(self.now_ns, &finding, &self.inventory) {
                out.push(finding);
            }
        }
    }
}
