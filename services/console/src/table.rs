//! The list screens as data: columns and rows, filtered and sorted.
//!
//! Pure. The same rows are drawn by `views::list` and walked by the keys, so that what is selected
//! is what is seen.

use hookprobe_wire::{
    attest::Measurement,
    control::{PcrValue, Service, ServiceState},
    event::Severity,
    sensor::Flow,
};

use crate::{
    attest, detail, format,
    history::{AlertState, Commitment, Entry, Link},
    look::Mark,
    model::Model,
    ui::Screen,
};

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Cells; the last column takes what is left.
    pub width: u16,
    /// Numbers: to the right, and sorted from large to small.
    pub number: bool,
    /// Narrowest screen on which it is shown.
    pub screen_min: u16,
}

const fn text(title: &'static str, width: u16, screen_min: u16) -> Column {
    Column { title, width, number: false, screen_min }
}

const fn number(title: &'static str, width: u16, screen_min: u16) -> Column {
    Column { title, width, number: true, screen_min }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// What it means.
    pub mark: Mark,
    /// What it is sorted by in a column of numbers.
    pub value: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Same for the same thing, whatever its place.
    pub id: u64,
    /// One per column.
    pub cells: Vec<Cell>,
}

fn cell(text: impl Into<String>) -> Cell {
    marked(Mark::Plain, text)
}

fn marked(mark: Mark, text: impl Into<String>) -> Cell {
    Cell { text: text.into(), mark, value: 0 }
}

fn valued(value: u64, text: impl Into<String>) -> Cell {
    Cell { value, ..cell(text) }
}

/// Registers of the last quote.
const REGISTERS: &[Column] = &[
    text("BANK", 6, 0),
    number("PCR", 3, 0),
    text("VERDICT", 7, 0),
    text("WHAT", 15, 50),
    text("VALUE", 18, 0),
    text("PREDICTED", 0, 60),
];

/// Measurements of this boot.
const BOOT_LOG: &[Column] = &[
    number("NO", 4, 0),
    number("PCR", 3, 0),
    text("VERDICT", 7, 0),
    text("DIGEST", 10, 70),
    text("NAME", 0, 0),
];

/// Columns of a screen; none when it is no list.
#[must_use]
pub fn columns(screen: Screen) -> &'static [Column] {
    const ALERTS: &[Column] = &[
        text("TIME", 8, 0),
        text("SEV", 4, 0),
        text("SOURCE", 15, 0),
        text("STATE", 9, 50),
        text("DETECTOR", 12, 100),
        text("SUMMARY", 0, 0),
    ];
    const FLOWS: &[Column] = &[
        text("PROTO", 5, 0),
        text("SOURCE", 21, 0),
        text("DESTINATION", 21, 0),
        number("PACKETS", 8, 60),
        number("BYTES", 8, 70),
        number("IDLE", 6, 76),
        text("", 0, 0),
    ];
    const LEDGER: &[Column] = &[
        number("SEQ", 7, 0),
        text("TIME", 8, 0),
        text("TYPE", 10, 0),
        text("HASH", 8, 60),
        text("LINK", 6, 50),
        text("SUMMARY", 0, 0),
    ];
    const MITIGATIONS: &[Column] = &[
        text("SUBJECT", 15, 0),
        text("ACTION", 12, 100),
        number("ENDS IN", 7, 0),
        number("DROPPED", 8, 60),
        text("BLOCK", 8, 60),
        text("CAUSE", 0, 0),
    ];
    const SERVICES: &[Column] = &[
        text("NAME", 14, 0),
        text("STATE", 7, 0),
        number("PID", 6, 60),
        number("RESTARTS", 8, 50),
        number("RSS", 5, 70),
        number("UP", 6, 0),
        text("DIGEST", 8, 100),
        text("VERDICT", 7, 60),
        text("LAST EXIT", 0, 0),
    ];
    match screen {
        Screen::Alerts => ALERTS,
        Screen::Flows => FLOWS,
        Screen::Ledger => LEDGER,
        Screen::Mitigations => MITIGATIONS,
        Screen::Services => SERVICES,
        Screen::Registers => REGISTERS,
        Screen::BootLog => BOOT_LOG,
        Screen::Overview
        | Screen::Mesh
        | Screen::Settings
        | Screen::Identity
        | Screen::Evidence => &[],
    }
}

/// Whether the screen that is shown is a list.
#[must_use]
pub fn exists(model: &Model) -> bool {
    !columns(model.ui.screen).is_empty()
}

