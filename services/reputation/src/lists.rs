//! Lists as people publish them, line by line: hosts files, adblock rules, response policy zones
//! (RPZ) and plain names.
//!
//! A list of a million names always has garbage. Nothing in it may stop the good part from being
//! loaded, take more memory than one line, or panic: each line gives names or is counted as one
//! [`Garbage`]. The result goes to a [`crate::draft::Draft`]; the fuzz target is `reputation-lists`.

mod adblock;
mod hosts;
mod rpz;

use crate::{
    name::{self, Name, NameError},
    suffix,
};

/// Longest line that is looked at. 4 KiB: a name has 253 bytes, a hosts line a dozen of them.
pub const LINE_BYTES_MAX: usize = 4096;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `0.0.0.0 name name # comment`.
    Hosts,
    /// `||name^` blocks, `@@||name^` allows, `!` comments.
    Adblock,
    /// A zone in master file format (RFC 1035, 5): `name CNAME .`.
    Rpz,
    /// A name a line, `#` or `;` comments.
    Plain,
}

/// What a line asks for. Names are normalised, have two labels or more and are no public suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The name and everything below it.
    Block(&'a [u8]),
    /// An exception: never refused, nor what is below it.
    Allow(&'a [u8]),
}

/// Why a line, or a name on it, gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Garbage {
    /// Longer than [`LINE_BYTES_MAX`].
    LineTooLong,
    /// Longer than names, labels or their number may be.
    NameTooLong,
    /// Two dots together.
    EmptyLabel,
    /// Bytes outside of ASCII.
    NotAscii,
    /// Characters that no name has.
    Character,
    /// An address where a name is meant.
    Address,
    /// `localhost` and other names of one label.
    SingleLabel,
    /// A public suffix: it belongs to everybody below it.
    PublicSuffix,
    /// The line is of another format.
    Malformed,
    /// A real mapping in a hosts file, not a sinkhole.
    RealAddress,
    /// Meant for browsers or for addresses; names can't express it.
    Unsupported,
}

impl Garbage {
    /// All kinds, in the order of [`Counts::garbage`].
    pub const ALL: [Self; 11] = [
        Self::LineTooLong,
        Self::NameTooLong,
        Self::EmptyLabel,
        Self::NotAscii,
        Self::Character,
        Self::Address,
        Self::SingleLabel,
        Self::PublicSuffix,
        Self::Malformed,
        Self::RealAddress,
        Self::Unsupported,
    ];

    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LineTooLong => "line too long",
            Self::NameTooLong => "name too long",
            Self::EmptyLabel => "empty label",
            Self::NotAscii => "not ASCII",
            Self::Character => "bad character",
            Self::Address => "address as name",
            Self::SingleLabel => "single label",
            Self::PublicSuffix => "public suffix",
            Self::Malformed => "malformed line",
            Self::RealAddress => "real address",
            Self::Unsupported => "unsupported rule",
        }
    }
}

impl From<NameError> for Garbage {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Empty => Self::Malformed,
            NameError::TooLong => Self::NameTooLong,
            NameError::EmptyLabel => Self::EmptyLabel,
            NameError::NotAscii => Self::NotAscii,
            NameError::Character => Self::Character,
            NameError::Address => Self::Address,
            NameError::SingleLabel => Self::SingleLabel,
        }
    }
}

/// What was read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines, the good and the others.
    pub lines: u64,
    /// Empty lines, comments, headers of zones.
    pub blank: u64,
    /// Names to block that were given out.
    pub blocked: u64,
    /// Names to allow that were given out.
    pub allowed: u64,
    /// By [`Garbage`], in the order of [`Garbage::ALL`].
    pub garbage: [u64; Garbage::ALL.len()],
}

impl Counts {
    /// How often this kind.
    #[must_use]
    pub fn of(&self, kind: Garbage) -> u64 {
        self.garbage.get(kind as usize).copied().unwrap_or(0)
    }

