//! Verifies offline what a box says about itself: evidence, an exported ledger, an image.
//!
//! One static program without TPM, network or clock; the pure parts are a library so that fuzzing
//! and tests reach them. Must never happen here: a verdict better than what was shown, a panic on
//! a file from a box, a file that is read before its size was checked, a release key that is
//! built in. Who calls it: operators and scripts, by `hookprobe-verify`; see [`cli`] for its exit
//! codes.

#![forbid(unsafe_code)]

pub mod app;
pub mod bench;
pub mod chain;
pub mod cli;
pub mod disk;
pub mod error;
pub mod evidence;
pub mod explain;
pub mod image;
pub mod input;
pub mod ledger;
pub mod report;
