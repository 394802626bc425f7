//! Handshakes and requests against the logs that Zeek's own tests expect.
//!
//! Only what the parsers know is compared (outputs have their own test): the fields named in `SSL`
//! and `HTTP`. The captures are not part of the project; without them the test says so.

#[path = "support/harness.rs"]
mod harness;

use harness::{FlowKey, Harness};
use hookprobe_traffic::app::TxRef;
use hookprobe_traffic::app::{
    http,
    tls::{self, Certificate},
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const SSL: [&str; 7] = [
    "id.orig_p",
    "version",
    "server_name",
    "resumed",
    "established",
    "ssl_history",
    "cert_chain_fps",
];
const HTTP: [&str; 10] = [
    "id.orig_p",
    "method",
    "host",
    "uri",
    "version",
    "user_agent",
    "request_body_len",
    "response_body_len",
    "status_code",
    "status_msg",
];

/// Where we differ, and why. Anything else that differs fails the test.
const DIFFER: [(&str, &str); 15] = [
    ("scripts.base.protocols.ssh.http-port-22", "Zeek adds a line end to a body that has none"),
    (
        "scripts.base.protocols.http.http-11-request-then-cruft",
        "libhtp takes words behind a request for requests, and so do rules",
    ),
    ("scripts.base.protocols.http.http-09", "libhtp ends a connection after an HTTP/0.9 request"),
    (
        "scripts.base.protocols.http.http-connect",
        "Zeek writes a slash behind the authority of a CONNECT; outputs do that",
    ),
    ("scripts.base.protocols.http.no-uri", "libhtp takes the version for the URI"),
    (
        "scripts.base.protocols.http.http-09-content-length-confusion",
        "libhtp reads the body of an HTTP/0.9 response to the end of the connection",
    ),
    ("scripts.base.protocols.snap.snap-tcp", "the harness has no SNAP"),
    ("scripts.base.protocols.quic.chromium", "hellos of QUIC are logged by outputs"),
    ("scripts.base.protocols.quic.curl-http3", "hellos of QUIC are logged by outputs"),
    (
        "scripts.base.protocols.quic.interop.quic-go_quic-go.zerortt",
        "hellos of QUIC are logged by outputs",
    ),
    (
        "scripts.base.protocols.quic.interop.quic-go_quic-go.handshake",
        "hellos of QUIC are logged by outputs",
    ),
    ("opt.basic", "the harness reads flows without a handshake, Zeek does not"),
    ("core.vlan-mpls", "HTTP/0.9 responses have no version here; outputs write it"),
    ("core.tunnels.ayiya", "the harness has no tunnels"),
    ("core.tunnels.gre-over-udp", "the harness has no tunnels"),
];

fn testdata() -> Option<PathBuf> {
    let named = std::env::var_os("HOOKPROBE_TESTDATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    named.into_iter().chain([beside]).find(|path| path.join("zeek/index.tsv").is_file())
}

/// The fields `names` of each line of a log, sorted.
fn expected(log: &Path, names: &[&str]) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(log).ok()?;
    let header =
        text.lines().find(|line| line.starts_with("#fields") || line.starts_with("ts\t"))?;
    let columns: Vec<&str> = header.trim_start_matches("#fields\t").split('\t').collect();
    let picked: Option<Vec<usize>> =
        names.iter().map(|name| columns.iter().position(|column| column == name)).collect();
    let picked = picked?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && *line != header);
    let mut rows: Vec<String> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            picked.iter().map(|index| fields[*index]).collect::<Vec<_>>().join(" ")
        })
        .collect();
    rows.sort();
    Some(rows)
}

