//! The Overview: what was measured, the numbers that matter, what runs, what is wrong.
//!
//! The grid is data: sections from top to bottom, each with one pane or two side by side. The log
//! takes what the others leave.

use hookprobe_wire::{
    control::{Service, ServiceState},
    event::Diagnostic,
};
use ratatui::{buffer::Buffer, layout::Rect};

use super::{attestation, contact, list::chain, missing};
use crate::{
    detail::{self, fresh_mark},
    format,
    look::{Joint, Line, Mark, Pen},
    model::{Contact, Data, Model, Source},
    table,
    ui::Pane,
};

/// Narrowest screen with two panes side by side.
const TWO_COLUMNS: u16 = 76;
/// Services of the box's own: fewer rows than that hide one.
const SERVICES_ROWS: u16 = 5;

/// Panes beside each other, and rows of text.
struct Section {
    left: Pane,
    right: Option<Pane>,
    rows: u16,
}

/// The Overview.
pub fn overview(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    if area.height < 2 || area.width < 4 {
        return;
    }
    let two = area.width >= TWO_COLUMNS;
    // The place of the line in the middle: the left side has the longer rows.
    let middle = area.width / 2 + 3;
    let mut y = 0;
    let mut split_above = false;
    let sections = sections(model, two, area.width, area.height);
    for section in &sections {
        let split = section.right.is_some();
        let (left, right) =
            if y == 0 { (Joint::TopLeft, Joint::TopRight) } else { (Joint::Left, Joint::Right) };
        pen.rule(y, left, right);
        joint(&mut pen, middle, y, split_above, split);
        pen.sides(y + 1, section.rows);
        let width = if split { middle - 3 } else { area.width - 4 };
        pane(model, &mut pen, section.left, (2, y, width, section.rows));
        if let Some(right) = section.right {
            for row in y + 1..=y + section.rows {
                pen.joint(middle, row, Joint::Vertical);
            }
            let place = (middle + 2, y, area.width - middle - 4, section.rows);
            pane(model, &mut pen, right, place);
        }
        split_above = split;
        y += section.rows + 1;
    }
    pen.rule(y, Joint::BottomLeft, Joint::BottomRight);
    joint(&mut pen, middle, y, split_above, false);
}

fn joint(pen: &mut Pen<'_>, x: u16, y: u16, above: bool, below: bool) {
    match (above, below) {
        (true, true) => pen.joint(x, y, Joint::Cross),
        (true, false) => pen.joint(x, y, Joint::Bottom),
        (false, true) => pen.joint(x, y, Joint::Top),
        (false, false) => {}
    }
}

/// What fits: the first sections have the room, the log takes the rest.
fn sections(model: &Model, two: bool, width: u16, height: u16) -> Vec<Section> {
    let data = model.data();
    let services = data.status.as_ref().map_or(0, |status| status.services.len());
    let services = u16::try_from(services).unwrap_or(u16::MAX);
    let full = |left, rows| Section { left, right: None, rows };
    let mut out = Vec::new();
    // The last rule takes a row.
    let mut room = height - 1;
    let mut add = |section: Section, room: &mut u16| {
        if *room >= 2 {
            let rows = section.rows.min(*room - 1);
            *room -= rows + 1;
            out.push(Section { rows, ..section });
        }
    };
    if two {
        let beside = |left, right, rows| Section { left, right: Some(right), rows };
        let rows_max = if height > 30 { 12 } else { SERVICES_ROWS };
        let rows = services.clamp(SERVICES_ROWS.min(rows_max), rows_max);
        // With room to spare, a row for the last challenge; else it is in Posture.
        let attestation = attestation::ROWS + u16::from(height > 30);
        add(beside(Pane::Attestation, Pane::Posture, attestation), &mut room);
        add(beside(Pane::Services, Pane::Events, rows), &mut room);
    } else {
        let attest = data.attest.status.as_ref();
        let diverged = attest.is_some_and(|status| !status.divergence.is_empty());
        let rows = attestation::ROWS_COMPACT + u16::from(diverged);
        add(full(Pane::Attestation, rows), &mut room);
        let rows = if data.diagnostics().is_empty() { 4 } else { 3 };
        add(full(Pane::Posture, rows), &mut room);
        add(full(Pane::Services, 1), &mut room);
    }
    let wanted = diagnostics(data, usize::from(width.saturating_sub(4)), usize::MAX).len();
    let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
    let most = (height / 6).max(1);
    // What is wrong is more important than what was said; a row of the log stays if it can.
    let rows = wanted.min(most).min(room.saturating_sub(3).max(1)).min(room.saturating_sub(1));
    let below = if rows > 0 { rows + 1 } else { 0 };
    let log = room.saturating_sub(below + 1);
    if log > 0 {
        add(full(Pane::Log, log), &mut room);
    }
    if rows > 0 {
        add(full(Pane::Diagnostics, rows), &mut room);
    }
    // What is left over when the log does not fit belongs to the last section.
    if let Some(last) = out.last_mut() {
        last.rows += room;
    }
    out
}

