//! Unified kernel images (UAPI.5): composing the PE file and predicting PCR 11.
//!
//! systemd-stub measures, for each section it knows and finds, the section's name with its NUL and
//! then its content, into PCR 11, in the fixed order of [`MEASURED`].

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    digest::{Digest, HashAlg, MultiHasher},
    log::{Context, Event},
    pcr::{PcrIndex, PcrSet},
};

/// Sections that systemd-stub (257) measures, in its order.
pub const MEASURED: [&str; 13] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids",
];

/// Most sections that are read.
const SECTIONS_MAX: usize = 64;
const SECTION_HEADER_BYTES: usize = 40;
/// Largest FileAlignment (PE format, "Optional Header"); padding is allocated by it.
const FILE_ALIGNMENT_MAX: u32 = 64 * 1024;
/// IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ
const DATA_READ: u32 = 0x4000_0040;

/// Why a PE file can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UkiError {
    /// Not a PE32+ image or cut short.
    #[error("HP-MB-040 uki: not a PE32+ image ({0})")]
    NotPe(&'static str),
    /// No room for another section header.
    #[error("HP-MB-041 uki: no room for the header of section {0}; use another stub")]
    NoRoom(String),
    /// Larger than a PE image can be.
    #[error("HP-MB-042 uki: section {0} does not fit in 4 GiB")]
    TooLarge(String),
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Name without NUL.
    pub name: String,
    /// Content, `VirtualSize` bytes.
    pub content: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    count_at: usize,
    count: usize,
    optional: usize,
    table: usize,
    section_alignment: u32,
    file_alignment: u32,
    headers_bytes: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), UkiError> {
    bytes.get_mut(at..at + value.len()).ok_or(UkiError::NotPe("cut short"))?.copy_from_slice(value);
    Ok(())
}

fn layout(image: &[u8]) -> Result<Layout, UkiError> {
    let short = UkiError::NotPe("cut short");
    if image.get(..2) != Some(b"MZ") {
        return Err(UkiError::NotPe("no MZ"));
    }
    let pe = u32_at(image, 0x3c).ok_or(UkiError::NotPe("cut short"))? as usize;
    if image.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
        return Err(UkiError::NotPe("no PE signature"));
    }
    // From here on no sum overflows, on 32 bits neither: the signature lies inside the image, so
    // `pe` is at most isize::MAX, and what is added to it are 16-bit fields.
    let count = u16_at(image, pe + 6).ok_or(UkiError::NotPe("cut short"))? as usize;
    let optional_bytes = u16_at(image, pe + 20).ok_or(UkiError::NotPe("cut short"))? as usize;
    let optional = pe + 24;
    if u16_at(image, optional) != Some(0x20b) {
        return Err(UkiError::NotPe("not PE32+"));
    }
    if count > SECTIONS_MAX {
        return Err(UkiError::NotPe("too many sections"));
    }
    let field = |at: usize| u32_at(image, optional + at).ok_or(UkiError::NotPe("cut short"));
    let layout = Layout {
        count_at: pe + 6,
        count,
        optional,
        table: optional + optional_bytes,
        section_alignment: field(32)?,
        file_alignment: field(36)?,
        headers_bytes: field(60)? as usize,
    };
    let end = layout.table + count * SECTION_HEADER_BYTES;
    if end > image.len() || layout.headers_bytes > image.len() {
        return Err(short);
    }
    if !layout.section_alignment.is_power_of_two()
        || !layout.file_alignment.is_power_of_two()
        || layout.file_alignment > FILE_ALIGNMENT_MAX
    {
        return Err(UkiError::NotPe("alignment"));
    }
    Ok(layout)
}

/// What the hash of a PE file needs to know of it.
pub(crate) struct RawLayout {
    /// Where the optional header stands.
    pub(crate) optional: usize,
    /// Bytes of all headers.
    pub(crate) headers: usize,
    /// Where each section stands in the file, and its bytes there.
    pub(crate) sections: Vec<(usize, usize)>,
}

/// See [`RawLayout`].
pub(crate) fn raw_layout(image: &[u8]) -> Result<RawLayout, UkiError> {
    let layout = layout(image)?;
    let mut sections = Vec::with_capacity(layout.count);
    for index in 0..layout.count {
        let at = layout.table + index * SECTION_HEADER_BYTES;
        let field = |offset: usize| u32_at(image, at + offset).ok_or(UkiError::NotPe("cut short"));
        sections.push((field(20)? as usize, field(16)? as usize));
    }
    Ok(RawLayout { optional: layout.optional, headers: layout.headers_bytes, sections })
}

