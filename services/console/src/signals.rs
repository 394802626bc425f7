//! SIGTERM, SIGINT and SIGHUP set a flag; the loop ends at its next turn.
//!
//! Nothing else may happen in a handler. A flag and not a signalfd, because the handler needs no
//! system call that the sandbox does not already allow.

#![allow(unsafe_code, reason = "sigaction(2) takes a function that runs in signal context")]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ENDING: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_signal: i32) {
    ENDING.store(true, Ordering::Relaxed);
}

/// Installs the handlers. Without SA_RESTART: a poll or write in progress returns.
///
/// # Errors
/// What sigaction(2) said.
pub fn install() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Whether one of them came.
#[must_use]
pub fn ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}
