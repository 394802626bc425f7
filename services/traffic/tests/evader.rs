//! A test file behind three hundred ways of sending it that browsers accept: it is found in each.
//!
//! The captures are not part of the project; without them the test says so.

#[path = "support/harness.rs"]
mod harness;

use harness::Harness;
use hookprobe_traffic::app::{Config, TxRef, http};
use std::path::{Path, PathBuf};

/// Both are in the file, at its start and in its middle.
const MARKS: [&[u8]; 2] = [b"X5O!P%@AP[4", b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"];

fn captures() -> Option<PathBuf> {
    let named = std::env::var_os("HOOKPROBE_TESTDATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    let folders = named.into_iter().chain([beside]);
    folders.map(|path| path.join("suricata-verify/tests/http-evader")).find(|path| path.is_dir())
}

fn has_file(tx: &http::Tx) -> bool {
    let body = tx.response.body.window().1;
    let has_marks = MARKS.iter().all(|mark| memchr::memmem::find(body, mark).is_some());
    let [file] = tx.response.files.as_slice() else { return false };
    // One server of them all names no file: then the path is the name.
    let is_named = file.name == b"eicar.txt" || file.name == tx.request.uri;
    has_marks && is_named && tx.request.host.as_deref() == Some(b"evader.example.com")
}

#[test]
fn every_way_is_seen_through() {
    let Some(folder) = captures() else {
        println!("skipped: no test data");
        return;
    };
    let (mut all, mut missed) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mut is_found = false;
        let mut harness = Harness::default();
        harness.config = Config { http_layers_max: 3, ..Config::default() };
        harness.run(&entry.path().join("input.pcap"), |_, tx| {
            if let TxRef::Http(tx) = tx {
                is_found |= has_file(tx);
            }
        });
        all += 1;
        if !is_found {
            missed.push(entry.file_name());
        }
    }
    println!("{} of {all} seen through", all - missed.len());
    assert!(missed.is_empty(), "{missed:?}");
    assert!(all >= 300, "only {all} captures");
}
