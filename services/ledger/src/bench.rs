//! `hookprobe-ledger bench`: appends over the real socket beside the bare disk.
//!
//! Three measurements take turns for several rounds on the same disk: a plain 512-byte write and
//! fdatasync, one writer, 64 writers. Absolute numbers say little on a shared machine; the ratio
//! to the bare disk of the same run does.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hookprobe_wire::{
    Event,
    event::ServiceChange,
    ledger::{Reply, Request, RequestId},
};
use thiserror::Error;

use crate::{
    client::{Client, ClientError},
    key::fill_random,
};

/// Rounds; the median of five is not moved by one bad round.
const ROUNDS: u32 = 5;
/// Measurements in a round.
const KINDS: u32 = 3;
/// Writers of the parallel measurement.
const WRITERS: usize = 64;
/// How long the service may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Files or the child process.
    #[error("bench: {0}; is the directory writable?")]
    Io(#[from] io::Error),
    /// The service.
    #[error("bench: {0}")]
    Client(#[from] ClientError),
    /// The service did not do what was asked.
    #[error("bench: unexpected answer {0}")]
    Answer(String),
    /// A writer thread ended early.
    #[error("bench: a writer ended early")]
    Writer,
}

/// Times of one measurement in one round.
struct Sample {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Measures for about `seconds` and returns the table.
///
/// # Errors
/// Any [`BenchError`].
pub fn run(dir: &Path, seconds: u64) -> Result<String, BenchError> {
    let work = dir.join(format!("hookprobe-bench-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let result = measure(&work, seconds);
    fs::remove_dir_all(&work)?;
    result
}

/// Ends the service however the measurement ended.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(work: &Path, seconds: u64) -> Result<String, BenchError> {
    let socket = work.join("s");
    let uid = rustix::process::geteuid().as_raw();
    let _service = Service(
        Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--dir")
            .arg(work.join("state"))
            .arg("--key")
            .arg(work.join("seed"))
            .arg("--socket")
            .arg(&socket)
            .args(["--allow-uid", &uid.to_string()])
            .env_remove("LISTEN_FDS")
            .env_remove("NOTIFY_SOCKET")
            .stderr(Stdio::null())
            .spawn()?,
    );
    wait_for(&socket)?;
    let slice = Duration::from_secs(seconds.max(3)) / (ROUNDS * KINDS);
    let (mut disk, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        disk.push(bare_disk(&work.join("bare"), slice)?);
        one.push(writers(&socket, 1, slice)?);
        many.push(writers(&socket, WRITERS, slice)?);
    }
    Ok(table(&disk, &one, &many))
}

fn wait_for(socket: &Path) -> Result<(), BenchError> {
    let started = Instant::now();
    loop {
        match Client::connect(socket) {
            Ok(mut client) => {
                client.send(&Request::Head)?;
                client.receive()?;
                return Ok(());
            }
            Err(error) if started.elapsed() > START_TIMEOUT => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// 512 bytes written over and over into a file that has its size, each followed by fdatasync: the
/// least that one durable append can cost.
fn bare_disk(path: &PathBuf, slice: Duration) -> Result<Sample, BenchError> {
    const SLOTS: u64 = 2048;
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let block = [0x5a; 512];
    for slot in 0..SLOTS {
        file.write_all_at(&block, slot * 512)?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < slice {
        let begin = Instant::now();
        file.write_all_at(&block, (times.len() as u64 % SLOTS) * 512)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    Ok(sample(times, started.elapsed()))
}

fn writers(socket: &Path, count: usize, slice: Duration) -> Result<Sample, BenchError> {
    let started = Instant::now();
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let socket = socket.to_owned();
            thread::spawn(move || writer(&socket, slice))
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| BenchError::Writer)??);
    }
    Ok(sample(times, started.elapsed()))
}

fn writer(socket: &Path, slice: Duration) -> Result<Vec<Duration>, BenchError> {
    let mut client = Client::connect(socket)?;
    let event = Event::Service(ServiceChange {
        service: "bench".into(),
        change: "started".into(),
        detail: "x".repeat(160),
    });
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < slice {
        let mut id = [0; 16];
        fill_random(&mut id)?;
        let begin = Instant::now();
        match client.append(RequestId(id.into()), &event)? {
            Reply::Appended { .. } => times.push(begin.elapsed()),
            other => return Err(BenchError::Answer(format!("{other:?}"))),
        }
    }
    Ok(times)
}

fn sample(mut times: Vec<Duration>, elapsed: Duration) -> Sample {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Sample {
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50_us: at(50),
        p99_us: at(99),
    }
}

fn table(disk: &[Sample], one: &[Sample], many: &[Sample]) -> String {
    let rate = |samples: &[Sample]| spread(samples.iter().map(|sample| sample.per_second));
    let (bare, ..) = rate(disk);
    let mut out = format!(
        "{:<28} {:>9} {:>19} {:>9} {:>9} {:>7}\n",
        "median of 5 rounds", "per s", "min..max", "p50 us", "p99 us", "ratio"
    );
    for (name, samples) in
        [("512 B write + fdatasync", disk), ("append, 1 writer", one), ("append, 64 writers", many)]
    {
        let (median, low, high) = rate(samples);
        let (p50, ..) = spread(samples.iter().map(|sample| sample.p50_us));
        let (p99, ..) = spread(samples.iter().map(|sample| sample.p99_us));
        out.push_str(&format!(
            "{name:<28} {median:>9.0} {:>19} {p50:>9.0} {p99:>9.0} {:>7.2}\n",
            format!("{low:.0}..{high:.0}"),
            median / bare
        ));
    }
    out
}

/// Median, least, most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}
