//! The signing key from `attest`, whatever that answers; and what becomes of the epochs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use std::{
    io::{Read, Write},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use hookprobe_ledger::{
    LedgerKey,
    attest::{Identity, KeySource, REPLY_BYTES_MAX, Waits, identity},
};
use hookprobe_wire::{
    Decoder, Severity,
    attest::{KeyOrigin, Request, SEED_BYTES, Seed, SeedReply},
    frame::to_vec,
    ledger::Reply,
};
use redb::TableDefinition;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use support::{Service, all_records, command_from, head, request_id, service, verify_command};

const SEED: [u8; SEED_BYTES] = [0x5e; SEED_BYTES];

/// Where an answer is expected: a loaded machine takes its time.
const LONG: Waits = Waits {
    total: Duration::from_secs(60),
    answer: Duration::from_secs(20),
    again: Duration::from_millis(10),
};

/// Where none is.
const SHORT: Waits = Waits {
    total: Duration::from_millis(400),
    answer: Duration::from_millis(150),
    again: Duration::from_millis(10),
};

/// Until what waits for [`SHORT`] has ended, on any machine.
const END_MAX: Duration = Duration::from_secs(20);

fn seed(epoch: u64, origin: KeyOrigin) -> Vec<u8> {
    to_vec(&SeedReply::Seed(Seed::new(SEED, epoch, origin))).unwrap()
}

/// What the next ask gets.
#[derive(Debug, Clone)]
enum Answer {
    Bytes(Vec<u8>),
    /// One byte in so many milliseconds.
    Drip(Vec<u8>, u64),
    Silence,
}

/// Answers every ask with the next of `answers`, with the last for ever.
fn attest(home: &Path, answers: Vec<Answer>) -> PathBuf {
    let path = home.join("attest");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for number in 0.. {
            let Ok((mut stream, _)) = listener.accept() else { return };
            assert_eq!(ask(&mut stream), Request::Seed);
            match answers[number.min(answers.len() - 1)].clone() {
                // The ledger may have hung up.
                Answer::Bytes(bytes) => drop(stream.write_all(&bytes)),
                Answer::Drip(bytes, ms) => {
                    for byte in bytes {
                        thread::sleep(Duration::from_millis(ms));
                        let _ = stream.write_all(&[byte]);
                    }
                }
                Answer::Silence => silent.push(stream),
            }
        }
    });
    path
}

fn ask(stream: &mut UnixStream) -> Request {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 256];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        decoder.feed(&buffer[..count]);
        if let Some(request) = decoder.next().unwrap() {
            return request;
        }
    }
}

/// What the ledger makes of these answers, and how often it said that it waits.
fn get(answers: Vec<Answer>) -> (Identity, usize) {
    get_within(LONG, answers)
}

fn get_within(waits: Waits, answers: Vec<Answer>) -> (Identity, usize) {
    let home = tempfile::tempdir().unwrap();
    let path = attest(home.path(), answers);
    let mut waited = 0;
    let identity = identity(&KeySource::Attest(path), waits, &mut || waited += 1).unwrap();
    (identity, waited)
}

#[track_caller]
fn expect_seed((identity, _): &(Identity, usize), counter: u64, origin: KeyOrigin) {
    assert_eq!(identity.key.node(), LedgerKey::from_seed(&SEED).node());
    assert_eq!((identity.counter, identity.origin), (counter, origin));
    assert_eq!(identity.diagnostic, None);
}

/// A key of its own, told with code, cause and remedy, and nothing of the seed.
#[track_caller]
fn expect_own_key((identity, _): &(Identity, usize), why: &str) {
    assert_ne!(identity.key.node(), LedgerKey::from_seed(&SEED).node());
    assert_eq!((identity.counter, identity.origin), (0, KeyOrigin::Boot));
    let told = identity.diagnostic.as_ref().expect("told");
    assert_eq!((told.code.as_str(), told.severity), ("HP-LD-034", Severity::Warn));
    assert!(told.cause.contains(why) && told.remedy.contains("restart"), "{told}");
    assert!(!format!("{told} {identity:?}").contains("5e5e"), "{told}");
}

