//! tpm2_eventlog (tpm2-tools) replays the log that leaves a box to the same registers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a failure fails the test")]

use std::{fs, process::Command};

use hookprobe_evidence::{digest::HashAlg, tcg::ReplayedLog};
use hookprobe_interop::{fixture, output};
use hookprobe_swtpm::available;

/// `bank -> (index, digest)` of the part `pcrs:` of its output.
fn registers(text: &str, bank: HashAlg) -> Vec<(u8, String)> {
    let (_, pcrs) = text.split_once("\npcrs:\n").unwrap();
    let mut inside = false;
    let mut out = Vec::new();
    for line in pcrs.lines() {
        let (key, value) = line.trim().split_once(':').unwrap();
        if value.trim().is_empty() {
            inside = key.trim() == bank.name();
        } else if inside {
            let digest = value.trim().strip_prefix("0x").unwrap().to_owned();
            out.push((key.trim().parse().unwrap(), digest));
        }
    }
    out.sort();
    out
}

#[test]
fn computes_the_registers_that_we_replay() {
    if !available("tpm2_eventlog", "tpm2-tools") {
        return;
    }
    let fixture = fixture::logs();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("merged.bin");
    fs::write(&log, &fixture.merged).unwrap();
    let text = output(Command::new("tpm2_eventlog").arg(&log));

    let ours = ReplayedLog::replay(&fixture.merged, &fixture.values).unwrap();
    assert_eq!(ours.failures(), [], "our own replay");
    let mut compared = 0;
    for bank in HashAlg::ALL {
        let wanted = fixture::set(&fixture.values, bank);
        if wanted.is_empty() {
            continue;
        }
        let theirs = registers(&text, bank);
        for (index, digest) in &theirs {
            // A register without events is not in their list; one that was not quoted not in ours.
            if let Some((_, value)) = wanted.iter().find(|(pcr, _)| pcr == index) {
                assert_eq!(value, digest, "{bank} PCR {index}");
                compared += 1;
            }
        }
        for index in [11, 12, 13] {
            assert!(theirs.iter().any(|(pcr, _)| *pcr == index), "{bank} PCR {index} is missing");
        }
    }
    for event in &fixture.ours {
        assert!(text.contains(&event.name), "{} is not in its output", event.name);
    }
    println!(
        "tpm2_eventlog: {compared} registers equal, {} of our events by name, {} events in all",
        fixture.ours.len(),
        text.matches("- EventNum:").count()
    );
}

#[test]
fn a_changed_log_leads_it_elsewhere() {
    if !available("tpm2_eventlog", "tpm2-tools") {
        return;
    }
    let mut fixture = fixture::logs();
    let event = fixture.ours.first().unwrap();
    let digest = event.digest(HashAlg::Sha256).unwrap().as_bytes();
    let at = fixture.merged.windows(32).position(|part| part == digest).unwrap();
    fixture.merged[at] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("merged.bin");
    fs::write(&log, &fixture.merged).unwrap();
    let theirs = registers(&output(Command::new("tpm2_eventlog").arg(&log)), HashAlg::Sha256);
    let wanted = fixture::set(&fixture.values, HashAlg::Sha256);
    let differing: Vec<_> = theirs.iter().filter(|pair| !wanted.contains(pair)).collect();
    assert!(differing.iter().any(|(index, _)| *index == event.pcr.get()), "{differing:?}");
}
