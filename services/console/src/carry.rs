//! `hookprobe-console carry`: opens attest's socket and the stick for [`courier`], and ends.

use std::{
    fs::{File, OpenOptions},
    os::unix::{fs::OpenOptionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use fatfs::{Date, DateTime, TimeProvider};
use hookprobe_console::{
    Source,
    courier::{self, CourierError},
    proof::Nonce,
};
use rustix::fs::OFlags;
use thiserror::Error;

/// A slow TPM quotes in 2 s, and may have to do it again because a register moved.
const ANSWER: Duration = Duration::from_secs(20);

/// Write whole evidence to a USB stick, once.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the quote answers, in hexadecimal
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Name of the box, for the file's name
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The partition with the FAT file system
    #[arg(long, value_name = "DEVICE", default_value = "/run/hookprobe/carry/stick")]
    stick: PathBuf,
}

/// Why it ended without.
#[derive(Debug, Error)]
pub(crate) enum CarryError {
    #[error("HP-US-027 usb: {0}")]
    Nonce(String),
    #[error(transparent)]
    Courier(#[from] CourierError),
}

/// Does it; returns what came of it in one sentence.
pub(crate) fn run(socket_dir: &Path, arguments: &Arguments) -> Result<String, CarryError> {
    let nonce = match Nonce::parse(&arguments.nonce) {
        Ok(Some(nonce)) => nonce.bytes,
        Ok(None) => return Err(CarryError::Nonce("no nonce; give one by --nonce".into())),
        Err(why) => return Err(CarryError::Nonce(why)),
    };
    // The stick first: without one attest need not be asked.
    let stick = open(&arguments.stick).map_err(CourierError::Open)?;
    let evidence = {
        let mut attest = UnixStream::connect(socket_dir.join(Source::Attest.socket()))
            .and_then(|stream| {
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                Ok(stream)
            })
            .map_err(CourierError::Attest)?;
        courier::fetch(&mut attest, &nonce)?
    };
    let stem = courier::name(&arguments.name, unix_s(), &arguments.nonce);
    let device = stick.try_clone().map_err(CourierError::Open)?;
    let name = courier::write(stick, &stem, &evidence, &Clock)?;
    device.sync_all().map_err(CourierError::Write)?;
    Ok(format!("{name}, {} bytes over nonce {}", evidence.len(), arguments.nonce))
}

/// Alone: not while anybody has mounted it.
fn open(path: &Path) -> std::io::Result<File> {
    let alone = i32::try_from((OFlags::EXCL | OFlags::CLOEXEC).bits()).unwrap_or(0);
    OpenOptions::new().read(true).write(true).custom_flags(alone).open(path)
}

fn unix_s() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The system's clock for entries of directories; they have UTC.
#[derive(Debug, Clone, Copy)]
struct Clock;

impl TimeProvider for Clock {
    fn get_current_date(&self) -> Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> DateTime {
        courier::moment(unix_s())
    }
}
