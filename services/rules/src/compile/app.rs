//! Keywords about certificates, states of protocols and files that are no buffers, and hooks.

use hookprobe_traffic::{
    Direction,
    app::{Proto, http2, tls::Stage},
};

use super::{Builder, Done, List, Pending, RuleError, fault, header, packet::place};
use crate::{
    buffer::{self, Buffer, Place},
    chain::Op,
    number::Compare,
    rule::{AppName, CertTime, FrameTest, Hook, Kind, Test, TxTest},
    syntax,
};

const CERT_PLACES: &[Place] = &[place(Proto::Tls, Direction::ToClient, 2)];
const NAME_PLACES: &[Place] =
    &[place(Proto::Tls, Direction::ToClient, 2), place(Proto::Tls, Direction::ToServer, 2)];
const STAGE_PLACES: &[Place] =
    &[place(Proto::Tls, Direction::ToServer, 0), place(Proto::Tls, Direction::ToClient, 0)];
const FILE_PLACES: &[Place] = &[
    place(Proto::Http1, Direction::ToServer, 3),
    place(Proto::Http1, Direction::ToClient, 3),
    place(Proto::Smtp, Direction::ToServer, 0),
    place(Proto::Smb, Direction::ToServer, 0),
    place(Proto::Smb, Direction::ToClient, 0),
];

/// A state of a protocol as rules name it, with the place where it is reached.
struct State {
    name: &'static str,
    place: &'static [Place],
}

/// States of one direction of a protocol, in order from 0.
macro_rules! states {
    ($($proto:ident $direction:ident: $($name:literal = $progress:literal),+;)+) => {
        &[$($(State {
            name: $name,
            place: &[place(Proto::$proto, Direction::$direction, $progress)],
        },)+)+]
    };
}

const STATES: &[State] = states! {
    Http1 ToServer: "request_started" = 0, "request_line" = 1, "request_headers" = 2,
        "request_body" = 3, "request_trailer" = 4, "request_complete" = 5;
    Http1 ToClient: "response_started" = 0, "response_line" = 1, "response_headers" = 2,
        "response_body" = 3, "response_trailer" = 4, "response_complete" = 5;
    Tls ToServer: "client_in_progress" = 0, "client_hello_done" = 1, "client_cert_done" = 2,
        "client_handshake_done" = 3, "client_finished" = 4;
    Tls ToClient: "server_in_progress" = 0, "server_hello" = 1, "server_cert_done" = 2,
        "server_hello_done" = 3, "server_handshake_done" = 4, "server_finished" = 5;
    Tls ToServer: "request_started" = 0, "request_complete" = 4;
    Tls ToClient: "response_started" = 0, "response_complete" = 5;
    Ssh ToServer: "request_in_progress" = 0, "request_banner_wait_eol" = 1,
        "request_banner_done" = 2, "request_finished" = 3;
    Ssh ToClient: "response_in_progress" = 0, "response_banner_wait_eol" = 1,
        "response_banner_done" = 2, "response_finished" = 3;
    Ssh ToServer: "request_started" = 0, "request_complete" = 3;
    Ssh ToClient: "response_started" = 0, "response_complete" = 3;
    Dns ToServer: "request_started" = 0, "request_complete" = 1;
    Dns ToClient: "response_started" = 0, "response_complete" = 1;
    Mdns ToServer: "request_started" = 0, "request_complete" = 1;
    Mdns ToClient: "response_started" = 0, "response_complete" = 1;
    Smtp ToServer: "request_started" = 0, "request_complete" = 1;
    Smtp ToClient: "response_started" = 0, "response_complete" = 1;
    Quic ToServer: "request_started" = 0, "request_complete" = 1;
    Quic ToClient: "response_started" = 0, "response_complete" = 1;
    Dhcp ToServer: "request_started" = 0, "request_complete" = 1;
    Dhcp ToClient: "response_started" = 0, "response_complete" = 1;
    Sip ToServer: "request_started" = 0, "request_complete" = 1;
    Sip ToClient: "response_started" = 0, "response_complete" = 1;
    Smb ToServer: "request_started" = 0, "request_complete" = 1;
    Smb ToClient: "response_started" = 0, "response_complete" = 1;
};

fn state(proto: Proto, name: &str) -> Option<&'static State> {
    STATES.iter().find(|state| {
        state.name == name && state.place.first().is_some_and(|place| place.proto == proto)
    })
}

