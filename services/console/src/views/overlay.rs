//! What lies over a screen: help, made from the command table, the question before a drill, the
//! recovery key.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::{
    command::{self, Action, Command},
    format,
    look::{Joint, Line, Mark, Pen},
    model::Model,
    recovery::Recovery,
};

/// Every key and what it does.
pub fn help(model: &Model, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, area, model.look);
    if area.height < 2 || area.width < 4 {
        return;
    }
    let (inner, rows) = (area.width - 4, area.height - 2);
    pen.rule(0, Joint::TopLeft, Joint::TopRight);
    pen.title(2, 0, inner, &Line::new().add(Mark::Strong, "KEYS"), false);
    pen.sides(1, rows);
    pen.rule(area.height - 1, Joint::BottomLeft, Joint::BottomRight);
    let is_screen = |command: &&Command| matches!(command.action, Action::Screen(_));
    let line = |command: &Command| {
        Line::new()
            .add(Mark::Key, format!("{:<10}", command.label()))
            .add(Mark::Plain, command.what)
    };
    let keys = command::commands(model.allow_quit).filter(|command| !is_screen(command));
    let mut keys: Vec<Line> = keys.map(line).collect();
    let screens = command::commands(model.allow_quit).filter(is_screen);
    let mut screens: Vec<Line> = screens.map(line).collect();
    screens.push(Line::new());
    for text in [
        "[ OK ] checked now; green",
        "WARN   stale or degraded; yellow",
        "FAIL   failed; DIFF, CRIT; red",
        "n/a    nothing to compare with",
    ] {
        screens.push(Line::plain(text));
    }
    if area.width >= 76 {
        // What has no room in the first column is in the second.
        let rest = keys.split_off(keys.len().min(usize::from(rows)));
        screens.splice(0..0, rest);
        let half = inner / 2;
        pen.lines(2, 1, half, rows, &keys);
        pen.lines(2 + half + 1, 1, inner - half - 1, rows, &screens);
    } else {
        pen.lines(2, 1, inner, rows, &keys);
    }
}

/// What a drill does and how it is undone, before it is asked for.
pub fn drill(model: &Model, area: Rect, buf: &mut Buffer) {
    const LABEL: u16 = 9;
    let width = area.width.saturating_sub(4).min(68);
    if width < 20 {
        return;
    }
    let text_width = width - 4 - LABEL;
    let mut lines = Vec::new();
    for (label, text) in [
        (
            "Effect",
            "a harmless built-in attack is played through the loaded XDP program; its alert is \
             written to the ledger, marked drill, and answered as policy says",
        ),
        ("Expiry", "a block that it leads to ends by itself, as every block does"),
        ("Undo", "none for ledger blocks: they stay, marked drill"),
    ] {
        let mut label = format!("{label:<9}");
        for part in format::wrap(text, usize::from(text_width)) {
            lines.push(Line::new().add(Mark::Strong, label).add(Mark::Plain, part));
            label = " ".repeat(usize::from(LABEL));
        }
    }
    lines.push(Line::new());
    lines.push(
        Line::new()
            .add(Mark::Key, "y")
            .add(Mark::Plain, " start the drill   ")
            .add(Mark::Key, "any other key")
            .add(Mark::Plain, " leave"),
    );
    window(buf, model, area, width, "START A DRILL?", &lines, false);
}

/// The recovery key, what it is for and how it leaves the screen.
pub fn recovery(model: &Model, area: Rect, buf: &mut Buffer) {
    let Recovery::Shown { key, typed, wrong, .. } = &model.recovery else { return };
    let width = area.width.saturating_sub(4).min(68);
    if width < 20 {
        return;
    }
    let mut lines = Vec::new();
    let text_width = usize::from(width - 4);
    let paragraph = |text: &str, lines: &mut Vec<Line>| {
        lines.extend(format::wrap(text, text_width).into_iter().map(Line::plain));
    };
    for part in format::wrap(key.expose(), text_width) {
        lines.push(Line::new().add(Mark::Strong, part));
    }
    lines.push(Line::new());
    paragraph(
        "Opens the state when the TPM is lost or has changed. Write it down, on paper, away from \
         this box; it is shown until you confirm and never again.",
        &mut lines,
    );
    lines.push(Line::new());
    let mut line = Line::plain("First group: ").add(Mark::Key, format!("{}_", typed.expose()));
    if *wrong && typed.expose().is_empty() {
        line = line.add(Mark::Plain, "  ").add(Mark::Warn, "WARN").add(Mark::Plain, " another one");
    }
    lines.push(line);
    lines.push(
        Line::new()
            .add(Mark::Key, "Enter")
            .add(Mark::Plain, " it is noted   ")
            .add(Mark::Key, "Esc")
            .add(Mark::Plain, " later"),
    );
    window(buf, model, area, width, "RECOVERY KEY", &lines, false);
}

/// Says that a recovery key waits. At the bottom: what was measured stays in view.
pub fn notice(model: &Model, area: Rect, buf: &mut Buffer) {
    let width = area.width.saturating_sub(4).min(60);
    if width < 20 {
        return;
    }
    let text = "The state of this box has a new recovery key that nobody has noted.";
    let parts = format::wrap(text, usize::from(width - 4));
    let mut lines: Vec<Line> = parts.into_iter().map(Line::plain).collect();
    lines.push(
        Line::new()
            .add(Mark::Warn, "WARN")
            .add(Mark::Plain, " press ")
            .add(Mark::Key, "R")
            .add(Mark::Plain, " to see it, ")
            .add(Mark::Key, "Esc")
            .add(Mark::Plain, " later"),
    );
    window(buf, model, area, width, "RECOVERY KEY NOT NOTED", &lines, true);
}

/// A frame with rows of text over the middle (or the bottom) of a screen.
fn window(
    buf: &mut Buffer,
    model: &Model,
    area: Rect,
    width: u16,
    title: &str,
    lines: &[Line],
    bottom: bool,
) {
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let free = area.height - height;
    let window = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + if bottom { free } else { free / 2 },
        width,
        height,
    );
    let mut pen = Pen::new(buf, window, model.look);
    let blank = " ".repeat(usize::from(width));
    for y in 0..height {
        pen.styled(0, y, width, &blank, Style::reset());
    }
    if height < 2 {
        return;
    }
    pen.rule(0, Joint::TopLeft, Joint::TopRight);
    pen.title(2, 0, width - 4, &Line::new().add(Mark::Strong, title), true);
    pen.sides(1, height - 2);
    pen.lines(2, 1, width - 4, height - 2, lines);
    pen.rule(height - 1, Joint::BottomLeft, Joint::BottomRight);
}
