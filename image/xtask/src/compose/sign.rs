//! Signing of what an image is expected to measure: the reference manifest and the TPM policies.
//!
//! Two keys exist. The development key is computed from a sentence that anybody can read, so that
//! every checkout builds the same image; an image signed by it proves nothing about who made it,
//! and [`Signer::refuse_development`] is what a release calls. A release key is a file (PKCS#8 PEM,
//! P-256) named by `HOOKPROBE_RELEASE_KEY`; it is read here and nowhere else.

use std::{fs, path::PathBuf};

use hookprobe_evidence::{digest::HashAlg, policy::ReleaseKey};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _, signature::hazmat::PrehashSigner as _},
    pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding},
};

use crate::error::{Error, Result, at};

/// Variable that names the file of the release key.
const KEY_VARIABLE: &str = "HOOKPROBE_RELEASE_KEY";
/// What the development key is computed from.
const DEVELOPMENT: &[u8] =
    b"hookprobe development release key: anybody can compute it, it proves nothing";

/// A key that signs images.
pub struct Signer {
    key: SigningKey,
    development: bool,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer(redacted, development: {})", self.development)
    }
}

impl Signer {
    /// The release key where one is named, else the development key.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Compose`] for a file that is no such key.
    pub fn find() -> Result<Self> {
        let Some(path) = std::env::var_os(KEY_VARIABLE).map(PathBuf::from) else {
            return Self::development();
        };
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|error| {
            Error::Compose(format!(
                "{}: not a P-256 key in PKCS#8 PEM ({error}); make one with openssl genpkey",
                path.display()
            ))
        })?;
        Ok(Self { key, development: false })
    }

    /// The key that everybody has.
    ///
    /// # Errors
    /// [`Error::Compose`] never in practice: the digest is a valid scalar.
    pub fn development() -> Result<Self> {
        let digest = HashAlg::Sha256.digest(&[DEVELOPMENT]);
        let key = SigningKey::from_slice(digest.as_bytes())
            .map_err(|error| Error::Compose(format!("development key: {error}")))?;
        Ok(Self { key, development: true })
    }

    /// For a release.
    ///
    /// # Errors
    /// [`Error::Compose`] when this is the development key.
    pub fn refuse_development(&self) -> Result<()> {
        if self.development {
            return Err(Error::Compose(format!(
                "a release is never signed by the development key; name the release key's file in {KEY_VARIABLE}"
            )));
        }
        Ok(())
    }

    /// Public half, SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`Error::Compose`] when it can't be encoded.
    pub fn public_pem(&self) -> Result<String> {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::Compose(format!("release key: {error}")))
    }

    /// The same as verifiers take it.
    ///
    /// # Errors
    /// As [`Self::public_pem`].
    pub fn release_key(&self) -> Result<ReleaseKey> {
        ReleaseKey::from_pem(&self.public_pem()?)
            .map_err(|error| Error::Compose(format!("release key: {error}")))
    }

    /// First digits of the SHA-256 of the public half: names the key in envelopes.
    ///
    /// # Errors
    /// As [`Self::public_pem`].
    pub fn id(&self) -> Result<String> {
        Ok(HashAlg::Sha256.digest(&[self.public_pem()?.as_bytes()]).hex())
    }

    /// Signs a message (its SHA-256): r and s.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().into()
    }

    /// Signs a SHA-256 digest: r and s.
    ///
    /// # Errors
    /// [`Error::Compose`] never in practice.
    pub fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64]> {
        let signature: Signature = self
            .key
            .sign_prehash(digest)
            .map_err(|error| Error::Compose(format!("signature: {error}")))?;
        Ok(signature.to_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_key_is_the_one_in_the_tree_and_is_no_release_key() {
        let signer = Signer::development().unwrap();
        let committed = include_str!("../../../keys/development.pub");
        assert_eq!(signer.public_pem().unwrap(), committed);
        assert!(signer.refuse_development().is_err());
    }
}
