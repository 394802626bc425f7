//! Fields of a header block the way libhtp reads them: folded names and values, lone line ends,
//! ends of a block that browsers accept. Browsers differ from the standard here, and evasions live
//! on it.

use super::line::is_token;
use crate::Direction;

/// Lines that one value may be folded over (libhtp's limit).
const FOLDS_MAX: usize = 128;

/// A field as sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Bytes of it.
    pub length: usize,
    /// With white space around it, if there is a colon.
    pub name: Option<Vec<u8>>,
    /// Folded lines joined.
    pub value: Vec<u8>,
    /// One of its lines has an end that is none.
    pub is_deformed: bool,
}

/// What comes next in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A field.
    Field(Field),
    /// The end of the block, of so many bytes.
    End(usize),
    /// More bytes are needed to tell.
    More,
}

/// Reads what is next in `input`; `is_first`: nothing of the block was read before it.
pub(super) fn next(input: &[u8], side: Direction, is_first: bool) -> Next {
    // A server's block can't begin with a lone line end: that is a field without anything, as libhtp
    // has it, and what follows is no body.
    let is_empty_field = is_first
        && side == Direction::ToClient
        && matches!(input, [b'\n', _, ..] | [b'\r', 0..=9 | 11.., ..]);
    let end = if is_empty_field { Some(None) } else { end_of_block(input, side) };
    match end {
        Some(Some(used)) => return Next::End(used),
        Some(None) => {}
        None => return Next::More,
    }
    let Some(name_end) = name(input, side) else { return Next::More };
    let (name, from) = if input.get(name_end) == Some(&b':') {
        let blanks = input.get(name_end + 1..).unwrap_or_default();
        let blanks = blanks.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        (input.get(..name_end).map(<[u8]>::to_vec), name_end + 1 + blanks)
    } else {
        (None, 0)
    };
    match value(input, from, side) {
        Some(Value { length, text: value, is_deformed }) => {
            Next::Field(Field { length, name, value, is_deformed })
        }
        None => Next::More,
    }
}

/// Whether the block ends at the start of `input`; `None`: more bytes are needed to tell.
fn end_of_block(input: &[u8], side: Direction) -> Option<Option<usize>> {
    match (side, input) {
        (_, []) | (_, b"\r") => None,
        (_, [b'\r', b'\n', ..]) => Some(Some(2)),
        (Direction::ToClient, [b'\n', b'\r', ..]) => Some(Some(2)),
        (_, [b'\n', ..]) | (Direction::ToClient, [b'\r', ..]) => Some(Some(1)),
        _ => Some(None),
    }
}

/// More is no name, however many lines it folds over: without a bound each would be read again with
/// every line of its value. More than `http_field_bytes_max`.
const NAME_BYTES_MAX: usize = 20_000;

/// Where the name ends: at its colon, or at the end of a line without one. A line end with a blank
/// behind it is part of the name.
fn name(input: &[u8], side: Direction) -> Option<usize> {
    let mut ended = 0;
    for (at, byte) in input.iter().take(NAME_BYTES_MAX).enumerate() {
        match (ended, *byte) {
            (0, b':') => return Some(at),
            (0, b'\n') => ended = b'\n',
            (0, b'\r') if side == Direction::ToClient => ended = b'\r',
            (0, _) => {}
            (_, b' ') => ended = 0,
            (b'\r', b'\n') => ended = b'\n',
            _ => return Some(at - 1),
        }
    }
    None
}

/// A line end: how long, and whether the next line folds (with which byte).
struct LineEnd {
    bytes: usize,
    fold: Option<u8>,
    is_deformed: bool,
}

const fn is_fold(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0)
}

/// The line end at the start of `input`.
fn line_end(input: &[u8], side: Direction) -> Option<LineEnd> {
    let regular = match (side, input) {
        (_, [b'\r', b'\n', ..]) => 2,
        (_, b"\r" | b"\n") => return None,
        (Direction::ToClient, [b'\n', b'\r', ..]) => 2,
        _ => 1,
    };
    let fold = input.get(regular).copied().filter(|byte| is_fold(*byte));
    if fold.is_some() {
        return Some(LineEnd { bytes: regular, fold, is_deformed: false });
    }
    let deformed = deformed_end(input, side)?;
    let bytes = deformed.unwrap_or(regular);
    let after = *input.get(bytes)?;
    // Behind a deformed end a blank does not fold.
    let fold = (is_fold(after) && deformed.is_none()).then_some(after);
    Some(LineEnd { bytes, fold, is_deformed: deformed.is_some() })
}

/// Line ends that are none, with which some servers end the last line.
fn deformed_end(input: &[u8], side: Direction) -> Option<Option<usize>> {
    if let Some(rest) = input.strip_prefix(b"\n\r\r\n") {
        return match rest {
            [b'\n', ..] | [b'\r', b'\n', ..] => Some(Some(4)),
            [] | [b'\r'] => None,
            _ => Some(None),
        };
    }
    match side {
        Direction::ToServer => Some(input.starts_with(b"\n\r\r\n").then_some(2)),
        Direction::ToClient => {
            let Some(rest) = input.strip_prefix(b"\r\n\r") else { return Some(None) };
            let blanks = rest.iter().take_while(|byte| b"\r \t".contains(byte)).count();
            if blanks == 0 {
                return Some(None);
            }
            let end = 3 + blanks + usize::from(*rest.get(blanks)? == b'\n');
            match input.get(end..)? {
                [b'\n', ..] | [b'\r', b'\n', ..] => Some(None),
                [] => None,
                _ => Some(Some(end)),
            }
        }
    }
}

