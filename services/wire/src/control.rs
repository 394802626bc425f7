//! What is said on PID 1's socket: what the box is doing; and two errands that only a console may ask for:
//! that rules and lists are read again, and that evidence is carried out on a USB stick.

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    bounded,
    event::{Diagnostic, STATUS_DIAGNOSTICS_MAX, Severity},
};

/// Most phases in one [`Status`]; the boot table has ten.
pub const PHASES_MAX: usize = 32;
/// Most services in one [`Status`]: as many as `services.toml` can have.
pub const SERVICES_MAX: usize = 32;
/// Most addresses in one [`Status`].
pub const ADDRESSES_MAX: usize = 64;
/// Most PCR values in [`Measured`]: 24 in each of four banks.
pub const PCRS_MAX: usize = 96;

/// Most log lines in one [`Reply::Log`]: so many of the longest fit in a frame.
pub const LOG_LINES_MAX: usize = 96;
/// Longest log line that is kept, in bytes; longer ones are cut and marked.
pub const LOG_LINE_BYTES_MAX: usize = 512;

/// To PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Answered by [`Reply::Status`].
    #[n(0)]
    Status,
    /// The log lines from number `from` on; answered by [`Reply::Log`].
    #[n(1)]
    Log {
        /// First wanted; 0 for the oldest kept.
        #[n(0)]
        from: u64,
    },
    /// Read rules and lists on the boot partition again, measure them and put them in force; answered
    /// by [`Reply::Reload`]. Only the box's own consoles may ask.
    #[n(2)]
    Reload,
    /// Write whole evidence to the USB stick that is plugged in; answered by [`Reply::Carry`]. Only the
    /// box's own consoles may ask.
    #[n(3)]
    Carry {
        /// What the quote answers, see [`crate::attest::Request::Evidence`].
        #[n(0)]
        nonce: ByteVec,
    },
}

/// From PID 1.
#[expect(
    clippy::large_enum_variant,
    reason = "one reply at a time, decoded and shown; never stored"
)]
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// How the box is.
    #[n(0)]
    Status(#[n(0)] Status),
    /// Lines of the log.
    #[n(1)]
    Log(#[cbor(n(0), decode_with = "bounded::list::<_, _, LOG_LINES_MAX>")] Vec<LogLine>),
    /// The request can't be served; the connection closes.
    #[n(2)]
    Error {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
    /// Whether reading began; [`Status::reload`] says how it goes.
    #[n(3)]
    Reload {
        /// Which one of this boot, from 1; 0: refused.
        #[n(0)]
        number: u32,
        /// With code and remedy when it was refused.
        #[n(1)]
        reason: String,
    },
    /// Whether evidence is on its way to a stick; [`Status::carry`] says how it goes.
    #[n(4)]
    Carry {
        /// Which one of this boot, from 1; 0: refused.
        #[n(0)]
        number: u32,
        /// With code and remedy when it was refused.
        #[n(1)]
        reason: String,
    },
}

/// How the box is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// Name of the node.
    #[n(0)]
    pub name: String,
    /// Version of the image.
    #[n(1)]
    pub version: String,
    /// Milliseconds since the kernel started.
    #[n(2)]
    pub uptime_ms: u64,
    /// Seconds since 1970 by the box's clock.
    #[n(3)]
    pub time_s: u64,
    /// `true` once every service that has to be ready was.
    #[n(4)]
    pub ready: bool,
    /// Boot phases in order.
    #[cbor(n(5), decode_with = "bounded::list::<_, _, PHASES_MAX>")]
    pub phases: Vec<Phase>,
    /// Services in order of start.
    #[cbor(n(6), decode_with = "bounded::list::<_, _, SERVICES_MAX>")]
    pub services: Vec<Service>,
    /// What the TPM says.
    #[n(7)]
    pub measured: Measured,
    /// Addresses of the box, as `eth0 10.20.0.2/24`.
    #[cbor(n(8), decode_with = "bounded::list::<_, _, ADDRESSES_MAX>")]
    pub addresses: Vec<String>,
    /// What is wrong.
    #[cbor(n(9), decode_with = "bounded::list::<_, _, STATUS_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
    /// Resident memory of all services in KiB.
    #[n(10)]
    pub rss_kib: u64,
    /// Memory of the box and what is available, in KiB.
    #[n(11)]
    pub memory_kib: (u64, u64),
    /// What holds the state: `encrypted`, `plain`, `memory`, `locked`, and why.
    #[n(12)]
    pub state: Option<String>,
    /// The last time that rules and lists were read while services run; none since the start.
    #[n(13)]
    pub reload: Option<Errand>,
    /// The last time that evidence was carried out; none since the start.
    #[n(14)]
    pub carry: Option<Errand>,
}

/// How far an errand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ErrandState {
    /// It began.
    #[n(0)]
    Begun,
    /// What was read is measured; sensor and inspector take it in.
    #[n(1)]
    Measured,
    /// In force; on the stick.
    #[n(2)]
    Done,
    /// Not in force; not on the stick.
    #[n(3)]
    Failed,
}

