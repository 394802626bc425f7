use super::*;
use crate::core::address::from_ip;
use proptest::prelude::*;

const MS: TimeNs = 1_000_000;

fn ip(text: &str) -> Address {
    from_ip(text.parse().unwrap())
}

fn host(number: u8) -> Address {
    ip(&format!("192.0.2.{number}"))
}

fn syn(source: Address, destination: Address, port: u16) -> Record {
    Record {
        source,
        destination,
        source_port: 40_000,
        destination_port: port,
        protocol: TCP,
        kind: kind::SYN,
        ..Record::default()
    }
}

fn answer(to: &Record, kind: u8) -> Record {
    Record {
        source: to.destination,
        destination: to.source,
        source_port: to.destination_port,
        destination_port: to.source_port,
        protocol: TCP,
        kind,
        ..Record::default()
    }
}

/// A detector with a clock that goes on by 10 ms per record.
struct Bench {
    detector: ScanDetector,
    now_ns: TimeNs,
    out: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self { detector: ScanDetector::new(limits), now_ns: SECOND_NS, out: Vec::new() }
    }

    fn feed(&mut self, record: &Record) {
        self.now_ns += 10 * MS;
        self.detector.handle(self.now_ns, record, &mut self.out);
    }

    fn refused(&mut self, source: Address, destination: Address, port: u16) {
        let syn = syn(source, destination, port);
        self.feed(&syn);
        self.feed(&answer(&syn, kind::RST));
    }

    fn accepted(&mut self, source: Address, destination: Address, port: u16) {
        let syn = syn(source, destination, port);
        self.feed(&syn);
        self.feed(&answer(&syn, kind::SYN_ACK));
    }

    fn wait(&mut self, ns: TimeNs) {
        self.now_ns += ns;
        self.detector.tick(self.now_ns, &mut self.out);
    }

    fn findings(&self) -> Vec<&Finding> {
        self.out.iter().map(|Effect::Alert(finding)| finding).collect()
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.detector.counters();
        counters.iter().find(|(n, _)| *n == name).unwrap().1
    }
}

fn evidence(finding: &Finding, name: &str) -> u64 {
    finding.evidence.iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn vertical_scan_is_one_alert_that_says_why() {
    let mut bench = Bench::new();
    for port in 1..=200 {
        bench.refused(host(9), host(1), port);
    }
    let findings = bench.findings();
    assert_eq!(findings.len(), 1);
    let finding = findings[0];
    assert_eq!(finding.source, host(9));
    assert_eq!(finding.destination, Some(host(1)));
    assert_eq!(
        finding.summary,
        "192.0.2.9 scans 8 ports of 192.0.2.1: 8 of 8 first contacts failed"
    );
    assert_eq!(evidence(finding, "attempts"), 8);
    assert_eq!(evidence(finding, "failures"), 8);
    assert_eq!(evidence(finding, "distinct_ports"), 8);
    assert_eq!(evidence(finding, "distinct_hosts"), 1);
    // 4 to the power of 8, in thousandths; the division 0.8 / 0.2 is not exact.
    assert_eq!(evidence(finding, "likelihood_x1000") / 1000, 65_536);
    assert!(finding.first_ns < finding.decided_ns);
}

#[test]
fn horizontal_scan_of_silent_hosts_needs_only_time() {
    let mut bench = Bench::new();
    for number in 1..=5 {
        bench.feed(&syn(host(99), host(number), 22));
    }
    assert!(bench.findings().is_empty());
    bench.wait(2900 * MS);
    assert!(bench.findings().is_empty(), "not before the answer is late");
    bench.wait(200 * MS);
    let findings = bench.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].destination, None);
    assert_eq!(evidence(findings[0], "unanswered"), 4);
    assert_eq!(evidence(findings[0], "distinct_hosts"), 4);
    assert_eq!(evidence(findings[0], "distinct_ports"), 1);
    let waited_ns = findings[0].decided_ns - findings[0].first_ns;
    assert_eq!(waited_ns, 3 * SECOND_NS + 30 * MS, "decided when the wait was over");
}

#[test]
fn unreachable_counts_for_tcp_only() {
    let mut bench = Bench::new();
    for number in 1..=4 {
        let syn = syn(host(99), host(number), 80);
        bench.feed(&syn);
        let mut about = answer(&syn, kind::UNREACHABLE);
        about.protocol = 17;
        bench.feed(&about);
        assert_eq!(bench.counter("scan_pending"), 1, "that was about UDP");
        about.protocol = TCP;
        bench.feed(&about);
    }
    assert_eq!(bench.findings().len(), 1);
    assert_eq!(evidence(bench.findings()[0], "unreachable"), 4);
}

