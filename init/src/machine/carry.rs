//! The event loop's side of evidence that is carried out: starts the courier, bounds it, says what came
//! of it.

use super::*;

use std::path::Path;

use hookprobe_evidence::closure::Start;
use hookprobe_wire::{control::ErrandState, event::ServiceChange, text::escape};

use crate::{
    carry::{self, Carries, CarryError, STICK_LINK},
    control::Peer,
    limits::CARRY_MS_MAX,
    mount, state,
};

/// Characters of what the courier said.
const SAID_CHARS_MAX: usize = 300;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Carrying {
    pub(super) core: Carries,
    /// Until when; none before it was started.
    deadline: Option<Ms>,
    said: Option<(Severity, String)>,
}

impl Carrying {
    /// A client asks for one.
    pub(super) fn ask(&mut self, peer: Peer, consoles: &[i32], nonce: &[u8]) -> Reply {
        match self.core.ask(peer, consoles, nonce) {
            Ok(number) => {
                self.deadline = None;
                self.said = Some((Severity::Info, format!("carry number={number} asked")));
                Reply::Carry { number, reason: String::new() }
            }
            Err(error) => {
                let reason = error.to_string();
                // Once for a flood; the counter has the rest.
                if self.core.errands.refused().is_power_of_two() {
                    let refused = self.core.errands.refused();
                    self.said = Some((Severity::Warn, format!("{reason} refused={refused}")));
                }
                Reply::Carry { number: 0, reason }
            }
        }
    }
}

impl Machine {
    /// Starts the courier, or ends it when it takes too long.
    pub(super) fn turn_carry(&mut self, now: Ms) {
        if let Some((severity, text)) = self.carry.said.take() {
            self.boot.log.say(severity, &text);
        }
        if self.carry.core.errands.state() != Some(ErrandState::Begun) {
            return;
        }
        let outcome = match self.carry.deadline {
            None => self.send_courier(now),
            Some(deadline) if now >= deadline => {
                self.kill_courier();
                Err(CarryError::Late)
            }
            Some(_) => Ok(()),
        };
        if let Err(error) = outcome {
            self.carry_failed(&error);
        }
    }

    fn courier(&self) -> Option<usize> {
        self.boot.services.service.iter().position(|spec| spec.start == Start::Carry)
    }

    fn send_courier(&mut self, now: Ms) -> Result<(), CarryError> {
        let at = self.courier().ok_or(CarryError::NoCourier)?;
        if self.running.get(at).is_some_and(|running| running.pid > 0) {
            // A device holds the last one; it can't be ended.
            return Err(CarryError::Late);
        }
        let device = carry::stick(Path::new(state::BLOCK_CLASS))?;
        let start = |error: std::io::Error| CarryError::Start(format!("{STICK_LINK}: {error}"));
        mount::directory(carry::DIRECTORY, 0o755, 0, 0)
            .map_err(|error| CarryError::Start(error.to_string()))?;
        match std::fs::remove_file(STICK_LINK) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(start(error)),
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(&device, STICK_LINK).map_err(start)?;
        let text = format!("writing to {}", device.display());
        self.carry.core.errands.set(ErrandState::Begun, text);
        self.carry.deadline = Some(now + CARRY_MS_MAX);
        let mut arguments = vec!["--nonce".into(), self.carry.core.nonce()];
        arguments.extend(["--name".into(), self.boot.name.clone()]);
        self.launch(at, arguments).map_err(|error| CarryError::Start(error.to_string()))
    }

    fn kill_courier(&self) {
        if let Some(at) = self.courier() {
            self.kill(at);
        }
    }

    /// The courier is gone.
    pub(super) fn carry_ended(&mut self, good: bool, how: &str, line: &str) {
        if self.carry.core.errands.state() != Some(ErrandState::Begun) {
            return;
        }
        let said = escape(line, SAID_CHARS_MAX);
        match self.carry.core.ended(good, how, &said) {
            Ok(text) => {
                let number = self.carry.core.errands.number();
                let text = format!("carry number={number} result=done {text}");
                self.boot.log.say(Severity::Info, &text);
                self.note_carry(&text);
            }
            Err(error) => self.carry_failed(&error),
        }
    }

    fn carry_failed(&mut self, error: &CarryError) {
        self.carry.core.errands.set(ErrandState::Failed, error.to_string());
        let number = self.carry.core.errands.number();
        let text = format!("carry number={number} result=failed {error}");
        self.boot.log.say(Severity::Warn, &text);
    }

    /// That evidence left the box stands in the ledger.
    fn note_carry(&mut self, what: &str) {
        self.ledger.outbox.push(Block::Service(ServiceChange {
            service: "courier".into(),
            change: "carried".into(),
            detail: what.into(),
        }));
    }
}
