//! A TPM in memory, for tests of what uses one: real signatures, registers that a test sets, and a
//! failure at whichever call the test names.
//!
//! Must never happen here: use outside tests. Its keys come from the seed that the test gave, so it
//! protects nothing; it says so by its maker, and evidence from it is of level T like swtpm's.
//! Called by this crate's tests and by those of `attest`.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use hookprobe_evidence::{
    bundle::{Endorsement, PcrClaim},
    digest::{Digest, HashAlg},
    pcr::{self, PcrIndex},
    policy::{self, Purpose, ReleaseKey, SignedPolicy},
    quote::{ClockInfo, Quote},
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey, signature::hazmat::PrehashVerifier};
use sha2::Sha256;

use crate::{
    error::{PcrError, TrustError},
    structures::{self, AttestFields, SigningKind},
    trust::{AkBlob, Maker, Quoted, Secret, Selection, Trust},
    wrap,
};

/// Attestation keys that one fake makes at most; a test that wants more has a loop too many.
const AKS_MAX: u8 = 16;
/// Bytes of an [`AkBlob`]'s private part: number of the key, then a tag.
const PRIVATE_BYTES: usize = 1 + 32;

/// A TPM in memory.
pub struct Fake {
    seed: [u8; 32],
    registers: BTreeMap<(HashAlg, PcrIndex), Digest>,
    banks: Vec<HashAlg>,
    clock: ClockInfo,
    epoch: Option<u64>,
    made: u8,
    ak: Option<Loaded>,
    credentials: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    certificate: Option<Vec<u8>>,
    moves: u32,
    steps: u32,
    fails_at: Option<u32>,
    fails_on: bool,
}

/// The loaded attestation key.
struct Loaded {
    key: SigningKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Fake {
    /// A TPM whose identity is `seed`, with the banks SHA-256 and SHA-384, as after power-on.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            registers: BTreeMap::new(),
            banks: vec![HashAlg::Sha256, HashAlg::Sha384],
            clock: ClockInfo { clock_ms: 1000, reset_count: 1, restart_count: 0, safe: true },
            epoch: None,
            made: 0,
            ak: None,
            credentials: BTreeMap::new(),
            certificate: None,
            moves: 0,
            steps: 0,
            fails_at: None,
            fails_on: false,
        }
    }

    /// The call with this number, counted from 0 over all methods of [`Trust`], fails.
    pub fn fail_at(&mut self, step: u32) {
        self.fails_at = Some(step);
        self.fails_on = false;
    }

    /// That call and every later one fails.
    pub fn fail_from(&mut self, step: u32) {
        self.fails_at = Some(step);
        self.fails_on = true;
    }

    /// No call fails any more.
    pub fn heal(&mut self) {
        self.fails_at = None;
    }

    /// Calls so far.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Active banks, in the TPM's order.
    pub fn set_banks(&mut self, banks: &[HashAlg]) {
        self.banks = banks.to_vec();
    }

    /// Sets a register in the bank of `value`.
    pub fn set_pcr(&mut self, index: PcrIndex, value: Digest) {
        self.registers.insert((value.alg(), index), value);
    }

    /// Extends a register in every active bank by the digest of `what`.
    pub fn extend(&mut self, index: PcrIndex, what: &[u8]) {
        for bank in self.banks.clone() {
            let value = pcr::extend(&self.pcr(bank, index), &bank.digest(&[what]));
            self.registers.insert((bank, index), value);
        }
    }

    /// Value of a register.
    #[must_use]
    pub fn pcr(&self, bank: HashAlg, index: PcrIndex) -> Digest {
        self.registers.get(&(bank, index)).cloned().unwrap_or_else(|| Digest::zero(bank))
    }

    /// Power off and on: registers are zero, nothing is loaded, the reset counter is one higher.
    pub fn reset(&mut self) {
        self.registers.clear();
        self.ak = None;
        self.clock.reset_count += 1;
        self.clock.restart_count = 0;
    }

    /// Suspend and resume: the restart counter is one higher.
    pub fn restart(&mut self) {
        self.clock.restart_count += 1;
    }

    /// A register moves between quote and read this many times.
    pub fn moves(&mut self, times: u32) {
        self.moves = times;
    }

    /// What [`Trust::activate`] gives for a credential: its key is not one that can decrypt.
    pub fn expect_credential(&mut self, credential: &[u8], secret: &[u8], answer: &[u8]) {
        self.credentials.insert((credential.to_vec(), secret.to_vec()), answer.to_vec());
    }

    /// The certificate in NV memory.
    pub fn set_certificate(&mut self, der: &[u8]) {
        self.certificate = Some(der.to_vec());
    }

    /// Every call passes here first.
    fn step(&mut self) -> Result<(), TrustError> {
        let step = self.steps;
        self.steps += 1;
        self.clock.clock_ms += 10;
        let failing = |first| step == first || (self.fails_on && step > first);
        if self.fails_at.is_some_and(failing) {
            return Err(TrustError::Fake { step });
        }
        Ok(())
    }

    /// HMAC under the seed.
    fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes a key of any length: there is no error to have.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.seed) else {
            return self.seed;
        };
        for part in parts {
            mac.update(part);
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().into()
    }

    fn key(&self, number: u8) -> Result<Loaded, TrustError> {
        let key = SigningKey::from_slice(&self.derive(&[b"ak", &[number]]))
            .map_err(|_| TrustError::Unexpected { what: "the seed gives no P-256 key" })?;
        let public = public_of(key.verifying_key());
        Ok(Loaded { key, public })
    }

    fn tag(&self, number: u8, public: &[u8]) -> [u8; 32] {
        self.derive(&[b"blob", &[number], public])
    }

    fn claims(&self, selection: &Selection) -> Result<Vec<PcrClaim>, TrustError> {
        let mut claims = Vec::new();
        for (bank, indexes) in selection {
            if !self.banks.contains(bank) {
                return Err(PcrError::Selection { command: "TPM2_PCR_Read" }.into());
            }
            let mut sorted = indexes.clone();
            sorted.sort_unstable();
            sorted.dedup();
            claims.extend(sorted.into_iter().map(|index| PcrClaim {
                alg: *bank as u16,
                index: index.get(),
                digest: self.pcr(*bank, index).as_bytes().to_vec().into(),
            }));
        }
        Ok(claims)
    }
}

