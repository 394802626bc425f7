//! A terminal at the other end of the guest's serial line. It never answers, as a serial line with
//! nobody on it never does.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::Vm;
use crate::error::{Error, Result, at};

/// What is waited for may come at the end of a boot, which takes as long as
/// [`crate::run::READY_WAIT`] says.
const SCREEN_WAIT: Duration = Duration::from_secs(240);
/// Between two looks at the line.
const LOOK: Duration = Duration::from_millis(100);

/// 80 columns, 24 rows.
pub struct Screen {
    stream: UnixStream,
    parser: vt100::Parser,
}

impl Screen {
    /// Plugs in.
    ///
    /// # Errors
    /// [`Error::Io`] when the machine's serial line is not a socket.
    pub fn plug(vm: &Vm) -> Result<Self> {
        let stream = vm.serial()?;
        stream.set_read_timeout(Some(LOOK)).map_err(at("serial.sock"))?;
        Ok(Self { stream, parser: vt100::Parser::new(24, 80, 0) })
    }

    /// Types.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.stream.write_all(keys.as_bytes()).map_err(at("serial.sock"))
    }

    /// Text on the screen now.
    pub fn text(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.stream.read(&mut buffer) {
            if length == 0 {
                break;
            }
            self.parser.process(buffer.get(..length).unwrap_or_default());
        }
        self.parser.screen().contents()
    }

    /// Waits until every one of `parts` is on the screen at once, and returns its text.
    ///
    /// # Errors
    /// [`Error::Check`] with the screen as it is.
    pub fn wait(&mut self, parts: &[&str]) -> Result<String> {
        let there = |text: &str| parts.iter().all(|part| text.contains(part));
        self.wait_until(there)
            .map_err(|text| Error::Check(format!("{parts:?} did not appear on\n{text}")))
    }

    /// Waits until `part` is not on the screen any more.
    ///
    /// # Errors
    /// [`Error::Check`] with the screen as it is.
    pub fn wait_gone(&mut self, part: &str) -> Result<String> {
        self.wait_until(|text| !text.contains(part))
            .map_err(|text| Error::Check(format!("{part:?} stays on\n{text}")))
    }

    /// The text once it is as wanted, else as it is.
    fn wait_until(&mut self, wanted: impl Fn(&str) -> bool) -> std::result::Result<String, String> {
        let start = Instant::now();
        loop {
            let text = self.text();
            if wanted(&text) {
                return Ok(text);
            }
            if start.elapsed() > SCREEN_WAIT {
                return Err(text);
            }
        }
    }
}
