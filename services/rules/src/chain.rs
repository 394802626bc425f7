//! Evaluation of one buffer: contents with their places, numbers, expressions, as a chain that
//! backtracks in Suricata's way.
//!
//! A match that depends on the place of the one before makes that one look for another occurrence;
//! a failure that no other occurrence can heal ends the chain at once. Steps are counted.

mod numbers;

use crate::{
    finder::Finder,
    number::Compare,
    pcre::Regex,
    sets::{DatasetUse, ReputationUse, Sets},
    transform::{Base64, base64},
};

/// Steps of one chain: Suricata's `inspection-recursion-limit`.
const STEPS_MAX: u32 = 3000;
/// Variables of one rule that `byte_extract` and `byte_math` set.
pub(crate) const VARIABLES_MAX: usize = 16;
/// Captures of one match.
const CAPTURES_MAX: usize = 16;

/// A number, or the variable that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i64),
    Variable(usize),
}

/// A `content`.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent modifiers of the language")]
pub(crate) struct Content {
    pub(crate) pattern: Vec<u8>,
    pub(crate) finder: Option<Finder>,
    pub(crate) is_negated: bool,
    pub(crate) is_caseless: bool,
    pub(crate) offset: Option<Value>,
    pub(crate) depth: Option<Value>,
    pub(crate) distance: Option<Value>,
    pub(crate) within: Option<Value>,
    pub(crate) is_at_end: bool,
    /// `startswith` was given, or what amounts to it.
    pub(crate) is_at_start: bool,
    /// What follows depends on where this matches.
    pub(crate) is_next_relative: bool,
    pub(crate) fast: Fast,
}

/// Whether a content is for the prefilter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fast {
    #[default]
    Maybe,
    Chosen,
    Only,
    Chop(u16, u16),
}

/// `pcre`.
#[derive(Debug)]
pub(crate) struct Pcre {
    pub(crate) regex: Regex,
    pub(crate) is_negated: bool,
    pub(crate) is_relative: bool,
    pub(crate) is_next_relative: bool,
    /// Names for groups: a variable of the flow or of the packet.
    pub(crate) captures: Vec<(Scope, String)>,
}

/// Whose variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Flow,
    Packet,
    /// Shown in the alert, kept nowhere.
    Alert,
}

/// How a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) bytes: Value,
    pub(crate) offset: Value,
    pub(crate) is_relative: bool,
    pub(crate) is_little: bool,
    /// As text in this base (0: by its prefix).
    pub(crate) base: Option<u32>,
    pub(crate) mask: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Less,
    Greater,
    Equal,
    LessEqual,
    GreaterEqual,
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Here,
    Beginning,
    End,
}

/// One link of a chain.
#[derive(Debug)]
pub(crate) enum Op {
    Content(Box<Content>),
    Pcre(Box<Pcre>),
    IsDataAt { at: Value, is_negated: bool, is_relative: bool },
    ByteTest { read: Box<Reading>, is_negated: bool, operator: Operator, value: Value },
    ByteJump { read: Box<Reading>, multiplier: u64, is_aligned: bool, from: From, post: i64 },
    ByteExtract { read: Box<Reading>, multiplier: u64, align: u64, variable: usize },
    ByteMath { read: Box<Reading>, operator: Arithmetic, value: Value, variable: usize },
    Size(Compare),
    UriLength(Compare),
    Dataset(DatasetUse),
    Reputation(ReputationUse),
    Absent { or_else: bool },
    Base64Decode { bytes: usize, offset: usize, is_relative: bool },
    Entropy(f64, EntropyCompare),
}

/// Most are contents, of which rules have several: what is rarer and larger is elsewhere.
const _: () = assert!(size_of::<Op>() <= 48);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntropyCompare {
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    Equal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Match,
    No,
    /// No other occurrence of what is before can help.
    Stop,
}

/// What was captured.
pub(crate) type Capture = (Scope, String, Vec<u8>);

