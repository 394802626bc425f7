//! The prefilter: one automaton for each buffer says which rules may match, all others are not looked at.
//!
//! A rule is found by one of its contents, the longest that is not negated unless it says which. What
//! the automaton says is only a hint: everything is checked again in full.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use hookprobe_traffic::packet::Transport;

use crate::{
    buffer::Buffer,
    chain::{Content, Fast, Op},
    rule::{Look, Rule, Transports},
};

/// Bytes of patterns up to which an automaton is a table with one step for each byte: a state for
/// each byte of at most 1 KB, so 32 MB at worst and a third of that with letters only. Larger ones
/// are the compact form, which takes a few steps for each byte.
const TABLE_PATTERN_BYTES_MAX: usize = 32 * 1024;

/// How good a content is for the prefilter; `None`: not at all.
pub(crate) fn rank(content: &Content) -> Option<(bool, usize)> {
    let is_chosen = content.fast != Fast::Maybe;
    if content.is_negated || content.pattern.is_empty() {
        return None;
    }
    Some((is_chosen, content.pattern.len()))
}

/// One automaton and the rules of its patterns.
#[derive(Debug)]
pub(crate) struct Automaton {
    search: AhoCorasick,
    rules: Vec<Box<[u32]>>,
}

/// What is gathered before an automaton is built.
#[derive(Debug, Default)]
struct Patterns {
    by_bytes: HashMap<Vec<u8>, Vec<u32>>,
}

impl Patterns {
    fn add(&mut self, pattern: &[u8], rule: u32) {
        self.by_bytes.entry(pattern.to_ascii_lowercase()).or_default().push(rule);
    }

    fn build(self) -> Option<Automaton> {
        if self.by_bytes.is_empty() {
            return None;
        }
        let mut patterns: Vec<(Vec<u8>, Vec<u32>)> = self.by_bytes.into_iter().collect();
        patterns.sort_unstable();
        let (patterns, rules): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let bytes: usize = patterns.iter().map(Vec::len).sum();
        let kind = if bytes <= TABLE_PATTERN_BYTES_MAX {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(&patterns)
            .ok()?;
        let rules = rules.into_iter().map(Vec::into_boxed_slice).collect();
        Some(Automaton { search, rules })
    }
}

impl Automaton {
    /// Adds the rules whose pattern occurs in `data`.
    pub(crate) fn find(&self, data: &[u8], out: &mut Vec<u32>) {
        for found in self.search.find_overlapping_iter(data) {
            if let Some(rules) = self.rules.get(found.pattern().as_usize()) {
                out.extend_from_slice(rules);
            }
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

/// Automata for rules without transactions. A segment of a stream is looked at for few rules, since
/// the stream is looked at anyway.
#[derive(Debug, Default)]
struct Payload {
    /// What the stream is looked at for, and segments outside of any stream.
    stream: Option<Automaton>,
    /// What each segment is looked at for.
    segment: Option<Automaton>,
    /// Everything but TCP.
    datagram: Option<Automaton>,
}

#[derive(Debug, Default)]
struct PayloadPatterns {
    stream: Patterns,
    segment: Patterns,
    datagram: Patterns,
}

impl PayloadPatterns {
    fn add(&mut self, pattern: &[u8], rule: &Rule) {
        let wanted = rule.header.transports;
        let is_for_packets = !rule.only_stream;
        if Class::Tcp.may_be(wanted) {
            if rule.needs_stream {
                self.stream.add(pattern, rule.order);
            }
            if is_for_packets && (rule.needs_packet || !rule.needs_stream) {
                self.segment.add(pattern, rule.order);
            }
        }
        let is_tcp_only =
            Transports { is_tcp: true, version: wanted.version, ..Transports::default() };
        if is_for_packets && wanted != is_tcp_only {
            self.datagram.add(pattern, rule.order);
        }
    }

    fn build(self) -> Payload {
        Payload {
            stream: self.stream.build(),
            segment: self.segment.build(),
            datagram: self.datagram.build(),
        }
    }
}

/// All automata of a ruleset, and the rules that none of them can find.
#[derive(Debug, Default)]
pub(crate) struct Prefilter {
    payload: Payload,
    /// Rules without transactions that have no content in the payload, by class.
    packet_always: [Vec<u32>; Class::ALL.len()],
    /// By buffer and transforms; the first rule that has them lends its transforms.
    pub(crate) buffers: Vec<BufferAutomaton>,
    /// Rules for transactions that have no content in a buffer.
    pub(crate) tx_always: Vec<u32>,
    pub(crate) ip_only: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct BufferAutomaton {
    pub(crate) buffer: Buffer,
    /// Rule and index of its match with these transforms.
    pub(crate) lender: (u32, usize),
    pub(crate) automaton: Option<Automaton>,
}

fn best(ops: &[Op]) -> Option<&Content> {
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

impl Prefilter {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut out = Self::default();
        let mut payload = PayloadPatterns::default();
        let mut buffers: BTreeMap<(Buffer, String), ((u32, usize), Patterns)> = BTreeMap::new();
        for rule in rules {
            let number = rule.order;
            if rule.kind == crate::rule::Kind::IpOnly {
                out.ip_only.push(number);
            } else if rule.engines.is_empty() {
                match best(&rule.payload) {
                    Some(content) => payload.add(bytes(content), rule),
                    None => out.add_always(rule),
                }
            } else {
                let index = rule.engines.iter().find_map(|engine| match engine.look {
                    Look::Buffer(index) if engine.is_prefiltered => Some(index),
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
                        entry.1.add(bytes(content), number);
                    }
                    None => out.tx_always.push(number),
                }
            }
        }
        out.payload = payload.build();
        for ((buffer, _), (lender, patterns)) in buffers {
            out.buffers.push(BufferAutomaton { buffer, lender, automaton: patterns.build() });
        }
        out
    }

    fn add_always(&mut self, rule: &Rule) {
        for (class, rules) in Class::ALL.into_iter().zip(&mut self.packet_always) {
            if class.may_be(rule.header.transports) {
                rules.push(rule.order);
            }
        }
    }

    /// Rules without transactions that have no content in the payload and may match this class.
    pub(crate) fn packet_always(&self, class: Class) -> &[u32] {
        let rules = Class::ALL.into_iter().zip(&self.packet_always);
        rules
            .filter(|(known, _)| *known == class)
            .map(|(_, rules)| rules.as_slice())
            .next()
            .unwrap_or_default()
    }

    /// Adds the rules whose content is in the payload of a packet.
    pub(crate) fn in_payload(
        &self,
        class: Class,
        is_in_stream: bool,
        data: &[u8],
        out: &mut Vec<u32>,
    ) {
        if data.is_empty() {
            return;
        }
        let Payload { stream, segment, datagram } = &self.payload;
        let (is_tcp, is_other) = (class == Class::Tcp, class == Class::Other);
        for (automaton, is_wanted) in [
            (segment, is_tcp || is_other),
            (stream, is_other || (is_tcp && !is_in_stream)),
            (datagram, !is_tcp),
        ] {
            if let (Some(automaton), true) = (automaton, is_wanted) {
                automaton.find(data, out);
            }
        }
    }

    /// Adds the rules whose content is in a piece of a stream.
    pub(crate) fn in_stream(&self, data: &[u8], out: &mut Vec<u32>) {
        if let Some(automaton) = &self.payload.stream {
            automaton.find(data, out);
        }
    }
}
