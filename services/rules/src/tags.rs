//! `tag`: packets that follow an alert, of its session or of a host, until so many packets, bytes or
//! seconds have gone by.
//!
//! The packet of the alert is not counted among those that are told, as it has its alert. Tables are
//! bounded: what does not fit is counted.

use std::{collections::HashMap, net::IpAddr};

/// Sessions, and hosts, that are tagged at the same time.
const TAGGED_MAX: usize = 4096;
/// Tags of one session or host.
const TAGS_MAX: usize = 50;
/// How often a tag starts over: what a rule that matches again and again costs has an end.
const RESTARTS_MAX: u8 = 10;
/// A host that was not seen for so long is forgotten when the table is full.
const IDLE_NS: u64 = 600 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;
/// Packets of a tag that says no number.
const PACKETS: u32 = 256;

/// What is tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Session,
    Source,
    Destination,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    Packets,
    Bytes,
    Seconds,
}

/// The keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) subject: Subject,
    pub(crate) metric: Metric,
    pub(crate) count: u32,
}

impl Tag {
    /// `session`, `host,10,packets,src`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (subject, count, metric, direction) = match parts.as_slice() {
            [subject] => (*subject, None, "packets", ""),
            [subject, count, metric] => (*subject, Some(*count), *metric, ""),
            [subject, count, metric, direction] => (*subject, Some(*count), *metric, *direction),
            _ => return None,
        };
        let subject = match (subject, direction) {
            ("session", "") => Subject::Session,
            ("host", "src") => Subject::Source,
            ("host", "" | "dst") => Subject::Destination,
            _ => return None,
        };
        let metric = match metric {
            "packets" => Metric::Packets,
            "bytes" => Metric::Bytes,
            "seconds" => Metric::Seconds,
            _ => return None,
        };
        let count = match count.map(str::parse::<u32>) {
            None | Some(Ok(0)) => PACKETS,
            Some(Ok(count)) => count,
            Some(Err(_)) => return None,
        };
        Some(Self { subject, metric, count })
    }
}

/// What there is to know of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now_ns: u64,
    pub(crate) flow: Option<u64>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Entry {
    rule: (u32, u32),
    tag: Tag,
    first_ns: u64,
    last_ns: u64,
    count: u64,
    restarts: u8,
    has_begun: bool,
}

/// All tags that are on.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    flows: HashMap<u64, Vec<Entry>>,
    hosts: HashMap<IpAddr, Vec<Entry>>,
    /// Tags that did not fit.
    pub(crate) dropped: u64,
}

impl Tags {
    /// A rule with a tag has alerted.
    pub(crate) fn add(&mut self, rule: (u32, u32), tag: Tag, seen: &Seen) {
        let Self { flows, hosts, dropped } = self;
        let entry = Entry {
            rule,
            tag,
            first_ns: seen.now_ns,
            last_ns: seen.now_ns,
            count: 0,
            restarts: 0,
            has_begun: false,
        };
        let host = match tag.subject {
            Subject::Session => {
                let Some(flow) = seen.flow else { return };
                *dropped += u64::from(!put(flows, flow, entry));
                return;
            }
            Subject::Source => seen.source,
            Subject::Destination => seen.destination,
        };
        if let Some(host) = host {
            if hosts.len() >= TAGGED_MAX && !hosts.contains_key(&host) {
                let is_idle = |entry: &Entry| seen.now_ns.saturating_sub(entry.last_ns) > IDLE_NS;
                hosts.retain(|_, entries| !entries.iter().all(is_idle));
            }
            *dropped += u64::from(!put(hosts, host, entry));
        }
    }

    /// Whether a packet belongs to what is tagged; counts it.
    pub(crate) fn is_tagged(&mut self, seen: &Seen) -> bool {
        let mut is_tagged = false;
        if let Some(flow) = seen.flow
            && !self.flows.is_empty()
        {
            is_tagged |= count(&mut self.flows, flow, seen);
        }
        if !self.hosts.is_empty() {
            for host in [seen.source, seen.destination].into_iter().flatten() {
                is_tagged |= count(&mut self.hosts, host, seen);
            }
        }
        is_tagged
    }

    /// A flow is gone.
    pub(crate) fn forget(&mut self, flow: u64) {
        if !self.flows.is_empty() {
            self.flows.remove(&flow);
        }
    }
}

