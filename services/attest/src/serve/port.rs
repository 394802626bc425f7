//! The hypervisor's port as a device to wait for. Used by [`super::clients`].
#![allow(unsafe_code, reason = "tokio's registration of a descriptor that is no socket")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tokio::io::unix::AsyncFd;

/// Opens the port without waiting for somebody at its other end.
pub(super) fn open(path: &Path) -> io::Result<AsyncFd<File>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    // SAFETY: `File` owns its descriptor and always gives the same one, which stays open until the
    // registration, that owns the `File`, is dropped.
    Ok(unsafe { AsyncFd::register(file) }?)
}
