//! The screens, as functions of the model.
//!
//! Pure: `fn(&Model, Rect, &mut Buffer)`. Nothing is written outside the rectangle, whatever its
//! size. Everything shown is ASCII (the model saw to it) and lines.

pub mod attestation;
pub mod evidence;
pub mod list;
pub mod overlay;
pub mod overview;

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    command::{self, Action},
    detail,
    errand::{Errand, Stage},
    format,
    look::{Joint, Line, Mark, Pen},
    model::{Contact, Drill, Model, Source},
    recovery::Recovery,
    table,
    ui::{self, Screen},
};

/// Everything: header, tabs, the screen, hints, and what lies over them.
pub fn screen(model: &Model, area: Rect, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    let row = |y: u16| Rect::new(area.x, area.y.saturating_add(y), area.width, 1);
    if area.height == 0 {
        return;
    }
    if let Some(lines) = evidence::lines(model) {
        let above = Rect::new(area.x, area.y, area.width, area.height - 1);
        evidence::codes(model, &lines, above, buf);
        hints(model, row(area.height - 1), buf);
        return;
    }
    header(model, row(0), buf);
    if area.height < 3 {
        return;
    }
    tabs(model, row(1), buf);
    hints(model, row(area.height - 1), buf);
    let body = Rect::new(area.x, area.y + 2, area.width, area.height - 3);
    match model.ui.screen {
        _ if model.ui.help => overlay::help(model, body, buf),
        Screen::Overview if !model.ui.list().detail => overview::overview(model, body, buf),
        _ if table::exists(model) && !model.ui.list().detail => list::list(model, body, buf),
        _ => text(model, body, buf),
    }
    if model.drill == Drill::Asking {
        overlay::drill(model, body, buf);
    } else if model.recovery.is_open() {
        overlay::recovery(model, body, buf);
    } else if ui::notice(model) {
        overlay::notice(model, body, buf);
    }
}

/// `hp-7f3a  HookProbe OS 0.1.0  up 12d04h  10.20.0.2  VIEWER  14:22:07Z`
pub fn header(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    let data = model.data();
    // (text, mark, how much it is missed when there is no room: lower goes first)
    let mut parts: Vec<(String, Mark, u8)> = Vec::new();
    if let Some(status) = &data.status {
        let up_ms = if model.fresh(Source::Init) {
            status.uptime_ms.saturating_add(model.now.mono_ms.saturating_sub(data.status_ms))
        } else {
            status.uptime_ms
        };
        parts.push((status.name.clone(), Mark::Strong, 9));
        parts.push((format!("HookProbe OS {}", status.version), Mark::Plain, 3));
        parts.push((format!("up {}", format::duration(up_ms)), Mark::Plain, 4));
        if let Some(address) = address(&status.addresses) {
            parts.push((address, Mark::Plain, 2));
        }
    } else {
        parts.push(("HookProbe OS".into(), Mark::Strong, 9));
    }
    parts.push(("VIEWER".into(), Mark::Plain, 1));
    if model.is_frozen() {
        parts.push(("FROZEN".into(), Mark::Warn, 8));
    }
    let clock = format!("{}Z", format::clock(model.now.unix_s));
    let room = usize::from(area.width);
    let taken = |parts: &[(String, Mark, u8)]| {
        parts.iter().map(|part| part.0.len() + 2).sum::<usize>() + clock.len()
    };
    while taken(&parts) > room && parts.len() > 1 {
        let least = parts.iter().map(|part| part.2).min().unwrap_or(0);
        parts.retain(|part| part.2 != least);
    }
    let mut line = Line::new();
    for (text, mark, _) in parts {
        if !line.0.is_empty() {
            line = line.add(Mark::Plain, "  ");
        }
        line = line.add(mark, text);
    }
    let start = area.width.saturating_sub(9);
    pen.line(0, 0, start.saturating_sub(1), &line);
    pen.text(start, 0, 9, &clock, Mark::Plain);
}

/// The first address that is not the box's own loopback, without prefix length.
fn address(addresses: &[String]) -> Option<String> {
    let plain = |text: &String| {
        let address = text.split(' ').next_back()?.split('/').next()?;
        (!address.starts_with("127.") && address != "::1").then(|| address.to_owned())
    };
    addresses.iter().find_map(plain)
}

