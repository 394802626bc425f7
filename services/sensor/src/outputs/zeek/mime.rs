//! What a file is by its first bytes: the kinds that the web is made of, in Zeek's words.
//!
//! Of several that fit Zeek takes the strongest; here they stand in that order.

/// Signatures at the start; the first that fits counts.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG", "image/png"),
    (b"GIF8", "image/gif"),
    (b"\xff\xd8", "image/jpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x07\x08PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/x-gzip"),
    (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
    (b"MZ", "application/x-dosexec"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"ZWS", "application/x-shockwave-flash"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"MM\x00\x2a", "image/tiff"),
    (b"II\x2a\x00", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"Rar!", "application/x-rar"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"!<arch>\ndebian", "application/x-debian-package"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/msword"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-o-executable"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-o-executable"),
    (b"\xd4\xc3\xb2\xa1", "application/vnd.tcpdump.pcap"),
    (b"\xa1\xb2\xc3\xd4", "application/vnd.tcpdump.pcap"),
    (b"-----BEGIN CERTIFICATE-----", "application/x-pem"),
];
/// What an ELF file is, by its type.
const ELF: [&str; 4] = [
    "application/x-object",
    "application/x-executable",
    "application/x-sharedlib",
    "application/x-coredump",
];
/// Interpreters behind `#!`, by the end of the word.
const INTERPRETERS: &[(&[u8], &str)] = &[
    (b"sh", "text/x-shellscript"),
    (b"perl", "text/x-perl"),
    (b"ruby", "text/x-ruby"),
    (b"python", "text/x-python"),
    (b"awk", "text/x-awk"),
    (b"lua", "text/x-lua"),
    (b"node", "application/javascript"),
    (b"php", "text/x-php"),
];
/// Elements that tell the kind of a document, in lower case.
const MARKUP: &[(&[u8], &str)] = &[
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<meta http-equiv", "text/html"),
    (b"<rss", "text/rss"),
    (b"<feed", "text/atom"),
    (b"<soap:envelope", "application/soap+xml"),
    (b"<soap-env:envelope", "application/soap+xml"),
    (b"<!doctype cross-domain-policy", "text/x-cross-domain-policy"),
    (b"<cross-domain-policy", "text/x-cross-domain-policy"),
    (b"<methodresponse>", "application/xml-rpc"),
    (b"<head", "text/html"),
    (b"<title", "text/html"),
    (b"<body", "text/html"),
    (b"<svg", "image/svg+xml"),
];
/// Beginnings of JavaScript.
const SCRIPT: &[&[u8]] = &[b"for (;;);", b"document.write(", b"document.writeln("];
/// Another, with blanks before the brace.
const CLOSURE: &[u8] = b"(function()";
/// So many characters at the start make a text.
const TEXT_BYTES: usize = 10;
/// Longest of the beginnings.
const MARKUP_BYTES_MAX: usize = 32;
/// Comments in front of the first element that are passed over.
const COMMENTS_MAX: usize = 8;

/// The kind; none for bytes that are neither known nor text.
#[must_use]
pub(super) fn sniff(head: &[u8]) -> Option<&'static str> {
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    if let Some(kind) = elf(head).or_else(|| interpreter(head)) {
        return Some(kind);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = lower(text.trim_ascii_start());
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
    let is_closure = head
        .strip_prefix(CLOSURE)
        .is_some_and(|rest| rest.iter().find(|byte| !is_blank(byte)) == Some(&b'{'));
    let is_script = is_closure || SCRIPT.iter().any(|script| start.starts_with(script));
    if is_script || is_script_element(&start) {
        return Some("application/javascript");
    }
    if let Some(kind) = markup(text) {
        return Some(kind);
    }
    if is_json(text.trim_ascii_start()) {
        return Some("text/json");
    }
    let is_text = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' '..=b'~');
    let begins_with_text = text.get(..TEXT_BYTES).is_some_and(|start| start.iter().all(is_text));
    begins_with_text.then_some("text/plain")
}

/// The first bytes, as small letters.
fn lower(text: &[u8]) -> Vec<u8> {
    text.get(..MARKUP_BYTES_MAX).unwrap_or(text).to_ascii_lowercase()
}

fn elf(head: &[u8]) -> Option<&'static str> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    let kind = match rest {
        [_, 1, _, _, _, _, _, _, _, _, _, _, kind, 0, ..]
        | [_, 2, _, _, _, _, _, _, _, _, _, _, 0, kind, ..] => *kind,
        _ => return None,
    };
    ELF.get(usize::from(kind).checked_sub(1)?).copied()
}

/// `#!/bin/sh`, `#!/usr/bin/env python`.
fn interpreter(head: &[u8]) -> Option<&'static str> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let path = words.next()?;
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let name = if name == b"env" { words.next()? } else { name };
    let name = name.trim_ascii_end();
    // python3, perl5.
    let name = name.get(..name.iter().take_while(|byte| byte.is_ascii_alphabetic()).count())?;
    INTERPRETERS.iter().find(|(word, _)| name.ends_with(word)).map(|(_, kind)| *kind)
}