/// State of a rule's inspection: variables hold over all its buffers.
#[derive(Debug)]
pub(crate) struct Scan<'s> {
    pub(crate) variables: [u64; VARIABLES_MAX],
    pub(crate) sets: &'s mut Sets,
    pub(crate) base64: &'s [Op],
    pub(crate) captures: Vec<Capture>,
    pub(crate) contexts: Vec<(String, String)>,
    /// The rule may change sets (it is not the second look at the same match).
    offset: usize,
    steps: u32,
    jump_start: usize,
}

impl<'s> Scan<'s> {
    pub(crate) fn new(sets: &'s mut Sets, base64: &'s [Op]) -> Self {
        Self {
            variables: [0; VARIABLES_MAX],
            sets,
            base64,
            captures: Vec::new(),
            contexts: Vec::new(),
            offset: 0,
            steps: 0,
            jump_start: 0,
        }
    }

    /// Whether `ops` match `data`, which begins at `start` of a whole that ends here if `is_end`.
    pub(crate) fn matches(&mut self, ops: &[Op], data: &[u8], start: u64, is_end: bool) -> bool {
        self.offset = 0;
        self.steps = 0;
        self.jump_start = 0;
        let base64 = self.base64;
        self.run(ops, data, start, is_end, base64) == Outcome::Match
    }

    fn run(&mut self, ops: &[Op], data: &[u8], start: u64, is_end: bool, base64: &[Op]) -> Outcome {
        self.steps += 1;
        if self.steps >= STEPS_MAX {
            return Outcome::Stop;
        }
        let Some((op, rest)) = ops.split_first() else { return Outcome::Match };
        let outcome = match op {
            Op::Content(content) => {
                return self.content(content, rest, data, start, is_end, base64);
            }
            Op::Pcre(pcre) => return self.pcre(pcre, rest, data, start, is_end, base64),
            Op::Base64Decode { bytes, offset, is_relative } => {
                let from = offset + if *is_relative { self.offset } else { 0 };
                let input = data.get(from..).unwrap_or_default();
                let input = if *bytes == 0 { input } else { input.get(..*bytes).unwrap_or(input) };
                let decoded = self::base64(input, Base64::Rfc2045);
                if decoded.is_empty() {
                    return Outcome::Stop;
                }
                if !base64.is_empty() {
                    self.offset = 0;
                    return self.run(base64, &decoded, 0, true, &[]);
                }
                Outcome::Match
            }
            op => self.simple(op, data, start, is_end),
        };
        if outcome == Outcome::Match {
            return self.run(rest, data, start, is_end, base64);
        }
        outcome
    }

    fn simple(&mut self, op: &Op, data: &[u8], start: u64, is_end: bool) -> Outcome {
        let or_stop = |is_match: bool| if is_match { Outcome::Match } else { Outcome::Stop };
        let or_no = |is_match: bool| if is_match { Outcome::Match } else { Outcome::No };
        match op {
            Op::IsDataAt { at, is_negated, is_relative } => {
                self.is_data_at(*at, *is_negated, *is_relative, data)
            }
            Op::ByteTest { read, is_negated, operator, value } => {
                or_no(self.byte_test(read, *is_negated, *operator, *value, data))
            }
            Op::ByteJump { .. } => or_no(self.byte_jump(op, data)),
            Op::ByteExtract { read, multiplier, align, variable } => {
                or_no(self.byte_extract(read, *multiplier, *align, *variable, data).is_some())
            }
            Op::ByteMath { read, operator, value, variable } => {
                or_no(self.byte_math(read, *operator, *value, *variable, data).is_some())
            }
            Op::Size(compare) => {
                let size = data.len() as u64 + start;
                if compare.fits(size) {
                    // More may come and make it too long.
                    let is_bounded =
                        matches!(compare, Compare::Greater(_) | Compare::GreaterEqual(_));
                    or_no(is_end || is_bounded)
                } else {
                    Outcome::Stop
                }
            }
            Op::UriLength(compare) => or_stop(compare.fits(data.len() as u64)),
            Op::Dataset(dataset) => {
                let (is_match, context) = self.sets.dataset(dataset, data);
                if let (true, Some(context)) = (is_match, context) {
                    self.contexts.push(context);
                }
                or_stop(is_match)
            }
            Op::Reputation(reputation) => or_stop(self.sets.reputation(reputation, data)),
            Op::Absent { or_else } => or_no(*or_else),
            Op::Entropy(limit, compare) => or_no(entropy_fits(data, *limit, *compare)),
            Op::Content(_) | Op::Pcre(_) | Op::Base64Decode { .. } => Outcome::No,
        }
    }