/// Whether there was room.
fn put<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Vec<Entry>>, key: K, new: Entry) -> bool {
    if table.len() >= TAGGED_MAX && !table.contains_key(&key) {
        return false;
    }
    let entries = table.entry(key).or_default();
    if let Some(own) = entries.iter_mut().find(|own| own.rule == new.rule) {
        if own.restarts < RESTARTS_MAX {
            own.restarts += 1;
            (own.first_ns, own.count) = (new.first_ns, 0);
        }
        return true;
    }
    if entries.len() >= TAGS_MAX {
        return false;
    }
    entries.push(new);
    true
}

fn count<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Vec<Entry>>, key: K, seen: &Seen) -> bool {
    let Some(entries) = table.get_mut(&key) else { return false };
    let mut is_tagged = false;
    entries.retain_mut(|own| {
        own.last_ns = seen.now_ns;
        own.count += match own.tag.metric {
            Metric::Packets => 1,
            Metric::Bytes => seen.bytes,
            Metric::Seconds => 0,
        };
        if !std::mem::replace(&mut own.has_begun, true) {
            return true;
        }
        let whole = |ns: u64| ns / SECOND_NS;
        let gone = match own.tag.metric {
            Metric::Packets | Metric::Bytes => own.count,
            Metric::Seconds => whole(seen.now_ns).saturating_sub(whole(own.first_ns)),
        };
        let is_on = gone <= u64::from(own.tag.count);
        is_tagged |= is_on;
        is_on
    });
    if entries.is_empty() {
        table.remove(&key);
    }
    is_tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: u64, flow: u64, last: u8) -> Seen {
        Seen {
            now_ns: seconds * SECOND_NS,
            flow: Some(flow),
            source: Some(IpAddr::from([10, 0, 0, last])),
            destination: Some(IpAddr::from([10, 0, 1, 1])),
            bytes: 100,
        }
    }

    #[test]
    fn words() {
        let tag = |subject, metric, count| Some(Tag { subject, metric, count });
        assert_eq!(Tag::parse("session"), tag(Subject::Session, Metric::Packets, 256));
        assert_eq!(Tag::parse("session,10,bytes"), tag(Subject::Session, Metric::Bytes, 10));
        assert_eq!(Tag::parse("host, 5, seconds, src"), tag(Subject::Source, Metric::Seconds, 5));
        for wrong in ["", "host,src", "session,5,packets,src", "host,x,packets,src", "flow"] {
            assert_eq!(Tag::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn packets_behind_the_alert_of_a_session() {
        let mut tags = Tags::default();
        tags.add((1, 1), Tag::parse("session,3,packets").unwrap(), &seen(1, 7, 1));
        assert!(!tags.is_tagged(&seen(1, 7, 1)), "the alert's own");
        assert!(!tags.is_tagged(&seen(1, 8, 1)), "another session");
        assert!(tags.is_tagged(&seen(2, 7, 1)) && tags.is_tagged(&seen(3, 7, 1)));
        assert!(!tags.is_tagged(&seen(4, 7, 1)) && tags.flows.is_empty());
    }

    #[test]
    fn seconds_and_bytes_of_a_host() {
        let mut tags = Tags::default();
        tags.add((1, 1), Tag::parse("host,2,seconds,src").unwrap(), &seen(1, 7, 1));
        tags.add((1, 2), Tag::parse("host,250,bytes,dst").unwrap(), &seen(1, 7, 1));
        assert!(!tags.is_tagged(&seen(1, 7, 1)));
        assert!(tags.is_tagged(&seen(1, 8, 9)), "200 bytes to the destination");
        assert!(!tags.is_tagged(&seen(1, 9, 9)), "300 bytes");
        assert!(tags.is_tagged(&seen(3, 9, 1)) && !tags.is_tagged(&seen(4, 9, 1)));
    }

    #[test]
    fn tables_are_bounded() {
        let mut tags = Tags::default();
        let tag = Tag::parse("session").unwrap();
        for flow in 0..TAGGED_MAX as u64 + 5 {
            tags.add((1, 1), tag, &seen(1, flow, 1));
        }
        for sid in 0..60 {
            tags.add((1, sid), tag, &seen(1, 0, 1));
        }
        assert_eq!((tags.flows.len(), tags.flows[&0].len()), (TAGGED_MAX, TAGS_MAX));
        assert_eq!(tags.dropped, 5 + 10);
        tags.forget(0);
        assert!(!tags.flows.contains_key(&0));
    }
}