impl Builder<'_, '_> {
    pub(super) fn app_option(&mut self, name: &str, text: &str) -> Result<bool, RuleError> {
        let (test, places) = match name {
            "tls.subject" | "tls.issuerdn" => {
                let (is_negated, inner) = syntax::quoted(text);
                let text = syntax::pattern(inner).ok_or_else(|| fault(name, "no text"))?;
                let is_issuer = name == "tls.issuerdn";
                (TxTest::CertText { is_issuer, text, is_negated }, NAME_PLACES)
            }
            "tls_cert_expired" => (TxTest::CertTime(CertTime::Expired), CERT_PLACES),
            "tls_cert_valid" => (TxTest::CertTime(CertTime::Valid), CERT_PLACES),
            "tls_cert_notbefore" | "tls_cert_notafter" => {
                let (from, to) = times(text).ok_or_else(|| fault(name, "no time"))?;
                let time = if name.ends_with("before") {
                    CertTime::NotBefore(from, to)
                } else {
                    CertTime::NotAfter(from, to)
                };
                (TxTest::CertTime(time), CERT_PLACES)
            }
            "ssl_state" => (stages(name, text)?, STAGE_PLACES),
            // What is to be stored is said by the outputs; the match is that of the rest.
            "tls.store" | "tls_store" => {
                self.app.get_or_insert(AppName::One(Proto::Tls));
                return Ok(true);
            }
            "filestore" => (TxTest::HasFile, FILE_PLACES),
            "filename" => {
                let op = self.file_name(name, text)?;
                return self.push_file_name(op).map(|()| true);
            }
            "fileext" => {
                let mut op = self.file_name(name, text)?;
                if let Op::Content(content) = &mut op {
                    content.pattern.insert(0, b'.');
                    content.is_at_end = true;
                }
                return self.push_file_name(op).map(|()| true);
            }
            "http2.frametype" => (frame(FrameTest::Kind(kind(name, text)?)), FRAME_PLACES),
            "http2.errorcode" => {
                let code = numbered(text, &http2::ERRORS).and_then(|code| u32::try_from(code).ok());
                let code = code.ok_or_else(|| fault(name, "code is unknown"))?;
                (frame(FrameTest::Error(code)), FRAME_PLACES)
            }
            "http2.priority" => (frame(FrameTest::Priority(compare(name, text)?)), FRAME_PLACES),
            "http2.window" => (frame(FrameTest::Window(compare(name, text)?)), FRAME_PLACES),
            "http2.settings" => (frame(setting(name, text)?), FRAME_PLACES),
            "app-layer-state" => return self.app_state(name, text).map(|()| true),
            _ => return Ok(false),
        };
        if matches!(test, TxTest::Frame(_)) {
            self.app.get_or_insert(AppName::One(Proto::Http2));
        }
        self.tx_tests.push((test, places));
        Ok(true)
    }

    /// Legacy names of files: a content of `file.name` whose case does not count.
    fn file_name(&mut self, name: &str, text: &str) -> Result<Op, RuleError> {
        self.content(name, text)?;
        let list = self.list;
        let op = self.ops(list).pop();
        let Some(Op::Content(mut content)) = op else {
            return Err(fault(name, "no text"));
        };
        content.is_caseless = true;
        content.pattern.make_ascii_lowercase();
        Ok(Op::Content(content))
    }

    fn push_file_name(&mut self, op: Op) -> Done {
        let spec = buffer::spec(Buffer::FileName).ok_or(RuleError::Conflict("unknown buffer"))?;
        let pending = Pending { spec, transforms: Vec::new(), key: String::new(), only: None };
        let list: List = self.buffer_list(pending);
        self.ops(list).push(op);
        Ok(())
    }

    fn app_state(&mut self, name: &str, text: &str) -> Done {
        let Some(AppName::One(proto)) = self.app else {
            return Err(fault(name, "needs the protocol in the header"));
        };
        let (sign, word) = match text.split_at_checked(1) {
            Some((sign @ ("<" | ">"), word)) => (sign, word.trim()),
            _ => ("", text),
        };
        let state = state(proto, word).ok_or_else(|| fault(name, "state is unknown"))?;
        let wanted = state.place.first().map_or(0, |place| u64::from(place.progress));
        let compare = match sign {
            "<" => Compare::Less(wanted),
            ">" => Compare::Greater(wanted),
            _ => Compare::Equal(wanted),
        };
        let start = STATES.iter().find(|known| {
            let own = (state.place.first(), known.place.first());
            matches!(own, (Some(own), Some(place)) if own.proto == place.proto
                && own.direction == place.direction && place.progress == 0)
        });
        self.tx_tests.push((TxTest::Progress(compare), start.unwrap_or(state).place));
        Ok(())
    }

