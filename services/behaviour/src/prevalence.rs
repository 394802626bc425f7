//! Who else talks to it, and since when: what lowers or raises the weight of a finding.
//!
//! For each external peer the number of internal hosts that talked to it and the time it was first
//! seen; the share of all internal hosts is its prevalence. What half of a network talks to is
//! rarely one host's malware (RITA v5: prevalence at or below 2 % raises a score by 0.15, at or
//! above 50 % lowers it by 0.15; first seen within 7 days raises, 30 days ago lowers).
//!
//! A share of very few hosts says nothing: below [`Limits::hosts_min`] there is none. So does the
//! age of what was there when the sensor began.

use std::net::IpAddr;

use crate::{
    finding::count,
    network::Networks,
    observation::{Connection, DAY_NS, TimeNs},
    peer::Peer,
    sketch::Distinct,
    table::{Seed, Table},
};

/// Numbers of RITA v5's default configuration.
pub const RARE_SHARE_MAX: f64 = 0.02;
/// See [`RARE_SHARE_MAX`].
pub const COMMON_SHARE_MIN: f64 = 0.5;
/// See [`RARE_SHARE_MAX`].
pub const STEP: f64 = 0.15;
/// Younger is new.
pub const NEW_NS_MAX: TimeNs = 7 * DAY_NS;
/// Older is old.
pub const OLD_NS_MIN: TimeNs = 30 * DAY_NS;

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Internal hosts from which a share means something. 5: below, one host is 25 %.
    pub hosts_min: u64,
    /// Peers; the one longest unused is forgotten. About 150 bytes each: 5 MB.
    pub peers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hosts_min: 5, peers_max: 32_768 }
    }
}

#[derive(Debug, Clone)]
struct Known {
    first_ns: TimeNs,
    hosts: Distinct,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Prevalence {
    limits: Limits,
    peers: Table<Peer, Known>,
    hosts: Distinct,
    begin_ns: Option<TimeNs>,
}

impl Prevalence {
    /// Knows nothing.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        let peers = Table::new(seed, limits.peers_max);
        Self { limits, peers, hosts: Distinct::default(), begin_ns: None }
    }

    /// Counts a connection from inside to outside.
    pub fn learn(&mut self, now_ns: TimeNs, connection: &Connection<'_>, networks: &Networks) {
        self.begin_ns.get_or_insert(now_ns);
        if networks.is_internal(connection.source) {
            self.hosts.add(&connection.source);
            if networks.is_external(connection.destination) {
                self.met(now_ns, Peer::of(connection), connection.source);
            }
        }
    }

    fn met(&mut self, now_ns: TimeNs, peer: Peer, host: IpAddr) {
        let make = || Known { first_ns: now_ns, hosts: Distinct::default() };
        if let Some(known) = self.peers.entry(&peer, make) {
            known.hosts.add(&host);
        }
    }

    /// Share of the internal hosts that talk to it; `None` when it is not known.
    #[must_use]
    pub fn share(&self, peer: Peer) -> Option<f64> {
        let total = self.hosts.count();
        if total < self.limits.hosts_min {
            return None;
        }
        let known = self.peers.get(&peer)?;
        Some((known.hosts.count() as f64 / total as f64).min(1.0))
    }

    /// Whether half of the network talks to it.
    #[must_use]
    pub fn is_common(&self, peer: Peer) -> bool {
        self.share(peer).is_some_and(|share| share >= COMMON_SHARE_MIN)
    }

    /// What prevalence adds to a score of 0 to 1.
    #[must_use]
    pub fn step(&self, peer: Peer) -> f64 {
        match self.share(peer) {
            Some(share) if share <= RARE_SHARE_MAX => STEP,
            Some(share) if share >= COMMON_SHARE_MIN => -STEP,
            Some(_) | None => 0.0,
        }
    }

    /// What the age of the acquaintance adds to a score.
    #[must_use]
    pub fn age_step(&self, now_ns: TimeNs, peer: Peer) -> f64 {
        let watched_ns = self.begin_ns.map_or(0, |begin| now_ns.saturating_sub(begin));
        match self.peers.get(&peer).map(|known| now_ns.saturating_sub(known.first_ns)) {
            Some(age_ns) if age_ns <= NEW_NS_MAX && watched_ns > NEW_NS_MAX => STEP,
            Some(age_ns) if age_ns >= OLD_NS_MIN => -STEP,
            Some(_) | None => 0.0,
        }
    }

    /// Internal hosts that were seen.
    #[must_use]
    pub fn hosts(&self) -> u64 {
        self.hosts.count()
    }

    /// Named counters.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("prevalence_hosts", self.hosts.count()),
            ("prevalence_peers", count(self.peers.len())),
            ("prevalence_peers_evicted", self.peers.evicted()),
        ]
    }
}
