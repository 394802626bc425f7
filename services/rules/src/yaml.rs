//! The subset of YAML that suricata.yaml and test descriptions are written in: block mappings and
//! sequences, flow lists, quoted and plain scalars, comments, `|` and `>` blocks.
//!
//! No anchors, no tags, no multi-line flow collections beyond brackets. Depth and size are bounded;
//! what can't be read is an error with its line.

use std::fmt;

/// Nodes in nodes.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    Null,
    /// A scalar and whether it was quoted.
    Text(String, bool),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in order.
    Map(Vec<(String, Node)>),
}

/// What could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Node {
    /// The value of `key` of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => {
                entries.iter().find(|(name, _)| name == key).map(|entry| &entry.1)
            }
            Self::Null | Self::Text(..) | Self::List(_) => None,
        }
    }

    /// Follows keys with dots between; in lists of one-key mappings, as in `outputs`, by that key.
    #[must_use]
    pub fn path(&self, path: &str) -> Option<&Self> {
        let mut node = self;
        for key in path.split('.') {
            node = match node {
                Self::List(items) => match key.parse::<usize>() {
                    Ok(index) => items.get(index)?,
                    Err(_) => items.iter().find_map(|item| item.get(key))?,
                },
                Self::Null | Self::Text(..) | Self::Map(_) => node.get(key)?,
            };
        }
        Some(node)
    }

    /// The scalar's text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text, _) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Items of a sequence; a scalar is a sequence of one.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Text(..) => std::slice::from_ref(self),
            Self::Null | Self::Map(_) => &[],
        }
    }

    /// Entries of a mapping.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            Self::Null | Self::Text(..) | Self::List(_) => &[],
        }
    }

    /// `yes`, `true`, `on`, `1` and their opposites.
    #[must_use]
    pub fn switch(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Some(true),
            "no" | "false" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// Sets the value at `path` (keys with dots between), making mappings on the way.
    pub fn set(&mut self, path: &str, value: &str) {
        let (key, rest) = match path.split_once('.') {
            Some((key, rest)) => (key, Some(rest)),
            None => (path, None),
        };
        if let (Self::List(items), Ok(index)) = (&mut *self, key.parse::<usize>()) {
            if let (Some(item), Some(rest)) = (items.get_mut(index), rest) {
                item.set(rest, value);
            }
            return;
        }
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(entries) = self else { return };
        if !entries.iter().any(|(name, _)| name == key) {
            entries.push((key.to_owned(), Self::Null));
        }
        let Some(entry) = entries.iter_mut().find(|(name, _)| name == key) else { return };
        match rest {
            Some(rest) => entry.1.set(rest, value),
            None => entry.1 = Self::Text(value.to_owned(), false),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("~"),
            Self::Text(text, _) => write!(f, "{text:?}"),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => {
                f.debug_map().entries(entries.iter().map(|(key, node)| (key, node))).finish()
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line<'t> {
    number: usize,
    indent: usize,
    /// Without indentation and comment.
    text: &'t str,
    /// As written.
    raw: &'t str,
}

/// Reads a document.
///
/// # Errors
///
/// [`YamlError`]: the line that is not understood.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let content = without_comment(raw);
        let trimmed = content.trim_end();
        let indent = trimmed.len() - trimmed.trim_start_matches(' ').len();
        lines.push(Line { number: index + 1, indent, text: trimmed.trim_start(), raw });
    }
    let mut parser = Parser { lines: &lines, at: 0 };
    let node = parser.block(0, 0)?;
    parser.skip_empty();
    match parser.peek() {
        Some(line) => Err(YamlError { line: line.number, what: "unexpected indentation" }),
        None => Ok(node),
    }
}

/// Cuts ` # ...` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = b' ';
    let bytes = line.as_bytes();
    for (at, byte) in bytes.iter().copied().enumerate() {
        match (quote, byte) {
            (None, b'#') if before == b' ' || before == b'\t' => {
                return line.get(..at).unwrap_or(line);
            }
            (None, b'"' | b'\'') if matches!(before, b' ' | b'[' | b',' | b'{' | b':') => {
                quote = Some(byte);
            }
            (Some(b'"'), b'"') if before == b'\\' => {}
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
        before = byte;
    }
    line
}

struct Parser<'p, 't> {
    lines: &'p [Line<'t>],
    at: usize,
}

