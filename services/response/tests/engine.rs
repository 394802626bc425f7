//! What is decided, enforced and recorded, with a ledger and a kernel in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod fake;

use fake::{Ledger, S, World, lifts, mitigations, refusals};
use hookprobe_response::{core::RATE_BLOCKS_MAX, protected::Why};
use hookprobe_wire::{
    Severity,
    event::{Lift, Mode},
    response::ACTIVE_MAX,
};

#[test]
fn autonomous_enforces_then_records_and_says_so() {
    let mut world = World::new(Mode::Autonomous);
    let cause = world.alert("10.0.0.66");
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    assert_eq!(World::dropped(&world.nft), ["10.0.0.66"]);
    let written = mitigations(&world);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].cause, cause);
    assert_eq!(written[0].enforced_by, ["xdp", "nft"]);
    assert_eq!(written[0].mode, Mode::Autonomous);
    let made = world.ledger.records[1].block.header.timestamp_ns;
    assert_eq!(written[0].expires_ns - made, 600 * S);
    let hash = world.ledger.records[1].hash;
    let ns = made;
    assert_eq!(
        world.notes[0].to_string(),
        format!(
            "mitigation seq=1 hash={hash} cause={cause} subject=10.0.0.66 enforced_by=xdp,nft \
             decided_ns={ns} enforced_ns={ns} acked_ns={ns}"
        )
    );
    let status = world.engine.status();
    assert_eq!((status.active.len(), status.active_total), (1, 1));
    assert_eq!(status.active[0].hash, hash);
    assert_eq!(status.active[0].remaining_ms, 600_000);
    assert_eq!(status.enforcers, ["nft", "xdp"]);
    assert_eq!(status.diagnostics, []);
}

#[test]
fn the_policy_table() {
    let check = |mode, detector: &str, severity, expect: (usize, usize)| {
        let mut world = World::new(mode);
        world.alert_as(detector, severity, "10.0.0.66");
        world.pass(2 * S);
        let got = (world.written().len(), world.xdp.entries.borrow().len());
        assert_eq!(got, expect, "{mode:?} {detector} {severity:?}");
    };
    check(Mode::Observe, "scan.trw", Severity::Critical, (0, 0));
    check(Mode::Suggest, "scan.trw", Severity::Warn, (1, 0));
    check(Mode::Suggest, "scan.trw", Severity::Info, (0, 0));
    check(Mode::Autonomous, "scan.trw", Severity::Warn, (1, 1));
    check(Mode::Autonomous, "scan.sweep", Severity::Critical, (1, 1));
    check(Mode::Autonomous, "scan.trw", Severity::Info, (0, 0));
    check(Mode::Autonomous, "dns.tunnel", Severity::Critical, (0, 0));
    check(Mode::Autonomous, "scanner", Severity::Critical, (0, 0));
}

#[test]
fn observe_writes_nothing_and_counts() {
    let mut world = World::new(Mode::Observe);
    world.protect("10.0.0.1", Why::Gateway);
    world.alert("10.0.0.66");
    world.alert("10.0.0.1");
    assert_eq!(world.written(), []);
    let counters = world.engine.core().counters();
    assert_eq!((counters.would_block, counters.would_refuse), (1, 1));
    let status = world.engine.status();
    assert_eq!(status.mode, Mode::Observe);
    assert_eq!(status.diagnostics[0].code, "HP-RS-009");
    world.restart();
    assert_eq!(world.written(), []);
}

#[test]
fn suggest_records_what_it_would_do() {
    let mut world = World::new(Mode::Suggest);
    world.alert("10.0.0.66");
    let written = mitigations(&world);
    assert_eq!(written[0].enforced_by, Vec::<String>::new());
    assert_eq!(world.engine.status().active_total, 0);
    world.alert("10.0.0.66");
    assert_eq!(refusals(&world)[0].code, "HP-RS-020");
    world.pass(601 * S);
    assert_eq!(lifts(&world), [], "a suggestion has nothing to lift");
    world.alert("10.0.0.66");
    assert_eq!(mitigations(&world).len(), 2);
}

