//! `content` and what changes it, `pcre`, sticky buffers, transforms.

use hookprobe_traffic::{Direction, app::Proto};

use super::{Builder, Done, List, Pending, RuleError, fault};
use crate::{
    buffer::{self, Buffer},
    chain::{Content, Fast, Op, Pcre, Scope, Value},
    number::Compare,
    pcre::{Options, Regex},
    rule::AppName,
    syntax,
    transform::Transform,
};

/// Longest pattern, as in Suricata.
const PATTERN_BYTES_MAX: usize = 255;

impl Builder<'_, '_> {
    pub(super) fn content_option(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, RuleError> {
        let text = value.unwrap_or_default();
        match name {
            "content" => self.content(name, text)?,
            "uricontent" => {
                self.content(name, text)?;
                self.turn(Buffer::HttpUri)?;
            }
            "nocase" => {
                let content = self.last(name)?;
                content.is_caseless = true;
                content.pattern.make_ascii_lowercase();
            }
            "rawbytes" | "prefilter" => {}
            "offset" | "depth" | "distance" | "within" => self.place(name, text)?,
            "startswith" => {
                let content = self.last(name)?;
                content.is_at_start = true;
                content.offset = Some(Value::Number(0));
                content.depth = i64::try_from(content.pattern.len()).ok().map(Value::Number);
            }
            "endswith" => self.last(name)?.is_at_end = true,
            "fast_pattern" => self.fast(name, text)?,
            "pcre" => self.pcre(name, text)?,
            "pkt_data" | "payload" => {
                self.pending = None;
                self.list = List::Payload;
            }
            "base64_data" => {
                self.pending = None;
                self.list = List::Base64;
            }
            "bsize" => {
                let compare = Compare::parse(text).ok_or_else(|| fault(name, "no comparison"))?;
                if self.open() == List::Payload {
                    return Err(fault(name, "needs a sticky buffer"));
                }
                self.push(Op::Size(compare));
            }
            "urilen" => self.urilen(name, text)?,
            "absent" => {
                let or_else = match text {
                    "" => false,
                    "or_else" => true,
                    _ => return Err(fault(name, format!("{text:?} is unknown"))),
                };
                if let List::Buffer(index) = self.open()
                    && let Some(found) = self.buffers.get_mut(index)
                {
                    if !found.ops.is_empty() {
                        return Err(fault(name, "comes first after its buffer"));
                    }
                    // Of names of certificates Suricata never says that there are none.
                    found.is_absent = found.buffer != Buffer::TlsSan;
                    found.ops.insert(0, Op::Absent { or_else });
                } else {
                    return Err(fault(name, "needs a sticky buffer"));
                }
            }
            _ => return self.buffer_option(name, value),
        }
        Ok(true)
    }

    fn buffer_option(&mut self, name: &str, value: Option<&str>) -> Result<bool, RuleError> {
        if value.is_none()
            && let Some(spec) = buffer::by_modifier(name)
        {
            if spec.names.contains(&name) && !self.has_content() {
                return Err(fault(name, "no content before it"));
            }
            self.turn(spec.buffer)?;
            return Ok(true);
        }
        if let Some(spec) = buffer::by_name(name) {
            let only = match value {
                None => None,
                Some("to_server") => Some(Direction::ToServer),
                Some("to_client") => Some(Direction::ToClient),
                Some("request") => Some(Direction::ToServer),
                Some("response") => Some(Direction::ToClient),
                Some(other) => return Err(fault(name, format!("{other:?} is unknown"))),
            };
            if self.pending.is_some() {
                return Err(fault(name, "the buffer before it has no match"));
            }
            self.pending = Some(Pending { spec, transforms: Vec::new(), key: String::new(), only });
            return Ok(true);
        }
        if let Some(transform) = Transform::parse(name, value) {
            let transform = transform.map_err(|why| fault(name, why))?;
            if self.pending.is_none() {
                // After a match it begins the same buffer anew.
                let buffer = match self.list {
                    List::Buffer(index) => self.buffers.get(index).map(|found| found.buffer),
                    List::Payload | List::Packet(_) | List::Base64 => None,
                };
                self.pending = buffer.and_then(buffer::spec).map(|spec| Pending {
                    spec,
                    transforms: Vec::new(),
                    key: String::new(),
                    only: None,
                });
            }
            let pending = self
                .pending
                .as_mut()
                .ok_or_else(|| fault(name, "needs a sticky buffer before it"))?;
            pending.transforms.push(transform);
            pending.key.push_str(&Transform::key(name, value));
            pending.key.push(';');
            return Ok(true);
        }
        Ok(false)
    }

    fn has_content(&self) -> bool {
        self.payload.iter().any(|op| matches!(op, Op::Content(_)))
    }

    pub(super) fn content(&mut self, name: &str, text: &str) -> Done {
        let (is_negated, inner) = syntax::quoted(text);
        let pattern = syntax::pattern(inner).ok_or_else(|| fault(name, "no pattern"))?;
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(fault(name, "pattern is longer than 255 bytes"));
        }
        self.turned = None;
        self.push(Op::Content(Box::new(Content {
            pattern,
            finder: None,
            is_negated,
            is_caseless: false,
            offset: None,
            depth: None,
            distance: None,
            within: None,
            is_at_end: false,
            is_at_start: false,
            is_next_relative: false,
            fast: Fast::Maybe,
        })));
        Ok(())
    }

