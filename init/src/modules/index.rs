//! The module index that the composer writes, and the matching of device aliases. Pure.
//!
//! ```text
//! module NAME PATH DEP,DEP|-      a module, its file, what has to be loaded before it
//! alias PATTERN NAME              modules.alias: `*`, `?`, `[..]`
//! always NAME                     loaded whether or not a device asks for it
//! ```
//!
//! The index is in the measured image; it is still parsed with bounds, because a damaged image
//! must end in a message and not in a PID 1 without memory.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::limits::{MODULE_INDEX_BYTES_MAX, MODULE_INDEX_LINES_MAX};

/// Most steps of one match: a pattern with many `*` could otherwise take quadratic time.
const MATCH_STEPS_MAX: usize = 1 << 16;
/// Longest chain of dependencies; the longest in the kernel has about ten.
const DEPENDENCY_DEPTH_MAX: usize = 32;

/// Why an index can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IndexError {
    /// Too long.
    #[error("module index: {bytes} bytes or {lines} lines, more than is read")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Its lines, 0 when they were not counted.
        lines: usize,
    },
    /// A line is not one of the three forms.
    #[error("module index: line {line} is none of module, alias, always")]
    Line {
        /// From 1.
        line: usize,
    },
}

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    path: String,
    dependencies: Vec<String>,
}

/// The parsed index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    modules: BTreeMap<String, Module>,
    aliases: Vec<(String, String)>,
    always: Vec<String>,
}

impl Index {
    /// Parses an index.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        if text.len() > MODULE_INDEX_BYTES_MAX {
            return Err(IndexError::TooLong { bytes: text.len(), lines: 0 });
        }
        let mut index = Self::default();
        for (at, line) in text.lines().enumerate() {
            if at >= MODULE_INDEX_LINES_MAX {
                return Err(IndexError::TooLong { bytes: text.len(), lines: at });
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [comment, ..] if comment.starts_with('#') => {}
                ["module", name, path, dependencies] => {
                    let module = Module {
                        path: (*path).into(),
                        dependencies: dependencies
                            .split(',')
                            .filter(|name| !name.is_empty() && *name != "-")
                            .map(normal)
                            .collect(),
                    };
                    index.modules.insert(normal(name), module);
                }
                ["alias", pattern, name] => {
                    index.aliases.push(((*pattern).into(), normal(name)));
                }
                ["always", name] => index.always.push(normal(name)),
                _ => return Err(IndexError::Line { line: at + 1 }),
            }
        }
        Ok(index)
    }

    /// Modules that are always loaded.
    #[must_use]
    pub fn always(&self) -> &[String] {
        &self.always
    }

    /// Number of modules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// `true` when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Modules that drive a device with this alias.
    pub fn matching<'a>(&'a self, modalias: &'a str) -> impl Iterator<Item = &'a str> {
        self.aliases
            .iter()
            .filter(move |(pattern, _)| glob(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, name)| name.as_str())
    }

    /// `(name, path)` of a module and all that it needs, in order of loading; unknown names (built
    /// in, or not shipped) and cycles are left out.
    #[must_use]
    pub fn load_order<'a>(&'a self, name: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut out = Vec::new();
        self.visit(name, 0, &mut Vec::new(), &mut out);
        out
    }

    fn visit<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        open: &mut Vec<&'a str>,
        out: &mut Vec<(&'a str, &'a str)>,
    ) {
        let known = out.iter().any(|(known, _)| *known == name) || open.contains(&name);
        let Some((name, module)) = self.modules.get_key_value(name) else {
            return;
        };
        if known || depth > DEPENDENCY_DEPTH_MAX {
            return;
        }
        open.push(name);
        for dependency in &module.dependencies {
            self.visit(dependency, depth + 1, open, out);
        }
        open.pop();
        out.push((name, &module.path));
    }
}

