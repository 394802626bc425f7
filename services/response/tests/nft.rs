//! The nft enforcer against the running kernel, in network namespaces of the test's own, looked at
//! with nft(8).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod kernel;

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread::sleep,
    time::{Duration, Instant},
};

use hookprobe_response::{
    Now,
    core::Wanted,
    enforce::{Enforcer, nft::Nft},
};
use kernel::{Attacker, in_namespace, now, run};
use serde_json::Value;

fn ruleset() -> Value {
    serde_json::from_str(&run("nft", &["-j", "list", "ruleset"])).unwrap()
}

/// Objects of a kind in the listing.
fn objects(kind: &str) -> Vec<Value> {
    let listing = ruleset();
    let all = listing["nftables"].as_array().unwrap();
    all.iter().filter_map(|object| object.get(kind)).cloned().collect()
}

/// Elements of a set: address, timeout and remaining seconds, packets.
fn elements(set: &str) -> Vec<(String, u64, u64, u64)> {
    let sets = objects("set");
    let set = sets.iter().find(|object| object["name"] == set).unwrap();
    let Some(elements) = set["elem"].as_array() else {
        return Vec::new();
    };
    elements
        .iter()
        .map(|element| {
            let element = &element["elem"];
            (
                element["val"].as_str().unwrap().to_owned(),
                element["timeout"].as_u64().unwrap(),
                element["expires"].as_u64().unwrap(),
                element["counter"]["packets"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn wanted(blocks: &[(&str, u64)]) -> Wanted {
    let blocks = blocks.iter().map(|(subject, end)| (subject.parse().unwrap(), *end)).collect();
    Wanted { blocks, ..Wanted::default() }
}

fn in_seconds(Now { boot_ns, .. }: Now, seconds: u64) -> u64 {
    boot_ns + seconds * 1_000_000_000
}

#[test]
fn rules_are_there_and_setting_up_again_changes_nothing() {
    in_namespace(|| {
        run("nft", &["add", "table", "inet", "other"]);
        let subject: IpAddr = "10.77.0.2".parse().unwrap();
        let mut nft = Nft::new();
        nft.block(subject, in_seconds(now(), 600), now().boot_ns).unwrap();
        let first = ruleset();
        assert_eq!(objects("set").len(), 2);
        let chains = objects("chain");
        assert_eq!(chains.len(), 2);
        for (chain, hook) in chains.iter().zip(["input", "forward"]) {
            assert_eq!(chain["table"], "hookprobe");
            assert_eq!(chain["family"], "inet");
            assert_eq!(chain["hook"], hook);
            assert_eq!(chain["prio"], -10);
            assert_eq!(chain["policy"], "accept");
        }
        let text = run("nft", &["list", "ruleset"]);
        for rule in ["ip saddr @block4 counter", "ip6 saddr @block6 counter"] {
            assert_eq!(text.matches(rule).count(), 2, "{text}");
        }
        let element = elements("block4");
        assert_eq!(element[0].0, "10.77.0.2");
        assert!((600..=601).contains(&element[0].1), "{element:?}");

        // Another process: rules are replaced in one batch, elements stay.
        let mut again = Nft::new();
        let counts = again.sync(&wanted(&[("10.77.0.2", in_seconds(now(), 600))]), now().boot_ns);
        assert_eq!(counts.unwrap(), [(subject, 0)]);
        assert_eq!(objects("rule").len(), 4);
        assert_eq!(objects("chain"), chains);
        assert_eq!(elements("block4").len(), 1);
        assert_eq!(first["nftables"].as_array().unwrap().len(), {
            let after = ruleset();
            after["nftables"].as_array().unwrap().len()
        });
        assert!(run("nft", &["list", "tables"]).contains("inet other"));
    });
}

#[test]
fn a_foreign_table_of_our_name_is_replaced_and_a_vanished_one_made_again() {
    in_namespace(|| {
        run("nft", &["add", "table", "inet", "hookprobe"]);
        run("nft", &["add", "set", "inet", "hookprobe", "block4", "{ type mark; }"]);
        let mut nft = Nft::new();
        nft.sync(&wanted(&[]), now().boot_ns).unwrap();
        assert_eq!(objects("set")[0]["type"], "ipv4_addr");
        run("nft", &["delete", "table", "inet", "hookprobe"]);
        let end = in_seconds(now(), 60);
        nft.sync(&wanted(&[("10.77.0.2", end), ("2001:db8::2", end)]), now().boot_ns).unwrap();
        assert_eq!(elements("block4").len(), 1);
        assert_eq!(elements("block6")[0].0, "2001:db8::2");
    });
}

#[test]
fn sync_adds_takes_back_and_corrects() {
    in_namespace(|| {
        let mut nft = Nft::new();
        let end = in_seconds(now(), 60);
        let many: Vec<String> = (0..600).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect();
        let blocks: Vec<(&str, u64)> = many.iter().map(|text| (text.as_str(), end)).collect();
        nft.sync(&wanted(&blocks), now().boot_ns).unwrap();
        assert_eq!(elements("block4").len(), 600);
        let later = in_seconds(now(), 300);
        nft.sync(&wanted(&[("10.1.0.0", later), ("10.1.0.1", end)]), now().boot_ns).unwrap();
        let mut left = elements("block4");
        left.sort();
        assert_eq!(left.len(), 2);
        assert!(left[0].2 > 290, "{left:?}");
        assert!(left[1].2 <= 61, "{left:?}");
        let subject = "10.1.0.0".parse().unwrap();
        assert_eq!(nft.release(subject).unwrap(), Some(0));
        assert_eq!(nft.release(subject).unwrap(), None);
        assert_eq!(elements("block4").len(), 1);
    });
}

#[test]
fn packets_are_dropped_counted_and_pass_again_after_release_and_after_the_end() {
    in_namespace(|| {
        let attacker = Attacker::new();
        for (own, other) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
            let server = UdpSocket::bind(SocketAddr::new(own.parse().unwrap(), 7777)).unwrap();
            server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let target = server.local_addr().unwrap();
            let arrives = || {
                attacker.send(target);
                server.recv(&mut [0; 16]).is_ok()
            };
            let subject: IpAddr = other.parse().unwrap();
            let mut nft = Nft::new();
            // The wire needs a moment until both ends see it.
            assert!((0..10).any(|_| arrives()), "{other}: open before");
            while server.recv(&mut [0; 16]).is_ok() {}
            nft.block(subject, in_seconds(now(), 60), now().boot_ns).unwrap();
            assert!(!arrives() && !arrives(), "{other}: dropped");
            let counts = nft.sync(&wanted(&[(other, in_seconds(now(), 60))]), now().boot_ns);
            // Two probes; neighbour discovery of the blocked host counts as well.
            let counts = counts.unwrap();
            assert!(counts[0].0 == subject && counts[0].1 >= 2, "{counts:?}");
            assert!(nft.release(subject).unwrap() >= Some(2));
            assert!(arrives(), "{other}: open after release");

            // The kernel ends it without us.
            let begin = Instant::now();
            nft.block(subject, in_seconds(now(), 5), now().boot_ns).unwrap();
            drop(nft);
            assert!(!arrives());
            while !arrives() {
                assert!(begin.elapsed() < Duration::from_secs(60), "{other}: still dropped");
                sleep(Duration::from_millis(50));
            }
            assert!(begin.elapsed() > Duration::from_secs(4), "{other}: ended too early");
            let set = if subject.is_ipv4() { "block4" } else { "block6" };
            assert_eq!(elements(set).len(), 0);
        }
    });
}

#[test]
fn without_the_capability_the_error_names_the_remedy() {
    in_namespace(|| {
        kernel::drop_net_admin();
        let error = Nft::new().sync(&wanted(&[]), now().boot_ns).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("HP-RS-006 nft: ") && text.contains("CAP_NET_ADMIN"), "{text}");
    });
}
