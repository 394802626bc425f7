//! The programs about the box itself: what is told, and that foreign programs do not start.
//!
//! The guard is tried for real, but only on tasks in a control group that the test makes: the rest
//! of the machine must not notice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hookprobe_abi::{
    Counter,
    config::mode,
    host::{Event, Inode, kind},
};
use hookprobe_sensor::object::{
    event_from,
    host::{GUARDS, WATCHERS, kernel_device, lsm_is_active},
};
use support::kernel::{Kernel, ip};

/// The watchers see the whole machine: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn events(kernel: &mut Kernel) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(item) = kernel.rings.host.next() {
        events.push(event_from(&item).unwrap());
    }
    events
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Starts all of them, or says which does not start here.
fn start(kernel: &mut Kernel, names: &[&'static str]) -> bool {
    for name in names {
        if let Err(reason) = kernel.object.start_host(name) {
            println!("skipped: {name}: {reason}");
            return false;
        }
    }
    true
}

#[test]
fn what_happens_on_the_box_is_told() {
    let _alone = alone();
    let Some(mut kernel) = Kernel::new() else { return };
    if !start(&mut kernel, &WATCHERS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (watched, other) = (folder.path().join("watched"), folder.path().join("other"));
    for path in [&watched, &other] {
        fs::write(path, b"x").unwrap();
    }
    let file = fs::metadata(&watched).unwrap();
    let inode = Inode { device: kernel_device(file.dev()), number: file.ino() };
    kernel.maps.watched.insert(inode, 1, 0).unwrap();
    events(&mut kernel);

    fs::read(&other).unwrap();
    fs::read(&watched).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.1:4711").unwrap();
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let child_id = child.id();
    child.wait().unwrap();

    let us = std::process::id();
    let told = events(&mut kernel);
    let opened: Vec<&Event> = told.iter().filter(|event| event.kind == kind::OPEN).collect();
    assert_eq!(opened.len(), 1, "only the watched file");
    assert_eq!((opened[0].pid, opened[0].file), (us, inode));
    let is_ours = |event: &&Event| event.kind == kind::CONNECT && event.pid == us;
    let connected = told.iter().find(is_ours).unwrap();
    assert_eq!((connected.address, connected.port), (ip("127.0.0.1"), 4711));
    let is_child = |event: &&Event| event.kind == kind::EXEC && event.pid == child_id;
    let started = told.iter().find(is_child).unwrap();
    assert_eq!((text(&started.name).as_str(), text(&started.task).as_str()), ("/bin/true", "true"));
    let program = fs::metadata("/bin/true").unwrap();
    assert_eq!(started.file.number, program.ino());
    assert_eq!(started.file.device, kernel_device(program.dev()));
    for (counter, least) in
        [(Counter::HostExec, 1), (Counter::HostConnect, 1), (Counter::HostOpen, 1)]
    {
        assert!(kernel.count(counter) >= least, "{counter:?}");
    }
}

#[test]
fn lost_events_are_counted() {
    let _alone = alone();
    let Some(mut kernel) = Kernel::new() else { return };
    if !start(&mut kernel, &["hookprobe_connect"]) {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2000 {
        socket.connect("127.0.0.1:4711").unwrap();
    }
    // Somebody else may connect while they are counted.
    let mut told = 0;
    let is_whole = (0..100).any(|_| {
        told += events(&mut kernel).len() as u64;
        told + kernel.count(Counter::HostLost) == kernel.count(Counter::HostConnect)
    });
    assert!(is_whole && kernel.count(Counter::HostLost) > 0, "{told}");
}

/// A control group and a file system that is not the root's, gone at the end.
struct Lab {
    group: PathBuf,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_v2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
        let Some(mount) = mounts.lines().find(is_v2) else {
            println!("skipped: no control groups of version 2 are mounted");
            return None;
        };
        let group = Path::new(mount.split(' ').nth(1).unwrap())
            .join(format!("hookprobe-test-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lab = Self { group, folder };
        run(&format!("mount -t tmpfs tmpfs {0}; cp /bin/true {0}/foreign", lab.at().display()));
        Some(lab)
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a script of the shell inside of the group.
    fn inside(&self, script: &str) -> Output {
        let procs = self.group.join("cgroup.procs");
        let script = format!("echo $$ > {}; {script}", procs.display());
        Command::new("/bin/sh").arg("-c").arg(script).output().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at()).status();
        let _ = fs::remove_dir(&self.group);
    }
}

fn run(script: &str) {
    assert!(Command::new("/bin/sh").arg("-ec").arg(script).status().unwrap().success(), "{script}");
}

#[test]
fn what_stands_outside_the_root_is_not_executed() {
    let Some(mut kernel) = Kernel::new() else { return };
    if let Err(reason) = lsm_is_active() {
        println!("skipped: {reason}");
        return;
    }
    let Some(lab) = Lab::new() else { return };
    if !start(&mut kernel, &GUARDS) {
        return;
    }
    let foreign = lab.at().join("foreign");
    let try_it = |lab: &Lab| lab.inside(&format!("exec {}", foreign.display()));
    let group = fs::metadata(&lab.group).unwrap().ino();
    let root = kernel_device(fs::metadata("/bin/sh").unwrap().dev());
    kernel.maps.exec_devices.insert(root, 1, 0).unwrap();

    assert!(try_it(&lab).status.success(), "attached and switched off");
    kernel.maps.set_guard(mode::DRY_RUN, group).unwrap();
    assert!(try_it(&lab).status.success(), "a dry run");
    assert!(kernel.count(Counter::ExecDry) >= 1);
    assert_eq!(kernel.count(Counter::ExecDenied), 0);
    events(&mut kernel);

    kernel.maps.set_guard(mode::ENFORCE, group).unwrap();
    let refused = try_it(&lab);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("not permitted"), "{said}");
    assert!(lab.inside("exec /bin/true").status.success(), "the root is allowed");
    assert!(Command::new(&foreign).status().unwrap().success(), "other groups are not asked");
    let told = events(&mut kernel);
    let denied: Vec<&Event> = told.iter().filter(|event| event.kind == kind::DENIED).collect();
    assert_eq!(denied.len(), 1);
    assert_eq!((text(&denied[0].name), denied[0].refused), (foreign.display().to_string(), 1));
    assert_eq!(denied[0].file.number, fs::metadata(&foreign).unwrap().ino());

    // A script is executed by its interpreter, which is on the root; the script is not.
    let script = lab.at().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    run(&format!("chmod +x {}", script.display()));
    assert!(!lab.inside(&format!("exec {}", script.display())).status.success());

    // Neither is a library mapped to be executed.
    let library = library();
    let copy = lab.at().join("library.so");
    fs::copy(library, &copy).unwrap();
    let preload = format!("LD_PRELOAD={} /bin/true", copy.display());
    let said = String::from_utf8_lossy(&lab.inside(&preload).stderr).into_owned();
    assert!(said.contains("cannot be preloaded"), "{said}");
    assert!(events(&mut kernel).iter().any(|event| event.kind == kind::DENIED_MAP));
    assert!(kernel.count(Counter::ExecDenied) >= 3);

    kernel.maps.set_guard(mode::OFF, group).unwrap();
    assert!(try_it(&lab).status.success(), "switched off again");
}

/// Any library that this test has mapped.
fn library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_library = |path: &&str| path.contains("libc.so") || path.contains("libgcc_s");
    let found = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(is_library);
    found.unwrap_or("/lib/x86_64-linux-gnu/libc.so.6").into()
}
