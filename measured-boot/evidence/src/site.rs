//! What of the boot partition is a site's own, and how it is measured: in one event of PCR 12.
//!
//! One event, because a register that may hold several would let an override of the command line
//! pass under the name of one. The configuration is followed by a list of the files beside it and,
//! always, by their number: read from its end, the text has one meaning only, so that no
//! configuration can pass for another one with files.

use crate::digest::{Digest, HashAlg};

/// Most files beside the configuration: lists first, then rules in the order of their names.
pub const FILES_MAX: usize = 64;
/// Longest name of such a file.
pub const NAME_BYTES_MAX: usize = 64;
/// Suffix of files of rules.
const RULES: &str = ".rules";
/// The list of names, the operator's exceptions to it, and the list of addresses.
const NAMED: [&str; 3] = ["hookprobe.names", "hookprobe.allow", "hookprobe.block"];

/// A file beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Its name, see [`is_file`].
    pub name: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

impl File {
    /// Of a file with these bytes.
    #[must_use]
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), digest: HashAlg::Sha256.digest(&[bytes]) }
    }
}

/// Whether it is a file of rules, by its name.
#[must_use]
pub fn is_rules(name: &str) -> bool {
    name.len() > RULES.len() && name.ends_with(RULES) && !name.starts_with('.')
}

/// Whether a file of this name is used by the box: rules, names, exceptions, addresses.
#[must_use]
pub fn is_file(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_known = is_rules(name) || NAMED.contains(&name);
    name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) && is_known
}

/// The bytes that are measured; `files` in any order.
#[must_use]
pub fn measured(configuration: &[u8], files: &[File]) -> Vec<u8> {
    let mut out = configuration.to_vec();
    let mut files: Vec<&File> = files.iter().collect();
    files.sort();
    for File { name, digest } in &files {
        out.extend_from_slice(format!("\nfile {name} {}", digest.hex()).as_bytes());
    }
    out.extend_from_slice(format!("\nfiles {}\n", files.len()).as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_used() {
        for name in ["a.rules", "emerging-all.rules", "hookprobe.names", "hookprobe.block"] {
            assert!(is_file(name), "{name}");
        }
        let long = format!("{}.rules", "a".repeat(NAME_BYTES_MAX));
        for name in
            [".rules", ".a.rules", "a/b.rules", "a\n.rules", "hookprobe.toml", "x.names", &long]
        {
            assert!(!is_file(name), "{name}");
        }
    }

    #[test]
    fn a_configuration_never_passes_for_one_with_files() {
        assert_eq!(measured(b"[node]\n", &[]), b"[node]\n\nfiles 0\n");
        let with = measured(b"x", &[File::new("a.rules", b"1")]);
        for cut in 0..=with.len() {
            assert_ne!(measured(with.get(..cut).unwrap(), &[]), with);
        }
    }

    #[test]
    fn every_byte_of_every_file_and_its_name_count() {
        let files = [File::new("b.rules", b"1"), File::new("a.rules", b"2")];
        let whole = measured(b"x", &files);
        let other = |files: &[File]| measured(b"x", files);
        assert_eq!(other(&[files[1].clone(), files[0].clone()]), whole);
        for changed in [
            vec![files[0].clone()],
            vec![File::new("b.rules", b"2"), File::new("a.rules", b"1")],
            vec![File::new("c.rules", b"1"), files[1].clone()],
        ] {
            assert_ne!(other(&changed), whole);
        }
        let text = String::from_utf8(whole).unwrap();
        assert!(text.starts_with("x\nfile a.rules d4735e3a265e16eee03f59718b9b5d03"), "{text}");
    }
}
