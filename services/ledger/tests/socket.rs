//! The service as its clients and PID 1 see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use std::{
    collections::HashSet,
    io::Read,
    os::unix::{
        net::{UnixDatagram, UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hookprobe_ledger::client::Client;
use hookprobe_wire::{
    Seq,
    frame::to_vec,
    ledger::{Reply, Request},
};
use support::{Random, Service, alert, all_records, command, head, request_id, seed, service};

fn error_code(reply: Reply) -> String {
    match reply {
        Reply::Error { code, .. } | Reply::Rejected { code, .. } => code,
        other => panic!("expected an error, got {other:?}"),
    }
}

fn start() -> (tempfile::TempDir, Service, Client) {
    let home = tempfile::tempdir().unwrap();
    let mut running = Service::start(&home.path().join("state"), home.path());
    let client = running.client();
    (home, running, client)
}

#[test]
fn bad_frames_get_an_error_and_the_connection_closes() {
    let (_home, running, mut good) = start();
    let mut trailing = to_vec(&Request::Head).unwrap();
    trailing.push(0);
    trailing[4] += 1;
    let cases: [(&str, Vec<u8>); 6] = [
        ("HP-WR-001", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("HP-WR-002", b"HP\x09\0\0\0\0\0".to_vec()),
        ("HP-WR-003", b"HP\x01\x40\0\0\0\0".to_vec()),
        ("HP-WR-004", b"HP\x01\0\xff\xff\xff\x7f".to_vec()),
        ("HP-WR-005", b"HP\x01\0\x02\0\0\0\xff\xff".to_vec()),
        ("HP-WR-006", trailing),
    ];
    for (code, bytes) in cases {
        let mut client = Client::connect(&running.socket).unwrap();
        client.send_raw(&bytes).unwrap();
        assert_eq!(error_code(client.receive().unwrap()), code);
        assert!(client.receive().is_err(), "{code}: still open");
    }
    // Half a frame, then nothing: closed within the frame timeout.
    let mut client = Client::connect(&running.socket).unwrap();
    client.send_raw(b"HP\x01\0\x10\0\0\0abc").unwrap();
    let begun = Instant::now();
    assert_eq!(error_code(client.receive().unwrap()), "HP-LD-015");
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(head(&mut good).length, 0);
}

#[test]
fn garbage_of_any_kind_leaves_the_service_as_it_was() {
    let seed = seed("garbage");
    let mut random = Random(seed);
    let (_home, running, mut good) = start();
    let frame = to_vec(&Request::Append { id: request_id(1, 1), event: service("x") }).unwrap();
    for _ in 0..300 {
        let mut bytes = frame.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        let mut client = Client::connect(&running.socket).unwrap();
        let _ = client.send_raw(&bytes);
    }
    // Bytes that happen to be a whole append still count, and some may be on their way: what is
    // read is compared once nothing has come in beside it.
    for _ in 0..100 {
        let before = head(&mut good).length;
        let records = all_records(&mut good).len() as u64;
        let after = head(&mut good).length;
        assert!(before <= records && records <= after, "{before} {records} {after}");
        if before == after {
            assert!(after <= 300);
            return;
        }
    }
    panic!("300 clients are gone, and appends still come in");
}

#[test]
fn policy_is_by_uid() {
    let home = tempfile::tempdir().unwrap();
    let mut plain = std::process::Command::new(env!("CARGO_BIN_EXE_hookprobe-ledger"));
    plain
        .arg("serve")
        .arg("--dir")
        .arg(home.path().join("state"))
        .arg("--key")
        .arg(home.path().join("seed"))
        .arg("--socket")
        .arg(home.path().join("s"))
        .stderr(std::process::Stdio::piped());
    let mut running = Service::spawn(plain, home.path());
    let mut client = running.client();
    let reply = client.append(request_id(1, 1), &alert("not mine")).unwrap();
    assert_eq!(error_code(reply), "HP-LD-010");
    let reply = client.append(request_id(2, 1), &service("mine")).unwrap();
    if support::own_uid() == 0 {
        assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
    } else {
        assert_eq!(error_code(reply), "HP-LD-010");
    }
    let large = service(&"x".repeat(20_000));
    let reply = client.append(request_id(3, 1), &large).unwrap();
    let code = error_code(reply);
    assert!(code == "HP-LD-011" || support::own_uid() != 0, "{code}");
}

#[test]
fn sixty_four_writers_get_every_append_in_exactly_once() {
    let (_home, running, mut good) = start();
    let threads: Vec<_> = (0..64u64)
        .map(|writer| {
            let socket = running.socket.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&socket).unwrap();
                (0..10u64)
                    .map(|number| {
                        let event = service(&format!("{writer}/{number}"));
                        match client.append(request_id(writer, number), &event).unwrap() {
                            Reply::Appended { seq, .. } => seq,
                            other => panic!("{other:?}"),
                        }
                    })
                    .collect::<Vec<Seq>>()
            })
        })
        .collect();
    let mut places = HashSet::new();
    for thread in threads {
        let seqs = thread.join().unwrap();
        assert!(seqs.is_sorted());
        places.extend(seqs);
    }
    assert_eq!(places.len(), 640);
    assert_eq!(head(&mut good).length, 640);
    assert_eq!(all_records(&mut good).len(), 640);
}

