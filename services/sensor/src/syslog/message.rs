//! One message: RFC 5424, RFC 3164 as it is really sent, or just text.
//!
//! Parsing never fails: a message that follows no format is still something that a device wanted
//! to say. What is wrong with it is in [`Record::fault`].

use std::net::IpAddr;

use super::MESSAGE_BYTES_MAX;

/// Most elements of structured data; the rest is cut. 32: senders use one or two.
pub const ELEMENTS_MAX: usize = 32;
/// Most parameters of one element.
pub const PARAMS_MAX: usize = 64;
/// Longest field of the header (RFC 5424, 6: the host name has 255).
const FIELD_BYTES_MAX: usize = 255;
/// Longest tag of RFC 3164 that is taken for one; 32 there, more in practice.
const TAG_BYTES_MAX: usize = 64;
/// `<191>`: facility 23, severity 7.
const PRIORITY_MAX: u16 = 191;
/// Where none is given (RFC 3164, 4.3.3): user, notice.
const PRIORITY_DEFAULT: u16 = 13;

/// Which subsystem speaks (RFC 5424, table 1); 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(pub u8);

/// How bad it says it is (RFC 5424, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 0.
    Emergency,
    /// 1.
    Alert,
    /// 2.
    Critical,
    /// 3.
    Error,
    /// 4.
    Warning,
    /// 5.
    Notice,
    /// 6.
    Informational,
    /// 7.
    Debug,
}

/// How it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram; the source may be forged.
    Udp,
    /// A connection.
    Tcp,
    /// An encrypted one.
    Tls,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164, with a time stamp.
    Rfc3164,
    /// Neither.
    Text,
}

/// What is wrong with a message; the first that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No `<n>` in front.
    NoPriority,
    /// `<n>` with n above 191 or not a number.
    Priority,
    /// It says version 1 and its header is not RFC 5424's.
    Header,
    /// The structured data is malformed; it is in the message.
    StructuredData,
    /// More elements or parameters than are kept.
    TooMany,
    /// Longer than [`MESSAGE_BYTES_MAX`]; cut.
    TooLong,
    /// Not UTF-8; what is not was replaced.
    NotUtf8,
}

/// An element of structured data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// E.g. `timeQuality` or `exampleSDID@32473`.
    pub id: String,
    /// Names and values.
    pub params: Vec<(String, String)>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who sent it, as far as the transport knows.
    pub source: IpAddr,
    /// When it came, in nanoseconds since 1970; the sender's clock is in `timestamp`.
    pub received_ns: u64,
    /// How it came.
    pub transport: Transport,
    /// How it is written.
    pub format: Format,
    /// Which subsystem.
    pub facility: Facility,
    /// How bad.
    pub severity: Severity,
    /// As the sender wrote it.
    pub timestamp: Option<String>,
    /// Host that the sender names.
    pub host: Option<String>,
    /// Program.
    pub app: Option<String>,
    /// Process.
    pub procid: Option<String>,
    /// Kind of message.
    pub msgid: Option<String>,
    /// Structured data.
    pub structured: Vec<Element>,
    /// What is said. May hold control characters: to be escaped before it is shown.
    pub message: String,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// Takes a message apart.
#[must_use]
pub fn parse(bytes: &[u8], source: IpAddr, received_ns: u64, transport: Transport) -> Record {
    let mut fault = None;
    let kept = match bytes.get(..MESSAGE_BYTES_MAX) {
        Some(kept) if bytes.len() > MESSAGE_BYTES_MAX => {
            fault = Some(Fault::TooLong);
            kept
        }
        _ => bytes,
    };
    let text = String::from_utf8_lossy(kept);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        fault = fault.or(Some(Fault::NotUtf8));
    }
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    let (priority, rest) = match priority(text) {
        Ok(split) => split,
        Err(wrong) => {
            fault = fault.or(Some(wrong));
            (PRIORITY_DEFAULT, text)
        }
    };
    let mut record = Record {
        source,
        received_ns,
        transport,
        format: Format::Text,
        facility: Facility(u8::try_from(priority >> 3).unwrap_or(0)),
        severity: severity(priority),
        timestamp: None,
        host: None,
        app: None,
        procid: None,
        msgid: None,
        structured: Vec::new(),
        message: String::new(),
        fault,
    };
    match rest.strip_prefix("1 ") {
        Some(after) if record.rfc5424(after).is_some() => {}
        Some(_) => {
            record.note(Fault::Header);
            rest.clone_into(&mut record.message);
        }
        None => record.rfc3164(rest),
    }
    record
}

