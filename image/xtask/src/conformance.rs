//! `cargo xtask conformance`: how far the detection engine agrees with what others assert.
//!
//! Every suite is a test or a command of its own that prints, beside its usual output, one line per
//! group of cases:
//!
//! ```text
//! conformance {"suite":"Zeek: conn.log","passed":51,"total":54,
//!              "reasons":[{"what":"core.vntag","why":"802.1BR tags are not read"}]}
//! ```
//!
//! Those lines become a table between two marks in ARCHITECTURE.md, with the reason for each case
//! that fails. Without the test data there is nothing to say, and that is an error: a green run
//! over nothing must not look like one.

mod eve;
mod records;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    error::{Error, Result, at},
    shell,
    tree::Tree,
};

/// Begins a line that is for this command.
const MARK: &str = "conformance ";
/// The document and the marks around the table.
const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- conformance: begin -->";
const END: &str = "<!-- conformance: end -->";
/// The marks around the comparison of EVE records.
const EVE: [&str; 2] = ["<!-- conformance eve: begin -->", "<!-- conformance eve: end -->"];
/// Most reasons of one suite that the document lists; the rest is said as a number.
const REASONS_MAX: usize = 60;

/// Longest reason in the document, in characters: what a test prints can be a whole record.
const REASON_CHARS_MAX: usize = 120;
/// Where the lines of a suite come from.
struct Source {
    /// What is being run, for people.
    what: &'static str,
    /// Arguments of cargo.
    arguments: &'static [&'static str],
    /// Folder of the test data as the last argument.
    takes_folder: Option<&'static str>,
}

/// Every suite. The tests are one call of cargo, so that they share one build of everything.
const SOURCES: &[Source] = &[
    Source {
        what: "suricata-verify",
        arguments: &["run", "--quiet", "--package", "hookprobe-sensor", "--", "verify", "--json"],
        takes_folder: Some("suricata-verify"),
    },
    Source {
        what: "JA3 and JA4, Zeek's baselines, RITA's beacon, captures with and without attacks",
        arguments: &[
            "test",
            "--no-fail-fast",
            "--package",
            "hookprobe-traffic",
            "--package",
            "hookprobe-behaviour",
            "--package",
            "hookprobe-sensor",
            "--test",
            "fingerprints",
            "--test",
            "logs",
            "--test",
            "captures",
            "--test",
            "zeek_baselines",
        ],
        takes_folder: None,
    },
];

/// What is said of the build: thousands of captures want optimised code, and nobody ships these
/// binaries, so the slow last step of a release build is left out. A folder of its own keeps both.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "2"),
    ("CARGO_PROFILE_TEST_OPT_LEVEL", "2"),
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("CARGO_PROFILE_TEST_DEBUG", "0"),
];

/// Result of one group of cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rate {
    passed: u64,
    total: u64,
    /// What fails and why.
    reasons: Vec<(String, String)>,
}

/// Runs every suite, or `only` one (`eve`), prints the table and writes it into the document.
///
/// # Errors
/// [`Error::Check`] without the test data or when a suite says nothing; else what cargo says.
pub fn conformance(tree: &Tree, only: Option<&str>) -> Result<()> {
    let data = test_data(tree)?;
    match only {
        None => suites(tree, &data).and(records(tree, &data)),
        Some("eve") => records(tree, &data),
        Some(other) => Err(Error::Check(format!("{other}: no suite to run alone; there is eve"))),
    }
}

/// EVE records beside Suricata's.
fn records(tree: &Tree, data: &Path) -> Result<()> {
    shell::step("EVE records beside Suricata's");
    let table = eve::eve(tree, data)?;
    println!("{table}");
    write(tree, &table, EVE)
}

/// What tests and commands assert.
fn suites(tree: &Tree, data: &Path) -> Result<()> {
    let mut rates = BTreeMap::new();
    let mut broken = Vec::new();
    for source in SOURCES {
        shell::step(source.what);
        let (text, failure) = run(tree, source, data)?;
        let lines = collect(&text, &mut rates)?;
        // Cases that fail are in the table; a suite without a rate did not run.
        if lines == 0 {
            let why = failure.unwrap_or_else(|| "printed no rate".into());
            broken.push(format!("{}: {why}", source.what));
        }
    }
    let table = table(&rates);
    println!("{table}");
    write(tree, &table, [BEGIN, END])?;
    if broken.is_empty() {
        return Ok(());
    }
    Err(Error::Check(broken.join("\n")))
}

