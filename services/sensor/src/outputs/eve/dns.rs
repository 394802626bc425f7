//! DNS messages as EVE has them since version 3: one event for each message, queries in a list.

use std::net::Ipv4Addr;

use crate::outputs::json::{Object, Value, json};
use hookprobe_traffic::app::dns::{
    Message, Name, Query, RData, Record, Soa, Tx, rcode_name, type_name,
};

use super::text::{hex, ipv6, text};

/// Version of the format.
const VERSION: u8 = 3;

/// The `dns` object of a message.
#[must_use]
pub(super) fn dns(tx: &Tx) -> Value {
    let message = &tx.message;
    let mut out = Object::new();
    out.insert("version".into(), json!(VERSION));
    out.insert("type".into(), json!(kind(message)));
    out.insert("tx_id".into(), json!(tx.id));
    out.insert("id".into(), json!(message.id));
    flags(message, &mut out);
    out.insert("opcode".into(), json!(message.opcode()));
    out.insert("rcode".into(), json!(rcode(message)));
    sections(message, &mut out);
    Value::Object(out)
}

/// The `dns` objects of version 2: one for each query, one for an answer.
#[must_use]
pub(super) fn dns_2(tx: &Tx) -> Vec<Value> {
    let message = &tx.message;
    if !message.is_response() {
        return message.queries.iter().map(|query| query_2(tx, query)).collect();
    }
    let mut out = Object::new();
    out.insert("version".into(), json!(2));
    out.insert("type".into(), Value::word("answer"));
    out.insert("id".into(), json!(message.id));
    flags(message, &mut out);
    out.insert("opcode".into(), json!(message.opcode()));
    out.insert("rcode".into(), json!(rcode(message)));
    sections(message, &mut out);
    out.remove("queries");
    if let Some(query) = message.queries.first() {
        out.extend(named(&query.name, "rrname"));
        out.insert("rrtype".into(), json!(rrtype(query.rtype)));
    }
    vec![Value::Object(out)]
}

fn query_2(tx: &Tx, query: &Query) -> Value {
    let mut out = named(&query.name, "rrname");
    out.insert("version".into(), json!(2));
    out.insert("type".into(), Value::word("query"));
    out.insert("id".into(), json!(tx.message.id));
    out.insert("rrtype".into(), json!(rrtype(query.rtype)));
    out.insert("tx_id".into(), json!(tx.id));
    if tx.message.flags & 0x40 != 0 {
        out.insert("z".into(), json!(true));
    }
    out.insert("opcode".into(), json!(tx.message.opcode()));
    Value::Object(out)
}

/// The `mdns` object: the same in other words, names of types in lower case.
#[must_use]
pub(super) fn mdns(tx: &Tx) -> Value {
    let message = &tx.message;
    let mut out = Object::new();
    out.insert("type".into(), json!(kind(message)));
    out.insert("id".into(), json!(message.id));
    if message.is_response() {
        flags(message, &mut out);
    }
    out.insert("opcode".into(), json!(message.opcode()));
    out.insert("rcode".into(), json!(message.rcode()));
    sections(message, &mut out);
    for section in ["queries", "answers", "authorities", "additionals"] {
        let records = out.get_mut(section).and_then(Value::as_array_mut).into_iter().flatten();
        for rrtype in records.filter_map(|record| record.get_mut("rrtype")) {
            let lower = rrtype.as_str().unwrap_or_default().to_ascii_lowercase();
            *rrtype = json!(lower);
        }
    }
    out.remove("grouped");
    Value::Object(out)
}

fn kind(message: &Message) -> &'static str {
    if message.is_response() { "response" } else { "request" }
}

fn flags(message: &Message, out: &mut Object) {
    out.insert("flags".into(), json!(format!("{:x}", message.flags)));
    for (name, is_set) in [
        ("qr", message.is_response()),
        ("aa", message.is_authoritative()),
        ("tc", message.has_tc()),
        ("rd", message.is_recursion_desired()),
        ("ra", message.is_recursion_available()),
        ("z", message.flags & 0x40 != 0),
    ] {
        if is_set {
            out.insert(name.into(), json!(true));
        }
    }
}

fn rcode(message: &Message) -> String {
    let rcode = message.rcode();
    rcode_name(rcode).map_or_else(|| rcode.to_string(), str::to_owned)
}

fn rrtype(number: u16) -> String {
    // CAA has no name in EVE.
    const CAA: u16 = 257;
    type_name(number).filter(|_| number != CAA).map_or_else(|| number.to_string(), str::to_owned)
}

