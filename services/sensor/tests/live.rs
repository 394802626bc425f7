//! The whole live sensor on a veth pair in network namespaces of its own, with a ledger that this
//! test plays: counters, alerts, blocks, the drill, restarts, an interface that goes and comes.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there; handing a descriptor over needs dup2"
)]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, TcpListener},
    os::{
        fd::{AsFd as _, AsRawFd as _, RawFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use hookprobe_abi::{self as abi, Address, BlockEntry, Counter};
use hookprobe_reputation::{
    draft::{Draft, Edition, ListId},
    format::{Category, ListInfo, PublicKey, Serial},
    hash::HashKey,
    lists::Entry,
};
use hookprobe_sensor::core::address::from_ip;
use hookprobe_wire::{
    Event, Hash, Seq, Severity,
    event::Alert,
    frame::{self, Decoder},
    ledger, sensor,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::Digest as _;

/// How long anything may take here; a scan of silent ports takes 3 s, a drill 15 s.
const PATIENCE: Duration = Duration::from_secs(120);
const SENSOR: &str = "10.77.0.1";
const PEER: &str = "10.77.0.2";

fn sh(script: &str) {
    let output = Command::new("sh").arg("-ec").arg(script).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
}

fn ip(text: &str) -> Address {
    from_ip(text.parse::<IpAddr>().unwrap())
}

/// Namespaces, a bpffs and a folder; all gone at the end.
struct Lab {
    folder: tempfile::TempDir,
    id: String,
}

impl Lab {
    fn new() -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{}", std::process::id(), ["a", "b", "c"][number as usize % 3]);
        let lab = Self { folder, id };
        let (here, there) = (lab.here(), lab.there());
        let bpffs = lab.path("bpf");
        sh(&format!(
            "mkdir {0}; mount -t bpf bpf {0}; ip netns add {here}; ip netns add {there}",
            bpffs.display()
        ));
        lab.plug_in();
        lab
    }

    fn here(&self) -> String {
        format!("hps{}", self.id)
    }

    fn there(&self) -> String {
        format!("hpp{}", self.id)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A veth pair without any packet of its own: no IPv6, fixed neighbours.
    fn plug_in(&self) {
        let (here, there) = (self.here(), self.there());
        sh(&format!(
            "ip link add hp0 netns {here} type veth peer name hp1 netns {there}
            for side in '{here} hp0 {SENSOR} {PEER} 06 07' '{there} hp1 {PEER} {SENSOR} 07 06'; do
                set -- $side
                ip netns exec $1 sh -c \"echo 1 > /proc/sys/net/ipv6/conf/$2/disable_ipv6\"
                ip -n $1 link set $2 address 02:00:00:00:00:$5
                ip -n $1 addr add $3/24 dev $2
                ip -n $1 link set $2 up
                ip -n $1 link set lo up
                ip -n $1 neigh add $4 lladdr 02:00:00:00:00:$6 dev $2 nud permanent
            done"
        ));
    }

    fn unplug(&self) {
        sh(&format!("ip -n {} link del hp0", self.here()));
    }

    /// Runs a bash script on the other side.
    fn peer(&self, script: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.there(), "bash", "-c", script]);
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
    }

    /// A write that reports the last "unreachable" has sent nothing, hence `until`.
    fn send_udp(&self, count: u32) {
        self.peer(&format!(
            "exec 3>/dev/udp/{SENSOR}/9999
            for i in $(seq {count}); do until echo x >&3; do :; done; done"
        ));
    }

    fn scan(&self, ports: &str) {
        self.peer(&format!("for p in {ports}; do (echo > /dev/tcp/{SENSOR}/$p) || true; done"));
    }

    fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.path("bpf/hookprobe").join(name)).unwrap()
    }

    fn counter(&self, counter: Counter) -> u64 {
        let map = Map::PerCpuArray(self.map(abi::MAP_COUNTERS));
        let counters: PerCpuArray<MapData, abi::CounterValues> = map.try_into().unwrap();
        counters.get(&0, 0).unwrap().iter().map(|copy| copy[counter as usize]).sum()
    }

    fn block_map(&self) -> HashMap<MapData, Address, BlockEntry> {
        Map::HashMap(self.map(abi::MAP_BLOCK)).try_into().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let script = format!(
            "ip netns del {}; ip netns del {}; umount {}",
            self.here(),
            self.there(),
            self.path("bpf").display()
        );
        let _ = Command::new("sh").arg("-c").arg(script).status();
    }
}

