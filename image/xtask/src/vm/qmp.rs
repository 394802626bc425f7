//! QEMU's control protocol, as much of it as is needed: one command, one answer.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::error::{Error, Result, at};

/// QEMU answers at once; at the end of a migration it waits for the disk, and so do we.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// A connection after its greeting.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and greets.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(at(path))?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(at(path))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read()?;
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line).map_err(at("qmp"))?;
        serde_json::from_str(&line).map_err(|error| Error::Check(format!("qmp: {error}: {line}")))
    }

    /// Executes a command and returns its answer; events in between are skipped.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Check`] with QEMU's own words.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let stream = self.reader.get_mut();
        stream.write_all(format!("{request}\n").as_bytes()).map_err(at("qmp"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                return Err(Error::Check(format!("qmp {command}: {error}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}
