//! The second wall: an nf_tables table of our own, spoken to over netlink.
//!
//! ```text
//! table inet hookprobe {
//!     set block4 { type ipv4_addr; size 8192; flags timeout; counter; }
//!     set block6 { type ipv6_addr; size 8192; flags timeout; counter; }
//!     chain input   { type filter hook input   priority filter - 10; policy accept;
//!                     ip saddr @block4 counter drop; ip6 saddr @block6 counter drop; }
//!     chain forward { the same }
//! }
//! ```
//!
//! Every change is one batch, which the kernel takes as a whole or not at all. Setting up is
//! idempotent and keeps elements that an earlier process left: they are in force until they end.
//! No other table is ever named here. Needs CAP_NET_ADMIN and the modules nf_tables and nfnetlink;
//! element deletion without error (DESTROYSETELEM) needs Linux 6.3.
mod table;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32};

use rustix::io::Errno;

use super::{Counts, EnforceError, Enforcer};
use crate::{
    core::{KERNEL_GRACE_MS, MS, Wanted},
    netlink::{
        Batch, Netlink, NetlinkError,
        message::{ACKNOWLEDGE, DUMP},
    },
};
use table::{
    BATCH, Element, INET, SETS, Set, add_all, add_elements, delete_table, destroy_elements,
    elements_of, name_set, nf, parse_elements, set_of,
};

/// Element changes in one message and messages in one batch: 256 elements are 16 KB, which fits the
/// 16-bit length of an attribute and the default socket buffer.
const MESSAGE_ELEMENTS_MAX: usize = 256;
/// An element whose end is this close to what is wanted stays.
const SLACK_MS: u64 = 2500;

const NETLINK_NETFILTER: Option<NonZeroU32> = NonZeroU32::new(12);

/// The table `inet hookprobe`.
#[derive(Debug, Default)]
pub struct Nft {
    /// Open and set up.
    socket: Option<Netlink>,
}

impl Nft {
    /// Opens nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does `work` on a socket whose table is set up; after an error the next call sets up anew.
    /// A table that vanished is set up again at once.
    fn with<T>(
        &mut self,
        what: &'static str,
        work: impl Fn(&mut Netlink) -> Result<T, NetlinkError>,
    ) -> Result<T, EnforceError> {
        if let Some(mut socket) = self.socket.take() {
            match work(&mut socket) {
                Ok(done) => {
                    self.socket = Some(socket);
                    return Ok(done);
                }
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(failed(what, &error)),
            }
        }
        let mut socket = Netlink::open(NETLINK_NETFILTER).map_err(|e| failed("open", &e))?;
        set_up(&mut socket).map_err(|error| failed("set up table inet hookprobe", &error))?;
        let done = work(&mut socket).map_err(|error| failed(what, &error))?;
        self.socket = Some(socket);
        Ok(done)
    }
}

fn failed(what: &'static str, error: &NetlinkError) -> EnforceError {
    let remedy = match error.errno() {
        Some(Errno::PERM | Errno::ACCESS) => "give the service CAP_NET_ADMIN",
        Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::NOENT) => {
            "load the kernel modules nfnetlink and nf_tables before modules are disabled"
        }
        _ => "restart the service response",
    };
    EnforceError::Nft { what, why: error.to_string(), remedy }
}

/// Sends what `fill` puts between begin and end.
fn commit(socket: &mut Netlink, fill: impl FnOnce(&mut Batch)) -> Result<(), NetlinkError> {
    let mut batch = socket.batch();
    batch.add("begin", (nf::BATCH_BEGIN, 0), &BATCH, |_| {});
    fill(&mut batch);
    batch.add("end", (nf::BATCH_END, 0), &BATCH, |_| {});
    socket.commit(&batch)
}

fn set_up(socket: &mut Netlink) -> Result<(), NetlinkError> {
    match commit(socket, add_all) {
        // There is a table of that name with other sets or chains: it is ours by name.
        Err(NetlinkError::Refused { errno, .. })
            if errno != Errno::PERM && errno != Errno::OPNOTSUPP =>
        {
            commit(socket, |batch| {
                delete_table(batch);
                add_all(batch);
            })
        }
        other => other,
    }
}
/// Milliseconds that an element gets: never 0, which would mean for ever.
fn left_ms(expires_boot_ns: u64, boot_ns: u64) -> u64 {
    (expires_boot_ns.saturating_sub(boot_ns) / MS).saturating_add(KERNEL_GRACE_MS).max(1)
}

