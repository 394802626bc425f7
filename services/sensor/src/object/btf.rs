//! Where fields of the kernel's structures stand, out of its BTF (kernel documentation, "BPF Type
//! Format").
//!
//! Reads names and members of structures and nothing else. The bytes are the kernel's own, and
//! still nothing is read that was not checked to be there. Called by [`super`] when the object is
//! loaded.

use hookprobe_abi::host::Offsets;
use thiserror::Error;

/// Why there are no offsets.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The header is not one.
    #[error("no BTF in it")]
    Header,
    /// The types end within one.
    #[error("type {id} is cut short")]
    Cut {
        /// Which.
        id: u32,
    },
    /// A field is not there or does not start at a byte.
    #[error("no field {field} in struct {structure}")]
    NoField {
        /// Of which structure.
        structure: &'static str,
        /// Which field.
        field: &'static str,
    },
}

const MAGIC: u16 = 0xeb9f;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// How deep anonymous structures are followed. 4: twice what the kernel has.
const DEPTH_MAX: usize = 4;

/// The fields that the programs read.
///
/// # Errors
/// Any [`BtfError`].
pub fn offsets(bytes: &[u8]) -> Result<Offsets, BtfError> {
    let types = Types::new(bytes)?;
    let find = |structure, field| {
        types.offset(structure, field).ok_or(BtfError::NoField { structure, field })
    };
    Ok(Offsets {
        bprm_file: find("linux_binprm", "file")?,
        bprm_filename: find("linux_binprm", "filename")?,
        file_inode: find("file", "f_inode")?,
        inode_sb: find("inode", "i_sb")?,
        inode_number: find("inode", "i_ino")?,
        sb_device: find("super_block", "s_dev")?,
    })
}

struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts; type 0 is `void` and has no place.
    starts: Vec<usize>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn part(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

impl<'a> Types<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let sections = || {
            let magic = bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic))?;
            let number = |at| usize::try_from(word(bytes, at)?).ok();
            let header = number(4)?;
            let types = part(bytes, header.checked_add(number(8)?)?, number(12)?)?;
            let strings = part(bytes, header.checked_add(number(16)?)?, number(20)?)?;
            (magic == MAGIC).then_some((types, strings))
        };
        let (types, strings) = sections().ok_or(BtfError::Header)?;
        let mut starts = vec![0];
        let mut at = 0;
        while at < types.len() {
            let id = u32::try_from(starts.len()).unwrap_or(u32::MAX);
            let info = word(types, at + 4).ok_or(BtfError::Cut { id })?;
            starts.push(at);
            at += TYPE_BYTES + extra_bytes(info);
        }
        Ok(Self { types, strings, starts })
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        self.strings.get(usize::try_from(offset).ok()?..)?.split(|byte| *byte == 0).next()
    }

    /// Offset in bytes of a field of the structure with this name.
    fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let is_it = |start: &&usize| {
            let head = || {
                let is_struct = kind(word(self.types, **start + 4)?) == STRUCT;
                Some(is_struct && self.name(word(self.types, **start)?)? == structure.as_bytes())
            };
            head().unwrap_or(false)
        };
        let start = self.starts.iter().skip(1).find(is_it)?;
        let bits = self.member(*start, field, DEPTH_MAX)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Offset in bits of a member, also one of an anonymous structure in it.
    fn member(&self, start: usize, field: &str, depth: usize) -> Option<u32> {
        let info = word(self.types, start + 4)?;
        if !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        let has_bitfields = info >> 31 != 0;
        for number in 0..usize::try_from(info & 0xffff).ok()? {
            let at = start + TYPE_BYTES + number * MEMBER_BYTES;
            let name = self.name(word(self.types, at)?)?;
            let place = word(self.types, at + 8)?;
            let bits = if has_bitfields { place & 0x00ff_ffff } else { place };
            if name == field.as_bytes() {
                return Some(bits);
            }
            if name.is_empty() && depth > 0 {
                let inner = usize::try_from(word(self.types, at + 4)?).ok()?;
                let inner = self.starts.get(inner)?;
                if let Some(within) = self.member(*inner, field, depth - 1) {
                    return bits.checked_add(within);
                }
            }
        }
        None
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes after the first twelve of a type.
fn extra_bytes(info: u32) -> usize {
    let count = usize::try_from(info & 0xffff).unwrap_or(0);
    match kind(info) {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Structure, union, section, 64-bit enumeration.
        STRUCT | UNION | 15 | 19 => count * 12,
        // Enumeration, prototype.
        6 | 13 => count * 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int x; struct { int y; }; }`.
    fn small() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0";
        let mut words: Vec<u32> = Vec::new();
        // 1: the anonymous structure; 2: an integer; 3: `a`.
        words.extend([0, STRUCT << 24 | 1, 4, 5, 2, 0]);
        words.extend([0, 1 << 24, 4, 32]);
        words.extend([1, STRUCT << 24 | 2, 8, 3, 2, 0, 0, 1, 32]);
        let type_bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let lengths = [24, 0, type_bytes.len(), type_bytes.len(), strings.len()];
        for length in lengths {
            bytes.extend(u32::try_from(length).unwrap().to_ne_bytes());
        }
        bytes.extend(type_bytes);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_also_in_anonymous_structures() {
        let bytes = small();
        let types = Types::new(&bytes).unwrap();
        assert_eq!(types.offset("a", "x"), Some(0));
        assert_eq!(types.offset("a", "y"), Some(4));
        assert_eq!(types.offset("a", "z"), None);
        assert_eq!(types.offset("b", "x"), None);
    }

    #[test]
    fn cut_bytes_are_an_error_and_never_a_panic() {
        let bytes = small();
        for cut in 0..bytes.len() {
            assert!(offsets(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            let mut lying = bytes.clone();
            lying[at] = 0xff;
            assert!(offsets(&lying).is_err());
        }
    }

    #[test]
    fn this_kernel_has_all_fields() {
        let Ok(bytes) = std::fs::read(super::super::KERNEL_BTF) else {
            println!("skipped: no {}", super::super::KERNEL_BTF);
            return;
        };
        let found = offsets(&bytes).unwrap();
        println!("{found:?}");
        assert!(found.sb_device > 0 && found.inode_sb > 0 && found.inode_number > 0);
    }
}
