//! PID 1's own TPM 2.0 client: four commands, no library.
//!
//! PID 1 is static and can't load tpm2-tss, and it needs little: start the TPM, ask which PCR
//! banks are active and who made it, extend, read. [`codec`] is pure (bytes in, bytes out),
//! [`device`] is the only place that touches a file, [`Tpm`] puts the two together.
//!
//! Must never happen here: a panic or an allocation by a length that a response claims; a response
//! taken for another command's (after a timeout the device is never asked again); an extend that
//! leaves out an active bank, because whoever reads that bank could be told any story.
//!
//! Called by the boot phases `tpm` and `measure`, and on every restart of a service. Spec: TCG TPM
//! 2.0 Library, Part 2 (structures) and Part 3 (commands), revision 1.59.

mod client;
pub mod codec;
pub mod device;
mod error;

#[cfg(test)]
mod tests;

pub use client::{Tpm, TpmIdentity};
pub use device::Device;
pub use error::TpmError;

/// Longest pause between two tries of one command, see [`Transport::pause_ms`].
pub const PAUSE_MS_MAX: u64 = 1280;

/// What carries one command to a TPM and its response back.
pub trait Transport {
    /// Sends `command` and waits for the whole response, at most [`codec::RESPONSE_BYTES_MAX`]
    /// bytes of it. The response is as hostile as the TPM: nothing about it was checked.
    ///
    /// # Errors
    /// [`TpmError::Io`], [`TpmError::Timeout`] once, [`TpmError::Hung`] ever after.
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError>;

    /// Waits before a command that the TPM asked to have repeated is sent again. Never more than
    /// [`PAUSE_MS_MAX`]. Fakes override it and do not wait.
    fn pause_ms(&mut self, ms: u64) {
        std::thread::sleep(std::time::Duration::from_millis(ms.min(PAUSE_MS_MAX)));
    }
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        (**self).exchange(command)
    }

    fn pause_ms(&mut self, ms: u64) {
        (**self).pause_ms(ms);
    }
}
