//! Our logs against the baselines of Zeek's own tests: every field of every row, but time stamps
//! and names that Zeek draws by chance.
//!
//! A row is matched to its baseline by its connection (and its place among the rows of it). What
//! differs is printed with its reason from [`KNOWN`]; a difference without a reason fails the test,
//! and so does a rate below what was reached. For `cargo xtask conformance` the rates are printed
//! as lines that begin with `conformance `.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has to fail there")]

mod testdata;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use hookprobe_sensor::replay::{self, Options};

/// Fields that are drawn by chance or that are out of reach of a comparison.
const IGNORED: [&str; 6] = ["ts", "uid", "uids", "tunnel_parents", "orig_fuids", "resp_fuids"];
/// Fields of ssh.log that Zeek tells from encrypted lengths, and a hash of a key that is not kept:
/// not made here, by decision.
const NOT_MADE: [&str; 3] = ["auth_success", "auth_attempts", "host_key_fingerprint"];
/// Logs that are compared.
const LOGS: [&str; 6] = ["conn", "dns", "ssl", "http", "ssh", "dhcp"];

/// Tests of which something differs, by log, and why. Nothing else may.
const KNOWN: &[(&str, &str, &str)] = &[
    ("conn", "core.vntag", "times are fractions to Zeek: it rounds half a microsecond up to one"),
    ("conn", "core.tunnels.geneve-vxlan-truncated", CUT),
    (
        "conn",
        "core.tunnels.gtp.inner_teredo",
        "Teredo with authentication data: Suricata takes it for no tunnel, so do we",
    ),
    (
        "dhcp",
        "scripts.base.protocols.dhcp.dhcp-prevent-large-uids",
        "the test lowers Zeek's limit of connections on one line",
    ),
    ("conn", "scripts.base.protocols.dns.max-compression-depth", LIMIT),
    ("conn", "scripts.base.protocols.http.deeply-nested-mime", LIMIT),
    (
        "conn",
        "scripts.base.protocols.ldap.sasl-signed-clear-2",
        "an IP header that states no length (offloading): Suricata takes it for broken, so do we",
    ),
    (
        "http",
        "scripts.base.protocols.http.261.chunk-2pow64-overflow",
        "a length that is none ends the body to Zeek and the connection to Suricata",
    ),
    ("http", "scripts.base.protocols.http.inner-transfer-encoding-reproducer", INNER),
    ("http", "scripts.base.protocols.http.smuggle-http-request", INNER),
    (
        "http",
        "scripts.base.protocols.http.deeply-nested-mime",
        "the beginning of a large request is not kept until its row is written",
    ),
    (
        "http",
        "scripts.base.protocols.http.http-09-content-length-confusion",
        "an answer before the question: Zeek makes two rows of it, split elsewhere",
    ),
    (
        "http",
        "scripts.base.protocols.websocket.wstunnel-http",
        "HTTP within a WebSocket is not read",
    ),
];
const LIMIT: &str = "no letter X: Zeek marks where a limit of its own ended the analysis";
const CUT: &str = "packets that the capture cut: Suricata takes them for broken, so do we";
const INNER: &str = "a message within a message, compressed and broken: its inside is not read";
/// Rows that agree in every field, at least: what was reached.
const REACHED: &[(&str, usize)] =
    &[("conn", 184), ("dns", 52), ("ssl", 17), ("http", 47), ("ssh", 22), ("dhcp", 2)];

/// A log as names of columns and rows.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(names) = line.strip_prefix("#fields\t") {
                table.columns = split(names);
            } else if !line.starts_with('#') && !line.is_empty() {
                if table.columns.is_empty() {
                    // Cut with `zeek-cut -c`: the first line names the columns.
                    table.columns = split(line);
                } else {
                    table.rows.push(split(line));
                }
            }
        }
        table
    }

    fn get<'a>(&'a self, row: &'a [String], column: &str) -> Option<&'a str> {
        let index = self.columns.iter().position(|name| name == column)?;
        row.get(index).map(String::as_str)
    }

    /// What names the connection of a row, as far as both logs have it.
    fn key(&self, row: &[String], shared: &[&str]) -> Vec<String> {
        shared.iter().map(|name| self.get(row, name).unwrap_or_default().to_owned()).collect()
    }
}

fn split(line: &str) -> Vec<String> {
    line.split('\t').map(str::to_owned).collect()
}

/// One line of `index.tsv`.
struct Case {
    name: String,
    trace: PathBuf,
    logs: Vec<String>,
    ignores_checksums: bool,
}

fn cases(folder: &Path) -> Vec<Case> {
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let cases = index.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let command = fields[4];
        let is_option = |word: &str| word.starts_with('-') && word.contains('C');
        (fields[7] == "yes").then(|| Case {
            name: fields[0].into(),
            trace: folder.join("Traces").join(fields[1]),
            logs: fields[3].split(',').map(str::to_owned).collect(),
            ignores_checksums: command.split(' ').take_while(|word| *word != "-e").any(is_option),
        })
    });
    cases.flatten().collect()
}

