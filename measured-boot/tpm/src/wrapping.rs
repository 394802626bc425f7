//! The key that wraps secrets: TPM2_HMAC under a primary key that only a state which the release
//! signed may use (TPM 2.0 Library, Part 3, TPM2_PolicyAuthorize, TPM2_HMAC).
//!
//! The TPM makes the same key again from its owner seed every time, so nothing is stored; clearing
//! the TPM, or another TPM, gives another key. Must never happen here: the key's bytes on the bus in
//! the clear, or a decision that the TPM does not make itself.

use hookprobe_evidence::{
    digest::HashAlg,
    policy::{self, Purpose, ReleaseKey, SignedPolicy},
};
use tss_esapi::{
    constants::response_code::Tss2ResponseCodeKind,
    handles::KeyHandle,
    interface_types::{
        algorithm::HashingAlgorithm, resource_handles::Hierarchy, session_handles::AuthSession,
    },
    structures::{
        Digest, EccParameter, EccSignature, MaxBuffer, Name, Nonce, Signature, VerifiedTicket,
    },
};

use crate::{
    Context,
    error::TrustError,
    keys,
    quoting::selection_list,
    session, structures,
    trust::Secret,
    wrap::{self, Approved},
};

/// What a wrapping key is asked for with.
struct Request<'a> {
    release: &'a ReleaseKey,
    purpose: Purpose,
    generation: u32,
    bank: HashAlg,
}

impl Context {
    pub(crate) fn derive_wrapping_key(
        &mut self,
        release: &ReleaseKey,
        purpose: Purpose,
        generation: u32,
        policies: &[SignedPolicy],
    ) -> Result<Secret, TrustError> {
        let banks = self.active_banks()?;
        let bank = wrap::bank(&banks).ok_or(wrap::no_policy(purpose, generation))?;
        let state = self
            .pcr_read(&[bank], &wrap::indexes(purpose))?
            .into_iter()
            .map(|((_, index), value)| (index, value))
            .collect();
        let request = Request { release, purpose, generation, bank };
        for approved in wrap::approved(policies, purpose, generation, bank, &state)? {
            if let Some(ticket) = self.verify_approval(&request, &approved)? {
                return self.hmac_under_policy(&request, &approved, ticket);
            }
        }
        Err(wrap::no_policy(purpose, generation))
    }

