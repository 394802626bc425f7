//! Which rules are looked at for what.

use hookprobe_traffic::{Direction, app::Proto};

use super::{Class, Prefilter};
use crate::{Config, Ruleset, buffer::Buffer, candidates::Candidates};

/// The rules with numbers from 1 on, in the order of evaluation.
fn ruleset(rules: &[&str]) -> Ruleset {
    let numbered = (1..).zip(rules);
    let text: Vec<String> =
        numbered.map(|(sid, rule)| rule.replace(";)", &format!("; sid:{sid};)"))).collect();
    let (ruleset, _) = Ruleset::new(&[("test", &text.join("\n"))], Config::default());
    assert_eq!(ruleset.problems, []);
    ruleset
}

/// Numbers of the rules that `look` finds.
fn found(ruleset: &Ruleset, look: impl Fn(&Prefilter, &mut Candidates)) -> Vec<u32> {
    let mut candidates = Candidates::default();
    candidates.clear();
    look(&ruleset.prefilter, &mut candidates);
    candidates.sort();
    let rules = (0..).map_while(|at| candidates.get(at));
    rules.filter_map(|order| ruleset.rule(order)).map(|rule| rule.sid).collect()
}

#[test]
fn a_rule_is_found_by_its_longest_content() {
    let ruleset = ruleset(&[
        "alert udp any any -> any any (content:\"ab\"; content:\"longest\"; content:\"xyz\";)",
        "alert udp any any -> any any (content:\"ab\"; fast_pattern; content:\"longest\";)",
        "alert udp any any -> any any (content:!\"longest of all\"; content:\"xyz\";)",
    ]);
    let in_payload = |text: &str| {
        found(&ruleset, |prefilter, out| {
            prefilter.in_payload(Class::Udp, false, text.as_bytes(), out);
        })
    };
    assert_eq!(in_payload("the LONGEST one"), [1]);
    assert_eq!(in_payload("abc"), [2]);
    assert_eq!(in_payload("abc xyz longest of all"), [1, 2, 3]);
    assert_eq!(in_payload(""), [] as [u32; 0]);
}

#[test]
fn contents_with_a_depth_are_looked_for_at_the_beginning() {
    let ruleset = ruleset(&[
        "alert udp any any -> any any (content:\"needle\"; depth:6;)",
        "alert udp any any -> any any (content:\"needle\"; offset:58; depth:6;)",
        "alert udp any any -> any any (content:\"needle\"; offset:58; depth:7;)",
        "alert udp any any -> any any (content:\"needle\"; startswith;)",
        "alert udp any any -> any any (content:\"nee\"; content:\"needles\"; within:20;)",
    ]);
    let behind = |front: usize| {
        let text = ".".repeat(front) + "Needles";
        found(&ruleset, |prefilter, out| {
            prefilter.in_payload(Class::Udp, false, text.as_bytes(), out);
        })
    };
    assert_eq!(behind(0), [1, 2, 3, 4, 5]);
    assert_eq!(behind(58), [1, 2, 3, 4, 5]);
    assert_eq!(behind(59), [3, 5]);
    assert_eq!(behind(200), [3, 5]);
}

#[test]
fn segments_of_a_stream_are_looked_at_for_what_streams_are_not() {
    let ruleset = ruleset(&[
        "alert tcp any any -> any any (content:\"needle\";)",
        "alert tcp any any -> any any (flow:only_stream; content:\"needle\";)",
        "alert tcp any any -> any any (flow:no_stream; content:\"needle\";)",
        "alert udp any any -> any any (content:\"needle\";)",
        "alert ip any any -> any any (content:\"needle\";)",
    ]);
    let segment = |class, is_in_stream| {
        found(&ruleset, |prefilter, out| {
            prefilter.in_payload(class, is_in_stream, b"a needle", out);
        })
    };
    let stream = found(&ruleset, |prefilter, out| prefilter.in_stream(b"a needle", out));
    assert!(stream.contains(&1) && stream.contains(&2) && !stream.contains(&3), "{stream:?}");
    assert!(segment(Class::Tcp, true).contains(&3));
    assert!(!segment(Class::Tcp, true).contains(&1));
    assert!(segment(Class::Tcp, false).contains(&1));
    assert_eq!(segment(Class::Udp, false), [4, 5]);
}

#[test]
fn rules_without_contents_wait_for_what_is_rare() {
    let ruleset = ruleset(&[
        "alert tcp any any -> any any (flow:established; dsize:7;)",
        "alert pkthdr any any -> any any (decode-event:ipv4.trunc_pkt;)",
        "alert tcp any any -> any any (flowbits:isset,one; flags:S;)",
        "alert icmp any any -> any any (itype:8; icmp_id:7;)",
        "alert icmp any any -> any any (icmp_id:7;)",
    ]);
    let always = |class, is_event: bool| -> Vec<u32> {
        let Some(always) = ruleset.prefilter.packet_always(class) else { return Vec::new() };
        let list = if is_event { &always.events } else { &always.others };
        assert!(list.iter().all(|unfound| unfound.test.is_some()), "{list:?}");
        let rules = list.iter().flat_map(|unfound| &unfound.rules);
        rules.filter_map(|order| ruleset.rule(*order)).map(|rule| rule.sid).collect()
    };
    let sorted = |mut sids: Vec<u32>| {
        sids.sort_unstable();
        sids
    };
    assert_eq!(sorted(always(Class::Tcp, false)), [1, 3]);
    assert_eq!(always(Class::Icmp, false), [4, 5]);
    let icmp = ruleset.prefilter.packet_always(Class::Icmp).map(|always| always.others.len());
    assert_eq!(icmp, Some(1), "what they have in common is asked once");
    for class in Class::ALL {
        assert_eq!(always(class, true), [2], "{class:?}");
    }
}

#[test]
fn buffers_are_searched_where_they_are() {
    let ruleset = ruleset(&[
        "alert http any any -> any any (http.uri; content:\"/index\";)",
        "alert http any any -> any any (http.header; content:\"needle\";)",
        "alert dns any any -> any any (dns.query; content:\"example\";)",
        "alert http any any -> any any (http.uri; bsize:5;)",
    ]);
    let in_tx = |proto, direction, progress| -> Vec<Buffer> {
        let searches = ruleset.prefilter.in_tx(proto, direction, progress);
        searches.map(|(_, search)| search.buffer).collect()
    };
    let (up, down) = (Direction::ToServer, Direction::ToClient);
    assert_eq!(in_tx(Proto::Http1, up, (0, 1)), [Buffer::HttpUri]);
    assert_eq!(in_tx(Proto::Http1, up, (0, 2)), [Buffer::HttpUri, Buffer::HttpHeader]);
    assert_eq!(in_tx(Proto::Http1, up, (2, 3)), [Buffer::HttpHeader]);
    assert_eq!(in_tx(Proto::Http1, down, (0, 4)), [Buffer::HttpHeader]);
    assert_eq!(in_tx(Proto::Dns, up, (0, 1)), [Buffer::DnsQuery]);
    assert_eq!(in_tx(Proto::Tls, up, (0, 9)), []);
    assert_eq!(ruleset.prefilter.tx_always.len(), 1);
}
