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

/// What a part of a form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Field,
    File,
    /// A file beyond the cap.
    TooMany,
}

/// Where in a form the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a boundary.
    Boundary,
    /// In the fields of a part.
    Fields,
    /// In its data.
    Data(Part),
    /// Behind the last part.
    End,
    /// In something that is no form, or what is inside was lost.
    Lost,
}

/// A form that is being read.
#[derive(Debug)]
pub(crate) struct Form {
    /// With its two hyphens.
    boundary: Vec<u8>,
    held: Vec<u8>,
    at: At,
    /// Bytes of the body so far.
    total: u64,
    /// Bytes that a cap kept from view.
    cut: u64,
}

impl Form {
    /// For a body of this type, if it is a form.
    pub(super) fn of(content_type: &[u8]) -> Option<Self> {
        // Suricata takes any type that names a boundary, the name in lower case, for one.
        memchr::memmem::find(content_type, b"boundary")?;
        let boundary = parameter(content_type, b"boundary")?;
        if boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        Some(Self {
            boundary: [b"--", &boundary[..]].concat(),
            held: Vec::new(),
            at: At::Boundary,
            total: 0,
            cut: 0,
        })
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.boundary.capacity() + self.held.capacity()
    }

    /// Where its parts are is not known any more.
    pub(super) fn stop(&mut self) {
        self.at = At::Lost;
        self.held = Vec::new();
    }

    /// Takes bytes of the body; files begin, grow and end. How many bytes were passed over because of
    /// a cap.
    pub(super) fn push(&mut self, bytes: &[u8], are_hashed: bool, files: &mut Vec<File>) -> u64 {
        self.total += bytes.len() as u64;
        match self.at {
            At::End => return 0,
            At::Lost => return bytes.len() as u64,
            At::Boundary | At::Fields | At::Data(_) => {}
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        while self.step(&mut rest, are_hashed, files) {}
        let used = held.len() - rest.len();
        held.drain(..used);
        self.held = held;
        std::mem::take(&mut self.cut)
    }

    /// The body is at its end: without a boundary what is held belongs to the file.
    pub(super) fn end(&mut self, files: &mut [File]) {
        let held = std::mem::take(&mut self.held);
        if self.at == At::Data(Part::File)
            && let Some(file) = files.last_mut()
        {
            file.push(held.strip_suffix(b"\r\n").unwrap_or(&held));
        }
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
                let data = behind.get(4..).unwrap_or_default();
                let part = match name {
                    None => Part::Field,
                    Some(_) if files.len() >= FILES_MAX => Part::TooMany,
                    Some(name) => {
                        let start = self.total - data.len() as u64;
                        let mut file = File::new(&name, are_hashed);
                        file.start = start;
                        files.push(file);
                        Part::File
                    }
                };
                *rest = data;
                self.at = At::Data(part);
                true
            }
            At::Data(part) => {
                let end = [b"\r\n", &self.boundary[..]].concat();
                let found = memchr::memmem::find(rest, &end);
                let length = found.unwrap_or_else(|| rest.len().saturating_sub(end.len()));
                let (data, behind) = rest.split_at(length);
                match files.last_mut().filter(|_| part == Part::File) {
                    Some(file) => {
                        file.push(data);
                        if found.is_some() {
                            file.finish(super::FileState::Closed);
                        }
                    }
                    None if part == Part::TooMany => self.cut += data.len() as u64,
                    None => {}
                }
                *rest = behind;
                if found.is_some() {
                    self.at = At::Boundary;
                }
                found.is_some()
            }
            At::End | At::Lost => false,
        }
    }

    /// Fields without an end are no form; never goes on.
    fn is_too_long(&mut self, rest: &mut &[u8]) -> bool {
        if rest.len() > FIELDS_BYTES_MAX {
            self.cut += rest.len() as u64;
            (self.at, *rest) = (At::Lost, &[]);
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
            let data = |file: &File| {
                let start = usize::try_from(file.start).unwrap();
                body[start..start + usize::try_from(file.size).unwrap()].to_vec()
            };
            assert_eq!(data(&files[0]), files[0].head);
            assert!(files.iter().all(|file| file.state == crate::app::http::FileState::Closed));
        }
        assert!(Form::of(b"multipart/mixed; boundary=xx").is_some());
        assert!(Form::of(b"multipart/form-data; BOUNDARY=xx").is_none());
        assert!(Form::of(b"multipart/form-data").is_none());
    }

    #[test]
    fn a_file_without_an_end_has_all_that_came() {
        let mut form = Form::of(b"multipart/form-data; boundary=b").unwrap();
        let mut files = Vec::new();
        let body = b"--b\r\nContent-Disposition: form-data; filename=\"f\"\r\n\r\nDATA\r\n";
        form.push(body, false, &mut files);
        form.end(&mut files);
        assert_eq!((&files[0].head[..], files[0].size), (&b"DATA"[..], 4));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut form = Form::of(b"multipart/form-data; boundary=\"b\"").unwrap();
        let mut files = Vec::new();
        form.push(b"--b\r\n", false, &mut files);
        let mut cut = 0;
        for _ in 0..100 {
            cut += form.push(&[b'a'; 1024], false, &mut files);
            assert!(form.held.len() <= FIELDS_BYTES_MAX + 1024);
        }
        assert_eq!((form.at, cut), (At::Lost, 100 * 1024));
    }

    #[test]
    fn files_beyond_the_cap_are_counted_and_none_grows_for_them() {
        let mut form = Form::of(b"multipart/form-data; boundary=b").unwrap();
        let mut files = Vec::new();
        let part = b"--b\r\nContent-Disposition: form-data; filename=\"f\"\r\n\r\nabc\r\n";
        let mut cut: u64 = (0..40).map(|_| form.push(part, false, &mut files)).sum();
        cut += form.push(b"--b--", false, &mut files);
        assert_eq!(files.len(), FILES_MAX);
        assert!(files.iter().all(|file| file.size == 3), "{files:?}");
        assert_eq!(cut, 8 * 3);
    }
}
