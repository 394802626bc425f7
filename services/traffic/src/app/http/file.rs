//! Files in bodies: name, size, digests.

use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// First bytes of a file that are kept, for its type.
const HEAD_BYTES_MAX: usize = 1_024;
/// Longest name that is kept.
const NAME_BYTES_MAX: usize = 1_024;

/// Sections of a name that are looked for.
const SECTIONS_MAX: usize = 64;

/// How far a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileState {
    /// Still coming.
    #[default]
    Open,
    /// All of it came: `CLOSED`.
    Closed,
    /// The flow ended first, or bytes were lost: `TRUNCATED`.
    Truncated,
    /// A parser gave up: `ERROR`.
    Error,
}

/// A file that was transferred.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Name, from Content-Disposition or the last part of the path.
    pub name: Vec<u8>,
    /// Bytes so far.
    pub size: u64,
    /// Where in the body it begins: behind 0 in a form.
    pub start: u64,
    /// How far it is.
    pub state: FileState,
    /// Bytes were lost inside.
    pub has_gap: bool,
    /// First bytes, for `filemagic` and Zeek's MIME types (at most 1024).
    pub head: Vec<u8>,
    /// Digests, when the file is closed and the configuration asks for them.
    pub digests: Option<Box<Digests>>,
    hashers: Option<Box<Hashers>>,
}

#[derive(Clone, Default)]
struct Hashers {
    md5: Md5,
    sha1: Sha1,
    sha256: Sha256,
}

impl std::fmt::Debug for Hashers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashers")
    }
}

impl File {
    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let hashers = self.hashers.as_ref().map_or(0, |_| size_of::<Hashers>());
        let digests = self.digests.as_ref().map_or(0, |_| size_of::<Digests>());
        size_of::<Self>() + self.name.capacity() + self.head.capacity() + hashers + digests
    }

    pub(crate) fn new(name: &[u8], are_hashed: bool) -> Self {
        Self {
            name: name.get(..NAME_BYTES_MAX.min(name.len())).unwrap_or_default().to_vec(),
            hashers: are_hashed.then(Box::default),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        if let Some(hashers) = &mut self.hashers {
            hashers.md5.update(bytes);
            hashers.sha1.update(bytes);
            hashers.sha256.update(bytes);
        }
    }

    pub(crate) fn finish(&mut self, state: FileState) {
        if self.state != FileState::Open {
            return;
        }
        self.state = state;
        if let Some(hashers) = self.hashers.take()
            && !self.has_gap
            && state != FileState::Truncated
        {
            self.digests = Some(Box::new(Digests {
                md5: hashers.md5.finalize().into(),
                sha1: hashers.sha1.finalize().into(),
                sha256: hashers.sha256.finalize().into(),
            }));
        }
    }
}

/// `filename` of a Content-Disposition value, as Suricata reads it: what stands between quotes that
/// do not end is no name, and what follows a quoted name is part of it.
pub(crate) fn disposition_name(value: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"filename=";
    let mut rest = value.trim_ascii_start();
    loop {
        let (part, more) = part(rest)?;
        if let Some((head, name)) = part.split_at_checked(NAME.len())
            && head.eq_ignore_ascii_case(NAME)
        {
            if name.is_empty() {
                return None;
            }
            let name = name.strip_prefix(b"\"").unwrap_or(name);
            return Some(name.strip_suffix(b"\"").unwrap_or(name).to_vec());
        }
        rest = more?.trim_ascii_start();
    }
}

/// Up to a semicolon that is not quoted, and what is behind it; `None` if a quote does not end. The
/// last byte ends nothing.
fn part(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut is_quoted = false;
    let mut last = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if last != b'\\' => is_quoted = !is_quoted,
            b';' if !is_quoted && at + 1 < text.len() => {
                return Some((text.get(..at)?, text.get(at + 1..)));
            }
            _ => {}
        }
        last = *byte;
    }
    (!is_quoted).then_some((text, None))
}

/// A parameter of a field value, also one that is cut into sections (RFC 2231, section 3): `name*0`,
/// `name*1` and so on.
pub(crate) fn sectioned_parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if let Some(whole) = parameter(value, name) {
        return Some(whole);
    }
    let section =
        |number: usize| parameter(value, &[name, b"*", number.to_string().as_bytes()].concat());
    let mut out = section(0)?;
    for number in 1..SECTIONS_MAX {
        let Some(more) = section(number) else { break };
        out.extend_from_slice(&more);
    }
    Some(out)
}

/// A parameter of a field value, quoted or not.
pub(crate) fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        let at = memchr::memchr(b';', rest)?;
        rest = rest.get(at + 1..)?.trim_ascii_start();
        let Some((head, tail)) = rest.split_at_checked(name.len()) else { continue };
        if !head.eq_ignore_ascii_case(name) {
            continue;
        }
        let Some(tail) = tail.trim_ascii_start().strip_prefix(b"=") else { continue };
        let text = tail.trim_ascii_start();
        if let Some(quoted) = text.strip_prefix(b"\"") {
            let end = memchr::memchr(b'"', quoted).unwrap_or(quoted.len());
            return quoted.get(..end).map(<[u8]>::to_vec);
        }
        let end = memchr::memchr2(b';', b' ', text).unwrap_or(text.len());
        return text.get(..end).map(<[u8]>::to_vec);
    }
}

/// Digests of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// MD5, because feeds still use it.
    pub md5: [u8; 16],
    /// SHA-1.
    pub sha1: [u8; 20],
    /// SHA-256.
    pub sha256: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::disposition_name;

    #[test]
    fn names_of_files() {
        let name = |value: &str| {
            disposition_name(value.as_bytes()).map(|name| String::from_utf8(name).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(name("attachment; filename=\"a;b.txt\""), some("a;b.txt"));
        assert_eq!(name("attachment; FileName=a.txt; x=y"), some("a.txt"));
        assert_eq!(name("filename=\"a.txt\", attachment"), some("a.txt\", attachment"));
        assert_eq!(name("attachment; filename=\"a.txt"), None);
        assert_eq!(name("attach\"ment; filename=\"a.txt\""), None);
        assert_eq!(name("attachment"), None);
        assert_eq!(name("attachment; filename="), None);
        assert_eq!(name(";;filename=a;"), some("a;"));
    }
}
