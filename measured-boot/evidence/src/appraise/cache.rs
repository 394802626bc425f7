//! What was opened before: the boxes of a fleet bring the same few manifests, each minute anew.
//!
//! Must never happen here: an entry that was not verified; an entry given out for other bytes or
//! under another key than it was verified with. A cache changes no result, only the time.

use std::sync::Arc;

use crate::{
    manifest::ReferenceManifest,
    policy::ReleaseKey,
    signed::{self, EnvelopeError},
};

/// Most manifests that are kept: the releases that one fleet runs at a time. The oldest goes first.
const MANIFESTS_MAX: usize = 16;

/// Manifests whose envelopes were opened, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Cache(Vec<Opened>);

#[derive(Debug, Clone)]
struct Opened {
    /// The envelope itself: comparing it takes a tenth of hashing it.
    envelope: Vec<u8>,
    /// Key that it was opened under.
    key: ReleaseKey,
    manifest: Arc<ReferenceManifest>,
}

impl Cache {
    /// As [`signed::open_manifest`]. Failures are not kept: they would push out what is good.
    pub(super) fn open(
        &mut self,
        envelope: &[u8],
        key: &ReleaseKey,
    ) -> Result<Arc<ReferenceManifest>, EnvelopeError> {
        let same = |opened: &&Opened| opened.envelope == envelope && opened.key == *key;
        if let Some(opened) = self.0.iter().find(same) {
            return Ok(Arc::clone(&opened.manifest));
        }
        let manifest = Arc::new(signed::open_manifest(envelope, key)?);
        if self.0.len() >= MANIFESTS_MAX {
            self.0.remove(0);
        }
        let (key, manifest_kept) = (key.clone(), Arc::clone(&manifest));
        self.0.push(Opened { envelope: envelope.to_vec(), key, manifest: manifest_kept });
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn what_is_kept_is_for_the_same_bytes_and_key_only() {
        let mut cache = Cache::default();
        let sample = Sample::new();
        let (envelope, key) = (sample.envelope(), ReleaseKey::new(*sample.release.verifying_key()));
        let first = cache.open(&envelope, &key).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.open(&envelope, &key).unwrap()));
        let other = ReleaseKey::new(*sample.ak.verifying_key());
        assert!(cache.open(&envelope, &other).is_err());
        let mut edited = envelope.clone();
        let at = edited.len() / 2;
        edited[at] ^= 1;
        assert!(cache.open(&edited, &key).is_err());
        assert_eq!(cache.0.len(), 1, "failures are not kept");
        for version in 0..20 {
            let mut next = sample.clone();
            next.manifest.version = format!("1.{version}");
            let opened = cache.open(&next.envelope(), &key).unwrap();
            assert_eq!(opened.version, next.manifest.version);
        }
        assert_eq!(cache.0.len(), MANIFESTS_MAX);
        assert!(!Arc::ptr_eq(&first, &cache.open(&envelope, &key).unwrap()), "was pushed out");
    }
}
