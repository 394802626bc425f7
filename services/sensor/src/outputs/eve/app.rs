//! The object of one transaction, by protocol.

use std::net::Ipv4Addr;

use base64ct::{Base64, Encoding as _};

use crate::outputs::json::{Object, Value, json};
use hookprobe_traffic::{
    Direction,
    app::{Proto, TxRef, dhcp, quic, smtp, ssh, tls},
};

use super::{
    Details, dns, http, records,
    text::{hex, text},
};
use crate::outputs::time;

/// Most bytes of an SSH banner that are written.
const BANNER_BYTES_MAX: usize = 256;

/// The transaction's objects with their names, e.g. `[("http", {..})]`; mail has two. Empty when
/// there is nothing to say about it yet.
#[must_use]
pub fn objects(tx: TxRef<'_>, proto: Option<Proto>) -> Vec<(&'static str, Value)> {
    match tx {
        TxRef::Http(tx) => {
            // DNS in HTTP/2 is told as DNS: what was answered, if anything was.
            let message = |direction| tx.doh.as_ref().and_then(|doh| doh.message(direction));
            let message = message(Direction::ToClient).or_else(|| message(Direction::ToServer));
            let dns = message.map(|message| ("dns", dns::dns(message)));
            let http = http::http(tx).map(|value| ("http", value));
            dns.into_iter().chain(http).collect()
        }
        TxRef::Dns(tx) if proto == Some(Proto::Mdns) => vec![("mdns", dns::mdns(tx))],
        TxRef::Dns(tx) => vec![("dns", dns::dns(tx))],
        TxRef::Tls(tx) => vec![("tls", tls(tx))],
        TxRef::Ssh(tx) => ssh(tx).map(|value| ("ssh", value)).into_iter().collect(),
        TxRef::Smtp(tx) => smtp(tx),
        TxRef::Quic(tx) => vec![("quic", quic(tx))],
        TxRef::Dhcp(tx) => vec![("dhcp", dhcp(tx))],
        TxRef::Record(tx) => vec![records::object(tx)],
    }
}

/// Takes away what the settings do not want made.
pub(super) fn strip(tx: TxRef<'_>, object: &mut Value, details: &Details) {
    let Some(object) = object.as_object_mut() else { return };
    let [ja3, ja4] = details.fingerprints;
    // QUIC has them always.
    if matches!(tx, TxRef::Tls(_)) {
        object.retain(|name, _| match name {
            "ja3" | "ja3s" => ja3,
            "ja4" => ja4,
            _ => true,
        });
    }
}

/// Takes away digests that nobody wants.
pub(super) fn strip_digests(file: &mut Value, details: &Details) {
    let Some(file) = file.as_object_mut() else { return };
    for (is_wanted, name) in details.digests.into_iter().zip(["md5", "sha1", "sha256"]) {
        if !is_wanted {
            file.remove(name);
        }
    }
}

/// What only `extended` of DHCP writes.
const DHCP_EXTENDED: [&str; 8] = [
    "client_ip",
    "relay_ip",
    "next_server_ip",
    "lease_time",
    "rebinding_time",
    "subnet_mask",
    "dns_servers",
    "routers",
];

/// An object of an event of its own, as the settings want it.
pub(super) fn shaped(tx: TxRef<'_>, mut object: Value, details: &Details) -> Value {
    /// Fields of TLS that are always written.
    const TLS_BASIC: [&str; 4] = ["subject", "issuerdn", "subjectaltname", "session_resumed"];
    strip(tx, &mut object, details);
    let Value::Object(mut out) = object else { return object };
    match tx {
        TxRef::Http(tx) if tx.stream == 0 && !tx.is_control() => {
            if !details.is_http_extended {
                out = http::basic(tx);
            }
            http::more(tx, details, &mut out);
        }
        TxRef::Dhcp(_) if !details.is_dhcp_extended => {
            out.retain(|name, _| !DHCP_EXTENDED.contains(&name));
        }
        TxRef::Tls(tx) => {
            if !details.tls_custom.is_empty() {
                tls_custom(tx, &mut out);
                out.retain(|name, _| is_wanted(name, &details.tls_custom));
            } else if !details.is_tls_extended {
                out.retain(|name, _| TLS_BASIC.contains(&name));
            }
        }
        _ => {}
    }
    Value::Object(out)
}

/// A field of TLS by its name in suricata.yaml, which is not always that in events.
fn is_wanted(name: &str, custom: &[String]) -> bool {
    let name = match name {
        "issuerdn" => "issuer",
        "notbefore" => "not_before",
        "notafter" => "not_after",
        other => other,
    };
    custom.iter().any(|wanted| wanted == name)
}

