//! End to end: the binary on a pseudo terminal that never answers, with services on Unix sockets
//! that speak wire.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like tests"
)]

mod sample;

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hookprobe_wire::{
    Decoder, Seq, attest, control, frame, ledger, qr, response, sensor, site::Site,
};
use nix::{
    pty::openpty,
    sys::{
        signal::{Signal, kill},
        termios::tcgetattr,
    },
    unistd::Pid,
};

/// Longest wait for something to appear: the console polls once a second, the rest is for a
/// machine that is busy with other tests.
const WAIT: Duration = Duration::from_secs(20);

/// Serves one socket; every question is answered by `answer`.
fn serve<Q>(path: &Path, answer: impl Fn(Q) -> Vec<Vec<u8>> + Clone + Send + 'static)
where
    Q: for<'b> minicbor::Decode<'b, ()>,
{
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || answer_all(stream.unwrap(), answer));
        }
    });
}

fn answer_all<Q>(mut stream: UnixStream, answer: impl Fn(Q) -> Vec<Vec<u8>>)
where
    Q: for<'b> minicbor::Decode<'b, ()>,
{
    let mut decoder = Decoder::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        decoder.feed(&bytes[..count]);
        while let Some(question) = decoder.next().unwrap() {
            for reply in answer(question) {
                if stream.write_all(&reply).is_err() {
                    return;
                }
            }
        }
    }
}

fn services(dir: &Path) {
    serve(&dir.join("init.sock"), |question| match question {
        control::Request::Status => {
            vec![frame::to_vec(&control::Reply::Status(sample::status())).unwrap()]
        }
        control::Request::Reload => {
            let reason = "HP-CF-022 reload: 32 were asked for".into();
            vec![frame::to_vec(&control::Reply::Reload { number: 0, reason }).unwrap()]
        }
        control::Request::Carry { nonce } => {
            assert_eq!(nonce.len(), 16);
            let reason = "HP-US-005 usb: no stick".into();
            vec![frame::to_vec(&control::Reply::Carry { number: 0, reason }).unwrap()]
        }
        control::Request::Log { from } => {
            let lines = sample::log().into_iter().filter(|line| line.number >= from);
            vec![frame::to_vec(&control::Reply::Log(lines.collect())).unwrap()]
        }
    });
    serve(&dir.join("sensor.sock"), |question| {
        let reply = match question {
            sensor::Request::Status => sensor::Reply::Status(sample::sensor_status(5_000)),
            sensor::Request::Drill => sensor::Reply::Drill {
                started: true,
                reason: "118 packets played; see 2 Alerts".into(),
            },
            sensor::Request::Reload => {
                sensor::Reply::Reload { started: false, reason: "no".into(), loaded: None }
            }
        };
        vec![frame::to_vec(&reply).unwrap()]
    });
    serve(&dir.join("response.sock"), |question| match question {
        response::Request::Status => {
            let status = sample::response_status(&sample::records());
            vec![frame::to_vec(&response::Reply::Status(status)).unwrap()]
        }
    });
    serve(&dir.join("ledger.sock"), |question| match question {
        ledger::Request::Head => {
            let head = sample::head(&sample::records());
            vec![frame::to_vec(&ledger::Reply::Head(head)).unwrap()]
        }
        ledger::Request::Follow { from } => {
            assert_eq!(from, Seq(88_121 - 500));
            let blocks = sample::records().into_iter().map(ledger::Reply::Block);
            let end = ledger::Reply::CaughtUp { next: Seq(88_121) };
            blocks.chain([end]).map(|reply| frame::to_vec(&reply).unwrap()).collect()
        }
        ledger::Request::Append { .. } | ledger::Request::Read { .. } => {
            panic!("a viewer appends nothing and reads by following")
        }
    });
    attester(dir);
    std::fs::write(dir.join("site.toml"), sample::site().to_toml()).unwrap();
    assert!(Site::parse(&std::fs::read(dir.join("site.toml")).unwrap()).is_ok());
}

