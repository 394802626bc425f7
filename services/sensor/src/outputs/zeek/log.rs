//! One log in Zeek's form: tab-separated with a header that names every column and its type, or
//! one JSON object per line (the two forms of its ASCII writer).
//!
//! The header lines, the escapes and the words for "nothing" and "empty" are what tools that read
//! Zeek's logs parse, so they are exactly Zeek's: a separator inside a value is `\x09`, a comma
//! inside a set `\x2c`, other bytes that no terminal should see `\xHH`, and a value that reads like
//! "nothing" has its first byte escaped. Valid UTF-8 stays as it is.

use std::{
    fmt::Write as _,
    io::{self, Write},
    net::IpAddr,
};

use crate::outputs::time;

/// Longest string of one field, in bytes; the rest is cut. 64 KiB: a line stays below what readers
/// of logs accept, whatever a peer sends.
const FIELD_BYTES_MAX: usize = 64 * 1024;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Tab-separated with header.
    #[default]
    Tsv,
    /// One object per line.
    Json,
}

/// A log's name and columns.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// `conn`: also the file's name, with `.log` behind it.
    pub path: &'static str,
    /// Name and type of each column.
    pub fields: &'static [(&'static str, &'static str)],
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Not known, not applicable.
    Unset,
    /// Nanoseconds since 1970.
    Time(u64),
    /// Nanoseconds.
    Interval(u64),
    /// A number.
    Count(u64),
    /// Yes or no.
    Bool(bool),
    /// An address.
    Addr(IpAddr),
    /// A port.
    Port(u16),
    /// Bytes that a peer sent, or a word.
    Text(&'a [u8]),
    /// Of a set or a vector.
    List(&'a [Value<'a>]),
}

impl<'a> Value<'a> {
    /// A word of ours.
    #[must_use]
    pub fn word(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }

    /// Unset where there is none.
    #[must_use]
    pub fn maybe(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(Self::Unset, Self::Text)
    }

    /// Unset where there is none.
    #[must_use]
    pub fn count(number: Option<u64>) -> Self {
        number.map_or(Self::Unset, Self::Count)
    }
}

/// A log that is being written.
pub struct Log<W: Write> {
    schema: &'static Schema,
    format: Format,
    out: W,
    line: String,
    rows: u64,
}

impl<W: Write> Log<W> {
    /// Writes the header; `now_ns` is when the log begins.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(
        schema: &'static Schema,
        format: Format,
        now_ns: u64,
        mut out: W,
    ) -> io::Result<Self> {
        if format == Format::Tsv {
            let column = |pick: fn(&(&'static str, &'static str)) -> &'static str| {
                schema.fields.iter().map(pick).collect::<Vec<_>>().join("\t")
            };
            write!(
                out,
                "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
                 #path\t{}\n#open\t{}\n#fields\t{}\n#types\t{}\n",
                schema.path,
                time::zeek(now_ns),
                column(|field| field.0),
                column(|field| field.1),
            )?;
        }
        Ok(Self { schema, format, out, line: String::new(), rows: 0 })
    }

    /// Writes one row; there must be as many values as columns.
    ///
    /// # Errors
    /// What the output says.
    pub fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        debug_assert_eq!(values.len(), self.schema.fields.len(), "{}", self.schema.path);
        self.line.clear();
        match self.format {
            Format::Tsv => {
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        self.line.push('\t');
                    }
                    tsv(&mut self.line, value, false);
                }
            }
            Format::Json => {
                self.line.push('{');
                for ((name, _), value) in self.schema.fields.iter().zip(values) {
                    if *value == Value::Unset {
                        continue;
                    }
                    if self.line.len() > 1 {
                        self.line.push(',');
                    }
                    // A `String` takes everything.
                    let _ = write!(self.line, "\"{name}\":");
                    json(&mut self.line, value);
                }
                self.line.push('}');
            }
        }
        self.line.push('\n');
        self.rows += 1;
        self.out.write_all(self.line.as_bytes())
    }

    /// Rows written.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the last line and gives the output back.
    ///
    /// # Errors
    /// What the output says.
    pub fn close(mut self, now_ns: u64) -> io::Result<W> {
        if self.format == Format::Tsv {
            writeln!(self.out, "#close\t{}", time::zeek(now_ns))?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Six digits behind the point.
fn seconds(out: &mut String, ns: u64) {
    // Rounded to microseconds as Zeek's `%.6f` does.
    let micros = ns.saturating_add(500) / 1000;
    let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
}

fn tsv(out: &mut String, value: &Value<'_>, in_set: bool) {
    let _ = match value {
        Value::Unset => out.write_str("-"),
        Value::Time(ns) | Value::Interval(ns) => {
            seconds(out, *ns);
            Ok(())
        }
        Value::Count(number) => write!(out, "{number}"),
        Value::Bool(yes) => out.write_str(if *yes { "T" } else { "F" }),
        Value::Addr(ip) => write!(out, "{ip}"),
        Value::Port(port) => write!(out, "{port}"),
        Value::Text(bytes) => {
            text(out, bytes, in_set);
            Ok(())
        }
        Value::List([]) => out.write_str("(empty)"),
        Value::List(values) => {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                tsv(out, value, true);
            }
            Ok(())
        }
    };
}

fn text(out: &mut String, bytes: &[u8], in_set: bool) {
    match bytes {
        b"" => out.push_str("(empty)"),
        // What would read as nothing.
        b"-" => out.push_str("\\x2d"),
        b"(empty)" => out.push_str("\\x28empty)"),
        _ => escaped(out, bytes, |out, character| match character {
            '\\' => out.push_str("\\\\"),
            ',' if in_set => out.push_str("\\x2c"),
            other => out.push(other),
        }),
    }
}

/// Characters by `each`; control characters and bytes that are no UTF-8 as `\xHH`.
fn escaped(out: &mut String, bytes: &[u8], mut each: impl FnMut(&mut String, char)) {
    let bytes = bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut utf8 = [0; 4];
                for byte in character.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            } else {
                each(out, character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

fn json(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Unset => out.push_str("null"),
        Value::Time(ns) | Value::Interval(ns) => {
            let (whole, micros) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND / 1000);
            let _ = write!(out, "{whole}.{micros:06}");
            // JSON writers of Zeek give the shortest form that keeps a digit behind the point.
            while out.ends_with('0') && !out.ends_with(".0") {
                out.pop();
            }
        }
        Value::Count(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Addr(ip) => {
            let _ = write!(out, "\"{ip}\"");
        }
        Value::Port(port) => {
            let _ = write!(out, "{port}");
        }
        Value::Text(bytes) => json_text(out, bytes),
        Value::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json(out, value);
            }
            out.push(']');
        }
    }
}

