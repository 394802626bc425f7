//! What a console may ask PID 1 to do while services run: who may, how often, one at a time, and how far
//! it is. Pure.
//!
//! What must never happen here: an errand that a service asked for; two of a kind at once.

use hookprobe_wire::{
    CONSOLE_UID,
    control::{Errand, ErrandState},
};

use crate::control::Peer;

/// Why an errand does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a console.
    Stranger(Peer),
    /// This one is not done yet.
    Busy(u32),
    /// Register and log would grow without an end.
    Spent,
}

/// Whether a client is a console that PID 1 started and that still runs: its user alone would be
/// every program that was ever given that user.
#[must_use]
pub fn is_console(peer: Peer, consoles: &[i32]) -> bool {
    peer.uid == CONSOLE_UID && peer.pid > 0 && consoles.contains(&peer.pid)
}

/// All errands of one kind; the last is kept.
#[derive(Debug)]
pub struct Errands {
    most: u32,
    last: Option<Errand>,
    refused: u64,
}

impl Errands {
    /// None yet; at most so many in a boot.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, last: None, refused: 0 }
    }

    /// Whether somebody may ask for one now.
    ///
    /// # Errors
    /// [`Refusal`]; counted.
    pub fn check(&mut self, peer: Peer, consoles: &[i32]) -> Result<(), Refusal> {
        let number = self.number();
        let refusal = if !is_console(peer, consoles) {
            Some(Refusal::Stranger(peer))
        } else if self.is_busy() {
            Some(Refusal::Busy(number))
        } else if number >= self.most {
            Some(Refusal::Spent)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refused += 1;
            return Err(refusal);
        }
        Ok(())
    }

    /// One begins: its number. `text` is what is said of it first.
    pub fn begin(&mut self, text: &str) -> u32 {
        let number = self.number();
        let left = self.most.saturating_sub(number + 1);
        let state = ErrandState::Begun;
        self.last = Some(Errand { number: number + 1, state, left, text: text.into() });
        number + 1
    }

    /// The last one is so far now.
    pub fn set(&mut self, state: ErrandState, text: String) {
        if let Some(last) = &mut self.last {
            last.state = state;
            last.text = text;
        }
    }

    /// Which one is the last of this boot; 0: none yet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.last.as_ref().map_or(0, |last| last.number)
    }

    /// How far it is; none when there was none.
    #[must_use]
    pub fn state(&self) -> Option<ErrandState> {
        self.last.as_ref().map(|last| last.state)
    }

    /// Whether one is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.state(), Some(ErrandState::Begun | ErrandState::Measured))
    }

    /// For the console.
    #[must_use]
    pub fn status(&self) -> Option<Errand> {
        self.last.clone()
    }

    /// Requests that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: Peer = Peer { uid: CONSOLE_UID, pid: 40 };

    fn ask(errands: &mut Errands) -> Result<u32, Refusal> {
        errands.check(CONSOLE, &[40, 41])?;
        Ok(errands.begin("x"))
    }

    #[test]
    fn only_a_console_that_runs_may_ask() {
        let mut errands = Errands::new(3);
        for peer in [
            Peer { uid: 802, pid: 40 },
            Peer { uid: 0, pid: 40 },
            Peer { uid: CONSOLE_UID, pid: 42 },
            Peer { uid: CONSOLE_UID, pid: 0 },
        ] {
            assert_eq!(errands.check(peer, &[40, 41, 0]), Err(Refusal::Stranger(peer)));
        }
        assert_eq!((errands.refused(), errands.number(), errands.state()), (4, 0, None));
        assert_eq!(ask(&mut errands), Ok(1));
    }

    #[test]
    fn one_at_a_time_and_so_many_in_a_boot() {
        let mut errands = Errands::new(4);
        for number in 1..=4 {
            assert_eq!(ask(&mut errands), Ok(number));
            assert_eq!(ask(&mut errands), Err(Refusal::Busy(number)));
            if number % 2 == 0 {
                errands.set(ErrandState::Failed, "no medium".into());
            } else {
                errands.set(ErrandState::Measured, "measured".into());
                assert_eq!(ask(&mut errands), Err(Refusal::Busy(number)));
                errands.set(ErrandState::Done, "done".into());
            }
        }
        assert_eq!(ask(&mut errands), Err(Refusal::Spent));
        assert_eq!(errands.status().unwrap().left, 0);
    }
}
