//! Sessions, and what is flushed when.
//!
//! Every session is salted with the endorsement key, so that what the bus carries is authenticated
//! and, where it is secret, encrypted (TPM 2.0 Library, Part 1, 19 and 21). A TPM has three slots for
//! objects and three for sessions: two objects stay loaded (endorsement and attestation key), all
//! else is flushed where it was made, when the work failed too.
//!
//! The salt goes to the key that the TPM shows as its endorsement key. Somebody who shows another one
//! also has to show it to verifiers, whom its certificate tells.
//!
//! Must never happen here: a session that outlives the function that it was made for.

use tss_esapi::{
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::{AuthHandle, KeyHandle, ObjectHandle, SessionHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, Nonce, SymmetricDefinition},
};

use crate::{Context, error::TrustError};

/// The two sessions that a use of the endorsement key needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EkSessions {
    /// For what has an empty authorization value; not encrypted.
    pub(crate) hmac: AuthSession,
    /// Satisfies the endorsement key's policy once; first parameters are encrypted both ways.
    pub(crate) policy: AuthSession,
}

impl Context {
    /// One command, counted.
    pub(crate) fn call<T>(
        &mut self,
        command: &'static str,
        work: impl FnOnce(&mut tss_esapi::Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TrustError> {
        self.commands += 1;
        work(&mut self.esys).map_err(TrustError::tpm(command))
    }

    /// One command with a session for its first handle.
    pub(crate) fn call_with<T>(
        &mut self,
        session: AuthSession,
        command: &'static str,
        work: impl FnOnce(&mut tss_esapi::Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TrustError> {
        self.call(command, |esys| esys.execute_with_session(Some(session), work))
    }

    /// Runs `work` with a salted HMAC session: authenticated both ways, not encrypted.
    pub(crate) fn with_hmac<T>(
        &mut self,
        work: impl FnOnce(&mut Self, AuthSession) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        self.with_session(SessionType::Hmac, work)
    }

    /// Runs `work` with a salted policy session that encrypts first parameters both ways.
    pub(crate) fn with_policy<T>(
        &mut self,
        work: impl FnOnce(&mut Self, AuthSession) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        self.with_session(SessionType::Policy, |tpm, session| {
            let (attributes, mask) =
                SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
            tpm.esys
                .tr_sess_set_attributes(session, attributes, mask)
                .map_err(TrustError::tpm("TPM2_StartAuthSession"))?;
            work(tpm, session)
        })
    }

    /// Runs `work` with what one use of the endorsement key needs.
    pub(crate) fn with_ek<T>(
        &mut self,
        work: impl FnOnce(&mut Self, KeyHandle, EkSessions) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        let ek = self.ek()?;
        self.with_hmac(|tpm, hmac| {
            tpm.with_policy(|tpm, policy| {
                let session = policy_of(policy)?;
                tpm.call_with(hmac, "TPM2_PolicySecret", |esys| {
                    esys.policy_secret(
                        session,
                        AuthHandle::Endorsement,
                        Nonce::default(),
                        Digest::default(),
                        Nonce::default(),
                        None,
                    )
                })?;
                work(tpm, ek, EkSessions { hmac, policy })
            })
        })
    }

    /// Runs `work` with a loaded object, then flushes it.
    pub(crate) fn with_object<T>(
        &mut self,
        object: ObjectHandle,
        work: impl FnOnce(&mut Self) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        let result = work(self);
        let flushed = self.flush(object);
        // Why the work failed says more than what that did to the flush.
        let value = result?;
        flushed.map(|()| value)
    }

    pub(crate) fn flush(&mut self, object: ObjectHandle) -> Result<(), TrustError> {
        self.call("TPM2_FlushContext", |esys| esys.flush_context(object))
    }

    fn with_session<T>(
        &mut self,
        kind: SessionType,
        work: impl FnOnce(&mut Self, AuthSession) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        let salt = self.ek()?;
        let session = self
            .call("TPM2_StartAuthSession", |esys| {
                esys.start_auth_session(
                    Some(salt),
                    None,
                    None,
                    kind,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })?
            .ok_or(TrustError::Unexpected { what: "TPM2_StartAuthSession gave no session" })?;
        self.with_object(SessionHandle::from(session).into(), |tpm| work(tpm, session))
    }
}

/// The policy session in `session`, which was started as one.
pub(crate) fn policy_of(session: AuthSession) -> Result<PolicySession, TrustError> {
    PolicySession::try_from(session).map_err(TrustError::tpm("TPM2_StartAuthSession"))
}
