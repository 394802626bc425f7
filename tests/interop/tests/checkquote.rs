//! tpm2_checkquote (tpm2-tools) accepts a quote over the registers that a merged log leads to, and
//! our own verification accepts the same bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a failure fails the test")]

use std::{fs, process::Command};

use hookprobe_evidence::{
    bundle::Evidence,
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    quote::{AttestationKey, Binding},
    tcg::ReplayedLog,
};
use hookprobe_interop::{fixture, output};
use hookprobe_swtpm::{Swtpm, available};
use hookprobe_tpm::{Context, trust::Trust};
use p256::pkcs8::{EncodePublicKey, LineEnding};

#[test]
fn a_quote_over_a_merged_log() {
    if !available("tpm2_checkquote", "tpm2-tools") {
        return;
    }
    let fixture = fixture::logs();
    let bank = HashAlg::Sha256;
    let Some(swtpm) = Swtpm::start("sha1,sha256,sha384,sha512") else {
        return;
    };
    let mut values: Vec<(PcrIndex, Digest)> =
        fixture.values.iter().filter(|(_, value)| value.alg() == bank).cloned().collect();
    // As above: a box's register 0 depends on the locality of TPM2_Startup.
    values.retain(|(index, _)| !fixture.real || index.get() != 0);
    values.sort();
    let replayed = ReplayedLog::replay(&fixture.merged, &values).unwrap();
    assert_eq!(replayed.failures(), []);

    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    for event in replayed.events() {
        tpm.extend(event.event.pcr, &event.event.digests).unwrap();
    }
    let ak = tpm.create_ak().unwrap();
    let binding = Binding {
        nonce: b"0123456789abcdef".to_vec().into(),
        exporter: None,
        node: Some(vec![7; 32].into()),
        epoch: 3,
        length: 0,
        head: None,
        root: None,
    };
    let indexes: Vec<PcrIndex> = values.iter().map(|(index, _)| *index).collect();
    let quoted = tpm.quote(&vec![(bank, indexes.clone())], &binding.extra_data()).unwrap();
    drop(tpm);

    let key = AttestationKey::from_public(&ak.public).unwrap();
    let verified = quoted.quote.verify(&key, &binding).unwrap();
    let concatenated: Vec<u8> =
        values.iter().flat_map(|(_, value)| value.as_bytes().to_vec()).collect();
    assert_eq!(verified.pcr_digest, bank.digest(&[&concatenated]).as_bytes(), "log and TPM differ");

    let file = |name: &str, bytes: &[u8]| {
        let path = swtpm.folder().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let pem = key.key().to_public_key_pem(LineEnding::LF).unwrap();
    let nonce: String = binding.extra_data().iter().map(|byte| format!("{byte:02x}")).collect();
    let check = |values: &[(PcrIndex, Digest)], nonce: &str| {
        let mut command = Command::new("tpm2_checkquote");
        command.arg("-u").arg(file("ak.pem", pem.as_bytes()));
        command.arg("-m").arg(file("quote.msg", &quoted.quote.attest));
        command.arg("-s").arg(file("quote.sig", &quoted.quote.signature));
        command.arg("-f").arg(file("pcrs.bin", &values_file(values)));
        command.args(["-g", "sha256", "-q", nonce]);
        command
    };
    let said = output(&mut check(&values, &nonce));
    println!("tpm2_checkquote accepts a quote over {} registers\n{said}", values.len());

    let mut other = values.clone();
    other[0].1 = bank.digest(&[b"another"]);
    assert!(!check(&other, &nonce).output().unwrap().status.success(), "another register");
    let other = nonce.replace('0', "1");
    assert!(!check(&values, &other).output().unwrap().status.success(), "another nonce");
}

/// What a booted box signed, by its own attestation key for the challenge of `cargo xtask test`.
#[test]
fn the_quote_of_a_booted_box() {
    let Ok(bytes) = fs::read(fixture::folder().join("evidence.cbor")) else {
        println!("skipped: no evidence of a booted box; run `cargo xtask test`");
        return;
    };
    if !available("tpm2_checkquote", "tpm2-tools") {
        return;
    }
    let evidence = Evidence::parse(&bytes).unwrap();
    let key = AttestationKey::from_public(&evidence.ak_public).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let pem = key.key().to_public_key_pem(LineEnding::LF).unwrap();
    let check = |nonce: &[u8]| {
        let mut command = Command::new("tpm2_checkquote");
        command.arg("-u").arg(file("ak.pem", pem.as_bytes()));
        command.arg("-m").arg(file("quote.msg", &evidence.quote.attest));
        command.arg("-s").arg(file("quote.sig", &evidence.quote.signature));
        let hex: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        command.args(["-g", "sha256", "-q", &hex]);
        command
    };
    let mut nonce = evidence.binding.extra_data().to_vec();
    let said = output(&mut check(&nonce));
    println!("tpm2_checkquote accepts the quote of a booted box\n{said}");
    nonce[0] ^= 1;
    assert!(!check(&nonce).output().unwrap().status.success(), "another nonce");
}

/// The file that tpm2_quote writes with `-o`: TPML_PCR_SELECTION, the number of lists, and one
/// TPML_DIGEST for eight registers each, all as tpm2-tss holds them in memory on a little-endian
/// machine.
fn values_file(values: &[(PcrIndex, Digest)]) -> Vec<u8> {
    const LIST_MAX: usize = 8;
    const BANKS_MAX: usize = 16;
    const DIGEST_BYTES_MAX: usize = 64;
    let mut select = [0u8; 4];
    for (index, _) in values {
        select[usize::from(index.get() / 8)] |= 1 << (index.get() % 8);
    }
    let mut out = 1u32.to_le_bytes().to_vec();
    out.extend((HashAlg::Sha256 as u16).to_le_bytes());
    // sizeofSelect, pcrSelect, and a byte of padding.
    out.extend([3, select[0], select[1], select[2], select[3], 0]);
    out.resize(4 + BANKS_MAX * 8, 0);
    let lists = values.chunks(LIST_MAX);
    out.extend((lists.len() as u32).to_le_bytes());
    for list in lists {
        out.extend((list.len() as u32).to_le_bytes());
        for at in 0..LIST_MAX {
            let digest = list.get(at).map_or(&[][..], |(_, digest)| digest.as_bytes());
            out.extend((digest.len() as u16).to_le_bytes());
            out.extend(digest);
            out.resize(out.len() + DIGEST_BYTES_MAX - digest.len(), 0);
        }
    }
    out
}
