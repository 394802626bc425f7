//! Parts and normalization of request URIs, as libhtp's personalities do it.

use super::bestfit;
use crate::app::{Config, Personality};
use std::ops::Range;

/// Where the parts of a raw URI are. `None`: absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UriParts {
    /// `http`.
    pub scheme: Option<Range<usize>>,
    /// User name.
    pub user: Option<Range<usize>>,
    /// Password.
    pub password: Option<Range<usize>>,
    /// Host, with brackets if IPv6.
    pub host: Option<Range<usize>>,
    /// Port, digits.
    pub port: Option<Range<usize>>,
    /// Path.
    pub path: Option<Range<usize>>,
    /// Query, without `?`.
    pub query: Option<Range<usize>>,
    /// Fragment, without `#`.
    pub fragment: Option<Range<usize>>,
}

impl UriParts {
    /// Finds the parts of `uri`; of a CONNECT request it is host and port.
    #[must_use]
    pub fn parse(uri: &[u8], is_connect: bool) -> Self {
        let mut parts = Self::default();
        let end = uri.len();
        if is_connect {
            parts.authority(uri, 0..end);
            return parts;
        }
        let mut at = 0;
        if uri.first() != Some(&b'/')
            && let Some(colon) = memchr::memchr(b':', uri)
        {
            parts.scheme = Some(0..colon);
            at = parts.behind_scheme(uri, colon + 1);
        }
        let path_end = position(uri, at, b"?#");
        if path_end > at {
            parts.path = Some(at..path_end);
        }
        let mut next = path_end;
        if uri.get(next) == Some(&b'?') {
            let stop = position(uri, next + 1, b"#");
            parts.query = Some(next + 1..stop);
            next = stop;
        }
        if uri.get(next) == Some(&b'#') {
            parts.fragment = Some(next + 1..end);
        }
        parts
    }

    /// User, host and port, as libhtp takes them: an `@` anywhere ends a user, and a host needs no
    /// slashes before it. Where the path begins.
    fn behind_scheme(&mut self, uri: &[u8], from: usize) -> usize {
        let from_here = |at: usize| uri.get(at..).unwrap_or_default();
        let mut at = from;
        let rest = from_here(at);
        if rest.starts_with(b"//")
            && rest.get(2) != Some(&b'/')
            && let Some(end) = memchr::memchr(b'@', rest)
        {
            let colon = rest.get(..end).and_then(|user| memchr::memchr(b':', user));
            self.user = Some(at + 2..at + colon.unwrap_or(end));
            self.password = colon.map(|colon| at + colon + 1..at + end);
            at += end + 1;
        }
        let mut start = if from_here(at).starts_with(b"//") { at + 2 } else { at };
        if uri.get(start) == Some(&b'/') {
            return at;
        }
        let blanks = |at: usize| from_here(at).iter().take_while(|byte| **byte == b' ').count();
        start += blanks(start);
        let mut stop = match from_here(start) {
            [b'[', first, ..] if !b"/?#]".contains(first) => {
                let end = position(uri, start + 1, b"/?#]");
                end + usize::from(uri.get(end) == Some(&b']'))
            }
            _ => position(uri, start, b"/?#:"),
        };
        if stop == start {
            return at;
        }
        at = stop;
        while uri.get(stop - 1) == Some(&b' ') {
            stop -= 1;
        }
        self.host = Some(start..stop);
        if uri.get(at) == Some(&b':') {
            let start = at + 1 + blanks(at + 1);
            let stop = position(uri, start, b"/?#");
            if stop > start {
                self.port = Some(start..position(uri, start, b" ").min(stop));
                at = stop;
            }
        }
        at
    }

