//! The program as an operator runs it: files in, text, JSON and exit code out.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use hookprobe_evidence::{
    bundle::Evidence, digest::HashAlg, log, manifest, pcr::PcrIndex, policy::ReleaseKey,
    sample::Sample, signed,
};
use hookprobe_wire::qr;
use p256::{
    ecdsa::SigningKey,
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the sample box's release key, and the program.
struct Bench(TempDir);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let key = Sample::new().release;
        let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        bench.file("release.pem", pem.as_bytes());
        bench.file("site.toml", &Sample::new().site);
        bench.file("root.der", &hookprobe_evidence::sample::fixture("p384.root"));
        bench
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let Output { status, stdout, stderr } =
            Command::new(env!("CARGO_BIN_EXE_hookprobe-verify"))
                .args(arguments)
                .current_dir(self.0.path())
                .env_remove("HOOKPROBE_RELEASE_KEY")
                .output()
                .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    /// Appraises with everything that the operator of the sample box knows.
    fn bundle(&self, evidence: &Evidence, more: &[&str]) -> Ran {
        self.file("box.cbor", &evidence.to_bytes());
        let (nonce, ak) = (hex(&Sample::new().binding.nonce), ak_name());
        let known = [
            "bundle",
            "box.cbor",
            "--release-key",
            "release.pem",
            "--nonce",
            &nonce,
            "--ak",
            &ak,
            "--site",
            "site.toml",
            "--ek-root",
            "root.der",
        ];
        self.run(&[&known[..], more].concat())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ak_name() -> String {
    Sample::new().reference().ak_name.unwrap().hex()
}

#[track_caller]
fn check(ran: &Ran, code: i32, expect: &[&str]) {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    let first = ran.out.lines().chain(ran.err.lines()).next().unwrap_or_default();
    for expect in expect {
        assert!(
            first.contains(expect),
            "{expect} is not in the first line: {}{}",
            ran.out,
            ran.err
        );
    }
}

#[test]
fn an_intact_box_is_affirmed_and_all_is_shown() {
    let bench = Bench::new();
    let ran = bench.bundle(&Sample::new().evidence(), &[]);
    check(&ran, 0, &["AFFIRMING", "level L3"]);
    for expect in ["attestation key", "epoch 41", "120 blocks", "13 sha256", "as predicted"] {
        assert!(ran.out.contains(expect), "{expect}: {}", ran.out);
    }
    assert!(ran.out.is_ascii());
}

#[test]
fn a_nonce_is_fresh_and_fits_into_the_option() {
    let bench = Bench::new();
    let draw = || {
        let ran = bench.run(&["nonce"]);
        check(&ran, 0, &[]);
        ran.out.trim().to_owned()
    };
    let (one, two) = (draw(), draw());
    assert_ne!(one, two);
    assert_eq!(one.len(), 16, "{one}");
    // Taken as a nonce, and not the one that the evidence was asked with.
    bench.file("box.cbor", &Sample::new().evidence().to_bytes());
    let key = ["--release-key", "release.pem"];
    let ran = bench.run(&[&["bundle", "box.cbor", "--nonce", &one], &key[..]].concat());
    check(&ran, 2, &["HP-QV-045"]);
}

#[test]
fn what_is_wrong_is_the_first_line() {
    let bench = Bench::new();
    let good = Sample::new();
    let ran = bench.bundle(&good.evidence(), &["--minimum-generation", "3"]);
    check(&ran, 2, &["CONTRAINDICATED", "HP-QV-043", "generation 2 is below 3"]);

    let mut other = good.clone();
    other.binding.nonce = vec![1; 32].into();
    check(&bench.bundle(&other.evidence(), &[]), 2, &["HP-QV-045", "another challenge"]);

    let mut other = good.clone();
    other.ak = SigningKey::from_slice(&[0x31; 32]).unwrap();
    check(&bench.bundle(&other.evidence(), &[]), 2, &["HP-QV-047"]);

    bench.file("site.toml", b"[node]\nname = \"another\"\n");
    check(&bench.bundle(&good.evidence(), &[]), 2, &["HP-MB-059", "site configuration"]);
}

#[test]
fn the_first_divergent_event_is_named() {
    let bench = Bench::new();
    let mut changed = Sample::new();
    let at = changed.events.iter().position(|event| event.name.contains("sensor.bpf")).unwrap();
    let name = changed.events[at].name.clone();
    changed.events[at] = manifest::event(&name, b"another program", &HashAlg::ALL);
    let ran = bench.bundle(&changed.evidence(), &[]);
    check(&ran, 2, &["HP-MB-004 service:sensor file:/usr/lib/hookprobe/sensor.bpf.o", "expected"]);
    assert!(ran.out.contains("first divergent event"), "{}", ran.out);

    // The log edited so that it looks right: the TPM does not agree.
    let mut evidence = changed.evidence();
    evidence.logs.clone_from(&Sample::new().evidence().logs);
    check(&bench.bundle(&evidence, &[]), 2, &["HP-MB-052 PCR 13"]);
}

#[test]
fn a_restored_snapshot_is_found_by_what_was_seen_before() {
    let bench = Bench::new();
    let old = Sample::new();
    let mut new = Sample::new();
    new.clock.reset_count += 1;
    new.clock.clock_ms += 5_000;
    new.binding.epoch += 1;
    new.epoch.as_mut().unwrap().epoch += 1;
    bench.file("new.cbor", &new.evidence().to_bytes());
    check(&bench.bundle(&new.evidence(), &[]), 0, &[]);
    let ran = bench.bundle(&old.evidence(), &["--previous", "new.cbor"]);
    check(&ran, 2, &["HP-QV-049", "went from"]);

    // The same from a result instead of evidence, both plain and signed.
    let json = bench.bundle(&new.evidence(), &["--json"]);
    bench.file("new.json", json.out.as_bytes());
    check(&bench.bundle(&old.evidence(), &["--previous", "new.json"]), 2, &["HP-QV-049"]);
    check(&bench.bundle(&new.evidence(), &["--previous", "new.json"]), 0, &["level L4"]);
    let key = SigningKey::from_slice(&[0x44; 32]).unwrap();
    bench.file("me.pem", key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes());
    let jws = bench.bundle(&new.evidence(), &["--sign", "me.pem"]);
    assert_eq!(jws.code, 0);
    bench.file("new.jws", jws.out.as_bytes());
    let ran = bench.bundle(&old.evidence(), &["--previous", "new.jws", "--sign", "me.pem"]);
    assert_eq!(ran.code, 2);
    check(&bench.bundle(&old.evidence(), &["--previous", "new.jws"]), 3, &["HP-VF-008"]);
}

#[test]
fn json_is_the_claims_set_and_a_signed_one_verifies() {
    let bench = Bench::new();
    let ran = bench.bundle(&Sample::new().evidence(), &["--json"]);
    let claims: Value = serde_json::from_str(&ran.out).unwrap();
    let at = |path: &str| claims.pointer(path).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/submods/hookprobe/ear.status"), "affirming");
    assert_eq!(at("/submods/hookprobe/hookprobe.level"), "L3");
    assert_eq!(at("/submods/hookprobe/hookprobe.ak-name"), ak_name());
    assert_eq!(at("/eat_nonce"), hex(&[9; 32]));
    assert!(at("/submods/hookprobe/hookprobe.memory").is_object());

    let key = SigningKey::from_slice(&[0x44; 32]).unwrap();
    bench.file("me.pem", key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes());
    let jws = bench.bundle(&Sample::new().evidence(), &["--sign", "me.pem"]).out;
    let opened = signed::open_result(jws.trim(), key.verifying_key()).unwrap();
    let opened: Value = serde_json::from_slice(&opened).unwrap();
    assert_eq!(opened.pointer("/submods/hookprobe/ear.status").unwrap(), "affirming");
}

#[test]
fn short_evidence_comes_as_lines_of_qr_codes_too() {
    let bench = Bench::new();
    let sample = Sample::new();
    bench.file("manifest.dsse", &sample.envelope());
    let bytes = sample.short().to_bytes();
    let lines = qr::split(&bytes, 120).unwrap();
    let (first, rest) = lines.split_at(2);
    bench.file("a.txt", format!("| {} |\n", first.join("\n")).as_bytes());
    bench.file("b.txt", rest.join("\n").as_bytes());
    let nonce = hex(&sample.binding.nonce);
    let known = ["--release-key", "release.pem", "--nonce", &nonce, "--manifest", "manifest.dsse"];
    let ran = bench.run(&[&["quote", "a.txt", "b.txt"], &known[..]].concat());
    // No log: the registers that only a log explains are not explained.
    check(&ran, 1, &["WARNING"]);
    assert!(ran.out.contains("HP-MB-060"), "{}", ran.out);
    let ran = bench.run(&[&["quote", "a.txt"], &known[..]].concat());
    check(&ran, 3, &["HP-QR-014"]);
    let ran = bench.run(&[&["bundle", "a.txt", "b.txt"], &known[..]].concat());
    check(&ran, 4, &["the evidence is short"]);
    // With earlier full evidence they are.
    bench.file("full.cbor", &sample.evidence().to_bytes());
    let all = [&["quote", "a.txt", "b.txt", "--previous", "full.cbor"], &known[..]].concat();
    // Having seen a key is not having enrolled it.
    check(&bench.run(&all), 1, &["WARNING", "HP-QV-056"]);
    let ak = ak_name();
    check(&bench.run(&[&all[..], &["--ak", &ak]].concat()), 0, &["AFFIRMING"]);
    // And without a manifest there is nothing to compare with.
    let known = ["--release-key", "release.pem", "--nonce", &nonce];
    let ran = bench.run(&[&["quote", "a.txt", "b.txt"], &known[..]].concat());
    assert_ne!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("HP-QV-042"), "{}", ran.out);
}

#[test]
fn no_release_key_is_built_in() {
    let bench = Bench::new();
    bench.file("box.cbor", &Sample::new().evidence().to_bytes());
    check(&bench.run(&["bundle", "box.cbor"]), 4, &["HP-VF-003", "--release-key"]);
    let json = bench.run(&["bundle", "box.cbor", "--json"]);
    let error: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, error.get("exit")), (4, Some(&4.into())));
    // Another release's key: nothing in it is believed.
    let other = SigningKey::from_slice(&[0x51; 32]).unwrap();
    let pem = other.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    bench.file("other.pem", pem.as_bytes());
    let ran = bench.run(&["bundle", "box.cbor", "--release-key", "other.pem"]);
    check(&ran, 2, &["HP-QV-031"]);
    assert!(ran.out.contains(&ReleaseKey::new(*other.verifying_key()).id()), "{}", ran.out);
}

