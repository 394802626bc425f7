//! What PID 1 is told: sd_notify(3).
//!
//! A message that can't be sent is lost: PID 1 notices by its own clock.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// How often the watchdog is fed at least when PID 1 named no period.
const PERIOD_DEFAULT: Duration = Duration::from_secs(5);

/// Sends to `$NOTIFY_SOCKET`, or nowhere when there is none.
#[derive(Debug)]
pub struct Notify {
    /// Connected, so that a service can give up the right to send elsewhere.
    to: Option<UnixDatagram>,
    /// How often [`Self::watchdog`] is due.
    pub period: Duration,
}

impl Notify {
    /// From the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let period = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|us| us.parse().ok())
            .map_or(PERIOD_DEFAULT, |us: u64| Duration::from_micros(us / 3));
        let to = std::env::var("NOTIFY_SOCKET").ok().and_then(|path| connect(&path).ok());
        Self { to, period: period.clamp(Duration::from_millis(100), PERIOD_DEFAULT) }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.to {
            // Never waits: a PID 1 that doesn't read will miss it, and act on that.
            let _ = socket.send(text.as_bytes());
        }
    }

    /// The service answers.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// What it is doing.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// It made progress.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// It made progress, and how it is.
    pub fn alive(&self, status: &str) {
        self.send(&format!("WATCHDOG=1\nSTATUS={status}"));
    }

    /// The start takes longer, for a reason; `seconds` more from now.
    pub fn starting(&self, status: &str, seconds: u32) {
        self.send(&format!(
            "WATCHDOG=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={status}",
            u64::from(seconds) * 1_000_000
        ));
    }

    /// It ends because it was asked to.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
