//! The signing key from `attest`, which has it sealed by the TPM.
//!
//! ```text
//! connect, Request::Seed --> SeedReply::Seed     the key
//!       ^                    SeedReply::Later    again in 250 ms
//!       |                    cut off, silent     again in 250 ms
//!       '--- until 20 s ---> refused, nonsense, nobody listens, too late: a key of this boot
//! ```
//!
//! A key of this boot is drawn here, is nowhere else, and is told loudly: blocks are recorded and
//! chained all the same, but no TPM vouches for who signed them. It stays until the service is
//! started again.
//!
//! What must never happen here: the seed in a buffer that is not wiped, in a log or in an error;
//! a start that waits for ever. Called by [`crate::serve`]; messages: [`hookprobe_wire::attest`].

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use hookprobe_wire::{
    Diagnostic, FrameError, Severity,
    attest::{KeyOrigin, Request, Seed, SeedReply},
    frame::{HEADER_BYTES, body_length, decode_body, to_vec},
    text::escape,
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    code,
    key::{KeyError, LedgerKey},
    store::open::is_in_memory,
};

/// Largest answer: a seed is some fifty bytes, a refusal is a code and a sentence.
pub const REPLY_BYTES_MAX: usize = 1024;

/// A reason is cut after so many characters: it becomes a line of the log.
const REASON_CHARS_MAX: usize = 240;

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the seed, all in all.
    pub total: Duration,
    /// For one answer.
    pub answer: Duration,
    /// Before asking again.
    pub again: Duration,
}

impl Default for Waits {
    /// A slow discrete TPM needs seconds to make a primary key and to unseal; after 20 s something is
    /// broken, and a box that records under a lesser key is worth more than one that waits. While it
    /// is at work `attest` answers `Later`, so 5 s of silence are a hang. Four asks a second cost
    /// nothing, and a quarter of a second is not noticed in the boot time.
    fn default() -> Self {
        Self {
            total: Duration::from_secs(20),
            answer: Duration::from_secs(5),
            again: Duration::from_millis(250),
        }
    }
}

/// Where the signing key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// From `attest`, on this socket.
    Attest(PathBuf),
    /// A seed in this file, made when missing: tests and benchmarks.
    File(PathBuf),
}

/// The signing key and what is known of it.
#[derive(Debug)]
pub struct Identity {
    /// The key.
    pub key: LedgerKey,
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// Boot counter of the TPM, 0 without one.
    pub counter: u64,
    /// What the operator should know.
    pub diagnostic: Option<Diagnostic>,
}