/// Rows of the screen that is shown, and how many there are without the filter.
#[must_use]
pub fn rows(model: &Model) -> (Vec<Row>, usize) {
    let screen = model.ui.screen;
    let mut rows = match screen {
        Screen::Alerts => alerts(model),
        Screen::Flows => flows(model),
        Screen::Ledger => model.data().history.iter().rev().map(block).collect(),
        Screen::Mitigations => mitigations(model),
        Screen::Services => services(model),
        Screen::Registers => registers(model),
        Screen::BootLog => (1..).zip(&model.data().attest.log).map(measurement).collect(),
        Screen::Overview
        | Screen::Mesh
        | Screen::Settings
        | Screen::Identity
        | Screen::Evidence => Vec::new(),
    };
    let total = rows.len();
    let list = model.ui.list();
    let filter = list.filter.to_ascii_lowercase();
    let has = |cell: &Cell| cell.text.to_ascii_lowercase().contains(&filter);
    rows.retain(|row| row.cells.iter().any(has));
    if let Some(at) = list.sort
        && let Some(column) = columns(screen).get(at)
    {
        let value = |row: &Row| row.cells.get(at).map_or(0, |cell| cell.value);
        if column.number {
            rows.sort_by_key(|row| std::cmp::Reverse(value(row)));
        } else {
            rows.sort_by_cached_key(|row| row.cells.get(at).map(|cell| cell.text.clone()));
        }
    }
    (rows, total)
}

/// Identities of the rows of the screen that is shown.
#[must_use]
pub fn ids(model: &Model) -> Vec<u64> {
    rows(model).0.iter().map(|row| row.id).collect()
}

/// Mark of a severity's word.
#[must_use]
pub fn severity_mark(severity: Severity) -> Mark {
    match severity {
        Severity::Info => Mark::Plain,
        Severity::Warn => Mark::Warn,
        Severity::Critical => Mark::Bad,
    }
}

fn alerts(model: &Model) -> Vec<Row> {
    let history = &model.data().history;
    let row = |entry: &Entry| {
        let alert = entry.alert()?;
        let state = history.alert_state(entry.hash);
        let mark = match state {
            AlertState::Open => Mark::Strong,
            AlertState::Suggested
            | AlertState::Refused
            | AlertState::Blocked
            | AlertState::Ended => Mark::Plain,
        };
        let drill = if alert.drill { "drill: " } else { "" };
        Some(Row {
            id: entry.header.seq.0,
            cells: vec![
                cell(format::clock(entry.time_s())),
                marked(severity_mark(alert.severity), alert.severity.word()),
                cell(alert.source.to_string()),
                marked(mark, state.word()),
                cell(alert.detector.clone()),
                cell(format!("{drill}{}", alert.summary)),
            ],
        })
    };
    history.iter().rev().filter_map(row).collect()
}

/// Name of an IP protocol (IANA protocol numbers), or the number.
#[must_use]
pub fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        2 => "igmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmp6".into(),
        other => other.to_string(),
    }
}

/// `10.20.0.2:443`, `[fd00::1]:443`; without the port when there is none.
#[must_use]
pub fn endpoint(address: std::net::IpAddr, port: u16) -> String {
    if port == 0 {
        address.to_string()
    } else {
        std::net::SocketAddr::new(address, port).to_string()
    }
}

