//! A release: a key, and policies signed with it as the composer signs them.

#![allow(dead_code, reason = "each file of tests uses a part of this")]
#![expect(clippy::unwrap_used, reason = "a test's helpers: a failure here is a failed test")]

use hookprobe_evidence::{
    digest::Digest,
    pcr::PcrIndex,
    policy::{self, Purpose, ReleaseKey, SignedPolicy},
};
use p256::{
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    pkcs8::{EncodePublicKey, LineEnding},
};

pub(crate) struct Release(SigningKey);

impl Release {
    /// Another number is another key.
    pub(crate) fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    pub(crate) fn key(&self) -> ReleaseKey {
        let pem = self.0.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        ReleaseKey::from_pem(&pem).unwrap()
    }

    /// r and s over what is signed for a policy.
    pub(crate) fn sign_policy(
        &self,
        approved: &[u8; 32],
        purpose: Purpose,
        generation: u32,
    ) -> [u8; 64] {
        let digest = policy::signed_digest(approved, purpose, generation);
        let signature: Signature = self.0.sign_prehash(&digest).unwrap();
        signature.to_bytes().into()
    }

    /// For the state `values`.
    pub(crate) fn sign(
        &self,
        purpose: Purpose,
        generation: u32,
        values: &[(PcrIndex, Digest)],
    ) -> SignedPolicy {
        let approved = policy::pcr_policy(purpose, values).unwrap();
        let signature = self.sign_policy(&approved, purpose, generation);
        SignedPolicy {
            purpose,
            generation,
            bank: values[0].1.alg().name().into(),
            digest: hex(&approved),
            signature: hex(&signature),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
