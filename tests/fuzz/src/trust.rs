//! Targets of everything that a verifier reads from a box, and the box from a verifier.
//!
//! What stands behind a signature is fuzzed behind a *valid* signature: the target signs the mutated
//! bytes with a key of its own, because a parser that only honest TPMs reach is still reached by a
//! dishonest one.

use hookprobe_evidence::{
    bundle::Evidence,
    digest::HashAlg,
    endorsement::{Certificate, CertificateError, revocation::RevocationList},
    policy::ReleaseKey,
    public::EndorsementKey,
    quote::{AttestationKey, Quote, QuoteError},
    sample, signed,
    tcg::{self, ReplayedLog, TcgLog},
};
use hookprobe_verifier::{chain::Chain, disk};
use hookprobe_wire::{attest, export, frame, qr, unlock};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};

use crate::{Outcome, trust_seeds as seeds};

/// A key of the targets: never one of a release or a TPM.
pub(crate) fn signing_key() -> SigningKey {
    // A constant below the group's order: there is no error to have, and without a key there is
    // nothing to fuzz.
    #[expect(clippy::expect_used, reason = "a constant that is a valid scalar")]
    SigningKey::from_slice(&[0x17; 32]).expect("a valid scalar")
}

/// r and s of a signature.
pub(crate) fn sign(message: &[u8]) -> [u8; 64] {
    let signature: Signature = signing_key().sign(message);
    signature.to_bytes().into()
}

/// A signature as a TPM gives it.
pub(crate) fn tpmt_signature(message: &[u8]) -> Vec<u8> {
    let rs = sign(message);
    let mut out = vec![0x00, 0x18, 0x00, 0x0b];
    for number in rs.chunks(32) {
        out.extend([0, 32]);
        out.extend(number);
    }
    out
}

/// TPMT_PUBLIC of an attestation key with [`signing_key`].
pub(crate) fn ak_public() -> Vec<u8> {
    let point = signing_key().verifying_key().to_sec1_point(false);
    let mut out = vec![0x00, 0x23, 0x00, 0x0b];
    // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
    out.extend((0x0005_0072u32).to_be_bytes());
    out.extend([0, 0]);
    for word in [0x0010u16, 0x0018, 0x000b, 0x0003, 0x0010] {
        out.extend(word.to_be_bytes());
    }
    for coordinate in point.as_bytes().get(1..).unwrap_or_default().chunks(32) {
        out.extend([0, 32]);
        out.extend(coordinate);
    }
    out
}

/// TPMS_ATTEST, signed.
pub(crate) fn tpms_attest(bytes: &[u8]) -> Outcome {
    let Ok(key) = AttestationKey::from_public(&ak_public()) else {
        panic!("the target's own key is refused");
    };
    let quote = Quote { attest: bytes.to_vec().into(), signature: tpmt_signature(bytes).into() };
    let binding = seeds::binding();
    let verified = quote.verify(&key, &binding);
    assert_ne!(verified, Err(QuoteError::Signature), "a valid signature is refused");
    if let Ok(verified) = &verified {
        assert_eq!(verified.extra_data, binding.extra_data());
        assert!(bytes.starts_with(&[0xff, b'T', b'C', b'G', 0x80, 0x18]), "no quote of a TPM");
    }
    outcome_of(&verified.map(|_| ()))
}

/// TPMT_SIGNATURE over a quote that does not change.
pub(crate) fn tpmt_signatures(bytes: &[u8]) -> Outcome {
    let Ok(key) = AttestationKey::from_public(&ak_public()) else {
        panic!("the target's own key is refused");
    };
    let attest = seeds::attest();
    let quote = Quote { attest: attest.clone().into(), signature: bytes.to_vec().into() };
    let verified = quote.verify(&key, &seeds::binding());
    if verified.is_ok() {
        // Of all signatures only this one is known: nobody else has the key.
        let rs = sign(&attest);
        let same = bytes.windows(32).any(|part| part == &rs[..32]);
        assert!(same, "a forged signature verifies");
    }
    outcome_of(&verified.map(|_| ()))
}