    /// The list of the last content: a modifier may have moved it to a buffer.
    fn last_list(&self) -> List {
        self.turned.map_or(self.list, List::Buffer)
    }

    /// The last content.
    fn last(&mut self, name: &str) -> Result<&mut Content, RuleError> {
        let list = self.last_list();
        self.ops(list)
            .iter_mut()
            .rev()
            .find_map(|op| match op {
                Op::Content(content) => Some(content.as_mut()),
                _ => None,
            })
            .ok_or_else(|| fault(name, "no content before it"))
    }

    fn place(&mut self, name: &str, text: &str) -> Done {
        let value = self.value(name, text)?;
        let list = self.last_list();
        let content = self.last(name)?;
        let length = i64::try_from(content.pattern.len()).unwrap_or(i64::MAX);
        match name {
            "offset" => content.offset = Some(value),
            "depth" => {
                if matches!(value, Value::Number(depth) if depth < length) {
                    return Err(fault(name, "less than the pattern is long"));
                }
                content.depth = Some(value);
            }
            "distance" => content.distance = Some(value),
            _ => {
                if matches!(value, Value::Number(within) if within < length) {
                    return Err(fault(name, "less than the pattern is long"));
                }
                content.within = Some(value);
            }
        }
        if matches!(name, "distance" | "within") {
            self.mark_before_last(list);
        }
        Ok(())
    }

    /// The content or expression before the last content must look on when what follows fails.
    fn mark_before_last(&mut self, list: List) {
        let mut is_past = false;
        for op in self.ops(list).iter_mut().rev() {
            match op {
                Op::Content(content) if is_past => {
                    content.is_next_relative = true;
                    return;
                }
                Op::Pcre(pcre) if is_past => {
                    pcre.is_next_relative = true;
                    return;
                }
                Op::Content(_) => is_past = true,
                _ => {}
            }
        }
    }

    fn fast(&mut self, name: &str, text: &str) -> Done {
        if self.last_list() == List::Base64 {
            return Err(fault(name, "not in base64_data"));
        }
        let content = self.last(name)?;
        content.fast = match text {
            "" => Fast::Chosen,
            "only" => Fast::Only,
            chop => {
                let (from, count) =
                    chop.split_once(',').ok_or_else(|| fault(name, "not `offset,length`"))?;
                let number = |text: &str| text.trim().parse::<u16>();
                match (number(from), number(count)) {
                    (Ok(from), Ok(count))
                        if usize::from(from) + usize::from(count) <= content.pattern.len()
                            && count > 0 =>
                    {
                        Fast::Chop(from, count)
                    }
                    _ => return Err(fault(name, "chop is out of the pattern")),
                }
            }
        };
        Ok(())
    }

