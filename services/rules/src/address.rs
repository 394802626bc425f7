//! Address and port groups of rule headers: variables, lists, negation, ranges.
//!
//! A group is a set of ranges to include and a set to exclude. An empty positive part means `any`.
//! Variables are resolved while parsing, with a bound on their depth.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Variables in variables that are followed.
const DEPTH_MAX: u32 = 16;
/// Ranges of one group.
const RANGES_MAX: usize = 16_384;

/// Variables of `vars:` by name, without the dollar sign.
pub type Variables = BTreeMap<String, String>;

/// Why a group can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Unknown name.
    #[error("variable {0:?} is not defined")]
    Variable(String),
    /// Variables that contain themselves.
    #[error("variables of {0:?} are nested more than {DEPTH_MAX} deep")]
    Depth(String),
    /// Neither address nor network nor range.
    #[error("{0:?} is no address, network or range")]
    Address(String),
    /// Neither port nor range.
    #[error("{0:?} is no port or range of ports")]
    Port(String),
    /// Too much.
    #[error("group has more than {RANGES_MAX} entries")]
    TooMany,
    /// Brackets do not fit, or nothing is left.
    #[error("group {0:?} is empty or its brackets do not match")]
    Empty(String),
}

/// An inclusive range; IPv4 addresses are kept apart from IPv6 by the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    is_v4: bool,
    first: u128,
    last: u128,
}

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    included: Vec<Range>,
    excluded: Vec<Range>,
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    included: Vec<(u16, u16)>,
    excluded: Vec<(u16, u16)>,
}

fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(address.to_bits())),
        IpAddr::V6(address) => (false, address.to_bits()),
    }
}

impl Addresses {
    /// Reads a group.
    ///
    /// # Errors
    ///
    /// [`GroupError`] names the part that is wrong.
    pub fn parse(text: &str, variables: &Variables) -> Result<Self, GroupError> {
        let mut out = Self::default();
        let mut is_any = false;
        walk(text, variables, false, 0, &mut |item, is_negated| {
            if item.eq_ignore_ascii_case("any") {
                is_any |= !is_negated;
                return if is_negated { Err(GroupError::Empty(text.to_owned())) } else { Ok(()) };
            }
            let list = if is_negated { &mut out.excluded } else { &mut out.included };
            if list.len() >= RANGES_MAX {
                return Err(GroupError::TooMany);
            }
            list.push(range(item).ok_or_else(|| GroupError::Address(item.to_owned()))?);
            Ok(())
        })?;
        if is_any {
            out.included.clear();
        } else if out.included.is_empty() && out.excluded.is_empty() {
            return Err(GroupError::Empty(text.to_owned()));
        }
        out.complete(is_any);
        out.included.sort_unstable();
        out.excluded.sort_unstable();
        Ok(out)
    }

    /// What is taken out is taken from all addresses of its own version: `!192.0.2.1` says nothing
    /// of IPv6.
    fn complete(&mut self, is_any: bool) {
        if self.excluded.is_empty() {
            return;
        }
        for (is_v4, last) in [(true, u128::from(u32::MAX)), (false, u128::MAX)] {
            let has = |list: &[Range]| list.iter().any(|range| range.is_v4 == is_v4);
            if is_any || (has(&self.excluded) && !has(&self.included)) {
                self.included.push(Range { is_v4, first: 0, last });
            }
        }
    }

    /// Everything is in it.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.included.is_empty() && self.excluded.is_empty()
    }

    /// Something is taken out.
    #[must_use]
    pub const fn has_negation(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Whether `address` is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        if self.is_any() {
            return true;
        }
        let (is_v4, value) = number(address);
        let within = |list: &[Range]| {
            list.iter()
                .any(|range| range.is_v4 == is_v4 && range.first <= value && value <= range.last)
        };
        (self.included.is_empty() || within(&self.included)) && !within(&self.excluded)
    }
}

fn range(text: &str) -> Option<Range> {
    if let Some((address, mask)) = text.split_once('/') {
        let (is_v4, value) = number(address.parse().ok()?);
        let width = if is_v4 { 32 } else { 128 };
        let bits: u32 = match mask.parse::<u32>() {
            Ok(bits) => bits,
            Err(_) => mask.parse::<std::net::Ipv4Addr>().ok()?.to_bits().leading_ones(),
        };
        if bits > width {
            return None;
        }
        let host = width - bits;
        let ones = if host == 128 { u128::MAX } else { (1_u128 << host) - 1 };
        return Some(Range { is_v4, first: value & !ones, last: value | ones });
    }
    if let Some((first, last)) = text.split_once('-') {
        let (is_v4, first) = number(first.trim().parse().ok()?);
        let (is_last_v4, last) = number(last.trim().parse().ok()?);
        return (is_v4 == is_last_v4 && first <= last).then_some(Range { is_v4, first, last });
    }
    let (is_v4, value) = number(text.parse().ok()?);
    Some(Range { is_v4, first: value, last: value })
}

