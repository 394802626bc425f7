//! A blocking netlink socket: dumps and nf_tables batches, with a time limit on every answer.
//!
//! The kernel works on a request inside `send` and has queued its answer when that returns; the time
//! limit is for a kernel that does not. Used by [`crate::enforce::nft`] and [`crate::sources`].

pub mod message;

use std::{num::NonZeroU32, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::SocketAddrNetlink, sockopt,
    },
};
use thiserror::Error;

use message::{Attributes, message, messages};

/// Longest wait for one answer. The kernel answers within microseconds; two seconds is a tenth of
/// the watchdog's patience.
pub const ANSWER_MS_MAX: u64 = 2000;
/// Most bytes of one receive: twice what the kernel puts into one dump message at most.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Most bytes of one dump: 8192 set elements of 150 bytes, six times over.
const DUMP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Dumps that were changed under way are started again this often.
const DUMP_TRIES: u32 = 3;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;

/// Why the kernel did not do what it was asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetlinkError {
    /// No socket.
    #[error("socket: {0}")]
    Socket(Errno),
    /// Sending failed.
    #[error("send: {0}")]
    Send(Errno),
    /// No answer in [`ANSWER_MS_MAX`], or receiving failed.
    #[error("receive: {0}")]
    Receive(Errno),
    /// The kernel says no.
    #[error("{request}: {errno}")]
    Refused {
        /// Name of the request.
        request: &'static str,
        /// Why.
        errno: Errno,
    },
    /// Bytes that are no netlink message.
    #[error("answer of {bytes} bytes is no netlink message")]
    Malformed {
        /// How many.
        bytes: usize,
    },
    /// A dump longer than allowed, or changed under way every time.
    #[error("dump is longer than {DUMP_BYTES_MAX} bytes or changes all the time")]
    Dump,
}

impl NetlinkError {
    /// What the kernel answered, if it did.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket(errno) | Self::Send(errno) | Self::Receive(errno) => Some(*errno),
            Self::Refused { errno, .. } => Some(*errno),
            Self::Malformed { .. } | Self::Dump => None,
        }
    }
}

/// Requests that the kernel takes as a whole or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Names of the requests, by sequence number from `first`.
    names: Vec<&'static str>,
    first: u32,
}

impl Batch {
    /// Adds a request: name for errors, type, flags, fixed part, attributes.
    pub fn add(
        &mut self,
        name: &'static str,
        (kind, flags): (u16, u16),
        fixed: &[u8],
        fill: impl FnOnce(&mut Attributes),
    ) {
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let sequence = self.first.wrapping_add(number);
        self.bytes.extend(message(kind, flags, sequence, fixed, fill));
        self.names.push(name);
    }

    /// The bytes as they are sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn name(&self, sequence: u32) -> Option<&'static str> {
        self.names.get(sequence.wrapping_sub(self.first) as usize).copied()
    }
}

/// A socket of one netlink family.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of NETLINK_ROUTE (none) or another family.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open(family: Option<NonZeroU32>) -> Result<Self, NetlinkError> {
        let family = family.map(net::Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, family)
            .map_err(NetlinkError::Socket)?;
        net::bind(&socket, &SocketAddrNetlink::new(0, 0)).map_err(NetlinkError::Socket)?;
        let limit = Some(Duration::from_millis(ANSWER_MS_MAX));
        for way in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&socket, way, limit).map_err(NetlinkError::Socket)?;
        }
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends a request that is answered by messages and an end (a dump, or one that asks to be
    /// acknowledged) and returns the bodies of the messages.
    ///
    /// # Errors
    /// Any [`NetlinkError`].
    pub fn ask(
        &mut self,
        name: &'static str,
        (kind, flags): (u16, u16),
        fixed: &[u8],
        fill: impl Fn(&mut Attributes),
    ) -> Result<Vec<Vec<u8>>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            self.sequence = self.sequence.wrapping_add(1);
            self.send(&message(kind, flags, self.sequence, fixed, &fill))?;
            if let Some(bodies) = self.receive_bodies(name)? {
                return Ok(bodies);
            }
        }
        Err(NetlinkError::Dump)
    }

    /// `None` when the kernel says that the dump changed under way.
    fn receive_bodies(&mut self, name: &'static str) -> Result<Option<Vec<Vec<u8>>>, NetlinkError> {
        let (mut bodies, mut bytes, mut whole) = (Vec::new(), 0, true);
        loop {
            let length = self.receive()?;
            let received = self.buffer.get(..length).unwrap_or_default();
            let all = messages(received).ok_or(NetlinkError::Malformed { bytes: length })?;
            // Others are left over from a request that was given up.
            for message in all.into_iter().filter(|message| message.sequence == self.sequence) {
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                if let ERROR | DONE = message.kind {
                    return match status(message.body) {
                        Some(errno) => Err(NetlinkError::Refused { request: name, errno }),
                        None => Ok(whole.then_some(bodies)),
                    };
                }
                bytes += message.body.len();
                if bytes > DUMP_BYTES_MAX {
                    return Err(NetlinkError::Dump);
                }
                bodies.push(message.body.to_vec());
            }
        }
    }

    /// An empty batch for this socket.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch { first: self.sequence.wrapping_add(1), ..Batch::default() }
    }

    /// Sends a batch, begin and end included, and waits until every request in between is
    /// acknowledged: those have to ask for it.
    ///
    /// # Errors
    /// Any [`NetlinkError`]; the first request that the kernel refused is named.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        let count = u32::try_from(batch.names.len()).unwrap_or(u32::MAX);
        self.sequence = batch.first.wrapping_add(count);
        self.send(&batch.bytes)?;
        // Begin and end are acknowledged by some kernels only, so they are not waited for.
        let mut missing = count.saturating_sub(2);
        let mut refused = None;
        while missing > 0 {
            let length = self.receive()?;
            let received = self.buffer.get(..length).unwrap_or_default();
            let all = messages(received).ok_or(NetlinkError::Malformed { bytes: length })?;
            for message in all.into_iter().filter(|message| message.kind == ERROR) {
                let Some(request) = batch.name(message.sequence) else {
                    continue;
                };
                let place = message.sequence.wrapping_sub(batch.first);
                let inside = place > 0 && place < count.saturating_sub(1);
                if inside {
                    missing = missing.saturating_sub(1);
                }
                if let Some(errno) = status(message.body) {
                    refused.get_or_insert(NetlinkError::Refused { request, errno });
                    if !inside {
                        missing = 0; // The batch as a whole was refused.
                    }
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        net::send(&self.socket, bytes, SendFlags::empty()).map_err(NetlinkError::Send)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            match net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, length)) if length > RECEIVE_BYTES => {
                    return Err(NetlinkError::Malformed { bytes: length });
                }
                Ok((_, length)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(NetlinkError::Receive(errno)),
            }
        }
    }
}

/// Error number in front of the body of an error or done message; `None` for success.
fn status(body: &[u8]) -> Option<Errno> {
    let number = i32::from_ne_bytes(*body.first_chunk()?);
    (number != 0).then(|| Errno::from_raw_os_error(number.saturating_neg()))
}
