//! What a replay was asked for, and opening it.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use hookprobe_rules::{
    Detector, Mode, Ruleset,
    yaml::{self, Node},
};
use hookprobe_traffic::{config, engine::Engine};

use super::{Replay, ReplayError, pipeline::Pipeline};
use crate::outputs::{eve, zeek};

/// Buffer of EVE lines: 64 KiB is some hundred of them.
const EVE_BUFFER_BYTES: usize = 64 << 10;
/// Rules that did not load and are named one by one.
const PROBLEMS_MAX: usize = 10;
/// Secret of the hash tables: fixed, so that a replay gives the same every time.
const SEED: u64 = 0x6870_7265_706c_6179;

/// Command line of `replay`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Captures, in order of time.
    pub files: Vec<PathBuf>,
    /// Files of rules.
    pub rules: Vec<PathBuf>,
    /// A `suricata.yaml`: variables, host policies, limits.
    pub config: Option<PathBuf>,
    /// Settings over those of `config`: `key=value`, keys with dots.
    pub set: Vec<String>,
    /// As if packets could be held back.
    pub is_ips: bool,
    /// Where EVE lines go; `-` is standard output.
    pub eve: Option<PathBuf>,
    /// Types of events; empty: all.
    pub eve_types: Vec<String>,
    /// Form of `dns` events, over that of `config`: 2 or 3.
    pub eve_dns_version: Option<u8>,
    /// Folder of Zeek's logs.
    pub zeek: Option<PathBuf>,
    /// Zeek's logs as JSON.
    pub is_zeek_json: bool,
    /// Packets with a wrong checksum count, too: captures of machines that leave it to the card.
    pub ignores_checksums: bool,
    /// Nothing but the rules looks at packets: no detectors, no records of the core.
    pub is_rules_only: bool,
}

/// Settings of the engine for captures.
#[must_use]
pub fn engine(is_checksum_validated: bool) -> config::Config {
    let mut config = config::Config { seed: SEED, ..config::Config::default() };
    config.stream.is_checksum_validated = is_checksum_validated;
    config
}

impl Options {
    /// Opens every output and makes the engine.
    pub(super) fn open(&self) -> Result<Replay<Box<dyn Write>>, ReplayError> {
        let node = self.node()?;
        let mut eve = eve::Settings::from_yaml(&node).unwrap_or_default();
        if let Some(version) = self.eve_dns_version {
            eve.details.dns_version = version;
        }
        if !self.eve_types.is_empty() {
            eve.types =
                eve::Types::only(&self.eve_types).map_err(|name| ReplayError::Type { name })?;
        }
        let writer = self.eve.as_deref().map(open_eve).transpose()?;
        let (mut settings, rules) = self.rules(&node, &mut eve)?;
        let writer = writer.map(|out| eve::Writer::new(out, eve));
        let logs = self.zeek.as_deref().map(|folder| self.open_zeek(folder)).transpose()?;
        // Zeek picks connections up in their middle; what rules say holds only from a handshake on.
        let is_zeek_alone = self.zeek.is_some() && self.rules.is_empty();
        settings.stream.is_midstream |= is_zeek_alone;
        settings.decode.is_vxlan_strict &= !is_zeek_alone;
        settings.flow.has_connections = self.zeek.is_some() || !self.is_rules_only;
        let engine = Engine::new(settings);
        let mut replay = Replay::with(engine, Pipeline::new(rules, writer, logs));
        if self.is_rules_only {
            replay.only_rules();
        }
        Ok(replay)
    }

    /// suricata.yaml with what was set over it; nothing without any.
    fn node(&self) -> Result<Node, ReplayError> {
        let mut node = match &self.config {
            Some(path) => yaml::parse(&read(path)?).map_err(|error| ReplayError::Config {
                path: path.clone(),
                why: error.to_string(),
            })?,
            None => Node::Null,
        };
        for set in &self.set {
            let Some((key, value)) = set.split_once('=') else {
                return Err(ReplayError::Set { setting: set.clone() });
            };
            node.set(key, value);
        }
        Ok(node)
    }

