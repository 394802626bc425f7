//! The built program as PID 1 runs it: its own uid, one capability, group 810 for the maps, with a
//! ledger played by the test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod fake;
mod kernel;

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, sleep},
    time::Duration,
};

use fake::Ledger;
use hookprobe_abi::{BLOCK_ENTRIES_MAX, MAP_BLOCK, MAP_PROTECTED, PROTECTED_ENTRIES_MAX};
use hookprobe_wire::{
    Decoder, Event, Seq, Severity,
    event::Alert,
    frame,
    ledger::{Reply, Request},
    response,
};
use kernel::{Attacker, in_namespace, mount_bpffs, now, pin_hash_map, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longest wait for anything here; a loaded machine needs a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

fn receive<M>(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<M>
where
    M: for<'b> minicbor::Decode<'b, ()>,
{
    loop {
        if let Some(message) = decoder.next().unwrap() {
            return Some(message);
        }
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).ok().filter(|length| *length > 0)?;
        decoder.feed(&bytes[..length]);
    }
}

fn send(stream: &mut UnixStream, reply: &Reply) -> Option<()> {
    stream.write_all(&frame::to_vec(reply).unwrap()).ok()
}

fn play_ledger(path: &Path) -> Arc<Mutex<Ledger>> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
    let shared = ledger.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (shared, mut stream) = (shared.clone(), stream.unwrap());
            thread::spawn(move || {
                let mut decoder = Decoder::new();
                while let Some(request) = receive(&mut stream, &mut decoder) {
                    match request {
                        Request::Head => {
                            let head = shared.lock().unwrap().head();
                            send(&mut stream, &Reply::Head(head))?;
                        }
                        Request::Append { id, event } => {
                            let mut ledger = shared.lock().unwrap();
                            let (seq, hash) = ledger.append(&event, now().real_ns);
                            drop(ledger);
                            send(&mut stream, &Reply::Appended { id, seq, hash })?;
                        }
                        Request::Follow { from } => follow(&mut stream, &shared, from)?,
                        Request::Read { .. } => return None,
                    }
                }
                Some(())
            });
        }
    });
    ledger
}

fn follow(stream: &mut UnixStream, ledger: &Mutex<Ledger>, Seq(mut next): Seq) -> Option<()> {
    let mut caught_up = false;
    loop {
        let (record, length) = {
            let ledger = ledger.lock().unwrap();
            let record = ledger.records.get(usize::try_from(next).unwrap()).cloned();
            (record, ledger.head().length)
        };
        if next > length {
            let reason = format!("follow: block {next} is behind the head {length}");
            send(stream, &Reply::Error { code: "HP-LD-013".into(), reason })?;
            return None;
        }
        if let Some(record) = record {
            send(stream, &Reply::Block(record))?;
            next += 1;
        } else if !caught_up {
            caught_up = true;
            send(stream, &Reply::CaughtUp { next: Seq(next) })?;
        } else {
            sleep(Duration::from_millis(5));
        }
    }
}

fn alert(ledger: &Mutex<Ledger>, source: &str) {
    let real_ns = now().real_ns;
    let alert = Alert {
        detector: "scan.trw".into(),
        severity: Severity::Critical,
        source: source.parse().unwrap(),
        interface: "hp0".into(),
        summary: "scans".into(),
        evidence: Vec::new(),
        first_ns: real_ns,
        decided_ns: real_ns,
        drill: false,
        reference: None,
    };
    ledger.lock().unwrap().append(&Event::Alert(alert), real_ns);
}

