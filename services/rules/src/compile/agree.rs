//! What the parts of a rule have to do with each other: protocols that exclude one another, contents
//! longer than what they are looked for in, buffers that are absent and searched. Suricata refuses
//! such rules.

use hookprobe_traffic::app::Proto;

use super::{Builder, Done, RuleError, fault};
use crate::{
    buffer::{self, Buffer, Place},
    chain::{Content, Op},
    number::Compare,
    rule::{AppName, Match, Test, TxTest},
};

/// A digest in hexadecimal digits.
const MD5_DIGITS: usize = 32;

fn fits(app: AppName, proto: Proto) -> bool {
    match app {
        // HTTP/2 has the buffers of HTTP, and with DNS in it those of DNS.
        AppName::One(Proto::Http2) => proto == Proto::Http1,
        AppName::One(Proto::Doh2) => matches!(proto, Proto::Http1 | Proto::Dns),
        // Multicast DNS is DNS to some keywords.
        AppName::One(Proto::Mdns) => matches!(proto, Proto::Mdns | Proto::Dns),
        app => app.fits(Some(proto), false),
    }
}

/// Files and frames are of more protocols than have a parser here.
const fn is_of_files(test: &TxTest) -> bool {
    matches!(test, TxTest::HasFile | TxTest::FileSize(_) | TxTest::Frame(_))
}

fn contents(ops: &[Op]) -> impl Iterator<Item = &Content> {
    ops.iter().filter_map(|op| match op {
        Op::Content(content) => Some(content.as_ref()),
        _ => None,
    })
}

/// Whether something of `length` bytes can't be in what has this size; of ranges it is not asked.
fn is_longer(length: usize, size: Compare) -> bool {
    matches!(size, Compare::Equal(size) if length as u64 > size)
}

fn longest(ops: &[Op]) -> usize {
    contents(ops).map(|content| content.pattern.len()).max().unwrap_or(0)
}

impl Builder<'_, '_> {
    /// A keyword before has said which protocol it is.
    pub(super) fn has_app(&self) -> bool {
        let is_one = |places: &[Place]| {
            let first = places.first().map(|place| place.proto);
            first.is_some() && places.iter().all(|place| Some(place.proto) == first)
        };
        let places = |found: &Match| buffer::spec(found.buffer).map(|spec| spec.places);
        self.app.is_some()
            || self.buffers.iter().filter_map(places).any(is_one)
            || self.tx_tests.iter().any(|(test, places)| !is_of_files(test) && is_one(places))
    }

    /// Refuses what can't be.
    pub(super) fn agree(&self, is_stream: bool) -> Done {
        let only_stream = |test: &Test| matches!(test, Test::Flow(flow) if flow.only_stream);
        let is_sized = self.tests.iter().any(|test| matches!(test, Test::StreamSize { .. }));
        let is_packet = self.needs_packet && !is_sized;
        if is_packet && (is_stream || self.tests.iter().any(only_stream)) {
            return Err(RuleError::Conflict("keywords of packets do not go with the stream alone"));
        }
        self.protocols()?;
        let sizes = self.tests.iter().filter_map(|test| match test {
            Test::Size(size) => Some(*size),
            _ => None,
        });
        for size in sizes {
            if self.payload.len() == 1 && is_longer(longest(&self.payload), size) {
                return Err(fault("dsize", "a content is longer"));
            }
        }
        for found in &self.buffers {
            one_buffer(found)?;
        }
        Ok(())
    }

    fn protocols(&self) -> Done {
        let mut all: Vec<Vec<Proto>> = Vec::new();
        for found in &self.buffers {
            let places = buffer::spec(found.buffer).map(|spec| spec.places).unwrap_or_default();
            // Files are of more protocols than have a parser here.
            let is_file = matches!(found.buffer, Buffer::FileData | Buffer::FileName);
            let has_none = matches!(
                self.app,
                Some(AppName::One(Proto::Tls | Proto::Dns | Proto::Ssh | Proto::Quic | Proto::Sip))
            );
            if !is_file || has_none {
                all.push(places.iter().map(|place| place.proto).collect());
            }
        }
        for (test, places) in &self.tx_tests {
            if !is_of_files(test) {
                all.push(places.iter().map(|place| place.proto).collect());
            }
        }
        let refused = Err(RuleError::Conflict("keywords of protocols that exclude each other"));
        if let Some(app) = self.app {
            let is_there = |protos: &Vec<Proto>| protos.iter().any(|proto| fits(app, *proto));
            return if all.iter().all(is_there) { Ok(()) } else { refused };
        }
        let Some((first, rest)) = all.split_first() else { return Ok(()) };
        let is_common = |proto: &Proto| rest.iter().all(|protos| protos.contains(proto));
        if first.iter().any(is_common) { Ok(()) } else { refused }
    }
}

