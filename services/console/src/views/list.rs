//! The list screens: one row of facts above, a table, the selected row reversed.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{attestation, contact, missing, source};
use crate::{
    detail::fresh_mark,
    format,
    look::{Joint, Line, Mark, Pen},
    model::{Model, Source},
    table::{self, Column, Row},
    ui::Screen,
};

/// A list screen.
pub fn list(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    if area.height < 2 || area.width < 4 {
        return;
    }
    let inner = area.width - 4;
    let rows_max = area.height - 2;
    let source = source(model.ui.screen);
    let (rows, total) = table::rows(model);
    pen.rule(0, Joint::TopLeft, Joint::TopRight);
    pen.title(2, 0, inner, &title(model, rows.len(), total), false);
    pen.sides(1, rows_max);
    pen.rule(area.height - 1, Joint::BottomLeft, Joint::BottomRight);
    pen.line(2, 1, inner, &facts(model));
    let columns = shown_columns(model.ui.screen, area.width);
    heads(model, &mut pen, &columns, inner);
    if rows.is_empty() {
        let lines = if total > 0 {
            vec![Line::plain("no row contains the filter; Esc clears it")]
        } else if is_known(model) {
            vec![Line::plain(empty(model.ui.screen))]
        } else {
            missing(model, source, usize::from(inner))
        };
        pen.lines(2, 3, inner, rows_max.saturating_sub(2), &lines);
        return;
    }
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    let selected = model.ui.list().locate(&ids);
    let visible = usize::from(rows_max.saturating_sub(2)).max(1);
    // The selected row is kept in view; the first page stays put until it has to move.
    let first = (selected + 1).saturating_sub(visible);
    for (at, (place, row)) in (first..).zip(rows.iter().skip(first)).take(visible).enumerate() {
        let y = 3 + u16::try_from(at).unwrap_or(u16::MAX);
        if y > rows_max {
            break;
        }
        draw_row(model, &mut pen, &columns, inner, y, row);
        if place == selected {
            pen.restyle(1, y, inner + 2, model.look.selected());
        }
    }
}

fn title(model: &Model, shown: usize, total: usize) -> Line {
    let name = model.ui.screen.name().to_uppercase();
    let mut line = Line::new().add(Mark::Strong, name);
    let list = model.ui.list();
    let count = if list.filter.is_empty() {
        format!("  {total}")
    } else {
        format!("  {shown} of {total} with \"{}\"", list.filter)
    };
    line = line.add(Mark::Plain, count);
    if let Some(column) = list.sort.and_then(|at| table::columns(model.ui.screen).get(at)) {
        let by = column.title.to_lowercase();
        line = line.add(Mark::Plain, format!("  sorted by {by}"));
    }
    line.0.extend(contact(model, source(model.ui.screen)).0);
    line
}

fn is_known(model: &Model) -> bool {
    let data = model.data();
    match model.ui.screen {
        Screen::Alerts | Screen::Ledger => data.history.caught_up,
        Screen::Flows => data.sensor.is_some(),
        Screen::Mitigations => data.response.is_some(),
        Screen::Services => data.status.is_some(),
        Screen::Registers => data.attest.status.is_some(),
        Screen::BootLog => data.attest.log_total.is_some() || data.attest.log_refused.is_some(),
        Screen::Overview
        | Screen::Mesh
        | Screen::Settings
        | Screen::Identity
        | Screen::Evidence => true,
    }
}

fn empty(screen: Screen) -> &'static str {
    match screen {
        Screen::Alerts => "no alert in the blocks that are kept",
        Screen::Flows => "no active flow",
        Screen::Ledger => "the ledger is empty",
        Screen::Mitigations => "nothing is blocked",
        Screen::Services => "no service",
        Screen::Registers => "no register was read: there is no TPM, or no quote yet",
        Screen::BootLog => "no measurement",
        Screen::Overview
        | Screen::Mesh
        | Screen::Settings
        | Screen::Identity
        | Screen::Evidence => "",
    }
}

