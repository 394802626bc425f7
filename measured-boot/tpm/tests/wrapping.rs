//! Wrapping keys on a real TPM 2.0 (libtpms): what `evidence` computes is what the TPM computes, and
//! only the state that the release signed gets the key.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failed test")]

mod release;
mod support;

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    policy::{self, Purpose, SignedPolicy},
};
use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::{
    Context, Trust, TrustError,
    seal::{self, SealError, Sealed},
};
use release::Release;
use support::left_over;
use tss_esapi::{
    constants::{SessionType, StructureTag, response_code::Tss2ResponseCodeKind},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        EccParameter, EccSignature, MaxBuffer, Name, Nonce, PcrSelectionListBuilder, PcrSlot,
        Public, Signature, SymmetricDefinition, VerifiedTicket,
    },
    tcti_ldr::TctiNameConf,
    traits::UnMarshall,
    tss2_esys::TPMT_TK_VERIFIED,
};

/// The registers of `purpose` in one bank, as they are.
fn state(tpm: &mut Context, purpose: Purpose, bank: HashAlg) -> Vec<(PcrIndex, Digest)> {
    let indexes: Vec<_> = purpose.pcrs().iter().filter_map(|index| PcrIndex::new(*index)).collect();
    let values = tpm.pcr_read(&[bank], &indexes).unwrap();
    values.into_iter().map(|((_, index), value)| (index, value)).collect()
}

/// What a composer signs for an image of generation `generations` whose state is the present one.
fn policies(tpm: &mut Context, release: &Release, generations: u32) -> Vec<SignedPolicy> {
    let mut out = Vec::new();
    for purpose in Purpose::ALL {
        let values = state(tpm, purpose, HashAlg::Sha256);
        out.extend((1..=generations).map(|generation| release.sign(purpose, generation, &values)));
    }
    out
}

fn extend(tpm: &mut Context, index: u8) {
    let digests = [HashAlg::Sha256.digest(&[b"more"])];
    tpm.extend(PcrIndex::new(index).unwrap(), &digests).unwrap();
}

fn session(esys: &mut tss_esapi::Context, kind: SessionType) -> AuthSession {
    let symmetric = SymmetricDefinition::AES_128_CFB;
    esys.start_auth_session(None, None, None, kind, symmetric, HashingAlgorithm::Sha256)
        .unwrap()
        .unwrap()
}

fn raw(swtpm: &Swtpm) -> tss_esapi::Context {
    let name: TctiNameConf = swtpm.tcti().parse().unwrap();
    tss_esapi::Context::new(name).unwrap()
}

fn algorithm(bank: HashAlg) -> HashingAlgorithm {
    HashingAlgorithm::try_from(bank as u16).unwrap()
}

fn kind(error: tss_esapi::Error) -> Option<Tss2ResponseCodeKind> {
    match error {
        tss_esapi::Error::Tss2Error(code) => code.kind(),
        tss_esapi::Error::WrapperError(_) => None,
    }
}

fn no_ticket() -> VerifiedTicket {
    VerifiedTicket::try_from(TPMT_TK_VERIFIED {
        tag: StructureTag::Verified.into(),
        hierarchy: tss_esapi::constants::tss::TPM2_RH_NULL,
        digest: Default::default(),
    })
    .unwrap()
}

fn policy_pcr(
    esys: &mut tss_esapi::Context,
    policy: PolicySession,
    purpose: Purpose,
    bank: HashAlg,
) {
    let slots: Vec<_> =
        purpose.pcrs().iter().map(|index| PcrSlot::try_from(1u32 << index).unwrap()).collect();
    let selection =
        PcrSelectionListBuilder::new().with_selection(algorithm(bank), &slots).build().unwrap();
    esys.policy_pcr(policy, tss_esapi::structures::Digest::default(), selection).unwrap();
}

