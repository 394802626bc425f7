//! Rules and lists read again while services run: who may ask, how often, and how far it is. Pure.
//!
//! The event loop reads the boot partition piece by piece, measures what it read into PCR 12, puts it
//! in force as a whole and asks the sensor to take it in. What must never happen here: something in
//! force that was not measured; two at a time; one that a service asked for. `hookprobe.toml` is not
//! read again: what it decides (interfaces, addresses, ports, keys) is set up at the start, so that
//! file alone needs a restart.

use hookprobe_evidence::site::RELOADS_MAX;
use hookprobe_wire::{
    control::{Errand, ErrandState},
    sensor::Loaded,
};
use thiserror::Error;

use crate::{
    control::Peer,
    errand::{Errands, Refusal},
};

/// Why rules and lists were not read again, or are not in force.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReloadError {
    /// Not a console.
    #[error(
        "HP-CF-020 reload: asked for by user {uid} (process {pid}), who is no console of this box; \
         find out who that is"
    )]
    Stranger {
        /// The kernel's word for who asked.
        uid: u32,
        /// Its process.
        pid: i32,
    },
    /// One is not done yet.
    #[error("HP-CF-021 reload: number {number} is not done; ask again in a moment")]
    Busy {
        /// Which.
        number: u32,
    },
    /// Register and log would grow without an end.
    #[error(
        "HP-CF-022 reload: {RELOADS_MAX} were asked for since the start and more are not done; \
         restart the box, it reads the files then"
    )]
    Spent,
    /// The partition is not there or can't be mounted.
    #[error("HP-CF-023 reload: boot partition: {0}; nothing was changed, check the disk")]
    Partition(String),
    /// Some files can't be used.
    #[error("HP-CF-024 reload: {count} problems, nothing was changed; the first: {first}")]
    Files {
        /// How many.
        count: usize,
        /// With its code and remedy.
        first: String,
    },
    /// It would not show to a verifier.
    #[error("HP-CF-025 reload: not measured, so not put in force ({0}); restart the box")]
    Measure(String),
    /// The new files can't take their place.
    #[error("HP-CF-026 reload: measured but not in force ({0}); restart the box")]
    Exchange(String),
    /// The sensor did not take it in.
    #[error(
        "HP-CF-027 reload: measured, but the sensor did not take it in ({0}); see its log, then ask \
         again"
    )]
    Sensor(String),
}

impl From<Refusal> for ReloadError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stranger(Peer { uid, pid }) => Self::Stranger { uid, pid },
            Refusal::Busy(number) => Self::Busy { number },
            Refusal::Spent => Self::Spent,
        }
    }
}

/// How far the last one is.
#[derive(Debug)]
pub struct Reloads(Errands);

impl Default for Reloads {
    fn default() -> Self {
        Self(Errands::new(RELOADS_MAX))
    }
}

impl Reloads {
    /// Somebody asks; the number of the reload that begins.
    ///
    /// # Errors
    /// [`ReloadError`]; counted.
    pub fn ask(&mut self, peer: Peer, consoles: &[i32]) -> Result<u32, ReloadError> {
        self.0.check(peer, consoles)?;
        Ok(self.0.begin("reading the boot partition"))
    }

    /// It is measured and its files lie in their place.
    pub fn measured(&mut self) {
        self.0.set(ErrandState::Measured, "measured; sensor and inspector read it".into());
    }

    /// The sensor has answered; the sentence for people.
    pub fn done(&mut self, loaded: &Loaded) -> String {
        let mut text = format!(
            "{} rules loaded, {} rejected, {} names, {} addresses, in {} ms",
            loaded.rules, loaded.rejected, loaded.names, loaded.addresses, loaded.ms
        );
        if !loaded.trouble.is_empty() {
            text = format!("{text}; {}", loaded.trouble);
        }
        self.0.set(ErrandState::Done, text.clone());
        text
    }

    /// It ended; what is in force is what the error says.
    pub fn failed(&mut self, error: &ReloadError) {
        self.0.set(ErrandState::Failed, error.to_string());
    }

    /// Which one is the last of this boot; 0: none yet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.number()
    }

    /// How far it is; none when there was none.
    #[must_use]
    pub fn state(&self) -> Option<ErrandState> {
        self.0.state()
    }

    /// For the console.
    #[must_use]
    pub fn status(&self) -> Option<Errand> {
        self.0.status()
    }

    /// Requests that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused()
    }
}

#[cfg(test)]
mod tests {
    use hookprobe_wire::CONSOLE_UID;

    use super::*;

    const CONSOLE: Peer = Peer { uid: CONSOLE_UID, pid: 40 };

    #[test]
    fn a_refusal_says_what_to_do() {
        let mut reloads = Reloads::default();
        let error = reloads.ask(Peer { uid: 802, pid: 40 }, &[40]).unwrap_err();
        assert!(error.to_string().starts_with("HP-CF-020"), "{error}");
        for number in 1..=RELOADS_MAX {
            assert_eq!(reloads.ask(CONSOLE, &[40]), Ok(number));
            assert_eq!(reloads.ask(CONSOLE, &[40]), Err(ReloadError::Busy { number }));
            reloads.failed(&ReloadError::Partition("no medium".into()));
        }
        assert_eq!(reloads.ask(CONSOLE, &[40]), Err(ReloadError::Spent));
    }

    #[test]
    fn what_came_of_it_is_one_sentence() {
        let mut reloads = Reloads::default();
        reloads.ask(CONSOLE, &[40]).unwrap();
        let loaded = Loaded { rules: 3, rejected: 1, ms: 12, ..Loaded::default() };
        let text = reloads.done(&loaded);
        assert_eq!(text, "3 rules loaded, 1 rejected, 0 names, 0 addresses, in 12 ms");
        let trouble = "HP-SN-076 names: no; copy the list again".to_owned();
        let text = reloads.done(&Loaded { trouble, ..loaded });
        assert!(text.ends_with("12 ms; HP-SN-076 names: no; copy the list again"), "{text}");
        assert_eq!(reloads.status().unwrap().text, text);
    }
}
