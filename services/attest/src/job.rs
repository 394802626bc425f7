//! What the core has done on the TPM, and what comes back: messages between the loop and the thread
//! that owns the TPM.

use hookprobe_evidence::{
    bundle::EpochQuote,
    quote::{Binding, ClockInfo},
};
use hookprobe_wire::{
    Diagnostic, NodeId,
    attest::{KeyOrigin, Measurement, Verdict},
    control::PcrValue,
};
use zeroize::Zeroizing;

use crate::{code::Fault, identity::BootPin};

/// Names a job, so that an answer that comes too late is known as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a quote is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The box's own appraisal: nothing leaves.
    Own,
    /// The begin of an epoch: short, for the ledger.
    Epoch,
    /// A challenger's, with or without logs.
    Challenge {
        /// With logs, manifest and endorsement key.
        full: bool,
    },
}

/// What a quote is to vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Nonce, session, ledger.
    pub binding: Binding,
    /// The quote of the epoch's begin, to go with a challenger's.
    pub epoch: Option<EpochQuote>,
}

/// Work for the TPM's thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Open the TPM, load or make the identity.
    Start,
    /// Quote.
    Quote(Want, Box<Ask>),
    /// TPM2_ActivateCredential.
    Activate {
        /// TPM2B_ID_OBJECT without its size.
        credential: Vec<u8>,
        /// TPM2B_ENCRYPTED_SECRET without its size.
        secret: Vec<u8>,
    },
    /// The recovery key was noted: write the identity without it.
    ForgetRecovery,
}

/// What came of a job. The seed comes beside it, never in it.
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Start`].
    Started(Box<Started>),
    /// Of [`Job::Quote`].
    Quoted(Result<Box<Attested>, Fault>),
    /// Of [`Job::Activate`].
    Activated(Result<Zeroizing<Vec<u8>>, Fault>),
    /// Of [`Job::ForgetRecovery`].
    Forgotten(Result<(), Fault>),
}

/// How the TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    None(Fault),
    /// It is there, but there is no identity.
    Failed(Fault),
    /// The attestation key is loaded.
    Enrolled(Enrolled),
}

/// An identity in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// TPM Name of the attestation key, hexadecimal.
    pub ak_name: String,
    /// The endorsement key in one line.
    pub ek: String,
    /// What the TPM's clock has to say from now on.
    pub pin: BootPin,
    /// What it said at the start.
    pub clock: ClockInfo,
    /// What happened to the identity, for the ledger: `enrolled`, `recovered`, `rolled-back`.
    pub change: Option<(&'static str, String)>,
    /// Level until the first appraisal, and its text.
    pub level: (String, String),
    /// Commands that the TPM was sent for it: each costs a discrete one some ten milliseconds.
    pub commands: u64,
}

/// What the start came to.
#[derive(Debug)]
pub struct Started {
    /// The TPM.
    pub condition: Condition,
    /// Where the seed that comes beside this is from; [`KeyOrigin::None`] without one.
    pub origin: KeyOrigin,
    /// Its public key: the only ledger that a quote vouches for.
    pub node: Option<NodeId>,
    /// The recovery key that waits to be noted.
    pub recovery: Option<Zeroizing<String>>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// Measurements of this boot as far as they can be read.
    pub log: Vec<Measurement>,
}

/// A quote and what the box itself makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The evidence for whoever asked; empty when nobody did.
    pub evidence: Vec<u8>,
    /// The quote with its binding.
    pub quote: EpochQuote,
    /// The TPM's clock in it.
    pub clock: ClockInfo,
    /// The box's own appraisal; for [`Want::Own`] only.
    pub appraisal: Option<Appraisal>,
    /// How long it took, microseconds.
    pub us: u64,
    /// How often it was made again because a register moved.
    pub retries: u32,
}

/// The box's appraisal of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// Result.
    pub verdict: Verdict,
    /// Why not affirming; empty when it is.
    pub divergence: String,
    /// Assurance level and its text.
    pub level: (String, String),
    /// Registers, with what is predicted.
    pub pcrs: Vec<PcrValue>,
    /// Measurements of this boot.
    pub log: Vec<Measurement>,
}
