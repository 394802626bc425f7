//! Frames over a socket or a character device, without waiting: what is not read or written yet
//! stays here, so that a wait can be given up at any time.
//!
//! The next request is not read before the last answer is written: who does not read does not ask.
//! Used by [`super::clients`], [`super::ledger`] and [`super::control`].

use std::{
    fs::File,
    io::{self, ErrorKind},
    task::{Context, Poll, ready},
};

use hookprobe_wire::{Decoder, FrameError, attest::EVIDENCE_BYTES_MAX, frame};
use minicbor::{Decode, Encode};
use thiserror::Error;
use tokio::{io::unix::AsyncFd, net::UnixStream};
use zeroize::{Zeroize, Zeroizing};

/// Most bytes waiting to be written: the largest evidence with its frames.
const OUT_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + 64 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// Why a connection is closed.
#[derive(Debug, Error)]
pub(super) enum StreamError {
    /// The other side closed it.
    #[error("closed by the other side")]
    Closed,
    /// The kernel says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side does not speak our frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side does not read.
    #[error("{0} bytes wait to be read by the other side")]
    Slow(usize),
}

/// What carries the frames.
#[derive(Debug)]
pub(super) enum Channel {
    Socket(UnixStream),
    Device(AsyncFd<File>),
}

impl Channel {
    fn poll_read(&self, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => loop {
                ready!(socket.poll_read_ready(context))?;
                match socket.try_read(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    other => return Poll::Ready(other),
                }
            },
            Self::Device(device) => loop {
                let mut guard = ready!(device.poll_read_ready(context))?;
                let read = |device: &AsyncFd<File>| Ok(rustix::io::read(device, &mut *bytes)?);
                if let Ok(result) = guard.try_io(read) {
                    return Poll::Ready(result);
                }
            },
        }
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => loop {
                ready!(socket.poll_write_ready(context))?;
                match socket.try_write(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    other => return Poll::Ready(other),
                }
            },
            Self::Device(device) => loop {
                let mut guard = ready!(device.poll_write_ready(context))?;
                let write = |device: &AsyncFd<File>| Ok(rustix::io::write(device, bytes)?);
                if let Ok(result) = guard.try_io(write) {
                    return Poll::Ready(result);
                }
            },
        }
    }

    /// Writes now or not at all.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => Ok(rustix::io::write(socket, bytes)?),
            Self::Device(device) => Ok(rustix::io::write(device, bytes)?),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    channel: Channel,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Stream {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, decoder: Decoder::new(), out: Vec::new() }
    }

    /// Adds a message to what is written by [`Self::poll_next`].
    pub(super) fn send<M: Encode<()>>(&mut self, message: &M) -> Result<(), StreamError> {
        frame::encode(message, &mut self.out)?;
        if self.out.len() > OUT_BYTES_MAX {
            return Err(StreamError::Slow(self.out.len()));
        }
        Ok(())
    }

    /// Writes a secret at once, past everything that could keep a copy; a socket that has no room
    /// for it is closed.
    pub(super) fn send_secret<M: Encode<()>>(&mut self, message: &M) -> Result<(), StreamError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        frame::encode(message, &mut bytes)?;
        if !self.out.is_empty() || self.channel.write_now(&bytes)? != bytes.len() {
            return Err(StreamError::Slow(bytes.len()));
        }
        Ok(())
    }

    /// The next message. Writes what waits first.
    pub(super) fn poll_next<M>(&mut self, context: &mut Context<'_>) -> Poll<Result<M, StreamError>>
    where
        M: for<'b> Decode<'b, ()>,
    {
        while !self.out.is_empty() {
            match ready!(self.channel.poll_write(context, &self.out))? {
                0 => return Poll::Ready(Err(StreamError::Closed)),
                written => drop(self.out.drain(..written)),
            }
        }
        self.out.shrink_to(READ_BYTES);
        loop {
            if let Some(message) = self.decoder.next()? {
                return Poll::Ready(Ok(message));
            }
            let mut bytes = [0; READ_BYTES];
            let room = self.decoder.room().min(READ_BYTES);
            let slot = bytes.get_mut(..room).unwrap_or_default();
            let length = ready!(self.channel.poll_read(context, slot))?;
            if length == 0 {
                return Poll::Ready(Err(StreamError::Closed));
            }
            self.decoder.feed(slot.get(..length).unwrap_or_default());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.out.zeroize();
    }
}
