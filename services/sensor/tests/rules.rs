//! Every reason for which the programs drop a packet, and everything that keeps them from it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use hookprobe_abi::{
    Counter,
    bucket::Rate,
    config::flag,
    kind,
    rules::{ALLOW, DRY_RUN},
};
use hookprobe_sensor::{clock::boot_ns, object::lists::Rule};
use support::kernel::{Kernel, MAC, XDP_DROP, XDP_PASS, ip, rule, syn, udp_v6};

fn udp_from(source: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(source, [192, 0, 2, 2], 64);
    builder.udp(5000, 9999).write(&mut out, &[7; 9]).unwrap();
    out
}

#[test]
fn each_kind_of_rule_drops_counts_and_tells_once() {
    let Some(mut kernel) = Kernel::new() else { return };
    for (net, counter) in [
        ("192.0.2.1/32", Counter::DroppedList),
        ("192.0.2.0/24", Counter::DroppedPrefix),
        ("192.0.0.0/16", Counter::DroppedPrefix),
    ] {
        let before = kernel.count(counter);
        kernel.list(&[rule(net, 0, 0)]);
        assert_eq!(kernel.ingress(&syn()), XDP_DROP, "{net}");
        assert_eq!(kernel.ingress(&syn()), XDP_DROP, "{net}");
        assert_eq!(kernel.count(counter), before + 2, "{net}");
        assert_eq!(kernel.kinds(), [kind::FIRST_DROP], "{net}");
    }
    for net in ["2001:db8::1/128", "2001:db8::/64", "2001:db8::/32", "2000::/3"] {
        kernel.list(&[rule(net, 0, 0)]);
        assert_eq!(kernel.ingress(&udp_v6()), XDP_DROP, "{net}");
        assert_eq!(kernel.ingress(&syn()), XDP_PASS, "{net} is not about IPv4");
    }
}

#[test]
fn rare_lengths_are_found_in_the_trie() {
    let Some(mut kernel) = Kernel::new() else { return };
    // More lengths than have a hash lookup; the ones with two rules get it.
    let mut rules: Vec<Rule> = Vec::new();
    for bits in 20..28 {
        rules.push(rule(&format!("10.1.0.0/{bits}"), 0, 0));
        rules.push(rule(&format!("10.2.0.0/{bits}"), 0, 0));
    }
    rules.push(rule("192.0.2.0/29", 0, 0));
    kernel.list(&rules);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    assert_eq!(kernel.count(Counter::DroppedLpm), 1);
    assert_eq!(kernel.ingress(&udp_from([192, 0, 2, 9])), XDP_PASS);
    assert_eq!(kernel.ingress(&udp_from([10, 2, 0, 9])), XDP_DROP);
    assert_eq!(kernel.count(Counter::DroppedPrefix), 1);
}

#[test]
fn the_most_particular_rule_decides() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.list(&[rule("192.0.0.0/16", 0, 0), rule("192.0.2.0/24", ALLOW, 0)]);
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.count(Counter::Allowed), 1);
    assert_eq!(kernel.ingress(&udp_from([192, 0, 3, 1])), XDP_DROP);
    // Of a rule that has ended nothing is left: the next one decides.
    kernel.list(&[rule("192.0.0.0/16", 0, 0), rule("192.0.2.1/32", ALLOW, 1)]);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    assert_eq!(kernel.count(Counter::BlockExpired), 1);
    // A single block stands above the list.
    kernel.list(&[rule("192.0.2.1/32", ALLOW, 0)]);
    kernel.block("192.0.2.1", 0);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
}

#[test]
fn rules_end_by_themselves() {
    let Some(mut kernel) = Kernel::new() else { return };
    // Long enough for three maps to be filled and two packets to be tried on a loaded machine.
    let soon = boot_ns() + 3_000_000_000;
    kernel.list(&[rule("192.0.2.0/24", 0, soon), rule("2001:db8::1/128", 0, soon)]);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    assert_eq!(kernel.ingress(&udp_v6()), XDP_DROP);
    while boot_ns() <= soon {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.ingress(&udp_v6()), XDP_PASS);
    assert_eq!(kernel.count(Counter::BlockExpired), 2);
}

