//! The composer: base + our binaries + overlay -> root.erofs -> UKI -> disk image and manifest.
//!
//! The same inputs give the same bytes. What differs between platforms (modules, partition table,
//! command line) is data in `image/layout`, not code here.

mod cpio;
mod disk;
pub mod modules;
mod sign;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use hookprobe_evidence::{
    closure::ServiceList,
    digest::HashAlg,
    loader::add_loader,
    manifest::{MANIFEST_PATH, ReferenceManifest},
    release::add_boot,
    signed::{RELEASE_KEY_PATH, seal_manifest},
    uki,
};

use crate::{
    base::{self, Base},
    doctor,
    error::{Error, Result, at},
    programs, shell,
    tree::{Image, Tree},
};

/// Where our binaries stand in the image.
const LIB: &str = "usr/lib/hookprobe";
/// Fixed identity of the root file system: it is named by the PCRs, not by this.
const ROOT_UUID: &str = "6f0c3a52-5d3e-4c0e-9d6e-686f6f6b7072";

pub(crate) use disk::ESP_OFFSET;
pub use disk::{STATE_MIB, state_offset};
pub use sign::Signer;

/// Kernel modules that stage-1 loads, with what they depend on. The checksum comes first because
/// it is asked for by name, which no dependency says.
const STAGE1_MODULES: &[&str] = &["crc32c_generic", "erofs"];

/// Build time of an image from sources without history: November 2023.
const NO_HISTORY_TIME: u64 = 1_700_000_000;

/// Version of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds everything and composes the image.
///
/// # Errors
/// Any [`Error`].
pub fn image(tree: &Tree, install: bool) -> Result<Image> {
    doctor::ensure(install)?;
    // Neither wants anything of the other, and each has times when it leaves a processor idle:
    // downloads, the last steps of links.
    let (object, binaries) = std::thread::scope(|scope| {
        let services = scope.spawn(|| programs::services(tree));
        let object = programs::ebpf(tree).and_then(|object| base::fetch(tree).map(|_| object));
        let services = services.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (object, services)
    });
    assemble(tree, binaries?, object?)
}

/// Composes the image from programs that are built already.
///
/// # Errors
/// Any [`Error`].
pub fn assemble(tree: &Tree, binaries: PathBuf, object: PathBuf) -> Result<Image> {
    let base = base::fetch(tree)?;
    let image = tree.image();
    // Who comes second finds it composed.
    let _alone = tree.alone("image")?;
    fs::create_dir_all(&image.dir).map_err(at(&image.dir))?;
    let signer = Signer::find()?;
    let parts = Parts { tree, base: &base, binaries, object, time: build_time(tree), signer };
    if image.disk().exists() && parts.fingerprint()? == read_stamp(&image) {
        return Ok(image);
    }
    shell::step("composing the image");
    let manifest = parts.rootfs(&image)?;
    parts.erofs(&image)?;
    parts.uki(&image, manifest)?;
    disk::assemble(tree, &image, parts.time)?;
    let stamp = image.dir.join("stamp");
    fs::write(&stamp, parts.fingerprint()?).map_err(at(&stamp))?;
    Ok(image)
}

/// Who vouches for a packed-again image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouch {
    /// Nobody: it carries the signed manifest of the image it was made from.
    Stolen,
    /// The key that signs images of this checkout, for this security generation.
    Signed {
        /// Which generation.
        generation: u32,
    },
}

