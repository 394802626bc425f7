//! Lines that PID 1 writes to the log port: `UPTIME_S.mmm SOURCE LEVEL text`.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Seconds since the kernel started.
    pub uptime_s: f64,
    /// Service or `init`.
    pub source: String,
    /// `INFO`, `WARN`, `CRIT`, ...
    pub level: String,
    /// The rest.
    pub text: String,
}

impl Line {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        Some(Self {
            uptime_s: words.next()?.parse().ok()?,
            source: words.next()?.into(),
            level: words.next()?.into(),
            text: words.next().unwrap_or_default().into(),
        })
    }

    /// First word of the text.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// Value of `key=value` in the text; values have no spaces, except one in double quotes.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        let at = self.text.find(&format!(" {key}="))? + key.len() + 2;
        let rest = self.text.get(at..)?;
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split(' ').next(),
        }
    }

    /// A number in the text.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.field(key)?.parse().ok()
    }
}

/// A growing file of lines.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    at: u64,
    seen: Vec<Line>,
    taken: usize,
    partial: String,
}

impl Log {
    /// The log in a file that may not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, at: 0, seen: Vec::new(), taken: 0, partial: String::new() }
    }

    fn read(&mut self) {
        let Ok(mut file) = File::open(&self.path) else {
            return;
        };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return;
        }
        let mut bytes = Vec::new();
        if file.read_to_end(&mut bytes).is_err() {
            return;
        }
        self.at += bytes.len() as u64;
        self.partial.push_str(&String::from_utf8_lossy(&bytes));
        while let Some(end) = self.partial.find('\n') {
            let line: String = self.partial.drain(..=end).collect();
            self.seen.extend(Line::parse(line.trim_end()));
        }
    }

    /// The next line that was not taken yet.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: more lines may come later")]
    pub fn next(&mut self) -> Option<Line> {
        if self.taken == self.seen.len() {
            self.read();
        }
        let line = self.seen.get(self.taken).cloned()?;
        self.taken += 1;
        Some(line)
    }

    /// Every line so far, taken or not.
    pub fn all(&mut self) -> &[Line] {
        self.read();
        &self.seen
    }

    /// Name of the boot phase that was logged last.
    #[must_use]
    pub fn last_phase(&self) -> String {
        self.seen
            .iter()
            .rev()
            .find(|line| line.verb() == "phase")
            .and_then(|line| line.field("name"))
            .unwrap_or("none (firmware, kernel or stage-1)")
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn fields() {
        let line = Line::parse("12.345 sensor INFO alert seq=7 text=\"a b\" hash=ab").unwrap();
        assert_eq!(line.verb(), "alert");
        assert_eq!(line.number("seq"), Some(7));
        assert_eq!(line.field("text"), Some("a b"));
        assert_eq!(line.field("hash"), Some("ab"));
        assert_eq!(line.field("has"), None);
        assert!(Line::parse("no number").is_none());
    }
}
