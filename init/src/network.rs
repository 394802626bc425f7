//! Links and fixed addresses of the box. DHCP is a service of its own; here its interfaces are
//! only named.
//!
//! [`plan`] is pure: links and site configuration in, requests and complaints out.

use std::{fs, net::IpAddr, os::fd::OwnedFd, path::Path, time::Duration};

use hookprobe_wire::site::{Addressing, INTERFACES_MAX, Role, Site};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
        socket_with, sockopt,
    },
};
use thiserror::Error;

use crate::netlink::{Request, acknowledged, encode};

/// Network interfaces of the kernel.
pub const NET_CLASS: &str = "/sys/class/net";
/// ARPHRD_ETHER
const ETHERNET: &str = "1";
/// The kernel answers at once; a second means that it never will.
const ANSWER: Duration = Duration::from_secs(1);
/// Most messages that are read before the answer: there are no others on this socket.
const ANSWERS_MAX: usize = 8;

/// An Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Kernel name.
    pub name: String,
    /// Kernel number.
    pub index: u32,
    /// Hardware address as text.
    pub mac: String,
}

/// Ethernet interfaces with a device behind them, by number.
#[must_use]
pub fn links(class: &Path) -> Vec<Link> {
    let Ok(entries) = fs::read_dir(class) else {
        return Vec::new();
    };
    let mut links: Vec<Link> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let read = |name: &str| fs::read_to_string(path.join(name)).ok();
            let ethernet = read("type")?.trim() == ETHERNET && path.join("device").exists();
            ethernet.then_some(())?;
            Some(Link {
                name: entry.file_name().into_string().ok()?,
                index: read("ifindex")?.trim().parse().ok()?,
                mac: read("address")?.trim().to_owned(),
            })
        })
        .collect();
    links.sort_by_key(|link| link.index);
    links.truncate(INTERFACES_MAX);
    links
}

/// What to do, and what the operator has to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub requests: Vec<Request>,
    /// Interfaces that ask for an address.
    pub dhcp: Vec<String>,
    /// Texts with code and remedy.
    pub problems: Vec<String>,
}

/// What the site configuration asks for on these links.
#[must_use]
pub fn plan(site: &Site, links: &[Link]) -> Plan {
    let mut plan = Plan::default();
    if links.is_empty() {
        plan.problems.push(
            "HP-NW-001 network: no Ethernet interface was found, nothing can be watched; \
             check that the network card is supported and restart"
                .into(),
        );
    }
    for link in links {
        let named = site.interface.iter().find(|interface| interface.name == link.name);
        // Without a list every interface is watched.
        let watched =
            site.interface.is_empty() || named.is_some_and(|interface| interface.role == Role::Lan);
        plan.requests.push(Request::Up { index: link.index, promiscuous: watched });
    }
    if site.interface.is_empty() {
        plan.dhcp.extend(links.first().map(|link| link.name.clone()));
    }
    for interface in &site.interface {
        let Some(link) = links.iter().find(|link| link.name == interface.name) else {
            plan.problems.push(format!(
                "HP-NW-002 {}: named in hookprobe.toml but not there; check the name and the card",
                interface.name
            ));
            continue;
        };
        match interface.addressing() {
            Ok(Addressing::None) => {}
            Ok(Addressing::Dhcp) => plan.dhcp.push(link.name.clone()),
            Ok(Addressing::Static { address, prefix }) => {
                plan.requests.push(Request::Address { index: link.index, address, prefix });
                if let Some(gateway) = interface.gateway {
                    plan.requests.push(Request::Gateway { index: link.index, gateway });
                }
            }
            // `Site::parse` has checked it; said again rather than ignored.
            Err(error) => plan.problems.push(error.to_string()),
        }
    }
    plan
}

/// Carries out the plan for these links. Returns the interfaces that ask for an address, and what
/// went wrong.
#[must_use]
pub fn configure(site: &Site, links: &[Link]) -> (Vec<String>, Vec<String>) {
    let plan = plan(site, links);
    let mut problems = plan.problems;
    match Kernel::open() {
        Ok(mut kernel) => {
            let loopback = Request::Up { index: LOOPBACK, promiscuous: false };
            for request in [loopback].iter().chain(&plan.requests) {
                if let Err(error) = kernel.ask(request) {
                    problems.push(format!("HP-NW-003 network: {error}; check hookprobe.toml"));
                }
            }
        }
        Err(error) => problems.push(format!("HP-NW-007 network: {error}; restart the box")),
    }
    (plan.dhcp, problems)
}

/// Name of the box: the site's, else `hp-` and the last four digits of the first hardware address.
#[must_use]
pub fn node_name(site: &Site, links: &[Link]) -> String {
    if !site.node.name.is_empty() {
        return site.node.name.clone();
    }
    let digits: String = links
        .first()
        .map(|link| link.mac.chars().filter(char::is_ascii_hexdigit).collect())
        .unwrap_or_default();
    match digits.len().checked_sub(4).and_then(|at| digits.get(at..)) {
        Some(last) => format!("hp-{last}"),
        None => "hp-0000".into(),
    }
}

/// Configuration of the DHCP client for these interfaces: addresses only, no scripts.
#[must_use]
pub fn dhcp_configuration(interfaces: &[String]) -> String {
    let which = if interfaces.is_empty() {
        "denyinterfaces *".to_owned()
    } else {
        format!("allowinterfaces {}", interfaces.join(" "))
    };
    format!(
        "# Written by PID 1 from the site configuration.\n{which}\nscript /dev/null\nnoipv4ll\n\
         clientid\noption classless_static_routes\n\
         require dhcp_server_identifier\n"
    )
}