/// Sections of a PE image.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn sections(image: &[u8]) -> Result<Vec<Section<'_>>, UkiError> {
    let layout = layout(image)?;
    let mut out = Vec::with_capacity(layout.count);
    for index in 0..layout.count {
        let at = layout.table + index * SECTION_HEADER_BYTES;
        let short = UkiError::NotPe("section outside the file");
        let name = image.get(at..at + 8).ok_or(UkiError::NotPe("cut short"))?;
        let name: String =
            name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
        let field = |offset: usize| u32_at(image, at + offset).ok_or(UkiError::NotPe("cut short"));
        let (virtual_bytes, raw_bytes, raw_at) =
            (field(8)? as usize, field(16)? as usize, field(20)? as usize);
        let content =
            image.get(raw_at..raw_at.saturating_add(virtual_bytes.min(raw_bytes))).ok_or(short)?;
        out.push(Section { name, content });
    }
    Ok(out)
}

/// Appends sections to a stub. The same input always gives the same bytes.
///
/// # Errors
/// Any [`UkiError`].
pub fn compose(stub: &[u8], add: &[(&str, &[u8])]) -> Result<Vec<u8>, UkiError> {
    let layout = layout(stub)?;
    let mut image = stub.to_vec();
    // The certificate table of a signed stub would be stale; a stub from the base has none.
    let mut next_virtual =
        u64::from(u32_at(stub, layout.optional + 56).ok_or(UkiError::NotPe("cut short"))?);
    let (file_alignment, section_alignment) =
        (layout.file_alignment as usize, u64::from(layout.section_alignment));
    for (index, (name, content)) in add.iter().enumerate() {
        let header = layout.table + (layout.count + index) * SECTION_HEADER_BYTES;
        if header + SECTION_HEADER_BYTES > layout.headers_bytes || name.len() > 8 {
            return Err(UkiError::NoRoom((*name).into()));
        }
        let too_large = || UkiError::TooLarge((*name).into());
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        let raw_at = u32::try_from(image.len()).map_err(|_| too_large())?;
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(file_alignment), 0);
        next_virtual = next_virtual.next_multiple_of(section_alignment);
        let virtual_at = u32::try_from(next_virtual).map_err(|_| too_large())?;
        let virtual_bytes = u32::try_from(content.len()).map_err(|_| too_large())?;
        let raw_bytes = u32::try_from(content.len().next_multiple_of(file_alignment))
            .map_err(|_| too_large())?;
        next_virtual += content.len() as u64;
        let mut entry = [0; SECTION_HEADER_BYTES];
        put(&mut entry, 0, name.as_bytes())?;
        put(&mut entry, 8, &virtual_bytes.to_le_bytes())?;
        put(&mut entry, 12, &virtual_at.to_le_bytes())?;
        put(&mut entry, 16, &raw_bytes.to_le_bytes())?;
        put(&mut entry, 20, &raw_at.to_le_bytes())?;
        put(&mut entry, 36, &DATA_READ.to_le_bytes())?;
        put(&mut image, header, &entry)?;
    }
    let count = u16::try_from(layout.count + add.len())
        .map_err(|_| UkiError::NotPe("too many sections"))?;
    put(&mut image, layout.count_at, &count.to_le_bytes())?;
    let size_of_image = u32::try_from(next_virtual.next_multiple_of(section_alignment))
        .map_err(|_| UkiError::TooLarge("image".into()))?;
    put(&mut image, layout.optional + 56, &size_of_image.to_le_bytes())?;
    Ok(image)
}

/// Predicts PCR 11 after systemd-stub has measured `image`.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn predict_pcr11(
    image: &[u8],
    banks: &[HashAlg],
) -> Result<BTreeMap<HashAlg, Digest>, UkiError> {
    let mut pcrs = PcrSet::new();
    for event in events(image, banks)? {
        for digest in &event.digests {
            pcrs.extend(event.pcr, digest);
        }
    }
    Ok(banks
        .iter()
        .map(|bank| {
            (*bank, pcrs.get(*bank, PcrIndex::UKI).cloned().unwrap_or_else(|| Digest::zero(*bank)))
        })
        .collect())
}

