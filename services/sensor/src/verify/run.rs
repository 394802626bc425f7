//! One test: its capture through engine, rules and outputs, then its checks.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use hookprobe_rules::{Config, Detector, Mode, Ruleset, config, yaml::Node};
use hookprobe_traffic::{
    engine::Engine,
    packet::{Frame, Link},
};
use serde_json::Value;

use super::{Outcome, case::Case, expect};
use crate::{
    outputs::eve::{Parts, Settings, Writer},
    replay::{capture, pipeline::Pipeline},
};

/// Lines of the writer, held in memory.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the test in `folder`: its outcome, and how many checks could not be made.
pub(super) fn test(folder: &Path) -> (Outcome, usize) {
    let case = match Case::read(folder) {
        Ok(case) => case,
        Err(why) => return (Outcome::Fail(why), 0),
    };
    if let Some(why) = Case::refusal(case.description.get("requires")) {
        return (Outcome::Skip(why), 0);
    }
    let events = match events(&case) {
        Ok(events) => events,
        Err(why) => return (Outcome::Fail(why), 0),
    };
    checks(&case, &events)
}

fn checks(case: &Case, events: &[Value]) -> (Outcome, usize) {
    let mut skipped = 0;
    let mut failed: Option<(String, usize)> = None;
    let checks = case.description.get("checks").map(Node::items).unwrap_or_default();
    for check in checks {
        let Some(filter) = check.get("filter") else {
            skipped += 1;
            continue;
        };
        let is_other =
            filter.get("filename").and_then(Node::text).is_some_and(|name| name != "eve.json");
        let requires = filter.get("requires").or_else(|| check.get("requires"));
        if is_other || Case::refusal(requires).is_some() {
            skipped += 1;
            continue;
        }
        let Some(wanted) = filter.get("match") else { continue };
        let is_stats = wanted.get("event_type").and_then(Node::text) == Some("stats");
        if is_stats {
            // Counters have our names.
            skipped += 1;
            continue;
        }
        let count: usize = filter
            .get("count")
            .and_then(Node::text)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let found = events.iter().filter(|event| expect::fits(event, wanted)).count();
        if found != count {
            let why = || (format!("{found} events instead of {count} for {wanted}"), 0);
            failed.get_or_insert_with(why).1 += 1;
        }
    }
    let outcome = match failed {
        None => Outcome::Pass,
        Some((why, 1)) => Outcome::Fail(why),
        Some((why, checks)) => Outcome::Fail(format!("{why}; {} more checks", checks - 1)),
    };
    (outcome, skipped)
}

fn events(case: &Case) -> Result<Vec<Value>, String> {
    let capture = case.capture().ok_or("no capture")?;
    let mut settings = config::traffic(&case.config, case.is_ips);
    settings.stream.is_checksum_validated &= case.has_checksums;
    settings.seed = 1;
    case.faults.apply(&mut settings);
    let mut judge = judge(case);
    let mut engine = Engine::new(settings);
    let file = File::open(&capture).map_err(|error| format!("{}: {error}", capture.display()))?;
    let result = capture::read(file, |packet, _| {
        let number = u32::try_from(packet.link.0).unwrap_or(u32::MAX);
        let Some(link) = Link::from_linktype(number) else { return };
        if case.port.is_some_and(|port| !has_port(packet.data, port)) {
            return;
        }
        let frame = Frame {
            time_ns: packet.time_ns,
            wire_bytes: packet.wire_bytes,
            link,
            bytes: packet.data,
        };
        engine.handle(frame, &mut judge);
    });
    engine.finish(&mut judge);
    match result {
        Ok(_) | Err(capture::CaptureError::Truncated { .. }) => Ok(parsed(judge)),
        Err(error) => Err(error.to_string()),
    }
}

/// TCP or UDP over IPv4 over Ethernet with this port.
fn has_port(data: &[u8], port: u16) -> bool {
    let header = data.get(14).map_or(0, |byte| usize::from(byte & 15) * 4);
    let word = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    word(14 + header) == Some(port) || word(16 + header) == Some(port)
}

/// Rules and outputs of one test.
fn judge(case: &Case) -> Pipeline<Lines> {
    let mut settings = Config::from_yaml(&case.config);
    if settings.variables.is_empty() {
        settings.variables = Config::shipped_variables();
    }
    if !case.has_config {
        settings.body_bytes_min = Config::default().body_bytes_min;
    }
    settings.is_body_inline = case.is_ips;
    settings.is_ips = case.is_ips;
    settings.read_exceptions(&case.config, case.is_ips);
    let raw = "eve-log.types.alert.metadata.rule.raw";
    let output = case.config.get("outputs");
    settings.is_text_kept =
        output.and_then(|output| output.path(raw)).and_then(Node::switch).unwrap_or(false);
    settings.files = case.files().into_iter().collect();
    let named = case.config.get("threshold-file").and_then(Node::text).map(str::to_owned);
    let thresholds = named
        .and_then(|path| std::fs::read_to_string(path).ok())
        .or_else(|| std::fs::read_to_string(case.folder.join("threshold.config")).ok());
    if let Some(text) = thresholds {
        settings.read_thresholds(&text);
    }
    if let Ok(text) = std::fs::read_to_string(case.folder.join("classification.config")) {
        settings.read_classes(&text);
    }
    let rules = case.rules();
    let pairs: Vec<(&str, &str)> =
        rules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (ruleset, sets) = Ruleset::new(&pairs, settings);
    for problem in &ruleset.problems {
        tracing::debug!(line = problem.line, error = %problem.error, "rule did not load");
    }
    let mode = if case.is_ips { Mode::Inline } else { Mode::Passive };
    let mut eve = Settings::from_yaml(&case.config)
        .unwrap_or_else(|| Settings { parts: Parts::all(), ..Settings::default() });
    eve.details.dns_version = case.dns_version;
    eve.made(&case.config, rules.iter().map(|(_, text)| text.as_str()));
    let writer = Writer::new(Lines::default(), eve);
    let detector = Detector::new(Arc::new(ruleset), sets, mode);
    let mut pipeline = Pipeline::new(Some(detector), Some(writer), None);
    pipeline.only_rules();
    pipeline
}

/// The events that were written.
fn parsed(judge: Pipeline<Lines>) -> Vec<Value> {
    let lines = judge.into_eve().unwrap_or_default();
    let text = lines.0.borrow();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
