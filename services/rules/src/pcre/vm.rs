//! A backtracker over bytes with a step limit, for what automata can't do.

use super::{
    Match,
    parse::{Anchor, Ast, Greed, Parsed, PatternError},
    set::{Set, has, is_word},
};

/// Instructions of one search; Suricata's default `match-limit` is 3500 calls of PCRE's matcher,
/// each of which does a few hundred of these.
pub(super) const STEPS_MAX: u32 = 500_000;
/// Instructions of one program.
const PROGRAM_MAX: usize = 65_536;
/// Entries of the backtracking stack.
const STACK_MAX: usize = 131_072;
/// Lookarounds in lookarounds.
const DEPTH_MAX: u32 = 32;

#[derive(Clone, Debug)]
enum Step {
    Byte(usize),
    /// As many bytes of a set as there are, `max` at most; backtracks by a byte at a time. What `.*` is,
    /// without a step for each byte. Where it is lazy, as few as will do.
    Bytes {
        set: usize,
        max: usize,
        is_lazy: bool,
    },
    Anchor(Anchor),
    /// Tries the first, then the second.
    Split(usize, usize),
    Jump(usize),
    Save(usize),
    /// Remembers a position, for `NotEmpty`.
    Mark(usize),
    /// Fails when nothing was taken since `Mark`.
    NotEmpty(usize),
    Look {
        min: usize,
        max: usize,
        is_behind: bool,
        is_negated: bool,
        end: usize,
    },
    Atomic {
        end: usize,
    },
    Backreference {
        group: usize,
        is_caseless: bool,
    },
    Done,
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
    sets: Vec<Set>,
    groups: usize,
    slots: usize,
    /// The set that the first byte of every match is in.
    first: Option<usize>,
}

impl Program {
    pub(super) fn new(parsed: &Parsed) -> Result<Self, PatternError> {
        let slots = (parsed.groups + 1) * 2;
        let mut program =
            Self { steps: Vec::new(), sets: Vec::new(), groups: parsed.groups, slots, first: None };
        program.compile(&parsed.ast)?;
        program.push(Step::Done)?;
        let first = program.steps.iter().find(|step| !matches!(step, Step::Save(_)));
        program.first = match first {
            Some(Step::Byte(set)) => Some(*set),
            _ => None,
        };
        Ok(program)
    }

    /// The number of a set.
    fn number(&mut self, set: &Set) -> usize {
        self.sets.iter().position(|known| known == set).unwrap_or_else(|| {
            self.sets.push(*set);
            self.sets.len() - 1
        })
    }

