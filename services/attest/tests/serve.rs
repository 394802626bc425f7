//! The running binary with a software TPM, a ledger and a PID 1 that the test plays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in a test's helpers is a failed test"
)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use hookprobe_evidence::{
    appraise::{Reference, Status, appraise},
    bundle::{Evidence, boot_nonce},
    digest::HashAlg,
    levels::Level,
    log,
    pcr::PcrIndex,
};
use hookprobe_tpm::Context;
use hookprobe_wire::{
    Decoder, Event, Hash, LEDGER_UID, NodeId, Seq,
    attest::{KeyOrigin, Reply, Request, SeedReply, Verdict},
    control, frame,
    ledger::{self, Head},
};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use support::{Lab, hex};

/// A loaded machine starts swtpm, makes an RSA key and quotes within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Key of a ledger that got no seed.
const STRANGER: [u8; 32] = [3; 32];

struct Swtpm {
    child: Child,
    tcti: String,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Swtpm {
    fn start(directory: &Path) -> Option<Self> {
        let state = directory.join("tpm");
        fs::create_dir(&state).unwrap();
        let setup = Command::new("swtpm_setup")
            .args(["--tpm2", "--pcr-banks", "sha256", "--tpmstate"])
            .arg(&state)
            .stdout(Stdio::null())
            .status();
        if !setup.is_ok_and(|status| status.success()) {
            eprintln!("skipped: swtpm_setup is missing or does not work");
            return None;
        }
        let port = (0..50).find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
            Some(port)
        })?;
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,port={port}")])
            .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
            .spawn()
            .unwrap();
        Some(Self { child, tcti: format!("swtpm:host=127.0.0.1,port={port}") })
    }

    fn open(&self) -> Context {
        wait_for(|| Context::open(&self.tcti).ok())
    }
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(Instant::now() < until, "waited in vain");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One connection that speaks frames.
struct Peer<S>(S, Decoder);

impl<S: Read + Write> Peer<S> {
    fn ask<R: for<'b> minicbor::Decode<'b, ()>>(&mut self, request: &Request) -> R {
        self.0.write_all(&frame::to_vec(request).unwrap()).unwrap();
        self.next().expect("an answer")
    }

    fn next<R: for<'b> minicbor::Decode<'b, ()>>(&mut self) -> Option<R> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.1.next().unwrap() {
                return Some(message);
            }
            match self.0.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.1.feed(&bytes[..length]),
            }
        }
    }
}