fn attester(dir: &Path) {
    let noted = Arc::new(Mutex::new(false));
    serve(&dir.join("attest.sock"), move |question| {
        let waiting = !*noted.lock().unwrap();
        let replies = match question {
            attest::Request::Status => vec![attest::Reply::Status(attest::Status {
                recovery_waiting: waiting,
                ..sample::attest_status()
            })],
            attest::Request::Evidence { nonce, exporter: None, full: false } => {
                assert_eq!(nonce.len(), 16);
                assert_ne!(nonce.as_slice(), [0; 16]);
                let evidence = sample::evidence();
                let part = |offset: u32, bytes: &[u8]| attest::Reply::Part {
                    offset,
                    total: 900,
                    bytes: bytes.to_vec().into(),
                };
                vec![part(0, &evidence[..400]), part(400, &evidence[400..])]
            }
            attest::Request::Log { from } => {
                let lines = sample::measurements();
                let total = u32::try_from(lines.len()).unwrap();
                let lines = lines.into_iter().skip(usize::try_from(from).unwrap()).collect();
                vec![attest::Reply::Log { total, lines }]
            }
            attest::Request::Recovery => {
                vec![attest::Reply::Recovery(waiting.then(|| sample::RECOVERY_KEY.into()))]
            }
            attest::Request::RecoveryNoted => {
                *noted.lock().unwrap() = true;
                vec![attest::Reply::Recovery(None)]
            }
            attest::Request::Evidence { .. }
            | attest::Request::Activate { .. }
            | attest::Request::Seed => panic!("nothing for a console: {question:?}"),
        };
        replies.iter().map(|reply| frame::to_vec(reply).unwrap()).collect()
    });
}

struct Console {
    child: Child,
    keys: File,
    line: File,
    screen: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
}