    /// Settings of the engine, and the rules if there are any.
    fn rules(
        &self,
        node: &Node,
        eve: &mut eve::Settings,
    ) -> Result<(config::Config, Option<Detector>), ReplayError> {
        let has_node = *node != Node::Null;
        let mut settings = if has_node {
            hookprobe_rules::config::traffic(node, self.is_ips)
        } else {
            let mut settings = config::Config::default();
            settings.stream.is_inline = self.is_ips;
            settings
        };
        settings.seed = SEED;
        settings.stream.is_checksum_validated &= !self.ignores_checksums;
        if self.rules.is_empty() {
            return Ok((settings, None));
        }
        let mut rules = if has_node {
            hookprobe_rules::Config::from_yaml(node)
        } else {
            hookprobe_rules::Config::default()
        };
        if has_node {
            self.read_settings(node, &mut rules);
        }
        rules.is_ips = self.is_ips;
        rules.is_body_inline = self.is_ips;
        if rules.variables.is_empty() {
            rules.variables = hookprobe_rules::Config::shipped_variables();
        }
        let mut files = Vec::new();
        for path in &self.rules {
            let text = read(path)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            for name in named_files(&text) {
                // A set that can't be read is a problem of the rule that names it.
                if let Ok(text) = read(&folder.join(name)) {
                    rules.files.insert(name.to_owned(), text);
                }
            }
            files.push((path.display().to_string(), text));
        }
        if has_node {
            eve.made(node, files.iter().map(|(_, text)| text.as_str()));
        }
        let pairs: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (ruleset, sets) = Ruleset::new(&pairs, rules);
        for problem in ruleset.problems.iter().take(PROBLEMS_MAX) {
            eprintln!("WARN {}:{}: {}", problem.file, problem.line, problem.error);
        }
        let mode = if self.is_ips { Mode::Inline } else { Mode::Passive };
        let failed = ruleset.problems.len();
        if failed > PROBLEMS_MAX {
            eprintln!(
                "WARN {failed} rules did not load; `hookprobe-sensor test-rules` names them all"
            );
        }
        Ok((settings, Some(Detector::new(Arc::new(ruleset), sets, mode))))
    }

    /// What suricata.yaml says of rules, and the files that it names.
    fn read_settings(&self, node: &Node, rules: &mut hookprobe_rules::Config) {
        rules.read_exceptions(node, self.is_ips);
        rules.is_text_kept = node
            .path("outputs.eve-log.types.alert.metadata.rule.raw")
            .and_then(Node::switch)
            .unwrap_or(false);
        let named = |key: &str| node.get(key).and_then(Node::text).map(Path::new);
        // A file that is not there is no reason to stop: defaults hold.
        if let Some(text) = named("threshold-file").and_then(|path| read(path).ok()) {
            rules.read_thresholds(&text);
        }
        if let Some(text) = named("classification-file").and_then(|path| read(path).ok()) {
            rules.read_classes(&text);
        }
        if let Some(text) = named("reference-config-file").and_then(|path| read(path).ok()) {
            rules.read_references(&text);
        }
    }

    fn open_zeek(&self, folder: &Path) -> Result<zeek::Logs, ReplayError> {
        let write_error = |source| ReplayError::Write { path: folder.into(), source };
        fs::create_dir_all(folder).map_err(write_error)?;
        let format = if self.is_zeek_json { zeek::Format::Json } else { zeek::Format::Tsv };
        let folder = folder.to_path_buf();
        let open = move |name: &'static str| -> io::Result<Box<dyn Write>> {
            Ok(Box::new(File::create(folder.join(name).with_extension("log"))?))
        };
        let logs = zeek::Logs::new(format, Box::new(open));
        Ok(if self.ignores_checksums { logs.without_checksums() } else { logs })
    }
}

/// A text; bytes that are no UTF-8 are replaced, as rules may have any in comments.
fn read(path: &Path) -> Result<String, ReplayError> {
    let bytes =
        fs::read(path).map_err(|source| ReplayError::Rules { path: path.into(), source })?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Files that rules name: `load NAME` of datasets.
fn named_files(rules: &str) -> impl Iterator<Item = &str> {
    rules.lines().flat_map(|line| line.split("load ").skip(1)).filter_map(|rest| {
        let name = rest.split([',', ';']).next()?.trim();
        (!name.is_empty()).then_some(name)
    })
}

fn open_eve(path: &Path) -> Result<Box<dyn Write>, ReplayError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufWriter::with_capacity(EVE_BUFFER_BYTES, io::stdout())));
    }
    let file =
        File::create(path).map_err(|source| ReplayError::Write { path: path.into(), source })?;
    Ok(Box::new(BufWriter::with_capacity(EVE_BUFFER_BYTES, file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_needs_a_value() {
        let options = |set: &str| Options { set: vec![set.into()], ..Options::default() };
        let error = options("stream.inline").node().unwrap_err().to_string();
        assert!(error.contains("HP-SN-095") && error.contains("stream.inline"), "{error}");
        let node = options("stream.inline=yes").node().unwrap();
        assert_eq!(node.path("stream.inline").and_then(Node::text), Some("yes"));
    }

    #[test]
    fn the_engine_is_inline_where_the_rules_are() {
        for is_ips in [false, true] {
            let options = Options { is_ips, ..Options::default() };
            let (settings, _) = options.rules(&Node::Null, &mut eve::Settings::default()).unwrap();
            assert_eq!(settings.stream.is_inline, is_ips);
        }
    }
}