    /// All kinds together.
    #[must_use]
    pub fn garbage_total(&self) -> u64 {
        self.garbage.iter().fold(0, |all, count| all.saturating_add(*count))
    }

    fn reject(&mut self, kind: Garbage) {
        if let Some(count) = self.garbage.get_mut(kind as usize) {
            *count += 1;
        }
    }
}

/// Takes a list in pieces of any size.
#[derive(Debug, Clone)]
pub struct Parser {
    syntax: Syntax,
    zone: rpz::Zone,
    line: Vec<u8>,
    line_is_too_long: bool,
    counts: Counts,
}

impl Parser {
    /// For one list.
    #[must_use]
    pub fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            zone: rpz::Zone::default(),
            line: Vec::new(),
            line_is_too_long: false,
            counts: Counts::default(),
        }
    }

    /// What was read so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next bytes; `each` gets what complete lines say.
    pub fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(Entry<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            self.keep(head);
            self.end_line(each);
            rest = tail.get(1..).unwrap_or_default();
        }
        self.keep(rest);
    }

    /// The last line may lack its end. Gives the counts.
    pub fn finish(mut self, each: &mut impl FnMut(Entry<'_>)) -> Counts {
        if !self.line.is_empty() || self.line_is_too_long {
            self.end_line(each);
        }
        self.counts
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            self.line_is_too_long = true;
            self.line.clear();
        }
        if !self.line_is_too_long {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, each: &mut impl FnMut(Entry<'_>)) {
        self.counts.lines += 1;
        if std::mem::take(&mut self.line_is_too_long) {
            self.line.clear();
            self.counts.reject(Garbage::LineTooLong);
            return;
        }
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if self.counts.lines == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        text = text.trim_ascii_end();
        let mut sink = Sink { counts: &mut self.counts, each };
        match self.syntax {
            Syntax::Hosts => hosts::line(text.trim_ascii_start(), &mut sink),
            Syntax::Adblock => adblock::line(text.trim_ascii_start(), &mut sink),
            // A zone's line that starts with a space has the owner of the one before.
            Syntax::Rpz => self.zone.line(text, &mut sink),
            Syntax::Plain => plain(text.trim_ascii_start(), &mut sink),
        }
        // The buffer goes on being used.
        self.line = line;
        self.line.clear();
    }
}

/// Where a line's names and faults go.
struct Sink<'a, F> {
    counts: &'a mut Counts,
    each: &'a mut F,
}

impl<F: FnMut(Entry<'_>)> Sink<'_, F> {
    fn blank(&mut self) {
        self.counts.blank += 1;
    }

    fn reject(&mut self, kind: Garbage) {
        self.counts.reject(kind);
    }

    fn block(&mut self, text: &[u8]) {
        let below = text.strip_prefix(b"*.").unwrap_or(text);
        match listable(below) {
            Ok(name) => {
                self.counts.blocked += 1;
                (self.each)(Entry::Block(name.as_bytes()));
            }
            Err(kind) => self.reject(kind),
        }
    }

    fn allow(&mut self, text: &[u8]) {
        let below = text.strip_prefix(b"*.").unwrap_or(text);
        match listable(below) {
            Ok(name) => {
                self.counts.allowed += 1;
                (self.each)(Entry::Allow(name.as_bytes()));
            }
            Err(kind) => self.reject(kind),
        }
    }
}

/// A name that may be on a list.
fn listable(text: &[u8]) -> Result<Name, Garbage> {
    let name = name::normalise(text)?;
    if suffix::is_public_suffix(name.as_bytes()) {
        return Err(Garbage::PublicSuffix);
    }
    Ok(name)
}

fn plain<F: FnMut(Entry<'_>)>(line: &[u8], sink: &mut Sink<'_, F>) {
    let text = line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default();
    match text.trim_ascii() {
        [] => sink.blank(),
        text if text.iter().any(u8::is_ascii_whitespace) => sink.reject(Garbage::Malformed),
        text => sink.block(text),
    }
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