/// Everything around the service.
struct Stage {
    directory: tempfile::TempDir,
    swtpm: Swtpm,
    lab: Lab,
    events: Arc<Mutex<Vec<Event>>>,
    node: Arc<Mutex<[u8; 32]>>,
    ledger_pid: Arc<AtomicU32>,
    notify: UnixDatagram,
    service: Option<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

impl Stage {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let swtpm = Swtpm::start(directory.path())?;
        let lab = Lab::new();
        let path = |name: &str| directory.path().join(name);
        let mut tpm = swtpm.open();
        let events = lab.files().userspace.clone();
        for event in &events {
            let digest = event.digest(HashAlg::Sha256).unwrap().clone();
            tpm.extend(event.pcr, &[digest]).unwrap();
        }
        drop(tpm);
        let records: Vec<u8> = events.iter().flat_map(log::to_record).collect();
        fs::write(path("measure.log"), records).unwrap();
        let pem = lab.key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        fs::write(path("release.pem"), pem).unwrap();
        fs::write(path("manifest.dsse"), lab.envelope()).unwrap();
        fs::create_dir(path("identity")).unwrap();
        let notify = UnixDatagram::bind(path("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let node = Arc::new(Mutex::new(STRANGER));
        let stage = Self {
            events: play_ledger(&path("ledger.sock"), node.clone()),
            node,
            ledger_pid: play_init(&path("init.sock")),
            directory,
            swtpm,
            lab,
            notify,
            service: None,
        };
        Some(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookprobe-attest"));
        command.args(["serve", "--tcti", &self.swtpm.tcti]);
        for (option, name) in [
            ("--directory", "identity"),
            ("--release", "release.pem"),
            ("--envelope", "manifest.dsse"),
            ("--firmware-log", "no-firmware-log"),
            ("--log", "measure.log"),
            ("--recovery", "recovery"),
            ("--boot-seed", "boot-seed"),
            ("--ledger", "ledger.sock"),
            ("--init", "init.sock"),
            ("--port", "port"),
            ("--socket", "attest.sock"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command.env("NOTIFY_SOCKET", self.path("notify"));
        self.service = Some(command.spawn().unwrap());
        wait_for(|| {
            let mut bytes = [0; 512];
            let length = self.notify.recv(&mut bytes).unwrap();
            bytes[..length].starts_with(b"READY=1").then_some(())
        });
        fs::set_permissions(self.path("attest.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    }

    fn stop(&mut self) {
        let mut service = self.service.take().unwrap();
        let pid = rustix::process::Pid::from_child(&service);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(service.wait().unwrap().success());
    }

    fn client(&self) -> Peer<UnixStream> {
        let stream = UnixStream::connect(self.path("attest.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer(stream, Decoder::new())
    }

    fn status(&self) -> hookprobe_wire::attest::Status {
        match self.client().ask(&Request::Status) {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

fn serve(
    path: &Path,
    answer: impl Fn(&mut Peer<UnixStream>) -> Option<()> + Send + Sync + 'static,
) {
    let listener = UnixListener::bind(path).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut peer = Peer(stream, Decoder::new());
                while answer(&mut peer).is_some() {}
            });
        }
    });
}

fn play_ledger(path: &Path, node: Arc<Mutex<[u8; 32]>>) -> Arc<Mutex<Vec<Event>>> {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let kept = events.clone();
    serve(path, move |peer| {
        let reply = match peer.next()? {
            ledger::Request::Append { id, event } => {
                kept.lock().unwrap().push(event);
                ledger::Reply::Appended { id, seq: Seq(1), hash: Hash::zero() }
            }
            _ => ledger::Reply::Head(Head {
                node: NodeId::new(*node.lock().unwrap()),
                epoch: 1,
                length: 4,
                hash: Hash::new([4; 32]),
                root: Hash::new([5; 32]),
                verified_at_start: 0,
                volatile: false,
                queue: 0,
                rejected: 0,
                key: Some(KeyOrigin::Tpm),
            }),
        };
        peer.0.write_all(&frame::to_vec(&reply).unwrap()).ok()
    });
    events
}

fn play_init(path: &Path) -> Arc<AtomicU32> {
    let pid: Arc<AtomicU32> = Arc::default();
    let shown = pid.clone();
    serve(path, move |peer| {
        let control::Request::Status = peer.next()? else { return None };
        let service = control::Service {
            name: "ledger".into(),
            state: control::ServiceState::Running,
            pid: shown.load(Ordering::SeqCst),
            restarts: 0,
            up_ms: 1,
            rss_kib: 1,
            digest: String::new(),
            verdict: "match".into(),
            last_exit: String::new(),
        };
        let status = control::Status {
            name: "hp".into(),
            version: "1".into(),
            uptime_ms: 1,
            time_s: 1,
            ready: true,
            phases: Vec::new(),
            services: vec![service],
            measured: control::Measured {
                level: "T".into(),
                level_text: String::new(),
                pcrs: Vec::new(),
                divergence: String::new(),
                measure_us: 0,
                commands: 0,
            },
            addresses: Vec::new(),
            diagnostics: Vec::new(),
            rss_kib: 0,
            memory_kib: (0, 0),
            state: None,
            reload: None,
            carry: None,
        };
        let reply = control::Reply::Status(status);
        peer.0.write_all(&frame::to_vec(&reply).unwrap()).ok()
    });
    pid
}

fn evidence<S: Read + Write>(peer: &mut Peer<S>, nonce: u8) -> Vec<u8> {
    let request = Request::Evidence { nonce: vec![nonce; 32].into(), exporter: None, full: true };
    let mut whole = Vec::new();
    let mut reply: Reply = peer.ask(&request);
    loop {
        let Reply::Part { offset, total, bytes } = reply else { panic!("{reply:?}") };
        assert_eq!(offset as usize, whole.len());
        whole.extend_from_slice(&bytes);
        if whole.len() == total as usize {
            return whole;
        }
        reply = peer.next().expect("another part");
    }
}

/// Asks for the seed as another process of the ledger's user, which PID 1 knows as `told` says.
fn ask_seed(stage: &Stage, told: impl FnOnce(u32) -> u32) -> SeedReply {
    let script = format!(
        "import socket,sys\nsys.stdin.readline()\ns=socket.socket(socket.AF_UNIX)\n\
         s.connect({:?})\ns.sendall(bytes.fromhex({:?}))\nprint(s.recv(4096).hex())",
        stage.path("attest.sock"),
        hex(&frame::to_vec(&Request::Seed).unwrap())
    );
    let mut child = Command::new("python3")
        .args(["-c", &script])
        .uid(LEDGER_UID)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    stage.ledger_pid.store(told(child.id()), Ordering::SeqCst);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let bytes: Vec<u8> = (0..text.trim().len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let mut decoder = Decoder::new();
    decoder.feed(&bytes);
    decoder.next().unwrap().expect("a whole reply")
}

#[test]
fn a_box_with_a_software_tpm() {
    let Some(mut stage) = Stage::new() else { return };
    stage.run();
    let status = wait_for(|| Some(stage.status()).filter(|s| s.verdict != Verdict::None));
    assert_eq!((status.verdict, status.level.as_str()), (Verdict::Affirming, "T"), "{status:?}");
    assert_eq!((status.epoch, status.key), (1, KeyOrigin::Tpm));

    let Reply::Log { total, lines } = stage.client().ask(&Request::Log { from: 1 }) else {
        panic!()
    };
    assert_eq!((total as usize, lines.len()), (6, 5));

    // No quote vouches for a ledger that signs with another key than that of the seed.
    let bound = |stage: &Stage| {
        let events = stage.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::Binding(_))).then_some(())
    };
    let diagnosed = || stage.status().diagnostics.iter().any(|d| d.code == "HP-AT-036");
    wait_for(|| diagnosed().then_some(()));
    let parsed = Evidence::parse(&evidence(&mut stage.client(), 8)).unwrap();
    assert_eq!((parsed.binding.node, bound(&stage)), (None, None));

    // The test's own uid is not the ledger's; its user alone is not enough either.
    let refused: SeedReply = stage.client().ask(&Request::Seed);
    assert!(matches!(refused, SeedReply::Refused { code, .. } if code == "HP-AT-001"));
    let refused: Reply = stage.client().ask(&Request::Recovery);
    assert!(matches!(refused, Reply::Error { code, .. } if code == "HP-AT-001"));
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: the seed needs another user, and so root");
        return;
    }
    let wrong = ask_seed(&stage, |pid| pid + 1);
    assert!(matches!(wrong, SeedReply::Refused { code, .. } if code == "HP-AT-002"));
    assert!(matches!(ask_seed(&stage, |_| 0), SeedReply::Later), "it is being started");
    let SeedReply::Seed(seed) = ask_seed(&stage, |pid| pid) else { panic!("no seed") };
    assert_eq!((seed.epoch, seed.origin), (1, KeyOrigin::Tpm));
    let seed = *seed.expose();

    // The epoch's binding is in the ledger; then evidence carries it.
    let node = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    *stage.node.lock().unwrap() = node;
    wait_for(|| {
        // Every challenge asks the ledger who it is.
        let _ = evidence(&mut stage.client(), 9);
        thread::sleep(Duration::from_millis(500));
        bound(&stage)
    });
    let bytes = evidence(&mut stage.client(), 9);
    let parsed = Evidence::parse(&bytes).unwrap();
    assert_eq!(parsed.binding.node.as_deref().map(|node| &node[..]), Some(&node[..]));
    let epoch = parsed.epoch.as_ref().expect("the epoch's quote");
    assert_eq!(epoch.binding.nonce[..], boot_nonce(&parsed.boot_id)[..]);
    let reference = Reference {
        release_keys: vec![stage.lab.release()],
        nonce: Some(vec![9; 32]),
        first_contact: true,
        ..Reference::default()
    };
    let result = appraise(&parsed, &reference, parsed.taken_s);
    assert_eq!(
        (result.status, result.level),
        (Status::Affirming, Level::T),
        "{:?}",
        result.findings
    );
    assert_eq!(result.ak_name.unwrap().hex(), status.ak_name);
    let changes: Vec<String> = stage
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Attestation(event) => Some(event.change.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(changes, ["enrolled", "verified"]);

    // The same box after a restart of the service, in the same boot.
    stage.stop();
    stage.run();
    let again = stage.status();
    assert_eq!((again.ak_name, again.epoch), (status.ak_name, 1));
    let SeedReply::Seed(same) = ask_seed(&stage, |pid| pid) else { panic!("no seed") };
    assert_eq!(*same.expose(), seed);

    // Something ran that is not in the manifest: nobody has to ask twice.
    let event = support::event(PcrIndex::SERVICES, "service:evil file:/e");
    stage.stop();
    let digest = event.digest(HashAlg::Sha256).unwrap().clone();
    stage.swtpm.open().extend(event.pcr, &[digest]).unwrap();
    let mut records = fs::read(stage.path("measure.log")).unwrap();
    records.extend(log::to_record(&event));
    fs::write(stage.path("measure.log"), records).unwrap();
    stage.run();
    let status = wait_for(|| Some(stage.status()).filter(|s| s.verdict != Verdict::None));
    assert_eq!((status.verdict, status.key), (Verdict::Contraindicated, KeyOrigin::Boot));
    assert!(status.divergence.contains("service:evil"), "{}", status.divergence);
    assert!(status.diagnostics.iter().any(|d| d.code == "HP-AT-023"), "{status:?}");
    stage.stop();
}

#[test]
fn the_hypervisors_port_answers_challenges_survives_garbage_and_gives_no_secrets() {
    let Some(mut stage) = Stage::new() else { return };
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let port = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&port).unwrap();
    rustix::pty::unlockpt(&port).unwrap();
    let name = rustix::pty::ptsname(&port, Vec::new()).unwrap();
    let name = name.to_str().unwrap();
    let held = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut raw = rustix::termios::tcgetattr(&held).unwrap();
    raw.make_raw();
    rustix::termios::tcsetattr(&held, rustix::termios::OptionalActions::Now, &raw).unwrap();
    std::os::unix::fs::symlink(name, stage.path("port")).unwrap();
    stage.run();
    let mut peer = Peer(fs::File::from(port), Decoder::new());
    let status: Reply = peer.ask(&Request::Status);
    assert!(matches!(status, Reply::Status(_)));
    let bytes = evidence(&mut peer, 7);
    assert_eq!(Evidence::parse(&bytes).unwrap().binding.nonce[..], [7; 32]);
    for request in [Request::Recovery, Request::RecoveryNoted] {
        let reply: Reply = peer.ask(&request);
        assert!(matches!(reply, Reply::Error { code, .. } if code == "HP-AT-010"));
    }
    let reply: SeedReply = peer.ask(&Request::Seed);
    assert!(matches!(reply, SeedReply::Refused { code, .. } if code == "HP-AT-010"));
    peer.0.write_all(&[0xff; 300]).unwrap();
    thread::sleep(Duration::from_secs(3));
    let status: Reply = peer.ask(&Request::Status);
    assert!(matches!(status, Reply::Status(_)), "after garbage");
    stage.stop();
}

#[test]
fn without_a_tpm_the_service_is_ready_and_says_so() {
    let Some(mut stage) = Stage::new() else { return };
    stage.swtpm.tcti = "device:/nonexistent/tpmrm0".into();
    stage.run();
    let status = stage.status();
    assert_eq!((status.level.as_str(), status.verdict), ("L0", Verdict::None));
    assert_eq!(status.key, KeyOrigin::Boot);
    let reply: Reply = stage.client().ask(&Request::Evidence {
        nonce: vec![1; 32].into(),
        exporter: None,
        full: false,
    });
    assert!(matches!(reply, Reply::Error { code, .. } if code == "HP-AT-006"));
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: the seed needs another user, and so root");
        return;
    }
    let SeedReply::Seed(first) = ask_seed(&stage, |pid| pid) else { panic!("no seed") };
    assert_eq!((first.epoch, first.origin), (0, KeyOrigin::Boot));
    stage.stop();
    stage.run();
    let SeedReply::Seed(again) = ask_seed(&stage, |pid| pid) else { panic!("no seed") };
    assert_eq!(again.expose(), first.expose(), "one key in one boot");
    stage.stop();
}
