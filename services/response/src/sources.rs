//! Where the protected set comes from: site configuration, interface addresses, default routes and
//! a file of resolvers. Read anew every time; nothing is remembered but the sockets.
//!
//! What must never happen here: a source that can't be read is taken for an empty one. Only a
//! missing resolver file is no error: nothing has to write it. Called by [`crate::engine`].

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use hookprobe_wire::site::{Addressing, Site};

use crate::{
    engine::Sources,
    netlink::{
        Netlink, NetlinkError,
        message::{DUMP, attribute, attributes},
    },
    protected::{ADDRESSES_MAX, ProtectedSet, Why},
};

/// Resolvers that were learned at run time, one address a line. Nothing in the image writes it yet:
/// the DHCP client runs without hooks. Where the gateway answers DNS, as in most homes, it is
/// protected as the gateway; others stand in `node.resolvers` of the site configuration.
pub const RESOLVERS_FILE: &str = "/run/hookprobe/resolvers";
/// Longest resolver file that is read: about a hundred addresses.
const RESOLVERS_BYTES_MAX: u64 = 4096;

/// Requests of linux/rtnetlink.h.
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
/// Fixed parts in front of the attributes: `struct ifaddrmsg`, `struct rtmsg`, `struct rtnexthop`.
const IFADDRMSG_BYTES: usize = 8;
const RTMSG_BYTES: usize = 12;
const RTNEXTHOP_BYTES: usize = 8;
/// linux/if_addr.h, linux/rtnetlink.h.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;

/// The sources of a running box.
#[derive(Debug)]
pub struct Live {
    site: ProtectedSet,
    resolvers_file: PathBuf,
    socket: Option<Netlink>,
}

impl Live {
    /// From what a person configured; the rest is read every time.
    #[must_use]
    pub fn new(site: &Site, resolvers_file: PathBuf) -> Self {
        Self { site: from_site(site), resolvers_file, socket: None }
    }

    fn read_kernel(&mut self, set: &mut ProtectedSet) -> Result<(), NetlinkError> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => Netlink::open(None)?,
        };
        // All zero: of every family and interface.
        for message in socket.ask("getaddr", (GETADDR, DUMP), &[0; IFADDRMSG_BYTES], |_| {})? {
            add_interface_address(&message, set);
        }
        for message in socket.ask("getroute", (GETROUTE, DUMP), &[0; RTMSG_BYTES], |_| {})? {
            add_default_gateways(&message, set);
        }
        // Kept only when it is in step; after an error the next read opens another.
        self.socket = Some(socket);
        Ok(())
    }

    fn read_resolvers(&self, set: &mut ProtectedSet) -> Result<(), String> {
        let said = |error: std::io::Error| format!("{}: {error}", self.resolvers_file.display());
        let file = match std::fs::File::open(&self.resolvers_file) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(said(error)),
        };
        let mut text = Vec::new();
        file.take(RESOLVERS_BYTES_MAX).read_to_end(&mut text).map_err(said)?;
        add_resolvers(&String::from_utf8_lossy(&text), set);
        Ok(())
    }
}

impl Sources for Live {
    fn read(&mut self) -> Result<ProtectedSet, String> {
        let mut set = self.site.clone();
        self.read_kernel(&mut set).map_err(|error| format!("rtnetlink: {error}"))?;
        self.read_resolvers(&mut set)?;
        if set.len() > ADDRESSES_MAX {
            return Err(format!("{} addresses, at most {ADDRESSES_MAX}", set.len()));
        }
        Ok(set)
    }
}

/// What a person configured.
#[must_use]
pub fn from_site(site: &Site) -> ProtectedSet {
    let mut set = ProtectedSet::default();
    for address in &site.response.administrators {
        set.add(*address, Why::Administrator);
    }
    for address in &site.node.resolvers {
        set.add(*address, Why::Resolver);
    }
    for interface in &site.interface {
        if let Some(gateway) = interface.gateway {
            set.add(gateway, Why::Gateway);
        }
        // A configuration that PID 1 accepted has only addresses that parse.
        if let Ok(Addressing::Static { address, .. }) = interface.addressing() {
            set.add(address, Why::Own);
        }
    }
    set
}

