//! `hookprobe-sensor replay`: captures through the same engine, rules and detectors as the live
//! sensor.
//!
//! ```text
//! capture -> frames -> traffic engine -> rules, behaviour -> EVE lines, Zeek logs
//!         -> records that the eBPF programs would have sent -> core (scan.trw) -> EVE lines
//! ```
//!
//! Time is the capture's own; nothing here reads a clock except for the progress line. A capture
//! is hostile: see [`capture`]. `main` and `tests/fuzz` call it.

pub mod capture;
pub mod options;
pub mod packet;
pub mod pipeline;
mod progress;
mod summary;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use hookprobe_abi::Record;
use hookprobe_traffic::{
    engine::Engine,
    packet::{Frame, Link},
};
use thiserror::Error;

use self::{
    capture::{CaptureError, Packet},
    packet::Parsed,
    pipeline::Pipeline,
    progress::Progress,
};
pub use self::{options::Options, summary::Summary};
use crate::{
    core::{Core, Effect},
    outputs::eve,
};

/// Time that passes after the last packet, so that every wait of a detector ends. One minute:
/// longer than any of them.
const AFTER_LAST_NS: u64 = 60_000_000_000;

/// Bytes of a capture in which senders are looked for that leave checksums to their network card: room
/// for the packets that the engine wants to see.
const SAMPLE_BYTES_MAX: u64 = 1 << 20;

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
    /// An output can't be written.
    #[error("HP-SN-048 {path}: can't be written; is the disk full?")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of rules or settings can't be read.
    #[error("HP-SN-034 {path}: can't be read; check the name and its permissions")]
    Rules {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings are no YAML.
    #[error("HP-SN-035 {path}: {why}; it is read as suricata.yaml")]
    Config {
        /// Which file.
        path: PathBuf,
        /// Line and cause.
        why: String,
    },
    /// A setting without a value.
    #[error("HP-SN-095 --set {setting}: no value; write KEY=VALUE, keys with dots between")]
    Set {
        /// What was given.
        setting: String,
    },
    /// There is no such event.
    #[error("HP-SN-049 {name}: no type of event; one or more of {}", eve::Types::ALL.join(", "))]
    Type {
        /// What was asked for.
        name: String,
    },
}

/// Packets in, EVE lines and logs out.
pub struct Replay<W: Write> {
    engine: Engine,
    pipeline: Pipeline<W>,
    core: Core,
    effects: Vec<Effect>,
    summary: Summary,
    is_rules_only: bool,
}

impl<W: Write> Replay<W> {
    /// Writes EVE lines of every type to `out`.
    pub fn new(out: W) -> Self {
        let writer = eve::Writer::new(out, eve::Settings::default());
        Self::with(Engine::new(options::engine(true)), Pipeline::new(None, Some(writer), None))
    }

    /// With an engine and what looks at its packets.
    #[must_use]
    pub fn with(engine: Engine, pipeline: Pipeline<W>) -> Self {
        Self {
            engine,
            pipeline,
            core: Core::new(),
            effects: Vec::new(),
            summary: Summary::default(),
            is_rules_only: false,
        }
    }

    /// Leaves out everything but the rules: to see what they cost alone.
    pub const fn only_rules(&mut self) {
        self.is_rules_only = true;
        self.pipeline.only_rules();
    }

    /// Takes one packet.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        self.summary.packets += 1;
        self.summary.bytes += u64::from(packet.wire_bytes);
        self.summary.first_ns.get_or_insert(packet.time_ns);
        self.summary.last_ns = self.summary.last_ns.max(packet.time_ns);
        let is_new = self.engine(packet);
        if self.is_rules_only {
            return;
        }
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
        if let Some(record) = observed.record {
            self.record(&record);
        } else if is_new && let Some(record) = observed.first_of_flow(packet) {
            self.record(&record);
        }
    }

    /// Shows the engine a packet of the beginning of a capture, before any counts.
    fn sample(&mut self, packet: &Packet<'_>) {
        if let Some(frame) = frame(packet) {
            self.engine.sample(&frame);
        }
    }

    /// Through the engine; whether it was the first packet of its direction in its flow.
    fn engine(&mut self, packet: &Packet<'_>) -> bool {
        let Some(frame) = frame(packet) else {
            return false;
        };
        self.pipeline.is_new = false;
        self.engine.handle(frame, &mut self.pipeline);
        self.pipeline.is_new
    }

    /// Ends every wait and every flow; to be called after a capture that the next one does not
    /// continue.
    pub fn finish(&mut self) {
        let end_ns = self.summary.last_ns.saturating_add(AFTER_LAST_NS);
        self.core.tick(end_ns, &mut self.effects);
        self.write_effects();
        self.engine.finish(&mut self.pipeline);
        self.pipeline.finish();
        // Before the detectors forget: their numbers are those since they began.
        self.summary.groups = vec![
            ("engine", self.engine.counters().iter().collect()),
            ("core", self.core.counters()),
        ];
        self.summary.groups.extend(self.pipeline.counters());
        self.pipeline.forget();
        self.core = Core::new();
        self.summary.flows = self.pipeline.flows;
        self.summary.alerts = self.pipeline.alerts();
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
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Alert(finding) => self.pipeline.core_finding(&finding),
            }
        }
    }

    /// Ends every output.
    fn close(self, options: &Options) -> Result<Summary, ReplayError> {
        self.pipeline.close(self.summary.last_ns, &self.summary.groups, options)?;
        Ok(self.summary)
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

/// Entry for fuzzers: any bytes through capture reader, engine, core and EVE writer.
pub fn fuzz_capture(bytes: &[u8]) {
    let _ = replay_bytes(bytes);
}

/// Replays files in order.
///
/// A file whose first packet is older than the last one of the file before starts with empty
/// detectors; otherwise it continues.
///
/// # Errors
/// Any [`ReplayError`]; what was written before it stays.
pub fn run(options: &Options) -> Result<Summary, ReplayError> {
    let mut replay = options.open()?;
    let mut result = Ok(());
    for path in &options.files {
        result = file(&mut replay, path);
        if result.is_err() {
            break;
        }
    }
    replay.finish();
    let summary = replay.close(options)?;
    result.map(|()| summary)
}

/// A packet as the engine takes it, if it reads such links.
fn frame<'a>(packet: &Packet<'a>) -> Option<Frame<'a>> {
    let number = u32::try_from(packet.link.0).unwrap_or(u32::MAX);
    let link = Link::from_linktype(number)?;
    let (time_ns, wire_bytes) = (packet.time_ns, packet.wire_bytes);
    Some(Frame { time_ns, wire_bytes, link, bytes: packet.data })
}

fn file<W: Write>(replay: &mut Replay<W>, path: &Path) -> Result<(), ReplayError> {
    let open_error = |source| ReplayError::Open { path: path.into(), source };
    let input = File::open(path).map_err(open_error)?;
    if path.is_file() {
        let begin = File::open(path).map_err(open_error)?.take(SAMPLE_BYTES_MAX);
        // It breaks off in a packet; what is wrong with the file is told below.
        let _ = capture::read(Box::new(begin) as Box<dyn Read + Send>, |packet, _| {
            replay.sample(packet);
        });
    }
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
