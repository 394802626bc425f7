//! Details as rows of text: what Enter shows, and the two screens that are nothing but text.
//!
//! Pure. Labels stand in a column of their own; long values are wrapped, never cut: a detail is
//! where everything is said.

mod identity;

use hookprobe_wire::{
    Hash,
    control::{ErrandState, PcrValue, Service},
    event::{Alert, Event, Severity},
    response::Active,
    sensor::Flow,
};

use crate::{
    format::{self, date_time, duration},
    history::{Entry, Link},
    look::{Line, Mark},
    model::{Model, Source},
    table,
    ui::{Pane, Screen},
};

/// Cells of the column of labels.
const LABEL: usize = 12;

/// Said of PID 1's measurements: nobody looked at them yet.
pub const SELF_MEASURED: &str = "self-measured, not verified by a peer";

/// Rows of text of one width.
struct Text {
    width: usize,
    lines: Vec<Line>,
}

impl Text {
    fn new(width: u16) -> Self {
        Self { width: usize::from(width), lines: Vec::new() }
    }

    fn head(&mut self, title: &str) {
        if !self.lines.is_empty() {
            self.lines.push(Line::new());
        }
        self.lines.push(Line::new().add(Mark::Strong, title));
    }

    fn field(&mut self, label: &str, value: &str) {
        let mut label = format!("{label:<LABEL$}");
        for part in format::wrap(value, self.width.saturating_sub(LABEL)) {
            self.lines.push(Line::plain(label).add(Mark::Plain, part));
            label = " ".repeat(LABEL);
        }
    }

    fn checked(&mut self, label: &str, (mark, word): (Mark, &str), value: &str) {
        let mut first = Line::plain(format!("{label:<LABEL$}")).add(mark, word);
        let indent = LABEL + 7;
        for part in format::wrap(value, self.width.saturating_sub(indent)) {
            let gap = indent.saturating_sub(first.width());
            self.lines.push(first.add(Mark::Plain, " ".repeat(gap) + &part));
            first = Line::new();
        }
    }

    fn paragraph(&mut self, text: &str) {
        let parts = format::wrap(text, self.width);
        self.lines.extend(parts.into_iter().map(Line::plain));
    }
}

/// Rows of text of the screen that is shown, `width` cells wide.
#[must_use]
pub fn lines(model: &Model, width: u16) -> Vec<Line> {
    let mut text = Text::new(width);
    let selected = |ids: &[u64]| ids.get(model.ui.list().locate(ids)).copied();
    let id = selected(&table::ids(model));
    let data = model.data();
    match model.ui.screen {
        Screen::Overview => match model.ui.pane {
            Pane::Log => log(model, &mut text),
            Pane::Diagnostics => diagnostics(model, &mut text),
            _ => identity::identity(model, &mut text),
        },
        Screen::Identity => identity::identity(model, &mut text),
        Screen::Registers => identity::register(model, id, &mut text),
        Screen::BootLog => identity::measurement(model, id, &mut text),
        Screen::Evidence => identity::evidence(model, &mut text),
        Screen::Mesh => {
            text.paragraph("Coming: peers that admit each other only after checking measurements.")
        }
        Screen::Settings => settings(model, &mut text),
        Screen::Alerts | Screen::Ledger => {
            let seq = |entry: &&Entry| Some(entry.header.seq.0) == id;
            match data.history.iter().find(seq) {
                Some(entry) if model.ui.screen == Screen::Alerts => alert(model, entry, &mut text),
                Some(entry) => block(model, entry, &mut text),
                None => text.paragraph("This block is no longer kept here; see 4 Ledger."),
            }
        }
        Screen::Flows => {
            let flows = data.sensor.iter().flat_map(|status| &status.flows);
            match flows.into_iter().find(|flow| Some(table::flow_id(flow)) == id) {
                Some(found) => flow(found, &mut text),
                None => text.paragraph("This flow is no longer among the most active ones."),
            }
        }
        Screen::Mitigations => mitigation(model, id, &mut text),
        Screen::Services => {
            let mut services = data.status.iter().flat_map(|status| &status.services);
            match services.find(|service| Some(table::service_id(service)) == id) {
                Some(found) => service(model, found, &mut text),
                None => text.paragraph("This service does not exist any more."),
            }
        }
    }
    text.lines
}

