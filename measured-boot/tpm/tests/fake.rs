//! The fake TPM: its quotes are real ones, its registers decide, and it fails where it is told to.

mod release;

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    policy::Purpose,
    quote::{AttestationKey, Binding, QuoteError},
};
use hookprobe_tpm::{
    Trust, TrustError,
    fake::Fake,
    trust::{AkBlob, Selection},
};
use release::Release;

fn selection() -> Selection {
    vec![
        (HashAlg::Sha256, vec![PcrIndex::UKI, PcrIndex::SERVICES]),
        (HashAlg::Sha384, vec![PcrIndex::SERVICES]),
    ]
}

fn binding(nonce: u8) -> Binding {
    Binding {
        nonce: vec![nonce; 16].into(),
        exporter: None,
        node: None,
        epoch: 1,
        length: 0,
        head: None,
        root: None,
    }
}

fn state(fake: &Fake, purpose: Purpose) -> Vec<(PcrIndex, Digest)> {
    purpose
        .pcrs()
        .iter()
        .filter_map(|index| PcrIndex::new(*index))
        .map(|index| (index, fake.pcr(HashAlg::Sha256, index)))
        .collect()
}

#[test]
fn evidence_verifies_a_fake_quote() {
    let mut fake = Fake::new([1; 32]);
    fake.extend(PcrIndex::SERVICES, b"sensor");
    let blob = fake.create_ak().unwrap();
    let key = AttestationKey::from_public(&blob.public).unwrap();
    let quoted = fake.quote(&selection(), &binding(1).extra_data()).unwrap();
    let verified = quoted.quote.verify(&key, &binding(1)).unwrap();
    assert_eq!(verified.selection, selection());
    assert_eq!(verified.clock.reset_count, 1);
    let values: Vec<&[u8]> = quoted.pcrs.iter().map(|claim| claim.digest.as_slice()).collect();
    assert_eq!(verified.pcr_digest, HashAlg::Sha256.digest(&values).as_bytes());
    assert_eq!(quoted.quote.verify(&key, &binding(2)).unwrap_err(), QuoteError::ExtraData);

    let other = AttestationKey::from_public(&fake.create_ak().unwrap().public).unwrap();
    assert_eq!(quoted.quote.verify(&other, &binding(1)).unwrap_err(), QuoteError::Signature);
}

#[test]
fn keys_belong_to_one_fake() {
    let mut fake = Fake::new([1; 32]);
    let blob = fake.create_ak().unwrap();
    fake.reset();
    assert!(fake.quote(&selection(), &[0; 32]).is_err(), "nothing is loaded after a reset");
    fake.load_ak(&blob).unwrap();
    fake.quote(&selection(), &[0; 32]).unwrap();
    let mut other = Fake::new([2; 32]);
    assert!(matches!(other.load_ak(&blob).unwrap_err(), TrustError::ForeignKey));
    let cut = AkBlob { private: vec![0], ..blob };
    assert!(matches!(fake.load_ak(&cut).unwrap_err(), TrustError::ForeignKey));
    assert_ne!(fake.endorsement().unwrap(), other.endorsement().unwrap());
}

#[test]
fn registers_decide_about_wrapping_keys() {
    let release = Release::new(1);
    let mut fake = Fake::new([1; 32]);
    fake.extend(PcrIndex::UKI, b"blob");
    let policies = [release.sign(Purpose::Volume, 1, &state(&fake, Purpose::Volume))];
    let key = |fake: &mut Fake, generation| {
        fake.wrapping_key(&release.key(), Purpose::Volume, generation, &policies)
    };
    let first = *key(&mut fake, 1).unwrap().expose();
    assert_eq!(first, *key(&mut fake, 1).unwrap().expose());
    assert!(matches!(key(&mut fake, 2).unwrap_err(), TrustError::NoPolicy { .. }));
    let foreign = Release::new(2);
    let error = fake.wrapping_key(&foreign.key(), Purpose::Volume, 1, &policies).unwrap_err();
    assert!(matches!(error, TrustError::NoPolicy { .. }));
    fake.extend(PcrIndex::UKI, b"phase");
    assert!(matches!(key(&mut fake, 1).unwrap_err(), TrustError::State { .. }));
}

/// Everything that `attest` does with it, once.
fn boot(fake: &mut Fake, release: &Release) -> Result<(), TrustError> {
    let policies = [release.sign(Purpose::Ledger, 1, &state(fake, Purpose::Ledger))];
    fake.banks()?;
    fake.maker()?;
    fake.clock()?;
    fake.endorsement()?;
    let blob = fake.create_ak()?;
    fake.load_ak(&blob)?;
    fake.expect_credential(b"credential", b"secret", b"answer");
    assert_eq!(fake.activate(b"credential", b"secret")?, b"answer");
    fake.epoch()?;
    fake.next_epoch()?;
    fake.wrapping_key(&release.key(), Purpose::Ledger, 1, &policies)?;
    fake.quote(&selection(), &[0; 32])?;
    Ok(())
}

#[test]
fn each_step_can_fail() {
    let release = Release::new(1);
    let mut fake = Fake::new([1; 32]);
    boot(&mut fake, &release).unwrap();
    let steps = fake.steps();
    assert_eq!(steps, 11, "one step per call");
    for step in 0..steps {
        let mut fake = Fake::new([1; 32]);
        fake.fail_at(step);
        let error = boot(&mut fake, &release).unwrap_err();
        assert!(matches!(error, TrustError::Fake { step: at } if at == step), "{step}: {error}");
        // One failure is not the end of it.
        boot(&mut fake, &release).unwrap();
    }
}

#[test]
fn registers_that_move_are_quoted_again_and_not_for_ever() {
    let mut fake = Fake::new([1; 32]);
    fake.create_ak().unwrap();
    fake.moves(2);
    assert_eq!(fake.quote(&selection(), &[0; 32]).unwrap().retries, 2);
    fake.moves(100);
    let error = fake.quote(&selection(), &[0; 32]).unwrap_err();
    assert!(error.to_string().starts_with("HP-TP-106"), "{error}");
}
