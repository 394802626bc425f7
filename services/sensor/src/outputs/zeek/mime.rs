//! What a file is by its first bytes: the few kinds that the web is made of, in Zeek's words.

/// Signatures at the start; the first that fits counts.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"MZ", "application/x-dosexec"),
    (b"\x7fELF", "application/x-executable"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"BZh", "application/x-bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/msword"),
];
/// Beginnings of HTML and XML, after white space, in lower case.
const MARKUP: &[(&[u8], &str)] = &[
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<title", "text/html"),
    (b"<script", "text/html"),
    (b"<?xml", "application/xml"),
    (b"<svg", "image/svg+xml"),
];
/// Fewer bytes than these say nothing about text.
const TEXT_BYTES_MIN: usize = 10;
/// Longest of the beginnings.
const MARKUP_BYTES_MAX: usize = 14;

/// The kind; none for bytes that are neither known nor text.
#[must_use]
pub(super) fn sniff(head: &[u8]) -> Option<&'static str> {
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    let text = head.trim_ascii_start();
    let start = text.get(..MARKUP_BYTES_MAX).unwrap_or(text).to_ascii_lowercase();
    if let Some((_, kind)) = MARKUP.iter().find(|(markup, _)| start.starts_with(markup)) {
        return Some(kind);
    }
    if text.starts_with(b"{\"") || text.starts_with(b"{\n") || text.starts_with(b"[{") {
        return Some("text/json");
    }
    let is_text = head.len() >= TEXT_BYTES_MIN
        && head
            .iter()
            .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | b' '..=b'~' | 0x80..));
    is_text.then_some("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |head: &[u8], expect: Option<&str>| assert_eq!(sniff(head), expect);
        check(b"GIF89a..", Some("image/gif"));
        check(b"\r\n <!DOCTYPE HTML PUBLIC", Some("text/html"));
        check(b"hello hello", Some("text/plain"));
        check(b"hello", None);
        check(b"{\"a\":1}", Some("text/json"));
        check(b"\x00\x01\x02", None);
        check(b"", None);
    }
}
