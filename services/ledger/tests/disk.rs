//! Bad disks: full, flipped, cut, gone back. The service starts, says what it found, and never
//! passes off something else as what was acknowledged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use std::{fs, path::Path, process::Command, time::Duration};

use hookprobe_ledger::client::Client;
use hookprobe_wire::{
    Event,
    ledger::{Record, Reply},
};
use support::{
    Random, Service, alert, all_records, damaged_files, head, request_id, seed, service,
    verify_command,
};

fn append(client: &mut Client, number: u64, event: &Event) -> Reply {
    client.append(request_id(number, 7), event).unwrap()
}

fn fill(client: &mut Client, from: u64, count: u64) {
    for number in from..from + count {
        let reply = append(client, number, &service(&format!("number {number}")));
        assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
    }
}

/// A ledger of `count` blocks, cleanly closed, and its records.
fn ledger(home: &Path, count: u64) -> Vec<Record> {
    let mut running = Service::start(&home.join("state"), home);
    let mut client = running.client();
    fill(&mut client, 0, count);
    let records = all_records(&mut client);
    assert!(running.terminate().success());
    records
}

fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Starts until it answers; more than two starts would be a crash loop.
fn start(dir: &Path, home: &Path) -> (Service, Client) {
    for _ in 0..2 {
        let mut running = Service::start(dir, home);
        if let Some(client) = running.try_client() {
            return (running, client);
        }
        println!("second start needed: {}", running.text());
    }
    panic!("crash loop");
}

/// Either nothing that counts was hit, or the file was set aside and a new epoch begun.
fn check_accepted_or_set_aside(dir: &Path, home: &Path, before: &[Record], what: &str) -> bool {
    let (mut running, mut client) = start(dir, home);
    let records = all_records(&mut client);
    let aside = damaged_files(dir);
    if aside.is_empty() {
        assert_eq!(records, before, "{what}: accepted, but not the same");
    } else {
        assert!(records.is_empty(), "{what}");
        running.expect_log("HP-LD-022");
        let old = before[0].block.header.epoch;
        assert!(head(&mut client).epoch > old, "{what}: epoch");
    }
    fill(&mut client, 1_000_000, 3);
    assert!(running.terminate().success());
    let (good, text) = verify_command(dir);
    assert!(good, "{what}: {text}");
    !aside.is_empty()
}

#[test]
fn flipped_bytes_are_never_silently_accepted_and_never_a_crash_loop() {
    let seed = seed("flips");
    let mut random = Random(seed);
    let home = tempfile::tempdir().unwrap();
    let (state, work) = (home.path().join("state"), home.path().join("work"));
    let before = ledger(home.path(), 120);
    let mut set_aside = 0;
    for round in 0..40 {
        copy_dir(&state, &work);
        let path = work.join("ledger.redb");
        let mut bytes = fs::read(&path).unwrap();
        // Every fourth round hits the header, where the storage engine keeps its commit slots.
        let span = if round % 4 == 0 { 320 } else { bytes.len() as u64 };
        for _ in 0..=random.below(8) {
            bytes[random.below(span) as usize] ^= 1 << random.below(8);
        }
        fs::write(&path, &bytes).unwrap();
        let what = format!("HP_SEED={seed} round {round}");
        set_aside += u32::from(check_accepted_or_set_aside(&work, home.path(), &before, &what));
    }
    println!("flips: {set_aside} of 40 set aside, the others hit nothing that counts");
    assert!(set_aside > 0, "no flip hit anything");
}

#[test]
fn cut_emptied_replaced_and_older_files_are_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (state, work) = (home.path().join("state"), home.path().join("work"));
    let older = ledger(home.path(), 20);
    copy_dir(&state, &home.path().join("older"));
    {
        let mut running = Service::start(&state, home.path());
        fill(&mut running.client(), 100, 20);
        assert!(running.terminate().success());
    }
    let good = fs::read(state.join("ledger.redb")).unwrap();
    let old = fs::read(home.path().join("older/ledger.redb")).unwrap();
    let cases: [(&str, Vec<u8>); 4] = [
        ("half", good[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("text", b"this is no database".repeat(1000)),
        ("older", old),
    ];
    for (what, bytes) in cases {
        copy_dir(&state, &work);
        fs::write(work.join("ledger.redb"), bytes).unwrap();
        assert!(
            check_accepted_or_set_aside(&work, home.path(), &older, what),
            "{what} was accepted"
        );
    }
    // Gone altogether: said, and a new epoch.
    copy_dir(&state, &work);
    fs::remove_file(work.join("ledger.redb")).unwrap();
    let (running, mut client) = start(&work, home.path());
    running.expect_log("HP-LD-027");
    assert!(head(&mut client).epoch > older[0].block.header.epoch);
}

#[test]
fn three_damaged_files_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    for round in 0..5 {
        let mut running = Service::start(&state, home.path());
        fill(&mut running.client(), round * 10, 3);
        assert!(running.terminate().success());
        fs::write(state.join("ledger.redb"), [round as u8; 5000]).unwrap();
    }
    assert_eq!(
        damaged_files(&state),
        [2, 3, 4].map(|number| format!("ledger.redb.damaged-{number}"))
    );
}

