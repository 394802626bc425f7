//! Data and names of record types.

use super::{Naptr, RData, Soa, name};
use crate::app::bytes::Cursor;
use std::ops::Range;

/// Reads the data at `range` of `message`; what its type's format does not fit is `RData::Other`.
pub(super) fn read(message: &[u8], range: Range<usize>, rtype: u16) -> RData {
    let data = message.get(range.clone()).unwrap_or_default();
    typed(message, &range, data, rtype).unwrap_or_else(|| RData::Other(data.to_vec()))
}

fn typed(message: &[u8], range: &Range<usize>, data: &[u8], rtype: u16) -> Option<RData> {
    let mut cursor = Cursor::new(data);
    // Names may point anywhere before; `message` ends where the data ends for what is not a pointer.
    let name_at = |offset: usize| name::read(message, range.start + offset);
    Some(match rtype {
        1 => RData::A(data.try_into().ok()?),
        28 => RData::Aaaa(data.try_into().ok()?),
        2..=5 | 7..=9 | 12 | 39 => RData::Name(name_at(0)?.0),
        6 => RData::Soa(Box::new(soa(message, range)?)),
        10 => RData::Null(data.to_vec()),
        15 => RData::Mx { preference: cursor.u16()?, exchange: name_at(2)?.0 },
        16 | 99 => {
            let mut strings = Vec::new();
            while !cursor.is_empty() {
                strings.push(cursor.prefixed8()?.to_vec());
            }
            RData::Txt(strings)
        }
        33 => RData::Srv {
            priority: cursor.u16()?,
            weight: cursor.u16()?,
            port: cursor.u16()?,
            target: name_at(6)?.0,
        },
        35 => RData::Naptr(Box::new(naptr(message, range.start, data)?)),
        41 => RData::Opt(pairs(cursor)?),
        44 => RData::Sshfp {
            algorithm: cursor.u8()?,
            kind: cursor.u8()?,
            fingerprint: cursor.rest().to_vec(),
        },
        64 | 65 => {
            let priority = cursor.u16()?;
            let (target, end) = name_at(2)?;
            let params = pairs(Cursor::new(message.get(end..range.end)?))?;
            RData::Svcb { priority, target, params }
        }
        257 => RData::Caa {
            flags: cursor.u8()?,
            tag: cursor.prefixed8()?.to_vec(),
            value: cursor.rest().to_vec(),
        },
        _ => return None,
    })
}

fn pairs(mut cursor: Cursor<'_>) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut pairs = Vec::new();
    while !cursor.is_empty() {
        pairs.push((cursor.u16()?, cursor.prefixed16()?.to_vec()));
    }
    Some(pairs)
}

fn soa(message: &[u8], range: &Range<usize>) -> Option<Soa> {
    let (mname, end) = name::read(message, range.start)?;
    let (rname, end) = name::read(message, end)?;
    let mut cursor = Cursor::new(message.get(end..range.end)?);
    Some(Soa {
        mname,
        rname,
        serial: cursor.u32()?,
        refresh_s: cursor.u32()?,
        retry_s: cursor.u32()?,
        expire_s: cursor.u32()?,
        minimum_s: cursor.u32()?,
    })
}

fn naptr(message: &[u8], start: usize, data: &[u8]) -> Option<Naptr> {
    let mut cursor = Cursor::new(data);
    let (order, preference) = (cursor.u16()?, cursor.u16()?);
    let flags = cursor.prefixed8()?.to_vec();
    let service = cursor.prefixed8()?.to_vec();
    let regexp = cursor.prefixed8()?.to_vec();
    let (replacement, _) = name::read(message, start + data.len() - cursor.len())?;
    Some(Naptr { order, preference, flags, service, regexp, replacement })
}

/// Types by number (the IANA registry's names, which Suricata and Zeek use).
const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (3, "MD"),
    (4, "MF"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (10, "NULL"),
    (11, "WKS"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (22, "NSAP"),
    (23, "NSAPPTR"),
    (24, "SIG"),
    (25, "KEY"),
    (26, "PX"),
    (27, "GPOS"),
    (28, "AAAA"),
    (29, "LOC"),
    (30, "NXT"),
    (31, "EID"),
    (32, "NIMLOC"),
    (33, "SRV"),
    (34, "ATMA"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (38, "A6"),
    (39, "DNAME"),
    (40, "SINK"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (56, "NINFO"),
    (57, "RKEY"),
    (58, "TALINK"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (100, "UINFO"),
    (101, "UID"),
    (102, "GID"),
    (103, "UNSPEC"),
    (104, "NID"),
    (105, "L32"),
    (106, "L64"),
    (107, "LP"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (253, "MAILB"),
    (254, "MAILA"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (258, "AVC"),
    (259, "DOA"),
    (260, "AMTRELAY"),
    (32768, "TA"),
    (32769, "DLV"),
];

const RCODES: [&str; 24] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "",
    "",
    "",
    "",
    "",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
];

pub(super) fn type_name(rtype: u16) -> Option<&'static str> {
    TYPES
        .binary_search_by_key(&rtype, |(number, _)| *number)
        .ok()
        .and_then(|index| TYPES.get(index).map(|(_, name)| *name))
}

pub(super) fn rcode_name(rcode: u16) -> Option<&'static str> {
    RCODES.get(usize::from(rcode)).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{RData, TYPES, rcode_name, read, type_name};

    #[test]
    fn the_table_is_sorted() {
        assert!(TYPES.is_sorted_by_key(|(number, _)| *number));
        assert_eq!(type_name(257), Some("CAA"));
        assert_eq!(type_name(54), None);
        assert_eq!(rcode_name(3), Some("NXDOMAIN"));
        assert_eq!(rcode_name(12), None);
    }

    #[test]
    fn text_and_wrong_lengths() {
        let data = b"\x02hi\x03you";
        let want = RData::Txt(vec![b"hi".to_vec(), b"you".to_vec()]);
        assert_eq!(read(data, 0..data.len(), 16), want);
        assert_eq!(read(data, 0..data.len(), 1), RData::Other(data.to_vec()));
        assert_eq!(read(data, 0..5, 16), RData::Other(data[..5].to_vec()));
    }
}
