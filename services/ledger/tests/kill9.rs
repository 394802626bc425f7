//! `kill -9` of the real service at random moments, with several writers, hundreds of times.
//!
//! Writers ask again with the same id until they are told. In the end every acknowledged append is
//! in the ledger exactly once, at the place that the writer was told, in the writer's order, and
//! the chain verifies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hookprobe_ledger::client::Client;
use hookprobe_wire::{Event, Hash, Seq, ledger::Reply};
use support::{Random, Service, all_records, request_id, seed, service, verify_command};

const KILLS: u64 = 300;
/// A new directory after so many kills: the chain, and so the start, stays short.
const KILLS_PER_LEDGER: u64 = 20;
const WRITERS: u64 = 4;
/// Latest moment of a kill after the start; some hit the start itself.
const DELAY_MS_MAX: u64 = 160;

/// What one writer was told: place and hash of its appends, in order.
type Told = Vec<(Seq, Hash)>;

/// How many appends were acknowledged, by all writers.
static ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

fn write(socket: &Path, writer: u64, mut told: Told, stop: &AtomicBool) -> Told {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(socket) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let number = told.len() as u64;
            let event = service(&format!("writer {writer} number {number}"));
            match client.append(request_id(writer, number), &event) {
                Ok(Reply::Appended { seq, hash, .. }) => {
                    told.push((seq, hash));
                    ACKNOWLEDGED.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) | Err(_) => break,
            }
        }
    }
    told
}

fn campaign(random: &mut Random, kills: u64) -> u64 {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let mut told: Vec<Told> = vec![Told::new(); WRITERS as usize];
    let mut log = String::new();
    for kill in 0..kills {
        let before = ACKNOWLEDGED.load(Ordering::Relaxed);
        let running = Service::start(&dir, home.path());
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = told
            .drain(..)
            .enumerate()
            .map(|(writer, told)| {
                let (socket, stop) = (running.socket.clone(), Arc::clone(&stop));
                thread::spawn(move || write(&socket, writer as u64, told, &stop))
            })
            .collect();
        if kill % 4 == 0 {
            // On a slow machine all the others come before anything was acknowledged.
            let begun = Instant::now();
            while ACKNOWLEDGED.load(Ordering::Relaxed) < before + 8 {
                assert!(begun.elapsed() < Duration::from_secs(60), "{}", running.text());
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_millis(random.below(DELAY_MS_MAX)));
        log += &running.text();
        log.push('\n');
        running.kill();
        stop.store(true, Ordering::Relaxed);
        told.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
    }
    let mut running = Service::start(&dir, home.path());
    let records = all_records(&mut running.client());
    check(&records, &told);
    assert!(running.terminate().success(), "{}", running.text());
    let (good, text) = verify_command(&dir);
    assert!(good, "{text}");
    assert!(support::damaged_files(&dir).is_empty(), "{log}");
    told.iter().map(|told| told.len() as u64).sum()
}

fn check(records: &[hookprobe_wire::ledger::Record], told: &[Told]) {
    let mut places: HashMap<String, Seq> = HashMap::new();
    for record in records {
        let Some(Event::Service(change)) = record.event() else { panic!("no event in {record:?}") };
        let before = places.insert(change.detail.clone(), record.block.header.seq);
        assert!(before.is_none(), "twice: {}", change.detail);
    }
    for (writer, told) in told.iter().enumerate() {
        for (number, (seq, hash)) in told.iter().enumerate() {
            let name = format!("writer {writer} number {number}");
            assert_eq!(places.get(&name), Some(seq), "acknowledged: {name}");
            assert_eq!(records[seq.0 as usize].hash, *hash, "{name}");
        }
        assert!(told.is_sorted_by(|a, b| a.0 < b.0), "writer {writer} out of order");
    }
}

#[test]
fn kill_9_at_random_moments_loses_and_doubles_nothing() {
    let seed = seed("kill9");
    let mut random = Random(seed);
    let (mut kills, mut acknowledged) = (0, 0);
    while kills < KILLS {
        acknowledged += campaign(&mut random, KILLS_PER_LEDGER);
        kills += KILLS_PER_LEDGER;
    }
    println!("kill9: {kills} kills, {acknowledged} acknowledged appends, HP_SEED={seed}");
    assert!(acknowledged > kills, "the writers hardly got anything in");
}
