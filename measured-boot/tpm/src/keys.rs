//! Endorsement and attestation key (TCG EK Credential Profile; TPM 2.0 Library, Part 1, 24).
//!
//! Must never happen here: a key that is used before its public area was compared with its template.

use hookprobe_evidence::{bundle::Endorsement, quote::AttestationKey};
use tss_esapi::{
    constants::{CapabilityType, response_code::Tss2ResponseCodeKind},
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{CapabilityData, Digest, EncryptedSecret, IdObject, Name, Private, Public},
    traits::{Marshall, UnMarshall},
};

use crate::{
    Context,
    error::TrustError,
    structures::{self, EkKind, SigningKind},
    trust::AkBlob,
};

/// Longest part of a key or a credential that is taken: more than any TPM2B of a P-256 key has.
const BLOB_BYTES_MAX: usize = 1024;
/// Bytes of the secret by which the TPM proves to itself that both keys are in it.
const PROOF_BYTES: usize = 32;

/// A loaded key and its TPMT_PUBLIC.
#[derive(Debug, Clone)]
pub(crate) struct LoadedKey {
    pub(crate) handle: KeyHandle,
    pub(crate) public: Vec<u8>,
}

impl Context {
    /// The endorsement key, loaded once per connection.
    pub(crate) fn ek(&mut self) -> Result<KeyHandle, TrustError> {
        if let Some(ek) = &self.ek {
            return Ok(ek.handle);
        }
        let kind = self.ek_kind()?;
        let ek = match self.persistent_ek(kind)? {
            Some(ek) => ek,
            None => self.primary_ek(kind)?,
        };
        let handle = ek.handle;
        self.ek = Some(ek);
        Ok(handle)
    }

    /// The one that the maker certified; RSA when it certified both or none. What is under the key
    /// depends on it, so it has to be the same at each boot: certificates do not come and go.
    fn ek_kind(&mut self) -> Result<EkKind, TrustError> {
        let certified = !self.has_handle(EkKind::Rsa.certificate())?
            && self.has_handle(EkKind::P256.certificate())?;
        Ok(if certified { EkKind::P256 } else { EkKind::Rsa })
    }

    /// The maker's, when it is one of the template: that saves seconds on a discrete TPM.
    fn persistent_ek(&mut self, kind: EkKind) -> Result<Option<LoadedKey>, TrustError> {
        if !self.has_handle(kind.handle())? {
            return Ok(None);
        }
        const COMMAND: &str = "TPM2_ReadPublic";
        let handle = PersistentTpmHandle::new(kind.handle()).map_err(TrustError::tpm(COMMAND))?;
        let mut object =
            self.call(COMMAND, |esys| esys.tr_from_tpm_public(TpmHandle::Persistent(handle)))?;
        let (public, _, _) =
            self.call(COMMAND, |esys| esys.read_public(KeyHandle::from(object)))?;
        let public = marshall(&public)?;
        if is_ek(&public, kind) {
            return Ok(Some(LoadedKey { handle: object.into(), public }));
        }
        self.esys.tr_close(&mut object).map_err(TrustError::tpm(COMMAND))?;
        Ok(None)
    }

    /// By the empty password: there is no key yet to salt a session with, and nothing secret is sent.
    fn primary_ek(&mut self, kind: EkKind) -> Result<LoadedKey, TrustError> {
        let template = unmarshall(&kind.public())?;
        let made = self.call_with(AuthSession::Password, "TPM2_CreatePrimary", |esys| {
            esys.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
        })?;
        let public = marshall(&made.out_public)?;
        if !is_ek(&public, kind) {
            self.flush(made.key_handle.into())?;
            return Err(TrustError::Unexpected {
                what: "the endorsement key is not made by its template",
            });
        }
        Ok(LoadedKey { handle: made.key_handle, public })
    }

    /// Whether a persistent object or an NV index is there.
    pub(crate) fn has_handle(&mut self, handle: u32) -> Result<bool, TrustError> {
        let (data, _) = self.call("TPM2_GetCapability", |esys| {
            esys.get_capability(CapabilityType::Handles, handle, 1)
        })?;
        let CapabilityData::Handles(handles) = data else {
            return Err(TrustError::Unexpected { what: "TPM2_GetCapability gave no handles" });
        };
        Ok(handles.into_inner().first().is_some_and(|found| u32::from(*found) == handle))
    }

    pub(crate) fn read_endorsement(&mut self) -> Result<Endorsement, TrustError> {
        self.ek()?;
        let public = self.ek.as_ref().ok_or(NOT_LOADED)?.public.clone();
        let certificate = self.ek_certificate(EkKind::of(&public))?.map(Into::into);
        Ok(Endorsement { public: public.into(), certificate })
    }

    /// Makes a P-256 key under the endorsement key; it is not loaded.
    pub(crate) fn create_child(&mut self, kind: SigningKind) -> Result<AkBlob, TrustError> {
        let template = unmarshall(&structures::signing_public(kind, &[], &[]))?;
        let made = self.with_ek(|tpm, ek, sessions| {
            tpm.call_with(sessions.policy, "TPM2_Create", |esys| {
                esys.create(ek, template, None, None, None, None)
            })
        })?;
        let public = marshall(&made.out_public)?;
        if !is_signing_key(&public, kind) {
            return Err(TrustError::Unexpected { what: "TPM2_Create made another key" });
        }
        Ok(AkBlob { public, private: made.out_private.value().to_vec() })
    }

