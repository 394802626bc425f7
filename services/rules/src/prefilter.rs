//! The prefilter: one search for each buffer says which rules may match, all others are not looked at.
//!
//! A rule is found by one of its contents, the longest that is not negated unless it says which. What
//! the search says is only a hint: everything is checked again in full.

use std::collections::{BTreeMap, HashMap};

use hookprobe_traffic::{Direction, app::Proto, packet::Transport};

use crate::{
    buffer::Buffer,
    candidates::Candidates,
    chain::{Content, Fast, Op, Value},
    lists::Lists,
    literals::{Literals, Seen},
    rule::{AppName, Hook, Look, Rule, Test, Transports},
};

/// How good a content is for the prefilter; `None`: not at all.
pub(crate) fn rank(content: &Content) -> Option<(bool, usize)> {
    let is_chosen = content.fast != Fast::Maybe;
    if content.is_negated || content.pattern.is_empty() {
        return None;
    }
    Some((is_chosen, content.pattern.len()))
}

/// Bytes at the beginning in which contents are looked for that can't be behind them.
const HEAD_BYTES_MAX: usize = 64;

/// What is looked for in one kind of data.
#[derive(Debug)]
pub(crate) struct Search {
    whole: Option<Part>,
    /// In the first [`HEAD_BYTES_MAX`] bytes only.
    head: Option<Part>,
    /// Length of the longest pattern of `whole`.
    pattern_bytes_max: usize,
}

/// Patterns and their rules.
#[derive(Debug)]
struct Part {
    literals: Literals,
    /// Of each pattern.
    rules: Lists<u32>,
    /// Number of its first pattern among those of all searches.
    first: u32,
}

/// What is gathered before a search is built.
#[derive(Debug, Default)]
struct Patterns {
    whole: HashMap<Vec<u8>, Vec<u32>>,
    head: HashMap<Vec<u8>, Vec<u32>>,
}

impl Patterns {
    fn add(&mut self, content: &Content, rule: u32) {
        let is_in_head = reach(content).is_some_and(|bytes| bytes <= HEAD_BYTES_MAX);
        let patterns = if is_in_head { &mut self.head } else { &mut self.whole };
        patterns.entry(bytes(content).to_ascii_lowercase()).or_default().push(rule);
    }

    /// `count` is that of the patterns of all searches before.
    fn build(self, count: &mut u32) -> Option<Search> {
        let pattern_bytes_max = self.whole.keys().map(Vec::len).max().unwrap_or(0);
        let (whole, head) = (Part::new(self.whole, count), Part::new(self.head, count));
        let is_any = whole.is_some() || head.is_some();
        is_any.then_some(Search { whole, head, pattern_bytes_max })
    }
}

impl Part {
    fn new(by_bytes: HashMap<Vec<u8>, Vec<u32>>, count: &mut u32) -> Option<Self> {
        if by_bytes.is_empty() {
            return None;
        }
        let mut patterns: Vec<(Vec<u8>, Vec<u32>)> = by_bytes.into_iter().collect();
        patterns.sort_unstable();
        let (patterns, rules): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let first = *count;
        *count = count.saturating_add(u32::try_from(patterns.len()).unwrap_or(u32::MAX));
        let rules = Lists::new(&rules);
        Some(Self { literals: Literals::new(patterns), rules, first })
    }

    fn find(&self, data: &[u8], out: &mut Candidates) {
        self.literals.find(data, &mut Found { part: self, out });
    }
}

impl Search {
    /// Adds the rules whose pattern occurs in `data`.
    pub(crate) fn find(&self, data: &[u8], out: &mut Candidates) {
        if let Some(whole) = &self.whole {
            whole.find(data, out);
        }
        if let Some(head) = &self.head {
            head.find(data.get(..HEAD_BYTES_MAX).unwrap_or(data), out);
        }
    }

    /// The same for data whose first `known` bytes were searched before: `rest` is what may hold more,
    /// transformed where that is done.
    pub(crate) fn find_behind(&self, data: &[u8], known: usize, rest: &[u8], out: &mut Candidates) {
        if let Some(whole) = &self.whole {
            whole.find(rest, out);
        }
        if let Some(head) = self.head.as_ref().filter(|_| known < HEAD_BYTES_MAX) {
            head.find(data.get(..HEAD_BYTES_MAX).unwrap_or(data), out);
        }
    }

