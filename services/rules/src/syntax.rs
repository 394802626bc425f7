//! Text of rules: header fields and options, without meaning.
//!
//! Golden form: `action proto src sport -> dst dport (name:value; name;)`. A backslash at the end of
//! a line joins it with the next, `#` begins a comment line. `Display` prints what parses again.

use std::fmt;

/// Most bytes of one rule: Suricata's own limit is 8192 for a line; real sets stay below 4 KiB.
pub const RULE_BYTES_MAX: usize = 65_536;
/// Most options of one rule.
const OPTIONS_MAX: usize = 1024;

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Header incomplete.
    #[error("rule header has {0} fields, 7 are needed")]
    Header(usize),
    /// No parenthesis, or not closed.
    #[error("options are not within parentheses")]
    Parentheses,
    /// `->`, `<>`, `=>` expected.
    #[error("direction {0:?} is none of ->, <>, =>")]
    Direction(String),
    /// An option that does not end.
    #[error("option {0:?} has no semicolon at its end")]
    Unterminated(String),
    /// Too long.
    #[error("rule has {0} bytes, at most {RULE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Too many options.
    #[error("rule has more than {OPTIONS_MAX} options")]
    TooMany,
}

/// `->`, `<>`, `=>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrow {
    /// One way.
    Right,
    /// Either way.
    Both,
    /// One way, with matches in requests and responses.
    Transaction,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Right => "->",
            Self::Both => "<>",
            Self::Transaction => "=>",
        })
    }
}

/// One `name:value;`. The value is as written: quotes and escapes are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Keyword.
    pub name: String,
    /// Text behind the colon, trimmed.
    pub value: Option<String>,
}

/// A rule as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRule {
    /// `alert`, `drop`, ...
    pub action: String,
    /// `tcp`, `http`, ...
    pub protocol: String,
    /// Left addresses.
    pub source: String,
    /// Left ports.
    pub source_port: String,
    /// Arrow between both.
    pub arrow: Arrow,
    /// Right addresses.
    pub destination: String,
    /// Right ports.
    pub destination_port: String,
    /// Options in order.
    pub options: Vec<Item>,
}

impl fmt::Display for RawRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {} (",
            self.action,
            self.protocol,
            self.source,
            self.source_port,
            self.arrow,
            self.destination,
            self.destination_port
        )?;
        for (index, item) in self.options.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match &item.value {
                Some(value) => write!(f, "{}:{value};", item.name)?,
                None => write!(f, "{};", item.name)?,
            }
        }
        f.write_str(")")
    }
}

/// A line of a file: where it begins, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of its first physical line, from 1.
    pub number: usize,
    /// Joined text, trimmed.
    pub text: String,
}

/// Splits a file into rules: comments and empty lines go, continued lines are joined.
#[must_use]
pub fn lines(text: &str) -> Vec<Line> {
    let mut out = Vec::new();
    let mut held: Option<Line> = None;
    for (index, physical) in text.lines().enumerate() {
        let trimmed = physical.trim();
        if held.is_none() && (trimmed.is_empty() || trimmed.starts_with('#')) {
            continue;
        }
        let mut line = held.take().unwrap_or(Line { number: index + 1, text: String::new() });
        if let Some(begun) = trimmed.strip_suffix('\\') {
            line.text.push_str(begun);
            held = Some(line);
        } else {
            line.text.push_str(trimmed);
            out.push(line);
        }
    }
    out.extend(held);
    out.retain(|line| !line.text.trim().is_empty());
    out
}

/// Reads one rule.
///
/// # Errors
///
/// [`SyntaxError`]: what is missing.
pub fn parse(text: &str) -> Result<RawRule, SyntaxError> {
    if text.len() > RULE_BYTES_MAX {
        return Err(SyntaxError::TooLong(text.len()));
    }
    let open = open_parenthesis(text).ok_or(SyntaxError::Parentheses)?;
    let (head, rest) = text.split_at(open);
    let body = rest
        .strip_prefix('(')
        .and_then(|rest| rest.trim_end().strip_suffix(')'))
        .ok_or(SyntaxError::Parentheses)?;
    let fields = fields(head);
    let [action, protocol, source, source_port, arrow, destination, destination_port] =
        <[String; 7]>::try_from(fields).map_err(|fields| SyntaxError::Header(fields.len()))?;
    let arrow = match arrow.as_str() {
        "->" => Arrow::Right,
        "<>" => Arrow::Both,
        "=>" => Arrow::Transaction,
        _ => return Err(SyntaxError::Direction(arrow)),
    };
    let options = options(body)?;
    Ok(RawRule {
        action,
        protocol,
        source,
        source_port,
        arrow,
        destination,
        destination_port,
        options,
    })
}

/// The parenthesis that begins the options; one inside brackets belongs to a list.
fn open_parenthesis(text: &str) -> Option<usize> {
    text.find('(')
}

/// Fields between blanks; blanks within brackets do not count and are left out.
fn fields(head: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut field = String::new();
    let mut depth = 0_u32;
    for letter in head.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter.is_whitespace() {
            if depth == 0 && !field.is_empty() {
                out.push(std::mem::take(&mut field));
            }
        } else {
            field.push(letter);
        }
    }
    if !field.is_empty() {
        out.push(field);
    }
    out
}

