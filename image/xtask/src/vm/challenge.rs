//! The challenger's end of the port `hookprobe.attest`: asks the box for its status, its evidence
//! and its log, with `wire`'s frames, as a peer will over the network.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use hookprobe_wire::{
    attest::{self, EVIDENCE_BYTES_MAX, LOG_MAX, Measurement, Reply, Request, Status},
    frame::{self, Decoder},
};

use super::Vm;
use crate::error::{Error, Result, at};

/// Socket of the port in a machine's folder.
pub(super) const SOCKET: &str = "attest.sock";
/// A quote takes milliseconds, attest's start some seconds; a translated guest on a busy machine is
/// much slower.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Most measurements that are fetched; a boot has some hundred.
const MEASUREMENTS_MAX: usize = 4096;

/// A connection to the box's `attest`.
#[derive(Debug)]
pub struct Port {
    path: PathBuf,
    stream: UnixStream,
    decoder: Decoder,
    wait: Duration,
    /// Silence is no answer that anybody wants.
    asks_again: bool,
}

impl Port {
    /// Plugs in; the box answers once its `attest` runs.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn plug(vm: &Vm) -> Result<Self> {
        let path = vm.dir.join(SOCKET);
        let stream = UnixStream::connect(&path).map_err(at(&path))?;
        Ok(Self { path, stream, decoder: Decoder::new(), wait: ANSWER_WAIT, asks_again: true })
    }

    /// Plugs out and in again: both ends forget what was on its way.
    fn replug(&mut self) -> Result<()> {
        self.stream = UnixStream::connect(&self.path).map_err(at(&self.path))?;
        self.decoder = Decoder::new();
        Ok(())
    }

    /// Waits so long for an answer from now on, and takes silence for one.
    pub fn set_wait(&mut self, wait: Duration) {
        self.asks_again = false;
        self.wait = wait;
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let bytes = frame::to_vec(request).map_err(|error| Error::Check(error.to_string()))?;
        self.stream.set_write_timeout(Some(self.wait)).map_err(at(SOCKET))?;
        self.stream.write_all(&bytes).map_err(at(SOCKET))
    }

    fn receive(&mut self) -> Result<Reply> {
        let begun = Instant::now();
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        loop {
            let next = self.decoder.next().map_err(|error| Error::Check(error.to_string()))?;
            if let Some(reply) = next {
                return Ok(reply);
            }
            let left = self.wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::Silent { seconds: self.wait.as_secs(), bytes });
            }
            self.stream.set_read_timeout(Some(left)).map_err(at(SOCKET))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::Check("the machine closed attest's port".into())),
                Ok(got) => {
                    bytes += got;
                    self.decoder.feed(buffer.get(..got).unwrap_or_default());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(at(SOCKET)(error)),
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    /// How identity and last verification stand.
    ///
    /// # Errors
    /// [`Error::Check`] without a proper answer in time.
    pub fn status(&mut self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the status satisfies `want`, at most `wait`.
    ///
    /// # Errors
    /// [`Error::Check`] with the last status.
    pub fn wait_status(
        &mut self,
        what: &str,
        wait: Duration,
        want: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let begun = Instant::now();
        loop {
            let status = self.status()?;
            if want(&status) {
                return Ok(status);
            }
            if begun.elapsed() > wait {
                return Err(Error::Check(format!(
                    "waited {} s for {what}; level {} verdict {} {}",
                    wait.as_secs(),
                    status.level,
                    status.verdict.word(),
                    status.divergence
                )));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Evidence for a nonce: bytes of an `evidence::bundle::Evidence`. Asked for once more, having
    /// said so, when the line stays silent: it is a serial line, whose ends can lose each other.
    ///
    /// # Errors
    /// [`Error::Check`] when it is refused, has gaps or is longer than allowed; [`Error::Silent`].
    pub fn evidence(&mut self, nonce: &[u8], full: bool) -> Result<Vec<u8>> {
        match self.evidence_once(nonce, full) {
            Err(error @ Error::Silent { .. }) if self.asks_again => {
                println!("note: {error}; asking again");
                self.replug()?;
                self.evidence_once(nonce, full)
            }
            other => other,
        }
    }

    fn evidence_once(&mut self, nonce: &[u8], full: bool) -> Result<Vec<u8>> {
        self.send(&Request::Evidence { nonce: nonce.to_vec().into(), exporter: None, full })?;
        let mut all = Vec::new();
        loop {
            match self.receive()? {
                Reply::Part { offset, total, bytes } => {
                    if offset as usize != all.len() || total as usize > EVIDENCE_BYTES_MAX {
                        return Err(Error::Check(format!(
                            "evidence: a part at {offset} of {total}, expected {}",
                            all.len()
                        )));
                    }
                    all.extend_from_slice(&bytes);
                    if all.len() >= total as usize {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// TPM2_ActivateCredential: what was in the credential.
    ///
    /// # Errors
    /// [`Error::Check`] when it is refused.
    pub fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let request = Request::Activate {
            credential: credential.to_vec().into(),
            secret: secret.to_vec().into(),
        };
        match self.ask(&request)? {
            Reply::Activated { secret } => Ok(secret.to_vec()),
            other => Err(unexpected(&other)),
        }
    }

    /// Every measurement of this boot.
    ///
    /// # Errors
    /// [`Error::Check`] without a proper answer in time.
    pub fn log(&mut self) -> Result<Vec<Measurement>> {
        let mut all = Vec::new();
        while all.len() < MEASUREMENTS_MAX {
            let from = u32::try_from(all.len()).unwrap_or(u32::MAX);
            match self.ask(&Request::Log { from })? {
                Reply::Log { total, lines } => {
                    let last = lines.is_empty() || lines.len() > LOG_MAX;
                    all.extend(lines);
                    if last || all.len() >= total as usize {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(all)
    }

    /// What the box says to a request that this port does not serve.
    ///
    /// # Errors
    /// [`Error::Check`] without an answer in time.
    pub fn refused(&mut self, request: &attest::Request) -> Result<String> {
        match self.ask(request)? {
            Reply::Error { code, reason } => Ok(format!("{code} {reason}")),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Check(match reply {
        Reply::Error { code, reason } => format!("{code} attest: {reason}"),
        other => format!("attest gave another answer than asked for: {other:?}"),
    })
}