/// `-` and `_` are the same in module names.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// fnmatch without flags: `*`, `?`, `[abc]`, `[a-z]`, `[!..]`; an open bracket without its end
/// stands for itself.
#[must_use]
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    for _ in 0..MATCH_STEPS_MAX {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, from));
            at += 1;
            continue;
        }
        match text.get(from) {
            None => return pattern.iter().skip(at).all(|byte| *byte == b'*'),
            Some(byte) => {
                if let Some(next) = one(pattern, at, *byte) {
                    at = next;
                    from += 1;
                } else if let Some((after, start)) = star {
                    star = Some((after, start + 1));
                    at = after;
                    from = start + 1;
                } else {
                    return false;
                }
            }
        }
    }
    false
}

/// Where the pattern goes on when its element at `at` accepts `byte`.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match class(pattern, at + 1, byte) {
            Some((accepts, next)) => accepts.then_some(next),
            None => (byte == b'[').then_some(at + 1),
        },
        literal => (*literal == byte).then_some(at + 1),
    }
}

/// A bracket expression that starts at `at`: whether it accepts `byte`, and where it ends.
fn class(pattern: &[u8], at: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    let first = at + usize::from(negated);
    let mut position = first;
    let mut found = false;
    loop {
        let low = *pattern.get(position)?;
        if low == b']' && position > first {
            return Some((found != negated, position + 1));
        }
        let range = pattern.get(position + 1) == Some(&b'-')
            && pattern.get(position + 2).is_some_and(|high| *high != b']');
        if range {
            let high = *pattern.get(position + 2)?;
            found |= (low..=high).contains(&byte);
            position += 3;
        } else {
            found |= low == byte;
            position += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INDEX: &str = "\
# made by the composer
module virtio_net /usr/lib/modules/virtio_net.ko net-failover,virtio_ring
module net_failover /usr/lib/modules/net_failover.ko failover
module failover /usr/lib/modules/failover.ko -
module virtio_ring /usr/lib/modules/virtio_ring.ko virtio
module virtio /usr/lib/modules/virtio.ko -
alias virtio:d00000001v* virtio_net
always failover
";

    #[test]
    fn dependencies_come_first_and_once() {
        let index = Index::parse(INDEX).unwrap();
        let names: Vec<_> = index.load_order("virtio_net").iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio", "virtio_ring", "virtio_net"]);
        assert_eq!(index.always(), ["failover"]);
        assert_eq!(index.matching("virtio:d00000001v00001AF4").collect::<Vec<_>>(), ["virtio_net"]);
    }

    #[test]
    fn a_cycle_ends() {
        let index = Index::parse("module a /a b\nmodule b /b a\n").unwrap();
        assert_eq!(index.load_order("a").len(), 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(
            Index::parse("module a /a -\nmodule b\n").unwrap_err(),
            IndexError::Line { line: 2 }
        );
    }

    #[test]
    fn globs() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        };
        check("pci:v00001AF4d00001000sv*", "pci:v00001AF4d00001000sv0", true);
        check("pci:v00001AF4d00001000sv*", "pci:v00001AF5d00001000sv0", false);
        check("usb:v*p*d*dc*ic08isc06ip50*", "usb:v1p2d3dc0ic08isc06ip50in0", true);
        check("a[0-3x]b", "a2b", true);
        check("a[0-3x]b", "axb", true);
        check("a[!0-3]b", "a2b", false);
        check("a[b", "a[b", true);
        check("?", "", false);
        check("**", "", true);
        check("[]]", "]", true);
    }

    proptest! {
        #[test]
        fn any_pattern_and_text_end(pattern in "[a\\[\\]*?!-]{0,40}", text in "[a\\[\\]b-]{0,200}") {
            let _ = glob(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_plain_text_matches_itself_only(text in "[a-z:0-9]{1,40}", other in "[a-z:0-9]{1,40}") {
            prop_assert!(glob(text.as_bytes(), text.as_bytes()));
            prop_assert_eq!(glob(text.as_bytes(), other.as_bytes()), text == other);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,300}") {
            let _ = Index::parse(&text);
        }
    }
}