#[test]
fn a_seed_is_taken_with_its_epoch_and_origin() {
    expect_seed(&get(vec![Answer::Bytes(seed(41, KeyOrigin::Tpm))]), 41, KeyOrigin::Tpm);
    expect_seed(&get(vec![Answer::Bytes(seed(0, KeyOrigin::Boot))]), 0, KeyOrigin::Boot);
    expect_seed(&get(vec![Answer::Drip(seed(41, KeyOrigin::Tpm), 1)]), 41, KeyOrigin::Tpm);
}

#[test]
fn later_and_a_restart_of_attest_are_asked_again() {
    let later = Answer::Bytes(to_vec(&SeedReply::Later).unwrap());
    let half = Answer::Bytes(seed(7, KeyOrigin::Tpm)[..20].to_vec());
    let good = Answer::Bytes(seed(7, KeyOrigin::Tpm));
    let got = get(vec![later.clone(), later, Answer::Bytes(Vec::new()), half, good.clone()]);
    expect_seed(&got, 7, KeyOrigin::Tpm);
    assert_eq!(got.1, 5, "PID 1 is told before every ask");
    let impatient = Waits { answer: Duration::from_millis(300), ..LONG };
    let got = get_within(impatient, vec![Answer::Silence, good]);
    expect_seed(&got, 7, KeyOrigin::Tpm);
}

#[test]
fn no_and_nonsense_end_the_asking_at_once() {
    let refused = SeedReply::Refused { code: "HP-AT-001".into(), reason: "not\nyou".into() };
    let got = get(vec![Answer::Bytes(to_vec(&refused).unwrap())]);
    expect_own_key(&got, "HP-AT-001 not\\u{a}you");
    let mut garbage = vec![
        (b"GET / HTTP/1.1\r\n".to_vec(), "HP-WR-001"),
        (b"HP\x02\0\0\0\0\0".to_vec(), "HP-WR-002"),
        (b"HP\x01\0\x02\0\0\0\xff\xff".to_vec(), "HP-WR-005"),
        (b"HP\x01\0\xff\xff\xff\x7f".to_vec(), "HP-WR-004"),
        (seed(1, KeyOrigin::None), "without an origin"),
    ];
    let over = u32::try_from(REPLY_BYTES_MAX + 1).unwrap().to_le_bytes();
    garbage.push(([b"HP\x01\0".as_slice(), &over].concat(), "1025 bytes"));
    // A seed with a byte behind it.
    let mut trailing = seed(1, KeyOrigin::Tpm);
    trailing.push(0);
    trailing[4] += 1;
    garbage.push((trailing, "HP-WR-006"));
    for (bytes, why) in garbage {
        let got = get(vec![Answer::Bytes(bytes), Answer::Bytes(seed(1, KeyOrigin::Tpm))]);
        expect_own_key(&got, why);
        assert_eq!(got.1, 1, "{why}: asked again");
    }
}

#[test]
fn silence_drips_and_later_for_ever_end_in_time() {
    let later = Answer::Bytes(to_vec(&SeedReply::Later).unwrap());
    for (answer, why) in [
        (later, "not yet"),
        (Answer::Silence, "timed out"),
        (Answer::Drip(seed(1, KeyOrigin::Tpm), 40), "timed out"),
        (Answer::Bytes(Vec::new()), "at last"),
    ] {
        let started = Instant::now();
        let got = get_within(SHORT, vec![answer]);
        expect_own_key(&got, why);
        let took = started.elapsed();
        assert!(took > SHORT.total / 2 && took < END_MAX, "{why}: {took:?}");
    }
}

#[test]
fn nobody_listens() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("attest");
    let own = |path: &Path| {
        let source = KeySource::Attest(path.into());
        (identity(&source, Waits::default(), &mut || {}).unwrap(), 1)
    };
    let started = Instant::now();
    expect_own_key(&own(&path), "No such file");
    drop(UnixListener::bind(&path).unwrap());
    let (first, second) = (own(&path), own(&path));
    expect_own_key(&first, "refused");
    assert_ne!(first.0.key.node(), second.0.key.node(), "drawn anew each time");
    assert!(started.elapsed() < Waits::default().total, "waits for nobody");
}

/// Others may fill the queue of a service that takes no connection.
#[test]
fn a_full_queue_of_connections_is_not_waited_for_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("attest");
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _others = UnixStream::connect(&path).unwrap();
    let started = Instant::now();
    let own = identity(&KeySource::Attest(path), SHORT, &mut || {}).unwrap();
    expect_own_key(&(own, 1), "timed out");
    assert!(started.elapsed() < END_MAX);
}

