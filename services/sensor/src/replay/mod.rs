//! `hookprobe-sensor replay`: captures through the same core as the live sensor.
//!
//! Time is the capture's own; nothing here reads a clock except for the progress line. A capture
//! is hostile: see [`capture`]. `main` and `tests/fuzz` call it.

pub mod capture;
pub mod eve;
pub mod flows;
pub mod packet;

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hookprobe_abi::Record;
use thiserror::Error;

use self::{
    capture::{CaptureError, Packet},
    flows::Flows,
    packet::Parsed,
};
use crate::core::{Core, Effect};

/// Time that passes after the last packet, so that every wait of a detector ends. One minute:
/// longer than any of them.
const AFTER_LAST_NS: u64 = 60_000_000_000;
/// How often the progress line is drawn. 500 ms: twice a second is what a serial console bears.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// Packets between two looks at the clock, to keep it cheap.
const PROGRESS_PACKETS: u64 = 8192;

/// Why a replay ended early.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The capture can't be opened.
    #[error("HP-SN-047 {path}: can't be opened; check the name and its permissions")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The capture can't be read (on).
    #[error("{source} ({path})")]
    Capture {
        /// Which file.
        path: PathBuf,
        /// Why; with its own code.
        source: CaptureError,
    },
    /// The output can't be written.
    #[error("HP-SN-048 {path}: can't be written; is the disk full?")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a replay saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Packets that are neither IPv4 nor IPv6, or of a link type that is not read.
    pub other: u64,
    /// Packets with headers that are cut short or contradict themselves.
    pub malformed: u64,
    /// Records that the eBPF programs would have sent.
    pub records: u64,
    /// Conversations written out.
    pub flows: u64,
    /// Alerts.
    pub alerts: u64,
    /// Time of the first packet.
    pub first_ns: Option<u64>,
    /// Time of the last packet.
    pub last_ns: u64,
}

/// Packets in, EVE lines out.
pub struct Replay<W: Write> {
    core: Core,
    flows: Flows,
    effects: Vec<Effect>,
    summary: Summary,
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Replay<W> {
    /// Writes EVE lines to `out`.
    pub fn new(out: W) -> Self {
        Self {
            core: Core::new(),
            flows: Flows::default(),
            effects: Vec::new(),
            summary: Summary::default(),
            out,
            failed: None,
        }
    }

    /// Takes one packet.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        self.summary.packets += 1;
        self.summary.first_ns.get_or_insert(packet.time_ns);
        self.summary.last_ns = self.summary.last_ns.max(packet.time_ns);
        let observed = match packet::parse(packet) {
            Parsed::Other => {
                self.summary.other += 1;
                return;
            }
            Parsed::Malformed => {
                self.summary.malformed += 1;
                return;
            }
            Parsed::Ip(observed) => observed,
        };
        let (is_new, evicted) = self.flows.observe(packet.time_ns, &observed);
        if let Some(flow) = evicted {
            self.summary.flows += 1;
            self.line(&eve::flow(&flow));
        }
        if let Some(record) = observed.record {
            self.record(&record);
        } else if is_new && let Some(record) = observed.first_of_flow(packet) {
            self.record(&record);
        }
    }

    /// Ends every wait and writes every conversation; to be called after a capture that the next
    /// one does not continue.
    pub fn finish(&mut self) {
        let end_ns = self.summary.last_ns.saturating_add(AFTER_LAST_NS);
        self.core.tick(end_ns, &mut self.effects);
        self.write_effects();
        while let Some(flow) = self.flows.pop() {
            self.summary.flows += 1;
            self.line(&eve::flow(&flow));
        }
        if let Err(error) = self.out.flush() {
            self.failed.get_or_insert(error);
        }
        self.core = Core::new();
    }