#[test]
fn dry_runs_count_and_drop_nothing() {
    let Some(mut kernel) = Kernel::new() else { return };
    for (net, counter) in [("192.0.2.1/32", Counter::DryList), ("192.0.2.0/24", Counter::DryPrefix)]
    {
        kernel.list(&[rule(net, DRY_RUN, 0)]);
        for expected in 1..=3 {
            assert_eq!(kernel.ingress(&syn()), XDP_PASS, "{net}");
            assert_eq!(kernel.count(counter), expected, "{net}: each packet, known flow or not");
        }
    }
    let mut rules: Vec<Rule> =
        (20..28).map(|bits| rule(&format!("10.1.0.0/{bits}"), 0, 0)).collect();
    rules.extend((20..28).map(|bits| rule(&format!("10.2.0.0/{bits}"), 0, 0)));
    rules.push(rule("192.0.2.0/29", DRY_RUN, 0));
    kernel.list(&rules);
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.count(Counter::DryLpm), 1);
    kernel.list(&[]);
    let entry = hookprobe_abi::BlockEntry { flags: DRY_RUN, ..Default::default() };
    kernel.maps.insert_block(ip("192.0.2.1"), entry).unwrap();
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    assert_eq!(kernel.count(Counter::DryBlock), 1);
    assert_eq!(kernel.maps.block.get(&ip("192.0.2.1"), 0).unwrap().packets, 1);
    assert_eq!(kernel.count(Counter::FlowsLost), 0);
    let dropped: u64 =
        hookprobe_abi::REASONS.iter().map(|reason| kernel.count(reason.dropped())).sum();
    assert_eq!(dropped, 0);
}

#[test]
fn never_block_set_stands_above_every_reason() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.maps.protected.insert(ip("192.0.2.1"), 1, 0).unwrap();
    for net in ["192.0.2.1/32", "192.0.2.0/24"] {
        kernel.list(&[rule(net, 0, 0)]);
        assert_eq!(kernel.ingress(&syn()), XDP_PASS, "{net}");
    }
    kernel.list(&[]);
    kernel.configure(|config| config.source = Rate::new(1, 1));
    for _ in 0..5 {
        assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    }
    assert_eq!(kernel.count(Counter::Protected), 2 + 4);
    assert_eq!(kernel.count(Counter::DroppedRateSource), 0);
}

#[test]
fn known_flows_are_held_against_a_new_list() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.list(&[rule("203.0.113.0/24", 0, 0)]);
    for _ in 0..3 {
        assert_eq!(kernel.ingress(&syn()), XDP_PASS);
    }
    kernel.list(&[rule("192.0.2.1/32", 0, 0)]);
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    // Swapping back and giving back what is not in force leaves what is.
    kernel.list(&[rule("203.0.113.0/24", 0, 0), rule("192.0.2.1/32", 0, 0)]);
    kernel.maps.release_old_list().unwrap();
    assert_eq!(kernel.ingress(&syn()), XDP_DROP);
    kernel.list(&[]);
    assert_eq!(kernel.ingress(&syn()), XDP_PASS);
}

