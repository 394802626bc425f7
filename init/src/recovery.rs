//! Asks for the recovery key of the state volume on every console at once.
//!
//! The lines are taken out of the terminals' hands: what is typed is shown as `*` (a serial line may
//! be recorded), and every key counts as a sign that somebody is there. A line without anybody, or
//! one that makes noise, costs its own chance and no more than [`ASK_MS_MAX`] of the boot.
//!
//! Must never happen here: a wait without an end; the key on a screen or in memory after its use.
//! Called by [`crate::unlock`].

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use hookprobe_wire::unlock::RECOVERY_BYTES_MAX;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr},
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{clock, emergency::CONSOLES, limits::RECOVERY_MS_MAX};

/// Longest that is asked, whatever is typed: eight groups take the slowest typist two minutes.
const ASK_MS_MAX: u64 = 180_000;
/// A line that sent so many bytes without one whole key is noise.
const CONSOLE_BYTES_MAX: usize = 8 * RECOVERY_BYTES_MAX;
/// Longest sleep; a deadline is noticed at most this late.
const TURN_MS: u64 = 1000;

/// Shows `lines`, then waits; `None` when nobody typed a key in time, or Enter alone.
#[must_use]
pub fn ask(mut show: impl FnMut(&str), reason: &str) -> Option<Zeroizing<String>> {
    let mut consoles: Vec<Console> =
        CONSOLES.iter().filter_map(|path| Console::open(path)).collect();
    if consoles.is_empty() {
        return None;
    }
    let seconds = RECOVERY_MS_MAX / 1000;
    for line in [
        "",
        "The state of this box is locked:",
        reason,
        "Type its recovery key (8 groups) and Enter to open it. Enter alone goes on without it:",
        "the box protects, but remembers nothing. Type the key only on a box that you trust.",
    ] {
        show(line);
    }
    show(&format!("Waiting {seconds} s."));
    let key = wait(&mut consoles);
    // The last one that was opened saw the others' changes: it is put back first.
    while consoles.pop().is_some() {}
    key
}

fn wait(consoles: &mut Vec<Console>) -> Option<Zeroizing<String>> {
    let end = clock::boot_ms() + ASK_MS_MAX;
    let mut deadline = clock::boot_ms() + RECOVERY_MS_MAX;
    while !consoles.is_empty() {
        let now = clock::boot_ms();
        let left = deadline.min(end).saturating_sub(now);
        if left == 0 {
            return None;
        }
        let mut wanted: Vec<PollFd<'_>> =
            consoles.iter().map(|console| PollFd::new(&console.file, PollFlags::IN)).collect();
        let turn = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(left.min(TURN_MS - 1) * 1_000_000).unwrap_or(0),
        };
        let _ = poll(&mut wanted, Some(&turn));
        let mut answer = None;
        consoles.retain_mut(|console| {
            let said = if answer.is_some() { Said::Nothing } else { console.read() };
            match said {
                Said::Nothing => true,
                Said::Typed => {
                    // Somebody is there: time for the whole key.
                    deadline = deadline.max(now + RECOVERY_MS_MAX);
                    true
                }
                Said::Line(line) => {
                    answer = Some(line);
                    true
                }
                Said::Gone => false,
            }
        });
        if let Some(line) = answer {
            return (!line.is_empty()).then_some(line);
        }
    }
    None
}

/// What came from a console.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Typed,
    Line(Zeroizing<String>),
    /// It hung up, fails, or is noise.
    Gone,
}

/// One console, in a mode of its own until it is dropped.
struct Console {
    file: File,
    before: Option<Termios>,
    line: Line,
}

impl Console {
    fn open(path: &str) -> Option<Self> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()?;
        let before = tcgetattr(&file).ok();
        if let Some(before) = &before {
            let mut modes = before.clone();
            modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL);
            let _ = tcsetattr(&file, OptionalActions::Now, &modes);
            // What was there before the question is no answer to it.
            let _ = tcflush(&file, QueueSelector::IFlush);
        }
        Some(Self { file, before, line: Line::default() })
    }

    fn read(&mut self) -> Said {
        let mut bytes = Zeroizing::new([0; RECOVERY_BYTES_MAX]);
        let got = match self.file.read(bytes.as_mut_slice()) {
            Ok(0) => return Said::Gone,
            Ok(got) => got,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => Said::Nothing,
                    _ => Said::Gone,
                };
            }
        };
        let mut echo = Vec::new();
        let said = self.line.feed(bytes.get(..got).unwrap_or_default(), &mut echo);
        // A terminal that takes nothing shows nothing.
        let _ = self.file.write(&echo);
        said
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Not with the drain of OptionalActions::Flush: a line whose other side takes nothing would
            // hold PID 1 for ever.
            let _ = tcflush(&self.file, QueueSelector::IFlush);
            let _ = tcsetattr(&self.file, OptionalActions::Now, before);
        }
    }
}