    /// What was seen so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn record(&mut self, record: &Record) {
        self.summary.records += 1;
        self.core.handle(record.time_ns, record, &mut self.effects);
        self.write_effects();
    }

    fn write_effects(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Alert(finding) => {
                    self.summary.alerts += 1;
                    self.line(&eve::alert(&finding));
                }
            }
        }
    }

    fn line(&mut self, line: &str) {
        if self.failed.is_none()
            && let Err(error) = writeln!(self.out, "{line}")
        {
            self.failed = Some(error);
        }
    }
}

/// Replays the bytes of one capture.
///
/// # Errors
/// Any [`CaptureError`]; what came before it is in the summary.
pub fn replay_bytes(bytes: &[u8]) -> (Summary, Result<(), CaptureError>) {
    let mut replay = Replay::new(io::sink());
    let read = capture::read(bytes, |packet, _| replay.packet(packet));
    replay.finish();
    (replay.summary, read.map(|_| ()))
}

/// Entry for fuzzers: any bytes through capture reader, packet parser, core and EVE writer.
pub fn fuzz_capture(bytes: &[u8]) {
    let _ = replay_bytes(bytes);
}

/// Replays files in order; EVE lines go to `eve` (`-` is standard output).
///
/// A file whose first packet is older than the last one of the file before starts with an empty
/// core; otherwise it continues.
///
/// # Errors
/// Any [`ReplayError`]; lines that were written before it stay.
pub fn run(files: &[PathBuf], eve: &Path) -> Result<Summary, ReplayError> {
    let write_error = |source| ReplayError::Write { path: eve.into(), source };
    let out: Box<dyn Write> = if eve == Path::new("-") {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(eve).map_err(write_error)?)
    };
    let mut replay = Replay::new(BufWriter::new(out));
    let mut result = Ok(());
    for path in files {
        result = file(&mut replay, path);
        if result.is_err() {
            break;
        }
    }
    replay.finish();
    match replay.failed.take() {
        Some(source) => Err(write_error(source)),
        None => result.map(|()| replay.summary),
    }
}

fn file<W: Write>(replay: &mut Replay<W>, path: &Path) -> Result<(), ReplayError> {
    let open_error = |source| ReplayError::Open { path: path.into(), source };
    let input = File::open(path).map_err(open_error)?;
    let mut progress = Progress::new(path, input.metadata().map_or(0, |meta| meta.len()));
    let before_ns = replay.summary.last_ns;
    let mut is_first = true;
    let read = capture::read(Box::new(input) as Box<dyn Read + Send>, |packet, bytes| {
        if std::mem::take(&mut is_first) && packet.time_ns < before_ns {
            replay.finish();
        }
        replay.packet(packet);
        progress.show(bytes);
    });
    progress.clear();
    read.map(|_| ()).map_err(|source| ReplayError::Capture { path: path.into(), source })
}

/// One line on a terminal, nothing elsewhere.
struct Progress {
    name: String,
    bytes_total: u64,
    packets: u64,
    drawn: Option<Instant>,
    is_drawn: bool,
}

impl Progress {
    fn new(path: &Path, bytes_total: u64) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: hookprobe_wire::text::escape(&name.to_string_lossy(), 40),
            bytes_total,
            packets: 0,
            drawn: io::stderr().is_terminal().then(Instant::now),
            is_drawn: false,
        }
    }

    fn show(&mut self, bytes: u64) {
        self.packets += 1;
        let Some(drawn) = self.drawn else {
            return;
        };
        if !self.packets.is_multiple_of(PROGRESS_PACKETS) || drawn.elapsed() < PROGRESS_PERIOD {
            return;
        }
        self.drawn = Some(Instant::now());
        self.is_drawn = true;
        let percent = bytes.saturating_mul(100) / self.bytes_total.max(1);
        // A progress line that can't be drawn is no reason to stop.
        let _ = write!(io::stderr(), "\r{}: {} packets, {percent} %", self.name, self.packets);
    }

    fn clear(&self) {
        if self.is_drawn {
            let _ = writeln!(io::stderr());
        }
    }
}