    /// Moves the last content of the payload to a buffer (`http_uri` and its kin).
    fn turn(&mut self, to: Buffer) -> Done {
        self.keep_to_http1()?;
        let at = self.payload.iter().rposition(|op| matches!(op, Op::Content(_)));
        let Some(at) = at else {
            return Err(RuleError::Conflict(
                "a content modifier follows no content of the payload",
            ));
        };
        let op = self.payload.remove(at);
        if let Op::Content(content) = &op
            && (content.distance.is_some() || content.within.is_some())
        {
            self.unmark(at);
        }
        self.buffer(to, op)?;
        // What is relative is so to what the buffer had before.
        let index =
            self.buffers.iter().rposition(|found| found.buffer == to && found.key.is_empty());
        if let Some(index) = index {
            let is_relative = matches!(
                self.buffers.get(index).and_then(|found| found.ops.last()),
                Some(Op::Content(content))
                    if content.distance.is_some() || content.within.is_some()
            );
            if is_relative {
                self.mark_before_last(List::Buffer(index));
            }
            self.turned = Some(index);
        }
        Ok(())
    }

    /// Modifiers and letters of expressions are older than HTTP/2: to Suricata they are of HTTP/1 alone.
    fn keep_to_http1(&mut self) -> Done {
        match self.app {
            None | Some(AppName::Http | AppName::One(Proto::Http1)) => {
                self.app = Some(AppName::One(Proto::Http1));
                Ok(())
            }
            Some(_) => Err(RuleError::Conflict(
                "modifiers and expressions for HTTP/1 do not go with another protocol",
            )),
        }
    }

    fn unmark(&mut self, at: usize) {
        for op in self.payload.iter_mut().take(at).rev() {
            match op {
                Op::Content(content) => {
                    content.is_next_relative = false;
                    return;
                }
                Op::Pcre(pcre) => {
                    pcre.is_next_relative = false;
                    return;
                }
                _ => {}
            }
        }
    }

    fn urilen(&mut self, name: &str, text: &str) -> Done {
        let (compare, which) = text.split_once(',').unwrap_or((text, ""));
        let compare = Compare::parse(compare).ok_or_else(|| fault(name, "no comparison"))?;
        let buffer = match which.trim() {
            "norm" | "" => Buffer::HttpUri,
            "raw" => Buffer::HttpUriRaw,
            other => return Err(fault(name, format!("{other:?} is unknown"))),
        };
        self.buffer(buffer, Op::UriLength(compare))
    }

    fn pcre(&mut self, name: &str, text: &str) -> Done {
        let (is_negated, inner) = syntax::quoted(text);
        let (body, letters, captures) = split_pcre(inner).ok_or_else(|| fault(name, "no /.../"))?;
        let mut options = Options { wants_groups: !captures.is_empty(), ..Options::default() };
        let mut is_relative = false;
        let mut buffer = None;
        for letter in letters.chars() {
            match letter {
                'i' => options.is_caseless = true,
                'm' => options.is_multiline = true,
                's' => options.is_dotall = true,
                'x' => options.is_extended = true,
                'A' => options.is_anchored = true,
                'E' => options.is_dollar_endonly = true,
                'G' => options.is_ungreedy = true,
                'B' | 'O' => {}
                'R' => is_relative = true,
                other => {
                    buffer = Some(
                        letter_buffer(other)
                            .ok_or_else(|| fault(name, format!("flag {other:?} is unknown")))?,
                    );
                }
            }
        }
        if buffer.is_some() {
            self.keep_to_http1()?;
        }
        let (body, named) = named_captures(body);
        let captures = if captures.is_empty() { named } else { captures };
        options.wants_groups |= !captures.is_empty();
        let regex =
            Regex::new(body.as_bytes(), options).map_err(|error| fault(name, error.to_string()))?;
        if is_relative && buffer.is_none() {
            self.mark_relative();
        }
        let op = Op::Pcre(Box::new(Pcre {
            regex,
            is_negated,
            is_relative,
            is_next_relative: false,
            captures,
        }));
        match buffer {
            Some(buffer) if self.pending.as_ref().is_some_and(|own| own.spec.buffer == buffer) => {
                self.push(op);
                Ok(())
            }
            Some(buffer) => {
                self.buffer(buffer, op)?;
                if is_relative
                    && let Some(index) =
                        self.buffers.iter().rposition(|found| found.buffer == buffer)
                {
                    self.mark_in(index);
                }
                Ok(())
            }
            None => {
                self.push(op);
                Ok(())
            }
        }
    }

