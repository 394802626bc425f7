//! Fragments to packets, with the overlap policies of the systems that receive them.
//!
//! Each packet under construction is a list of fragments in order of their offset. A new one is cut,
//! cuts others, or is dropped, by the policy of the receiver (Shankar and Paxson, "Active Mapping",
//! 2003; Novak, "Target-Based Fragmentation Reassembly", 2005), exactly where Suricata does it.
//!
//! What must never happen here: more memory than the cap, a rebuilt packet longer than 65,535 bytes.
//! Caller: `engine`.

mod overlap;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use crate::{
    config::{self, Policy},
    counters::Counters,
    event::Event,
    hash::Seed,
    packet::{Ip, Packet},
};

/// The longest packet that an IPv4 header can state.
const PACKET_BYTES_MAX: usize = 65_535;
/// What a fragment costs beside its bytes.
const FRAGMENT_OVERHEAD_BYTES: usize = size_of::<Fragment>();
/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER_BYTES: usize = 8;

/// Which packet a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    /// IPv4 only: identifiers count for each protocol.
    protocol: u8,
    vlans: [u16; 3],
    depth: u8,
}

/// A part of a packet.
#[derive(Debug)]
struct Fragment {
    /// Where its bytes begin.
    start: usize,
    bytes: Vec<u8>,
    /// So many bytes at its front are another's.
    cut: usize,
    has_more: bool,
}

/// A packet under construction.
#[derive(Debug)]
struct Tracker {
    policy: Policy,
    last_ns: u64,
    /// Its place in the queue of the oldest is current if this agrees.
    serial: u64,
    has_last: bool,
    /// The header of the first fragment, without the fragment header of IPv6.
    header: Vec<u8>,
    fragments: Vec<Fragment>,
}

/// All packets under construction.
#[derive(Debug)]
pub struct Defragmenter {
    trackers: HashMap<Key, Tracker, Seed>,
    /// Oldest first, with serials; stale entries are skipped.
    order: VecDeque<(Key, u64)>,
    serial: u64,
    bytes: usize,
}

impl Defragmenter {
    /// None yet. `seed` keys the hash table.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            trackers: HashMap::with_hasher(Seed(seed)),
            order: VecDeque::new(),
            serial: 0,
            bytes: 0,
        }
    }

    /// Bytes that are held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets under construction.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trackers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// Takes the fragment `packet`; gives the whole packet if it was the last that was missing.
    /// Events are noted in `packet`.
    pub fn take(
        &mut self,
        packet: &mut Packet<'_>,
        policy: Policy,
        settings: &config::Defrag,
        counters: &mut Counters,
    ) -> Option<Vec<u8>> {
        let ip = packet.ip.filter(Ip::is_fragment)?;
        counters.fragments += 1;
        let is_v6 = ip.source.is_ipv6();
        let start = usize::from(ip.fragment_offset);
        let header_bytes = if is_v6 { 0 } else { 20 };
        if header_bytes + start + ip.payload.len() > PACKET_BYTES_MAX {
            let event = if is_v6 { Event::Ipv6FragPktTooLarge } else { Event::Ipv4FragPktTooLarge };
            packet.events.set(event);
            counters.defrag_dropped += 1;
            return None;
        }
        let key = Key {
            source: ip.source,
            destination: ip.destination,
            id: ip.id,
            protocol: if is_v6 { 0 } else { ip.protocol },
            vlans: packet.vlans.ids,
            depth: packet.tunnel_depth,
        };
        self.expire(packet.time_ns, settings, counters);
        let cost = ip.payload.len() + FRAGMENT_OVERHEAD_BYTES;
        self.make_room(&key, cost, settings, counters);
        let Some(tracker) = self.tracker(key, policy, packet.time_ns, settings) else {
            counters.defrag_dropped += 1;
            return None;
        };
        if tracker.fragments.len() >= usize::from(settings.fragments_max) {
            let event = if is_v6 { Event::Ipv6FragIgnored } else { Event::Ipv4FragIgnored };
            packet.events.set(event);
            counters.defrag_dropped += 1;
            self.remove(&key);
            return None;
        }
        let before = tracker.held_bytes();
        let is_overlap = tracker.insert(&ip);
        let after = tracker.held_bytes();
        let whole = tracker.has_last.then(|| tracker.rebuild(is_v6)).flatten();
        self.bytes = (self.bytes + after).saturating_sub(before);
        if is_overlap {
            let event = if is_v6 { Event::Ipv6FragOverlap } else { Event::Ipv4FragOverlap };
            packet.events.set(event);
        }
        if whole.is_some() {
            self.remove(&key);
            counters.rebuilt += 1;
        }
        whole
    }

    /// Gives up packets whose fragments did not come in time.
    pub fn expire(&mut self, now_ns: u64, settings: &config::Defrag, counters: &mut Counters) {
        while let Some((key, serial)) = self.order.front().copied() {
            match self.trackers.get(&key).filter(|tracker| tracker.serial == serial) {
                Some(tracker) => {
                    if now_ns.saturating_sub(tracker.last_ns) < settings.timeout_ns {
                        return;
                    }
                    counters.defrag_timeouts += 1;
                    self.remove(&key);
                }
                None => {
                    self.order.pop_front();
                }
            }
        }
    }

    /// The oldest go until `cost` more bytes fit, and a packet more if `key` is new.
    fn make_room(
        &mut self,
        key: &Key,
        cost: usize,
        settings: &config::Defrag,
        counters: &mut Counters,
    ) {
        let extra = usize::from(!self.trackers.contains_key(key));
        while self.trackers.len() + extra > settings.packets_max as usize
            || self.bytes + cost > settings.bytes_max
        {
            let Some((oldest, serial)) = self.order.pop_front() else { return };
            if self.trackers.get(&oldest).is_some_and(|tracker| tracker.serial == serial) {
                counters.defrag_evicted += 1;
                self.remove(&oldest);
            }
        }
    }

    fn tracker(
        &mut self,
        key: Key,
        policy: Policy,
        now_ns: u64,
        settings: &config::Defrag,
    ) -> Option<&mut Tracker> {
        if settings.packets_max == 0 {
            return None;
        }
        self.serial += 1;
        let serial = self.serial;
        self.order.push_back((key, serial));
        // Entries of trackers that were touched since are stale: they may not pile up.
        if self.order.len() > 2 * self.trackers.len() + 64 {
            let trackers = &self.trackers;
            self.order.retain(|(key, at)| {
                *at == serial || trackers.get(key).is_some_and(|tracker| tracker.serial == *at)
            });
        }
        let tracker = self.trackers.entry(key).or_insert_with(|| Tracker {
            policy,
            last_ns: now_ns,
            serial,
            has_last: false,
            header: Vec::new(),
            fragments: Vec::new(),
        });
        tracker.last_ns = now_ns;
        tracker.serial = serial;
        Some(tracker)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(tracker) = self.trackers.remove(key) {
            self.bytes = self.bytes.saturating_sub(tracker.held_bytes());
        }
    }
}

