use std::{io::Write as _, process::Command};

use proptest::prelude::*;

use super::*;
use crate::{
    log::{self, Context, Event},
    pcr::PcrSet,
};

const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

fn pcr(number: u8) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

fn event(number: u8, name: &str) -> Event {
    Event {
        pcr: pcr(number),
        digests: BANKS.iter().map(|bank| bank.digest(&[name.as_bytes()])).collect(),
        name: name.into(),
        context: Context::default(),
    }
}

fn events() -> Vec<Event> {
    vec![event(13, "service:ledger file:/l"), event(13, "service:ledger spec"), event(12, "site")]
}

fn quoted(pcrs: &PcrSet) -> Vec<(PcrIndex, Digest)> {
    pcrs.iter().map(|(_, index, value)| (index, value.clone())).collect()
}

/// A raw TCG_PCR_EVENT2 with SHA-256 and SHA-384 of `measured`.
fn raw(number: u32, kind: u32, measured: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = [number.to_le_bytes(), kind.to_le_bytes(), 2u32.to_le_bytes()].concat();
    for bank in BANKS {
        out.extend((bank as u16).to_le_bytes());
        out.extend(bank.digest(&[measured]).as_bytes());
    }
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

fn secure_boot(value: u8) -> Vec<u8> {
    let name: Vec<u8> = "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&[9; 16][..], &10u64.to_le_bytes(), &1u64.to_le_bytes(), &name, &[value]].concat()
}

#[test]
fn our_events_come_back_by_name_after_replay() {
    let bytes = merge(&[], &events(), &BANKS);
    let replayed = ReplayedLog::replay(&bytes, &quoted(&log::replay(&events()))).unwrap();
    assert_eq!(replayed.failures(), []);
    let back: Vec<Event> = replayed.events().iter().map(|event| event.event.clone()).collect();
    assert_eq!(back, events());
}

#[test]
fn a_value_without_events_and_another_value_are_named() {
    let bytes = merge(&[], &events(), &BANKS);
    let mut values = quoted(&log::replay(&events()));
    values.push((pcr(7), HashAlg::Sha256.digest(&[b"x"])));
    values.push((pcr(15), Digest::zero(HashAlg::Sha256)));
    values.push((pcr(17), Digest::new(HashAlg::Sha256, &[0xff; 32]).unwrap()));
    for (index, value) in &mut values {
        if *index == pcr(12) && value.alg() == HashAlg::Sha384 {
            *value = HashAlg::Sha384.digest(&[b"y"]);
        }
    }
    let replayed = ReplayedLog::replay(&bytes, &values).unwrap();
    let codes: Vec<String> = replayed.failures().iter().map(ToString::to_string).collect();
    assert_eq!(codes.len(), 2, "{codes:?}");
    assert!(codes[0].starts_with("HP-MB-052 PCR 12: the log leads to sha384:"), "{}", codes[0]);
    assert!(codes[1].starts_with("HP-MB-053 PCR 7: the TPM quoted sha256:"), "{}", codes[1]);
    // A register that fails in one bank shows none of its events; a quoted reset value none either.
    assert_eq!(replayed.of(pcr(12)).count(), 0);
    assert_eq!(replayed.of(pcr(13)).count(), 2);
}

#[test]
fn startup_locality_and_no_action_are_as_in_the_profile() {
    let mut firmware = merge(&[], &[], &BANKS);
    firmware.extend(raw(0, EV_NO_ACTION, b"", b"StartupLocality\0\x03"));
    firmware.extend(raw(0xffff_ffff, EV_NO_ACTION, b"", b"anything"));
    firmware.extend(raw(0, 8, b"version", b"version"));
    let mut start = [0; 32];
    start[31] = 3;
    let value = crate::pcr::extend(
        &Digest::new(HashAlg::Sha256, &start).unwrap(),
        &HashAlg::Sha256.digest(&[b"version"]),
    );
    let replayed = ReplayedLog::replay(&firmware, &[(pcr(0), value)]).unwrap();
    assert_eq!(replayed.failures(), []);
    assert_eq!(replayed.events()[0].event.name, "crtm-version");
}

#[test]
fn secure_boot_is_believed_when_its_digest_is_of_its_data() {
    let check = |measured: &[u8], expect: Option<bool>| {
        let mut firmware = merge(&[], &[], &BANKS);
        firmware.extend(raw(7, EV_EFI_VARIABLE_DRIVER_CONFIG, measured, &secure_boot(1)));
        let mut pcrs = PcrSet::new();
        pcrs.extend(pcr(7), &HashAlg::Sha256.digest(&[measured]));
        let replayed = ReplayedLog::replay(&firmware, &quoted(&pcrs)).unwrap();
        assert_eq!(replayed.failures(), []);
        assert_eq!(replayed.events()[0].secure_boot, expect);
    };
    check(&secure_boot(1), Some(true));
    // The TPM has measured "off", the log says "on": neither is believed.
    check(&secure_boot(0), None);
}

#[test]
fn what_follows_a_firmware_log_is_readable_even_when_that_is_torn() {
    let mut firmware = merge(&[], &[], &BANKS);
    let name: Vec<u8> = ".linux\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    firmware.extend(raw(11, EV_IPL, b".linux\0", &name));
    let whole = firmware.len();
    firmware.extend(raw(11, EV_IPL, b"torn", b"torn"));
    for cut in whole..firmware.len() {
        let merged = merge(&firmware[..cut], &events(), &[HashAlg::Sha1]);
        let log = TcgLog::parse(&merged).unwrap();
        assert_eq!((log.len(), log.banks()), (4, BANKS.to_vec()));
    }
    let mut pcrs = log::replay(&events());
    pcrs.extend(pcr(11), &HashAlg::Sha256.digest(&[b".linux\0"]));
    let merged = merge(&firmware[..whole], &events(), &[]);
    let replayed = ReplayedLog::replay(&merged, &quoted(&pcrs)).unwrap();
    assert_eq!(replayed.of(pcr(11)).next().unwrap().event.name, ".linux");
}

#[test]
fn names_are_escaped() {
    let mut firmware = merge(&[], &[], &BANKS);
    firmware.extend(raw(12, EV_IPL, b"x", b"\x1b[2J\xff"));
    let mut pcrs = PcrSet::new();
    pcrs.extend(pcr(12), &HashAlg::Sha256.digest(&[b"x"]));
    let replayed = ReplayedLog::replay(&firmware, &quoted(&pcrs)).unwrap();
    assert_eq!(replayed.events()[0].event.name, "\\u{1b}[2J\\u{fffd}");
}

#[test]
fn malformed_logs_are_refused() {
    let check = |bytes: &[u8], expect: &str| {
        let error = TcgLog::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let log = merge(&[], &events(), &BANKS);
    let header = merge(&[], &[], &BANKS);
    check(&[], "no Spec ID");
    check(&log[..log.len() - 1], "event 3: cut short");
    let with = |event: Vec<u8>| [header.clone(), event].concat();
    check(&with(raw(24, EV_IPL, b"", b"")), "event 1: a PCR above 23");
    let mut many = raw(1, EV_IPL, b"", b"");
    many[8] = 3;
    check(&with(many), "more digests than algorithms");
    let mut unknown = raw(1, EV_IPL, b"", b"");
    unknown[12] = 4;
    check(&with(unknown), "does not name");
    let mut twice = raw(1, EV_IPL, b"", b"");
    twice[12 + 34] = 0x0b;
    check(&with(twice), "two digests");
    let mut huge = raw(1, EV_IPL, b"", b"");
    let length = huge.len();
    huge[length - 4..].fill(0xff);
    check(&with(huge), "cut short");
    check(&vec![0; TCG_BYTES_MAX + 1], "HP-MB-051");
}

/// The reference implementation replays what is written here to the same values.
#[test]
fn tpm2_eventlog_replays_our_log() {
    if Command::new("tpm2_eventlog").arg("--version").output().is_err() {
        eprintln!("skipped: tpm2_eventlog is not installed (package tpm2-tools)");
        return;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&merge(&[], &events(), &BANKS)).unwrap();
    let output = Command::new("tpm2_eventlog").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for (_, _, value) in log::replay(&events()).iter() {
        assert!(text.contains(&format!("0x{}", value.hex())), "{value:?} in {text}");
    }
    assert!(text.contains("service:ledger file:/l"), "{text}");
}

proptest! {
    #[test]
    fn mutations_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in 0usize..40,
    ) {
        let mut bytes = merge(&[], &events(), &BANKS);
        bytes.extend(raw(7, EV_EFI_VARIABLE_DRIVER_CONFIG, b"x", &secure_boot(1)));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        let _ = ReplayedLog::replay(&bytes, &quoted(&log::replay(&events())));
        let merged = merge(&bytes, &events(), &BANKS);
        prop_assert!(TcgLog::parse(&merged).is_ok());
    }
}
