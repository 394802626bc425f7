//! Public suffixes: where one owner's names end and a registry begins (<https://publicsuffix.org>).
//!
//! `co.uk` and `github.io` belong to everybody below them. A list that names one would refuse
//! thousands of strangers, so no public suffix may ever be on a list; and "the registered domain"
//! of a name is what detectors group by. The rules are compiled in as a minimal automaton
//! (`build.rs` draws its bytes), which is read in place: nothing is allocated, nothing parsed at
//! start. The data is the list's own, both divisions, exceptions and wildcards included.
//!
//! Called by [`crate::lists`] while a list is built and checked, and by whoever needs a registered
//! domain.

/// See `build.rs` for its bytes.
static AUTOMATON: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/suffixes.bin"));
/// The root's address stands at the end.
const TRAILER_BYTES: usize = 4;
/// Edges whose number stands in a byte of its own.
const EDGES_ESCAPE: usize = 15;
/// Longest rule in bytes; the walk over all rules goes no deeper.
const RULE_BYTES_MAX: usize = 253;

const RULE: u8 = 1;
const WILDCARD: u8 = 2;
const EXCEPTION: u8 = 4;

/// Size of the compiled rules.
#[must_use]
pub fn compiled_bytes() -> usize {
    AUTOMATON.len()
}

/// Length of the public suffix of a name, in bytes from its end.
///
/// The name is lower case, without a final dot (see [`crate::name::normalise`]). A name below no
/// rule has its last label as suffix, as the list's algorithm says.
#[must_use]
pub fn suffix_bytes(name: &[u8]) -> usize {
    let mut node = root();
    let mut longest = last_label(name);
    let mut wildcard_above = false;
    for (at, byte) in name.iter().enumerate().rev() {
        let label_starts = at == 0 || name.get(at - 1) == Some(&b'.');
        let next = node.and_then(|node| node.edge(*byte));
        node = next;
        if !label_starts {
            continue;
        }
        let length = name.len() - at;
        let kind = next.map_or(0, |node| node.kind());
        if kind & EXCEPTION != 0 {
            // The exception itself is registered, its parent is the suffix.
            return length - first_label(name.get(at..).unwrap_or_default()) - 1;
        }
        if kind & RULE != 0 || wildcard_above {
            longest = longest.max(length);
        }
        wildcard_above = kind & WILDCARD != 0;
        if node.is_none() {
            break;
        }
    }
    longest
}

/// Whether the whole name is a public suffix.
#[must_use]
pub fn is_public_suffix(name: &[u8]) -> bool {
    suffix_bytes(name) >= name.len()
}

/// The public suffix and the label before it; `None` when there is no such label.
#[must_use]
pub fn registered_domain(name: &[u8]) -> Option<&[u8]> {
    let before = name.len().checked_sub(suffix_bytes(name) + 1)?;
    let label = name.get(..before)?.iter().rev().take_while(|byte| **byte != b'.').count();
    (label > 0).then(|| name.get(before - label..)).flatten()
}

/// Calls `each` with every rule's name (what stands after `*.` too), without the exceptions.
pub fn for_each_suffix(mut each: impl FnMut(&[u8])) {
    let Some(root) = root() else { return };
    // What is left to visit, and the bytes that lead there, last byte of the name first.
    let mut left = vec![(root, 0_usize, None)];
    let mut path = Vec::with_capacity(RULE_BYTES_MAX);
    while let Some((node, depth, byte)) = left.pop() {
        path.truncate(depth.saturating_sub(1));
        path.extend(byte);
        if node.kind() & (RULE | WILDCARD) != 0 {
            let name: Vec<u8> = path.iter().rev().copied().collect();
            each(&name);
        }
        if depth < RULE_BYTES_MAX {
            node.for_each_edge(|byte, target| left.push((target, depth + 1, Some(byte))));
        }
    }
}

fn last_label(name: &[u8]) -> usize {
    name.iter().rev().take_while(|byte| **byte != b'.').count()
}

fn first_label(name: &[u8]) -> usize {
    name.iter().take_while(|byte| **byte != b'.').count()
}

fn root() -> Option<Node> {
    let at = AUTOMATON.len().checked_sub(TRAILER_BYTES)?;
    let address: [u8; TRAILER_BYTES] = AUTOMATON.get(at..)?.try_into().ok()?;
    Node::at(usize::try_from(u32::from_le_bytes(address)).ok()?)
}

/// A node of the automaton, by the address of its first byte.
#[derive(Clone, Copy)]
struct Node {
    address: usize,
    first: u8,
}

impl Node {
    fn at(address: usize) -> Option<Self> {
        AUTOMATON.get(address).map(|first| Self { address, first: *first })
    }

    fn is_short(self) -> bool {
        self.first & 0x80 != 0
    }

