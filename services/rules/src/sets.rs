//! Datasets and reputation lists: sets of strings, addresses or digests that rules ask and change.
//!
//! Sets are loaded by who reads files and given as text; all have a cap. A set that a rule names is
//! made when the rule is compiled. Reload keeps what was added while running.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use base64ct::Encoding as _;

/// Members of one set (Suricata's default memory cap for a set is of this order).
const MEMBERS_MAX: usize = 1 << 20;
/// Sets of one ruleset.
const SETS_MAX: usize = 1024;
/// Bytes of one member.
const MEMBER_BYTES_MAX: usize = 65_536;

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes; in files as base64.
    String,
    /// MD5 digests.
    Md5,
    /// SHA-256 digests.
    Sha256,
    /// IPv4 addresses.
    Ipv4,
    /// IPv4 and IPv6 addresses.
    Ip,
}

impl Kind {
    /// By name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "md5" => Self::Md5,
            "sha256" => Self::Sha256,
            "ipv4" => Self::Ipv4,
            "ip" | "ipv6" => Self::Ip,
            _ => return None,
        })
    }
}

/// What a rule does with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    IsSet,
    IsNotSet,
    Set,
    Unset,
}

/// `dataset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatasetUse {
    pub(crate) set: usize,
    pub(crate) command: Command,
    /// Key under which the context of a member is put in the alert.
    pub(crate) context: Option<String>,
}

/// `datarep`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReputationUse {
    pub(crate) set: usize,
    pub(crate) compare: crate::number::Compare,
}

/// One set.
#[derive(Debug)]
struct Set {
    kind: Kind,
    members: HashMap<Box<[u8]>, Member>,
    members_max: usize,
}

#[derive(Clone, Debug, Default)]
struct Member {
    reputation: u16,
    json: Option<Box<str>>,
}

/// All sets.
#[derive(Debug, Default)]
pub struct Sets {
    by_name: BTreeMap<String, usize>,
    sets: Vec<Set>,
    /// Members that did not fit.
    pub dropped: u64,
}

impl Sets {
    /// The index of `name`, which is made if it is not there.
    pub(crate) fn declare(&mut self, name: &str, kind: Kind) -> Option<usize> {
        if let Some(index) = self.by_name.get(name) {
            return self.sets.get(*index).filter(|set| set.kind == kind).map(|_| *index);
        }
        if self.sets.len() >= SETS_MAX {
            return None;
        }
        self.sets.push(Set { kind, members: HashMap::new(), members_max: MEMBERS_MAX });
        self.by_name.insert(name.to_owned(), self.sets.len() - 1);
        Some(self.sets.len() - 1)
    }

    /// What the members of `name` are, if it is there.
    pub(crate) fn kind_of(&self, name: &str) -> Option<Kind> {
        self.sets.get(*self.by_name.get(name)?).map(|set| set.kind)
    }

    /// Loads the lines of a file: a member each, a reputation behind a comma.
    pub(crate) fn load(&mut self, set: usize, text: &str) {
        let Some(kind) = self.sets.get(set).map(|set| set.kind) else { return };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (value, reputation) = match line.split_once(',') {
                Some((value, reputation)) => (value, reputation.trim().parse().unwrap_or(0)),
                None => (line, 0),
            };
            if let Some(member) = member(kind, value) {
                self.insert(set, member, Member { reputation, json: None });
            }
        }
    }

    /// Adds a member with the JSON that alerts shall show for it. A member that is there keeps its own.
    pub(crate) fn add_json(&mut self, set: usize, value: &str, json: String) {
        let Some(kind) = self.sets.get(set).map(|set| set.kind) else { return };
        let member = match kind {
            Kind::String => Some(value.as_bytes().to_vec()),
            _ => member(kind, value),
        };
        if let Some(member) = member {
            self.insert(set, member, Member { reputation: 0, json: Some(json.into_boxed_str()) });
        }
    }

    fn insert(&mut self, set: usize, bytes: Vec<u8>, member: Member) {
        let Some(set) = self.sets.get_mut(set) else { return };
        let is_new = !set.members.contains_key(bytes.as_slice());
        if is_new && (set.members.len() >= set.members_max || bytes.len() > MEMBER_BYTES_MAX) {
            self.dropped += 1;
        } else {
            set.members.entry(bytes.into_boxed_slice()).or_insert(member);
        }
    }

    /// What is asked about `data`, as it is stored.
    fn key(kind: Kind, data: &[u8]) -> Option<Vec<u8>> {
        Some(match kind {
            Kind::String => data.to_vec(),
            // The digest itself, as transforms make it.
            Kind::Md5 => <[u8; 16]>::try_from(data).ok()?.to_vec(),
            Kind::Sha256 => <[u8; 32]>::try_from(data).ok()?.to_vec(),
            Kind::Ipv4 => <[u8; 4]>::try_from(data).ok()?.to_vec(),
            Kind::Ip => address_key(match data.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            }),
        })
    }

    /// Whether the use fits, and the context that belongs to the member.
    pub(crate) fn dataset(
        &mut self,
        dataset: &DatasetUse,
        data: &[u8],
    ) -> (bool, Option<(String, String)>) {
        let Some(set) = self.sets.get_mut(dataset.set) else { return (false, None) };
        let Some(key) = Self::key(set.kind, data) else {
            return (dataset.command == Command::IsNotSet, None);
        };
        let found = set.members.get(key.as_slice());
        let context = match (&dataset.context, found.and_then(|member| member.json.as_deref())) {
            (Some(name), Some(json)) => Some((name.clone(), json.to_owned())),
            _ => None,
        };
        let is_there = found.is_some();
        let is_match = match dataset.command {
            Command::IsSet => is_there,
            Command::IsNotSet => !is_there,
            Command::Set => {
                if !is_there {
                    self.insert(dataset.set, key, Member::default());
                }
                !is_there
            }
            Command::Unset => {
                set.members.remove(key.as_slice());
                is_there
            }
        };
        (is_match, context)
    }

    pub(crate) fn reputation(&self, reputation: &ReputationUse, data: &[u8]) -> bool {
        let Some(set) = self.sets.get(reputation.set) else { return false };
        let Some(key) = Self::key(set.kind, data) else { return false };
        set.members
            .get(key.as_slice())
            .is_some_and(|member| reputation.compare.fits(u64::from(member.reputation)))
    }
}

