//! Behaviour of the supervisor's core, by events and by random histories.

use super::*;
use proptest::prelude::*;

fn plan(essential: bool, watchdog_ms: Ms) -> Plan {
    Plan { essential, ready: Ready::Notify, watchdog_ms, apart: false }
}

struct Box_ {
    core: Core,
    now: Ms,
}

impl Box_ {
    fn new(plans: Vec<Plan>) -> Self {
        Self { core: Core::new(plans, 1), now: 1_000 }
    }

    fn give(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        self.core.handle(self.now, event, &mut out);
        out
    }

    fn after(&mut self, ms: Ms) -> Vec<Effect> {
        self.now += ms;
        self.give(Event::Tick)
    }

    fn end(&mut self, id: usize) -> Vec<Effect> {
        self.give(Event::Ended { id: ServiceId(id), how: "exit 1".into() })
    }
}

fn spawns(effects: &[Effect]) -> Vec<usize> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Spawn(ServiceId(at)) => Some(*at),
            _ => None,
        })
        .collect()
}

#[test]
fn the_next_starts_when_the_one_before_is_ready_and_ready_is_said_once() {
    let mut box_ = Box_::new(vec![plan(true, 0), plan(true, 0), plan(false, 0)]);
    assert_eq!(spawns(&box_.give(Event::Begin)), [0]);
    assert!(spawns(&box_.give(Event::Executed(ServiceId(0)))).is_empty());
    assert_eq!(spawns(&box_.give(Event::Ready(ServiceId(0)))), [1]);
    let out = box_.give(Event::Ready(ServiceId(1)));
    assert_eq!(spawns(&out), [2]);
    assert!(!out.contains(&Effect::AllReady), "the third had no chance yet");
    assert!(box_.give(Event::Ready(ServiceId(2))).contains(&Effect::AllReady));
    assert!(!box_.give(Event::Alive(ServiceId(2))).contains(&Effect::AllReady));
}

#[test]
fn one_that_is_not_essential_may_fail() {
    let mut box_ = Box_::new(vec![plan(true, 0), plan(false, 0)]);
    box_.give(Event::Begin);
    box_.give(Event::Ready(ServiceId(0)));
    assert!(box_.end(1).contains(&Effect::AllReady));
}

#[test]
fn a_service_at_work_gets_more_time_but_not_without_end() {
    let mut box_ = Box_::new(vec![plan(true, 0)]);
    box_.give(Event::Begin);
    box_.now += READY_MS_MAX - 1;
    box_.give(Event::Extend(ServiceId(0), Ms::MAX / 2));
    assert_eq!(box_.after(READY_MS_MAX - 1), []);
    assert_eq!(box_.after(1), [Effect::Kill(ServiceId(0))]);
}

#[test]
fn a_slow_service_does_not_hold_the_boot() {
    let mut box_ = Box_::new(vec![plan(true, 0), plan(true, 0)]);
    box_.give(Event::Begin);
    assert_eq!(box_.core.deadline(), Some(1_000 + PATIENCE_MS));
    assert!(spawns(&box_.after(PATIENCE_MS - 1)).is_empty());
    assert_eq!(spawns(&box_.after(1)), [1]);
    let out = box_.after(READY_MS_MAX);
    assert!(out.contains(&Effect::Kill(ServiceId(0))));
    let out = box_.end(0);
    assert!(
        matches!(&out[0], Effect::Changed(_, Change::Exited, text) if text.starts_with("not ready in time; exit 1"))
    );
}

#[test]
fn restarts_back_off_and_the_budget_ends_them() {
    let mut box_ = Box_::new(vec![plan(true, 0)]);
    box_.give(Event::Begin);
    let mut last = 0;
    for round in 1..BUDGET {
        box_.end(0);
        let pause = box_.core.deadline().unwrap() - box_.now;
        assert!(pause >= last / 2 && pause <= BACKOFF_MS_MAX, "{round}: {pause}");
        last = pause;
        assert_eq!(spawns(&box_.after(pause)), [0]);
    }
    let out = box_.end(0);
    assert!(matches!(out[0], Effect::Changed(_, Change::GivenUp, _)));
    assert_eq!(box_.core.units()[0].state, ServiceState::Failed);
    // An essential one gets another chance, and no more than that.
    assert!(spawns(&box_.after(BUDGET_WINDOW_MS - 1)).is_empty());
    assert_eq!(spawns(&box_.after(1)), [0]);
}

#[test]
fn what_is_not_essential_is_given_up_for_good() {
    let mut box_ = Box_::new(vec![plan(false, 0)]);
    box_.give(Event::Begin);
    for _ in 0..BUDGET {
        box_.end(0);
        box_.after(BACKOFF_MS_MAX);
    }
    assert_eq!(box_.core.units()[0].state, ServiceState::Failed);
    assert!(spawns(&box_.after(BUDGET_WINDOW_MS * 2)).is_empty());
}

#[test]
fn rare_ends_never_add_up() {
    let mut box_ = Box_::new(vec![plan(true, 0)]);
    box_.give(Event::Begin);
    for _ in 0..BUDGET * 3 {
        box_.give(Event::Ready(ServiceId(0)));
        box_.after(BUDGET_WINDOW_MS / 4);
        box_.end(0);
        let pause = box_.core.deadline().unwrap() - box_.now;
        assert!(pause <= BACKOFF_MS_MIN);
        assert_eq!(spawns(&box_.after(pause)), [0]);
    }
}