/// A service whose key comes from an `attest` that counts `counter` boots.
fn boot(home: &Path, counter: u64) -> Service {
    let later = Answer::Bytes(to_vec(&SeedReply::Later).unwrap());
    let path = attest(home, vec![later, Answer::Bytes(seed(counter, KeyOrigin::Tpm))]);
    Service::spawn(command_from(&home.join("state"), home, &path), home)
}

#[test]
fn the_counter_is_the_epoch_and_shows_what_went_back() {
    let home = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut life = |counter, epoch, told: Option<&str>| {
        let mut running = boot(home.path(), counter);
        let mut client = running.client();
        let got = head(&mut client);
        assert_eq!((got.epoch, got.key), (epoch, Some(KeyOrigin::Tpm)));
        assert_eq!(got.node, LedgerKey::from_seed(&SEED).node());
        number += 1;
        let reply = client.append(request_id(number, 1), &service(&format!("{number}"))).unwrap();
        assert!(matches!(reply, Reply::Appended { .. }));
        running.expect_log("chain verified");
        match told {
            Some(code) => assert!(running.text().contains(code), "{}", running.text()),
            None => assert!(!running.text().contains("HP-LD-0"), "{}", running.text()),
        }
        assert!(running.terminate().success());
        number
    };
    life(7, 7, Some("INFO HP-LD-044 epoch: the ledger is new and the TPM's boot counter is 7"));
    life(7, 7, Some("INFO HP-LD-044"));
    life(8, 8, None);
    life(5, 9, Some("ERROR HP-LD-043 epoch: the TPM's boot counter is 5, this ledger has seen 8"));
    life(12, 12, Some("WARN HP-LD-044 epoch: the TPM's boot counter is 12, the last one"));
    let blocks = life(13, 13, None);
    let (good, text) = verify_command(&home.path().join("state"));
    assert!(good && text.contains(&format!("blocks  {blocks} verified")), "{text}");
    assert_eq!(text.matches("epoch   ").count(), 5, "{text}");
}

#[test]
fn without_attest_it_records_under_a_key_of_its_own_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(home.path().join("n")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command =
        command_from(&home.path().join("state"), home.path(), &home.path().join("nobody"));
    command.env("NOTIFY_SOCKET", home.path().join("n"));
    let mut running = Service::spawn(command, home.path());
    let mut client = running.client();
    assert_eq!(head(&mut client).key, Some(KeyOrigin::Boot));
    let reply = client.append(request_id(1, 1), &service("x")).unwrap();
    assert!(matches!(reply, Reply::Appended { .. }));
    running.expect_log("WARN HP-LD-034 key: attest");
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.contains("READY=1") {
        let count = notify.recv(&mut buffer).unwrap();
        said += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    assert!(said.contains("EXTEND_TIMEOUT_USEC=50000000\nSTATUS=asking attest"), "{said}");
    assert!(said.contains("key boot"), "{said}");
    assert!(running.terminate().success());
}

/// The epochs of the rule before this one: a row per key, no marks.
#[test]
fn a_database_from_before_there_were_marks_opens_and_goes_on() {
    const MARKS: TableDefinition<'static, u64, &[u8; 24]> = TableDefinition::new("marks");
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    for key in 0..3 {
        let mut running = Service::start(&state, home.path());
        let mut client = running.client();
        client.append(request_id(key, 0), &service(&format!("old {key}"))).unwrap();
        assert!(running.terminate().success());
        std::fs::remove_file(home.path().join("seed")).unwrap();
    }
    let database = redb::Database::open(state.join("ledger.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(MARKS).unwrap(), "there were marks to take away");
    transaction.commit().unwrap();
    drop(database);
    let (good, text) = verify_command(&state);
    assert!(good && text.matches("epoch   ").count() == 3, "{text}");

    for (counter, epoch) in [(2, 4), (2, 4), (3, 5), (6, 6)] {
        let mut running = boot(home.path(), counter);
        let mut client = running.client();
        assert_eq!(head(&mut client).epoch, epoch, "{}", running.text());
        assert_eq!(all_records(&mut client).len(), 3);
        let misses = running.text().contains("WARN HP-LD-044");
        assert_eq!(misses, counter == 6, "{}", running.text());
        assert!(!running.text().contains("HP-LD-043"), "{}", running.text());
        assert!(running.terminate().success());
    }
}
