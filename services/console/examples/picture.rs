//! Prints the Overview at 80x24 from a fixed model, for the README: made by a command, so that it
//! can't go stale. `cargo xtask picture` calls it.

#[path = "../tests/sample/mod.rs"]
mod sample;

use hookprobe_console::{look::Look, views};
use ratatui::{buffer::Buffer, layout::Rect};

fn main() {
    let model = sample::model(sample::State::Ok, Look::SERIAL);
    let area = Rect::new(0, 0, 80, 24);
    let mut buffer = Buffer::empty(area);
    views::screen(&model, area, &mut buffer);
    for row in buffer.content.chunks(usize::from(area.width)) {
        let text: String = row.iter().map(|cell| cell.symbol()).collect();
        println!("{}", text.trim_end());
    }
}
