//! Which devices there are, with names that people recognise.
//!
//! A device is an Ethernet address; what it says of itself in ARP, DHCP and mDNS is kept beside it.
//! Everything here is a claim of the device: it names and sorts, it never trusts. A device whose
//! address is seen with many internal addresses is a router; hosts behind it are known by address.
//!
//! Bounded: devices, addresses, names and services of each; the device longest silent is forgotten
//! and counted.

pub mod oui;

use std::net::IpAddr;

use self::oui::Maker;
use crate::{
    finding::{count, printable},
    network::{Networks, is_unicast},
    observation::{Dhcp, DhcpKind, Mac, Named, Observation, TimeNs},
    table::{Seed, Table},
};

/// Most addresses of a device; with more it is a router.
pub const ADDRESSES_MAX: usize = 12;
/// Most services that a device announces and that are kept.
pub const SERVICES_MAX: usize = 8;
/// Devices. At most 1 KB each: 4 MB.
pub const DEVICES_MAX: usize = 4096;

/// What kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A computer or a phone: its user decides whom it talks to.
    General,
    /// Talks to few, always the same: cameras, speakers, bulbs, printers, televisions.
    Appliance,
    /// Controllers and drives.
    Industrial,
    /// Routers, switches, access points.
    Network,
    /// Network storage.
    Storage,
}

impl Class {
    /// Whether a new peer is news: nobody sits in front of it.
    #[must_use]
    pub fn is_predictable(self) -> bool {
        matches!(self, Self::Appliance | Self::Industrial)
    }

    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::General => "computer",
            Self::Appliance => "appliance",
            Self::Industrial => "industrial",
            Self::Network => "network",
            Self::Storage => "storage",
        }
    }
}

/// Who a host is: by Ethernet address where it is seen, else by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceId {
    /// A station of the link.
    Mac(Mac),
    /// A host behind a router.
    Ip(IpAddr),
}

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its address.
    pub mac: Mac,
    /// Who made its interface.
    pub maker: Option<Maker>,
    /// Addresses, the latest last.
    pub addresses: Vec<IpAddr>,
    /// Name that it gave DHCP or mDNS.
    pub host_name: Option<Box<str>>,
    /// Name of an instance in mDNS, as its owner typed it.
    pub instance: Option<Box<str>>,
    /// DHCP's vendor class.
    pub vendor_class: Option<Box<str>>,
    /// Services that it announced, e.g. `_ipp._tcp`.
    pub services: Vec<Box<str>>,
    /// DHCP's parameter list: what kind of system asks.
    pub dhcp_parameters: Box<[u8]>,
    /// More addresses than a host has.
    pub is_router: bool,
    /// First seen.
    pub first_ns: TimeNs,
    /// Last seen.
    pub last_ns: TimeNs,
}

impl Device {
    fn new(mac: Mac, now_ns: TimeNs) -> Self {
        Self {
            mac,
            maker: oui::maker(mac),
            addresses: Vec::new(),
            host_name: None,
            instance: None,
            vendor_class: None,
            services: Vec::new(),
            dhcp_parameters: Box::default(),
            is_router: false,
            first_ns: now_ns,
            last_ns: now_ns,
        }
    }

    /// What people call it: its owner's name for it, its host name, else maker and address.
    #[must_use]
    pub fn display_name(&self) -> String {
        let [.., a, b, c] = self.mac.0;
        match (&self.instance, &self.host_name, self.maker) {
            (Some(name), _, _) | (None, Some(name), _) => name.to_string(),
            (None, None, Some(maker)) => format!("{} {a:02x}{b:02x}{c:02x}", maker.name),
            (None, None, None) => self.mac.to_string(),
        }
    }

    /// What it is, from what it says, else from who made it.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.is_router {
            return Class::Network;
        }
        let said = [
            self.vendor_class.as_deref().and_then(class_by_vendor),
            self.services.iter().find_map(|service| class_by_service(service)),
            self.host_name.as_deref().and_then(class_by_name),
        ];
        let made = self.maker.map(|maker| maker.class);
        said.into_iter().flatten().next().or(made).unwrap_or(Class::General)
    }
}

/// All devices.
#[derive(Debug, Clone)]
pub struct Inventory {
    devices: Table<Mac, Device>,
    by_address: Table<IpAddr, Mac>,
}