impl Tracker {
    fn held_bytes(&self) -> usize {
        let bytes: usize = self.fragments.iter().map(|fragment| fragment.bytes.len()).sum();
        bytes + self.fragments.len() * FRAGMENT_OVERHEAD_BYTES + self.header.len()
    }

    /// Whether it overlapped another.
    fn insert(&mut self, ip: &Ip<'_>) -> bool {
        let start = usize::from(ip.fragment_offset);
        let new = start..start + ip.payload.len();
        let is_overlap =
            self.fragments.iter().any(|old| new.start < old.end() && old.start < new.end);
        let Some(cut) = overlap::resolve(self.policy, &mut self.fragments, &new) else {
            return is_overlap;
        };
        self.fragments.retain(|old| old.cut < old.bytes.len());
        if cut >= ip.payload.len() {
            return is_overlap;
        }
        if start == 0 && cut == 0 {
            self.header = header_of(ip);
        }
        let fragment = Fragment {
            start: start + cut,
            bytes: ip.payload.get(cut..).unwrap_or_default().to_vec(),
            cut: 0,
            has_more: ip.has_more_fragments(),
        };
        let at = self.fragments.partition_point(|old| old.start <= fragment.start);
        self.fragments.insert(at, fragment);
        self.has_last |= !ip.has_more_fragments();
        is_overlap
    }

    /// The packet, if nothing is missing.
    fn rebuild(&self, is_v6: bool) -> Option<Vec<u8>> {
        let mut reach = 0;
        for fragment in &self.fragments {
            if fragment.start > reach {
                return None;
            }
            reach = reach.max(fragment.end());
        }
        if self.fragments.is_empty() || self.header.is_empty() {
            return None;
        }
        let mut packet = self.header.clone();
        let header_bytes = packet.len();
        let (mut has_more, mut last_start) = (true, 0);
        for fragment in &self.fragments {
            if !has_more && fragment.start > last_start {
                break;
            }
            let (from, to) = (fragment.start + fragment.cut, fragment.end());
            let place = header_bytes + from..header_bytes + to;
            if packet.len() < place.end {
                packet.resize(place.end, 0);
            }
            if let (Some(place), Some(bytes)) =
                (packet.get_mut(place), fragment.bytes.get(fragment.cut..))
            {
                place.copy_from_slice(bytes);
            }
            (has_more, last_start) = (fragment.has_more, fragment.start);
        }
        set_length(&mut packet, header_bytes, is_v6)?;
        Some(packet)
    }
}

impl Fragment {
    const fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// The header of the packet, as if it had never been cut.
fn header_of(ip: &Ip<'_>) -> Vec<u8> {
    let mut header = ip.header.to_vec();
    if ip.source.is_ipv4() {
        if let Some(fields) = header.get_mut(6..8) {
            fields.copy_from_slice(&[0, 0]);
        }
        return header;
    }
    header.truncate(header.len().saturating_sub(FRAGMENT_HEADER_BYTES));
    // The header before the fragment header now names what came behind that.
    let mut at = 6;
    let mut next = 40;
    while let Some(length) = header.get(next + 1).filter(|_| next < header.len()) {
        at = next;
        next += 8 + usize::from(*length) * 8;
    }
    if let Some(place) = header.get_mut(at) {
        *place = ip.protocol;
    }
    header
}

/// States the new length, and a checksum that is right.
fn set_length(packet: &mut [u8], header_bytes: usize, is_v6: bool) -> Option<()> {
    if is_v6 {
        let length = u16::try_from(packet.len().checked_sub(40)?).ok()?;
        packet.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
        return Some(());
    }
    let length = u16::try_from(packet.len()).ok()?;
    packet.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
    packet.get_mut(10..12)?.copy_from_slice(&[0, 0]);
    let sum = crate::checksum::sum(&[packet.get(..header_bytes)?]);
    packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}
