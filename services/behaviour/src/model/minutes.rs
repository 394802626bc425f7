//! Makes minute records of observations.
//!
//! A device's minute ends when the clock has passed it; bytes of long connections are counted in
//! the minute in which they are told. Devices are those of the own network, and a minute without
//! any fact gives no record: a device that sleeps says nothing unusual.

use std::net::IpAddr;

use super::features::Minute;
use crate::{
    network::Networks,
    observation::{Answer, Connection, Dns, MINUTE_NS, Observation, TimeNs},
    sketch::Distinct,
    table::{Seed, Table},
};

/// Devices at once; the one that was silent longest gives way.
pub const DEVICES_MAX: usize = 4096;
/// The response code for a name that does not exist (RFC 1035, 4.1.1).
const NXDOMAIN: u16 = 3;

/// A finished minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceMinute {
    /// Whose.
    pub device: IpAddr,
    /// Where it starts.
    pub start_ns: TimeNs,
    /// What was counted.
    pub minute: Minute,
}

#[derive(Debug, Clone, Default)]
struct Open {
    minute: Minute,
    destinations: Distinct,
    ports: Distinct,
    local_peers: Distinct,
}

/// The minute that is open, for each device.
#[derive(Debug, Clone)]
pub struct Minutes {
    devices: Table<IpAddr, Open>,
    seed: Seed,
    /// Number of the open minute since 1970.
    open: u64,
    /// Devices whose minute was lost, of earlier minutes.
    evicted: u64,
    night: Night,
}

/// When the site sleeps, in minutes of the day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Night {
    /// First minute.
    pub from: u16,
    /// First minute of the day.
    pub until: u16,
}

impl Night {
    const MINUTES_PER_DAY: u64 = 24 * 60;

    fn has(self, minute: u64) -> bool {
        let minute = minute % Self::MINUTES_PER_DAY;
        let (from, until) = (u64::from(self.from), u64::from(self.until));
        if from <= until {
            (from..until).contains(&minute)
        } else {
            minute >= from || minute < until
        }
    }
}

impl Minutes {
    /// Without devices. The seed keys the table's hashes and changes no record.
    #[must_use]
    pub fn new(seed: Seed, night: Night) -> Self {
        Self { devices: Table::new(seed, DEVICES_MAX), seed, open: 0, evicted: 0, night }
    }

    /// Minutes that were lost because there were too many devices.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted + self.devices.evicted()
    }

    /// Takes a fact; `out` gets the minutes that are over by then.
    pub fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        networks: &Networks,
        out: &mut Vec<DeviceMinute>,
    ) {
        self.tick(now_ns, out);
        match fact {
            Observation::Started(connection) => {
                self.started(connection, networks);
            }
            Observation::Answered(connection, answer) if *answer != Answer::Accepted => {
                if let Some(open) = self.device(connection.source, networks) {
                    open.minute.failed = open.minute.failed.saturating_add(1);
                }
            }
            Observation::Continued(connection) | Observation::Ended(connection) => {
                self.bytes(connection, networks);
            }
            Observation::Dns(message) => self.dns(message, networks),
            Observation::Answered(..)
            | Observation::TlsHello(_)
            | Observation::Dhcp(_)
            | Observation::Arp(_)
            | Observation::RouterAdvertisement(_)
            | Observation::Named(_)
            | Observation::Request(_)
            | Observation::LoginFailed(_) => {}
        }
    }

    /// Ends the minute when its time is over. Call it before a quiet input is judged.
    pub fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<DeviceMinute>) {
        if now_ns / MINUTE_NS > self.open {
            self.finish(out);
            self.open = now_ns / MINUTE_NS;
        }
    }

    /// Ends the open minute.
    pub fn finish(&mut self, out: &mut Vec<DeviceMinute>) {
        let night_share = if self.night.has(self.open) { 1.0 } else { 0.0 };
        let start_ns = self.open * MINUTE_NS;
        self.evicted += self.devices.evicted();
        let mut devices = std::mem::replace(&mut self.devices, Table::new(self.seed, DEVICES_MAX));
        while let Some((device, open)) = devices.pop_oldest() {
            let count = |distinct: &Distinct| u32::try_from(distinct.count()).unwrap_or(u32::MAX);
            let minute = Minute {
                destinations: count(&open.destinations),
                ports: count(&open.ports),
                local_peers: count(&open.local_peers),
                night_share,
                ..open.minute
            };
            out.push(DeviceMinute { device, start_ns, minute });
        }
    }

    fn device(&mut self, address: IpAddr, networks: &Networks) -> Option<&mut Open> {
        if !networks.is_internal(address) {
            return None;
        }
        self.devices.entry(&address, Open::default)
    }

    fn started(&mut self, connection: &Connection<'_>, networks: &Networks) {
        let is_local = networks.is_internal(connection.destination);
        if let Some(open) = self.device(connection.source, networks) {
            open.minute.flows = open.minute.flows.saturating_add(1);
            open.destinations.add(&connection.destination);
            open.ports.add(&connection.destination_port);
            if is_local {
                open.local_peers.add(&connection.destination);
            }
        }
    }

    fn bytes(&mut self, connection: &Connection<'_>, networks: &Networks) {
        if let Some(open) = self.device(connection.source, networks) {
            let minute = &mut open.minute;
            minute.bytes_up = minute.bytes_up.saturating_add(connection.sent_bytes_new);
            minute.bytes_down = minute.bytes_down.saturating_add(connection.received_bytes_new);
        }
    }

    fn dns(&mut self, message: &Dns<'_>, networks: &Networks) {
        if let Some(open) = self.device(message.client, networks) {
            let minute = &mut open.minute;
            minute.dns_queries = minute.dns_queries.saturating_add(1);
            let is_missing = message.response_code == Some(NXDOMAIN);
            minute.nxdomain = minute.nxdomain.saturating_add(u32::from(is_missing));
        }
    }
}
