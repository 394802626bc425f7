//! What PID 1 is told: sd_notify(3) on the datagram socket `$NOTIFY_SOCKET`.
//!
//! A message that can't be sent is lost: PID 1 notices by its own clock. Used by [`crate::serve`].

use std::os::unix::net::UnixDatagram;

/// The way to PID 1; none in tests.
#[derive(Debug, Default)]
pub(super) struct Notify {
    socket: Option<UnixDatagram>,
}

impl Notify {
    pub(super) fn from_environment() -> Self {
        let connect = |path| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect::<std::ffi::OsString>(path).ok()?;
            Some(socket)
        };
        Self { socket: std::env::var_os("NOTIFY_SOCKET").and_then(connect) }
    }

    pub(super) fn say(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}