    fn value(&self, value: Value) -> i64 {
        match value {
            Value::Number(number) => number,
            Value::Variable(index) => {
                let value = self.variables.get(index).copied().unwrap_or(0);
                i64::try_from(value).unwrap_or(i64::MAX)
            }
        }
    }

    /// A value as Suricata counts with it here: 32 bits, whatever a variable holds.
    fn word(&self, value: Value) -> u32 {
        match value {
            Value::Number(number) => number as u32,
            Value::Variable(index) => self.variables.get(index).copied().unwrap_or(0) as u32,
        }
    }

    /// Where a content may begin and where it must end; `None`: it can't match here. Sums of 32 bits
    /// that run over are part of what a rule means.
    fn range(&self, content: &Content, length: u32, before: u32, start: u64) -> Option<(u32, u32)> {
        let is_relative = content.distance.is_some() || content.within.is_some();
        let is_variable = |value: Option<Value>| matches!(value, Some(Value::Variable(_)));
        let mut depth = length;
        let mut offset;
        if is_relative {
            let distance = content.distance.map_or(0, |value| self.word(value).cast_signed());
            offset = before;
            if distance < 0 && distance.unsigned_abs() > offset {
                offset = 0;
            } else {
                offset = offset.wrapping_add_signed(distance);
            }
            if let Some(within) = content.within {
                let end = before.wrapping_add(self.word(within)).wrapping_add_signed(distance);
                if depth.cast_signed() > end.cast_signed() {
                    depth = end;
                }
                if start != 0 && before == 0 {
                    depth = chunked(depth, start, length)?;
                }
            }
            if let Some(limit) = content.depth {
                depth = depth.min(before.saturating_add(self.word(limit)));
            }
            if let Some(least) = content.offset {
                offset = offset.max(self.word(least));
            }
        } else {
            if let Some(limit) = content.depth {
                depth = self.word(limit);
                if start != 0 {
                    depth = chunked(depth, start, length)?;
                }
            }
            offset = content.offset.map_or(0, |value| self.word(value));
        }
        if is_variable(content.offset) || is_variable(content.depth) {
            depth = depth.wrapping_add(offset);
        }
        Some((offset, depth))
    }

    fn content(
        &mut self,
        content: &Content,
        rest: &[Op],
        data: &[u8],
        start: u64,
        is_end: bool,
        base64: &[Op],
    ) -> Outcome {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let is_relative = content.distance.is_some() || content.within.is_some();
        let before = if is_relative { u32::try_from(self.offset).unwrap_or(0) } else { 0 };
        let range = self.range(content, length, before, start);
        let mut again: Option<usize> = None;
        loop {
            let Some((offset, depth)) = range else { return Outcome::No };
            let depth = depth.min(length);
            let offset = again.map_or(offset, |at| u32::try_from(at).unwrap_or(u32::MAX));
            if offset > depth || depth == 0 {
                return if content.is_negated {
                    self.run(rest, data, start, is_end, base64)
                } else {
                    Outcome::No
                };
            }
            let (from, to) = (offset as usize, depth as usize);
            let found = if content.is_at_end && depth < length {
                None
            } else {
                content.find(data, from, to)
            };
            let Some(at) = found else {
                if content.is_negated {
                    return self.run(rest, data, start, is_end, base64);
                }
                return if is_relative { Outcome::No } else { Outcome::Stop };
            };
            let end = at + content.pattern.len();
            if content.is_negated {
                if content.is_at_end && end != data.len() && to - from != end {
                    return self.run(rest, data, start, is_end, base64);
                }
                return if is_relative { Outcome::No } else { Outcome::Stop };
            }
            self.offset = end;
            if !content.is_at_end || end == data.len() {
                match self.run(rest, data, start, is_end, base64) {
                    Outcome::Match => return Outcome::Match,
                    Outcome::Stop => return Outcome::Stop,
                    Outcome::No if !content.is_next_relative => return Outcome::Stop,
                    Outcome::No => {}
                }
            }
            again = Some(at + 1);
        }
    }

