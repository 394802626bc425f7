//! Golden bytes, a scripted TPM that fails at any step, hostile responses, a device that hangs.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
};
use proptest::prelude::*;

use super::{
    Device, Tpm, TpmError, Transport,
    client::TRIES_MAX,
    codec::{self, RESPONSE_BYTES_MAX},
};

const PCR: PcrIndex = PcrIndex::SERVICES;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn digest(alg: HashAlg) -> Digest {
    alg.digest(&[b"sensor"])
}

/// What a libtpms with SHA-256 and SHA-384 banks answers.
struct Fake {
    /// Given out before anything else, one per command.
    scripted: Vec<Vec<u8>>,
    /// Number of the command (from 1) that gets no response.
    fail_at: Option<u32>,
    seen: u32,
    paused_ms: Vec<u64>,
}

impl Fake {
    fn new() -> Self {
        Self { scripted: Vec::new(), fail_at: None, seen: 0, paused_ms: Vec::new() }
    }

    fn answering(scripted: &[Vec<u8>]) -> Self {
        Self { scripted: scripted.to_vec(), ..Self::new() }
    }

    fn failing_at(step: u32) -> Self {
        Self { fail_at: Some(step), ..Self::new() }
    }
}

fn banks_response() -> Vec<u8> {
    bytes(
        "8001 00000025 00000000  00 00000005 00000003
         0004 03 000000  000b 03 ffffff  000c 03 ffffff",
    )
}

fn identity_response() -> Vec<u8> {
    bytes(
        "8001 00000053 00000000  00 00000006 00000008
         00000105 49424d00  00000106 53572020  00000107 2054504d  00000108 00000000
         00000109 00000000  0000010a 00000001  0000010b 20191023  0000010c 00163636",
    )
}

fn extend_response() -> Vec<u8> {
    bytes("8002 00000013 00000000  00000000  0000 01 0000")
}

fn read_response() -> Vec<u8> {
    let mut out = bytes("8001 0000003e 00000000  00000007  00000001 000b 03 002000  00000001 0020");
    out.extend(digest(HashAlg::Sha256).as_bytes());
    out
}

fn rc(code: u32) -> Vec<u8> {
    let mut out = bytes("8001 0000000a");
    out.extend(code.to_be_bytes());
    out
}

impl Transport for Fake {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.seen += 1;
        if self.fail_at == Some(self.seen) {
            return Err(TpmError::Timeout { command: "fake", ms: 1 });
        }
        if !self.scripted.is_empty() {
            return Ok(self.scripted.remove(0));
        }
        Ok(match u32::from_be_bytes(command[6..10].try_into().unwrap()) {
            0x144 => rc(0x100),
            0x17a if command[13] == 5 => banks_response(),
            0x17a => identity_response(),
            0x17e => read_response(),
            0x182 => extend_response(),
            other => panic!("unexpected command {other:#x}"),
        })
    }

    fn pause_ms(&mut self, ms: u64) {
        assert!(ms <= super::PAUSE_MS_MAX);
        self.paused_ms.push(ms);
    }
}

/// What the phases `tpm` and `measure` do, as one sequence of steps.
fn boot(tpm: &mut Tpm<Fake>) -> Result<Digest, TpmError> {
    tpm.startup()?;
    tpm.identity()?;
    let banks = tpm.banks()?;
    let digests: Vec<Digest> = banks.into_iter().map(digest).collect();
    tpm.extend(PCR, &digests)?;
    tpm.read(HashAlg::Sha256, PCR)
}