#[test]
fn a_database_that_stopped_the_process_is_not_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    ledger(home.path(), 3);
    fs::write(state.join("ledger.suspect"), "panicked").unwrap();
    let (running, mut client) = start(&state, home.path());
    running.expect_log("HP-LD-022");
    assert_eq!(head(&mut client).length, 0);
    assert_eq!(damaged_files(&state).len(), 1);
    assert!(!state.join("ledger.suspect").exists());
}

#[test]
fn verify_names_the_first_bad_block_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let records = ledger(home.path(), 30);
    let (good, text) = verify_command(&state);
    assert!(good && text.contains("blocks  30 verified"), "{text}");
    // Flip a byte of the payload of block 17 wherever it is stored.
    let path = state.join("ledger.redb");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"number 17";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    assert_eq!(records[17].block.header.seq.0, 17);
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (good, text) = verify_command(&state);
    assert!(!good && text.contains("HP-LD-041"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// A tmpfs, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_rejects_then_recovers_and_loses_nothing() {
    let Some(small) = Small::mount("3m") else {
        println!("SKIP a_full_disk: no right to mount a tmpfs here");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let dir = small.0.path().join("state");
    let ballast = small.0.path().join("ballast");
    fs::write(&ballast, vec![1; 1024 * 1024]).unwrap();
    let mut running = Service::start(&dir, home.path());
    let mut client = running.client();
    assert!(head(&mut client).volatile, "tmpfs is volatile");
    running.expect_log("WARN HP-LD-023");
    let event = alert(&"x".repeat(8000));
    let (mut told, mut number) = (Vec::new(), 0);
    let code = loop {
        match append(&mut client, number, &event) {
            Reply::Appended { seq, hash, .. } => told.push((seq, hash)),
            Reply::Rejected { code, .. } => break code,
            other => panic!("{other:?}"),
        }
        number += 1;
        assert!(number < 2000, "3 MiB never filled");
    };
    assert_eq!(code, "HP-LD-020");
    let check = |client: &mut Client, told: &[(hookprobe_wire::Seq, hookprobe_wire::Hash)]| {
        let records = all_records(client);
        for (seq, hash) in told {
            assert_eq!(records[seq.0 as usize].hash, *hash);
        }
        assert_eq!(records.len(), told.len());
    };
    check(&mut client, &told);
    // Killed while full: it starts again, with everything.
    running.kill();
    let (running, mut client) = start(&dir, home.path());
    check(&mut client, &told);
    assert!(damaged_files(&dir).is_empty(), "{}", running.text());
    // Still full, perhaps; until space returns.
    let _ = append(&mut client, number, &event);
    fs::remove_file(&ballast).unwrap();
    let mut tries = 0;
    loop {
        match append(&mut client, number, &event) {
            Reply::Appended { seq, hash, .. } => {
                told.push((seq, hash));
                break;
            }
            Reply::Rejected { code, .. } => assert_eq!(code, "HP-LD-020"),
            other => panic!("{other:?}"),
        }
        tries += 1;
        assert!(tries < 50, "did not recover: {}", running.text());
        std::thread::sleep(Duration::from_millis(200));
    }
    told.sort();
    told.dedup();
    check(&mut client, &told);
    println!("full disk: {} acknowledged, recovered", told.len());
}

#[test]
fn a_state_directory_that_cannot_be_used_costs_permanence_only() {
    let home = tempfile::tempdir().unwrap();
    // A file where the directory should be.
    let dir = home.path().join("state");
    fs::write(&dir, b"x").unwrap();
    let mut running = Service::start(&dir, home.path());
    let mut client = running.client();
    fill(&mut client, 0, 3);
    assert!(head(&mut client).volatile);
    running.expect_log("HP-LD-024");
    assert!(running.terminate().success());
}

#[test]
fn two_services_never_share_a_ledger() {
    let home = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let mut first = Service::start(&dir, home.path());
    let _client = first.client();
    let mut second = Service::start(&dir, other.path());
    assert!(!second.child.wait().unwrap().success());
    second.expect_log("HP-LD-025");
}
