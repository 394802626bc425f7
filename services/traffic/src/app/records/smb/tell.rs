//! What single commands of SMB 1 say, as EVE has it: who logs on, which share, which file.
//!
//! (MS-CIFS and MS-SMB, section 2.2.4; MS-NLMP, section 2.2.1.3.) Texts are cut where they are kept.

use super::{Fields, HEADER_BYTES, Header, UNICODE, handles::name, le16, le32, narrow, wide};
use crate::app::{bytes::Cursor, records::Field};

/// Longest text that is kept.
const TEXT_BYTES_MAX: usize = 512;
/// Seconds between the beginnings of Windows' and of Unix' time.
const EPOCH_S: u64 = 11_644_473_600;
/// Marks a message of NTLM.
const NTLMSSP: &[u8] = b"NTLMSSP\0";
/// A logon that is accepted or not.
const AUTHENTICATE: u32 = 3;
/// The message says which version it is of.
const HAS_VERSION: u32 = 0x0200_0000;
const DELETE_ON_CLOSE: u32 = 0x1000;
const DIRECTORY: u32 = 1;

fn text(bytes: &[u8]) -> Field {
    Field::Text(bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes).to_vec())
}

fn field(name: &str, value: Field) -> (String, Field) {
    (name.to_owned(), value)
}

/// What follows the words and their count of bytes; and how far from the header it is.
fn data(body: &[u8]) -> Option<(&[u8], usize)> {
    let at = 1 + usize::from(*body.first()?) * 2 + 2;
    Some((body.get(at..)?, HEADER_BYTES + at))
}

/// Wide text begins at an even place of the message.
fn aligned(bytes: &[u8], at: usize, is_wide: bool) -> &[u8] {
    if is_wide && at % 2 == 1 { bytes.get(1..).unwrap_or_default() } else { bytes }
}

/// The share that is asked for, and what kind the client takes it for.
pub(super) fn connect(header: &Header, body: &[u8]) -> Fields {
    let is_wide = header.flags2 & UNICODE != 0;
    let read = || {
        let password = usize::from(u16::from_le_bytes(*body.get(7..)?.first_chunk()?));
        let (data, at) = data(body)?;
        let rest = aligned(data.get(password..)?, at + password, is_wide);
        let (share, rest) = if is_wide {
            wide(rest)
        } else {
            let (share, rest) = narrow(rest);
            (share.to_vec(), rest)
        };
        Some((share, narrow(rest).0))
    };
    let Some((share, service)) = read() else { return Fields::new() };
    // The first of its two backslashes is left out.
    let share = share.strip_prefix(b"\\").unwrap_or(&share);
    let kind = if service.starts_with(b"IPC") { "named_pipe" } else { "share" };
    let service = Field::Fields(vec![field("request", text(service))]);
    vec![field(kind, text(share)), field("service", service)]
}

/// What kind the server says it is.
pub(super) fn connected(body: &[u8], told: &mut Fields) {
    let Some((data, _)) = data(body) else { return };
    let (service, _) = narrow(data);
    if service.starts_with(b"IPC")
        && let Some((name, _)) = told.iter_mut().find(|(name, _)| name == "share")
    {
        "named_pipe".clone_into(name);
    }
    let own = told.iter_mut().find(|(name, _)| name == "service");
    if let Some((_, Field::Fields(fields))) = own {
        fields.push(field("response", text(service)));
    }
}

/// The file that is opened and how.
pub(super) fn create(header: &Header, body: &[u8]) -> Fields {
    let is_wide = header.flags2 & UNICODE != 0;
    let read = || {
        let mut cursor = Cursor::new(body);
        cursor.take(6)?;
        let length = usize::from(le16(&mut cursor)?);
        cursor.take(28)?;
        let disposition = le32(&mut cursor)?;
        let options = le32(&mut cursor)?;
        let (data, at) = data(body)?;
        let bytes = aligned(data, at, is_wide);
        let bytes = bytes.get(..length.min(bytes.len()))?;
        Some((name(bytes, is_wide), disposition, options))
    };
    let Some((name, disposition, options)) = read() else { return Fields::new() };
    let kind = if options & DIRECTORY != 0 { "directory" } else { "filename" };
    let is_root = name.is_empty();
    let (kind, name): (_, &[u8]) =
        if is_root { ("filename", b"<share_root>") } else { (kind, &name) };
    let disposition: &[u8] = match disposition {
        0 => b"FILE_SUPERSEDE",
        1 => b"FILE_OPEN",
        2 => b"FILE_CREATE",
        3 => b"FILE_OPEN_IF",
        4 => b"FILE_OVERWRITE",
        5 => b"FILE_OVERWRITE_IF",
        _ => b"UNKNOWN",
    };
    let access: &[u8] = if options & DELETE_ON_CLOSE != 0 { b"delete on close" } else { b"normal" };
    vec![
        field(kind, text(name)),
        field("disposition", text(disposition)),
        field("access", text(access)),
    ]
}