/// Width of details on a terminal of this width: a frame and a space on both sides.
#[must_use]
pub fn width(terminal: u16) -> u16 {
    terminal.saturating_sub(4)
}

/// Rows of text on the terminal as it is.
#[must_use]
pub fn length(model: &Model) -> usize {
    lines(model, width(model.size.0)).len()
}

/// Rows that are shown at once: all but header, tabs, frame and hints.
#[must_use]
pub fn rows(model: &Model) -> usize {
    usize::from(model.size.1.saturating_sub(5))
}

fn nanos(ns: u64) -> String {
    format!("{} +{} ms", date_time(ns / 1_000_000_000), ns / 1_000_000 % 1000)
}

/// Word and mark of a PCR against its prediction.
#[must_use]
pub fn pcr(value: Option<&PcrValue>) -> (Mark, &'static str) {
    match value {
        Some(pcr) if pcr.predicted.is_empty() || pcr.value.is_empty() => (Mark::Plain, " n/a  "),
        Some(pcr) if pcr.value.eq_ignore_ascii_case(&pcr.predicted) => (Mark::Good, "[ OK ]"),
        Some(_) => (Mark::Bad, "[DIFF]"),
        None => (Mark::Plain, " n/a  "),
    }
}

/// Green is for what is verified now: it is plain on what is stale.
#[must_use]
pub fn fresh_mark(model: &Model, source: Source, mark: Mark) -> Mark {
    match mark {
        Mark::Good if !model.fresh(source) => Mark::Plain,
        mark => mark,
    }
}

/// Rows of the log, newest first, cut to the width.
fn log(model: &Model, text: &mut Text) {
    let lines = model.data().log.iter().rev();
    text.lines.extend(lines.map(log_line));
}

/// `14:22:01 sensor    WARN text`.
#[must_use]
pub fn log_line(line: &hookprobe_wire::control::LogLine) -> Line {
    let source = format::fit(&line.source, 14);
    let start = Line::plain(format!("{} {source:<9} ", format::clock(line.time_s)));
    match line.severity {
        Severity::Info => start.add(Mark::Plain, line.text.clone()),
        severity => start
            .add(table::severity_mark(severity), severity.word())
            .add(Mark::Plain, format!(" {}", line.text)),
    }
}

fn diagnostics(model: &Model, text: &mut Text) {
    for item in model.data().diagnostics() {
        text.head(&format!("{} {}", item.code, item.object));
        let word = (table::severity_mark(item.severity), item.severity.word());
        text.checked("Severity", word, "");
        text.field("Cause", &item.cause);
        text.field("Do", &item.remedy);
    }
    if text.lines.is_empty() {
        text.paragraph("Nothing is wrong.");
    }
}

fn settings(model: &Model, text: &mut Text) {
    text.paragraph("Coming: changes from here. Today: edit hookprobe.toml on the boot partition.");
    text.paragraph("Rules and lists beside it: r reads them again. The file itself: a restart.");
    if let Some(last) = model.data().status.as_ref().and_then(|status| status.reload.as_ref()) {
        text.head("RULES AND LISTS READ AGAIN");
        let mark = match last.state {
            ErrandState::Begun | ErrandState::Measured => (Mark::Plain, "BUSY"),
            ErrandState::Done => (Mark::Good, "[ OK ]"),
            ErrandState::Failed => (Mark::Bad, "FAIL"),
        };
        text.checked(&format!("Reload {}", last.number), mark, &last.text);
        text.field("Left", &format!("{} until the next restart", last.left));
    }
    text.head("ACCEPTED SITE CONFIGURATION");
    match &model.data().site {
        None => text.paragraph("not read yet"),
        Some(Err(reason)) => text.checked("", (Mark::Warn, "WARN"), reason),
        Some(Ok(lines)) => text.lines.extend(lines.iter().map(Line::plain)),
    }
}

