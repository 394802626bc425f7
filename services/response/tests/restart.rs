//! The process dies anywhere and starts again: the law of the answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod fake;

use fake::{S, World, lifts, mitigations, refusals};
use hookprobe_response::protected::Why;
use hookprobe_wire::{Event, event::Mode};
use proptest::prelude::*;

/// What a run may do.
#[derive(Debug, Clone)]
enum Step {
    Alert(u8),
    Protect(u8),
    Pass(u8),
    Reconnect,
    XdpFails(bool),
    NftFails(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12u8).prop_map(Step::Alert),
        1 => (0..12u8).prop_map(Step::Protect),
        3 => (1..200u8).prop_map(Step::Pass),
        1 => Just(Step::Reconnect),
        1 => any::<bool>().prop_map(Step::XdpFails),
        1 => any::<bool>().prop_map(Step::NftFails),
    ]
}

fn run(world: &mut World, step: &Step) {
    let address = |n: &u8| {
        if n.is_multiple_of(2) { format!("10.0.0.{n}") } else { format!("fd00::{n}") }
    };
    let works = |fails: &bool| fails.then_some(0);
    match step {
        Step::Alert(n) => drop(world.alert(&address(n))),
        Step::Protect(n) => world.protect(&address(n), Why::Administrator),
        Step::Pass(seconds) => world.pass(u64::from(*seconds) * S / 4),
        Step::Reconnect => {
            world.feed(hookprobe_response::core::Input::Disconnected);
            world.connect();
        }
        Step::XdpFails(fails) => world.xdp.works.set(works(fails)),
        Step::NftFails(fails) => world.nft.works.set(works(fails)),
    }
}

/// Mitigations of the ledger that have neither a lift nor ended.
fn in_force(world: &World) -> Vec<String> {
    let lifted: Vec<_> = lifts(world).iter().map(|lift| lift.cause).collect();
    let now = hookprobe_response::engine::Clock::now(&world.time).real_ns;
    let records = world.ledger.records.iter().filter(|record| !lifted.contains(&record.hash));
    let mut subjects: Vec<_> = records
        .filter_map(|record| match record.event() {
            Some(Event::Mitigation(it)) if it.expires_ns > now => Some(it.subject),
            _ => None,
        })
        .collect();
    subjects.sort();
    subjects.iter().map(ToString::to_string).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The process dies at any input, twice, and starts again: every alert has at most one answer,
    /// every mitigation at most one lift, and what is in force is what the ledger says.
    #[test]
    fn a_crash_anywhere_changes_nothing_but_time(
        steps in proptest::collection::vec(step(), 1..25),
        first in 0..120u32,
        second in 0..120u32,
    ) {
        let mut world = World::new(Mode::Autonomous);
        world.policy.block_ns = 60 * S;
        world.restart();
        world.steps = Some(first);
        for (at, step) in steps.iter().enumerate() {
            run(&mut world, step);
            if world.steps == Some(0) {
                world.restart();
                world.steps = (at % 2 == 0).then_some(second);
            }
        }
        world.xdp.works.set(None);
        world.nft.works.set(None);
        world.restart();
        world.pass(3 * S);
        let expect = in_force(&world);
        prop_assert_eq!(&World::dropped(&world.xdp), &expect);
        prop_assert_eq!(&World::dropped(&world.nft), &expect);

        let before = world.ledger.records.len();
        world.restart();
        prop_assert_eq!(&World::dropped(&world.xdp), &expect);
        prop_assert_eq!(world.engine.status().active_total as usize, expect.len());
        prop_assert_eq!(world.ledger.records.len(), before, "a restart writes nothing new");

        let mut causes: Vec<_> = mitigations(&world).iter().map(|it| it.cause).collect();
        causes.extend(refusals(&world).iter().map(|it| it.cause));
        causes.extend(lifts(&world).iter().map(|it| it.cause));
        let all = causes.len();
        causes.sort();
        causes.dedup();
        prop_assert_eq!(causes.len(), all, "two answers, or two lifts");

        world.pass(70 * S);
        prop_assert_eq!(mitigations(&world).len(), lifts(&world).len(), "everything ends");
        prop_assert_eq!(World::dropped(&world.xdp), Vec::<String>::new());
    }
}
