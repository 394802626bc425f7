//! What PID 1 hands over and wants to hear: LISTEN_FDS and NOTIFY_SOCKET, as systemd defines them
//! (sd_listen_fds(3), sd_notify(3)).

#![allow(unsafe_code, reason = "a handed-over descriptor has to be taken by its number")]

use std::{
    env,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::PathBuf,
};

/// First descriptor that is handed over.
const LISTEN_FDS_START: i32 = 3;
/// Most descriptors that are looked at.
const LISTEN_FDS_MAX: i32 = 16;

/// The listening socket with this name, if PID 1 handed it over. To be called once.
#[must_use]
pub fn listener(name: &str) -> Option<UnixListener> {
    let count: i32 = env::var("LISTEN_FDS").ok()?.parse().ok()?;
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let index = names.split(':').position(|found| found == name)?;
    let index = i32::try_from(index).ok()?;
    if index >= count.min(LISTEN_FDS_MAX) {
        return None;
    }
    // SAFETY: by the protocol, descriptors 3 and on are ours and nobody else in this process
    // knows them.
    let fd = unsafe { OwnedFd::from_raw_fd(LISTEN_FDS_START + index) };
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true).ok()?;
    Some(listener)
}

/// Tells PID 1 how we are; does nothing where nobody listens.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<(UnixDatagram, PathBuf)>,
}

impl Notifier {
    /// From NOTIFY_SOCKET.
    #[must_use]
    pub fn from_env() -> Self {
        let path = env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        let socket = path.and_then(|path| {
            let socket = UnixDatagram::unbound().ok()?;
            // The loop must never wait for PID 1.
            socket.set_nonblocking(true).ok()?;
            Some((socket, path))
        });
        Self { socket }
    }

    /// `READY=1` with a sentence.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// `WATCHDOG=1`: the loop goes round.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// `STOPPING=1`.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, path)) = &self.socket {
            // Lost messages show as a missing watchdog, which is the point of one.
            let _ = socket.send_to(text.as_bytes(), path);
        }
    }
}
