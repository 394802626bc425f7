//! Helpers of the tests in this folder, which give our event logs and quotes to programs that others
//! wrote: tpm2-tools, systemd-pcrlock, Keylime. Nothing of it is part of the image.
//!
//! A tool that is not there is no failure: its test says what is missing and how to get it.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure fails the test")]

pub mod fixture;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Root of the source tree.
#[must_use]
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where tools are unpacked and where logs of a booted box are left.
#[must_use]
pub fn scratch() -> PathBuf {
    tree().join("target/interop")
}

/// Runs a command and gives its output; fails the test, with all that it said, when it failed.
#[must_use]
pub fn output(command: &mut Command) -> String {
    let said = command.output().unwrap();
    let Output { status, stdout, stderr } = &said;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{}\n{}", text(stdout), text(stderr));
    text(stdout)
}
