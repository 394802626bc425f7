//! What is in the image, and what is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

#[allow(dead_code, reason = "each test program uses a part")]
mod guest;

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

/// Everything in the image that can be executed.
const EXECUTABLES: &[&str] = &[
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/hookprobe/hookprobe-attest",
    "usr/lib/hookprobe/hookprobe-console",
    "usr/lib/hookprobe/hookprobe-init",
    "usr/lib/hookprobe/hookprobe-ledger",
    "usr/lib/hookprobe/hookprobe-response",
    "usr/lib/hookprobe/hookprobe-sensor",
    "usr/sbin/dhcpcd",
    "usr/sbin/mke2fs",
];

fn walk(root: &Path, at: &Path, visit: &mut impl FnMut(&str, &Path)) {
    for entry in fs::read_dir(at).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() || path.is_file() {
            visit(&path.strip_prefix(root).unwrap().to_string_lossy(), &path);
        } else {
            walk(root, &path, visit);
        }
    }
}

#[test]
fn executables_are_those_on_the_list() {
    let Some((_, image, _one)) = guest::image() else {
        return;
    };
    let root = image.rootfs();
    let mut found = BTreeSet::new();
    walk(&root, &root, &mut |name, path| {
        assert!(!path.is_symlink(), "{name} is a link");
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(
            metadata.mode() & 0o7022,
            0,
            "{name} is setuid, setgid, sticky or writable by others"
        );
        let head = fs::read(path).unwrap();
        let library = name.starts_with("usr/lib/x86_64-linux-gnu/");
        let program = head.starts_with(b"\x7fELF") && head.get(16) != Some(&1) && !library; // 1: relocatable
        if program || head.starts_with(b"#!") || metadata.mode() & 0o111 != 0 {
            found.insert(name.to_owned());
        }
    });
    assert_eq!(found, EXECUTABLES.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn the_blob_is_small_enough() {
    let Some((_, image, _one)) = guest::image() else {
        return;
    };
    let bytes = fs::metadata(image.uki()).unwrap().len();
    assert!(bytes <= 32 << 20, "{bytes} bytes, at most 32 MiB");
}
