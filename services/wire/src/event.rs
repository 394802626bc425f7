//! What happened: the payloads of blocks, and what is said to people.

use std::net::IpAddr;

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{block::Hash, bounded};

/// Most diagnostics in one [`Boot`].
pub const BOOT_DIAGNOSTICS_MAX: usize = 32;
/// Most diagnostics in a status of PID 1, the sensor or the response.
pub const STATUS_DIAGNOSTICS_MAX: usize = 64;
/// Most named numbers in one [`Alert`].
pub const EVIDENCE_MAX: usize = 16;
/// Most enforcers that are named; there are two.
pub const ENFORCERS_MAX: usize = 8;

/// Most bytes of evidence in one [`Binding`].
pub const BINDING_BYTES_MAX: usize = 2048;

/// Kind of payload, as it stands in a block header. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum EventType {
    /// [`Boot`]
    #[n(1)]
    Boot,
    /// [`ServiceChange`]
    #[n(2)]
    Service,
    /// [`Binding`]
    #[n(3)]
    Binding,
    /// [`Attestation`]
    #[n(4)]
    Attestation,
    /// [`Alert`]
    #[n(16)]
    Alert,
    /// [`Mitigation`]
    #[n(32)]
    Mitigation,
    /// [`Lift`]
    #[n(33)]
    Lift,
    /// [`Refusal`]
    #[n(34)]
    Refusal,
}

impl EventType {
    /// Word shown to people and used in logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Service => "service",
            Self::Binding => "binding",
            Self::Attestation => "attestation",
            Self::Alert => "alert",
            Self::Mitigation => "mitigation",
            Self::Lift => "lift",
            Self::Refusal => "refusal",
        }
    }
}

/// How bad, in three words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Severity {
    /// Worth knowing.
    #[n(0)]
    Info,
    /// Look at it today.
    #[n(1)]
    Warn,
    /// Look at it now.
    #[n(2)]
    Critical,
}

impl Severity {
    /// Word shown to people: every colour doubles it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Critical => "CRIT",
        }
    }
}

/// Payload of a block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// The box started.
    #[n(1)]
    Boot(#[n(0)] Boot),
    /// A service started, failed, was given up.
    #[n(2)]
    Service(#[n(0)] ServiceChange),
    /// The TPM vouches for the ledger's key of this boot.
    #[n(3)]
    Binding(#[n(0)] Binding),
    /// The box's verification of itself came to another result.
    #[n(4)]
    Attestation(#[n(0)] Attestation),
    /// A detector is convinced.
    #[n(16)]
    Alert(#[n(0)] Alert),
    /// Something is being done about a cause.
    #[n(32)]
    Mitigation(#[n(0)] Mitigation),
    /// A mitigation ended.
    #[n(33)]
    Lift(#[n(0)] Lift),
    /// A mitigation was not done, and why.
    #[n(34)]
    Refusal(#[n(0)] Refusal),
}

impl Event {
    /// Kind, for the block header.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Boot(_) => EventType::Boot,
            Self::Service(_) => EventType::Service,
            Self::Binding(_) => EventType::Binding,
            Self::Attestation(_) => EventType::Attestation,
            Self::Alert(_) => EventType::Alert,
            Self::Mitigation(_) => EventType::Mitigation,
            Self::Lift(_) => EventType::Lift,
            Self::Refusal(_) => EventType::Refusal,
        }
    }

    /// Deterministic bytes, the payload of a block.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        // Into a Vec with infallible field encoders: there is no error to have.
        let _ = minicbor::encode(self, &mut out);
        out
    }
}

/// The box started.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Boot {
    /// Version of the image.
    #[n(0)]
    pub version: String,
    /// The kernel's random identity of this boot, as text.
    #[n(1)]
    pub boot_id: String,
    /// Assurance level: `L0` to `L4`, `T`.
    #[n(2)]
    pub level: String,
    /// PCR 13 in the SHA-256 bank as the TPM gave it; none without a TPM.
    #[n(3)]
    pub pcr13: Option<Hash>,
    /// Codes and causes of what was wrong, at most [`BOOT_DIAGNOSTICS_MAX`].
    #[cbor(n(4), decode_with = "bounded::list::<_, _, BOOT_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
}

/// A service changed state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ServiceChange {
    /// Name in `services.toml`.
    #[n(0)]
    pub service: String,
    /// `started`, `exited`, `given-up`, `refused`.
    #[n(1)]
    pub change: String,
    /// Exit status and last log line, escaped.
    #[n(2)]
    pub detail: String,
}

/// The attestation key certifies the ledger's key for one epoch: once per boot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    /// Boot counter of the TPM.
    #[n(0)]
    pub epoch: u64,
    /// An `evidence::bundle::Evidence` without logs, whose quote covers the ledger's key; its nonce
    /// is the boot id. At most [`BINDING_BYTES_MAX`].
    #[n(1)]
    pub evidence: ByteVec,
}

/// The verdict about the box changed, or the box got an identity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attestation {
    /// `enrolled`, `recovered`, `verified`, `warning`, `failed`, `rolled-back`.
    #[n(0)]
    pub change: String,
    /// Assurance level.
    #[n(1)]
    pub level: String,
    /// Name of the attestation key, hexadecimal.
    #[n(2)]
    pub ak_name: String,
    /// With code and remedy when it is not good; else one sentence.
    #[n(3)]
    pub detail: String,
}