fn public_of(key: &VerifyingKey) -> Vec<u8> {
    let point = key.to_sec1_point(false);
    let coordinate =
        |bytes: Option<&p256::FieldBytes>| bytes.map(|b| b.to_vec()).unwrap_or_default();
    structures::signing_public(
        SigningKind::Attestation,
        &coordinate(point.x()),
        &coordinate(point.y()),
    )
}

impl Trust for Fake {
    fn banks(&mut self) -> Result<Vec<HashAlg>, TrustError> {
        self.step()?;
        Ok(self.banks.clone())
    }

    fn maker(&mut self) -> Result<Maker, TrustError> {
        self.step()?;
        Ok(Maker { manufacturer: "FAKE".into(), vendor: "memory".into(), software: true })
    }

    fn clock(&mut self) -> Result<ClockInfo, TrustError> {
        self.step()?;
        Ok(self.clock)
    }

    fn endorsement(&mut self) -> Result<Endorsement, TrustError> {
        self.step()?;
        // The modulus is made of the seed: another one for another TPM, and nobody has its factors.
        let mut modulus = [0; structures::EK_MODULUS_BYTES];
        for (number, chunk) in modulus.chunks_mut(32).enumerate() {
            chunk.copy_from_slice(&self.derive(&[b"ek", &number.to_be_bytes()]));
        }
        // As long as it should be, and odd.
        modulus[0] |= 0x80;
        modulus[structures::EK_MODULUS_BYTES - 1] |= 1;
        let mut public = structures::EkKind::Rsa.template();
        structures::sized(&mut public, &modulus);
        Ok(Endorsement {
            public: public.into(),
            certificate: self.certificate.clone().map(Into::into),
        })
    }

