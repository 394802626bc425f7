//! The verifier's side of the attacks: its key, its challenge, its memory.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64, Encoding as _};
use hookprobe_evidence::{
    appraise::{Appraisal, Reference, Site, Status, appraise},
    bundle::Evidence,
    manifest::ReferenceManifest,
    policy::ReleaseKey,
    signed::open_manifest,
    site,
};

use crate::{
    compose::Signer,
    error::{Error, Result, at},
    tree::Tree,
    vm::{self, tpm},
};

/// The site configuration of the laboratory.
pub(super) const SITE: &[u8] = vm::LAB_SITE;

/// What a verifier brings.
#[derive(Debug)]
pub(super) struct Judge {
    release: ReleaseKey,
    roots: Vec<std::path::PathBuf>,
}

impl Judge {
    /// With the key that signs this checkout's images.
    pub(super) fn new(tree: &Tree) -> Result<Self> {
        let pem = Signer::find()?.public_pem()?;
        let release =
            ReleaseKey::from_pem(&pem).map_err(|error| Error::Check(error.to_string()))?;
        let roots = tpm::trust_anchors(tree);
        Ok(Self { release, roots })
    }

    /// The manifest in an envelope that our key signed.
    pub(super) fn open(&self, envelope: &[u8]) -> Option<ReferenceManifest> {
        open_manifest(envelope, &self.release).ok()
    }

    /// What evidence for `nonce` is compared with.
    pub(super) fn reference(&self, nonce: &[u8]) -> Result<Reference> {
        // Made with the first machine, so they may appear after this was made.
        let roots = self.roots.iter().filter(|path| path.exists()).map(|path| {
            let text = fs::read_to_string(path).map_err(at(path))?;
            let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
            Base64::decode_vec(&lines)
                .map_err(|error| Error::Check(format!("{}: {error}", path.display())))
        });
        let beside = site::File::new(vm::LAB_RULES.0, vm::LAB_RULES.1);
        Ok(Reference {
            release_keys: vec![self.release.clone()],
            nonce: Some(nonce.to_vec()),
            // Attacks on an enrolled box add its key's name.
            first_contact: true,
            site: Some(Site::Bytes(site::measured(SITE, &[beside]))),
            ek_roots: Some(roots.collect::<Result<_>>()?),
            ..Reference::default()
        })
    }
}

/// Seconds since 1970.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs())
}

/// Thirty-two fresh bytes.
pub(super) fn nonce() -> Result<Vec<u8>> {
    let mut bytes = vec![0; 32];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::Check(format!("no random bytes: {errno}")))?;
    Ok(bytes)
}

/// Parses evidence.
pub(super) fn parse(bytes: &[u8]) -> Result<Evidence> {
    Evidence::parse(bytes).map_err(|error| Error::Check(error.to_string()))
}

/// Appraises now.
pub(super) fn judge(evidence: &Evidence, reference: &Reference) -> Appraisal {
    appraise(evidence, reference, now_s())
}

/// Whether nothing was claimed that a relying party could act upon.
pub(super) fn refused(appraisal: &Appraisal) -> bool {
    matches!(appraisal.status, Status::Contraindicated | Status::None)
}

/// Whether a finding with this code was made.
pub(super) fn found(appraisal: &Appraisal, code: &str) -> bool {
    appraisal.findings.iter().any(|finding| finding.code == code)
}

/// The first finding that says `part`.
pub(super) fn about(appraisal: &Appraisal, part: &str) -> Option<String> {
    let mut all = appraisal.findings.iter().map(ToString::to_string);
    all.find(|text| text.contains(part))
}

/// Verdict, level and the first finding, in few words.
pub(super) fn words(appraisal: &Appraisal) -> String {
    let worst = appraisal
        .worst()
        .map(|finding| format!(" {} {}: {}", finding.code, finding.object, finding.cause));
    format!("{} {}{}", appraisal.status.word(), appraisal.level, worst.unwrap_or_default())
}