    /// The match before the last one of a buffer must look on.
    fn mark_in(&mut self, index: usize) {
        let Some(found) = self.buffers.get_mut(index) else { return };
        for op in found.ops.iter_mut().rev().skip(1) {
            match op {
                Op::Content(content) => {
                    content.is_next_relative = true;
                    return;
                }
                Op::Pcre(pcre) => {
                    pcre.is_next_relative = true;
                    return;
                }
                _ => {}
            }
        }
    }
}

fn letter_buffer(letter: char) -> Option<Buffer> {
    Some(match letter {
        'U' => Buffer::HttpUri,
        'I' => Buffer::HttpUriRaw,
        'P' => Buffer::HttpRequestBody,
        'Q' => Buffer::HttpResponseBody,
        'H' => Buffer::HttpHeader,
        'D' => Buffer::HttpHeaderRaw,
        'M' => Buffer::HttpMethod,
        'C' => Buffer::HttpCookie,
        'S' => Buffer::HttpStatCode,
        'Y' => Buffer::HttpStatMsg,
        'V' => Buffer::HttpUserAgent,
        'W' => Buffer::HttpHost,
        'Z' => Buffer::HttpHostRaw,
        _ => return None,
    })
}

/// Variables that groups are captured into.
type Captures = Vec<(Scope, String)>;

/// Body, letters, and `, flow:name, pkt:name` of an expression.
fn split_pcre(text: &str) -> Option<(&str, &str, Captures)> {
    let rest = text.strip_prefix('/').or_else(|| text.strip_prefix("m/"))?;
    let end = rest.rfind('/')?;
    let (body, tail) = (rest.get(..end)?, rest.get(end + 1..)?);
    let (letters, names) = match tail.find(',') {
        Some(comma) => (tail.get(..comma)?, tail.get(comma + 1..)?),
        None => (tail, ""),
    };
    let captures = names.split(',').filter_map(|name| scoped(name.trim(), ':')).collect();
    Some((body, letters.trim_end_matches('"').trim(), captures))
}

fn scoped(name: &str, separator: char) -> Option<(Scope, String)> {
    let (scope, name) = name.split_once(separator)?;
    match scope {
        "flow" => Some((Scope::Flow, name.to_owned())),
        "pkt" => Some((Scope::Packet, name.to_owned())),
        "alert" => Some((Scope::Alert, name.to_owned())),
        _ => None,
    }
}

/// `(?P<flow_name>...)` and `(?P<pkt_name>...)` capture into variables.
fn named_captures(body: &str) -> (String, Vec<(Scope, String)>) {
    let mut captures = Vec::new();
    for part in body.split("(?P<").skip(1) {
        if let Some((name, _)) = part.split_once('>')
            && let Some(capture) = scoped(name, '_')
        {
            captures.push(capture);
        }
    }
    // `\;` and `\"` are escapes of the rule language; PCRE reads them the same.
    (body.to_owned(), captures)
}
