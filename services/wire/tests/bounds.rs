//! Every list of every message has a most: that many are taken, one more is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail tests")]

mod support;

use std::fmt::Debug;

use hookprobe_wire::{
    Event, FrameError, attest, block, control, event,
    frame::{FRAME_BYTES_MAX, decode_body},
    inspector, ledger, response, sensor, site,
};
use minicbor::{Decode, Encode};
use support::{
    alert, attest_log, attest_status, boot, control_status, id, inspector_state, log, mitigation,
    record, response_status, sensor_status,
};

fn decode<M>(message: &M) -> Result<M, FrameError>
where
    M: Encode<()> + for<'b> Decode<'b, ()>,
{
    decode_body(&minicbor::to_vec(message).unwrap())
}

#[track_caller]
fn check<M>(most: usize, message: impl Fn(usize) -> M)
where
    M: Encode<()> + for<'b> Decode<'b, ()> + Debug + PartialEq,
{
    assert_eq!(decode(&message(most)), Ok(message(most)));
    let Err(FrameError::Body { why, .. }) = decode(&message(most + 1)) else {
        panic!("{} elements are taken", most + 1);
    };
    assert!(why.contains("longer"), "{why}");
}

/// `message` with `count` elements in its list `at` and none in the others.
fn only<const N: usize, M>(at: usize, message: fn([usize; N]) -> M) -> impl Fn(usize) -> M {
    move |count| {
        let mut counts = [0; N];
        counts[at] = count;
        message(counts)
    }
}

#[test]
fn events() {
    check(event::BOOT_DIAGNOSTICS_MAX, boot);
    check(event::EVIDENCE_MAX, alert);
    check(event::ENFORCERS_MAX, mitigation);
    check(event::EVIDENCE_MAX, |count| ledger::Request::Append { id: id(), event: alert(count) });
}

#[test]
fn replies_of_attest() {
    check(attest::PCRS_MAX, only(0, attest_status));
    check(event::STATUS_DIAGNOSTICS_MAX, only(1, attest_status));
    check(attest::LOG_MAX, attest_log);
}

#[test]
fn blocks() {
    check(block::SIGNATURES_MAX, record);
}

#[test]
fn replies_of_pid_1() {
    check(control::PHASES_MAX, only(0, control_status));
    check(control::SERVICES_MAX, only(1, control_status));
    check(control::PCRS_MAX, only(2, control_status));
    check(control::ADDRESSES_MAX, only(3, control_status));
    check(event::STATUS_DIAGNOSTICS_MAX, only(4, control_status));
    check(control::LOG_LINES_MAX, log);
}

#[test]
fn replies_of_services() {
    check(site::INTERFACES_MAX, only(0, sensor_status));
    check(sensor::COUNTERS_MAX, only(1, sensor_status));
    check(sensor::FLOWS_MAX, only(2, sensor_status));
    check(event::STATUS_DIAGNOSTICS_MAX, only(3, sensor_status));
    check(sensor::COUNTERS_MAX, only(0, inspector_state));
    check(event::STATUS_DIAGNOSTICS_MAX, only(1, inspector_state));
    check(site::INTERFACES_MAX, |count| inspector::Order::Watch { interfaces: vec![1; count] });
    check(response::STATUS_ACTIVE_MAX, only(0, response_status));
    check(response::STATUS_PROTECTED_MAX, only(1, response_status));
    check(event::ENFORCERS_MAX, only(2, response_status));
    check(event::STATUS_DIAGNOSTICS_MAX, only(3, response_status));
}

/// The largest amplification there was: a list of empty strings, one byte each on the wire.
#[test]
fn a_frame_of_one_byte_elements_is_refused_at_the_bound() {
    let mut body = minicbor::to_vec(mitigation(0)).unwrap();
    // [32, [[cause, action, subject, mode, expires, [], reason]]]: the empty list, then "r".
    let at = body.len() - 3;
    assert_eq!(body[at..], [0x80, 0x61, b'r']);
    let strings = FRAME_BYTES_MAX - body.len() - 2;
    let mut list = vec![0x99];
    list.extend(u16::try_from(strings).unwrap().to_be_bytes());
    list.resize(3 + strings, 0x60);
    body.splice(at..=at, list);
    assert_eq!(body.len(), FRAME_BYTES_MAX);
    assert!(matches!(decode_body::<Event>(&body), Err(FrameError::Body { .. })));
    // The same without a length: it ends only where the frame does.
    body.splice(at..at + 3, [0x9f]);
    assert!(matches!(decode_body::<Event>(&body), Err(FrameError::Body { .. })));
}