impl Console {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        // No size: 0x0, as on a serial line.
        let pty = openpty(None, None).unwrap();
        let line = File::from(pty.slave);
        let child = Command::new(env!("CARGO_BIN_EXE_hookprobe-console"))
            .args(arguments)
            .arg("--socket-dir")
            .arg(dir)
            .stdin(Stdio::from(line.try_clone().unwrap()))
            .stdout(Stdio::from(line.try_clone().unwrap()))
            .stderr(Stdio::from(line.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let keys = File::from(pty.master);
        let mut output = keys.try_clone().unwrap();
        let screen = Arc::new(Mutex::new((vt100::Parser::new(24, 80, 0), Vec::new())));
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut screen = shared.lock().unwrap();
                screen.0.process(&bytes[..count]);
                screen.1.extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, keys, line, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        self.screen.lock().unwrap().0.screen().contents()
    }

    fn wait_for(&self, text: &str) {
        let end = Instant::now() + WAIT;
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "no {text:?} on\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&mut self) -> bool {
        let end = Instant::now() + WAIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_screens_by_keys() {
    let dir = tempfile::tempdir().unwrap();
    services(dir.path());
    let mut console = Console::start(dir.path(), &["--serial"]);
    console.wait_for("[ OK ] VERIFIED by self 17 s ago");
    console.wait_for("[ OK ] 8 links checked");
    console.wait_for("2 open: 1 CRIT 1 WARN");
    for (keys, expect) in [
        ("2", "calls 198.51.100.7:443"),
        ("j\r", "88118 mitigation"),
        ("\x1b", "2 not ended"),
        ("3", "10.20.0.31:44310"),
        ("4", "88121 blocks, epoch 4"),
        ("\r", "the payload is the one that was committed to"),
        ("5", "Coming: peers"),
        ("6", "mode autonomous by xdp, nft"),
        ("7", "console-serial"),
        ("\x1b[B\r", "as the reference manifest in the image says"),
        ("8", "administrators = [\"10.20.0.31\"]"),
        ("r", "y yes  any other key no"),
        ("y", "reload: FAIL HP-CF-022 reload: 32 were asked for"),
        ("?", "show or hide this help"),
        ("?4", "88121 blocks, epoch 4"),
        ("\x1b/lift\r", "1 of 9 with \"lift\""),
        ("1d", "START A DRILL?"),
        ("y", "118 packets played; see 2 Alerts"),
        ("m", "AK name     000b"),
        ("m", "13 [ OK ]  services"),
        ("m", "7  13 [DIFF]  366b..6ca1 service:sensor"),
    ] {
        console.press(keys);
        console.wait_for(expect);
    }
    // There is nothing to quit to on the box.
    console.press("q");
    console.press("2");
    console.wait_for("2 not ended");
    asks_nothing(&console.screen.lock().unwrap().1);
    assert_eq!(console.shown().lines().count(), 24, "the screen never scrolled");
}

#[test]
fn evidence_is_copied_from_a_serial_line() {
    let dir = tempfile::tempdir().unwrap();
    services(dir.path());
    let mut console = Console::start(dir.path(), &["--serial"]);
    console.wait_for("[ OK ] VERIFIED by self 17 s ago");
    console.press("mmmm\r");
    console.wait_for("HPQ1:1:26:");
    let mut copied = console.shown();
    console.press("n");
    console.wait_for("HPQ1:26:26:");
    copied.push_str(&console.shown());
    assert_eq!(qr::join(&copied).unwrap(), sample::evidence());
    console.press("w");
    console.wait_for("usb: FAIL HP-US-005 usb: no stick");
}

#[test]
fn the_recovery_key_is_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    services(dir.path());
    let mut console = Console::start(dir.path(), &["--serial"]);
    console.wait_for("RECOVERY KEY NOT NOTED");
    for (keys, expect) in [
        ("R", sample::RECOVERY_KEY),
        ("nope\r", "WARN another one"),
        ("k3qf\r", "recovery key: [ OK ] noted"),
        ("R", "recovery key: WARN none waits to be noted"),
    ] {
        console.press(keys);
        console.wait_for(expect);
    }
    assert!(!console.shown().contains("9TWX"));
}

/// The output has cursor moves, attributes and nothing else that begins with ESC.
fn asks_nothing(output: &[u8]) {
    let text = String::from_utf8_lossy(output);
    for piece in text.split('\x1b').skip(1) {
        let end = piece.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(0);
        let sequence = &piece[..=end.min(piece.len() - 1)];
        let known = matches!(sequence, "(B" | "[r" | "[?25l")
            || sequence.ends_with('m')
            || sequence.ends_with('H');
        assert!(known, "{sequence:?}");
        assert_ne!(sequence, "[24;80H", "the last cell of the last row is addressed");
    }
}

#[test]
fn a_source_that_goes_away_is_shown_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut console = Console::start(dir.path(), &["--mono"]);
    console.wait_for("disconnected init.sock, trying again");
    services(dir.path());
    console.wait_for("2 open: 1 CRIT 1 WARN");
    console.wait_for("hp-7f3a  HookProbe OS 0.1.0");
    // Ctrl-L paints every cell again.
    let before = console.screen.lock().unwrap().1.len();
    console.press("\x0c");
    let end = Instant::now() + WAIT;
    while console.screen.lock().unwrap().1.len() < before + 80 * 23 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_line_is_restored_on_sigterm_and_on_q() {
    let dir = tempfile::tempdir().unwrap();
    for quits in [false, true] {
        let mut console = Console::start(dir.path(), &["--allow-quit"]);
        let line = console.line.try_clone().unwrap();
        console.wait_for("ATTESTATION");
        let raw = tcgetattr(&line).unwrap();
        assert!(!raw.local_flags.contains(nix::sys::termios::LocalFlags::ICANON));
        if quits {
            console.press("q");
        } else {
            let pid = Pid::from_raw(console.child.id().cast_signed());
            kill(pid, Signal::SIGTERM).unwrap();
        }
        assert!(console.ended(), "q: {quits}");
        let after = tcgetattr(&line).unwrap();
        assert!(after.local_flags.contains(nix::sys::termios::LocalFlags::ICANON));
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookprobe-console"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("ERROR HP-CO-001 stdin: not a terminal"), "{error}");
}