    fn push(&mut self, step: Step) -> Result<usize, PatternError> {
        if self.steps.len() >= PROGRAM_MAX {
            return Err(PatternError::TooLarge);
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    fn set(&mut self, at: usize, step: Step) {
        if let Some(old) = self.steps.get_mut(at) {
            *old = step;
        }
    }

    fn compile(&mut self, ast: &Ast) -> Result<(), PatternError> {
        match ast {
            Ast::Empty => {}
            Ast::Byte(set) => {
                let number = self.number(set);
                self.push(Step::Byte(number))?;
            }
            Ast::Anchor(anchor) => {
                self.push(Step::Anchor(*anchor))?;
            }
            Ast::Concat(parts) => parts.iter().try_for_each(|part| self.compile(part))?,
            Ast::Alternate(branches) => self.alternate(branches)?,
            Ast::Repeat { inner, min, max, greed } => self.repeat(inner, *min, *max, *greed)?,
            Ast::Group(index, inner) => {
                self.push(Step::Save(index * 2))?;
                self.compile(inner)?;
                self.push(Step::Save(index * 2 + 1))?;
            }
            Ast::Look { inner, is_behind, is_negated } => {
                let (min, max) =
                    if *is_behind { width(inner).ok_or(PatternError::Lookbehind)? } else { (0, 0) };
                let at = self.push(Step::Done)?;
                self.compile(inner)?;
                let end = self.push(Step::Done)? + 1;
                let (is_behind, is_negated) = (*is_behind, *is_negated);
                self.set(at, Step::Look { min, max, is_behind, is_negated, end });
            }
            Ast::Atomic(inner) => self.atomic(inner)?,
            Ast::Backreference { group, is_caseless } => {
                if *group > self.groups {
                    return Err(PatternError::Group(group.to_string()));
                }
                self.push(Step::Backreference { group: *group, is_caseless: *is_caseless })?;
            }
            Ast::Keep => {
                self.push(Step::Save(0))?;
            }
        }
        Ok(())
    }

    fn atomic(&mut self, inner: &Ast) -> Result<(), PatternError> {
        let at = self.push(Step::Done)?;
        self.compile(inner)?;
        let end = self.push(Step::Done)? + 1;
        self.set(at, Step::Atomic { end });
        Ok(())
    }

    fn alternate(&mut self, branches: &[Ast]) -> Result<(), PatternError> {
        let mut jumps = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if index + 1 == branches.len() {
                self.compile(branch)?;
            } else {
                let split = self.push(Step::Done)?;
                self.compile(branch)?;
                jumps.push(self.push(Step::Done)?);
                self.set(split, Step::Split(split + 1, self.steps.len()));
            }
        }
        let end = self.steps.len();
        for jump in jumps {
            self.set(jump, Step::Jump(end));
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        inner: &Ast,
        min: u32,
        max: Option<u32>,
        greed: Greed,
    ) -> Result<(), PatternError> {
        if greed == Greed::Possessive {
            let inner = Box::new(inner.clone());
            return self.atomic(&Ast::Repeat { inner, min, max, greed: Greed::Greedy });
        }
        for _ in 0..min {
            let before = self.steps.len();
            self.compile(inner)?;
            if self.steps.len() == before {
                // Nothing, however often.
                return Ok(());
            }
        }
        if let Ast::Byte(set) = inner {
            let max = max.map_or(usize::MAX, |max| max.saturating_sub(min) as usize);
            let (set, is_lazy) = (self.number(set), greed == Greed::Lazy);
            if max > 0 {
                self.push(Step::Bytes { set, max, is_lazy })?;
            }
            return Ok(());
        }
        let order = |into: usize, past: usize| match greed {
            Greed::Lazy => Step::Split(past, into),
            Greed::Greedy | Greed::Possessive => Step::Split(into, past),
        };
        match max {
            None => {
                let slot = self.slots;
                self.slots += 1;
                let split = self.push(Step::Done)?;
                self.push(Step::Mark(slot))?;
                self.compile(inner)?;
                self.push(Step::NotEmpty(slot))?;
                self.push(Step::Jump(split))?;
                self.set(split, order(split + 1, self.steps.len()));
            }
            Some(max) => {
                let mut splits = Vec::new();
                for _ in min..max {
                    splits.push(self.push(Step::Done)?);
                    self.compile(inner)?;
                }
                let end = self.steps.len();
                for split in splits {
                    self.set(split, order(split + 1, end));
                }
            }
        }
        Ok(())
    }

    /// The first match at or after `from`.
    pub(super) fn find(&self, data: &[u8], from: usize, is_anchored: bool) -> Option<Match> {
        let mut run = Run { program: self, data, from, steps: 0, stack: Vec::new() };
        let first = self.first.and_then(|set| self.sets.get(set));
        let may_begin = |start: usize| {
            first.is_none_or(|set| data.get(start).is_some_and(|byte| has(set, *byte)))
        };
        let mut slots = vec![usize::MAX; self.slots];
        for start in from..=data.len() {
            if may_begin(start) {
                slots.fill(usize::MAX);
                if let Some(slot) = slots.first_mut() {
                    *slot = start;
                }
                if let Some(end) = run.run(0, start, &mut slots, 0) {
                    let groups = (1..=self.groups).map(|group| {
                        let bound =
                            |at: usize| slots.get(at).copied().filter(|at| *at != usize::MAX);
                        Some((bound(group * 2)?, bound(group * 2 + 1)?))
                    });
                    let start = slots.first().copied().unwrap_or(start);
                    return Some(Match { start, end, groups: groups.collect() });
                }
            }
            if is_anchored || run.steps >= STEPS_MAX {
                return None;
            }
        }
        None
    }
}

struct Run<'r> {
    program: &'r Program,
    data: &'r [u8],
    from: usize,
    steps: u32,
    /// Of the runs that are under way, the innermost last.
    stack: Vec<Back>,
}

enum Back {
    Try(usize, usize),
    Restore(usize, usize),
    /// Where bytes of a set may end as well, from the last on.
    Fewer {
        pc: usize,
        least: usize,
        end: usize,
    },
    /// Where they may go on.
    More {
        pc: usize,
        set: usize,
        end: usize,
        left: usize,
    },
}

/// Bytes that one step goes over.
const STEP_BYTES: usize = 16;

impl Run<'_> {
    /// Runs from `pc` at `at` to the next `Done`; the end of the match.
    fn run(&mut self, pc: usize, at: usize, slots: &mut [usize], depth: u32) -> Option<usize> {
        if depth > DEPTH_MAX {
            // Nobody may take it for an answer.
            self.steps = STEPS_MAX;
            return None;
        }
        let base = self.stack.len();
        let end = self.run_above(base, (pc, at), slots, depth);
        self.stack.truncate(base);
        end
    }

