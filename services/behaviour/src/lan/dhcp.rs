//! `dhcp.rogue`: a second server gives out addresses.
//!
//! Method. Servers that offer or acknowledge leases are remembered by Ethernet address and server
//! identifier. Where the site names its servers every other one is convicted at once. Where it does
//! not, those that speak within [`Limits::learn_ns`] after the first one are taken to be the site's
//! (a pair for failover); a later one is a suspicion, and a conviction when the router or the name
//! server that it gives is not what the known ones give: that is what an attacker wants.
//!
//! Each server is told once a day. References: RFC 2131; MITRE ATT&CK T1557.003.

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    observation::{DAY_NS, Dhcp, DhcpKind, Mac, TimeNs},
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long servers are learnt after the first. A day: every lease is renewed once.
    pub learn_ns: TimeNs,
    /// Servers; the one longest silent is forgotten. About 150 bytes each.
    pub servers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { learn_ns: DAY_NS, servers_max: 256 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Server {
    router: Option<IpAddr>,
    name_server: Option<IpAddr>,
    is_known: bool,
    told_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct RogueServers {
    limits: Limits,
    named: Vec<IpAddr>,
    servers: Table<(Option<Mac>, IpAddr), Server>,
    begin_ns: Option<TimeNs>,
    /// What the known ones give.
    routers: Vec<IpAddr>,
    name_servers: Vec<IpAddr>,
    findings: u64,
}

impl RogueServers {
    /// With the servers that the site names; none: they are learnt.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits, named: Vec<IpAddr>) -> Self {
        Self {
            limits,
            named,
            servers: Table::new(seed, limits.servers_max),
            begin_ns: None,
            routers: Vec::new(),
            name_servers: Vec::new(),
            findings: 0,
        }
    }

    /// Takes one message.
    pub fn handle(&mut self, now_ns: TimeNs, message: &Dhcp<'_>, out: &mut Vec<Finding>) {
        let is_server = matches!(message.kind, DhcpKind::Offer | DhcpKind::Ack);
        let (true, Some(ip)) = (is_server, message.server) else {
            return;
        };
        let begin_ns = *self.begin_ns.get_or_insert(now_ns);
        let is_learning = now_ns.saturating_sub(begin_ns) < self.limits.learn_ns;
        let is_known = if self.named.is_empty() { is_learning } else { self.named.contains(&ip) };
        let make = || Server {
            router: message.router,
            name_server: message.name_server,
            is_known,
            told_ns: None,
        };
        let Some(server) = self.servers.entry(&(message.sender, ip), make) else {
            return;
        };
        server.router = message.router.or(server.router);
        server.name_server = message.name_server.or(server.name_server);
        if server.is_known {
            let (router, name_server) = (server.router, server.name_server);
            remember(&mut self.routers, router);
            remember(&mut self.name_servers, name_server);
            return;
        }
        if server.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < DAY_NS) {
            return;
        }
        let is_other = |given: Option<IpAddr>, known: &[IpAddr]| {
            given.is_some_and(|given| !known.contains(&given))
        };
        let diverts = is_other(server.router, &self.routers)
            || is_other(server.name_server, &self.name_servers);
        server.told_ns = Some(now_ns);
        self.findings += 1;
        let is_certain = diverts || !self.named.is_empty();
        out.push(finding(now_ns, message, ip, is_certain, diverts, count(self.named.len())));
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("dhcp_servers", count(self.servers.len())),
            ("dhcp_servers_evicted", self.servers.evicted()),
            ("dhcp_findings", self.findings),
        ]
    }
}

/// Routers and name servers of known servers; a handful.
fn remember(known: &mut Vec<IpAddr>, given: Option<IpAddr>) {
    const KNOWN_MAX: usize = 16;
    if let Some(given) = given
        && !known.contains(&given)
        && known.len() < KNOWN_MAX
    {
        known.push(given);
    }
}

fn finding(
    now_ns: TimeNs,
    message: &Dhcp<'_>,
    ip: IpAddr,
    is_certain: bool,
    diverts: bool,
    named: u64,
) -> Finding {
    let shown = |address: Option<IpAddr>| {
        address.map_or_else(|| "none".to_owned(), |address| address.to_string())
    };
    let summary = format!(
        "{ip} gives out addresses as a second DHCP server (router {}, name server {})",
        shown(message.router),
        shown(message.name_server),
    );
    let weight = if is_certain { Weight::Conviction } else { Weight::Suspicion };
    Finding::new("dhcp.rogue", "T1557.003", weight, ip, summary)
        .by(message.sender)
        .against(None, Some(67))
        .during(now_ns, now_ns)
        .because(vec![("diverts", u64::from(diverts)), ("named_servers", named)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::HOUR_NS;

    fn offer(server: u8, router: u8) -> Dhcp<'static> {
        Dhcp {
            kind: DhcpKind::Offer,
            sender: Some(Mac([2, 0, 0, 0, 0, server])),
            client: Mac([4, 0, 0, 0, 0, 9]),
            server: Some([192, 168, 1, server].into()),
            given: Some([192, 168, 1, 50].into()),
            router: Some([192, 168, 1, router].into()),
            name_server: Some([192, 168, 1, 1].into()),
            host_name: None,
            vendor_class: None,
            parameters: &[],
        }
    }

    fn run(named: Vec<IpAddr>, offers: &[(u64, u8, u8)]) -> Vec<Finding> {
        let mut detector = RogueServers::new(Seed(1), Limits::default(), named);
        let mut out = Vec::new();
        for (hour, server, router) in offers {
            detector.handle(hour * HOUR_NS, &offer(*server, *router), &mut out);
        }
        out
    }

    #[test]
    fn a_late_server_that_diverts_is_convicted_once() {
        let found = run(vec![], &[(0, 1, 1), (1, 1, 1), (30, 66, 66), (31, 66, 66), (32, 1, 1)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].weight, Weight::Conviction);
        assert_eq!(found[0].source_mac, Some(Mac([2, 0, 0, 0, 0, 66])));
    }

    #[test]
    fn a_pair_for_failover_is_learnt() {
        assert_eq!(run(vec![], &[(0, 1, 1), (1, 2, 1), (30, 1, 1), (31, 2, 1)]), []);
    }

    #[test]
    fn named_servers_leave_no_time_to_learn() {
        assert_eq!(run(vec![[192, 168, 1, 1].into()], &[(0, 66, 1), (0, 1, 1)]).len(), 1);
    }
}
