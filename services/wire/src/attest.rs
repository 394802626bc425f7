//! What is said on attest's socket: identity, quotes, evidence, and the ledger's seed.
//!
//! Evidence and credentials go through here as bytes whose format is `evidence`'s; a reader gives
//! them to that crate, never to its own parser. The seed is a type of its own that is neither
//! cloned nor printed, and only `attest` sends it, only `ledger` decodes it.

use std::fmt;

use minicbor::{
    Decode, Encode,
    bytes::{ByteArray, ByteVec},
};
use zeroize::Zeroize;

use crate::{
    block::{Hash, NodeId},
    bounded,
    control::PcrValue,
    event::{Diagnostic, STATUS_DIAGNOSTICS_MAX},
};

/// Longest nonce of a challenge in bytes: what fits in a TPM2B_DATA of every TPM.
pub const NONCE_BYTES_MAX: usize = 64;
/// Shortest nonce: less can be guessed and collected in advance.
pub const NONCE_BYTES_MIN: usize = 8;
/// Most bytes of evidence: both logs at their usual size are a tenth of it.
pub const EVIDENCE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most bytes in one [`Reply::Part`].
pub const PART_BYTES_MAX: usize = 32 * 1024;
/// Longest credential blob or secret of TPM2_ActivateCredential.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;
/// Most PCR values in [`Status`]: sixteen in each of four banks.
pub const PCRS_MAX: usize = 96;
/// Most lines in one [`Reply::Log`].
pub const LOG_MAX: usize = 128;
/// Link to the port of a hypervisor that carries challenges (laboratory): the same frames as on the
/// socket, but only [`Request::Status`], [`Request::Evidence`], [`Request::Activate`] and
/// [`Request::Log`] are served. PID 1 makes it when the machine has a port of that name.
pub const PORT_LINK: &str = "/run/hookprobe/attest-port";
/// Name of that port.
pub const PORT_NAME: &str = "hookprobe.attest";
/// Bytes of the ledger's seed.
pub const SEED_BYTES: usize = 32;

/// To `attest`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Answered by [`Reply::Status`].
    #[n(0)]
    Status,
    /// A challenge: answered by [`Reply::Part`]s that together are one `evidence::bundle::Evidence`.
    #[n(1)]
    Evidence {
        /// Fresh random bytes of the challenger, [`NONCE_BYTES_MIN`] to [`NONCE_BYTES_MAX`].
        #[n(0)]
        nonce: ByteVec,
        /// TLS exporter of the session that carries the challenge; none outside TLS.
        #[n(1)]
        exporter: Option<Hash>,
        /// With event logs, manifest and EK certificate; else the quote alone (under 1 KiB).
        #[n(2)]
        full: bool,
    },
    /// Proof that the attestation key is in the TPM of the endorsement key: TPM2_ActivateCredential.
    /// Answered by [`Reply::Activated`].
    #[n(2)]
    Activate {
        /// TPM2B_ID_OBJECT without its size.
        #[n(0)]
        credential: ByteVec,
        /// TPM2B_ENCRYPTED_SECRET without its size.
        #[n(1)]
        secret: ByteVec,
    },
    /// Only from `ledger`; answered by one frame of [`Seed`] or of [`Reply::Error`], see [`SeedReply`].
    #[n(3)]
    Seed,
    /// The recovery key, as long as nobody has noted it. Only from `console`. Answered by
    /// [`Reply::Recovery`].
    #[n(4)]
    Recovery,
    /// Somebody has written the recovery key down: forget it. Only from `console`. Answered by
    /// [`Reply::Recovery`] with none.
    #[n(5)]
    RecoveryNoted,
    /// Measurements of this boot from number `from` on, firmware's first. Answered by [`Reply::Log`].
    #[n(6)]
    Log {
        /// First wanted, from 0.
        #[n(0)]
        from: u32,
    },
}

