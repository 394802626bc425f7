//! The detection engine beside Suricata: the same capture, the same rules, the same settings, one
//! thread each.
//!
//! What loading costs is measured with a capture of one packet and taken off, so that the rate is
//! that of packets. Runs of both take turns. Ratios count, and those of processor time more than
//! those of the clock: other programs on the machine disturb them less.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Spread,
    engine::{Alerts, Engine, Run},
    mix, rules,
};
use crate::{
    conformance,
    error::{Result, at},
    shell,
    tree::Tree,
};

/// Size of the mixed capture.
const MIX_BYTES_MIN: u64 = 500_000_000;
/// Rules that are generated for the second run.
const MADE_RULES: u32 = 20_000;
/// Runs of each engine, of which the median counts.
const RUNS: usize = 3;
/// A rule that fires more often than once in so many packets measures how alerts are written, not
/// how they are found: tests have such rules, networks do not.
const PACKETS_PER_ALERT_MIN: u64 = 1000;
/// Passes over the loud rules: one loud rule hides another behind the bound on alerts of a packet.
const QUIET_PASSES: usize = 4;
/// Rules that differ and are named.
const DIFFERENCES_MAX: usize = 20;

/// Prints the comparison.
///
/// # Errors
/// Any [`crate::error::Error`]; without the test data one that says so.
pub(super) fn detect(tree: &Tree) -> Result<()> {
    let data = conformance::test_data(tree)?;
    let folder = tree.target("bench/detect");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let suricata = suricata(tree);
    let sensor = sensor(tree)?;
    let captures = Captures::write(&data, &folder)?;
    let engines: Vec<Engine> =
        suricata.map(Engine::Suricata).into_iter().chain([Engine::Ours(sensor.clone())]).collect();
    let same = loadable(&engines, &rules::same(&data.join("suricata-verify"))?, &folder)?;
    let same = quiet(&engines, same, &captures, &folder)?;
    let made: Vec<String> = same.iter().cloned().chain(rules::made(MADE_RULES)).collect();
    println!(
        "{:18} {:>6} {:>7} {:>9} {:>8} {:>12} {:>8} {:>9} {:>8}",
        "engine", "rules", "load s", "cpu s", "wall s", "packets/s", "Mbit/s", "peak MiB", "alerts"
    );
    let mut files = Vec::new();
    for rules in [same, made] {
        let path = folder.join(format!("rules-{}.rules", rules.len()));
        fs::write(&path, rules.join("\n") + "\n").map_err(at(&path))?;
        beside(&engines, &path, rules.len(), &captures, &folder)?;
        files.push(path);
    }
    let round = (captures.round.as_path(), captures.round_packets);
    for path in &files {
        super::count::count(&sensor, path, round, &captures.one, &folder)?;
    }
    println!("\nloading and replacing rules, and 100,000 flows at once (aim: below 100 MiB)");
    for path in &files {
        shell::show(Command::new(&sensor).args(["bench-detect", "--rules"]).arg(path))?;
    }
    let _ = fs::remove_file(&captures.mixed);
    println!("\ndomain lookups in a list of 2.2 million names");
    shell::show(
        Command::new("cargo")
            .current_dir(tree.source(""))
            .args(["run", "--quiet", "--release", "--locked", "--package", "hookprobe-reputation"])
            .args(["--example", "names"]),
    )
}

/// What is replayed.
struct Captures {
    mixed: PathBuf,
    /// One round of it.
    round: PathBuf,
    /// One packet of it.
    one: PathBuf,
    mix: mix::Mix,
    round_packets: u64,
}

impl Captures {
    fn write(data: &Path, folder: &Path) -> Result<Self> {
        let (mixed, round, one) =
            (folder.join("mixed.pcap"), folder.join("round.pcap"), folder.join("one.pcap"));
        let mix = mix::write(data, &mixed, MIX_BYTES_MIN)?;
        let round_packets = mix::write(data, &round, 1)?.packets;
        let bytes = fs::read(&round).map_err(at(&round))?;
        // Suricata takes no capture without a packet for one.
        let first = bytes.get(..mix::end_of_first(&bytes)).unwrap_or_default();
        fs::write(&one, first).map_err(at(&one))?;
        println!(
            "\ndetection: {} captures in {} rounds, {} packets, {:.0} MB",
            mix.captures,
            mix.rounds,
            mix.packets,
            mix.bytes as f64 / 1e6
        );
        Ok(Self { mixed, round, one, mix, round_packets })
    }
}

/// The sensor of this tree, as fast as it gets.
fn sensor(tree: &Tree) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.current_dir(tree.source(""));
    command.args(["build", "--release", "--locked", "--package", "hookprobe-sensor"]);
    shell::show(&mut command)?;
    Ok(tree.target("release/hookprobe-sensor"))
}

/// Suricata's root, fetched once.
pub(crate) fn suricata(tree: &Tree) -> Option<PathBuf> {
    let root = tree.target("tools/suricata/root");
    if !root.join("usr/bin/suricata").exists() {
        shell::step("fetching Suricata to compare with (once)");
        let script = tree.source("tests/interop/fetch-suricata.sh");
        let fetched = shell::output(Command::new("sh").arg(script).arg(tree.target("")));
        if let Err(error) = fetched {
            println!("note: {error}\nnote: without Suricata there is nothing beside our numbers");
            return None;
        }
    }
    Some(root)
}

