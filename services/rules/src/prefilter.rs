//! The prefilter: one automaton for each buffer says which rules may match, all others are not looked at.
//!
//! A rule is found by one of its contents, the longest that is not negated unless it says which. What
//! the automaton says is only a hint: everything is checked again in full.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::{
    buffer::Buffer,
    chain::{Content, Fast, Op},
    rule::{Look, Rule},
};

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
        let mut patterns: Vec<(Vec<u8>, Vec<u32>)> = self.by_bytes.into_iter().collect();
        patterns.sort_unstable();
        let (patterns, rules): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
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

/// All automata of a ruleset, and the rules that none of them can find.
#[derive(Debug, Default)]
pub(crate) struct Prefilter {
    /// Payload of packets and streams, for rules without transactions.
    pub(crate) payload: Option<Automaton>,
    /// Rules without transactions that have no content in the payload.
    pub(crate) packet_always: Vec<u32>,
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
        let mut payload = Patterns::default();
        let mut buffers: BTreeMap<(Buffer, String), ((u32, usize), Patterns)> = BTreeMap::new();
        for rule in rules {
            let number = rule.order;
            if rule.kind == crate::rule::Kind::IpOnly {
                out.ip_only.push(number);
            } else if rule.engines.is_empty() {
                match best(&rule.payload) {
                    Some(content) => payload.add(bytes(content), number),
                    None => out.packet_always.push(number),
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
        out.payload = (!payload.by_bytes.is_empty()).then(|| payload.build()).flatten();
        for ((buffer, _), (lender, patterns)) in buffers {
            out.buffers.push(BufferAutomaton { buffer, lender, automaton: patterns.build() });
        }
        out
    }
}
