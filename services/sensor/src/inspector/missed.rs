//! What began while nobody looked: first payloads that the kernel's programs copied.
//!
//! While the inspector runs it sees every packet that XDP lets through, and samples say nothing more.
//! While it is away (restarted, killed for its memory) the sensor keeps them as they are, unread: that
//! process has capabilities and takes nothing apart. Here, without any, DNS questions and ClientHellos
//! among them become the facts that whole packets would have given: a name of bad repute that was asked
//! for in that time is found, and detectors over questions miss none. An order is read within the
//! bounds of `traffic`'s own parsers, and what does not parse is counted and nothing else.
//!
//! Not here, on purpose:
//! - HTTP, SSH and QUIC samples: what detectors take of those is of whole connections (or behind a
//!   cipher), which a sample is not. They are counted by kind (`samples_...`).
//! - Payload that XDP dropped: of a blocked source the first SYN is dropped, so it never comes to offer
//!   anything over TCP; the one question or datagram that could be had is not worth a copy for every
//!   packet of a flood. What an alert says of a source is what it did before it was blocked.
//! - Samples while the inspector's ring overflows: it is the same processor that has no time.
//!
//! Facts carry the time at which they are read, a few seconds late: the detectors' clock never goes back.

use hookprobe_behaviour::observation::{Dns, Observation, TlsHello};
use hookprobe_traffic::{
    app::{dns, tls::ClientHello},
    fingerprint::{Ja4Transport, ja4},
};
use hookprobe_wire::inspector::{Sample, SampleKind};

const TCP: u8 = 6;
const PORT_DNS: u16 = 53;
/// Before a message of DNS over TCP: its length (RFC 1035, 4.2.2).
const DNS_LENGTH_BYTES: usize = 2;
/// Heads of the record and of the handshake message (RFC 8446, 5.1 and 4).
const RECORD_BYTES: usize = 5;
const HANDSHAKE_BYTES: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// Longest server name (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// Numbers since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    read: u64,
    unread: u64,
}

