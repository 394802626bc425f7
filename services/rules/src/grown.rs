//! Searches in bodies, which grow: how far each came, and what it has found.
//!
//! A body is looked at with every packet that brings more of it. What was searched before is not
//! searched again: what was found there is still there, and what is new ends in new bytes. When the
//! window on the body moves, or anything else is not as it was, all of it is searched anew.
//!
//! What must never happen here: a pattern that a search of everything finds and this one does not.

use std::borrow::Cow;

use crate::{
    buffer::Buffer, candidates::Candidates, few::Few, prefilter::Search, transform::Transform,
};

/// Patterns of one search that are remembered: what finds more is searched anew each time.
const FOUND_MAX: usize = 64;

/// Bodies of one transaction in one direction, as one search has seen them.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    place: (u32, u8),
    windows: Few<Window>,
    /// In any of the windows: a search tells of a pattern once.
    found: Few<u32>,
}

/// What was searched of one body.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Where in the body it began.
    start: u64,
    length: usize,
}

/// Whether a buffer may grow while its progress stays the same.
pub(crate) const fn may_grow(buffer: Buffer) -> bool {
    matches!(buffer, Buffer::HttpRequestBody | Buffer::HttpResponseBody | Buffer::FileData)
}

impl Grown {
    /// Nothing is known yet.
    pub(crate) fn new(place: (u32, u8)) -> Self {
        Self { place, ..Self::default() }
    }

    /// Index of the search in the prefilter, and of the direction.
    pub(crate) const fn place(&self) -> (u32, u8) {
        self.place
    }

    /// Adds the rules whose pattern is in one of the bodies; `body` gives them by number, each with
    /// where in the whole it begins.
    pub(crate) fn search<'d>(
        &mut self,
        search: &Search,
        transforms: &[Transform],
        body: impl Fn(usize) -> Option<(Cow<'d, [u8]>, u64)>,
        out: &mut Candidates,
    ) {
        let is_as_it_was = self.windows.iter().enumerate().all(|(number, window)| {
            body(number)
                .is_some_and(|(data, start)| start == window.start && data.len() >= window.length)
        });
        if !is_as_it_was {
            self.forget();
        }
        let before = out.patterns().len();
        for pattern in self.found.iter() {
            search.found_before(*pattern, out);
        }
        for (number, (data, start)) in (0..).map_while(|number| Some((number, body(number)?))) {
            let known = self.windows.get(number).map_or(0, |window| window.length);
            if known < data.len() || known == 0 {
                let window = Window { start, length: data.len() };
                search_behind(search, transforms, data, known, out);
                match self.windows.get_mut(number) {
                    Some(known) => *known = window,
                    None => self.windows.push(window),
                }
            }
        }
        let found = out.patterns().get(before..).unwrap_or_default();
        if found.len() > FOUND_MAX {
            return self.forget();
        }
        for pattern in found.get(self.found.len()..).unwrap_or_default() {
            self.found.push(*pattern);
        }
    }

    fn forget(&mut self) {
        self.windows.clear();
        self.found.clear();
    }
}

/// Searches what may hold a pattern that ends behind the first `known` bytes.
fn search_behind(
    search: &Search,
    transforms: &[Transform],
    data: Cow<'_, [u8]>,
    known: usize,
    out: &mut Candidates,
) {
    let overlap = search.pattern_bytes_max().saturating_sub(1);
    let from = match transforms {
        _ if known == 0 => None,
        [] => Some(known.saturating_sub(overlap)),
        // How many bytes the front gives is not known.
        _ if search.has_head() => None,
        [transform] => transform.resume(&data, known, overlap),
        _ => None,
    };
    let apply =
        |data| transforms.iter().fold(data, |data, transform: &Transform| transform.apply(data));
    match from {
        Some(from) => {
            let rest = apply(Cow::Borrowed(data.get(from..).unwrap_or_default()));
            search.find_behind(&data, known, &rest, out);
        }
        None => search.find(&apply(data), out),
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, sync::Arc};

    use super::Grown;
    use crate::{Config, Ruleset, candidates::Candidates, prefilter::BufferSearch};

    /// Two bodies whose windows move, with a word at borders of all kinds.
    fn windows() -> Vec<Vec<(Vec<u8>, u64)>> {
        let whole: Vec<u8> = b"..a B c d e f g..first%20word.. . . second  WORD .xy.Ab Cdefg.."
            .iter()
            .chain(b"first worD.............first word.a b c d e f g...")
            .copied()
            .collect();
        let window = |from: usize, to: usize| (whole[from..to].to_vec(), from as u64);
        let mut out: Vec<Vec<_>> = (1..whole.len()).map(|to| vec![window(0, to)]).collect();
        out.extend((1..whole.len()).step_by(7).map(|to| vec![window(0, to)]));
        out.push(vec![window(20, 50)]);
        out.extend((60..whole.len()).step_by(3).map(|to| vec![window(20, 70), window(50, to)]));
        out.push(vec![window(60, 80), window(50, 90)]);
        out.push(vec![window(60, 80)]);
        out.push(vec![]);
        out.push(vec![window(0, 30)]);
        out
    }

    fn ruleset() -> Arc<Ruleset> {
        let contents = [
            "content:\"abcdefg\"; nocase;",
            "content:\"first word\"; nocase;",
            "content:\"a b c d e f g\";",
            "content:\"second word\"; nocase;",
            "content:\"xy\";",
            "content:\"d\";",
            "content:\"..a\"; depth:9;",
        ];
        let transforms =
            ["", "strip_whitespace;", "compress_whitespace;", "url_decode;", "to_lowercase;"];
        let rules = transforms.iter().flat_map(|transform| {
            contents.iter().map(move |content| format!("{transform} {content}"))
        });
        let rules: String = (1..)
            .zip(rules)
            .map(|(sid, rule)| {
                format!("alert http any any -> any any (file.data; {rule} sid:{sid};)\n")
            })
            .collect();
        let (ruleset, _) = Ruleset::new(&[("x", &rules)], Config::default());
        assert_eq!(ruleset.problems, []);
        Arc::new(ruleset)
    }

    fn list(candidates: &mut Candidates) -> Vec<u32> {
        candidates.sort();
        (0..).map_while(|at| candidates.get(at)).collect()
    }

    #[test]
    fn finds_what_a_search_of_everything_finds() {
        let ruleset = ruleset();
        let mut found = 0;
        for BufferSearch { lender: (rule, at), search, .. } in &ruleset.prefilter.buffers {
            let (transforms, search) =
                (&ruleset.rules[*rule as usize].buffers[*at].transforms, search.as_ref().unwrap());
            let mut grown = Grown::new((0, 0));
            let (mut ours, mut whole) = (Candidates::default(), Candidates::default());
            for windows in windows() {
                ours.clear();
                whole.clear();
                let body = |number: usize| {
                    windows.get(number).map(|(data, start)| (Cow::Borrowed(&data[..]), *start))
                };
                grown.search(search, transforms, body, &mut ours);
                for (data, _) in &windows {
                    let data = transforms
                        .iter()
                        .fold(Cow::Borrowed(&data[..]), |data, transform| transform.apply(data));
                    search.find(&data, &mut whole);
                }
                let (ours, whole) = (list(&mut ours), list(&mut whole));
                assert_eq!(ours, whole, "{transforms:?} {windows:?}");
                found += whole.len();
            }
        }
        assert!(found > 1000, "{found} are found at all");
    }
}
