//! EVE JSON lines, as Suricata writes them and its ecosystem reads them.

use serde_json::{Map, Value, json};

use super::flows::Flow;
use crate::core::{Finding, address::to_ip};

/// EVE's severity of a scan: 1 is worst, 3 is least.
const SEVERITY: u8 = 2;
const NS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// One alert, without the newline.
#[must_use]
pub fn alert(finding: &Finding) -> String {
    let mut metadata = Map::new();
    metadata.insert("detector".into(), json!([finding.detector]));
    for (name, value) in &finding.evidence {
        metadata.insert((*name).into(), json!([value.to_string()]));
    }
    metadata.insert("first_seen".into(), json!([timestamp(finding.first_ns)]));
    let mut event = Map::new();
    event.insert("timestamp".into(), json!(timestamp(finding.decided_ns)));
    event.insert("event_type".into(), json!("alert"));
    event.insert("src_ip".into(), json!(to_ip(&finding.source)));
    if let Some(destination) = &finding.destination {
        event.insert("dest_ip".into(), json!(to_ip(destination)));
    }
    event.insert("proto".into(), json!("TCP"));
    event.insert(
        "alert".into(),
        json!({
            "action": "allowed",
            "signature": format!("HookProbe {}: {}", finding.detector, finding.summary),
            "category": "Attempted Information Leak",
            "severity": SEVERITY,
            "metadata": metadata,
        }),
    );
    Value::Object(event).to_string()
}

/// One conversation, without the newline.
#[must_use]
pub fn flow(flow: &Flow) -> String {
    let mut event = Map::new();
    event.insert("timestamp".into(), json!(timestamp(flow.last_ns)));
    event.insert("event_type".into(), json!("flow"));
    event.insert("src_ip".into(), json!(to_ip(&flow.key.source)));
    event.insert("dest_ip".into(), json!(to_ip(&flow.key.destination)));
    let protocol = protocol_name(flow.key.protocol);
    event.insert("proto".into(), json!(protocol));
    match protocol.as_str() {
        "TCP" | "UDP" => {
            event.insert("src_port".into(), json!(flow.key.source_port));
            event.insert("dest_port".into(), json!(flow.key.destination_port));
        }
        "ICMP" | "IPv6-ICMP" => {
            event.insert("icmp_type".into(), json!(flow.key.source_port));
            event.insert("icmp_code".into(), json!(flow.key.destination_port));
        }
        _ => {}
    }
    let ([packets_there, packets_back], [bytes_there, bytes_back]) = (flow.packets, flow.bytes);
    let age_ns = flow.last_ns.saturating_sub(flow.first_ns);
    event.insert(
        "flow".into(),
        json!({
            "pkts_toserver": packets_there,
            "pkts_toclient": packets_back,
            "bytes_toserver": bytes_there,
            "bytes_toclient": bytes_back,
            "start": timestamp(flow.first_ns),
            "end": timestamp(flow.last_ns),
            "age": age_ns / NS_PER_SECOND,
        }),
    );
    if protocol == "TCP" {
        let flags = format!("{:02x}", flow.tcp_flags);
        event.insert("tcp".into(), json!({ "tcp_flags": flags }));
    }
    Value::Object(event).to_string()
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "IPv6-ICMP".into(),
        other => format!("{other:03}"),
    }
}

/// `2026-01-02T03:04:05.678901+0000`.
#[must_use]
pub fn timestamp(ns: u64) -> String {
    let seconds = ns / NS_PER_SECOND;
    let micros = ns % NS_PER_SECOND / 1000;
    let (mut year, mut day) = (1970, seconds / SECONDS_PER_DAY);
    // At most 584 rounds: more nanoseconds do not fit a u64.
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    for days in days_of_months(year) {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let in_day = seconds % SECONDS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}+0000",
        day + 1,
        in_day / 3600,
        in_day / 60 % 60,
        in_day % 60,
    )
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_months(year: u64) -> [u64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000+0000");
        let check = |seconds: u64, expect: &str| {
            assert_eq!(timestamp(seconds * NS_PER_SECOND + 1999), expect);
        };
        check(951_782_400, "2000-02-29T00:00:00.000001+0000");
        check(1_709_251_199, "2024-02-29T23:59:59.000001+0000");
        check(1_735_689_599, "2024-12-31T23:59:59.000001+0000");
        assert_eq!(timestamp(u64::MAX), "2554-07-21T23:34:33.709551+0000");
    }
}
