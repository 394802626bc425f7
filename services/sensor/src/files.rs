//! Files that PID 1, an operator or this service left: read whole, and never more than they may have;
//! written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use hookprobe_wire::site::{SITE_BYTES_MAX, Site};

/// A whole file of at most `bytes_max`.
///
/// # Errors
/// The system's; [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A file of a service's own: written beside, for its user alone, then put in its place, so that there is
/// always a whole one.
///
/// # Errors
/// The system's.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&new, folder.join(name))?;
    // The new name lasts, too.
    File::open(folder)?.sync_all()
}

/// The site configuration that PID 1 accepted, or the defaults.
#[must_use]
pub fn site(path: &Path) -> Site {
    read(path, SITE_BYTES_MAX as u64)
        .ok()
        .and_then(|bytes| Site::parse(&bytes).ok())
        .unwrap_or_default()
}
