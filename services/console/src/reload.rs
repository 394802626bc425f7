//! Asking PID 1 to read rules and lists again, from the key to what came of it. Pure.
//!
//! PID 1 answers at once whether it begins; how it goes stands in its status, which is asked for every
//! second anyway.

use hookprobe_wire::control::{self, ReloadState};

use crate::{clean, key::Key};

/// A request that was sent and not answered is given up: PID 1 answers from its loop.
pub const RELOAD_ASK_MS: u64 = 10_000;
/// A reload that began and does not end is given up: PID 1 gives up waiting before.
pub const RELOAD_WAIT_MS: u64 = 120_000;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reload {
    /// None.
    #[default]
    Idle,
    /// `y` is waited for.
    Asking,
    /// Sent.
    Sent {
        /// When.
        at_ms: u64,
    },
    /// It began.
    Begun {
        /// Which one of this boot.
        number: u32,
        /// When.
        at_ms: u64,
        /// What PID 1 does.
        text: String,
    },
    /// Over.
    Done {
        /// They are in force.
        good: bool,
        /// What came of it, with code and remedy when it failed.
        text: String,
    },
}

impl Reload {
    /// A key while `y` is waited for; `true` when PID 1 has to be asked.
    pub fn press(&mut self, now_ms: u64, connected: bool, key: Key) -> bool {
        if !matches!(key, Key::Char('y' | 'Y')) {
            *self = Self::Idle;
            return false;
        }
        if connected {
            *self = Self::Sent { at_ms: now_ms };
        } else {
            self.fail("HP-CO-022 reload: PID 1 is disconnected; wait until it is back");
        }
        connected
    }

    /// PID 1 answered.
    pub fn answered(&mut self, now_ms: u64, number: u32, reason: &str) {
        if !matches!(self, Self::Sent { .. }) {
            return;
        }
        if number == 0 {
            self.fail(&clean::text(reason, clean::TEXT_CHARS_MAX));
        } else {
            *self = Self::Begun { number, at_ms: now_ms, text: "begun".into() };
        }
    }

    /// PID 1 said how the last reload goes; cleaned.
    pub fn heard(&mut self, last: Option<&control::Reload>) {
        let (Self::Begun { number, text, .. }, Some(last)) = (&mut *self, last) else { return };
        if *number != last.number {
            return;
        }
        match last.state {
            ReloadState::Reading | ReloadState::Measured => text.clone_from(&last.text),
            ReloadState::Done | ReloadState::Failed => {
                let good = last.state == ReloadState::Done;
                *self = Self::Done { good, text: last.text.clone() };
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        let over = match self {
            Self::Sent { at_ms } => now_ms.saturating_sub(*at_ms) > RELOAD_ASK_MS,
            Self::Begun { at_ms, .. } => now_ms.saturating_sub(*at_ms) > RELOAD_WAIT_MS,
            Self::Idle | Self::Asking | Self::Done { .. } => false,
        };
        if over {
            self.fail("HP-CO-023 reload: no answer from PID 1; see the log");
        }
    }

    fn fail(&mut self, text: &str) {
        *self = Self::Done { good: false, text: text.into() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(number: u32, state: ReloadState) -> control::Reload {
        control::Reload { number, state, left: 1, text: format!("{state:?}") }
    }

    #[test]
    fn from_the_key_to_what_came_of_it() {
        let mut reload = Reload::Asking;
        assert!(!reload.press(0, true, Key::Char('x')));
        assert_eq!(reload, Reload::Idle);
        reload = Reload::Asking;
        assert!(reload.press(0, true, Key::Char('y')));
        // What an earlier one came to is no answer.
        reload.heard(Some(&last(1, ReloadState::Done)));
        assert_eq!(reload, Reload::Sent { at_ms: 0 });
        reload.answered(5, 2, "");
        reload.heard(Some(&last(1, ReloadState::Done)));
        reload.heard(Some(&last(2, ReloadState::Measured)));
        assert!(matches!(&reload, Reload::Begun { text, .. } if text == "Measured"), "{reload:?}");
        reload.heard(Some(&last(2, ReloadState::Done)));
        assert_eq!(reload, Reload::Done { good: true, text: "Done".into() });
    }

    #[test]
    fn refused_disconnected_and_forgotten() {
        let failed = |reload: &Reload, code: &str| {
            let is_so = matches!(reload, Reload::Done { good: false, text } if text.contains(code));
            assert!(is_so, "{reload:?}");
        };
        let mut reload = Reload::Sent { at_ms: 0 };
        reload.answered(0, 0, "HP-CF-020 reload: no\u{1b}[2J");
        failed(&reload, "HP-CF-020 reload: no\\u{1b}[2J");
        reload = Reload::Asking;
        assert!(!reload.press(0, false, Key::Char('y')));
        failed(&reload, "HP-CO-022");
        reload = Reload::Sent { at_ms: 0 };
        reload.tick(RELOAD_ASK_MS);
        assert_eq!(reload, Reload::Sent { at_ms: 0 });
        reload.tick(RELOAD_ASK_MS + 1);
        failed(&reload, "HP-CO-023");
    }
}
