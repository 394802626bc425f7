//! The terminal line: raw mode, size, bytes in and out. Restores the line when dropped.
//!
//! Never asks the terminal anything: the size comes from the kernel, keys from the line.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    io::Errno,
    termios::{ControlModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use thiserror::Error;

/// Bytes read at once: more keys than anybody types in a turn of the loop.
const READ_BYTES: usize = 256;

/// Why the terminal can't be used.
#[derive(Debug, Error)]
pub enum TtyError {
    /// Standard input is no terminal.
    #[error("HP-CO-001 stdin: not a terminal ({0}); start the console on a terminal line")]
    NotATerminal(Errno),
    /// Raw mode was refused.
    #[error("HP-CO-002 stdin: raw mode refused ({0}); is the line in use elsewhere?")]
    Raw(Errno),
    /// The line is gone.
    #[error("HP-CO-003 terminal: hung up; it is opened again on restart")]
    HungUp,
    /// Reading failed.
    #[error("HP-CO-004 terminal: read failed ({0}); check the line")]
    Read(Errno),
    /// Writing failed.
    #[error("HP-CO-005 terminal: write failed ({0}); check the line")]
    Write(Errno),
}

/// The line, in raw mode.
pub struct Tty {
    input: io::Stdin,
    output: io::Stdout,
    before: Termios,
}

impl Tty {
    /// Takes standard input and output over.
    ///
    /// # Errors
    /// [`TtyError::NotATerminal`], [`TtyError::Raw`].
    pub fn open() -> Result<Self, TtyError> {
        let input = io::stdin();
        let before = tcgetattr(&input).map_err(TtyError::NotATerminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // A serial line without a carrier is still a line.
        raw.control_modes.insert(ControlModes::CLOCAL);
        tcsetattr(&input, OptionalActions::Now, &raw).map_err(TtyError::Raw)?;
        Ok(Self { input, output: io::stdout(), before })
    }

    /// Columns and rows as the kernel knows them; 0x0 when it does not.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        tcgetwinsize(&self.output).map_or((0, 0), |size| (size.ws_col, size.ws_row))
    }

    /// What to poll for keys.
    #[must_use]
    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// The bytes that are there; call after poll said so.
    ///
    /// # Errors
    /// [`TtyError::HungUp`], [`TtyError::Read`].
    pub fn read(&self) -> Result<Vec<u8>, TtyError> {
        let mut bytes = vec![0; READ_BYTES];
        match rustix::io::read(&self.input, &mut bytes) {
            Ok(0) | Err(Errno::IO) => Err(TtyError::HungUp),
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(Vec::new()),
            Err(errno) => Err(TtyError::Read(errno)),
        }
    }

    /// Writes everything; gives up quietly when `ending` says so (a stopped line never drains).
    ///
    /// # Errors
    /// [`TtyError::HungUp`], [`TtyError::Write`].
    pub fn write(&self, mut bytes: &[u8], ending: fn() -> bool) -> Result<(), TtyError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.output, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) if !ending() => {}
                Err(Errno::INTR) => return Ok(()),
                Err(Errno::IO) => return Err(TtyError::HungUp),
                Err(errno) => return Err(TtyError::Write(errno)),
            }
        }
        Ok(())
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // The line may be gone: there is nobody to tell.
        let _ = tcsetattr(&self.input, OptionalActions::Now, &self.before);
    }
}