    fn authority(&mut self, uri: &[u8], range: Range<usize>) {
        let text = uri.get(range.clone()).unwrap_or_default();
        let mut start = range.start;
        if let Some(at) = memchr::memrchr(b'@', text) {
            let user_end = text.get(..at).and_then(|user| memchr::memchr(b':', user));
            self.user = Some(start..start + user_end.unwrap_or(at));
            self.password = user_end.map(|colon| start + colon + 1..start + at);
            start += at + 1;
        }
        let (host, port) = split_port(uri.get(start..range.end).unwrap_or_default());
        self.host = Some(start..start + host);
        self.port = port.map(|port| start + port..range.end);
    }
}

/// Length of the host, and where the digits of the port begin.
fn split_port(text: &[u8]) -> (usize, Option<usize>) {
    let from = if text.first() == Some(&b'[') {
        memchr::memchr(b']', text).map_or(text.len(), |bracket| bracket + 1)
    } else {
        0
    };
    let colon = text.get(from..).and_then(|rest| memchr::memchr(b':', rest)).map(|at| from + at);
    (colon.unwrap_or(text.len()), colon.map(|colon| colon + 1))
}

/// Host in lower case and port of a Host field or an authority; whether both are valid. What does not
/// begin with a host has none.
pub(super) fn host_port(text: &[u8]) -> (Vec<u8>, Option<u16>, bool) {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"//").unwrap_or(text);
    let blank = |byte: &&u8| **byte == b' ';
    let text = text.get(text.iter().take_while(blank).count()..).unwrap_or_default();
    let end = match text {
        // An address in brackets may have lost the last one.
        [b'[', rest @ ..] => {
            let end = position(rest, 0, b"/?#]");
            if rest.get(end) == Some(&b']') { end + 2 } else { end + 1 }
        }
        _ => position(text, 0, b"/?#:"),
    };
    let (host, behind) = text.split_at(end.min(text.len()));
    if host.is_empty() {
        return (Vec::new(), None, true);
    }
    let host = host.get(..host.len() - host.iter().rev().take_while(blank).count());
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let port = behind.strip_prefix(b":").and_then(|digits| {
        number(digits.get(..position(digits, 0, b"/?#")).unwrap_or_default().trim_ascii())
    });
    let port = port.filter(|port| *port != 0);
    let is_valid = is_host(&host) && (behind.is_empty() || port.is_some());
    (host, port, is_valid)
}

