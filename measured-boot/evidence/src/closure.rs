//! Service closures: everything that decides what a service does, as data.
//!
//! `services.toml` in the image is the one list of services. PID 1 starts from it, in its order;
//! the composer predicts from it. A closure is measured as one event per file and one event for
//! the specification (arguments, environment, user, capabilities, sandbox, sockets), so that a
//! verdict names the file or the specification that differs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;
use thiserror::Error;

/// Most services.
pub const SERVICES_MAX: usize = 32;
/// Most sockets of one service.
pub const SOCKETS_MAX: usize = 16;
/// Most extra files of one service.
pub const FILES_MAX: usize = 64;

/// The whole of `services.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceList {
    /// In order of measurement and start.
    pub service: Vec<ServiceSpec>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Unique; lower-case letters, digits, `-`.
    pub name: String,
    /// Absolute path of the binary.
    pub exec: String,
    /// Arguments after the name.
    #[serde(default)]
    pub args: Vec<String>,
    /// The whole environment, beside what the notify and socket protocols add.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// More files that decide what it does: eBPF objects, configuration, libraries.
    #[serde(default)]
    pub files: Vec<String>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Capabilities kept, e.g. `CAP_NET_ADMIN`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Groups of system calls, see PID 1's sandbox.
    pub seccomp: Vec<String>,
    /// Paths that it may read (landlock).
    #[serde(default)]
    pub read: Vec<String>,
    /// Paths that it may read and write (landlock).
    #[serde(default)]
    pub write: Vec<String>,
    /// Directories that PID 1 makes for it before the start, mode 0700, owned by its uid.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Sockets that PID 1 opens and hands over (LISTEN_FDS).
    #[serde(default)]
    pub sockets: Vec<SocketSpec>,
    /// Device nodes that PID 1 gives to its uid while it runs (a directory: to make nodes in it), and
    /// takes back when it ends. One that is not there is left out.
    #[serde(default)]
    pub devices: Vec<String>,
    /// When PID 1 runs it.
    #[serde(default)]
    pub start: Start,
    /// `log`: output goes to PID 1's log; else a terminal such as `/dev/ttyS0`.
    #[serde(default = "stdio_log")]
    pub stdio: String,
    /// `host`, or `none` for a network namespace without interfaces.
    pub network: Network,
    /// Memory limit (cgroup `memory.max`).
    pub memory_mib_max: u64,
    /// Process and thread limit (cgroup `pids.max`).
    pub tasks_max: u64,
    /// Whether the box is ready only when it said READY=1.
    #[serde(default = "yes")]
    pub essential: bool,
    /// `notify`: READY=1 on the notify socket; `exec`: ready once it runs.
    #[serde(default)]
    pub ready: Ready,
    /// Seconds between WATCHDOG=1 after which it is killed; 0: no watchdog.
    #[serde(default)]
    pub watchdog_s: u64,
}

fn stdio_log() -> String {
    "log".into()
}

fn yes() -> bool {
    true
}

/// A listening stream socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketSpec {
    /// Name handed over in LISTEN_FDNAMES.
    pub name: String,
    /// Absolute path.
    pub path: String,
}

/// Network of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The box's.
    Host,
    /// An empty namespace.
    None,
}

/// When a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With all others, and again when it ends.
    #[default]
    Services,
    /// Once, in the phase `unlock`, before any other.
    Unlock,
    /// Each time that a console asks for evidence on a USB stick.
    Carry,
}

/// How a service says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// READY=1.
    #[default]
    Notify,
    /// By running.
    Exec,
}

/// Why `services.toml` can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ClosureError {
    /// Not TOML, or a key that does not exist.
    #[error("HP-MB-010 services.toml: {0}")]
    Syntax(String),
    /// A rule is broken.
    #[error("HP-MB-011 services.toml: service {service}: {why}")]
    Rule {
        /// Which service.
        service: String,
        /// Which rule.
        why: String,
    },
}

impl ServiceList {
    /// Parses and checks the list.
    ///
    /// # Errors
    /// Any [`ClosureError`].
    pub fn parse(text: &str) -> Result<Self, ClosureError> {
        let list: Self = toml::from_str(text)
            .map_err(|error| ClosureError::Syntax(error.to_string().replace('\n', " ")))?;
        list.check()?;
        Ok(list)
    }

