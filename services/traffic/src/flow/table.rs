//! The flow table: a hash index over dense slots, and a list for each timeout.
//!
//! Entries live in chunks, so that growth moves nothing and a slot is an address for life. The index is
//! open addressing over 8 bytes an entry, keyed by the seed. Each timeout has a list in order of the
//! last packet, so the next flow to expire is always at a head, and so is the one to evict.

use std::hash::{BuildHasher, Hasher};

use super::{Flow, Key, State, key::bits};
use crate::{Direction, config, hash::Seed};

/// Entries of a chunk.
const CHUNK: usize = 256;
/// No slot.
const NONE: u32 = u32::MAX;
/// Lists: three states of four kinds of flows, and those that only wait for Zeek's timers, TCP apart:
/// it waits longer, and the head of a list is the only one that is looked at.
const LISTS: usize = 14;
/// The last two lists.
const LINGER: usize = 12;
/// How full the index gets before it doubles, in sixteenths: places that are tried one after the other
/// are in the same or the next cache line, and twice the index is a megabyte for 100,000 flows.
const FULL_SIXTEENTHS: usize = 13;

/// A flow and its place in a list.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) flow: Flow,
    /// It ended for Suricata; only its connection in Zeek's sense is still open.
    pub(crate) is_ended: bool,
    hash: u32,
    list: u8,
    before: u32,
    after: u32,
}

/// With a session (168 bytes), the application layer and the index, 100,000 established flows
/// stay below 80 MB.
const _: () = assert!(size_of::<Entry>() <= 376);

/// First and last of a list.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