/// Differences of one log of one test: `column: baseline | ours`.
fn compare(baseline: &Table, ours: &Table) -> (usize, usize, Vec<String>) {
    let named = ["id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "trans_id", "trans_depth"];
    let has = |table: &Table, name: &str| table.columns.iter().any(|column| column == name);
    let shared: Vec<&str> =
        named.into_iter().filter(|name| has(baseline, name) && has(ours, name)).collect();
    let mut left: BTreeMap<Vec<String>, Vec<&Vec<String>>> = BTreeMap::new();
    for row in ours.rows.iter().rev() {
        left.entry(ours.key(row, &shared)).or_default().push(row);
    }
    let (mut equal, mut differences) = (0, Vec::new());
    for row in &baseline.rows {
        let key = baseline.key(row, &shared);
        let Some(own) = left.get_mut(&key).and_then(Vec::pop) else {
            differences.push(format!("no row for {}", key.join(" ")));
            continue;
        };
        let before = differences.len();
        for column in baseline
            .columns
            .iter()
            .filter(|name| !IGNORED.contains(&name.as_str()) && !NOT_MADE.contains(&name.as_str()))
        {
            let (Some(expect), Some(found)) = (baseline.get(row, column), ours.get(own, column))
            else {
                continue;
            };
            if expect != found && !expect.contains("XXXX") {
                differences.push(format!("{column}: {expect} | {found}"));
            }
        }
        equal += usize::from(differences.len() == before);
    }
    let surplus: usize = left.values().map(Vec::len).sum();
    if surplus > 0 {
        differences.push(format!("{surplus} rows too many"));
    }
    (equal, baseline.rows.len(), differences)
}

/// How far one log agrees.
#[derive(Debug, Default)]
struct Rate {
    equal: usize,
    rows: usize,
    /// Test and what differs.
    differences: Vec<(String, String)>,
}

fn ours(case: &Case, folder: &Path) {
    let options = Options {
        files: vec![case.trace.clone()],
        zeek: Some(folder.to_path_buf()),
        ignores_checksums: case.ignores_checksums,
        ..Options::default()
    };
    replay::run(&options).unwrap();
}

#[test]
fn fields_equal_zeeks_baselines() {
    let Some(data) = testdata::testdata() else { return };
    let data = data.join("zeek");
    let mut rates: BTreeMap<&str, Rate> = BTreeMap::new();
    for case in cases(&data) {
        let folder = tempfile::tempdir().unwrap();
        ours(&case, folder.path());
        for log in LOGS {
            let Some(file) = case.logs.iter().find(|file| file.split('.').next() == Some(log))
            else {
                continue;
            };
            let baseline = data.join("Baseline").join(&case.name).join(file);
            let baseline = Table::parse(&fs::read_to_string(baseline).unwrap());
            let own = fs::read_to_string(folder.path().join(format!("{log}.log")));
            let (equal, rows, differences) =
                compare(&baseline, &Table::parse(&own.unwrap_or_default()));
            let rate = rates.entry(log).or_default();
            rate.equal += equal;
            rate.rows += rows;
            if !differences.is_empty() {
                rate.differences.push((case.name.clone(), differences.join("; ")));
            }
        }
    }
    let mut unknown = Vec::new();
    for (log, Rate { equal, rows, differences }) in &rates {
        println!("{log}.log: {equal} of {rows} rows equal");
        let mut reasons = Vec::new();
        for (name, difference) in differences {
            println!("  {name}: {difference}");
            let known = KNOWN.iter().find(|(in_log, known, _)| in_log == log && known == name);
            let reason = known.map(|(_, _, why)| *why);
            if reason.is_none() {
                unknown.push(format!("{log} {name}"));
            }
            reasons.push(serde_json::json!({ "what": name, "why": reason.unwrap_or(difference) }));
        }
        let line = serde_json::json!({
            "suite": format!("Zeek: {log}.log, rows equal in every field"),
            "passed": equal,
            "total": rows,
            "reasons": reasons,
        });
        println!("conformance {line}");
    }
    for (log, least) in REACHED {
        let equal = rates.get(log).map_or(0, |rate| rate.equal);
        assert!(equal >= *least, "{log}.log: {equal} rows equal, {least} were reached before");
    }
    assert!(unknown.is_empty(), "differences without a reason: {unknown:?}");
    let is_there = |(log, name, _): &&(&str, &str, &str)| {
        rates.get(log).is_some_and(|rate| rate.differences.iter().any(|(other, _)| other == name))
    };
    let stale: Vec<_> = KNOWN.iter().filter(|known| !is_there(known)).collect();
    assert!(stale.is_empty(), "these differ no longer: {stale:?}");
}
