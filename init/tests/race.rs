//! A racer exchanges a service's binary between its measurement and its start, by rename and by
//! writing into it, in a plain directory and on an overlay. Whatever then runs has to be exactly
//! what was hashed: the process says who it is, and the digest has to be that one's.
//!
//! Without the test harness, because `spawn` forks and promises to do so from one thread; the racer
//! is a process of its own. HOOKPROBE_RACE_STARTS says how many starts; `cargo xtask attack 1` asks
//! for ten thousand.

#![expect(
    clippy::unwrap_used,
    reason = "a test without the harness: a failure is a panic that names its line"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hookprobe_evidence::{
    closure::{ServiceList, ServiceSpec},
    digest::HashAlg,
};
use hookprobe_init::{
    measure::{Measurement, Meter},
    supervise::spawn::{self, Launch},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::Pid,
};

const UID: u32 = 64_002;
/// Starts in an ordinary run of the tests; four races share them.
const STARTS: u32 = 500;
/// What the racer changes: the program prints these bytes of itself.
const MARK: &[u8; 16] = b"<mark:AAAAAAAA>\n";
/// Argument that makes this program the racer.
const RACER: &str = "--race";
/// The racer is slower than a start by at most so much; then something is wrong with it.
const FIRST_SWAP_WAIT: Duration = Duration::from_secs(10);

/// How the racer exchanges the binary.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Rename,
    InPlace,
}

/// What came of the starts.
#[derive(Debug, Default)]
struct Tally {
    starts: u32,
    ran: BTreeMap<String, u32>,
    refused: u32,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == RACER) {
        race(Path::new(&arguments[2]), &arguments[3]);
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let starts = std::env::var("HOOKPROBE_RACE_STARTS").ok().and_then(|text| text.parse().ok());
    let each = starts.unwrap_or(STARTS).div_ceil(4);
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(template) = compile(directory.path()) else {
        println!("skipped: no static C library to compile the probe with");
        return;
    };
    let mut total = Tally::default();
    for (place, overlaid) in [("state directory", false), ("overlay", true)] {
        let folder = directory.path().join(if overlaid { "overlay" } else { "state" });
        fs::create_dir(&folder).unwrap();
        if overlaid && !overlay(directory.path(), &folder) {
            println!("skipped: this kernel has no overlay on this file system");
            continue;
        }
        for way in [Way::Rename, Way::InPlace] {
            let tally = run(&folder, &template, way, each);
            println!(
                "ok: {place}, {way:?}: {} starts, {} refused, {:?}",
                tally.starts, tally.refused, tally.ran
            );
            assert!(tally.ran.len() >= 2, "the racer never won: {tally:?}");
            total.starts += tally.starts;
            total.refused += tally.refused;
        }
    }
    println!("race: starts={} refused={} other_than_hashed=0", total.starts, total.refused);
}

/// A program that prints [`MARK`], as bytes with its place in them.
fn compile(directory: &Path) -> Option<Vec<u8>> {
    let (source, out) = (directory.join("mark.rs"), directory.join("mark"));
    let text = format!(
        "#[used] static MARK: [u8; 16] = *b\"{}\\n\";\n\
         fn main() {{ use std::io::Write as _; let mark = std::hint::black_box(&MARK);\n\
         let mut out = [0; 16];\n\
         for (to, from) in out.iter_mut().zip(mark) {{ *to = unsafe {{ std::ptr::read_volatile(from) }}; }}\n\
         std::io::stdout().write_all(&out).unwrap(); }}\n",
        MARK.strip_suffix(b"\n").unwrap().escape_ascii()
    );
    fs::write(&source, text).unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let compiled = Command::new(rustc)
        .args(["--edition", "2024", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .args(["-Copt-level=1", "-Cpanic=abort", "-o"])
        .args([&out, &source])
        .status();
    compiled.is_ok_and(|status| status.success()).then(|| fs::read(&out).unwrap())
}

fn overlay(directory: &Path, at: &Path) -> bool {
    // Upper and work on a file system of their own: the build host's may be an overlay itself.
    let own = directory.join("own");
    fs::create_dir(&own).unwrap();
    mount(Some("tmpfs"), &own, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    let parts = ["lower", "upper", "work"].map(|name| own.join(name));
    parts.iter().for_each(|part| fs::create_dir(part).unwrap());
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        parts[0].display(),
        parts[1].display(),
        parts[2].display()
    );
    mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str())).is_ok()
}

