//! What a build needs from the machine, and what for.

use std::process::Command;

use crate::{
    error::{Error, Result},
    shell,
    tree::Tree,
};

/// One thing that has to be there.
struct Need {
    /// Debian package.
    package: &'static str,
    /// File or program that shows that it is installed.
    proof: &'static str,
    /// What it is for.
    why: &'static str,
}

const fn need(package: &'static str, proof: &'static str, why: &'static str) -> Need {
    Need { package, proof, why }
}

/// Takes sections out of an object.
pub(crate) const OBJCOPY: &str = "/usr/lib/llvm-22/bin/llvm-objcopy";

const NEEDS: &[Need] = &[
    need("gcc", "cc", "links Rust programs"),
    need("libc6-dev", "/usr/include/stdio.h", "links Rust programs"),
    need("git", "git", "version and build time of the image"),
    need("rustc-web", "/usr/bin/rustc", "eBPF: compiler with matching library source"),
    need("cargo-web", "/usr/bin/cargo", "eBPF: build-std"),
    need("rust-web-src", "/usr/lib/rustlib/src/rust/library/core", "eBPF: source of core"),
    need("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config", "eBPF: bpf-linker"),
    need("llvm-22", OBJCOPY, "eBPF: takes debug sections out of the object"),
    need("libzstd-dev", "/usr/include/zstd.h", "eBPF: bpf-linker"),
    need("zlib1g-dev", "/usr/include/zlib.h", "eBPF: bpf-linker"),
    need("libxml2-dev", "/usr/include/libxml2", "eBPF: bpf-linker"),
    need("g++", "g++", "eBPF: bpf-linker"),
    need("genimage", "genimage", "image: partition table"),
    need("mtools", "mcopy", "image: EFI system partition"),
    need("dosfstools", "/sbin/mkfs.vfat", "image: EFI system partition"),
    need("dpkg", "dpkg-deb", "base: unpacks Debian packages"),
    need(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "base: checks Debian packages",
    ),
    need("qemu-system-x86", "qemu-system-x86_64", "run: the virtual machine"),
    need("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "run: UEFI firmware"),
    need("swtpm", "swtpm", "run: software TPM 2.0"),
    need("swtpm-tools", "swtpm_setup", "run: software TPM 2.0"),
    need("pkg-config", "pkg-config", "test: finds libtss2"),
    need("libtss2-dev", "/usr/include/tss2/tss2_esys.h", "image: attest (tss-esapi)"),
    need("libcryptsetup-dev", "/usr/include/libcryptsetup.h", "image: attest (LUKS2)"),
    need("libclang-dev", "/usr/lib/llvm-14/lib/libclang.so", "image: attest (bindings of LUKS2)"),
    need("tpm2-tools", "tpm2_checkquote", "test: other tools read our quotes and logs"),
    need("cryptsetup-bin", "/sbin/cryptsetup", "test: other tools read our volumes"),
    need("nftables", "/usr/sbin/nft", "test: the real nft reads our rules"),
    need("python3-venv", "python3", "test: Keylime reads our logs"),
    need("iproute2", "/sbin/ip", "test: network namespaces"),
];

/// Version of bpf-linker that is installed below `target/tools`.
const BPF_LINKER: &str = "0.13.0";

/// Prints the table of needs; tells whether all are met.
pub fn report() -> bool {
    let mut all = true;
    for need in NEEDS {
        let here = shell::have(need.proof);
        all &= here;
        println!("{}  {:24} {}", if here { "[ OK ]" } else { "[MISS]" }, need.package, need.why);
    }
    all
}

fn missing() -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !shell::have(need.proof)).map(|need| need.package).collect()
}

/// Installs what is missing after printing the list.
///
/// # Errors
/// [`Error::Missing`] when `install` is false and something is missing; what apt says otherwise.
pub fn ensure(install: bool) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !install {
        return Err(Error::Missing { list });
    }
    shell::step(&format!("installing Debian packages: {list}"));
    let apt = |arguments: &[&str]| {
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new("apt-get")
        } else {
            let mut command = Command::new("sudo");
            command.arg("apt-get");
            command
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        shell::output(&mut command)
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)?;
    Ok(())
}

/// Path of bpf-linker, built once below `target/tools`.
///
/// # Errors
/// What cargo says.
pub fn bpf_linker(tree: &Tree) -> Result<std::path::PathBuf> {
    cargo_tool(tree, "bpf-linker", BPF_LINKER, &["--no-default-features", "--features", "llvm-22"])
}

/// Path of a cargo tool, built once below `target/tools`.
///
/// # Errors
/// What cargo says.
pub fn cargo_tool(
    tree: &Tree,
    name: &str,
    version: &str,
    features: &[&str],
) -> Result<std::path::PathBuf> {
    let root = tree.target(&format!("tools/{name}-{version}"));
    let path = root.join("bin").join(name);
    if path.exists() {
        return Ok(path);
    }
    shell::step(&format!("building {name} {version} (once, a few minutes)"));
    shell::show(
        Command::new("cargo")
            .args(["install", "--quiet", "--locked", "--version", version, "--root"])
            .arg(&root)
            .arg(name)
            .args(features)
            .env("LLVM_PREFIX", "/usr/lib/llvm-22")
            .env("CARGO_TARGET_DIR", tree.target("tools/build")),
    )?;
    Ok(path)
}
