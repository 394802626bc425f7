//! What the composer adds to a manifest when it has the boot blob: predictions of PCR 11 and the
//! policies that a release signs.
//!
//! Must never happen here: a policy for a state that the box passes through after it has begun to
//! run what is not measured. The signing key stays with the caller.

use std::collections::BTreeMap;

use crate::{
    digest::{Digest, HashAlg, MultiHasher},
    loader,
    log::{Context, Event},
    manifest::{ExpectedEvent, ReferenceManifest},
    pcr::{PcrIndex, PcrSet, extend},
    policy::{
        GENERATION_MAX, PHASE_EVENT, PolicyError, Purpose, SignedPolicy, pcr_policy, signed_digest,
    },
    uki::{self, UkiError},
};

/// The event that ends the phase `unlock`.
#[must_use]
pub fn phase_event(banks: &[HashAlg]) -> Event {
    let mut hasher = MultiHasher::new(banks);
    hasher.update(PHASE_EVENT.as_bytes());
    Event {
        pcr: PcrIndex::UKI,
        digests: hasher.finish(),
        name: PHASE_EVENT.into(),
        context: Context::default(),
    }
}

/// Adds what `blob` makes of PCR 11: its events and the value once the phase `unlock` has ended.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn add_boot(manifest: &mut ReferenceManifest, blob: &[u8]) -> Result<(), UkiError> {
    let mut events = uki::events(blob, &HashAlg::ALL)?;
    events.push(phase_event(&HashAlg::ALL));
    let mut pcrs = PcrSet::new();
    for digest in events.iter().flat_map(|event| &event.digests) {
        pcrs.extend(PcrIndex::UKI, digest);
    }
    for (bank, index, value) in pcrs.iter() {
        manifest.set_pcr(bank, index, value);
    }
    manifest.boot = events.iter().map(ExpectedEvent::from).collect();
    Ok(())
}

impl ReferenceManifest {
    /// Adds the policies of this manifest's generation, and PCR 11 once the phase `unlock` has ended;
    /// see [`sign_policies`].
    ///
    /// # Errors
    /// As [`sign_policies`].
    pub fn sign(
        &mut self,
        uki: &BTreeMap<HashAlg, Digest>,
        sign: impl FnMut(&[u8; 32]) -> [u8; 64],
    ) -> Result<(), PolicyError> {
        self.policies = sign_policies(self, uki, self.generation, sign)?;
        for (bank, value) in uki {
            self.set_pcr(*bank, PcrIndex::UKI, &unlocked(*bank, value));
        }
        Ok(())
    }
}

/// PCR 11 after the event that ends the phase `unlock`.
fn unlocked(bank: HashAlg, uki: &Digest) -> Digest {
    extend(uki, &bank.digest(&[PHASE_EVENT.as_bytes()]))
}

/// Policies of an image of `generation` for both purposes, all banks and all references from 1 to
/// its own. `uki` is PCR 11 as the blob leaves it, before the phase `unlock` ends
/// ([`uki::predict_pcr11`]). `sign` gives r and s of an ECDSA P-256 signature of the SHA-256 digest that
/// it gets.
///
/// # Errors
/// [`PolicyError::Prediction`], [`PolicyError::Generation`].
pub fn sign_policies(
    manifest: &ReferenceManifest,
    uki: &BTreeMap<HashAlg, Digest>,
    generation: u32,
    mut sign: impl FnMut(&[u8; 32]) -> [u8; 64],
) -> Result<Vec<SignedPolicy>, PolicyError> {
    if !(1..=GENERATION_MAX).contains(&generation) {
        return Err(PolicyError::Generation(generation));
    }
    let mut policies = Vec::new();
    for (bank, uki) in uki {
        for purpose in Purpose::ALL {
            for state in states(manifest, *bank, uki, purpose)? {
                let approved = pcr_policy(purpose, &state)?;
                for generation in 1..=generation {
                    let digest = signed_digest(&approved, purpose, generation);
                    policies.push(SignedPolicy {
                        purpose,
                        generation,
                        bank: bank.name().into(),
                        digest: crate::hex::hex(&approved),
                        signature: crate::hex::hex(&sign(&digest)),
                    });
                }
            }
        }
    }
    Ok(policies)
}

