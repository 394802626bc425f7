//! Cores decide, shells do: no clock, files, sockets, processes or randomness in pure code.

use crate::{Tree, lexer::has_word};

/// Folders and files that are pure as a whole.
const PURE: [&str; 14] = [
    "services/wire/src/",
    "measured-boot/evidence/src/",
    "ebpf/abi/src/",
    "services/traffic/src/",
    "services/rules/src/",
    "services/behaviour/src/",
    "services/reputation/src/",
    "services/ledger/src/appender.rs",
    "services/ledger/src/chain.rs",
    "services/ledger/src/merkle.rs",
    "services/ledger/src/store/rows.rs",
    "services/ledger/src/verify.rs",
    "init/src/tpm/codec.rs",
    "init/src/modules/index.rs",
];

/// What pure code can't name, and what it takes instead.
const FORBIDDEN: [(&str, &str); 22] = [
    ("std::fs", "takes bytes, not paths"),
    ("std::io", "takes bytes, not streams"),
    ("std::env", "takes values, not the environment"),
    ("std::process", "starts nothing"),
    ("std::thread", "has no threads"),
    ("std::os", "has no descriptors"),
    ("thread::sleep", "never waits"),
    ("SystemTime", "is given the time"),
    ("Instant", "is given the time"),
    ("TcpStream", "has no sockets"),
    ("TcpListener", "has no sockets"),
    ("UdpSocket", "has no sockets"),
    ("UnixStream", "has no sockets"),
    ("UnixListener", "has no sockets"),
    ("UnixDatagram", "has no sockets"),
    ("tokio", "is not async"),
    ("rustix", "makes no system calls"),
    ("nix", "makes no system calls"),
    ("libc", "makes no system calls"),
    ("rand", "is given randomness"),
    ("getrandom", "is given randomness"),
    ("println", "returns what is to be said"),
];

/// Traits that a library asks for, where the file names nothing that is a stream.
const TRAITS: [(&str, &str, &str); 1] = [(
    "services/traffic/src/app/http/lzma.rs",
    "std::io",
    "lzma-rs decodes through `Write`; what is written to is memory",
)];

/// Whether a file has to be pure: one of [`PURE`], or a service's or PID 1's `core`.
fn is_pure(path: &str) -> bool {
    let core = path.ends_with("/core.rs") || path.contains("/core/");
    PURE.iter().any(|pure| path.starts_with(pure)) || core
}

/// All findings.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree.rust().filter(|file| is_pure(&file.path) && !file.is_test()) {
        for (at, line) in file.lexed().without_tests().lines().enumerate() {
            for (name, instead) in FORBIDDEN {
                let path = &file.path;
                let is_trait = TRAITS.iter().any(|(at, what, _)| at == path && *what == name);
                if has_word(line, name) && !is_trait {
                    out.push(format!("{path}:{}: {name}: a core {instead}", at + 1));
                }
            }
        }
    }
    out
}