/// All flows.
#[derive(Debug)]
pub(crate) struct Table {
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<u32>,
    /// Hash and slot.
    index: Vec<(u32, u32)>,
    count: usize,
    lists: [List; LISTS],
    seed: Seed,
}

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            index: vec![(0, NONE); 1024],
            count: 0,
            lists: [List { first: NONE, last: NONE }; LISTS],
            seed: Seed(seed),
        }
    }

    /// Entries, those that linger included.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// An upper bound of slots.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(NONE)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Entry> {
        let (chunk, at) = place(slot);
        self.chunks.get(chunk)?.get(at)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let (chunk, at) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at)?.as_mut()
    }

    /// The same for both directions.
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        let (client, server) = (bits(key.client), bits(key.server));
        let own = (client, key.client_port);
        let other = (server, key.server_port);
        let (low, high) = if own <= other { (own, other) } else { (other, own) };
        let mut hasher = self.seed.build_hasher();
        for (address, port) in [low, high] {
            hasher.write_u64((address >> 64) as u64);
            hasher.write_u64(address as u64 ^ (u64::from(port) << 40));
        }
        let [v0, v1, v2] = key.vlans.map(u64::from);
        let rest = u64::from(key.protocol) | u64::from(key.tunnel_depth) << 8;
        hasher.write_u64(rest | v0 << 16 | v1 << 32 | v2 << 48);
        hasher.finish() as u32
    }

    /// The slot of a flow with this key, and which way `key` goes in it.
    pub(crate) fn find(&self, key: &Key, hash: u32) -> Option<(u32, Direction)> {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (tag, slot) = *self.index.get(at)?;
            if slot == NONE {
                return None;
            }
            if tag == hash
                && let Some(entry) = self.get(slot)
            {
                if entry.flow.key == *key {
                    return Some((slot, Direction::ToServer));
                }
                if entry.flow.key == key.reversed() {
                    return Some((slot, Direction::ToClient));
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a flow; its slot is set here.
    pub(crate) fn insert(&mut self, mut flow: Flow, hash: u32) -> u32 {
        if (self.count + 1) * 16 > self.index.len() * FULL_SIXTEENTHS {
            self.grow();
        }
        let slot = self.free.pop().unwrap_or_else(|| self.add_slot());
        flow.slot = slot;
        let entry = Entry { flow, is_ended: false, hash, list: 0, before: NONE, after: NONE };
        let (chunk, at) = place(slot);
        if let Some(free) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(at)) {
            *free = Some(entry);
        }
        self.count += 1;
        index_insert(&mut self.index, hash, slot);
        self.append(slot);
        slot
    }

    fn add_slot(&mut self) -> u32 {
        let first = self.chunks.len() * CHUNK;
        let mut chunk = Vec::with_capacity(CHUNK);
        chunk.resize_with(CHUNK, || None);
        self.chunks.push(chunk);
        // The lowest is used first: slots stay dense.
        let slots = first..first + CHUNK;
        self.free.extend(slots.rev().filter_map(|slot| u32::try_from(slot).ok()));
        self.free.pop().unwrap_or(NONE)
    }

    fn grow(&mut self) {
        let mut index = vec![(0, NONE); self.index.len() * 2];
        for (hash, slot) in self.index.iter().filter(|(_, slot)| *slot != NONE) {
            index_insert(&mut index, *hash, *slot);
        }
        self.index = index;
    }

    /// Takes a flow out.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Entry> {
        self.unlink(slot);
        let (chunk, at) = place(slot);
        let entry = self.chunks.get_mut(chunk)?.get_mut(at)?.take()?;
        self.count -= 1;
        self.free.push(slot);
        self.index_remove(entry.hash, slot);
        Some(entry)
    }

    /// Closes the hole: what was pushed behind it moves up.
    fn index_remove(&mut self, hash: u32, slot: u32) {
        let mask = self.index.len() - 1;
        let mut hole = hash as usize & mask;
        while self.index.get(hole).is_some_and(|(_, other)| *other != slot && *other != NONE) {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some((tag, other)) = self.index.get(at).copied() else { return };
            if other == NONE {
                break;
            }
            let home = tag as usize & mask;
            let is_movable = (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask);
            if is_movable {
                if let Some(place) = self.index.get_mut(hole) {
                    *place = (tag, other);
                }
                hole = at;
            }
        }
        if let Some(place) = self.index.get_mut(hole) {
            *place = (0, NONE);
        }
    }

    /// Puts a flow at the end of the list of its state: a packet came, or its state changed.
    pub(crate) fn touch(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        let list = list_of(entry);
        let is_last = usize::from(entry.list) == list && entry.after == NONE;
        if !is_last {
            self.unlink(slot);
            self.append(slot);
        }
    }

    fn append(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        let list = list_of(entry);
        let Some(ends) = self.lists.get_mut(list) else { return };
        let last = ends.last;
        ends.last = slot;
        if last == NONE {
            ends.first = slot;
        } else if let Some(before) = self.get_mut(last) {
            before.after = slot;
        }
        if let Some(entry) = self.get_mut(slot) {
            entry.list = list as u8;
            entry.before = last;
            entry.after = NONE;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        let (before, after, list) = (entry.before, entry.after, usize::from(entry.list));
        if let Some(entry) = self.get_mut(before) {
            entry.after = after;
        } else if let Some(ends) = self.lists.get_mut(list) {
            ends.first = after;
        }
        if let Some(entry) = self.get_mut(after) {
            entry.before = before;
        } else if let Some(ends) = self.lists.get_mut(list) {
            ends.last = before;
        }
    }

    /// The first of a list whose time has come.
    pub(crate) fn expired(&self, now_ns: u64, settings: &config::Flow) -> Option<u32> {
        self.lists.iter().enumerate().find_map(|(list, ends)| {
            let entry = self.get(ends.first)?;
            let is_over = if list >= LINGER {
                entry.flow.zeek.is_over(now_ns)
            } else {
                is_timed_out(&entry.flow, now_ns, settings)
            };
            is_over.then_some(ends.first)
        })
    }

    /// Whose turn it is if the table is full: those that only linger, then the longest idle.
    pub(crate) fn oldest(&self) -> Option<u32> {
        let (followed, lingering) = self.lists.split_at(LINGER);
        let first_of = |lists: &[List]| {
            let firsts = lists.iter().filter_map(|ends| self.get(ends.first));
            firsts.min_by_key(|entry| entry.flow.last_ns).map(|entry| entry.flow.slot)
        };
        first_of(lingering).or_else(|| first_of(followed))
    }

    /// All slots whose bytes are followed, the longest idle first: the lists are in that order already.
    pub(crate) fn by_idleness(&self) -> Vec<u32> {
        let mut heads = self.lists;
        let mut out = Vec::with_capacity(self.count);
        let followed = heads.get_mut(..LINGER).unwrap_or_default();
        loop {
            let next = followed.iter_mut().filter_map(|list| {
                let entry = self.get(list.first)?;
                Some((entry.flow.last_ns, entry, list))
            });
            let Some((_, entry, list)) = next.min_by_key(|(last_ns, ..)| *last_ns) else {
                return out;
            };
            out.push(entry.flow.slot);
            list.first = entry.after;
        }
    }

    /// All slots, oldest flow first.
    pub(crate) fn by_age(&self) -> Vec<u32> {
        let mut all: Vec<_> = self
            .chunks
            .iter()
            .flatten()
            .flatten()
            .map(|entry| (entry.flow.id, entry.flow.slot))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, slot)| slot).collect()
    }
}

/// After how long without a packet it ends.
pub(crate) fn is_timed_out(flow: &Flow, now_ns: u64, settings: &config::Flow) -> bool {
    let timeouts = match flow.key.protocol {
        6 => settings.tcp,
        17 => settings.udp,
        1 | 58 => settings.icmp,
        _ => settings.other,
    };
    let timeout_ns = match flow.state {
        State::New => timeouts.new_ns,
        State::Established => timeouts.established_ns,
        State::Closed => timeouts.closed_ns,
    };
    now_ns.saturating_sub(flow.last_ns) >= timeout_ns.max(1)
}

fn list_of(entry: &Entry) -> usize {
    if entry.is_ended {
        return LINGER + usize::from(entry.flow.key.protocol != 6);
    }
    let kind = match entry.flow.key.protocol {
        6 => 0,
        17 => 1,
        1 | 58 => 2,
        _ => 3,
    };
    kind * 3 + entry.flow.state as usize
}

const fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

fn index_insert(index: &mut [(u32, u32)], hash: u32, slot: u32) {
    let mask = index.len() - 1;
    let mut at = hash as usize & mask;
    // The index is never full: there is a free place.
    while let Some(place) = index.get_mut(at) {
        if place.1 == NONE {
            *place = (hash, slot);
            return;
        }
        at = (at + 1) & mask;
    }
}
