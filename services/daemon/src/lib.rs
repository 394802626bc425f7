//! The service's side of its contract with PID 1, as systemd defines it: sockets come as open
//! descriptors (sd_listen_fds(3)), readiness and life signs go out as datagrams (sd_notify(3)), and
//! what is said goes to standard error, a line per event, its level first.
//!
//! Must never happen here: a wait for PID 1; a descriptor with two owners; a line that somebody
//! else's text can split in two. Called by the main function and the loop of each service.

pub mod log;
pub mod notify;
pub mod socket;

pub use notify::Notify;