/// What only asking for it brings.
fn tls_custom(tx: &tls::Tx, out: &mut Object) {
    let (Some(leaf), encode) = (tx.server_chain.first(), Base64::encode_string) else { return };
    put(out, "certificate", encode(&leaf.der));
    let chain: Vec<String> = tx.server_chain.iter().map(|one| encode(&one.der)).collect();
    put(out, "chain", chain);
}

fn put(out: &mut Object, name: &'static str, value: impl Into<Value>) {
    out.insert(name.into(), value.into());
}

/// Only what is there.
fn put_text(out: &mut Object, name: &'static str, value: &str) {
    if !value.is_empty() {
        put(out, name, value);
    }
}

/// The `tls` object, the extended one.
#[must_use]
pub(super) fn tls(tx: &tls::Tx) -> Value {
    let mut out = Object::new();
    if let Some(certificate) = tx.certificate() {
        put_certificate(&mut out, certificate);
        if !certificate.sans.is_empty() {
            put(&mut out, "subjectaltname", certificate.sans.clone());
        }
    }
    // In TLS 1.3 every session looks like one that is resumed.
    let is_modern = tx.server_hello.as_ref().is_some_and(|hello| hello.negotiated() >= 0x0304);
    if tx.is_resumed && tx.certificate().is_none() && tx.server_hello.is_some() && !is_modern {
        put(&mut out, "session_resumed", true);
    }
    if let Some(sni) = tx.sni() {
        put(&mut out, "sni", text(sni));
    }
    put(&mut out, "version", tx.version_name());
    put_ja(&mut out, "ja3", tx.ja3.as_ref());
    put_ja(&mut out, "ja3s", tx.ja3s.as_ref());
    if let Some(ja4) = &tx.ja4 {
        put_text(&mut out, "ja4", ja4);
    }
    let names = |alpn: &[Vec<u8>]| alpn.iter().map(|name| text(name)).collect::<Vec<_>>();
    let client = tx.client_hello.as_ref().map(|hello| names(&hello.alpn));
    let server = tx.server_hello.as_ref().map(|hello| names(&hello.alpn));
    for (name, alpn) in [("client_alpns", client), ("server_alpns", server)] {
        if let Some(alpn) = alpn.filter(|alpn| !alpn.is_empty()) {
            put(&mut out, name, alpn);
        }
    }
    if let Some(certificate) = tx.client_chain.first() {
        let mut client = Object::new();
        put_certificate(&mut client, certificate);
        put(&mut out, "client", Value::Object(client));
    }
    Value::Object(out)
}

fn put_certificate(out: &mut Object, certificate: &tls::Certificate) {
    put(out, "subject", certificate.subject.as_str());
    put(out, "issuerdn", certificate.issuer.as_str());
    put_text(out, "serial", &certificate.serial);
    put_text(out, "fingerprint", &certificate.fingerprint);
    for (name, at) in
        [("notbefore", certificate.not_before_s), ("notafter", certificate.not_after_s)]
    {
        if let Some(seconds) = at.and_then(|seconds| u64::try_from(seconds).ok()) {
            put(out, name, time::seconds(seconds));
        }
    }
}

fn put_ja(out: &mut Object, name: &'static str, ja: Option<&(String, String)>) {
    if let Some((string, hash)) = ja.filter(|(_, hash)| !hash.is_empty()) {
        put(out, name, json!({ "hash": hash, "string": string }));
    }
}