/// Splits `name:value; name;` at semicolons that no backslash precedes.
fn options(body: &str) -> Result<Vec<Item>, SyntaxError> {
    let mut out = Vec::new();
    let mut rest = body.trim_start();
    while !rest.is_empty() {
        let end = semicolon(rest)
            .ok_or_else(|| SyntaxError::Unterminated(rest.chars().take(40).collect::<String>()))?;
        let (option, tail) = rest.split_at(end);
        rest = tail.strip_prefix(';').unwrap_or(tail).trim_start();
        let option = option.trim();
        if option.is_empty() {
            continue;
        }
        if out.len() == OPTIONS_MAX {
            return Err(SyntaxError::TooMany);
        }
        out.push(match option.split_once(':') {
            Some((name, value)) => {
                Item { name: name.trim().to_owned(), value: Some(value.trim().to_owned()) }
            }
            None => Item { name: option.to_owned(), value: None },
        });
    }
    Ok(out)
}

fn semicolon(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b';' => return Some(at),
            _ => {}
        }
    }
    None
}

/// The text within the quotes of a value, and whether `!` precedes it. Without quotes: as it is.
#[must_use]
pub fn quoted(value: &str) -> (bool, &str) {
    let (is_negated, rest) = match value.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, value),
    };
    let inner = rest
        .strip_prefix('"')
        .map(|inner| inner.strip_suffix('"').unwrap_or(inner))
        .unwrap_or(rest);
    (is_negated, inner)
}

/// Takes the backslashes out of a message.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            match letters.next() {
                Some(next @ (';' | ':' | '"' | '\\')) => out.push(next),
                Some(next) => {
                    out.push('\\');
                    out.push(next);
                }
                None => out.push('\\'),
            }
        } else {
            out.push(letter);
        }
    }
    out
}

/// Bytes of a `content`: `|41 42|` is hex, a backslash takes the next byte as it is.
#[must_use]
pub fn pattern(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut is_hex = false;
    let mut high: Option<u8> = None;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'|' => {
                if high.is_some() {
                    return None;
                }
                is_hex = !is_hex;
            }
            b' ' if is_hex => {}
            _ if is_hex => {
                let digit =
                    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())?;
                match high.take() {
                    Some(upper) => out.push(upper << 4 | digit),
                    None => high = Some(digit),
                }
            }
            b'\\' => out.push(bytes.next()?),
            _ => out.push(byte),
        }
    }
    (!is_hex && !out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{Arrow, SyntaxError, lines, options, parse, pattern, quoted, unescape};
    use proptest::prelude::*;

    #[test]
    fn a_rule_is_taken_apart_and_put_together() {
        let text = r#"alert tcp [10.0.0.0/8, !10.1.1.1] any -> $HOME_NET [80,443] (msg:"a\; b"; content:"|3a 3B|x"; nocase; sid:1;)"#;
        let rule = parse(text).unwrap();
        assert_eq!(rule.source, "[10.0.0.0/8,!10.1.1.1]");
        assert_eq!(rule.arrow, Arrow::Right);
        assert_eq!(rule.options.len(), 4);
        assert_eq!(rule.options[0].value.as_deref(), Some(r#""a\; b""#));
        assert_eq!(parse(&rule.to_string()).unwrap(), rule);
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(parse("alert tcp any any -> any (sid:1;)"), Err(SyntaxError::Header(6)));
        assert_eq!(parse("alert tcp any any -> any any"), Err(SyntaxError::Parentheses));
        assert!(matches!(
            parse("alert tcp any any >> any any (sid:1;)"),
            Err(SyntaxError::Direction(_))
        ));
        assert!(matches!(options("sid:1"), Err(SyntaxError::Unterminated(_))));
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let lines = lines("# c\n\nalert a \\\n  b\nx\n");
        let found: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(found, [(3, "alert a b"), (5, "x")]);
    }

    #[test]
    fn patterns_and_quotes() {
        assert_eq!(pattern("a|3b 3C|b").unwrap(), b"a;<b");
        assert_eq!(pattern(r#"\"\\\;\:"#).unwrap(), b"\"\\;:");
        assert_eq!(pattern("|3|"), None);
        assert_eq!(pattern("|3a"), None);
        assert_eq!(quoted(r#"!"x""#), (true, "x"));
        assert_eq!(unescape(r"a\;b\d"), r"a;b\d");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_parses_prints_to_what_parses(text in "[ -~]{0,120}") {
            if let Ok(rule) = parse(&text) {
                prop_assert_eq!(parse(&rule.to_string()), Ok(rule));
            }
        }

        #[test]
        fn options_survive_printing(names in proptest::collection::vec("[a-z_.]{1,9}", 0..6),
                                    values in proptest::collection::vec("[a-z0-9,!<>\"|]{1,9}", 6)) {
            let body: String = names.iter().zip(&values)
                .map(|(name, value)| format!("{name}:{value};")).collect();
            let rule = parse(&format!("alert ip any any -> any any ({body})")).unwrap();
            prop_assert_eq!(rule.options.len(), names.len());
            prop_assert_eq!(parse(&rule.to_string()), Ok(rule));
        }
    }
}
