//! What the verifier brings: all that evidence is compared with comes from here, never from the box.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    manifest::ReferenceManifest,
    pcr::{PcrIndex, extend},
    policy::ReleaseKey,
    quote::KeyName,
};

/// How long a result may be relied upon where the verifier does not say: a self-quote is made every
/// minute, so five missed in a row are noticed.
pub const VALIDITY_S: u64 = 300;

/// What evidence is compared with. The default trusts no release and so never affirms.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Keys that releases are signed with.
    pub release_keys: Vec<ReleaseKey>,
    /// A manifest that the verifier trusts by itself; else the evidence's own is used, under a
    /// release key.
    pub manifest: Option<ReferenceManifest>,
    /// Lowest generation that is accepted.
    pub generation_min: u32,
    /// Lowest version that is accepted, compared number by number.
    pub version_min: Option<String>,
    /// The challenge that the verifier sent.
    pub nonce: Option<Vec<u8>>,
    /// TLS exporter of the verifier's end of the session.
    pub exporter: Option<Vec<u8>>,
    /// The attestation key that this box was enrolled with.
    pub ak_name: Option<KeyName>,
    /// The box is looked at in order to enrol it: that its key is not known yet is said and claims
    /// nothing, instead of being a warning.
    pub first_contact: bool,
    /// The site configuration that this box should have.
    pub site: Option<Site>,
    /// What the last appraisal of this box left.
    pub memory: Option<Memory>,
    /// Firmware that this box was enrolled with; none: what `memory` has.
    pub firmware: Option<Firmware>,
    /// Certificates (DER) that endorsement keys may be issued by; each is trusted by itself.
    pub ek_roots: Option<Vec<Vec<u8>>>,
    /// Lists of revoked certificates (DER) by those; none: it is not asked whether one was revoked.
    pub ek_lists: Option<Vec<Vec<u8>>>,
    /// Seconds that the result is valid.
    pub validity_s: u64,
}

impl Default for Reference {
    fn default() -> Self {
        Self {
            release_keys: Vec::new(),
            manifest: None,
            generation_min: 0,
            version_min: None,
            nonce: None,
            exporter: None,
            ak_name: None,
            first_contact: false,
            site: None,
            memory: None,
            firmware: None,
            ek_roots: None,
            ek_lists: None,
            validity_s: VALIDITY_S,
        }
    }
}

/// A site configuration, by content or by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its digest; says nothing about other banks.
    Digest(Digest),
}

impl Site {
    /// PCR 12 of a box with this configuration in the bank of `quoted`; `None` where the bank's
    /// digest is not known.
    #[must_use]
    pub fn pcr(&self, quoted: &Digest) -> Option<Digest> {
        let bank = quoted.alg();
        let digest = match self {
            Self::Bytes(bytes) => bank.digest(&[bytes]),
            Self::Digest(digest) if digest.alg() == bank => digest.clone(),
            Self::Digest(_) => return None,
        };
        Some(extend(&Digest::zero(bank), &digest))
    }
}

/// Registers of firmware and its settings by [`Memory::register`], hexadecimal.
pub type Firmware = BTreeMap<String, String>;

/// What is remembered of a box between appraisals, so that a restored snapshot is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Name of the attestation key, hexadecimal.
    pub ak_name: String,
    /// The TPM's resets.
    pub reset_count: u32,
    /// Restarts since the last reset.
    pub restart_count: u32,
    /// Milliseconds by the TPM's clock.
    pub clock_ms: u64,
    /// Boot counter.
    pub epoch: u64,
    /// The kernel's boot id that was certified when that epoch began; none: nothing certified it.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Ledger's key, hexadecimal.
    pub node: Option<String>,
    /// Blocks in the ledger of that epoch.
    pub ledger_length: u64,
    /// Hash of the last of them, hexadecimal.
    pub ledger_head: Option<String>,
    /// Generation of the image.
    pub generation: u32,
    /// Registers that a log has explained once (`sha256:12`) and what they were, hexadecimal.
    pub explained: BTreeMap<String, String>,
    /// Firmware as it was when the box was first looked at; it stays until the box is enrolled again.
    #[serde(default)]
    pub firmware: Firmware,
}

impl Memory {
    /// Key in [`Self::explained`].
    #[must_use]
    pub fn register(pcr: PcrIndex, value: &Digest) -> String {
        format!("{}:{pcr}", value.alg())
    }
}
