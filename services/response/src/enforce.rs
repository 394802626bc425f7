//! What makes a block real.
//!
//! An enforcer keeps nothing that it can't read back from the kernel, and gives every entry an end
//! of its own there: when this process dies, its blocks end all the same. Called by
//! [`crate::engine`] only.

pub mod nft;
pub mod xdp;

use std::net::IpAddr;

use hookprobe_wire::{Diagnostic, Severity};
use thiserror::Error;

use crate::core::Wanted;

/// Why an enforcer can't do its work now. It is asked again.
#[derive(Debug, Error)]
pub enum EnforceError {
    /// The sensor's maps are not pinned: it has not started yet or is restarting.
    #[error("HP-RS-004 xdp: {path} can't be opened: {why}; see the service sensor")]
    NoMap {
        /// Where it should be.
        path: String,
        /// What the kernel said.
        why: String,
    },
    /// A map refuses an operation.
    #[error("HP-RS-005 xdp: {what} in map {map}: {why}; restart the service sensor")]
    Map {
        /// Which map.
        map: &'static str,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// nf_tables refuses or does not answer.
    #[error("HP-RS-006 nft: {what}: {why}; {remedy}")]
    Nft {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        why: String,
        /// What helps.
        remedy: &'static str,
    },
}

impl EnforceError {
    /// For people.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, object, remedy) = match self {
            Self::NoMap { .. } => ("HP-RS-004", "xdp", "see the service sensor"),
            Self::Map { .. } => ("HP-RS-005", "xdp", "restart the service sensor"),
            Self::Nft { remedy, .. } => ("HP-RS-006", "nft", *remedy),
        };
        let cause = match self {
            Self::NoMap { path, why } => format!("{path} can't be opened: {why}"),
            Self::Map { map, what, why } => format!("{what} in map {map}: {why}"),
            Self::Nft { what, why, .. } => format!("{what}: {why}"),
        };
        Diagnostic {
            code: code.into(),
            severity: Severity::Warn,
            object: object.into(),
            cause,
            remedy: remedy.into(),
        }
    }
}

/// Packets dropped by subject.
pub type Counts = Vec<(IpAddr, u64)>;

/// Something in the kernel that drops packets by source. Addresses are canonical.
pub trait Enforcer {
    /// Name in blocks and logs.
    fn name(&self) -> &'static str;

    /// Makes the kernel hold exactly what is wanted, leaving entries that are right untouched, and
    /// reads their counters.
    ///
    /// # Errors
    /// Any [`EnforceError`]; what was done until then stays.
    fn sync(&mut self, wanted: &Wanted, boot_ns: u64) -> Result<Counts, EnforceError>;

    /// Starts dropping packets from `subject`; the kernel stops by itself at `expires_boot_ns` or
    /// up to [`crate::core::KERNEL_GRACE_MS`] later. Done when it returns.
    ///
    /// # Errors
    /// Any [`EnforceError`]; nothing is dropped then, or a later [`Self::sync`] takes it back.
    fn block(
        &mut self,
        subject: IpAddr,
        expires_boot_ns: u64,
        boot_ns: u64,
    ) -> Result<(), EnforceError>;

    /// Stops dropping packets from `subject` and says how many were dropped, if its entry was still
    /// there. Not holding it is no error.
    ///
    /// # Errors
    /// Any [`EnforceError`]; the entry may still be in force.
    fn release(&mut self, subject: IpAddr) -> Result<Option<u64>, EnforceError>;
}