/// The rules that every engine loads: who ignores a rule must not be faster for it.
fn loadable(engines: &[Engine], rules: &[String], folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("all.rules");
    fs::write(&path, rules.join("\n") + "\n").map_err(at(&path))?;
    let mut refused = vec![false; rules.len()];
    for engine in engines {
        for line in engine.refusals(&path, folder)? {
            if let Some(slot) = line.checked_sub(1).and_then(|index| refused.get_mut(index)) {
                *slot = true;
            }
        }
    }
    let kept = rules.iter().zip(&refused).filter(|(_, refused)| !**refused);
    let kept: Vec<String> = kept.map(|(rule, _)| rule.clone()).collect();
    println!("{} rules of the tests, {} load in every engine", rules.len(), kept.len());
    Ok(kept)
}

/// Leaves out rules that fire all the time.
fn quiet(
    engines: &[Engine],
    mut rules: Vec<String>,
    captures: &Captures,
    folder: &Path,
) -> Result<Vec<String>> {
    let most = captures.round_packets / PACKETS_PER_ALERT_MIN;
    let path = folder.join("quiet.rules");
    for _ in 0..QUIET_PASSES {
        fs::write(&path, rules.join("\n") + "\n").map_err(at(&path))?;
        let mut loud = std::collections::BTreeSet::new();
        for engine in engines {
            let (_, alerts) = engine.run(&captures.round, &path, folder)?;
            loud.extend(alerts.into_iter().filter(|(_, count)| *count > most).map(|(sid, _)| sid));
        }
        if loud.is_empty() {
            break;
        }
        rules.retain(|rule| rules::sid(rule).is_none_or(|sid| !loud.contains(&sid)));
    }
    println!("{} of these fire for less than one packet in {PACKETS_PER_ALERT_MIN}", rules.len());
    Ok(rules)
}

/// Replays the mix with each engine in turn, and prints cost and agreement.
fn beside(
    engines: &[Engine],
    rules: &Path,
    count: usize,
    captures: &Captures,
    folder: &Path,
) -> Result<()> {
    let mut loads = vec![Vec::new(); engines.len()];
    let mut wholes = vec![Vec::new(); engines.len()];
    let mut found = vec![Alerts::new(); engines.len()];
    for _ in 0..RUNS {
        let turn = engines.iter().zip(&mut loads).zip(&mut wholes).zip(&mut found);
        for (((engine, loads), wholes), found) in turn {
            loads.push(engine.run(&captures.one, rules, folder)?.0);
            let (whole, alerts) = engine.run(&captures.mixed, rules, folder)?;
            wholes.push(whole);
            *found = alerts;
        }
    }
    let mut costs = Vec::new();
    for (((engine, loads), wholes), found) in engines.iter().zip(&loads).zip(&wholes).zip(&found) {
        let (load, whole) = (median(loads), median(wholes));
        let cost = Run {
            seconds: (whole.seconds - load.seconds).max(0.001),
            cpu_s: (whole.cpu_s - load.cpu_s).max(0.001),
            peak_mib: whole.peak_mib,
        };
        println!(
            "{:18} {:>6} {:>7.2} {:>9.2} {:>8.2} {:>12.0} {:>8.0} {:>9.0} {:>8}",
            engine.name(),
            count,
            load.cpu_s,
            cost.cpu_s,
            cost.seconds,
            captures.mix.packets as f64 / cost.cpu_s,
            captures.mix.bytes as f64 * 8.0 / cost.cpu_s / 1e6,
            cost.peak_mib,
            found.values().sum::<u64>()
        );
        costs.push(cost);
    }
    if let ([theirs, ours], [their_alerts, our_alerts]) = (costs.as_slice(), found.as_slice()) {
        println!(
            "ours beside suricata: {:.2} times the speed by processor time, {:.2} by the clock, \
             {:.2} of the memory (aims: 2, 2, 0.25)",
            theirs.cpu_s / ours.cpu_s,
            theirs.seconds / ours.seconds,
            ours.peak_mib / theirs.peak_mib
        );
        compare(their_alerts, our_alerts);
    }
    Ok(())
}

fn median(runs: &[Run]) -> Run {
    let of = |field: fn(&Run) -> f64| Spread::of(runs.iter().map(field).collect()).1;
    Run {
        seconds: of(|run| run.seconds),
        cpu_s: of(|run| run.cpu_s),
        peak_mib: of(|run| run.peak_mib),
    }
}

/// How far both agree, and where not.
fn compare(theirs: &Alerts, ours: &Alerts) {
    let all: std::collections::BTreeSet<u64> = theirs.keys().chain(ours.keys()).copied().collect();
    let count = |alerts: &Alerts, sid: u64| alerts.get(&sid).copied().unwrap_or(0);
    let differs: Vec<u64> =
        all.iter().copied().filter(|sid| count(theirs, *sid) != count(ours, *sid)).collect();
    let same: u64 = all.iter().map(|sid| count(theirs, *sid).min(count(ours, *sid))).sum();
    println!(
        "alerts: {} rules fire, {} with the same number; {same} alerts of {} and {}",
        all.len(),
        all.len() - differs.len(),
        theirs.values().sum::<u64>(),
        ours.values().sum::<u64>()
    );
    for sid in differs.iter().take(DIFFERENCES_MAX) {
        println!("  sid {sid}: suricata {}, ours {}", count(theirs, *sid), count(ours, *sid));
    }
    if let Some(more @ 1..) = differs.len().checked_sub(DIFFERENCES_MAX) {
        println!("  and {more} more");
    }
}