impl Missed {
    /// Reads a sample; its fact, if it has one, is given to `tell`.
    pub fn read(&mut self, sample: &Sample, tell: impl FnOnce(&Observation<'_>)) {
        let told = match sample.kind {
            SampleKind::Dns => question(sample, tell),
            SampleKind::Tls => hello(sample, tell),
        };
        match told {
            Some(()) => self.read += 1,
            None => self.unread += 1,
        }
    }

    /// Named counters.
    #[must_use]
    pub const fn counters(&self) -> [(&'static str, u64); 2] {
        [("missed_read", self.read), ("missed_unread", self.unread)]
    }
}

fn question(sample: &Sample, tell: impl FnOnce(&Observation<'_>)) -> Option<()> {
    let is_tcp = sample.protocol == TCP;
    let bytes = sample.bytes.get(if is_tcp { DNS_LENGTH_BYTES } else { 0 }..)?;
    let (message, _) = dns::parse(bytes).ok()?;
    // Answers without their questions say little, and multicast is no lookup.
    let query = message.queries.first().filter(|_| !message.is_response())?;
    if sample.ports.1 != PORT_DNS {
        return None;
    }
    tell(&Observation::Dns(Dns {
        client: sample.source,
        server: sample.destination,
        name: &query.name.text,
        record_type: query.rtype,
        response_code: None,
        message_bytes: message.wire_bytes,
        answer_bytes: 0,
        addresses: &[],
    }));
    Some(())
}

fn hello(sample: &Sample, tell: impl FnOnce(&Observation<'_>)) -> Option<()> {
    let message = sample.bytes.get(RECORD_BYTES..)?;
    let (head, body) = message.split_first_chunk::<HANDSHAKE_BYTES>()?;
    let [CLIENT_HELLO, length @ ..] = head else { return None };
    let claimed = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let hello = ClientHello::parse(body);
    let server_name = hello.sni().and_then(|name| std::str::from_utf8(name).ok());
    let server_name = server_name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    // Of half a hello it would be another program's.
    let is_whole = body.len() >= claimed && !hello.is_truncated;
    let fingerprint = is_whole.then(|| ja4(Ja4Transport::Tcp, &hello));
    if server_name.is_none() && fingerprint.is_none() {
        return None;
    }
    tell(&Observation::TlsHello(TlsHello {
        client: sample.source,
        server: sample.destination,
        server_port: sample.ports.1,
        server_name,
        ja4: fingerprint.as_deref(),
    }));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: SampleKind, protocol: u8, bytes: &[u8]) -> Sample {
        Sample {
            source: "192.0.2.7".parse().unwrap(),
            destination: "192.0.2.1".parse().unwrap(),
            ports: (40_000, if kind == SampleKind::Dns { 53 } else { 443 }),
            protocol,
            interface: 2,
            kind,
            bytes: bytes.to_vec().into(),
        }
    }

    fn told(missed: &mut Missed, sample: &Sample) -> Option<String> {
        let mut out = None;
        missed.read(sample, |fact| {
            out = Some(match fact {
                Observation::Dns(dns) => String::from_utf8_lossy(dns.name).into_owned(),
                Observation::TlsHello(hello) => hello.server_name.unwrap_or("-").to_owned(),
                other => panic!("{other:?}"),
            });
        });
        out
    }

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04evil\x07example\0\0\x01\0\x01";

    /// A hello with a server name and nothing else.
    fn client_hello(name: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let mut extension = vec![0, 0];
        extension.extend(length(name.len() + 5));
        extension.extend(length(name.len() + 3));
        extension.push(0);
        extension.extend(length(name.len()));
        extension.extend(name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(length(extension.len()));
        body.extend(extension);
        let mut out = vec![0x16, 3, 1];
        out.extend(length(body.len() + HANDSHAKE_BYTES));
        out.extend([CLIENT_HELLO, 0]);
        out.extend(length(body.len()));
        out.extend(body);
        out
    }

    #[test]
    fn names_of_questions_and_hellos() {
        let mut missed = Missed::default();
        let over_udp = sample(SampleKind::Dns, 17, QUESTION);
        assert_eq!(told(&mut missed, &over_udp).as_deref(), Some("evil.example"));
        let framed = [&[0, 30][..], QUESTION].concat();
        let over_tcp = sample(SampleKind::Dns, TCP, &framed);
        assert_eq!(told(&mut missed, &over_tcp).as_deref(), Some("evil.example"));
        let hello = client_hello(b"evil.example");
        let whole = sample(SampleKind::Tls, TCP, &hello);
        assert_eq!(told(&mut missed, &whole).as_deref(), Some("evil.example"));
        assert_eq!(missed.counters(), [("missed_read", 3), ("missed_unread", 0)]);
    }

    #[test]
    fn answers_multicast_and_halves_are_counted_and_tell_nothing() {
        let mut missed = Missed::default();
        let mut answer = QUESTION.to_vec();
        answer[2] |= 0x80;
        assert_eq!(told(&mut missed, &sample(SampleKind::Dns, 17, &answer)), None);
        let mut multicast = sample(SampleKind::Dns, 17, QUESTION);
        multicast.ports = (5353, 5353);
        assert_eq!(told(&mut missed, &multicast), None);
        let hello = client_hello(b"evil.example");
        for bytes in 0..hello.len() {
            let half = sample(SampleKind::Tls, TCP, &hello[..bytes]);
            assert_eq!(told(&mut missed, &half), None, "{bytes}");
        }
        for bytes in 0..QUESTION.len() {
            assert_eq!(told(&mut missed, &sample(SampleKind::Dns, 17, &QUESTION[..bytes])), None);
        }
        assert_eq!(missed.counters()[0], ("missed_read", 0));
    }
}