/// Packs the image's root again after `edit` changed it. With [`Vouch::Stolen`] this is what
/// somebody gets who exchanges a file; with [`Vouch::Signed`] it is another image of the same maker.
///
/// # Errors
/// Any [`Error`].
pub fn repack(tree: &Tree, name: &str, vouch: Vouch, edit: impl FnOnce(&Path)) -> Result<Image> {
    let original = tree.image();
    let image = Image { dir: tree.target("image").join(name) };
    let _ = fs::remove_dir_all(&image.dir);
    fs::create_dir_all(&image.dir).map_err(at(&image.dir))?;
    shell::output(Command::new("cp").arg("-a").arg(original.rootfs()).arg(image.rootfs()))?;
    edit(&image.rootfs());
    let base = base::fetch(tree)?;
    let parts = Parts {
        tree,
        base: &base,
        binaries: programs::folder(tree),
        object: programs::object_path(tree),
        time: build_time(tree),
        signer: Signer::find()?,
    };
    match vouch {
        Vouch::Stolen => {
            parts.erofs(&image)?;
            let envelope = original.envelope();
            fs::copy(&envelope, image.envelope()).map_err(at(&envelope))?;
            let blob = parts.blob(&image)?;
            fs::write(image.uki(), blob).map_err(at(image.uki()))?;
        }
        Vouch::Signed { generation } => {
            let manifest = parts.predict(&image.rootfs(), generation)?;
            parts.erofs(&image)?;
            parts.uki(&image, manifest)?;
        }
    }
    Ok(image)
}

/// Security generation of the image, `image/layout/generation`: raised by one when an older image
/// must no longer be able to use a box's secrets.
fn generation(tree: &Tree) -> Result<u32> {
    let path = tree.source("image/layout/generation");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    text.trim().parse().map_err(|_| Error::Compose(format!("{}: not a number", path.display())))
}

fn read_stamp(image: &Image) -> String {
    fs::read_to_string(image.dir.join("stamp")).unwrap_or_default()
}

/// Time of the last commit: the only time in the image, so that two builds agree.
fn build_time(tree: &Tree) -> u64 {
    let log = shell::output(Command::new("git").current_dir(tree.source("")).args([
        "-c",
        "safe.directory=*",
        "log",
        "-1",
        "--format=%ct",
    ]));
    log.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| {
        eprintln!("note: no git history here; the image's build time is a fixed one");
        NO_HISTORY_TIME
    })
}

struct Parts<'a> {
    tree: &'a Tree,
    base: &'a Base,
    binaries: PathBuf,
    object: PathBuf,
    time: u64,
    signer: Signer,
}