fn pane(model: &Model, pen: &mut Pen<'_>, pane: Pane, (x, y, width, rows): (u16, u16, u16, u16)) {
    let room = usize::from(width);
    let focused = model.ui.pane == pane;
    pen.title(x, y, width, &title(model, pane, width), focused);
    let lines = match pane {
        Pane::Attestation => attestation::pane(model, room, rows),
        Pane::Posture => posture(model),
        Pane::Services => services(model, room, usize::from(rows)),
        Pane::Events => events(model, room, usize::from(rows)),
        Pane::Log => log(model, room, usize::from(rows)),
        Pane::Diagnostics => diagnostics(model.data(), room, usize::from(rows)),
    };
    pen.lines(x, y + 1, width, rows, &lines);
}

fn title(model: &Model, pane: Pane, width: u16) -> Line {
    let strong = |text: &str| Line::new().add(Mark::Strong, text);
    let (mut line, source) = match pane {
        Pane::Attestation => (strong("ATTESTATION"), Source::Attest),
        Pane::Posture => return strong("POSTURE"),
        Pane::Services => (strong("SERVICES"), Source::Init),
        Pane::Events => {
            let rates = shown_rates(model.data(), usize::from(width));
            let max = rates.iter().max().copied().unwrap_or(0);
            let mut line = strong("PACKETS/S");
            if model.fresh(Source::Sensor) && max > 0 {
                let text = format!(", LAST {width} S (max {})", format::count(max));
                line = line.add(Mark::Plain, text);
            }
            (line, Source::Sensor)
        }
        Pane::Log => (strong("LOG"), Source::Init),
        Pane::Diagnostics => {
            let count = model.data().diagnostics().len();
            return strong("DIAGNOSTICS").add(Mark::Plain, format!(" {count}"));
        }
    };
    line.0.extend(contact(model, source).0);
    line
}

/// A row of Posture: a label, and what its source says or that it says nothing.
fn row(
    model: &Model,
    label: &str,
    source: Source,
    known: bool,
    value: impl FnOnce(Line) -> Line,
) -> Line {
    let line = Line::plain(format!("{label:<9}"));
    match model.live().contact(source) {
        Contact::Down { .. } if !known => line.add(Mark::Warn, "disconnected"),
        Contact::Down { .. } => value(line.add(Mark::Warn, "STALE").add(Mark::Plain, " ")),
        Contact::Trying | Contact::Up if !known => line.add(Mark::Plain, "n/a"),
        Contact::Trying | Contact::Up => value(line),
    }
}

