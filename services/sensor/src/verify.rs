//! `hookprobe-sensor verify DIR`: runs a tree of tests in the layout of suricata-verify.
//!
//! Each test is a folder with `test.yaml`, a capture, mostly `test.rules` and sometimes
//! `suricata.yaml`. It runs in this process with the engine that replay and live use; its filters
//! are held against the EVE events. Nothing is started: checks that need a shell are skipped and
//! counted. Called by `main` and by the integration test of the rules.

mod case;
mod expect;
mod run;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every check held.
    Pass,
    /// Why not.
    Fail(String),
    /// It is not for us, and why.
    Skip(String),
}

/// One test's result.
#[derive(Clone, Debug)]
pub struct Report {
    /// Folder below `tests`.
    pub name: String,
    /// Tier in `tiers.tsv`; empty if it is not named there.
    pub tier: String,
    /// It passes with Suricata itself.
    pub is_verified: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Checks that need a shell, or another output than EVE.
    pub skipped_checks: usize,
}

/// Passed and all of one tier, of the tests that Suricata itself passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
}

/// Why the tree can't be run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No folder `tests`.
    #[error("HP-SN-060 verify: {0}: has no folder tests; name the root of the tree")]
    Tree(PathBuf),
    /// Output.
    #[error("HP-SN-061 verify: results can't be written")]
    Output(#[from] io::Error),
}

/// Runs every test whose name contains `filter`.
///
/// # Errors
/// [`VerifyError::Tree`].
pub fn tree(root: &Path, filter: &str) -> Result<Vec<Report>, VerifyError> {
    let tests = root.join("tests");
    if !tests.is_dir() {
        return Err(VerifyError::Tree(root.to_owned()));
    }
    let tiers = tiers(&root.join("tiers.tsv"));
    let mut folders = Vec::new();
    find(&tests, &mut folders, 0);
    folders.sort();
    let mut reports = Vec::new();
    for folder in folders {
        let name = folder.strip_prefix(&tests).unwrap_or(&folder).to_string_lossy().into_owned();
        if !name.contains(filter) {
            continue;
        }
        let (tier, is_verified) = tiers.get(&name).cloned().unwrap_or_default();
        let (outcome, skipped_checks) = run::test(&folder);
        reports.push(Report { name, tier, is_verified, outcome, skipped_checks });
    }
    Ok(reports)
}

/// Rates by tier.
#[must_use]
pub fn rates(reports: &[Report]) -> BTreeMap<String, Rate> {
    let mut rates: BTreeMap<String, Rate> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.is_verified) {
        let rate = rates.entry(report.tier.clone()).or_default();
        match report.outcome {
            Outcome::Pass => rate.passed += 1,
            Outcome::Fail(_) => rate.failed += 1,
            Outcome::Skip(_) => rate.skipped += 1,
        }
    }
    rates
}

/// Runs the tree and prints rates and reasons; whether all verified tests passed.
///
/// # Errors
/// [`VerifyError`].
pub fn run(root: &Path, filter: &str, is_json: bool) -> Result<bool, VerifyError> {
    let reports = tree(root, filter)?;
    let mut out = io::stdout().lock();
    for report in &reports {
        if is_json {
            writeln!(out, "{}", json_line(report))?;
        } else if let Outcome::Fail(why) | Outcome::Skip(why) = &report.outcome {
            let word = if matches!(report.outcome, Outcome::Fail(_)) { "FAIL" } else { "skip" };
            writeln!(out, "{word} {} {} {why}", report.tier, report.name)?;
        }
    }
    let mut is_all = true;
    for (tier, rate) in rates(&reports) {
        let total = rate.passed + rate.failed;
        is_all &= rate.failed == 0;
        if is_json {
            let (passed, failed, skipped) = (rate.passed, rate.failed, rate.skipped);
            let line =
                json!({ "tier": tier, "passed": passed, "failed": failed, "skipped": skipped });
            writeln!(out, "{line}")?;
        } else {
            let percent = (rate.passed * 1000).checked_div(total).unwrap_or(0);
            let (whole, tenth) = (percent / 10, percent % 10);
            writeln!(
                out,
                "{tier}: {} of {total} passed ({whole}.{tenth} %), {} skipped",
                rate.passed, rate.skipped
            )?;
        }
    }
    let skipped: usize = reports.iter().map(|report| report.skipped_checks).sum();
    if !is_json {
        writeln!(out, "{skipped} checks need a shell or other outputs and were skipped")?;
    }
    Ok(is_all)
}

fn json_line(report: &Report) -> serde_json::Value {
    let (outcome, why) = match &report.outcome {
        Outcome::Pass => ("pass", ""),
        Outcome::Fail(why) => ("fail", why.as_str()),
        Outcome::Skip(why) => ("skip", why.as_str()),
    };
    json!({
        "test": report.name,
        "tier": report.tier,
        "verified": report.is_verified,
        "outcome": outcome,
        "why": why,
    })
}

fn tiers(path: &Path) -> BTreeMap<String, (String, bool)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, tier) = (fields.next()?, fields.next()?);
            let verified = fields.nth(1)?;
            Some((name.to_owned(), (tier.to_owned(), verified == "pass")))
        })
        .collect()
}

/// Folders in folders that hold tests.
const DEPTH_MAX: u32 = 4;

fn find(folder: &Path, out: &mut Vec<PathBuf>, depth: u32) {
    if folder.join("test.yaml").is_file() {
        out.push(folder.to_owned());
    }
    if depth >= DEPTH_MAX {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), out, depth + 1);
        }
    }
}
