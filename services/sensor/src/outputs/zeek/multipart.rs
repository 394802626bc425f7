//! Parts of a body (RFC 2046, section 5.1): each that has data is a file to Zeek, however deep.

/// Files of one side that Zeek logs.
const PARTS_MAX: usize = 15;
/// Parts in parts that are followed, Zeek's limit.
const DEPTH_MAX: usize = 100;
/// Longest boundary (RFC 2046 allows 70).
const BOUNDARY_BYTES_MAX: usize = 200;
/// First bytes of a part that its kind is told from.
const HEAD_BYTES_MAX: usize = 1024;
/// Header lines of one part that are read.
const HEADERS_MAX: usize = 64;

/// A part without parts in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Its file name, if it says one.
    pub(super) name: Option<Vec<u8>>,
    /// First bytes of its data.
    pub(super) head: &'a [u8],
}

/// What a part's header says.
#[derive(Default)]
struct Header<'a> {
    kind: &'a [u8],
    name: Option<Vec<u8>>,
}

/// Parts of `body`, whose Content-Type is `kind`, in order.
pub(super) fn parts<'a>(body: &'a [u8], kind: &[u8]) -> Vec<Part<'a>> {
    let mut found = Vec::new();
    if let Some(boundary) = boundary(kind) {
        collect(body, &boundary, 0, &mut found);
    }
    found
}

fn collect<'a>(body: &'a [u8], boundary: &[u8], depth: usize, found: &mut Vec<Part<'a>>) {
    for section in Sections::new(body, boundary) {
        if found.len() >= PARTS_MAX {
            return;
        }
        let (header, data) = read_header(section);
        match self::boundary(header.kind) {
            Some(boundary) if depth < DEPTH_MAX => collect(data, &boundary, depth + 1, found),
            Some(_) => {}
            None if data.is_empty() => {}
            None => {
                let head = data.get(..HEAD_BYTES_MAX).unwrap_or(data);
                found.push(Part { name: header.name, head });
            }
        }
    }
}

/// What stands between two boundaries.
struct Sections<'a, 'b> {
    rest: &'a [u8],
    boundary: &'b [u8],
}

impl<'a, 'b> Sections<'a, 'b> {
    fn new(body: &'a [u8], boundary: &'b [u8]) -> Self {
        let mut sections = Self { rest: body, boundary };
        // The preamble.
        sections.until_boundary();
        sections
    }

    /// The bytes before the next boundary line; `rest` is what follows it, or nothing at the end.
    fn until_boundary(&mut self) -> &'a [u8] {
        let whole = self.rest;
        let mut at = 0;
        while let Some(line) = whole.get(at..).filter(|line| !line.is_empty()) {
            let length =
                line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |at| at + 1);
            let text = line.get(..length).unwrap_or_default().trim_ascii_end();
            if let Some(behind) =
                text.strip_prefix(b"--").and_then(|t| t.strip_prefix(self.boundary))
                && matches!(behind, b"" | b"--")
            {
                let is_last = !behind.is_empty();
                let next = whole.get(at + length..).unwrap_or_default();
                self.rest = if is_last { &[] } else { next };
                return without_line_end(whole.get(..at).unwrap_or_default());
            }
            at += length;
        }
        self.rest = &[];
        whole
    }
}

impl<'a> Iterator for Sections<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.until_boundary())
    }
}

/// The line end before a boundary belongs to the boundary.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Header fields of a part, and its data.
fn read_header(section: &[u8]) -> (Header<'_>, &[u8]) {
    let mut header = Header::default();
    let mut rest = section;
    for _ in 0..HEADERS_MAX {
        let length = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(length);
        let line = line.trim_ascii();
        rest = behind;
        if line.is_empty() {
            break;
        }
        if let Some(value) = field(line, b"content-type") {
            header.kind = value;
        } else if let Some(value) = field(line, b"content-disposition") {
            header.name = parameter(value, b"filename").filter(|name| !name.is_empty());
        }
    }
    (header, rest)
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    head.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The boundary of `multipart/..`.
fn boundary(kind: &[u8]) -> Option<Vec<u8>> {
    let is_multipart =
        kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
    let boundary = parameter(kind, b"boundary").filter(|_| is_multipart)?;
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
}

/// A parameter of a field's value, in quotes or not.
fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    value.split(|byte| *byte == b';').skip(1).find_map(|part| {
        let part = part.trim_ascii();
        let (head, rest) = part.split_at_checked(name.len())?;
        let text = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        if !head.eq_ignore_ascii_case(name) {
            return None;
        }
        let text = text
            .strip_prefix(b"\"")
            .map_or(text, |text| text.split(|byte| *byte == b'"').next().unwrap_or_default());
        Some(text.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str, kind: &str) -> Vec<(Option<String>, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let parts = parts(body.as_bytes(), kind.as_bytes());
        parts.iter().map(|part| (part.name.as_deref().map(text), text(part.head))).collect()
    }

    #[test]
    fn a_form() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"t.txt\"\r\n\r\none\
                    \r\n--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n--b\r\n\r\ntwo\r\n--b--\r\n";
        let expect = vec![(Some("t.txt".into()), "one".into()), (None, "two".into())];
        assert_eq!(found(body, "multipart/form-data; boundary=b"), expect);
    }

    #[test]
    fn parts_in_parts_and_no_end() {
        let body =
            "--a\nContent-Type: multipart/mixed; boundary=\"c\"\n\n--c\n\ninner\n--c--\n--a\n\nx";
        let expect = vec![(None, "inner".into()), (None, "x".into())];
        assert_eq!(found(body, "multipart/mixed; boundary=a"), expect);
        assert_eq!(found(body, "multipart/mixed"), []);
        assert_eq!(found("", "multipart/mixed; boundary=a"), []);
    }
}
