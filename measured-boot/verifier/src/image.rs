//! `hookprobe-verify image`: what a boot blob, alone or in a disk image, will measure.
//!
//! PCR 4 and 11 are computed from the blob. PCR 13 can't be: the services are inside the blob's
//! EROFS root, so it is taken from the manifest that the release signed, unless an unpacked root is
//! given. Pure but for reading that root; called by [`crate::app`].

use std::path::Path;

use hookprobe_evidence::{
    closure::ServiceList,
    digest::HashAlg,
    loader,
    manifest::ReferenceManifest,
    pcr::{self, PcrIndex},
    policy::{PHASE_EVENT, ReleaseKey},
    signed, uki,
};
use serde_json::{Map, Value};

use crate::{
    disk::{self, DiskError},
    error::VerifyError,
    input::{self, ImageFile, MANIFEST_FILE_BYTES_MAX},
    report::{Exit, Report},
};

/// Where the boot blob stands in the EFI system partition.
pub const BLOB_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
/// Name of the signed manifest beside a boot blob that is a file of its own.
const MANIFEST_BESIDE: &str = "manifest.dsse";
/// Where the list of services stands in the root.
const SERVICES_PATH: &str = "/etc/hookprobe/services.toml";
/// Longest file of a root that is measured.
const ROOT_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The boot blob in `path` and the signed manifest beside it: the file itself and its neighbour, or
/// both out of the disk image that it is.
///
/// # Errors
/// [`VerifyError::Read`], [`VerifyError::TooLong`], [`VerifyError::Disk`].
pub fn blob(path: &Path) -> Result<(Vec<u8>, Option<Vec<u8>>), VerifyError> {
    let mut image = ImageFile::open(path)?;
    match disk::find_esp(&mut image) {
        Ok(esp) => {
            let blob = disk::read_file(&mut image, esp, BLOB_PATH)?;
            // Without one the verdict says so.
            Ok((blob, disk::read_file(&mut image, esp, signed::ENVELOPE_NAME).ok()))
        }
        // No partition table: a boot blob by itself, or nothing that uki::sections will take.
        Err(DiskError::Layout(_) | DiskError::Read { .. }) => {
            let blob = input::read(path, disk::FILE_BYTES_MAX)?;
            let beside = path.with_file_name(MANIFEST_BESIDE);
            Ok((blob, input::read(&beside, MANIFEST_FILE_BYTES_MAX).ok()))
        }
        Err(other) => Err(other.into()),
    }
}

/// Compares the boot blob with the signed manifest in it.
///
/// # Errors
/// [`VerifyError::Format`] when it is no boot blob, or when an unpacked root can't be measured.
pub fn verify(
    path: &Path,
    blob: &[u8],
    release: &ReleaseKey,
    root: Option<&Path>,
    envelope: Option<&[u8]>,
) -> Result<Report, VerifyError> {
    let format = |why: String| VerifyError::Format { path: path.to_owned(), why };
    let pcr4 =
        loader::predict_pcr4(blob, &HashAlg::ALL).map_err(|error| format(error.to_string()))?;
    let pcr11 =
        uki::predict_pcr11(blob, &HashAlg::ALL).map_err(|error| format(error.to_string()))?;
    let mut report = Report::new("image");
    let manifest = match envelope.map(|envelope| signed::open_manifest(envelope, release)) {
        Some(Ok(manifest)) => Some(manifest),
        Some(Err(error)) => {
            report.finding(Exit::Contraindicated, error.to_string());
            None
        }
        None => {
            report.finding(
                Exit::Contraindicated,
                "HP-VF-024 image: no signed manifest beside it (MANIFEST.SIG on the boot partition, \
                 manifest.dsse beside a blob); it is no release, build it again or give --manifest",
            );
            None
        }
    };
    if let Some(manifest) = &manifest {
        report.summary(format!(
            "boot blob of version {}, generation {}: signed by the release key, and what it will \
             measure is what was signed",
            manifest.version, manifest.generation
        ));
        report.fact("version", format!("{}, generation {}", manifest.version, manifest.generation));
        report.member("version", manifest.version.clone());
        report.member("generation", manifest.generation);
        report.member("policies", manifest.policies.len());
    }
    let computed13 = root.map(|root| predict_root(root, manifest.as_ref())).transpose()?;
    let mut pcrs = Map::new();
    for bank in HashAlg::ALL {
        let mut values = Map::new();
        if let Some(value) = pcr4.get(&bank).map(|digest| digest.hex()) {
            compare(&mut report, manifest.as_ref(), bank, PcrIndex::LOADER, &value);
            report
                .fact("PCR  4", format!("{:6} {value} computed from blob and kernel", bank.name()));
            values.insert("4".into(), value.into());
        }
        if let Some(stub) = pcr11.get(&bank) {
            // What PID 1 adds before it opens the state; the manifest has the value after it.
            let ready = pcr::extend(stub, &bank.digest(&[PHASE_EVENT.as_bytes()])).hex();
            compare(&mut report, manifest.as_ref(), bank, PcrIndex::UKI, &ready);
            report.fact("PCR 11", format!("{:6} {ready} computed from the sections", bank.name()));
            values.insert("11".into(), ready.into());
            values.insert("11-stub".into(), stub.hex().into());
        }
        let signed13 = manifest.as_ref().and_then(|known| known.pcr(bank, PcrIndex::SERVICES));
        if let Some(computed) =
            computed13.as_ref().and_then(|root| root.pcr(bank, PcrIndex::SERVICES))
        {
            compare(&mut report, manifest.as_ref(), bank, PcrIndex::SERVICES, &computed.hex());
            report.fact(
                "PCR 13",
                format!("{:6} {} computed from the root", bank.name(), computed.hex()),
            );
            values.insert("13".into(), computed.hex().into());
        } else if let Some(signed) = signed13 {
            report.fact(
                "PCR 13",
                format!("{:6} {} from the signed manifest", bank.name(), signed.hex()),
            );
            values.insert("13".into(), signed.hex().into());
        }
        pcrs.insert(bank.name().into(), Value::Object(values));
    }
    if computed13.is_none() {
        report.fact("note", "PCR 13 was not computed: give --root DIR with the unpacked root");
    }
    if let (Some(manifest), Some(computed)) = (&manifest, &computed13) {
        first_event(&mut report, manifest, computed);
    }
    let from = if computed13.is_some() { "root" } else { "manifest" };
    report.member("pcr13_from", from);
    report.member("pcrs", pcrs);
    Ok(report)
}