#[test]
fn pipelined_appends_are_answered_in_order() {
    let (_home, _running, mut client) = start();
    for number in 0..500 {
        client.send(&Request::Append { id: request_id(number, 3), event: service("p") }).unwrap();
    }
    client.send(&Request::Head).unwrap();
    for number in 0..500 {
        let reply = client.receive().unwrap();
        assert!(
            matches!(&reply, Reply::Appended { id, seq: Seq(seq), .. }
                if *id == request_id(number, 3) && *seq == number),
            "{reply:?}"
        );
    }
    assert!(matches!(client.receive().unwrap(), Reply::Head(_)));
}

#[test]
fn a_read_is_bounded_and_says_where_the_present_is() {
    let (_home, _running, mut client) = start();
    for number in 0..300 {
        client.append(request_id(number, 8), &service("r")).unwrap();
    }
    for (from, count, expected) in
        [(0, 5, 5), (298, 10, 2), (300, 1, 0), (999, 9, 0), (0, u32::MAX, 256)]
    {
        client.send(&Request::Read { from: Seq(from), count }).unwrap();
        for index in 0..expected {
            assert!(matches!(client.receive().unwrap(),
                Reply::Block(record) if record.block.header.seq == Seq(from + index)));
        }
        assert_eq!(client.receive().unwrap(), Reply::CaughtUp { next: Seq(300) });
    }
}

fn follow(socket: &Path, from: u64) -> Client {
    let mut client = Client::connect(socket).unwrap();
    client.send(&Request::Follow { from: Seq(from) }).unwrap();
    client
}

#[test]
fn a_follower_gets_the_past_then_the_present() {
    let (_home, running, mut client) = start();
    for number in 0..5 {
        client.append(request_id(number, 4), &service("f")).unwrap();
    }
    let mut follower = follow(&running.socket, 2);
    for expected in 2..5 {
        assert!(matches!(follower.receive().unwrap(),
            Reply::Block(record) if record.block.header.seq == Seq(expected)));
    }
    assert_eq!(follower.receive().unwrap(), Reply::CaughtUp { next: Seq(5) });
    client.append(request_id(9, 4), &service("now")).unwrap();
    assert!(matches!(follower.receive().unwrap(),
        Reply::Block(record) if record.block.header.seq == Seq(5)));
    // From a chain that this one is not.
    let mut lost = follow(&running.socket, 700);
    assert_eq!(error_code(lost.receive().unwrap()), "HP-LD-013");
    // Nothing may be said on it.
    follower.send(&Request::Head).unwrap();
    assert_eq!(error_code(follower.receive().unwrap()), "HP-LD-017");
}

#[test]
fn a_slow_follower_is_disconnected_and_resumes_by_seq() {
    let (_home, running, mut client) = start();
    for number in 0..120 {
        let event = service(&"y".repeat(15_000));
        client.append(request_id(number, 5), &event).unwrap();
    }
    let mut slow = follow(&running.socket, 0);
    let begun = Instant::now();
    while !running.text().contains("slow reader disconnected") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", running.text());
        // Others are served as ever.
        let asked = Instant::now();
        head(&mut client);
        assert!(asked.elapsed() < Duration::from_secs(4), "less than a slow reader is given");
        thread::sleep(Duration::from_millis(100));
    }
    let mut next = 0;
    while let Ok(Reply::Block(record)) = slow.receive() {
        assert_eq!(record.block.header.seq, Seq(next));
        next += 1;
    }
    assert!(next < 120, "it was not cut off");
    let mut again = follow(&running.socket, next);
    while let Reply::Block(record) = again.receive().unwrap() {
        assert_eq!(record.block.header.seq, Seq(next));
        next += 1;
    }
    assert_eq!(next, 120);
}