/// A running service and its log.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already after a clean stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(mut command: Command, name: &'static str) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                println!("  {name}: {line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line with `part` in it.
    fn line(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {part:?}");
            };
            if line.contains(part) {
                return line;
            }
        }
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "ends cleanly");
    }

    /// A field of its `/proc/PID/status`.
    fn field(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    }
}

/// `hookprobe-sensor MODE` in the namespace of the sensor.
fn program(lab: &Lab, mode: &str, folders: &[(&str, &str)]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.here(), env!("CARGO_BIN_EXE_hookprobe-sensor"), mode]);
    for (option, name) in folders {
        command.arg(option).arg(lab.path(name));
    }
    command
}

fn inspector(lab: &Lab) -> Process {
    let folders = [
        ("--socket", "inspector.sock"),
        ("--site", "site.toml"),
        ("--detection", "detection"),
        ("--state", "state"),
    ];
    let process = Process::start(program(lab, "inspect", &folders), "inspector");
    process.line("INFO ready");
    process
}

fn sensor_of(lab: &Lab, object: &Path, ledger: &Path, listener: &UnixListener) -> Process {
    let folders = [
        ("--inspector", "inspector.sock"),
        ("--site", "site.toml"),
        ("--detection", "detection"),
        ("--pin-dir", "bpf/hookprobe"),
    ];
    let mut command = program(lab, "live", &folders);
    command.arg("--object").arg(object).arg("--ledger").arg(ledger);
    command.args(["--interface", "hp0"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "sensor");
    let handed_over: RawFd = listener.as_raw_fd();
    // SAFETY: dup2 is async-signal-safe and touches nothing of this process.
    unsafe {
        command.pre_exec(move || {
            if libc_dup2(handed_over, 3) == 3 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    Process::start(command, "sensor")
}

/// Both services, the sensor connected to the inspector.
struct Running {
    sensor: Process,
    inspector: Process,
}

impl Running {
    fn start(lab: &Lab, object: &Path, ledger: &Path, listener: &UnixListener) -> Self {
        let inspector = inspector(lab);
        Self { sensor: sensor_of(lab, object, ledger, listener), inspector }
    }

    /// The sensor's next line with `part` in it.
    fn line(&self, part: &str) -> String {
        self.sensor.line(part)
    }

    fn stop(self) {
        self.sensor.stop();
        self.inspector.stop();
    }
}

unsafe extern "C" {
    #[link_name = "dup2"]
    fn libc_dup2(old: RawFd, new: RawFd) -> RawFd;
}

/// A ledger that accepts everything; the first connection is closed after the question, so that
/// the sensor has to ask again.
fn play_ledger(path: &Path) -> mpsc::Receiver<(ledger::RequestId, Alert)> {
    let listener = UnixListener::bind(path).unwrap();
    let (sender, appended) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || {
                let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
                while let Ok(length) = stream.read(&mut buffer) {
                    decoder.feed(&buffer[..length]);
                    if length == 0 {
                        return;
                    }
                    let Some(request) = decoder.next().unwrap() else { continue };
                    let ledger::Request::Append { id, event: Event::Alert(alert) } = request else {
                        panic!("{request:?}");
                    };
                    sender.send((id, alert)).unwrap();
                    if number == 0 {
                        return;
                    }
                    let reply = ledger::Reply::Appended { id, seq: Seq(7), hash: Hash::zero() };
                    stream.write_all(&frame::to_vec(&reply).unwrap()).unwrap();
                }
            });
        }
    });
    appended
}

fn ask(path: &Path, request: &sensor::Request) -> sensor::Reply {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame::to_vec(request).unwrap()).unwrap();
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "connection closed");
        decoder.feed(&buffer[..length]);
        if let Some(reply) = decoder.next().unwrap() {
            return reply;
        }
    }
}

