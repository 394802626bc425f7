//! The supervisor's decisions: order of start, restart, watchdog, budget, stop. Pure.
//!
//! `handle(now, event, &mut out)`: no clock, no I/O, no randomness of its own (seeded). The event
//! loop carries out the effects and brings back what happened. What must never happen: a service
//! started twice at once, a restart after the budget is spent, a stop that waits for ever.

use std::collections::VecDeque;

use hookprobe_evidence::closure::{Ready, ServiceSpec, Start};
use hookprobe_wire::control::ServiceState;

/// Milliseconds of a clock that never steps.
pub type Ms = u64;

/// First pause before a restart.
pub const BACKOFF_MS_MIN: Ms = 100;
/// Longest pause before a restart: a box that recovers is whole again within this.
pub const BACKOFF_MS_MAX: Ms = 30_000;
/// A service that was ready for so long starts its backoff from the beginning.
pub const STABLE_MS: Ms = 60_000;
/// Ends within [`BUDGET_WINDOW_MS`] after which a service is given up.
pub const BUDGET: usize = 10;
/// Window of [`BUDGET`]: ten ends with backoff take under two minutes, so a service that can't
/// run is given up soon, and one end an hour never adds up.
pub const BUDGET_WINDOW_MS: Ms = 600_000;
/// How long the next service waits for this one to be ready; a slow one must not hold the boot.
pub const PATIENCE_MS: Ms = 5_000;
/// How long a service has to say READY=1; the ledger checks its whole lane before it does.
pub const READY_MS_MAX: Ms = 120_000;
/// How long a service has between SIGTERM and SIGKILL: the ledger ends within one fdatasync.
pub const STOP_MS: Ms = 5_000;
/// How long a killed process may need to be gone before the next one is stopped anyway.
pub const KILLED_MS: Ms = 2_000;

/// Place in `services.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceId(pub usize);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The phase `services` begins.
    Begin,
    /// The child of a service executes its binary.
    Executed(ServiceId),
    /// It said READY=1.
    Ready(ServiceId),
    /// It said WATCHDOG=1.
    Alive(ServiceId),
    /// It said EXTEND_TIMEOUT_USEC: it is at work and needs so much longer.
    Extend(ServiceId, Ms),
    /// It ended, or could not be started.
    Ended {
        /// Which.
        id: ServiceId,
        /// Status and last log line, escaped.
        how: String,
    },
    /// It must not run: it is not what was measured.
    Refused {
        /// Which.
        id: ServiceId,
        /// Why, with code and remedy.
        why: String,
    },
    /// Time has passed.
    Tick,
    /// Stop everything.
    Shutdown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start it; answered by `Executed`, `Ended` or `Refused`.
    Spawn(ServiceId),
    /// Ask it to end.
    Terminate(ServiceId),
    /// End it and everything in its cgroup.
    Kill(ServiceId),
    /// Say that it changed.
    Changed(ServiceId, Change, String),
    /// Every essential service is ready, and every other had its chance; once per boot.
    AllReady,
    /// Nothing runs any more.
    AllStopped,
}

/// A change that is logged and goes to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is ready.
    Started,
    /// It ended and will be started again.
    Exited,
    /// It ended too often.
    GivenUp,
    /// It is not what was measured.
    Refused,
}

impl Change {
    /// Word in the ledger's events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Exited => "exited",
            Self::GivenUp => "given-up",
            Self::Refused => "refused",
        }
    }
}

/// What the supervisor needs to know about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether the box is ready without it.
    pub essential: bool,
    /// How it is known to be ready.
    pub ready: Ready,
    /// 0: no watchdog.
    pub watchdog_ms: Ms,
    /// It is not started with the others, nor again: it ran in the phase `unlock`, or runs when asked for.
    pub apart: bool,
}

impl From<&ServiceSpec> for Plan {
    fn from(spec: &ServiceSpec) -> Self {
        Self {
            essential: spec.essential,
            ready: spec.ready,
            watchdog_ms: spec.watchdog_s.saturating_mul(1000),
            apart: spec.start != Start::Services,
        }
    }
}

/// One service.
#[derive(Debug)]
pub struct Unit {
    plan: Plan,
    /// How it is.
    pub state: ServiceState,
    /// Starts after the first.
    pub restarts: u32,
    /// When it was last started.
    pub started: Ms,
    /// Last end, for people.
    pub last_exit: String,
    deadline: Option<Ms>,
    alive: bool,
    /// The next service need not wait for it any more.
    settled: bool,
    ready_since: Option<Ms>,
    in_row: u32,
    ends: VecDeque<Ms>,
    /// Why PID 1 killed it, part of the exit message.
    killed_for: Option<&'static str>,
}

/// The supervisor.
#[derive(Debug)]
pub struct Core {
    units: Vec<Unit>,
    random: u64,
    /// How many were started at least once, in order; `None` before `Begin`.
    begun: Option<usize>,
    ready_said: bool,
    /// Stopping: units from here up are done.
    stopping: Option<usize>,
    stopped_said: bool,
}

