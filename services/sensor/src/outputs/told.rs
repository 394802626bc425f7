//! From what a rule says and where it matched to what outputs take.

use crate::outputs::json::{Object, Value, json};
use hookprobe_rules::{
    Alert, Detector, Rule,
    detector::DropReason,
    rule::{Action, RejectTarget},
};
use hookprobe_traffic::{
    engine::{View, exception},
    flow::{Fate, Flow},
};

use super::eve::{Place, Signature};

/// What a rule says of itself, for an alert of it. `is_inline`: packets are dropped indeed.
#[must_use]
pub fn signature<'a>(rule: &'a Rule, alert: &'a Alert, is_inline: bool) -> Signature<'a> {
    Signature {
        gid: rule.gid,
        sid: rule.sid,
        rev: rule.rev,
        message: &rule.message,
        category: &rule.category,
        priority: rule.priority,
        metadata: &rule.metadata,
        references: &rule.references,
        contexts: &alert.contexts,
        target: rule.target,
        text: rule.text.as_deref(),
        is_blocked: match alert.action {
            Action::Reject(_) => true,
            // A rate filter says so even where nothing is dropped.
            Action::Drop => is_inline || rule.action != Action::Drop,
            Action::Alert | Action::Pass => false,
        },
    }
}

/// Where an alert belongs.
#[must_use]
pub fn place<'v, 'a>(view: &'v View<'_, 'a>, alert: &Alert) -> Place<'v, 'a> {
    Place {
        packet: view.packet,
        flow: view.flow.as_deref(),
        direction: view.direction,
        tx_id: alert.tx_id,
        is_tx_guessed: alert.is_tx_guessed,
        is_stream: alert.is_stream,
        outer: view.outer,
    }
}

/// Where a packet is told of that no rule matched: one that follows an alert.
#[must_use]
pub fn place_of<'v, 'a>(view: &'v View<'_, 'a>) -> Place<'v, 'a> {
    Place {
        packet: view.packet,
        flow: view.flow.as_deref(),
        direction: view.direction,
        tx_id: None,
        is_tx_guessed: false,
        is_stream: false,
        outer: view.outer,
    }
}

/// Suricata's word for why a packet is dropped.
#[must_use]
pub fn drop_reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Rules => "rules",
        DropReason::Threshold => "threshold detection_filter",
        DropReason::Flow => "flow drop",
        DropReason::ExceptionFlow => "exception policy flow drop",
        DropReason::Exception(exception::DEFRAG_MEMORY) => "defrag memcap",
        DropReason::Exception(exception::SESSION_MEMORY) => "stream memcap",
        DropReason::Exception(exception::REASSEMBLY_MEMORY) => "stream reassembly",
        DropReason::Exception(exception::FLOW_MEMORY) => "flow memcap",
        DropReason::Exception(exception::MIDSTREAM) => "stream midstream",
        DropReason::Exception(exception::INVALID) => "stream error",
        DropReason::Exception(exception::URGENT) => "stream urgent",
        DropReason::Exception(_) => "applayer error",
    }
}

/// Suricata's word for who is told of a rejection.
#[must_use]
pub fn reject_target(target: RejectTarget) -> &'static str {
    match target {
        RejectTarget::Source => "to_client",
        RejectTarget::Destination => "to_server",
        RejectTarget::Both => "both",
    }
}

/// The `verdict` object: what became of a packet in the end.
#[must_use]
pub fn verdict(detector: &Detector, view: &View<'_, '_>) -> Value {
    let verdict = detector.verdict();
    let action = if verdict.drop.is_some() && detector.is_inline() {
        "drop"
    } else if verdict.is_passed {
        "pass"
    } else {
        "alert"
    };
    match verdict.reject {
        Some(target) => json!({
            "action": action,
            "reject-target": reject_target(target),
            "reject": [if view.packet.protocol() == Some(6) { "tcp-reset" } else { "icmp-prohib" }],
        }),
        None => json!({ "action": action }),
    }
}

/// `metadata` and `traffic`: what rules set in a flow and captured of a packet. Bits whose names begin
/// with `traffic/` are labels.
#[must_use]
pub fn metadata(
    detector: &Detector,
    flow: Option<&Flow>,
    packet: &[(String, Vec<u8>)],
) -> Option<Object> {
    let mut out = Object::new();
    let bits = flow.map(|flow| detector.flow_bits(flow.slot)).unwrap_or_default();
    let names: Vec<&&str> = bits.iter().filter(|bit| !bit.starts_with("traffic/")).collect();
    if !names.is_empty() {
        out.insert("flowbits".into(), json!(names));
    }
    let numbers = flow.map(|flow| detector.flow_numbers(flow.slot)).unwrap_or_default();
    if !numbers.is_empty() {
        let mut list = Object::new();
        for (name, value) in numbers {
            list.insert(name.to_owned().into(), json!(value));
        }
        out.insert("flowints".into(), Value::Object(list));
    }
    let is_counted = flow.is_some_and(|flow| detector.is_flow_counted(flow.slot));
    let flow = list(flow.map(|flow| detector.flow_variables(flow.slot)).unwrap_or_default());
    for (name, list) in [("flowvars", flow), ("pktvars", list(packet))] {
        if !list.is_empty() {
            out.insert(name.into(), Value::Array(list));
        }
    }
    // A label or a count of the flow is a variable without a name: it leaves the object empty.
    if out.is_empty() && bits.is_empty() && !is_counted {
        return None;
    }
    let mut all = Object::new();
    all.insert("metadata".into(), Value::Object(out));
    if let Some(traffic) = traffic(&bits) {
        all.insert("traffic".into(), traffic);
    }
    Some(all)
}

/// The `traffic` object: labels that rules gave a flow.
fn traffic(bits: &[&str]) -> Option<Value> {
    let mut out = Object::new();
    for kind in ["id", "label"] {
        let prefix = format!("traffic/{kind}/");
        let names: Vec<&str> =
            bits.iter().filter_map(|bit| bit.strip_prefix(prefix.as_str())).collect();
        if !names.is_empty() {
            out.insert(kind.into(), json!(names));
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// What the `flow` object of a flow that ends has from the rules.
#[must_use]
pub fn flow_end(detector: &Detector, flow: &Flow) -> Object {
    let (_, is_dropped, is_passed) = detector.flow_marks(flow.slot);
    let mut out = Object::new();
    if is_dropped || is_passed {
        out.insert("action".into(), json!(if is_dropped { "drop" } else { "pass" }));
    }
    let policies: Vec<Value> = detector
        .flow_exceptions(flow.slot)
        .map(|(target, policy)| json!({ "target": target, "policy": policy.name() }))
        .collect();
    if !policies.is_empty() {
        out.insert("exception_policy".into(), json!(policies));
    }
    if flow.fate == Fate::Bypassed {
        out.insert("state".into(), Value::word("bypassed"));
        out.insert("bypass".into(), Value::word("local"));
        // Nobody but us lets packets pass, and we count them with the others.
        let none = ["pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient"];
        let none = none.map(|name| (name.to_owned(), json!(0)));
        out.insert("bypassed".into(), Value::Object(Object::from_iter(none)));
    }
    out
}

/// Objects of one key each.
fn list(variables: &[(String, Vec<u8>)]) -> Vec<Value> {
    let objects = variables.iter().map(|(name, value)| {
        let mut object = Object::new();
        object.insert(name.clone().into(), json!(String::from_utf8_lossy(value)));
        Value::Object(object)
    });
    objects.collect()
}
