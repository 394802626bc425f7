//! What several tests need: a running service, events, ids, a seeded generator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]
#![allow(dead_code, reason = "no test uses all of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hookprobe_ledger::client::Client;
use hookprobe_wire::{
    Event, Seq, Severity,
    event::{Alert, Evidence, ServiceChange},
    ledger::{Head, Record, Reply, Request, RequestId},
};

/// SplitMix64: small, seeded, good enough to choose moments.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The seed of a campaign: `HP_SEED` or the clock, printed so that a failure can be repeated.
pub(crate) fn seed(name: &str) -> u64 {
    let seed =
        std::env::var("HP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
                as u64
        });
    println!("{name}: HP_SEED={seed}");
    seed
}

pub(crate) fn request_id(a: u64, b: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..].copy_from_slice(&b.to_le_bytes());
    RequestId(bytes.into())
}

pub(crate) fn service(detail: &str) -> Event {
    Event::Service(ServiceChange {
        service: "test".into(),
        change: "started".into(),
        detail: detail.into(),
    })
}

pub(crate) fn alert(summary: &str) -> Event {
    Event::Alert(Alert {
        detector: "scan.trw".into(),
        severity: Severity::Critical,
        source: [10, 20, 0, 77].into(),
        interface: "eth0".into(),
        summary: summary.into(),
        evidence: vec![Evidence { name: "failures".into(), value: 9 }],
        first_ns: 1_700_000_000_000_000_000,
        decided_ns: 1_700_000_000_900_000_000,
        drill: false,
        reference: None,
    })
}

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A running `hookprobe-ledger serve`.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

pub(crate) fn command(dir: &Path, home: &Path) -> Command {
    let mut command = serve(dir, home);
    command.arg("--key").arg(home.join("seed"));
    command
}

/// The same with the key from `attest`.
pub(crate) fn command_from(dir: &Path, home: &Path, attest: &Path) -> Command {
    let mut command = serve(dir, home);
    command.arg("--attest").arg(attest);
    command
}

fn serve(dir: &Path, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookprobe-ledger"));
    command
        .arg("serve")
        .arg("--dir")
        .arg(dir)
        .arg("--socket")
        .arg(home.join("s"))
        .args(["--allow-uid", &own_uid().to_string()])
        .env_remove("LISTEN_FDS")
        .env_remove("NOTIFY_SOCKET")
        .stderr(Stdio::piped());
    command
}

impl Service {
    /// State in `dir`, socket and key in `home`.
    pub(crate) fn start(dir: &Path, home: &Path) -> Self {
        Self::spawn(command(dir, home), home)
    }

    pub(crate) fn spawn(mut command: Command, home: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        let reader = Some(thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        }));
        Self { child, socket: home.join("s"), log, reader }
    }

    /// Connects as soon as it answers; `None` when it ended instead.
    pub(crate) fn try_client(&mut self) -> Option<Client> {
        let started = Instant::now();
        loop {
            if let Ok(mut client) = Client::connect(&self.socket)
                && client.send(&Request::Head).is_ok()
                && client.receive().is_ok()
            {
                return Some(client);
            }
            if self.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no answer: {}", self.text());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn client(&mut self) -> Client {
        match self.try_client() {
            Some(client) => client,
            None => panic!("the service ended: {}", self.text()),
        }
    }

    /// Waits until the log has `what`.
    pub(crate) fn expect_log(&self, what: &str) {
        let started = Instant::now();
        while !self.text().contains(what) {
            assert!(started.elapsed() < Duration::from_secs(60), "no {what} in: {}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn head(client: &mut Client) -> Head {
    client.send(&Request::Head).unwrap();
    match client.receive().unwrap() {
        Reply::Head(head) => head,
        other => panic!("{other:?}"),
    }
}

/// Every record from 0 on.
pub(crate) fn all_records(client: &mut Client) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let from = Seq(records.len() as u64);
        client.send(&Request::Read { from, count: 256 }).unwrap();
        let before = records.len();
        loop {
            match client.receive().unwrap() {
                Reply::Block(record) => records.push(record),
                Reply::CaughtUp { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        if records.len() == before {
            return records;
        }
    }
}

pub(crate) fn damaged_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".damaged-"))
        .collect();
    names.sort();
    names
}

/// `hookprobe-ledger verify DIR`: whether it passed, and what it said.
pub(crate) fn verify_command(dir: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hookprobe-ledger"))
        .arg("verify")
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}