#[test]
fn trial_sessions_compute_what_evidence_computes() {
    let Some(swtpm) = Swtpm::start("sha1,sha256,sha384,sha512") else {
        return;
    };
    let release = Release::new(1).key();
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let digests = HashAlg::ALL.map(|bank| bank.digest(&[b"measured"]));
    tpm.extend(PcrIndex::UKI, &digests).unwrap();
    tpm.extend(PcrIndex::SERVICES, &digests).unwrap();
    let mut states = Vec::new();
    for bank in HashAlg::ALL {
        for purpose in Purpose::ALL {
            states.push((bank, purpose, state(&mut tpm, purpose, bank)));
        }
    }
    drop(tpm);

    let mut esys = raw(&swtpm);
    let key = Public::unmarshall(&release.public_area()).unwrap();
    let key = esys.load_external_public(key, Hierarchy::Owner).unwrap();
    let name = esys.tr_get_name(key.into()).unwrap();
    assert_eq!(name.value(), release.name());
    esys.flush_context(key.into()).unwrap();
    for (bank, purpose, values) in states {
        let trial = session(&mut esys, SessionType::Trial);
        let policy = PolicySession::try_from(trial).unwrap();
        policy_pcr(&mut esys, policy, purpose, bank);
        let digest = esys.policy_get_digest(policy).unwrap();
        let expected = policy::pcr_policy(purpose, &values).unwrap();
        assert_eq!(digest.value(), expected, "{bank} {purpose:?}");
        let reference = Nonce::try_from(purpose.reference(7)).unwrap();
        esys.policy_authorize(policy, digest, reference, &name, no_ticket()).unwrap();
        let digest = esys.policy_get_digest(policy).unwrap();
        let expected = policy::authorized_policy(&release, purpose, 7);
        assert_eq!(digest.value(), expected, "{purpose:?}");
        esys.flush_context(tss_esapi::handles::SessionHandle::from(trial).into()).unwrap();
    }
}

#[test]
fn only_the_signed_state_gets_the_key() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let release = Release::new(1);
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let signed = policies(&mut tpm, &release, 2);
    let key = |tpm: &mut Context, purpose, generation, signed: &[SignedPolicy]| {
        tpm.wrapping_key(&release.key(), purpose, generation, signed).map(|key| *key.expose())
    };
    tpm.banks().unwrap();
    tpm.endorsement().unwrap();
    let before = tpm.commands();
    let volume = key(&mut tpm, Purpose::Volume, 2, &signed).unwrap();
    // Banks and registers, three for the signature, four for the key, five for its use.
    assert_eq!(tpm.commands() - before, 14);
    assert_eq!(volume, key(&mut tpm, Purpose::Volume, 2, &signed).unwrap());
    let others = [(Purpose::Volume, 1), (Purpose::Ledger, 2), (Purpose::Ledger, 1)];
    let mut keys = vec![volume];
    for (purpose, generation) in others {
        keys.push(key(&mut tpm, purpose, generation, &signed).unwrap());
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4, "each purpose and generation has its own");

    // A generation that the image is not signed for; the same with the label forged.
    let error = key(&mut tpm, Purpose::Volume, 3, &signed).unwrap_err();
    assert!(matches!(error, TrustError::NoPolicy { generation: 3, .. }), "{error}");
    let forged: Vec<_> =
        signed.iter().cloned().map(|policy| SignedPolicy { generation: 3, ..policy }).collect();
    let error = key(&mut tpm, Purpose::Volume, 3, &forged).unwrap_err();
    assert!(matches!(error, TrustError::NoPolicy { generation: 3, .. }), "{error}");
    // Signed for the other purpose only; signed by another key.
    let ledger: Vec<_> =
        signed.iter().filter(|policy| policy.purpose == Purpose::Ledger).cloned().collect();
    let error = key(&mut tpm, Purpose::Volume, 1, &ledger).unwrap_err();
    assert!(matches!(error, TrustError::NoPolicy { purpose: "volume", .. }), "{error}");
    let foreign = policies(&mut tpm, &Release::new(2), 2);
    let error = key(&mut tpm, Purpose::Volume, 1, &foreign).unwrap_err();
    assert!(matches!(error, TrustError::NoPolicy { .. }), "{error}");
    // Behind the foreign one is ours: it is found.
    let both = [foreign, signed.clone()].concat();
    assert_eq!(volume, key(&mut tpm, Purpose::Volume, 2, &both).unwrap());

    // The site configuration (12) and the volume (15) end the volume's state, not the ledger's.
    let seed = key(&mut tpm, Purpose::Ledger, 2, &signed).unwrap();
    for index in [12, 15] {
        extend(&mut tpm, index);
        let error = key(&mut tpm, Purpose::Volume, 2, &signed).unwrap_err();
        assert!(matches!(error, TrustError::State { purpose: "volume", .. }), "{error}");
        assert_eq!(seed, key(&mut tpm, Purpose::Ledger, 2, &signed).unwrap());
    }
    extend(&mut tpm, 13);
    let error = key(&mut tpm, Purpose::Ledger, 2, &signed).unwrap_err();
    assert!(matches!(error, TrustError::State { purpose: "ledger", .. }), "{error}");
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);
}

