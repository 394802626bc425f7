//! The file in which a chain leaves the box, and what a reader of it can check.
//!
//! `services/wire/tests/fixtures/ledger-v1.export` is such a file, for every verifier to try itself
//! on: two keys, five epochs, a binding, an erased payload. `EXPORT_BLESS=1` writes it anew, for a
//! new format.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use hookprobe_ledger::{
    Epoch, Lane, LedgerKey,
    chain::Tip,
    merkle::Frontier,
    verify::{Flawed, Verified, Verifier, verify},
};
use hookprobe_wire::{
    Block, Event, Hash, Seq,
    block::payload_hash,
    event::{Attestation, Binding},
    export::{self, Reader, Summary},
    ledger::{Payload, Record},
};
use support::{Service, alert, all_records, request_id, service, verify_command};

const FIXTURE: &[u8] = include_bytes!("../../wire/tests/fixtures/ledger-v1.export");

/// The TPM's word, as far as this crate looks into it: the node is named somewhere.
fn binding(epoch: u64, key: &LedgerKey) -> Event {
    let evidence = [b"evidence: ".as_slice(), key.node().as_bytes()].concat().into();
    Event::Binding(Binding { epoch, evidence })
}

fn attestation() -> Event {
    Event::Attestation(Attestation {
        change: "verified".into(),
        level: "L2".into(),
        ak_name: "000b1122".into(),
        detail: "as the reference manifest says".into(),
    })
}

/// Epochs 4, 5 (same key), 6 (another), 9 (the first again; no block), 12.
fn chain() -> (Vec<Epoch>, Vec<Record>, Tip) {
    let (tpm, own) = (LedgerKey::from_seed(&[0x11; 32]), LedgerKey::from_seed(&[0x22; 32]));
    let plan: [(u64, &LedgerKey, Vec<Event>); 5] = [
        (4, &tpm, vec![service("a"), binding(4, &tpm), attestation()]),
        (5, &tpm, vec![binding(5, &tpm), alert("port scan")]),
        (6, &own, vec![service("b"), service("c")]),
        (9, &tpm, vec![]),
        (12, &tpm, vec![service("d")]),
    ];
    let first = Epoch { number: 0, node: tpm.node(), first: Seq(0) };
    let mut lane = Lane { epoch: first, tip: Tip::empty() };
    let (mut epochs, mut records) = (Vec::new(), Vec::new());
    for (number, key, events) in plan {
        lane.epoch = Epoch { number, node: key.node(), first: lane.tip.next() };
        epochs.push(lane.epoch);
        for event in events {
            let (salt, bytes) = ([records.len() as u8; 16], event.to_cbor());
            let now = 1_700_000_000_000_000_000 + records.len() as u64;
            let (header, hash) = lane.append(now, event.event_type(), payload_hash(&salt, &bytes));
            records.push(Record {
                hash,
                block: Block { signatures: vec![key.sign(&header)], header },
                payload: Some(Payload { salt: salt.into(), bytes: bytes.into() }),
            });
        }
    }
    records[5].payload = None;
    (epochs, records, lane.tip)
}

fn file(records: &[Record], tip: &Tip) -> Vec<u8> {
    let summary = Summary {
        first: Seq(0),
        length: records.len() as u64,
        before: Hash::zero(),
        peaks: Vec::new(),
        hash: tip.hash,
        root: tip.tree.root(),
    };
    let mut out = Vec::new();
    export::begin(&summary, &mut out).unwrap();
    records.iter().for_each(|record| export::record(record, &mut out).unwrap());
    out
}

/// The epochs as they stand in the headers: all that a reader of the file has.
fn epochs_of(records: &[Record]) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = Vec::new();
    for header in records.iter().map(|record| &record.block.header) {
        if epochs.last().is_none_or(|last| last.number != header.epoch) {
            let node = header.node_identity;
            epochs.push(Epoch { number: header.epoch, node, first: header.seq });
        }
    }
    epochs
}

/// Reads and verifies a file that begins at 0.
fn check(file: &[u8]) -> Result<Verified, String> {
    let reader = Reader::new(file).map_err(|error| error.to_string())?;
    let summary = reader.summary().clone();
    let records: Vec<Record> = reader.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let epochs = epochs_of(&records);
    verify(&epochs, &records, Some((summary.length, summary.root)))
        .map_err(|flawed: Flawed| flawed.to_string())
}

#[test]
fn golden_file() {
    let (_, records, tip) = chain();
    let bytes = file(&records, &tip);
    if std::env::var_os("EXPORT_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/fixtures/ledger-v1.export");
        return fs::write(path, bytes).unwrap();
    }
    assert!(bytes == FIXTURE, "the bytes of an exported ledger have changed");
    let verified = check(FIXTURE).unwrap();
    assert_eq!((verified.tip, verified.payloads_missing), (tip, 1));
}