/// Lines that are no address are left out: the file may end in the middle of one.
fn add_resolvers(text: &str, set: &mut ProtectedSet) {
    for address in text.lines().filter_map(|line| line.trim().parse().ok()) {
        set.add(address, Why::Resolver);
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

fn add_interface_address(message: &[u8], set: &mut ProtectedSet) {
    let bytes = message.get(IFADDRMSG_BYTES..).unwrap_or_default();
    let of = |kind| attribute(bytes, kind).and_then(address);
    // On a point-to-point interface IFA_ADDRESS is the other end; everywhere else it is the same.
    let (local, other) = (of(IFA_LOCAL), of(IFA_ADDRESS));
    match (local, other) {
        (Some(local), Some(other)) => {
            set.add(local, Why::Own);
            if other != local {
                set.add(other, Why::Gateway);
            }
        }
        (Some(own), None) | (None, Some(own)) => set.add(own, Why::Own),
        (None, None) => {}
    }
    if let Some(broadcast) = of(IFA_BROADCAST) {
        set.add(broadcast, Why::Broadcast);
    }
}

fn add_default_gateways(message: &[u8], set: &mut ProtectedSet) {
    // struct rtmsg: family, destination prefix length, ...
    if message.get(1) != Some(&0) {
        return;
    }
    let bytes = message.get(RTMSG_BYTES..).unwrap_or_default();
    add_next_hop(bytes, set);
    let mut hops = attribute(bytes, RTA_MULTIPATH).unwrap_or_default();
    while let Some([l0, l1]) = hops.first_chunk().copied() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(hop) = hops.get(RTNEXTHOP_BYTES..length) else {
            return;
        };
        add_next_hop(hop, set);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn add_next_hop(bytes: &[u8], set: &mut ProtectedSet) {
    for (kind, value) in attributes(bytes) {
        let gateway = match kind {
            RTA_GATEWAY => address(value),
            // struct rtvia: family (2 bytes), address.
            RTA_VIA => value.get(2..).and_then(address),
            _ => None,
        };
        if let Some(gateway) = gateway {
            set.add(gateway, Why::Gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn why(set: &ProtectedSet, address: &str) -> Option<Why> {
        set.why(address.parse().unwrap())
    }

    #[test]
    fn site_names_administrators_resolvers_gateways_and_the_box() {
        let site = Site::parse(
            br#"
            [node]
            resolvers = ["10.20.0.53"]
            [[interface]]
            name = "eth0"
            role = "lan"
            address = "10.20.0.2/24"
            gateway = "10.20.0.1"
            [response]
            administrators = ["10.20.0.9", "::ffff:10.20.0.10"]
            "#,
        )
        .unwrap();
        let set = from_site(&site);
        assert_eq!(why(&set, "10.20.0.53"), Some(Why::Resolver));
        assert_eq!(why(&set, "10.20.0.2"), Some(Why::Own));
        assert_eq!(why(&set, "10.20.0.1"), Some(Why::Gateway));
        assert_eq!(why(&set, "10.20.0.9"), Some(Why::Administrator));
        assert_eq!(why(&set, "10.20.0.10"), Some(Why::Administrator));
        assert_eq!(why(&set, "10.20.0.77"), None);
    }

    #[test]
    fn addresses_broadcast_and_the_other_end() {
        let mut set = ProtectedSet::default();
        let mut message = vec![2, 24, 0, 0, 1, 0, 0, 0];
        message.extend(attr(IFA_ADDRESS, &[10, 0, 0, 2]));
        message.extend(attr(IFA_LOCAL, &[10, 0, 0, 2]));
        message.extend(attr(IFA_BROADCAST, &[10, 0, 0, 255]));
        add_interface_address(&message, &mut set);
        let mut message = vec![2, 32, 0, 0, 2, 0, 0, 0];
        message.extend(attr(IFA_ADDRESS, &[10, 9, 0, 1]));
        message.extend(attr(IFA_LOCAL, &[10, 9, 0, 2]));
        add_interface_address(&message, &mut set);
        assert_eq!(why(&set, "10.0.0.2"), Some(Why::Own));
        assert_eq!(why(&set, "10.0.0.255"), Some(Why::Broadcast));
        assert_eq!(why(&set, "10.9.0.2"), Some(Why::Own));
        assert_eq!(why(&set, "10.9.0.1"), Some(Why::Gateway));
    }

    #[test]
    fn gateways_of_default_routes_only_single_multiple_and_via() {
        let mut set = ProtectedSet::default();
        let header = |prefix: u8| vec![2, prefix, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let mut message = header(0);
        message.extend(attr(RTA_GATEWAY, &[10, 0, 0, 1]));
        add_default_gateways(&message, &mut set);
        let mut message = header(24);
        message.extend(attr(RTA_GATEWAY, &[10, 0, 0, 66]));
        add_default_gateways(&message, &mut set);
        let mut message = header(0);
        let mut hops = Vec::new();
        for last in [3, 4] {
            let inner = attr(RTA_GATEWAY, &[10, 0, 0, last]);
            hops.extend(u16::try_from(RTNEXTHOP_BYTES + inner.len()).unwrap().to_ne_bytes());
            hops.extend([0; 6]);
            hops.extend(inner);
        }
        message.extend(attr(RTA_MULTIPATH, &hops));
        add_default_gateways(&message, &mut set);
        let mut message = header(0);
        let mut via = 10u16.to_ne_bytes().to_vec();
        via.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        message.extend(attr(RTA_VIA, &via));
        add_default_gateways(&message, &mut set);
        for gateway in ["10.0.0.1", "10.0.0.3", "10.0.0.4", "2001:db8::7"] {
            assert_eq!(why(&set, gateway), Some(Why::Gateway), "{gateway}");
        }
        assert_eq!(why(&set, "10.0.0.66"), None);
    }

    #[test]
    fn resolver_file_is_optional_and_read_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolvers");
        let live = Live::new(&Site::default(), path.clone());
        let mut set = ProtectedSet::default();
        live.read_resolvers(&mut set).unwrap();
        assert_eq!(set, ProtectedSet::default());
        std::fs::write(&path, "10.0.0.53\n 2001:db8::53 \nnonsense\n10.0.").unwrap();
        live.read_resolvers(&mut set).unwrap();
        assert_eq!(why(&set, "10.0.0.53"), Some(Why::Resolver));
        assert_eq!(why(&set, "2001:db8::53"), Some(Why::Resolver));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(live.read_resolvers(&mut set).is_err());
    }

    #[test]
    fn this_machine_protects_its_own_addresses() {
        let mut live = Live::new(&Site::default(), PathBuf::from("/nonexistent/resolvers"));
        let first = live.read().unwrap();
        assert_eq!(why(&first, "127.0.0.1").map(Why::word), Some("self"));
        assert_eq!(live.read().unwrap(), first, "the socket stays in step");
    }
}
