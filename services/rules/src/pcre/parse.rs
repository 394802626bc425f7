//! PCRE's syntax over bytes, as far as rules use it.

use super::set::{Set, fold, from_fn, insert, is_space, is_word, merge, posix, shorthand};

/// Groups in groups.
const DEPTH_MAX: u32 = 64;
/// Largest count of a repetition (PCRE: 65535; automata grow with it).
const REPEAT_MAX: u32 = 2048;

/// Why a pattern can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("pattern ends too early")]
    End,
    #[error("unexpected {0:?} at byte {1} of the pattern")]
    Unexpected(char, usize),
    #[error("construct {0:?} of the pattern is not supported")]
    Construct(String),
    #[error("lookbehind of the pattern has no fixed length")]
    Lookbehind,
    #[error("pattern is too large or nested too deep")]
    TooLarge,
    #[error("group {0:?} of the pattern does not exist")]
    Group(String),
}

/// Options that may change inside a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "PCRE's independent option letters")]
pub(super) struct Flags {
    pub(super) is_caseless: bool,
    pub(super) is_multiline: bool,
    pub(super) is_dotall: bool,
    pub(super) is_extended: bool,
    pub(super) is_dollar_endonly: bool,
    pub(super) is_ungreedy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// `\A`, `^` without `m`.
    Start,
    /// `^` with `m`.
    LineStart,
    /// `\z`, `$` with `E`.
    End,
    /// `$` without `m`, `\Z`.
    EndOrNewline,
    /// `$` with `m`.
    LineEnd,
    /// `\b`.
    Word,
    /// `\B`.
    NotWord,
    /// `\G`: where the search began.
    SearchStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greed {
    Greedy,
    Lazy,
    Possessive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ast {
    Empty,
    Byte(Set),
    Anchor(Anchor),
    Concat(Vec<Ast>),
    Alternate(Vec<Ast>),
    Repeat {
        inner: Box<Ast>,
        min: u32,
        max: Option<u32>,
        greed: Greed,
    },
    Group(usize, Box<Ast>),
    Look {
        inner: Box<Ast>,
        is_behind: bool,
        is_negated: bool,
    },
    Atomic(Box<Ast>),
    Backreference {
        group: usize,
        is_caseless: bool,
    },
    /// `\K`.
    Keep,
}

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) ast: Ast,
    pub(super) groups: usize,
    pub(super) is_fancy: bool,
}

/// Reads a pattern.
pub(super) fn parse(pattern: &[u8], flags: Flags) -> Result<Parsed, PatternError> {
    let mut parser = Parser {
        pattern,
        at: 0,
        flags,
        groups: 0,
        names: Vec::new(),
        is_fancy: false,
        depth: 0,
        total_groups: count_groups(pattern),
    };
    let ast = parser.alternation()?;
    match parser.peek() {
        Some(byte) => Err(PatternError::Unexpected(char::from(byte), parser.at)),
        None => Ok(Parsed { ast, groups: parser.groups, is_fancy: parser.is_fancy }),
    }
}

/// An upper bound of the groups of a pattern, to tell `\1` from an octal number.
fn count_groups(pattern: &[u8]) -> usize {
    pattern.iter().filter(|byte| **byte == b'(').count()
}