/// The `ssh` object; none before a banner.
#[must_use]
pub(super) fn ssh(tx: &ssh::Tx) -> Option<Value> {
    let mut out = Object::new();
    for (name, side) in [("client", &tx.client), ("server", &tx.server)] {
        if side.proto.is_empty() {
            continue;
        }
        let cut = |bytes: &[u8]| text(bytes.get(..BANNER_BYTES_MAX).unwrap_or(bytes));
        let mut object = Object::new();
        put(&mut object, "proto_version", cut(&side.proto));
        put_text(&mut object, "software_version", &cut(&side.software));
        if !side.hassh.is_empty() {
            put(&mut object, "hassh", json!({ "hash": &side.hassh, "string": &side.hassh_string }));
        }
        put(&mut out, name, Value::Object(object));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn smtp(tx: &smtp::Tx) -> Vec<(&'static str, Value)> {
    let mut out = Object::new();
    put_text(&mut out, "helo", &text(&tx.helo));
    put_text(&mut out, "mail_from", &text(&tx.mail_from));
    if !tx.rcpt_to.is_empty() {
        let all: Vec<String> = tx.rcpt_to.iter().map(|rcpt| text(rcpt)).collect();
        put(&mut out, "rcpt_to", all);
    }
    let mut objects = vec![("smtp", Value::Object(out))];
    if let Some(email) = &tx.email {
        objects.push(("email", self::email(email, tx.progress)));
    }
    objects
}

fn email(email: &smtp::Email, progress: u8) -> Value {
    let mut out = Object::new();
    let list = |value: &[u8]| -> Vec<String> {
        value.split(|byte| *byte == b',').map(|one| text(one.trim_ascii())).collect()
    };
    if let Some(from) = email.header("from") {
        put(&mut out, "from", text(from));
    }
    for name in ["to", "cc"] {
        if let Some(value) = email.header(name) {
            put(&mut out, name, list(value));
        }
    }
    let is_done = progress == smtp::progress::COMPLETE;
    put(&mut out, "status", if is_done { "PARSE_DONE" } else { "BODY_STARTED" });
    let names: Vec<String> = email
        .attachments
        .iter()
        .map(|attachment| text(&attachment.file.name))
        .filter(|name| !name.is_empty())
        .collect();
    if !names.is_empty() {
        put(&mut out, "attachment", names);
    }
    if !email.urls.is_empty() {
        // The last one that was found comes first.
        let urls: Vec<String> = email.urls.iter().rev().map(|url| text(url)).collect();
        put(&mut out, "url", urls);
    }
    Value::Object(out)
}

/// Names of extensions of TLS (IANA's registry) that events of QUIC have.
#[rustfmt::skip]
const EXTENSIONS: [(u16, &str); 57] = [
    (0, "server_name"), (1, "max_fragment_length"), (2, "client_certificate_url"),
    (3, "trusted_ca_keys"), (4, "truncated_hmac"), (5, "status_request"), (6, "user_mapping"),
    (7, "client_authz"), (8, "server_authz"), (9, "cert_type"), (10, "supported_groups"),
    (11, "ec_point_formats"), (12, "srp"), (13, "signature_algorithms"), (14, "use_srtp"),
    (15, "heartbeat"), (16, "alpn"), (17, "status_request_v2"),
    (18, "signed_certificate_timestamp"), (19, "client_certificate_type"),
    (20, "server_certificate_type"), (21, "padding"), (22, "encrypt_then_mac"),
    (23, "extended_master_secret"), (24, "token_binding"), (25, "cached_info"), (26, "tls_lts"),
    (27, "compress_certificate"), (28, "record_size_limit"), (29, "pwd_protect"),
    (30, "pwd_clear"), (31, "password_salt"), (32, "ticket_pinning"),
    (33, "tls_cert_with_extern_psk"), (34, "delegated_credentials"), (35, "session_ticket"),
    (36, "tlmsp"), (37, "tlmsp_proxying"), (38, "tlmsp_delegate"), (39, "supported_ekt_ciphers"),
    (41, "pre_shared_key"), (42, "early_data"), (43, "supported_versions"), (44, "cookie"),
    (45, "psk_key_exchange_modes"), (47, "certificate_authorities"), (48, "oid_filters"),
    (49, "post_handshake_auth"), (50, "signature_algorithms_cert"), (51, "key_share"),
    (52, "transparency_info"), (54, "connection_id"), (55, "external_id_hash"),
    (56, "external_session_id"), (57, "quic_transport_parameters"), (58, "ticket_request"),
    (0xff01, "renegotiation_info"),
];

/// What some extensions say, as text.
fn extension_values(tx: &quic::Tx, kind: u16) -> Vec<String> {
    let client = tx.client_hello.as_ref();
    let server = tx.server_hello.as_ref();
    match kind {
        0 => client.and_then(|hello| hello.sni()).map(text).into_iter().collect(),
        13 => client
            .map(|hello| hello.signatures.iter().map(u16::to_string).collect())
            .unwrap_or_default(),
        16 => client
            .map(|hello| &hello.alpn)
            .or(server.map(|hello| &hello.alpn))
            .map(|names| names.iter().map(|name| text(name)).collect())
            .unwrap_or_default(),
        43 => {
            let chosen = server.and_then(|hello| hello.chosen_version);
            let versions = client.map(|hello| hello.versions.as_slice()).unwrap_or_default();
            versions.iter().copied().chain(chosen).map(version).collect()
        }
        _ => Vec::new(),
    }
}

/// A version of TLS in one word.
fn version(number: u16) -> String {
    match number {
        0x0300 => "Ssl30".into(),
        0x0301 => "Tls10".into(),
        0x0302 => "Tls11".into(),
        0x0303 => "Tls12".into(),
        0x0304 => "Tls13".into(),
        other => format!("TlsVersion({other} / 0x{other:x})"),
    }
}

fn quic(tx: &quic::Tx) -> Value {
    let mut out = Object::new();
    put(&mut out, "version", tx.version_name());
    if let Some(sni) = &tx.sni {
        put(&mut out, "sni", text(sni));
    }
    if let Some(ua) = &tx.ua {
        put(&mut out, "ua", text(ua));
    }
    if !tx.cyu.is_empty() {
        let cyu = tx.cyu.iter().map(|(string, hash)| json!({ "hash": hash, "string": string }));
        put(&mut out, "cyu", cyu.collect::<Value>());
    }
    let name = if tx.direction == Direction::ToServer { "ja3" } else { "ja3s" };
    put_ja(&mut out, name, tx.ja3.as_ref());
    if let Some(ja4) = &tx.ja4 {
        put_text(&mut out, "ja4", ja4);
    }
    let client = tx.client_hello.as_ref().map(|hello| &hello.extensions);
    let server = tx.server_hello.as_ref().map(|hello| &hello.extensions);
    if let Some(extensions) = client.or(server).filter(|extensions| !extensions.is_empty()) {
        let list = extensions.iter().map(|extension| {
            let mut entry = Object::new();
            let known = EXTENSIONS.iter().find(|(kind, _)| *kind == extension.kind);
            if let Some((_, name)) = known {
                put(&mut entry, "name", *name);
            }
            put(&mut entry, "type", extension.kind);
            let values = extension_values(tx, extension.kind);
            if !values.is_empty() {
                put(&mut entry, "values", values);
            }
            Value::Object(entry)
        });
        put(&mut out, "extensions", list.collect::<Value>());
    }
    Value::Object(out)
}

/// Names of requested options that EVE writes.
const DHCP_PARAMETERS: [(u8, &str); 8] = [
    (1, "subnet_mask"),
    (3, "router"),
    (6, "dns_server"),
    (15, "domain"),
    (35, "arp_timeout"),
    (42, "ntp_server"),
    (66, "tftp_server_name"),
    (150, "tftp_server_ip"),
];

fn dhcp(tx: &dhcp::Tx) -> Value {
    let message = &tx.message;
    let mut out = Object::new();
    let ip = |bytes: [u8; 4]| Ipv4Addr::from(bytes).to_string();
    let kind = match message.op {
        1 => "request",
        2 => "reply",
        _ => "<unknown>",
    };
    put(&mut out, "type", kind);
    put(&mut out, "id", message.xid);
    put(&mut out, "client_mac", hex(&message.client_mac, ":"));
    put(&mut out, "assigned_ip", ip(message.assigned_ip));
    put(&mut out, "client_ip", ip(message.client_ip));
    if message.op == 2 {
        put(&mut out, "relay_ip", ip(message.relay_ip));
        put(&mut out, "next_server_ip", ip(message.next_server_ip));
    }
    if let Some(id) = message.option(61) {
        put(&mut out, "client_id", hex(id.get(1..).unwrap_or_default(), ":"));
    }
    for (name, code) in [("lease_time", 51), ("renewal_time", 58), ("rebinding_time", 59)] {
        if let Some(seconds) = message.seconds(code) {
            put(&mut out, name, seconds);
        }
    }
    for (name, code) in [("subnet_mask", 1), ("requested_ip", 50)] {
        if let Some(address) = message.address(code) {
            put(&mut out, name, ip(address));
        }
    }
    for (name, value) in
        [("hostname", message.host_name()), ("vendor_class_identifier", message.vendor_class())]
    {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            put(&mut out, name, text(value));
        }
    }
    if message.kind().is_some() {
        put(&mut out, "dhcp_type", message.kind_name().unwrap_or("unknown"));
    }
    if let Some(asked) = message.parameters() {
        let name = |code: &u8| DHCP_PARAMETERS.iter().find(|(known, _)| known == code);
        let names = asked.iter().filter_map(name).map(|(_, name)| *name);
        put(&mut out, "params", names.collect::<Value>());
    }
    for (name, code) in [("dns_servers", 6), ("routers", 3)] {
        if message.option(code).is_some() {
            put(&mut out, name, message.addresses(code).into_iter().map(ip).collect::<Value>());
        }
    }
    Value::Object(out)
}
