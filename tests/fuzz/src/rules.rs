//! Targets of the rule language: rules, configurations, and rules against packets.

use std::sync::Arc;

use hookprobe_rules::{Config, Detector, Mode, Ruleset, syntax, yaml};
use hookprobe_traffic::{
    config,
    engine::Engine,
    packet::{Frame, Link},
};

use crate::{Outcome, Target};

/// All of this part.
pub(crate) const TARGETS: [Target; 3] = [
    plain(
        "rules-parser",
        parser,
        rule_seeds,
        &[
            b"content:\"",
            b"|41 42|",
            b"; ",
            b"pcre:\"/",
            b"(?<=",
            b"byte_test:",
            b"relative",
            b"[!",
            b"$HOME_NET",
            b"\\\n",
        ],
    ),
    plain(
        "rules-yaml",
        configuration,
        yaml_seeds,
        &[b": ", b"\n- ", b"  ", b"[", b"{", b"|\n", b"\"", b"#"],
    ),
    plain(
        "rules-matcher",
        matcher,
        matcher_seeds,
        &[b"content:\"a\";", b"distance:0;", b"within:3;", b"\0", b"GET / HTTP/1.1\r\n"],
    ),
];

const fn plain(
    name: &'static str,
    run: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target { name, run, seeds, repair: |_| {}, dictionary }
}

fn config() -> Config {
    let mut config = Config::default();
    config.variables = Config::shipped_variables();
    config
}

/// What parses prints to what parses the same; what does not load says why.
fn parser(bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    for line in syntax::lines(&text) {
        if let Ok(rule) = syntax::parse(&line.text) {
            assert_eq!(syntax::parse(&rule.to_string()), Ok(rule), "printed and read again");
        }
    }
    let (ruleset, _) = Ruleset::new(&[("fuzz", &text)], config());
    match ruleset.problems.first() {
        Some(problem) => Outcome::of(&problem.error.to_string()),
        None => Outcome::of("loaded"),
    }
}

fn configuration(bytes: &[u8]) -> Outcome {
    match yaml::parse(&String::from_utf8_lossy(bytes)) {
        Ok(node) => {
            let _ = (Config::from_yaml(&node), hookprobe_rules::config::traffic(&node, true));
            Outcome::of("read")
        }
        Err(error) => Outcome::of(&error.to_string()),
    }
}

/// The first byte says how long the rules are (in units of 8 bytes), the rest is an IP packet; it is
/// shown twice.
fn matcher(bytes: &[u8]) -> Outcome {
    let Some((first, rest)) = bytes.split_first() else { return Outcome::of("empty") };
    let (rules, packet) = rest.split_at((usize::from(*first) * 8).min(rest.len()));
    let (ruleset, sets) = Ruleset::new(&[("fuzz", &String::from_utf8_lossy(rules))], config());
    let is_loaded = !ruleset.rules().is_empty();
    let mut detector = Detector::new(Arc::new(ruleset), sets, Mode::Passive);
    let mut engine = Engine::new(config::Config::default());
    for time_ns in [1, 2_000_000_000] {
        let wire_bytes = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        engine.handle(Frame { time_ns, wire_bytes, link: Link::Raw, bytes: packet }, &mut detector);
    }
    engine.finish(&mut detector);
    match (is_loaded, detector.statistics().alerts > 0) {
        (false, _) => Outcome::of("no rule"),
        (true, false) => Outcome::of("silent"),
        (true, true) => Outcome::of("alert"),
    }
}

const RULES: &[&str] = &[
    r#"alert tcp $HOME_NET any -> [10.0.0.0/8,!10.1.1.1] [80,8000:] (msg:"a\; b"; flow:established,to_server; content:"|3a 3B|x"; nocase; offset:2; depth:9; content:!"y"; distance:1; within:4; pcre:"/a(b|c)+\d{2,}$/Ri"; sid:1; rev:2;)"#,
    r#"drop http any any <> any any (http.uri; url_decode; content:"/a"; startswith; bsize:<30; http.host; dotprefix; content:".x"; endswith; flowbits:set,a; threshold:type limit,track by_src,count 1,seconds 60; sid:2;)"#,
    r#"alert udp any any -> any any (byte_extract:1,0,n; byte_test:2,>,n,1,little; byte_jump:1,n,relative,multiplier 2; isdataat:!4,relative; byte_math:bytes 1, offset 0, oper +, rvalue n, result m; dsize:>3; sid:3;)"#,
    r#"alert dns any any -> any any (dns.query; dataset:set,seen,type string; to_md5; content:"|00|"; sid:4;)"#,
];

fn rule_seeds() -> Vec<Vec<u8>> {
    RULES.iter().map(|rule| rule.as_bytes().to_vec()).collect()
}

fn yaml_seeds() -> Vec<Vec<u8>> {
    vec![
        b"%YAML 1.1\n---\nvars:\n  address-groups:\n    HOME_NET: \"[10.0.0.0/8]\"\nstream:\n  midstream: yes # c\nlist:\n- a: 1\n  b: [x, {y: z}]\n- |\n  text\n".to_vec(),
    ]
}

/// An IPv4 packet with a UDP datagram behind each rule.
fn matcher_seeds() -> Vec<Vec<u8>> {
    let payload = b"\x05\x00\x09abcdefgh:;x";
    let udp = u16::try_from(8 + payload.len()).unwrap_or(0);
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + udp).to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend_from_slice(&[0x30, 0x39, 0, 53]);
    packet.extend_from_slice(&udp.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    RULES
        .iter()
        .map(|rule| {
            let units = rule.len().div_ceil(8);
            let mut seed = vec![u8::try_from(units).unwrap_or(u8::MAX)];
            seed.extend_from_slice(rule.as_bytes());
            seed.resize(1 + units * 8, b' ');
            seed.extend_from_slice(&packet);
            seed
        })
        .collect()
}