fn number(digits: &[u8]) -> Option<u16> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// Relaxed validity, a dot at the end allowed: letters, digits, `-`, `_`; labels of 1 to 63; or an address in brackets.
fn is_host(host: &[u8]) -> bool {
    if let [b'[', address @ .., b']'] = host {
        return std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let host = host.strip_suffix(b".").filter(|name| !name.is_empty()).unwrap_or(host);
    !host.is_empty()
        && host.len() <= 255
        && host.split(|byte| *byte == b'.').all(|label| {
            (1..=63).contains(&label.len())
                && label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
        })
}

fn position(uri: &[u8], from: usize, stops: &[u8]) -> usize {
    let rest = uri.get(from..).unwrap_or_default();
    rest.iter().position(|byte| stops.contains(byte)).map_or(uri.len(), |at| from + at)
}

/// Which decodings a personality does.
struct Rules {
    backslash: bool,
    encoded_separators: bool,
    compress: bool,
    u_encoding: bool,
    utf8: bool,
}

const fn rules(personality: Personality) -> Rules {
    let (backslash, encoded_separators, compress, u_encoding) = match personality {
        Personality::Ids | Personality::Iis => (true, true, true, true),
        Personality::Generic => (true, true, true, false),
        Personality::Apache2 => (false, false, true, false),
        Personality::Minimal => (false, false, false, false),
    };
    let utf8 = matches!(personality, Personality::Ids);
    Rules { backslash, encoded_separators, compress, u_encoding, utf8 }
}

/// The normalized URI, and whether something was encoded twice.
pub(super) fn normalize(uri: &[u8], parts: &UriParts, config: &Config) -> (Vec<u8>, bool) {
    let rules = rules(config.http_personality);
    let part = |range: &Option<Range<usize>>| range.clone().and_then(|range| uri.get(range));
    let mut out = Vec::with_capacity(uri.len());
    if config.is_uri_complete {
        complete(uri, parts, &mut out);
    }
    let mut is_double = false;
    if let Some(path) = part(&parts.path) {
        let mut path = decode_path(path, &rules);
        if rules.utf8 {
            path = bestfit::from_utf8(&path);
        }
        path = dot_segments(&path);
        if config.is_path_decoded_twice {
            let again = decode(&path, rules.u_encoding, false);
            is_double = again.len() < path.len();
            path = again;
        }
        out.extend_from_slice(&path);
    }
    if let Some(query) = part(&parts.query) {
        let mut query = decode(query, rules.u_encoding, config.is_plus_space);
        if config.is_query_decoded_twice {
            let again = decode(&query, rules.u_encoding, config.is_plus_space);
            is_double |= again.len() < query.len();
            query = again;
        }
        out.push(b'?');
        out.extend_from_slice(&query);
    }
    if let Some(fragment) = part(&parts.fragment) {
        out.push(b'#');
        out.extend_from_slice(&decode(fragment, rules.u_encoding, false));
    }
    (out, is_double)
}

fn complete(uri: &[u8], parts: &UriParts, out: &mut Vec<u8>) {
    let pieces = [
        (&b""[..], &parts.scheme, &b"://"[..]),
        (b"", &parts.user, b""),
        (b":", &parts.password, b""),
        (if parts.user.is_some() { b"@" } else { b"" }, &parts.host, b""),
        (b":", &parts.port, b""),
    ];
    for (before, range, behind) in pieces {
        if let Some(piece) = range.clone().and_then(|range| uri.get(range)) {
            out.extend_from_slice(before);
            out.extend_from_slice(piece);
            out.extend_from_slice(behind);
        }
    }
}

/// The byte that an escape at the start of `text` stands for, and its length.
fn escape(text: &[u8], u_encoding: bool) -> Option<(u8, usize)> {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'%', b'u' | b'U', a, b, c, d, ..] if u_encoding => {
            let (high, low) = (hex(a)? << 4 | hex(b)?, hex(c)? << 4 | hex(d)?);
            Some((bestfit::byte(u16::from_be_bytes([high, low]).into()), 6))
        }
        [b'%', a, b, ..] => Some((hex(a)? << 4 | hex(b)?, 3)),
        _ => None,
    }
}

/// `%XX` decoded and nothing else: how Zeek logs a URI.
#[must_use]
pub fn unescape(uri: &[u8]) -> Vec<u8> {
    decode(uri, false, false)
}

fn decode(text: &[u8], u_encoding: bool, is_plus_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let (byte, length) = match escape(rest, u_encoding) {
            Some(escaped) => escaped,
            None if first == b'+' && is_plus_space => (b' ', 1),
            None => (first, 1),
        };
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

fn decode_path(path: &[u8], rules: &Rules) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(&first) = rest.first() {
        let (mut byte, mut length) = escape(rest, rules.u_encoding).unwrap_or((first, 1));
        let is_separator = byte == b'/' || byte == b'\\' && rules.backslash;
        if length > 1 && is_separator && !rules.encoded_separators {
            (byte, length) = (first, 1);
        } else if is_separator {
            byte = b'/';
        }
        rest = rest.get(length..).unwrap_or_default();
        if byte == b'/' && rules.compress && out.last() == Some(&b'/') {
            continue;
        }
        out.push(byte);
    }
    out
}

