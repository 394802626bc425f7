//! The ring buffer as something that a loop can wait for.

#![allow(unsafe_code, reason = "tokio wants a promise about the descriptor that no type can make")]

use std::io;

use tokio::io::{Interest, unix::AsyncFd};

use crate::object::Records;

/// Registers the ring buffer with the running runtime.
///
/// # Errors
/// What the system says.
pub fn register(records: Records) -> io::Result<AsyncFd<Records>> {
    // SAFETY: the ring buffer owns its map's descriptor, gives out the same one each time and
    // keeps it open for as long as it lives, which is inside the returned value.
    unsafe { AsyncFd::register_with_interest(records, Interest::READABLE) }.map_err(io::Error::from)
}
