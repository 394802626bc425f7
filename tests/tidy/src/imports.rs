//! Who may depend on what.

use crate::Tree;

/// A package as its Cargo.toml tells it.
#[derive(Debug, Clone)]
struct Package {
    name: String,
    /// From the root.
    folder: String,
    /// Of the package itself, with whether they are optional.
    normal: Vec<(String, bool)>,
    /// Of its tests and build script too.
    all: Vec<String>,
}

/// Pure crates and everything that they may depend on. An allow-list: no tokio, no randomness, no
/// system calls, nor anything that nobody thought of here.
const PURE: [(&str, &[&str]); 7] = [
    ("hookprobe-wire", &["minicbor", "serde", "sha2", "thiserror", "toml", "zeroize"]),
    (
        "hookprobe-evidence",
        &[
            "aes",
            "base64ct",
            "cfb-mode",
            "hmac",
            "memchr",
            "minicbor",
            "p256",
            "p384",
            // P-256 verification alone: the same answer as p256's, three times as fast.
            "ring",
            "rsa",
            "serde",
            "serde_json",
            "sha1",
            "sha2",
            "thiserror",
            "toml",
            "x509-cert",
        ],
    ),
    // For user space only, behind a feature.
    ("hookprobe-abi", &["aya"]),
    (
        "hookprobe-traffic",
        &[
            // Bodies that evade are coded with more than gzip. Both decode from memory to memory.
            "brotli-decompressor",
            "lzma-rs",
            "md-5",
            "memchr",
            "miniz_oxide",
            "ring",
            "sha1",
            "sha2",
            "thiserror",
        ],
    ),
    (
        "hookprobe-rules",
        &[
            "base64ct",
            "hookprobe-traffic",
            "md-5",
            "memchr",
            "regex-automata",
            "serde_json",
            "sha1",
            "sha2",
            "thiserror",
        ],
    ),
    (
        "hookprobe-behaviour",
        &["aho-corasick", "hookprobe-reputation", "hookprobe-traffic", "thiserror"],
    ),
    ("hookprobe-reputation", &["ring", "thiserror"]),
];

/// Libraries with few owners, and why.
const OWNED: [(&str, &[&str], &str); 7] = [
    (
        "fatfs",
        &["hookprobe-console", "hookprobe-fuzz"],
        "the courier alone reads strangers' file systems",
    ),
    (
        "tss-esapi",
        &["hookprobe-tpm"],
        "one place speaks to the TPM; it loads C libraries, so no static program can have it",
    ),
    (
        "hookprobe-tpm",
        &["hookprobe-attest", "hookprobe-interop"],
        "only the owner of /dev/tpmrm0 may link tpm2-tss (interop: tests against swtpm)",
    ),
    (
        "aya",
        &["hookprobe-sensor", "hookprobe-response", "hookprobe-abi"],
        "only these load eBPF programs or write their maps (abi: the Pod markers, optional)",
    ),
    ("redb", &["hookprobe-ledger"], "the ledger has a single writer"),
    ("ratatui", &["hookprobe-console"], "the console is the only screen"),
    ("crossterm", &["hookprobe-console"], "the console is the only screen"),
];

/// What PID 1 must not have: it is one thread and one loop, and never waits for a future.
const ASYNC: [&str; 8] =
    ["tokio", "async-std", "async-trait", "futures", "futures-util", "mio", "smol", "hyper"];

/// All findings.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let packages = packages(tree);
    let mut out = Vec::new();
    for package in &packages {
        pure(package, &mut out);
        owned(package, &mut out);
        siblings(tree, package, &packages, &mut out);
        if package.name == "hookprobe-init" {
            for name in package.all.iter().filter(|name| ASYNC.contains(&name.as_str())) {
                out.push(format!("{}: {name}: PID 1 has nothing async", package.folder));
            }
        }
    }
    for file in tree.rust().filter(|file| file.path.starts_with("init/")) {
        let code = file.lexed().code;
        if ["async", "await"].iter().any(|word| crate::lexer::has_word(&code, word)) {
            out.push(format!("{}: PID 1 has nothing async", file.path));
        }
    }
    out
}

fn pure(package: &Package, out: &mut Vec<String>) {
    let Some((_, allowed)) = PURE.iter().find(|(name, _)| *name == package.name) else {
        return;
    };
    for (name, optional) in &package.normal {
        if !allowed.contains(&name.as_str()) {
            out.push(format!(
                "{}: {name}: {} is pure, it may have only {}",
                package.folder,
                package.name,
                allowed.join(", ")
            ));
        } else if package.name == "hookprobe-abi" && !optional {
            out.push(format!("{}: {name} has to be optional", package.folder));
        }
    }
}

fn owned(package: &Package, out: &mut Vec<String>) {
    for (library, owners, why) in OWNED {
        let has = package.all.iter().any(|name| name == library);
        if has && !owners.contains(&package.name.as_str()) {
            out.push(format!("{}: {library}: {why}", package.folder));
        }
    }
}

/// Services talk through `wire`; a service that links another is one process with two names. What has
/// no `main.rs` is a library of services, not one.
fn siblings(tree: &Tree, package: &Package, packages: &[Package], out: &mut Vec<String>) {
    if !package.folder.starts_with("services/") {
        return;
    }
    for other in packages {
        let service = other.folder.starts_with("services/")
            && tree.file(&format!("{}/src/main.rs", other.folder)).is_some();
        if service && other.name != package.name && package.all.contains(&other.name) {
            out.push(format!(
                "{}: {}: services never depend on each other",
                package.folder, other.name
            ));
        }
    }
}

fn packages(tree: &Tree) -> Vec<Package> {
    let manifests = tree
        .files
        .iter()
        .filter_map(|file| Some((file.path.strip_suffix("/Cargo.toml")?, &file.text)));
    manifests
        .filter_map(|(folder, text)| {
            let manifest: toml::Table = text.parse().ok()?;
            let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
            let mut normal = Vec::new();
            let mut all = Vec::new();
            collect(&manifest, &mut normal, &mut all);
            for target in manifest.get("target").and_then(toml::Value::as_table).into_iter() {
                for table in target.values().filter_map(toml::Value::as_table) {
                    collect(table, &mut normal, &mut all);
                }
            }
            Some(Package { name, folder: folder.into(), normal, all })
        })
        .collect()
}

fn collect(from: &toml::Table, normal: &mut Vec<(String, bool)>, all: &mut Vec<String>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(table) = from.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        for (key, value) in table {
            // `name = { package = "real" }` renames.
            let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned();
            let optional = value.get("optional").and_then(toml::Value::as_bool) == Some(true);
            if section == "dependencies" {
                normal.push((name.clone(), optional));
            }
            all.push(name);
        }
    }
}
