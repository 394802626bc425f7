//! What is wrong with the box now: a bounded table of [`Diagnostic`]s, one per code and object.
//!
//! Pure. Filled by the boot phases and the event loop; read by the console through `control`, by
//! the ledger's boot event and by the log.

use hookprobe_wire::{Diagnostic, Severity, text::escape};

use crate::limits::{DIAGNOSTIC_CHARS_MAX, DIAGNOSTICS_MAX};

/// Makes a diagnostic; untrusted text is escaped and cut.
#[must_use]
pub fn diagnostic(
    code: &str,
    severity: Severity,
    object: &str,
    cause: &str,
    remedy: &str,
) -> Diagnostic {
    Diagnostic {
        code: code.into(),
        severity,
        object: escape(object, 64),
        cause: escape(cause, DIAGNOSTIC_CHARS_MAX),
        remedy: escape(remedy, DIAGNOSTIC_CHARS_MAX),
    }
}

/// From a text `HP-XX-nnn object: cause; remedy`, as the error enums of the workspace print it.
#[must_use]
pub fn from_text(text: &str, severity: Severity) -> Diagnostic {
    let (code, rest) = text.split_once(' ').unwrap_or(("HP-BT-090", text));
    let (object, rest) = rest.split_once(": ").unwrap_or(("box", rest));
    let (cause, remedy) = rest.rsplit_once("; ").unwrap_or((rest, "see the log of the box"));
    diagnostic(code, severity, object, cause, remedy)
}

/// The table.
#[derive(Debug, Default)]
pub struct Diagnostics {
    entries: Vec<Diagnostic>,
    dropped: u64,
}

impl Diagnostics {
    /// Adds or replaces; `true` when it was not there in the same words before.
    pub fn set(&mut self, new: Diagnostic) -> bool {
        let same = |old: &&mut Diagnostic| old.code == new.code && old.object == new.object;
        if let Some(old) = self.entries.iter_mut().find(same) {
            let changed = *old != new;
            *old = new;
            return changed;
        }
        if self.entries.len() >= DIAGNOSTICS_MAX {
            self.dropped += 1;
            return false;
        }
        self.entries.push(new);
        true
    }

    /// Removes a condition that is over; `true` when it was there.
    pub fn clear(&mut self, code: &str, object: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.code != code || entry.object != object);
        self.entries.len() != before
    }

    /// All, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Diagnostic] {
        &self.entries
    }

    /// How many found no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_per_code_and_object_and_it_can_end() {
        let mut table = Diagnostics::default();
        let down = |why: &str| diagnostic("HP-NW-002", Severity::Warn, "eth0", why, "check");
        assert!(table.set(down("gone")));
        assert!(!table.set(down("gone")));
        assert!(table.set(down("no carrier")));
        assert_eq!(table.all().len(), 1);
        assert!(table.clear("HP-NW-002", "eth0"));
        assert!(table.all().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_counts() {
        let mut table = Diagnostics::default();
        for number in 0..DIAGNOSTICS_MAX + 3 {
            table.set(diagnostic("HP-BT-001", Severity::Warn, &number.to_string(), "", ""));
        }
        assert_eq!(table.all().len(), DIAGNOSTICS_MAX);
        assert_eq!(table.dropped(), 3);
    }

    #[test]
    fn error_texts_split_into_code_object_cause_remedy() {
        let got = from_text(
            "HP-CF-003 hookprobe.toml: line 2: no; such key; correct that line",
            Severity::Warn,
        );
        assert_eq!(got.code, "HP-CF-003");
        assert_eq!(got.object, "hookprobe.toml");
        assert_eq!(got.cause, "line 2: no; such key");
        assert_eq!(got.remedy, "correct that line");
    }
}