#[test]
fn each_register_of_a_purpose_decides() {
    for purpose in Purpose::ALL {
        for index in purpose.pcrs() {
            let Some(swtpm) = Swtpm::start("sha256") else {
                return;
            };
            let release = Release::new(1);
            let mut tpm = Context::open(&swtpm.tcti()).unwrap();
            let signed = policies(&mut tpm, &release, 1);
            extend(&mut tpm, *index);
            let error = tpm.wrapping_key(&release.key(), purpose, 1, &signed).unwrap_err();
            assert!(matches!(error, TrustError::State { .. }), "{purpose:?} {index}: {error}");
        }
    }
}

/// The TPM itself refuses, whatever the software in front of it believes.
#[test]
fn the_tpm_enforces_the_policy() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let (release, purpose) = (Release::new(1), Purpose::Ledger);
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let approved = policy::pcr_policy(purpose, &state(&mut tpm, purpose, HashAlg::Sha256)).unwrap();
    drop(tpm);
    let mut esys = raw(&swtpm);
    let key = esys
        .execute_with_session(Some(AuthSession::Password), |esys| {
            let public = wrapping_public(&policy::authorized_policy(&release.key(), purpose, 1));
            esys.create_primary(Hierarchy::Owner, public, None, None, None, None)
        })
        .unwrap()
        .key_handle;
    let hmac = |esys: &mut tss_esapi::Context, session| {
        esys.execute_with_session(Some(session), |esys| {
            let message =
                MaxBuffer::try_from(b"hookprobe.wrap.v1\0ledger\x001".as_slice()).unwrap();
            esys.hmac(key.into(), message, HashingAlgorithm::Sha256)
        })
    };
    // No policy at all, and the empty password.
    let unsatisfied = session(&mut esys, SessionType::Policy);
    let error = hmac(&mut esys, unsatisfied).unwrap_err();
    assert_eq!(kind(error), Some(Tss2ResponseCodeKind::PolicyFail));
    let error = hmac(&mut esys, AuthSession::Password).unwrap_err();
    assert_eq!(kind(error), Some(Tss2ResponseCodeKind::AuthUnavailable));
    // The right registers, authorised by a ticket that this TPM did not give.
    let forged = PolicySession::try_from(session(&mut esys, SessionType::Policy)).unwrap();
    policy_pcr(&mut esys, forged, purpose, HashAlg::Sha256);
    let digest = tss_esapi::structures::Digest::try_from(approved.as_slice()).unwrap();
    let reference = Nonce::try_from(purpose.reference(1)).unwrap();
    let name = Name::try_from(release.key().name()).unwrap();
    let error = esys
        .policy_authorize(forged, digest.clone(), reference.clone(), &name, no_ticket())
        .unwrap_err();
    assert!(kind(error).is_some(), "{error}");
    assert!(hmac(&mut esys, forged.into()).is_err());
    esys.flush_context(tss_esapi::handles::SessionHandle::from(AuthSession::from(forged)).into())
        .unwrap();

    // A true ticket, and the signed state: the key works. One register later it does not, neither
    // with the session from before nor with a new one.
    let early = PolicySession::try_from(session(&mut esys, SessionType::Policy)).unwrap();
    policy_pcr(&mut esys, early, purpose, HashAlg::Sha256);
    let ticket = verify(&mut esys, &release, &approved, purpose);
    esys.policy_authorize(early, digest.clone(), reference.clone(), &name, ticket).unwrap();
    hmac(&mut esys, early.into()).unwrap();
    policy_pcr(&mut esys, early, purpose, HashAlg::Sha256);
    let ticket = verify(&mut esys, &release, &approved, purpose);
    esys.policy_authorize(early, digest.clone(), reference.clone(), &name, ticket).unwrap();
    esys.execute_with_session(Some(AuthSession::Password), |esys| {
        let mut values = tss_esapi::structures::DigestValues::new();
        values.set(HashingAlgorithm::Sha256, digest.clone());
        esys.pcr_extend(tss_esapi::handles::PcrHandle::Pcr13, values).unwrap();
    });
    let error = hmac(&mut esys, early.into()).unwrap_err();
    assert_eq!(kind(error), Some(Tss2ResponseCodeKind::PcrChanged));
    let late = PolicySession::try_from(session(&mut esys, SessionType::Policy)).unwrap();
    policy_pcr(&mut esys, late, purpose, HashAlg::Sha256);
    let ticket = verify(&mut esys, &release, &approved, purpose);
    let error = esys.policy_authorize(late, digest, reference, &name, ticket).unwrap_err();
    assert_eq!(kind(error), Some(Tss2ResponseCodeKind::Value));
}

