//! Services that the engine does not name, and that Zeek knows by their first bytes.
//!
//! The engine names protocols as Suricata does, some on their usual ports only. Here the first
//! payload of each side is looked at: what both sides must say, Zeek believes only then.

use hookprobe_traffic::app::Proto;

/// What was said so far: a few bytes, one for each flow.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Signs {
    /// What the originator's bytes look like.
    guess: Option<Guess>,
    /// Services that are certain, in the order they became so.
    found: [Option<Service>; FOUND_MAX],
}

/// One packet.
pub(super) struct Seen<'a> {
    pub(super) payload: &'a [u8],
    pub(super) is_tcp: bool,
    pub(super) is_orig: bool,
    /// No payload of its side came before.
    pub(super) is_first: bool,
    /// Ports of originator and responder.
    pub(super) ports: (u16, u16),
    /// What the engine says.
    pub(super) proto: Option<Proto>,
}

/// Packets of one side that are looked at: the first tells the protocol, LDAP binds a little later.
pub(super) const PACKETS_MAX: u64 = 16;
/// Services of one connection.
const FOUND_MAX: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Postgres,
    Ldap,
    Ntlm,
    Kerberos,
    Gssapi,
    SyslogTcp,
    Syslog,
    Irc,
    Mysql,
    Radius,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Ldap => "ldap_tcp",
            Self::Ntlm => "ntlm",
            Self::Kerberos => "krb",
            Self::Gssapi => "gssapi",
            Self::SyslogTcp => "syslog_tcp",
            Self::Syslog => "syslog",
            Self::Irc => "irc",
            Self::Mysql => "mysql",
            Self::Radius => "radius",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guess {
    Postgres,
    Ldap,
    Kerberos,
    Ntlm,
}

/// Object identifier of Kerberos 5 as GSSAPI names it, with the token of an AP-REQ.
const KERBEROS_TOKEN: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00\x6e";
/// What NTLM's messages begin with.
const NTLM: &[u8] = b"NTLMSSP\0";

impl Signs {
    /// Names of the services.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.found.into_iter().flatten().map(Service::name)
    }

    /// Looks at a packet.
    pub(super) fn packet(&mut self, seen: &Seen<'_>) {
        if !seen.is_tcp {
            if seen.is_first && seen.proto.is_none() {
                self.datagram(seen);
            }
            return;
        }
        if seen.is_first && matches!(seen.proto, None | Some(Proto::Pgsql)) {
            if seen.is_orig {
                self.client(seen);
            } else {
                self.server(seen);
            }
        }
        let is_ldap = matches!(self.guess, Some(Guess::Ldap | Guess::Kerberos | Guess::Ntlm));
        if is_ldap || seen.proto == Some(Proto::Ldap) {
            self.bind(seen);
        }
    }

    /// The first bytes of the client.
    fn client(&mut self, seen: &Seen<'_>) {
        let payload = seen.payload;
        let is_request = |kind: u8| matches!(kind, 0x60 | 0x63 | 0x77);
        if is_postgres(payload) {
            self.guess = Some(Guess::Postgres);
        } else if ldap_operation(payload).is_some_and(is_request) {
            self.guess = Some(Guess::Ldap);
        } else if matches!(seen.ports.1, 514 | 601) && is_syslog(payload) {
            self.add(Service::SyslogTcp);
        } else if is_irc(payload) {
            self.add(Service::Irc);
        }
    }

    /// The first bytes of the server.
    fn server(&mut self, seen: &Seen<'_>) {
        match self.guess {
            // Encryption granted or refused, authentication, an error.
            Some(Guess::Postgres) if matches!(seen.payload, [b'R' | b'S' | b'N' | b'E', ..]) => {
                self.add(Service::Postgres);
            }
            Some(Guess::Ldap) if ldap_operation(seen.payload).is_some() => self.add(Service::Ldap),
            None if seen.ports.1 == 3306 && is_mysql(seen.payload) => self.add(Service::Mysql),
            _ => {}
        }
    }

    /// What authenticates within LDAP.
    fn bind(&mut self, seen: &Seen<'_>) {
        let has = |sign: &[u8]| seen.payload.windows(sign.len()).any(|window| window == sign);
        if seen.is_orig {
            if has(KERBEROS_TOKEN) {
                self.guess = Some(Guess::Kerberos);
            } else if has(NTLM) {
                self.guess = Some(Guess::Ntlm);
                self.add(Service::Ntlm);
                self.add(Service::Ldap);
            }
        } else if self.guess == Some(Guess::Kerberos) && ldap_operation(seen.payload) == Some(0x61)
        {
            self.add(Service::Ldap);
            self.add(Service::Kerberos);
            self.add(Service::Gssapi);
        }
    }

    fn datagram(&mut self, seen: &Seen<'_>) {
        match (seen.ports.1, seen.payload) {
            (514, payload) if is_syslog(payload) => self.add(Service::Syslog),
            (1812 | 1645, [1..=13, _, high, low, ..])
                if usize::from(u16::from_be_bytes([*high, *low])) == seen.payload.len() =>
            {
                self.add(Service::Radius);
            }
            _ => {}
        }
    }

    fn add(&mut self, service: Service) {
        if self.found.contains(&Some(service)) {
            return;
        }
        if let Some(place) = self.found.iter_mut().find(|place| place.is_none()) {
            *place = Some(service);
        }
    }
}

