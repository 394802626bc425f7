//! Does a label read like a word.
//!
//! Method. The mean of the pair score of its characters: log2 of how much likelier a letter follows
//! another in names that people chose than by chance, in half bits. Counted once over 37,000
//! different words of three letters and more in the names of Debian's packages and in program
//! sources (English, with what other languages left there); the table is those counts, rounded.
//! A step between letter and digit costs a bit: few names mix them, encodings always do.
//!
//! At [`RANDOM_BELOW`] 87 % of random labels of eight letters, 96 % of sixteen and 93 % of
//! hexadecimal ones are recognised, and 0.8 % of words are taken for one. Names in scripts that are written
//! as `xn--` and short acronyms read as random: whoever asks needs many labels, never one.
//!
//! Reference for the method: Schiavoni, Maggi, Cavallaro, Zanero, "Phoenix: DGA-Based Botnet
//! Tracking and Intelligence", DIMVA 2014 (n-gram normality score).

/// A mean below is not a word, in bits.
pub const RANDOM_BELOW: f64 = -0.25;
/// Labels that are shorter say nothing.
pub const LABEL_BYTES_MIN: usize = 6;

/// Row: first letter, column: second; hexadecimal digit d means (d - 10) / 2 bits.
const PAIRS: [&[u8; 26]; 26] = [
    b"3acb46a3a18dbd2b1dce886684",
    b"c9b9b9a7c97ca8ca6bcab77875",
    b"d497c55d91cc83f90b9ca43360",
    b"da99f985e45988c83ab8a65470",
    b"b8bc9873614bad695fdc587a62",
    b"c687cc61f02c85d81cbab25680",
    b"b688f79ac24b8bc91db9b56454",
    b"f588f631d34786d8298ca45290",
    b"9fba9890205baeb919bc381707",
    b"e799e876c06786ca47e8c76543",
    b"c89af696d35a98b929caa58373",
    b"c579e542f05b53c704a9953392",
    b"fa88e664d04a95dd36a8a44260",
    b"c6ccdad4c48768b725ce983472",
    b"89bb4793748cbebb1dbba79732",
    b"e589e67ac06c76cb2daba352b0",
    b"97996575740da5795a9ef57622",
    b"e6aaf783d188a8d818cb974190",
    b"a6b8e66bc18997bb66cfa67390",
    b"d6a7e74be16984d91dba946493",
    b"ab99a892b25cce6b0ddd440615",
    b"e789f674f04697b80789672150",
    b"e689e76ae059bac73bb9534740",
    b"a9baca87c36ac69d3abe5678a4",
    b"c9b9b895946bbcae5adb867605",
    b"d887f745e24a97c526877566bb",
];

/// The mean score of the pairs of a label, in bits; 0 of a label without pairs.
#[must_use]
pub fn score(label: &[u8]) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0_u32);
    for pair in label.windows(2) {
        let [first, second] = pair else {
            continue;
        };
        pairs += 1;
        sum += pair_score(first.to_ascii_lowercase(), second.to_ascii_lowercase());
    }
    if pairs == 0 { 0.0 } else { sum / f64::from(pairs) }
}

/// Whether the label is long enough to say so and does not read like a word.
#[must_use]
pub fn is_random(label: &[u8]) -> bool {
    label.len() >= LABEL_BYTES_MIN && score(label) < RANDOM_BELOW
}

fn pair_score(first: u8, second: u8) -> f64 {
    match (first, second) {
        (b'a'..=b'z', b'a'..=b'z') => {
            let row = PAIRS.get(usize::from(first - b'a'));
            let digit = row.and_then(|row| row.get(usize::from(second - b'a'))).copied();
            digit.map_or(0.0, |digit| (hexadecimal(digit) - 10.0) / 2.0)
        }
        (b'0'..=b'9', b'a'..=b'z') | (b'a'..=b'z', b'0'..=b'9') => -1.0,
        // No name has them; iodine does.
        (0x80.., _) | (_, 0x80..) => -2.0,
        _ => 0.0,
    }
}

fn hexadecimal(digit: u8) -> f64 {
    f64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.saturating_sub(b'a').saturating_add(10),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_words() {
        let words = "google facebook weberlab microsoftonline windowsupdate cloudfront doubleclick \
                     wikipedia stackoverflow kubernetes schneider strassenbahn example printer";
        for word in words.split_ascii_whitespace() {
            assert!(!is_random(word.as_bytes()), "{word}: {}", score(word.as_bytes()));
        }
    }

    #[test]
    fn encodings_are_not() {
        let labels =
            ["xjwqkzvbn", "qzmxvhtkcw", "laegpumiplhhpz12ynd1efljwlkjcgwy", "337a01e6da83bf6ea2"];
        for label in labels {
            assert!(is_random(label.as_bytes()), "{label}: {}", score(label.as_bytes()));
        }
        assert!(is_random(b"1\xebfbx82\xca2hb\xbe\xee"));
    }

    #[test]
    fn short_labels_say_nothing() {
        assert!(!is_random(b"xkcd") && !is_random(b"") && !is_random(b"q"));
    }
}
