//! Syslog as an input: what routers, switches and servers around the box say about themselves.
//!
//! ```text
//! UDP datagrams (RFC 5426)           \
//! TCP, counted or by line (RFC 6587)  > framing -> rate -> message (RFC 5424, 3164) -> queue
//! TLS 1.3, counted (RFC 5425)        /
//! ```
//!
//! [`message`], [`framing`], [`auth`] and [`rate`] are pure; [`listener`] is the shell. Whatever
//! comes is hostile: anybody on the segment can send a datagram in anybody's name. So a record is
//! a hint that detectors weigh, never a command, and what was said never decides alone. What must
//! never happen: a sender makes the sensor wait, grow or end; a lost message goes uncounted.
//!
//! Called by `live` where the site configuration wants it, with [`Listener::run`] beside its loop
//! and [`queue::Queue::pop`] in it. The fuzz targets are `syslog-message` and `syslog-stream`.

pub mod auth;
pub mod framing;
pub mod listener;
pub mod message;
pub mod queue;
pub mod rate;
pub mod tls;

pub use listener::{Listener, Options};
pub use message::Record;

/// Longest message that is taken; more is cut and marked. 8 KiB: what common senders use at most
/// (RFC 5424, 6.1 wants 2 KiB).
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