    /// The part of the protocol behind the colon: where in flow or transaction the rule runs.
    pub(super) fn hook(&mut self, protocol: &str, hook: &str) -> Done {
        let unknown = || RuleError::Protocol(format!("{protocol}:{hook}"));
        match (protocol, hook) {
            ("ip" | "tcp" | "udp" | "icmp", "all") => self.tests.push(Test::Always),
            ("ip" | "tcp" | "udp" | "icmp", "flow_start") => self.kind = Some(Kind::IpOnly),
            ("ip" | "tcp" | "udp" | "icmp", "pre_flow") => self.early = Some(Hook::PreFlow),
            ("ip" | "tcp" | "udp" | "icmp", "pre_stream") => self.early = Some(Hook::PreStream),
            // There `http` is two protocols.
            ("http", _) => return Err(unknown()),
            _ => {
                let Some(AppName::One(proto)) = header::app(protocol) else {
                    return Err(unknown());
                };
                let state = state(proto, hook).ok_or_else(unknown)?;
                self.tx_tests.push((TxTest::Reached, state.place));
            }
        }
        Ok(())
    }
}

const FRAME_PLACES: &[Place] =
    &[place(Proto::Http1, Direction::ToServer, 1), place(Proto::Http1, Direction::ToClient, 1)];
/// Types of frames of HTTP/2, from 0.
const FRAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RSTSTREAM",
    "SETTINGS",
    "PUSHPROMISE",
    "PING",
    "GOAWAY",
    "WINDOWUPDATE",
    "CONTINUATION",
];
/// Settings of HTTP/2, from 1.
const SETTINGS: [&str; 6] = [
    "SETTINGS_HEADER_TABLE_SIZE",
    "SETTINGS_ENABLE_PUSH",
    "SETTINGS_MAX_CONCURRENT_STREAMS",
    "SETTINGS_INITIAL_WINDOW_SIZE",
    "SETTINGS_MAX_FRAME_SIZE",
    "SETTINGS_MAX_HEADER_LIST_SIZE",
];

const fn frame(test: FrameTest) -> TxTest {
    TxTest::Frame(test)
}

fn compare(name: &str, text: &str) -> Result<Compare, RuleError> {
    Compare::parse(text).ok_or_else(|| fault(name, "no comparison"))
}

/// A number, or the place of a name in a list.
fn numbered(text: &str, names: &[&str]) -> Option<usize> {
    let is_name = |name: &&str| name.eq_ignore_ascii_case(text);
    text.parse().ok().or_else(|| names.iter().position(is_name))
}

fn kind(name: &str, text: &str) -> Result<u8, RuleError> {
    let kind = numbered(text, &FRAMES).and_then(|kind| u8::try_from(kind).ok());
    kind.ok_or_else(|| fault(name, "type is unknown"))
}

/// `SETTINGS_ENABLE_PUSH=0`, `SETTINGS_MAX_FRAME_SIZE >1024`.
fn setting(name: &str, text: &str) -> Result<FrameTest, RuleError> {
    let end = text.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_');
    let (setting, value) = text.split_at(end.unwrap_or(text.len()));
    let number = SETTINGS.iter().position(|known| *known == setting);
    let number = number.and_then(|index| u16::try_from(index + 1).ok());
    let number = number.ok_or_else(|| fault(name, "setting is unknown"))?;
    Ok(FrameTest::Setting(number, compare(name, value)?))
}

/// `client_hello|!server_hello`, with commas too.
fn stages(name: &str, text: &str) -> Result<TxTest, RuleError> {
    let (mut stages, mut negated) = (0, 0);
    for word in text.split(['|', ',']).map(str::trim) {
        let (is_negated, word) = match word.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, word),
        };
        let bit = Stage::from_name(word)
            .map(Stage::bit)
            .ok_or_else(|| fault(name, format!("state {word:?} is unknown")))?;
        stages |= bit;
        if is_negated {
            negated |= bit;
        }
    }
    Ok(TxTest::TlsStage { stages, negated })
}

/// One time, `<` or `>` a time, or a range, as seconds with both ends in.
fn times(text: &str) -> Option<(i64, i64)> {
    let text = text.trim().trim_matches('"').trim();
    if let Some(rest) = text.strip_prefix('<') {
        return Some((i64::MIN, time(rest)?));
    }
    if let Some(rest) = text.strip_prefix('>') {
        return Some((time(rest)?, i64::MAX));
    }
    match text.split_once("<>") {
        Some((from, to)) => {
            let (from, to) = (time(from)?, time(to)?);
            (from < to).then_some((from, to))
        }
        None => time(text).map(|time| (time, time)),
    }
}