    fn run_above(
        &mut self,
        base: usize,
        (mut pc, mut at): (usize, usize),
        slots: &mut [usize],
        depth: u32,
    ) -> Option<usize> {
        loop {
            self.steps = self.steps.saturating_add(1);
            if self.stack.len() >= STACK_MAX {
                self.steps = STEPS_MAX;
            }
            if self.steps >= STEPS_MAX {
                return None;
            }
            let next = match self.program.steps.get(pc)? {
                Step::Done => return Some(at),
                Step::Split(first, second) => {
                    self.stack.push(Back::Try(*second, at));
                    Some((*first, at))
                }
                Step::Jump(to) => Some((*to, at)),
                Step::Save(slot) | Step::Mark(slot) => {
                    if let Some(value) = slots.get_mut(*slot) {
                        self.stack.push(Back::Restore(*slot, *value));
                        *value = at;
                    }
                    Some((pc + 1, at))
                }
                Step::NotEmpty(slot) => {
                    (slots.get(*slot).copied() != Some(at)).then_some((pc + 1, at))
                }
                Step::Bytes { set, max, is_lazy } => {
                    Some((pc + 1, self.bytes((pc + 1, at), *set, *max, *is_lazy)))
                }
                step => self.single(step, pc, at, slots, depth),
            };
            match next {
                Some(to) => (pc, at) = to,
                None => (pc, at) = self.back(base, slots)?,
            }
        }
    }

    fn single(
        &mut self,
        step: &Step,
        pc: usize,
        at: usize,
        slots: &mut [usize],
        depth: u32,
    ) -> Option<(usize, usize)> {
        match step {
            Step::Byte(set) => {
                let byte = *self.data.get(at)?;
                has(self.program.sets.get(*set)?, byte).then_some((pc + 1, at + 1))
            }
            Step::Anchor(anchor) => self.holds(*anchor, at).then_some((pc + 1, at)),
            Step::Look { min, max, is_behind, is_negated, end } => {
                let before = slots.to_vec();
                let found = if *is_behind {
                    (*min..=(*max).min(at)).any(|width| {
                        self.steps < STEPS_MAX
                            && self.run(pc + 1, at - width, slots, depth + 1) == Some(at)
                    })
                } else {
                    self.run(pc + 1, at, slots, depth + 1).is_some()
                };
                if *is_negated || !found {
                    slots.copy_from_slice(&before);
                }
                (found != *is_negated).then_some((*end, at))
            }
            Step::Atomic { end } => {
                let before = slots.to_vec();
                let Some(to) = self.run(pc + 1, at, slots, depth + 1) else {
                    slots.copy_from_slice(&before);
                    return None;
                };
                for (slot, (old, new)) in before.iter().zip(slots.iter()).enumerate() {
                    if old != new {
                        self.stack.push(Back::Restore(slot, *old));
                    }
                }
                Some((*end, to))
            }
            Step::Backreference { group, is_caseless } => {
                let text = self.data.get(*slots.get(group * 2)?..*slots.get(group * 2 + 1)?)?;
                let here = self.data.get(at..at + text.len())?;
                let is_same =
                    if *is_caseless { here.eq_ignore_ascii_case(text) } else { here == text };
                is_same.then_some((pc + 1, at + text.len()))
            }
            Step::Bytes { .. }
            | Step::Split(..)
            | Step::Jump(_)
            | Step::Save(_)
            | Step::Mark(_)
            | Step::NotEmpty(_)
            | Step::Done => None,
        }
    }

