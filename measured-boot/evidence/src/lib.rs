//! What a boot measured, what it should have measured, and the difference by name.
//!
//! Pure: no files, clock, randomness or TPM. The composer predicts with this code, PID 1 extends
//! with it, and verifiers replay with it; that the three agree is the point. Nothing here may
//! panic on hostile bytes, and nothing here may accept a log without replaying it.

#![forbid(unsafe_code)]

pub mod appraise;
pub mod bundle;
pub mod closure;
pub mod credential;
mod cursor;
pub mod digest;
mod ecdsa;
pub mod endorsement;
mod hex;
pub mod levels;
pub mod loader;
pub mod log;
pub mod manifest;
pub mod pcr;
pub mod policy;
pub mod public;
pub mod quote;
pub mod release;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod signed;
pub mod site;
pub mod tcg;
pub mod uki;

/// PCR of UKI sections (systemd-stub).
pub const PCR_UKI: pcr::PcrIndex = pcr::PcrIndex::UKI;
/// PCR of the site configuration.
pub const PCR_SITE: pcr::PcrIndex = pcr::PcrIndex::SITE;
/// PCR of service closures.
pub const PCR_SERVICES: pcr::PcrIndex = pcr::PcrIndex::SERVICES;
