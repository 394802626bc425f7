//! `conn.log`: one line for a connection.

use hookprobe_traffic::{
    app::Proto,
    flow::Flow,
    zeek::{Connection, End},
};

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
    services::Signs,
};

/// Zeek's word for what carries a connection.
#[must_use]
pub(super) fn transport(protocol: u8) -> &'static str {
    match protocol {
        1 | 58 => "icmp",
        6 => "tcp",
        17 => "udp",
        _ => "unknown_transport",
    }
}

/// Writes the line of a connection that has ended.
pub(super) fn write(
    ident: &Ident,
    flow: &Flow,
    connection: &Connection,
    service: &str,
    parents: &[String],
    files: &mut Files,
) {
    let orig = connection.sizes(End::Originator);
    let resp = connection.sizes(End::Responder);
    let duration = connection.duration_ns();
    let history = connection.history().as_str();
    let parents: Vec<Value<'_>> = parents.iter().map(|uid| Value::word(uid)).collect();
    let bytes = |number| if duration.is_some() { Value::Count(number) } else { Value::Unset };
    let text = |text: &'_ str| -> bool { !text.is_empty() };
    let first_ns = connection.first_ns();
    let [ts, uid, orig_h, orig_p, resp_h, resp_p] = ident.columns(first_ns);
    files.row(
        Kind::Conn,
        first_ns,
        &[
            ts,
            uid,
            orig_h,
            orig_p,
            resp_h,
            resp_p,
            Value::word(transport(flow.key.protocol)),
            if text(service) { Value::word(service) } else { Value::Unset },
            duration.map_or(Value::Unset, Value::Interval),
            bytes(orig.bytes),
            bytes(resp.bytes),
            Value::word(connection.state().name()),
            Value::Bool(ident.is_orig_local()),
            Value::Bool(ident.is_resp_local()),
            Value::Count(connection.missed_bytes()),
            if text(history) { Value::word(history) } else { Value::Unset },
            Value::Count(orig.packets),
            Value::Count(orig.ip_bytes),
            Value::Count(resp.packets),
            Value::Count(resp.ip_bytes),
            if parents.is_empty() { Value::Unset } else { Value::List(&parents) },
            Value::Count(u64::from(flow.key.protocol)),
        ],
    );
}

/// A TCP connection of which neither SYN nor SYN/ACK was seen: Zeek does not look into it.
#[must_use]
pub(super) fn is_partial(flow: &Flow, connection: &Connection) -> bool {
    let is_begin = |letter: char| matches!(letter, 'S' | 's' | 'H' | 'h');
    flow.key.protocol == 6 && !connection.history().as_str().contains(is_begin)
}

/// Tunnels whose inside can't be read are named by their port, as long as checksums are right.
fn tunnel_by_port(flow: &Flow, connection: &Connection) -> Option<&'static str> {
    let has_data = connection.history().as_str().contains(['D', 'd']);
    let key = &flow.key;
    let port = if connection.is_originator_client() { key.server_port } else { key.client_port };
    match (key.protocol, port) {
        (17, 6081) if has_data => Some("geneve"),
        (17, 4789) if has_data => Some("vxlan"),
        (17, 3544) if has_data => Some("teredo"),
        _ => None,
    }
}

/// What is known of services beside what the engine says.
pub(super) struct Hints {
    /// It carries a tunnel of this name.
    pub(super) tunnel: Option<&'static str>,
    /// What a side alone spoke.
    pub(super) alone: Option<Proto>,
    /// What first bytes look like.
    pub(super) signs: Signs,
}

/// Services joined by commas: what it was before a change first, then what it is.
#[must_use]
pub(super) fn service(flow: &Flow, connection: &Connection, hints: &Hints) -> String {
    let mut out = String::new();
    if is_partial(flow, connection) {
        return out;
    }
    let tunnel = hints.tunnel.or_else(|| tunnel_by_port(flow, connection));
    let name = |proto: Option<Proto>| name(proto?, flow.key.protocol);
    let app = &flow.app;
    // Zeek believes in SSH when both have said so.
    let alone = hints.alone.filter(|proto| *proto != Proto::Ssh);
    let proto = app.proto().or(alone);
    let before = [name(app.original), tunnel].into_iter().flatten();
    let all = before.chain(hints.signs.names()).chain(name(proto));
    for name in all {
        if out.split(',').any(|known| known == name) {
            continue;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
    }
    out
}

/// Zeek's name of a service; none for what Zeek does not know.
fn name(proto: Proto, protocol: u8) -> Option<&'static str> {
    let is_tcp = protocol == 6;
    Some(match proto {
        Proto::Http1 => "http",
        Proto::Dns | Proto::Mdns => "dns",
        Proto::Tls => "ssl",
        Proto::Ssh => "ssh",
        Proto::Smtp => "smtp",
        Proto::Quic => "quic,ssl",
        Proto::Dhcp => "dhcp",
        Proto::Smb => "smb",
        Proto::Dcerpc => "dce_rpc",
        Proto::Ftp => "ftp",
        Proto::Imap => "imap",
        Proto::Pop3 => "pop3",
        Proto::Rdp => "rdp",
        Proto::Ntp => "ntp",
        Proto::Sip => "sip",
        Proto::Snmp => "snmp",
        Proto::Krb5 if is_tcp => "krb_tcp",
        Proto::Krb5 => "krb",
        Proto::Mqtt => "mqtt",
        Proto::Pgsql => "postgresql",
        Proto::Rfb => "rfb",
        Proto::Ldap if is_tcp => "ldap_tcp",
        Proto::Ldap => "ldap_udp",
        Proto::Modbus => "modbus",
        Proto::Enip if is_tcp => "enip_tcp",
        Proto::Enip => "enip_udp",
        Proto::Dnp3 => "dnp3_tcp",
        Proto::Websocket => "websocket",
        Proto::Socks => "socks",
        Proto::Xmpp => "xmpp",
        // Zeek has no name for the rest.
        _ => return None,
    })
}