#[test]
fn golden_commands() {
    let check = |got: Vec<u8>, expect: &str| assert_eq!(got, bytes(expect));
    check(codec::startup(), "8001 0000000c 00000144 0000");
    check(codec::get_banks(), "8001 00000016 0000017a 00000005 00000000 00000001");
    check(codec::get_identity(), "8001 00000016 0000017a 00000006 00000105 00000008");
    check(codec::pcr_read(HashAlg::Sha384, PCR), "8001 00000014 0000017e 00000001 000c 03 002000");
    check(
        codec::pcr_read(HashAlg::Sha1, PcrIndex::new(23).unwrap()),
        "8001 00000014 0000017e 00000001 0004 03 000080",
    );
    let zeros = [HashAlg::Sha1, HashAlg::Sha256].map(Digest::zero);
    check(
        codec::pcr_extend(PCR, &zeros).unwrap(),
        "8002 00000057 00000182 0000000d
         00000009 40000009 0000 00 0000
         00000002
         0004 0000000000000000000000000000000000000000
         000b 0000000000000000000000000000000000000000000000000000000000000000",
    );
}

#[test]
fn a_whole_boot() {
    let mut tpm = Tpm::new(Fake::new());
    assert_eq!(boot(&mut tpm).unwrap(), digest(HashAlg::Sha256));
    assert_eq!(tpm.commands(), 5);
    assert_eq!(tpm.banks().unwrap(), [HashAlg::Sha256, HashAlg::Sha384]);
    let identity = tpm.identity().unwrap();
    assert!(identity.is_software());
    assert_eq!(identity.manufacturer, "IBM");
    assert_eq!(identity.vendor, "SW   TPM");
    assert_eq!(identity.firmware, "8217.4131.22.13878");
}

#[test]
fn a_failure_at_any_step_ends_the_sequence() {
    for step in 1..=5 {
        let mut tpm = Tpm::new(Fake::failing_at(step));
        assert_eq!(boot(&mut tpm).unwrap_err().code(), "HP-TP-003");
        assert_eq!(tpm.commands(), step);
    }
}

#[test]
fn hardware_is_not_called_software() {
    let mut response = identity_response();
    response[23..27].copy_from_slice(b"IFX\0");
    response[31..35].copy_from_slice(b"SL\x1b[");
    let identity = Tpm::new(Fake::answering(&[response])).identity().unwrap();
    assert!(!identity.is_software());
    assert_eq!(identity.manufacturer, "IFX");
    assert_eq!(identity.vendor, "SL\\u{1b}[ TPM");
}

#[test]
fn unknown_banks_are_told_and_no_bank_is_an_error() {
    let mut response = banks_response();
    response[25..27].copy_from_slice(&[0x00, 0x12]);
    let mut tpm = Tpm::new(Fake::answering(&[response]));
    assert_eq!(tpm.banks().unwrap(), [HashAlg::Sha384]);
    assert_eq!(tpm.unknown_banks(), [0x12]);
    // SHA-256 is there but without PCR 13.
    let mut none = bytes("8001 0000001f 00000000  00 00000005 00000002");
    none.extend(bytes("000b 03 ffdfff  0012 03 ffffff"));
    let error = Tpm::new(Fake::answering(&[none])).banks().unwrap_err();
    assert_eq!(error, TpmError::NoBank { pcr: PCR, unknown: vec![0x12] });
    assert!(error.to_string().contains("[0012]"), "{error}");
}

#[test]
fn digests_are_one_per_bank() {
    let mut tpm = Tpm::new(Fake::new());
    let twice = [digest(HashAlg::Sha256), digest(HashAlg::Sha256)];
    for digests in [&twice[..], &[]] {
        let error = tpm.extend(PCR, digests).unwrap_err();
        assert_eq!(error.code(), "HP-TP-009");
    }
    assert_eq!(tpm.commands(), 0);
}

