//! How things look: marks, their colours and the pen that draws them.
//!
//! Colour always doubles a word (`[ OK ]`, `WARN`, `FAIL`); on a line without colour the words and
//! bold, reverse are all there is. The pen writes inside its rectangle only and one cell per
//! character; everything it is given is ASCII.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing special.
    Plain,
    /// Titles and the numbers that matter.
    Strong,
    /// Verified now.
    Good,
    /// Stale, degraded.
    Warn,
    /// Failed, critical.
    Bad,
    /// Focus and keys.
    Key,
}

/// What the line can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Eight colours.
    pub colour: bool,
    /// Lines drawn with `+`, `-` and `|`.
    pub ascii: bool,
}

impl Look {
    /// A terminal emulator or the Linux console.
    pub const SCREEN: Self = Self { colour: true, ascii: false };
    /// A serial line with who knows what at the other end.
    pub const SERIAL: Self = Self { colour: false, ascii: true };

    /// Attributes of a mark.
    #[must_use]
    pub fn style(self, mark: Mark) -> Style {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        match (mark, self.colour) {
            (Mark::Plain, _) | (Mark::Good, false) => plain,
            (Mark::Strong, _) | (Mark::Warn | Mark::Key, false) => bold,
            (Mark::Bad, false) => plain.add_modifier(Modifier::REVERSED),
            (Mark::Good, true) => plain.fg(Color::Green),
            (Mark::Warn, true) => bold.fg(Color::Yellow),
            (Mark::Bad, true) => bold.fg(Color::Red),
            (Mark::Key, true) => plain.fg(Color::Cyan),
        }
    }

    /// The selected row.
    #[must_use]
    pub fn selected(self) -> Style {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        if self.colour { reversed.fg(Color::Cyan) } else { reversed }
    }

    fn glyph(self, joint: Joint) -> char {
        if self.ascii {
            return match joint {
                Joint::Horizontal => '-',
                Joint::Vertical => '|',
                _ => '+',
            };
        }
        match joint {
            Joint::Horizontal => '\u{2500}',
            Joint::Vertical => '\u{2502}',
            Joint::TopLeft => '\u{250c}',
            Joint::TopRight => '\u{2510}',
            Joint::BottomLeft => '\u{2514}',
            Joint::BottomRight => '\u{2518}',
            Joint::Left => '\u{251c}',
            Joint::Right => '\u{2524}',
            Joint::Top => '\u{252c}',
            Joint::Bottom => '\u{2534}',
            Joint::Cross => '\u{253c}',
        }
    }
}

/// Where lines meet; named by the side of a box on which the joint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// `-`
    Horizontal,
    /// `|`
    Vertical,
    /// Corner.
    TopLeft,
    /// Corner.
    TopRight,
    /// Corner.
    BottomLeft,
    /// Corner.
    BottomRight,
    /// Three ways.
    Left,
    /// Three ways.
    Right,
    /// Three ways.
    Top,
    /// Three ways.
    Bottom,
    /// Four ways.
    Cross,
}

/// A piece of text with one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// ASCII.
    pub text: String,
    /// What it means.
    pub mark: Mark,
}

/// One row of text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plain text.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new().add(Mark::Plain, text)
    }

    /// With one more piece.
    #[must_use]
    pub fn add(mut self, mark: Mark, text: impl Into<String>) -> Self {
        self.0.push(Span { text: text.into(), mark });
        self
    }

    /// Cells that it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }
}

/// Draws inside one rectangle of a buffer.
pub struct Pen<'b> {
    buf: &'b mut Buffer,
    area: Rect,
    look: Look,
}

impl<'b> Pen<'b> {
    /// A pen for the part of `area` that the buffer has.
    pub fn new(buf: &'b mut Buffer, area: Rect, look: Look) -> Self {
        let area = area.intersection(buf.area);
        Self { buf, area, look }
    }

    /// Where it may draw.
    #[must_use]
    pub fn area(&self) -> Rect {
        self.area
    }

    fn cell(&mut self, x: u16, y: u16, char: char, style: Style) {
        let (Some(x), Some(y)) = (self.area.x.checked_add(x), self.area.y.checked_add(y)) else {
            return;
        };
        if x < self.area.right()
            && y < self.area.bottom()
            && let Some(cell) = self.buf.cell_mut((x, y))
        {
            cell.set_char(char).set_style(style);
        }
    }

