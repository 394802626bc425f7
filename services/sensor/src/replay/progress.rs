//! How far a replay is: one bar on a terminal, nothing elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// How often it is drawn. 500 ms: twice a second is what a serial console bears.
const PERIOD: Duration = Duration::from_millis(500);
/// Packets between two looks at the clock, to keep it cheap.
const PACKETS: u64 = 8192;
/// Cells of the bar.
const CELLS: u64 = 20;
/// Longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 40;

/// The bar of one file.
pub(super) struct Progress {
    name: String,
    bytes_total: u64,
    packets: u64,
    drawn: Option<Instant>,
    is_drawn: bool,
}

impl Progress {
    pub(super) fn new(path: &Path, bytes_total: u64) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: hookprobe_wire::text::escape(&name.to_string_lossy(), NAME_CHARS_MAX),
            bytes_total,
            packets: 0,
            drawn: io::stderr().is_terminal().then(Instant::now),
            is_drawn: false,
        }
    }

    pub(super) fn show(&mut self, bytes: u64) {
        self.packets += 1;
        let Some(drawn) = self.drawn else {
            return;
        };
        if !self.packets.is_multiple_of(PACKETS) || drawn.elapsed() < PERIOD {
            return;
        }
        self.drawn = Some(Instant::now());
        self.is_drawn = true;
        let line = line(&self.name, self.packets, bytes, self.bytes_total);
        // A progress line that can't be drawn is no reason to stop.
        let _ = write!(io::stderr(), "\r{line}");
    }

    pub(super) fn clear(&self) {
        if self.is_drawn {
            let _ = writeln!(io::stderr());
        }
    }
}

/// `[#####---------------]  25 %  NAME: 8192 packets`.
fn line(name: &str, packets: u64, bytes: u64, bytes_total: u64) -> String {
    let percent = (bytes.saturating_mul(100) / bytes_total.max(1)).min(100);
    let full = percent * CELLS / 100;
    let cell = |index| if index < full { '#' } else { '-' };
    let bar: String = (0..CELLS).map(cell).collect();
    format!("[{bar}] {percent:3} %  {name}: {packets} packets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(line("x", 7, 1, 4), "[#####---------------]  25 %  x: 7 packets");
        assert_eq!(line("x", 7, 9, 0), "[####################] 100 %  x: 7 packets");
    }
}
