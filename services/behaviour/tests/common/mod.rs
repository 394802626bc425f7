//! Where the captures of others are, and readers for what is there.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

#[cfg(feature = "traffic")]
pub(crate) mod capture;
pub(crate) mod facts;
pub(crate) mod zeek;

use std::path::PathBuf;

/// A file or folder of the shared test data, or nothing, with a word why.
pub(crate) fn testdata(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("HOOKPROBE_TESTDATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata"),
        PathBuf::from,
    );
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: no test data ({})", found.display());
    None
}

/// A line for `cargo xtask conformance`; to be called before what it says is asserted.
pub(crate) fn rate(suite: &str, is_passed: bool) {
    let passed = u8::from(is_passed);
    println!("\nconformance {{\"suite\":\"{suite}\",\"passed\":{passed},\"total\":1}}");
}