#[test]
fn every_protected_class_is_refused_and_recorded() {
    let mut world = World::new(Mode::Autonomous);
    world.protect("10.0.0.2", Why::Own);
    world.protect("10.0.0.1", Why::Gateway);
    world.protect("2001:db8::53", Why::Resolver);
    world.protect("10.0.0.9", Why::Administrator);
    world.protect("10.0.0.255", Why::Broadcast);
    let cases = [
        ("10.0.0.2", Why::Own),
        ("::ffff:10.0.0.2", Why::Own),
        ("10.0.0.1", Why::Gateway),
        ("2001:db8::53", Why::Resolver),
        ("10.0.0.9", Why::Administrator),
        ("127.0.0.1", Why::Loopback),
        ("::1", Why::Loopback),
        ("169.254.1.1", Why::LinkLocal),
        ("fe80::1", Why::LinkLocal),
        ("224.0.0.1", Why::Multicast),
        ("ff02::1", Why::Multicast),
        ("0.0.0.0", Why::Unspecified),
        ("::", Why::Unspecified),
        ("255.255.255.255", Why::Broadcast),
        ("10.0.0.255", Why::Broadcast),
    ];
    for (source, why) in cases {
        let cause = world.alert(source);
        let last = refusals(&world).pop().unwrap();
        assert_eq!((last.cause, last.code.as_str()), (cause, why.code()), "{source}");
        assert!(last.reason.contains(why.word()), "{}", last.reason);
    }
    assert_eq!(refusals(&world).len(), cases.len());
    assert_eq!(mitigations(&world), []);
    assert_eq!((world.xdp.blocks.get(), world.nft.blocks.get()), (0, 0));
    assert_eq!(world.engine.status().refused, cases.len() as u64);
    assert!(world.notes[0].to_string().starts_with("refusal seq=1 hash="));
    assert!(
        world.notes[0].to_string().contains(" code=HP-RS-010 reason=protected: 10.0.0.2 is self")
    );
}

#[test]
fn what_becomes_protected_is_lifted_at_once() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    world.alert("10.0.0.67");
    world.xdp.entries.borrow_mut().get_mut(&"10.0.0.66".parse().unwrap()).unwrap().1 = 7;
    world.protect("10.0.0.66", Why::Resolver);
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.67"]);
    assert_eq!(World::dropped(&world.nft), ["10.0.0.67"]);
    let lift = lifts(&world).pop().unwrap();
    assert_eq!((lift.reason.as_str(), lift.packets_dropped), ("protected", 7));
    assert!(world.xdp.protected.borrow().contains(&"10.0.0.66".parse().unwrap()));
    assert_eq!(world.engine.status().lifted, 1);
}

#[test]
fn the_end_is_recorded_with_the_packets_of_both() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("2001:db8::66");
    let subject = "2001:db8::66".parse().unwrap();
    world.pass(599 * S);
    world.xdp.entries.borrow_mut().get_mut(&subject).unwrap().1 = 40;
    world.nft.entries.borrow_mut().get_mut(&subject).unwrap().1 = 2;
    assert_eq!(lifts(&world), []);
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.xdp), Vec::<String>::new());
    let lift = lifts(&world).pop().unwrap();
    let mitigation = world.ledger.records[1].hash;
    assert_eq!(
        lift,
        Lift { cause: mitigation, subject, reason: "expired".into(), packets_dropped: 42 }
    );
    let note = world.notes.last().unwrap().to_string();
    assert!(note.ends_with("subject=2001:db8::66 reason=expired packets_dropped=42"), "{note}");
    // And the same source can be blocked again.
    world.alert("2001:db8::66");
    assert_eq!(World::dropped(&world.nft), ["2001:db8::66"]);
}

#[test]
fn mapped_addresses_are_the_ipv4_address() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("::ffff:10.0.0.66");
    assert_eq!(World::dropped(&world.nft), ["10.0.0.66"]);
    assert_eq!(mitigations(&world)[0].subject.to_string(), "10.0.0.66");
    world.alert("10.0.0.66");
    assert_eq!(refusals(&world)[0].code, "HP-RS-020");
}

#[test]
fn caps_refuse_and_record() {
    let mut world = World::new(Mode::Autonomous);
    world.policy.block_ns = 86_400 * S;
    world.restart();
    let mut number = 0u32;
    let mut next = || {
        number += 1;
        format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255)
    };
    for _ in 0..=RATE_BLOCKS_MAX {
        world.alert(&next());
    }
    assert_eq!(mitigations(&world).len(), RATE_BLOCKS_MAX);
    assert_eq!(refusals(&world).pop().unwrap().code, "HP-RS-022");
    // A restart does not open the window again.
    world.restart();
    world.alert(&next());
    assert_eq!(mitigations(&world).len(), RATE_BLOCKS_MAX);
    let mut made = RATE_BLOCKS_MAX;
    while made < ACTIVE_MAX {
        world.time.pass(61 * S);
        for _ in 0..RATE_BLOCKS_MAX.min(ACTIVE_MAX - made) {
            world.alert(&next());
            made += 1;
        }
    }
    world.time.pass(61 * S);
    world.alert(&next());
    assert_eq!(mitigations(&world).len(), ACTIVE_MAX);
    assert_eq!(refusals(&world).pop().unwrap().code, "HP-RS-021");
    let status = world.engine.status();
    assert_eq!(status.active_total as usize, ACTIVE_MAX);
    assert!(
        hookprobe_wire::frame::to_vec(&hookprobe_wire::response::Reply::Status(status)).is_ok()
    );
}