fn posture(model: &Model) -> Vec<Line> {
    let data = model.data();
    let history = &data.history;
    let blocks = history.caught_up || !history.is_empty();
    let response = data.response.is_some();
    vec![
        row(model, "Alerts", Source::Blocks, blocks, |line| alerts(data, line)),
        row(model, "Ledger", Source::Ledger, data.head.is_some(), |line| {
            let Some(head) = &data.head else { return line };
            if head.volatile {
                line.add(Mark::Plain, format!("{} ", head.length))
                    .add(Mark::Warn, "WARN memory only")
            } else {
                let text = format!("{} head {}", head.length, head.hash.short());
                line.add(Mark::Plain, text)
            }
        }),
        row(model, "Chain", Source::Blocks, blocks, |line| {
            let (links, broken) = history.links();
            let (mark, word) = chain(model, links, broken);
            let line = line.add(mark, word);
            let text = if broken > 0 {
                format!(" {broken} of {links} broken")
            } else {
                format!(" {links} links checked")
            };
            line.add(Mark::Plain, text)
        }),
        row(model, "Blocked", Source::Response, response, |line| {
            let Some(status) = &data.response else {
                return line;
            };
            let mut text = match status.active_total {
                0 => "none".into(),
                count => count.to_string(),
            };
            if let Some(next) = status.active.first() {
                let ends = format::duration(next.remaining_ms);
                text = format!("{text}, next ends {ends}");
            }
            line.add(Mark::Plain, text)
        }),
        row(model, "Mode", Source::Response, response, |line| {
            let Some(status) = &data.response else {
                return line;
            };
            let line = line.add(Mark::Strong, status.mode.word());
            let by = match status.enforcers.as_slice() {
                [] => ", no enforcer".into(),
                enforcers => format!(" by {}", enforcers.join(", ")),
            };
            line.add(Mark::Plain, by)
        }),
        row(model, "Traffic", Source::Sensor, data.sensor.is_some(), |line| traffic(data, line)),
        row(model, "Asked", Source::Attest, data.attest.status.is_some(), |mut line| {
            line.0.extend(attestation::challenges(model).0);
            line
        }),
    ]
}

fn alerts(data: &Data, line: Line) -> Line {
    let open = data.history.open_alerts();
    if open.total() == 0 {
        return line.add(Mark::Plain, "none open");
    }
    let mut line = line.add(Mark::Strong, format!("{} open", open.total()));
    let mut gap = ": ";
    for (count, mark, word) in [(open.critical, Mark::Bad, "CRIT"), (open.warn, Mark::Warn, "WARN")]
    {
        if count > 0 {
            line = line.add(Mark::Plain, format!("{gap}{count} ")).add(mark, word);
            gap = " ";
        }
    }
    line
}

fn traffic(data: &Data, line: Line) -> Line {
    let rate = data.rates.back().copied().unwrap_or(0);
    let rejected = data.head.as_ref().map_or(0, |head| head.rejected);
    let lost = data.counters("_lost").saturating_add(rejected);
    let line = line.add(Mark::Plain, format!("{}/s, ", format::count(rate)));
    if lost == 0 {
        line.add(Mark::Plain, "lost 0")
    } else {
        line.add(Mark::Warn, format!("LOST {}", format::count(lost)))
    }
}

fn services(model: &Model, width: usize, rows: usize) -> Vec<Line> {
    let Some(status) = &model.data().status else {
        return missing(model, Source::Init, width);
    };
    let wrong = |service: &&Service| service.state != ServiceState::Running;
    let count = status.services.len();
    if rows == 1 {
        let running = count - status.services.iter().filter(wrong).count();
        let mut line = Line::plain(format!("{running} of {count} run"));
        for service in status.services.iter().filter(wrong) {
            let (mark, word) = table::service_state(service.state);
            line = line.add(Mark::Plain, format!("  {} ", service.name)).add(mark, word);
        }
        return vec![line];
    }
    let mut shown: Vec<&Service> = status.services.iter().collect();
    if count > rows {
        // Those that need a look come first.
        shown.sort_by_key(|service| !wrong(service));
        shown.truncate(rows.saturating_sub(1));
    }
    let mut lines: Vec<Line> = shown.into_iter().map(|item| service(model, item)).collect();
    if count > lines.len() {
        let more = count - lines.len();
        lines.push(Line::plain(format!("{more} more in 7 Services")));
    }
    lines
}