#[test]
fn exit_codes_three_and_four_mean_that_nothing_was_verified() {
    let bench = Bench::new();
    let known = ["--release-key", "release.pem"];
    let with = |first: &[&'static str]| [first, &known[..]].concat();
    check(&bench.run(&with(&["bundle", "missing.cbor"])), 3, &["HP-VF-001"]);
    bench.file("garbage", b"\x8bgarbage");
    check(&bench.run(&with(&["bundle", "garbage"])), 3, &["HP-QV-011"]);
    let large = fs::File::create(bench.0.path().join("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    check(&bench.run(&with(&["bundle", "large"])), 3, &["HP-VF-002"]);
    check(&bench.run(&["ledger", "large"]), 3, &["HP-VF-002"]);
    check(&bench.run(&["ledger", "garbage"]), 3, &["HP-WR-010"]);
    check(&bench.run(&with(&["image", "garbage"])), 3, &["HP-MB-040"]);
    assert_eq!(bench.run(&["bundle"]).code, 4);
    assert_eq!(bench.run(&["bundle", "x", "--nonce", "xyz"]).code, 4);
    assert_eq!(bench.run(&["nonsense"]).code, 4);
    let help = bench.run(&["--help"]);
    assert_eq!(help.code, 0);
    for line in ["0  affirming", "1  warning", "2  contraindicated", "3  unreadable", "4  usage"] {
        assert!(help.out.contains(line), "{}", help.out);
    }
}

#[test]
fn logs_in_words_and_codes() {
    let bench = Bench::new();
    let mut sample = Sample::new();
    bench.file("box.cbor", &sample.evidence().to_bytes());
    let ran = bench.run(&["explain", "box.cbor", "--release-key", "release.pem"]);
    check(&ran, 0, &["AFFIRMING", "each vouched for by the quote"]);
    let line = ran.out.lines().find(|line| line.contains("sensor.bpf.o")).unwrap();
    assert!(line.contains("service file") && line.contains("13") && line.contains("as signed"));
    let name = sample.events[0].name.clone();
    sample.events[0] = manifest::event(&name, b"another", &HashAlg::ALL);
    bench.file("box.cbor", &sample.evidence().to_bytes());
    let ran = bench.run(&["explain", "box.cbor", "--release-key", "release.pem"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("SHOULD BE service:ledger file"), "{}", ran.out);
    // An event that the TPM does not vouch for is not shown at all.
    let mut evidence = sample.evidence();
    let mut events = sample.events.clone();
    events.retain(|event| event.pcr != PcrIndex::SITE);
    let logs = evidence.logs.as_mut().unwrap();
    logs.userspace = events.iter().flat_map(log::to_record).collect::<Vec<u8>>().into();
    logs.tcg = hookprobe_evidence::tcg::merge(&[], &events, &[HashAlg::Sha256]).into();
    bench.file("box.cbor", &evidence.to_bytes());
    let ran = bench.run(&["explain", "box.cbor"]);
    assert_eq!(ran.code, 2);
    assert!(!ran.out.contains("site:hookprobe.toml"), "{}", ran.out);

    check(&bench.run(&["explain", "hp-mb-004"]), 0, &["HP-MB-004", "another digest"]);
    check(&bench.run(&["explain", "HP-ZZ-001"]), 4, &["check the spelling"]);
}

/// Every code that this program or `evidence` can say is explained.
#[test]
fn every_code_of_a_verification_is_explained() {
    fn sources(folder: &str, out: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(path.to_str().unwrap(), out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(concat!(env!("CARGO_MANIFEST_DIR"), "/src"), &mut text);
    sources(concat!(env!("CARGO_MANIFEST_DIR"), "/../evidence/src"), &mut text);
    let mut missing: Vec<&str> = ["HP-MB-", "HP-QV-", "HP-VF-"]
        .iter()
        .flat_map(|family| text.match_indices(family))
        .filter_map(|(at, _)| text.get(at..at + 9))
        .filter(|code| code.bytes().skip(6).all(|byte| byte.is_ascii_digit()))
        .filter(|code| hookprobe_verifier::explain::meaning(code).is_none())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    assert!(missing.is_empty(), "not in codes.tsv: {missing:?}");
}
