//! One engine of the comparison: how it is called, what it costs, what it finds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::error::{Error, Result, at};

/// Longest run of one engine. 30 min: an hour's patience for four of them on a slow machine.
const RUN_WAIT: Duration = Duration::from_secs(1800);
/// Between two looks at a running engine: its peak memory only grows.
const POLL: Duration = Duration::from_millis(20);
/// Clock ticks of `/proc/PID/stat` in a second, on every Linux that runs this.
const TICKS_PER_SECOND: f64 = 100.0;

/// Alerts by rule.
pub(super) type Alerts = BTreeMap<u64, u64>;

/// What one run took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// By the clock.
    pub(super) seconds: f64,
    /// By the processor, in user and system: other programs on the machine count less.
    pub(super) cpu_s: f64,
    pub(super) peak_mib: f64,
}

/// One engine as it is called.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    Ours(PathBuf),
    Suricata(PathBuf),
}

impl Engine {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "hookprobe-sensor",
            Self::Suricata(_) => "suricata",
        }
    }

    /// Alerts of `capture` by `rules` into `out`/eve.json, with the settings in `out`. Neither
    /// looks at checksums: captures of a sender's own machine have none. Ours leaves its detectors
    /// of behaviour out: Suricata has nothing like them.
    fn command(&self, capture: &Path, rules: &Path, out: &Path) -> Command {
        match self {
            Self::Ours(binary) => {
                let mut command = Command::new(binary);
                command
                    .arg("replay")
                    .arg(capture)
                    .arg("--rules")
                    .arg(rules)
                    .args(["--rules-only", "--no-checksums", "--eve-types", "alert", "--eve"])
                    .arg(out.join("eve.json"))
                    .arg("--config")
                    .arg(out.join("suricata.yaml"));
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

    /// Runs it; cost and alerts.
    pub(super) fn run(&self, capture: &Path, rules: &Path, folder: &Path) -> Result<(Run, Alerts)> {
        let out = self.prepare(folder)?;
        let run = watch(self, &mut self.command(capture, rules, &out))?;
        let eve = out.join("eve.json");
        let alerts = alerts(&eve)?;
        fs::remove_file(&eve).map_err(at(&eve))?;
        Ok((run, alerts))
    }

    fn prepare(&self, folder: &Path) -> Result<PathBuf> {
        let out = folder.join(self.name());
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).map_err(at(&out))?;
        let etc = match self {
            Self::Ours(_) => None,
            Self::Suricata(root) => Some(root.join("etc/suricata")),
        };
        let path = out.join("suricata.yaml");
        fs::write(&path, configuration(etc.as_deref())).map_err(at(&path))?;
        Ok(out)
    }

    /// Numbers of the lines that it does not load.
    pub(super) fn refusals(&self, rules: &Path, folder: &Path) -> Result<Vec<usize>> {
        let failed = |source| Error::Spawn { program: self.name().into(), source };
        match self {
            Self::Ours(binary) => {
                // It ends with a failure when a rule is refused, and says which: `FILE:LINE: why`.
                let output = Command::new(binary)
                    .arg("test-rules")
                    .arg(rules)
                    .stdin(Stdio::null())
                    .output()
                    .map_err(failed)?;
                let front = format!("{}:", rules.display());
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let numbers = text.lines().filter_map(|line| line.strip_prefix(front.as_str()));
                Ok(numbers.filter_map(|rest| rest.split(':').next()?.parse().ok()).collect())
            }
            Self::Suricata(_) => {
                // It ends with a failure when a rule is refused, and says which on standard error.
                let out = self.prepare(folder)?;
                let output = self
                    .command(Path::new("/dev/null"), rules, &out)
                    .arg("-T")
                    .stdin(Stdio::null())
                    .output()
                    .map_err(failed)?;
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                Ok(text.lines().filter_map(line_of_refusal).collect())
            }
        }
    }
}

/// Defaults of both, alerts only. The networks are wide enough for the shifted addresses of the
/// mix; the depth is the one that Suricata's packages ship.
fn configuration(etc: Option<&Path>) -> String {
    let files = etc.map_or_else(String::new, |etc| {
        format!(
            "classification-file: {}\nreference-config-file: {}\n",
            etc.join("classification.config").display(),
            etc.join("reference.config").display()
        )
    });
    format!(
        "%YAML 1.1\n---\nvars:\n  address-groups:\n    HOME_NET: \"[192.0.0.0/8,10.0.0.0/8,172.0.0.0/8]\"\n    \
         EXTERNAL_NET: \"!$HOME_NET\"\n    HTTP_SERVERS: \"$HOME_NET\"\n    DNS_SERVERS: \"$HOME_NET\"\n    \
         SMTP_SERVERS: \"$HOME_NET\"\n  port-groups:\n    HTTP_PORTS: \"80\"\n    SSH_PORTS: 22\n\
         outputs:\n  - eve-log:\n      enabled: yes\n      filetype: regular\n      filename: eve.json\n      \
         types:\n        - alert\nstats:\n  enabled: no\nunix-command:\n  enabled: no\n{files}\
         stream:\n  reassembly:\n    depth: 1mb\n\
         app-layer:\n  protocols:\n    tls:\n      enabled: yes\n    http:\n      enabled: yes\n    \
         dns:\n      tcp:\n        enabled: yes\n      udp:\n        enabled: yes\n    \
         ssh:\n      enabled: yes\n    smtp:\n      enabled: yes\n    quic:\n      enabled: yes\n    \
         dhcp:\n      enabled: yes\n"
    )
}

/// `... error parsing signature "..." from file /x.rules at line 7`.
fn line_of_refusal(text: &str) -> Option<usize> {
    text.contains("error parsing signature").then_some(())?;
    text.rsplit_once("at line ")?.1.trim().parse().ok()
}

fn watch(engine: &Engine, command: &mut Command) -> Result<Run> {
    let spawn = |source| Error::Spawn { program: engine.name().into(), source };
    let (start, before) = (Instant::now(), children_cpu_s());
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
    Ok(Run {
        seconds: start.elapsed().as_secs_f64(),
        cpu_s: children_cpu_s() - before,
        peak_mib: peak_kib as f64 / 1024.0,
    })
}

/// Processor time of all children that have ended.
fn children_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_of_children(&text).unwrap_or(f64::NAN)
}

/// `cutime` and `cstime`: the 14th and 15th field after the name in parentheses.
fn cpu_of_children(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(13);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
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

    #[test]
    fn processor_time_of_children() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 150 50 20 0 1 0 9 1 1";
        assert_eq!(cpu_of_children(stat), Some(2.0));
        assert_eq!(cpu_of_children("7 (x"), None);
    }
}