/// Number in `<n>` and what follows.
fn priority(text: &str) -> Result<(u16, &str), Fault> {
    let rest = text.strip_prefix('<').ok_or(Fault::NoPriority)?;
    let (digits, rest) = rest.split_once('>').ok_or(Fault::NoPriority)?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && *number <= PRIORITY_MAX);
    Ok((number.ok_or(Fault::Priority)?, rest))
}

fn severity(priority: u16) -> Severity {
    match priority & 7 {
        0 => Severity::Emergency,
        1 => Severity::Alert,
        2 => Severity::Critical,
        3 => Severity::Error,
        4 => Severity::Warning,
        5 => Severity::Notice,
        6 => Severity::Informational,
        _ => Severity::Debug,
    }
}

impl Record {
    fn note(&mut self, fault: Fault) {
        self.fault = self.fault.or(Some(fault));
    }

    /// What follows `<n>1 `; `None` when the header is not one.
    fn rfc5424(&mut self, text: &str) -> Option<()> {
        let (timestamp, rest) = field(text)?;
        let (host, rest) = field(rest)?;
        let (app, rest) = field(rest)?;
        let (procid, rest) = field(rest)?;
        let (msgid, rest) = match field(rest) {
            Some(split) => split,
            // Some senders end after the message's kind.
            None if is_field(rest) => (rest, ""),
            None => return None,
        };
        if timestamp != "-" && !is_rfc3339(timestamp) {
            return None;
        }
        self.format = Format::Rfc5424;
        self.timestamp = given(timestamp);
        self.host = given(host);
        self.app = given(app);
        self.procid = given(procid);
        self.msgid = given(msgid);
        let message = match rest.strip_prefix('-') {
            Some(after) if after.is_empty() || after.starts_with(' ') => after,
            _ => match structured(rest) {
                Some((elements, is_cut, after)) => {
                    self.structured = elements;
                    if is_cut {
                        self.note(Fault::TooMany);
                    }
                    after
                }
                None => {
                    self.note(Fault::StructuredData);
                    rest
                }
            },
        };
        let message = message.strip_prefix(' ').unwrap_or(message);
        message.strip_prefix('\u{feff}').unwrap_or(message).clone_into(&mut self.message);
        Some(())
    }

    /// What follows `<n>`: a time, perhaps a host, perhaps a tag, and the message.
    fn rfc3164(&mut self, text: &str) {
        let Some((timestamp, rest)) = timestamp(text) else {
            let rest = self.tag(text);
            rest.clone_into(&mut self.message);
            return;
        };
        self.format = Format::Rfc3164;
        self.timestamp = Some(timestamp.to_owned());
        // A host follows, unless what follows is a tag already.
        let rest = match field(rest) {
            Some((host, after)) if !host.ends_with(':') && !host.contains('[') => {
                self.host = given(host);
                after
            }
            _ => rest,
        };
        let rest = self.tag(rest);
        rest.clone_into(&mut self.message);
    }

    /// `app[pid]: ` or `app: `; gives what follows.
    fn tag<'a>(&mut self, text: &'a str) -> &'a str {
        let Some((tag, rest)) = text.split_once(':') else { return text };
        let (app, procid) = match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
            Some((app, procid)) => (app, Some(procid)),
            None => (tag, None),
        };
        let is_tag = |text: &str| {
            (1..=TAG_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./@()%".contains(&b))
        };
        if !is_tag(app) || procid.is_some_and(|procid| !is_tag(procid)) {
            return text;
        }
        self.app = Some(app.to_owned());
        self.procid = procid.map(str::to_owned);
        rest.strip_prefix(' ').unwrap_or(rest)
    }
}