    /// Text of one style from `(x, y)` of the rectangle on, at most `width` cells; returns the
    /// column after it.
    pub fn styled(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let mut at = x;
        for char in text.chars().take(usize::from(width)) {
            self.cell(at, y, char, style);
            at = at.saturating_add(1);
        }
        at
    }

    /// Text of one mark; as [`Self::styled`].
    pub fn text(&mut self, x: u16, y: u16, width: u16, text: &str, mark: Mark) -> u16 {
        self.styled(x, y, width, text, self.look.style(mark))
    }

    /// A row of text, cut with `~` where it does not fit.
    pub fn line(&mut self, x: u16, y: u16, width: u16, line: &Line) {
        let mut left = usize::from(width);
        let mut at = x;
        for span in &line.0 {
            let length = span.text.chars().count();
            let cut = length > left;
            // A word of colour is whole or not there: half a word says nothing.
            let (text, mark) = match span.mark {
                Mark::Good | Mark::Warn | Mark::Bad if cut => ("~".into(), Mark::Plain),
                mark => (crate::format::fit(&span.text, left), mark),
            };
            let room = u16::try_from(left).unwrap_or(u16::MAX);
            at = self.text(at, y, room, &text, mark);
            if cut {
                return;
            }
            left -= length;
        }
    }

    /// Rows of text from `(x, y)` on, at most `rows`.
    pub fn lines(&mut self, x: u16, y: u16, width: u16, rows: u16, lines: &[Line]) {
        for (row, line) in (0..rows).zip(lines) {
            self.line(x, y.saturating_add(row), width, line);
        }
    }

    /// Gives every cell of a row one style, keeping its text.
    pub fn restyle(&mut self, x: u16, y: u16, width: u16, style: Style) {
        for column in x..x.saturating_add(width) {
            let (column, y) = (self.area.x + column, self.area.y.saturating_add(y));
            if column < self.area.right()
                && y < self.area.bottom()
                && let Some(cell) = self.buf.cell_mut((column, y))
            {
                cell.set_style(Style::reset());
                cell.set_style(style);
            }
        }
    }

    /// One joint.
    pub fn joint(&mut self, x: u16, y: u16, joint: Joint) {
        let char = self.look.glyph(joint);
        self.cell(x, y, char, Style::new());
    }

    /// A horizontal line over the whole width with its two ends.
    pub fn rule(&mut self, y: u16, left: Joint, right: Joint) {
        let last = self.area.width.saturating_sub(1);
        for x in 1..last {
            self.joint(x, y, Joint::Horizontal);
        }
        self.joint(last, y, right);
        self.joint(0, y, left);
    }

    /// Vertical lines left and right of `rows` rows.
    pub fn sides(&mut self, y: u16, rows: u16) {
        let last = self.area.width.saturating_sub(1);
        for row in y..y.saturating_add(rows) {
            self.joint(0, row, Joint::Vertical);
            self.joint(last, row, Joint::Vertical);
        }
    }

    /// A title on a rule; the focused one in brackets.
    pub fn title(&mut self, x: u16, y: u16, width: u16, title: &Line, focused: bool) {
        let (mark, before, after) =
            if focused { (Mark::Key, "[", "]") } else { (Mark::Plain, " ", " ") };
        let mut line = Line::new().add(mark, before);
        line.0.extend(title.0.iter().cloned());
        let line = line.add(mark, after);
        self.line(x, y, width, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pen_stays_inside() {
        let whole = Rect::new(0, 0, 10, 4);
        let mut buf = Buffer::empty(whole);
        let mut pen = Pen::new(&mut buf, Rect::new(2, 1, 4, 2), Look::SERIAL);
        pen.text(0, 0, 99, "abcdefgh", Mark::Plain);
        pen.text(0, 7, 9, "x", Mark::Plain);
        pen.rule(1, Joint::Left, Joint::Right);
        pen.restyle(0, 0, 99, Style::new());
        let mut expect = Buffer::empty(whole);
        expect.set_string(2, 1, "abcd", Style::new());
        expect.set_string(2, 2, "+--+", Style::new());
        let rows = |buf: &Buffer| -> Vec<String> {
            buf.content.iter().map(|cell| cell.symbol().to_owned()).collect()
        };
        assert_eq!(rows(&buf), rows(&expect));
    }
}
