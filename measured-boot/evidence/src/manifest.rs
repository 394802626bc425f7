//! Reference manifest: what a boot of one image has to measure, in every bank.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    closure::ServiceList,
    digest::{Digest, HashAlg, MultiHasher},
    log::{Context, Event},
    pcr::PcrIndex,
    policy::SignedPolicy,
};

/// Where the manifest stands in the image.
pub const MANIFEST_PATH: &str = "/usr/share/hookprobe/manifest.json";
/// Longest manifest that is parsed.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What has to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceManifest {
    /// Format.
    pub format: u32,
    /// Version of the image.
    pub version: String,
    /// Security generation: raised when older images must no longer be able to use this box's
    /// secrets. See [`crate::policy`].
    pub generation: u32,
    /// Predicted PCRs: bank -> index -> hexadecimal digest. The copy inside the image can't hold
    /// PCR 11 (it is part of what PCR 11 measures); the copy beside the image does.
    pub pcrs: BTreeMap<String, BTreeMap<u8, String>>,
    /// Expected events of PCR 13 in order.
    pub events: Vec<ExpectedEvent>,
    /// Expected events of PCR 11 in order, to the end of the phase `unlock`; only in the copy beside
    /// the image and in the boot blob's envelope.
    #[serde(default)]
    pub boot: Vec<ExpectedEvent>,
    /// Expected events of PCR 4 in order, when the first boot option is the blob; see
    /// [`crate::loader`]. Where `boot` is.
    #[serde(default)]
    pub loader: Vec<ExpectedEvent>,
    /// Signed TPM policies; only in the copy beside the image and in the boot blob's envelope.
    #[serde(default)]
    pub policies: Vec<SignedPolicy>,
}

/// One expected event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedEvent {
    /// Its name.
    pub name: String,
    /// Bank -> hexadecimal digest.
    pub digests: BTreeMap<String, String>,
}

impl ExpectedEvent {
    /// Its digest in a bank.
    #[must_use]
    pub fn digest(&self, bank: HashAlg) -> Option<Digest> {
        Digest::from_hex(bank, self.digests.get(bank.name())?)
    }
}

impl From<&Event> for ExpectedEvent {
    fn from(event: &Event) -> Self {
        let digests = event.digests.iter().map(|d| (d.alg().name().into(), d.hex())).collect();
        Self { name: event.name.clone(), digests }
    }
}

/// Why a manifest can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Too long, not JSON, or of another format.
    #[error("HP-MB-030 manifest: {0}; the image is damaged, re-flash it")]
    Syntax(String),
    /// A file of a closure can't be read.
    #[error("HP-MB-031 manifest: {event}: {why}")]
    File {
        /// The event that would measure it.
        event: String,
        /// What the reader said.
        why: String,
    },
}

/// Format that this code writes.
pub const FORMAT: u32 = 3;

impl ReferenceManifest {
    /// Parses a manifest.
    ///
    /// # Errors
    /// [`ManifestError::Syntax`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Syntax(format!(
                "{} bytes, at most {MANIFEST_BYTES_MAX}",
                bytes.len()
            )));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Syntax(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Syntax(format!(
                "format {}, this side reads {FORMAT}",
                manifest.format
            )));
        }
        Ok(manifest)
    }

    /// Text of the manifest.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Plain maps of strings always serialise.
        let mut out = serde_json::to_vec_pretty(self).unwrap_or_default();
        out.push(b'\n');
        out
    }

    /// Predicts the events and PCR 13 of an image whose files `read` gives.
    ///
    /// # Errors
    /// [`ManifestError::File`] when a file of a closure can't be read.
    pub fn predict(
        version: &str,
        generation: u32,
        services: &ServiceList,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, ManifestError> {
        let mut events = Vec::new();
        for spec in &services.service {
            for path in spec.closure_files() {
                let name = spec.file_event(path);
                let bytes =
                    read(path).map_err(|why| ManifestError::File { event: name.clone(), why })?;
                events.push(event(&name, &bytes, &HashAlg::ALL));
            }
            events.push(event(&spec.spec_event(), &spec.canonical(), &HashAlg::ALL));
        }
        let mut manifest = Self {
            format: FORMAT,
            version: version.into(),
            generation,
            policies: Vec::new(),
            pcrs: BTreeMap::new(),
            events: events.iter().map(ExpectedEvent::from).collect(),
            boot: Vec::new(),
            loader: Vec::new(),
        };
        for (alg, index, digest) in crate::log::replay(&events).iter() {
            manifest.set_pcr(alg, index, digest);
        }
        Ok(manifest)
    }

    /// Predicted value of a PCR.
    #[must_use]
    pub fn pcr(&self, alg: HashAlg, index: PcrIndex) -> Option<Digest> {
        Digest::from_hex(alg, self.pcrs.get(alg.name())?.get(&index.get())?)
    }

    /// Sets the predicted value of a PCR.
    pub fn set_pcr(&mut self, alg: HashAlg, index: PcrIndex, digest: &Digest) {
        self.pcrs.entry(alg.name().into()).or_default().insert(index.get(), digest.hex());
    }
}

/// The event that measures `bytes` under `name` into PCR 13.
#[must_use]
pub fn event(name: &str, bytes: &[u8], banks: &[HashAlg]) -> Event {
    let mut hasher = MultiHasher::new(banks);
    hasher.update(bytes);
    Event {
        pcr: PcrIndex::SERVICES,
        digests: hasher.finish(),
        name: name.into(),
        context: Context::default(),
    }
}