#[test]
fn busy_is_repeated_with_growing_pauses_and_not_for_ever() {
    let busy = [rc(0x922), rc(0x908), rc(0x90a)];
    let mut tpm = Tpm::new(Fake::answering(&busy));
    tpm.extend(PCR, &[digest(HashAlg::Sha256)]).unwrap();
    assert_eq!(tpm.commands(), 4);

    let mut fake = Fake::answering(&vec![rc(0x90a); TRIES_MAX as usize]);
    let error = Tpm::new(Pass(&mut fake)).startup().unwrap_err();
    assert_eq!(error, TpmError::Busy { command: "TPM2_Startup", rc: 0x90a, tries: TRIES_MAX });
    assert_eq!(fake.paused_ms, [10, 20, 40, 80, 160, 320, 640, 1280]);
}

struct Pass<'a>(&'a mut Fake);

impl Transport for Pass<'_> {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.0.exchange(command)
    }

    fn pause_ms(&mut self, ms: u64) {
        self.0.pause_ms(ms);
    }
}

#[test]
fn refusals_name_command_and_code() {
    let error = Tpm::new(Fake::answering(&[rc(0x101)])).startup().unwrap_err();
    assert_eq!(
        error.to_string(),
        "HP-TP-006 tpm: TPM2_Startup refused with response code 0x101; \
         clear the TPM in the firmware setup if it stays"
    );
    let none = bytes("8001 0000001c 00000000  00000007  00000001 000d 03 000000  00000000");
    let error = Tpm::new(Fake::answering(&[none])).read(HashAlg::Sha512, PCR).unwrap_err();
    assert_eq!(error.code(), "HP-TP-010");
}

#[test]
fn wrong_responses_are_malformed() {
    let check = |why: &str, response: Vec<u8>| {
        let mut tpm = Tpm::new(Fake::answering(&[response]));
        let error = tpm.read(HashAlg::Sha256, PCR).unwrap_err();
        assert!(error.to_string().contains(why), "{error}, expected {why}");
        assert_eq!(error.code(), "HP-TP-005");
    };
    let edit = |at: usize, byte: u8| {
        let mut response = read_response();
        response[at] = byte;
        response
    };
    check("cut short", vec![]);
    check("too long", vec![0; RESPONSE_BYTES_MAX + 1]);
    check("size differs", edit(5, 0x3f));
    check("size differs", edit(2, 0xff));
    check("tag", edit(1, 2));
    check("after an error", edit(8, 1));
    check("too many banks", edit(14, 0xff));
    check("bitmap too long", edit(20, 5));
    check("another selection", edit(22, 0x40));
    check("another selection", edit(19, 0x0c));
    check("another selection", edit(27, 2));
    check("length of the digest", edit(29, 0x1f));
    check("cut short", edit(28, 0xff));
    let mut longer = edit(5, 0x3f);
    longer.push(0);
    check("after the last field", longer);
    // A TPM 1.2 answers with TPM_BAD_TAG under its own tag.
    check("tag of an error", bytes("00c4 0000000a 0000001e"));
}

#[test]
fn an_extend_is_only_done_when_the_session_area_says_so() {
    for response in [
        "8001 0000000a 00000000",
        "8002 0000000e 00000000 00000000",
        "8002 00000013 00000000 00000001 0000 01 0000",
        "8002 00000013 00000000 00000000 0001 01 0000",
        "8002 00000014 00000000 00000000 0000 01 0000 00",
    ] {
        let mut tpm = Tpm::new(Fake::answering(&[bytes(response)]));
        let error = tpm.extend(PCR, &[digest(HashAlg::Sha256)]).unwrap_err();
        assert_eq!(error.code(), "HP-TP-005", "{response}");
    }
}

/// Every call with one response. What comes out is of no interest, only that it comes out.
fn feed(response: &[u8]) {
    let tpm = || Tpm::new(Fake::answering(&[response.to_vec()]));
    let _ = tpm().startup();
    let _ = tpm().banks();
    let _ = tpm().identity();
    let _ = tpm().extend(PCR, &[digest(HashAlg::Sha256)]);
    let _ = tpm().read(HashAlg::Sha256, PCR);
}