/// `YYYY[-MM[-DD[ HH[:MM[:SS]]]]]` with a blank or a `T` between, as seconds since 1970 in UTC.
fn time(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let mut date = date.split('-').map(str::parse::<i64>);
    let year = date.next()?.ok().filter(|year| (1900..10_000).contains(year))?;
    let month = date.next().unwrap_or(Ok(1)).ok().filter(|month| (1..=12).contains(month))?;
    let day = date.next().unwrap_or(Ok(1)).ok().filter(|day| (1..=31).contains(day))?;
    if date.next().is_some() {
        return None;
    }
    let mut seconds = 0;
    let mut parts = clock.trim().split(':').filter(|part| !part.is_empty());
    for (factor, max) in [(3600, 23), (60, 59), (1, 60)] {
        if let Some(part) = parts.next() {
            let value = part.parse::<i64>().ok().filter(|value| (0..=max).contains(value))?;
            seconds += factor * value;
        }
    }
    if parts.next().is_some() {
        return None;
    }
    // Days from the civil date (Hinnant): the year begins in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::{time, times};
    use crate::{Config, Ruleset, rule::Kind};

    /// Whether a rule loads, and then its kind.
    fn kind(head: &str, options: &str) -> Option<Kind> {
        let text = format!("alert {head} any any -> any any ({options}; sid:1;)");
        let (ruleset, _) = Ruleset::new(&[("test", &text)], Config::default());
        ruleset.rules().first().map(|rule| rule.kind)
    }

    #[test]
    fn hooks_and_states() {
        assert_eq!(kind("http1:request_line", "priority:1"), Some(Kind::Transaction));
        assert_eq!(kind("tls:server_hello_done", "priority:1"), Some(Kind::Transaction));
        assert_eq!(kind("tcp:all", "priority:1"), Some(Kind::Packet));
        assert_eq!(kind("ip:flow_start", "priority:1"), Some(Kind::IpOnly));
        assert_eq!(kind("tls", "app-layer-state:>client_hello_done"), Some(Kind::Transaction));
        assert_eq!(kind("http", "flow:to_server"), Some(Kind::AppLayer));
        for (head, options) in [
            ("http:request_line", "priority:1"),
            ("http1:nonesuch", "priority:1"),
            ("tcp:nonesuch", "priority:1"),
            ("ip", "app-layer-state:client_finished"),
        ] {
            assert_eq!(kind(head, options), None, "{head} {options}");
        }
    }

    #[test]
    fn words_of_protocols() {
        for (head, options) in [
            ("tls", "tls.subject:!\"CN=a\""),
            ("tls", "tls_cert_notafter:>2015"),
            ("tls", "tls_cert_expired"),
            ("tls", "ssl_state:client_hello|!server_hello"),
            ("http", "filename:\"a\""),
            ("http", "fileext:\"exe\""),
            ("http", "filestore"),
            ("http2", "http2.frametype:GOAWAY"),
            ("http2", "http2.errorcode:11"),
            ("http2", "http2.settings:SETTINGS_MAX_HEADER_LIST_SIZE >1024"),
            ("http2", "http2.header_name; content:\"a\""),
            ("dns", "dns.rrtype:https"),
            ("dns", "dns.rcode:!badvers"),
            ("dns", "dns.answer.name; content:\"a\""),
            ("smtp", "email.received; content:\"a\""),
            ("ip", "l3_proto:ip6"),
            ("ip", "vlan.id:5,all"),
            ("ip", "vlan.id:5,-1"),
            ("ip", "flow.elephant:toserver"),
        ] {
            assert!(kind(head, options).is_some(), "{head} {options}");
        }
        for (head, options) in [
            ("tls", "tls_cert_notafter:x"),
            ("tls", "ssl_state:x"),
            ("http2", "http2.settings:X=1"),
            ("http2", "http2.frametype:X"),
            ("ip", "l3_proto:ip5"),
            ("ip", "vlan.id:5,3"),
            ("ip", "itype:8-9"),
        ] {
            assert_eq!(kind(head, options), None, "{head} {options}");
        }
    }

    #[test]
    fn times_of_certificates() {
        assert_eq!(time("1970"), Some(0));
        assert_eq!(time("1998-05-01"), Some(893_980_800));
        assert_eq!(time("2015-10-22T23:59:59"), Some(1_445_558_399));
        assert_eq!(time("2015-10-22 23:59"), Some(1_445_558_340));
        assert_eq!(times(">2015"), Some((1_420_070_400, i64::MAX)));
        assert_eq!(times("<1970-01-02"), Some((i64::MIN, 86_400)));
        assert_eq!(times("1970<>1971"), Some((0, 31_536_000)));
        for wrong in ["", "x", "1971<>1970", ">1970<>1971", "1970-13", "1970-01-01-01"] {
            assert_eq!(times(wrong), None, "{wrong}");
        }
    }
}