/// TPMT_PUBLIC of either kind.
pub(crate) fn tpmt_public(bytes: &[u8]) -> Outcome {
    let ak = AttestationKey::from_public(bytes);
    let ek = EndorsementKey::from_public(bytes);
    assert!(ak.is_err() || ek.is_err(), "one key is both");
    if let Ok(ak) = &ak {
        // Restricted, signing, and nothing else.
        let attributes = bytes.get(4..8).and_then(|bytes| bytes.try_into().ok());
        let attributes = attributes.map_or(0, u32::from_be_bytes);
        assert_eq!(attributes & 0x0007_0032, 0x0005_0032, "no attestation key");
        assert_eq!(ak.name().as_bytes().len(), 34);
    }
    let text = |error: Option<QuoteError>| error.map_or("ok".into(), |error| error.to_string());
    Outcome::of(&format!("{} {}", text(ak.err()), text(ek.err())))
}

/// A firmware's event log: parsed, replayed, and continued by ours.
pub(crate) fn tcg_log(bytes: &[u8]) -> Outcome {
    let parsed = TcgLog::parse(bytes);
    let quoted = seeds::quoted();
    let replayed = ReplayedLog::replay(bytes, &quoted);
    assert_eq!(parsed.is_ok(), replayed.is_ok());
    if let Ok(replayed) = &replayed {
        // An event that is shown belongs to a register that the quote explains.
        for event in replayed.events() {
            let pcr = event.event.pcr;
            assert!(quoted.iter().any(|(index, _)| *index == pcr));
            assert!(!replayed.failures().iter().any(|failure| failure.pcr() == pcr));
            assert!(
                event.event.name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
                    || event.event.name.starts_with("variable:")
            );
        }
    }
    let merged = tcg::merge(bytes, &seeds::own_events(), &[HashAlg::Sha256]);
    assert!(TcgLog::parse(&merged).is_ok(), "what is written can't be read");
    outcome_of(&replayed.map(|log| log.failures().len().min(8)))
}

/// A signed manifest: whatever opens is what was signed.
pub(crate) fn envelope(bytes: &[u8]) -> Outcome {
    let release = ReleaseKey::new(*signing_key().verifying_key());
    let opened = signed::open(bytes, signed::MANIFEST_TYPE, &release);
    if let Ok(payload) = &opened {
        assert_eq!(*payload, seeds::manifest().to_json(), "another payload opens");
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(claims) = signed::open_result(text.trim_end(), signing_key().verifying_key()) {
        assert_eq!(claims, seeds::CLAIMS, "other claims open");
        return Outcome::of("result");
    }
    outcome_of(&opened.map(|_| ()))
}

/// Evidence: what is accepted encodes to the same value again.
pub(crate) fn evidence(bytes: &[u8]) -> Outcome {
    let evidence = Evidence::parse(bytes);
    if let Ok(evidence) = &evidence {
        assert_eq!(Evidence::parse(&evidence.to_bytes()).as_ref(), Ok(evidence));
        let key = AttestationKey::from_public(&evidence.ak_public);
        if let Ok(key) = key {
            let verified = evidence.quote.verify(&key, &evidence.binding);
            return Outcome::of(&format!("key, {:?}", verified.map(|_| ())));
        }
    }
    outcome_of(&evidence.map(|evidence| format!("{} logs", evidence.logs.is_some())))
}

/// Lines of QR codes.
pub(crate) fn qr_lines(bytes: &[u8]) -> Outcome {
    let joined = qr::join(&String::from_utf8_lossy(bytes));
    if let Ok(found) = &joined {
        // More than a console splits may be joined, but never more than the text has.
        assert!(found.len() < bytes.len());
        if let Ok(lines) = qr::split(found, 160) {
            assert_eq!(qr::join(&lines.join("\n")).as_ref(), Ok(found), "not the same again");
        }
    }
    outcome_of(&joined.map(|_| ()))
}

/// An exported ledger, and its verification: nobody here has a node's key.
pub(crate) fn ledger_export(bytes: &[u8]) -> Outcome {
    let mut reader = match export::Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return Outcome::of(&error.to_string()),
    };
    let summary = reader.summary().clone();
    let mut chain = Chain::new(&summary);
    for record in &mut reader {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Outcome::of(&error.to_string()),
        };
        if let Err(flawed) = chain.push(&record) {
            return Outcome::of(&flawed.flaw.to_string());
        }
        assert!(seeds::export_records().contains(&record), "a block that nobody signed verifies");
    }
    let end = chain.finish(&summary);
    let _ = chain.at(chain.length());
    outcome_of(&end)
}