    fn kind(self) -> u8 {
        if self.is_short() { 0 } else { self.first & 7 }
    }

    fn edge(self, wanted: u8) -> Option<Self> {
        let mut found = None;
        self.scan(|byte, target| {
            if byte == wanted {
                found = target();
            }
            // Ascending: what is greater comes too late.
            byte < wanted
        });
        found
    }

    fn for_each_edge(self, mut each: impl FnMut(u8, Self)) {
        self.scan(|byte, target| {
            if let Some(node) = target() {
                each(byte, node);
            }
            true
        });
    }

    /// Calls `each` with the edges until it says `false`.
    fn scan(self, mut each: impl FnMut(u8, &dyn Fn() -> Option<Self>) -> bool) {
        if self.is_short() {
            let target = || Self::at(self.address.checked_sub(1)?);
            each(self.first & 0x7f, &target);
            return;
        }
        let mut cursor = Cursor(self.address);
        let mut count = usize::from((self.first >> 3) & 0x0f);
        if count == EDGES_ESCAPE {
            count = usize::from(cursor.next());
        }
        for _ in 0..count {
            let byte = cursor.next();
            let distance = cursor.distance();
            let target = || Self::at(self.address.checked_sub(distance)?);
            if !each(byte, &target) {
                return;
            }
        }
    }
}

/// Reads downwards; the address is that of the byte read last.
struct Cursor(usize);

impl Cursor {
    fn next(&mut self) -> u8 {
        self.0 = self.0.saturating_sub(1);
        AUTOMATON.get(self.0).copied().unwrap_or(0)
    }

    fn distance(&mut self) -> usize {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.next();
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TEXT: &str = include_str!("../data/public-suffixes.txt");

    fn registered(name: &str) -> Option<&str> {
        registered_domain(name.as_bytes()).map(|name| std::str::from_utf8(name).unwrap())
    }

    #[test]
    fn published_examples() {
        for (name, expected) in [
            ("com", None),
            ("example.com", Some("example.com")),
            ("a.b.example.com", Some("example.com")),
            ("example.local", Some("example.local")),
            ("uk.com", None),
            ("b.example.uk.com", Some("example.uk.com")),
            ("kyoto.jp", None),
            ("ide.kyoto.jp", None),
            ("a.b.ide.kyoto.jp", Some("b.ide.kyoto.jp")),
            ("c.kobe.jp", None),
            ("a.b.c.kobe.jp", Some("b.c.kobe.jp")),
            ("city.kobe.jp", Some("city.kobe.jp")),
            ("www.city.kobe.jp", Some("city.kobe.jp")),
            ("ck", None),
            ("test.ck", None),
            ("b.test.ck", Some("b.test.ck")),
            ("www.ck", Some("www.ck")),
            ("www.www.ck", Some("www.ck")),
            ("user.github.io", Some("user.github.io")),
            ("xn--55qx5d.cn", None),
            ("shishi.xn--55qx5d.cn", Some("shishi.xn--55qx5d.cn")),
            ("", None),
            (".", None),
            (".com", None),
        ] {
            assert_eq!(registered(name), expected, "{name}");
        }
    }

    /// The automaton says what the text says, by the list's algorithm over a plain set.
    #[test]
    fn agrees_with_the_text() {
        let rules: HashSet<&str> =
            TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let model = |name: &str| {
            let labels: Vec<&str> = name.split('.').collect();
            let mut longest = 1;
            for from in 0..labels.len() {
                let tail = labels[from..].join(".");
                if rules.contains(format!("!{tail}").as_str()) {
                    return labels.len() - from - 1;
                }
                let star = format!("*.{}", labels[from + 1..].join("."));
                if rules.contains(tail.as_str()) || rules.contains(star.as_str()) {
                    longest = longest.max(labels.len() - from);
                }
            }
            longest
        };
        for rule in &rules {
            let base = rule.trim_start_matches("!").trim_start_matches("*.");
            for name in
                [base.to_owned(), format!("x.{base}"), format!("y.x.{base}"), format!("z{base}")]
            {
                let suffix = suffix_bytes(name.as_bytes());
                let labels = name[name.len() - suffix..].split('.').count();
                assert_eq!(labels, model(&name), "{name}");
            }
        }
    }

    #[test]
    fn every_rule_is_visited() {
        let mut seen = HashSet::new();
        for_each_suffix(|name| {
            seen.insert(String::from_utf8(name.to_vec()).unwrap());
        });
        let rules: HashSet<String> = TEXT
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
            .map(|line| line.trim_start_matches("*.").to_owned())
            .collect();
        assert_eq!(seen, rules);
    }

    #[test]
    fn stays_small() {
        // The text has 150 KB; the image counts every one of these.
        assert!(compiled_bytes() < 64 * 1024, "{}", compiled_bytes());
    }
}