/// Where [`MARK`] stands in the program.
fn place(template: &[u8]) -> usize {
    let at = template.windows(MARK.len()).position(|part| part == MARK).unwrap();
    assert_eq!(template.windows(MARK.len()).filter(|part| *part == MARK).count(), 1);
    at
}

fn variant(template: &[u8], letter: u8) -> Vec<u8> {
    let at = place(template);
    let mut bytes = template.to_vec();
    bytes[at + 6..at + 14].fill(letter);
    bytes
}

fn put(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("next");
    let mut file = File::create(&next).unwrap();
    file.write_all(bytes).unwrap();
    drop(file);
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&next, path).unwrap();
}

/// The racer: for ever, until it is killed.
fn race(path: &Path, way: &str) -> ! {
    let template = fs::read(path).unwrap();
    let at = place(&template) as u64 + 6;
    let variants = [variant(&template, b'A'), variant(&template, b'B')];
    loop {
        for (letter, bytes) in [b'B', b'A'].into_iter().zip(variants.iter().rev()) {
            if way == "Rename" {
                put(path, bytes);
            } else if let Ok(file) = OpenOptions::new().write(true).open(path) {
                // ETXTBSY while it runs: then again.
                let _ = file.write_all_at(&[letter; 8], at);
            }
        }
    }
}

struct Racer(Child);

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(folder: &Path, template: &[u8], way: Way, starts: u32) -> Tally {
    let path = folder.join("service");
    put(&path, template);
    let digests = |letters: &[u8]| {
        let mut bytes = template.to_vec();
        let at = place(template);
        bytes[at + 6..at + 14].copy_from_slice(letters);
        HashAlg::Sha256.digest(&[&bytes]).hex()
    };
    let mut known: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let spec = spec(&path);
    let list = ServiceList { service: vec![spec.clone()] };
    let log = folder.join("measure.log");
    let racer = Command::new(std::env::current_exe().unwrap())
        .args([RACER.as_ref(), path.as_os_str(), format!("{way:?}").as_ref()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _racer = Racer(racer);
    let begun = Instant::now();
    while fs::read(&path).unwrap() == template {
        assert!(begun.elapsed() < FIRST_SWAP_WAIT, "the racer does not run");
    }
    let mut tally = Tally::default();
    while tally.starts < starts {
        tally.starts += 1;
        let _ = fs::remove_file(&log);
        let mut meter = Meter::new(&"0".repeat(32), PathBuf::from(&log));
        let measured = meter.services(&list).remove(0);
        let Ok(measurement) = measured else {
            tally.refused += 1;
            continue;
        };
        let said = start(&spec, &measurement);
        if said.is_empty() {
            tally.refused += 1;
            continue;
        }
        let letters = said.get(6..14).unwrap().to_vec();
        let expected = known.entry(letters.clone()).or_insert_with(|| digests(&letters));
        assert_eq!(
            (measurement.digest(), measurement.check(&spec).is_ok()),
            (expected.clone(), true),
            "start {}: {} ran, another was hashed",
            tally.starts,
            String::from_utf8_lossy(&letters)
        );
        *tally.ran.entry(String::from_utf8(letters).unwrap()).or_default() += 1;
    }
    tally
}

fn spec(path: &Path) -> ServiceSpec {
    let text = format!(
        "[[service]]\nname = \"racy\"\nexec = \"{}\"\nuid = {UID}\ngid = {UID}\n\
         seccomp = [\"base\", \"files\"]\nnetwork = \"host\"\nmemory_mib_max = 16\ntasks_max = 4\n",
        path.display()
    );
    ServiceList::parse(&text).unwrap().service.remove(0)
}

/// What the started process said; nothing when it was refused.
fn start(spec: &ServiceSpec, measurement: &Measurement) -> Vec<u8> {
    let launch =
        Launch { spec, exec: &measurement.exec, sockets: &[], notify: "/nowhere", cgroups: None };
    let child = spawn::spawn(launch).unwrap();
    waitpid(Pid::from_raw(child.pid), None).unwrap();
    let mut said = Vec::new();
    // Non-blocking, and the writer is gone: all there is.
    let _ = File::from(child.output).read_to_end(&mut said);
    said
}