/// Request, reply and outcome types that are no frames of one kind each.
pub(crate) fn seed_reply(bytes: &[u8]) -> Outcome {
    let body = bytes.get(frame::HEADER_BYTES..).unwrap_or_default();
    let reply = frame::decode_body::<attest::SeedReply>(body);
    if let Ok(attest::SeedReply::Seed(seed)) = &reply {
        let shown = format!("{seed:?}");
        assert!(shown.starts_with("Seed(redacted"), "the seed is printed");
        return Outcome::of("seed");
    }
    outcome_of(&reply.map(|reply| format!("{reply:?}").len().min(8)))
}

/// What the helper of the state volume leaves for PID 1.
pub(crate) fn unlock_outcome(bytes: &[u8]) -> Outcome {
    let outcome = frame::decode_body::<unlock::Outcome>(bytes);
    if let Ok(outcome) = &outcome {
        let mut again = Vec::new();
        let _ = minicbor::encode(outcome, &mut again);
        assert_eq!(frame::decode_body::<unlock::Outcome>(&again).as_ref(), Ok(outcome));
        return Outcome::shape(&format!("{outcome:?}"));
    }
    outcome_of(&outcome)
}

/// A disk image: partition table, then the volume in it.
pub(crate) fn disk_image(bytes: &[u8]) -> Outcome {
    const PATH: &str = "EFI/BOOT/BOOTX64.EFI";
    let found = disk::find_esp(&mut &bytes[..]);
    let read = disk::read_file(&mut &bytes[..], found.as_ref().copied().unwrap_or(0), PATH);
    if let Ok(file) = &read {
        // A chain may go in circles, but not for ever.
        assert!(file.len() as u64 <= disk::FILE_BYTES_MAX);
    }
    let text = |error: Option<disk::DiskError>| error.map_or("ok".into(), |e| e.to_string());
    Outcome::of(&format!("{} {}", text(found.err()), text(read.err())))
}

/// X.509 certificate of an endorsement key: only what a trusted maker signed verifies. As a list of
/// revoked certificates the same bytes say nothing: that maker never signed one.
pub(crate) fn ek_certificate(bytes: &[u8]) -> Outcome {
    let list = RevocationList::parse(bytes).map(|_| ());
    if list.is_ok()
        && let Ok(known) = Certificate::parse(&sample::fixture("p384.ek"))
    {
        let roots = [sample::fixture("p384.root")];
        let stands = known.stands(&roots, &[bytes.to_vec()], sample::Sample::NOW_S);
        assert!(matches!(stands, Err(CertificateError::NotListed(_))), "a forged list speaks");
        return outcome_of(&list);
    }
    let certificate = match Certificate::parse(bytes) {
        Ok(certificate) => certificate,
        Err(error) => return Outcome::of(&error.to_string()),
    };
    let roots = [sample::fixture("p384.root")];
    let verified = certificate.verify(&roots, sample::Sample::NOW_S);
    if verified.is_ok() {
        // The maker signed two things: this certificate and its own.
        let known = ["p384.ek", "p384.root"].map(sample::fixture);
        let signed = |der: &Vec<u8>| {
            Certificate::parse(der).is_ok_and(|one| one.maker() == certificate.maker())
        };
        assert!(known.iter().any(signed), "another maker's claim verifies");
    }
    outcome_of(&verified)
}

fn outcome_of<T: std::fmt::Debug, E: ToString>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(value) => Outcome::of(&format!("ok {value:?}")),
        Err(error) => Outcome::of(&error.to_string()),
    }
}