impl Parts<'_> {
    /// Digest over every input, so that a second call has nothing to do.
    fn fingerprint(&self) -> Result<String> {
        let mut inputs = vec![self.object.clone()];
        for (_, binaries) in programs::STATIC {
            inputs.extend(binaries.iter().map(|binary| self.binaries.join(binary)));
        }
        inputs.push(programs::attest_path(self.tree));
        for folder in ["image/rootfs", "image/layout"] {
            let folder = self.tree.source(folder);
            for entry in fs::read_dir(&folder).map_err(at(&folder))?.flatten() {
                if entry.path().is_file() {
                    inputs.push(entry.path());
                }
            }
        }
        inputs.sort();
        let composer = std::env::current_exe().unwrap_or_default();
        inputs.push(composer);
        let mut all = format!("{} {} {}\n", self.base.kernel, self.time, self.signer.public_pem()?);
        for input in inputs {
            let bytes = fs::read(&input).map_err(at(&input))?;
            all.push_str(&HashAlg::Sha256.digest(&[&bytes]).hex());
        }
        Ok(HashAlg::Sha256.digest(&[all.as_bytes()]).hex())
    }

    /// Lays out the folder that becomes the root, and predicts its measurements.
    fn rootfs(&self, image: &Image) -> Result<ReferenceManifest> {
        let root = image.rootfs();
        let _ = fs::remove_dir_all(&root);
        for dir in [
            "dev",
            "etc/hookprobe",
            "proc",
            "run",
            "sys",
            "tmp",
            "var",
            "usr/lib/hookprobe",
            "usr/lib/modules",
            "usr/share/hookprobe",
        ] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        for (_, binaries) in programs::STATIC {
            for binary in *binaries {
                if !programs::NOT_IN_ROOT.contains(binary) {
                    self.put(
                        &root,
                        &self.binaries.join(binary),
                        &format!("{LIB}/{binary}"),
                        0o555,
                    )?;
                }
            }
        }
        let attest = programs::attest_path(self.tree);
        self.put(&root, &attest, &format!("{LIB}/hookprobe-attest"), 0o555)?;
        self.put(&root, &self.object, &format!("{LIB}/hookprobe.bpf.o"), 0o444)?;
        for file in base::files(self.tree)? {
            let program = file.to.contains("/sbin/") || file.to.starts_with("lib64/");
            let mode = if program { 0o555 } else { 0o444 };
            self.put(&root, &self.base.root.join(&file.from), &file.to, mode)?;
        }
        let services_file = self.tree.source("image/rootfs/services.toml");
        self.put(&root, &services_file, "etc/hookprobe/services.toml", 0o444)?;
        self.text(&root, "etc/hookprobe/version", VERSION)?;
        self.text(&root, "etc/hookprobe/build-time", &self.time.to_string())?;
        self.text(&root, "etc/os-release", &os_release())?;
        let wanted = self.tree.source("image/layout/modules-x86_64.txt");
        modules::install(self.base, &wanted, &root)?;
        let key = self.signer.public_pem()?;
        self.text(&root, RELEASE_KEY_PATH.trim_start_matches('/'), &key)?;
        self.predict(&root, generation(self.tree)?)
    }

    /// Predicts what a root measures and leaves the prediction in it.
    fn predict(&self, root: &Path, generation: u32) -> Result<ReferenceManifest> {
        let services = root.join("etc/hookprobe/services.toml");
        let text = fs::read_to_string(&services).map_err(at(&services))?;
        let services =
            ServiceList::parse(&text).map_err(|error| Error::Measure(error.to_string()))?;
        let manifest = ReferenceManifest::predict(VERSION, generation, &services, |path| {
            fs::read(root.join(path.trim_start_matches('/'))).map_err(|error| error.to_string())
        })
        .map_err(|error| Error::Measure(error.to_string()))?;
        let inside = root.join(MANIFEST_PATH.trim_start_matches('/'));
        fs::write(&inside, manifest.to_json()).map_err(at(&inside))?;
        Ok(manifest)
    }

    fn put(&self, root: &Path, from: &Path, to: &str, mode: u32) -> Result<()> {
        let path = root.join(to);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        fs::copy(from, &path).map_err(at(from))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))
    }

    fn text(&self, root: &Path, to: &str, text: &str) -> Result<()> {
        let path = root.join(to);
        fs::write(&path, format!("{}\n", text.trim_end())).map_err(at(&path))
    }

    fn erofs(&self, image: &Image) -> Result<()> {
        // 64 KiB at a time: larger clusters save 2 % and cost more where a page is read.
        shell::output(
            self.base
                .mkfs_erofs()
                .args([
                    "-zzstd,level=19",
                    "-C65536",
                    "-Eztailpacking",
                    "--quiet",
                    "--all-root",
                    "-x-1",
                    "-U",
                    ROOT_UUID,
                ])
                .arg(format!("-T{}", self.time))
                .arg(image.root())
                .arg(image.rootfs()),
        )?;
        Ok(())
    }

    /// The boot blob, and the signed manifest that goes beside it.
    fn uki(&self, image: &Image, mut manifest: ReferenceManifest) -> Result<()> {
        let measure = |error: &dyn std::fmt::Display| Error::Measure(error.to_string());
        let blob = self.blob(image)?;
        let pcr11 = uki::predict_pcr11(&blob, &HashAlg::ALL).map_err(|error| measure(&error))?;
        // Named, so that a verdict can say which section of the blob differs.
        add_boot(&mut manifest, &blob).map_err(|error| measure(&error))?;
        add_loader(&mut manifest, &blob).map_err(|error| measure(&error))?;
        let mut failed = None;
        let signed = manifest.sign(&pcr11, |digest| {
            self.signer.sign_digest(digest).unwrap_or_else(|error| {
                failed = Some(error);
                [0; 64]
            })
        });
        signed.map_err(|error| measure(&error))?;
        if let Some(error) = failed {
            return Err(error);
        }
        let envelope =
            seal_manifest(&manifest, &self.signer.id()?, |bytes| self.signer.sign(bytes));
        fs::write(image.uki(), &blob).map_err(at(image.uki()))?;
        fs::write(image.envelope(), &envelope).map_err(at(image.envelope()))?;
        fs::write(image.manifest(), manifest.to_json()).map_err(at(image.manifest()))?;
        let packages = image.dir.join("packages.tsv");
        fs::write(&packages, self.base.packages.join("\n") + "\n").map_err(at(&packages))
    }

    fn blob(&self, image: &Image) -> Result<Vec<u8>> {
        let read = |path: PathBuf| fs::read(&path).map_err(at(path));
        let initrd = self.initrd(image)?;
        let cmdline_file = self.tree.source("image/layout/cmdline-x86_64.txt");
        let cmdline = fs::read_to_string(&cmdline_file).map_err(at(&cmdline_file))?;
        let cmdline: Vec<&str> = cmdline
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect();
        let kernel = read(self.base.vmlinuz())?;
        fs::write(image.kernel(), &kernel).map_err(at(image.kernel()))?;
        let stub = read(self.base.stub())?;
        let release = os_release();
        let uname = self.base.kernel.clone();
        let cmdline = cmdline.join(" ");
        let sections: [(&str, &[u8]); 5] = [
            (".osrel", release.as_bytes()),
            (".cmdline", cmdline.as_bytes()),
            (".uname", uname.as_bytes()),
            (".initrd", &initrd),
            (".linux", &kernel),
        ];
        uki::compose(&stub, &sections).map_err(|error| Error::Measure(error.to_string()))
    }

    fn initrd(&self, image: &Image) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).map_err(at(path));
        let mut archive = cpio::Archive::new();
        for dir in ["dev", "lib", "proc", "run", "sys", "sysroot"] {
            archive.directory(dir);
        }
        // The kernel opens /dev/console for init before anything is mounted.
        archive.console("dev/console");
        archive.file("init", 0o555, &read(&self.binaries.join("hookprobe-stage1"))?);
        let mut list = String::new();
        for (name, bytes) in modules::closure(self.base, STAGE1_MODULES)? {
            let path = format!("lib/{name}.ko");
            archive.file(&path, 0o444, &bytes);
            list.push_str(&format!("/{path}\n"));
        }
        archive.file("modules.list", 0o444, list.as_bytes());
        archive.file("root.erofs", 0o444, &read(&image.root())?);
        Ok(archive.finish())
    }
}

/// An initramfs whose init powers off at once: the floor for boot times, and the KVM probe.
///
/// # Errors
/// [`Error::Io`] when the services are not built yet.
pub fn poweroff_initrd(tree: &Tree) -> Result<PathBuf> {
    let binary = programs::folder(tree).join("hookprobe-poweroff");
    let mut archive = cpio::Archive::new();
    archive.directory("dev");
    archive.console("dev/console");
    archive.file("init", 0o555, &fs::read(&binary).map_err(at(&binary))?);
    let path = tree.image().dir.join("poweroff.cpio");
    fs::write(&path, archive.finish()).map_err(at(&path))?;
    Ok(path)
}

fn os_release() -> String {
    format!(
        "ID=hookprobe\nNAME=\"HookProbe OS\"\nPRETTY_NAME=\"HookProbe OS {VERSION}\"\nVERSION_ID={VERSION}\nIMAGE_ID=hookprobe\nIMAGE_VERSION={VERSION}\n"
    )
}
