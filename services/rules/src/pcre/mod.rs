//! `pcre`: linear-time automata where the pattern allows, else a backtracker with a step limit.
//!
//! Patterns are read by `parse` (PCRE's syntax over bytes), printed for `regex-automata` when they
//! have neither lookaround nor backreferences nor captures that somebody wants, else compiled for
//! `vm`. What must never happen here: a match that takes more than [`vm::STEPS_MAX`] steps.

mod parse;
mod print;
mod set;
mod vm;

use std::sync::OnceLock;

use parse::{Ast, Flags};
use regex_automata::{Anchored, Input, meta};

pub(crate) use parse::PatternError;

/// Largest automaton of one pattern.
const AUTOMATON_BYTES_MAX: usize = 4 << 20;
/// Cache of the lazy automaton: default of the crate is 2 MiB; rules have hundreds of patterns.
const CACHE_BYTES_MAX: usize = 256 << 10;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Regex {
    engine: Engine,
    is_anchored: bool,
}

#[derive(Debug)]
enum Engine {
    Linear(Box<Linear>),
    Backtrack(vm::Program),
}

/// An automaton that is there from its first search on: most rules of a large set are never that
/// close to a match, and each automaton is some 15 KiB.
#[derive(Debug)]
struct Linear {
    text: Box<str>,
    built: OnceLock<Option<meta::Regex>>,
}

impl Linear {
    /// `None` where the pattern is beyond the automaton; what it takes once it always takes.
    fn new(ast: &Ast) -> Option<Self> {
        let mut text = String::new();
        print::print(ast, &mut text);
        build(&text)?;
        Some(Self { text: text.into_boxed_str(), built: OnceLock::new() })
    }

    fn regex(&self) -> Option<&meta::Regex> {
        self.built.get_or_init(|| build(&self.text)).as_ref()
    }
}

/// Start and end of a match, and of its groups when the backtracker ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Groups from 1 on.
    pub(crate) groups: Vec<Option<(usize, usize)>>,
}

/// Letters behind the last slash that change how a pattern is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "PCRE's independent option letters")]
pub(crate) struct Options {
    pub(crate) is_caseless: bool,
    pub(crate) is_multiline: bool,
    pub(crate) is_dotall: bool,
    pub(crate) is_extended: bool,
    pub(crate) is_anchored: bool,
    pub(crate) is_dollar_endonly: bool,
    pub(crate) is_ungreedy: bool,
    /// Somebody wants the groups.
    pub(crate) wants_groups: bool,
}

impl Regex {
    /// Compiles `pattern`.
    pub(crate) fn new(pattern: &[u8], options: Options) -> Result<Self, PatternError> {
        let flags = Flags {
            is_caseless: options.is_caseless,
            is_multiline: options.is_multiline,
            is_dotall: options.is_dotall,
            is_extended: options.is_extended,
            is_dollar_endonly: options.is_dollar_endonly,
            is_ungreedy: options.is_ungreedy,
        };
        let parsed = parse::parse(pattern, flags)?;
        let linear =
            if options.wants_groups || parsed.is_fancy { None } else { Linear::new(&parsed.ast) };
        let engine = match linear {
            Some(linear) => Engine::Linear(Box::new(linear)),
            None => Engine::Backtrack(vm::Program::new(&parsed)?),
        };
        Ok(Self { engine, is_anchored: options.is_anchored })
    }

    /// The first match at or after `from`.
    pub(crate) fn find(&self, data: &[u8], from: usize) -> Option<Match> {
        if from > data.len() {
            return None;
        }
        match &self.engine {
            Engine::Linear(linear) => {
                let anchored = if self.is_anchored { Anchored::Yes } else { Anchored::No };
                let input = Input::new(data).range(from..).anchored(anchored);
                let found = linear.regex()?.find(input)?;
                Some(Match { start: found.start(), end: found.end(), groups: Vec::new() })
            }
            Engine::Backtrack(program) => program.find(data, from, self.is_anchored),
        }
    }
}