/// One line of a value: its text and what ends it.
fn value_line(input: &[u8], from: usize, side: Direction) -> Option<(&[u8], usize, LineEnd)> {
    let rest = input.get(from..)?;
    let stop = match side {
        Direction::ToServer => memchr::memchr(b'\n', rest)?,
        Direction::ToClient => memchr::memchr2(b'\n', b'\r', rest)?,
    };
    let mut text = rest.get(..stop)?;
    if let Some(shorter) = text.strip_suffix(b"\r") {
        text = shorter;
    }
    let end = line_end(rest.get(text.len()..)?, side)?;
    let behind = from + text.len() + end.bytes + usize::from(end.fold.is_some());
    Some((text, behind, end))
}

/// A value: where it ends, and what it is.
struct Value {
    length: usize,
    text: Vec<u8>,
    is_deformed: bool,
}

/// A value from `from` on, folded lines joined.
fn value(input: &[u8], from: usize, side: Direction) -> Option<Value> {
    let (text, mut at, mut end) = value_line(input, from, side)?;
    let mut value = text.to_vec();
    let mut used = at;
    let mut is_deformed = end.is_deformed;
    let mut folds = 0;
    while let Some(fold) = end.fold {
        // A server's continuation that looks like a field is one.
        if side == Direction::ToClient && looks_like_field(input.get(at..)?)? {
            return Some(Value { length: at, text: value, is_deformed });
        }
        let (text, behind, next) = value_line(input, at, side)?;
        at = behind;
        is_deformed |= next.is_deformed;
        if !value.is_empty() {
            value.push(fold);
        }
        let is_long_end = next.bytes + usize::from(next.fold.is_some()) > 1 && next.bytes > 1;
        if !text.is_empty() || is_long_end || input.get(at) == Some(&b'\n') {
            // An empty line with a blank stays: it may end the block.
            used = at;
            value.extend_from_slice(text);
        }
        folds += 1;
        end = next;
        if folds >= FOLDS_MAX {
            break;
        }
    }
    Some(Value { length: used, text: value, is_deformed })
}

/// Whether a token and a colon come; `None`: more bytes are needed to tell.
fn looks_like_field(input: &[u8]) -> Option<bool> {
    let count = |from: usize, is: &dyn Fn(u8) -> bool| {
        input.get(from..).unwrap_or_default().iter().take_while(|byte| is(**byte)).count()
    };
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let start = count(0, &blank);
    let token = count(start, &is_token);
    let end = start + token + count(start + token, &blank);
    input.get(end).map(|byte| token > 0 && *byte == b':')
}

/// Whether a name has bytes that no token has, blanks at its ends left out.
pub(super) fn is_odd_name(name: &[u8]) -> bool {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let start = name.iter().take_while(blank).count();
    let end = name.len() - name.iter().rev().take_while(blank).count();
    !name.get(start..end).unwrap_or_default().iter().all(|byte| is_token(*byte))
}

#[cfg(test)]
mod tests {
    use super::{Field, Next, next};
    use crate::Direction::{self, ToClient, ToServer};

    fn check(side: Direction, input: &str, want: &[(&str, &str)], rest: &str) {
        let mut input = input.as_bytes();
        let mut found = Vec::new();
        loop {
            match next(input, side, found.is_empty()) {
                Next::Field(Field { length: used, name, value, .. }) => {
                    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
                    found.push((name.map(text).unwrap_or_default(), text(value)));
                    input = &input[used..];
                }
                Next::End(used) => {
                    input = &input[used..];
                    break;
                }
                Next::More => {
                    found.push(("more".into(), String::new()));
                    break;
                }
            }
        }
        let want: Vec<(String, String)> =
            want.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(found, want);
        assert_eq!(String::from_utf8_lossy(input), rest);
    }

    #[test]
    fn usual_blocks() {
        check(ToServer, "A: b\r\nC:d\r\n\r\nx", &[("A", "b"), ("C", "d")], "x");
        check(ToServer, "A: b\n\nx", &[("A", "b")], "x");
        check(ToServer, "A: b\r\n c\r\n\r\n", &[("A", "b c")], "");
        check(ToServer, "none\r\nA:\r\n\r\n", &[("", "none"), ("A", "")], "");
        check(ToServer, "\r\nx", &[], "x");
        check(ToServer, "A: b\r\n", &[("more", "")], "A: b\r\n");
        check(ToServer, "A: b\r\n\r", &[("A", "b"), ("more", "")], "\r");
    }

    #[test]
    fn what_browsers_accept_of_servers() {
        check(ToClient, "A: b\rC: d\r\r\nx", &[("A", "b"), ("C", "d")], "x");
        check(ToClient, "A\r\n :b\r\n\r\nx", &[("A", "b")], "x");
        check(ToClient, "A:\n\0b\r\n\r\nx", &[("A", "b")], "x");
        check(ToClient, "A: b\n \nx\r\n", &[("A", "b")], "x\r\n");
        check(ToClient, "A: b\n\r\r\nx", &[("A", "b")], "x");
        check(ToClient, "A: b\r\n C: d\r\n\r\nx", &[("A", "b"), ("C", "d")], "x");
        check(ToClient, "A: b\r\n c d\r\n\r\nx", &[("A", "b c d")], "x");
    }
}
