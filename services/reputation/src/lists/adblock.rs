//! Rules of content blockers, as far as they speak of whole names: `||name^`, `@@||name^`.
//!
//! Paths, wildcards, element hiding and rules for some pages only would refuse more than their
//! authors meant, so they are left out and counted.

use super::{Entry, Garbage, Sink};

/// Options that leave a rule's meaning for a name as it is.
const HARMLESS: [&[u8]; 4] = [b"important", b"all", b"document", b"doc"];

pub(super) fn line<F: FnMut(Entry<'_>)>(line: &[u8], sink: &mut Sink<'_, F>) {
    if line.is_empty() || line.starts_with(b"!") || line.starts_with(b"[") || is_hash_comment(line)
    {
        return sink.blank();
    }
    let (allows, rule) = match line.strip_prefix(b"@@") {
        Some(rule) => (true, rule),
        None => (false, line),
    };
    let Some(rule) = rule.strip_prefix(b"||") else {
        return sink.reject(Garbage::Unsupported);
    };
    let Some(end) = rule.iter().position(|byte| *byte == b'^') else {
        return sink.reject(Garbage::Unsupported);
    };
    let (name, rest) = rule.split_at(end);
    let rest = rest.strip_prefix(b"^").unwrap_or(rest);
    let rest = rest.strip_prefix(b"|").unwrap_or(rest);
    let is_whole = match rest.strip_prefix(b"$") {
        Some(options) => options.split(|byte| *byte == b',').all(|one| HARMLESS.contains(&one)),
        None => rest.is_empty(),
    };
    if !is_whole || name.iter().any(|byte| matches!(byte, b'/' | b':')) {
        sink.reject(Garbage::Unsupported);
    } else if allows {
        sink.allow(name);
    } else {
        sink.block(name);
    }
}

/// `# words`; `##.class` hides elements.
fn is_hash_comment(line: &[u8]) -> bool {
    line == b"#" || line.starts_with(b"# ")
}