/// While one list is put in the place of another, both of which block the source, no packet passes.
#[test]
fn lists_are_swapped_in_one_step() {
    let Some(mut kernel) = Kernel::new() else { return };
    let filler = |first: u8| {
        let nets = (0..2000_u32).map(move |number| {
            let [_, _, c, d] = number.to_be_bytes();
            rule(&format!("{first}.7.{c}.{d}/32"), 0, 0)
        });
        let mut rules: Vec<Rule> = nets.collect();
        rules.push(rule("192.0.2.1/32", 0, 0));
        rules
    };
    let lists = [filler(10), filler(11)];
    kernel.list(&lists[0]);
    let (mut passed, mut runs) = (0_u64, 0_u64);
    let Kernel { object, maps, rings: _rings } = &mut kernel;
    std::thread::scope(|scope| {
        let swapper = scope.spawn(move || {
            for round in 0..40 {
                let list =
                    hookprobe_sensor::object::lists::List::new(lists[round % 2].iter().copied())
                        .unwrap();
                maps.swap_list(&list).unwrap();
            }
        });
        while !swapper.is_finished() {
            let (action, _) = object.test_run(hookprobe_abi::PROGRAM_XDP, &syn(), 1).unwrap();
            runs += 1;
            passed += u64::from(action == XDP_PASS);
        }
        swapper.join().unwrap();
    });
    println!("{runs} packets during 40 swaps");
    assert!(runs > 1000);
    assert_eq!(passed, 0);
}

#[test]
fn buckets_empty_and_fill_again() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.configure(|config| config.source = Rate::new(1, 5));
    // In one call: no token comes back between two of them.
    kernel.object.test_run(hookprobe_abi::PROGRAM_XDP, &syn(), 8).unwrap();
    assert_eq!(kernel.count(Counter::Packets), 8);
    assert_eq!(kernel.count(Counter::DroppedRateSource), 3);
    // Another source has a bucket of its own.
    assert_eq!(kernel.ingress(&udp_from([192, 0, 2, 77])), XDP_PASS);
    let began = Instant::now();
    while kernel.ingress(&syn()) == XDP_DROP {
        assert!(began.elapsed() < Duration::from_secs(30), "a token comes back each second");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Under a dry run the same is counted and passes.
    let before = kernel.count(Counter::DroppedRateSource);
    kernel.configure(|config| config.flags |= flag::RATE_DRY_RUN);
    let (action, _) = kernel.object.test_run(hookprobe_abi::PROGRAM_XDP, &syn(), 8).unwrap();
    assert_eq!(action, XDP_PASS);
    assert!(kernel.count(Counter::DryRateSource) >= 6);
    assert_eq!(kernel.count(Counter::DroppedRateSource), before);
}

#[test]
fn neighbours_share_a_bucket() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.configure(|config| config.prefix = Rate::new(1, 20));
    let mut dropped = 0;
    for host in 0..30 {
        dropped += u32::from(kernel.ingress(&udp_from([10, 0, 0, host])) == XDP_DROP);
    }
    assert_eq!(dropped, 10);
    assert_eq!(kernel.count(Counter::DroppedRatePrefix), 10);
    assert_eq!(kernel.ingress(&udp_from([10, 0, 1, 1])), XDP_PASS, "the next /24");
    // IPv6 by /64.
    let mut frame = udp_v6();
    let mut dropped = 0;
    for host in 0..30 {
        frame[14 + 8 + 15] = host;
        dropped += u32::from(kernel.ingress(&frame) == XDP_DROP);
    }
    assert_eq!(dropped, 10);
    frame[14 + 8 + 7] = 1;
    assert_eq!(kernel.ingress(&frame), XDP_PASS, "the next /64");
    kernel.configure(|config| config.flags |= flag::RATE_DRY_RUN);
    assert_eq!(kernel.ingress(&udp_from([10, 0, 0, 1])), XDP_PASS);
    assert_eq!(kernel.count(Counter::DryRatePrefix), 1);
}

#[test]
fn cut_headers_do_not_save_a_listed_source() {
    let Some(mut kernel) = Kernel::new() else { return };
    kernel.list(&[rule("192.0.2.0/24", 0, 0)]);
    let mut lying = syn();
    lying[46] = 0x10;
    assert_eq!(kernel.ingress(&lying), XDP_DROP);
    let mut fragment = syn();
    fragment[21] = 5;
    assert_eq!(kernel.ingress(&fragment), XDP_DROP);
    assert_eq!(kernel.count(Counter::DroppedPrefix), 2);
}
