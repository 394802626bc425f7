//! Somebody on the wire between the processor and the TPM: reads no secret, changes no answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failed test")]

mod release;
mod support;
mod wiretap;

use hookprobe_evidence::{
    digest::HashAlg,
    pcr::PcrIndex,
    policy::{self, Purpose},
};
use hookprobe_tpm::{Context, Trust, TrustError};
use release::Release;
use support::Swtpm;
use wiretap::Wiretap;

/// Command codes (Part 2, 6.5.2).
const ACTIVATE_CREDENTIAL: u32 = 0x0147;
const GET_TIME: u32 = 0x014c;
const NV_READ: u32 = 0x014e;
const HMAC: u32 = 0x0155;
const QUOTE: u32 = 0x0158;

fn registers(tpm: &mut Context) -> Vec<(PcrIndex, hookprobe_evidence::digest::Digest)> {
    let indexes = [PcrIndex::UKI, PcrIndex::SERVICES];
    let values = tpm.pcr_read(&[HashAlg::Sha256], &indexes).unwrap();
    values.into_iter().map(|((_, index), value)| (index, value)).collect()
}

#[test]
fn no_secret_crosses_the_wire_in_the_clear() {
    let Some(swtpm) = Swtpm::start_booted("sha256") else {
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
    let selection = vec![(HashAlg::Sha256, vec![PcrIndex::SERVICES])];
    for command in [GET_TIME, NV_READ, HMAC, QUOTE, ACTIVATE_CREDENTIAL] {
        let Some(swtpm) = Swtpm::start_booted("sha256") else {
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
                QUOTE => tpm.quote(&selection, &[0; 32]).map(drop),
                other => panic!("{other:#x}"),
            }
        };
        ask().unwrap();
        tap.change(command);
        let error = ask().unwrap_err();
        assert!(error.to_string().starts_with("HP-TP-110"), "{command:#x}: {error}");
    }
}