    /// Where bytes of a set that are taken at `at` end; notes where else they may, for step `pc`.
    fn bytes(&mut self, (pc, at): (usize, usize), set: usize, max: usize, is_lazy: bool) -> usize {
        if is_lazy {
            self.stack.push(Back::More { pc, set, end: at, left: max });
            return at;
        }
        let Some(members) = self.program.sets.get(set) else { return at };
        let rest = self.data.get(at..).unwrap_or_default();
        let count = rest.iter().take(max).take_while(|byte| has(members, **byte)).count();
        let steps = u32::try_from(count / STEP_BYTES).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(steps);
        if count > 0 {
            self.stack.push(Back::Fewer { pc, least: at, end: at + count });
        }
        at + count
    }

    /// The last choice above `base` that is left; where it goes on.
    fn back(&mut self, base: usize, slots: &mut [usize]) -> Option<(usize, usize)> {
        while self.stack.len() > base {
            match self.stack.pop()? {
                Back::Try(pc, at) => return Some((pc, at)),
                Back::Restore(slot, value) => {
                    if let Some(old) = slots.get_mut(slot) {
                        *old = value;
                    }
                }
                Back::Fewer { pc, least, end } => {
                    let end = end - 1;
                    if end > least {
                        self.stack.push(Back::Fewer { pc, least, end });
                    }
                    return Some((pc, end));
                }
                Back::More { pc, set, end, left } => {
                    let byte = self.data.get(end);
                    let members = self.program.sets.get(set)?;
                    if byte.is_some_and(|byte| has(members, *byte)) {
                        if left > 1 {
                            self.stack.push(Back::More { pc, set, end: end + 1, left: left - 1 });
                        }
                        return Some((pc, end + 1));
                    }
                }
            }
        }
        None
    }

    fn holds(&self, anchor: Anchor, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|at| self.data.get(at)).copied();
        let here = self.data.get(at).copied();
        let is_boundary = before.is_some_and(is_word) != here.is_some_and(is_word);
        match anchor {
            Anchor::Start => at == 0,
            Anchor::LineStart => before.is_none_or(|byte| byte == b'\n'),
            Anchor::End => here.is_none(),
            Anchor::EndOrNewline => {
                here.is_none() || (here == Some(b'\n') && at + 1 == self.data.len())
            }
            Anchor::LineEnd => here.is_none_or(|byte| byte == b'\n'),
            Anchor::Word => is_boundary,
            Anchor::NotWord => !is_boundary,
            Anchor::SearchStart => at == self.from,
        }
    }
}

/// Least and greatest length of a match, if it is bounded.
fn width(ast: &Ast) -> Option<(usize, usize)> {
    Some(match ast {
        Ast::Empty | Ast::Anchor(_) | Ast::Look { .. } | Ast::Keep => (0, 0),
        Ast::Byte(_) => (1, 1),
        Ast::Concat(parts) => {
            let mut sum = (0_usize, 0_usize);
            for part in parts {
                let (min, max) = width(part)?;
                sum = (sum.0.checked_add(min)?, sum.1.checked_add(max)?);
            }
            sum
        }
        Ast::Alternate(branches) => {
            let mut sum = (usize::MAX, 0);
            for branch in branches {
                let (min, max) = width(branch)?;
                sum = (sum.0.min(min), sum.1.max(max));
            }
            sum
        }
        Ast::Repeat { inner, min, max, .. } => {
            let (low, high) = width(inner)?;
            let max = usize::try_from((*max)?).ok()?;
            (low.checked_mul(usize::try_from(*min).ok()?)?, high.checked_mul(max)?)
        }
        Ast::Group(_, inner) | Ast::Atomic(inner) => width(inner)?,
        Ast::Backreference { .. } => return None,
    })
}
