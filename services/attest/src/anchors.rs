//! What the image brings to be compared with: the release's public key and the signed reference
//! manifest of the boot blob. Read once, at the start.
//!
//! Must never happen here: a manifest that is used before its signature was verified under the
//! image's own key. Called by [`crate::serve`]; used by [`crate::attester`].

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use hookprobe_evidence::{
    manifest::ReferenceManifest,
    policy::ReleaseKey,
    signed::{ENVELOPE_BYTES_MAX, open_manifest},
};
use hookprobe_wire::{Diagnostic, Severity};

use crate::code;

/// Longest release key that is read: a P-256 key in PEM has 178 bytes.
const KEY_BYTES_MAX: usize = 4096;

/// Key and manifest.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    /// The release's public key.
    pub release: Option<ReleaseKey>,
    /// The envelope as it came, for verifiers.
    pub envelope: Option<Vec<u8>>,
    /// What is in it, once its signature was verified.
    pub manifest: Option<ReferenceManifest>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

impl Anchors {
    /// Reads both; what can't be used is missing and said.
    #[must_use]
    pub fn read(key: &Path, envelope: &Path) -> Self {
        let mut anchors = Self::default();
        match read_release(key) {
            Ok(release) => anchors.release = Some(release),
            Err(why) => anchors.complain(key, why),
        }
        match read_bounded(envelope, ENVELOPE_BYTES_MAX) {
            Ok(bytes) => anchors.open(envelope, bytes),
            Err(error) => anchors.complain(envelope, error.to_string()),
        }
        anchors
    }

    fn open(&mut self, path: &Path, envelope: Vec<u8>) {
        let Some(release) = &self.release else {
            return; // Said already.
        };
        match open_manifest(&envelope, release) {
            Ok(manifest) => {
                self.manifest = Some(manifest);
                self.envelope = Some(envelope);
            }
            Err(error) => self.complain(path, error.to_string()),
        }
    }

    fn complain(&mut self, path: &Path, cause: String) {
        self.diagnostics.push(code::diagnostic(
            code::NO_MANIFEST,
            Severity::Warn,
            &path.display().to_string(),
            format!("can't be used, nothing can be compared or unsealed: {cause}"),
            "boot a signed image",
        ));
    }
}

fn read_release(path: &Path) -> Result<ReleaseKey, String> {
    let bytes = read_bounded(path, KEY_BYTES_MAX).map_err(|error| error.to_string())?;
    ReleaseKey::from_pem(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string())
}

/// A whole file of at most `bytes_max` bytes.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::FileTooLarge`].
pub fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let anchors = Anchors::read(Path::new("/nonexistent/key"), Path::new("/nonexistent/dsse"));
        assert_eq!(anchors.diagnostics.len(), 2);
        assert!(anchors.manifest.is_none());
    }

    #[test]
    fn reads_are_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        assert_eq!(read_bounded(file.path(), 5).unwrap(), b"12345");
        let error = read_bounded(file.path(), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