/// A detector is convinced that something is going on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Alert {
    /// Detector, e.g. `scan.trw`.
    #[n(0)]
    pub detector: String,
    /// How bad.
    #[n(1)]
    pub severity: Severity,
    /// Who does it.
    #[n(2)]
    pub source: IpAddr,
    /// Interface on which it was seen.
    #[n(3)]
    pub interface: String,
    /// One sentence for people.
    #[n(4)]
    pub summary: String,
    /// Named numbers that led to the decision, e.g. `failures = 9`; at most
    /// [`EVIDENCE_MAX`].
    #[cbor(n(5), decode_with = "bounded::list::<_, _, EVIDENCE_MAX>")]
    pub evidence: Vec<Evidence>,
    /// First packet that counted, nanoseconds since 1970.
    #[n(6)]
    pub first_ns: u64,
    /// Packet that decided, nanoseconds since 1970.
    #[n(7)]
    pub decided_ns: u64,
    /// Made by the built-in drill: handled like any other, shown as a drill.
    #[n(8)]
    pub drill: bool,
    /// Where what led to it is found again.
    #[n(9)]
    pub reference: Option<Box<Reference>>,
}

/// Where the packets behind an alert are found again: in a capture, in EVE, in Zeek's logs. Bytes
/// that a peer chose never stand here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reference {
    /// Community ID version 1 of the flow, `1:` and base64: the same in every tool. None when it is
    /// about no single flow.
    #[n(0)]
    pub community_id: Option<String>,
    /// The other side, when it is one.
    #[n(1)]
    pub destination: Option<IpAddr>,
    /// Ports of source and destination; 0 where there are none.
    #[n(2)]
    pub ports: (u16, u16),
    /// IP protocol; 0 when it is about several.
    #[n(3)]
    pub protocol: u8,
    /// The rule, when one decided.
    #[n(4)]
    pub rule: Option<Rule>,
    /// SHA-256 of the record that was written to EVE, so that the ledger vouches for it.
    #[n(5)]
    pub record: Option<Hash>,
}

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Rule {
    /// Its generator; 1 is the text rules.
    #[n(0)]
    pub gid: u32,
    /// Its number.
    #[n(1)]
    pub sid: u32,
    /// Its revision.
    #[n(2)]
    pub rev: u32,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Evidence {
    /// What was counted.
    #[n(0)]
    pub name: String,
    /// How many.
    #[n(1)]
    pub value: u64,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Action {
    /// Drop every packet from the subject.
    #[n(0)]
    BlockSource,
}

impl Action {
    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BlockSource => "block-source",
        }
    }
}

/// How much the box may do by itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Mode {
    /// Record only.
    #[default]
    #[n(0)]
    Observe,
    /// Record what it would do.
    #[n(1)]
    Suggest,
    /// Do it.
    #[n(2)]
    Autonomous,
}

impl Mode {
    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Suggest => "suggest",
            Self::Autonomous => "autonomous",
        }
    }
}

/// Something is being done (or, in mode suggest, would be done) about a cause.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Mitigation {
    /// Block that it answers.
    #[n(0)]
    pub cause: Hash,
    /// What.
    #[n(1)]
    pub action: Action,
    /// Against whom.
    #[n(2)]
    pub subject: IpAddr,
    /// Mode in force.
    #[n(3)]
    pub mode: Mode,
    /// When it ends, nanoseconds since 1970.
    #[n(4)]
    pub expires_ns: u64,
    /// Enforcers that accepted it before this block was written: `xdp`, `nft`. Empty: not enforced.
    #[cbor(n(5), decode_with = "bounded::list::<_, _, ENFORCERS_MAX>")]
    pub enforced_by: Vec<String>,
    /// Why, in one sentence.
    #[n(6)]
    pub reason: String,
}

/// A mitigation ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lift {
    /// The mitigation block.
    #[n(0)]
    pub cause: Hash,
    /// Against whom it was.
    #[n(1)]
    pub subject: IpAddr,
    /// `expired`, `operator`, `protected`.
    #[n(2)]
    pub reason: String,
    /// Packets that the enforcers dropped while it was in force.
    #[n(3)]
    pub packets_dropped: u64,
}

/// A mitigation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Block that asked for it.
    #[n(0)]
    pub cause: Hash,
    /// Against whom it would have been.
    #[n(1)]
    pub subject: IpAddr,
    /// Stable code, e.g. `HP-RS-010`.
    #[n(2)]
    pub code: String,
    /// Why, in one sentence.
    #[n(3)]
    pub reason: String,
}

/// What an operator is told: a stable code, the object, the cause and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Diagnostic {
    /// Stable code, e.g. `HP-ST-002`.
    #[n(0)]
    pub code: String,
    /// How bad.
    #[n(1)]
    pub severity: Severity,
    /// What it is about, e.g. `state`.
    #[n(2)]
    pub object: String,
    /// What is wrong.
    #[n(3)]
    pub cause: String,
    /// What to do next.
    #[n(4)]
    pub remedy: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}; {}", self.code, self.object, self.cause, self.remedy)
    }
}