/// A request for encryption, or a start with version 3 and a length that fits.
fn is_postgres(payload: &[u8]) -> bool {
    let [l0, l1, l2, l3, rest @ ..] = payload else { return false };
    let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
    match rest {
        [0x04, 0xd2, 0x16, 0x2f | 0x30, ..] => length == 8,
        [0, 3, 0, 0..=2, name, ..] => {
            (9..10_000).contains(&length) && (name.is_ascii_lowercase() || *name == b'_')
        }
        _ => false,
    }
}

/// The operation of an LDAP message (RFC 4511, section 4.1.1): an application tag behind the number.
fn ldap_operation(payload: &[u8]) -> Option<u8> {
    let rest = payload.strip_prefix(&[0x30])?;
    let (length, rest) = rest.split_first()?;
    let extra = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    if extra > 4 {
        return None;
    }
    let rest = rest.get(extra..)?.strip_prefix(&[0x02])?;
    let (length, rest) = rest.split_first()?;
    if !matches!(length, 1..=4) {
        return None;
    }
    rest.get(usize::from(*length))
        .copied()
        .filter(|tag| matches!(tag, 0x42 | 0x4a | 0x50 | 0x60..=0x79))
}

/// A priority in angle brackets, with or without a length before it (RFC 6587).
fn is_syslog(payload: &[u8]) -> bool {
    let digits = payload.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = payload.get(digits..).unwrap_or_default();
    let rest = if digits > 0 { rest.strip_prefix(b" ").unwrap_or_default() } else { rest };
    let Some(rest) = rest.strip_prefix(b"<") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=3).contains(&digits) && rest.get(digits) == Some(&b'>')
}

/// The greeting of version 10 of the protocol: length, number 0, version, a text that ends with zero.
fn is_mysql(payload: &[u8]) -> bool {
    let [low, middle, high, 0, 10, text @ ..] = payload else { return false };
    let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    let version = text.iter().take_while(|byte| **byte != 0);
    length + 4 == payload.len()
        && text.first().is_some_and(u8::is_ascii_digit)
        && version.clone().count() < 64
        && version.clone().all(u8::is_ascii_graphic)
}

/// A client that registers (RFC 2812, section 3.1).
fn is_irc(payload: &[u8]) -> bool {
    let line = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let has_both = payload.windows(5).any(|window| window == b"USER ")
        && payload.windows(5).any(|window| window == b"NICK ");
    has_both
        && (line.starts_with(b"NICK ") || line.starts_with(b"USER ") || line.starts_with(b"PASS "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs() {
        assert!(is_postgres(b"\x00\x00\x00\x4c\x00\x03\x00\x00user\x00zeek\x00"));
        assert!(is_postgres(b"\x00\x00\x00\x08\x04\xd2\x16\x2f"));
        assert!(!is_postgres(b"\x00\x00\x00\x08\x04\xd2"));
        assert_eq!(ldap_operation(b"02\x02\x01\x01`-\x02\x01\x03"), Some(0x60));
        assert_eq!(ldap_operation(b"0\x84\x00\x00\x00\x10\x02\x01\x01a"), Some(0x61));
        assert_eq!(ldap_operation(b"0\x84\x00"), None);
        assert_eq!(ldap_operation(b"GET / HTTP/1.1"), None);
        assert!(is_syslog(b"<13>Oct 11"));
        assert!(is_syslog(b"51 <13>Oct 11"));
        assert!(!is_syslog(b"51<13>"));
        assert!(!is_syslog(b"<1234>"));
        assert!(is_mysql(b"\x08\x00\x00\x00\x0a8.0.33\x00"));
        assert!(!is_mysql(b"\x09\x00\x00\x00\x0a8.0.33\x00"));
        assert!(is_irc(b"NICK a\r\nUSER a 0 * :a\r\n"));
        assert!(!is_irc(b"USER anonymous\r\n"));
    }
}
