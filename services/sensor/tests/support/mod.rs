//! Where tests find the eBPF object, and whether they may use it.

pub(crate) mod kernel;

use std::path::{Path, PathBuf};

/// The object, by HOOKPROBE_BPF_OBJECT or where `cargo xtask ebpf` puts it; `None` with a printed
/// reason when it is absent or this is not root.
pub(crate) fn object() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ebpf/hookprobe.bpf.o");
    let object = std::env::var_os("HOOKPROBE_BPF_OBJECT").map_or(built, PathBuf::from);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: eBPF needs root");
        return None;
    }
    if !object.is_file() {
        println!("skipped: no {}; run cargo xtask ebpf", object.display());
        return None;
    }
    Some(object)
}