/// The eight screens and which one is shown; or the pages about what was measured.
pub fn tabs(model: &Model, area: Rect, buf: &mut Buffer) {
    if model.ui.screen.is_measured() {
        pages(model, area, buf);
        return;
    }
    let open = model.data().history.open_alerts().total();
    let name = |screen: Screen, width: u16| match (screen, width) {
        (Screen::Mitigations, ..100) => "Mitig.".into(),
        (Screen::Settings, ..100) => "Setup".into(),
        (Screen::Alerts, _) if open > 99 => "Alerts(99+)".into(),
        (Screen::Alerts, _) if open > 0 => format!("Alerts({open})"),
        (screen, _) => screen.name().to_owned(),
    };
    let mut line = Line::new();
    for (digit, screen) in (1..).zip(Screen::ALL) {
        let shown = screen == model.ui.screen;
        let mut label = format!("{digit}");
        if area.width >= 76 || shown {
            label = format!("{label} {}", name(screen, area.width));
        }
        if !line.0.is_empty() {
            line = line.add(Mark::Plain, " ");
        }
        line = if shown {
            line.add(Mark::Key, format!("[{label}]"))
        } else {
            line.add(Mark::Plain, label)
        };
    }
    Pen::new(buf, area, model.look).line(0, 0, area.width, &line);
}

fn pages(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut line = Line::new().add(Mark::Key, "m");
    for screen in Screen::MEASURED {
        line = if screen == model.ui.screen {
            line.add(Mark::Plain, " ").add(Mark::Key, format!("[{}]", screen.name()))
        } else {
            line.add(Mark::Plain, format!(" {}", screen.name()))
        };
    }
    let line = line.add(Mark::Plain, "   1 Overview");
    Pen::new(buf, area, model.look).line(0, 0, area.width, &line);
}

/// The bottom row: keys, or what is being typed, or what came of the drill.
pub fn hints(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    // The last cell of this row is never written.
    let width = area.width.saturating_sub(1);
    let list = model.ui.list();
    if model.ui.typing.is_some() {
        let (what, typed) = match model.ui.screen {
            Screen::Evidence => ("nonce (hexadecimal): ", &model.ui.nonce),
            _ => ("filter: ", &list.filter),
        };
        // The end is where the next character comes.
        let room = usize::from(width).saturating_sub(what.len() + 27);
        let shown = typed.get(typed.len().saturating_sub(room)..).unwrap_or(typed);
        let line = Line::new()
            .add(Mark::Strong, what)
            .add(Mark::Key, format!("{shown}_"))
            .add(Mark::Plain, "   Enter keep  Esc cancel");
        pen.line(0, 0, width, &line);
        return;
    }
    if let Some(line) = news(model) {
        pen.line(0, 0, width, &line);
        return;
    }
    let mut line = Line::new();
    for command in command::commands(model.allow_quit).filter(|command| !command.hint.is_empty()) {
        if useful(model, command.action) {
            line = line
                .add(Mark::Key, command.label())
                .add(Mark::Plain, format!(" {}  ", command.hint));
        }
    }
    pen.line(0, 0, width, &line);
}

/// The question before an errand, how it goes and what came of it.
fn errand(errand: &Errand) -> Option<Line> {
    let name = errand.name();
    match &errand.stage {
        Stage::Idle => None,
        Stage::Asking => Some(
            Line::plain("read rules and lists on the boot partition again?  ")
                .add(Mark::Key, "y")
                .add(Mark::Plain, " yes  any other key no"),
        ),
        Stage::Sent { .. } => Some(Line::plain(format!("{name}: sent, waiting for PID 1"))),
        Stage::Begun { text, .. } => Some(Line::plain(format!("{name}: {text}"))),
        Stage::Done { good, text } => {
            let (mark, word) = if *good { (Mark::Good, "[ OK ]") } else { (Mark::Bad, "FAIL") };
            let line = Line::plain(format!("{name}: ")).add(mark, word);
            Some(line.add(Mark::Plain, format!(" {text}")))
        }
    }
}

/// What came of the drill or of the recovery key.
fn news(model: &Model) -> Option<Line> {
    let drill = match &model.drill {
        Drill::Idle | Drill::Asking => None,
        Drill::Sent { .. } => Some(Line::plain("drill: sent, waiting for the sensor")),
        Drill::Done { started, reason } => {
            let (mark, word) = if *started { (Mark::Good, "[ OK ]") } else { (Mark::Bad, "FAIL") };
            let line = Line::plain("drill: ").add(mark, word);
            Some(line.add(Mark::Plain, format!(" {reason}")))
        }
    };
    let recovery = match &model.recovery {
        Recovery::Idle | Recovery::Shown { .. } => None,
        Recovery::Asked { .. } | Recovery::Sent { .. } => {
            Some(Line::plain("recovery key: waiting for attest"))
        }
        Recovery::Done { noted, text } => {
            let (mark, word) = if *noted { (Mark::Good, "[ OK ]") } else { (Mark::Warn, "WARN") };
            let line = Line::plain("recovery key: ").add(mark, word);
            Some(line.add(Mark::Plain, format!(" {text}")))
        }
    };
    drill.or_else(|| errand(&model.reload)).or_else(|| errand(&model.carry)).or(recovery)
}

