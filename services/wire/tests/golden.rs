//! The bytes of every message, so that no change of the format goes unnoticed.
//!
//! A mismatch here means that a box can't talk to the box it was before: add the field last as an
//! `Option`, or raise `frame::VERSION` and say so in the commit. `fixtures/messages-v1.txt` has one
//! line per message; the old lines always decode. `WIRE_BLESS=1` writes the file anew, for a new message.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail tests")]

mod support;

use std::fmt::{Debug, Write as _};

use hookprobe_wire::{
    Event, attest, control, event::Mode, frame::decode_body, inspector, ledger, response, sensor,
    unlock,
};
use minicbor::{Decode, Encode};
use support::{
    alert, attest_events, attest_log, attest_status, boot, carrying, control_status, hash, head,
    id, inspector_read, inspector_state, loaded, log, missed, mitigation, other_events, record,
    reloading, response_status, sensor_status,
};

const FIXTURE: &str = include_str!("fixtures/messages-v1.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// One line per message, and that the line of the fixture still is that message.
fn lines<M>(out: &mut String, name: &str, messages: &[M])
where
    M: Encode<()> + for<'b> Decode<'b, ()> + Debug + PartialEq,
{
    for (index, message) in messages.iter().enumerate() {
        let name = format!("{name}.{index}");
        writeln!(out, "{name} {}", hex(&minicbor::to_vec(message).unwrap())).unwrap();
        let old = FIXTURE.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        if let Some(old) = old {
            assert_eq!(decode_body::<M>(&bytes(old)).as_ref(), Ok(message), "{name}");
        }
    }
}

#[test]
fn every_message_has_its_old_bytes() {
    let mut out = String::new();
    let error = || ("C".to_owned(), "r".to_owned());
    lines(
        &mut out,
        "control-request",
        &[
            control::Request::Status,
            control::Request::Log { from: 300 },
            control::Request::Reload,
            control::Request::Carry { nonce: vec![7; 8].into() },
        ],
    );
    let (code, reason) = error();
    lines(
        &mut out,
        "control-reply",
        &[
            control_status([1; 5]),
            log(1),
            control::Reply::Error { code, reason: reason.clone() },
            control::Reply::Reload { number: 1, reason: reason.clone() },
            reloading(),
            control::Reply::Carry { number: 1, reason },
            carrying(),
        ],
    );
    let mut events = vec![boot(1), alert(1), mitigation(1)];
    events.extend(other_events());
    let mut requests: Vec<_> =
        events.into_iter().map(|event| ledger::Request::Append { id: id(), event }).collect();
    let seq = hookprobe_wire::Seq(5);
    requests.extend([
        ledger::Request::Follow { from: seq },
        ledger::Request::Read { from: seq, count: 256 },
        ledger::Request::Head,
    ]);
    lines(&mut out, "ledger-request", &requests);
    let mut erased = record(1);
    erased.payload = None;
    let (code, reason) = error();
    lines(
        &mut out,
        "ledger-reply",
        &[
            ledger::Reply::Appended { id: id(), seq, hash: hash(1) },
            ledger::Reply::Rejected { id: id(), code: code.clone(), reason: reason.clone() },
            ledger::Reply::Block(record(1)),
            ledger::Reply::Block(erased),
            ledger::Reply::CaughtUp { next: seq },
            ledger::Reply::Head(head()),
            ledger::Reply::Error { code, reason },
        ],
    );
    lines(
        &mut out,
        "sensor-request",
        &[sensor::Request::Status, sensor::Request::Drill, sensor::Request::Reload],
    );
    let (code, reason) = error();
    lines(
        &mut out,
        "sensor-reply",
        &[
            sensor_status([1; 4]),
            sensor::Reply::Drill { started: true, reason: reason.clone() },
            sensor::Reply::Error { code, reason: reason.clone() },
            sensor::Reply::Reload { started: true, reason: reason.clone(), loaded: None },
            sensor::Reply::Reload { started: true, reason, loaded: Some(loaded()) },
        ],
    );
    lines(
        &mut out,
        "inspector-order",
        &[
            inspector::Order::Watch { interfaces: vec![2, 300] },
            inspector::Order::Reload { number: None },
            inspector::Order::Reload { number: Some(7) },
            missed(1),
        ],
    );
    let Event::Alert(found) = alert(1) else { panic!("not an alert") };
    lines(
        &mut out,
        "inspector-report",
        &[
            inspector::Report::Found { alert: found, interface: 2 },
            inspector_state([1; 2]),
            inspector_read(),
        ],
    );
    lines(&mut out, "response-request", &[response::Request::Status]);
    let (code, reason) = error();
    lines(
        &mut out,
        "response-reply",
        &[response_status([1; 4]), response::Reply::Error { code, reason }],
    );
    lines(
        &mut out,
        "attest-event",
        &attest_events().map(|event| ledger::Request::Append { id: id(), event }),
    );
    lines(
        &mut out,
        "attest-request",
        &[
            attest::Request::Status,
            attest::Request::Evidence {
                nonce: vec![7; 8].into(),
                exporter: Some(hash(1)),
                full: true,
            },
            attest::Request::Activate { credential: vec![1].into(), secret: vec![2].into() },
            attest::Request::Seed,
            attest::Request::Recovery,
            attest::Request::RecoveryNoted,
            attest::Request::Log { from: 300 },
        ],
    );
    let (code, reason) = error();
    lines(
        &mut out,
        "attest-reply",
        &[
            attest_status([1; 2]),
            attest::Reply::Part { offset: 0, total: 3, bytes: vec![1, 2, 3].into() },
            attest::Reply::Activated { secret: vec![4].into() },
            attest::Reply::Recovery(Some("r".into())),
            attest::Reply::Recovery(None),
            attest_log(1),
            attest::Reply::Error { code, reason },
        ],
    );
    lines(
        &mut out,
        "unlock-outcome",
        &[
            unlock::Outcome::Open {
                uuid: "u".into(),
                key_identity: hash(5),
                created: true,
                recovered: false,
                resealed: true,
                note: Some("n".into()),
            },
            unlock::Outcome::Plain { created: true },
            unlock::Outcome::Locked { reason: "r".into(), recoverable: true },
        ],
    );
    lines(&mut out, "mode", &[Mode::Observe, Mode::Suggest, Mode::Autonomous]);
    if std::env::var_os("WIRE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/messages-v1.txt");
        return std::fs::write(path, out).unwrap();
    }
    assert_eq!(out, FIXTURE, "the bytes of a message have changed");
}

#[test]
fn the_seed_has_its_bytes_and_shows_nothing() {
    let seed = attest::SeedReply::Seed(attest::Seed::new([7; 32], 3, attest::KeyOrigin::Tpm));
    let encoded = minicbor::to_vec(&seed).unwrap();
    assert_eq!(hex(&encoded), format!("8200818358 20{} 0302", "07".repeat(32)).replace(' ', ""));
    let attest::SeedReply::Seed(back) = decode_body(&encoded).unwrap() else {
        panic!("another reply");
    };
    assert_eq!((back.expose(), back.epoch), (&[7; 32], 3));
    assert!(format!("{seed:?}").contains("redacted"));
}