fn alert(model: &Model, entry: &Entry, text: &mut Text) {
    let Some(alert) = entry.alert() else { return };
    text.head("ALERT");
    alert_fields(alert, text);
    text.field("State", model.data().history.alert_state(entry.hash).word());
    text.field("Block", &format!("{} {}", entry.header.seq, entry.hash));
    text.head("EVIDENCE");
    for evidence in &alert.evidence {
        text.lines.push(Line::plain(format!("{:>12}  {}", evidence.value, evidence.name)));
    }
    chain(model, entry.hash, text);
}

fn alert_fields(alert: &Alert, text: &mut Text) {
    let word = (table::severity_mark(alert.severity), alert.severity.word());
    text.checked("Severity", word, &alert.summary);
    text.field("Source", &format!("{} on {}", alert.source, alert.interface));
    let drill = if alert.drill { " (drill)" } else { "" };
    text.field("Detector", &format!("{}{drill}", alert.detector));
    text.field("First seen", &nanos(alert.first_ns));
    let took_ms = alert.decided_ns.saturating_sub(alert.first_ns) / 1_000_000;
    let decided = nanos(alert.decided_ns);
    text.field("Decided", &format!("{decided} (after {took_ms} ms)"));
}

/// What was done about a block, oldest first.
fn chain(model: &Model, cause: Hash, text: &mut Text) {
    text.head("WHAT WAS DONE");
    let consequences = model.data().history.consequences(cause);
    if consequences.is_empty() {
        text.paragraph("Nothing that the kept blocks tell of.");
    }
    for entry in consequences {
        let indent = if entry.cause() == Some(cause) { "" } else { "  " };
        let label = format!("{indent}{} {}", entry.header.seq, entry.header.event_type.word());
        let mut value = format!("{} {}", format::clock(entry.time_s()), entry.summary);
        match &entry.event {
            Some(Event::Mitigation(mitigation)) => {
                let ends = format::clock(mitigation.expires_ns / 1_000_000_000);
                value = format!("{value}, ends {ends}: {}", mitigation.reason);
            }
            Some(Event::Refusal(refusal)) => {
                value = format!(
                    "{} {}: {}",
                    format::clock(entry.time_s()),
                    refusal.code,
                    refusal.reason
                );
            }
            _ => {}
        }
        // Labels are longer than the column here: block number and kind.
        let wide = 22;
        let mut label = format!("{label:<wide$}");
        for part in format::wrap(&value, text.width.saturating_sub(wide)) {
            text.lines.push(Line::plain(label).add(Mark::Plain, part));
            label = " ".repeat(wide);
        }
    }
}

fn block(model: &Model, entry: &Entry, text: &mut Text) {
    let header = &entry.header;
    text.head(&format!("BLOCK {} ({})", header.seq, header.event_type.word()));
    text.field("Hash", &entry.hash.hex());
    let link = match entry.link {
        Link::First => "the first that is kept: nothing to compare with",
        Link::Holds => "continues the block before, checked here",
        Link::Broken => "does not continue the block before",
    };
    let fresh = |(mark, word)| (fresh_mark(model, Source::Blocks, mark), word);
    text.checked("Link", fresh(table::link(entry.link)), link);
    text.field("Previous", &header.prev_hash.hex());
    let commitment = match entry.commitment {
        crate::history::Commitment::Matches => "the payload is the one that was committed to",
        crate::history::Commitment::Differs => "the payload is not the one that was committed to",
        crate::history::Commitment::Unreadable => "it matches; its kind is unknown here",
        crate::history::Commitment::Erased => "the payload was erased; the chain still holds",
    };
    text.checked("Payload", fresh(table::commitment(entry.commitment)), commitment);
    text.field("Commitment", &header.payload_hash.hex());
    text.field("Node", &header.node_identity.hex());
    text.field("Lane", &format!("epoch {}, format {}", header.epoch, header.version));
    text.field("Time", &nanos(header.timestamp_ns));
    text.field("Signed by", &format!("{} (signature not checked here)", entry.signers.join(", ")));
    text.head("EVENT");
    text.paragraph(&entry.summary);
    if let Some(cause) = entry.cause() {
        let found = model.data().history.find(cause);
        let what = found.map_or_else(
            || cause.short(),
            |found| format!("{} {}", found.header.seq, found.summary),
        );
        text.field("Cause", &what);
    }
    match &entry.event {
        Some(Event::Boot(boot)) => {
            text.field("Boot", &boot.boot_id);
            for item in &boot.diagnostics {
                let word = (table::severity_mark(item.severity), item.severity.word());
                text.checked("", word, &item.to_string());
            }
        }
        Some(Event::Mitigation(mitigation)) => text.field("Reason", &mitigation.reason),
        Some(Event::Binding(binding)) => {
            text.field("Epoch", &format!("{} of the TPM's boot counter", binding.epoch));
            let count = binding.evidence.len();
            text.field("Evidence", &format!("{count} bytes, a quote that covers the node's key"));
            text.field(
                "Checked by",
                "nobody here; hookprobe-verify checks it in the exported lane",
            );
        }
        Some(Event::Attestation(attestation)) => {
            text.field("Change", &attestation.change);
            text.field("Level", &attestation.level);
            text.field("AK name", &attestation.ak_name);
            text.field("Detail", &attestation.detail);
        }
        Some(Event::Alert(alert)) => {
            for evidence in &alert.evidence {
                text.field(&evidence.name, &evidence.value.to_string());
            }
        }
        _ => {}
    }
}