/// Exhaustive for one changed byte and for every cut, with the size corrected and not.
#[test]
fn mutated_responses_never_panic() {
    for original in
        [banks_response(), identity_response(), extend_response(), read_response(), rc(0x100)]
    {
        for at in 0..original.len() {
            for byte in 0..=u8::MAX {
                let mut response = original.clone();
                response[at] = byte;
                feed(&response);
            }
            let mut cut = original[..at].to_vec();
            feed(&cut);
            if let Some(size) = cut.get_mut(2..6) {
                size.copy_from_slice(&(at as u32).to_be_bytes());
                feed(&cut);
            }
        }
    }
}

proptest! {
    /// Several changes at once, and bodies that have nothing to do with the command.
    #[test]
    fn hostile_bodies_never_panic(
        which in 0usize..4,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..80),
        keep in any::<usize>(),
    ) {
        let originals =
            [banks_response(), identity_response(), extend_response(), read_response()];
        let mut response = originals[which].clone();
        response.truncate(10 + keep % (response.len() - 9));
        response.extend(tail);
        for (at, byte) in changes {
            let length = response.len();
            response[at % length] = byte;
        }
        feed(&response);
        let size = response.len() as u32;
        response[2..6].copy_from_slice(&size.to_be_bytes());
        feed(&response);
    }
}

/// A read is accepted only when every byte but the update counter is as asked for.
#[test]
fn mutated_reads_are_never_another_digest() {
    let original = read_response();
    for at in (0..30).filter(|at| !(10..14).contains(at)) {
        for flip in 1..=u8::MAX {
            let mut response = original.clone();
            response[at] ^= flip;
            let mut tpm = Tpm::new(Fake::answering(&[response]));
            let got = tpm.read(HashAlg::Sha256, PCR);
            // Flipping the response code may ask for another try, which the fake then grants.
            assert!(got.is_err() || tpm.commands() > 1, "byte {at} ^ {flip:#x}");
        }
    }
}

fn device(timeout_ms: u64) -> (Device, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (Device::new(OwnedFd::from(near), timeout_ms), far)
}

#[test]
fn device_answers_late_but_in_time() {
    let (device, mut far) = device(10_000);
    let tpm = thread::spawn(move || {
        let mut command = [0; 12];
        far.read_exact(&mut command).unwrap();
        assert_eq!(command.to_vec(), codec::startup());
        thread::sleep(Duration::from_millis(30));
        far.write_all(&rc(0)).unwrap();
        far
    });
    Tpm::new(device).startup().unwrap();
    tpm.join().unwrap();
}

#[test]
fn a_hung_device_is_asked_once() {
    let (mut device, mut far) = device(30);
    let started = Instant::now();
    let first = device.exchange(&codec::startup()).unwrap_err();
    assert_eq!(first.code(), "HP-TP-003");
    assert!(started.elapsed() >= Duration::from_millis(30));
    // The late response must not be taken for the next command's.
    far.write_all(&rc(0)).unwrap();
    let next = device.exchange(&codec::get_banks()).unwrap_err();
    assert_eq!(next, TpmError::Hung { command: "TPM2_GetCapability" });
    let mut commands = vec![0; 64];
    assert_eq!(far.read(&mut commands).unwrap(), codec::startup().len());
}

#[test]
fn a_device_that_went_away() {
    let (mut device, far) = device(1000);
    drop(far);
    let codes: Vec<_> =
        (0..2).map(|_| device.exchange(&codec::startup()).unwrap_err().code()).collect();
    assert_eq!(codes, ["HP-TP-002", "HP-TP-004"]);
    let missing = Device::open(Path::new("/nonexistent/tpmrm0")).unwrap_err();
    assert_eq!(missing.code(), "HP-TP-001");
    // A file that is no TPM: takes everything, answers nothing.
    let null = Device::open(Path::new("/dev/null")).unwrap();
    assert_eq!(Tpm::new(null).startup().unwrap_err().code(), "HP-TP-005");
}