#[test]
fn browsing_with_some_failures_is_silent() {
    let mut bench = Bench::new();
    for number in 1..=240 {
        if number % 4 == 0 {
            bench.refused(host(250), host(number), 443);
        } else {
            bench.accepted(host(250), host(number), 443);
        }
    }
    assert!(bench.findings().is_empty());
    assert!(bench.counter("scan_benign") > 0);
}

#[test]
fn one_dead_server_is_silent_however_often_it_is_tried() {
    let mut bench = Bench::new();
    for _ in 0..500 {
        for port in [80, 443, 8080, 8443, 22] {
            bench.refused(host(7), host(1), port);
        }
    }
    assert!(bench.findings().is_empty());
    assert_eq!(bench.counter("scan_attempts"), 5);
}

#[test]
fn retransmitted_syns_are_one_attempt() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        for number in 1..=3 {
            bench.feed(&syn(host(7), host(number), 80));
        }
    }
    bench.wait(10 * SECOND_NS);
    assert!(bench.findings().is_empty());
    assert_eq!(bench.counter("scan_attempts"), 3);
}

#[test]
fn continuing_scan_is_silent_until_quiet() {
    let mut bench = Bench::new();
    for port in 1..=20 {
        bench.refused(host(9), host(1), port);
    }
    // It goes on slowly for most of an hour: still the same incident.
    for port in 100..=128 {
        bench.refused(host(9), host(1), port);
        bench.wait(120 * SECOND_NS);
    }
    assert_eq!(bench.findings().len(), 1);
    bench.wait(600 * SECOND_NS);
    for port in 1..=20 {
        bench.refused(host(9), host(1), port);
    }
    assert_eq!(bench.findings().len(), 2);
}

#[test]
fn scan_of_a_day_is_told_again_each_hour() {
    let mut bench = Bench::new();
    // Nothing ever says that it is dropped: not blocked, or by nft alone.
    for port in 1..=24 * 60 {
        bench.refused(host(9), host(1), port);
        bench.wait(60 * SECOND_NS);
    }
    let told: Vec<TimeNs> = bench.findings().iter().map(|finding| finding.decided_ns).collect();
    assert!((20..=24).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 3600 * SECOND_NS), "{told:?}");
}

