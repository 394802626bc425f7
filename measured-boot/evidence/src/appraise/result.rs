//! The result of an appraisal, in the words of draft-ietf-rats-ear and draft-ietf-rats-ar4si.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Memory;
use crate::{
    digest::Digest,
    levels::Level,
    quote::{ClockInfo, KeyName},
    signed,
};

/// eat_profile of the claims set.
pub const PROFILE: &str = "tag:github.com,2023:veraison/ear";
/// Name of the one submodule that is appraised.
const SUBMODULE: &str = "hookprobe";

/// Overall verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is claimed.
    None,
    /// As the reference says.
    Affirming,
    /// Usable, but something is not as it should be.
    Warning,
    /// Not what it should be.
    Contraindicated,
}

impl Status {
    /// Word of the draft.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

/// Value of a trustworthiness claim; 0 claims nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Claim(pub i8);

impl Claim {
    /// The good value of every claim here: recognised, approved, genuine.
    pub const GOOD: Self = Self(2);
    /// Configuration without known vulnerabilities, not one that was asked for.
    pub const CONFIGURATION_PLAUSIBLE: Self = Self(3);
    /// Something that asks for attention (unsafe-config, unsafe-rt, unsafe-hw, ...).
    pub const UNSAFE: Self = Self(32);
    /// Something that nobody vouched for (unrecognized-rt, unrecognized-fs).
    pub const UNRECOGNIZED: Self = Self(33);
    /// Known to be wrong.
    pub const WRONG: Self = Self(96);
    /// An instance or hardware that is not known.
    pub const UNKNOWN: Self = Self(97);
    /// A signature or hash did not verify.
    pub const CRYPTO_FAILED: Self = Self(99);

    /// Tier (AR4SI, 2.3).
    #[must_use]
    pub fn tier(self) -> Status {
        match self.0 {
            -1..=1 => Status::None,
            -32..=31 => Status::Affirming,
            -96..=95 => Status::Warning,
            _ => Status::Contraindicated,
        }
    }
}

/// The trustworthiness vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claims {
    /// Which box: key, ledger's key, counters.
    pub instance_identity: Claim,
    /// Site configuration and kernel command line.
    pub configuration: Claim,
    /// Kernel, PID 1, services.
    pub executables: Claim,
    /// The read-only root.
    pub file_system: Claim,
    /// The TPM and its maker.
    pub hardware: Claim,
    /// Secrets at rest.
    pub storage_opaque: Claim,
}

impl Claims {
    fn all(self) -> [Claim; 6] {
        [
            self.instance_identity,
            self.configuration,
            self.executables,
            self.file_system,
            self.hardware,
            self.storage_opaque,
        ]
    }

    /// The worst of all.
    #[must_use]
    pub fn status(self) -> Status {
        self.all().into_iter().map(Claim::tier).max().unwrap_or(Status::None)
    }
}

/// How an operator should react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Warn,
    /// Look at it now.
    Critical,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub object: String,
    /// What is wrong.
    pub cause: String,
    /// What to do next.
    pub remedy: String,
}

impl Finding {
    /// From an error's text, `CODE object: cause; remedy`.
    #[must_use]
    pub fn from_text(severity: Severity, text: &str) -> Self {
        let (code, rest) = text.split_once(' ').unwrap_or(("", text));
        let (object, rest) = rest.split_once(": ").unwrap_or(("", rest));
        let (cause, remedy) = rest.rsplit_once("; ").unwrap_or((rest, ""));
        Self {
            code: code.into(),
            severity,
            object: object.into(),
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; {}", self.code, self.object, self.cause, self.remedy)
    }
}

/// A register that was quoted, with what the reference says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Which.
    pub pcr: crate::pcr::PcrIndex,
    /// As quoted.
    pub value: Digest,
    /// As predicted, where it is.
    pub expected: Option<Digest>,
}

/// State of a ledger that a quote binds: blocks, hash of the last, RFC 6962 root over all.
pub type LedgerHead = (u64, Option<Vec<u8>>, Option<Vec<u8>>);

