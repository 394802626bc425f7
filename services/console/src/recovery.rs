//! The recovery key, shown to whoever stands at the console until it is written down.
//!
//! The key must never reach a log, a diagnostic or a copy of the model: it is one value that is
//! shared and wiped with its last owner. It leaves the screen on Esc, after [`SHOW_MS_MAX`], and
//! for good once its first group was typed.

use std::{fmt, sync::Arc};

use zeroize::Zeroize;

use crate::{clean, key::Key};

/// Longest time that the key is on the screen: enough to copy fifty characters twice.
pub const SHOW_MS_MAX: u64 = 300_000;
/// An answer that did not come by then is given up: `attest` answers from memory.
pub const RECOVERY_WAIT_MS: u64 = 10_000;
/// Longest first group.
const GROUP_CHARS_MAX: usize = 16;
/// Longest key that is shown.
const KEY_CHARS_MAX: usize = 128;

/// Text that is neither cloned nor printed, and wiped when dropped.
#[derive(PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For the screen.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The dialog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Recovery {
    /// Not open.
    #[default]
    Idle,
    /// Asked for.
    Asked {
        /// When.
        at_ms: u64,
    },
    /// On the screen.
    Shown {
        /// In groups.
        key: Arc<Secret>,
        /// What was typed of the first group.
        typed: Arc<Secret>,
        /// What was typed before was not the first group.
        wrong: bool,
        /// Since when.
        at_ms: u64,
    },
    /// `attest` was told that it is noted.
    Sent {
        /// When.
        at_ms: u64,
    },
    /// Over.
    Done {
        /// It is noted.
        noted: bool,
        /// What to say about it.
        text: String,
    },
}

impl Recovery {
    /// Whether keys belong to the dialog.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Shown { .. })
    }

    /// A key while the key is shown; `true` when `attest` has to be told.
    pub fn press(&mut self, now_ms: u64, pressed: Key) -> bool {
        let Self::Shown { key, typed, wrong, .. } = self else { return false };
        match pressed {
            Key::Char(char) if typed.expose().len() < GROUP_CHARS_MAX => {
                let mut longer = String::with_capacity(GROUP_CHARS_MAX);
                longer.push_str(typed.expose());
                longer.push(char);
                *typed = Arc::new(Secret(longer));
            }
            Key::Backspace => *typed = Arc::new(Secret(String::new())),
            Key::Enter if typed.expose().eq_ignore_ascii_case(first_group(key.expose())) => {
                *self = Self::Sent { at_ms: now_ms };
                return true;
            }
            Key::Enter => {
                *typed = Arc::new(Secret(String::new()));
                *wrong = true;
            }
            Key::Esc => *self = Self::Idle,
            _ => {}
        }
        false
    }

    /// `attest` answered: the key, or that there is none.
    pub fn answered(&mut self, now_ms: u64, answer: Option<String>) {
        match (&self, answer) {
            (Self::Asked { .. }, Some(mut raw)) => {
                let key = Arc::new(Secret(clean::text(&raw, KEY_CHARS_MAX)));
                raw.zeroize();
                let typed = Arc::new(Secret(String::new()));
                *self = Self::Shown { key, typed, wrong: false, at_ms: now_ms };
            }
            (Self::Asked { .. }, None) => self.done(false, "none waits to be noted"),
            (Self::Sent { .. }, None) => self.done(true, "noted; the box has forgotten it"),
            (Self::Sent { .. }, Some(mut raw)) => {
                raw.zeroize();
                self.done(false, "HP-CO-018 attest still has it; press R again");
            }
            // Nobody asked: it does not belong on a screen.
            (_, Some(mut raw)) => raw.zeroize(),
            (_, None) => {}
        }
    }

    /// No answer will come.
    pub fn fail(&mut self, reason: &str) {
        if matches!(self, Self::Asked { .. } | Self::Sent { .. }) {
            self.done(false, reason);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) {
        match self {
            Self::Asked { at_ms } | Self::Sent { at_ms }
                if now_ms.saturating_sub(*at_ms) > RECOVERY_WAIT_MS =>
            {
                self.done(false, "HP-CO-017 no answer from attest; see 7 Services");
            }
            Self::Shown { at_ms, .. } if now_ms.saturating_sub(*at_ms) > SHOW_MS_MAX => {
                self.done(false, "shown for 5 minutes and not noted; press R to see it again");
            }
            _ => {}
        }
    }

    fn done(&mut self, noted: bool, text: &str) {
        *self = Self::Done { noted, text: text.into() };
    }
}

/// What has to be typed.
fn first_group(key: &str) -> &str {
    let mut groups = key.split(|char: char| !char.is_ascii_alphanumeric());
    groups.find(|group| !group.is_empty()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Recovery {
        let mut recovery = Recovery::Asked { at_ms: 0 };
        recovery.answered(7, Some("K3QF-9TWX-AAAA".into()));
        recovery
    }

    fn type_in(recovery: &mut Recovery, text: &str) -> bool {
        text.chars().for_each(|char| assert!(!recovery.press(9, Key::Char(char))));
        recovery.press(9, Key::Enter)
    }

    #[test]
    fn the_first_group_confirms_and_nothing_else() {
        for (text, confirms) in
            [("k3qf", true), ("K3QF", true), ("", false), ("K3Q", false), ("K3QF-9TWX-AAAA", false)]
        {
            let mut recovery = shown();
            assert_eq!(type_in(&mut recovery, text), confirms, "{text}");
            assert_eq!(matches!(recovery, Recovery::Sent { .. }), confirms);
        }
        let mut recovery = shown();
        assert!(!type_in(&mut recovery, "nope"));
        assert!(type_in(&mut recovery, "K3QF"));
        recovery.answered(10, None);
        assert!(matches!(recovery, Recovery::Done { noted: true, .. }));
    }

    #[test]
    fn it_leaves_the_screen() {
        let mut recovery = shown();
        recovery.press(8, Key::Esc);
        assert_eq!(recovery, Recovery::Idle);
        let mut recovery = shown();
        recovery.tick(7 + SHOW_MS_MAX);
        assert!(recovery.is_open());
        recovery.tick(8 + SHOW_MS_MAX);
        assert!(matches!(recovery, Recovery::Done { noted: false, .. }));
    }

    #[test]
    fn nobody_asked_nobody_sees() {
        let mut recovery = Recovery::Idle;
        recovery.answered(0, Some("K3QF-9TWX".into()));
        assert_eq!(recovery, Recovery::Idle);
    }

    #[test]
    fn no_debug_output_has_it() {
        let mut recovery = shown();
        recovery.press(8, Key::Char('K'));
        let text = format!("{recovery:?}");
        assert!(!text.contains("K3QF") && !text.contains("\"K\""), "{text}");
    }
}