    /// Adds the rules of a pattern that was found before, by its number among those of all searches.
    pub(crate) fn found_before(&self, pattern: u32, out: &mut Candidates) {
        for part in [&self.whole, &self.head].into_iter().flatten() {
            let own = pattern.checked_sub(part.first);
            if let Some(own) = own.filter(|own| part.rules.len() > *own as usize) {
                Found { part, out }.found(own);
            }
        }
    }

    /// Length of the longest pattern that may be anywhere.
    pub(crate) const fn pattern_bytes_max(&self) -> usize {
        self.pattern_bytes_max
    }

    /// Whether there are patterns that are only looked for at the beginning.
    pub(crate) const fn has_head(&self) -> bool {
        self.head.is_some()
    }
}

/// Takes what a search finds.
struct Found<'f> {
    part: &'f Part,
    out: &'f mut Candidates,
}

impl Seen for Found<'_> {
    fn is_known(&self, pattern: u32) -> bool {
        self.out.has_pattern(self.part.first.saturating_add(pattern))
    }

    fn found(&mut self, pattern: u32) {
        self.out.add_pattern(self.part.first.saturating_add(pattern));
        for rule in self.part.rules.get(pattern).unwrap_or_default() {
            self.out.add(*rule);
        }
    }
}

/// Kinds of packets whose rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Tcp,
    Udp,
    Icmp,
    /// Anything else, and what is not what its header says.
    Other,
}

impl Class {
    const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];

    pub(crate) const fn of(transport: &Transport) -> Self {
        match transport {
            Transport::Tcp(_) => Self::Tcp,
            Transport::Udp { .. } => Self::Udp,
            Transport::Icmp(_) | Transport::Icmp6(_) => Self::Icmp,
            _ => Self::Other,
        }
    }

    /// Whether a rule with these transports may match such a packet.
    const fn may_be(self, wanted: Transports) -> bool {
        wanted.is_any
            || wanted.is_frame
            || match self {
                Self::Tcp => wanted.is_tcp,
                Self::Udp => wanted.is_udp,
                Self::Icmp => wanted.is_icmp || wanted.is_icmp6,
                Self::Other => true,
            }
    }
}

/// Searches for rules without transactions. A segment of a stream is looked at for few rules, since
/// the stream is looked at anyway.
#[derive(Debug, Default)]
struct Payload {
    /// What the stream is looked at for, and segments outside of any stream.
    stream: Option<Search>,
    /// What each segment is looked at for.
    segment: Option<Search>,
    /// Everything but TCP.
    datagram: Option<Search>,
}

#[derive(Debug, Default)]
struct PayloadPatterns {
    stream: Patterns,
    segment: Patterns,
    datagram: Patterns,
}

impl PayloadPatterns {
    fn add(&mut self, content: &Content, rule: &Rule) {
        let wanted = rule.header.transports;
        let is_for_packets = !rule.only_stream;
        if Class::Tcp.may_be(wanted) {
            if rule.needs_stream {
                self.stream.add(content, rule.order);
            }
            if is_for_packets && (rule.needs_packet || !rule.needs_stream) {
                self.segment.add(content, rule.order);
            }
        }
        let is_tcp_only =
            Transports { is_tcp: true, version: wanted.version, ..Transports::default() };
        if is_for_packets && wanted != is_tcp_only {
            self.datagram.add(content, rule.order);
        }
    }

    fn build(self, count: &mut u32) -> Payload {
        Payload {
            stream: self.stream.build(count),
            segment: self.segment.build(count),
            datagram: self.datagram.build(count),
        }
    }
}

