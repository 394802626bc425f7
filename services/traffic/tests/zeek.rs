//! Connections as Zeek logs them: state, history, bytes and packets, on Zeek's own traces.

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use hookprobe_traffic::{
    config::Config,
    engine::{Engine, Inspector, View},
    flow::Flow,
    zeek::{Connection, End},
};

/// The columns that are compared.
const COLUMNS: [&str; 9] = [
    "conn_state",
    "history",
    "orig_bytes",
    "resp_bytes",
    "orig_pkts",
    "resp_pkts",
    "orig_ip_bytes",
    "resp_ip_bytes",
    "missed_bytes",
];

/// Connections that are the same, of a hundred. What is known to differ is below.
const SAME_PERCENT_MIN: u32 = 95;

/// Baselines in which a line differs for a reason that is known.
const KNOWN: [(&str, &str); 3] = [
    (
        "scripts.base.protocols.ldap.sasl-signed-clear-2",
        "an IP header that states no length (offloading): Suricata takes it for broken, so do we",
    ),
    (
        "core.tunnels.gtp.inner_teredo",
        "Teredo with authentication: Suricata takes it for no tunnel, so do we",
    ),
    (
        "core.tunnels.geneve-vxlan-truncated",
        "packets that the capture cut: Suricata takes them for broken, so do we",
    ),
];

/// Addresses and ports to the columns of each connection, in the order they ended.
type Lines = BTreeMap<String, Vec<BTreeMap<String, String>>>;

#[derive(Default)]
struct Log {
    lines: Lines,
}

impl Inspector for Log {
    fn packet(&mut self, _view: &mut View<'_, '_>) {}

    fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        let key = flow.key;
        let (client, server) = ((key.client, key.client_port), (key.server, key.server_port));
        let is_straight = connection.is_originator_client();
        let (from, to) = if is_straight { (client, server) } else { (server, client) };
        let own = connection.sizes(End::Originator);
        let peer = connection.sizes(End::Responder);
        let bytes = |count: u64| match connection.duration_ns() {
            Some(_) => count.to_string(),
            None => "-".into(),
        };
        let history = match connection.history().as_str() {
            "" => "-",
            history => history,
        };
        let values = [
            connection.state().name().to_string(),
            history.to_string(),
            bytes(own.bytes),
            bytes(peer.bytes),
            own.packets.to_string(),
            peer.packets.to_string(),
            own.ip_bytes.to_string(),
            peer.ip_bytes.to_string(),
            connection.missed_bytes().to_string(),
        ];
        let id = format!("{} {} {} {}", from.0, from.1, to.0, to.1);
        let line = COLUMNS.map(String::from).into_iter().zip(values).collect();
        self.lines.entry(id).or_default().push(line);
    }
}

/// A baseline with a `#fields` line; `None` without addresses.
fn expected(path: &Path) -> Option<Lines> {
    let text = fs::read_to_string(path).ok()?;
    let fields = text.lines().find_map(|line| line.strip_prefix("#fields\t"));
    let first = text.lines().find(|line| line.contains("id.orig_h"));
    let fields: Vec<_> = fields.or(first)?.split('\t').collect();
    let mut lines = Lines::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("id.orig_h")) {
        let row: BTreeMap<String, String> = fields
            .iter()
            .map(ToString::to_string)
            .zip(line.split('\t').map(String::from))
            .collect();
        let id = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"].map(|name| row.get(name));
        let [Some(from), Some(port), Some(to), Some(to_port)] = id else { return None };
        lines.entry(format!("{from} {port} {to} {to_port}")).or_default().push(row);
    }
    Some(lines)
}

fn replay(trace: &Path, command: &str, loads: &str) -> Lines {
    let mut config = Config { seed: 7, ..Config::default() };
    let options = command.split_whitespace().filter(|word| word.starts_with('-'));
    config.stream.is_checksum_validated = !options.into_iter().any(|word| word.contains('C'));
    config.flow.is_vlan_used = loads.contains("vlan_fivetuple");
    let mut engine = Engine::new(config);
    let mut log = Log::default();
    support::frames(trace, |frame| engine.handle(frame, &mut log));
    engine.finish(&mut log);
    assert_eq!(engine.flows(), 0, "every flow has ended");
    assert_eq!(engine.buffered_bytes(), 0, "nothing is held any more");
    log.lines
}

/// What is the same and what differs between two connections.
fn compare(ours: Option<&BTreeMap<String, String>>, row: &BTreeMap<String, String>) -> Vec<String> {
    let Some(ours) = ours else { return vec!["no such connection".into()] };
    COLUMNS
        .iter()
        .filter_map(|name| {
            let (theirs, ours) = (row.get(*name)?, ours.get(*name)?);
            (theirs != ours).then(|| format!("{name}: {theirs} here {ours}"))
        })
        .collect()
}

#[test]
fn connections_agree_with_zeek() {
    let Some(folder) = support::testdata().map(|folder| folder.join("zeek")) else {
        println!("skipped: no test data");
        return;
    };
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let (mut same, mut all, mut unexplained) = (0, 0, 0);
    for line in index.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        let [test, trace, _, _, command, loads, _, "yes"] = cells[..] else { continue };
        let baseline = folder.join("Baseline").join(test);
        let found = ["conn.log", "conn.cut", "conn.log.cut"]
            .iter()
            .find_map(|name| expected(&baseline.join(name)));
        let Some(expected) = found else { continue };
        let ours = replay(&folder.join("Traces").join(trace), command, loads);
        let known = KNOWN.iter().find(|known| known.0 == test).map(|known| known.1);
        for (id, rows) in &expected {
            for (at, row) in rows.iter().enumerate() {
                all += 1;
                let line = ours.get(id).and_then(|lines| lines.get(at));
                let differences = compare(line, row);
                if differences.is_empty() {
                    same += 1;
                    continue;
                }
                unexplained += u32::from(known.is_none());
                let why = known.unwrap_or("NOT EXPLAINED");
                println!("{test}: {id}: {} ({why})", differences.join(", "));
            }
        }
    }
    println!("{same} of {all} connections are the same, {unexplained} differ without explanation");
    assert!(unexplained == 0 && same * 100 >= all * SAME_PERCENT_MIN);
}
