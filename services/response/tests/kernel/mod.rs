//! Namespaces for tests that need the real kernel. Everything happens in threads of their own:
//! unshare(2) is about one thread, so the rest of the test process stays where it is.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unsafe_code, reason = "capset(2) of one thread has no wrapper in the dependencies")]

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use hookprobe_response::Now;
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
    unistd::{geteuid, gettid},
};

/// Runs `body` in a network and mount namespace of its own, or says why not.
pub(crate) fn in_namespace(body: impl FnOnce() + Send + 'static) {
    if !geteuid().is_root() {
        println!("skipped: needs root for a network namespace");
        return;
    }
    for tool in ["ip", "nft"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: {tool} is not installed");
            return;
        }
    }
    let test = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            println!("skipped: unshare: {error}");
            return;
        }
        run("ip", &["link", "set", "lo", "up"]);
        body();
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Output of a command that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both clocks.
pub(crate) fn now() -> Now {
    let read = |clock| {
        let time = clock_gettime(clock).unwrap();
        u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap()
    };
    Now { boot_ns: read(ClockId::CLOCK_BOOTTIME), real_ns: read(ClockId::CLOCK_REALTIME) }
}

/// Another host on a wire: 10.77.0.2 and fd77::2; this side gets 10.77.0.1 and fd77::1.
pub(crate) struct Attacker {
    targets: Sender<SocketAddr>,
    sent: Receiver<()>,
}

impl Attacker {
    pub(crate) fn new() -> Self {
        let (targets, orders) = mpsc::channel::<SocketAddr>();
        let (done, sent) = mpsc::channel();
        let (tell, identity) = mpsc::channel();
        let (go, wire) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(gettid().as_raw()).unwrap();
            wire.recv().unwrap();
            configure("hp1", 2);
            done.send(()).unwrap();
            for target in orders {
                let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                UdpSocket::bind(any).unwrap().send_to(b"probe", target).unwrap();
                done.send(()).unwrap();
            }
        });
        let thread = identity.recv().unwrap().to_string();
        run("ip", &["link", "add", "hp0", "type", "veth", "peer", "name", "hp1"]);
        run("ip", &["link", "set", "hp1", "netns", &thread]);
        configure("hp0", 1);
        go.send(()).unwrap();
        let attacker = Self { targets, sent };
        attacker.wait();
        attacker
    }

    /// One datagram.
    pub(crate) fn send(&self, target: SocketAddr) {
        self.targets.send(target).unwrap();
        self.wait();
    }

    fn wait(&self) {
        self.sent.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}

fn configure(interface: &str, last: u8) {
    run("ip", &["addr", "add", &format!("10.77.0.{last}/24"), "dev", interface]);
    run("ip", &["addr", "add", &format!("fd77::{last}/64"), "dev", interface, "nodad"]);
    run("ip", &["link", "set", interface, "up"]);
}

/// Takes CAP_NET_ADMIN (and all others) from this thread.
pub(crate) fn drop_net_admin() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: version 3 of capset(2) reads two data elements of three words each, which `none` has;
    // pid 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(result, 0);
}

/// A BPF file system of the test's own.
pub(crate) fn mount_bpffs(at: &std::path::Path) {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), none).unwrap();
}

/// Makes a hash map and pins it, as the sensor does.
pub(crate) fn pin_hash_map(at: &std::path::Path, value_bytes: u32, entries: u32) {
    use std::os::{fd::FromRawFd, unix::ffi::OsStrExt};
    const CREATE: i32 = 0;
    const PIN: i32 = 6;
    const HASH: u32 = 1;
    let bpf = |command: i32, words: &[u32]| {
        // SAFETY: bpf(2) reads as many bytes as it is told, all of them in `words`; pointers in
        // there are to a path that lives until after the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
        assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
        i32::try_from(result).unwrap()
    };
    let map = bpf(CREATE, &[HASH, 16, value_bytes, entries, 0]);
    // SAFETY: the kernel has just given it to us.
    let _close = unsafe { std::os::fd::OwnedFd::from_raw_fd(map) };
    let path = std::ffi::CString::new(at.as_os_str().as_bytes()).unwrap();
    let pointer = (path.as_ptr() as u64).to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes(pointer[at..at + 4].try_into().unwrap());
    bpf(PIN, &[half(0), half(4), u32::try_from(map).unwrap(), 0]);
}