#[test]
fn the_watchdog_kills_a_silent_service() {
    let mut box_ = Box_::new(vec![plan(true, 2_000)]);
    box_.give(Event::Begin);
    box_.give(Event::Ready(ServiceId(0)));
    assert_eq!(box_.after(1_500), []);
    box_.give(Event::Alive(ServiceId(0)));
    assert_eq!(box_.after(1_500), []);
    assert_eq!(box_.after(600), [Effect::Kill(ServiceId(0))]);
    let out = box_.end(0);
    assert!(
        matches!(&out[0], Effect::Changed(_, Change::Exited, text) if text.starts_with("watchdog"))
    );
}

#[test]
fn a_refused_service_never_runs_again_and_the_box_is_not_ready() {
    let mut box_ = Box_::new(vec![plan(true, 0), plan(true, 0)]);
    box_.give(Event::Begin);
    let out = box_.give(Event::Refused { id: ServiceId(0), why: "HP-MB-004".into() });
    assert_eq!(spawns(&out), [1]);
    assert!(!box_.give(Event::Ready(ServiceId(1))).contains(&Effect::AllReady));
    assert!(spawns(&box_.after(BUDGET_WINDOW_MS)).is_empty());
}

#[test]
fn stop_is_in_reverse_order_and_bounded() {
    let mut box_ = Box_::new(vec![plan(true, 0), plan(true, 0), plan(true, 0)]);
    box_.give(Event::Begin);
    box_.give(Event::Ready(ServiceId(0)));
    box_.give(Event::Ready(ServiceId(1)));
    assert_eq!(box_.give(Event::Shutdown), [Effect::Terminate(ServiceId(2))]);
    assert_eq!(box_.end(2), [Effect::Terminate(ServiceId(1))]);
    assert_eq!(box_.after(STOP_MS), [Effect::Kill(ServiceId(1))]);
    assert_eq!(box_.after(KILLED_MS), [Effect::Terminate(ServiceId(0))]);
    assert_eq!(box_.end(0), [Effect::AllStopped]);
    assert_eq!(box_.give(Event::Shutdown), []);
}

#[derive(Debug, Clone)]
enum Step {
    Tick(Ms),
    Ready(usize),
    Alive(usize),
    End(usize),
    Refuse(usize),
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..40_000).prop_map(Step::Tick),
        4 => (0usize..3).prop_map(Step::Ready),
        2 => (0usize..3).prop_map(Step::Alive),
        6 => (0usize..3).prop_map(Step::End),
        1 => (0usize..3).prop_map(Step::Refuse),
        1 => Just(Step::Shutdown),
    ]
}

proptest! {
    #[test]
    fn any_history_keeps_the_laws(steps in proptest::collection::vec(step(), 0..200), seed in any::<u64>()) {
        let mut core = Core::new(vec![plan(true, 3_000), plan(true, 0), plan(false, 0)], seed);
        let (mut now, mut running, mut dead, mut stopping, mut readies) = (0, [false; 3], [false; 3], false, 0);
        core.handle(now, Event::Begin, &mut Vec::new());
        running[0] = true;
        for step in steps {
            let event = match step {
                Step::Tick(ms) => { now += ms; Event::Tick }
                Step::Ready(at) => Event::Ready(ServiceId(at)),
                Step::Alive(at) => Event::Alive(ServiceId(at)),
                Step::End(at) => { running[at] = false; Event::Ended { id: ServiceId(at), how: String::new() } }
                Step::Refuse(at) => { running[at] = false; Event::Refused { id: ServiceId(at), why: String::new() } }
                Step::Shutdown => { stopping = true; Event::Shutdown }
            };
            let mut out = Vec::new();
            core.handle(now, event, &mut out);
            for effect in out {
                match effect {
                    Effect::Spawn(ServiceId(at)) => {
                        prop_assert!(!running[at], "started twice at once");
                        prop_assert!(!dead[at], "started after it was given up");
                        prop_assert!(!stopping, "started while stopping");
                        running[at] = true;
                    }
                    Effect::Changed(ServiceId(at), Change::Refused, _) => dead[at] = true,
                    // An essential one is tried again after the window; the last one is none.
                    Effect::Changed(ServiceId(at), Change::GivenUp, _) => dead[at] |= at == 2,
                    Effect::AllReady => readies += 1,
                    _ => {}
                }
            }
            if let Some(deadline) = core.deadline() {
                prop_assert!(deadline <= now + BUDGET_WINDOW_MS);
            }
        }
        prop_assert!(readies <= 1);
        if stopping {
            for _ in 0..8 {
                now += STOP_MS;
                core.handle(now, Event::Tick, &mut Vec::new());
            }
            prop_assert!(core.stopped_said, "a stop ends");
        }
    }

    #[test]
    fn backoff_is_bounded(in_row in any::<u32>(), draw in any::<u64>()) {
        let pause = backoff(in_row, draw);
        prop_assert!((BACKOFF_MS_MIN / 2..=BACKOFF_MS_MAX).contains(&pause));
    }
}
