//! The detectors: any sequence of facts, and names as strangers write them.

use hookprobe_behaviour::{
    Behaviour, Config, Observation,
    dns::{Name, ngram},
    observation::{
        Answer, Arp, Connection, Dhcp, DhcpKind, Dns, Mac, Named, Protocol, Request,
        RouterAdvertisement, Service, State, TlsHello, Volume,
    },
};

use crate::{Outcome, Target};

/// All of them.
pub(crate) const TARGETS: [Target; 2] = [
    Target {
        name: "behaviour-facts",
        run: facts,
        seeds: fact_seeds,
        repair: |_| {},
        dictionary: &[&[0, 0], &[5, 9], &[0xff; 8], b"\x06example.com", &[22], &[1, 187]],
    },
    Target {
        name: "behaviour-names",
        run: names,
        seeds: || {
            ["www.example.co.uk", "x.ck", "!a.www.ck", "1\u{eb}fb.pirate.sea", "a..b.", "."]
                .map(|name| name.as_bytes().to_vec())
                .to_vec()
        },
        repair: |_| {},
        dictionary: &[b".", b"co.uk", b"com", b"xn--", b"*.", b"kawasaki.jp", &[0xff]],
    },
];

/// Reads from the front of the input; zeros when it is over.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for byte in &mut out {
            if let Some((first, rest)) = self.0.split_first() {
                (*byte, self.0) = (*first, rest);
            }
        }
        out
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    fn number(&mut self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    fn ip(&mut self) -> std::net::IpAddr {
        match self.byte() {
            0 => self.bytes::<4>().into(),
            1 => [192, 168, 0, self.byte()].into(),
            2 => [203, 0, 113, self.byte()].into(),
            _ => self.bytes::<16>().into(),
        }
    }

    fn text(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        text
    }

    fn connection(&mut self) -> Connection<'a> {
        const STATES: [&str; 8] = ["S0", "SF", "REJ", "RSTO", "RSTOS0", "S1", "SH", "OTH"];
        let mut volume = || Volume {
            packets: self.number(),
            payload_bytes: self.number(),
            ip_bytes: self.number(),
        };
        let (sent, received) = (volume(), volume());
        Connection {
            source: self.ip(),
            destination: self.ip(),
            source_port: u16::from_be_bytes(self.bytes()),
            destination_port: u16::from_be_bytes(self.bytes()),
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Other]
                [usize::from(self.byte() % 4)],
            first_ns: self.number(),
            last_ns: self.number(),
            state: State::from_name(STATES[usize::from(self.byte() % 8)]),
            service: [Service::Unknown, Service::Tls, Service::Http, Service::Ssh]
                [usize::from(self.byte() % 4)],
            sent,
            received,
            sent_bytes_new: self.number(),
            received_bytes_new: self.number(),
            source_mac: Some(Mac(self.bytes())),
            server_name: std::str::from_utf8(self.text()).ok(),
        }
    }

    fn fact(&mut self) -> Observation<'a> {
        match self.byte() % 11 {
            0 => Observation::Started(self.connection()),
            1 => {
                let answer =
                    [Answer::Accepted, Answer::Refused, Answer::Unreachable, Answer::Silent]
                        [usize::from(self.byte() % 4)];
                Observation::Answered(self.connection(), answer)
            }
            2 => Observation::Continued(self.connection()),
            3 => Observation::Ended(self.connection()),
            4 => Observation::Dns(Dns {
                client: self.ip(),
                server: self.ip(),
                record_type: u16::from_be_bytes(self.bytes()),
                response_code: [None, Some(0), Some(3)][usize::from(self.byte() % 3)],
                message_bytes: u32::from_be_bytes(self.bytes()),
                answer_bytes: u32::from_be_bytes(self.bytes()),
                name: self.text(),
                addresses: &[],
            }),
            5 => Observation::TlsHello(TlsHello {
                client: self.ip(),
                server: self.ip(),
                server_port: u16::from_be_bytes(self.bytes()),
                server_name: std::str::from_utf8(self.text()).ok(),
                ja4: None,
            }),
            6 => Observation::Dhcp(Dhcp {
                kind: [DhcpKind::Request, DhcpKind::Offer, DhcpKind::Ack, DhcpKind::Other]
                    [usize::from(self.byte() % 4)],
                sender: Some(Mac(self.bytes())),
                client: Mac(self.bytes()),
                server: Some(self.ip()),
                given: Some(self.ip()),
                router: Some(self.ip()),
                name_server: None,
                host_name: Some(self.text()),
                vendor_class: Some(self.text()),
                parameters: self.text(),
            }),
            7 => Observation::Arp(Arp {
                is_reply: self.byte() & 1 == 1,
                frame_mac: Mac(self.bytes()),
                sender_mac: Mac(self.bytes()),
                sender_ip: self.ip(),
                target_ip: self.ip(),
            }),
            8 => Observation::RouterAdvertisement(RouterAdvertisement {
                mac: Mac(self.bytes()),
                ip: self.ip(),
                lifetime_s: u16::from_be_bytes(self.bytes()),
                prefix: Some(self.ip()),
            }),
            9 => Observation::Request(Request {
                client: self.ip(),
                server: self.ip(),
                server_port: u16::from_be_bytes(self.bytes()),
                target: self.text(),
                fields: self.text(),
                agent: self.text(),
                body: self.text(),
            }),
            _ => Observation::Named(Named {
                ip: self.ip(),
                mac: Some(Mac(self.bytes())),
                name: self.text(),
            }),
        }
    }
}

/// Each fact comes four times, so that things meet again.
fn facts(input: &[u8]) -> Outcome {
    const REPEATS: u64 = 4;
    let mut reader = Reader(input);
    let mut behaviour = Behaviour::new(&Config::default());
    let mut found = Vec::new();
    let mut now_ns = 0_u64;
    while !reader.0.is_empty() {
        // Up to 34 years in a step.
        now_ns = now_ns.saturating_add(1 << (reader.byte() % 61));
        let fact = reader.fact();
        for repeat in 0..REPEATS {
            behaviour.handle(now_ns.saturating_add(repeat), &fact, &mut found);
        }
        behaviour.tick(now_ns, &mut found);
    }
    behaviour.finish(&mut found);
    let told: Vec<&str> = found.iter().map(|finding| finding.detector).collect();
    Outcome::of(&told.join(" "))
}

fn fact_seeds() -> Vec<Vec<u8>> {
    let plain = |kind| [&[30, kind][..], &[1; 120], &[20, kind], &[2; 120]].concat();
    let mut seeds: Vec<_> = (0..11_u8).map(plain).collect();
    let target = b"/?a=${${lower:j}ndi:x}%2527/**/or+1;id|ls";
    seeds.push([&[30, 9, 1, 1, 1, 2, 0, 80, target.len() as u8][..], target].concat());
    seeds
}

/// A name comes apart into what it was.
fn names(input: &[u8]) -> Outcome {
    assert!(ngram::score(input).is_finite());
    let Some(name) = Name::new(input) else {
        return Outcome::of("none");
    };
    // Between both is one dot at most: an empty label in front leaves a dot and nothing below.
    let dots = name.bytes().len() - name.below().len() - name.registered().len();
    assert!(dots <= 1 && name.bytes().starts_with(name.below()));
    assert!(name.bytes().ends_with(name.registered()));
    assert!(!name.registered_label().is_empty());
    let dots = name.registered().iter().filter(|byte| **byte == b'.').count();
    Outcome::of(["one", "two", "three", "more"][dots.clamp(1, 4) - 1])
}
