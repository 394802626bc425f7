//! Records of EVE held against each other: matched by type, ends and rule, the closest first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Map, Value};

/// Fields that two engines can't have in common.
const IGNORED: [&str; 4] = [
    // Numbers that each engine draws for itself.
    "flow_id",
    "parent_id",
    // Where packets came from: an interface, the name of a file.
    "in_iface",
    "pcap_filename",
];
/// Records that are not compared: counters of an engine's inside, and its log.
const IGNORED_TYPES: [&str; 2] = ["stats", "engine"];
/// Records whose time is that at which the engine noticed that a flow was over.
const TIMELESS: [&str; 2] = ["flow", "netflow"];
/// Records of one group up to which every pair is tried; of larger ones they are taken in order.
const PAIRS_MAX: usize = 60;

/// What became of one type of event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) equal: u64,
    pub(super) differ: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
    /// How often which field differs.
    pub(super) fields: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        let Self { equal, differ, missing, extra, fields } = other;
        self.equal += equal;
        self.differ += differ;
        self.missing += missing;
        self.extra += extra;
        for (name, count) in fields {
            *self.fields.entry(name).or_default() += count;
        }
    }
}

/// What became of the records of one test.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) by_type: BTreeMap<String, Tally>,
}

/// Records of a file; none without one.
pub(super) fn read(path: &Path) -> Vec<Value> {
    let text = fs::read(path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| prepared(serde_json::from_slice(line).ok()?)).collect()
}

/// Without what can't be equal; `None` for records that are not compared.
fn prepared(mut record: Value) -> Option<Value> {
    let kind = record.get("event_type")?.as_str()?.to_owned();
    if IGNORED_TYPES.contains(&kind.as_str()) {
        return None;
    }
    let object = record.as_object_mut()?;
    for name in IGNORED {
        object.remove(name);
    }
    if TIMELESS.contains(&kind.as_str()) {
        object.remove("timestamp");
    }
    Some(record)
}

/// Type, both ends in any order, and the rule.
fn key(record: &Value) -> (String, [String; 2], u64) {
    let text = |name: &str| record.get(name).map(Value::to_string).unwrap_or_default();
    let mut ends = [
        format!("{} {}", text("src_ip"), text("src_port")),
        format!("{} {}", text("dest_ip"), text("dest_port")),
    ];
    ends.sort();
    let kind = record.get("event_type").and_then(Value::as_str).unwrap_or_default();
    let sid = record.pointer("/alert/signature_id").and_then(Value::as_u64);
    // A drop names its rule or not.
    let sid = sid.filter(|_| kind == "alert").unwrap_or_default();
    (kind.to_owned(), ends, sid)
}

/// Matches the records of both.
pub(super) fn compare(theirs: &[Value], ours: &[Value]) -> Comparison {
    let mut groups: BTreeMap<_, [Vec<&Value>; 2]> = BTreeMap::new();
    for record in theirs {
        let [theirs, _] = groups.entry(key(record)).or_default();
        theirs.push(record);
    }
    for record in ours {
        let [_, ours] = groups.entry(key(record)).or_default();
        ours.push(record);
    }
    let mut out = Comparison::default();
    for ((kind, ..), [theirs, ours]) in groups {
        out.by_type.entry(kind).or_default().add(matched(theirs, ours));
    }
    out
}

fn matched(theirs: Vec<&Value>, mut ours: Vec<&Value>) -> Tally {
    let mut tally = Tally::default();
    let mut left = Vec::new();
    for record in theirs {
        match ours.iter().position(|own| *own == record) {
            Some(at) => {
                ours.remove(at);
                tally.equal += 1;
            }
            None => left.push(record),
        }
    }
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (at, record) in left.iter().enumerate() {
        for (own_at, own) in ours.iter().enumerate() {
            if left.len().max(ours.len()) <= PAIRS_MAX {
                pairs.push((differences(record, own).len(), at, own_at));
            } else if at == own_at {
                pairs.push((0, at, own_at));
            }
        }
    }
    pairs.sort_unstable();
    let (mut taken, mut own_taken) = (BTreeSet::new(), BTreeSet::new());
    for (_, at, own_at) in pairs {
        if taken.contains(&at) || own_taken.contains(&own_at) {
            continue;
        }
        taken.insert(at);
        own_taken.insert(own_at);
        tally.differ += 1;
        if let (Some(record), Some(own)) = (left.get(at), ours.get(own_at)) {
            for field in differences(record, own) {
                *tally.fields.entry(field).or_default() += 1;
            }
        }
    }
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    tally.missing = count(left.len() - taken.len());
    tally.extra = count(ours.len() - own_taken.len());
    tally
}

/// Paths of fields that are not the same in both.
fn differences(theirs: &Value, ours: &Value) -> BTreeSet<String> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    flatten(theirs, "", &mut left);
    flatten(ours, "", &mut right);
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differ = |name: &&&String| left.get(**name) != right.get(**name);
    names.iter().filter(differ).map(|name| (*name).clone()).collect()
}

/// Leaves by their paths; a list of objects has one path for each of its fields.
fn flatten<'v>(value: &'v Value, path: &str, out: &mut BTreeMap<String, Vec<&'v Value>>) {
    let fields = |object: &'v Map<String, Value>, out: &mut BTreeMap<String, Vec<&'v Value>>| {
        for (name, value) in object {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            flatten(value, &path, out);
        }
    };
    match value {
        Value::Object(object) if !object.is_empty() => fields(object, out),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for item in list {
                match item {
                    Value::Object(object) => fields(object, out),
                    other => out.entry(path.to_owned()).or_default().push(other),
                }
            }
        }
        other => out.entry(path.to_owned()).or_default().push(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_closest_match() {
        let record = |port: u16, id: u64, url: &str| {
            prepared(json!({
                "event_type": "http", "flow_id": id, "src_ip": "a", "src_port": port,
                "dest_ip": "b", "dest_port": 80, "http": { "url": url, "list": [{ "x": 1 }] },
            }))
            .unwrap()
        };
        let theirs = [record(1, 7, "/a"), record(1, 7, "/b"), record(2, 8, "/c")];
        let ours = [record(1, 9, "/x"), record(1, 9, "/a"), record(3, 9, "/c")];
        let found = compare(&theirs, &ours);
        let expect = Tally {
            equal: 1,
            differ: 1,
            missing: 1,
            extra: 1,
            fields: [("http.url".to_owned(), 1)].into(),
        };
        assert_eq!(found.by_type["http"], expect);
        assert_eq!(prepared(json!({ "event_type": "stats" })), None);
    }
}
