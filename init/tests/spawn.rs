//! Starts a real process in its real sandbox, as root on the build host.
//!
//! Without the test harness, because `spawn` forks and promises to do so from one thread.

#![expect(
    clippy::unwrap_used,
    reason = "a test without the harness: a failure is a panic that names its line"
)]

use std::{
    fs::{self, File},
    io::Read as _,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::Path,
    process::Command,
};

use hookprobe_evidence::closure::{ServiceList, ServiceSpec};
use hookprobe_init::supervise::{
    notify::{self, Word},
    spawn::{self, Launch},
};
use nix::{
    sys::{socket::SockFlag, wait::waitpid},
    unistd::Pid,
};

const UID: u32 = 64_001;

/// One behaviour.
type Case = fn(&Bench);

/// What came of a start.
struct Outcome {
    output: String,
    setup: String,
    ending: String,
}

struct Bench {
    directory: tempfile::TempDir,
    probe: String,
}

impl Bench {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A service that runs the probe with `arguments`; `more` is further TOML.
    fn spec(&self, arguments: &[&str], more: &str) -> ServiceSpec {
        let mut text = format!(
            "[[service]]\nname = \"probe\"\nexec = \"{}\"\nargs = {arguments:?}\nuid = {UID}\n\
             gid = {UID}\ngroups = [64800]\nmemory_mib_max = 16\ntasks_max = 4\n{more}\n",
            self.probe
        );
        for (key, value) in [("seccomp", "[\"base\", \"files\"]"), ("network", "\"none\"")] {
            if !more.contains(&format!("{key} =")) {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        ServiceList::parse(&text).unwrap().service.remove(0)
    }

    fn run(&self, arguments: &[&str], more: &str) -> Outcome {
        let spec = self.spec(arguments, more);
        let exec = File::open(&spec.exec).unwrap();
        self.run_spec(&spec, &exec)
    }

    fn run_spec(&self, spec: &ServiceSpec, exec: &File) -> Outcome {
        let child = spawn::spawn(Launch {
            spec,
            exec,
            sockets: &[],
            notify: &self.path("notify.sock"),
            cgroups: None,
        })
        .unwrap();
        finish(child)
    }
}

fn finish(child: spawn::Child) -> Outcome {
    let status = waitpid(Pid::from_raw(child.pid), None).unwrap();
    let read = |fd| {
        let mut bytes = Vec::new();
        // Non-blocking, and the writer is gone: all there is.
        let _ = File::from(fd).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Outcome { output: read(child.output), setup: read(child.setup), ending: spawn::ending(status) }
}

fn compile(directory: &Path, name: &str) -> Option<String> {
    let out = directory.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probe.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let compiled = Command::new(rustc)
        .env("PROBE_NAME", name)
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
        .arg(&out)
        .arg(source)
        .status();
    compiled.is_ok_and(|status| status.success()).then(|| out.display().to_string())
}

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(probe) = compile(directory.path(), "measured") else {
        println!("skipped: no static C library to compile the probe with");
        return;
    };
    let bench = Bench { directory, probe };
    let cases: [(&str, Case); 12] = [
        ("the hashed descriptor runs after the path was replaced", replaced_path),
        ("identity, capabilities, no_new_privs", identity),
        ("environment and descriptors are exactly what was given", environment),
        ("the last words of a service that fails", last_words),
        ("files outside the specification are refused", files),
        ("no other program, nothing writable and executable", execution),
        ("a dangerous call ends the process", dangerous_call),
        ("the network is empty and TCP refused", network),
        ("a socket is handed over", socket),
        ("readiness comes from the process that was started", readiness),
        ("a terminal has a size and belongs to the service", terminal),
        ("a setup that fails says which step", failed_setup),
    ];
    for (name, case) in cases {
        case(&bench);
        println!("ok: {name}");
    }
}

fn replaced_path(bench: &Bench) {
    let spec = bench.spec(&["name"], "");
    let exec = File::open(&spec.exec).unwrap();
    let evil = compile(bench.directory.path(), "evil").unwrap();
    let kept = bench.path("kept");
    fs::copy(&spec.exec, &kept).unwrap();
    fs::rename(&evil, &spec.exec).unwrap();
    let outcome = bench.run_spec(&spec, &exec);
    assert_eq!(outcome.output, "INFO this is measured\n");
    // By its name it would have been the other one.
    let outcome = bench.run_spec(&spec, &File::open(&spec.exec).unwrap());
    assert_eq!(outcome.output, "INFO this is evil\n");
    fs::rename(&kept, &spec.exec).unwrap();
}

fn identity(bench: &Bench) {
    let outcome = bench.run(&["status"], "read = [\"/proc\"]\ncapabilities = [\"CAP_NET_ADMIN\"]");
    let field = |key: &str| {
        let line = outcome.output.lines().find(|line| line.starts_with(key));
        line.unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "64001 64001 64001 64001", "{}", outcome.output);
    assert_eq!(field("Gid:"), "64001 64001 64001 64001");
    assert_eq!(field("Groups:"), "64800");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000001000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert_eq!(field("Umask:"), "0077");
}

fn environment(bench: &Bench) {
    let outcome = bench.run(&["environment"], "watchdog_s = 2\nenv = { TERM = \"vt100\" }");
    let expected =
        format!("TERM=vt100\nNOTIFY_SOCKET={}\nWATCHDOG_USEC=2000000\n", bench.path("notify.sock"));
    assert_eq!(outcome.output, expected);
    let outcome = bench.run(&["descriptors"], "read = [\"/proc\"]");
    assert_eq!(outcome.output, "[0, 1, 2]\n");
}

fn last_words(bench: &Bench) {
    let outcome = bench.run(&["fail"], "");
    assert_eq!(outcome.ending, "exit 3");
    assert_eq!(outcome.output, "WARN about to fail\nERROR the disk is on fire");
    assert_eq!(outcome.setup, "");
}

fn files(bench: &Bench) {
    let (given, other) = (bench.path("given"), bench.path("other"));
    for directory in [&given, &other] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let more = format!("write = [\"{given}\"]");
    let check = |arguments: &[&str], expect: &str| {
        let outcome = bench.run(arguments, &more);
        assert!(outcome.output.contains(expect), "{arguments:?}: {}", outcome.output);
    };
    check(&["write", &format!("{given}/x")], "write allowed");
    check(&["read", &format!("{given}/x")], "read allowed");
    check(&["write", &format!("{other}/x")], "PermissionDenied");
    check(&["read", "/etc/hostname"], "PermissionDenied");
}

fn execution(bench: &Bench) {
    let check = |arguments: &[&str], expect: &str| {
        let outcome =
            bench.run(arguments, "seccomp = [\"base\", \"files\", \"unix\"]\nread = [\"/\"]");
        assert!(outcome.output.contains(expect), "{arguments:?}: {}", outcome.output);
    };
    check(&["exec", "/bin/true"], "refused");
    check(&["wx"], "wx refused");
    check(&["thread"], "thread allowed");
}

fn dangerous_call(bench: &Bench) {
    let outcome = bench.run(&["mount"], "capabilities = [\"CAP_SYS_ADMIN\"]");
    assert_eq!(outcome.ending, "killed by SIGSYS: a system call outside its sandbox");
    assert_eq!(outcome.output, "");
}

fn network(bench: &Bench) {
    // Two lines of heading, and the loopback interface, which is down.
    let outcome = bench.run(&["interfaces"], "read = [\"/proc\"]");
    assert_eq!(outcome.output, "3\n");
    let outcome = bench.run(&["tcp"], "network = \"host\"\nseccomp = [\"base\", \"unix\"]");
    assert!(outcome.output.contains("PermissionDenied"), "{}", outcome.output);
}

fn socket(bench: &Bench) {
    let path = bench.path("probe.sock");
    let more = format!(
        "seccomp = [\"base\", \"unix\"]\nsockets = [{{ name = \"probe\", path = \"{path}\" }}]"
    );
    let spec = bench.spec(&["serve"], &more);
    let listener = notify::listen(&path, UID, UID, SockFlag::empty()).unwrap();
    let child = spawn::spawn(Launch {
        spec: &spec,
        exec: &File::open(&spec.exec).unwrap(),
        sockets: &[listener],
        notify: "/nowhere",
        cgroups: None,
    })
    .unwrap();
    let mut text = String::new();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "served");
    assert_eq!(finish(child).ending, "exit 0");
}

fn readiness(bench: &Bench) {
    let fd = notify::open(&bench.path("notify.sock")).unwrap();
    let spec = bench.spec(&["notify"], "seccomp = [\"base\", \"unix\"]");
    let child = spawn::spawn(Launch {
        spec: &spec,
        exec: &File::open(&spec.exec).unwrap(),
        sockets: &[],
        notify: &bench.path("notify.sock"),
        cgroups: None,
    })
    .unwrap();
    let pid = child.pid;
    let outcome = finish(child);
    assert_eq!(outcome.output, "notify allowed\n");
    assert_eq!(notify::receive(&fd), Some((pid, vec![Word::Ready, Word::Status("up".into())])));
}

fn terminal(bench: &Bench) {
    let main = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY);
    let Ok(main) = main else {
        println!("skipped: no pseudo terminals");
        return;
    };
    nix::pty::grantpt(&main).unwrap();
    nix::pty::unlockpt(&main).unwrap();
    let path = nix::pty::ptsname_r(&main).unwrap();
    let more = format!("seccomp = [\"base\", \"files\", \"tty\"]\nstdio = \"{path}\"");
    let outcome = bench.run(&["terminal"], &more);
    assert_eq!(outcome.output, "INFO ioctl=0 rows=24 columns=80\n", "{}", outcome.setup);
    let mut bytes = [0; 64];
    let got = nix::unistd::read(&main, &mut bytes).unwrap();
    assert_eq!(&bytes[..got], b"on the screen\r\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap());
    assert_eq!(owner, UID);
    assert!(main.as_raw_fd() > 2);
}

fn failed_setup(bench: &Bench) {
    // Not a program: the last step fails.
    let spec = bench.spec(&["name"], "");
    let text = bench.path("text");
    fs::write(&text, "no program").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = bench.run_spec(&spec, &File::open(&text).unwrap());
    assert!(outcome.setup.starts_with("execveat: "), "{}", outcome.setup);
    assert_eq!(outcome.ending, format!("exit {}", spawn::SETUP_FAILED));
    // Known before the fork.
    let spec = bench.spec(&["name"], "capabilities = [\"CAP_EVERYTHING\"]");
    let refused = spawn::spawn(Launch {
        spec: &spec,
        exec: &File::open(&spec.exec).unwrap(),
        sockets: &[],
        notify: "/nowhere",
        cgroups: None,
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "sandbox: unknown capability CAP_EVERYTHING; correct services.toml"
    );
}