/// Why `attest` gave no seed.
#[derive(Debug, Error)]
pub enum SeedError {
    /// Nobody listens: PID 1 opens the socket before it starts any service, so nobody will.
    #[error("attest {}: {source}", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It says no.
    #[error("attest refused: {code} {reason}")]
    Refused {
        /// Its code.
        code: String,
        /// Its reason, escaped.
        reason: String,
    },
    /// What it says is no answer.
    #[error("attest answered nonsense: {0}")]
    Nonsense(#[from] FrameError),
    /// What it says is longer than an answer.
    #[error("attest answered {got} bytes, at most {REPLY_BYTES_MAX} are taken")]
    TooLong {
        /// How long.
        got: usize,
    },
    /// It gave a seed and did not say where it comes from.
    #[error("attest gave a seed without an origin")]
    NoOrigin,
    /// The time is over.
    #[error("attest gave nothing within {} s, at last: {last}", waited.as_secs())]
    Late {
        /// How long was waited.
        waited: Duration,
        /// What the last answer was.
        last: String,
    },
}

/// Gets the signing key. `waiting` is called before every ask.
///
/// # Errors
/// Any [`KeyError`]: the file can't be used, or no key can be drawn either.
pub fn identity(
    source: &KeySource,
    waits: Waits,
    waiting: &mut dyn FnMut(),
) -> Result<Identity, KeyError> {
    match source {
        KeySource::File(path) => {
            let key = LedgerKey::load_or_create(path)?;
            let on_disk = !is_in_memory(path).unwrap_or(false);
            let diagnostic = on_disk.then(|| key_on_disk(path));
            Ok(Identity { key, origin: KeyOrigin::Boot, counter: 0, diagnostic })
        }
        KeySource::Attest(path) => match fetch(path, waits, waiting) {
            Ok(seed) => Ok(Identity {
                key: LedgerKey::from_seed(seed.expose()),
                origin: seed.origin,
                counter: seed.epoch,
                diagnostic: None,
            }),
            Err(error) => Ok(Identity {
                key: LedgerKey::random()?,
                origin: KeyOrigin::Boot,
                counter: 0,
                diagnostic: Some(no_seed(&error)),
            }),
        },
    }
}

fn key_on_disk(path: &Path) -> Diagnostic {
    code::diagnostic(
        code::KEY_ON_DISK,
        Severity::Warn,
        &format!("key {}", path.display()),
        "is on a disk, where it can be copied".into(),
        "let attest give the key, or keep it in /run",
    )
}

fn no_seed(error: &SeedError) -> Diagnostic {
    code::diagnostic(
        code::NO_SEED,
        Severity::Warn,
        "key",
        format!("{error}; blocks are signed with a key of this boot for which no TPM vouches"),
        "see what attest says in the log, then restart the box",
    )
}

/// Asks until there is a seed, a no, or no time.
///
/// # Errors
/// Any [`SeedError`].
pub fn fetch(path: &Path, waits: Waits, waiting: &mut dyn FnMut()) -> Result<Seed, SeedError> {
    let until = Instant::now() + waits.total;
    let mut last = String::new();
    loop {
        waiting();
        let answer_until = until.min(Instant::now() + waits.answer);
        last = match ask(path, answer_until) {
            Ok(SeedReply::Seed(seed)) => {
                return match seed.origin {
                    KeyOrigin::Boot | KeyOrigin::Tpm => Ok(seed),
                    KeyOrigin::None => Err(SeedError::NoOrigin),
                };
            }
            Ok(SeedReply::Refused { code, reason }) => {
                let (code, reason) = (escape(&code, 16), escape(&reason, REASON_CHARS_MAX));
                return Err(SeedError::Refused { code, reason });
            }
            Ok(SeedReply::Later) => "not yet".to_owned(),
            // The end of all time cut this ask short: what the one before got says more.
            Err(AskError::Again(_)) if answer_until == until && !last.is_empty() => last,
            Err(AskError::Again(source)) => source.to_string(),
            Err(AskError::Final(error)) => return Err(error),
        };
        if Instant::now() + waits.again >= until {
            return Err(SeedError::Late { waited: waits.total, last });
        }
        thread::sleep(waits.again);
    }
}

/// Why one ask came to nothing.
#[derive(Debug)]
enum AskError {
    /// May pass: it was restarted, or is slow.
    Again(io::Error),
    /// Won't.
    Final(SeedError),
}

impl From<FrameError> for AskError {
    fn from(error: FrameError) -> Self {
        Self::Final(error.into())
    }
}

fn ask(path: &Path, until: Instant) -> Result<SeedReply, AskError> {
    let mut stream = connect(path, until)?;
    stream.write_all(&to_vec(&Request::Seed)?).map_err(AskError::Again)?;
    // Not `hookprobe_wire::Decoder`: its buffer is not wiped.
    let mut buffer = Zeroizing::new([0; HEADER_BYTES + REPLY_BYTES_MAX]);
    let (header, rest) =
        buffer.split_first_chunk_mut::<HEADER_BYTES>().ok_or_else(|| too_long(0))?;
    fill(&mut stream, header, until)?;
    let length = body_length(header)?;
    let body = rest.get_mut(..length).ok_or_else(|| too_long(length))?;
    fill(&mut stream, body, until)?;
    Ok(decode_body(body)?)
}

/// Connects, but not beyond `until`: with a full queue of connections that nobody takes, a plain
/// connect would wait for ever. Writing then has the same limit.
fn connect(path: &Path, until: Instant) -> Result<UnixStream, AskError> {
    let unreachable = |errno: Errno| {
        AskError::Final(SeedError::Unreachable { path: path.into(), source: errno.into() })
    };
    let left = until.saturating_duration_since(Instant::now());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(unreachable)?;
    if left.is_zero() {
        return Err(AskError::Again(ErrorKind::TimedOut.into()));
    }
    set_socket_timeout(&socket, Timeout::Send, Some(left)).map_err(unreachable)?;
    let address = SocketAddrUnix::new(path).map_err(unreachable)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(UnixStream::from(socket)),
        // What a socket says when its time to send is over.
        Err(Errno::AGAIN) => Err(AskError::Again(ErrorKind::TimedOut.into())),
        Err(Errno::INTR) => Err(AskError::Again(Errno::INTR.into())),
        Err(errno) => Err(unreachable(errno)),
    }
}

fn too_long(got: usize) -> AskError {
    AskError::Final(SeedError::TooLong { got })
}

/// Reads until `out` is full, however slowly it comes, but not beyond `until`.
fn fill(stream: &mut UnixStream, out: &mut [u8], until: Instant) -> Result<(), AskError> {
    let mut rest = out;
    while !rest.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AskError::Again(ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(AskError::Again)?;
        match stream.read(rest) {
            Ok(0) => return Err(AskError::Again(ErrorKind::UnexpectedEof.into())),
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a socket says when its read timeout is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(AskError::Again(ErrorKind::TimedOut.into()));
            }
            Err(error) => return Err(AskError::Again(error)),
        }
    }
    Ok(())
}
