//! Structures of a real TPM implementation: parsed, verified and computed again to the same bytes.

#![expect(clippy::unwrap_used, reason = "a failure in a helper is a failed test")]

mod support;

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::{PcrIndex, extend},
    policy::{Purpose, ReleaseKey, authorized_policy, pcr_policy},
    public::EndorsementKey,
    quote::{AttestationKey, Binding, Quote, QuoteError},
};
use proptest::prelude::*;
use support::{RELEASE_PEM, swtpm};

/// What the fixture's quote was made for.
fn binding() -> Binding {
    Binding {
        nonce: (0..32).collect::<Vec<u8>>().into(),
        exporter: None,
        node: None,
        epoch: 7,
        length: 0,
        head: None,
        root: None,
    }
}

fn quote() -> Quote {
    Quote { attest: swtpm("attest").into(), signature: swtpm("signature").into() }
}

fn key() -> AttestationKey {
    AttestationKey::from_public(&swtpm("ak_public")).unwrap()
}

fn index(number: u8) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

#[test]
fn a_quote_of_a_tpm_is_verified_and_read() {
    let quote = quote().verify(&key(), &binding()).unwrap();
    assert_eq!(key().name().as_bytes(), swtpm("ak_name"));
    assert_eq!(&quote.signer, key().name());
    assert_eq!(
        quote.selection,
        [
            (HashAlg::Sha256, vec![index(0), index(7), index(11), index(13)]),
            (HashAlg::Sha384, vec![index(11)])
        ]
    );
    assert_eq!(
        (quote.clock.reset_count, quote.clock.restart_count, quote.clock.safe),
        (2, 0, true)
    );
    let registers = [
        Digest::zero(HashAlg::Sha256),
        Digest::zero(HashAlg::Sha256),
        extended(b"a"),
        extended(b"b"),
        Digest::zero(HashAlg::Sha384),
    ];
    let parts: Vec<&[u8]> = registers.iter().map(Digest::as_bytes).collect();
    assert_eq!(quote.pcr_digest, HashAlg::Sha256.digest(&parts).as_bytes());
}

fn extended(content: &[u8]) -> Digest {
    extend(&Digest::zero(HashAlg::Sha256), &HashAlg::Sha256.digest(&[content]))
}

#[test]
fn the_signer_of_a_quote_has_its_parents_in_its_name() {
    let ek = EndorsementKey::from_public(&swtpm("ek_public")).unwrap();
    let qualified = ek.qualified_child(key().name());
    assert_eq!(qualified.as_bytes(), swtpm("ak_qualified_name"));
    assert_eq!(quote().verify(&key(), &binding()).unwrap().qualified_signer, qualified);
}

#[test]
fn another_challenge_and_another_key_are_refused() {
    let mut other = binding();
    other.epoch += 1;
    assert_eq!(quote().verify(&key(), &other), Err(QuoteError::ExtraData));
    let mut with_exporter = binding();
    with_exporter.exporter = Some(vec![0; 32].into());
    assert_eq!(quote().verify(&key(), &with_exporter), Err(QuoteError::ExtraData));
    // The signature decides before anything in the structure does.
    let mut garbage = quote();
    garbage.attest = vec![0; 10].into();
    assert_eq!(garbage.verify(&key(), &binding()), Err(QuoteError::Signature));
}

#[test]
fn keys_that_could_sign_what_others_made_are_refused() {
    let check = |at: usize, bits: u8, expect: &str| {
        let mut public = swtpm("ak_public");
        public[at] ^= bits;
        let error = AttestationKey::from_public(&public).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    // Attributes are bytes 4 to 7: fixedTPM, fixedParent, sensitiveDataOrigin; restricted, decrypt,
    // sign; encryptedDuplication.
    for (at, bit) in [(7, 0x02), (7, 0x10), (7, 0x20), (5, 0x01), (5, 0x02), (5, 0x04), (6, 0x08)] {
        check(at, bit, "not restricted, signing only");
    }
    check(1, 0x22, "of another type");
    check(3, 0x07, "not by SHA-256");
    check(11, 0x16, "symmetric");
    check(13, 0x02, "not ECDSA with SHA-256 on P-256");
    check(40, 0x01, "no point on P-256");
    let mut longer = swtpm("ak_public");
    longer.push(0);
    assert!(AttestationKey::from_public(&longer).is_err());
    assert!(AttestationKey::from_public(&swtpm("ek_public")).is_err());
    assert!(EndorsementKey::from_public(&swtpm("ak_public")).is_err());
}

#[test]
fn policies_are_what_a_tpm_computes() {
    let release = ReleaseKey::from_pem(RELEASE_PEM).unwrap();
    assert_eq!(release.name(), swtpm("release_name"));
    for purpose in Purpose::ALL {
        let word = purpose.word();
        for bank in HashAlg::ALL {
            let values: Vec<(PcrIndex, Digest)> = purpose
                .pcrs()
                .iter()
                .map(|number| {
                    let value = match (bank, number) {
                        (HashAlg::Sha256, 11) => extended(b"a"),
                        (HashAlg::Sha256, 13) => extended(b"b"),
                        _ => Digest::zero(bank),
                    };
                    (index(*number), value)
                })
                .collect();
            let digest = pcr_policy(purpose, &values).unwrap();
            assert_eq!(digest.as_slice(), swtpm(&format!("{word}.{bank}")), "{word} {bank}");
            assert!(pcr_policy(purpose, &values[1..]).is_err());
            let mut mixed = values;
            mixed[0].1 =
                HashAlg::ALL.into_iter().find(|other| *other != bank).map(Digest::zero).unwrap();
            assert!(pcr_policy(purpose, &mixed).is_err());
        }
        let authorized = authorized_policy(&release, purpose, 3);
        assert_eq!(authorized.as_slice(), swtpm(&format!("{word}.authorized")));
        assert_ne!(authorized, authorized_policy(&release, purpose, 2));
    }
    assert!(ReleaseKey::from_pem("").is_err());
    assert!(ReleaseKey::from_pem(&RELEASE_PEM.replace("MFkw", "MFkx")).is_err());
}

proptest! {
    #[test]
    fn mutations_never_panic_and_never_verify(
        which in 0usize..3,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in 0usize..20,
    ) {
        let mut parts = [swtpm("attest"), swtpm("signature"), swtpm("ak_public")];
        let original = parts.clone();
        let position = at.index(parts[which].len());
        parts[which][position] = byte;
        let length = parts[which].len() - cut;
        parts[which].truncate(length);
        let changed = parts != original;
        let [attest, signature, public] = parts;
        let quote = Quote { attest: attest.into(), signature: signature.into() };
        let verified =
            AttestationKey::from_public(&public).and_then(|key| quote.verify(&key, &binding()));
        // userWithAuth, adminWithPolicy and the like do not change what the key can sign, only its
        // name: whoever pinned the name sees it.
        let same_name = |quote: &hookprobe_evidence::quote::VerifiedQuote| {
            quote.signer.as_bytes() == swtpm("ak_name")
        };
        prop_assert!(!changed || !verified.as_ref().is_ok_and(same_name));
        let mut ek = swtpm("ek_public");
        let position = at.index(ek.len());
        ek[position] = byte;
        let _ = EndorsementKey::from_public(ek.get(..ek.len() - cut).unwrap());
    }
}