#[test]
fn no_flipped_bit_of_a_file_verifies_as_another_chain() {
    let honest: Vec<Record> = Reader::new(FIXTURE).unwrap().collect::<Result<_, _>>().unwrap();
    let mut accepted = 0;
    for at in 0..FIXTURE.len() {
        let mut bytes = FIXTURE.to_vec();
        bytes[at] ^= 1 << (at % 8);
        if check(&bytes).is_ok() {
            // The summary's own copy of the last hash is not part of the chain.
            let records: Vec<Record> =
                Reader::new(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(records, honest, "byte {at}");
            accepted += 1;
        }
    }
    assert_eq!(accepted, 32, "all but the 32 bytes of a hash are noticed");
}

fn run(dir: &Path, out: &Path, from: Option<u64>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookprobe-ledger"));
    command.arg("export").arg(dir).arg("--out").arg(out);
    if let Some(from) = from {
        command.args(["--from", &from.to_string()]);
    }
    command.output().unwrap()
}

/// A ledger of `count` blocks under two keys, closed, and its records.
fn ledger(home: &Path, count: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for key in 0..2 {
        let mut running = Service::start(&home.join("state"), home);
        let mut client = running.client();
        for number in 0..count / 2 {
            let event = service(&format!("key {key} number {number}"));
            client.append(request_id(key, number), &event).unwrap();
        }
        records = all_records(&mut client);
        assert!(running.terminate().success());
        fs::remove_file(home.join("seed")).unwrap();
    }
    records
}

#[test]
fn what_is_exported_is_what_was_recorded_whole_or_in_part() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let records = ledger(home.path(), 300);
    let whole = home.path().join("whole");
    let output = run(&state, &whole, None);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("300 blocks from 0 written to "), "{text}");
    let bytes = fs::read(&whole).unwrap();
    let verified = check(&bytes).unwrap();
    assert!(text.contains(&verified.tip.tree.root().hex()), "{text}");

    for from in [137, 299, 300] {
        let path = home.path().join(format!("from-{from}"));
        assert!(run(&state, &path, Some(from)).status.success());
        let bytes = fs::read(&path).unwrap();
        let reader = Reader::new(&bytes).unwrap();
        let summary = reader.summary().clone();
        let read: Vec<Record> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(read, records[from as usize..]);
        assert_eq!(summary.before, records[from as usize - 1].hash);
        let mut tree = Frontier::from_parts(from, summary.peaks).unwrap();
        read.iter().for_each(|record| tree.push(&record.hash));
        assert_eq!((tree.root(), summary.hash), (summary.root, records[299].hash));
    }
}

#[test]
fn a_file_is_never_overwritten_and_never_left_half() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    ledger(home.path(), 20);
    let out = home.path().join("out");
    let refused = |from, code: &str| {
        let output = run(&state, &out, from);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(code), "{text}");
    };
    refused(Some(21), "HP-LD-046");
    assert!(!out.exists());
    fs::write(&out, "mine").unwrap();
    refused(None, "HP-LD-045");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    fs::remove_file(&out).unwrap();
    // A ledger that does not verify is not exported.
    let path = state.join("ledger.redb");
    let mut bytes = fs::read(&path).unwrap();
    // Wherever it stands: pages that are not in use any more have it too.
    let needle = b"key 0 number 7";
    let places: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(&path, &bytes).unwrap();
    refused(None, "HP-LD-041");
    assert!(!out.exists());
}

#[test]
fn verify_says_which_epochs_have_a_binding() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    for key in 1..=3u64 {
        fs::write(home.path().join("seed"), [key as u8; 32]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(home.path().join("seed"), mode).unwrap();
        let mut running = Service::start(&state, home.path());
        let mut client = running.client();
        let events = match key {
            1 => vec![binding(41, &LedgerKey::from_seed(&[1; 32])), attestation()],
            2 => vec![binding(42, &LedgerKey::from_seed(&[9; 32]))],
            _ => vec![service("x")],
        };
        for (number, event) in events.iter().enumerate() {
            client.append(request_id(key, number as u64), event).unwrap();
        }
        assert!(running.terminate().success());
    }
    let (good, text) = verify_command(&state);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("        ")).collect();
    assert!(good && lines.len() == 3, "{text}");
    assert!(lines[0].contains("counter 41 by attestation key 000b1122, names this node"), "{text}");
    assert!(lines[1].contains("counter 42 by attestation key unknown, DOES NOT name"), "{text}");
    assert!(lines[2].contains("no binding"), "{text}");
}

/// A verifier without the table of epochs must not take a change of node within one.
#[test]
fn the_epochs_of_the_headers_are_those_of_the_table() {
    let (epochs, records, tip) = chain();
    let derived = epochs_of(&records);
    let with_blocks: Vec<Epoch> = epochs.into_iter().filter(|epoch| epoch.number != 9).collect();
    assert_eq!(derived, with_blocks);
    let mut verifier = Verifier::new(&derived).unwrap();
    records.iter().for_each(|record| verifier.push(record).unwrap());
    assert_eq!(verifier.finish(None).unwrap().tip, tip);
}