fn flow(flow: &Flow, text: &mut Text) {
    text.head("FLOW");
    text.field("Protocol", &table::protocol(flow.protocol));
    text.field("From", &table::endpoint(flow.source, flow.source_port));
    text.field("To", &table::endpoint(flow.destination, flow.destination_port));
    text.field("Packets", &flow.packets.to_string());
    text.field("Bytes", &flow.bytes.to_string());
    text.field("Last seen", &format!("{} ago", duration(flow.idle_ms)));
}

fn mitigation(model: &Model, id: Option<u64>, text: &mut Text) {
    let data = model.data();
    let mut active = data.response.iter().flat_map(|status| &status.active);
    match active.find(|active| Some(table::mitigation_id(active.hash)) == id) {
        Some(active) => in_force(model, active, text),
        None => text.paragraph("This mitigation has ended; see 4 Ledger for its lift."),
    }
    text.head("NEVER BLOCKED");
    for protected in data.response.iter().flat_map(|status| &status.protected) {
        let address = format!("{}/{}", protected.address, protected.prefix);
        text.lines.push(Line::plain(format!("{address:<20} {}", protected.why)));
    }
}

fn in_force(model: &Model, active: &Active, text: &mut Text) {
    text.head("MITIGATION");
    text.field("Effect", &format!("{} {}", active.action.word(), active.subject));
    text.field("Ends in", &format!("{}, by itself", duration(active.remaining_ms)));
    text.field("Dropped", &format!("{} packets so far", active.packets_dropped));
    text.field("Block", &active.hash.hex());
    text.field("Cause", &active.cause.hex());
    if let Some(cause) = model.data().history.find(active.cause) {
        text.field("", &format!("{} {}", cause.header.seq, cause.summary));
    }
}

fn service(model: &Model, service: &Service, text: &mut Text) {
    text.head(&service.name.to_uppercase());
    let (mark, word) = table::service_state(service.state);
    let mark = fresh_mark(model, Source::Init, mark);
    text.checked("State", (mark, word), &format!("up {}", table::up(service)));
    let process = match service.pid {
        0 => "none".into(),
        pid => pid.to_string(),
    };
    text.field("Process", &process);
    text.field("Restarts", &service.restarts.to_string());
    text.field("Memory", &format!("{} resident", format::kib(service.rss_kib)));
    text.field("Digest", &service.digest);
    let (mark, word) = table::verdict(service);
    let mark = fresh_mark(model, Source::Init, mark);
    let verdict = match service.verdict.as_str() {
        "match" => "as the reference manifest in the image says",
        "differs" => "not as the reference manifest in the image says; re-flash",
        _ => "there is nothing to compare with",
    };
    text.checked("Verdict", (mark, word), verdict);
    text.field(
        "Last exit",
        if service.last_exit.is_empty() { "never ended" } else { &service.last_exit },
    );
}
