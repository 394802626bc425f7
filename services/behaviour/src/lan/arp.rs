//! `arp.spoof` and `arp.storm`: somebody says that addresses of others are his.
//!
//! Method. Who claims which address (sender fields of ARP, RFC 826) is remembered. An address that
//! goes to another station while its holder still speaks is a conflict; [`Limits::moves_min`]
//! moves in [`Limits::window_ns`], or one station that takes [`Limits::taken_min`] addresses of
//! others, is a spoof: a conviction when the address is one that DHCP names as router or moves to
//! and fro, else a suspicion. A frame whose Ethernet source is not the claimed sender adds to the
//! evidence. More than [`Limits::storm_min`] unasked announcements of one station in
//! [`Limits::storm_ns`] are a storm.
//!
//! What moves without harm: an address whose holder was silent ([`Limits::alive_ns`]: a lease that
//! was given to the next), virtual routers (VRRP, HSRP and CARP use addresses of their own), a
//! laptop that changes from cable to radio (one move).
//!
//! References: RFC 5227 (conflicts, announcements: 2, at most 10 probes a minute after conflicts);
//! Whalen, "An Introduction to ARP Spoofing", 2001; LBL's arpwatch ("flip flop").

use std::net::IpAddr;

use crate::{
    finding::{Finding, Weight, count},
    observation::{Arp, HOUR_NS, MINUTE_NS, Mac, SECOND_NS, TimeNs},
    sketch::Distinct,
    table::{Seed, Table},
};

/// Every number that bounds or tunes the detector.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A holder that spoke this long ago is alive. 2 min: hosts ask again for their neighbours
    /// about each minute while they send.
    pub alive_ns: TimeNs,
    /// Moves of one address. 2: there and back.
    pub moves_min: u32,
    /// Addresses that one station takes from living holders.
    pub taken_min: u64,
    /// Time in which moves count together.
    pub window_ns: TimeNs,
    /// Announcements of one station that make a storm. 60: an access point that moves announces
    /// each of its clients twice.
    pub storm_min: u32,
    /// Time of a storm.
    pub storm_ns: TimeNs,
    /// Quiet after a finding of the same kind about the same station.
    pub told_ns_max: TimeNs,
    /// Addresses; the one longest silent is forgotten. About 150 bytes each: 1.2 MB.
    pub addresses_max: usize,
    /// Stations. About 200 bytes each, 800 with full counters: at most 3 MB.
    pub stations_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            alive_ns: 2 * MINUTE_NS,
            moves_min: 2,
            taken_min: 3,
            window_ns: 10 * MINUTE_NS,
            storm_min: 60,
            storm_ns: 10 * SECOND_NS,
            told_ns_max: HOUR_NS,
            addresses_max: 8192,
            stations_max: 4096,
        }
    }
}

#[derive(Debug, Clone)]
struct Holder {
    mac: Mac,
    heard_ns: TimeNs,
    moves: u32,
    first_move_ns: TimeNs,
    is_router: bool,
}

#[derive(Debug, Clone, Default)]
struct Station {
    taken: Distinct,
    first_taken_ns: TimeNs,
    forged_frames: u64,
    announcements: u32,
    storm_ns: TimeNs,
    told_spoof_ns: Option<TimeNs>,
    told_storm_ns: Option<TimeNs>,
}

/// The detector.
#[derive(Debug, Clone)]
pub struct ArpSpoofs {
    limits: Limits,
    holders: Table<IpAddr, Holder>,
    stations: Table<Mac, Station>,
    messages: u64,
    moves: u64,
    findings: u64,
}

impl ArpSpoofs {
    /// Knows nobody.
    #[must_use]
    pub fn new(seed: Seed, limits: Limits) -> Self {
        Self {
            limits,
            holders: Table::new(seed, limits.addresses_max),
            stations: Table::new(seed, limits.stations_max),
            messages: 0,
            moves: 0,
            findings: 0,
        }
    }

    /// DHCP says that this address routes.
    pub fn is_router(&mut self, ip: IpAddr) {
        if let Some(holder) = self.holders.get_mut(&ip) {
            holder.is_router = true;
        }
    }

    /// Takes one message.
    pub fn handle(&mut self, now_ns: TimeNs, arp: &Arp, out: &mut Vec<Finding>) {
        self.messages += 1;
        let mac = arp.sender_mac;
        // A probe (RFC 5227) claims nothing.
        if arp.sender_ip.is_unspecified() || mac.is_group_or_zero() || is_virtual(mac) {
            return;
        }
        let limits = self.limits;
        let Some(station) = self.stations.entry(&mac, Station::default) else {
            return;
        };
        station.forged_frames += u64::from(arp.frame_mac != mac);
        if arp.is_gratuitous() && station.announce(now_ns, &limits) {
            self.findings += 1;
            out.push(storm(now_ns, arp, station));
        }
        let Some(holder) = self.holders.entry(&arp.sender_ip, || Holder::new(mac, now_ns)) else {
            return;
        };
        let was = holder.mac;
        let is_taken = holder.claim(now_ns, mac, &limits);
        if !is_taken {
            return;
        }
        self.moves += 1;
        station.take(now_ns, arp.sender_ip, &limits);
        let (moves, is_router) = (holder.moves, holder.is_router);
        let taken = station.taken.count();
        let is_told = station
            .told_spoof_ns
            .is_some_and(|told| now_ns.saturating_sub(told) < limits.told_ns_max);
        let is_spoof = moves >= limits.moves_min || taken >= limits.taken_min;
        if !is_spoof || is_told {
            return;
        }
        station.told_spoof_ns = Some(now_ns);
        self.findings += 1;
        let is_certain = is_router || moves > limits.moves_min || taken > limits.taken_min;
        let weight = if is_certain { Weight::Conviction } else { Weight::Suspicion };
        let finding = spoof(arp, station, was, weight);
        let evidence = vec![
            ("moves", u64::from(moves)),
            ("addresses_taken", taken),
            ("forged_frames", station.forged_frames),
            ("is_router", u64::from(is_router)),
        ];
        out.push(finding.during(station.first_taken_ns, now_ns).because(evidence));
        // The victim that defends itself is not the next spoofer.
        if let Some(victim) = self.stations.get_mut(&was) {
            victim.told_spoof_ns = Some(now_ns);
        }
    }