impl Inventory {
    /// Knows nobody.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            devices: Table::new(seed, DEVICES_MAX),
            by_address: Table::new(seed, DEVICES_MAX * 4),
        }
    }

    /// Learns from a fact.
    pub fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, networks: &Networks) {
        match fact {
            Observation::Started(connection) => {
                if let Some(mac) = connection.source_mac {
                    self.seen(now_ns, mac, Some(connection.source), networks);
                }
            }
            Observation::Arp(arp) if arp.frame_mac == arp.sender_mac => {
                self.seen(now_ns, arp.sender_mac, Some(arp.sender_ip), networks);
            }
            Observation::RouterAdvertisement(advertisement) => {
                self.seen(now_ns, advertisement.mac, Some(advertisement.ip), networks);
            }
            Observation::Dhcp(message) => self.dhcp(now_ns, message, networks),
            Observation::Named(named) => self.named(now_ns, named, networks),
            Observation::Arp(_)
            | Observation::Answered(..)
            | Observation::Continued(_)
            | Observation::Ended(_)
            | Observation::Dns(_)
            | Observation::Request(_)
            | Observation::LoginFailed(_)
            | Observation::TlsHello(_) => {}
        }
    }

    /// All devices, the one longest silent first.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().map(|(_, device)| device)
    }

    /// The device at an Ethernet address.
    #[must_use]
    pub fn device(&self, mac: Mac) -> Option<&Device> {
        self.devices.get(&mac)
    }

    /// The device that has an address.
    #[must_use]
    pub fn device_at(&self, ip: IpAddr) -> Option<&Device> {
        self.by_address.get(&ip).and_then(|mac| self.devices.get(mac))
    }

    /// Who it is that has an address.
    #[must_use]
    pub fn id(&self, ip: IpAddr) -> DeviceId {
        match self.device_at(ip) {
            Some(device) if !device.is_router => DeviceId::Mac(device.mac),
            Some(_) | None => DeviceId::Ip(ip),
        }
    }

    /// Named counters.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("inventory_devices", count(self.devices.len())),
            ("inventory_addresses", count(self.by_address.len())),
            ("inventory_devices_evicted", self.devices.evicted()),
        ]
    }

    fn seen(
        &mut self,
        now_ns: TimeNs,
        mac: Mac,
        ip: Option<IpAddr>,
        networks: &Networks,
    ) -> Option<&mut Device> {
        if mac.is_group_or_zero() {
            return None;
        }
        let device = self.devices.entry(&mac, || Device::new(mac, now_ns))?;
        device.last_ns = device.last_ns.max(now_ns);
        if let Some(ip) = ip.filter(|ip| is_unicast(*ip) && networks.is_internal(*ip)) {
            if let Some(at) = device.addresses.iter().position(|held| *held == ip) {
                device.addresses.remove(at);
            } else if device.addresses.len() >= ADDRESSES_MAX {
                // Temporary IPv6 addresses (RFC 8981) add up without making a router.
                device.is_router |= device.addresses.iter().filter(|ip| ip.is_ipv4()).count() > 4;
                device.addresses.remove(0);
            }
            device.addresses.push(ip);
            self.by_address.insert(ip, mac);
        }
        Some(device)
    }

    fn dhcp(&mut self, now_ns: TimeNs, message: &Dhcp<'_>, networks: &Networks) {
        let given = (message.kind == DhcpKind::Ack).then_some(message.given).flatten();
        let Some(device) = self.seen(now_ns, message.client, given, networks) else {
            return;
        };
        if message.kind != DhcpKind::Request {
            return;
        }
        if let Some(name) = message.host_name.filter(|name| !name.is_empty()) {
            device.host_name = Some(printable(name).into_boxed_str());
        }
        if let Some(class) = message.vendor_class.filter(|class| !class.is_empty()) {
            device.vendor_class = Some(printable(class).into_boxed_str());
        }
        if !message.parameters.is_empty() {
            // The option's own limit.
            let kept = message.parameters.len().min(255);
            device.dhcp_parameters = message.parameters.get(..kept).unwrap_or_default().into();
        }
    }

    fn named(&mut self, now_ns: TimeNs, named: &Named<'_>, networks: &Networks) {
        let mac = named.mac.or_else(|| self.by_address.get(&named.ip).copied());
        let Some(device) = mac.and_then(|mac| self.seen(now_ns, mac, Some(named.ip), networks))
        else {
            return;
        };
        let text = printable(named.name);
        let text = text.strip_suffix('.').unwrap_or(&text);
        let Some(text) = text.strip_suffix(".local") else {
            return;
        };
        if text.starts_with('_') {
            device.announce(text);
        } else if let Some((instance, service)) = text.split_once("._") {
            device.instance = Some(instance.into());
            device.announce(&format!("_{service}"));
        } else if !text.is_empty() {
            device.host_name = Some(text.into());
        }
    }
}

