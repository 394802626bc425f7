//! Columns of the logs, as Zeek 8 writes them without further scripts.

use super::log::Schema;

/// The columns that every log about a connection begins with.
macro_rules! schema {
    ($path:literal: $($name:literal $kind:literal,)*) => {
        Schema {
            path: $path,
            fields: &[
                ("ts", "time"),
                ("uid", "string"),
                ("id.orig_h", "addr"),
                ("id.orig_p", "port"),
                ("id.resp_h", "addr"),
                ("id.resp_p", "port"),
                $(($name, $kind),)*
            ],
        }
    };
}

pub(super) static CONN: Schema = schema!("conn":
    "proto" "enum",
    "service" "string",
    "duration" "interval",
    "orig_bytes" "count",
    "resp_bytes" "count",
    "conn_state" "string",
    "local_orig" "bool",
    "local_resp" "bool",
    "missed_bytes" "count",
    "history" "string",
    "orig_pkts" "count",
    "orig_ip_bytes" "count",
    "resp_pkts" "count",
    "resp_ip_bytes" "count",
    "tunnel_parents" "set[string]",
    "ip_proto" "count",
);

pub(super) static DNS: Schema = schema!("dns":
    "proto" "enum",
    "trans_id" "count",
    "rtt" "interval",
    "query" "string",
    "qclass" "count",
    "qclass_name" "string",
    "qtype" "count",
    "qtype_name" "string",
    "rcode" "count",
    "rcode_name" "string",
    "AA" "bool",
    "TC" "bool",
    "RD" "bool",
    "RA" "bool",
    "Z" "count",
    "answers" "vector[string]",
    "TTLs" "vector[interval]",
    "rejected" "bool",
    "opcode" "count",
    "opcode_name" "string",
);

pub(super) static SSL: Schema = schema!("ssl":
    "version" "string",
    "cipher" "string",
    "curve" "string",
    "server_name" "string",
    "resumed" "bool",
    "last_alert" "string",
    "next_protocol" "string",
    "established" "bool",
    "ssl_history" "string",
    "cert_chain_fps" "vector[string]",
    "client_cert_chain_fps" "vector[string]",
    "sni_matches_cert" "bool",
);

pub(super) static HTTP: Schema = schema!("http":
    "trans_depth" "count",
    "method" "string",
    "host" "string",
    "uri" "string",
    "referrer" "string",
    "version" "string",
    "user_agent" "string",
    "origin" "string",
    "request_body_len" "count",
    "response_body_len" "count",
    "status_code" "count",
    "status_msg" "string",
    "info_code" "count",
    "info_msg" "string",
    "tags" "set[enum]",
    "username" "string",
    "password" "string",
    "proxied" "set[string]",
    "orig_fuids" "vector[string]",
    "orig_filenames" "vector[string]",
    "orig_mime_types" "vector[string]",
    "resp_fuids" "vector[string]",
    "resp_filenames" "vector[string]",
    "resp_mime_types" "vector[string]",
);

pub(super) static SSH: Schema = schema!("ssh":
    "version" "count",
    "auth_success" "bool",
    "auth_attempts" "count",
    "direction" "enum",
    "client" "string",
    "server" "string",
    "cipher_alg" "string",
    "mac_alg" "string",
    "compression_alg" "string",
    "kex_alg" "string",
    "host_key_alg" "string",
    "host_key_fingerprint" "string",
);

/// About a transaction of several connections: no columns for one.
pub(super) static DHCP: Schema = Schema {
    path: "dhcp",
    fields: &[
        ("ts", "time"),
        ("uids", "set[string]"),
        ("client_addr", "addr"),
        ("server_addr", "addr"),
        ("mac", "string"),
        ("host_name", "string"),
        ("client_fqdn", "string"),
        ("domain", "string"),
        ("requested_addr", "addr"),
        ("assigned_addr", "addr"),
        ("lease_time", "interval"),
        ("client_message", "string"),
        ("server_message", "string"),
        ("msg_types", "vector[string]"),
        ("duration", "interval"),
    ],
};

pub(super) static NOTICE: Schema = schema!("notice":
    "fuid" "string",
    "file_mime_type" "string",
    "file_desc" "string",
    "proto" "enum",
    "note" "enum",
    "msg" "string",
    "sub" "string",
    "src" "addr",
    "dst" "addr",
    "p" "port",
    "n" "count",
    "peer_descr" "string",
    "actions" "set[enum]",
    "email_dest" "set[string]",
    "suppress_for" "interval",
    "remote_location.country_code" "string",
    "remote_location.region" "string",
    "remote_location.city" "string",
    "remote_location.latitude" "double",
    "remote_location.longitude" "double",
);

pub(super) static WEIRD: Schema = schema!("weird":
    "name" "string",
    "addl" "string",
    "notice" "bool",
    "peer" "string",
    "source" "string",
);