fn address_key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn member(kind: Kind, text: &str) -> Option<Vec<u8>> {
    match kind {
        Kind::String => base64ct::Base64::decode_vec(text).ok(),
        Kind::Md5 | Kind::Sha256 => {
            let width = if kind == Kind::Md5 { 32 } else { 64 };
            if text.len() != width || !text.is_ascii() {
                return None;
            }
            (0..width / 2)
                .map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok())
                .collect()
        }
        Kind::Ipv4 => text.parse::<std::net::Ipv4Addr>().ok().map(|ip| ip.octets().to_vec()),
        Kind::Ip => text.parse::<IpAddr>().ok().map(address_key),
    }
}

impl Sets {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sets.len()
    }

    /// Loads members with their JSON: lines of objects, or an array in an object.
    pub(crate) fn load_json(
        &mut self,
        set: usize,
        text: &str,
        source: &crate::config::Source,
    ) -> Result<(), String> {
        let values: Vec<serde_json::Value> =
            if source.format == "ndjson" || source.format == "jsonline" {
                text.lines()
                    .filter(|line| !line.trim().is_empty())
                    .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
                    .collect::<Result<_, _>>()?
            } else {
                let whole: serde_json::Value =
                    serde_json::from_str(text).map_err(|error| error.to_string())?;
                let array = match source.array_key.as_str() {
                    "" => Some(&whole),
                    path => at_path(&whole, path),
                };
                array
                    .and_then(serde_json::Value::as_array)
                    .ok_or_else(|| "no array in the file".to_owned())?
                    .clone()
            };
        for mut value in values {
            let Some(key) = at_path(&value, &source.value_key).and_then(serde_json::Value::as_str)
            else {
                continue;
            };
            let key = key.to_owned();
            if source.is_key_removed {
                remove_path(&mut value, &source.value_key);
            }
            self.add_json(set, &key, value.to_string());
        }
        Ok(())
    }
}

fn at_path<'v>(value: &'v serde_json::Value, path: &str) -> Option<&'v serde_json::Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

fn remove_path(value: &mut serde_json::Value, path: &str) {
    match path.split_once('.') {
        Some((key, rest)) => {
            if let Some(inner) = value.get_mut(key) {
                remove_path(inner, rest);
            }
        }
        None => {
            if let Some(map) = value.as_object_mut() {
                map.remove(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, DatasetUse, Kind, Sets};

    #[test]
    fn digests_are_asked_for_as_digests() {
        let mut sets = Sets::default();
        let set = sets.declare("a", Kind::Md5).unwrap();
        sets.load(set, "00112233445566778899aabbccddeeff\nshort\n");
        let digest = [
            0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
            0xff,
        ];
        let mut ask = |command, data: &[u8]| {
            sets.dataset(&DatasetUse { set, command, context: None }, data).0
        };
        assert!(ask(Command::IsSet, &digest) && !ask(Command::IsNotSet, &digest));
        assert!(!ask(Command::IsSet, b"text") && ask(Command::IsNotSet, b"text"));
        assert!(!ask(Command::Set, b"text"), "no digest is no member");
        assert_eq!(sets.kind_of("a"), Some(Kind::Md5));
        assert_eq!(sets.kind_of("b"), None);
    }
}