/// Registers of `purpose` when its secret is used, for every way in which the firmware may come to
/// run the blob and nothing else ([`loader::accepted`]).
fn states(
    manifest: &ReferenceManifest,
    bank: HashAlg,
    uki: &Digest,
    purpose: Purpose,
) -> Result<Vec<Vec<(PcrIndex, Digest)>>, PolicyError> {
    let missing = |pcr: PcrIndex| PolicyError::Prediction { bank, pcr: pcr.get() };
    let services = manifest.pcr(bank, PcrIndex::SERVICES).ok_or(missing(PcrIndex::SERVICES))?;
    let loaders = loader::accepted(manifest, bank);
    if loaders.is_empty() {
        return Err(missing(PcrIndex::LOADER));
    }
    let state = |loader| match purpose {
        Purpose::Volume => vec![
            (PcrIndex::LOADER, loader),
            (PcrIndex::UKI, uki.clone()),
            (PcrIndex::SITE, Digest::zero(bank)),
            (PcrIndex::SERVICES, services.clone()),
            (PcrIndex::STATE, Digest::zero(bank)),
        ],
        Purpose::Ledger => vec![
            (PcrIndex::LOADER, loader),
            (PcrIndex::UKI, unlocked(bank, uki)),
            (PcrIndex::SERVICES, services.clone()),
        ],
    };
    Ok(loaders.into_iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{
        Signature, SigningKey,
        signature::hazmat::{PrehashSigner as _, PrehashVerifier as _},
    };

    use super::*;
    use crate::{
        closure::ServiceList,
        uki::{self, predict_pcr11},
    };

    fn blob() -> Vec<u8> {
        let stub = uki::tests::stub();
        uki::compose(&stub, &[(".osrel", b"ID=x"), (".linux", &[7; 1000])]).unwrap()
    }

    fn manifest() -> ReferenceManifest {
        let list = ServiceList { service: Vec::new() };
        let mut manifest =
            ReferenceManifest::predict("1.2.3", 3, &list, |_| Ok(Vec::new())).unwrap();
        for bank in HashAlg::ALL {
            manifest.set_pcr(bank, PcrIndex::SERVICES, &bank.digest(&[b"services"]));
        }
        let kernel = uki::compose(&uki::tests::stub(), &[(".text", b"kernel")]).unwrap();
        let blob = uki::compose(&uki::tests::stub(), &[(".linux", &kernel)]).unwrap();
        loader::add_loader(&mut manifest, &blob).unwrap();
        manifest
    }

    #[test]
    fn pcr_11_is_predicted_to_the_end_of_the_phase() {
        let mut manifest = manifest();
        add_boot(&mut manifest, &blob()).unwrap();
        let names: Vec<&str> = manifest.boot.iter().map(|event| event.name.as_str()).collect();
        let sections =
            ["uki:.linux name", "uki:.linux content", "uki:.osrel name", "uki:.osrel content"];
        assert_eq!(names, [&sections[..], &[PHASE_EVENT]].concat());
        for (bank, value) in predict_pcr11(&blob(), &HashAlg::ALL).unwrap() {
            assert_eq!(manifest.pcr(bank, PcrIndex::UKI), Some(unlocked(bank, &value)));
        }
        assert_eq!(ReferenceManifest::parse(&manifest.to_json()), Ok(manifest));
    }

    #[test]
    fn an_image_has_signed_policies_up_to_its_own_generation() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let sign = |digest: &[u8; 32]| {
            let signature: Signature = key.sign_prehash(digest).unwrap();
            <[u8; 64]>::from(signature.to_bytes())
        };
        let uki = predict_pcr11(&blob(), &HashAlg::ALL).unwrap();
        let mut signed = manifest();
        signed.sign(&uki, sign).unwrap();
        let mut predicted = manifest();
        add_boot(&mut predicted, &blob()).unwrap();
        assert_eq!(signed.pcrs, predicted.pcrs);
        let policies = signed.policies;
        assert_eq!(policies.len(), 2 * 4 * 3 * (1 + loader::FAILED_MAX));
        for policy in &policies {
            let bank = HashAlg::from_name(&policy.bank).unwrap();
            let approved = Digest::from_hex(HashAlg::Sha256, &policy.digest).unwrap();
            let states = states(&manifest(), bank, &uki[&bank], policy.purpose).unwrap();
            let of = |state: &Vec<_>| pcr_policy(policy.purpose, state).unwrap();
            assert_eq!(states.iter().filter(|state| of(state) == approved.as_bytes()).count(), 1);
            let digest = signed_digest(
                &approved.as_bytes().try_into().unwrap(),
                policy.purpose,
                policy.generation,
            );
            let signature = Digest::from_hex(HashAlg::Sha512, &policy.signature).unwrap();
            let signature = Signature::from_slice(signature.as_bytes()).unwrap();
            key.verifying_key().verify_prehash(&digest, &signature).unwrap();
        }
        assert_eq!(sign_policies(&manifest(), &uki, 0, sign), Err(PolicyError::Generation(0)));
        let mut without = manifest();
        without.pcrs.clear();
        let error = PolicyError::Prediction { bank: HashAlg::Sha1, pcr: 13 };
        assert_eq!(sign_policies(&without, &uki, 1, sign), Err(error));
    }
}
