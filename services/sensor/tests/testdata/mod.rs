//! Where tests find captures and expectations made by others.

use std::path::{Path, PathBuf};

/// The folder, by HOOKPROBE_TESTDATA or beside the workspace; `None` with a printed reason.
pub(crate) fn testdata() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    let folder = std::env::var_os("HOOKPROBE_TESTDATA").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no test data");
    None
}