fn service(model: &Model, service: &Service) -> Line {
    let (mark, word) = table::service_state(service.state);
    let restarts = match service.restarts {
        few @ 0..10 => format!("restarts {few}"),
        _ => "restarts>9".into(),
    };
    Line::plain(format!("{:<14} ", format::fit(&service.name, 14)))
        .add(fresh_mark(model, Source::Init, mark), word)
        .add(Mark::Plain, " ".repeat(7usize.saturating_sub(word.len())))
        .add(Mark::Plain, format!(" {:>6} {restarts}", table::up(service)))
}

fn shown_rates(data: &Data, width: usize) -> Vec<u64> {
    let skip = data.rates.len().saturating_sub(width);
    data.rates.iter().skip(skip).copied().collect()
}

/// Columns of `#`, the newest at the right; a part of a row is `.` or `:`.
fn events(model: &Model, width: usize, rows: usize) -> Vec<Line> {
    if model.data().sensor.is_none() {
        return missing(model, Source::Sensor, width);
    }
    let rates = shown_rates(model.data(), width);
    let max = rates.iter().max().copied().unwrap_or(0).max(1);
    let rows = u64::try_from(rows).unwrap_or(1);
    let bar = |rate: u64, from_bottom: u64| {
        // In thirds of a row; what is not nothing is seen.
        let thirds = u128::from(rate) * u128::from(rows) * 3 / u128::from(max);
        let thirds = thirds.max(u128::from(rate > 0));
        match thirds.saturating_sub(u128::from(from_bottom) * 3) {
            0 => ' ',
            1 => '.',
            2 => ':',
            _ => '#',
        }
    };
    let row = |from_bottom: u64| {
        let bars: String = rates.iter().map(|rate| bar(*rate, from_bottom)).collect();
        Line::plain(format!("{bars:>width$}"))
    };
    (0..rows).rev().map(row).collect()
}

fn log(model: &Model, width: usize, rows: usize) -> Vec<Line> {
    let data = model.data();
    if data.status.is_none() && data.log.is_empty() {
        return missing(model, Source::Init, width);
    }
    let skip = data.log.len().saturating_sub(rows);
    data.log.iter().skip(skip).map(detail::log_line).collect()
}

/// Rows of what is wrong, worst first; nothing when nothing is. Each gets at least a row; the last
/// row says how many more there are.
fn diagnostics(data: &Data, width: usize, rows: usize) -> Vec<Line> {
    let items = data.diagnostics();
    let shown = if items.len() <= rows { items.len() } else { rows.saturating_sub(1) };
    let mut lines: Vec<Line> = Vec::new();
    for (at, item) in items.iter().take(shown).enumerate() {
        let others = items.len().min(rows) - at - 1;
        let room = rows.saturating_sub(lines.len() + others).max(1);
        lines.extend(diagnostic(item, width.saturating_sub(5), room));
    }
    if shown < items.len() && rows > 0 {
        let text = format!("     {} more: Tab to this pane, Enter", items.len() - shown);
        lines.push(Line::plain(text));
    }
    lines
}

fn diagnostic(item: &Diagnostic, width: usize, rows: usize) -> Vec<Line> {
    let mut parts = format::wrap(&item.to_string(), width);
    if parts.len() > rows {
        let rest = parts.split_off(rows - 1).join(" ");
        parts.push(format::fit(&rest, width));
    }
    let mut start = Line::new().add(table::severity_mark(item.severity), item.severity.word());
    let mut lines = Vec::new();
    for part in parts {
        lines.push(start.add(Mark::Plain, format!(" {part}")));
        start = Line::plain("    ");
    }
    lines
}
