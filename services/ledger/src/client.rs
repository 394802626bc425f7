//! A small blocking client, for the benchmark and the tests.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use hookprobe_wire::{
    Decoder, Event, FrameError,
    frame::to_vec,
    ledger::{Reply, Request, RequestId},
};
use thiserror::Error;

/// Longest wait for a reply: a commit on a worn SD card takes seconds, not this.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no reply.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection failed or was closed.
    #[error("ledger socket: {0}")]
    Io(#[from] io::Error),
    /// What came is no reply.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self { stream, decoder: Decoder::new() })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        Ok(self.stream.write_all(&to_vec(request)?)?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Waits for one reply.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(reply) = self.decoder.next()? {
                return Ok(reply);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.decoder.feed(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    /// Appends and waits for the answer.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn append(&mut self, id: RequestId, event: &Event) -> Result<Reply, ClientError> {
        self.send(&Request::Append { id, event: event.clone() })?;
        self.receive()
    }
}
