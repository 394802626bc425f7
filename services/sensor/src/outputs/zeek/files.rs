//! The logs of one run: each is opened when it gets its first row.

use std::io::{self, BufWriter, Write};

use super::{
    log::{Format, Log, Schema, Value},
    schema::{CONN, DHCP, DNS, HTTP, NOTICE, SSH, SSL, WEIRD},
};

/// Buffer of one log: eight of them are 512 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// Opens a log by its name (`conn`).
pub type Open = Box<dyn FnMut(&'static str) -> io::Result<Box<dyn Write>>>;

/// A log that has rows.
type Opened = Log<BufWriter<Box<dyn Write>>>;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of files")]
pub enum Kind {
    Conn,
    Dns,
    Ssl,
    Http,
    Ssh,
    Dhcp,
    Notice,
    Weird,
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Conn,
        Self::Dns,
        Self::Ssl,
        Self::Http,
        Self::Ssh,
        Self::Dhcp,
        Self::Notice,
        Self::Weird,
    ];

    fn schema(self) -> &'static Schema {
        match self {
            Self::Conn => &CONN,
            Self::Dns => &DNS,
            Self::Ssl => &SSL,
            Self::Http => &HTTP,
            Self::Ssh => &SSH,
            Self::Dhcp => &DHCP,
            Self::Notice => &NOTICE,
            Self::Weird => &WEIRD,
        }
    }

    /// `conn`: the file's name without `.log`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.schema().path
    }
}

/// All logs of a run.
pub struct Files {
    open: Open,
    format: Format,
    logs: [Option<Opened>; Kind::ALL.len()],
    last_ns: u64,
    rows: u64,
    failed: Option<(&'static str, io::Error)>,
}

impl Files {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(format: Format, open: Open) -> Self {
        Self { open, format, logs: Default::default(), last_ns: 0, rows: 0, failed: None }
    }

    /// Writes a row. After the first failure nothing more is written; [`Files::close`] says what happened.
    pub fn row(&mut self, kind: Kind, now_ns: u64, values: &[Value<'_>]) {
        if self.failed.is_some() {
            return;
        }
        self.last_ns = self.last_ns.max(now_ns);
        if let Err(error) = self.try_row(kind, now_ns, values) {
            self.failed = Some((kind.name(), error));
        }
    }

    fn try_row(&mut self, kind: Kind, now_ns: u64, values: &[Value<'_>]) -> io::Result<()> {
        // Every kind has its place: the array is as long as the list of kinds.
        let Some(slot) = self.logs.get_mut(kind as usize) else {
            return Ok(());
        };
        let log = match slot {
            Some(log) => log,
            None => {
                let out = BufWriter::with_capacity(BUFFER_BYTES, (self.open)(kind.name())?);
                slot.insert(Log::new(kind.schema(), self.format, now_ns, out)?)
            }
        };
        self.rows += 1;
        log.row(values)
    }

    /// Rows of all logs.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the last lines of all logs.
    ///
    /// # Errors
    /// The log that failed first, and how.
    pub fn close(mut self) -> Result<(), (&'static str, io::Error)> {
        for (kind, log) in Kind::ALL.iter().zip(&mut self.logs) {
            if let Some(Err(error)) = log.take().map(|log| log.close(self.last_ns)) {
                self.failed.get_or_insert((kind.name(), error));
            }
        }
        match self.failed {
            Some(failed) => Err(failed),
            None => Ok(()),
        }
    }
}