fn or_dash(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".to_owned(),
        Some([]) => "(empty)".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn ssl_row(key: &FlowKey, tx: &tls::Tx) -> String {
    let version = match tx.version {
        _ if tx.server_hello.is_none() => "-",
        0x0300 => "SSLv3",
        0x0301 => "TLSv10",
        0x0302 => "TLSv11",
        0x0303 => "TLSv12",
        0x0304 => "TLSv13",
        0x7f17 => "TLSv13-draft23",
        _ => "unknown",
    };
    let flag = |is_set| if is_set { "T" } else { "F" };
    let chain: Vec<String> = tx.server_chain.iter().map(Certificate::sha256).collect();
    let chain = if chain.is_empty() { "-".to_owned() } else { chain.join(",") };
    format!(
        "{} {version} {} {} {} {} {chain}",
        key.client.1,
        or_dash(tx.sni()),
        flag(tx.is_resumed),
        flag(tx.is_established),
        tx.history
    )
}

/// As Zeek's logs write bytes that are no printable ASCII.
fn escaped(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    })
}

fn http_row(key: &FlowKey, tx: &http::Tx) -> String {
    let (request, response) = (&tx.request, &tx.response);
    let version = match response.version {
        http::Version::V1_0 => "1.0",
        http::Version::V1_1 => "1.1",
        _ => "-",
    };
    let some = |bytes: &[u8]| or_dash((!bytes.is_empty()).then_some(bytes));
    let host = request.headers.get("host").map(<[u8]>::to_vec);
    let status = (response.status_number > 0).then(|| response.status_number.to_string());
    format!(
        "{} {} {} {} {version} {} {} {} {} {}",
        key.client.1,
        some(&request.method),
        or_dash(host.as_deref()),
        escaped(&http::unescape(&request.uri_raw)),
        or_dash(request.headers.get("user-agent")),
        request.body.total,
        response.body.total,
        status.unwrap_or_else(|| "-".to_owned()),
        some(&response.message),
    )
}

#[test]
fn handshakes_and_requests_are_zeeks() {
    let Some(root) = testdata() else {
        println!("skipped: no test data");
        return;
    };
    let index = std::fs::read_to_string(root.join("zeek/index.tsv")).unwrap();
    let (mut same, mut other) = (0, Vec::new());
    for line in index.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let baseline = root.join("zeek/Baseline").join(fields[0]);
        let ssl = expected(&baseline.join("ssl.log"), &SSL);
        let http = expected(&baseline.join("http.log"), &HTTP);
        if ssl.is_none() && http.is_none() {
            continue;
        }
        let mut found_ssl: BTreeMap<FlowKey, String> = BTreeMap::new();
        let mut found_http: BTreeMap<(FlowKey, u64), String> = BTreeMap::new();
        Harness::default().run(&root.join("zeek/Traces").join(fields[1]), |key, tx| match tx {
            TxRef::Tls(tx) => {
                found_ssl.insert(*key, ssl_row(key, tx));
            }
            TxRef::Http(tx) => {
                found_http.insert((*key, tx.id), http_row(key, tx));
            }
            _ => {}
        });
        let mut found_ssl: Vec<String> = found_ssl.into_values().collect();
        let mut found_http: Vec<String> = found_http.into_values().collect();
        found_ssl.sort();
        found_http.sort();
        for (want, found) in [(ssl, found_ssl), (http, found_http)] {
            let Some(want) = want else { continue };
            if want == found {
                same += 1;
                continue;
            }
            let missing = want.iter().filter(|row| !found.contains(row));
            let surplus = found.iter().filter(|row| !want.contains(row));
            let missing = missing.map(|row| format!("\n  - {row}"));
            let surplus = surplus.map(|row| format!("\n  + {row}"));
            other.push(format!("{}{}", fields[0], missing.chain(surplus).collect::<String>()));
        }
    }
    let is_known = |text: &&String| {
        DIFFER.iter().any(|(name, _)| text.lines().next().is_some_and(|first| first == *name))
    };
    let unknown: Vec<&String> = other.iter().filter(|text| !is_known(text)).collect();
    println!("{same} logs equal, {} differ for known reasons", other.len() - unknown.len());
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(same >= 19, "{same} logs equal");
}