    /// Named counters since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("arp_messages", self.messages),
            ("arp_moves", self.moves),
            ("arp_findings", self.findings),
            ("arp_addresses", count(self.holders.len())),
            ("arp_addresses_evicted", self.holders.evicted()),
            ("arp_stations_evicted", self.stations.evicted()),
        ]
    }
}

impl Holder {
    fn new(mac: Mac, now_ns: TimeNs) -> Self {
        Self { mac, heard_ns: now_ns, moves: 0, first_move_ns: 0, is_router: false }
    }

    /// Notes a claim; whether the address was taken from a living holder.
    fn claim(&mut self, now_ns: TimeNs, mac: Mac, limits: &Limits) -> bool {
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        self.heard_ns = self.heard_ns.max(now_ns);
        if self.mac == mac {
            return false;
        }
        self.mac = mac;
        if silent_ns > limits.alive_ns {
            self.moves = 0;
            return false;
        }
        if self.moves == 0 || now_ns.saturating_sub(self.first_move_ns) >= limits.window_ns {
            (self.moves, self.first_move_ns) = (0, now_ns);
        }
        self.moves += 1;
        true
    }
}

impl Station {
    fn take(&mut self, now_ns: TimeNs, ip: IpAddr, limits: &Limits) {
        if now_ns.saturating_sub(self.first_taken_ns) >= limits.window_ns {
            self.taken = Distinct::default();
            self.first_taken_ns = now_ns;
        }
        self.taken.add(&ip);
    }

    /// Counts an announcement; whether they are a storm that is news.
    fn announce(&mut self, now_ns: TimeNs, limits: &Limits) -> bool {
        if now_ns.saturating_sub(self.storm_ns) >= limits.storm_ns {
            (self.announcements, self.storm_ns) = (0, now_ns);
        }
        self.announcements += 1;
        let is_told =
            self.told_storm_ns.is_some_and(|told| now_ns.saturating_sub(told) < limits.told_ns_max);
        let is_news = self.announcements >= limits.storm_min && !is_told;
        if is_news {
            self.told_storm_ns = Some(now_ns);
        }
        is_news
    }
}

fn spoof(arp: &Arp, station: &Station, was: Mac, weight: Weight) -> Finding {
    let also = match station.taken.count() {
        0 | 1 => String::new(),
        more => format!(" and {} more addresses", more - 1),
    };
    let summary =
        format!("{} takes {}{also} from {was}, which still speaks", arp.sender_mac, arp.sender_ip,);
    Finding::new("arp.spoof", "T1557.002", weight, arp.sender_ip, summary).by(Some(arp.sender_mac))
}

fn storm(now_ns: TimeNs, arp: &Arp, station: &Station) -> Finding {
    let summary = format!(
        "{} announces addresses {} times in a few seconds, unasked",
        arp.sender_mac, station.announcements,
    );
    Finding::new("arp.storm", "T1557.002", Weight::Suspicion, arp.sender_ip, summary)
        .by(Some(arp.sender_mac))
        .during(station.storm_ns, now_ns)
        .because(vec![("announcements", u64::from(station.announcements))])
}

/// Addresses that routers share: VRRP and CARP (RFC 5798), HSRP, GLBP.
fn is_virtual(mac: Mac) -> bool {
    matches!(
        mac.0,
        [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
            | [0x00, 0x00, 0x0c, 0x07 | 0x9f, ..]
            | [0x00, 0x07, 0xb4, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([0x10, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([0x10, 0, 0, 0, 0, 0xb]);

    /// Claims as (second, station, last byte of the address).
    fn run(claims: impl IntoIterator<Item = (u64, Mac, u8)>) -> Vec<Finding> {
        let mut detector = ArpSpoofs::new(Seed(1), Limits::default());
        let mut out = Vec::new();
        for (at_s, mac, last) in claims {
            let ip = IpAddr::from([192, 168, 1, last]);
            let arp = Arp {
                is_reply: true,
                frame_mac: mac,
                sender_mac: mac,
                sender_ip: ip,
                target_ip: [192, 168, 1, 200].into(),
            };
            detector.handle(at_s * SECOND_NS, &arp, &mut out);
        }
        out
    }

    #[test]
    fn an_address_that_flips_is_told_once() {
        let flips = (0..40).map(|n| (n * 10, if n % 2 == 0 { A } else { B }, 1));
        let found = run(flips);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].detector, found[0].number("moves")), ("arp.spoof", Some(2)));
    }

    #[test]
    fn a_station_that_takes_many_is_a_spoofer() {
        let owners = (0..5).map(|n| (0, Mac([0x10, 0, 0, 0, 1, n]), n));
        let taken = (0..5).map(|n| (10, B, n));
        let found = run(owners.chain(taken));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source_mac, Some(B));
    }

    #[test]
    fn leases_and_virtual_routers_move_freely() {
        assert_eq!(run((0..50).map(|n| (n * 600, if n % 2 == 0 { A } else { B }, 1))), []);
        let shared = Mac([0, 0, 0x5e, 0, 1, 7]);
        assert_eq!(run((0..50).map(|n| (n, if n % 2 == 0 { A } else { shared }, 1))), []);
    }
}
