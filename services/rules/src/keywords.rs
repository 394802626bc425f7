//! The list of keywords, for `requires` and for the documentation that `test-rules --keywords` prints.

use crate::buffer::TABLE;

/// A keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// As written in rules.
    pub name: &'static str,
    /// What it is for.
    pub group: &'static str,
}

const GROUPS: &[(&str, &str)] = &[
    (
        "identity",
        "msg sid rev gid priority classtype reference metadata target requires noalert alert",
    ),
    (
        "content",
        "content uricontent nocase rawbytes offset depth distance within startswith endswith fast_pattern prefilter bsize urilen absent pcre isdataat pkt_data",
    ),
    (
        "numbers in buffers",
        "byte_test byte_jump byte_extract byte_math base64_decode base64_data entropy",
    ),
    (
        "transforms",
        "to_lowercase to_uppercase strip_whitespace compress_whitespace url_decode xor dotprefix header_lowercase strip_pseudo_headers pcrexform to_md5 to_sha1 to_sha256 from_base64 domain tld",
    ),
    ("sets", "dataset datarep"),
    (
        "packet",
        "dsize flags tcp.flags seq ack window tcp.seq tcp.ack tcp.window ttl tos id ipopts fragbits fragoffset itype icode icmp_id icmp_seq icmpv6.mtu ip_proto tcp.mss tcp.wscale sameip vlan.id vlan.layers l3_proto tcpv4-csum tcpv6-csum udpv4-csum udpv6-csum icmpv4-csum icmpv6-csum ipv4-csum decode-event stream-event",
    ),
    (
        "flow",
        "flow flowbits flowint flowvar xbits hostbits stream_size flow.age flow.elephant flow.pkts flow.bytes flow.pkts_toserver flow.pkts_toclient flow.bytes_toserver flow.bytes_toclient app-layer-protocol app-layer-event tag bypass",
    ),
    ("limits", "threshold detection_filter"),
    (
        "transactions",
        "dns.opcode dns.rcode dns.rrtype tls.version ssl_version ssl_state tls.cert_chain_len tls.subject tls.issuerdn tls_cert_notbefore tls_cert_notafter tls_cert_expired tls_cert_valid tls.store tls_store filesize filename fileext filestore app-layer-state http2.frametype http2.errorcode http2.priority http2.window http2.settings",
    ),
];

/// All keywords that load, by group.
#[must_use]
pub fn keywords() -> Vec<Keyword> {
    let mut out = Vec::new();
    for (group, names) in GROUPS {
        out.extend(names.split(' ').map(|name| Keyword { name, group }));
    }
    for spec in TABLE {
        out.extend(spec.names.iter().map(|name| Keyword { name, group: "sticky buffers" }));
        out.extend(spec.modifier.iter().map(|name| Keyword { name, group: "content modifiers" }));
    }
    out
}

pub(crate) fn is_known(name: &str) -> bool {
    keywords().iter().any(|keyword| keyword.name == name)
}
