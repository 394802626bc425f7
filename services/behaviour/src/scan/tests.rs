use super::*;
use crate::{finding::Weight, observation::State, testing::connection};

const SCANNER: &str = "203.0.113.66";

/// Tries as (second, destination, port, answer); silence is no answer at all.
fn run(
    tries: impl IntoIterator<Item = (u64, String, u16, Answer)>,
    protocol: Protocol,
) -> Vec<Finding> {
    let (mut detector, mut out) = (Scans::new(Seed(1), Limits::default()), Vec::new());
    let mut last_ns = 0;
    for (second, destination, port, answer) in tries {
        let mut attempt = connection(SCANNER, &destination, port);
        attempt.protocol = protocol;
        attempt.first_ns = second * SECOND_NS;
        last_ns = attempt.first_ns;
        detector.handle(last_ns, &Observation::Started(attempt), &mut out);
        if answer != Answer::Silent {
            detector.handle(last_ns, &Observation::Answered(attempt, answer), &mut out);
        }
    }
    detector.tick(last_ns + MINUTE_NS, &mut out);
    out
}

fn host(n: u64) -> String {
    format!("10.0.{}.{}", n / 250, n % 250 + 1)
}

#[test]
fn many_hosts_one_port_is_horizontal() {
    let found = run((0..500).map(|n| (n / 50, host(n), 445, Answer::Silent)), Protocol::Tcp);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].detector, found[0].port), ("scan.horizontal", Some(445)));
    assert_eq!(found[0].weight, Weight::Conviction);
}

#[test]
fn many_ports_one_host_is_vertical() {
    let found = run((1..999).map(|port| (1, host(7), port, Answer::Refused)), Protocol::Tcp);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].detector, "scan.vertical");
    assert_eq!(found[0].destination, Some("10.0.0.8".parse().unwrap()));
}

#[test]
fn a_try_each_ten_minutes_is_slow() {
    let found = run((0..40).map(|n| (n * 600, host(n), 22, Answer::Silent)), Protocol::Tcp);
    assert_eq!(found[0].detector, "scan.slow");
}

#[test]
fn a_scan_that_mostly_succeeds_is_found_by_breadth() {
    let answer = |n: u64| if n.is_multiple_of(3) { Answer::Silent } else { Answer::Accepted };
    let found = run((0..60).map(|n| (n, host(n), 80, answer(n))), Protocol::Tcp);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].weight, Weight::Suspicion);
}

#[test]
fn a_dead_server_and_a_busy_client_are_nobody() {
    let dead = (0..5000).map(|n| (n, host(1), 443, Answer::Silent));
    assert_eq!(run(dead, Protocol::Tcp), [], "one door");
    let ports = [80, 443, 8080, 22, 25, 993].into_iter();
    assert_eq!(run(ports.map(|port| (1, host(1), port, Answer::Silent)), Protocol::Tcp), []);
    let answer = |n: u64| if n.is_multiple_of(20) { Answer::Refused } else { Answer::Accepted };
    assert_eq!(run((0..2000).map(|n| (n, host(n), 443, answer(n))), Protocol::Tcp), []);
}

#[test]
fn silent_udp_needs_breadth_and_traceroute_is_nobody() {
    let silent = |port| (1, host(1), port, Answer::Silent);
    assert_eq!(run((100..110).map(silent), Protocol::Udp), []);
    assert_eq!(run((33_434..33_500).map(silent), Protocol::Udp), []);
    assert_eq!(run((100..160).map(silent), Protocol::Udp)[0].detector, "scan.vertical");
}

/// What ends long after it was told is no second scan; a scan an hour later is.
#[test]
fn an_incident_is_told_once_and_the_next_one_again() {
    let (mut detector, mut out) = (Scans::new(Seed(1), Limits::default()), Vec::new());
    let mut scan = |begin_s: u64, end_s: u64, out: &mut Vec<Finding>| {
        for n in 0..100 {
            let mut attempt = connection(SCANNER, &host(n), 23);
            attempt.first_ns = begin_s * SECOND_NS + n;
            (attempt.last_ns, attempt.state) = (attempt.first_ns, State::Rej);
            if begin_s == end_s {
                let answer = Observation::Answered(attempt, Answer::Refused);
                detector.handle(attempt.first_ns, &Observation::Started(attempt), out);
                detector.handle(attempt.first_ns, &answer, out);
            } else {
                detector.handle(end_s * SECOND_NS + n, &Observation::Ended(attempt), out);
            }
        }
    };
    scan(10, 10, &mut out);
    assert_eq!(out.len(), 1);
    scan(10, 2000, &mut out);
    assert_eq!(out.len(), 1, "late ends");
    scan(7200, 7200, &mut out);
    assert_eq!(out.len(), 2);
}