struct Parser<'p> {
    pattern: &'p [u8],
    at: usize,
    flags: Flags,
    groups: usize,
    names: Vec<(String, usize)>,
    is_fancy: bool,
    depth: u32,
    total_groups: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, PatternError> {
        let byte = self.peek().ok_or(PatternError::End)?;
        self.at += 1;
        Ok(byte)
    }

    fn eat(&mut self, text: &[u8]) -> bool {
        let is_there = self.pattern.get(self.at..).is_some_and(|rest| rest.starts_with(text));
        if is_there {
            self.at += text.len();
        }
        is_there
    }

    fn alternation(&mut self) -> Result<Ast, PatternError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(PatternError::TooLarge);
        }
        let flags = self.flags;
        let mut branches = vec![self.branch()?];
        while self.eat(b"|") {
            branches.push(self.branch()?);
        }
        self.flags = flags;
        self.depth -= 1;
        Ok(match branches.len() {
            1 => branches.pop().unwrap_or(Ast::Empty),
            _ => Ast::Alternate(branches),
        })
    }

    fn branch(&mut self) -> Result<Ast, PatternError> {
        let mut parts = Vec::new();
        while let Some(byte) = self.peek() {
            if matches!(byte, b'|' | b')') {
                break;
            }
            if self.flags.is_extended && (is_space(byte) || byte == b'#') {
                self.skip_extended();
                continue;
            }
            let Some(atom) = self.atom()? else { continue };
            parts.push(self.repeated(atom)?);
        }
        Ok(match parts.len() {
            0 => Ast::Empty,
            1 => parts.pop().unwrap_or(Ast::Empty),
            _ => Ast::Concat(parts),
        })
    }

    fn skip_extended(&mut self) {
        if self.eat(b"#") {
            while self.peek().is_some_and(|byte| byte != b'\n') {
                self.at += 1;
            }
        } else {
            self.at += 1;
        }
    }

    fn atom(&mut self) -> Result<Option<Ast>, PatternError> {
        let start = self.at;
        let byte = self.next()?;
        Ok(Some(match byte {
            b'(' => return self.group(),
            b'[' => {
                let set = self.class()?;
                self.byte(set)
            }
            b'.' => {
                let is_dotall = self.flags.is_dotall;
                Ast::Byte(from_fn(|byte| is_dotall || byte != b'\n'))
            }
            b'^' if self.flags.is_multiline => Ast::Anchor(Anchor::LineStart),
            b'^' => Ast::Anchor(Anchor::Start),
            b'$' if self.flags.is_multiline => Ast::Anchor(Anchor::LineEnd),
            b'$' if self.flags.is_dollar_endonly => Ast::Anchor(Anchor::End),
            b'$' => Ast::Anchor(Anchor::EndOrNewline),
            b'\\' => return self.escape().map(Some),
            b'*' | b'+' | b'?' => {
                return Err(PatternError::Unexpected(char::from(byte), start));
            }
            _ => self.literal(byte),
        }))
    }

    fn literal(&self, byte: u8) -> Ast {
        self.byte(from_fn(|other| other == byte))
    }

    fn byte(&self, set: Set) -> Ast {
        Ast::Byte(if self.flags.is_caseless { fold(set) } else { set })
    }

    fn repeated(&mut self, atom: Ast) -> Result<Ast, PatternError> {
        let mut atom = atom;
        for depth in 0.. {
            let (min, max) = match self.peek() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => match self.counts() {
                    Some(counts) => counts,
                    None => return Ok(atom),
                },
                _ => return Ok(atom),
            };
            self.at += 1;
            if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                return Err(PatternError::TooLarge);
            }
            let mut greed = if self.flags.is_ungreedy { Greed::Lazy } else { Greed::Greedy };
            if self.eat(b"?") {
                greed = if self.flags.is_ungreedy { Greed::Greedy } else { Greed::Lazy };
            } else if self.eat(b"+") {
                greed = Greed::Possessive;
                self.is_fancy = true;
            }
            if depth >= DEPTH_MAX {
                return Err(PatternError::TooLarge);
            }
            atom = Ast::Repeat { inner: Box::new(atom), min, max, greed };
        }
        Ok(atom)
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else is literal. Leaves `at` on the closing brace.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let rest = self.pattern.get(self.at + 1..)?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        let counts = match text.split_once(',') {
            Some((min, "")) => (min.parse().ok()?, None),
            Some((min, max)) => (min.parse().ok()?, Some(max.parse().ok()?)),
            None => {
                let count = text.parse().ok()?;
                (count, Some(count))
            }
        };
        self.at += 1 + end;
        Some(counts)
    }

    fn close(&mut self) -> Result<(), PatternError> {
        if self.eat(b")") { Ok(()) } else { Err(PatternError::End) }
    }

    fn group(&mut self) -> Result<Option<Ast>, PatternError> {
        if !self.eat(b"?") {
            return self.capture(None).map(Some);
        }
        for (text, is_behind, is_negated) in [
            (&b"="[..], false, false),
            (b"!", false, true),
            (b"<=", true, false),
            (b"<!", true, true),
        ] {
            if self.eat(text) {
                self.is_fancy = true;
                let inner = Box::new(self.alternation()?);
                self.close()?;
                return Ok(Some(Ast::Look { inner, is_behind, is_negated }));
            }
        }
        if self.eat(b">") {
            self.is_fancy = true;
            let inner = self.alternation()?;
            self.close()?;
            return Ok(Some(Ast::Atomic(Box::new(inner))));
        }
        if self.eat(b"#") {
            while self.next()? != b')' {}
            return Ok(None);
        }
        if self.eat(b"P=") {
            let name = self.name(b')')?;
            return self.named_reference(&name).map(Some);
        }
        if self.eat(b"P<") || self.eat(b"<") {
            let name = self.name(b'>')?;
            return self.capture(Some(name)).map(Some);
        }
        if self.eat(b"'") {
            let name = self.name(b'\'')?;
            return self.capture(Some(name)).map(Some);
        }
        self.flagged()
    }

    fn capture(&mut self, name: Option<String>) -> Result<Ast, PatternError> {
        self.groups += 1;
        let index = self.groups;
        if let Some(name) = name {
            self.names.push((name, index));
        }
        let inner = self.alternation()?;
        self.close()?;
        Ok(Ast::Group(index, Box::new(inner)))
    }

    fn name(&mut self, end: u8) -> Result<String, PatternError> {
        let mut name = String::new();
        loop {
            match self.next()? {
                byte if byte == end => return Ok(name),
                byte if is_word(byte) => name.push(char::from(byte)),
                byte => return Err(PatternError::Unexpected(char::from(byte), self.at)),
            }
        }
    }

    fn named_reference(&mut self, name: &str) -> Result<Ast, PatternError> {
        let found = self.names.iter().find(|(known, _)| known == name);
        let group = found.ok_or_else(|| PatternError::Group(name.to_owned()))?.1;
        self.is_fancy = true;
        Ok(Ast::Backreference { group, is_caseless: self.flags.is_caseless })
    }

    /// `(?i)`, `(?i:...)`, `(?:...)`.
    fn flagged(&mut self) -> Result<Option<Ast>, PatternError> {
        let before = self.flags;
        let mut is_on = true;
        loop {
            match self.next()? {
                b'-' => is_on = false,
                b'i' => self.flags.is_caseless = is_on,
                b'm' => self.flags.is_multiline = is_on,
                b's' => self.flags.is_dotall = is_on,
                b'x' => self.flags.is_extended = is_on,
                b'U' => self.flags.is_ungreedy = is_on,
                b')' => return Ok(None),
                b':' => {
                    let inner = self.alternation()?;
                    self.close()?;
                    self.flags = before;
                    // A group keeps the parts together for a repetition.
                    return Ok(Some(Ast::Concat(vec![inner])));
                }
                byte => {
                    return Err(PatternError::Construct(format!("(?{}", char::from(byte))));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<Ast, PatternError> {
        let byte = self.next()?;
        let anchor = match byte {
            b'b' => Some(Anchor::Word),
            b'B' => Some(Anchor::NotWord),
            b'A' => Some(Anchor::Start),
            b'z' => Some(Anchor::End),
            b'Z' => Some(Anchor::EndOrNewline),
            b'G' => {
                self.is_fancy = true;
                Some(Anchor::SearchStart)
            }
            _ => None,
        };
        if let Some(anchor) = anchor {
            return Ok(Ast::Anchor(anchor));
        }
        if let Some(set) = shorthand(byte) {
            return Ok(Ast::Byte(set));
        }
        match byte {
            b'K' => {
                self.is_fancy = true;
                Ok(Ast::Keep)
            }
            b'R' => Ok(Ast::Byte(from_fn(|byte| matches!(byte, b'\n' | b'\r' | 0x0b | 0x0c)))),
            b'Q' => Ok(self.quoted()),
            b'E' => Ok(Ast::Empty),
            b'k' | b'g' => self.reference(),
            b'1'..=b'9' => {
                let digits = self.digits(usize::from(byte - b'0'));
                match digits {
                    group if group < 10 || group <= self.total_groups => self.numbered(group),
                    _ => {
                        self.at -= 1;
                        let octal = self.octal();
                        Ok(self.literal(octal))
                    }
                }
            }
            b'p' | b'P' | b'X' | b'C' => {
                Err(PatternError::Construct(format!("\\{}", char::from(byte))))
            }
            _ => {
                let byte = self.escaped_byte(byte)?;
                Ok(self.literal(byte))
            }
        }
    }

    fn digits(&mut self, first: usize) -> usize {
        let mut value = first;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if value > 99 {
                break;
            }
            value = value * 10 + usize::from(digit - b'0');
            self.at += 1;
        }
        value
    }

    fn numbered(&mut self, group: usize) -> Result<Ast, PatternError> {
        if group == 0 || group > self.total_groups {
            return Err(PatternError::Group(group.to_string()));
        }
        self.is_fancy = true;
        Ok(Ast::Backreference { group, is_caseless: self.flags.is_caseless })
    }

    fn reference(&mut self) -> Result<Ast, PatternError> {
        let end = match self.next()? {
            b'{' => b'}',
            b'<' => b'>',
            b'\'' => b'\'',
            digit @ b'1'..=b'9' => {
                let group = self.digits(usize::from(digit - b'0'));
                return self.numbered(group);
            }
            byte => return Err(PatternError::Unexpected(char::from(byte), self.at)),
        };
        let name = self.name(end)?;
        match name.parse() {
            Ok(group) => self.numbered(group),
            Err(_) => self.named_reference(&name),
        }
    }

    /// `\Q...\E`.
    fn quoted(&mut self) -> Ast {
        let mut parts = Vec::new();
        while let Some(byte) = self.peek() {
            if self.eat(b"\\E") {
                break;
            }
            self.at += 1;
            parts.push(self.literal(byte));
        }
        Ast::Concat(parts)
    }

    fn octal(&mut self) -> u8 {
        let mut value = 0_u32;
        let mut count = 0;
        while count < 3 {
            let Some(digit @ b'0'..=b'7') = self.peek() else { break };
            value = value * 8 + u32::from(digit - b'0');
            self.at += 1;
            count += 1;
        }
        u8::try_from(value & 0xff).unwrap_or(0)
    }

    fn escaped_byte(&mut self, byte: u8) -> Result<u8, PatternError> {
        Ok(match byte {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'f' => 0x0c,
            b'a' => 0x07,
            b'e' => 0x1b,
            b'c' => self.next()?.to_ascii_uppercase() ^ 0x40,
            b'0' => {
                self.at -= 1;
                self.octal()
            }
            b'x' => self.hex()?,
            _ => byte,
        })
    }

    fn hex(&mut self) -> Result<u8, PatternError> {
        if self.eat(b"{") {
            let name = self.name(b'}')?;
            let value = u32::from_str_radix(&name, 16).map_err(|_| PatternError::End)?;
            return u8::try_from(value)
                .map_err(|_| PatternError::Construct(format!("\\x{{{name}}}")));
        }
        let mut value = 0;
        for _ in 0..2 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit.and_then(|digit| u8::try_from(digit).ok()) else { break };
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }

    fn class(&mut self) -> Result<Set, PatternError> {
        let is_negated = self.eat(b"^");
        let mut set = Set::default();
        let mut is_first = true;
        loop {
            let byte = self.next()?;
            if byte == b']' && !is_first {
                break;
            }
            is_first = false;
            let low = match self.class_item(byte, &mut set)? {
                Some(low) => low,
                None => continue,
            };
            let is_range = self.peek() == Some(b'-')
                && self.pattern.get(self.at + 1).is_some_and(|next| *next != b']');
            if !is_range {
                insert(&mut set, low);
                continue;
            }
            self.at += 1;
            let next = self.next()?;
            match self.class_item(next, &mut set)? {
                Some(high) if low <= high => {
                    (low..=high).for_each(|byte| insert(&mut set, byte));
                }
                Some(high) => return Err(PatternError::Unexpected(char::from(high), self.at)),
                None => {
                    insert(&mut set, low);
                    insert(&mut set, b'-');
                }
            }
        }
        if self.flags.is_caseless {
            set = fold(set);
        }
        Ok(if is_negated { set.map(|word| !word) } else { set })
    }

    /// One byte, or a class that was added to `set`.
    fn class_item(&mut self, byte: u8, set: &mut Set) -> Result<Option<u8>, PatternError> {
        if byte == b'[' && matches!(self.peek(), Some(b':')) {
            let rest = self.pattern.get(self.at + 1..).unwrap_or_default();
            if let Some(end) = rest.windows(2).position(|pair| pair == b":]") {
                let name = rest.get(..end).unwrap_or_default();
                if let Some(class) = posix(name) {
                    self.at += end + 3;
                    merge(set, &class);
                    return Ok(None);
                }
            }
        }
        if byte != b'\\' {
            return Ok(Some(byte));
        }
        let byte = self.next()?;
        if let Some(class) = shorthand(byte) {
            merge(set, &class);
            return Ok(None);
        }
        match byte {
            b'b' => Ok(Some(8)),
            b'1'..=b'7' => {
                self.at -= 1;
                Ok(Some(self.octal()))
            }
            _ => self.escaped_byte(byte).map(Some),
        }
    }
}