#[test]
fn one_enforcer_is_enough_and_the_other_catches_up() {
    let mut world = World::new(Mode::Autonomous);
    world.nft.works.set(Some(0));
    world.alert("10.0.0.66");
    assert_eq!(mitigations(&world)[0].enforced_by, ["xdp"]);
    let status = world.engine.status();
    assert_eq!(status.enforcers, ["xdp"]);
    assert_eq!(status.diagnostics[0].code, "HP-RS-006");
    world.nft.works.set(None);
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.nft), ["10.0.0.66"]);
    assert_eq!(world.engine.status().enforcers, ["nft", "xdp"]);
}

#[test]
fn without_any_enforcer_nothing_is_recorded_as_enforced() {
    let mut world = World::new(Mode::Autonomous);
    for kernel in [&world.xdp, &world.nft] {
        kernel.works.set(Some(0));
    }
    world.alert("10.0.0.66");
    world.pass(5 * S);
    assert_eq!(world.written(), []);
    world.xdp.works.set(None);
    world.pass(2 * S);
    assert_eq!(mitigations(&world)[0].enforced_by, ["xdp"]);
    // And when none comes back in time, that is said.
    world.xdp.works.set(Some(0));
    world.alert("10.0.0.67");
    world.pass(602 * S);
    assert_eq!(refusals(&world).pop().unwrap().code, "HP-RS-023");
}

#[test]
fn an_unreadable_protected_set_stops_new_blocks() {
    let mut world = World::new(Mode::Autonomous);
    let set = world.protection.0.borrow_mut().take();
    world.alert("10.0.0.66");
    world.pass(3 * S);
    assert_eq!((world.written().len(), world.xdp.blocks.get()), (0, 0));
    assert_eq!(world.engine.status().diagnostics[0].code, "HP-RS-003");
    *world.protection.0.borrow_mut() = set;
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    world.protection.0.borrow_mut().take();
    world.alert("10.0.0.67");
    world.pass(602 * S);
    assert_eq!(refusals(&world).pop().unwrap().code, "HP-RS-024");
}

#[test]
fn enforcers_that_fail_at_step_n_leave_no_block_without_record_or_end() {
    for nth in 0..12 {
        for both in [false, true] {
            let mut world = World::new(Mode::Autonomous);
            world.xdp.works.set(Some(nth));
            if both {
                world.nft.works.set(Some(nth));
            }
            world.alert("10.0.0.66");
            world.pass(3 * S);
            world.protect("10.0.0.66", Why::Gateway);
            world.pass(3 * S);
            world.xdp.works.set(None);
            world.nft.works.set(None);
            world.pass(3 * S);
            let (blocked, lifted) = (mitigations(&world).len(), lifts(&world).len());
            assert_eq!(blocked, lifted, "step {nth}, both {both}");
            assert_eq!(blocked + refusals(&world).len(), 1, "step {nth}, both {both}");
            assert_eq!(World::dropped(&world.xdp), Vec::<String>::new(), "step {nth}");
            assert_eq!(World::dropped(&world.nft), Vec::<String>::new(), "step {nth}");
        }
    }
}

#[test]
fn alerts_that_waited_longer_than_a_block_lasts_are_too_late() {
    let mut world = World::new(Mode::Autonomous);
    world.steps = Some(0);
    world.alert("10.0.0.66");
    world.time.pass(300 * S);
    world.alert("10.0.0.67");
    world.time.pass(301 * S);
    world.restart();
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.67"]);
    assert_eq!(mitigations(&world).len(), 1);
    assert_eq!(world.engine.core().counters().too_late, 1);
}

#[test]
fn a_restart_takes_over_what_is_in_force_for_the_time_that_is_left() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    world.pass(100 * S);
    // The machine restarted: the kernel forgot everything, its clock of uptime too.
    world.xdp.entries.borrow_mut().clear();
    world.nft.entries.borrow_mut().clear();
    world.restart();
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    assert_eq!(world.engine.status().active[0].remaining_ms, 500_000);
    assert_eq!(mitigations(&world).len(), 1);
    world.pass(501 * S);
    assert_eq!(lifts(&world).len(), 1);
    // What ended while nobody looked is lifted at the next start.
    world.alert("10.0.0.67");
    world.time.pass(700 * S);
    world.restart();
    assert_eq!(lifts(&world).len(), 2);
    assert_eq!(world.engine.status().active_total, 0);
}

#[test]
fn another_mode_takes_blocks_back() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    world.policy.mode = Mode::Observe;
    world.restart();
    assert_eq!(World::dropped(&world.xdp), Vec::<String>::new());
    assert_eq!(lifts(&world).pop().unwrap().reason, "operator");
}

