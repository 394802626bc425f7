//! A non-blocking connection that speaks frames; what is not read or written yet stays in it, so that
//! a wait for it can be given up at any time. Used by [`crate::link`] and [`crate::clients`].

use std::{
    io::{self, ErrorKind},
    task::{Context, Poll, ready},
};

use hookprobe_wire::{Decoder, FrameError, frame};
use minicbor::{Decode, Encode};
use thiserror::Error;
use tokio::net::UnixStream;

/// Most bytes waiting to be written: sixteen of the largest appends, or four of the largest answers.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// Why a connection is closed.
#[derive(Debug, Error)]
pub(crate) enum PeerError {
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

#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(), out: Vec::new() }
    }

    /// Writes what can be written now and keeps the rest.
    pub(crate) fn send<M: Encode<()>>(&mut self, message: &M) -> Result<(), PeerError> {
        frame::encode(message, &mut self.out)?;
        self.flush()?;
        if self.out.len() > OUT_BYTES_MAX {
            return Err(PeerError::Slow(self.out.len()));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PeerError> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(0) => return Err(PeerError::Closed),
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next message. Writes what waits while it waits.
    pub(crate) fn poll_next<M>(&mut self, context: &mut Context<'_>) -> Poll<Result<M, PeerError>>
    where
        M: for<'b> Decode<'b, ()>,
    {
        while !self.out.is_empty() && self.stream.poll_write_ready(context)?.is_ready() {
            self.flush()?;
        }
        loop {
            if let Some(message) = self.decoder.next()? {
                return Poll::Ready(Ok(message));
            }
            ready!(self.stream.poll_read_ready(context))?;
            let mut bytes = [0; READ_BYTES];
            let room = self.decoder.room().min(READ_BYTES);
            match self.stream.try_read(bytes.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Poll::Ready(Err(PeerError::Closed)),
                Ok(length) => self.decoder.feed(bytes.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}
