//! `weird.log`: what should not be there, once for each flow and name.

use std::collections::BTreeSet;

use hookprobe_traffic::event::Event;

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
};

/// Pairs of a name and a source without a flow that are remembered; more are counted only.
const LONE_MAX: usize = 4096;
/// Names of one flow that are remembered.
const NAMES_MAX: usize = 64;
/// Who says it.
const PEER: &str = "hookprobe";

/// Ours and Zeek's name where both mean the same.
const ZEEK: &[(&str, &str)] = &[
    ("decoder.ipv4.pkt_too_small", "truncated_IP"),
    ("decoder.ipv6.pkt_too_small", "truncated_IP"),
    ("decoder.ipv4.trunc_pkt", "truncated_IP_len"),
    ("decoder.ipv6.trunc_pkt", "truncated_IP_len"),
    ("decoder.ipv4.iplen_smaller_than_hlen", "invalid_IP_header_size"),
    ("decoder.ipv4.hlen_too_small", "IPv4_min_header_size"),
    ("decoder.ipraw.invalid_ip_version", "unknown_ip_version"),
    ("decoder.tcp.pkt_too_small", "truncated_header"),
    ("decoder.udp.pkt_too_small", "truncated_header"),
    ("decoder.tcp.hlen_too_small", "bad_TCP_header_len"),
    ("decoder.ipv4.frag_overlap", "fragment_overlap"),
    ("decoder.ipv6.frag_overlap", "fragment_overlap"),
    ("decoder.too_many_layers", "max_packet_analyzer_depth_exceeded"),
    ("stream.reassembly_overlap_different_data", "rexmit_inconsistency"),
];

/// What was told, and what was not.
#[derive(Debug, Default)]
pub(super) struct Told {
    lone: BTreeSet<(&'static str, Option<std::net::IpAddr>)>,
    /// Anomalies not written because too many are remembered.
    pub(super) unwritten: u64,
}

/// A name and where it comes from: `decoder`, `stream` or the protocol.
pub(super) struct Weird<'a> {
    /// Full name.
    pub(super) name: &'static str,
    /// Source; none for those of packets.
    pub(super) source: Option<&'a str>,
}

impl Weird<'_> {
    pub(super) fn of_packet(event: Event) -> Self {
        Self { name: event.name(), source: None }
    }
}

impl Told {
    /// Writes a line unless this was told.
    pub(super) fn tell(
        &mut self,
        now_ns: u64,
        ident: Option<&Ident>,
        seen: Option<&mut Vec<&'static str>>,
        weird: &Weird<'_>,
        files: &mut Files,
    ) {
        let is_new = match seen {
            Some(names) if names.contains(&weird.name) => return,
            Some(names) if names.len() < NAMES_MAX => {
                names.push(weird.name);
                true
            }
            Some(_) => false,
            None => {
                let key = (weird.name, ident.map(|ident| ident.orig_h));
                if self.lone.contains(&key) {
                    return;
                }
                self.lone.len() < LONE_MAX && self.lone.insert(key)
            }
        };
        if !is_new {
            self.unwritten += 1;
            return;
        }
        let name =
            ZEEK.iter().find(|(ours, _)| *ours == weird.name).map_or(weird.name, |pair| pair.1);
        let columns = match ident {
            Some(ident) => ident.columns(now_ns),
            None => [
                Value::Time(now_ns),
                Value::Unset,
                Value::Unset,
                Value::Unset,
                Value::Unset,
                Value::Unset,
            ],
        };
        let [ts, uid, orig_h, orig_p, resp_h, resp_p] = columns;
        // Without a flow the name of one is not known.
        let uid = if ident.is_some_and(|ident| ident.uid.is_empty()) { Value::Unset } else { uid };
        files.row(
            Kind::Weird,
            now_ns,
            &[
                ts,
                uid,
                orig_h,
                orig_p,
                resp_h,
                resp_p,
                Value::word(name),
                Value::Unset,
                Value::Bool(false),
                Value::word(PEER),
                weird.source.map_or(Value::Unset, Value::word),
            ],
        );
    }
}