/// Times, size and number of the file that was opened; `None` if it was not.
pub(super) fn created(body: Option<&[u8]>, told: &mut Fields) {
    let read = |body: &[u8]| {
        let mut cursor = Cursor::new(body);
        cursor.take(6)?;
        let handle = cursor.take(2)?.to_vec();
        cursor.take(4)?;
        let mut word = || cursor.array().map(u64::from_le_bytes);
        let times = [word()?, word()?, word()?, word()?].map(unix);
        cursor.take(12)?;
        let size = cursor.array().map(u64::from_le_bytes)?;
        Some((handle, times, size))
    };
    let (handle, times, size) = body.and_then(read).unwrap_or_default();
    for (name, time) in ["created", "accessed", "modified", "changed"].into_iter().zip(times) {
        told.push(field(name, Field::Number(time)));
    }
    told.push(field("size", Field::Number(size)));
    let digits: Vec<String> = handle.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    told.push(field("fuid", text(digits.concat().as_bytes())));
}

/// Tenths of microseconds since 1601 as seconds since 1970.
const fn unix(time: u64) -> u64 {
    (time / 10_000_000).saturating_sub(EPOCH_S)
}

/// The number of the server in its answer to the dialects, where it has one.
pub(super) fn negotiated(body: &[u8], told: &mut Fields) {
    const EXTENDED_WORDS: u8 = 17;
    let guid = data(body).filter(|_| body.first() == Some(&EXTENDED_WORDS));
    let guid = guid.and_then(|(data, _)| data.first_chunk::<16>());
    if let Some(bytes) = guid {
        told.push(field("server_guid", text(guid_text(bytes).as_bytes())));
    }
}

/// Each part from its last byte to its first.
pub(super) fn guid_text(bytes: &[u8; 16]) -> String {
    let mut out = String::new();
    for (index, range) in [0..4, 4..6, 6..8, 8..10, 10..12, 12..16].into_iter().enumerate() {
        if (1..5).contains(&index) {
            out.push('-');
        }
        for byte in bytes.get(range).unwrap_or_default().iter().rev() {
            out.push_str(&format!("{byte:02x}"));
        }
    }
    out
}

/// Who logs on, if the message does.
pub(super) fn logon(message: &[u8]) -> Option<(String, Field)> {
    let at = memchr::memmem::find(message, NTLMSSP)?;
    let blob = message.get(at..)?;
    let mut cursor = Cursor::new(blob.get(NTLMSSP.len()..)?);
    if le32(&mut cursor)? != AUTHENTICATE {
        return None;
    }
    // Two responses, then domain, user and host: length, room, place.
    cursor.take(16)?;
    let mut names = Vec::new();
    for _ in 0..3 {
        let length = usize::from(le16(&mut cursor)?);
        le16(&mut cursor)?;
        let at = usize::try_from(le32(&mut cursor)?).ok()?;
        let bytes = blob.get(at..)?.get(..length)?;
        // Most of it is wide and has a zero in each second place.
        let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        names.push(text(&bytes));
    }
    cursor.take(8)?;
    let flags = le32(&mut cursor)?;
    let kinds = ["domain", "user", "host"];
    let mut fields: Fields =
        kinds.into_iter().zip(names).map(|(kind, name)| field(kind, name)).collect();
    if flags & HAS_VERSION != 0 {
        let [major, minor, low, high, _, _, _, revision] = cursor.array::<8>()?;
        let build = u16::from_le_bytes([low, high]);
        let version = format!("{major}.{minor} build {build} rev {revision}");
        fields.push(field("version", text(version.as_bytes())));
    }
    Some(field("ntlmssp", Field::Fields(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logon() {
        let mut blob = b"..NTLMSSP\0\x03\0\0\0".to_vec();
        blob.extend_from_slice(&[0; 16]);
        for (length, at) in [(2_u8, 72_u8), (4, 74), (1, 78)] {
            blob.extend_from_slice(&[length, 0, length, 0, at, 0, 0, 0]);
        }
        blob.extend_from_slice(&[0; 8]);
        blob.extend_from_slice(&HAS_VERSION.to_le_bytes());
        blob.extend_from_slice(&[6, 1, 1, 0, 0, 0, 0, 15]);
        blob.extend_from_slice(b"D\0u\0v\0h");
        let (name, found) = logon(&blob).unwrap();
        let Field::Fields(fields) = found else { panic!("no object") };
        assert_eq!(name, "ntlmssp");
        assert_eq!(fields[0].1, text(b"D"));
        assert_eq!(fields[1].1, text(b"uv"));
        assert_eq!(fields[3].1, text(b"6.1 build 1 rev 15"));
        assert_eq!(logon(b"NTLMSSP\0\x01\0\0\0"), None);
        assert_eq!(unix(EPOCH_S * 10_000_000 + 10_000_000), 1);
    }
}
