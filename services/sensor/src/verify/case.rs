//! A test as its folder describes it.

use std::path::{Path, PathBuf};

use hookprobe_rules::yaml::{self, Node};
use hookprobe_traffic::config as traffic;

/// Which Suricata the results are those of.
const VERSION: [u32; 3] = [8, 0, 6];

/// A test.
pub(super) struct Case {
    pub(super) folder: PathBuf,
    pub(super) description: Node,
    /// suricata.yaml with the `--set` arguments applied.
    pub(super) config: Node,
    pub(super) has_config: bool,
    pub(super) is_ips: bool,
    pub(super) has_checksums: bool,
    /// `port N` as a filter of the capture.
    pub(super) port: Option<u16>,
    /// Faults that are made on purpose.
    pub(super) faults: Faults,
    /// `dns` events of which version.
    pub(super) dns_version: u8,
}

/// `--simulate-*`: at which frame or offset what fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    app_errors_at: [Option<u64>; 2],
    reassembly_at: Option<u64>,
    session_at: Option<u64>,
    flow_at: Option<u64>,
    defrag_at: Option<u64>,
    pub(super) loss_at: Option<u64>,
}

impl Faults {
    fn read(&mut self, name: &str, value: &str) {
        let [to_server, to_client] = &mut self.app_errors_at;
        let slot = match name {
            "applayer-error-at-offset-ts" => to_server,
            "applayer-error-at-offset-tc" => to_client,
            "packet-tcp-reassembly-memcap" => &mut self.reassembly_at,
            "packet-tcp-ssn-memcap" => &mut self.session_at,
            "packet-flow-memcap" => &mut self.flow_at,
            "packet-defrag-memcap" => &mut self.defrag_at,
            "packet-loss" => &mut self.loss_at,
            _ => return,
        };
        *slot = value.parse().ok();
    }

    pub(super) const fn apply(&self, settings: &mut traffic::Config) {
        settings.app.errors_at = self.app_errors_at;
        settings.stream.no_memory_at = self.reassembly_at;
        settings.stream.no_session_at = self.session_at;
        settings.flow.no_memory_at = self.flow_at;
        settings.defrag.no_memory_at = self.defrag_at;
    }
}

impl Case {
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let read = |name: &str| {
            std::fs::read(folder.join(name))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|error| format!("{name}: {error}"))
        };
        let description = yaml::parse(&read("test.yaml")?).map_err(|error| error.to_string())?;
        let (mut config, has_config) = match read("suricata.yaml") {
            Ok(text) => {
                (yaml::parse(&text).map_err(|error| format!("suricata.yaml: {error}"))?, true)
            }
            Err(_) => {
                // What Suricata ships says something of HTTP, which changes its limits.
                let mut node = Node::Map(Vec::new());
                node.set("app-layer.protocols.http.enabled", "yes");
                node.set("app-layer.protocols.http.libhtp.default-config.personality", "IDS");
                node.set("decoder.teredo.ports", "3544");
                for (state, seconds) in [("new", "60"), ("established", "600"), ("closed", "60")] {
                    node.set(&format!("flow-timeouts.tcp.{state}"), seconds);
                }
                (node, false)
            }
        };
        let mut case = Self {
            folder: folder.to_owned(),
            description: Node::Null,
            config: Node::Null,
            has_config,
            is_ips: false,
            has_checksums: true,
            port: None,
            faults: Faults::default(),
            dns_version: 3,
        };
        let arguments = description.get("args").map(Node::items).unwrap_or_default();
        let text: Vec<&str> = arguments.iter().filter_map(Node::text).collect();
        case.arguments(&text.join(" "), &mut config);
        // Those who run these tests with Suricata go by the name, too.
        case.is_ips |=
            folder.file_name().is_some_and(|name| name.to_string_lossy().contains("ips"));
        let version = description.get("env").and_then(|env| env.get("SURICATA_EVE_DNS_VERSION"));
        let own =
            config.get("outputs").and_then(|outputs| outputs.path("eve-log.types.dns.version"));
        if let Some(version) = own.or(version).and_then(Node::text) {
            case.dns_version = if version == "2" { 2 } else { 3 };
        }
        case.description = description;
        case.config = config;
        Ok(case)
    }

    fn arguments(&mut self, text: &str, config: &mut Node) {
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--simulate-ips" => self.is_ips = true,
                "-k" => self.has_checksums = words.next() != Some("none"),
                "--set" => {
                    if let Some((key, value)) = words.next().and_then(|set| set.split_once('=')) {
                        let folder = self.folder.to_string_lossy();
                        config.set(key, &value.replace("${TEST_DIR}", &folder));
                    }
                }
                _ if word.starts_with("--simulate-") => {
                    if let Some((name, value)) =
                        word.strip_prefix("--simulate-").and_then(|word| word.split_once('='))
                    {
                        self.faults.read(name, value);
                    }
                }
                "port" => self.port = words.next().and_then(|port| port.parse().ok()),
                _ => {}
            }
        }
    }

    /// Why the test is not for this version.
    pub(super) fn refusal(node: Option<&Node>) -> Option<String> {
        let requires = node?;
        let version = |key: &str| {
            let text = requires.get(key)?.text()?;
            let mut parts = [0; 3];
            for (slot, part) in parts.iter_mut().zip(text.split('.')) {
                *slot = part.parse().unwrap_or(0);
            }
            Some(parts)
        };
        if version("min-version").is_some_and(|least| VERSION < least) {
            return Some("is for a later version".to_owned());
        }
        if version("lt-version").is_some_and(|limit| VERSION >= limit) {
            return Some("is for an earlier version".to_owned());
        }
        if version("gt-version").is_some_and(|limit| VERSION <= limit) {
            return Some("is for a later version".to_owned());
        }
        let version_is = requires.get("version").and_then(Node::text);
        if version_is.is_some_and(|version| !"8.0.6".starts_with(version)) {
            return Some("is for another version".to_owned());
        }
        None
    }

    /// The capture.
    pub(super) fn capture(&self) -> Option<PathBuf> {
        if let Some(Node::Text(name, _)) = self.description.get("pcap") {
            return Some(self.folder.join(name));
        }
        let mut captures: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("pcap" | "pcapng"))
            })
            .collect();
        captures.sort();
        captures.into_iter().next()
    }

    /// Files of rules, with their text.
    pub(super) fn rules(&self) -> Vec<(String, String)> {
        let mut names = vec!["test.rules".to_owned()];
        if !self.folder.join("test.rules").is_file() {
            let listed = self.config.get("rule-files").map(Node::items).unwrap_or_default();
            names = listed.iter().filter_map(Node::text).map(str::to_owned).collect();
            names.extend(self.others("rules"));
            names.sort();
            names.dedup();
        }
        names
            .into_iter()
            .filter_map(|name| {
                let bytes = std::fs::read(self.folder.join(&name)).ok()?;
                Some((name, String::from_utf8_lossy(&bytes).into_owned()))
            })
            .collect()
    }

    fn others(&self, extension: &str) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| Path::new(name).extension().is_some_and(|own| own == extension))
            .collect()
    }

    /// Text files of the folder that rules may load, by their names.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        /// Larger ones are captures.
        const FILE_BYTES_MAX: u64 = 1 << 20;
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                entry.metadata().is_ok_and(|data| data.is_file() && data.len() < FILE_BYTES_MAX)
            })
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                if name.contains(".pcap") {
                    return None;
                }
                Some((name, std::fs::read_to_string(entry.path()).ok()?))
            })
            .collect()
    }
}