/// What systemd-stub measures of `image` into PCR 11: for each section its name, then its content.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn events(image: &[u8], banks: &[HashAlg]) -> Result<Vec<Event>, UkiError> {
    let sections = sections(image)?;
    let mut events = Vec::new();
    for name in MEASURED {
        let Some(section) = sections.iter().find(|section| section.name == name) else {
            continue;
        };
        let label = [name.as_bytes(), b"\0"].concat();
        for (what, measured) in [("name", &*label), ("content", section.content)] {
            let mut hasher = MultiHasher::new(banks);
            hasher.update(measured);
            events.push(Event {
                pcr: PcrIndex::UKI,
                digests: hasher.finish(),
                name: format!("uki:{name} {what}"),
                context: Context::default(),
            });
        }
    }
    Ok(events)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn stub() -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        image[0x80 + 20] = 112;
        let optional = 0x80 + 24;
        image[optional..optional + 2].copy_from_slice(&0x20bu16.to_le_bytes());
        image[optional + 32..optional + 36].copy_from_slice(&0x1000u32.to_le_bytes());
        image[optional + 36..optional + 40].copy_from_slice(&0x200u32.to_le_bytes());
        image[optional + 56..optional + 60].copy_from_slice(&0x1000u32.to_le_bytes());
        image[optional + 60..optional + 64].copy_from_slice(&0x400u32.to_le_bytes());
        image
    }

    #[test]
    fn composed_sections_read_back() {
        let image = compose(&stub(), &[(".osrel", b"ID=x"), (".linux", &[7; 1000])]).unwrap();
        let found = sections(&image).unwrap();
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), [".osrel", ".linux"]);
        assert_eq!(found[1].content, [7; 1000]);
        let bank = HashAlg::Sha256;
        let mut expect = Digest::zero(bank);
        for part in [&b".linux\0"[..], &[7; 1000], b".osrel\0", b"ID=x"] {
            expect = crate::pcr::extend(&expect, &bank.digest(&[part]));
        }
        assert_eq!(predict_pcr11(&image, &[bank]).unwrap()[&bank], expect);
    }

    #[test]
    fn alignment_does_not_decide_how_much_is_allocated() {
        let mut image = stub();
        image[0x80 + 24 + 36..][..4].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        let error = compose(&image, &[(".linux", b"abc")]).unwrap_err();
        assert_eq!(error, UkiError::NotPe("alignment"));
    }

    #[test]
    fn no_room_is_an_error() {
        let many = [(".a", &b"x"[..]); 30];
        assert!(matches!(compose(&stub(), &many), Err(UkiError::NoRoom(_))));
    }

    #[test]
    fn headers_at_the_edges_are_refused() {
        let put = |at: usize, bytes: &[u8]| {
            let mut image = compose(&stub(), &[(".linux", b"abc")]).unwrap();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            image
        };
        let optional = 0x80 + 24;
        let section = optional + 112;
        let edge = u32::MAX.to_le_bytes();
        for (at, bytes) in [
            (0x3c, &edge[..]),
            (0x3c, &0x3ff_u32.to_le_bytes()),
            (0x80 + 6, &[0xff, 0xff]),
            (0x80 + 20, &[0xff, 0xff]),
            (optional + 32, &edge),
            (optional + 36, &[0; 4]),
            (optional + 60, &edge),
            (section + 20, &edge),
        ] {
            let image = put(at, bytes);
            assert!(matches!(sections(&image), Err(UkiError::NotPe(_))), "at {at:#x}");
        }
        // An image that claims to be 4 GiB large in memory has no room for another section.
        let full = put(optional + 56, &edge);
        assert!(matches!(compose(&full, &[(".x", b"y")]), Err(UkiError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn mutations_never_panic(changes in proptest::collection::vec((0usize..0x400, any::<u8>()), 1..8)) {
            let mut image = compose(&stub(), &[(".linux", b"abc")]).unwrap();
            for (at, byte) in changes {
                image[at] = byte;
            }
            let _ = predict_pcr11(&image, &[HashAlg::Sha256]);
            let _ = compose(&image, &[(".x", b"y")]);
        }
    }
}