/// All searches of a ruleset, and the rules that none of them can find.
#[derive(Debug, Default)]
pub(crate) struct Prefilter {
    payload: Payload,
    /// Rules without transactions that have no content in the payload, by class.
    packet_always: [Always; Class::ALL.len()],
    /// By buffer and transforms; the first rule that has them lends its transforms.
    pub(crate) buffers: Vec<BufferSearch>,
    /// Which of them are in the transactions of a protocol.
    places: Vec<TxPlaces>,
    /// Rules for transactions that have no content in a buffer, and the protocol that they name.
    pub(crate) tx_always: Vec<(u32, Option<AppName>)>,
    /// Some rule is about a state of a transaction alone.
    pub(crate) has_states: bool,
    pub(crate) ip_only: Vec<u32>,
    /// Rules that run before the flow is known, and before its session has seen the packet.
    pub(crate) pre_flow: Vec<u32>,
    pub(crate) pre_stream: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct BufferSearch {
    pub(crate) buffer: Buffer,
    /// Rule and index of its match with these transforms.
    pub(crate) lender: (u32, usize),
    pub(crate) search: Option<Search>,
}

/// Searches in the transactions of one protocol in one direction.
#[derive(Debug)]
struct TxPlaces {
    kind: Proto,
    direction: Direction,
    /// From which progress on, and index in `Prefilter::buffers`.
    searches: Vec<(u8, usize)>,
}

/// Rules that no content finds.
#[derive(Debug, Default)]
pub(crate) struct Always {
    /// Those for events, which most packets have none of.
    pub(crate) events: Vec<Unfound>,
    pub(crate) others: Vec<Unfound>,
}

/// Rules that no content finds, and what says soonest that they do not match: asked once for all.
#[derive(Debug)]
pub(crate) struct Unfound {
    pub(crate) rules: Vec<u32>,
    pub(crate) app: Option<AppName>,
    /// One of their tests that is the same before and after other rules ran.
    pub(crate) test: Option<Test>,
}

pub(crate) fn best(ops: &[Op]) -> Option<&Content> {
    let contents = ops.iter().filter_map(|op| match op {
        Op::Content(content) => rank(content).map(|rank| (rank, content.as_ref())),
        _ => None,
    });
    contents.max_by_key(|(rank, _)| *rank).map(|(_, content)| content)
}

/// The bytes of the content that are searched.
fn bytes(content: &Content) -> &[u8] {
    match content.fast {
        Fast::Chop(from, count) => content
            .pattern
            .get(usize::from(from)..usize::from(from) + usize::from(count))
            .unwrap_or(&content.pattern),
        Fast::Maybe | Fast::Chosen | Fast::Only => &content.pattern,
    }
}

/// How many bytes at the beginning hold the content, wherever it matches; `None`: all may.
fn reach(content: &Content) -> Option<usize> {
    let is_relative = content.distance.is_some() || content.within.is_some();
    match (content.offset, content.depth) {
        (None | Some(Value::Number(_)), Some(Value::Number(depth))) if !is_relative => {
            usize::try_from(depth).ok()
        }
        _ => None,
    }
}

impl Prefilter {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut out = Self::default();
        let mut payload = PayloadPatterns::default();
        let mut buffers: BTreeMap<(Buffer, String), ((u32, usize), Patterns)> = BTreeMap::new();
        for rule in rules {
            let number = rule.order;
            if let Some(hook) = rule.hook {
                match hook {
                    Hook::PreFlow => out.pre_flow.push(number),
                    Hook::PreStream => out.pre_stream.push(number),
                }
            }
            out.has_states |= rule.is_about_state();
            if rule.kind == crate::rule::Kind::IpOnly {
                out.ip_only.push(number);
            } else if rule.engines.is_empty() {
                match best(&rule.payload) {
                    Some(content) => payload.add(content, rule),
                    None => out.add_always(rule),
                }
            } else {
                let index = rule.engines.iter().find_map(|engine| match engine.look {
                    Look::Buffer(index) if engine.is_prefiltered => Some(usize::from(index)),
                    _ => None,
                });
                let found = index.and_then(|index| {
                    let found = rule.buffers.get(index)?;
                    (!found.is_absent).then_some(())?;
                    Some((index, found, best(&found.ops)?))
                });
                match found {
                    Some((index, found, content)) => {
                        let key = (found.buffer, found.key.clone());
                        let entry = buffers
                            .entry(key)
                            .or_insert_with(|| ((number, index), Patterns::default()));
                        entry.1.add(content, number);
                    }
                    None => out.tx_always.push((number, rule.app)),
                }
            }
        }
        let mut count = 0;
        out.payload = payload.build(&mut count);
        for ((buffer, _), (lender, patterns)) in buffers {
            let search = patterns.build(&mut count);
            out.add_places(buffer);
            out.buffers.push(BufferSearch { buffer, lender, search });
        }
        out
    }