    /// Loads a key made by [`Self::create_child`].
    pub(crate) fn load_child(
        &mut self,
        blob: &AkBlob,
        kind: SigningKind,
    ) -> Result<LoadedKey, TrustError> {
        if blob.private.len() > BLOB_BYTES_MAX || !is_signing_key(&blob.public, kind) {
            return Err(TrustError::Unexpected { what: "the stored key is none of this purpose" });
        }
        let public = unmarshall(&blob.public)?;
        let private =
            Private::try_from(blob.private.as_slice()).map_err(TrustError::tpm("TPM2_Load"))?;
        let loaded = self.with_ek(|tpm, ek, sessions| {
            tpm.call_with(sessions.policy, "TPM2_Load", |esys| esys.load(ek, private, public))
        });
        match loaded {
            Ok(handle) => Ok(LoadedKey { handle, public: blob.public.clone() }),
            // Wrapped by another parent's seed, or changed.
            Err(error) if error.kind() == Some(Tss2ResponseCodeKind::Integrity) => {
                Err(TrustError::ForeignKey)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn replace_ak(&mut self, blob: &AkBlob) -> Result<(), TrustError> {
        if let Some(old) = self.ak.take() {
            self.flush(old.handle.into())?;
        }
        self.ak = Some(self.load_child(blob, SigningKind::Attestation)?);
        Ok(())
    }

    /// Makes a credential for the loaded keys and activates it.
    pub(crate) fn prove_ak(&mut self) -> Result<(), TrustError> {
        let (ek, name) = (self.ek()?, structures::name_of(&self.loaded_ak()?.public));
        let name = Name::try_from(name).map_err(TrustError::tpm("TPM2_MakeCredential"))?;
        let secret = random()?;
        let proof =
            Digest::try_from(secret.as_slice()).map_err(TrustError::tpm("TPM2_MakeCredential"))?;
        let (credential, encrypted) =
            self.call("TPM2_MakeCredential", |esys| esys.make_credential(ek, proof, name))?;
        if self.activate_credential(credential.value(), encrypted.value())? != secret {
            return Err(TrustError::Unexpected {
                what: "the attestation key's credential came back changed",
            });
        }
        Ok(())
    }

    pub(crate) fn activate_credential(
        &mut self,
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Vec<u8>, TrustError> {
        const COMMAND: &str = "TPM2_ActivateCredential";
        let ak = self.loaded_ak()?.handle;
        let credential = IdObject::try_from(credential).map_err(TrustError::tpm(COMMAND))?;
        let secret = EncryptedSecret::try_from(secret).map_err(TrustError::tpm(COMMAND))?;
        let answer = self.with_ek(|tpm, ek, sessions| {
            tpm.call(COMMAND, |esys| {
                esys.execute_with_sessions(
                    (Some(sessions.hmac), Some(sessions.policy), None),
                    |esys| esys.activate_credential(ak, ek, credential, secret),
                )
            })
        })?;
        Ok(answer.value().to_vec())
    }

    pub(crate) fn loaded_ak(&self) -> Result<&LoadedKey, TrustError> {
        self.ak.as_ref().ok_or(TrustError::Unexpected { what: "no attestation key is loaded" })
    }

    /// The name that the TPM itself gave to an object.
    pub(crate) fn name_of(&mut self, object: ObjectHandle) -> Result<Vec<u8>, TrustError> {
        let name = self.esys.tr_get_name(object).map_err(TrustError::tpm("TPM2_ReadPublic"))?;
        Ok(name.value().to_vec())
    }
}

const NOT_LOADED: TrustError = TrustError::Unexpected { what: "the endorsement key is not loaded" };

fn is_ek(public: &[u8], kind: EkKind) -> bool {
    structures::is_made_from(public, &kind.template(), kind.unique_bytes())
}

/// By its template, and for an attestation key by the verifiers' own rules too.
fn is_signing_key(public: &[u8], kind: SigningKind) -> bool {
    let made = structures::is_made_from(
        public,
        &structures::signing_template(kind),
        structures::P256_UNIQUE_BYTES,
    );
    match kind {
        SigningKind::Attestation => made && AttestationKey::from_public(public).is_ok(),
        SigningKind::Session => made,
    }
}

/// TPMT_PUBLIC.
pub(crate) fn marshall(public: &Public) -> Result<Vec<u8>, TrustError> {
    public.marshall().map_err(TrustError::tpm("TPM2B_PUBLIC"))
}

/// From a TPMT_PUBLIC.
pub(crate) fn unmarshall(public: &[u8]) -> Result<Public, TrustError> {
    Public::unmarshall(public).map_err(TrustError::tpm("TPM2B_PUBLIC"))
}

/// From the kernel: the TPM must not choose what it proves.
fn random() -> Result<Vec<u8>, TrustError> {
    let mut bytes = vec![0; PROOF_BYTES];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(PROOF_BYTES) => Ok(bytes),
        _ => Err(TrustError::Unexpected { what: "the kernel has no random bytes" }),
    }
}
