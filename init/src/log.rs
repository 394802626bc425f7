//! The log of the box, in memory: a bounded ring of escaped lines.
//!
//! Pure: bytes of services and clock readings are passed in. Nothing that a service writes can
//! move a cursor, fill the memory or silence another service; what is dropped is counted and said.

use std::collections::VecDeque;

use hookprobe_wire::{
    Severity,
    control::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX as ANSWER_LINES_MAX, LogLine},
    text::escape,
};

use crate::limits::{LOG_BYTES_MAX, LOG_LINES_MAX, LOG_WINDOW_LINES_MAX, LOG_WINDOW_MS};

/// The kept lines.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    last: u64,
}

impl Ring {
    /// Adds a line; the oldest go when there is no room.
    pub fn push(&mut self, time_s: u64, source: &str, severity: Severity, text: &str) -> &LogLine {
        self.last += 1;
        let text = clean(text);
        self.bytes += text.len();
        while self.lines.len() >= LOG_LINES_MAX || self.bytes > LOG_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.text.len());
        }
        let line = LogLine { number: self.last, time_s, source: source.into(), severity, text };
        self.lines.push_back(line);
        // Just pushed: index len-1 exists.
        let last = self.lines.len().saturating_sub(1);
        &self.lines[last]
    }

    /// Lines from number `from` on, as many as one answer holds.
    #[must_use]
    pub fn since(&self, from: u64) -> Vec<LogLine> {
        self.lines
            .iter()
            .skip_while(|line| line.number < from)
            .take(ANSWER_LINES_MAX)
            .cloned()
            .collect()
    }

    /// All kept lines.
    pub fn iter(&self) -> impl Iterator<Item = &LogLine> {
        self.lines.iter()
    }
}

/// Escapes a line and cuts it to [`LOG_LINE_BYTES_MAX`] bytes.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut text = escape(text, LOG_LINE_BYTES_MAX - 1);
    if text.len() > LOG_LINE_BYTES_MAX {
        let end = (0..LOG_LINE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('~');
    }
    text
}

/// The severity that a line claims with its first word, and the rest of the line.
#[must_use]
pub fn leveled(line: &str) -> (Severity, &str) {
    let trimmed = line.trim_start();
    let (word, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
    let severity = match word {
        "ERROR" | "CRIT" => Severity::Critical,
        "WARN" => Severity::Warn,
        "INFO" | "DEBUG" | "TRACE" => Severity::Info,
        _ => return (Severity::Info, trimmed),
    };
    (severity, rest.trim_start())
}

/// Cuts a byte stream into lines of bounded length.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    skipping: bool,
}

impl Splitter {
    /// Feeds bytes; `line` is called for each complete line. A longer line is cut, its rest skipped.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                if !self.skipping && !self.pending.is_empty() {
                    line(&String::from_utf8_lossy(&self.pending));
                }
                self.pending.clear();
                self.skipping = false;
            } else if !self.skipping {
                self.pending.push(*byte);
                // One more than fits, so that the cut is marked.
                if self.pending.len() > LOG_LINE_BYTES_MAX {
                    line(&String::from_utf8_lossy(&self.pending));
                    self.skipping = true;
                }
            }
        }
    }

    /// What stands there without an end of line when the stream ends.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.skipping && !self.pending.is_empty() {
            line(&String::from_utf8_lossy(&self.pending));
        }
        self.pending.clear();
        self.skipping = false;
    }
}

/// Limits the lines of one service.
#[derive(Debug, Default)]
pub struct Limiter {
    window_ms: u64,
    lines: u32,
    dropped: u64,
}

/// What a [`Limiter`] decides.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Keep the line.
    Keep,
    /// Keep it, and say first how many were dropped before it.
    KeepAfter(u64),
    /// Drop it.
    Drop,
}

impl Limiter {
    /// Decides about one line.
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        if now_ms.saturating_sub(self.window_ms) >= LOG_WINDOW_MS {
            self.window_ms = now_ms;
            self.lines = 0;
        }
        if self.lines >= LOG_WINDOW_LINES_MAX {
            self.dropped += 1;
            return Admission::Drop;
        }
        self.lines += 1;
        match std::mem::take(&mut self.dropped) {
            0 => Admission::Keep,
            dropped => Admission::KeepAfter(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_go_on_when_old_lines_go() {
        let mut ring = Ring::default();
        for number in 0..LOG_LINES_MAX + 5 {
            ring.push(0, "init", Severity::Info, &number.to_string());
        }
        let first = ring.since(0);
        assert_eq!(first.len(), ANSWER_LINES_MAX);
        assert_eq!((first[0].number, first[0].text.as_str()), (6, "5"));
        assert_eq!(ring.since(LOG_LINES_MAX as u64 + 5).len(), 1);
        assert!(ring.since(LOG_LINES_MAX as u64 + 6).is_empty());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut ring = Ring::default();
        for _ in 0..LOG_LINES_MAX {
            ring.push(0, "x", Severity::Info, &"y".repeat(1000));
        }
        assert!(ring.iter().map(|line| line.text.len()).sum::<usize>() <= LOG_BYTES_MAX);
    }

    #[test]
    fn levels() {
        let check = |line, severity, rest| assert_eq!(leveled(line), (severity, rest));
        check(" WARN queue full n=1", Severity::Warn, "queue full n=1");
        check("ERROR gone", Severity::Critical, "gone");
        check("thread panicked", Severity::Info, "thread panicked");
        check("INFO", Severity::Info, "");
    }

    #[test]
    fn long_lines_are_cut_once_and_the_rest_is_skipped() {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        let stream = format!("{}\nnext\ntail", "z".repeat(5000));
        splitter.feed(stream.as_bytes(), |line| lines.push(clean(line)));
        splitter.finish(|line| lines.push(clean(line)));
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("z~") && lines[0].len() <= LOG_LINE_BYTES_MAX);
        assert_eq!(lines[1..], ["next", "tail"]);
    }

    #[test]
    fn a_flood_is_dropped_and_the_drop_is_said() {
        let mut limiter = Limiter::default();
        for _ in 0..LOG_WINDOW_LINES_MAX {
            assert_eq!(limiter.admit(LOG_WINDOW_MS), Admission::Keep);
        }
        assert_eq!(limiter.admit(LOG_WINDOW_MS + 1), Admission::Drop);
        assert_eq!(limiter.admit(LOG_WINDOW_MS + 2), Admission::Drop);
        assert_eq!(limiter.admit(2 * LOG_WINDOW_MS), Admission::KeepAfter(2));
        assert_eq!(limiter.admit(2 * LOG_WINDOW_MS), Admission::Keep);
    }

    proptest! {
        #[test]
        fn kept_text_is_short_and_harmless(text in ".{0,600}") {
            let text = clean(&text);
            prop_assert!(text.len() <= LOG_LINE_BYTES_MAX);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