#[test]
fn what_the_kernel_holds_without_a_record_is_taken_back() {
    let mut world = World::new(Mode::Autonomous);
    let stray = "10.0.0.99".parse().unwrap();
    world.xdp.entries.borrow_mut().insert(stray, (u64::MAX - S, 0));
    world.restart();
    assert_eq!(World::dropped(&world.xdp), Vec::<String>::new());
}

#[test]
fn a_rejected_append_is_tried_again() {
    let mut world = World::new(Mode::Autonomous);
    world.ledger.refuses = true;
    world.alert("10.0.0.66");
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    assert!(world.engine.status().diagnostics.iter().any(|it| it.code == "HP-RS-002"));
    world.ledger.refuses = false;
    world.pass(2 * S);
    assert_eq!(mitigations(&world).len(), 1);
    assert_eq!(world.engine.status().diagnostics, []);
}

#[test]
fn an_expiry_before_the_acknowledgement_is_lifted_after_it() {
    let mut world = World::new(Mode::Autonomous);
    world.ledger.refuses = true;
    world.alert("10.0.0.66");
    world.pass(602 * S);
    assert_eq!(World::dropped(&world.xdp), Vec::<String>::new());
    world.ledger.refuses = false;
    world.pass(2 * S);
    assert_eq!((mitigations(&world).len(), lifts(&world).len()), (1, 1));
}

#[test]
fn a_scan_that_outlives_its_block_is_blocked_again() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    // The kernel's entry is over, the next turn has not come, and the sensor is fast.
    world.time.pass(600 * S + S / 20);
    let cause = world.alert("10.0.0.66");
    world.pass(2 * S);
    assert_eq!(refusals(&world), []);
    assert_eq!(lifts(&world).len(), 1);
    assert_eq!(mitigations(&world).pop().unwrap().cause, cause);
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    // While it is in force, once is enough.
    world.alert("10.0.0.66");
    world.pass(2 * S);
    assert_eq!(refusals(&world).pop().unwrap().code, "HP-RS-020");
}

#[test]
fn a_ledger_that_was_set_aside_begins_again() {
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    world.alert("10.0.0.67");
    world.ledger = Ledger::of_epoch(1);
    world.connect();
    world.pass(2 * S);
    assert_eq!(World::dropped(&world.xdp), Vec::<String>::new(), "nothing says why any more");
    assert_eq!(world.written(), [], "a lift would name a block that is not in this lane");
    let cause = world.alert("10.0.0.66");
    assert_eq!(World::dropped(&world.nft), ["10.0.0.66"]);
    assert_eq!(mitigations(&world).pop().unwrap().cause, cause);
    assert_eq!(world.engine.status().diagnostics, []);
}

#[test]
fn the_remedy_of_mode_observe_is_a_mode_that_exists() {
    use hookprobe_wire::site::Site;
    let mut world = World::new(Mode::Observe);
    world.alert("10.0.0.66");
    let diagnostics = world.engine.status().diagnostics;
    let mode = diagnostics[0].remedy.rsplit(' ').next().unwrap();
    let site = format!("[response]\nmode = \"{mode}\"\n");
    assert_eq!(Site::parse(site.as_bytes()).unwrap().response.mode, Mode::Autonomous);
}

#[test]
fn another_lane_is_read_from_its_first_block() {
    use hookprobe_response::{core::Input, engine::Action};
    let mut world = World::new(Mode::Autonomous);
    world.alert("10.0.0.66");
    let follow = |world: &mut World, head| {
        let mut actions = Vec::new();
        world.engine.feed(Input::Disconnected, &mut actions);
        world.engine.feed(Input::Head(head), &mut actions);
        actions
    };
    let head = world.ledger.head();
    let next = Action::Follow(hookprobe_wire::Seq(2));
    assert_eq!(follow(&mut world, head.clone()), [next], "the same lane goes on");
    let first = [Action::Follow(hookprobe_wire::Seq(0))];
    let mut other = head.clone();
    other.epoch = 2;
    assert_eq!(follow(&mut world, other), first);
    world.connect();
    let mut shorter = head.clone();
    shorter.length = 1;
    assert_eq!(follow(&mut world, shorter), first);
    world.connect();
    let mut forked = head;
    forked.hash = hookprobe_wire::Hash::zero();
    assert_eq!(follow(&mut world, forked), first);

    // A block that does not follow the one before ends the connection.
    world.connect();
    let mut record = world.ledger.records[0].clone();
    record.block.header.seq = hookprobe_wire::Seq(2);
    record.hash = record.block.hash();
    let mut actions = Vec::new();
    world.engine.feed(Input::Record(Box::new(record)), &mut actions);
    assert_eq!(actions, [Action::Reconnect]);
    assert!(!world.engine.is_ready());
    assert_eq!(world.engine.core().counters().lane_changes, 1);
    world.connect();
    assert_eq!(World::dropped(&world.xdp), ["10.0.0.66"]);
    assert_eq!(mitigations(&world).len(), 1);
}
