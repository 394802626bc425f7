//! Cells to bytes, and when.
//!
//! Pure: draws the difference of two buffers with cursor moves, attributes and characters that
//! every VT100 descendant knows. It never asks the terminal anything, never erases (spaces do), and
//! never writes the last cell of the last row, which would scroll a VT100.

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier},
};

/// Redraws by difference are at least this far apart: twice a second is enough for people, and
/// 115200 baud is 11 KB/s.
pub const PAINT_MS: u64 = 500;
/// Everything is painted again this often: a terminal may have been plugged in since.
pub const REPAINT_MS: u64 = 60_000;
/// A key after so long without one paints everything again: somebody just came.
pub const IDLE_MS: u64 = 60_000;
/// Largest screen that is drawn; the rest of a larger terminal stays as it is.
pub const SIZE_MAX: (u16, u16) = (200, 80);
/// Size when the terminal does not know its own.
pub const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// Attributes off, ASCII, whole screen scrolls, cursor hidden: whatever was there before.
const PREPARE: &[u8] = b"\x1b[0m\x1b(B\x1b[r\x1b[?25l";

/// The size to draw for what TIOCGWINSZ said; serial lines say 0x0.
#[must_use]
pub fn size(columns: u16, rows: u16) -> (u16, u16) {
    if columns == 0 || rows == 0 {
        return SIZE_DEFAULT;
    }
    (columns.min(SIZE_MAX.0), rows.min(SIZE_MAX.1))
}

/// What is on the terminal, as far as we know.
#[derive(Debug, Default)]
pub struct Painter {
    shown: Buffer,
    unknown: bool,
}

impl Painter {
    /// Nothing is known about the terminal.
    #[must_use]
    pub fn new() -> Self {
        Self { shown: Buffer::empty(Rect::ZERO), unknown: true }
    }

    /// The terminal may show anything: the next paint writes every cell.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    /// Appends what makes the terminal show `next`.
    pub fn paint(&mut self, next: Buffer, out: &mut Vec<u8>) {
        let all = self.unknown || self.shown.area != next.area;
        if all {
            out.extend_from_slice(PREPARE);
        }
        let area = next.area;
        let mut style: Option<(Color, Color, Modifier)> = None;
        for y in 0..area.height {
            let mut at = None;
            // The last cell of the last row is never written.
            let width = area.width - u16::from(y + 1 == area.height);
            for x in 0..width {
                let Some(cell) = next.cell((x, y)) else {
                    continue;
                };
                if !all && self.shown.cell((x, y)) == Some(cell) {
                    continue;
                }
                if at != Some(x) {
                    out.extend_from_slice(format!("\x1b[{};{}H", y + 1, x + 1).as_bytes());
                }
                let wanted = (cell.fg, cell.bg, cell.modifier);
                if style != Some(wanted) {
                    attributes(cell, out);
                    style = Some(wanted);
                }
                out.extend_from_slice(cell.symbol().as_bytes());
                at = Some(x + 1);
            }
        }
        self.shown = next;
        self.unknown = false;
    }

    /// Appends what leaves the terminal usable for whoever comes next.
    pub fn leave(&self, out: &mut Vec<u8>) {
        let row = self.shown.area.height.max(1);
        out.extend_from_slice(format!("\x1b[0m\x1b[?25h\x1b[{row};1H\r\n").as_bytes());
    }
}

fn attributes(cell: &Cell, out: &mut Vec<u8>) {
    let mut codes = String::from("\x1b[0");
    for (modifier, code) in
        [(Modifier::BOLD, ";1"), (Modifier::UNDERLINED, ";4"), (Modifier::REVERSED, ";7")]
    {
        if cell.modifier.contains(modifier) {
            codes.push_str(code);
        }
    }
    codes.push_str(match cell.fg {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Cyan => ";36",
        // Light modules of a QR code: on every terminal lighter than the dark ones.
        Color::Gray => ";37",
        _ => "",
    });
    if cell.bg == Color::Black {
        codes.push_str(";40");
    }
    codes.push('m');
    out.extend_from_slice(codes.as_bytes());
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Not yet.
    Wait,
    /// What changed.
    Difference,
    /// Every cell.
    Everything,
}

/// When to paint.
#[derive(Debug, Default)]
pub struct Pacer {
    painted_ms: Option<u64>,
    everything_ms: u64,
    key_ms: u64,
    asked: bool,
    key: bool,
}

impl Pacer {
    /// Never painted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A key was pressed. `true` when nobody had been there: everything is painted again, and
    /// Enter was meant for that alone.
    pub fn pressed(&mut self, now_ms: u64) -> bool {
        let idle = now_ms.saturating_sub(self.key_ms) >= IDLE_MS;
        self.key_ms = now_ms;
        self.key = true;
        self.asked |= idle;
        idle
    }

    /// Everything has to be painted again.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// What to do now.
    pub fn due(&mut self, now_ms: u64) -> Paint {
        let Some(painted_ms) = self.painted_ms else {
            return self.everything(now_ms);
        };
        if self.asked || now_ms.saturating_sub(self.everything_ms) >= REPAINT_MS {
            return self.everything(now_ms);
        }
        if self.key || now_ms.saturating_sub(painted_ms) >= PAINT_MS {
            self.key = false;
            self.painted_ms = Some(now_ms);
            return Paint::Difference;
        }
        Paint::Wait
    }

    fn everything(&mut self, now_ms: u64) -> Paint {
        self.painted_ms = Some(now_ms);
        self.everything_ms = now_ms;
        self.asked = false;
        self.key = false;
        Paint::Everything
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    fn buffer(text: &str) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 2));
        buffer.set_string(0, 0, text, Style::new());
        buffer.set_string(0, 1, "wxyz", Style::new().fg(Color::Red));
        buffer
    }

    #[test]
    fn first_everything_then_the_difference() {
        let mut painter = Painter::new();
        let mut out = Vec::new();
        painter.paint(buffer("abcd"), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\x1b[1;1H\x1b[0mabcd\x1b[2;1H\x1b[0;31mwxy"), "{text:?}");
        let mut out = Vec::new();
        painter.paint(buffer("abXd"), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[1;3H\x1b[0mX");
        let mut out = Vec::new();
        painter.paint(buffer("abXd"), &mut out);
        assert!(out.is_empty());
        painter.forget();
        painter.paint(buffer("abXd"), &mut out);
        assert!(out.starts_with(PREPARE));
    }

    #[test]
    fn serial_lines_say_zero() {
        assert_eq!(size(0, 0), SIZE_DEFAULT);
        assert_eq!(size(132, 43), (132, 43));
        assert_eq!(size(1000, 1), (SIZE_MAX.0, 1));
    }

    #[test]
    fn twice_a_second_and_at_once_on_a_key() {
        let mut pacer = Pacer::new();
        assert_eq!(pacer.due(0), Paint::Everything);
        assert_eq!(pacer.due(PAINT_MS - 1), Paint::Wait);
        assert_eq!(pacer.due(PAINT_MS), Paint::Difference);
        assert!(!pacer.pressed(PAINT_MS + 1));
        assert_eq!(pacer.due(PAINT_MS + 1), Paint::Difference);
        assert_eq!(pacer.due(REPAINT_MS), Paint::Everything);
        assert!(pacer.pressed(PAINT_MS + 1 + IDLE_MS));
        assert_eq!(pacer.due(PAINT_MS + 1 + IDLE_MS), Paint::Everything);
    }
}