impl Core {
    /// `seed` decides the jitter of restarts.
    #[must_use]
    pub fn new(plans: Vec<Plan>, seed: u64) -> Self {
        let unit = |plan: Plan| Unit {
            state: if plan.apart { ServiceState::Stopped } else { ServiceState::Waiting },
            restarts: 0,
            started: 0,
            last_exit: String::new(),
            deadline: None,
            alive: false,
            settled: plan.apart,
            plan,
            ready_since: None,
            in_row: 0,
            ends: VecDeque::new(),
            killed_for: None,
        };
        Self {
            units: plans.into_iter().map(unit).collect(),
            random: seed,
            begun: None,
            ready_said: false,
            stopping: None,
            stopped_said: false,
        }
    }

    /// All services in order.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Whether every essential service was ready once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready_said
    }

    /// Whether everything is being stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// When [`Event::Tick`] is next needed.
    #[must_use]
    pub fn deadline(&self) -> Option<Ms> {
        let patience = self
            .units
            .iter()
            .filter(|unit| unit.state == ServiceState::Starting && !unit.settled)
            .map(|unit| unit.started + PATIENCE_MS);
        self.units.iter().filter_map(|unit| unit.deadline).chain(patience).min()
    }

    /// Takes one event in; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Ms, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Begin => {
                self.begun.get_or_insert(0);
            }
            Event::Executed(id) => self.executed(now, id, out),
            Event::Ready(id) => self.ready(now, id, out),
            Event::Alive(id) => self.alive(now, id),
            Event::Extend(id, ms) => self.extend(now, id, ms),
            Event::Ended { id, how } => self.ended(now, id, how, out),
            Event::Refused { id, why } => self.refused(id, why, out),
            Event::Tick => self.tick(now, out),
            Event::Shutdown => self.shutdown(out),
        }
        if self.stopping.is_some() {
            self.stop_next(now, out);
        } else {
            self.start_next(now, out);
            self.say_ready(out);
        }
    }

    fn executed(&mut self, now: Ms, ServiceId(at): ServiceId, out: &mut Vec<Effect>) {
        let by_running = self.units.get(at).is_some_and(|unit| unit.plan.ready == Ready::Exec);
        if by_running {
            self.ready(now, ServiceId(at), out);
        }
    }

    fn ready(&mut self, now: Ms, id: ServiceId, out: &mut Vec<Effect>) {
        let stopping = self.stopping.is_some();
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        if unit.state != ServiceState::Starting || unit.killed_for.is_some() || stopping {
            return;
        }
        unit.state = ServiceState::Running;
        unit.settled = true;
        unit.ready_since = Some(now);
        unit.deadline = (unit.plan.watchdog_ms > 0).then(|| now + unit.plan.watchdog_ms);
        let took = now.saturating_sub(unit.started);
        out.push(Effect::Changed(id, Change::Started, format!("ready after {took} ms")));
    }

    fn alive(&mut self, now: Ms, ServiceId(at): ServiceId) {
        if let Some(unit) = self.units.get_mut(at)
            && unit.state == ServiceState::Running
            && unit.killed_for.is_none()
            && unit.plan.watchdog_ms > 0
            && self.stopping.is_none()
        {
            unit.deadline = Some(now + unit.plan.watchdog_ms);
        }
    }

    fn extend(&mut self, now: Ms, ServiceId(at): ServiceId, ms: Ms) {
        if let Some(unit) = self.units.get_mut(at)
            && unit.state == ServiceState::Starting
            && unit.killed_for.is_none()
            && self.stopping.is_none()
        {
            let asked = now + ms.min(READY_MS_MAX);
            unit.deadline = unit.deadline.max(Some(asked));
        }
    }

    fn ended(&mut self, now: Ms, id: ServiceId, how: String, out: &mut Vec<Effect>) {
        let stopping = self.stopping.is_some();
        let draw = self.draw();
        let Some(unit) = self.units.get_mut(id.0) else {
            return;
        };
        if !unit.alive {
            return;
        }
        unit.alive = false;
        unit.settled = true;
        unit.deadline = None;
        unit.last_exit = match unit.killed_for.take() {
            Some(reason) => format!("{reason}; {how}"),
            None => how,
        };
        if stopping {
            unit.state = ServiceState::Stopped;
            return;
        }
        let stable =
            unit.ready_since.take().is_some_and(|since| now.saturating_sub(since) >= STABLE_MS);
        unit.in_row = if stable { 0 } else { unit.in_row.saturating_add(1) };
        unit.ends.push_back(now);
        while unit.ends.front().is_some_and(|end| now.saturating_sub(*end) > BUDGET_WINDOW_MS) {
            unit.ends.pop_front();
        }
        if unit.ends.len() >= BUDGET {
            unit.state = ServiceState::Failed;
            // Without detection or ledger the box is useless: those are tried again later.
            unit.deadline = unit.plan.essential.then(|| now + BUDGET_WINDOW_MS);
            let text = format!(
                "{} ends within {} s, the last: {}",
                BUDGET,
                BUDGET_WINDOW_MS / 1000,
                unit.last_exit
            );
            out.push(Effect::Changed(id, Change::GivenUp, text));
        } else {
            unit.state = ServiceState::Backoff;
            let pause = backoff(unit.in_row, draw);
            unit.deadline = Some(now + pause);
            let text = format!("{}; restart in {pause} ms", unit.last_exit);
            out.push(Effect::Changed(id, Change::Exited, text));
        }
    }

    fn refused(&mut self, id: ServiceId, why: String, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.0) {
            unit.alive = false;
            unit.settled = true;
            unit.deadline = None;
            unit.state = ServiceState::Failed;
            unit.last_exit.clone_from(&why);
            out.push(Effect::Changed(id, Change::Refused, why));
        }
    }

    fn tick(&mut self, now: Ms, out: &mut Vec<Effect>) {
        for at in 0..self.units.len() {
            let stopping = self.stopping.is_some();
            let Some(unit) = self.units.get_mut(at) else {
                continue;
            };
            if unit.state == ServiceState::Starting && now >= unit.started + PATIENCE_MS {
                unit.settled = true;
            }
            if unit.deadline.is_none_or(|deadline| now < deadline) {
                continue;
            }
            unit.deadline = None;
            let id = ServiceId(at);
            if stopping {
                self.stop_overdue(now, id, out);
                continue;
            }
            match unit.state {
                ServiceState::Backoff => self.spawn(now, id, out),
                ServiceState::Starting => {
                    unit.killed_for = Some("not ready in time");
                    out.push(Effect::Kill(id));
                }
                ServiceState::Running => {
                    unit.killed_for = Some("watchdog: no sign of life");
                    out.push(Effect::Kill(id));
                }
                ServiceState::Failed => {
                    unit.ends.clear();
                    unit.in_row = 0;
                    unit.restarts = unit.restarts.saturating_add(1);
                    self.spawn(now, id, out);
                }
                ServiceState::Waiting | ServiceState::Stopped => {}
            }
        }
    }

    fn spawn(&mut self, now: Ms, id: ServiceId, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.0) {
            if unit.state == ServiceState::Backoff {
                unit.restarts = unit.restarts.saturating_add(1);
            }
            unit.state = ServiceState::Starting;
            unit.started = now;
            unit.alive = true;
            unit.killed_for = None;
            unit.ready_since = None;
            unit.deadline = Some(now + READY_MS_MAX);
            out.push(Effect::Spawn(id));
        }
    }

    fn start_next(&mut self, now: Ms, out: &mut Vec<Effect>) {
        let Some(begun) = self.begun else {
            return;
        };
        let before = begun.checked_sub(1).and_then(|at| self.units.get(at));
        if begun < self.units.len() && before.is_none_or(|unit| unit.settled) {
            self.begun = Some(begun + 1);
            // A service that was refused before the phase began is passed over.
            let waiting = self.units.get(begun).map(|unit| unit.state);
            if waiting == Some(ServiceState::Waiting) {
                self.spawn(now, ServiceId(begun), out);
            }
            self.start_next(now, out);
        }
    }

    fn say_ready(&mut self, out: &mut Vec<Effect>) {
        let all = self
            .units
            .iter()
            .filter(|unit| unit.plan.essential)
            .all(|unit| unit.state == ServiceState::Running);
        let tried = self.units.iter().all(|unit| unit.settled);
        if all && tried && self.begun.is_some() && !self.ready_said {
            self.ready_said = true;
            out.push(Effect::AllReady);
        }
    }

    fn shutdown(&mut self, _: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(self.units.len());
        for unit in &mut self.units {
            unit.deadline = None;
            if !unit.alive && unit.state != ServiceState::Failed {
                unit.state = ServiceState::Stopped;
            }
        }
    }

    /// Goes on with the last service that still runs.
    fn stop_next(&mut self, now: Ms, out: &mut Vec<Effect>) {
        while let Some(at) = self.stopping.and_then(|above| above.checked_sub(1)) {
            let Some(unit) = self.units.get_mut(at) else {
                return;
            };
            if unit.alive {
                // Without a deadline it was not asked yet.
                if unit.deadline.is_none() {
                    unit.deadline = Some(now + STOP_MS);
                    out.push(Effect::Terminate(ServiceId(at)));
                }
                return;
            }
            self.stopping = Some(at);
        }
        if self.stopping == Some(0) && !self.stopped_said {
            self.stopped_said = true;
            out.push(Effect::AllStopped);
        }
    }

    fn stop_overdue(&mut self, now: Ms, id: ServiceId, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.0) {
            if unit.killed_for.is_none() {
                unit.killed_for = Some("did not stop in time");
                unit.deadline = Some(now + KILLED_MS);
                out.push(Effect::Kill(id));
            } else {
                // In the kernel for good (a dead disk): the box stops without it.
                unit.alive = false;
                unit.state = ServiceState::Stopped;
            }
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough for jitter.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Pause after the `in_row`-th end in a row: doubled each time, and then between half and all of
/// it, so that services that fell together do not come back together.
fn backoff(in_row: u32, draw: u64) -> Ms {
    let doublings = in_row.saturating_sub(1).min(16);
    let full = (BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX);
    full / 2 + draw % (full / 2 + 1)
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
