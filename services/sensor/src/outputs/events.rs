//! Alerts as events of the ledger: what a rule or a detector is convinced of, in the words of
//! `hookprobe_wire`, with a reference by which the packets are found again.
//!
//! Pure; replay and live call it alike, so that the same traffic gives the same events. Bytes that
//! a peer chose stand only in the summary, escaped. How bad an alert is decides what `response` may
//! do about it (it answers scans of `Severity::Warn` and above): a rule is never worse than
//! [`Severity::Warn`] unless its priority is 1, a detector that has harmless explanations never
//! better than [`Severity::Info`].

use std::net::IpAddr;

use crate::outputs::json::Value;
use hookprobe_behaviour::finding::{Finding, Weight};
use hookprobe_traffic::{Direction, flow::Flow};
use hookprobe_wire::{
    Hash, Severity,
    event::{Alert, EVIDENCE_MAX, Evidence, Reference, Rule},
    text,
};
use sha2::{Digest as _, Sha256};

use super::eve::{
    Place, Signature,
    base::{self, Tuple},
};

/// Longest summary, in characters: a line of the console.
const SUMMARY_CHARS_MAX: usize = 160;
/// Name of the detector in alerts of rules.
pub const RULE: &str = "rule";

/// Who an alert of a rule is about; `None` for a packet that is no IP.
#[must_use]
pub fn source(place: &Place<'_, '_>) -> Option<IpAddr> {
    tuple(place).map(|tuple| tuple.source)
}

fn tuple(place: &Place<'_, '_>) -> Option<Tuple> {
    Tuple::of_packet(place.packet)
        .or_else(|| place.flow.map(|flow| Tuple::of_flow(flow, place.direction)))
}

/// How bad the alert of a rule is.
#[must_use]
pub fn rule_severity(priority: u8) -> Severity {
    match priority {
        0 | 1 => Severity::Critical,
        2 => Severity::Warn,
        _ => Severity::Info,
    }
}

/// The event for the alert of a rule; `record` is what was written to EVE. `None` for a packet that
/// is no IP: an alert has a source.
#[must_use]
pub fn of_rule(
    signature: &Signature<'_>,
    place: &Place<'_, '_>,
    interface: &str,
    record: Option<&Value>,
) -> Option<Alert> {
    let tuple = tuple(place)?;
    let mut evidence = vec![number("sid", u64::from(signature.sid))];
    if let Some(tx) = place.tx_id {
        evidence.push(number("transaction", tx));
    }
    evidence.push(number("packet", place.packet.number));
    if let Some(flow) = place.flow {
        for (name, direction) in
            [("packets_to_server", Direction::ToServer), ("packets_to_client", Direction::ToClient)]
        {
            evidence.push(number(name, flow.side(direction).packets));
        }
    }
    Some(Alert {
        detector: RULE.into(),
        severity: rule_severity(signature.priority),
        source: tuple.source,
        interface: interface.to_owned(),
        summary: summary(signature.message),
        evidence,
        first_ns: place.flow.map_or(place.packet.time_ns, |flow| flow.first_ns),
        decided_ns: place.packet.time_ns,
        drill: false,
        reference: Some(Box::new(Reference {
            community_id: place.flow.map(base::community),
            destination: Some(tuple.destination),
            ports: tuple.ports.unwrap_or_default(),
            protocol: tuple.protocol,
            rule: Some(Rule { gid: signature.gid, sid: signature.sid, rev: signature.rev }),
            record: record.map(digest),
        })),
    })
}

/// The event for what a detector found.
#[must_use]
pub fn of_finding(finding: &Finding, interface: &str, record: Option<&Value>) -> Alert {
    let named = finding.evidence.iter().take(EVIDENCE_MAX);
    Alert {
        detector: finding.detector.into(),
        severity: severity(finding.weight),
        source: finding.source,
        interface: interface.to_owned(),
        summary: summary(&finding.summary),
        evidence: named.map(|(name, value)| number(name, *value)).collect(),
        first_ns: finding.first_ns,
        decided_ns: finding.decided_ns,
        drill: false,
        reference: Some(Box::new(Reference {
            // About a host, not about one flow.
            community_id: None,
            destination: finding.destination,
            ports: (0, finding.port.unwrap_or(0)),
            protocol: 0,
            rule: None,
            record: record.map(digest),
        })),
    }
}

/// How bad what a detector found is: only a conviction may be acted upon.
#[must_use]
pub fn severity(weight: Weight) -> Severity {
    match weight {
        Weight::Conviction => Severity::Warn,
        Weight::Suspicion | Weight::Anomaly => Severity::Info,
    }
}

/// The hash by which the ledger vouches for a line of EVE: SHA-256 of its bytes without the line
/// end.
#[must_use]
pub fn digest(record: &Value) -> Hash {
    Hash::new(Sha256::digest(record.to_string()).into())
}

fn number(name: &str, value: u64) -> Evidence {
    Evidence { name: name.to_owned(), value }
}

fn summary(text: &str) -> String {
    text::escape(text, SUMMARY_CHARS_MAX)
}

/// The name of a flow in every tool, for callers that have no alert.
#[must_use]
pub fn community_id(flow: &Flow) -> String {
    base::community(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(weight: Weight) -> Finding {
        Finding::new(
            "scan.vertical",
            "T1046",
            weight,
            "192.0.2.9".parse().unwrap(),
            "tries 412 ports\nof one host".into(),
        )
        .against(Some("192.0.2.1".parse().unwrap()), None)
        .because(vec![("ports", 412)])
        .during(5, 9)
    }

    #[test]
    fn findings_keep_their_numbers_and_their_record() {
        let record = crate::outputs::json::json!({ "event_type": "alert" });
        let alert = of_finding(&found(Weight::Conviction), "eth0", Some(&record));
        assert_eq!((alert.detector.as_str(), alert.severity), ("scan.vertical", Severity::Warn));
        assert_eq!(alert.summary, "tries 412 ports\\u{a}of one host");
        assert_eq!(alert.evidence, [number("ports", 412)]);
        assert_eq!((alert.first_ns, alert.decided_ns), (5, 9));
        let reference = alert.reference.unwrap();
        assert_eq!(reference.destination, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(reference.record, Some(digest(&record)));
        assert_eq!(reference.rule, None);
    }

    #[test]
    fn what_has_harmless_explanations_is_never_answered() {
        for weight in [Weight::Suspicion, Weight::Anomaly] {
            let alert = of_finding(&found(weight), "eth0", None);
            assert_eq!(alert.severity, Severity::Info);
        }
    }

    #[test]
    fn more_numbers_than_the_wire_takes_are_cut() {
        let mut finding = found(Weight::Anomaly);
        finding.evidence = vec![("n", 1); EVIDENCE_MAX + 5];
        assert_eq!(of_finding(&finding, "eth0", None).evidence.len(), EVIDENCE_MAX);
    }
}
