//! The detection engine beside Suricata: the same capture, the same rules, one thread each.
//!
//! What loading costs is measured with an empty capture and taken off, so that the rate is that of
//! packets. Ratios count: both run on the same machine, one after the other.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{mix, rules};
use crate::{
    conformance,
    error::{Error, Result, at},
    shell,
    tree::Tree,
};

/// Size of the mixed capture.
const MIX_BYTES_MIN: u64 = 500_000_000;
/// Rules that are generated for the second run.
const MADE_RULES: u32 = 20_000;
/// Longest run of one engine. 30 min: an hour's patience for four of them on a slow machine.
const RUN_WAIT: Duration = Duration::from_secs(1800);
/// Between two looks at a running engine: its peak memory only grows.
const POLL: Duration = Duration::from_millis(20);

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: f64,
    peak_mib: f64,
}

/// One engine as it is called.
#[derive(Debug, Clone)]
enum Engine {
    Ours(PathBuf),
    Suricata(PathBuf),
}

impl Engine {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "hookprobe-sensor",
            Self::Suricata(_) => "suricata",
        }
    }

    /// Alerts of `capture` by `rules` into `out`/eve.json.
    fn command(&self, capture: &Path, rules: &Path, out: &Path) -> Command {
        match self {
            Self::Ours(binary) => {
                let mut command = Command::new(binary);
                command
                    .arg("replay")
                    .arg(capture)
                    .arg("--rules")
                    .arg(rules)
                    .args(["--eve-types", "alert", "--eve"])
                    .arg(out.join("eve.json"));
                command
            }
            Self::Suricata(root) => {
                let libraries = root.join("usr/lib/x86_64-linux-gnu");
                let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
                command
                    .arg("--library-path")
                    .arg(&libraries)
                    .arg(root.join("usr/bin/suricata"))
                    .args(["--runmode", "single", "-k", "none", "-r"])
                    .arg(capture)
                    .arg("-S")
                    .arg(rules)
                    .arg("-l")
                    .arg(out)
                    .arg("-c")
                    .arg(out.join("suricata.yaml"));
                command
            }
        }
    }
}

/// Suricata's own defaults, alerts only, as Debian ships its files.
fn configuration(root: &Path) -> String {
    let etc = root.join("etc/suricata");
    format!(
        "%YAML 1.1\n---\nvars:\n  address-groups:\n    HOME_NET: \"[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]\"\n    \
         EXTERNAL_NET: \"!$HOME_NET\"\n    HTTP_SERVERS: \"$HOME_NET\"\n    DNS_SERVERS: \"$HOME_NET\"\n    \
         SMTP_SERVERS: \"$HOME_NET\"\n  port-groups:\n    HTTP_PORTS: \"80\"\n    SSH_PORTS: 22\n\
         outputs:\n  - eve-log:\n      enabled: yes\n      filetype: regular\n      filename: eve.json\n      \
         types:\n        - alert\nstats:\n  enabled: no\nunix-command:\n  enabled: no\n\
         classification-file: {}\nreference-config-file: {}\n\
         app-layer:\n  protocols:\n    tls:\n      enabled: yes\n    http:\n      enabled: yes\n    \
         dns:\n      tcp:\n        enabled: yes\n      udp:\n        enabled: yes\n    \
         ssh:\n      enabled: yes\n    smtp:\n      enabled: yes\n    quic:\n      enabled: yes\n    \
         dhcp:\n      enabled: yes\n",
        etc.join("classification.config").display(),
        etc.join("reference.config").display(),
    )
}

/// Prints the comparison.
///
/// # Errors
/// Any [`Error`]; without the test data [`Error::Check`].
pub(super) fn detect(tree: &Tree) -> Result<()> {
    let data = conformance::test_data(tree)?;
    let folder = tree.target("bench/detect");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let suricata = suricata(tree);
    let sensor = sensor(tree)?;
    let capture = folder.join("mixed.pcap");
    let mixed = mix::write(&data, &capture, MIX_BYTES_MIN)?;
    println!(
        "\ndetection: {} captures in {} rounds, {} packets, {:.0} MB",
        mixed.captures,
        mixed.rounds,
        mixed.packets,
        mixed.bytes as f64 / 1e6
    );
    let empty = folder.join("empty.pcap");
    let start = fs::read(&capture).map_err(at(&capture))?;
    fs::write(&empty, start.get(..24).unwrap_or_default()).map_err(at(&empty))?;
    drop(start);
    let engines: Vec<Engine> =
        suricata.map(Engine::Suricata).into_iter().chain([Engine::Ours(sensor)]).collect();
    println!(
        "{:18} {:>6} {:>9} {:>12} {:>9} {:>9} {:>8}",
        "engine", "rules", "load s", "packets/s", "Mbit/s", "peak MiB", "alerts"
    );
    let same = loadable(&engines, &rules::same(&data.join("suricata-verify"))?, &folder)?;
    let made: Vec<String> = same.iter().cloned().chain(rules::made(MADE_RULES)).collect();
    for rules in [same, made] {
        let path = folder.join(format!("rules-{}.rules", rules.len()));
        fs::write(&path, rules.join("\n") + "\n").map_err(at(&path))?;
        let mut seen = Vec::new();
        for engine in &engines {
            seen.push(measure(engine, (&capture, &empty), &path, rules.len(), &mixed, &folder)?);
        }
        if let [theirs, ours] = seen.as_slice() {
            compare(theirs, ours);
        }
    }
    let _ = fs::remove_file(&capture);
    Ok(())
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
fn suricata(tree: &Tree) -> Option<PathBuf> {
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
        for line in refusals(engine, &path, folder)? {
            if let Some(slot) = line.checked_sub(1).and_then(|index| refused.get_mut(index)) {
                *slot = true;
            }
        }
    }
    let kept = rules.iter().zip(&refused).filter(|(_, refused)| !**refused);
    Ok(kept.map(|(rule, _)| rule.clone()).collect())
}