impl<'t> Parser<'_, 't> {
    fn peek(&self) -> Option<Line<'t>> {
        self.lines.get(self.at).copied()
    }

    fn skip_empty(&mut self) {
        while self.peek().is_some_and(|line| {
            line.text.is_empty()
                || line.text.starts_with("%YAML")
                || line.text == "---"
                || line.text == "..."
        }) {
            self.at += 1;
        }
    }

    /// A node whose lines are indented by at least `indent`.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Node, YamlError> {
        self.skip_empty();
        let Some(line) = self.peek() else { return Ok(Node::Null) };
        if depth > DEPTH_MAX {
            return Err(YamlError { line: line.number, what: "nested too deep" });
        }
        if line.indent < indent {
            return Ok(Node::Null);
        }
        if line.text == "-" || line.text.starts_with("- ") {
            return self.list(line.indent, depth);
        }
        if key_of(line.text).is_some() {
            return self.map(line.indent, depth);
        }
        self.at += 1;
        self.scalar(line, line.text, line.indent, depth)
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Node, YamlError> {
        let mut items = Vec::new();
        loop {
            self.skip_empty();
            let Some(line) = self.peek() else { break };
            let is_item = line.text == "-" || line.text.starts_with("- ");
            if line.indent != indent || !is_item {
                break;
            }
            let rest = line.text.get(1..).unwrap_or_default();
            let inner = rest.trim_start();
            self.at += 1;
            if inner.is_empty() {
                items.push(self.block(indent + 1, depth + 1)?);
                continue;
            }
            let column = indent + 1 + (rest.len() - inner.len());
            items.push(self.inline(line, inner, column, depth)?);
        }
        Ok(Node::List(items))
    }

    /// What stands behind a dash: a mapping or list that begins there, or a scalar.
    fn inline(
        &mut self,
        line: Line<'t>,
        text: &'t str,
        column: usize,
        depth: usize,
    ) -> Result<Node, YamlError> {
        if depth > DEPTH_MAX {
            return Err(YamlError { line: line.number, what: "nested too deep" });
        }
        if text == "-" || text.starts_with("- ") {
            let inner = text.get(1..).unwrap_or_default().trim_start();
            let column = column + (text.len() - inner.len());
            return Ok(Node::List(vec![self.inline(line, inner, column, depth + 1)?]));
        }
        match key_of(text) {
            Some((key, value)) => {
                let mut entries = Vec::new();
                let node = self.value(line, value, column, depth)?;
                entries.push((key, node));
                if let Node::Map(more) = self.map(column, depth)? {
                    entries.extend(more);
                }
                Ok(Node::Map(entries))
            }
            None => self.scalar(line, text, column, depth),
        }
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Node, YamlError> {
        let mut entries = Vec::new();
        loop {
            self.skip_empty();
            let Some(line) = self.peek() else { break };
            if line.indent != indent {
                break;
            }
            let Some((key, value)) = key_of(line.text) else { break };
            self.at += 1;
            let node = self.value(line, value, indent, depth)?;
            entries.push((key, node));
        }
        Ok(Node::Map(entries))
    }

    /// What stands behind a colon; a list below may be indented no more than its key.
    fn value(
        &mut self,
        line: Line<'t>,
        text: &'t str,
        indent: usize,
        depth: usize,
    ) -> Result<Node, YamlError> {
        if !text.is_empty() {
            return self.scalar(line, text, indent, depth);
        }
        self.skip_empty();
        match self.peek() {
            Some(next) if next.indent > indent => self.block(indent + 1, depth + 1),
            Some(next)
                if next.indent == indent && (next.text == "-" || next.text.starts_with("- ")) =>
            {
                self.list(indent, depth + 1)
            }
            Some(_) | None => Ok(Node::Null),
        }
    }

    fn scalar(
        &mut self,
        line: Line<'t>,
        text: &str,
        indent: usize,
        depth: usize,
    ) -> Result<Node, YamlError> {
        let fault = |what| YamlError { line: line.number, what };
        if let Some(style @ ('|' | '>')) = text.chars().next()
            && text.len() <= 3
        {
            return Ok(Node::Text(self.literal(style, text.contains('-'), indent), true));
        }
        let mut text = text.to_owned();
        if text.starts_with(['[', '{']) {
            while !is_closed(&text) {
                let Some(next) = self.peek() else { return Err(fault("bracket is not closed")) };
                self.at += 1;
                text.push(' ');
                text.push_str(next.text);
            }
            let mut rest = text.as_str();
            return flow(&mut rest, depth).ok_or(fault("flow collection is malformed"));
        }
        if let Some(quote @ ('"' | '\'')) = text.chars().next() {
            while !is_quote_closed(&text, quote) {
                let Some(next) = self.peek() else { return Err(fault("quote is not closed")) };
                self.at += 1;
                if quote == '"' && is_line_escaped(&text) {
                    // An escaped line end is none.
                    text.pop();
                } else {
                    text.push(' ');
                }
                text.push_str(next.raw.trim());
            }
        } else {
            // A plain scalar goes on in lines that are indented more.
            while let Some(next) = self.peek() {
                if next.text.is_empty() || next.indent <= indent {
                    break;
                }
                self.at += 1;
                text.push(' ');
                text.push_str(next.text);
            }
        }
        Ok(plain(&text))
    }

    fn literal(&mut self, style: char, is_stripped: bool, indent: usize) -> String {
        let mut out = String::new();
        let mut margin = None;
        while let Some(line) = self.peek() {
            let raw = line.raw.trim_end();
            let width = raw.len() - raw.trim_start_matches(' ').len();
            if !raw.is_empty() && width <= indent {
                break;
            }
            self.at += 1;
            let margin = *margin.get_or_insert(width);
            out.push_str(raw.get(margin.min(raw.len())..).unwrap_or_default());
            out.push(if style == '|' { '\n' } else { ' ' });
        }
        let trimmed = out.trim_end_matches(['\n', ' ']);
        if is_stripped || trimmed.is_empty() { trimmed.to_owned() } else { format!("{trimmed}\n") }
    }
}