    fn check(&self) -> Result<(), ClosureError> {
        let mut names = Vec::new();
        if self.service.len() > SERVICES_MAX {
            return Err(ClosureError::Syntax(format!(
                "{} services, at most {SERVICES_MAX}",
                self.service.len()
            )));
        }
        for spec in &self.service {
            let rule = |ok: bool, why: &str| {
                if ok {
                    Ok(())
                } else {
                    Err(ClosureError::Rule { service: spec.name.clone(), why: why.into() })
                }
            };
            rule(
                !spec.name.is_empty()
                    && spec.name.len() <= 32
                    && spec
                        .name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "the name is 1 to 32 of a-z, 0-9, -",
            )?;
            rule(!names.contains(&spec.name.as_str()), "the name is taken")?;
            names.push(spec.name.as_str());
            rule(spec.files.len() <= FILES_MAX, "too many files")?;
            rule(spec.sockets.len() <= SOCKETS_MAX, "too many sockets")?;
            rule(
                spec.uid != 0 && spec.gid != 0 && !spec.groups.contains(&0),
                "uid, gid and groups are not 0",
            )?;
            let paths =
                [&spec.exec].into_iter().chain(&spec.files).chain(&spec.read).chain(&spec.write);
            for path in paths
                .chain(&spec.devices)
                .chain(&spec.directories)
                .chain(spec.sockets.iter().map(|socket| &socket.path))
            {
                rule(
                    path.starts_with('/') && !path.split('/').any(|part| part == ".."),
                    "every path is absolute, without ..",
                )?;
            }
            rule(!spec.seccomp.is_empty(), "seccomp names at least one group")?;
            rule(spec.memory_mib_max > 0 && spec.tasks_max > 0, "the limits are above 0")?;
        }
        Ok(())
    }
}

impl ServiceSpec {
    /// Files of the closure in order of measurement: the binary, then the others as listed.
    pub fn closure_files(&self) -> impl Iterator<Item = &str> {
        [self.exec.as_str()].into_iter().chain(self.files.iter().map(String::as_str))
    }

    /// Name of the event that measures `path`.
    #[must_use]
    pub fn file_event(&self, path: &str) -> String {
        format!("service:{} file:{path}", self.name)
    }

    /// Name of the event that measures the specification.
    #[must_use]
    pub fn spec_event(&self) -> String {
        format!("service:{} spec", self.name)
    }

    /// Canonical bytes of all but the files' content: one `key=value` line per field in a fixed
    /// order, strings quoted and escaped here (not by `Debug`, whose escapes follow the compiler's
    /// Unicode tables), so that two different specifications never have the same bytes and one
    /// specification has the same bytes whoever compiles this.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = String::from("hookprobe.service.v2\n");
        // Destructured so that a new field can't be forgotten here.
        let Self {
            name,
            exec,
            args,
            env,
            files,
            uid,
            gid,
            groups,
            capabilities,
            seccomp,
            read,
            write,
            directories,
            sockets,
            devices,
            start,
            stdio,
            network,
            memory_mib_max,
            tasks_max,
            essential,
            ready,
            watchdog_s,
        } = self;
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "name={}\nexec={}\nargs={}\nenv={{{}}}\nfiles={}",
            quoted(name),
            quoted(exec),
            strings(args),
            joined(env, |(key, value)| format!("{}: {}", quoted(key), quoted(value))),
            strings(files),
        );
        let _ = writeln!(
            out,
            "uid={uid}\ngid={gid}\ngroups=[{}]\ncapabilities={}",
            joined(groups, u32::to_string),
            strings(capabilities),
        );
        let _ = writeln!(
            out,
            "seccomp={}\nread={}\nwrite={}\ndirectories={}",
            strings(seccomp),
            strings(read),
            strings(write),
            strings(directories),
        );
        let socket =
            |socket: &SocketSpec| format!("({}, {})", quoted(&socket.name), quoted(&socket.path));
        let network = match network {
            Network::Host => "Host",
            Network::None => "None",
        };
        let ready = match ready {
            Ready::Notify => "Notify",
            Ready::Exec => "Exec",
        };
        let _ = writeln!(
            out,
            "sockets=[{}]\nstdio={}\nnetwork={network}",
            joined(sockets, socket),
            quoted(stdio)
        );
        let _ = writeln!(
            out,
            "memory_mib_max={memory_mib_max}\ntasks_max={tasks_max}\nessential={essential}"
        );
        let start = match start {
            Start::Services => "Services",
            Start::Unlock => "Unlock",
            Start::Carry => "Carry",
        };
        let _ = writeln!(out, "ready={ready}\nwatchdog_s={watchdog_s}");
        let _ = writeln!(out, "devices={}\nstart={start}", strings(devices));
        out.into_bytes()
    }
}

