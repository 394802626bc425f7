//! Certificates (RFC 5280): the fields that rules and logs name.

use super::der::{self, Element};
use crate::{app::bytes::Cursor, fingerprint::digits::push_hex};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Most names of a certificate that are kept: large hosters have a few hundred.
const SANS_MAX: usize = 1024;

/// A certificate as sent; fields that could not be read are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// DER: `tls.certs`.
    pub der: Vec<u8>,
    /// Subject as Suricata writes it: `C=US, O=Example, CN=example.org`.
    pub subject: String,
    /// Issuer, same form.
    pub issuer: String,
    /// Serial number: upper-case hex bytes with colons.
    pub serial: String,
    /// SHA-1 over the DER: lower-case hex with colons.
    pub fingerprint: String,
    /// Start of validity, seconds since 1970 (negative before).
    pub not_before_s: Option<i64>,
    /// End of validity, seconds since 1970.
    pub not_after_s: Option<i64>,
    /// Subject alternative names: DNS names, mail addresses, URIs, and addresses as text.
    pub sans: Vec<String>,
    /// Common name of the subject: the last one, as the most specific.
    pub common_name: Option<String>,
    /// The structure could not be read to its end.
    pub is_malformed: bool,
}

impl Certificate {
    /// It says whose it is and who vouches for that.
    pub(super) const fn is_named(&self) -> bool {
        !self.subject.is_empty() && !self.issuer.is_empty()
    }

    /// The DER and what was read of it, which is about as long.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + 2 * self.der.capacity()
    }

    /// SHA-256 over the DER: lower-case hex, no colons (Zeek's chain fingerprints). Few ask for it.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex(digest(&SHA256, &self.der).as_ref(), "", false)
    }

    /// Reads what can be read of `der`.
    #[must_use]
    pub fn parse(der: &[u8]) -> Self {
        let mut certificate = Self {
            der: der.to_vec(),
            fingerprint: hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref(), ":", false),
            ..Self::default()
        };
        certificate.is_malformed = certificate.read(der).is_none();
        certificate
    }

    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let mut outer = Cursor::new(der::expect(&mut Cursor::new(bytes), 0x30)?);
        let mut body = Cursor::new(der::expect(&mut outer, 0x30)?);
        let _version = der::expect(&mut body, 0xa0);
        self.serial = hex(der::expect(&mut body, 0x02)?, ":", true);
        der::expect(&mut body, 0x30)?; // signature algorithm
        self.issuer = name(der::expect(&mut body, 0x30)?).0;
        let mut validity = Cursor::new(der::expect(&mut body, 0x30)?);
        self.not_before_s = der::next(&mut validity).and_then(der::time_s);
        self.not_after_s = der::next(&mut validity).and_then(der::time_s);
        let (subject, common_name) = name(der::expect(&mut body, 0x30)?);
        self.subject = subject;
        self.common_name = common_name;
        der::expect(&mut body, 0x30)?; // public key
        while !body.is_empty() {
            let element = der::next(&mut body)?;
            if element.tag == 0xa3 {
                self.extensions(element.content)?;
            }
        }
        Some(())
    }

    fn extensions(&mut self, content: &[u8]) -> Option<()> {
        let mut list = Cursor::new(der::expect(&mut Cursor::new(content), 0x30)?);
        while !list.is_empty() {
            let mut extension = Cursor::new(der::expect(&mut list, 0x30)?);
            let is_san = der::expect(&mut extension, 0x06)? == b"\x55\x1d\x11";
            let _critical = der::expect(&mut extension, 0x01);
            let value = der::expect(&mut extension, 0x04)?;
            if is_san {
                self.names(value)?;
            }
        }
        Some(())
    }

    fn names(&mut self, value: &[u8]) -> Option<()> {
        let mut names = Cursor::new(der::expect(&mut Cursor::new(value), 0x30)?);
        while !names.is_empty() && self.sans.len() < SANS_MAX {
            let element = der::next(&mut names)?;
            match element.tag & 0x1f {
                1 | 2 | 6 => self.sans.push(text(element)),
                7 => {
                    if let Ok(bytes) = <[u8; 4]>::try_from(element.content) {
                        self.sans.push(Ipv4Addr::from(bytes).to_string());
                    } else if let Ok(bytes) = <[u8; 16]>::try_from(element.content) {
                        self.sans.push(Ipv6Addr::from(bytes).to_string());
                    }
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// A distinguished name as text, and its last common name.
fn name(content: &[u8]) -> (String, Option<String>) {
    let mut line = String::new();
    let mut common_name = None;
    let mut sets = Cursor::new(content);
    while let Some(set) = der::expect(&mut sets, 0x31) {
        let mut attributes = Cursor::new(set);
        let mut separator = if line.is_empty() { "" } else { ", " };
        while let Some(attribute) = der::expect(&mut attributes, 0x30) {
            let mut parts = Cursor::new(attribute);
            let Some(oid) = der::expect(&mut parts, 0x06) else { break };
            let Some(value) = der::next(&mut parts) else { break };
            let value = text(value);
            line.push_str(separator);
            separator = " + ";
            match short_name(oid) {
                Some(short) => line.push_str(short),
                None => line.push_str(&der::oid_text(oid)),
            }
            line.push('=');
            line.push_str(&value);
            if oid == b"\x55\x04\x03" {
                common_name = Some(value);
            }
        }
    }
    (line, common_name)
}

const fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        b"\x55\x04\x03" => "CN",
        b"\x55\x04\x04" => "surname",
        b"\x55\x04\x05" => "serialNumber",
        b"\x55\x04\x06" => "C",
        b"\x55\x04\x07" => "L",
        b"\x55\x04\x08" => "ST",
        b"\x55\x04\x09" => "streetAddress",
        b"\x55\x04\x0a" => "O",
        b"\x55\x04\x0b" => "OU",
        b"\x55\x04\x0c" => "title",
        b"\x55\x04\x0d" => "description",
        b"\x55\x04\x0f" => "businessCategory",
        b"\x55\x04\x11" => "postalCode",
        b"\x55\x04\x29" => "name",
        b"\x55\x04\x2a" => "givenName",
        b"\x55\x04\x2b" => "initials",
        b"\x55\x04\x2e" => "dnQualifier",
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19" => "DC",
        b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01" => "uid",
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01" => "Email",
        b"\x2b\x06\x01\x04\x01\x82\x37\x3c\x02\x01\x01" => "msJurisdictionLocality",
        b"\x2b\x06\x01\x04\x01\x82\x37\x3c\x02\x01\x02" => "msJurisdictionStateOrProvince",
        b"\x2b\x06\x01\x04\x01\x82\x37\x3c\x02\x01\x03" => "msJurisdictionCountry",
        _ => return None,
    })
}

/// A string of any of the usual types.
fn text(element: Element<'_>) -> String {
    match element.tag {
        0x1e => {
            let (pairs, _) = element.content.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16_lossy(&units)
        }
        0x14 => element.content.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(element.content).into_owned(),
    }
}

/// Bytes in hex with a separator.
fn hex(bytes: &[u8], separator: &str, is_upper: bool) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (index, byte) in bytes.iter().enumerate() {
        let gap = if index == 0 { "" } else { separator };
        text.push_str(gap);
        push_hex(&mut text, [*byte]);
    }
    if is_upper {
        text.make_ascii_uppercase();
    }
    text
}