    fn create_ak(&mut self) -> Result<AkBlob, TrustError> {
        self.step()?;
        if self.made >= AKS_MAX {
            return Err(TrustError::Unexpected { what: "too many attestation keys were made" });
        }
        let number = self.made;
        self.made += 1;
        let loaded = self.key(number)?;
        let mut private = vec![number];
        private.extend(self.tag(number, &loaded.public));
        let blob = AkBlob { public: loaded.public.clone(), private };
        self.ak = Some(loaded);
        Ok(blob)
    }

    fn load_ak(&mut self, ak: &AkBlob) -> Result<(), TrustError> {
        self.step()?;
        self.ak = None;
        let (Some(number), PRIVATE_BYTES) = (ak.private.first().copied(), ak.private.len()) else {
            return Err(TrustError::ForeignKey);
        };
        if ak.private.get(1..) != Some(self.tag(number, &ak.public).as_slice()) {
            return Err(TrustError::ForeignKey);
        }
        self.ak = Some(self.key(number)?);
        Ok(())
    }

    fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>, TrustError> {
        self.step()?;
        self.credentials
            .get(&(credential.to_vec(), secret.to_vec()))
            .cloned()
            .ok_or(TrustError::Unexpected { what: "the credential is for another key" })
    }

    fn quote(
        &mut self,
        selection: &Selection,
        extra_data: &[u8; 32],
    ) -> Result<Quoted, TrustError> {
        self.step()?;
        let pcrs = self.claims(selection)?;
        let loaded = self
            .ak
            .as_ref()
            .ok_or(TrustError::Unexpected { what: "no attestation key is loaded" })?;
        let digests: Vec<&[u8]> = pcrs.iter().map(|claim| claim.digest.as_slice()).collect();
        let attest = AttestFields {
            signer: &structures::name_of(&loaded.public),
            extra_data,
            clock: self.clock,
            firmware: 1,
            selection,
            pcr_digest: HashAlg::Sha256.digest(&digests).as_bytes(),
        }
        .to_bytes();
        let signature: Signature = loaded
            .key
            .sign_prehash(HashAlg::Sha256.digest(&[&attest]).as_bytes())
            .map_err(|_| TrustError::Unexpected { what: "the key does not sign" })?;
        let (r, s) = signature.split_bytes();
        let quote =
            Quote { attest: attest.into(), signature: structures::ecdsa_signature(&r, &s).into() };
        let retries = std::mem::take(&mut self.moves);
        if retries > crate::QUOTE_RETRIES_MAX {
            return Err(PcrError::Moving { tries: crate::QUOTE_RETRIES_MAX + 1 }.into());
        }
        Ok(Quoted { quote, pcrs, retries })
    }

    fn epoch(&mut self) -> Result<Option<u64>, TrustError> {
        self.step()?;
        Ok(self.epoch)
    }

    fn next_epoch(&mut self) -> Result<u64, TrustError> {
        self.step()?;
        let next = self.epoch.unwrap_or(0) + 1;
        self.epoch = Some(next);
        Ok(next)
    }

    fn wrapping_key(
        &mut self,
        release: &ReleaseKey,
        purpose: Purpose,
        generation: u32,
        policies: &[SignedPolicy],
    ) -> Result<Secret, TrustError> {
        self.step()?;
        let bank = wrap::bank(&self.banks).ok_or(wrap::no_policy(purpose, generation))?;
        let state = wrap::indexes(purpose)
            .into_iter()
            .map(|index| (index, self.pcr(bank, index)))
            .collect();
        let signed = wrap::approved(policies, purpose, generation, bank, &state)?.into_iter().any(
            |approved| {
                let digest = policy::signed_digest(&approved.policy, purpose, generation);
                Signature::from_slice(&approved.signature).is_ok_and(|signature| {
                    release.key().verify_prehash(&digest, &signature).is_ok()
                })
            },
        );
        if !signed {
            return Err(wrap::no_policy(purpose, generation));
        }
        let policy = policy::authorized_policy(release, purpose, generation);
        Ok(Secret::new(self.derive(&[&policy, &wrap::message(purpose, generation)])))
    }

    fn commands(&self) -> u64 {
        u64::from(self.steps)
    }
}
