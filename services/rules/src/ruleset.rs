//! A ruleset: rules in the order of evaluation with their prefilter, and what did not load.
//!
//! Immutable; shared by `Arc`. Reload is another one; numbers of bits are kept so that flows keep
//! their bits.

mod streams;

use std::cmp::Reverse;

use crate::{
    compile::{self, Context, Groups, Names, RuleError},
    config::{Config, Order},
    prefilter::Prefilter,
    rule::{Action, Owner, Post, Rule, Test},
    sets::Sets,
    syntax,
};

use streams::Streams;

/// A rule that did not load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Number of the rule, if it could be read.
    pub sid: Option<u32>,
    /// Why.
    pub error: RuleError,
}

/// Rules that are ready.
#[derive(Debug)]
pub struct Ruleset {
    pub(crate) rules: Vec<Rule>,
    pub(crate) config: Config,
    pub(crate) prefilter: Prefilter,
    streams: Streams,
    pub(crate) names: Names,
    /// Rules that did not load.
    pub problems: Vec<Problem>,
}

impl Ruleset {
    /// Compiles files of rules: pairs of name and text. The sets that they name come with it.
    #[must_use]
    pub fn new(files: &[(&str, &str)], config: Config) -> (Self, Sets) {
        let mut names = Names::default();
        let mut sets = Sets::default();
        let mut groups = Groups::default();
        let mut rules: Vec<Rule> = Vec::new();
        let mut problems = Vec::new();
        let mut known: std::collections::HashMap<(u32, u32), usize> = Default::default();
        for (file, text) in files {
            for line in syntax::lines(text) {
                let mut context = Context {
                    config: &config,
                    names: &mut names,
                    sets: &mut sets,
                    groups: &mut groups,
                };
                match compile::compile(&line.text, line.number, &mut context) {
                    Ok(rule) => {
                        // The newest revision of a number counts.
                        let key = (rule.gid, rule.sid);
                        match known.get(&key).copied() {
                            Some(at) => {
                                if let Some(old) = rules.get_mut(at)
                                    && old.rev < rule.rev
                                {
                                    *old = rule;
                                } else {
                                    problems.push(Problem {
                                        file: (*file).to_owned(),
                                        line: line.number,
                                        sid: Some(rule_number(key)),
                                        error: RuleError::Conflict("duplicate of an earlier rule"),
                                    });
                                }
                            }
                            None => {
                                known.insert(key, rules.len());
                                rules.push(rule);
                            }
                        }
                    }
                    Err(error) => problems.push(Problem {
                        file: (*file).to_owned(),
                        line: line.number,
                        sid: sid_of(&line.text),
                        error,
                    }),
                }
            }
        }
        rules.shrink_to_fit();
        sort(&mut rules, &config);
        let prefilter = Prefilter::new(&rules);
        let streams = Streams::new(&rules);
        (Self { rules, config, prefilter, streams, names, problems }, sets)
    }

    /// Rules that loaded, in the order of evaluation.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn rule(&self, order: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(order).ok()?)
    }
}

const fn rule_number((_, sid): (u32, u32)) -> u32 {
    sid
}

fn sid_of(text: &str) -> Option<u32> {
    let rest = text.split("sid:").nth(1)?;
    rest.split(';').next()?.trim().parse().ok()
}

/// Suricata's order: action, then who writes and who reads bits, then priority, then number.
fn sort(rules: &mut [Rule], config: &Config) {
    rules.sort_by_key(|rule| {
        let kind = match rule.action {
            Action::Pass => Order::Pass,
            Action::Drop => Order::Drop,
            Action::Reject(_) => Order::Reject,
            Action::Alert => Order::Alert,
        };
        let action = config.action_order.iter().position(|known| *known == kind);
        (
            action,
            Reverse(writes_and_reads(rule, |owner| owner == Owner::Flow)),
            Reverse(numbers(rule)),
            Reverse(writes_and_reads(rule, |owner| {
                matches!(owner, Owner::Source | Owner::Destination)
            })),
            Reverse(writes_and_reads(rule, |owner| owner == Owner::Pair)),
            rule.priority,
            rule.sid,
        )
    });
    for (index, rule) in rules.iter_mut().enumerate() {
        rule.order = u32::try_from(index).unwrap_or(u32::MAX);
        rule.tests.sort_by_key(Test::weight);
    }
}

/// Who sets comes before who does both, before who reads, before who does neither.
fn rank(reads: bool, writes: bool) -> u8 {
    match (reads, writes) {
        (false, true) => 4,
        (true, true) => 3,
        (true, false) => 2,
        (false, false) => 1,
    }
}

fn writes_and_reads(rule: &Rule, is_owner: impl Fn(Owner) -> bool) -> u8 {
    let reads = rule
        .tests
        .iter()
        .any(|test| matches!(test, Test::Bits { bits, .. } if is_owner(bits.owner)));
    let writes = rule.post.iter().any(|post| match post {
        // Suricata sorts by what `xbits` reads alone.
        Post::Set(bits) | Post::Unset(bits) | Post::Toggle(bits) => {
            !bits.is_written_last && is_owner(bits.owner)
        }
        Post::IntSet(..)
        | Post::IntAdd(..)
        | Post::IntSubtract(..)
        | Post::Bypass
        | Post::Tag(_) => false,
    });
    rank(reads, writes)
}

fn numbers(rule: &Rule) -> u8 {
    let reads = rule.tests.iter().any(|test| matches!(test, Test::FlowInt { .. }));
    let writes = rule
        .post
        .iter()
        .any(|post| matches!(post, Post::IntSet(..) | Post::IntAdd(..) | Post::IntSubtract(..)));
    rank(reads, writes)
}