/// Puts a table into the document.
fn write(tree: &Tree, table: &str, marks: [&str; 2]) -> Result<()> {
    let path = tree.source(DOCUMENT);
    let document = fs::read_to_string(&path).map_err(at(&path))?;
    fs::write(&path, replace(&document, table, marks)?).map_err(at(&path))
}

/// The folder of captures and expectations: `HOOKPROBE_TESTDATA`, else beside the tree.
///
/// # Errors
/// [`Error::Check`] when there is none.
pub fn test_data(tree: &Tree) -> Result<PathBuf> {
    let folder = std::env::var_os("HOOKPROBE_TESTDATA")
        .map_or_else(|| tree.source("../shared/testdata"), PathBuf::from);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Error::Check(format!(
        "no test data at {}; name its folder in HOOKPROBE_TESTDATA",
        folder.display()
    )))
}

/// What a suite printed, and how it failed if it did: the others still run.
fn run(tree: &Tree, source: &Source, data: &Path) -> Result<(String, Option<String>)> {
    let mut command = Command::new("cargo");
    let (verb, rest) = source.arguments.split_first().unwrap_or((&"test", &[]));
    command.current_dir(tree.source("")).env("HOOKPROBE_TESTDATA", data).envs(PROFILE);
    command.args([verb, "--locked"]).arg("--target-dir").arg(tree.target("conformance")).args(rest);
    match source.takes_folder {
        Some(folder) => command.arg(data.join(folder)),
        None => command.args(["--", "--nocapture", "--test-threads", "1"]),
    };
    let output = command
        .output()
        .map_err(|error| Error::Spawn { program: "cargo".into(), source: error })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failure = (!output.status.success()).then(|| {
        let both = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        format!("{}\n{}", output.status, shell::tail(&both, 12))
    });
    Ok((text, failure))
}

/// Adds the lines that are for us; how many there were.
fn collect(text: &str, rates: &mut BTreeMap<String, Rate>) -> Result<usize> {
    let mut lines = verified(text, rates);
    // The test runner may have written `test NAME ... ` before it on the line.
    let ours = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1));
    for line in ours.filter(|line| line.starts_with('{')) {
        let wrong = || Error::Check(format!("not a rate: {line}"));
        let value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let word = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        let suite = word(&value, "suite").ok_or_else(wrong)?;
        let rate = rates.entry(suite).or_default();
        rate.passed += number("passed").ok_or_else(wrong)?;
        rate.total += number("total").ok_or_else(wrong)?;
        for reason in value.get("reasons").and_then(Value::as_array).into_iter().flatten() {
            let what = word(reason, "what").unwrap_or_default();
            rate.reasons.push((what, word(reason, "why").unwrap_or_default()));
        }
        lines += 1;
    }
    Ok(lines)
}

/// Adds what `hookprobe-sensor verify --json` says of each test that Suricata itself passes.
fn verified(text: &str, rates: &mut BTreeMap<String, Rate>) -> usize {
    let mut lines = 0;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let word = |key: &str| value.get(key).and_then(Value::as_str);
        let (Some(test), Some(tier), Some(outcome)) = (word("test"), word("tier"), word("outcome"))
        else {
            continue;
        };
        if value.get("verified") != Some(&Value::Bool(true)) || outcome == "skip" {
            continue;
        }
        let rate = rates.entry(format!("suricata-verify {tier}")).or_default();
        rate.total += 1;
        if outcome == "pass" {
            rate.passed += 1;
        } else {
            rate.reasons.push((test.to_owned(), word("why").unwrap_or_default().to_owned()));
        }
        lines += 1;
    }
    lines
}