    fn pcre(
        &mut self,
        pcre: &Pcre,
        rest: &[Op],
        data: &[u8],
        start: u64,
        is_end: bool,
        base64: &[Op],
    ) -> Outcome {
        let before = self.offset;
        let mut from = if pcre.is_relative { before } else { 0 };
        loop {
            // A relative expression sees the rest as its whole input.
            let (shift, input) = if pcre.is_relative && from == before {
                (before, data.get(before..).unwrap_or_default())
            } else {
                (0, data)
            };
            let found = pcre.regex.find(input, from - shift);
            let Some(found) = found else {
                return if pcre.is_negated {
                    self.run(rest, data, start, is_end, base64)
                } else {
                    Outcome::No
                };
            };
            if pcre.is_negated {
                return Outcome::No;
            }
            let (begin, end) = (found.start + shift, found.end + shift);
            for ((scope, name), group) in pcre.captures.iter().zip(&found.groups) {
                if let Some((first, last)) = group
                    && self.captures.len() < CAPTURES_MAX
                {
                    let bytes = data.get(first + shift..last + shift).unwrap_or_default();
                    if *scope == Scope::Alert {
                        let text = String::from_utf8_lossy(bytes).into_owned();
                        self.contexts
                            .push((name.clone(), serde_json::Value::from(text).to_string()));
                    } else {
                        self.captures.push((*scope, name.clone(), bytes.to_vec()));
                    }
                }
            }
            self.offset = end;
            if !pcre.is_next_relative {
                return self.run(rest, data, start, is_end, base64);
            }
            match self.run(rest, data, start, is_end, base64) {
                Outcome::No => {}
                outcome => return outcome,
            }
            from = begin + 1;
            if from > data.len() {
                return Outcome::No;
            }
        }
    }
}

/// `depth` within a part of a whole that begins at `start`; `None`: it ends before the part.
fn chunked(depth: u32, start: u64, length: u32) -> Option<u32> {
    let own = u64::from(depth);
    if own <= start {
        None
    } else if own >= start.saturating_add(u64::from(length)) {
        Some(depth)
    } else {
        u32::try_from(own - start).ok()
    }
}

impl Content {
    /// The first occurrence in `data[from..to]`.
    pub(crate) fn find(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        let area = data.get(from..to)?;
        let found = if self.is_caseless {
            caseless(area, &self.pattern)
        } else {
            match &self.finder {
                Some(finder) => finder.find(&self.pattern, area),
                None => memchr::memmem::find(area, &self.pattern),
            }
        };
        found.map(|at| from + at)
    }
}

/// Finds `pattern`, which is in lower case, in any case.
fn caseless(area: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = *pattern.first()?;
    let last = area.len().checked_sub(pattern.len())?;
    let starts = area.get(..=last)?;
    let fits = |at: usize| {
        area.get(at..at + pattern.len()).is_some_and(|here| here.eq_ignore_ascii_case(pattern))
    };
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), starts).find(|at| fits(*at))
}

fn entropy_fits(data: &[u8], limit: f64, compare: EntropyCompare) -> bool {
    let mut counts = [0_u32; 256];
    for byte in data {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = data.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum();
    match compare {
        EntropyCompare::Greater => entropy > limit,
        EntropyCompare::Less => entropy < limit,
        EntropyCompare::GreaterEqual => entropy >= limit,
        EntropyCompare::LessEqual => entropy <= limit,
        EntropyCompare::Equal => (entropy - limit).abs() < f64::EPSILON,
    }
}
