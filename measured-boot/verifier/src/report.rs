//! What came out, for people and for programs.
//!
//! The first line is the verdict. Every text that a box, a file or a log brought is escaped here,
//! once, so that no output moves a cursor. The JSON form is stable: members are added, never
//! renamed or removed.

use std::fmt::Write as _;

use hookprobe_wire::text;
use serde_json::{Map, Value, json};

/// Longest value of a line.
const VALUE_CHARS_MAX: usize = 400;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// As it should be.
    Affirming = 0,
    /// Usable, but something was not shown or is not as it should be.
    Warning = 1,
    /// Not what it should be.
    Contraindicated = 2,
    /// A file can't be read or is not what it should be; nothing was verified.
    Unreadable = 3,
    /// The command line is wrong or no release key is known; nothing was verified.
    Usage = 4,
}

impl Exit {
    /// The word of the verdict.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
            Self::Unreadable => "unreadable",
            Self::Usage => "usage",
        }
    }
}

/// Something that is not as it should be, with code, object, cause and remedy in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it does to the verdict.
    pub exit: Exit,
    /// `HP-XX-nnn object: cause; remedy`.
    pub text: String,
}

/// What came out of one command.
#[derive(Debug)]
pub struct Report {
    command: &'static str,
    verdict: Exit,
    summary: String,
    facts: Vec<(&'static str, String)>,
    findings: Vec<Finding>,
    members: Map<String, Value>,
}

impl Report {
    /// Affirming so far.
    #[must_use]
    pub fn new(command: &'static str) -> Self {
        Self {
            command,
            verdict: Exit::Affirming,
            summary: String::new(),
            facts: Vec::new(),
            findings: Vec::new(),
            members: Map::new(),
        }
    }

    /// What the first line says after the verdict when there is no finding.
    pub fn summary(&mut self, text: impl Into<String>) {
        self.summary = text::escape(&text.into(), VALUE_CHARS_MAX);
    }

    /// A line `label  value`.
    pub fn fact(&mut self, label: &'static str, value: impl Into<String>) {
        self.facts.push((label, text::escape(&value.into(), VALUE_CHARS_MAX)));
    }

    /// A finding; the verdict is the worst of all.
    pub fn finding(&mut self, exit: Exit, text: impl Into<String>) {
        self.verdict = self.verdict.max(exit);
        self.findings.push(Finding { exit, text: text::escape(&text.into(), VALUE_CHARS_MAX) });
    }

    /// The verdict is at least this, without a text of its own.
    pub fn at_least(&mut self, exit: Exit) {
        self.verdict = self.verdict.max(exit);
    }

    /// A member of the JSON form.
    pub fn member(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.into(), value.into());
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Exit {
        self.verdict
    }

    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let worst = self.findings.iter().find(|finding| finding.exit == self.verdict);
        let first = worst.map_or(self.summary.as_str(), |finding| finding.text.as_str());
        let mut out = format!("{}  {first}\n", self.verdict.word().to_uppercase());
        let width = self.facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        // Writing to a String can't fail.
        for (label, value) in &self.facts {
            let _ = writeln!(out, "  {label:width$}  {value}");
        }
        let mut first = worst.is_some();
        for finding in &self.findings {
            if first && Some(finding) == worst {
                first = false;
                continue;
            }
            let _ = writeln!(out, "  {}  {}", finding.exit.word(), finding.text);
        }
        out
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                let code = finding.text.split(' ').next().filter(|word| word.starts_with("HP-"));
                json!({ "tier": finding.exit.word(), "code": code, "text": finding.text })
            })
            .collect();
        let mut out = Map::new();
        out.insert("format".into(), 1.into());
        out.insert("command".into(), self.command.into());
        out.insert("verdict".into(), self.verdict.word().into());
        out.insert("exit".into(), (self.verdict as u8).into());
        out.insert("findings".into(), findings.into());
        out.extend(self.members.clone());
        Value::Object(out)
    }
}

/// The JSON form of an error.
#[must_use]
pub fn error_json(exit: Exit, text: &str) -> Value {
    json!({
        "format": 1,
        "verdict": exit.word(),
        "exit": exit as u8,
        "findings": [{
            "tier": exit.word(),
            "code": text.split(' ').find(|word| word.starts_with("HP-")),
            "text": text::escape(text, VALUE_CHARS_MAX),
        }],
    })
}