/// Splits `key: value`.
fn key_of(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['[', '{']) {
        return None;
    }
    if let Some(quote @ ('"' | '\'')) = text.chars().next() {
        let rest = text.get(1..)?;
        let end = rest.find(quote)?;
        let after = rest.get(end + 1..)?.trim_start().strip_prefix(':')?;
        return Some((rest.get(..end)?.to_owned(), after.trim()));
    }
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(':')?;
        let after = text.get(at + 1..)?;
        if after.is_empty() || after.starts_with([' ', '\t']) {
            return Some((text.get(..at)?.trim().to_owned(), after.trim()));
        }
        from = at + 1;
    }
}

fn is_closed(text: &str) -> bool {
    let mut depth = 0_i32;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
    }
    depth <= 0
}

/// Whether it ends with a backslash that is not escaped itself.
fn is_line_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn is_quote_closed(text: &str, quote: char) -> bool {
    let mut is_escaped = false;
    let mut is_open = false;
    for letter in text.chars() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if quote == '"' => is_escaped = true,
            _ if letter == quote => is_open = !is_open,
            _ => {}
        }
    }
    !is_open
}

/// A flow collection or a scalar in one.
fn flow(rest: &mut &str, depth: usize) -> Option<Node> {
    if depth > DEPTH_MAX {
        return None;
    }
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('[') {
        *rest = inner;
        let mut items = Vec::new();
        loop {
            *rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix(']') {
                *rest = after;
                return Some(Node::List(items));
            }
            items.push(flow(rest, depth + 1)?);
            *rest = rest.trim_start();
            *rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner;
        let mut entries = Vec::new();
        loop {
            *rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                *rest = after;
                return Some(Node::Map(entries));
            }
            let colon = rest.find(':')?;
            let key = rest.get(..colon)?.trim().trim_matches(['"', '\'']).to_owned();
            *rest = rest.get(colon + 1..)?;
            entries.push((key, flow(rest, depth + 1)?));
            *rest = rest.trim_start();
            *rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    let end = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest.get(1..)?.find(quote)? + 2,
        _ => rest.find([',', ']', '}'])?,
    };
    let (item, tail) = rest.split_at_checked(end)?;
    if item.is_empty() {
        return None;
    }
    *rest = tail;
    Some(plain(item))
}

fn plain(text: &str) -> Node {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Node::Text(inner.replace("''", "'"), true);
    }
    if let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Node::Text(unescape(inner), true);
    }
    match text {
        "" | "~" | "null" => Node::Null,
        _ => Node::Text(text.to_owned(), false),
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('0') => out.push('\0'),
            Some(kind @ ('x' | 'u')) => {
                let count = if kind == 'x' { 2 } else { 4 };
                let digits: String = letters.by_ref().take(count).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Node, parse};
    use proptest::prelude::*;

    #[test]
    fn what_configurations_are_made_of() {
        let text = "%YAML 1.1\n---\n# c\na:\n  b: \"x # y\"   # c\n  list:\n  - one\n  - k: v\n    w: [1, 'two', {x: y}]\n  - - n\nempty:\nblock: |\n  l1\n   l2\nplain: a: b\n";
        let node = parse(text).unwrap();
        assert_eq!(node.path("a.b").unwrap().text(), Some("x # y"));
        assert_eq!(node.path("a.list.k").unwrap().text(), Some("v"));
        assert_eq!(node.path("a.list.w").unwrap().items().len(), 3);
        assert_eq!(node.path("a.list.2.0").unwrap().text(), Some("n"));
        assert_eq!(node.get("empty"), Some(&Node::Null));
        assert_eq!(node.path("block").unwrap().text(), Some("l1\n l2\n"));
    }

    #[test]
    fn values_are_set_on_the_way() {
        let mut node = parse("a:\n  - b: 1\n").unwrap();
        node.set("x.y", "2");
        node.set("a.0.b", "3");
        assert_eq!(node.path("x.y").unwrap().text(), Some("2"));
        assert_eq!(node.path("a.b").unwrap().text(), Some("3"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[ a-c:#\\-\\[\\]{},\"'|>\n]{0,80}") {
            let _ = parse(&text);
        }
    }
}