    /// A ticket by which this TPM remembers that it verified the release's signature; `None` for a
    /// signature of another key.
    fn verify_approval(
        &mut self,
        request: &Request<'_>,
        approved: &Approved,
    ) -> Result<Option<VerifiedTicket>, TrustError> {
        const COMMAND: &str = "TPM2_VerifySignature";
        let signed = policy::signed_digest(&approved.policy, request.purpose, request.generation);
        let digest = Digest::try_from(signed.as_slice()).map_err(TrustError::tpm(COMMAND))?;
        let signature = ecdsa(&approved.signature).map_err(TrustError::tpm(COMMAND))?;
        let public = keys::unmarshall(&request.release.public_area())?;
        // The owner hierarchy's: a ticket of the null hierarchy is good for nothing.
        let key = self.call("TPM2_LoadExternal", |esys| {
            esys.load_external_public(public, Hierarchy::Owner)
        })?;
        self.with_object(key.into(), |tpm| {
            if tpm.name_of(key.into())? != request.release.name() {
                return Err(TrustError::Unexpected { what: "the TPM loaded another release key" });
            }
            match tpm.call(COMMAND, |esys| esys.verify_signature(key, digest, signature)) {
                Ok(ticket) => Ok(Some(ticket)),
                Err(error) if error.kind() == Some(Tss2ResponseCodeKind::Signature) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn hmac_under_policy(
        &mut self,
        request: &Request<'_>,
        approved: &Approved,
        ticket: VerifiedTicket,
    ) -> Result<Secret, TrustError> {
        let key = self.wrapping_primary(request)?;
        self.with_object(key.into(), |tpm| {
            tpm.with_policy(|tpm, policy| {
                tpm.satisfy(request, approved, ticket, policy)?;
                tpm.hmac(request, key, policy)
            })
        })
        .map_err(|error| match error.kind() {
            // A register moved after it was read.
            Some(Tss2ResponseCodeKind::PolicyFail | Tss2ResponseCodeKind::PcrChanged) => {
                wrap::wrong_state(request.purpose, request.generation)
            }
            _ => error,
        })
    }

    /// The same key every time: a primary key is derived from the hierarchy's seed and the template.
    fn wrapping_primary(&mut self, request: &Request<'_>) -> Result<KeyHandle, TrustError> {
        let policy =
            policy::authorized_policy(request.release, request.purpose, request.generation);
        let template = structures::wrapping_template(&policy);
        let mut wanted = template.clone();
        structures::sized(&mut wanted, &[]);
        let wanted = keys::unmarshall(&wanted)?;
        let made = self.with_hmac(|tpm, hmac| {
            tpm.call_with(hmac, "TPM2_CreatePrimary", |esys| {
                esys.create_primary(Hierarchy::Owner, wanted, None, None, None, None)
            })
        })?;
        let public = keys::marshall(&made.out_public)?;
        if !structures::is_made_from(&public, &template, structures::KEYEDHASH_UNIQUE_BYTES) {
            self.flush(made.key_handle.into())?;
            return Err(TrustError::Unexpected { what: "TPM2_CreatePrimary made another key" });
        }
        Ok(made.key_handle)
    }

    /// PolicyPCR over the registers as they are, then PolicyAuthorize.
    fn satisfy(
        &mut self,
        request: &Request<'_>,
        approved: &Approved,
        ticket: VerifiedTicket,
        policy: AuthSession,
    ) -> Result<(), TrustError> {
        const COMMAND: &str = "TPM2_PolicyAuthorize";
        let policy = session::policy_of(policy)?;
        let selection = selection_list(&vec![(request.bank, wrap::indexes(request.purpose))])?;
        self.call("TPM2_PolicyPCR", |esys| esys.policy_pcr(policy, Digest::default(), selection))?;
        let digest =
            Digest::try_from(approved.policy.as_slice()).map_err(TrustError::tpm(COMMAND))?;
        let reference = Nonce::try_from(request.purpose.reference(request.generation))
            .map_err(TrustError::tpm(COMMAND))?;
        let name = Name::try_from(request.release.name()).map_err(TrustError::tpm(COMMAND))?;
        self.call(COMMAND, |esys| esys.policy_authorize(policy, digest, reference, &name, ticket))
            .map_err(|error| match error.kind() {
                // The session's policy is not the approved one.
                Some(Tss2ResponseCodeKind::Value) => {
                    wrap::wrong_state(request.purpose, request.generation)
                }
                _ => error,
            })
    }

    fn hmac(
        &mut self,
        request: &Request<'_>,
        key: KeyHandle,
        policy: AuthSession,
    ) -> Result<Secret, TrustError> {
        const COMMAND: &str = "TPM2_HMAC";
        let message = MaxBuffer::try_from(wrap::message(request.purpose, request.generation))
            .map_err(TrustError::tpm(COMMAND))?;
        let digest = self.call_with(policy, COMMAND, |esys| {
            esys.hmac(key.into(), message, HashingAlgorithm::Sha256)
        })?;
        let bytes = digest
            .value()
            .try_into()
            .map_err(|_| TrustError::Unexpected { what: "TPM2_HMAC gave another length" })?;
        Ok(Secret::new(bytes))
    }
}

/// TPMT_SIGNATURE from r and s.
fn ecdsa(signature: &[u8; 64]) -> tss_esapi::Result<Signature> {
    let (r, s) = signature.split_at(32);
    let (r, s) = (EccParameter::try_from(r)?, EccParameter::try_from(s)?);
    Ok(Signature::EcDsa(EccSignature::create(HashingAlgorithm::Sha256, r, s)?))
}