fn sections(message: &Message, out: &mut Object) {
    if !message.queries.is_empty() {
        let queries = message.queries.iter().map(|query| {
            let mut entry = named(&query.name, "rrname");
            entry.insert("rrtype".into(), json!(rrtype(query.rtype)));
            Value::Object(entry)
        });
        out.insert("queries".into(), queries.collect());
    }
    if !message.answers.is_empty() {
        out.insert("answers".into(), message.answers.iter().flat_map(entries).collect());
        out.insert("grouped".into(), Value::Object(grouped(&message.answers)));
    }
    if !message.authorities.is_empty() {
        out.insert("authorities".into(), message.authorities.iter().flat_map(entries).collect());
    }
    let additionals: Vec<Value> = message
        .additionals
        .iter()
        // EDNS without an option says nothing.
        .filter(|record| record.data != RData::Opt(Vec::new()))
        .flat_map(entries)
        .collect();
    if !additionals.is_empty() {
        out.insert("additionals".into(), json!(additionals));
    }
}

/// A name, and that it was cut.
fn named(name: &Name, key: &'static str) -> Object {
    let mut out = Object::new();
    out.insert(key.into(), json!(text(&name.text)));
    if name.is_truncated {
        out.insert(format!("{key}_truncated").into(), json!(true));
    }
    out
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// Types whose data EVE does not show though others of the same form are shown: DNAME and SPF.
const fn is_plain(record: &Record) -> bool {
    matches!(record.rtype, 39 | 99)
}

/// One entry for each record, for each string of a text.
fn entries(record: &Record) -> Vec<Value> {
    let mut head = named(&record.name, "rrname");
    head.insert("rrtype".into(), json!(rrtype(record.rtype)));
    head.insert("ttl".into(), json!(record.ttl_s));
    let with = |key: &'static str, value: Value| {
        let mut entry = head.clone();
        entry.insert(key.into(), value);
        vec![Value::Object(entry)]
    };
    match &record.data {
        _ if is_plain(record) => vec![Value::Object(head)],
        // An address of another length than addresses have.
        RData::Other(_) if matches!(record.rtype, A | AAAA) => with("rdata", Value::word("")),
        RData::Txt(strings) => {
            strings.iter().flat_map(|string| with("rdata", json!(text(string)))).collect()
        }
        RData::Soa(soa) => with("soa", self::soa(soa)),
        RData::Sshfp { .. } => with("sshfp", data(&record.data).unwrap_or_default()),
        RData::Srv { .. } => with("srv", data(&record.data).unwrap_or_default()),
        RData::Opt(options) => {
            let options = options
                .iter()
                .map(|(code, data)| json!({ "code": code, "data": hex(data, "") }))
                .collect();
            with("opt", options)
        }
        RData::Name(name) | RData::Mx { exchange: name, .. } => {
            head.extend(named(name, "rdata"));
            vec![Value::Object(head)]
        }
        RData::A(_) | RData::Aaaa(_) | RData::Null(_) => {
            with("rdata", data(&record.data).unwrap_or_default())
        }
        RData::Caa { .. } | RData::Naptr(_) | RData::Svcb { .. } | RData::Other(_) => {
            vec![Value::Object(head)]
        }
    }
}

/// The data alone, where it is one thing.
fn data(data: &RData) -> Option<Value> {
    match data {
        RData::A(address) => Some(json!(Ipv4Addr::from(*address).to_string())),
        RData::Aaaa(address) => Some(json!(ipv6((*address).into()))),
        RData::Name(name) | RData::Mx { exchange: name, .. } => Some(json!(text(&name.text))),
        RData::Null(bytes) => Some(json!(text(bytes))),
        RData::Soa(soa) => Some(self::soa(soa)),
        RData::Sshfp { algorithm, kind, fingerprint } => Some(json!({
            "fingerprint": hex(fingerprint, ":"),
            "algo": algorithm,
            "type": kind,
        })),
        RData::Srv { priority, weight, port, target } => Some(json!({
            "priority": priority,
            "weight": weight,
            "port": port,
            "name": text(&target.text),
        })),
        RData::Txt(_)
        | RData::Caa { .. }
        | RData::Naptr(_)
        | RData::Svcb { .. }
        | RData::Opt(_)
        | RData::Other(_) => None,
    }
}

/// Data of the answers by type.
fn grouped(answers: &[Record]) -> Object {
    let mut out = Object::new();
    for answer in answers {
        let values = match &answer.data {
            _ if is_plain(answer) => continue,
            RData::Other(_) if matches!(answer.rtype, A | AAAA) => vec![Value::word("")],
            RData::Txt(strings) => strings.iter().map(|string| json!(text(string))).collect(),
            other => data(other).into_iter().collect::<Vec<_>>(),
        };
        if values.is_empty() {
            continue;
        }
        let list = out.or_insert_with(rrtype(answer.rtype), || json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(values);
        }
    }
    out
}

fn soa(soa: &Soa) -> Value {
    let mut out = named(&soa.mname, "mname");
    out.extend(named(&soa.rname, "rname"));
    for (name, number) in [
        ("serial", soa.serial),
        ("refresh", soa.refresh_s),
        ("retry", soa.retry_s),
        ("expire", soa.expire_s),
        ("minimum", soa.minimum_s),
    ] {
        out.insert(name.into(), json!(number));
    }
    Value::Object(out)
}