/// `text` in quotes; a quote, a backslash and everything but printable ASCII as `\u{..}`.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for char in text.chars() {
        if matches!(char, ' '..='~') && !matches!(char, '"' | '\\') {
            out.push(char);
        } else {
            out.extend(char.escape_unicode());
        }
    }
    out.push('"');
    out
}

fn joined<T>(items: impl IntoIterator<Item = T>, text: impl FnMut(T) -> String) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

fn strings(items: &[String]) -> String {
    format!("[{}]", joined(items, |item| quoted(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [[service]]
        name = "ledger"
        exec = "/usr/lib/hookprobe/hookprobe-ledger"
        uid = 801
        gid = 801
        seccomp = ["base"]
        network = "none"
        memory_mib_max = 64
        tasks_max = 8
    "#;

    #[test]
    fn every_field_changes_the_canonical_bytes() {
        let base = ServiceList::parse(ONE).unwrap().service.remove(0);
        let change = |edit: &dyn Fn(&mut ServiceSpec)| {
            let mut spec = base.clone();
            edit(&mut spec);
            assert_ne!(spec.canonical(), base.canonical());
        };
        change(&|spec| spec.args.push("--x".into()));
        change(&|spec| {
            spec.env.insert("LD_PRELOAD".into(), "/x".into());
        });
        change(&|spec| spec.uid += 1);
        change(&|spec| spec.capabilities.push("CAP_SYS_ADMIN".into()));
        change(&|spec| spec.network = Network::Host);
        change(&|spec| spec.watchdog_s = 1);
        change(&|spec| spec.stdio = "/dev/tty1".into());
    }

    /// PCR 13 of a release depends on these bytes: they change only together with the version in
    /// their first line.
    #[test]
    fn golden_canonical_bytes() {
        let text = ONE.replace(
            "seccomp",
            "args = [\"--x\", \"a b\"]\nenv = { A = \"1\", B = \"\" }\ngroups = [800, 810]\n\
             sockets = [{ name = \"l\", path = \"/l\" }]\nseccomp",
        );
        let spec = ServiceList::parse(&text).unwrap().service.remove(0);
        let expect = "hookprobe.service.v2\nname=\"ledger\"\n\
            exec=\"/usr/lib/hookprobe/hookprobe-ledger\"\nargs=[\"--x\", \"a b\"]\n\
            env={\"A\": \"1\", \"B\": \"\"}\nfiles=[]\nuid=801\ngid=801\ngroups=[800, 810]\n\
            capabilities=[]\nseccomp=[\"base\"]\nread=[]\nwrite=[]\ndirectories=[]\n\
            sockets=[(\"l\", \"/l\")]\nstdio=\"log\"\nnetwork=None\nmemory_mib_max=64\n\
            tasks_max=8\nessential=true\nready=Notify\nwatchdog_s=0\ndevices=[]\nstart=Services\n";
        assert_eq!(String::from_utf8(spec.canonical()).unwrap(), expect);
    }

    #[test]
    fn texts_that_imitate_the_format_stay_apart() {
        let base = ServiceList::parse(ONE).unwrap().service.remove(0);
        let with = |args: &[&str]| {
            let args = args.iter().map(ToString::to_string).collect();
            ServiceSpec { args, ..base.clone() }.canonical()
        };
        let all = [
            with(&[]),
            with(&[""]),
            with(&["", ""]),
            with(&["a", "b"]),
            with(&["a, b"]),
            with(&["a\", \"b"]),
            with(&["a\u{22}, \u{22}b\\"]),
            with(&["a\\u{22}, \\u{22}b"]),
            with(&["a\nuid=0"]),
            with(&["a\\nuid=0"]),
            with(&["\u{e9}"]),
            with(&["e\u{301}"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_ascii() && !one.windows(6).any(|part| part == b"\nuid=0"));
            assert!(!all[at + 1..].contains(one), "{}", String::from_utf8_lossy(one));
        }
    }

    #[test]
    fn rules() {
        let check = |text: String, expect: &str| {
            let got = ServiceList::parse(&text).unwrap_err().to_string();
            assert!(got.contains(expect), "{got}");
        };
        check(format!("{ONE}{ONE}"), "taken");
        check(ONE.replace("801", "0"), "not 0");
        check(ONE.replace("seccomp", "groups = [800, 0]\nseccomp"), "not 0");
        check(ONE.replace("/usr/lib", "/usr/../lib"), "absolute");
        check(ONE.replace("uid", "uld"), "unknown field");
    }
}
