//! PCR 4: what the firmware measures before it runs the boot blob, and the blob before it runs its
//! kernel (TCG PC Client Platform Firmware Profile, 3.3.4.5; Authenticode hash of PE images).
//!
//! This is the one register that another system on the same box can't have: the firmware extends
//! the other system's own hash before that runs. All that comes after is public and could be
//! extended by anybody. So every policy that releases a secret has this register in it.
//!
//! Predicted for the boot that the product is made for: a boot option runs the blob and nothing
//! else ran before. A firmware that tried something else first measures more, and the box then
//! needs its recovery key.

use std::collections::BTreeMap;

use crate::{
    digest::{Digest, HashAlg, Hasher},
    manifest::ReferenceManifest,
    pcr::{PcrIndex, PcrSet},
    uki::{self, RawLayout, UkiError},
};

/// EV_EFI_ACTION in front of the first boot option.
const ACTION: &[u8] = b"Calling EFI Application from Boot Option";
/// EV_SEPARATOR.
const SEPARATOR: [u8; 4] = [0; 4];
/// Offsets in the optional header of PE32+ (PE format, "Optional Header").
const CHECKSUM_AT: usize = 64;
const DIRECTORIES_AT: usize = 108;
const SECURITY_AT: usize = 144;
/// Number of the certificate table among the data directories.
const SECURITY_NUMBER: u32 = 4;
/// Bytes of a data directory entry.
const DIRECTORY_BYTES: usize = 8;

/// Authenticode hash of a PE32+ image: everything but its checksum, the entry of its certificate
/// table, and the table.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn authenticode(image: &[u8], alg: HashAlg) -> Result<Digest, UkiError> {
    const SHORT: UkiError = UkiError::NotPe("cut short");
    let RawLayout { optional, headers, mut sections } = uki::raw_layout(image)?;
    let part = |from: usize, to: usize| image.get(from..to).ok_or(SHORT);
    let mut hasher = Hasher::new(alg);
    hasher.update(part(0, optional + CHECKSUM_AT)?);
    let after_checksum = optional + CHECKSUM_AT + 4;
    let mut certificates = 0;
    if uki::u32_at(image, optional + DIRECTORIES_AT).ok_or(SHORT)? > SECURITY_NUMBER {
        let entry = optional + SECURITY_AT;
        hasher.update(part(after_checksum, entry)?);
        certificates = uki::u32_at(image, entry + 4).ok_or(SHORT)? as usize;
        hasher.update(part(entry + DIRECTORY_BYTES, headers)?);
    } else {
        hasher.update(part(after_checksum, headers)?);
    }
    sections.sort_unstable();
    let mut hashed = headers;
    for (at, bytes) in sections.into_iter().filter(|(_, bytes)| *bytes > 0) {
        hasher.update(part(at, at.saturating_add(bytes))?);
        hashed = hashed.saturating_add(bytes);
    }
    // What stands behind the sections, without the certificates at the very end.
    let end = image.len().checked_sub(certificates).ok_or(SHORT)?;
    if end > hashed {
        hasher.update(part(hashed, end)?);
    }
    Ok(hasher.finish())
}

/// PCR 4 of a boot of `blob`.
///
/// # Errors
/// [`UkiError::NotPe`] for the blob or the kernel in it.
pub fn predict_pcr4(blob: &[u8], banks: &[HashAlg]) -> Result<BTreeMap<HashAlg, Digest>, UkiError> {
    let kernel = uki::sections(blob)?
        .into_iter()
        .find(|section| section.name == ".linux")
        .ok_or(UkiError::NotPe("no section .linux"))?
        .content;
    let mut pcrs = PcrSet::new();
    let mut out = BTreeMap::new();
    for bank in banks {
        for digest in [
            bank.digest(&[ACTION]),
            bank.digest(&[&SEPARATOR]),
            authenticode(blob, *bank)?,
            authenticode(kernel, *bank)?,
        ] {
            pcrs.extend(PcrIndex::LOADER, &digest);
        }
        if let Some(value) = pcrs.get(*bank, PcrIndex::LOADER) {
            out.insert(*bank, value.clone());
        }
    }
    Ok(out)
}

/// Adds the prediction to a manifest.
///
/// # Errors
/// As [`predict_pcr4`].
pub fn add_loader(manifest: &mut ReferenceManifest, blob: &[u8]) -> Result<(), UkiError> {
    for (bank, value) in predict_pcr4(blob, &HashAlg::ALL)? {
        manifest.set_pcr(bank, PcrIndex::LOADER, &value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob() -> Vec<u8> {
        let kernel = uki::compose(&uki::tests::stub(), &[(".text", b"kernel")]).unwrap();
        uki::compose(&uki::tests::stub(), &[(".osrel", b"ID=x"), (".linux", &kernel)]).unwrap()
    }

    #[test]
    fn every_byte_but_the_checksum_counts() {
        let blob = blob();
        let hash = authenticode(&blob, HashAlg::Sha256).unwrap();
        let checksum = 0x80 + 24 + CHECKSUM_AT;
        for at in [0x10, checksum - 1, checksum + 4, blob.len() - 1] {
            let mut other = blob.clone();
            other[at] ^= 1;
            assert_ne!(authenticode(&other, HashAlg::Sha256).ok(), Some(hash.clone()), "at {at}");
        }
        let mut other = blob;
        other[checksum] ^= 1;
        assert_eq!(authenticode(&other, HashAlg::Sha256), Ok(hash));
    }

    #[test]
    fn a_changed_kernel_changes_pcr_4_twice() {
        let value = predict_pcr4(&blob(), &HashAlg::ALL).unwrap();
        assert_eq!(value.len(), HashAlg::ALL.len());
        assert!(predict_pcr4(&uki::tests::stub(), &[HashAlg::Sha256]).is_err());
    }

    proptest! {
        #[test]
        fn mutations_never_panic(changes in proptest::collection::vec((0usize..0x800, any::<u8>()), 1..8)) {
            let mut image = blob();
            for (at, byte) in changes {
                if let Some(place) = image.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = predict_pcr4(&image, &[HashAlg::Sha256]);
        }
    }
}
