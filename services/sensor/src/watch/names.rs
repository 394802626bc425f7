//! `name.listed`: somebody asks for a name of bad repute.
//!
//! Looked up for each DNS question, server name in a ClientHello, and HTTP host. What the list is
//! about decides what it means: malicious software, phishing, orders for infected hosts and miners
//! are a suspicion; advertising, tracking and what a site may not want at all is counted and told
//! by nobody here (the sinkhole acts on it). A pair of host and listed name is told once a day.

use std::{net::IpAddr, sync::Arc};

use hookprobe_behaviour::{
    finding::{Finding, Weight},
    observation::{Connection, DAY_NS, Observation, Service, TimeNs},
};
use hookprobe_reputation::{Reputation, format::Category, names::Verdict, suffix};
use sha2::{Digest as _, Sha256};

use crate::core::table::Table;

/// Name in findings.
const DETECTOR: &str = "name.listed";
/// Pairs of host and name that were told within a day; the oldest is forgotten and told again.
const TOLD_MAX: usize = 4096;
/// Longest name in a summary, in characters.
const NAME_CHARS_MAX: usize = 80;

/// Looks names up.
#[derive(Debug)]
pub(super) struct Names {
    lists: Arc<Reputation>,
    /// Since when a host's use of a registered domain is known.
    told: Table<(IpAddr, [u8; 32]), TimeNs>,
    lookups: u64,
    listed: u64,
    unwanted: u64,
}

impl Names {
    /// With these lists.
    #[must_use]
    pub(super) fn new(lists: Arc<Reputation>) -> Self {
        Self { lists, told: Table::new(TOLD_MAX), lookups: 0, listed: 0, unwanted: 0 }
    }

    /// Other lists; the old ones are given back.
    pub(super) fn set(&mut self, lists: Arc<Reputation>) -> Arc<Reputation> {
        std::mem::replace(&mut self.lists, lists)
    }

    /// Takes a fact that has a name in it.
    pub(super) fn handle(
        &mut self,
        now_ns: TimeNs,
        fact: &Observation<'_>,
        out: &mut Vec<Finding>,
    ) {
        if self.lists.names.is_none() {
            return;
        }
        match fact {
            Observation::Dns(message) if message.response_code.is_none() => {
                self.look(now_ns, message.client, message.server, message.name, "asks for", out);
            }
            Observation::TlsHello(hello) => {
                if let Some(name) = hello.server_name {
                    self.look(now_ns, hello.client, hello.server, name.as_bytes(), "calls", out);
                }
            }
            Observation::Ended(Connection {
                service: Service::Http,
                server_name: Some(name),
                source,
                destination,
                ..
            }) => {
                self.look(now_ns, *source, *destination, name.as_bytes(), "opens", out);
            }
            _ => {}
        }
    }

    fn look(
        &mut self,
        now_ns: TimeNs,
        client: IpAddr,
        server: IpAddr,
        name: &[u8],
        verb: &str,
        out: &mut Vec<Finding>,
    ) {
        self.lookups += 1;
        let Verdict::Listed { list, labels } = self.lists.lookup(name) else { return };
        self.listed += 1;
        let Some(technique) = technique(list.category) else {
            self.unwanted += 1;
            return;
        };
        let (category, list_name) = (list.category, list.name.clone());
        let domain = suffix::registered_domain(name).unwrap_or(name).to_ascii_lowercase();
        let key = (client, Sha256::digest(domain).into());
        if self.told.get(&key).is_some_and(|at_ns| now_ns.saturating_sub(*at_ns) < DAY_NS) {
            return;
        }
        self.told.remove(&key);
        self.told.insert(key, now_ns);
        let text = hookprobe_wire::text::escape(&String::from_utf8_lossy(name), NAME_CHARS_MAX);
        let summary = format!("{client} {verb} {text}: {} by list {list_name}", category.label());
        out.push(
            Finding::new(DETECTOR, technique, Weight::Suspicion, client, summary)
                .against(Some(server), None)
                .about(text)
                .because(vec![("labels_listed", u64::from(labels))])
                .during(now_ns, now_ns),
        );
    }

    /// Named counters since the start.
    #[must_use]
    pub(super) fn counters(&self) -> [(&'static str, u64); 4] {
        let names = self.lists.names.as_ref().map_or(0, |names| names.len() as u64);
        [
            ("names_loaded", names),
            ("names_looked_up", self.lookups),
            ("names_listed", self.listed),
            ("names_unwanted", self.unwanted),
        ]
    }
}

/// MITRE ATT&CK's technique; none for what harms nobody.
fn technique(category: Category) -> Option<&'static str> {
    match category {
        Category::Malware | Category::CommandAndControl => Some("T1071"),
        Category::Phishing => Some("T1566"),
        Category::Mining => Some("T1496"),
        Category::Other
        | Category::Advertising
        | Category::Tracking
        | Category::Adult
        | Category::Gambling
        | Category::Bypass => None,
    }
}
