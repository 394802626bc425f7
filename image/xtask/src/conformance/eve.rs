//! EVE records beside Suricata's: every capture of the given suricata-verify tests through both
//! engines, with the test's own rules and settings, and every record of one held against those of
//! the other.
//!
//! What Suricata wrote is kept in the target folder: it changes with Suricata alone. Tests that its
//! build can't run (faults made on purpose) are left out and counted.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::records::{self, Comparison, Tally};
use crate::{
    bench,
    error::{Error, Result, at},
    shell,
    tree::Tree,
};

/// Fields of one type of event that the document names.
const FIELDS_MAX: usize = 6;
/// What is known of the differences.
const NOTES: [&str; 6] = [
    "alert, tls: `tls.ja4` of a hello without signature algorithms is FoxIO's, which ends in zeros",
    "alert, tls: sessions of TLS that resume, or are of 1.3, are finished here some packets earlier, and so are their \
     records, `ts_progress` and `tc_progress`",
    "smtp: the tests are those of Suricata 8.0.6, which tells a mail when it is whole and begins a transaction with QUIT",
    "drop: what is inside a tunnel whose outside is dropped is not taken apart",
    "dns, http: updates of the table of HTTP/2 are not told",
    "fileinfo: files are not stored, and parts of a file (HTTP ranges) are not put together",
];
/// What tells Suricata the form of `dns` events; ours has an option.
const DNS_VERSION: &str = "SURICATA_EVE_DNS_VERSION";
/// Folders in folders that hold tests.
const DEPTH_MAX: u32 = 4;

/// A test as far as both engines need it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Case {
    folder: PathBuf,
    capture: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// Runs both engines over every test; Markdown.
///
/// # Errors
/// Without Suricata, without tests, or when ours can't be built.
pub(super) fn eve(tree: &Tree, data: &Path) -> Result<String> {
    let root = bench::suricata(tree)
        .ok_or_else(|| Error::Check("nothing to compare EVE with: no Suricata".into()))?;
    let sensor = sensor(tree)?;
    let tests = data.join("suricata-verify/tests");
    let mut folders = Vec::new();
    find(&tests, &mut folders, 0);
    folders.sort();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut run, mut left_out) = (0, 0);
    for folder in &folders {
        let name = folder.strip_prefix(&tests).unwrap_or(folder);
        let Some(case) = Case::read(folder) else {
            left_out += 1;
            continue;
        };
        let out = tree.target("conformance/eve").join(name);
        let Some(theirs) = theirs(&root, &case, &out.join("theirs"))? else {
            left_out += 1;
            continue;
        };
        let ours = ours(&sensor, &root, &case, &out)?;
        let Comparison { by_type } = records::compare(&theirs, &ours);
        for (kind, tally) in by_type {
            tallies.entry(kind).or_default().add(tally);
        }
        run += 1;
    }
    if run == 0 {
        return Err(Error::Check(format!("{}: no test could be run", tests.display())));
    }
    Ok(table(&tallies, run, left_out))
}

/// The sensor of this tree, as the other suites build it.
fn sensor(tree: &Tree) -> Result<PathBuf> {
    let folder = tree.target("conformance");
    let mut command = Command::new("cargo");
    command.current_dir(tree.source("")).envs(super::PROFILE);
    command.args(["build", "--locked", "--package", "hookprobe-sensor", "--target-dir"]);
    shell::show(command.arg(&folder))?;
    Ok(folder.join("debug/hookprobe-sensor"))
}

fn find(folder: &Path, out: &mut Vec<PathBuf>, depth: u32) {
    if folder.join("test.yaml").is_file() {
        out.push(folder.to_owned());
    }
    if depth >= DEPTH_MAX {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), out, depth + 1);
        }
    }
}

impl Case {
    /// Reads what is needed of `test.yaml`, line by line: a capture, `args`, and the format of DNS.
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("test.yaml")).ok()?;
        let mut case = Self { folder: folder.to_owned(), ..Self::default() };
        case.describe(&text);
        if case.capture.as_os_str().is_empty() {
            let mut captures: Vec<PathBuf> = fs::read_dir(folder)
                .ok()?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|own| own == "pcap" || own == "pcapng"))
                .collect();
            captures.sort();
            case.capture = captures.into_iter().next()?;
        }
        // Those who run these tests go by the name, too.
        let is_ips = folder.file_name().is_some_and(|name| name.to_string_lossy().contains("ips"));
        if is_ips && !case.arguments.iter().any(|word| word == "--simulate-ips") {
            case.arguments.push("--simulate-ips".into());
        }
        Some(case)
    }

    fn describe(&mut self, text: &str) {
        let mut is_arguments = false;
        for line in text.lines() {
            if !line.starts_with([' ', '-', '#']) && !line.is_empty() {
                is_arguments = line.starts_with("args:");
                if let Some(name) = line.strip_prefix("pcap:") {
                    self.capture = self.folder.join(name.trim());
                }
            }
            let line = line.trim();
            if let Some((DNS_VERSION, version)) = line.split_once(':') {
                self.environment.push((DNS_VERSION.to_owned(), version.trim().to_owned()));
            }
            if let (true, Some(words)) = (is_arguments, line.strip_prefix("- ")) {
                let folder = self.folder.to_string_lossy();
                let words = words.trim_matches('"').split_whitespace();
                self.arguments.extend(words.map(|word| word.replace("${TEST_DIR}", &folder)));
            }
        }
    }

    fn rules(&self) -> PathBuf {
        let own = self.folder.join("test.rules");
        if own.is_file() {
            return own;
        }
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut others: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|own| own == "rules"))
            .collect();
        others.sort();
        others.into_iter().next().unwrap_or_else(|| "/dev/null".into())
    }

    /// Settings that both get: the test's own or those that Suricata ships, and where its lists are.
    fn settings(&self, root: &Path) -> (PathBuf, Vec<String>) {
        let etc = root.join("etc/suricata");
        let own = |name: &str| {
            let own = self.folder.join(name);
            if own.is_file() { own } else { etc.join(name) }
        };
        let classes = format!("classification-file={}", own("classification.config").display());
        let references =
            format!("reference-config-file={}", etc.join("reference.config").display());
        (own("suricata.yaml"), vec!["--set".into(), classes, "--set".into(), references])
    }
}