    /// Notes where the buffer that is added next exists.
    fn add_places(&mut self, buffer: Buffer) {
        let index = self.buffers.len();
        let places = crate::buffer::spec(buffer).map(|spec| spec.places).unwrap_or_default();
        for place in places {
            let (kind, direction) = (kind(place.proto), place.direction);
            let is_same = |known: &TxPlaces| (known.kind, known.direction) == (kind, direction);
            let at = self.places.iter().position(is_same).unwrap_or(self.places.len());
            if at == self.places.len() {
                self.places.push(TxPlaces { kind, direction, searches: Vec::new() });
            }
            let search = (place.progress, index);
            if let Some(known) = self.places.get_mut(at)
                && !known.searches.contains(&search)
            {
                known.searches.push(search);
            }
        }
    }

    /// Searches for the transactions of `proto` that have gone from progress `from` to `to`, each with
    /// its number.
    pub(crate) fn in_tx(
        &self,
        proto: Proto,
        direction: Direction,
        (from, to): (u8, u8),
    ) -> impl Iterator<Item = (u32, &BufferSearch)> {
        let kind = kind(proto);
        let is_here = move |known: &&TxPlaces| (known.kind, known.direction) == (kind, direction);
        let searches = self.places.iter().find(is_here).into_iter().flat_map(|at| &at.searches);
        let due = searches.filter(move |(progress, _)| (from..=to).contains(progress));
        due.filter_map(|(_, index)| Some((u32::try_from(*index).ok()?, self.buffers.get(*index)?)))
    }

    fn add_always(&mut self, rule: &Rule) {
        let is_lasting = |test: &&Test| !test.is_of_state();
        let test = rule.tests.iter().filter(is_lasting).min_by_key(|test| test.weight());
        for (class, rules) in Class::ALL.into_iter().zip(&mut self.packet_always) {
            if class.may_be(rule.header.transports) {
                let list = match test {
                    Some(Test::Event(_)) => &mut rules.events,
                    _ => &mut rules.others,
                };
                let is_same =
                    |known: &&mut Unfound| (known.app, known.test.as_ref()) == (rule.app, test);
                match list.iter_mut().find(is_same) {
                    Some(known) => known.rules.push(rule.order),
                    None => list.push(Unfound {
                        rules: vec![rule.order],
                        app: rule.app,
                        test: test.cloned(),
                    }),
                }
            }
        }
    }

    /// Rules without transactions that have no content in the payload and may match this class.
    pub(crate) fn packet_always(&self, class: Class) -> Option<&Always> {
        let rules = Class::ALL.into_iter().zip(&self.packet_always);
        rules.filter(|(known, _)| *known == class).map(|(_, rules)| rules).next()
    }

    /// Adds the rules whose content is in the payload of a packet.
    pub(crate) fn in_payload(
        &self,
        class: Class,
        is_in_stream: bool,
        data: &[u8],
        out: &mut Candidates,
    ) {
        if data.is_empty() {
            return;
        }
        let Payload { stream, segment, datagram } = &self.payload;
        let (is_tcp, is_other) = (class == Class::Tcp, class == Class::Other);
        for (search, is_wanted) in [
            (segment, is_tcp || is_other),
            (stream, is_other || (is_tcp && !is_in_stream)),
            (datagram, !is_tcp),
        ] {
            if let (Some(search), true) = (search, is_wanted) {
                search.find(data, out);
            }
        }
    }

    /// Adds the rules whose content is in a piece of a stream.
    pub(crate) fn in_stream(&self, data: &[u8], out: &mut Candidates) {
        if let Some(search) = &self.payload.stream {
            search.find(data, out);
        }
    }
}

/// Multicast DNS has the transactions of DNS.
const fn kind(proto: Proto) -> Proto {
    match proto {
        Proto::Mdns => Proto::Dns,
        other => other,
    }
}

#[cfg(test)]
mod tests;
