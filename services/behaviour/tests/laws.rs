//! Laws that hold for any traffic.

mod common;

use std::net::IpAddr;

use common::facts::{Facts, fact};
use hookprobe_behaviour::{Behaviour, Config, Finding, Seed, Weight, finding::EVIDENCE_MAX};
use proptest::prelude::*;

/// Everything that comes of numbers, and the counters after it.
fn run(seed: u64, numbers: &[u64]) -> (Vec<Finding>, Vec<(&'static str, u64)>) {
    let mut behaviour = Behaviour::new(&Config { seed: Seed(seed), ..Config::default() });
    let (mut facts, mut found) = (Facts::default(), Vec::new());
    for number in numbers {
        fact(*number, &mut facts, |now_ns, fact| behaviour.handle(now_ns, fact, &mut found));
    }
    behaviour.finish(&mut found);
    (found, behaviour.counters())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No panic, and what comes out does not depend on the key of the hashes.
    #[test]
    fn same_facts_same_findings(
        numbers in proptest::collection::vec(any::<u64>(), 0..400), seed in any::<u64>(),
    ) {
        let first = run(0, &numbers);
        prop_assert_eq!(&first, &run(0, &numbers));
        prop_assert_eq!(&first, &run(seed, &numbers));
    }

    #[test]
    fn findings_are_well_formed(numbers in proptest::collection::vec(any::<u64>(), 0..400)) {
        for finding in run(1, &numbers).0 {
            prop_assert!(finding.evidence.len() <= EVIDENCE_MAX);
            prop_assert!(finding.first_ns <= finding.decided_ns, "{finding:?}");
            prop_assert!(!finding.summary.is_empty() && finding.summary.is_ascii(), "{finding:?}");
            let names: std::collections::BTreeSet<_> =
                finding.evidence.iter().map(|(name, _)| *name).collect();
            prop_assert_eq!(names.len(), finding.evidence.len(), "named twice");
        }
    }
}

/// A flood of ever new everything: tables stay at their caps and say what they forgot.
#[test]
fn floods_stay_bounded() {
    let mut behaviour = Behaviour::new(&Config::default());
    let mut found = Vec::new();
    let mut state = 1_u64;
    for n in 0..100_000_u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let mut facts = Facts { now_ns: n * 1000, ..Facts::default() };
        common::facts::forged(state, &mut facts, |now_ns, fact| {
            behaviour.handle(now_ns, fact, &mut found);
        });
        let source = [11, (n >> 16) as u8, (n >> 8) as u8, n as u8].into();
        behaviour.handle(n * 1000, &common::facts::syn(source, 80, n * 1000), &mut found);
    }
    let counters: std::collections::BTreeMap<_, _> = behaviour.counters().into_iter().collect();
    let caps = [
        ("scan_pending", 16_384),
        ("scan_sources", 5_120),
        ("sweep_sources", 2_048),
        ("brute_sources", 4_096),
        ("beacon_pairs", 16_384),
        ("beacon_samples", 524_288),
        ("tunnel_domains", 12_288),
        ("dga_clients", 2_048),
        ("inventory_devices", 4_096),
        ("inventory_addresses", 16_384),
        ("prevalence_peers", 32_768),
        ("resolved_addresses", 32_768),
        ("arp_addresses", 8_192),
        ("dhcp_servers", 256),
        ("ra_routers", 256),
        ("exfiltration_pairs", 16_384),
        ("marker_pairs", 8_192),
    ];
    for (name, cap) in caps {
        assert!(counters[name] <= cap, "{name}: {} of {cap}", counters[name]);
    }
    for name in ["scan_pending_evicted", "inventory_devices_evicted"] {
        assert!(counters[name] > 0, "{name}");
    }
    // 0.1 s of capture time: one minute's worth.
    assert!(found.len() <= 120, "{}", found.len());
    assert_eq!(counters["findings"], u64::try_from(found.len()).unwrap());
}

/// A flood of forged sources does not hide who scans.
#[test]
fn a_scanner_is_found_in_a_flood() {
    let mut behaviour = Behaviour::new(&Config::default());
    let mut found = Vec::new();
    let scanner: IpAddr = "203.0.113.66".parse().unwrap();
    let mut state = 7_u64;
    for n in 0..50_000_u64 {
        let now_ns = n * 1_000_000;
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let forged = common::facts::syn(
            [11, (state >> 40) as u8, (state >> 48) as u8, (state >> 56) as u8].into(),
            80,
            now_ns,
        );
        behaviour.handle(now_ns, &forged, &mut found);
        if n % 500 == 0 {
            let port = u16::try_from(n / 500).unwrap() + 1;
            let try_it = common::facts::syn(scanner, port, now_ns);
            behaviour.handle(now_ns, &try_it, &mut found);
        }
    }
    behaviour.finish(&mut found);
    let convicted: Vec<_> = found.iter().filter(|it| it.source == scanner).collect();
    assert_eq!(convicted.len(), 1, "{convicted:#?}");
    assert_eq!(convicted[0].weight, Weight::Conviction);
}
