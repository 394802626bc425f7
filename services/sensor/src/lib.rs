//! Packets to events.
//!
//! ```text
//! live:    eBPF programs -> ring buffer -> core -> ledger
//! replay:  capture -> the same records -> the same core -> EVE JSON
//! ```
//!
//! [`core`] is pure and knows neither kernel nor files; [`live`] and [`replay`] are shells around
//! it. Only `main`, tests and fuzzers call this crate; no other service imports it.

pub mod bench;
pub mod benchdetect;
pub mod core;
pub mod live;
pub mod modeleval;
pub mod object;
pub mod outputs;
pub mod replay;
pub mod syslog;
pub mod testrules;
pub mod verify;

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