impl Ports {
    /// Reads a group.
    ///
    /// # Errors
    ///
    /// [`GroupError`] names the part that is wrong.
    pub fn parse(text: &str, variables: &Variables) -> Result<Self, GroupError> {
        let mut out = Self::default();
        let mut is_any = false;
        walk(text, variables, false, 0, &mut |item, is_negated| {
            if item.eq_ignore_ascii_case("any") {
                is_any |= !is_negated;
                return if is_negated { Err(GroupError::Empty(text.to_owned())) } else { Ok(()) };
            }
            let list = if is_negated { &mut out.excluded } else { &mut out.included };
            if list.len() >= RANGES_MAX {
                return Err(GroupError::TooMany);
            }
            list.push(ports(item).ok_or_else(|| GroupError::Port(item.to_owned()))?);
            Ok(())
        })?;
        if is_any {
            out.included.clear();
        } else if out.included.is_empty() && out.excluded.is_empty() {
            return Err(GroupError::Empty(text.to_owned()));
        }
        Ok(out)
    }

    /// Everything is in it.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.included.is_empty() && self.excluded.is_empty()
    }

    /// Whether `port` is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        if self.is_any() {
            return true;
        }
        let within =
            |list: &[(u16, u16)]| list.iter().any(|(first, last)| (*first..=*last).contains(&port));
        (self.included.is_empty() || within(&self.included)) && !within(&self.excluded)
    }
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once(':') {
        Some((first, last)) => {
            let first = if first.trim().is_empty() { 0 } else { first.trim().parse().ok()? };
            let last = if last.trim().is_empty() { u16::MAX } else { last.trim().parse().ok()? };
            (first, last)
        }
        None => {
            let port = text.parse().ok()?;
            (port, port)
        }
    };
    (first <= last).then_some((first, last))
}

/// Calls `leaf` for each entry with whether it is negated.
fn walk(
    text: &str,
    variables: &Variables,
    is_negated: bool,
    depth: u32,
    leaf: &mut dyn FnMut(&str, bool) -> Result<(), GroupError>,
) -> Result<(), GroupError> {
    let mut text = text.trim().trim_matches('"');
    if depth > DEPTH_MAX {
        return Err(GroupError::Depth(text.to_owned()));
    }
    let mut is_negated = is_negated;
    if let Some(rest) = text.strip_prefix('!') {
        is_negated = !is_negated;
        text = rest.trim();
    }
    if let Some(name) = text.strip_prefix('$') {
        let value = variables.get(name).ok_or_else(|| GroupError::Variable(name.to_owned()))?;
        return walk(value, variables, is_negated, depth + 1, leaf);
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| GroupError::Empty(text.to_owned()))?;
        for item in split(inner) {
            walk(item, variables, is_negated, depth + 1, leaf)?;
        }
        return Ok(());
    }
    if text.contains(',') {
        for item in split(text) {
            walk(item, variables, is_negated, depth + 1, leaf)?;
        }
        return Ok(());
    }
    if text.is_empty() {
        return Err(GroupError::Empty(text.to_owned()));
    }
    leaf(text, is_negated)
}

/// Splits at commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut from) = (0_i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b',' if depth == 0 => {
                out.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push(text.get(from..).unwrap_or_default());
    out.retain(|item| !item.trim().is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::{Addresses, GroupError, Ports, Variables};

    fn variables() -> Variables {
        [("HOME_NET", "[192.168.0.0/16,10.0.0.0/8]"), ("EXTERNAL_NET", "!$HOME_NET"), ("A", "$A")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn groups_with_variables_and_negation() {
        let set = |text: &str| Addresses::parse(text, &variables()).unwrap();
        let has = |text: &str, address: &str| set(text).contains(address.parse().unwrap());
        assert!(has("$HOME_NET", "10.1.2.3"));
        assert!(!has("$EXTERNAL_NET", "10.1.2.3"));
        assert!(has("!$EXTERNAL_NET", "10.1.2.3"));
        assert!(has("[10.0.0.0/8,!10.1.0.0/16]", "10.2.0.1"));
        assert!(!has("[10.0.0.0/8,!10.1.0.0/16]", "10.1.0.1"));
        assert!(has("10.0.0.1-10.0.0.9", "10.0.0.9"));
        assert!(has("2001:db8::/32", "2001:db8::1"));
        assert!(!has("10.0.0.0/8", "2001:db8::1"));
        assert!(set("any").is_any());
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| Addresses::parse(text, &variables()).unwrap_err();
        assert_eq!(fault("$B"), GroupError::Variable("B".into()));
        assert!(matches!(fault("$A"), GroupError::Depth(_)));
        assert!(matches!(fault("10.0.0.0/33"), GroupError::Address(_)));
    }

    #[test]
    fn ports_are_ranges() {
        let has = |text: &str, port| Ports::parse(text, &variables()).unwrap().contains(port);
        assert!(has("[80,8000:8080]", 8001));
        assert!(!has("!80", 80));
        assert!(has("!80", 81));
        assert!(has("1024:", 65535));
        assert!(has(":1024", 0));
        assert!(!has("[1:100,!90]", 90));
    }
}
