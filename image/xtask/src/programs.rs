//! Builds what goes into the image: static service binaries and the eBPF object.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    doctor,
    error::{Result, at},
    shell,
    tree::Tree,
};

/// Target of the image's binaries. Explicit, so that build scripts are not linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Packages that are built statically, and the binaries that they give.
pub const STATIC: &[(&str, &[&str])] = &[
    ("hookprobe-init", &["hookprobe-init", "hookprobe-stage1"]),
    ("hookprobe-ledger", &["hookprobe-ledger"]),
    ("hookprobe-sensor", &["hookprobe-sensor"]),
    ("hookprobe-response", &["hookprobe-response"]),
    ("hookprobe-console", &["hookprobe-console"]),
    ("hookprobe-verifier", &["hookprobe-verify"]),
    ("hookprobe-boot", &["hookprobe-poweroff", "hookprobe-adversary"]),
];

/// Static binaries that do not stand in the root: for the initramfs, for tests, for people.
pub const NOT_IN_ROOT: &[&str] =
    &["hookprobe-stage1", "hookprobe-poweroff", "hookprobe-adversary", "hookprobe-verify"];

/// Builds `hookprobe-attest`, which can't be static: tpm2-tss loads its transport at run time, and
/// it is linked with the libraries of the base.
fn attest(tree: &Tree) -> Result<()> {
    shell::step("building attest (release, against tpm2-tss and libcryptsetup)");
    let flags = [
        "-Clink-arg=-static-libgcc".to_owned(),
        format!("--remap-path-prefix={}=/src", tree.source("").display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home().display()),
    ];
    let mut command = Command::new("cargo");
    command
        .current_dir(tree.source(""))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(tree.target("dynamic"))
        .args(["--package", "hookprobe-attest", "--bin", "hookprobe-attest"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    shell::show(&mut command)
}

/// Where `hookprobe-attest` is.
#[must_use]
pub fn attest_path(tree: &Tree) -> PathBuf {
    tree.target("dynamic").join(TARGET).join("release/hookprobe-attest")
}

/// Builds the binaries of the image and returns the folder of the static ones.
///
/// # Errors
/// What cargo says.
pub fn services(tree: &Tree) -> Result<PathBuf> {
    shell::step("building services (static, release)");
    let target = tree.target("static");
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        // Panic messages name source files: not where this machine keeps them.
        format!("--remap-path-prefix={}=/src", tree.source("").display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home().display()),
    ];
    let mut command = Command::new("cargo");
    command
        .current_dir(tree.source(""))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    for (package, binaries) in STATIC {
        command.args(["--package", package]);
        for binary in *binaries {
            command.args(["--bin", binary]);
        }
    }
    shell::show(&mut command)?;
    attest(tree)?;
    Ok(folder(tree))
}

/// Folder of the static binaries.
#[must_use]
pub fn folder(tree: &Tree) -> PathBuf {
    tree.target("static").join(TARGET).join("release")
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// Builds the eBPF object and returns its path.
///
/// # Errors
/// What cargo and bpf-linker say.
pub fn ebpf(tree: &Tree) -> Result<PathBuf> {
    let linker = doctor::bpf_linker(tree)?;
    shell::step("building eBPF programs");
    let target = tree.target("ebpf-build");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = linker.parent().map(PathBuf::from).unwrap_or_default();
    let search = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))
        .unwrap_or(path);
    shell::show(
        Command::new("/usr/bin/cargo")
            .current_dir(tree.source("ebpf/programs"))
            .args(["build", "--release", "--quiet", "--locked", "-Zbuild-std=core"])
            .args(["--target", "bpfel-unknown-none", "--target-dir"])
            .arg(&target)
            .env("PATH", search)
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS"),
    )?;
    let built = target.join("bpfel-unknown-none/release/hookprobe");
    let object = object_path(tree);
    let folder = tree.target("ebpf");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    // Debug sections are four fifths of the file, which stands in the image. BTF stays: the
    // kernel reads it.
    shell::show(Command::new(doctor::OBJCOPY).arg("--strip-debug").arg(&built).arg(&object))?;
    Ok(object)
}

/// Where the eBPF object is kept.
#[must_use]
pub fn object_path(tree: &Tree) -> PathBuf {
    tree.target("ebpf/hookprobe.bpf.o")
}