struct Service {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Service {
    fn start(directory: &Path, pins: &Path) -> Self {
        let at = |name: &str| directory.join(name).display().to_string();
        // As services.toml says: uid, groups, one capability.
        let mut child = Command::new("setpriv")
            .args(["--reuid", "803", "--regid", "803", "--groups", "800,810"])
            .args(["--inh-caps", "-all,+net_admin", "--ambient-caps", "-all,+net_admin"])
            .args(["--bounding-set", "-all,+net_admin", "--no-new-privs"])
            .arg(env!("CARGO_BIN_EXE_hookprobe-response"))
            .args(["serve", "--ledger", &at("ledger.sock"), "--site", &at("site.toml")])
            .args(["--resolvers", &at("resolvers"), "--socket", &at("response.sock")])
            .args(["--pin-dir", &pins.display().to_string()])
            .env("NOTIFY_SOCKET", at("notify"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                println!("response: {line}");
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self, with: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {with:?}"));
            if line.contains(with) {
                return line;
            }
        }
    }

    fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn status(directory: &Path) -> response::Status {
    let mut stream = UnixStream::connect(directory.join("response.sock")).unwrap();
    stream.write_all(&frame::to_vec(&response::Request::Status).unwrap()).unwrap();
    let reply = receive(&mut stream, &mut Decoder::new()).unwrap();
    let response::Reply::Status(status) = reply else { panic!("{reply:?}") };
    status
}

fn prepare(directory: &Path, pins: &Path) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
    let site =
        "[response]\nmode = \"autonomous\"\nblock_s = 20\nadministrators = [\"10.77.0.9\"]\n";
    std::fs::write(directory.join("site.toml"), site).unwrap();
    std::fs::write(directory.join("resolvers"), "10.77.0.53\n").unwrap();
    std::fs::create_dir(pins).unwrap();
    mount_bpffs(pins);
    pin_hash_map(&pins.join(MAP_BLOCK), 32, BLOCK_ENTRIES_MAX);
    pin_hash_map(&pins.join(MAP_PROTECTED), 1, PROTECTED_ENTRIES_MAX);
    for map in [MAP_BLOCK, MAP_PROTECTED] {
        chown(pins.join(map), None, Some(810)).unwrap();
        std::fs::set_permissions(pins.join(map), PermissionsExt::from_mode(0o660)).unwrap();
    }
    chown(pins, None, Some(810)).unwrap();
    std::fs::set_permissions(pins, PermissionsExt::from_mode(0o750)).unwrap();
}

#[test]
fn from_alert_to_lift_as_an_unprivileged_user() {
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: setpriv is not installed");
        return;
    }
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let (directory, pins) = (directory.path(), directory.path().join("bpf"));
        prepare(directory, &pins);
        let _attacker = Attacker::new();
        run("ip", &["route", "add", "default", "via", "10.77.0.254"]);
        let notify = UnixDatagram::bind(directory.join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        std::fs::set_permissions(directory.join("notify"), PermissionsExt::from_mode(0o666))
            .unwrap();
        let ledger = play_ledger(&directory.join("ledger.sock"));

        let service = Service::start(directory, &pins);
        let mut bytes = [0; 256];
        let length = notify.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert_eq!(text, "READY=1\nSTATUS=mode autonomous, enforcers nft,xdp");

        alert(&ledger, "10.77.0.2");
        let line = service.line("mitigation seq=");
        assert!(line.contains(" subject=10.77.0.2 enforced_by=xdp,nft decided_ns="), "{line}");
        assert!(run("nft", &["list", "set", "inet", "hookprobe", "block4"]).contains("10.77.0.2"));
        for (source, code) in [
            ("10.77.0.1", "HP-RS-010"),
            ("10.77.0.254", "HP-RS-011"),
            ("10.77.0.53", "HP-RS-012"),
            ("10.77.0.9", "HP-RS-013"),
        ] {
            alert(&ledger, source);
            let line = service.line("refusal seq=");
            assert!(line.contains(&format!("subject={source} code={code} reason=")), "{line}");
        }
        let status_now = status(directory);
        assert_eq!(status_now.active.len(), 1);
        assert_eq!((status_now.refused, status_now.diagnostics), (4, vec![]));

        // A new process takes over; the block goes on and ends when it should.
        service.stop();
        assert!(run("nft", &["list", "set", "inet", "hookprobe", "block4"]).contains("10.77.0.2"));
        let service = Service::start(directory, &pins);
        service.line("ready");
        assert_eq!(status(directory).active_total, 1);
        let line = service.line("lift seq=");
        assert!(line.ends_with("subject=10.77.0.2 reason=expired packets_dropped=0"), "{line}");
        assert!(!run("nft", &["list", "set", "inet", "hookprobe", "block4"]).contains("10.77.0.2"));
        assert_eq!(ledger.lock().unwrap().records.len(), 5 + 1 + 4 + 1);

        // The ledger sets its database aside and begins another lane.
        *ledger.lock().unwrap() = Ledger::of_epoch(1);
        let line = service.line("HP-LD-013");
        assert!(line.starts_with("WARN HP-RS-001 ledger: "), "{line}");
        service.line("ledger followed to its present");
        alert(&ledger, "10.77.0.2");
        let line = service.line("mitigation seq=");
        assert!(line.starts_with("INFO mitigation seq=1 "), "{line}");
        service.stop();
    });
}