/// One row of facts about the whole list.
fn facts(model: &Model) -> Line {
    let data = model.data();
    match model.ui.screen {
        Screen::Alerts => {
            let open = data.history.open_alerts();
            let mut line = Line::plain(format!("{} not ended: ", open.total()));
            for (count, mark, word) in [
                (open.critical, Mark::Bad, "CRIT"),
                (open.warn, Mark::Warn, "WARN"),
                (open.info, Mark::Plain, "INFO"),
            ] {
                let mark = if count == 0 { Mark::Plain } else { mark };
                line = line.add(Mark::Plain, format!("{count} ")).add(mark, word);
                line = line.add(Mark::Plain, "  ");
            }
            line
        }
        Screen::Flows => {
            let interfaces = data.sensor.iter().flat_map(|status| &status.interfaces);
            let interfaces: Vec<String> = interfaces
                .map(|interface| format!("{} xdp {}", interface.name, interface.xdp_mode))
                .collect();
            let rate = data.rates.back().copied().unwrap_or(0);
            let lost = data.counters("_lost");
            let rates = format!("{} packets/s, {lost} lost", format::count(rate));
            Line::plain(format!("{rates}   {}", interfaces.join(", ")))
        }
        Screen::Ledger => ledger(model),
        Screen::Mitigations => data.response.as_ref().map_or_else(Line::new, |status| {
            let by = if status.enforcers.is_empty() {
                "no enforcer".into()
            } else {
                format!("by {}", status.enforcers.join(", "))
            };
            Line::plain("mode ").add(Mark::Strong, status.mode.word()).add(
                Mark::Plain,
                format!(
                    " {by}   {} in force, {} lifted, {} refused, {} protected",
                    status.active_total,
                    status.lifted,
                    status.refused,
                    status.protected.len()
                ),
            )
        }),
        Screen::Services => data.status.as_ref().map_or_else(Line::new, |status| {
            let (total, free) = status.memory_kib;
            Line::plain(format!(
                "{} resident, {} of {} available; restarts count starts after the first",
                format::kib(status.rss_kib),
                format::kib(free),
                format::kib(total)
            ))
        }),
        Screen::Registers => data
            .attest
            .status
            .as_ref()
            .map_or_else(Line::new, |status| attestation::verdict(model, status)),
        Screen::BootLog => boot_log(model),
        Screen::Overview
        | Screen::Mesh
        | Screen::Settings
        | Screen::Identity
        | Screen::Evidence => Line::new(),
    }
}

fn boot_log(model: &Model) -> Line {
    let attest = &model.data().attest;
    if let Some(reason) = &attest.log_refused {
        return Line::new().add(Mark::Warn, "WARN").add(Mark::Plain, format!(" {reason}"));
    }
    let Some(total) = attest.log_total else { return Line::new() };
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let differ = attest.log.iter().filter(|line| line.verdict == "differs").count();
    let mut line = Line::plain(format!("{total} measurements in order of extension"));
    if attest.log.len() < total {
        line = line.add(Mark::Plain, format!(", first {} here", attest.log.len()));
    }
    if differ > 0 {
        line = line.add(Mark::Plain, "   ").add(Mark::Bad, "[DIFF]");
        line = line.add(Mark::Plain, format!(" {differ} not as the manifest says"));
    }
    line
}

fn ledger(model: &Model) -> Line {
    let data = model.data();
    let (links, broken) = data.history.links();
    let (mark, word) = chain(model, links, broken);
    let mut line = Line::new();
    if let Some(head) = &data.head {
        let key = head.key.map_or("n/a", attestation::origin);
        let text = format!("{} blocks, epoch {}, key {key}   ", head.length, head.epoch);
        line = Line::plain(text);
    }
    line = line.add(mark, word).add(Mark::Plain, format!(" {links} links checked here"));
    if data.history.dropped > 0 {
        let kept = data.history.len();
        line = line.add(Mark::Plain, format!(", newest {kept} kept"));
    }
    if data.head.as_ref().is_some_and(|head| head.volatile) {
        line = line.add(Mark::Plain, "   ").add(Mark::Warn, "WARN in memory only");
    }
    line
}

/// Word and mark of the links that were checked.
#[must_use]
pub fn chain(model: &Model, links: usize, broken: usize) -> (Mark, &'static str) {
    match (links, broken) {
        (0, 0) => (Mark::Plain, "n/a"),
        (_, 0) => (fresh_mark(model, Source::Blocks, Mark::Good), "[ OK ]"),
        _ => (Mark::Bad, "[FAIL]"),
    }
}

/// Columns for a screen of this width, with their places in the table.
fn shown_columns(screen: Screen, width: u16) -> Vec<(usize, Column)> {
    let columns = table::columns(screen).iter().copied().enumerate();
    columns.filter(|(_, column)| width >= column.screen_min).collect()
}

/// Calls `draw(column, x, width)` for every column that has room.
fn place(columns: &[(usize, Column)], inner: u16, mut draw: impl FnMut(usize, Column, u16, u16)) {
    let mut x = 0;
    for (at, column) in columns {
        if x >= inner {
            return;
        }
        let left = inner - x;
        let width = if column.width == 0 { left } else { column.width.min(left) };
        draw(*at, *column, x, width);
        x = x.saturating_add(width + 1);
    }
}

fn aligned(column: Column, width: u16, text: &str) -> String {
    let width = usize::from(width);
    let text = format::fit(text, width);
    if column.number { format!("{text:>width$}") } else { text }
}

fn heads(model: &Model, pen: &mut Pen<'_>, columns: &[(usize, Column)], inner: u16) {
    let sort = model.ui.list().sort;
    place(columns, inner, |at, column, x, width| {
        let mark = if sort == Some(at) { Mark::Key } else { Mark::Strong };
        pen.text(2 + x, 2, width, &aligned(column, width, column.title), mark);
    });
}

fn draw_row(
    model: &Model,
    pen: &mut Pen<'_>,
    columns: &[(usize, Column)],
    inner: u16,
    y: u16,
    row: &Row,
) {
    place(columns, inner, |at, column, x, width| {
        if let Some(cell) = row.cells.get(at) {
            let mark = fresh_mark(model, source(model.ui.screen), cell.mark);
            pen.text(2 + x, y, width, &aligned(column, width, &cell.text), mark);
        }
    });
}
