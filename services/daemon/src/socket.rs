//! The listening socket: the one that PID 1 passes, or one that is bound here.
//!
//! PID 1 passes descriptors from 3 on and says how many (`LISTEN_FDS`) and their names
//! (`LISTEN_FDNAMES`). `LISTEN_PID` is not looked at: PID 1 sets up the environment before it
//! knows the pid.
#![allow(unsafe_code, reason = "a descriptor number becomes a socket, once")]

use std::{
    fs, io,
    os::{
        fd::{BorrowedFd, FromRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use thiserror::Error;

/// First descriptor that is passed.
const FIRST_FD: i32 = 3;
/// Most descriptors that are looked at.
const FDS_MAX: i32 = 16;

/// Why there is no socket. The service adds its code.
#[derive(Debug, Error)]
pub enum SocketError {
    /// None was passed and no path given.
    #[error("none named {0} was handed over; start it from PID 1 or give --socket")]
    Missing(&'static str),
    /// What was passed is no listening socket.
    #[error(
        "descriptor {fd} from LISTEN_FDS is no listening socket ({why}); check the service's sockets in services.toml"
    )]
    Passed {
        /// Which.
        fd: i32,
        /// What the kernel says.
        why: String,
    },
    /// Somebody listens there already.
    #[error("{}: another process listens there; stop that one first", .0.display())]
    InUse(PathBuf),
    /// It can't be bound.
    #[error("{}: {source}; check that its directory exists and is writable", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can't be used without waiting.
    #[error("{0}; give another --socket")]
    Setup(io::Error),
}

/// The socket `name` that was passed, else one bound at `path`; it never waits. Call it once, before
/// any other file is opened.
///
/// # Errors
/// Any [`SocketError`].
pub fn listener(name: &'static str, path: Option<&Path>) -> Result<UnixListener, SocketError> {
    let count = std::env::var("LISTEN_FDS").ok();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let count = count.and_then(|count| count.parse().ok());
    let listener = match (count.and_then(|count| choose(count, &names, name)), path) {
        (Some(fd), _) => passed(fd)?,
        (None, Some(path)) => bind(path)?,
        (None, None) => return Err(SocketError::Missing(name)),
    };
    listener.set_nonblocking(true).map_err(SocketError::Setup)?;
    Ok(listener)
}

fn choose(count: i32, names: &str, name: &str) -> Option<i32> {
    let count = count.clamp(0, FDS_MAX);
    let index = names.split(':').position(|other| other == name)?;
    let index = i32::try_from(index).ok()?;
    (index < count).then_some(FIRST_FD + index)
}

fn passed(fd: i32) -> Result<UnixListener, SocketError> {
    let wrong = |why: String| SocketError::Passed { fd, why };
    // SAFETY: the descriptor is only borrowed for two queries; a closed one answers EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    match rustix::net::sockopt::socket_acceptconn(borrowed) {
        Ok(true) => {}
        Ok(false) => return Err(wrong("not listening".into())),
        Err(error) => return Err(wrong(error.to_string())),
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| wrong(error.to_string()))?;
    // SAFETY: the kernel just said that it is an open socket; PID 1 gave it to this process to
    // own, nothing else here knows its number, and this function is called once.
    Ok(unsafe { UnixListener::from_raw_fd(fd) })
}

/// Binds, taking the place of a socket that nobody listens on any more.
fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |source| SocketError::Bind { path: path.into(), source };
    match UnixListener::bind(path) {
        Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse(path.into()));
            }
            fs::remove_file(path).map_err(error)?;
            UnixListener::bind(path).map_err(error)
        }
        other => other.map_err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_descriptor_is_chosen() {
        assert_eq!(choose(1, "ledger", "ledger"), Some(3));
        assert_eq!(choose(2, "sensor:ledger", "ledger"), Some(4));
        assert_eq!(choose(1, "x:ledger", "ledger"), None);
        assert_eq!(choose(1, "", "ledger"), None);
        assert_eq!(choose(0, "ledger", "ledger"), None);
        assert_eq!(choose(-4, "ledger", "ledger"), None);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let live = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(live);
    }
}