/// What an appraisal came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// Overall.
    pub status: Status,
    /// In parts.
    pub claims: Claims,
    /// What kind of proof it is.
    pub level: Level,
    /// SHA-256 of [`crate::bundle::Evidence::to_bytes`].
    pub evidence: Digest,
    /// Seconds since 1970 by the verifier's clock.
    pub issued_s: u64,
    /// Not to be relied upon afterwards.
    pub expires_s: u64,
    /// Worst first, otherwise in the order in which they were found.
    pub findings: Vec<Finding>,
    /// First event that is not as predicted, by name.
    pub divergence: Option<String>,
    /// The challenge in the quote.
    pub nonce: Vec<u8>,
    /// Name of the key that signed; none when that was not verified, as all below.
    pub ak_name: Option<KeyName>,
    /// Ed25519 key of the ledger, as the quote binds it.
    pub node: Option<Vec<u8>>,
    /// Boot counter of the TPM.
    pub epoch: Option<u64>,
    /// State of the ledger, as the quote binds it.
    pub ledger: Option<LedgerHead>,
    /// The TPM's clock.
    pub clock: Option<ClockInfo>,
    /// Version and generation of the manifest that it was compared with.
    pub image: Option<(String, u32)>,
    /// Secure Boot as the firmware measured it.
    pub secure_boot: Option<bool>,
    /// What the endorsement key's certificate says, in one line.
    pub endorsement: String,
    /// Registers that were quoted.
    pub registers: Vec<Register>,
    /// What to remember for the next appraisal of this box; none when it is contraindicated.
    pub memory: Option<Memory>,
}

impl Appraisal {
    /// The most serious finding.
    #[must_use]
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// Claims set of an EAT attestation result.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut submodule = Map::new();
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                submodule.insert(key.into(), value);
            }
        };
        put("ear.status", json!(self.status));
        put("ear.trustworthiness-vector", json!(self.claims));
        put("ear.appraisal-policy-id", json!("hookprobe.policy.v1"));
        put("hookprobe.level", json!(self.level));
        put("hookprobe.level-text", json!(self.level.text()));
        put("hookprobe.evidence-sha256", json!(self.evidence.hex()));
        put("hookprobe.findings", json!(self.findings));
        put("hookprobe.divergence", json!(self.divergence));
        put("hookprobe.ak-name", json!(self.ak_name.as_ref().map(KeyName::hex)));
        put("hookprobe.node", json!(self.node.as_deref().map(crate::hex::hex)));
        put("hookprobe.epoch", json!(self.epoch));
        put("hookprobe.ledger", self.ledger_json());
        put("hookprobe.image", self.image_json());
        put("hookprobe.secure-boot", json!(self.secure_boot));
        put("hookprobe.endorsement", json!(self.endorsement));
        put("hookprobe.registers", self.registers_json());
        let claims = json!({
            "eat_profile": PROFILE,
            "eat_nonce": crate::hex::hex(&self.nonce),
            "iat": self.issued_s,
            "exp": self.expires_s,
            "ear.verifier-id": {
                "build": concat!("hookprobe-evidence ", env!("CARGO_PKG_VERSION")),
                "developer": "hookprobe",
            },
            "submods": { SUBMODULE: submodule },
        });
        // A map of strings and numbers always serialises.
        serde_json::to_vec(&claims).unwrap_or_default()
    }

    /// The claims set, signed: a compact JWS (ES256). `sign` gives r and s over what it gets.
    #[must_use]
    pub fn sign(&self, key_id: &str, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
        signed::seal_result(&self.to_json(), key_id, sign)
    }

    fn ledger_json(&self) -> Value {
        let Some((length, head, root)) = &self.ledger else {
            return Value::Null;
        };
        json!({
            "length": length,
            "head": head.as_deref().map(crate::hex::hex),
            "root": root.as_deref().map(crate::hex::hex),
        })
    }

    fn image_json(&self) -> Value {
        let image = self.image.as_ref();
        json!(image.map(|(version, generation)| json!({
            "version": version,
            "generation": generation,
        })))
    }

    fn registers_json(&self) -> Value {
        let mut banks: BTreeMap<&str, BTreeMap<u8, String>> = BTreeMap::new();
        for register in &self.registers {
            banks
                .entry(register.value.alg().name())
                .or_default()
                .insert(register.pcr.get(), register.value.hex());
        }
        json!(banks)
    }
}