impl Device {
    fn announce(&mut self, service: &str) {
        let is_known = self.services.iter().any(|held| **held == *service);
        if !is_known && self.services.len() < SERVICES_MAX {
            self.services.push(service.into());
        }
    }
}

/// By what DHCP clients call themselves.
fn class_by_vendor(vendor_class: &str) -> Option<Class> {
    const GENERAL: &[&str] = &["MSFT", "android-dhcp", "dhcpcd-"];
    // udhcp is BusyBox's client, which stands in most small devices.
    const APPLIANCE: &[&str] = &["udhcp", "Hewlett-Packard JetDirect", "PS4", "PS5"];
    by_prefix(vendor_class, &[(GENERAL, Class::General), (APPLIANCE, Class::Appliance)])
}

/// By what is announced.
fn class_by_service(service: &str) -> Option<Class> {
    const GENERAL: &[&str] = &["_workstation.", "_companion-link.", "_rfb.", "_sftp-ssh."];
    const APPLIANCE: &[&str] = &[
        "_googlecast.",
        "_hap.",
        "_ipp",
        "_printer.",
        "_pdl-datastream.",
        "_hue.",
        "_sonos.",
        "_spotify-connect.",
        "_amzn-wplay.",
        "_esphomelib.",
        "_shelly.",
        "_axis-video.",
    ];
    const STORAGE: &[&str] = &["_adisk.", "_readynas."];
    by_prefix(
        service,
        &[(GENERAL, Class::General), (APPLIANCE, Class::Appliance), (STORAGE, Class::Storage)],
    )
}

/// By how makers name their devices.
fn class_by_name(name: &str) -> Option<Class> {
    const GENERAL: &[&str] =
        &["desktop-", "laptop-", "iphone", "ipad", "macbook", "android-", "galaxy", "pixel-"];
    const APPLIANCE: &[&str] = &[
        "esp_",
        "esp-",
        "shelly",
        "tasmota",
        "sonos",
        "roku",
        "brw",
        "npi",
        "epson",
        "ring-",
        "wled",
        "tuya",
        "chromecast",
        "philips-hue",
    ];
    by_prefix(
        &name.to_ascii_lowercase(),
        &[(GENERAL, Class::General), (APPLIANCE, Class::Appliance)],
    )
}

fn by_prefix(text: &str, classes: &[(&[&str], Class)]) -> Option<Class> {
    let fits = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    classes.iter().find(|(prefixes, _)| fits(prefixes)).map(|(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Arp;

    const HUE: Mac = Mac([0x00, 0x17, 0x88, 1, 2, 3]);

    fn inventory(facts: &[Observation<'_>]) -> Inventory {
        let mut inventory = Inventory::new(Seed(1));
        for fact in facts {
            inventory.handle(5, fact, &Networks::default());
        }
        inventory
    }

    fn arp(mac: Mac, ip: &str) -> Observation<'static> {
        let ip = ip.parse().unwrap();
        Observation::Arp(Arp {
            is_reply: true,
            frame_mac: mac,
            sender_mac: mac,
            sender_ip: ip,
            target_ip: ip,
        })
    }

    #[test]
    fn a_bulb_is_an_appliance_with_its_makers_name() {
        let inventory = inventory(&[arp(HUE, "192.168.1.9")]);
        let device = inventory.device_at("192.168.1.9".parse().unwrap()).unwrap();
        assert_eq!(device.display_name(), "Signify (Philips Hue) 010203");
        assert!(device.class().is_predictable());
    }

    #[test]
    fn its_owners_name_comes_first() {
        let named = |name| {
            Observation::Named(Named { ip: "192.168.1.9".parse().unwrap(), mac: Some(HUE), name })
        };
        let inventory =
            inventory(&[named(b"hue-bridge.local"), named(b"Kitchen light._hue._tcp.local")]);
        let device = inventory.device(HUE).unwrap();
        assert_eq!(device.display_name(), "Kitchen light");
        assert_eq!(device.host_name.as_deref(), Some("hue-bridge"));
        assert_eq!(device.services, ["_hue._tcp".into()]);
    }

    #[test]
    fn who_has_many_addresses_is_a_router() {
        let facts: Vec<_> = (0..40).map(|n| arp(HUE, &format!("10.0.0.{n}"))).collect();
        let inventory = inventory(&facts);
        assert_eq!(inventory.device(HUE).unwrap().class(), Class::Network);
        let ip = "10.0.0.39".parse().unwrap();
        assert_eq!(inventory.id(ip), DeviceId::Ip(ip));
    }
}
