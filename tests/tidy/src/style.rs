//! Size, characters, unfinished work, unsafe, reasons of dependencies.

use crate::{Tree, lexer::has_word};

/// Most lines of a source, a sixth above what we aim at (600): split along a noun.
pub const LINES_MAX: usize = 700;

/// Files with unsafe code, and what for.
pub const UNSAFE: [(&str, &str); 16] = [
    ("ebpf/abi/src/lib.rs", "Pod markers for records shared with the kernel"),
    ("ebpf/programs/src/", "eBPF reads packets and maps through pointers"),
    ("init/src/sys.rs", "system calls that rustix and nix lack"),
    ("init/tests/fixtures/probe.rs", "a program that tries what the sandbox has to refuse"),
    ("services/attest/src/serve/port.rs", "a promise to tokio about the descriptor of a device"),
    (
        "services/attest/src/unlock/native.rs",
        "a callback from C, and a program executed by descriptor after fork",
    ),
    ("services/console/src/signals.rs", "signal handlers"),
    ("services/daemon/src/socket.rs", "takes the descriptors that PID 1 hands over"),
    ("services/ledger/tests/socket.rs", "a test hands over descriptors as PID 1 does"),
    ("services/response/tests/kernel/mod.rs", "a test enters a network namespace"),
    ("services/sensor/src/inspector/confine.rs", "its test sends a frame to an address"),
    ("services/sensor/src/inspector/packets.rs", "a ring of packets that the kernel fills"),
    (
        "services/sensor/src/live/ring.rs",
        "a promise to tokio about the descriptor of the ring buffer",
    ),
    ("services/sensor/tests/memory.rs", "a test counts what is allocated"),
    ("services/sensor/tests/live.rs", "a test hands over descriptors as PID 1 does"),
    (
        "tests/boot/src/bin/hookprobe-adversary.rs",
        "a program that tries what the kernel and the sandbox have to refuse",
    ),
];

/// Marks of work that is not done, or of a test that does not run.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Sources that are too long.
#[must_use]
pub fn too_long(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > LINES_MAX).then(|| {
                format!("{}: {lines} lines, at most {LINES_MAX}; split along a noun", file.path)
            })
        })
        .collect()
}

/// Characters outside of ASCII: they look like others, or are invisible, or turn text around.
#[must_use]
pub fn not_ascii(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(char) = line.chars().find(|char| !char.is_ascii()) {
                let escaped = char.escape_unicode();
                out.push(format!("{}:{}: {escaped} is not ASCII", file.path, at + 1));
            }
        }
    }
    out
}

/// Marks of unfinished work.
#[must_use]
pub fn unfinished(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree.rust() {
        for (at, line) in file.lexed().code.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                out.push(format!("{}:{}: {mark}: finish it or leave it out", file.path, at + 1));
            }
        }
    }
    out
}

/// Unsafe code outside of [`UNSAFE`], and entries of that list that are no longer needed.
#[must_use]
pub fn unsafe_files(tree: &Tree) -> Vec<String> {
    let with: Vec<&str> = tree
        .rust()
        .filter(|file| has_word(&file.lexed().code, "unsafe"))
        .map(|file| file.path.as_str())
        .collect();
    let unlisted = with
        .iter()
        .filter(|path| !UNSAFE.iter().any(|(listed, _)| path.starts_with(listed)))
        .map(|path| format!("{path}: unsafe, but not in the list of style.rs with its reason"));
    let stale = UNSAFE
        .iter()
        .filter(|(listed, _)| !with.iter().any(|path| path.starts_with(listed)))
        .map(|(listed, _)| format!("{listed}: in the list of style.rs, but has no unsafe"));
    unlisted.chain(stale).collect()
}

/// Third-party dependencies without a reason on their line, in every Cargo.toml that names a
/// version. `workspace = true` needs none, its reason stands at the root.
#[must_use]
pub fn unexplained_dependencies(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        let mut in_dependencies = false;
        for (at, line) in file.text.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim_end().ends_with("dependencies]");
                continue;
            }
            let ours = line.starts_with("hookprobe-");
            let inherited = line.contains("workspace = true") || line.contains(".workspace");
            let entry = in_dependencies && line.contains('=') && !line.starts_with('#');
            let above = at
                .checked_sub(1)
                .and_then(|before| file.text.lines().nth(before))
                .is_some_and(|before| before.starts_with('#'));
            if entry && !ours && !inherited && !line.contains(" # ") && !above {
                out.push(format!("{}:{}: say why it is here: {line}", file.path, at + 1));
            }
        }
    }
    out
}
