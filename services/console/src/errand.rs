//! What PID 1 is asked to do, from the key to what came of it: rules and lists read again, evidence
//! carried to a USB stick. Pure.
//!
//! PID 1 answers at once whether it begins; how it goes stands in its status, which is asked for every
//! second anyway.

use hookprobe_wire::control::{self, ErrandState};

use crate::{clean, key::Key};

/// A request that was sent and not answered is given up: PID 1 answers from its loop.
pub const ASK_MS: u64 = 10_000;
/// An errand that began and does not end is given up: PID 1 gives up waiting before.
pub const WAIT_MS: u64 = 120_000;

/// Which errand, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// In front of everything that is said of it.
    pub name: &'static str,
    disconnected: &'static str,
    silent: &'static str,
}

/// Rules and lists on the boot partition are read again.
pub const RELOAD: Kind = Kind {
    name: "reload",
    disconnected: "HP-CO-022 reload: PID 1 is disconnected; wait until it is back",
    silent: "HP-CO-023 reload: no answer from PID 1; see the log",
};

/// Whole evidence is written to a USB stick.
pub const CARRY: Kind = Kind {
    name: "usb",
    disconnected: "HP-CO-024 usb: PID 1 is disconnected; wait until it is back",
    silent: "HP-CO-025 usb: no answer from PID 1; see the log",
};

/// The last errand of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    kind: Kind,
    /// How far it is.
    pub stage: Stage,
}

/// How far an errand is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stage {
    /// There is none.
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
        /// It was done.
        good: bool,
        /// What came of it, with code and remedy when it failed.
        text: String,
    },
}

impl Errand {
    /// None yet.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, stage: Stage::Idle }
    }

    /// In front of everything that is said of it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.name
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// What came of the last one was read.
    pub fn seen(&mut self) {
        if matches!(self.stage, Stage::Done { .. }) {
            self.stage = Stage::Idle;
        }
    }

    /// To be sent now; `true` when PID 1 has to be asked.
    pub fn send(&mut self, now_ms: u64, connected: bool) -> bool {
        if connected {
            self.stage = Stage::Sent { at_ms: now_ms };
        } else {
            self.fail(self.kind.disconnected);
        }
        connected
    }

    /// A key while `y` is waited for; `true` when PID 1 has to be asked.
    pub fn press(&mut self, now_ms: u64, connected: bool, key: Key) -> bool {
        if matches!(key, Key::Char('y' | 'Y')) {
            return self.send(now_ms, connected);
        }
        self.stage = Stage::Idle;
        false
    }

    /// PID 1 answered.
    pub fn answered(&mut self, now_ms: u64, number: u32, reason: &str) {
        if !matches!(self.stage, Stage::Sent { .. }) {
            return;
        }
        if number == 0 {
            self.fail(&clean::text(reason, clean::TEXT_CHARS_MAX));
        } else {
            self.stage = Stage::Begun { number, at_ms: now_ms, text: "begun".into() };
        }
    }

    /// PID 1 said how the last one goes; cleaned.
    pub fn heard(&mut self, last: Option<&control::Errand>) {
        let (Stage::Begun { number, text, .. }, Some(last)) = (&mut self.stage, last) else {
            return;
        };
        if last.number > *number {
            let text = format!("number {number} is over, another began; see the log");
            self.stage = Stage::Done { good: false, text };
            return;
        }
        if last.number < *number {
            return;
        }
        match last.state {
            ErrandState::Begun | ErrandState::Measured => text.clone_from(&last.text),
            ErrandState::Done | ErrandState::Failed => {
                let good = last.state == ErrandState::Done;
                self.stage = Stage::Done { good, text: last.text.clone() };
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        let over = match self.stage {
            Stage::Sent { at_ms } => now_ms.saturating_sub(at_ms) > ASK_MS,
            Stage::Begun { at_ms, .. } => now_ms.saturating_sub(at_ms) > WAIT_MS,
            Stage::Idle | Stage::Asking | Stage::Done { .. } => false,
        };
        if over {
            self.fail(self.kind.silent);
        }
    }

    /// It can't be done.
    pub fn fail(&mut self, text: &str) {
        self.stage = Stage::Done { good: false, text: text.into() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(number: u32, state: ErrandState) -> control::Errand {
        control::Errand { number, state, left: 1, text: format!("{state:?}") }
    }

    fn at(kind: Kind, stage: Stage) -> Errand {
        Errand { kind, stage }
    }

    #[test]
    fn from_the_key_to_what_came_of_it() {
        let mut reload = at(RELOAD, Stage::Asking);
        assert!(!reload.press(0, true, Key::Char('x')));
        assert!(reload.is_idle());
        reload = at(RELOAD, Stage::Asking);
        assert!(reload.press(0, true, Key::Char('y')));
        // What an earlier one came to is no answer.
        reload.heard(Some(&last(1, ErrandState::Done)));
        assert_eq!(reload.stage, Stage::Sent { at_ms: 0 });
        reload.answered(5, 2, "");
        reload.heard(Some(&last(1, ErrandState::Done)));
        reload.heard(Some(&last(2, ErrandState::Measured)));
        assert!(matches!(&reload.stage, Stage::Begun { text, .. } if text == "Measured"));
        reload.heard(Some(&last(2, ErrandState::Done)));
        assert_eq!(reload.stage, Stage::Done { good: true, text: "Done".into() });
        reload.seen();
        assert!(reload.is_idle());
        // Another console was faster with the next.
        reload = at(RELOAD, Stage::Begun { number: 2, at_ms: 0, text: String::new() });
        reload.heard(Some(&last(3, ErrandState::Begun)));
        assert!(matches!(reload.stage, Stage::Done { good: false, .. }), "{reload:?}");
    }

    #[test]
    fn refused_disconnected_and_forgotten() {
        let failed = |errand: &Errand, code: &str| {
            let is_so =
                matches!(&errand.stage, Stage::Done { good: false, text } if text.contains(code));
            assert!(is_so, "{errand:?}");
        };
        let mut errand = at(RELOAD, Stage::Sent { at_ms: 0 });
        errand.answered(0, 0, "HP-CF-020 reload: no\u{1b}[2J");
        failed(&errand, "HP-CF-020 reload: no\\u{1b}[2J");
        for (kind, gone, silent) in
            [(RELOAD, "HP-CO-022", "HP-CO-023"), (CARRY, "HP-CO-024", "HP-CO-025")]
        {
            errand = Errand::new(kind);
            assert!(!errand.send(0, false));
            failed(&errand, gone);
            errand = at(kind, Stage::Sent { at_ms: 0 });
            errand.tick(ASK_MS);
            assert_eq!(errand.stage, Stage::Sent { at_ms: 0 });
            errand.tick(ASK_MS + 1);
            failed(&errand, silent);
        }
    }
}