/// Numbers of the lines that `engine` does not load.
fn refusals(engine: &Engine, rules: &Path, folder: &Path) -> Result<Vec<usize>> {
    match engine {
        Engine::Ours(binary) => {
            // It ends with a failure when a rule is refused, and says which: `FILE:LINE: why`.
            let output = Command::new(binary)
                .arg("test-rules")
                .arg(rules)
                .stdin(Stdio::null())
                .output()
                .map_err(|source| Error::Spawn { program: engine.name().into(), source })?;
            let front = format!("{}:", rules.display());
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let numbers = text.lines().filter_map(|line| line.strip_prefix(front.as_str()));
            Ok(numbers.filter_map(|rest| rest.split(':').next()?.parse().ok()).collect())
        }
        Engine::Suricata(root) => {
            let out = folder.join("load");
            prepare(&out, root)?;
            // It ends with a failure when a rule is refused, and says which on standard error.
            let output = engine
                .command(Path::new("/dev/null"), rules, &out)
                .arg("-T")
                .stdin(Stdio::null())
                .output()
                .map_err(|source| Error::Spawn { program: engine.name().into(), source })?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(text.lines().filter_map(line_of_refusal).collect())
        }
    }
}

/// `... error parsing signature "..." from file /x.rules at line 7`.
fn line_of_refusal(text: &str) -> Option<usize> {
    text.contains("error parsing signature").then_some(())?;
    text.rsplit_once("at line ")?.1.trim().parse().ok()
}

fn prepare(out: &Path, root: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).map_err(at(out))?;
    let path = out.join("suricata.yaml");
    fs::write(&path, configuration(root)).map_err(at(&path))
}

/// Alerts by rule.
type Alerts = BTreeMap<u64, u64>;

fn measure(
    engine: &Engine,
    (capture, empty): (&Path, &Path),
    rules: &Path,
    count: usize,
    mixed: &mix::Mix,
    folder: &Path,
) -> Result<Alerts> {
    let out = folder.join(engine.name());
    let again = |capture: &Path| -> Result<Run> {
        match engine {
            Engine::Suricata(root) => prepare(&out, root)?,
            Engine::Ours(_) => {
                let _ = fs::remove_dir_all(&out);
                fs::create_dir_all(&out).map_err(at(&out))?;
            }
        }
        run(engine, &mut engine.command(capture, rules, &out))
    };
    let load = again(empty)?;
    let whole = again(capture)?;
    let alerts = alerts(&out.join("eve.json"))?;
    let seconds = (whole.seconds - load.seconds).max(0.001);
    println!(
        "{:18} {:>6} {:>9.2} {:>12.0} {:>9.0} {:>9.0} {:>8}",
        engine.name(),
        count,
        load.seconds,
        mixed.packets as f64 / seconds,
        mixed.bytes as f64 * 8.0 / seconds / 1e6,
        whole.peak_mib,
        alerts.values().sum::<u64>()
    );
    Ok(alerts)
}

fn run(engine: &Engine, command: &mut Command) -> Result<Run> {
    let spawn = |source| Error::Spawn { program: engine.name().into(), source };
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn)?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak_kib = 0;
    loop {
        peak_kib = peak_kib.max(peak(&status));
        if let Some(ended) = child.try_wait().map_err(spawn)? {
            // An engine that skips rules still ends well; anything else is no measurement.
            if !ended.success() {
                return Err(Error::Check(format!("{}: {ended}", engine.name())));
            }
            break;
        }
        if start.elapsed() > RUN_WAIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Check(format!("{}: longer than {RUN_WAIT:?}", engine.name())));
        }
        std::thread::sleep(POLL);
    }
    Ok(Run { seconds: start.elapsed().as_secs_f64(), peak_mib: peak_kib as f64 / 1024.0 })
}

/// Peak of resident memory in KiB, by the kernel.
fn peak(status: &Path) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn alerts(eve: &Path) -> Result<Alerts> {
    let text = fs::read(eve).map_err(at(eve))?;
    let mut alerts = Alerts::new();
    for line in text.split(|byte| *byte == b'\n') {
        let sid = serde_json::from_slice::<serde_json::Value>(line)
            .ok()
            .and_then(|event| event.pointer("/alert/signature_id")?.as_u64());
        if let Some(sid) = sid {
            *alerts.entry(sid).or_default() += 1;
        }
    }
    Ok(alerts)
}

/// How far both agree, and where not.
fn compare(theirs: &Alerts, ours: &Alerts) {
    let all: std::collections::BTreeSet<u64> = theirs.keys().chain(ours.keys()).copied().collect();
    let count = |alerts: &Alerts, sid: u64| alerts.get(&sid).copied().unwrap_or(0);
    let differs: Vec<u64> =
        all.iter().copied().filter(|sid| count(theirs, *sid) != count(ours, *sid)).collect();
    println!("alerts: {} rules, {} with the same number", all.len(), all.len() - differs.len());
    for sid in differs {
        println!("  sid {sid}: suricata {}, ours {}", count(theirs, sid), count(ours, sid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_refused_rule() {
        let text =
            "E: detect: error parsing signature \"alert x (sid:1;)\" from file /r at line 12";
        assert_eq!(line_of_refusal(text), Some(12));
        assert_eq!(line_of_refusal("I: detect: 1 rule loaded at line 3"), None);
    }
}