/// Why a request was not carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetworkError {
    /// No socket, no answer.
    #[error("rtnetlink: {step}: {errno}")]
    Socket {
        /// Which step.
        step: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The kernel refused.
    #[error("rtnetlink: {request:?} refused: {errno}")]
    Refused {
        /// Which request.
        request: Request,
        /// Why.
        errno: Errno,
    },
    /// Only other messages came.
    #[error("rtnetlink: {request:?}: no answer")]
    NoAnswer {
        /// Which request.
        request: Request,
    },
}

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

impl Kernel {
    /// Opens it.
    ///
    /// # Errors
    /// [`NetworkError::Socket`].
    pub fn open() -> Result<Self, NetworkError> {
        let step = |step| move |errno| NetworkError::Socket { step, errno };
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )
        .map_err(step("socket"))?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 0)).map_err(step("bind"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER))
            .map_err(step("timeout"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn ask(&mut self, request: &Request) -> Result<(), NetworkError> {
        let step = |step| move |errno| NetworkError::Socket { step, errno };
        self.sequence += 1;
        send(&self.socket, &encode(request, self.sequence), SendFlags::empty())
            .map_err(step("send"))?;
        for _ in 0..ANSWERS_MAX {
            let mut bytes = [0; 512];
            let (got, _) =
                recv(&self.socket, &mut bytes[..], RecvFlags::empty()).map_err(step("receive"))?;
            match acknowledged(bytes.get(..got).unwrap_or_default(), self.sequence) {
                Some(0) => return Ok(()),
                Some(code) => {
                    return Err(NetworkError::Refused {
                        request: *request,
                        errno: Errno::from_raw_os_error(code),
                    });
                }
                None => {}
            }
        }
        Err(NetworkError::NoAnswer { request: *request })
    }
}

/// Number of the loopback interface.
pub const LOOPBACK: u32 = 1;

/// Addresses of the box now, as `eth0 10.20.0.2/24`; without loopback.
#[must_use]
pub fn addresses() -> Vec<String> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    all.filter(|entry| entry.interface_name != "lo")
        .filter_map(|entry| {
            let address = ip(entry.address.as_ref()?)?;
            let prefix = entry.netmask.as_ref().and_then(ip).map_or(0, ones);
            Some(format!("{} {address}/{prefix}", entry.interface_name))
        })
        .take(2 * INTERFACES_MAX)
        .collect()
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(address.ip()));
    }
    address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()))
}

fn ones(mask: IpAddr) -> u32 {
    octets(mask).iter().map(|byte| byte.count_ones()).sum()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32) -> Link {
        Link { name: name.into(), index, mac: "52:54:00:12:7f:3a".into() }
    }

    #[test]
    fn without_a_configuration_all_are_up_and_the_first_asks() {
        let plan = plan(&Site::default(), &[link("eth0", 2), link("eth1", 3)]);
        let up = |index| Request::Up { index, promiscuous: true };
        assert_eq!(plan.requests, [up(2), up(3)]);
        assert_eq!(plan.dhcp, ["eth0"]);
        assert!(plan.problems.is_empty());
    }

    #[test]
    fn fixed_addresses_and_a_wrong_name() {
        let site = Site::parse(
            b"[[interface]]\nname=\"eth1\"\nrole=\"lan\"\naddress=\"10.0.0.2/24\"\ngateway=\"10.0.0.1\"\n\
              [[interface]]\nname=\"eth9\"\nrole=\"lan\"\naddress=\"dhcp\"\n",
        )
        .unwrap();
        let plan = plan(&site, &[link("eth0", 2), link("eth1", 3)]);
        assert_eq!(plan.requests.len(), 4);
        assert!(matches!(plan.requests[3], Request::Gateway { index: 3, .. }));
        assert!(plan.problems[0].starts_with("HP-NW-002 eth9"));
        assert!(plan.dhcp.is_empty());
    }

    #[test]
    fn the_dhcp_client_touches_the_named_interfaces_only() {
        let two = dhcp_configuration(&["eth0".into(), "eth2".into()]);
        assert!(two.contains("\nallowinterfaces eth0 eth2\n"));
        assert!(dhcp_configuration(&[]).contains("\ndenyinterfaces *\n"));
    }

    #[test]
    fn no_interface_is_said() {
        let plan = plan(&Site::default(), &[]);
        assert!(plan.problems[0].starts_with("HP-NW-001"));
    }

    #[test]
    fn names() {
        assert_eq!(node_name(&Site::default(), &[link("eth0", 2)]), "hp-7f3a");
        assert_eq!(node_name(&Site::default(), &[]), "hp-0000");
    }

    #[test]
    fn the_kernel_sets_an_address_in_a_private_namespace() {
        // In a thread of its own: the namespace ends with it.
        std::thread::spawn(|| {
            let flags = nix::sched::CloneFlags::CLONE_NEWNET;
            if nix::sched::unshare(flags).is_err() {
                println!("skipped: needs root");
                return;
            }
            let mut kernel = Kernel::open().unwrap();
            kernel.ask(&Request::Up { index: LOOPBACK, promiscuous: false }).unwrap();
            let address = Request::Address {
                index: LOOPBACK,
                address: "10.9.8.7".parse().unwrap(),
                prefix: 24,
            };
            kernel.ask(&address).unwrap();
            let refused = kernel.ask(&Request::Up { index: 4711, promiscuous: false }).unwrap_err();
            assert!(matches!(refused, NetworkError::Refused { errno: Errno::NODEV, .. }));
        })
        .join()
        .unwrap();
    }
}