/// A script element that says it is JavaScript.
fn is_script_element(start: &[u8]) -> bool {
    let Some(rest) = start.strip_prefix(b"<script") else { return false };
    if let Some(body) = rest.strip_prefix(b">") {
        let body = body.trim_ascii_start();
        return body.starts_with(b"var ") || body.starts_with(b"function ");
    }
    let rest = rest.trim_ascii_start();
    let Some(value) = rest.strip_prefix(b"type=").or_else(|| rest.strip_prefix(b"language="))
    else {
        return false;
    };
    let value = value.strip_prefix(b"'").or_else(|| value.strip_prefix(b"\"")).unwrap_or(value);
    let value = value.strip_prefix(b"text/").unwrap_or(value);
    // The rest of the word may be behind what is looked at.
    value.len() >= 4 && (value.starts_with(b"javascript") || b"javascript".starts_with(value))
}

/// The first element behind comments and the XML declaration.
fn markup(mut text: &[u8]) -> Option<&'static str> {
    let mut is_xml = false;
    for _ in 0..COMMENTS_MAX {
        text = text.trim_ascii_start();
        let end: &[u8] = if text.starts_with(b"<!--") {
            b"-->"
        } else if text.starts_with(b"<?xml ") && !is_xml {
            is_xml = true;
            b"?>"
        } else {
            break;
        };
        let Some(at) = text.windows(end.len()).position(|window| window == end) else { break };
        text = text.get(at + end.len()..).unwrap_or_default();
    }
    let start = lower(text);
    let found = MARKUP.iter().find(|(markup, _)| start.starts_with(markup)).map(|(_, kind)| *kind);
    found.or_else(|| is_xml.then_some("application/xml"))
}

/// An object with a name and a value, or an array with an element; what is empty as a whole.
fn is_json(text: &[u8]) -> bool {
    let whole = text.trim_ascii_end();
    if matches!(whole, b"[]" | b"{}") {
        return true;
    }
    match text {
        [b'{', rest @ ..] => {
            let rest = rest.trim_ascii_start();
            let name = match rest {
                [b'"', name @ ..] => {
                    name.iter().position(|byte| *byte == b'"').filter(|at| *at > 0).map(|at| at + 2)
                }
                [b'a'..=b'z' | b'A'..=b'Z', ..] => {
                    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                    Some(rest.iter().take_while(|byte| is_word(byte)).count())
                }
                _ => None,
            };
            let value = name.and_then(|at| rest.get(at..)).map(<[u8]>::trim_ascii_start);
            let value =
                value.and_then(|rest| rest.strip_prefix(b":")).map(<[u8]>::trim_ascii_start);
            value.is_some_and(|value| {
                matches!(value.first(), Some(b'"' | b'[' | b'{' | b'0'..=b'9'))
                    || value.starts_with(b"true")
                    || value.starts_with(b"false")
            })
        }
        [b'[', rest @ ..] => {
            let rest = rest.trim_ascii_start();
            let element = match rest {
                [b'{' | b'[', ..] => return true,
                [b'"', text @ ..] => {
                    text.iter().position(|byte| *byte == b'"').filter(|at| *at > 0).map(|at| at + 2)
                }
                [b'0'..=b'9' | b't' | b'f', ..] => {
                    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
                    Some(rest.iter().take_while(|byte| is_word(byte)).count())
                }
                _ => None,
            };
            let behind = element.and_then(|at| rest.get(at..)).map(<[u8]>::trim_ascii_start);
            behind.is_some_and(|rest| rest.starts_with(b","))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |head: &[u8], expect: Option<&str>| {
            assert_eq!(sniff(head), expect, "{}", String::from_utf8_lossy(head));
        };
        check(b"GIF89a..", Some("image/gif"));
        check(b"\r\n <!DOCTYPE HTML PUBLIC", Some("text/html"));
        check(b"<?xml version=\"1.0\"?>\n<!-- c --><html>", Some("text/html"));
        check(b"<?xml version=\"1.0\"?>\n<other>", Some("application/xml"));
        check(b"hello hello\x01", Some("text/plain"));
        check(b"hello", None);
        check(b"{\"a\":1}", Some("text/json"));
        check(b"[1, 2]", Some("text/json"));
        check(b"{} ", Some("text/json"));
        check(b"{ not json at all", Some("text/plain"));
        check(b"document.write(\"x\")", Some("application/javascript"));
        check(b"<script type=\"text/javascript\">", Some("application/javascript"));
        check(b"<script src=x></script>", Some("text/plain"));
        check(b"#!/usr/bin/env python3\n", Some("text/x-python"));
        check(b"#!/bin/bash\n", Some("text/x-shellscript"));
        check(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0", Some("application/x-sharedlib"));
        check(b"\x00\x01\x02", None);
        check(b"", None);
    }
}
