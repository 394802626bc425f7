//! `hookprobe-sensor model-eval`: how good the model of minutes is on captures whose truth is known.
//!
//! Called by `main`. Reads captures through the same engine as `replay`; the arithmetic is in
//! `hookprobe_behaviour::model::evaluate`. A file of labels says what each capture is:
//!
//! ```text
//! # path<TAB>attack or harmless[<TAB>address of the device]
//! ndpi/synscan.pcap<TAB>attack<TAB>172.16.0.8
//! ```
//!
//! With an address only the minutes of that device count, and it is one of ours whatever its
//! network; without, those of every device of ours.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use hookprobe_behaviour::{
    Finding, Networks, Observation, Seed, TimeNs,
    model::{
        evaluate::{Case, held_out},
        features::Minute,
        forest::ForestSeed,
        minutes::{DeviceMinute, Minutes, Night},
    },
    network::Prefix,
    traffic::{Facts, Glue},
};
use hookprobe_traffic::{
    engine::Engine,
    packet::{Frame, Link},
};
use thiserror::Error;

use crate::replay::{capture, options};

/// Waits of the engine end once a second, as in `replay`.
const TICK_NS: u64 = 1_000_000_000;
/// Captures are of any time of the day, so none of it is night.
const NO_NIGHT: Night = Night { from: 0, until: 0 };
/// Forests that are tried: what holds for one seed only is luck.
const SEEDS: u64 = 5;

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum ModelEvalError {
    /// A file.
    #[error("HP-SN-090 model-eval: {0}: can't be read; check the path")]
    Read(PathBuf, #[source] io::Error),
    /// The labels.
    #[error("HP-SN-091 model-eval: {0}:{1}: not `path<TAB>attack|harmless[<TAB>address]`")]
    Label(PathBuf, usize),
    /// Output.
    #[error("HP-SN-092 model-eval: figures can't be written")]
    Output(#[from] io::Error),
}

/// One line of the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    path: PathBuf,
    is_attack: bool,
    device: Option<IpAddr>,
}

/// Prints precision, recall and what was told of each capture.
///
/// # Errors
/// [`ModelEvalError`].
pub fn run(labels: &Path, root: Option<&Path>) -> Result<(), ModelEvalError> {
    let text =
        fs::read_to_string(labels).map_err(|error| ModelEvalError::Read(labels.into(), error))?;
    let root = root.or(labels.parent()).unwrap_or(Path::new(""));
    let (mut known, mut cases) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || ModelEvalError::Label(labels.into(), at + 1);
        let label = label(line).ok_or_else(wrong)?;
        let minutes = minutes(&root.join(&label.path), label.device)?;
        cases.push(Case { minutes, is_attack: label.is_attack });
        known.push(label);
    }
    let mut out = io::stdout().lock();
    for seed in 1..=SEEDS {
        let (figures, told) = held_out(&cases, ForestSeed(seed));
        if seed == 1 {
            for (label, (hits, all)) in known.iter().zip(told) {
                let kind = if label.is_attack { "attack" } else { "harmless" };
                writeln!(
                    out,
                    "{kind:<9} {hits:>4} of {all:>4} minutes told  {}",
                    label.path.display()
                )?;
            }
        }
        writeln!(out, "seed {seed}: {figures}")?;
    }
    Ok(())
}

fn label(line: &str) -> Option<Label> {
    let mut fields = line.split('\t');
    let path = PathBuf::from(fields.next()?);
    let is_attack = match fields.next()? {
        "attack" => true,
        "harmless" => false,
        _ => return None,
    };
    let device = match fields.next() {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    fields.next().is_none().then_some(Label { path, is_attack, device })
}

/// Counts the minutes of devices and nothing else.
struct Counting {
    minutes: Minutes,
    networks: Networks,
    ended: Vec<DeviceMinute>,
}

impl Facts for Counting {
    fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, _out: &mut Vec<Finding>) {
        self.minutes.handle(now_ns, fact, &self.networks, &mut self.ended);
    }

    fn tick(&mut self, now_ns: TimeNs, _out: &mut Vec<Finding>) {
        self.minutes.tick(now_ns, &mut self.ended);
    }

    fn finish(&mut self, _out: &mut Vec<Finding>) {
        self.minutes.finish(&mut self.ended);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("minutes_evicted", self.minutes.evicted())]
    }
}

/// Minutes of the devices of one capture.
fn minutes(path: &Path, device: Option<IpAddr>) -> Result<Vec<Minute>, ModelEvalError> {
    let file = File::open(path).map_err(|error| ModelEvalError::Read(path.into(), error))?;
    let networks = Networks::with(
        device.map(|address| Prefix { address, length: if address.is_ipv4() { 32 } else { 128 } }),
    );
    let minutes = Minutes::new(Seed::default(), NO_NIGHT);
    let mut glue = Glue::new(Counting { minutes, networks, ended: Vec::new() });
    // Checksums of captures that a sender made of itself are not there yet.
    let mut engine = Engine::new(options::engine(false));
    let mut ticked_ns = 0;
    let read = capture::read(Box::new(file) as Box<dyn Read + Send>, |packet, _| {
        if packet.time_ns >= ticked_ns + TICK_NS {
            ticked_ns = packet.time_ns;
            engine.tick(ticked_ns, &mut glue);
            glue.tick(ticked_ns);
        }
        let link = u32::try_from(packet.link.0).ok().and_then(Link::from_linktype);
        if let Some(link) = link {
            let (time_ns, wire_bytes) = (packet.time_ns, packet.wire_bytes);
            engine.handle(Frame { time_ns, wire_bytes, link, bytes: packet.data }, &mut glue);
        }
    });
    if let Err(error) = read {
        // What came before is used, as in `replay`.
        eprintln!("WARN {}: {error}", path.display());
    }
    engine.finish(&mut glue);
    glue.finish();
    let ended = &glue.facts().ended;
    let is_meant = |address: IpAddr| device.is_none_or(|device| device == address);
    Ok(ended.iter().filter(|ended| is_meant(ended.device)).map(|ended| ended.minute).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let read = label("a/b.pcap\tattack\t10.0.0.1").unwrap();
        assert_eq!(read.path, Path::new("a/b.pcap"));
        assert_eq!((read.is_attack, read.device), (true, "10.0.0.1".parse().ok()));
        assert_eq!(label("a\tharmless").map(|label| label.is_attack), Some(false));
        for wrong in ["", "a", "a\tmaybe", "a\tattack\tx", "a\tattack\t10.0.0.1\t"] {
            assert_eq!(label(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.tsv");
        let code = |file: &Path| run(file, None).unwrap_err().to_string()[..9].to_owned();
        assert_eq!(code(&file), "HP-SN-090");
        fs::write(&file, "# nothing\nx\tperhaps\n").unwrap();
        assert_eq!(code(&file), "HP-SN-091");
        fs::write(&file, "absent.pcap\tattack\n").unwrap();
        assert_eq!(code(&file), "HP-SN-090");
    }
}