/// Printable ASCII without spaces, of a bearable length.
fn is_field(text: &str) -> bool {
    (1..=FIELD_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A field and what follows the space after it.
fn field(text: &str) -> Option<(&str, &str)> {
    let (field, rest) = text.split_once(' ')?;
    is_field(field).then_some((field, rest))
}

/// `-` is nothing.
fn given(field: &str) -> Option<String> {
    (field != "-").then(|| field.to_owned())
}

/// `2003-10-11T22:14:15.003Z` and its like: the shape, not the calendar.
fn is_rfc3339(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let is_shaped = bytes.len() > SHAPE.len()
        && SHAPE.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            shape => shape == byte,
        });
    let rest = bytes.get(SHAPE.len()..).unwrap_or_default();
    is_shaped
        && rest.len() <= 16
        && rest.iter().all(|byte| byte.is_ascii_digit() || b".Z+-:".contains(byte))
}

/// A time in front of a message, and what follows it: `Oct 11 22:14:15 ` or as RFC 3339.
fn timestamp(text: &str) -> Option<(&str, &str)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const SHAPE: &[u8] = b"mmm dd dd:dd:dd";
    if let Some((first, rest)) = field(text)
        && is_rfc3339(first)
    {
        return Some((first, rest));
    }
    let (stamp, rest) = text.split_at_checked(SHAPE.len())?;
    let is_shaped = SHAPE.iter().zip(stamp.bytes()).enumerate().all(|(at, (shape, byte))| {
        match shape {
            // Days below 10 have a space in front.
            b'd' => byte.is_ascii_digit() || at == 4 && byte == b' ',
            b'm' => byte.is_ascii_alphabetic(),
            shape => *shape == byte,
        }
    });
    let is_month = MONTHS.iter().any(|month| stamp.starts_with(month));
    // Some senders put a colon after the time.
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    (is_shaped && is_month).then_some((stamp, rest.strip_prefix(' ')?))
}

/// Elements, whether some were left out, and what follows them.
fn structured(text: &str) -> Option<(Vec<Element>, bool, &str)> {
    let (mut elements, mut is_cut, mut rest) = (Vec::new(), false, text);
    while let Some(after) = rest.strip_prefix('[') {
        let (element, element_is_cut, after) = element(after)?;
        is_cut |= element_is_cut;
        if elements.len() < ELEMENTS_MAX {
            elements.push(element);
        } else {
            is_cut = true;
        }
        rest = after;
    }
    let is_end = rest.is_empty() || rest.starts_with(' ');
    (is_end && !elements.is_empty()).then_some((elements, is_cut, rest))
}

/// What follows `[`.
fn element(text: &str) -> Option<(Element, bool, &str)> {
    let end = text.find([' ', ']'])?;
    let (id, mut rest) = text.split_at_checked(end)?;
    if !is_field(id) {
        return None;
    }
    let (mut params, mut is_cut) = (Vec::new(), false);
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Some((Element { id: id.to_owned(), params }, is_cut, after));
        }
        let (name, after) = rest.strip_prefix(' ')?.split_once("=\"")?;
        if !is_field(name) {
            return None;
        }
        let (value, after) = value(after)?;
        if params.len() < PARAMS_MAX {
            params.push((name.to_owned(), value));
        } else {
            is_cut = true;
        }
        rest = after;
    }
}

/// A value up to its quote; `\"`, `\\` and `\]` are escapes, other backslashes are themselves
/// (RFC 5424, 6.3.3).
fn value(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\' | ']')) {
                Some((_, escaped)) => out.push(escaped),
                None => out.push('\\'),
            },
            char => out.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests;
