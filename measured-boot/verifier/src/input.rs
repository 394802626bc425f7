//! Files into memory: every size is checked before a byte is read, and again while reading.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hookprobe_evidence::{
    bundle::EVIDENCE_BYTES_MAX, endorsement::revocation, policy::ReleaseKey, signed,
};
use hookprobe_wire::{qr, site::SITE_BYTES_MAX};

use crate::{
    disk::{Blocks, DiskError},
    error::VerifyError,
};

/// Longest PEM or DER file.
pub const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Longest file with a list of revoked certificates: as PEM it is a third longer than in DER.
pub const LIST_FILE_BYTES_MAX: u64 = revocation::LIST_BYTES_MAX as u64 * 2;
/// Longest file of evidence: full, or as text.
pub const EVIDENCE_FILE_BYTES_MAX: u64 = EVIDENCE_BYTES_MAX as u64;
/// Longest signed manifest.
pub const MANIFEST_FILE_BYTES_MAX: u64 = signed::ENVELOPE_BYTES_MAX as u64;
/// Longest site configuration.
pub const SITE_FILE_BYTES_MAX: u64 = SITE_BYTES_MAX as u64;
/// Longest file of rules or names beside it.
pub const DETECTION_FILE_BYTES_MAX: u64 = 40 << 20;
/// Longest exported ledger: four million blocks of the usual 240 bytes.
pub const LEDGER_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Names the file with the release's public key, when `--release-key` does not.
pub const KEY_VARIABLE: &str = "HOOKPROBE_RELEASE_KEY";
/// The file beside the program that is taken when nothing else names one.
pub const KEY_FILE: &str = "release.pem";

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`VerifyError::Read`], [`VerifyError::TooLong`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, VerifyError> {
    let failed =
        |error: std::io::Error| VerifyError::Read { path: path.to_owned(), why: error.to_string() };
    let too_long = |got| VerifyError::TooLong { path: path.to_owned(), got, max: bytes_max };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(VerifyError::Read { path: path.to_owned(), why: "it is a folder".into() });
    }
    if metadata.len() > bytes_max {
        return Err(too_long(metadata.len()));
    }
    let mut out = Vec::new();
    // A pipe has no length, a file may grow: one byte more than allowed tells.
    file.take(bytes_max + 1).read_to_end(&mut out).map_err(failed)?;
    if out.len() as u64 > bytes_max {
        return Err(too_long(out.len() as u64));
    }
    Ok(out)
}

/// Evidence as bytes: from a binary file, or from text with the lines of QR codes. Several files are
/// lines of one set.
///
/// # Errors
/// [`VerifyError::Read`], [`VerifyError::TooLong`], [`VerifyError::Qr`].
pub fn evidence(paths: &[PathBuf]) -> Result<Vec<u8>, VerifyError> {
    let mut text = String::new();
    for path in paths {
        let bytes = read(path, EVIDENCE_FILE_BYTES_MAX)?;
        let lines = match String::from_utf8(bytes) {
            Ok(lines) if lines.contains(qr::PREFIX) => lines,
            Ok(other) if paths.len() == 1 => return Ok(other.into_bytes()),
            Err(other) if paths.len() == 1 => return Ok(other.into_bytes()),
            _ => return Err(VerifyError::NotLines { path: path.clone() }),
        };
        text.push_str(&lines);
        text.push('\n');
    }
    qr::join(&text).map_err(VerifyError::Qr)
}

/// The release's public key: `--release-key`, the variable, or the file beside the program.
///
/// # Errors
/// [`VerifyError::NoReleaseKey`], [`VerifyError::Key`], those of [`read`].
pub fn release_key(given: Option<&Path>) -> Result<ReleaseKey, VerifyError> {
    let path = given
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(KEY_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from))
        .or_else(|| {
            let beside = std::env::current_exe().ok()?.parent()?.join(KEY_FILE);
            fs::metadata(&beside).is_ok_and(|data| data.is_file()).then_some(beside)
        })
        .ok_or(VerifyError::NoReleaseKey)?;
    let wrong = |why: String| VerifyError::Key { path: path.clone(), why };
    let text = String::from_utf8(read(&path, KEY_BYTES_MAX)?)
        .map_err(|_| wrong("it is not text".into()))?;
    ReleaseKey::from_pem(&text).map_err(|error| wrong(error.to_string()))
}

/// Hexadecimal digits of an argument.
///
/// # Errors
/// What is wrong, for clap.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() || !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("an even number of hexadecimal digits is expected".into());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| "only hexadecimal digits are expected".into())
}

/// A disk image that stays on disk.
#[derive(Debug)]
pub struct ImageFile(File);

impl ImageFile {
    /// Opens it.
    ///
    /// # Errors
    /// [`VerifyError::Read`].
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let failed = |why: String| VerifyError::Read { path: path.to_owned(), why };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        match file.metadata() {
            Ok(metadata) if metadata.is_dir() => Err(failed("it is a folder".into())),
            Ok(_) => Ok(Self(file)),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl Blocks for ImageFile {
    fn read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let failed = |error: std::io::Error| DiskError::Read { at, bytes, why: error.to_string() };
        self.0.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut out = Vec::new();
        let got = (&mut self.0).take(bytes as u64).read_to_end(&mut out).map_err(failed)?;
        if got == bytes {
            Ok(out)
        } else {
            Err(DiskError::Read { at, bytes, why: format!("it ends after {got} of them") })
        }
    }
}
