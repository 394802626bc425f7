//! The listening socket that PID 1 opened: LISTEN_FDS and LISTEN_FDNAMES of sd_listen_fds(3).
//!
//! LISTEN_PID is not looked at: PID 1 sets the variables for exactly this process. Called once, by
//! [`crate::serve`], before anything else opens a descriptor.
#![allow(unsafe_code, reason = "a descriptor number becomes an owner exactly once")]

use std::os::{
    fd::{FromRawFd, OwnedFd, RawFd},
    unix::net::UnixListener,
};

const FIRST: RawFd = 3;
/// More than any service gets.
const SOCKETS_MAX: RawFd = 16;

/// The socket of that name, if it was handed over.
pub(super) fn listener(name: &str) -> Option<UnixListener> {
    let count: RawFd = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let at = place(&names, name, count)?;
    // SAFETY: PID 1 says that descriptors 3 to 3 + LISTEN_FDS are open and ours; this runs once and
    // nothing else in this process takes them.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST + at) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(UnixListener::from(socket))
}

fn place(names: &str, name: &str, count: RawFd) -> Option<RawFd> {
    let at = names.split(':').position(|other| other == name)?;
    let at = RawFd::try_from(at).ok()?;
    (at < count.min(SOCKETS_MAX)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn found_by_name_within_the_count() {
        assert_eq!(place("other:attest", "attest", 2), Some(1));
        assert_eq!(place("other:attest", "attest", 1), None);
        assert_eq!(place("", "attest", 1), None);
    }
}
