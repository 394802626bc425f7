//! systemd-pcrlock of Debian 13 reads our user-space log and the firmware's, and finds that both lead
//! to the registers of a TPM which they were extended into.
//!
//! `tests/interop/fetch-tools.sh` unpacks it and its libraries into `target/interop/debian/root`, from
//! where that root's own dynamic linker runs it. The host's systemd is not asked: Debian 12 has no
//! pcrlock.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a failure fails the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    log::Event,
    pcr::PcrIndex,
    tcg::ReplayedLog,
};
use hookprobe_interop::{fixture, scratch};
use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::Context;
use serde_json::Value;

const PROGRAM: &str = "usr/lib/systemd/systemd-pcrlock";

/// Its own root's linker and libraries, so that the host's do not matter.
fn pcrlock(root: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let path = format!("{}:{}", libraries.display(), libraries.join("systemd").display());
    let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.args(["--library-path", &path]).arg(root.join(PROGRAM));
    command
}

/// Extends what a log says; the TPM's own registers then are what the log claims.
fn extend(tpm: &mut Context, events: &[Event]) {
    for event in events {
        tpm.extend(event.pcr, &event.digests).unwrap();
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn lists_our_events_and_finds_the_registers_right() {
    let root = scratch().join("debian/root");
    if !root.join(PROGRAM).exists() {
        println!(
            "skipped: {} is missing; run tests/interop/fetch-tools.sh",
            root.join(PROGRAM).display()
        );
        return;
    }
    let fixture = fixture::logs();
    let banks: Vec<HashAlg> = HashAlg::ALL
        .into_iter()
        .filter(|bank| fixture.values.iter().any(|(_, value)| value.alg() == *bank))
        .collect();
    let names: Vec<_> = banks.iter().map(|bank| bank.name()).collect();
    let Some(swtpm) = Swtpm::start(&names.join(",")) else {
        return;
    };
    let replayed = ReplayedLog::replay(&fixture.merged, &fixture.values).unwrap();
    let events: Vec<Event> = replayed.events().iter().map(|event| event.event.clone()).collect();
    {
        let mut tpm = Context::open(&swtpm.tcti()).unwrap();
        extend(&mut tpm, &events);
    }

    let folder = tempfile::tempdir().unwrap();
    let (firmware, userspace) = (folder.path().join("bios"), folder.path().join("measure.log"));
    fs::write(&firmware, &fixture.firmware).unwrap();
    fs::write(&userspace, &fixture.userspace).unwrap();
    let Output { status, stdout, stderr } = pcrlock(&root)
        .args(["log", "--json=short", "--no-pager"])
        .env("SYSTEMD_MEASURE_LOG_FIRMWARE", &firmware)
        .env("SYSTEMD_MEASURE_LOG_USERSPACE", &userspace)
        .env("SYSTEMD_TPM2_DEVICE", swtpm.tcti())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {said}");
    let json: Value = serde_json::from_slice(&stdout).unwrap();

    let listed = json.get("log").and_then(Value::as_array).unwrap();
    for event in &fixture.ours {
        let digest = event.digest(HashAlg::Sha256).map(Digest::hex).unwrap();
        let found = listed.iter().any(|line| {
            line.get("pcr") == Some(&event.pcr.get().into())
                && text(line, "sha256") == digest
                && text(line, "description") == event.name
        });
        assert!(found, "{} is not listed: {listed:#?}", event.name);
    }
    let registers = json.get("pcrs").and_then(Value::as_array).unwrap();
    let mut checked = 0;
    for (index, value) in fixture::set(&fixture.values, HashAlg::Sha256) {
        // Register 0 begins with the locality of TPM2_Startup, which swtpm was not given.
        if fixture.real && index == 0 {
            continue;
        }
        let line = registers.iter().find(|line| line.get("pcr") == Some(&index.into())).unwrap();
        if [PcrIndex::UKI, PcrIndex::SITE, PcrIndex::SERVICES, PcrIndex::STATE]
            .iter()
            .any(|ours| ours.get() == index)
        {
            assert_eq!(text(line, "calculatedSHA256"), value, "PCR {index} by its replay");
            assert_eq!(text(line, "observedSHA256"), value, "PCR {index} in the TPM");
        }
        assert_eq!(line.get("hashMatchesEventLog"), Some(&true.into()), "PCR {index}: {line}");
        checked += 1;
    }
    println!(
        "systemd-pcrlock: {} lines, all {} of ours, {checked} registers right",
        listed.len(),
        fixture.ours.len()
    );
}