/// What a console asked PID 1 for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Errand {
    /// Which one of this boot, from 1.
    #[n(0)]
    pub number: u32,
    /// How far it is.
    #[n(1)]
    pub state: ErrandState,
    /// How many more this boot may have.
    #[n(2)]
    pub left: u32,
    /// What came of it in one sentence, with code and remedy when it failed.
    #[n(3)]
    pub text: String,
}

/// One boot phase.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Phase {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// `true` when it did all it had to.
    #[n(1)]
    pub ok: bool,
    /// How long it took, in microseconds.
    #[n(2)]
    pub us: u64,
}

/// State of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ServiceState {
    /// Not started yet.
    #[n(0)]
    Waiting,
    /// Started, not ready yet.
    #[n(1)]
    Starting,
    /// Ready.
    #[n(2)]
    Running,
    /// Ended; will be started again.
    #[n(3)]
    Backoff,
    /// Ended too often (an essential one is tried again later) or refused.
    #[n(4)]
    Failed,
    /// Ended because the box shuts down.
    #[n(5)]
    Stopped,
}

impl ServiceState {
    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "WAIT",
            Self::Starting => "START",
            Self::Running => "OK",
            Self::Backoff => "RETRY",
            Self::Failed => "FAIL",
            Self::Stopped => "STOP",
        }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Service {
    /// Name in `services.toml`.
    #[n(0)]
    pub name: String,
    /// How it is.
    #[n(1)]
    pub state: ServiceState,
    /// Process id, 0 when none.
    #[n(2)]
    pub pid: u32,
    /// Starts after the first.
    #[n(3)]
    pub restarts: u32,
    /// Milliseconds since it was last started, 0 when it does not run.
    #[n(4)]
    pub up_ms: u64,
    /// Resident memory in KiB.
    #[n(5)]
    pub rss_kib: u64,
    /// SHA-256 of its binary as measured, in hexadecimal; empty when it could not be measured.
    #[n(6)]
    pub digest: String,
    /// `match`, `differs`, `unknown`: against the reference manifest in the image.
    #[n(7)]
    pub verdict: String,
    /// Last exit and last log line, escaped; empty when it never ended.
    #[n(8)]
    pub last_exit: String,
}

/// What the TPM says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Measured {
    /// Assurance level; this version reports `L0` and `T`.
    #[n(0)]
    pub level: String,
    /// What the level means on this box, in one sentence.
    #[n(1)]
    pub level_text: String,
    /// PCRs that say something about this image, by bank and index; empty without a TPM.
    #[cbor(n(2), decode_with = "bounded::list::<_, _, PCRS_MAX>")]
    pub pcrs: Vec<PcrValue>,
    /// With its code: the first event that differs from the manifest, a PCR that is not the log's,
    /// or why nothing can be compared. Empty when all is as predicted.
    #[n(3)]
    pub divergence: String,
    /// Time to measure everything, in microseconds.
    #[n(4)]
    pub measure_us: u64,
    /// TPM commands that it took.
    #[n(5)]
    pub commands: u32,
}

/// One PCR in one bank.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PcrValue {
    /// `sha256`, ...
    #[n(0)]
    pub bank: String,
    /// 0 to 23.
    #[n(1)]
    pub index: u8,
    /// What the TPM gave, in hexadecimal.
    #[n(2)]
    pub value: String,
    /// What the reference manifest predicts, in hexadecimal; empty when it predicts nothing.
    #[n(3)]
    pub predicted: String,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogLine {
    /// Number, from 1, without gaps except where lines were dropped.
    #[n(0)]
    pub number: u64,
    /// Seconds since 1970.
    #[n(1)]
    pub time_s: u64,
    /// Service, or `init`.
    #[n(2)]
    pub source: String,
    /// How the reader should react.
    #[n(3)]
    pub severity: Severity,
    /// Escaped text.
    #[n(4)]
    pub text: String,
}
