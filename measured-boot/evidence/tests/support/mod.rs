//! Fixtures: one `what hex` per line.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

const SWTPM: &str = include_str!("../fixtures/swtpm.txt");
pub(crate) const RELEASE_PEM: &str = include_str!("../fixtures/release.pem");

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A structure of the software TPM.
pub(crate) fn swtpm(what: &str) -> Vec<u8> {
    let line = SWTPM.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    unhex(line.unwrap_or_else(|| panic!("no {what}")))
}
