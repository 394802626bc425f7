//! The two things that need `unsafe`: a callback from C, and exec in a child.

#![allow(unsafe_code, reason = "libcryptsetup's log callback, and exec between fork and exec")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    ptr,
};

use libc::{c_char, c_int, c_void};

/// CRYPT_LOG_NORMAL, CRYPT_LOG_ERROR of libcryptsetup.h.
const LOG_NORMAL: c_int = 0;
const LOG_ERROR: c_int = 1;

/// Of libcryptsetup about the node of a volume that it opened.
const NOT_OURS: &str = "chown failed";

/// Sends libcryptsetup's messages to the log, one line each. Before this it writes to stdout.
pub(super) fn forward_messages() {
    libcryptsetup_rs::set_log_callback::<()>(Some(said), None);
}

unsafe extern "C" fn said(level: c_int, message: *const c_char, _user: *mut c_void) {
    if message.is_null() {
        return;
    }
    // SAFETY: libcryptsetup passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let text = text.trim_end();
    match level {
        // The node is PID 1's to hand out, and this helper has no capability for it.
        LOG_ERROR if text.contains(NOT_OURS) => tracing::debug!("libcryptsetup: {text}"),
        LOG_ERROR => tracing::warn!("libcryptsetup: {text}"),
        LOG_NORMAL => tracing::info!("libcryptsetup: {text}"),
        _ => {}
    }
}

/// Arguments for exec; the pointers go into the strings beside them and are NULL-terminated.
struct Arguments {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: nobody writes through the pointers, and the strings live as long as they.
unsafe impl Send for Arguments {}
// SAFETY: as above.
unsafe impl Sync for Arguments {}

impl Arguments {
    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// A command that executes the open file `program`, not a name: that is all that the seccomp
/// filter lets a service do. Its environment is empty.
///
/// # Errors
/// An argument with a NUL byte.
pub(super) fn command_of(program: File, arguments: &[&str]) -> io::Result<Command> {
    let strings =
        arguments.iter().map(|text| CString::new(*text)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
    pointers.push(ptr::null());
    let arguments = Arguments { _strings: strings, pointers };
    let mut command = Command::new("executed by descriptor");
    let exec = move || {
        let environment = [ptr::null::<c_char>()];
        // SAFETY: both arrays end with NULL and outlive the call, which returns only on failure.
        unsafe { libc::fexecve(program.as_raw_fd(), arguments.as_ptr(), environment.as_ptr()) };
        Err(io::Error::last_os_error())
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(exec) };
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_by_descriptor_without_environment() {
        let program = File::open("/usr/bin/env").unwrap();
        let output = command_of(program, &["env"]).unwrap().output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        let directory = File::open("/").unwrap();
        assert!(command_of(directory, &["x"]).unwrap().output().is_err());
        assert!(command_of(File::open("/").unwrap(), &["a\0b"]).is_err());
    }
}