fn json_text(out: &mut String, bytes: &[u8]) {
    out.push('"');
    let bytes = bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_control() => {
                    let _ = write!(out, "\\u{:04x}", u32::from(control));
                }
                other => out.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\\\x{byte:02x}");
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema {
        path: "test",
        fields: &[
            ("ts", "time"),
            ("id.orig_h", "addr"),
            ("text", "string"),
            ("list", "set[string]"),
            ("rtt", "interval"),
            ("ok", "bool"),
        ],
    };

    fn written(format: Format, text: &[u8], list: &[Value<'_>]) -> String {
        let mut log = Log::new(&SCHEMA, format, 1_000_000_000, Vec::new()).unwrap();
        log.row(&[
            Value::Time(1_300_475_168_652_003_000),
            Value::Addr("2001:db8::1".parse().unwrap()),
            Value::Text(text),
            Value::List(list),
            Value::Unset,
            Value::Bool(true),
        ])
        .unwrap();
        assert_eq!(log.rows(), 1);
        String::from_utf8(log.close(2_000_000_000).unwrap()).unwrap()
    }

    #[test]
    fn header_and_footer_are_zeeks() {
        assert_eq!(
            written(Format::Tsv, b"x", &[Value::word("a"), Value::word("b")]),
            "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n\
             #path\ttest\n#open\t1970-01-01-00-00-01\n\
             #fields\tts\tid.orig_h\ttext\tlist\trtt\tok\n\
             #types\ttime\taddr\tstring\tset[string]\tinterval\tbool\n\
             1300475168.652003\t2001:db8::1\tx\ta,b\t-\tT\n#close\t1970-01-01-00-00-02\n"
        );
    }

    #[test]
    fn nothing_that_a_peer_sends_makes_a_new_field_or_line() {
        let check = |bytes: &[u8], expect: &str| {
            let all = written(Format::Tsv, bytes, &[]);
            let row = all.lines().find(|line| !line.starts_with('#')).unwrap();
            let fields: Vec<&str> = row.split('\t').collect();
            assert_eq!((fields.len(), fields[2], fields[3]), (6, expect, "(empty)"));
        };
        check(b"", "(empty)");
        check(b"-", "\\x2d");
        check(b"(empty)", "\\x28empty)");
        check(b"a\tb\nc\\", "a\\x09b\\x0ac\\\\");
        check(b"\xff\x1b[2J", "\\xff\\x1b[2J");
        check("m\u{fc}nchen\u{85}".as_bytes(), "m\u{fc}nchen\\xc2\\x85");
    }

    #[test]
    fn commas_inside_a_set() {
        let all = written(Format::Tsv, b"a,b", &[Value::word("c,d"), Value::word("")]);
        assert!(all.contains("\ta,b\tc\\x2cd,(empty)\t"), "{all}");
    }

    #[test]
    fn json_omits_what_is_not_known() {
        let all = written(Format::Json, b"a\"\n\xff", &[Value::Count(1), Value::word("\u{7f}")]);
        assert_eq!(
            all,
            "{\"ts\":1300475168.652003,\"id.orig_h\":\"2001:db8::1\",\"text\":\"a\\\"\\n\\\\xff\",\
             \"list\":[1,\"\\u007f\"],\"ok\":true}\n"
        );
        let parsed: serde_json::Value = serde_json::from_str(&all).unwrap();
        assert_eq!(parsed["ok"], true);
    }
}