fn status(path: &Path) -> sensor::Status {
    match ask(path, &sensor::Request::Status) {
        sensor::Reply::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// The programs and a laboratory; `None`, having said so, where there is no means for them.
fn lab() -> Option<(PathBuf, Lab)> {
    let object = support::object()?;
    if Command::new("ip").arg("netns").output().is_err() {
        println!("skipped: no ip command");
        return None;
    }
    Some((object, Lab::new()))
}

#[test]
fn packets_to_alerts_to_drops() {
    let Some((object, lab)) = lab() else { return };
    let (ledger_path, socket_path) = (lab.path("ledger.sock"), lab.path("sensor.sock"));
    let appended = play_ledger(&ledger_path);
    let listener = UnixListener::bind(&socket_path).unwrap();
    let running = Running::start(&lab, &object, &ledger_path, &listener);
    running.line("INFO attached interface=hp0 mode=native");
    running.line("INFO ready: watching 1 interface(s)");
    running.line("INFO packets are inspected");

    // Counters equal what was sent.
    lab.send_udp(100);
    assert_eq!(lab.counter(Counter::Ipv4), 100);
    assert_eq!(lab.counter(Counter::Packets), 100);
    assert_eq!(lab.counter(Counter::RecordsLost), 0);
    let seen = status(&socket_path);
    let flow = seen.flows.iter().find(|flow| flow.destination_port == 9999).unwrap();
    assert_eq!(flow.packets, 100);
    assert_eq!(seen.interfaces[0].xdp_mode, "native");
    // What the kernel of this host does not have of the programs about the host is no trouble.
    let mut trouble = seen.diagnostics;
    trouble.retain(|diagnostic| diagnostic.code != "HP-SN-041");
    assert_eq!(trouble, []);

    // A scan: refused by the box itself, so its egress answers are the outcomes.
    lab.scan("$(seq 1 30)");
    // Found by what the kernel tells or by what the inspector sees, whichever comes first.
    let line = running.line("INFO alert seq=7 ");
    for part in [" hash=0000", " source=10.77.0.2 detector=scan.", " decided_ns=", " acked_ns="] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let (first_id, alert) = appended.recv_timeout(PATIENCE).unwrap();
    let (second_id, again) = appended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first_id, second_id, "asked again under the same name");
    assert_eq!(alert, again);
    assert_eq!(alert.source.to_string(), PEER);
    assert_eq!(alert.interface, "hp0");
    assert!(!alert.drill && alert.first_ns <= alert.decided_ns);

    is_blocked(&lab, &running);
    drill(&lab, &running, &socket_path, &appended);
    running.stop();

    // Blocks survive a restart; counters start again.
    let running = Running::start(&lab, &object, &ledger_path, &listener);
    running.line("INFO ready");
    running.line("INFO packets are inspected");
    assert_eq!(lab.counter(Counter::Packets), 0);
    lab.send_udp(5);
    let entry = lab.block_map().get(&ip(PEER), 0).unwrap();
    assert_eq!(entry.packets, 55);

    // The interface goes and comes back.
    lab.unplug();
    running.line("WARN HP-SN-010 hp0");
    let mut codes: Vec<String> =
        status(&socket_path).diagnostics.into_iter().map(|diagnostic| diagnostic.code).collect();
    codes.retain(|code| code != "HP-SN-041");
    assert_eq!(codes, ["HP-SN-011", "HP-SN-010"]);
    lab.plug_in();
    running.line("INFO attached interface=hp0");
    lab.send_udp(5);
    let entry = lab.block_map().get(&ip(PEER), 0).unwrap();
    assert_eq!(entry.packets, 60);
    running.stop();
}

/// A block, as response writes it.
fn is_blocked(lab: &Lab, running: &Running) {
    block(lab, PEER);
    lab.send_udp(50);
    running.line("INFO first_drop source=10.77.0.2 time_ns=");
    running.line("INFO drops total=50");
    let entry = lab.block_map().get(&ip(PEER), 0).unwrap();
    assert_eq!(entry.packets, 50);
    let pin = fs::metadata(lab.path("bpf/hookprobe").join(abi::MAP_BLOCK)).unwrap();
    assert_eq!((pin.gid(), pin.permissions().mode() & 0o777), (810, 0o660));
}

fn block(lab: &Lab, source: &str) {
    let entry = BlockEntry::default();
    lab.block_map().insert(ip(source), entry, 0).unwrap();
}

/// A drill that is answered by a block, by this test instead of response.
fn drill(
    lab: &Lab,
    running: &Running,
    socket: &Path,
    appended: &mpsc::Receiver<(ledger::RequestId, Alert)>,
) {
    let reply = ask(socket, &sensor::Request::Drill);
    let sensor::Reply::Drill { started: true, .. } = reply else {
        panic!("{reply:?}");
    };
    let again = ask(socket, &sensor::Request::Drill);
    let sensor::Reply::Drill { started: false, reason } = again else {
        panic!("{again:?}");
    };
    assert!(reason.starts_with("HP-SN-050"), "{reason}");
    let (_, alert) = appended.recv_timeout(PATIENCE).unwrap();
    assert!(alert.drill);
    assert_eq!(alert.source.to_string(), "198.51.100.1");
    block(lab, "198.51.100.1");
    running.line("INFO drill result=blocked after_ms=");
    running.line("INFO first_drop source=198.51.100.1 ");
}

/// Runs `work` in the network namespace of the sensor.
fn inside<T: Send + 'static>(lab: &Lab, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = fs::File::open(Path::new("/run/netns").join(lab.here())).unwrap();
    let thread = thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// A list that names one domain, and the key that signed it in hexadecimal.
fn names() -> (Vec<u8>, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let info = ListInfo { category: Category::Malware, name: "test".into() };
    let mut draft = Draft::new(HashKey([3; 16]), vec![info]).unwrap();
    draft.add(ListId(0), Entry::Block(b"evil.example"));
    let edition = Edition { serial: Serial(1), issued_s: 1, expires_s: u64::MAX };
    let sign = |message: &[u8]| pair.sign(message).as_ref().try_into().unwrap();
    let bytes = draft.sign(edition, PublicKey(key), sign).unwrap();
    (bytes, key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `evil.example`, asked for by bash.
const QUESTION: &str =
    r"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04evil\x07example\x00\x00\x01\x00\x01";

fn rule(sid: u32, text: &str) -> String {
    format!("alert {text} sid:{sid}; rev:1; priority:2;)\n")
}

#[test]
fn whole_packets_are_inspected() {
    let Some((object, lab)) = lab() else { return };
    let (ledger_path, socket_path) = (lab.path("ledger.sock"), lab.path("sensor.sock"));
    let (list, key) = names();
    for folder in ["detection", "state"] {
        fs::create_dir(lab.path(folder)).unwrap();
    }
    let site = format!(
        "[detection]\nhome = [\"10.77.0.0/24\"]\nname_keys = [\"{key}\"]\nsyslog = {{ udp = 5514 }}\n"
    );
    fs::write(lab.path("site.toml"), site).unwrap();
    fs::write(lab.path("detection/hookprobe.names"), list).unwrap();
    let first = rule(1, "udp any any -> $HOME_NET 9999 (msg:\"needle\"; content:\"needle\";")
        + &rule(
            2,
            "tcp any any -> any 7777 (flow:established,to_server; dsize:<9; content:\"one\"; flowbits:set,seen;",
        )
        + "alert tcp any any -> any any (no_such_keyword; sid:3;)\n";
    fs::write(lab.path("detection/a.rules"), &first).unwrap();
    let appended = play_ledger(&ledger_path);
    let listener = UnixListener::bind(&socket_path).unwrap();
    let mut running = Running::start(&lab, &object, &ledger_path, &listener);
    running.line("INFO ready: watching 1 interface(s)");
    until(&socket_path, "detect_rules_loaded", 2);
    until(&socket_path, "behaviour_names_loaded", 1);
    // The first append is asked twice, see `play_ledger`.
    let next = || appended.recv_timeout(PATIENCE).unwrap().1;

    // The order to pass packets on comes after the first state: one gets through, then all do.
    let began = Instant::now();
    while value(&socket_path, "packets_received") == 0 {
        assert!(began.elapsed() < PATIENCE, "no packet is inspected");
        lab.peer(&format!("echo -n x > /dev/udp/{SENSOR}/9"));
        thread::sleep(Duration::from_millis(200));
    }

    // A rule, its evidence in EVE, and only one alert for fifty matches.
    lab.peer(&format!("for i in $(seq 50); do echo -n needle > /dev/udp/{SENSOR}/9999; done"));
    let (alert, _) = (next(), next());
    assert_eq!((alert.detector.as_str(), alert.interface.as_str()), ("rule", "hp0"));
    assert_eq!((alert.source.to_string(), alert.summary.as_str()), (PEER.into(), "needle"));
    let reference = alert.reference.unwrap();
    assert_eq!(reference.rule.map(|rule| rule.sid), Some(1));
    let eve = fs::read_to_string(lab.path("state/eve.json")).unwrap();
    let line = eve.lines().next().unwrap();
    let digest = Hash::new(sha2::Sha256::digest(line).into());
    assert_eq!(reference.record, Some(digest), "the ledger vouches for the line");

    // A name of bad repute.
    lab.peer(&format!("printf '{QUESTION}' > /dev/udp/{SENSOR}/53"));
    let alert = next();
    assert_eq!((alert.detector.as_str(), alert.severity), ("name.listed", Severity::Info));
    assert!(alert.summary.contains("evil.example"), "{}", alert.summary);

    // Other rules in the middle of a connection: its bits are still there.
    let accepted = inside(&lab, || TcpListener::bind("0.0.0.0:7777").unwrap());
    let served = thread::spawn(move || {
        let mut text = Vec::new();
        accepted.accept().unwrap().0.read_to_end(&mut text).unwrap();
        text
    });
    let go = lab.path("go");
    let script = format!(
        "exec 3>/dev/tcp/{SENSOR}/7777; echo one >&3; for i in $(seq 500); do [ -e {go} ] && break; sleep 0.05; done; echo two >&3",
        go = go.display()
    );
    thread::scope(|scope| {
        scope.spawn(|| lab.peer(&script));
        assert_eq!(next().reference.unwrap().rule.map(|rule| rule.sid), Some(2));
        let second = first.clone()
            + &rule(
                4,
                "tcp any any -> any 7777 (flow:established,to_server; flowbits:isset,seen; dsize:<9; content:\"two\";",
            );
        fs::write(lab.path("detection/a.rules"), second).unwrap();
        let reply = ask(&socket_path, &sensor::Request::Reload);
        let sensor::Reply::Reload { started: true, loaded: Some(loaded), .. } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!((loaded.rules, loaded.rejected, loaded.names), (3, 1, 1), "{loaded:?}");
        running.inspector.line("INFO rules loaded=3 failed=1");
        until(&socket_path, "rules_reloads", 2);
        fs::write(&go, "").unwrap();
        assert_eq!(next().reference.unwrap().rule.map(|rule| rule.sid), Some(4));
    });
    assert_eq!(served.join().unwrap(), b"one\ntwo\n");

    // A list of addresses that is a dry run, because the site only observes; then none.
    let listed = lab.counter(Counter::DryList);
    fs::write(lab.path("detection/hookprobe.block"), format!("{PEER}/32 # all of it\n")).unwrap();
    let reply = ask(&socket_path, &sensor::Request::Reload);
    assert!(format!("{reply:?}").contains("addresses: 1,"), "{reply:?}");
    running.line("INFO block list addresses=1 garbage=0 enforced=false");
    lab.send_udp(5);
    // The end of the connection may be among them.
    assert!(lab.counter(Counter::DryList) - listed >= 5);
    fs::remove_file(lab.path("detection/hookprobe.block")).unwrap();
    ask(&socket_path, &sensor::Request::Reload);
    until(&socket_path, "rules_reloads", 4);
    let listed = lab.counter(Counter::DryList);
    lab.send_udp(5);
    assert_eq!(lab.counter(Counter::DryList), listed);

    // What a device says in its log.
    lab.peer(&format!(
        "for i in $(seq 20); do
            echo -n '<86>sshd[1]: Failed password for root from 203.0.113.7 port 1 ssh2' > /dev/udp/{SENSOR}/5514
        done"
    ));
    let alert = next();
    assert_eq!((alert.detector.as_str(), alert.severity), ("brute-force", Severity::Info));
    assert_eq!(alert.source.to_string(), "203.0.113.7");

    // As of the last second.
    until(&socket_path, "packets_received", 71);
    until(&socket_path, "syslog_logins_failed", 20);
    let seen = status(&socket_path);
    let count = |name: &str| seen.counters.iter().find(|one| one.name == name).unwrap().value;
    assert_eq!(count("packets_lost"), 0);
    assert_eq!(count("found_lost"), 0);
    assert_eq!(count("detect_alerts_repeated"), 49);

    // Whoever takes it over has no right to anything, and its end is no end of the sensor.
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(running.inspector.field(set), "0".repeat(16), "{set}");
    }
    assert_eq!(running.inspector.field("Seccomp:"), "2");
    running.inspector.child.kill().unwrap();
    running.inspector.child.wait().unwrap();
    running.line("WARN HP-SN-089 inspector: ");
    let codes = |seen: sensor::Status| {
        seen.diagnostics.into_iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    assert!(codes(status(&socket_path)).contains(&"HP-SN-089".to_owned()));
    running.inspector = inspector(&lab);
    running.line("INFO packets are inspected");
    until(&socket_path, "detect_rules_loaded", 3);
    lab.peer(&format!("echo -n needle > /dev/udp/{SENSOR}/9999"));
    assert_eq!(next().reference.unwrap().rule.map(|rule| rule.sid), Some(1));
    assert!(!codes(status(&socket_path)).contains(&"HP-SN-089".to_owned()));
    running.stop();
    assert!(lab.path("state/model").exists(), "the model is kept");
}

/// Waits until a counter is as great.
/// A counter as of the last second; 0 where there is none of the name.
fn value(socket: &Path, name: &str) -> u64 {
    let counters = status(socket).counters;
    counters.into_iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
}

fn until(socket: &Path, name: &str, least: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        if value(socket, name) >= least {
            return;
        }
        assert!(Instant::now() < end, "{name} stays below {least}");
        thread::sleep(Duration::from_millis(50));
    }
}