fn build(text: &str) -> Option<meta::Regex> {
    meta::Builder::new()
        .syntax(regex_automata::util::syntax::Config::new().unicode(false).utf8(false))
        .configure(
            meta::Config::new()
                .utf8_empty(false)
                .nfa_size_limit(Some(AUTOMATON_BYTES_MAX))
                .hybrid_cache_capacity(CACHE_BYTES_MAX)
                // For groups, which are the backtracker's.
                .onepass(false),
        )
        .build(text)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{Engine, Options, Regex};
    use proptest::prelude::*;

    fn find(pattern: &str, data: &str) -> Option<(usize, usize)> {
        let regex = Regex::new(pattern.as_bytes(), Options::default()).unwrap();
        regex.find(data.as_bytes(), 0).map(|found| (found.start, found.end))
    }

    #[test]
    fn ordinary_patterns() {
        assert_eq!(find(r"a+b", "xaab"), Some((1, 4)));
        assert_eq!(find(r"^[^\r\n]*\x2fetc", "GET /etc"), Some((0, 8)));
        assert_eq!(find(r"[[a]b]", "[b]"), Some((0, 3)));
        assert_eq!(find(r"a{,3}", "a{,3}"), Some((0, 5)));
        assert_eq!(find(r"(?i)ABC", "xabc"), Some((1, 4)));
        assert_eq!(find(r"\/x\=\d{2,}$", "/x=123\n"), Some((0, 7)));
        assert_eq!(find(r"[\w-]+\.php", "a-b.php"), Some((0, 7)));
    }

    #[test]
    fn what_only_a_backtracker_can() {
        assert_eq!(find(r"(a|b)\1", "abb"), Some((1, 3)));
        assert_eq!(find(r"foo(?!bar)", "foobar foo"), Some((7, 10)));
        assert_eq!(find(r"(?<=x)y", "yxy"), Some((2, 3)));
        assert_eq!(find(r"(?<!x)y", "xyy"), Some((2, 3)));
        assert_eq!(find(r"(?>a+)b", "aaab"), Some((0, 4)));
        assert_eq!(find(r"a++a", "aaaa"), None);
        assert_eq!(find(r"(?P<n>ab)(?P=n)", "abab"), Some((0, 4)));
        assert_eq!(find(r"(?:a*)*(?=b)c", "aaaa"), None);
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let data = "a".repeat(5000);
        assert_eq!(find(r"(a+)+(?=b)\1", &data), None);
    }

    #[test]
    fn hostile_patterns_are_refused_or_searched_in_no_time() {
        let deep = format!("a{}(?=b)", "{1}".repeat(50_000));
        let wide = format!("(?<=a{})b", "{2048}".repeat(6));
        for pattern in [deep.as_str(), &wide] {
            assert!(Regex::new(pattern.as_bytes(), Options::default()).is_err());
        }
        assert_eq!(find("(?:){2048}{2048}{2048}{2048}(?=a)", "ba"), Some((1, 1)));
        let behind = "(?<=(?:a{0,2048}){0,2048}{0,15})b";
        assert_eq!(find(behind, &"c".repeat(2000)), None);
        assert_eq!(find(behind, "aab"), Some((2, 3)));
        // A search that is given up says nothing, whatever it was asked within.
        let long = "ab".repeat(70_000);
        assert_eq!(find("(?:a|b)*(?!c(?:x|y)*z)$", &long), None);
    }

    #[test]
    fn faults_are_faults() {
        for pattern in ["(", "a)", "[a", "*a", r"\1(", "(?<=a+)b", "(?R)"] {
            assert!(Regex::new(pattern.as_bytes(), Options::default()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_automaton_is_built_when_it_is_asked() {
        let regex = Regex::new(b"a+b", Options::default()).unwrap();
        let is_built = |regex: &Regex| match &regex.engine {
            Engine::Linear(linear) => linear.built.get().is_some(),
            Engine::Backtrack(_) => panic!("an ordinary pattern"),
        };
        assert!(!is_built(&regex), "20,000 rules would hold automata that nobody asks");
        assert!(regex.find(b"xaab", 0).is_some() && is_built(&regex));
    }

    proptest! {
        #[test]
        fn both_engines_agree(pattern in "[ab.]{1,3}([*+?][?]?|\\{[01],2\\}[?]?)?[abc]?(\\|[ab]{1,2})?",
                              data in "[abc]{0,12}") {
            let plain = Regex::new(pattern.as_bytes(), Options::default()).unwrap();
            let groups = Options { wants_groups: true, ..Options::default() };
            let slow = Regex::new(pattern.as_bytes(), groups).unwrap();
            prop_assert!(matches!(plain.engine, Engine::Linear(_)));
            prop_assert!(matches!(slow.engine, Engine::Backtrack(_)));
            let range = |regex: &Regex| {
                regex.find(data.as_bytes(), 0).map(|found| (found.start, found.end))
            };
            prop_assert_eq!(range(&plain), range(&slow));
        }

        #[test]
        fn nothing_panics(pattern in "[ -~]{0,24}", data in "[ -~]{0,24}") {
            let options = Options { wants_groups: true, ..Options::default() };
            if let Ok(regex) = Regex::new(pattern.as_bytes(), options) {
                let _ = regex.find(data.as_bytes(), 0);
            }
        }
    }
}
