//! Which signed policy fits the registers: the part of [`Trust::wrapping_key`] without a TPM.
//!
//! Must never happen here: a decision. The TPM decides; this only finds what to show it and gives
//! a refusal its name.
//!
//! [`Trust::wrapping_key`]: crate::trust::Trust::wrapping_key

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
    policy::{self, Purpose, SignedPolicy},
};

use crate::error::TrustError;

/// In front of what TPM2_HMAC hashes.
const DOMAIN: &[u8] = b"hookprobe.wrap.v1\0";
/// Digits of an ECDSA P-256 signature.
const SIGNATURE_BYTES: usize = 64;

/// Register values by index, of one bank.
pub(crate) type State = Vec<(PcrIndex, Digest)>;

/// One policy that the release signed for the present state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    pub(crate) policy: [u8; 32],
    /// r and s.
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

/// The bank that policies are for: SHA-256 where it is active, else the TPM's first.
pub(crate) fn bank(active: &[HashAlg]) -> Option<HashAlg> {
    active.iter().copied().find(|bank| *bank == HashAlg::Sha256).or(active.first().copied())
}

/// Registers that decide about `purpose`.
pub(crate) fn indexes(purpose: Purpose) -> Vec<PcrIndex> {
    purpose.pcrs().iter().copied().filter_map(PcrIndex::new).collect()
}

/// Refusal: the state was not signed.
pub(crate) fn wrong_state(purpose: Purpose, generation: u32) -> TrustError {
    TrustError::State { purpose: purpose.word(), generation }
}

/// Refusal: nothing signed fits.
pub(crate) fn no_policy(purpose: Purpose, generation: u32) -> TrustError {
    TrustError::NoPolicy { purpose: purpose.word(), generation }
}

/// Policies among `policies` for purpose, generation and bank whose digest is that of `state`.
///
/// # Errors
/// [`TrustError::NoPolicy`] when the image brings none at all, [`TrustError::State`] when it brings
/// some, but for other states.
pub(crate) fn approved(
    policies: &[SignedPolicy],
    purpose: Purpose,
    generation: u32,
    bank: HashAlg,
    state: &State,
) -> Result<Vec<Approved>, TrustError> {
    let mut candidates = policies
        .iter()
        .filter(|policy| policy.purpose == purpose && policy.generation == generation)
        .filter(|policy| HashAlg::from_name(&policy.bank) == Some(bank))
        .filter_map(decode)
        .peekable();
    if candidates.peek().is_none() {
        return Err(no_policy(purpose, generation));
    }
    let now = policy::pcr_policy(purpose, state)
        .map_err(|_| TrustError::Unexpected { what: "TPM2_PCR_Read left registers out" })?;
    let fitting: Vec<_> = candidates.filter(|candidate| candidate.policy == now).collect();
    if fitting.is_empty() {
        return Err(wrong_state(purpose, generation));
    }
    Ok(fitting)
}

/// What TPM2_HMAC is asked about. Another purpose or generation has another key already; the same
/// words here keep the two from ever meeting, should a release sign both for one state.
pub(crate) fn message(purpose: Purpose, generation: u32) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.extend(purpose.word().as_bytes());
    out.push(0);
    out.extend(generation.to_string().as_bytes());
    out
}

fn decode(policy: &SignedPolicy) -> Option<Approved> {
    Some(Approved { policy: unhex(&policy.digest)?, signature: unhex(&policy.signature)? })
}

/// `N` bytes from hexadecimal digits of either case.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_where_it_is_active() {
        assert_eq!(bank(&HashAlg::ALL), Some(HashAlg::Sha256));
        assert_eq!(bank(&[HashAlg::Sha1, HashAlg::Sha384]), Some(HashAlg::Sha1));
        assert_eq!(bank(&[]), None);
    }

    #[test]
    fn messages_name_purpose_and_generation() {
        assert_eq!(message(Purpose::Volume, 12), b"hookprobe.wrap.v1\0volume\x0012");
    }

    #[test]
    fn digits_that_are_none() {
        assert_eq!(unhex::<2>("0aFf"), Some([10, 255]));
        for bad in ["", "0aF", "0aFff", "+1+1", "zz00"] {
            assert_eq!(unhex::<2>(bad), None, "{bad}");
        }
    }

    #[test]
    fn policies_of_other_banks_and_generations_are_none() {
        let policy = |generation, bank: &str| SignedPolicy {
            purpose: Purpose::Ledger,
            generation,
            bank: bank.into(),
            digest: "00".repeat(32),
            signature: "00".repeat(64),
        };
        let policies = [policy(1, "sha256"), policy(2, "sha384"), policy(2, "md5")];
        let found =
            approved(&policies, Purpose::Ledger, 2, HashAlg::Sha256, &State::new()).unwrap_err();
        assert!(matches!(found, TrustError::NoPolicy { generation: 2, .. }), "{found}");
    }
}
