//! What of the boot partition is a site's own, and how it is measured: in one event of PCR 12 at the
//! start, and one for each time that the files beside it were read again while the box ran.
//!
//! One event at the start, because a register that may hold several would let an override of the
//! command line pass under the name of one. The configuration is followed by a list of the files
//! beside it and, always, by their number: read from its end, the text has one meaning only, so that
//! no configuration can pass for another one with files.
//!
//! The event of a reload is made of its own name ([`reload`]), so that a verifier computes its digest
//! and nothing else can pass under such a name: an override is measured as UTF-16 with a NUL at its
//! end, a configuration ends with a line end, and the name of a reload with neither.

use crate::{
    digest::{Digest, HashAlg},
    log::Event,
};

/// Most files beside the configuration: lists first, then rules in the order of their names.
pub const FILES_MAX: usize = 64;
/// Longest name of such a file.
pub const NAME_BYTES_MAX: usize = 64;
/// Most reloads of one boot: log and register grow with each. More than anybody needs between two
/// restarts, and a restart reads the files anyway.
pub const RELOADS_MAX: u32 = 32;
/// In front of the events of reloads.
pub const RELOAD_EVENT: &str = "site:reload ";
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
    out.extend_from_slice(&listed(files));
    out
}

fn listed(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut files: Vec<&File> = files.iter().collect();
    files.sort();
    for File { name, digest } in &files {
        out.extend_from_slice(format!("\nfile {name} {}", digest.hex()).as_bytes());
    }
    out.extend_from_slice(format!("\nfiles {}\n", files.len()).as_bytes());
    out
}

/// Name and content of the event of the reload `number` (from 1; one that failed before it was measured
/// has one, too) to these files, in any order: the
/// digest in it is of the list of files as it is measured at the start.
#[must_use]
pub fn reload(number: u32, files: &[File]) -> String {
    let list = HashAlg::Sha256.digest(&[&listed(files)]);
    format!("{RELOAD_EVENT}{number} files {} sha256:{}", files.len(), list.hex())
}

/// Which reload an event of PCR 12 is; `None` when it is none, or its digests are not those of its name.
#[must_use]
pub fn reload_number(event: &Event) -> Option<u32> {
    let rest = event.name.strip_prefix(RELOAD_EVENT)?;
    let (number, rest) = rest.split_once(" files ")?;
    let (count, list) = rest.split_once(" sha256:")?;
    let (number, count): (u32, usize) = (number.parse().ok()?, count.parse().ok()?);
    let is_hex = list.len() == 64 && list.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Written one way only: no sign, no zero in front.
    let again = format!("{RELOAD_EVENT}{number} files {count} sha256:{list}");
    let is_one = (1..=RELOADS_MAX).contains(&number) && is_hex && again == event.name;
    let name = event.name.as_bytes();
    let is_of_its_name = !event.digests.is_empty()
        && event.digests.iter().all(|digest| *digest == digest.alg().digest(&[name]));
    (is_one && is_of_its_name).then_some(number)
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
    fn a_reload_is_what_its_name_says_and_nothing_else_is_one() {
        let event = |name: &str, content: &str| Event {
            pcr: crate::pcr::PcrIndex::SITE,
            digests: vec![HashAlg::Sha256.digest(&[content.as_bytes()])],
            name: name.into(),
            context: crate::log::Context::default(),
        };
        let files = [File::new("b.rules", b"1"), File::new("a.rules", b"2")];
        let name = reload(1, &files);
        assert_eq!(name, reload(1, &[files[1].clone(), files[0].clone()]));
        assert_ne!(name, reload(1, &files[..1]));
        assert!(name.len() < 200 && name.starts_with("site:reload 1 files 2 sha256:"), "{name}");
        assert_eq!(reload_number(&event(&name, &name)), Some(1));
        assert_eq!(reload_number(&event(&name, "init=/bin/sh")), None);
        let mut hollow = event(&name, &name);
        hollow.digests.clear();
        assert_eq!(reload_number(&hollow), None);
        let late = reload(RELOADS_MAX + 1, &files);
        assert_eq!(reload_number(&event(&late, &late)), None);
        for (part, with) in [("files 2", "files +2"), ("reload 1", "reload 01"), ("1 f", "0 f")] {
            let other = name.replacen(part, with, 1);
            assert_eq!(reload_number(&event(&other, &other)), None, "{other}");
        }
        let other = format!("{name}\n");
        assert_eq!(reload_number(&event(&other, &other)), None);
        // No configuration is measured as bytes that could have such a name.
        assert!(measured(b"", &[]).ends_with(b"\n"));
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
