use std::{
    fs,
    path::{Path, PathBuf},
};

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    policy,
};
use hookprobe_tpm::fake::Fake;
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner as _};
use tempfile::TempDir;

use super::*;
use crate::unlock::{header::HEAD_BYTES, machine};

/// A disk, a directory in memory, and a machine whose device-mapper only counts.
struct Bench {
    directory: TempDir,
    place: Place,
    maps: u32,
    file_systems: Vec<PathBuf>,
    fails: Option<&'static str>,
    drawn: u8,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        let place = Place {
            partition: at("disk"),
            directory: directory.path().into(),
            recovery: at("recovery"),
            fresh_recovery: at("fresh"),
            outcome: at("outcome"),
        };
        let disk = fs::File::create(&place.partition).unwrap();
        disk.set_len(64 << 20).unwrap();
        Self { directory, place, maps: 0, file_systems: vec![], fails: None, drawn: 0 }
    }

    fn boot(&mut self, tpm: &mut Fake, generation: u32) -> Outcome {
        let place = self.place.clone();
        unlock(&place, Found::Working(tpm), Ok(release(generation)), self)
    }

    fn without_tpm(&mut self) -> Outcome {
        let place = self.place.clone();
        unlock(&place, Found::Absent, Ok(release(1)), self)
    }

    fn type_recovery(&self, text: &str) {
        fs::write(&self.place.recovery, text).unwrap();
    }

    fn fresh(&self) -> String {
        fs::read_to_string(&self.place.fresh_recovery).unwrap()
    }

    fn head(&self) -> Vec<u8> {
        self.place.head().unwrap()
    }

    fn write_head(&self, bytes: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options().write(true).open(&self.place.partition).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

impl Machine for Bench {
    fn random(&mut self, out: &mut [u8]) -> Result<(), UnlockError> {
        self.drawn += 1;
        out.fill(self.drawn);
        Ok(())
    }

    fn map(&mut self, _: &mut Volume, _: &VolumeKey) -> Result<PathBuf, UnlockError> {
        if self.fails == Some("map") {
            return Err(UnlockError::Map("by request".into()));
        }
        self.maps += 1;
        Ok("/dev/mapper/bench".into())
    }

    fn unmap(&mut self, _: &mut Volume) {
        self.maps -= 1;
    }

    fn make_file_system(&mut self, device: &Path) -> Result<(), UnlockError> {
        if self.fails == Some("mke2fs") {
            return Err(UnlockError::FileSystem("by request".into()));
        }
        self.file_systems.push(device.into());
        if device == self.place.partition { machine::make_ext4(device) } else { Ok(()) }
    }
}

/// A release of `generation` whose policies are for registers that are all zero.
fn release(generation: u32) -> Release {
    let signer = SigningKey::from_slice(&[5; 32]).unwrap();
    let zero: Vec<_> = Purpose::Volume
        .pcrs()
        .iter()
        .map(|pcr| (PcrIndex::new(*pcr).unwrap(), Digest::zero(HashAlg::Sha256)))
        .collect();
    let approved = policy::pcr_policy(Purpose::Volume, &zero).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let policies = (1..=generation)
        .map(|reference| {
            let digest = policy::signed_digest(&approved, Purpose::Volume, reference);
            let signature: Signature = signer.sign_prehash(&digest).unwrap();
            SignedPolicy {
                purpose: Purpose::Volume,
                generation: reference,
                bank: "sha256".into(),
                digest: hex(&approved),
                signature: hex(&signature.to_bytes()),
            }
        })
        .collect();
    Release { key: ReleaseKey::new(*signer.verifying_key()), generation, policies }
}

fn tpm() -> Fake {
    Fake::new([1; 32])
}

#[derive(Debug, PartialEq, Eq)]
struct Open {
    identity: hookprobe_wire::Hash,
    created: bool,
    recovered: bool,
    resealed: bool,
    note: Option<String>,
}

#[track_caller]
fn open(outcome: Outcome) -> Open {
    match outcome {
        Outcome::Open { key_identity: identity, created, recovered, resealed, note, .. } => {
            let note = note.map(|note| note.chars().take(9).collect());
            Open { identity, created, recovered, resealed, note }
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn locked(outcome: Outcome, code: &str, recoverable: bool) -> String {
    match outcome {
        Outcome::Locked { reason, recoverable: is } => {
            assert!(reason.starts_with(code), "{reason}");
            assert_eq!(is, recoverable, "{reason}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blank_disk_becomes_a_volume_that_opens_at_every_boot() {
    let mut bench = Bench::new();
    let first = open(bench.boot(&mut tpm(), 1));
    assert!(first.created && !first.recovered && !first.resealed && first.note.is_none());
    assert_eq!(bench.file_systems, [Path::new("/dev/mapper/bench")]);
    assert!(!bench.place.new_header().exists());
    assert!(RecoveryKey::parse(&bench.fresh()).is_ok());
    let before = bench.head();
    for _ in 0..2 {
        let next = open(bench.boot(&mut tpm(), 1));
        assert_eq!(
            next,
            Open { created: false, ..Open { identity: first.identity, ..next_of(&first) } }
        );
    }
    // A boot that needs no change writes nothing.
    assert_eq!(bench.head(), before);
    assert_eq!(bench.file_systems.len(), 1);
}

fn next_of(open: &Open) -> Open {
    Open { identity: open.identity, created: false, recovered: false, resealed: false, note: None }
}

#[test]
fn a_creation_that_is_cut_off_begins_anew() {
    let mut bench = Bench::new();
    for (fails, code) in [("map", "HP-AT-123"), ("mke2fs", "HP-AT-124")] {
        bench.fails = Some(fails);
        locked(bench.boot(&mut tpm(), 1), code, false);
        assert_eq!(classify(&bench.head()), Head::Blank, "{fails}");
        assert_eq!(bench.maps, 0);
        assert!(!bench.place.fresh_recovery.exists());
    }
    bench.fails = None;
    // Power cut in the commit: everything but the first sector is there.
    assert!(open(bench.boot(&mut tpm(), 1)).created);
    let mut head = bench.head();
    let whole = head.clone();
    head[..512].fill(0);
    head[..32].copy_from_slice(crate::unlock::header::UNFINISHED);
    bench.write_head(&head);
    assert_eq!(classify(&bench.head()), Head::Blank);
    bench.write_head(&whole);
    assert!(!open(bench.boot(&mut tpm(), 1)).created);
}

#[test]
fn another_state_another_tpm_another_image_do_not_open_it() {
    let mut bench = Bench::new();
    open(bench.boot(&mut tpm(), 2));
    let before = bench.head();
    let mut other_state = tpm();
    other_state.extend(PcrIndex::new(13).unwrap(), b"another service");
    assert!(locked(bench.boot(&mut other_state, 2), "HP-AT-107", true).contains("HP-TP-111"));
    assert!(
        locked(bench.boot(&mut Fake::new([2; 32]), 2), "HP-AT-107", true).contains("HP-TP-123")
    );
    assert!(locked(bench.boot(&mut tpm(), 1), "HP-AT-107", true).contains("HP-TP-112"));
    let mut failing = tpm();
    failing.fail_at(0);
    assert!(locked(bench.boot(&mut failing, 2), "HP-AT-107", true).contains("HP-TP-115"));
    locked(bench.without_tpm(), "HP-AT-106", true);
    let place = bench.place.clone();
    let unsigned = Err("HP-QV-031 not signed".to_owned());
    let outcome = unlock(&place, Found::Working(&mut tpm()), unsigned, &mut bench);
    assert!(locked(outcome, "HP-AT-107", true).contains("HP-QV-031"));
    assert_eq!((bench.maps, bench.head()), (1, before), "nothing was opened or written");
}

#[test]
fn a_newer_image_seals_it_anew_and_the_older_one_is_out() {
    let mut bench = Bench::new();
    let made = open(bench.boot(&mut tpm(), 1));
    let old = bench.head();
    let resealed = open(bench.boot(&mut tpm(), 2));
    assert_eq!(resealed, Open { resealed: true, ..next_of(&made) });
    assert_eq!(open(bench.boot(&mut tpm(), 2)), next_of(&made));
    locked(bench.boot(&mut tpm(), 1), "HP-AT-107", true);
    // Somebody puts the old token into the new header: its slot is gone.
    let Loaded::Ours(volume) = Volume::load(&bench.place.partition).unwrap() else { panic!() };
    assert_eq!((volume.header().token.slot, volume.header().leftover.len()), (2, 0));
    // All of the old header is another matter: who could copy it then can open what was then.
    bench.write_head(&old);
    assert_eq!(open(bench.boot(&mut tpm(), 1)), next_of(&made));
}

#[test]
fn the_recovery_key_opens_it_and_moves_it_to_another_tpm() {
    let mut bench = Bench::new();
    let made = open(bench.boot(&mut tpm(), 1));
    let recovery = bench.fresh();
    let mut other = Fake::new([2; 32]);
    bench.type_recovery("nothing");
    locked(bench.boot(&mut other, 1), "HP-AT-109", true);
    assert!(!bench.place.recovery.exists(), "removed once read");
    bench.type_recovery(&"0".repeat(40));
    locked(bench.boot(&mut other, 1), "HP-AT-108", true);
    bench.type_recovery(&format!(" {}\n", recovery.to_lowercase().replace('-', " ")));
    let recovered = open(bench.boot(&mut other, 1));
    assert_eq!(
        recovered,
        Open { recovered: true, resealed: true, note: Some("HP-AT-113".into()), ..next_of(&made) }
    );
    assert_eq!(open(bench.boot(&mut Fake::new([2; 32]), 1)), next_of(&made));
    locked(bench.boot(&mut tpm(), 1), "HP-AT-107", true);
}

#[test]
fn without_a_tpm_the_recovery_key_opens_it_for_one_boot() {
    let mut bench = Bench::new();
    let made = open(bench.boot(&mut tpm(), 1));
    let before = bench.head();
    bench.type_recovery(&bench.fresh());
    let once = open(bench.without_tpm());
    assert_eq!(once, Open { recovered: true, note: Some("HP-AT-112".into()), ..next_of(&made) });
    assert_eq!(bench.head(), before);
    assert_eq!(open(bench.boot(&mut tpm(), 1)), next_of(&made));
}

#[test]
fn a_volume_that_somebody_else_made_does_not_open() {
    // With a passphrase that they know, an honest-looking token, or a token copied from this box.
    let mut bench = Bench::new();
    open(bench.boot(&mut tpm(), 1));
    let Loaded::Ours(volume) = Volume::load(&bench.place.partition).unwrap() else { panic!() };
    let stolen = volume.header().token.clone();
    let forged = Token { sealed: vec![0; 64], ..stolen.clone() };
    for (token, why) in [(stolen, "does not open its key slot"), (forged, "HP-TP-121")] {
        let mut evil = Bench::new();
        let place = evil.place.clone();
        let header = place.make_header_file().unwrap();
        let known = RecoveryKey::from_bytes(&[0; KEY_BYTES]);
        let passphrase = [0xee; 32];
        Volume::format(&header, &place.partition, &passphrase, &known, &token).unwrap();
        place.commit().unwrap();
        assert!(locked(evil.boot(&mut tpm(), 1), "HP-AT-107", true).contains(why));
        assert_eq!(evil.maps, 0);
    }
}

#[test]
fn plain_partitions() {
    let mut bench = Bench::new();
    if !Path::new("/usr/sbin/mke2fs").exists() {
        println!("skipped: no mke2fs");
        return;
    }
    assert_eq!(bench.without_tpm(), Outcome::Plain { created: true });
    assert_eq!(bench.without_tpm(), Outcome::Plain { created: false });
    let before = bench.head();
    locked(bench.boot(&mut tpm(), 1), "HP-AT-103", false);
    assert_eq!(bench.head(), before);
}

#[test]
fn no_state_that_is_not_signed_makes_a_volume() {
    let mut bench = Bench::new();
    let mut other_state = tpm();
    other_state.extend(PcrIndex::new(12).unwrap(), b"another command line");
    locked(bench.boot(&mut other_state, 1), "HP-AT-102", false);
    assert!(bench.head().iter().all(|byte| *byte == 0));
    // A TPM that has seen boots before: said.
    let mut known = tpm();
    known.next_epoch().unwrap();
    let made = open(bench.boot(&mut known, 1));
    assert_eq!((made.created, made.note.as_deref()), (true, Some("HP-AT-110")));
}

#[test]
fn a_reseal_that_fails_is_said_and_tried_again() {
    let mut bench = Bench::new();
    let made = open(bench.boot(&mut tpm(), 1));
    // Calls of the TPM at this boot: the token's key, then the new one.
    let mut tpm = tpm();
    tpm.fail_at(1);
    let outcome = open(bench.boot(&mut tpm, 2));
    assert_eq!(outcome, Open { note: Some("HP-AT-111".into()), ..next_of(&made) });
    assert!(open(bench.boot(&mut self::tpm(), 2)).resealed);
}

#[test]
fn files_for_pid_1() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let outcome = Outcome::Locked { reason: "\u{e9}".repeat(9000), recoverable: true };
    bench.place.write_outcome(outcome).unwrap();
    let bytes = fs::read(&bench.place.outcome).unwrap();
    assert!(bytes.len() <= hookprobe_wire::unlock::OUTCOME_BYTES_MAX);
    assert!(matches!(minicbor::decode(&bytes).unwrap(), Outcome::Locked { .. }));
    let mode = fs::metadata(&bench.place.outcome).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    bench.place.leave_recovery(&RecoveryKey::from_bytes(&[1; KEY_BYTES])).unwrap();
    let mode = fs::metadata(&bench.place.fresh_recovery).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 3);
    // A partition that is not there.
    fs::remove_file(&bench.place.partition).unwrap();
    let mut bench = bench;
    locked(bench.boot(&mut tpm(), 1), "HP-AT-120", false);
    assert_eq!(HEAD_BYTES, 4 << 20);
}
