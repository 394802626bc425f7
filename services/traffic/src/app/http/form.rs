//! Files in forms (RFC 7578): each part of `multipart/form-data` that has a file name is a file.
//!
//! What must never happen here: more held than the fields of one part, more files than the cap.

use super::File;
use super::file::{disposition_name, parameter};

/// Longest boundary (RFC 2046, section 5.1.1, says 70).
const BOUNDARY_BYTES_MAX: usize = 200;
/// Fields of one part that are read.
const FIELDS_BYTES_MAX: usize = 8 << 10;
/// Files of one form; further parts are passed over.
const FILES_MAX: usize = 32;

/// Where in a form the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a boundary.
    Boundary,
    /// In the fields of a part.
    Fields,
    /// In its data; whether it is a file.
    Data(bool),
    /// Behind the last part, or in something that is no form.
    End,
}

/// A form that is being read.
#[derive(Debug)]
pub(crate) struct Form {
    /// With its two hyphens.
    boundary: Vec<u8>,
    held: Vec<u8>,
    at: At,
}

impl Form {
    /// For a body of this type, if it is a form.
    pub(super) fn of(content_type: &[u8]) -> Option<Self> {
        let is_form = super::line::contains(content_type, b"multipart/form-data");
        let boundary = parameter(content_type, b"boundary").filter(|_| is_form)?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        Some(Self { boundary: [b"--", &boundary[..]].concat(), held: Vec::new(), at: At::Boundary })
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.boundary.capacity() + self.held.capacity()
    }

    /// Takes bytes of the body; files begin, grow and end.
    pub(super) fn push(&mut self, bytes: &[u8], are_hashed: bool, files: &mut Vec<File>) {
        if self.at == At::End {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        while self.step(&mut rest, are_hashed, files) {}
        self.held = rest.to_vec();
    }

    /// Whether there is more to do with what is held.
    fn step(&mut self, rest: &mut &[u8], are_hashed: bool, files: &mut Vec<File>) -> bool {
        match self.at {
            At::Boundary => {
                let Some(at) = memchr::memmem::find(rest, &self.boundary) else {
                    // Its first bytes may be here.
                    let kept = rest.len().min(self.boundary.len() - 1);
                    *rest = rest.get(rest.len() - kept..).unwrap_or_default();
                    return false;
                };
                let behind = rest.get(at + self.boundary.len()..).unwrap_or_default();
                if behind.starts_with(b"--") {
                    (self.at, *rest) = (At::End, &[]);
                    return false;
                }
                let Some(end) = memchr::memchr(b'\n', behind) else {
                    *rest = rest.get(at..).unwrap_or_default();
                    return self.is_too_long(rest);
                };
                (self.at, *rest) = (At::Fields, behind.get(end + 1..).unwrap_or_default());
                true
            }
            At::Fields => {
                let Some(at) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                    return self.is_too_long(rest);
                };
                let (fields, behind) = rest.split_at(at);
                let name = fields.split(|byte| *byte == b'\n').find_map(name);
                let is_file = name.is_some() && files.len() < FILES_MAX;
                if let Some(name) = name.filter(|_| is_file) {
                    files.push(File::new(&name, are_hashed));
                }
                *rest = behind.get(4..).unwrap_or_default();
                self.at = At::Data(is_file);
                true
            }
            At::Data(is_file) => {
                let end = [b"\r\n", &self.boundary[..]].concat();
                let found = memchr::memmem::find(rest, &end);
                let length = found.unwrap_or_else(|| rest.len().saturating_sub(end.len()));
                let (data, behind) = rest.split_at(length);
                if let Some(file) = files.last_mut().filter(|_| is_file) {
                    file.push(data);
                    if found.is_some() {
                        file.finish(super::FileState::Closed);
                    }
                }
                *rest = behind;
                if found.is_some() {
                    self.at = At::Boundary;
                }
                found.is_some()
            }
            At::End => false,
        }
    }

    /// Fields without an end are no form; never goes on.
    fn is_too_long(&mut self, rest: &mut &[u8]) -> bool {
        if rest.len() > FIELDS_BYTES_MAX {
            (self.at, *rest) = (At::End, &[]);
        }
        false
    }
}

/// The name of a file in a field of a part.
fn name(field: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"content-disposition:";
    let (head, value) = field.split_at_checked(NAME.len())?;
    let value = value.trim_ascii();
    head.eq_ignore_ascii_case(NAME).then_some(())?;
    disposition_name(value).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_with_a_name_are_files_however_they_are_cut() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nno\r\n\
            --xx\r\nContent-Disposition: form-data; name=\"b\"; filename=\"f.bin\"\r\n\
            Content-Type: y\r\n\r\nDA\r\n--x\r\nTA\r\n--xx\r\n\
            content-disposition: form-data; filename=\"empty\"\r\n\r\n\r\n--xx--\r\nmore";
        for at in 0..body.len() {
            let mut form = Form::of(b"multipart/form-data; boundary=xx").unwrap();
            let mut files = Vec::new();
            let (head, tail) = body.split_at(at);
            form.push(head, false, &mut files);
            form.push(tail, false, &mut files);
            let found: Vec<_> =
                files.iter().map(|file| (&file.name[..], file.size, &file.head[..])).collect();
            assert_eq!(
                found,
                [(&b"f.bin"[..], 11, &b"DA\r\n--x\r\nTA"[..]), (&b"empty"[..], 0, &b""[..])],
                "cut at {at}"
            );
            assert!(files.iter().all(|file| file.state == crate::app::http::FileState::Closed));
        }
        assert!(Form::of(b"multipart/mixed; boundary=xx").is_none());
        assert!(Form::of(b"multipart/form-data").is_none());
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut form = Form::of(b"multipart/form-data; boundary=\"b\"").unwrap();
        let mut files = Vec::new();
        form.push(b"--b\r\n", false, &mut files);
        for _ in 0..100 {
            form.push(&[b'a'; 1024], false, &mut files);
            assert!(form.held.len() <= FIELDS_BYTES_MAX + 1024);
        }
        assert_eq!(form.at, At::End);
    }
}