fn one_buffer(found: &Match) -> Done {
    let name = buffer::spec(found.buffer).and_then(|spec| spec.names.first().copied());
    let name = name.unwrap_or_default();
    for op in &found.ops {
        if let Op::Size(size) = op
            && is_longer(longest(&found.ops), *size)
        {
            return Err(fault(name, "bsize is less than a content is long"));
        }
    }
    let absent = found.ops.iter().find_map(|op| match op {
        Op::Absent { or_else } => Some(*or_else),
        _ => None,
    });
    match absent {
        Some(false) if found.ops.len() > 1 => {
            return Err(fault(name, "absent, and searched"));
        }
        Some(true) if found.ops.len() == 1 => {
            return Err(fault(name, "absent: or_else, and nothing else"));
        }
        _ => {}
    }
    for content in contents(&found.ops) {
        let is_blank = |byte: Option<&u8>| byte == Some(&b' ');
        match found.buffer {
            Buffer::Ja3Hash | Buffer::Ja3sHash | Buffer::SshHassh | Buffer::SshHasshServer
                if content.pattern.len() != MD5_DIGITS =>
            {
                return Err(fault(name, "no digest of 32 digits"));
            }
            Buffer::HttpMethod
                if is_blank(content.pattern.first()) || is_blank(content.pattern.last()) =>
            {
                return Err(fault(name, "a blank at an end"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Config, Ruleset};

    #[test]
    fn what_suricata_refuses_does_not_load() {
        let pairs = [
            ("ip", "ip_proto:6"),
            ("ip", "app-layer-protocol:unknown"),
            ("tcp", "content:\"a\"; isdataat:10,relative,rawbytes"),
            ("tcp", "threshold: type backoff, track by_flow, count 1, multiplier 10"),
            ("tcp", "detection_filter: track by_flow, count 1, seconds 60"),
            ("tcp", "flow:established,to_server; content:\"abc\"; depth:3"),
            ("tcp", "flags:S; prefilter"),
            ("tcp", "app-layer-protocol:!http; app-layer-protocol:!tls"),
            ("tls", "tls.version:1.2; tls.sni; content:\"a\""),
            ("http", "http.uri; absent: or_else; content:\"a\"; bsize:1"),
            ("tcp-stream", "stream_size:server,>,1"),
            ("http", "file.data; content:\"a\""),
            ("http2", "http.uri; content:\"a\"; http2.frametype:1"),
            ("doh2", "http.uri; content:\"a\"; dns.query; content:\"a\""),
        ];
        let refused = [
            ("tcp", "ip_proto:6"),
            ("ip", "app-layer-protocol:!unknown"),
            ("tcp", "content:\"a\"; isdataat:10,rawbytes"),
            ("tcp", "threshold: type backoff, track by_src, count 1, multiplier 10"),
            ("tcp", "detection_filter: track by_rule, count 1, seconds 60"),
            ("tcp", "flow:to_server,to_client"),
            ("tcp", "prefilter"),
            ("tcp", "app-layer-protocol:http; app-layer-protocol:!tls"),
            ("tls", "app-layer-protocol:http"),
            ("tls", "tls.version:!1.2"),
            ("http", "http.uri; content:\"a\"; absent"),
            ("http", "http.uri; content:\"abc\"; bsize:2"),
            ("tcp-stream", "flags:S"),
            ("dns", "file.data; content:\"a\""),
            ("http", "tls.sni; content:\"a\""),
            ("http2", "tls.sni; content:\"a\""),
            ("http2", "dns.query; content:\"a\""),
            ("doh2", "tls.sni; content:\"a\""),
            ("tcp", "http.uri; content:\"a\"; dns.query; content:\"b\""),
            ("tcp", "content:\"abc\"; dsize:2"),
            ("tcp", "content:\"a\"; startswith; offset:1"),
            ("tcp", "content:\"a\"; nocase; nocase"),
            ("tcp", "content:!\"a\"; fast_pattern:only"),
            ("tcp", "content:\"a\\b\""),
            ("tcp", "content:a"),
            ("tcp", "msg:\"a\"; msg:\"b\""),
            ("tcp", "dsize:65536"),
            ("tcp", "flowint:a,+,1"),
            ("tls", "ja3.hash; content:\"a\""),
            ("tcp", "byte_test:1,==,1,0"),
            ("tcp", "base64_data; content:\"a\""),
            ("tcp", "sameip:1"),
        ];
        let loads = |(head, options): &(&str, &str)| {
            let text = format!("alert {head} any any -> any any ({options}; sid:1;)");
            let (ruleset, _) = Ruleset::new(&[("test", &text)], Config::default());
            !ruleset.rules().is_empty()
        };
        for pair in &pairs {
            assert!(loads(pair), "{pair:?}");
        }
        for pair in &refused {
            assert!(!loads(pair), "{pair:?}");
        }
    }
}
