//! The event loop's side of evidence that is carried out: sends the courier, ends it, says what came of
//! it.

use super::*;

use std::path::Path;

use hookprobe_evidence::closure::Start;
use hookprobe_wire::{event::ServiceChange, text::escape};

use crate::{
    carry::{self, Carries, CarryError, STICK_LINK, Turn},
    control::Peer,
    limits::CARRY_END_MS_MAX,
    mount, state,
};

/// Characters of what the courier said.
const SAID_CHARS_MAX: usize = 300;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Carrying {
    pub(super) core: Carries,
    said: Option<(Severity, String)>,
    /// Everything else has ended: until when its end waits for the courier.
    pub(super) last: Option<Ms>,
}

impl Carrying {
    /// A client asks for one.
    pub(super) fn ask(
        &mut self,
        peer: Peer,
        consoles: &[i32],
        nonce: &[u8],
        is_ending: bool,
    ) -> Reply {
        let refused = self.core.refused();
        let look = || match is_ending {
            true => Err(CarryError::Ending),
            false => carry::stick(Path::new(state::BLOCK_CLASS)),
        };
        match self.core.ask(peer, consoles, nonce, look) {
            Ok(number) => Reply::Carry { number, reason: String::new() },
            Err(error) => {
                let reason = error.to_string();
                // Once for a flood; the counter has the rest. Who may ask reads it on the screen.
                let now = self.core.refused();
                if now != refused && now.is_power_of_two() {
                    self.said = Some((Severity::Warn, format!("{reason} refused={now}")));
                }
                Reply::Carry { number: 0, reason }
            }
        }
    }
}

impl Machine {
    /// Sends the courier, or ends it when it takes too long.
    pub(super) fn turn_carry(&mut self, now: Ms) {
        if let Some((severity, text)) = self.carry.said.take() {
            self.boot.log.say(severity, &text);
        }
        let outcome = match self.carry.core.turn(now) {
            Turn::Wait => Ok(()),
            Turn::Send(node) => self.send_courier(now, &node),
            Turn::End => {
                if let Some(at) = self.courier() {
                    self.kill(at);
                }
                Err(CarryError::Late)
            }
        };
        if let Err(error) = outcome {
            self.carry.core.failed(&error);
            self.say_carry(Severity::Warn, &format!("result=failed {error}"));
        }
        if self.carry.last.is_some_and(|last| now >= last || !self.carry.core.is_out()) {
            self.finish();
        }
    }

    /// Everything else has ended; a courier that still writes has some time.
    pub(super) fn all_stopped(&mut self) {
        self.boot.log.say(Severity::Info, "services stopped");
        if self.carry.core.is_out() {
            self.carry.last = Some(clock::boot_ms() + CARRY_END_MS_MAX);
        } else {
            self.finish();
        }
    }

    fn finish(&mut self) -> ! {
        self.boot.log.flush();
        power::finish(self.end.unwrap_or(End::Reboot))
    }

    fn courier(&self) -> Option<usize> {
        self.boot.services.service.iter().position(|spec| spec.start == Start::Carry)
    }

    fn send_courier(&mut self, now: Ms, node: &Path) -> Result<(), CarryError> {
        let at = self.courier().ok_or(CarryError::NoCourier)?;
        let start = |error: &dyn std::fmt::Display| CarryError::Start(error.to_string());
        mount::directory(carry::DIRECTORY, 0o755, 0, 0).map_err(|error| start(&error))?;
        match std::fs::remove_file(STICK_LINK) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(start(&error));
            }
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(node, STICK_LINK).map_err(|error| start(&error))?;
        let nonce = self.carry.core.nonce();
        // One argument each: a name may begin with a dash.
        let arguments = vec![format!("--nonce={nonce}"), format!("--name={}", self.boot.name)];
        self.launch(at, arguments).map_err(|error| start(&error))?;
        self.carry.core.sent(now);
        self.say_carry(Severity::Info, &format!("began node={} nonce={nonce}", node.display()));
        Ok(())
    }

    /// The courier is gone.
    pub(super) fn carry_ended(&mut self, good: bool, how: &str, line: &str) {
        let said = escape(line, SAID_CHARS_MAX);
        match self.carry.core.ended(good, how, &said) {
            None => {}
            Some(Ok(text)) => self.say_carry(Severity::Info, &format!("result=done {text}")),
            Some(Err(error)) => {
                self.say_carry(Severity::Warn, &format!("result=failed {error}"));
            }
        }
    }

    /// That evidence leaves the box, and what came of it, goes to the ledger; the second is lost where the
    /// box is switched off meanwhile, because the ledger ends before the courier.
    fn say_carry(&mut self, severity: Severity, what: &str) {
        let text = format!("carry number={} {what}", self.carry.core.number());
        self.boot.log.say(severity, &text);
        self.ledger.outbox.push(Block::Service(ServiceChange {
            service: "courier".into(),
            change: "carry".into(),
            detail: text,
        }));
    }
}
