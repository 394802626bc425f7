//! Packets to events.
//!
//! ```text
//! live:    eBPF programs -> records -> core ---------------------------> ledger
//! inspect: packets behind XDP -> traffic -> watch -> EVE, and to `live` -> ledger
//! replay:  capture -> the same records and packets -> the same core and watch -> EVE, Zeek's logs
//! ```
//!
//! [`core`] and [`watch`] are pure and know neither kernel nor files; [`live`], [`inspector`] and
//! [`replay`] are shells around them. `live` and `inspect` are two services, because what strangers'
//! packets say is taken apart where there are no capabilities. Only `main`, tests and fuzzers call this crate; no other service imports it.

pub mod bench;
pub mod benchdetect;
pub mod clock;
pub mod core;
pub mod files;
pub mod inspector;
pub mod live;
pub mod makenames;
pub mod modeleval;
pub mod object;
pub mod outputs;
pub mod replay;
pub mod syslog;
pub mod testrules;
pub mod verify;
pub mod watch;

/// An error and everything that it is made of, on one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat what they wrap.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " | ")
}