/// Whether a key is worth a hint where the reader is.
fn useful(model: &Model, action: Action) -> bool {
    let list = model.ui.list();
    match action {
        Action::Filter | Action::Sort => table::exists(model) && !list.detail,
        Action::Detail => {
            let text = matches!(
                model.ui.screen,
                Screen::Mesh | Screen::Settings | Screen::Identity | Screen::Evidence
            );
            !list.detail && !text
        }
        Action::Back => {
            let away = model.ui.screen.is_measured() || model.ui.help;
            list.detail || !list.filter.is_empty() || away
        }
        Action::Pane(_) | Action::Drill | Action::Measured => {
            model.ui.screen == Screen::Overview && !list.detail
        }
        Action::Reload => matches!(model.ui.screen, Screen::Services | Screen::Settings),
        Action::Carry => model.ui.screen == Screen::Evidence,
        Action::Recovery => model.data().attest.recovery_waiting(),
        _ => true,
    }
}

/// What is to be said about a source next to its title; nothing when all is well.
#[must_use]
pub fn contact(model: &Model, source: Source) -> Line {
    match model.live().contact(source) {
        Contact::Trying => Line::plain(" loading"),
        Contact::Up if model.fresh(source) || model.is_frozen() => Line::new(),
        Contact::Up => Line::plain(" ").add(Mark::Warn, "STALE"),
        Contact::Down { since_ms, .. } => {
            let ms = model.now.mono_ms.saturating_sub(*since_ms);
            Line::plain(" ")
                .add(Mark::Warn, "disconnected")
                .add(Mark::Plain, format!(" {}", format::duration(ms)))
        }
    }
}

/// Rows instead of data that is not there.
#[must_use]
pub fn missing(model: &Model, source: Source, width: usize) -> Vec<Line> {
    match model.live().contact(source) {
        Contact::Trying | Contact::Up => vec![Line::plain("loading")],
        Contact::Down { reason, .. } => {
            let mut lines = vec![
                Line::new()
                    .add(Mark::Warn, "disconnected")
                    .add(Mark::Plain, format!(" {}, trying again", source.socket())),
            ];
            lines.extend(format::wrap(reason, width).into_iter().map(Line::plain));
            lines
        }
    }
}

/// The source of what a screen shows.
#[must_use]
pub fn source(screen: Screen) -> Source {
    match screen {
        Screen::Alerts | Screen::Ledger => Source::Blocks,
        Screen::Flows => Source::Sensor,
        Screen::Mitigations => Source::Response,
        Screen::Overview | Screen::Services | Screen::Mesh | Screen::Settings => Source::Init,
        Screen::Identity | Screen::Registers | Screen::BootLog | Screen::Evidence => Source::Attest,
    }
}

/// A screen or a detail that is nothing but text.
pub fn text(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    if area.height < 2 || area.width < 4 {
        return;
    }
    let width = detail::width(area.width);
    let lines = detail::lines(model, width);
    let rows = area.height - 2;
    let most = lines.len().saturating_sub(usize::from(rows));
    let scroll = model.ui.list().scroll.min(most);
    let mut title = Line::new().add(Mark::Strong, title(model));
    if most > 0 {
        let last = (scroll + usize::from(rows)).min(lines.len());
        let place = format!("  rows {} to {last} of {}", scroll + 1, lines.len());
        title = title.add(Mark::Plain, place);
    }
    if !matches!(model.ui.screen, Screen::Mesh | Screen::Settings) {
        title.0.extend(contact(model, source(model.ui.screen)).0);
    }
    pen.rule(0, Joint::TopLeft, Joint::TopRight);
    pen.title(2, 0, width, &title, false);
    pen.sides(1, rows);
    pen.lines(2, 1, width, rows, lines.get(scroll..).unwrap_or_default());
    pen.rule(area.height - 1, Joint::BottomLeft, Joint::BottomRight);
}

fn title(model: &Model) -> String {
    let name = model.ui.screen.name().to_uppercase();
    match (model.ui.screen, model.ui.pane) {
        (Screen::Overview, crate::ui::Pane::Log) => "LOG, NEWEST FIRST".into(),
        (Screen::Overview, crate::ui::Pane::Diagnostics) => "DIAGNOSTICS".into(),
        (Screen::Mesh | Screen::Settings | Screen::Identity | Screen::Evidence, _) => name,
        _ => format!("{name}: DETAIL"),
    }
}
