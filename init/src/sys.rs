//! The calls that the type system can't check. The only `unsafe` code of this crate.
//!
//! Nothing here decides anything: each function is one system call or one loop over one, with the
//! reason why it is sound. Called by `supervise::spawn` only.

#![allow(
    unsafe_code,
    reason = "fork, dup2 to a chosen number and signal dispositions have no safe form"
)]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::{errno::Errno, unistd::ForkResult};

/// Highest signal number of Linux.
const SIGNAL_MAX: i32 = 64;

/// Forks. The child is a copy with one thread.
///
/// # Errors
/// The kernel's.
pub fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: this process has one thread (no module of this crate starts another, see lib.rs), so
    // no lock can be held by a thread that does not exist in the child; the child may allocate.
    unsafe { nix::unistd::fork() }
}

/// Makes `to` a copy of `from`, kept across exec.
///
/// # Errors
/// The kernel's.
pub fn install_fd(from: BorrowedFd<'_>, to: RawFd) -> Result<(), Errno> {
    // SAFETY: called in a child between fork and exec only, which owns its whole descriptor table
    // and uses no Rust owner of `to` afterwards; dup2 touches no memory.
    let got = unsafe { libc::dup2(from.as_raw_fd(), to) };
    Errno::result(got).map(drop)
}

/// Every descriptor from `first` on is closed by exec, whoever opened it and forgot to say so.
///
/// # Errors
/// The kernel's.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let first = libc::c_uint::try_from(first).map_err(|_| Errno::EBADF)?;
    // SAFETY: only sets a flag on descriptors of the child, which are not used for anything but
    // exec any more; touches no memory.
    let got = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    Errno::result(got).map(drop)
}

/// Every signal back to its default action; exec keeps "ignored", and the Rust runtime ignores
/// SIGPIPE.
pub fn default_signals() {
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: SIG_DFL is a valid disposition for every signal; the kernel refuses SIGKILL,
        // SIGSTOP and the two that the C library keeps, which is harmless.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Ends a child that could not be set up, without running any destructor or exit handler twice.
pub fn exit_child(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}
