//! The filters against a search that looks everywhere.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Literals, Seen};

#[derive(Default)]
struct All(BTreeSet<u32>);

impl Seen for All {
    fn is_known(&self, pattern: u32) -> bool {
        self.0.contains(&pattern)
    }

    fn found(&mut self, pattern: u32) {
        assert!(self.0.insert(pattern), "{pattern} is told once");
    }
}

fn find(patterns: &[Vec<u8>], text: &[u8]) -> BTreeSet<u32> {
    let mut all = All::default();
    Literals::new(patterns.to_vec()).find(text, &mut all);
    all.0
}

fn naive(patterns: &[Vec<u8>], text: &[u8]) -> BTreeSet<u32> {
    let is_in = |pattern: &[u8]| {
        !pattern.is_empty()
            && text.windows(pattern.len()).any(|at| at.eq_ignore_ascii_case(pattern))
    };
    let found = (0..).zip(patterns).filter(|(_, pattern)| is_in(pattern));
    found.map(|(number, _)| number).collect()
}

#[test]
fn every_place_in_the_text_and_every_length() {
    let whole: Vec<u8> = (b'a'..=b'z').collect();
    for length in 0..=whole.len() {
        let pattern = whole[..length].to_vec();
        for front in 0..9 {
            for behind in 0..5 {
                let text = [&vec![b'.'; front], &pattern[..], &vec![b'.'; behind]].concat();
                let expect = if length == 0 { BTreeSet::new() } else { [0].into() };
                assert_eq!(
                    find(std::slice::from_ref(&pattern), &text),
                    expect,
                    "{length} {front} {behind}"
                );
            }
        }
    }
}

#[test]
fn case_is_no_difference_and_neighbours_in_the_table_are() {
    assert_eq!(find(&[b"GeT /Index".to_vec()], b"xgEt /iNDEX"), [0].into());
    // The bit of the case makes one of these.
    assert_eq!(find(&[b"@@@@@@@".to_vec()], b"```````"), [].into());
    assert_eq!(find(&[b"[".to_vec(), b"{".to_vec()], b"{"), [1].into());
    assert_eq!(find(&[vec![0xc4; 8], vec![0xe4; 8]], &[0xc4; 8]), [0].into());
}

#[test]
fn patterns_that_begin_and_end_alike() {
    let patterns = ["a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "bcdefgh", "z"];
    let patterns = patterns.map(|pattern| pattern.as_bytes().to_vec());
    assert_eq!(find(&patterns, b"--abcdefgh"), (0..7).collect());
    assert_eq!(find(&patterns, b""), [].into());
}

#[test]
fn a_few_tiny_ones_and_many() {
    let few = [b"42".to_vec(), b"(".to_vec(), b"2".to_vec()];
    assert_eq!(find(&few, b"--4--(2"), [1, 2].into());
    assert_eq!(find(&few, b"42"), [0, 2].into());
    assert_eq!(find(&[b"A".to_vec()], b"xxa"), [0].into());
    let many: Vec<Vec<u8>> = (b'a'..=b'z').map(|letter| vec![letter]).collect();
    assert_eq!(find(&many, b"BzQ"), [1, 16, 25].into());
}

#[test]
fn thousands_of_each_kind() {
    let word = |number: u32, length: usize| {
        let mut dice = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut letter = || {
            dice ^= dice >> 12;
            dice ^= dice << 25;
            dice ^= dice >> 27;
            b'a' + u8::try_from(dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40 & 15).unwrap()
        };
        (0..length).map(|_| letter()).collect::<Vec<u8>>()
    };
    let patterns: Vec<Vec<u8>> =
        (0..6000).map(|number| word(number, 1 + number as usize % 14)).collect();
    let text: Vec<u8> = (0..300).flat_map(|number| word(number * 13, 14)).collect();
    let found = find(&patterns, &text);
    assert_eq!(found, naive(&patterns, &text));
    assert!(found.len() > 300);
}

proptest! {
    #[test]
    fn what_a_naive_search_finds_is_found(
        patterns in prop::collection::vec(prop::collection::vec("[abA\\x00]", 0..11), 1..90),
        text in prop::collection::vec("[abcAB\\x00]", 0..80),
    ) {
        let patterns: Vec<Vec<u8>> =
            patterns.into_iter().map(|pattern| pattern.concat().into_bytes()).collect();
        let text = text.concat().into_bytes();
        prop_assert_eq!(find(&patterns, &text), naive(&patterns, &text));
    }

    #[test]
    fn pieces_of_any_text_are_found(
        text in prop::collection::vec(any::<u8>(), 1..200),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1..20_usize), 1..80),
    ) {
        let piece = |(at, length): &(prop::sample::Index, usize)| {
            let from = at.index(text.len());
            text[from..(from + length).min(text.len())].to_ascii_uppercase()
        };
        let patterns: Vec<Vec<u8>> = cuts.iter().map(piece).collect();
        prop_assert_eq!(find(&patterns, &text).len(), patterns.len());
    }
}