/// Records of Suricata; `None` if it does not run this test.
fn theirs(root: &Path, case: &Case, out: &Path) -> Result<Option<Vec<Value>>> {
    let (eve, stamp) = (out.join("eve.json"), out.join("ended"));
    if !stamp.exists() {
        let _ = fs::remove_dir_all(out);
        fs::create_dir_all(out).map_err(at(out))?;
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let (settings, more) = case.settings(root);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin/suricata"));
        command.arg("-r").arg(&case.capture).arg("-S").arg(case.rules());
        command.arg("-l").arg(out).arg("-c").arg(settings).args(more);
        if !case.arguments.iter().any(|word| word.starts_with("--runmode")) {
            command.arg("--runmode=single");
        }
        let ended = run(command.args(&case.arguments), case)?;
        fs::write(&stamp, if ended { "well" } else { "badly" }).map_err(at(&stamp))?;
    }
    let ended = fs::read_to_string(&stamp).map_err(at(&stamp))?;
    Ok((ended == "well").then(|| records::read(&eve)))
}

/// Records of ours.
fn ours(sensor: &Path, root: &Path, case: &Case, out: &Path) -> Result<Vec<Value>> {
    let eve = out.join("ours.json");
    let (settings, more) = case.settings(root);
    let mut command = Command::new(sensor);
    command.arg("replay").arg(&case.capture).arg("--rules").arg(case.rules());
    command.arg("--rules-only").arg("--eve").arg(&eve).arg("--config").arg(settings).args(more);
    let mut words = case.arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-k" if words.next().is_some_and(|kind| kind == "none") => {
                command.arg("--no-checksums");
            }
            "--set" => {
                command.arg("--set").args(words.next());
            }
            "--simulate-ips" => {
                command.arg("--simulate-ips");
            }
            _ => {}
        }
    }
    let version = case.environment.iter().find(|(name, _)| name == DNS_VERSION);
    if let Some((_, version)) = version {
        command.arg("--eve-dns-version").arg(version);
    }
    run(&mut command, case)?;
    Ok(records::read(&eve))
}

/// Whether it ended well.
fn run(command: &mut Command, case: &Case) -> Result<bool> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .current_dir(&case.folder)
        .envs(case.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|source| Error::Spawn { program, source })?;
    Ok(status.success())
}

/// Markdown: what each type of event comes to, then which fields differ how often.
fn table(tallies: &BTreeMap<String, Tally>, run: usize, left_out: usize) -> String {
    let mut out = format!(
        "EVE records beside Suricata's, of {run} tests ({left_out} can't be run with its package):\n\n\
         | event | theirs | equal in every field | differ | missing | extra |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    let mut all = Tally::default();
    // A `String` takes everything.
    for (kind, tally) in tallies {
        let _ = writeln!(out, "| {kind} | {}", row(tally));
        all.add(tally.clone());
    }
    let _ = writeln!(out, "| all | {}\n", row(&all));
    for (kind, tally) in tallies.iter().filter(|(_, tally)| !tally.fields.is_empty()) {
        let mut fields: Vec<(&String, &u64)> = tally.fields.iter().collect();
        fields.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        let more = fields.len().saturating_sub(FIELDS_MAX);
        let named = fields.iter().take(FIELDS_MAX);
        let mut list: Vec<String> =
            named.map(|(name, count)| format!("`{name}` {count}")).collect();
        if more > 0 {
            list.push(format!("{more} more"));
        }
        let _ = writeln!(out, "- {kind} differs in {}", list.join(", "));
    }
    let _ = writeln!(out, "\nWhat is known of these:\n");
    for note in NOTES {
        let _ = writeln!(out, "- {note}");
    }
    out
}

fn row(tally: &Tally) -> String {
    let Tally { equal, differ, missing, extra, .. } = tally;
    format!("{} | {equal} | {differ} | {missing} | {extra} |", equal + differ + missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_says_of_itself() {
        let mut case = Case { folder: "/t/x".into(), ..Case::default() };
        case.describe(
            "requires:\n  min-version: 8\nargs:\n- -k none --set a.b=${TEST_DIR}/c\n\n - --simulate-ips\n\
             env:\n  SURICATA_EVE_DNS_VERSION: 2\npcap: ../y.pcap\nchecks:\n  - filter:\n",
        );
        assert_eq!(case.arguments, ["-k", "none", "--set", "a.b=/t/x/c", "--simulate-ips"]);
        assert_eq!(case.capture, Path::new("/t/x/../y.pcap"));
        assert_eq!(case.environment[0].1, "2");
    }
}