/// Removes dot segments (RFC 3986, section 5.2.4). As libhtp has it, no slash is left where the last
/// of a path was removed.
fn dot_segments(path: &[u8]) -> Vec<u8> {
    if memchr::memchr(b'.', path).is_none() {
        return path.to_vec();
    }
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(behind) = rest.strip_prefix(b"../").or_else(|| rest.strip_prefix(b"./")) {
        rest = behind;
    }
    if matches!(rest, b"." | b"..") {
        return out;
    }
    let mut is_removed = false;
    while !rest.is_empty() {
        rest = match rest {
            b"/" if is_removed => &[],
            b"/." | [b'/', b'.', b'/', ..] => {
                is_removed = true;
                rest.get(2..).unwrap_or_default()
            }
            b"/.." | [b'/', b'.', b'.', b'/', ..] => {
                is_removed = true;
                out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0));
                rest.get(3..).unwrap_or_default()
            }
            _ => {
                is_removed = false;
                // A slash takes what is behind it along, be it another one.
                let literal = if rest.first() == Some(&b'/') { 2 } else { 0 };
                let end = position(rest, literal.min(rest.len()), b"/");
                let (text, behind) = rest.split_at(end);
                out.extend_from_slice(text);
                behind
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{UriParts, host_port, normalize};
    use crate::app::{Config, Personality};

    fn check(config: &Config, raw: &str, want: &str) {
        let parts = UriParts::parse(raw.as_bytes(), false);
        let (uri, _) = normalize(raw.as_bytes(), &parts, config);
        assert_eq!(String::from_utf8_lossy(&uri), want, "{raw}");
    }

    #[test]
    fn the_ids_personality_sees_through_usual_evasions() {
        let config = Config::default();
        check(&config, "/a/./b/../c", "/a/c");
        check(&config, "/%2e%2e/%2fetc\\passwd", "/etc/passwd");
        check(&config, "//a///b", "/a/b");
        check(&config, "/%u0041%u002f%zz%4", "/A/%zz%4");
        check(&config, "/p?q=%41+b&c=/../", "/p?q=A+b&c=/../");
        check(&config, "http://user:pw@Host:80/Path#f", "/Path#f");
        check(&config, "*", "*");
        check(&config, "/..", "");
        check(&config, "/a/b/..", "/a");
        check(&config, "/a/b/.", "/a/b");
        check(&config, "/a/b/../", "/a");
        check(&config, "./../a/...", "a/...");
        check(&config, "http://h:/a", ":/a");
        check(&config, "h/x:y@z/a", "/a");
        check(&config, "http://[::1]x/a", "x/a");
        check(&config, "http:///h/a", "/h/a");
        check(&config, "/a%c0%af../%u2215etc/%c3%a9", "/etc/\u{fffd}");
        check(&config, "/x?%c0%af", "/x?\u{fffd}\u{fffd}");
    }

    #[test]
    fn settings_change_what_is_decoded() {
        let twice = Config {
            is_path_decoded_twice: true,
            is_query_decoded_twice: true,
            is_plus_space: true,
            ..Config::default()
        };
        check(&twice, "/%2541?%2541+x", "/A?A x");
        let whole = Config { is_uri_complete: true, ..Config::default() };
        check(&whole, "http://u:p@h:80/x", "http://u:p@h:80/x");
        let apache = Config { http_personality: Personality::Apache2, ..Config::default() };
        check(&apache, "/a%2fb\\c", "/a%2fb\\c");
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(host_port(b"WWW.Hp.org.:8080"), (b"www.hp.org.".to_vec(), Some(8080), true));
        assert_eq!(host_port(b"[::1]:443"), (b"[::1]".to_vec(), Some(443), true));
        assert_eq!(host_port(b"h:99999"), (b"h".to_vec(), None, false));
        assert_eq!(host_port(b"//h : 80/x"), (b"h".to_vec(), Some(80), true));
        assert_eq!(host_port(b"[::1]x"), (b"[::1]".to_vec(), None, false));
        assert_eq!(host_port(b"a/b:80"), (b"a".to_vec(), None, false));
        assert_eq!(host_port(b"/h"), (Vec::new(), None, true));
        assert_eq!(host_port(b"::1"), (Vec::new(), None, true));
        assert!(!host_port(b"a b").2 && !host_port(b"a..").2 && !host_port(b".").2);
        let parts = UriParts::parse(b"hp.org:443", true);
        assert_eq!((parts.host, parts.port), (Some(0..6), Some(7..10)));
    }
}
