//! Rules that may match: a list in which each is once, and which is emptied in no time.
//!
//! What was added carries the number of the round; other numbers are leftovers. Numbers of rules and
//! patterns are dense and small, so both tables are no larger than the ruleset.

/// Rules to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    rules: Vec<u32>,
    /// Round in which each rule was added last.
    rule_rounds: Vec<u32>,
    /// Patterns of this round, as they were found.
    patterns: Vec<u32>,
    /// Round in which each pattern was found last.
    pattern_rounds: Vec<u32>,
    round: u32,
}

impl Candidates {
    /// A new round, without rules.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.patterns.clear();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.rule_rounds.clear();
            self.pattern_rounds.clear();
            self.round = 1;
        }
    }

    /// Adds a rule, once.
    pub(crate) fn add(&mut self, rule: u32) {
        if mark(&mut self.rule_rounds, rule, self.round) {
            self.rules.push(rule);
        }
    }

    /// A pattern was found.
    pub(crate) fn add_pattern(&mut self, pattern: u32) {
        if mark(&mut self.pattern_rounds, pattern, self.round) {
            self.patterns.push(pattern);
        }
    }

    /// Patterns of this round, each once, in the order in which they were found.
    pub(crate) fn patterns(&self) -> &[u32] {
        &self.patterns
    }

    /// Whether a pattern was found in this round.
    pub(crate) fn has_pattern(&self, pattern: u32) -> bool {
        self.pattern_rounds.get(pattern as usize) == Some(&self.round)
    }

    /// Puts the rules in order.
    pub(crate) fn sort(&mut self) {
        self.rules.sort_unstable();
    }

    /// The rule at a place of the list.
    pub(crate) fn get(&self, at: usize) -> Option<u32> {
        self.rules.get(at).copied()
    }
}

/// Whether the entry at `at` is of an earlier round; it is of this one now.
fn mark(rounds: &mut Vec<u32>, at: u32, round: u32) -> bool {
    let at = at as usize;
    if rounds.len() <= at {
        rounds.resize((at + 1).next_power_of_two(), 0);
    }
    rounds.get_mut(at).is_some_and(|own| std::mem::replace(own, round) != round)
}

#[cfg(test)]
mod tests {
    use super::Candidates;

    fn list(candidates: &Candidates) -> Vec<u32> {
        (0..).map_while(|at| candidates.get(at)).collect()
    }

    #[test]
    fn each_rule_is_there_once_in_a_round() {
        let mut candidates = Candidates::default();
        candidates.clear();
        for rule in [7, 3, 7, 3, 90] {
            candidates.add(rule);
        }
        candidates.sort();
        assert_eq!(list(&candidates), [3, 7, 90]);
        candidates.add_pattern(5);
        candidates.add_pattern(5);
        assert!(candidates.has_pattern(5) && !candidates.has_pattern(3));
        assert_eq!(candidates.patterns(), [5]);
        candidates.clear();
        assert!(!candidates.has_pattern(5));
        candidates.add(7);
        assert_eq!(list(&candidates), [7]);
    }

    #[test]
    fn rounds_that_begin_again_forget() {
        let mut candidates = Candidates { round: u32::MAX, ..Candidates::default() };
        candidates.add(1);
        candidates.add_pattern(1);
        candidates.clear();
        assert!(!candidates.has_pattern(1));
        candidates.add(1);
        assert_eq!(list(&candidates), [1]);
    }
}
