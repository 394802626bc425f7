//! ECDSA on P-256 with SHA-256 (FIPS 186-5): the one signature that quotes, manifests and results
//! have, verified by ring, which is what most of an appraisal's time goes into. Keys and encodings
//! are p256's.
//!
//! Must never happen here: signing; a key that p256 has not accepted as a point.

use p256::ecdsa::{Signature, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// Whether `signature` over `message` is of `key`.
pub(crate) fn verifies(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    let point = key.to_sec1_point(false);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes())
        .verify(message, &signature.to_bytes())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{
        SigningKey,
        signature::{Signer as _, Verifier as _},
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn says_what_p256_says(
            secret in 1u8..255,
            message in proptest::collection::vec(any::<u8>(), 0..200),
            flip in 0usize..64,
            bit in 0u8..9,
            negate in any::<bool>(),
        ) {
            let signing = SigningKey::from_slice(&[secret; 32]).unwrap();
            let signature: Signature = signing.sign(&message);
            let mut bytes = signature.to_bytes();
            if bit < 8 {
                bytes[flip] ^= 1 << bit;
            }
            if let Ok(mut signature) = Signature::from_slice(&bytes) {
                if negate {
                    // The other of the two signatures that are one: TPMs make both.
                    let (r, s) = signature.split_scalars();
                    signature = Signature::from_scalars(*r, -*s).unwrap();
                }
                let key = signing.verifying_key();
                let expect = key.verify(&message, &signature).is_ok();
                prop_assert_eq!(verifies(key, &message, &signature), expect);
                prop_assert_eq!(expect, bit == 8);
            }
        }
    }
}