/// The TPM's ticket for the release's signature of `approved`.
fn verify(
    esys: &mut tss_esapi::Context,
    release: &Release,
    approved: &[u8; 32],
    purpose: Purpose,
) -> VerifiedTicket {
    let public = Public::unmarshall(&release.key().public_area()).unwrap();
    let key = esys.load_external_public(public, Hierarchy::Owner).unwrap();
    let digest = policy::signed_digest(approved, purpose, 1);
    let digest = tss_esapi::structures::Digest::try_from(digest.as_slice()).unwrap();
    let bytes = release.sign_policy(approved, purpose, 1);
    let [r, s] = [&bytes[..32], &bytes[32..]].map(|half| EccParameter::try_from(half).unwrap());
    let signature = EccSignature::create(HashingAlgorithm::Sha256, r, s).unwrap();
    let ticket = esys.verify_signature(key, digest, Signature::EcDsa(signature)).unwrap();
    esys.flush_context(key.into()).unwrap();
    ticket
}

/// As in the contract: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, noDA, sign.
fn wrapping_public(policy: &[u8; 32]) -> Public {
    let mut bytes = vec![0x00, 0x08, 0x00, 0x0b, 0x00, 0x04, 0x04, 0xb2, 0x00, 0x20];
    bytes.extend(policy);
    bytes.extend([0x00, 0x05, 0x00, 0x0b, 0x00, 0x00]);
    Public::unmarshall(&bytes).unwrap()
}

#[test]
fn sealed_secrets_stay_with_their_tpm() {
    let (Some(one), Some(two)) = (Swtpm::start("sha256"), Swtpm::start("sha256")) else {
        return;
    };
    let release = Release::new(1);
    let key = |swtpm: &Swtpm| {
        let mut tpm = Context::open(&swtpm.tcti()).unwrap();
        let signed = policies(&mut tpm, &release, 1);
        tpm.wrapping_key(&release.key(), Purpose::Volume, 1, &signed).unwrap()
    };
    let sealed = seal::seal(&key(&one), Purpose::Volume, 1, b"passphrase", [1; 12]).unwrap();
    let sealed = Sealed::parse(&sealed.to_bytes()).unwrap();
    // A later connection makes the same key again.
    assert_eq!(seal::unseal(&key(&one), &sealed).unwrap().as_slice(), b"passphrase");
    assert_eq!(seal::unseal(&key(&two), &sealed).unwrap_err(), SealError::Foreign);
}

#[test]
fn without_sha256_the_first_bank_decides() {
    let Some(swtpm) = Swtpm::start("sha384,sha512") else {
        return;
    };
    let (release, purpose) = (Release::new(1), Purpose::Ledger);
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let values = state(&mut tpm, purpose, HashAlg::Sha384);
    let signed = [release.sign(purpose, 1, &values)];
    tpm.wrapping_key(&release.key(), purpose, 1, &signed).unwrap();
    tpm.extend(PcrIndex::UKI, &[HashAlg::Sha384.digest(&[b"more"])]).unwrap();
    let error = tpm.wrapping_key(&release.key(), purpose, 1, &signed).unwrap_err();
    assert!(matches!(error, TrustError::State { .. }), "{error}");
}
