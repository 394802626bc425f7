//! Failed logins in messages: who tried, from where, on which service.
//!
//! A hint for the brute-force detector, which counts them with what it sees on the wire. The
//! message is a sender's claim: the hint never decides alone, and an address that the sender
//! invented costs that address nothing more than weight.

use std::net::IpAddr;

use super::message::Record;

/// Longest user name that is kept.
const USER_CHARS_MAX: usize = 64;

/// Texts of failures, in lower case, as OpenSSH, Dropbear, PAM, Dovecot, Postfix, RouterOS and
/// web interfaces of small devices write them.
const FAILURES: [&str; 12] = [
    "failed password for",
    "failed publickey for",
    "invalid user",
    "authentication failure",
    "bad password attempt for",
    "login attempt for nonexistent user",
    "exit before auth",
    "login failure for user",
    "auth failed",
    "authentication failed",
    "failed login",
    "login failed",
];

/// Words after which the address stands, the likeliest first.
const BEFORE_ADDRESS: [&str; 5] = ["rhost=", "rip=", " from <", " from ", "addr="];
/// Words after which the user's name stands.
const BEFORE_USER: [&str; 6] =
    ["invalid user ", "password for ", "publickey for ", "attempt for ", "for user ", " user="];

/// A failed login that a message tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFailure {
    /// From where.
    pub client: IpAddr,
    /// Where it was tried: the device that tells.
    pub server: IpAddr,
    /// Program that refused.
    pub service: Option<String>,
    /// As whom.
    pub user: Option<String>,
    /// When it was told.
    pub received_ns: u64,
}

/// The failed login that a record tells of, if it does and says from where.
#[must_use]
pub fn failure(record: &Record) -> Option<AuthFailure> {
    // ASCII only, so that positions stay the same.
    let lower = record.message.to_ascii_lowercase();
    if !FAILURES.iter().any(|text| lower.contains(text)) {
        return None;
    }
    let client = BEFORE_ADDRESS.iter().find_map(|before| {
        let at = lower.rfind(before)? + before.len();
        address(record.message.get(at..)?)
    })?;
    let user = BEFORE_USER.iter().find_map(|before| {
        let at = lower.find(before)? + before.len();
        let rest = record.message.get(at..)?.trim_start_matches(['\'', '<', '"']);
        let ends = |char: char| char.is_whitespace() || matches!(char, '\'' | '"' | '>' | ',');
        let user = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
        (!user.is_empty()).then(|| user.chars().take(USER_CHARS_MAX).collect())
    });
    let (server, service) = (record.source, record.app.clone());
    Some(AuthFailure { client, server, service, user, received_ns: record.received_ns })
}

/// An address at the start of a text: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_start_matches(['[', '<', '"', '\'']);
    let is_part = |char: char| char.is_ascii_hexdigit() || matches!(char, '.' | ':');
    let end = text.find(|char: char| !is_part(char)).unwrap_or(text.len());
    let found = text.get(..end)?.trim_end_matches([':', '.']);
    // `192.0.2.1:4711`; an IPv6 address with a port has brackets.
    let without_port = found.rsplit_once(':').map(|(address, _)| address);
    let parsed = found.parse().ok();
    parsed.or_else(|| without_port?.parse().ok().filter(IpAddr::is_ipv4))
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Transport, parse},
        *,
    };

    fn read(text: &str) -> String {
        let record = parse(text.as_bytes(), [192, 0, 2, 9].into(), 5, Transport::Udp);
        match failure(&record) {
            None => "-".into(),
            Some(found) => {
                let text = |text: Option<String>| text.unwrap_or("-".into());
                format!("{} {} {}", found.client, text(found.service), text(found.user))
            }
        }
    }

    #[test]
    fn as_programs_write_it() {
        for (text, expected) in [
            (
                "<86>Feb  5 17:32:18 nas sshd[4211]: Failed password for root from 203.0.113.7 port 52144 ssh2",
                "203.0.113.7 sshd root",
            ),
            (
                "<86>Feb  5 17:32:18 nas sshd[4211]: Failed password for invalid user pi from 2001:db8::7 port 1 ssh2",
                "2001:db8::7 sshd pi",
            ),
            (
                "<86>Feb  5 17:32:18 nas sshd: pam_unix(sshd:auth): authentication failure; logname= uid=0 tty=ssh rhost=203.0.113.8  user=admin",
                "203.0.113.8 sshd admin",
            ),
            (
                "<86>Jan  1 00:00:07 dropbear[12]: Bad password attempt for 'root' from 203.0.113.9:40001",
                "203.0.113.9 dropbear root",
            ),
            ("<30>login failure for user admin from 203.0.113.10 via ssh", "203.0.113.10 - admin"),
            (
                "<22>Feb  5 17:32:18 mx dovecot: imap-login: Disconnected (auth failed, 1 attempts): user=<bob>, method=PLAIN, rip=203.0.113.11, lip=192.0.2.1",
                "203.0.113.11 dovecot bob",
            ),
            ("<86>Feb  5 17:32:18 nas sshd[1]: Accepted password for root from 203.0.113.7", "-"),
            ("<86>Feb  5 17:32:18 nas sshd[1]: Failed password for root from here", "-"),
            ("<13>anything from 203.0.113.7", "-"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