fn all(socket: &mut Netlink, set: Set) -> Result<BTreeMap<IpAddr, Element>, NetlinkError> {
    let bodies = socket.ask("getsetelem", (nf::GETSETELEM, DUMP), &INET, |message| {
        name_set(message, set);
    })?;
    Ok(parse_elements(&bodies))
}

fn one(socket: &mut Netlink, subject: IpAddr) -> Result<Option<Element>, NetlinkError> {
    let kind = (nf::GETSETELEM, ACKNOWLEDGE);
    let found = socket.ask("getsetelem", kind, &INET, |message| {
        elements_of(message, set_of(subject), std::iter::once((subject, None)));
    });
    match found {
        Ok(bodies) => Ok(parse_elements(&bodies).get(&subject).copied()),
        Err(NetlinkError::Refused { errno: Errno::NOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_set(
    socket: &mut Netlink,
    set: Set,
    wanted: &Wanted,
    boot_ns: u64,
) -> Result<Counts, NetlinkError> {
    let held = all(socket, set)?;
    let wanted: BTreeMap<IpAddr, u64> = wanted
        .blocks
        .iter()
        .filter(|(subject, _)| set_of(**subject) == set)
        .map(|(subject, expires_ns)| (*subject, left_ms(*expires_ns, boot_ns)))
        .collect();
    let right = |subject: &IpAddr, element: &Element| {
        wanted.get(subject).is_some_and(|left| left.abs_diff(element.left_ms) <= SLACK_MS)
    };
    let wrong: Vec<IpAddr> =
        held.iter().filter(|(s, element)| !right(s, element)).map(|(s, _)| *s).collect();
    let missing: Vec<(IpAddr, u64)> = wanted
        .iter()
        .filter(|(subject, _)| !held.get(*subject).is_some_and(|element| right(subject, element)))
        .map(|(subject, left)| (*subject, *left))
        .collect();
    for subjects in wrong.chunks(MESSAGE_ELEMENTS_MAX) {
        commit(socket, |batch| destroy_elements(batch, set, subjects))?;
    }
    for elements in missing.chunks(MESSAGE_ELEMENTS_MAX) {
        commit(socket, |batch| add_elements(batch, set, elements))?;
    }
    let kept = held.into_iter().filter(|(subject, _)| wanted.contains_key(subject));
    Ok(kept.map(|(subject, element)| (subject, element.packets)).collect())
}

impl Enforcer for Nft {
    fn name(&self) -> &'static str {
        "nft"
    }

    fn sync(&mut self, wanted: &Wanted, boot_ns: u64) -> Result<Counts, EnforceError> {
        self.with("compare elements", |socket| {
            let mut counts = Vec::new();
            for set in SETS {
                counts.extend(sync_set(socket, set, wanted, boot_ns)?);
            }
            Ok(counts)
        })
    }

    fn block(
        &mut self,
        subject: IpAddr,
        expires_boot_ns: u64,
        boot_ns: u64,
    ) -> Result<(), EnforceError> {
        let set = set_of(subject);
        let element = (subject, left_ms(expires_boot_ns, boot_ns));
        self.with("add element", |socket| {
            // An element of an earlier block would keep its own end.
            commit(socket, |batch| {
                destroy_elements(batch, set, &[subject]);
                add_elements(batch, set, &[element]);
            })
        })
    }

    fn release(&mut self, subject: IpAddr) -> Result<Option<u64>, EnforceError> {
        self.with("remove element", |socket| {
            let element = one(socket, subject)?;
            if element.is_some() {
                commit(socket, |batch| {
                    destroy_elements(batch, set_of(subject), &[subject]);
                })?;
            }
            Ok(element.map(|element| element.packets))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_always_has_an_end() {
        assert_eq!(left_ms(0, 5_000_000_000), KERNEL_GRACE_MS);
        assert_eq!(left_ms(6_000_000_000, 5_000_000_000), 1000 + KERNEL_GRACE_MS);
    }
}