#[test]
fn too_many_connections_are_told_so() {
    let (_home, running, _client) = start();
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..110 {
        let mut client = Client::connect(&running.socket).unwrap();
        let _ = client.send(&Request::Head);
        match client.receive() {
            Ok(Reply::Head(_)) => kept.push(client),
            Ok(reply) => {
                assert_eq!(error_code(reply), "HP-LD-014");
                refused += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(kept.len() <= 96 && refused > 0, "{} kept", kept.len());
    drop(kept);
    let begun = Instant::now();
    loop {
        let mut client = Client::connect(&running.socket).unwrap();
        let _ = client.send(&Request::Head);
        if let Ok(Reply::Head(_)) = client.receive() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "sessions that ended are kept");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sigterm_writes_what_is_queued_and_exits_0() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let mut running = Service::start(&dir, home.path());
    let mut client = running.client();
    for number in 0..200 {
        client
            .send(&Request::Append { id: request_id(number, 6), event: service("last") })
            .unwrap();
    }
    // The first answer says that the service is in the middle of it.
    assert!(matches!(client.receive().unwrap(), Reply::Appended { .. }));
    assert!(running.terminate().success(), "{}", running.text());
    let mut told = 1;
    while let Ok(Reply::Appended { .. }) = client.receive() {
        told += 1;
    }
    let mut running = Service::start(&dir, home.path());
    let length = head(&mut running.client()).length;
    assert!(length >= told, "{told} were acknowledged, {length} are there");
}

#[test]
fn a_new_key_is_a_new_epoch_of_the_same_chain() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let mut heads = Vec::new();
    for boot in 0..3 {
        let mut running = Service::start(&dir, home.path());
        let mut client = running.client();
        assert_eq!(head(&mut client).verified_at_start, boot * 2);
        client.append(request_id(boot, 1), &service("a")).unwrap();
        client.append(request_id(boot, 2), &service("b")).unwrap();
        // Known over restarts and changes of key.
        let again = client.append(request_id(0, 1), &service("a")).unwrap();
        assert!(matches!(again, Reply::Appended { seq: Seq(0), .. }));
        heads.push(head(&mut client));
        if boot == 2 {
            let records = all_records(&mut client);
            assert_eq!(records[4].block.header.prev_hash, records[3].hash);
            assert_eq!(records[4].block.header.epoch, heads[2].epoch);
        }
        assert!(running.terminate().success());
        std::fs::remove_file(home.path().join("seed")).unwrap();
    }
    assert!(heads[0].epoch < heads[1].epoch && heads[1].epoch < heads[2].epoch);
    assert!(heads[0].node != heads[1].node);
    assert_eq!(heads[2].length, 6);
    let (good, text) = support::verify_command(&dir);
    assert!(good && text.matches("epoch   ").count() == 3, "{text}");
}

#[test]
fn pid_1_is_told() {
    let home = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(home.path().join("n")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let listener = UnixListener::bind(home.path().join("s")).unwrap();
    let mut command = command(&home.path().join("state"), home.path());
    command
        .env("NOTIFY_SOCKET", home.path().join("n"))
        .env("WATCHDOG_USEC", "900000")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "ledger");
    pass_as_fd_3(&mut command, &listener);
    let mut running = Service::spawn(command, home.path());
    drop(listener);
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !(seen.contains("READY=1") && seen.matches("WATCHDOG=1").count() >= 2) {
        let count = notify.recv(&mut buffer).expect(&seen);
        seen += std::str::from_utf8(&buffer[..count]).unwrap();
        seen.push('\n');
    }
    assert!(seen.contains("STATUS=blocks 0"), "{seen}");
    head(&mut running.client());
    assert!(running.terminate().success());
    let mut line = String::new();
    let lines = running.text();
    lines.as_bytes().read_to_string(&mut line).unwrap();
    assert!(
        line.lines().all(|line| line.starts_with("INFO ") || line.starts_with("WARN ")),
        "{line}"
    );
    assert!(UnixStream::connect(home.path().join("s")).is_err());
}

#[expect(unsafe_code, reason = "a child with a socket at descriptor 3, as PID 1 does it")]
fn pass_as_fd_3(command: &mut std::process::Command, listener: &UnixListener) {
    use std::os::fd::AsRawFd;
    let fd = listener.as_raw_fd();
    // SAFETY: between fork and exec only dup2 and fcntl are called, both async-signal-safe, on a
    // descriptor that the parent keeps open until the child has been spawned.
    unsafe {
        command.pre_exec(move || {
            let done = if fd == 3 {
                nix::libc::fcntl(3, nix::libc::F_SETFD, 0)
            } else {
                nix::libc::dup2(fd, 3)
            };
            if done < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
