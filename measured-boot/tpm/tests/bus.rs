//! Somebody on the wire between the processor and the TPM: reads no secret, changes no answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failed test")]

mod release;
mod support;
mod wiretap;

use hookprobe_evidence::{
    digest::HashAlg,
    pcr::PcrIndex,
    policy::{self, Purpose},
    quote::{AttestationKey, Binding},
};
use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::{Context, Trust, TrustError};
use release::Release;
use wiretap::Wiretap;

/// Command codes (Part 2, 6.5.2).
const ACTIVATE_CREDENTIAL: u32 = 0x0147;
const GET_TIME: u32 = 0x014c;
const NV_READ: u32 = 0x014e;
const HMAC: u32 = 0x0155;
const QUOTE: u32 = 0x0158;

fn registers(tpm: &mut Context) -> Vec<(PcrIndex, hookprobe_evidence::digest::Digest)> {
    let indexes = [PcrIndex::LOADER, PcrIndex::UKI, PcrIndex::SERVICES];
    let values = tpm.pcr_read(&[HashAlg::Sha256], &indexes).unwrap();
    values.into_iter().map(|((_, index), value)| (index, value)).collect()
}

#[test]
fn no_secret_crosses_the_wire_in_the_clear() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let tap = Wiretap::on(&swtpm);
    let release = Release::new(1);
    let mut tpm = Context::open(&tap.tcti()).unwrap();
    let values = registers(&mut tpm);
    let signed = [release.sign(Purpose::Ledger, 1, &values)];
    let key = tpm.wrapping_key(&release.key(), Purpose::Ledger, 1, &signed).unwrap();
    // The recorder works: what is no secret is there.
    assert!(tap.saw(&policy::authorized_policy(&release.key(), Purpose::Ledger, 1)));
    assert!(tap.saw(&policy::pcr_policy(Purpose::Ledger, &values).unwrap()));
    assert!(!tap.saw(key.expose()));
    assert!(!tap.saw(&key.expose()[..8]));
}

/// After a changed answer tpm2-tss gives the connection up; the kernel then frees what was in the
/// TPM for it. swtpm has nobody who does, so each command gets a TPM of its own.
#[test]
fn a_changed_answer_is_refused() {
    let release = Release::new(1);
    for command in [GET_TIME, NV_READ, HMAC, ACTIVATE_CREDENTIAL] {
        let Some(swtpm) = Swtpm::start("sha256") else {
            return;
        };
        let tap = Wiretap::on(&swtpm);
        let mut tpm = Context::open(&tap.tcti()).unwrap();
        tpm.create_ak().unwrap();
        tpm.next_epoch().unwrap();
        let signed = [release.sign(Purpose::Ledger, 1, &registers(&mut tpm))];
        let mut ask = || -> Result<(), TrustError> {
            match command {
                ACTIVATE_CREDENTIAL => tpm.create_ak().map(drop),
                GET_TIME => tpm.clock().map(drop),
                NV_READ => tpm.epoch().map(drop),
                HMAC => tpm.wrapping_key(&release.key(), Purpose::Ledger, 1, &signed).map(drop),
                other => panic!("{other:#x}"),
            }
        };
        ask().unwrap();
        tap.change(command);
        let error = ask().unwrap_err();
        assert!(error.to_string().starts_with("HP-TP-110"), "{command:#x}: {error}");
    }
}

/// A quote is in no session: what is changed in it comes through, and no verifier takes it.
#[test]
fn a_changed_quote_is_refused_by_whoever_verifies_it() {
    let selection = vec![(HashAlg::Sha256, vec![PcrIndex::SERVICES])];
    let binding = Binding {
        nonce: vec![1; 32].into(),
        exporter: None,
        node: None,
        epoch: 1,
        length: 0,
        head: None,
        root: None,
    };
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let tap = Wiretap::on(&swtpm);
    let mut tpm = Context::open(&tap.tcti()).unwrap();
    let key = AttestationKey::from_public(&tpm.create_ak().unwrap().public).unwrap();
    let good = tpm.quote(&selection, &binding.extra_data()).unwrap();
    good.quote.verify(&key, &binding).unwrap();
    // Behind header, size of the parameters and size of the attestation: its key's name, the
    // challenge, the clock, the digest of the registers, the signature.
    let length = good.quote.attest.len();
    let signature = 16 + length + 4;
    let at = [16 + 10, 16 + 50, 16 + 84, 16 + length - 1, signature + 4, signature + 40];
    for byte in at {
        tap.change_at(QUOTE, byte);
        match tpm.quote(&selection, &binding.extra_data()) {
            // The challenge, or registers that are not those of the quote.
            Err(error) => {
                let text = error.to_string();
                assert!(["HP-TP-11", "HP-TP-10"].iter().any(|c| text.starts_with(c)), "{text}");
            }
            Ok(quoted) => {
                assert!(quoted.quote.verify(&key, &binding).is_err(), "byte {byte}");
            }
        }
    }
    tap.change_at(0, 0);
    let again = tpm.quote(&selection, &binding.extra_data()).unwrap();
    again.quote.verify(&key, &binding).unwrap();
}
