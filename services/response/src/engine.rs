//! Runs the core: carries out its effects and feeds the results back until there are none.
//!
//! Synchronous: every effect but [`Effect::Append`] and the two about the connection is a few
//! system calls that the kernel answers at once. Used by [`crate::serve`] with the real kernel and
//! by the tests with enforcers that fail at step N.

use std::{collections::BTreeMap, collections::VecDeque};

use hookprobe_wire::{Diagnostic, Seq, ledger::Request, response::Status};

use crate::{
    Now,
    core::{Core, Effect, Input, Note, Policy},
    enforce::{EnforceError, Enforcer},
    protected::ProtectedSet,
};

/// The clocks.
pub trait Clock {
    /// Reads both.
    fn now(&self) -> Now;
}

/// Where the protected set comes from.
pub trait Sources {
    /// Reads all of it anew.
    ///
    /// # Errors
    /// A sentence; nothing new is blocked until it can be read.
    fn read(&mut self) -> Result<ProtectedSet, String>;
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the ledger for the stream.
    Follow(Seq),
    /// Send a request on the connection for appends.
    Send(Request),
    /// Connect anew.
    Reconnect,
    /// Write the line to the log.
    Note(Note),
    /// An enforcer began to fail (the diagnostic) or works again (none).
    Health(&'static str, Option<Diagnostic>),
}

/// Core, enforcers and sources.
pub struct Engine<C, S> {
    core: Core,
    clock: C,
    sources: S,
    enforcers: Vec<Box<dyn Enforcer>>,
    /// What each enforcer said last; absent: not asked yet.
    health: BTreeMap<&'static str, Option<Diagnostic>>,
}

impl<C: Clock, S: Sources> Engine<C, S> {
    /// Knows nothing yet.
    pub fn new(policy: Policy, clock: C, sources: S, enforcers: Vec<Box<dyn Enforcer>>) -> Self {
        let health = BTreeMap::new();
        Self { core: Core::new(policy), clock, sources, enforcers, health }
    }

    /// Handles an input and all that follows from it.
    pub fn feed(&mut self, input: Input, actions: &mut Vec<Action>) {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.core.handle(self.clock.now(), input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Follow(from) => actions.push(Action::Follow(from)),
                    Effect::Reconnect => actions.push(Action::Reconnect),
                    Effect::Append { id, event } => {
                        actions.push(Action::Send(Request::Append { id, event }));
                    }
                    Effect::Note(note) => actions.push(Action::Note(note)),
                    Effect::ReadProtected => {
                        inputs.push_back(Input::Protected(self.sources.read()));
                    }
                    Effect::Sync => self.sync(&mut inputs, actions),
                    Effect::Enforce { subject, expires_boot_ns } => {
                        let by = self.each(actions, |enforcer, boot_ns| {
                            enforcer.block(subject, expires_boot_ns, boot_ns)
                        });
                        let by = by.into_iter().filter_map(|(name, done)| done.map(|()| name));
                        inputs.push_back(Input::Enforced { subject, by: by.collect() });
                    }
                    Effect::Release { subject } => {
                        let done = self.each(actions, |enforcer, _| enforcer.release(subject));
                        let clean = done.iter().all(|(_, packets)| packets.is_some());
                        for (enforcer, packets) in done {
                            let packets = packets.flatten().map(|packets| (subject, packets));
                            let packets = packets.into_iter().collect();
                            inputs.push_back(Input::Counted { enforcer, packets });
                        }
                        inputs.push_back(Input::Released { subject, clean });
                    }
                }
            }
        }
    }

    /// Asks every enforcer; `None` for one that failed, whose health is noted.
    fn each<T>(
        &mut self,
        actions: &mut Vec<Action>,
        mut ask: impl FnMut(&mut dyn Enforcer, u64) -> Result<T, EnforceError>,
    ) -> Vec<(&'static str, Option<T>)> {
        let mut answers = Vec::new();
        for enforcer in &mut self.enforcers {
            let name = enforcer.name();
            let answer = ask(enforcer.as_mut(), self.clock.now().boot_ns);
            let fault = answer.as_ref().err().map(EnforceError::diagnostic);
            let before = self.health.insert(name, fault.clone());
            if before != Some(fault.clone()) && (before.is_some() || fault.is_some()) {
                actions.push(Action::Health(name, fault));
            }
            answers.push((name, answer.ok()));
        }
        answers
    }

    fn sync(&mut self, inputs: &mut VecDeque<Input>, actions: &mut Vec<Action>) {
        let wanted = self.core.wanted();
        for (enforcer, packets) in
            self.each(actions, |enforcer, boot_ns| enforcer.sync(&wanted, boot_ns))
        {
            let packets = packets.unwrap_or_default();
            inputs.push_back(Input::Counted { enforcer, packets });
        }
    }

    /// Whether every enforcer was asked once and the lane was read to its present.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.core.is_complete() && self.health.len() >= self.enforcers.len()
    }

    /// The core, to look at.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let working = self.health.iter().filter(|(_, fault)| fault.is_none());
        let working = working.map(|(name, _)| (*name).to_owned()).collect();
        let faults = self.health.values().flatten().cloned().collect();
        self.core.status(self.clock.now(), working, faults)
    }
}
