//! The Debian base: kernel, its modules, the systemd stub. Fetched by apt into a private folder
//! with its own lists and status; the host's package state is never read or changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Error, Result, at},
    shell,
    tree::Tree,
};

/// Release of the base.
const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What packs the root, with its libraries: the build host's may know less than the base's kernel.
const TOOLS: [&str; 11] = [
    "erofs-utils",
    "libc6",
    "libdeflate0",
    "liblz4-1",
    "liblzma5",
    "libpcre2-8-0",
    "libselinux1",
    "libuuid1",
    "libxxhash0",
    "libzstd1",
    "zlib1g",
];

/// An unpacked base.
#[derive(Debug, Clone)]
pub struct Base {
    /// Root of the unpacked packages.
    pub root: PathBuf,
    /// Kernel release, e.g. `6.12.1-amd64`.
    pub kernel: String,
    /// `package version` lines, for the list of contents.
    pub packages: Vec<String>,
}

/// A file of the base that goes into the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseFile {
    /// Debian package that has it.
    pub package: String,
    /// Path in the package.
    pub from: String,
    /// Path in the image.
    pub to: String,
}

/// The list of base files, `image/layout/base-x86_64.txt`.
///
/// # Errors
/// [`Error::Io`], [`Error::Compose`] naming the line.
pub fn files(tree: &Tree) -> Result<Vec<BaseFile>> {
    let path = tree.source("image/layout/base-x86_64.txt");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [package, from, to] = words.as_slice() else {
            return Err(Error::Compose(format!("{}: not three words: {line}", path.display())));
        };
        found.push(BaseFile { package: (*package).into(), from: (*from).into(), to: (*to).into() });
    }
    Ok(found)
}

impl Base {
    /// The kernel image.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.kernel))
    }

    /// Folder of the kernel's modules.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.root.join(format!("usr/lib/modules/{}", self.kernel))
    }

    /// `mkfs.erofs` of the base, run by its own loader with its own libraries.
    #[must_use]
    pub fn mkfs_erofs(&self) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin/mkfs.erofs"));
        command
    }

    /// The UEFI stub.
    #[must_use]
    pub fn stub(&self) -> PathBuf {
        self.root.join("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
    }
}

struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let set = |key: &str, path: &Path| format!("{key}={}", path.display());
        for option in [
            set("Dir::Etc::sourcelist", &self.dir.join("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            set("Dir::State", &self.dir),
            set("Dir::State::lists", &self.dir.join("lists")),
            set("Dir::State::status", &self.dir.join("status")),
            set("Dir::Cache", &self.dir.join("cache")),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Retries=3".into(),
            "APT::Sandbox::User=root".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    fn field(&self, package: &str, field: &str) -> Result<String> {
        let text =
            shell::output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let prefix = format!("{field}: ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
            .ok_or_else(|| Error::Compose(format!("package {package} of {SUITE} has no {field}")))
    }
}

/// Mirrors that the host itself uses: `(main, security)`.
fn mirrors() -> Result<(String, String)> {
    if let Ok(mirror) = std::env::var("HOOKPROBE_DEBIAN_MIRROR") {
        return Ok((mirror.clone(), format!("{}-security", mirror.trim_end_matches('/'))));
    }
    let text = shell::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(CODENAME) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let find = |security: bool| {
        text.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (origin, codename, uri) = (words.next()?, words.next()?, words.next()?);
            let wanted =
                codename.ends_with("-security") == security && !codename.ends_with("-updates");
            (origin == "Debian" && wanted).then(|| uri.to_owned())
        })
    };
    let main = find(false).ok_or_else(|| {
        Error::Compose(
            "apt knows no Debian mirror; set HOOKPROBE_DEBIAN_MIRROR to one and try again".into(),
        )
    })?;
    let security = find(true).unwrap_or_else(|| format!("{}-security", main.trim_end_matches('/')));
    Ok((main, security))
}

/// Fetches and unpacks the base, or takes what an earlier call unpacked.
///
/// # Errors
/// What apt and dpkg-deb say.
pub fn fetch(tree: &Tree) -> Result<Base> {
    let _alone = tree.alone("base")?;
    let dir = tree.target("base/debian-13-amd64");
    let root = dir.join("root");
    let stamp = dir.join("packages.tsv");
    let mut packages: Vec<String> = files(tree)?.into_iter().map(|file| file.package).collect();
    packages.push("systemd-boot-efi".into());
    packages.sort();
    packages.dedup();
    let shipped = packages.clone();
    packages.extend(TOOLS.map(str::to_owned));
    packages.sort();
    packages.dedup();
    let known = fs::read_to_string(&stamp).unwrap_or_default();
    let has = |name: &String| known.lines().any(|line| line.split('\t').next() == Some(name));
    if !packages.iter().all(has) {
        download(&dir, &root, &stamp, packages)?;
    }
    let modules = root.join("usr/lib/modules");
    let kernel = fs::read_dir(&modules)
        .map_err(at(&modules))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .max()
        .ok_or_else(|| {
            Error::Compose("the base has no kernel modules; remove target/base".into())
        })?;
    let packages = fs::read_to_string(&stamp).map_err(at(&stamp))?;
    // Tools are not in the image; the kernel's package has its release in its name.
    let is_tool = |line: &&str| {
        let name = line.split('\t').next().unwrap_or_default();
        TOOLS.contains(&name) && !shipped.iter().any(|known| known == name)
    };
    let packages = packages.lines().filter(|line| !is_tool(line)).map(str::to_owned).collect();
    Ok(Base { root, kernel, packages })
}

fn download(dir: &Path, root: &Path, stamp: &Path, mut packages: Vec<String>) -> Result<()> {
    shell::step("fetching the Debian 13 base (kernel, stub, libraries; about 120 MB, once)");
    for old in [root, &dir.join("debs")] {
        let _ = fs::remove_dir_all(old);
    }
    for part in ["lists/partial", "cache/archives/partial", "debs", "root"] {
        let path = dir.join(part);
        fs::create_dir_all(&path).map_err(at(&path))?;
    }
    let (main, security) = mirrors()?;
    let sources = format!(
        "deb [signed-by={KEYRING}] {main} {SUITE} main\n\
         deb [signed-by={KEYRING}] {security} {SUITE}-security main\n"
    );
    for (name, text) in [("sources.list", sources.as_str()), ("status", "")] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(at(&path))?;
    }
    let apt = Apt { dir: dir.to_path_buf() };
    shell::output(apt.command("apt-get").arg("update"))?;
    let depends = apt.field("linux-image-amd64", "Depends")?;
    packages.push(depends.split([' ', ',']).next().unwrap_or_default().into());
    let debs = dir.join("debs");
    let mut list = String::new();
    for package in &packages {
        let version = apt.field(package, "Version")?;
        list.push_str(&format!("{package}\t{version}\n"));
    }
    shell::output(apt.command("apt-get").current_dir(&debs).arg("download").args(packages))?;
    for entry in fs::read_dir(&debs).map_err(at(&debs))?.flatten() {
        shell::output(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(root))?;
    }
    fs::write(stamp, list).map_err(at(stamp))
}
