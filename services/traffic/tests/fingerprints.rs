//! JA3 and JA4 of every `ClientHello` that other implementations agree on.
//!
//! The captures are not part of the project; without them the test says so.

#[path = "support/harness.rs"]
mod harness;

use harness::{FlowKey, Harness};
use hookprobe_traffic::app::TxRef;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where captures made by others are, if anywhere.
fn testdata() -> Option<PathBuf> {
    let named = std::env::var_os("HOOKPROBE_TESTDATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    named.into_iter().chain([beside]).find(|path| path.join("ja4/expected/consensus.tsv").is_file())
}

/// A line for `cargo xtask conformance`.
fn rate(suite: &str, total: usize, wrong: usize) {
    let passed = total - wrong;
    println!("\nconformance {{\"suite\":\"{suite}\",\"passed\":{passed},\"total\":{total}}}");
}

/// JA4 and JA3 of each hello of a capture, by flow.
type Prints = BTreeMap<FlowKey, Vec<(String, String)>>;

/// JA3S of each server, by flow.
type Servers = BTreeMap<FlowKey, String>;

fn servers(path: &Path) -> Servers {
    let mut servers = Servers::new();
    Harness::default().run(path, |key, tx| {
        if let TxRef::Tls(tx) = tx
            && let Some((_, ja3s)) = &tx.ja3s
        {
            servers.insert(*key, ja3s.clone());
        }
    });
    servers
}

fn prints(path: &Path) -> Prints {
    let mut prints = Prints::new();
    Harness::default().run(path, |key, tx| {
        let found = match tx {
            TxRef::Tls(tx) => (tx.ja4.clone(), tx.ja3.clone()),
            TxRef::Quic(tx) => (tx.ja4.clone(), tx.ja3.clone()),
            _ => (None, None),
        };
        if let (Some(ja4), Some((_, ja3))) = found {
            let list = prints.entry(*key).or_default();
            if !list.contains(&(ja4.clone(), ja3.clone())) {
                list.push((ja4, ja3));
            }
        }
    });
    prints
}

#[test]
fn every_agreed_hello_has_the_agreed_fingerprints() {
    let Some(root) = testdata() else {
        println!("skipped: no test data");
        return;
    };
    let table = std::fs::read_to_string(root.join("ja4/expected/consensus.tsv")).unwrap();
    let mut captures: BTreeMap<String, Prints> = BTreeMap::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for row in table.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        if !matches!(fields[9], "agree2" | "agree3") {
            continue;
        }
        rows += 1;
        let found = captures
            .entry(fields[0].to_owned())
            .or_insert_with(|| prints(&root.join("ja4/pcap").join(fields[0])));
        let key = FlowKey {
            client: (fields[1].parse().unwrap(), fields[2].parse().unwrap()),
            server: (fields[3].parse().unwrap(), fields[4].parse().unwrap()),
        };
        let ja4 = fields[6..9].iter().find(|value| !value.is_empty()).unwrap();
        let ja3 = fields[10..12].iter().find(|value| !value.is_empty()).copied();
        let hit = found
            .get(&key)
            .into_iter()
            .flatten()
            .any(|(own4, own3)| own4 == ja4 && ja3.is_none_or(|ja3| own3 == ja3));
        if !hit {
            wrong.push(format!("{row}\n    found {:?}", found.get(&key)));
        }
    }
    println!("{rows} agreed hellos, {} differ", wrong.len());
    rate("JA3 and JA4 of clients", rows, wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 100, "only {rows} rows");
}

#[test]
fn every_agreed_server_has_the_agreed_ja3s() {
    let Some(root) = testdata() else {
        println!("skipped: no test data");
        return;
    };
    let table = std::fs::read_to_string(root.join("ja4/expected/consensus.tsv")).unwrap();
    let mut captures: BTreeMap<String, Servers> = BTreeMap::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for row in table.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let (suricata, tshark) = (fields[12], fields.get(13).copied().unwrap_or_default());
        if suricata.is_empty() || suricata != tshark {
            continue;
        }
        rows += 1;
        let found = captures
            .entry(fields[0].to_owned())
            .or_insert_with(|| servers(&root.join("ja4/pcap").join(fields[0])));
        let key = FlowKey {
            client: (fields[1].parse().unwrap(), fields[2].parse().unwrap()),
            server: (fields[3].parse().unwrap(), fields[4].parse().unwrap()),
        };
        if found.get(&key).map(String::as_str) != Some(suricata) {
            wrong.push(format!("{row}\n    found {:?}", found.get(&key)));
        }
    }
    println!("{rows} agreed servers, {} differ", wrong.len());
    rate("JA3S of servers", rows, wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 10, "only {rows} rows");
}