fn compare(
    report: &mut Report,
    manifest: Option<&ReferenceManifest>,
    bank: HashAlg,
    index: PcrIndex,
    computed: &str,
) {
    let Some(manifest) = manifest else { return };
    let signed = manifest.pcr(bank, index).map(|digest| digest.hex());
    if signed.as_deref() != Some(computed) {
        let short = |text: &str| text.chars().take(16).collect::<String>();
        report.finding(
            Exit::Contraindicated,
            format!(
                "HP-VF-025 image: PCR {index} {bank}: the manifest says {}, the image will measure {}; it is another image's manifest, or the image was changed",
                signed.as_deref().map_or_else(|| "nothing".into(), short),
                short(computed)
            ),
        );
    }
}

/// Names the first service event that differs.
fn first_event(report: &mut Report, signed: &ReferenceManifest, computed: &ReferenceManifest) {
    let mut pairs = signed.events.iter().zip(&computed.events);
    let differs = pairs.find(|(expected, found)| expected != found).map_or_else(
        || {
            (signed.events.len() != computed.events.len()).then(|| {
                format!("{} events, expected {}", computed.events.len(), signed.events.len())
            })
        },
        |(expected, found)| {
            let digest = |of: &std::collections::BTreeMap<String, String>| {
                let digest = of.get(HashAlg::Sha256.name()).map_or("nothing", String::as_str);
                digest.chars().take(16).collect::<String>()
            };
            Some(format!(
                "{} (expected {} sha256:{}, found sha256:{})",
                found.name,
                expected.name,
                digest(&expected.digests),
                digest(&found.digests)
            ))
        },
    );
    if let Some(differs) = differs {
        report.finding(
            Exit::Contraindicated,
            format!("HP-VF-026 root: {differs}; it is not the root that was signed"),
        );
    }
}

/// What a boot of the unpacked root would measure into PCR 13.
fn predict_root(
    root: &Path,
    manifest: Option<&ReferenceManifest>,
) -> Result<ReferenceManifest, VerifyError> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let list = inside(SERVICES_PATH);
    let format = |why: String| VerifyError::Format { path: list.clone(), why };
    let text = String::from_utf8(input::read(&list, input::KEY_BYTES_MAX * 16)?).map_err(|_| {
        format("HP-VF-027 services.toml: it is not text; give an unpacked root".into())
    })?;
    let services = ServiceList::parse(&text).map_err(|error| format(error.to_string()))?;
    let (version, generation) =
        manifest.map_or(("", 0), |known| (known.version.as_str(), known.generation));
    // The list's paths are absolute and without `..`; what a link in the root points to is the
    // operator's own machine, so links are not followed out of it: they are refused.
    ReferenceManifest::predict(version, generation, &services, |path| {
        let path = inside(path);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => Err("it is a link".into()),
            Ok(_) => input::read(&path, ROOT_FILE_BYTES_MAX).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .map_err(|error| format(error.to_string()))
}