/// A line as it is typed: pure.
#[derive(Default)]
struct Line {
    typed: Zeroizing<Vec<u8>>,
    seen: usize,
}

impl Line {
    /// Takes bytes in; `echo` is what is to be shown for them.
    fn feed(&mut self, bytes: &[u8], echo: &mut Vec<u8>) -> Said {
        self.seen = self.seen.saturating_add(bytes.len());
        if self.typed.capacity() == 0 {
            // Once, so that no copy is left behind by growing.
            self.typed.reserve_exact(RECOVERY_BYTES_MAX);
        }
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    echo.extend_from_slice(b"\r\n");
                    let text = String::from_utf8_lossy(&self.typed).trim().to_owned();
                    self.typed.zeroize();
                    return Said::Line(Zeroizing::new(text));
                }
                // Backspace and delete.
                0x08 | 0x7f => {
                    let erase: &[u8] = if self.typed.pop().is_some() { b"\x08 \x08" } else { b"" };
                    echo.extend_from_slice(erase);
                }
                // Control-U: begin again.
                0x15 => {
                    echo.extend(self.typed.iter().flat_map(|_| *b"\x08 \x08"));
                    self.typed.zeroize();
                }
                byte if (byte.is_ascii_graphic() || *byte == b' ')
                    && self.typed.len() < RECOVERY_BYTES_MAX =>
                {
                    self.typed.push(*byte);
                    echo.push(b'*');
                }
                _ => {}
            }
        }
        if self.seen > CONSOLE_BYTES_MAX { Said::Gone } else { Said::Typed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut Line, text: &[u8]) -> (Said, String) {
        let mut echo = Vec::new();
        let said = line.feed(text, &mut echo);
        (said, String::from_utf8(echo).unwrap())
    }

    fn key(text: &str) -> Said {
        Said::Line(Zeroizing::new(text.into()))
    }

    #[test]
    fn a_key_is_typed_corrected_and_never_shown() {
        let mut line = Line::default();
        assert_eq!(typed(&mut line, b" aaaa"), (Said::Typed, "*****".into()));
        assert_eq!(typed(&mut line, b"x\x7f-bb"), (Said::Typed, "*\x08 \x08***".into()));
        assert_eq!(typed(&mut line, b"bb\r"), (key("aaaa-bbbb"), "**\r\n".into()));
        assert_eq!(typed(&mut line, b"\n").0, key(""), "nothing of it stays");
        typed(&mut line, b"wrong\x15");
        assert_eq!(typed(&mut line, b"right\n").0, key("right"));
        assert_eq!(typed(&mut line, b"\x08\x15"), (Said::Typed, String::new()));
    }

    #[test]
    fn noise_is_bounded_and_shows_nothing() {
        let mut line = Line::default();
        let noise: Vec<u8> = [0x00, 0x1b, 0x80, 0xff].repeat(64);
        let (mut said, mut turns) = (Said::Typed, 0);
        while said == Said::Typed && turns < 1000 {
            let echo;
            (said, echo) = typed(&mut line, &noise);
            assert_eq!(echo, "");
            turns += 1;
        }
        assert_eq!((said, turns), (Said::Gone, CONSOLE_BYTES_MAX / noise.len() + 1));
        let mut line = Line::default();
        typed(&mut line, &[b'a'; 2 * RECOVERY_BYTES_MAX]);
        assert_eq!(typed(&mut line, b"\n").0, key(&"a".repeat(RECOVERY_BYTES_MAX)));
    }

    #[test]
    fn a_console_that_hangs_up_is_given_up() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(near));
        let mut console = Console { file, before: None, line: Line::default() };
        assert_eq!(console.read(), Said::Nothing);
        (&far).write_all(b"ab\n").unwrap();
        assert_eq!(console.read(), key("ab"));
        drop(far);
        assert_eq!(console.read(), Said::Gone);
        let mut consoles = vec![console];
        assert_eq!(wait(&mut consoles), None, "at once, nobody is left");
    }
}
