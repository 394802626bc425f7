//! Short evidence as QR codes, one at a time, over everything but the hints.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};

use crate::{
    code, format,
    look::{Line, Mark, Pen},
    model::{Drill, Model},
    proof::Proof,
    ui::Screen,
};

/// Narrowest text beside a code.
const TEXT_WIDTH_MIN: u16 = 12;

/// Lines that are shown as codes; none when they are shown as text: on a serial line (which has no
/// half blocks, and a clipboard at its other end), and on a terminal too small for a code.
#[must_use]
pub fn lines(model: &Model) -> Option<Vec<String>> {
    let Proof::Ready { bytes, .. } = &model.proof else { return None };
    let covered = model.ui.help || model.drill == Drill::Asking || model.recovery.is_open();
    if model.ui.screen != Screen::Evidence || covered || model.look.ascii {
        return None;
    }
    // The last row is the hints'.
    code::lines(bytes, model.size.0, model.size.1.saturating_sub(1))
}

/// One of the codes and what to do with it.
pub fn codes(model: &Model, lines: &[String], area: Rect, buf: &mut Buffer) {
    let Proof::Ready { nonce, bytes } = &model.proof else { return };
    let page = model.ui.list().scroll.min(lines.len().saturating_sub(1));
    let rows = lines.get(page).and_then(|line| code::rows(line)).unwrap_or_default();
    let width = rows.first().map_or(0, |row| row.chars().count());
    let width = u16::try_from(width).unwrap_or(u16::MAX);
    let style = if model.look.colour {
        Style::new().fg(Color::Gray).bg(Color::Black)
    } else {
        Style::new()
    };
    let mut pen = Pen::new(buf, area, model.look);
    for (y, row) in (0..area.height).zip(&rows) {
        pen.styled(0, y, width, row, style);
    }
    let Some(text_width) = area.width.checked_sub(width.saturating_add(2)) else { return };
    if text_width < TEXT_WIDTH_MIN {
        return;
    }
    let mut text = vec![
        Line::new().add(Mark::Strong, "SHORT EVIDENCE"),
        Line::plain(format!("code {} of {}", page + 1, lines.len())),
        Line::plain(format!("{} bytes in all", bytes.len())),
    ];
    let mut paragraph = |words: &str| {
        text.push(Line::new());
        let parts = format::wrap(words, usize::from(text_width));
        text.extend(parts.into_iter().map(Line::plain));
    };
    paragraph("n next, p previous, Enter asks again, / types a nonce, Esc back");
    paragraph(
        "Scan all of them, in any order, one text a line: hookprobe-verify quote reads them.",
    );
    let (nonce, whose) = nonce;
    paragraph(&format!("Nonce {nonce}, {whose}"));
    pen.lines(width + 2, 0, text_width, area.height, &text);
}