/// From `attest`, to everything but [`Request::Seed`].
#[expect(
    clippy::large_enum_variant,
    reason = "one reply at a time, decoded and shown; never stored"
)]
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// How it stands.
    #[n(0)]
    Status(#[n(0)] Status),
    /// A piece of the evidence, in order.
    #[n(1)]
    Part {
        /// Where it begins.
        #[n(0)]
        offset: u32,
        /// Bytes of the whole, at most [`EVIDENCE_BYTES_MAX`].
        #[n(1)]
        total: u32,
        /// At most [`PART_BYTES_MAX`].
        #[n(2)]
        bytes: ByteVec,
    },
    /// What was in the credential.
    #[n(2)]
    Activated {
        /// The challenger compares it with what it put in.
        #[n(0)]
        secret: ByteVec,
    },
    /// The recovery key in groups, none when it was noted (or there never was one).
    #[n(3)]
    Recovery(#[n(0)] Option<String>),
    /// Measurements in order of extension.
    #[n(4)]
    Log {
        /// How many there are.
        #[n(0)]
        total: u32,
        /// Those asked for.
        #[cbor(n(1), decode_with = "bounded::list::<_, _, LOG_MAX>")]
        lines: Vec<Measurement>,
    },
    /// The request can't be served. The connection stays open.
    #[n(5)]
    Error {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
}

/// What came of the last verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Verdict {
    /// None was made: no TPM, or not yet.
    #[n(0)]
    None,
    /// As the reference manifest says.
    #[n(1)]
    Affirming,
    /// Usable, but something is not as it should be.
    #[n(2)]
    Warning,
    /// Not what it should be.
    #[n(3)]
    Contraindicated,
}

impl Verdict {
    /// Word of the draft "EAT Attestation Results", shown to people.
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

/// How the box's identity and its last verification stand.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// Assurance level: `L0` to `L4`, `T`.
    #[n(0)]
    pub level: String,
    /// What the level means on this box, in one sentence.
    #[n(1)]
    pub level_text: String,
    /// The box's own appraisal of its last quote.
    #[n(2)]
    pub verdict: Verdict,
    /// With code and remedy: why not affirming; empty when it is.
    #[n(3)]
    pub divergence: String,
    /// Who verified: `self`, later peers by name.
    #[n(4)]
    pub verified_by: String,
    /// When, seconds since 1970 by the box's clock; 0: never.
    #[n(5)]
    pub verified_s: u64,
    /// Seconds since then by a clock that never steps.
    #[n(6)]
    pub verified_ago_s: u64,
    /// Challenges answered for others, and seconds since the last (0 with none).
    #[n(7)]
    pub challenges: (u64, u64),
    /// Name of the attestation key (TPM Name, hexadecimal); empty without a TPM.
    #[n(8)]
    pub ak_name: String,
    /// What is known of the endorsement key's certificate, in one line.
    #[n(9)]
    pub ek: String,
    /// The ledger's key, when it was handed over or certified.
    #[n(10)]
    pub node: Option<NodeId>,
    /// Where the ledger's key comes from.
    #[n(11)]
    pub key: KeyOrigin,
    /// Value of the TPM's boot counter; 0 without one.
    #[n(12)]
    pub epoch: u64,
    /// TPM's reset and restart counters as pinned at the start, and the kernel's boot id.
    #[n(13)]
    pub reset_count: u32,
    /// See above.
    #[n(14)]
    pub restart_count: u32,
    /// See above.
    #[n(15)]
    pub boot_id: String,
    /// Quotes made, quotes that had to be made again because a PCR moved, and challenges refused
    /// because there were too many.
    #[n(16)]
    pub quotes: (u64, u64, u64),
    /// How long the last quote took, microseconds.
    #[n(17)]
    pub quote_us: u64,
    /// PCRs of the last quote with what the reference manifest predicts.
    #[cbor(n(18), decode_with = "bounded::list::<_, _, PCRS_MAX>")]
    pub pcrs: Vec<PcrValue>,
    /// A recovery key waits to be noted.
    #[n(19)]
    pub recovery_waiting: bool,
    /// What is wrong.
    #[cbor(n(20), decode_with = "bounded::list::<_, _, STATUS_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
}

/// Where the ledger's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum KeyOrigin {
    /// Not known yet.
    #[n(0)]
    None,
    /// Drawn for this boot; gone with it.
    #[n(1)]
    Boot,
    /// Sealed by the TPM to the release's policy.
    #[n(2)]
    Tpm,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Measurement {
    /// 0 to 23.
    #[n(0)]
    pub pcr: u8,
    /// What was measured, escaped.
    #[n(1)]
    pub name: String,
    /// SHA-256 (or the first bank's) digest, hexadecimal.
    #[n(2)]
    pub digest: String,
    /// `match`, `differs`, `unknown`: against the reference manifest.
    #[n(3)]
    pub verdict: String,
}

/// The ledger's seed. Neither cloned nor printed; wiped when dropped.
#[derive(Encode, Decode)]
pub struct Seed {
    /// Ed25519 seed (RFC 8032).
    #[n(0)]
    seed: ByteArray<SEED_BYTES>,
    /// Boot counter of the TPM, 0 without one.
    #[n(1)]
    pub epoch: u64,
    /// Where the seed comes from.
    #[n(2)]
    pub origin: KeyOrigin,
}

impl Seed {
    /// From its parts.
    #[must_use]
    pub fn new(seed: [u8; SEED_BYTES], epoch: u64, origin: KeyOrigin) -> Self {
        Self { seed: seed.into(), epoch, origin }
    }

    /// The secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; SEED_BYTES] {
        &self.seed
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed(redacted, epoch {}, {:?})", self.epoch, self.origin)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// The answer to [`Request::Seed`].
#[derive(Debug, Encode, Decode)]
pub enum SeedReply {
    /// Here it is.
    #[n(0)]
    Seed(#[n(0)] Seed),
    /// Not to this process, or not in this state of the box.
    #[n(1)]
    Refused {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
    /// Not yet: ask again.
    #[n(2)]
    Later,
}