/// FNV-1a: rows need an identity that is the same next second, nothing more.
fn identity(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Identity of a flow's row.
#[must_use]
pub fn flow_id(flow: &Flow) -> u64 {
    identity(&format!(
        "{} {} {}",
        flow.protocol,
        endpoint(flow.source, flow.source_port),
        endpoint(flow.destination, flow.destination_port)
    ))
}

fn flows(model: &Model) -> Vec<Row> {
    let row = |flow: &Flow| Row {
        id: flow_id(flow),
        cells: vec![
            cell(protocol(flow.protocol)),
            cell(endpoint(flow.source, flow.source_port)),
            cell(endpoint(flow.destination, flow.destination_port)),
            valued(flow.packets, format::count(flow.packets)),
            valued(flow.bytes, format::count(flow.bytes)),
            valued(flow.idle_ms, format::duration(flow.idle_ms)),
            cell(""),
        ],
    };
    let status = model.data().sensor.iter();
    status.flat_map(|status| &status.flows).map(row).collect()
}

/// Word and mark of a link.
#[must_use]
pub fn link(link: Link) -> (Mark, &'static str) {
    match link {
        Link::First => (Mark::Plain, " n/a  "),
        Link::Holds => (Mark::Good, "[ OK ]"),
        Link::Broken => (Mark::Bad, "[FAIL]"),
    }
}

/// Word and mark of a commitment.
#[must_use]
pub fn commitment(commitment: Commitment) -> (Mark, &'static str) {
    match commitment {
        Commitment::Matches => (Mark::Good, "[ OK ]"),
        Commitment::Differs => (Mark::Bad, "[FAIL]"),
        Commitment::Unreadable => (Mark::Warn, "[WARN]"),
        Commitment::Erased => (Mark::Plain, " n/a  "),
    }
}

fn block(entry: &Entry) -> Row {
    let (mark, word) = link(entry.link);
    let (mark, word) = match entry.commitment {
        Commitment::Differs => commitment(entry.commitment),
        _ => (mark, word),
    };
    Row {
        id: entry.header.seq.0,
        cells: vec![
            valued(entry.header.seq.0, entry.header.seq.0.to_string()),
            cell(format::clock(entry.time_s())),
            cell(entry.header.event_type.word()),
            cell(entry.hash.short()),
            marked(mark, word),
            cell(entry.summary.clone()),
        ],
    }
}

fn mitigations(model: &Model) -> Vec<Row> {
    let data = model.data();
    let rows = data.response.iter().flat_map(|status| &status.active);
    rows.map(|active| {
        let cause = data.history.find(active.cause);
        let left_ms = active.remaining_ms;
        Row {
            id: mitigation_id(active.hash),
            cells: vec![
                cell(active.subject.to_string()),
                cell(active.action.word()),
                valued(left_ms, format::duration(left_ms)),
                valued(active.packets_dropped, format::count(active.packets_dropped)),
                cell(active.hash.short()),
                cell(cause.map_or_else(
                    || format!("block {}", active.cause.short()),
                    |cause| {
                        let alert = cause.alert().map(|alert| alert.summary.as_str());
                        format!("{} {}", cause.header.seq, alert.unwrap_or(&cause.summary))
                    },
                )),
            ],
        }
    })
    .collect()
}

/// Identity of a mitigation's row.
#[must_use]
pub fn mitigation_id(hash: hookprobe_wire::Hash) -> u64 {
    identity(&hash.hex())
}

/// Word in brackets and mark of a service's state.
#[must_use]
pub fn service_state(state: ServiceState) -> (Mark, &'static str) {
    match state {
        ServiceState::Waiting => (Mark::Plain, "[WAIT]"),
        ServiceState::Starting => (Mark::Plain, "[START]"),
        ServiceState::Running => (Mark::Good, "[ OK ]"),
        ServiceState::Backoff => (Mark::Warn, "[RETRY]"),
        ServiceState::Failed => (Mark::Bad, "[FAIL]"),
        ServiceState::Stopped => (Mark::Plain, "[STOP]"),
    }
}

/// Word and mark of a service's verdict.
#[must_use]
pub fn verdict(service: &Service) -> (Mark, &'static str) {
    match service.verdict.as_str() {
        "match" => (Mark::Good, "[ OK ]"),
        "differs" => (Mark::Bad, "[FAIL]"),
        _ => (Mark::Plain, " n/a  "),
    }
}

/// How long a service runs; `-` when it does not.
#[must_use]
pub fn up(service: &Service) -> String {
    match service.state {
        ServiceState::Starting | ServiceState::Running => format::duration(service.up_ms),
        ServiceState::Waiting
        | ServiceState::Backoff
        | ServiceState::Failed
        | ServiceState::Stopped => "-".into(),
    }
}

/// Identity of a service's row.
#[must_use]
pub fn service_id(service: &Service) -> u64 {
    identity(&service.name)
}

fn services(model: &Model) -> Vec<Row> {
    let row = |service: &Service| {
        let (state_mark, state) = service_state(service.state);
        let (verdict_mark, verdict) = verdict(service);
        let pid = match service.pid {
            0 => "-".into(),
            pid => pid.to_string(),
        };
        Row {
            id: service_id(service),
            cells: vec![
                cell(service.name.clone()),
                marked(state_mark, state),
                valued(service.pid.into(), pid),
                valued(service.restarts.into(), format::count(service.restarts.into())),
                valued(service.rss_kib, format::kib(service.rss_kib)),
                valued(service.up_ms, up(service)),
                cell(service.digest.chars().take(8).collect::<String>()),
                marked(verdict_mark, verdict),
                cell(if service.last_exit.is_empty() { "never ended" } else { &service.last_exit }),
            ],
        }
    };
    let status = model.data().status.iter();
    status.flat_map(|status| &status.services).map(row).collect()
}

/// Identity of a register's row.
#[must_use]
pub fn register_id(pcr: &PcrValue) -> u64 {
    identity(&format!("{} {}", pcr.bank, pcr.index))
}

fn registers(model: &Model) -> Vec<Row> {
    let row = |pcr: &PcrValue| {
        let (mark, word) = detail::pcr(Some(pcr));
        let predicted = if pcr.predicted.is_empty() { "nothing" } else { pcr.predicted.as_str() };
        Row {
            id: register_id(pcr),
            cells: vec![
                cell(pcr.bank.clone()),
                valued(pcr.index.into(), pcr.index.to_string()),
                marked(attest::mark(model, mark), word),
                cell(attest::register(pcr.index)),
                cell(pcr.value.clone()),
                cell(predicted),
            ],
        }
    };
    let status = model.data().attest.status.iter();
    status.flat_map(|status| &status.pcrs).map(row).collect()
}

fn measurement((number, line): (u64, &Measurement)) -> Row {
    let (mark, word) = attest::measured(&line.verdict);
    Row {
        id: number,
        cells: vec![
            valued(number, number.to_string()),
            valued(line.pcr.into(), line.pcr.to_string()),
            marked(mark, word),
            cell(format::ends(&line.digest)),
            cell(line.name.clone()),
        ],
    }
}