#[test]
fn flood_of_scanners_is_held_back_and_decided_later() {
    let limits = Limits { alerts_per_minute_max: 3, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for number in 1..=5 {
        for port in 1..=8 {
            bench.refused(host(number), host(200), port);
        }
    }
    assert_eq!(bench.findings().len(), 3);
    assert_eq!(bench.counter(HELD_BACK), 2);
    bench.wait(60 * SECOND_NS);
    for number in 1..=5 {
        bench.refused(host(number), host(200), 9);
    }
    let told: Vec<Address> = bench.findings().iter().map(|finding| finding.source).collect();
    assert_eq!(told, (1..=5).map(host).collect::<Vec<_>>());
    assert_eq!(evidence(bench.findings()[4], "failures"), 9);
}

#[test]
fn scan_that_outlives_its_block_is_told_again() {
    let mut bench = Bench::new();
    for port in 1..=20 {
        bench.refused(host(9), host(1), port);
    }
    let mut drop = syn(host(9), host(1), 21);
    drop.kind = kind::FIRST_DROP;
    bench.feed(&drop);
    bench.refused(host(9), host(1), 22);
    assert_eq!(bench.findings().len(), 1, "a record of another CPU, late");
    bench.wait(60 * SECOND_NS);
    for port in 1..=20 {
        bench.refused(host(9), host(1), port);
    }
    assert_eq!(bench.findings().len(), 2);
}

#[test]
fn scanners_own_resets_are_no_answers() {
    let mut bench = Bench::new();
    for port in 1..=50 {
        let syn = syn(host(9), host(1), port);
        bench.feed(&syn);
        bench.feed(&answer(&syn, kind::SYN_ACK));
        let mut reset = syn;
        reset.kind = kind::RST;
        bench.feed(&reset);
    }
    assert!(bench.findings().is_empty(), "every door was open");
}

#[test]
fn flood_of_forged_sources_stays_within_the_caps() {
    let limits =
        Limits { pending_max: 512, newcomers_max: 64, sources_max: 16, ..Limits::default() };
    let mut bench = Bench::with(limits);
    // A scanner that was there before is still convicted during the flood.
    for port in 1..=3 {
        bench.refused(host(9), host(1), port);
    }
    for number in 0_u32..20_000 {
        let [_, b, c, d] = number.to_be_bytes();
        let forged = from_ip(std::net::IpAddr::from([203, b, c, d]));
        bench.feed(&syn(forged, host(1), 80));
        assert!(bench.detector.pending.len() <= 512);
        assert!(bench.detector.newcomers.len() <= 64);
        assert!(bench.detector.sources.len() <= 16);
    }
    assert!(bench.counter("scan_newcomers_evicted") > 0);
    assert_eq!(bench.counter("scan_sources_evicted"), 0);
    for port in 4..=8 {
        bench.refused(host(9), host(1), port);
    }
    assert_eq!(bench.findings().len(), 1);
    assert_eq!(bench.findings()[0].source, host(9));
}

#[test]
fn scanner_faster_than_the_wait_is_convicted() {
    let limits = Limits { pending_max: 128, ..Limits::default() };
    let mut detector = ScanDetector::new(limits);
    let mut out = Vec::new();
    // 100,000 silent doors per second for 4 s; the table holds 128.
    for number in 0_u32..400_000 {
        let [_, b, c, d] = number.to_be_bytes();
        let silent = from_ip(std::net::IpAddr::from([10, b, c, d]));
        let now_ns = u64::from(number) * 10_000;
        detector.handle(now_ns, &syn(host(9), silent, 23), &mut out);
    }
    assert_eq!(out.len(), 1);
}

fn any_record() -> impl Strategy<Value = (TimeNs, Record)> {
    (0_u64..5 * SECOND_NS, 0_u8..6, 0_u8..6, 0_u16..6, 0_u16..6, 0_u8..9, 0_u8..20).prop_map(
        |(gap_ns, from, to, source_port, destination_port, kind, protocol)| {
            let record = Record {
                source: host(from),
                destination: host(to),
                source_port,
                destination_port,
                kind,
                protocol,
                ..Record::default()
            };
            (gap_ns, record)
        },
    )
}

proptest! {
    #[test]
    fn any_records_stay_within_the_caps(
        records in proptest::collection::vec(any_record(), 0..400),
    ) {
        let limits = Limits {
            pending_max: 5,
            newcomers_max: 2,
            sources_max: 2,
            contacts_max: 3,
            ..Limits::default()
        };
        let mut detector = ScanDetector::new(limits);
        let (mut now_ns, mut out) = (0, Vec::new());
        for (gap_ns, record) in records {
            now_ns += gap_ns;
            detector.handle(now_ns, &record, &mut out);
            prop_assert!(detector.pending.len() <= 5);
            let waiting: u32 = detector.waiting.values().sum();
            prop_assert_eq!(waiting as usize, detector.pending.len());
            prop_assert!(detector.newcomers.len() <= 2 && detector.sources.len() <= 2);
            for address in (0..6).map(host) {
                let known = detector.sources.get(&address);
                prop_assert!(known.is_none_or(|source| source.contacts.values.len() <= 3));
            }
        }
    }

    #[test]
    fn clock_extremes_never_panic(
        records in proptest::collection::vec((any::<u64>(), any_record()), 0..100),
    ) {
        let mut core = crate::core::Core::new();
        let mut out = Vec::new();
        for (now_ns, (_, record)) in records {
            core.handle(now_ns, &record, &mut out);
            core.tick(now_ns.wrapping_mul(3), &mut out);
        }
    }

    #[test]
    fn order_of_the_answers_does_not_matter(
        order in Just((1_u16..=12).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut bench = Bench::new();
        for port in 1..=12 {
            bench.feed(&syn(host(9), host(1), port));
        }
        for port in order {
            bench.feed(&answer(&syn(host(9), host(1), port), kind::RST));
        }
        prop_assert_eq!(bench.findings().len(), 1);
        prop_assert_eq!(evidence(bench.findings()[0], "failures"), 8);
    }

    #[test]
    fn others_traffic_changes_nothing_for_a_scanner(
        others in proptest::collection::vec(any_record(), 0..60),
    ) {
        let mut bench = Bench::new();
        let mut others = others.into_iter();
        for port in 1..=20 {
            for (_, mut record) in others.by_ref().take(3) {
                // Not about the scanner and not by it.
                record.source = host(100 + record.source[15]);
                record.destination = host(200);
                bench.feed(&record);
            }
            bench.refused(host(9), host(1), port);
        }
        let about = bench.findings().iter().filter(|f| f.source == host(9)).count();
        prop_assert_eq!(about, 1);
    }
}
