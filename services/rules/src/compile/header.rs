//! Action and header of a rule.

use hookprobe_traffic::app::Proto;

use super::{Groups, RuleError};
use crate::{
    address::Variables,
    rule::{Action, AppName, Header, RejectTarget, Scope, Transports},
    syntax::{Arrow, RawRule},
};

pub(super) fn action(text: &str) -> Result<(Action, Scope), RuleError> {
    let (name, scope) = match text.split_once(':') {
        Some((name, "packet")) => (name, Scope::Packet),
        Some((name, "flow")) => (name, Scope::Flow),
        Some(_) => return Err(RuleError::Action(text.to_owned())),
        None => (text, Scope::Auto),
    };
    let action = match name {
        "alert" => Action::Alert,
        "drop" => Action::Drop,
        "reject" | "rejectsrc" => Action::Reject(RejectTarget::Source),
        "rejectdst" => Action::Reject(RejectTarget::Destination),
        "rejectboth" => Action::Reject(RejectTarget::Both),
        "pass" => Action::Pass,
        _ => return Err(RuleError::Action(text.to_owned())),
    };
    Ok((action, scope))
}

pub(super) fn header(
    raw: &RawRule,
    variables: &Variables,
    groups: &mut Groups,
) -> Result<(Header, Option<AppName>), RuleError> {
    let (transports, app) = protocol(&raw.protocol)?;
    let source = groups.addresses(&raw.source, variables)?;
    let source_ports = groups.ports(&raw.source_port, variables)?;
    let destination = groups.addresses(&raw.destination, variables)?;
    let destination_ports = groups.ports(&raw.destination_port, variables)?;
    let header = Header {
        transports,
        is_both_ways: raw.arrow == Arrow::Both,
        is_any: source.is_any()
            && destination.is_any()
            && source_ports.is_any()
            && destination_ports.is_any(),
        source,
        source_ports,
        destination,
        destination_ports,
    };
    Ok((header, app))
}

/// The name of an application protocol.
pub(super) fn app(name: &str) -> Option<AppName> {
    match name {
        "http" => Some(AppName::Http),
        "failed" => Some(AppName::Failed),
        "unknown" => Some(AppName::Unknown),
        "ftp-data" => Some(AppName::One(Proto::Ftp)),
        _ => Proto::from_name(name).map(AppName::One),
    }
}

fn protocol(name: &str) -> Result<(Transports, Option<AppName>), RuleError> {
    let lower = name.to_ascii_lowercase();
    let none = Transports::default();
    let transports = match lower.as_str() {
        "tcp" | "tcp-pkt" | "tcp-stream" => Transports { is_tcp: true, ..none },
        "udp" => Transports { is_udp: true, ..none },
        "icmp" => Transports { is_icmp: true, is_icmp6: true, ..none },
        "icmpv4" => Transports { is_icmp: true, ..none },
        "icmpv6" => Transports { is_icmp6: true, ..none },
        "sctp" => Transports { is_sctp: true, ..none },
        "ip" => Transports { is_any: true, ..none },
        "ipv4" | "ip4" => Transports { is_any: true, version: Some(4), ..none },
        "ipv6" | "ip6" => Transports { is_any: true, version: Some(6), ..none },
        "tcp4" | "tcpv4" => Transports { is_tcp: true, version: Some(4), ..none },
        "tcp6" | "tcpv6" => Transports { is_tcp: true, version: Some(6), ..none },
        "udp4" | "udpv4" => Transports { is_udp: true, version: Some(4), ..none },
        "udp6" | "udpv6" => Transports { is_udp: true, version: Some(6), ..none },
        "pkthdr" => Transports { is_any: true, is_frame: true, ..none },
        "ether" => Transports { is_frame: true, is_any: true, is_ether: true, ..none },
        "arp" => Transports { is_arp: true, ..none },
        other => {
            let app = app(other).ok_or_else(|| RuleError::Protocol(name.to_owned()))?;
            let (is_tcp, is_udp) = carriers(app);
            return Ok((Transports { is_tcp, is_udp, ..none }, Some(app)));
        }
    };
    Ok((transports, None))
}

fn carriers(app: AppName) -> (bool, bool) {
    match app {
        AppName::Http => (true, false),
        AppName::Failed | AppName::Unknown => (true, true),
        AppName::One(proto) => match proto {
            Proto::Quic
            | Proto::Dhcp
            | Proto::Mdns
            | Proto::Ntp
            | Proto::Tftp
            | Proto::Ike
            | Proto::BittorrentDht => (false, true),
            Proto::Dns
            | Proto::Krb5
            | Proto::Snmp
            | Proto::Sip
            | Proto::Nfs
            | Proto::Dcerpc
            | Proto::Enip
            | Proto::Ldap => (true, true),
            _ => (true, false),
        },
    }
}