/// Markdown: rates, then what fails and why.
fn table(rates: &BTreeMap<String, Rate>) -> String {
    let mut out = String::from("| suite | agrees | of | rate |\n|---|---:|---:|---:|\n");
    // A `String` takes everything.
    for (suite, rate) in rates {
        let _ = writeln!(
            out,
            "| {suite} | {} | {} | {} |",
            rate.passed,
            rate.total,
            percent(rate.passed, rate.total)
        );
    }
    for (suite, rate) in rates.iter().filter(|(_, rate)| !rate.reasons.is_empty()) {
        let _ = writeln!(out, "\n{suite}, what differs and why:\n");
        for (what, why) in rate.reasons.iter().take(REASONS_MAX) {
            let _ = writeln!(out, "- {what}: {}", reason(why));
        }
        let more = rate.reasons.len().saturating_sub(REASONS_MAX);
        if more > 0 {
            let _ = writeln!(out, "- and {more} more");
        }
    }
    out
}

/// Why a case differs, on one line.
fn reason(why: &str) -> String {
    let line = why.replace('\n', " ");
    if line.chars().count() <= REASON_CHARS_MAX {
        return line;
    }
    let kept: String = line.chars().take(REASON_CHARS_MAX).collect();
    format!("{kept}..")
}

/// Never rounds up to 100.
fn percent(passed: u64, total: u64) -> String {
    match passed.saturating_mul(1000).checked_div(total) {
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
        None => "n/a".into(),
    }
}

/// The document with another table between its marks.
fn replace(document: &str, table: &str, [begin, end]: [&str; 2]) -> Result<String> {
    let parts = document.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}\n{table}{end}{after}"))
    });
    parts.ok_or_else(|| Error::Check(format!("{DOCUMENT}: no marks {begin} and {end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_table_in_the_document() {
        let text = "test x ... conformance {\"suite\":\"b\",\"passed\":1,\"total\":3,\
                    \"reasons\":[{\"what\":\"case\",\"why\":\"because\"}]}\nother\n\
                    conformance {\"suite\":\"b\",\"passed\":1,\"total\":1}\n\
                    conformance {\"suite\":\"a\",\"passed\":2,\"total\":2}\n";
        let mut rates = BTreeMap::new();
        assert_eq!(collect(text, &mut rates).unwrap(), 3);
        let document = format!("x\n{BEGIN}\nold\n{END}\ny\n");
        let expect = format!(
            "x\n{BEGIN}\n| suite | agrees | of | rate |\n|---|---:|---:|---:|\n\
             | a | 2 | 2 | 100.0 % |\n| b | 2 | 4 | 50.0 % |\n\n\
             b, what differs and why:\n\n- case: because\n{END}\ny\n"
        );
        assert_eq!(replace(&document, &table(&rates), [BEGIN, END]).unwrap(), expect);
    }

    #[test]
    fn tests_of_a_tree_become_rates_of_their_tiers() {
        let text = "{\"test\":\"a\",\"tier\":\"T1\",\"verified\":true,\"outcome\":\"pass\",\"why\":\"\"}\n\
                    {\"test\":\"b\",\"tier\":\"T1\",\"verified\":true,\"outcome\":\"fail\",\"why\":\"x\"}\n\
                    {\"test\":\"c\",\"tier\":\"T1\",\"verified\":false,\"outcome\":\"fail\",\"why\":\"\"}\n\
                    {\"tier\":\"T1\",\"passed\":1,\"failed\":1,\"skipped\":0}\n";
        let mut rates = BTreeMap::new();
        assert_eq!(collect(text, &mut rates).unwrap(), 2);
        let reasons = vec![("b".to_owned(), "x".to_owned())];
        assert_eq!(rates["suricata-verify T1"], Rate { passed: 1, total: 2, reasons });
    }

    #[test]
    fn what_is_no_rate_is_said() {
        let mut rates = BTreeMap::new();
        let broken = collect("conformance {\"suite\":\"a\"}", &mut rates);
        assert!(broken.unwrap_err().to_string().starts_with("HP-XT-008 not a rate"));
        assert!(replace("no marks", "", EVE).is_err());
        assert_eq!(percent(9999, 10_000), "99.9 %");
        assert_eq!(percent(0, 0), "n/a");
    }
}
