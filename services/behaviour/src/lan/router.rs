//! `ra.rogue`: a second router announces itself.
//!
//! Method. Stations that send router advertisements with a lifetime (RFC 4861, section 4.2) are
//! remembered by Ethernet address; those that speak within [`Limits::learn_ns`] after the first are
//! the site's, a later one is a suspicion, or a conviction when it speaks for another prefix than
//! the known ones. A lifetime of 0 wants to route nothing and is ignored, but one under the address
//! of a known router takes that router away (the "RA kill" of RFC 6104's list): a conviction.
//!
//! References: RFC 6104 (rogue advertisements), RFC 6105 (RA guard).

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    network::neighbourhood,
    observation::{DAY_NS, Mac, RouterAdvertisement, TimeNs},
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long routers are learnt after the first one. An hour: they speak each 10 min at least
    /// (RFC 4861, MaxRtrAdvInterval).
    pub learn_ns: TimeNs,
    /// Routers; the one longest silent is forgotten.
    pub routers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { learn_ns: crate::observation::HOUR_NS, routers_max: 256 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Router {
    ip: IpAddr,
    is_known: bool,
    told_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct RogueRouters {
    limits: Limits,
    routers: Table<Mac, Router>,
    prefixes: Vec<IpAddr>,
    begin_ns: Option<TimeNs>,
    findings: u64,
}

impl RogueRouters {
    /// Knows none.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            limits,
            routers: Table::new(seed, limits.routers_max),
            prefixes: Vec::new(),
            begin_ns: None,
            findings: 0,
        }
    }

    /// Takes one advertisement.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        advertisement: &RouterAdvertisement,
        out: &mut Vec<Finding>,
    ) {
        /// A link has one or two prefixes.
        const PREFIXES_MAX: usize = 16;
        let begin_ns = *self.begin_ns.get_or_insert(now_ns);
        let is_known = now_ns.saturating_sub(begin_ns) < self.limits.learn_ns;
        let ip = advertisement.ip;
        let is_impostor = self
            .routers
            .iter()
            .any(|(mac, router)| router.is_known && router.ip == ip && *mac != advertisement.mac);
        if advertisement.lifetime_s == 0 && !is_impostor {
            return;
        }
        let make = || Router { ip, is_known: is_known && !is_impostor, told_ns: None };
        let Some(router) = self.routers.entry(&advertisement.mac, make) else {
            return;
        };
        let prefix = advertisement.prefix.map(neighbourhood);
        if router.is_known && !is_impostor {
            if let Some(prefix) = prefix
                && !self.prefixes.contains(&prefix)
                && self.prefixes.len() < PREFIXES_MAX
            {
                self.prefixes.push(prefix);
            }
            return;
        }
        if router.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS) {
            return;
        }
        router.told_ns = Some(now_ns);
        self.findings += 1;
        let diverts = prefix.is_some_and(|prefix| !self.prefixes.contains(&prefix));
        let known = self.routers.iter().filter(|(_, router)| router.is_known).count();
        out.push(finding(now_ns, advertisement, is_impostor, diverts, count(known)));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("ra_routers", count(self.routers.len())),
            ("ra_routers_evicted", self.routers.evicted()),
            ("ra_findings", self.findings),
        ]
    }
}

fn finding(
    now_ns: TimeNs,
    advertisement: &RouterAdvertisement,
    is_impostor: bool,
    diverts: bool,
    known: u64,
) -> Finding {
    let RouterAdvertisement { mac, ip, .. } = advertisement;
    let summary = if is_impostor {
        format!("{mac} speaks as the router {ip}, which is another station")
    } else {
        format!("{mac} ({ip}) announces itself as one more router")
    };
    let is_certain = is_impostor || diverts;
    let weight = if is_certain { Weight::Conviction } else { Weight::Suspicion };
    Finding::new("ra.rogue", "T1557", weight, *ip, summary)
        .by(Some(*mac))
        .during(now_ns, now_ns)
        .because(vec![
            ("lifetime_s", u64::from(advertisement.lifetime_s)),
            ("impersonates", u64::from(is_impostor)),
            ("other_prefix", u64::from(diverts)),
            ("known_routers", known),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::MINUTE_NS;

    fn run(spoken: &[(u64, u8, u16, u16)]) -> Vec<Finding> {
        let mut detector = RogueRouters::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        for (minute, station, ip, lifetime_s) in spoken {
            let advertisement = RouterAdvertisement {
                mac: Mac([2, 0, 0, 0, 0, *station]),
                ip: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, *ip]),
                lifetime_s: *lifetime_s,
                prefix: Some(IpAddr::from([0x2001, 0xdb8, u16::from(*station), 0, 0, 0, 0, 0])),
            };
            detector.handle(minute * MINUTE_NS, &advertisement, &mut out);
        }
        out
    }

    #[test]
    fn a_late_router_is_told_once() {
        let found = run(&[(0, 1, 1, 1800), (9, 1, 1, 1800), (90, 6, 6, 1800), (91, 6, 6, 1800)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].weight, Weight::Conviction, "another prefix");
    }

    #[test]
    fn killing_the_router_is_convicted_even_while_learning() {
        let found = run(&[(0, 1, 1, 1800), (5, 6, 1, 0)]);
        assert_eq!((found.len(), found[0].number("impersonates")), (1, Some(1)));
    }

    #[test]
    fn two_routers_and_a_host_that_leaves_are_nobody() {
        assert_eq!(run(&[(0, 1, 1, 1800), (3, 2, 2, 1800), (99, 2, 2, 1800), (99, 9, 9, 0)]), []);
    }
}
