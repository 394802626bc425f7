//! PCR 4: what the firmware measures before it runs the boot blob, and the blob before it runs its
//! kernel (TCG PC Client Platform Firmware Profile, 3.3.4.5; Authenticode hash of PE images).
//!
//! This is the one register that another system on the same box can't have: the firmware extends
//! the other system's own hash before that runs. All that comes after is public and could be
//! extended by anybody. So every policy that releases a secret has this register in it.
//!
//! Where the blob stands (a boot entry, the removable path, whichever disk) makes no difference: the
//! path is in the event's data, its digest is the blob's hash. What does is how many boot options
//! failed before the blob's turn came, an empty drive or a network without a server: each adds two
//! events whose digests are constants. So what is accepted are the values for 0 to [`FAILED_MAX`] of
//! them. In none of these did anything run that is not the blob or the kernel in it: a firmware that
//! ran something else first measured that, and the box then needs its recovery key.

use std::collections::BTreeMap;

use crate::{
    digest::{Digest, HashAlg, Hasher},
    log::{Context, Event},
    manifest::{ExpectedEvent, ReferenceManifest},
    pcr::{PcrIndex, PcrSet, extend},
    uki::{self, RawLayout, UkiError},
};

/// Boot options that may fail before the blob's: as many as a small computer lists (two drives, a
/// card reader, network by IPv4, IPv6 and HTTP on one or two ports). More would cost policies.
pub const FAILED_MAX: usize = 8;
/// EV_EFI_ACTION in front of a boot option.
pub(crate) const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
/// EV_EFI_ACTION behind one that failed or came back.
pub(crate) const RETURNING: &[u8] = b"Returning from EFI Application from Boot Option";
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

/// Events of PCR 4 of a boot of `blob` by the first boot option: action, separator, blob, kernel.
///
/// # Errors
/// [`UkiError::NotPe`] for the blob or the kernel in it.
pub fn events(blob: &[u8], banks: &[HashAlg]) -> Result<Vec<Event>, UkiError> {
    let kernel = uki::sections(blob)?
        .into_iter()
        .find(|section| section.name == ".linux")
        .ok_or(UkiError::NotPe("no section .linux"))?
        .content;
    let event = |name: &str, digest: &dyn Fn(HashAlg) -> Result<Digest, UkiError>| {
        let digests = banks.iter().map(|bank| digest(*bank)).collect::<Result<_, _>>()?;
        Ok(Event { pcr: PcrIndex::LOADER, digests, name: name.into(), context: Context::default() })
    };
    Ok(vec![
        event("firmware:boot-option", &|bank| Ok(bank.digest(&[CALLING])))?,
        event("firmware:separator", &|bank| Ok(bank.digest(&[&SEPARATOR])))?,
        event("blob:uki", &|bank| authenticode(blob, bank))?,
        event("blob:kernel", &|bank| authenticode(kernel, bank))?,
    ])
}

/// PCR 4 of a boot of `blob` by the first boot option.
///
/// # Errors
/// As [`events`].
pub fn predict_pcr4(blob: &[u8], banks: &[HashAlg]) -> Result<BTreeMap<HashAlg, Digest>, UkiError> {
    Ok(replay(&events(blob, banks)?))
}

fn replay(events: &[Event]) -> BTreeMap<HashAlg, Digest> {
    let mut pcrs = PcrSet::new();
    for digest in events.iter().flat_map(|event| &event.digests) {
        pcrs.extend(PcrIndex::LOADER, digest);
    }
    pcrs.iter().map(|(bank, _, value)| (bank, value.clone())).collect()
}

/// Adds the prediction to a manifest: the events, and the value when the first option is the blob.
///
/// # Errors
/// As [`events`].
pub fn add_loader(manifest: &mut ReferenceManifest, blob: &[u8]) -> Result<(), UkiError> {
    let events = events(blob, &HashAlg::ALL)?;
    for (bank, value) in replay(&events) {
        manifest.set_pcr(bank, PcrIndex::LOADER, &value);
    }
    manifest.loader = events.iter().map(ExpectedEvent::from).collect();
    Ok(())
}

/// Values of PCR 4 with which nothing but the manifest's blob ran: at place `n` the one after `n` boot
/// options that failed. Empty when the manifest predicts none; one when it has no events of it.
#[must_use]
pub fn accepted(manifest: &ReferenceManifest, bank: HashAlg) -> Vec<Digest> {
    let Some(predicted) = manifest.pcr(bank, PcrIndex::LOADER) else {
        return Vec::new();
    };
    let mut out = vec![predicted];
    let events: Option<Vec<Digest>> =
        manifest.loader.iter().map(|event| event.digest(bank)).collect();
    let Some([calling, separator, blob, kernel]) = events.as_deref() else {
        return out;
    };
    let returning = bank.digest(&[RETURNING]);
    let mut before = extend(&extend(&Digest::zero(bank), calling), separator);
    for _ in 0..FAILED_MAX {
        before = extend(&extend(&before, &returning), calling);
        out.push(extend(&extend(&before, blob), kernel));
    }
    out
}

/// Whether `digest` is of an event that any boot of the manifest's blob may have in PCR 4.
pub(crate) fn is_known(manifest: &ReferenceManifest, digest: &Digest) -> bool {
    let bank = digest.alg();
    *digest == bank.digest(&[RETURNING])
        || manifest.loader.iter().any(|event| event.digest(bank).as_ref() == Some(digest))
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

    #[test]
    fn options_that_failed_are_predicted_and_nothing_else() {
        let list = crate::closure::ServiceList { service: Vec::new() };
        let mut manifest = ReferenceManifest::predict("1", 1, &list, |_| Ok(Vec::new())).unwrap();
        assert_eq!(accepted(&manifest, HashAlg::Sha256), []);
        add_loader(&mut manifest, &blob()).unwrap();
        let events = events(&blob(), &HashAlg::ALL).unwrap();
        for bank in HashAlg::ALL {
            let values = accepted(&manifest, bank);
            assert_eq!(values.len(), 1 + FAILED_MAX);
            assert_eq!(values[0], predict_pcr4(&blob(), &[bank]).unwrap()[&bank]);
            // As firmware does it: an option that can't be loaded, then ours.
            let blob = authenticode(&blob(), bank).unwrap();
            let order: [&[u8]; 4] = [CALLING, &SEPARATOR, RETURNING, CALLING];
            let mut value = Digest::zero(bank);
            for event in order {
                value = extend(&value, &bank.digest(&[event]));
            }
            let kernel = events[3].digest(bank).unwrap();
            assert_eq!(values[1], extend(&extend(&value, &blob), kernel));
            // A program that ran and came back is none of them.
            let other = extend(&value, &bank.digest(&[b"other"]));
            assert!(!values.contains(&extend(&extend(&other, &blob), kernel)));
            assert!(is_known(&manifest, &blob) && !is_known(&manifest, &bank.digest(&[b"other"])));
        }
        manifest.loader.clear();
        assert_eq!(accepted(&manifest, HashAlg::Sha256).len(), 1);
        assert_eq!(ReferenceManifest::parse(&manifest.to_json()), Ok(manifest));
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
