//! What the detectors work with and the box keeps in files: rules, lists of names, the model.
//!
//! Read beside the packets, never in their way. A file that is not there is no trouble, and what it
//! said before is no longer in force; one that can't be used is said with its code, and what was in
//! use before stays.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use hookprobe_abi::{
    Address, BlockEntry,
    rules::{DRY_RUN, masked},
};
use hookprobe_behaviour::model::{
    Model,
    file::{self as model_file, FileError},
    forest::ForestSeed,
};
use hookprobe_reputation::{
    Reputation,
    allow::AllowList,
    format::{Expectation, HEADER_BYTES, LoadError, PublicKey, Serial},
    names::{Loader, NameList},
};
use hookprobe_rules::{Ruleset, Sets};
use hookprobe_wire::{
    event::Mode,
    site::{SITE_BYTES_MAX, Site},
};
use thiserror::Error;
use tracing::{info, warn};

use super::clock::{boot_ns, real_ns};
use crate::{
    core::address::from_ip,
    object::lists::{List, ListError, Rule},
};

/// Suffix of files of rules.
const RULES_SUFFIX: &str = "rules";
/// Name of the list of names.
const NAMES_FILE: &str = "hookprobe.names";
/// Name of the operator's exceptions to it.
const ALLOW_FILE: &str = "hookprobe.allow";
/// Name of the list of addresses.
const BLOCK_FILE: &str = "hookprobe.block";
/// Bytes of it: a hundred thousand addresses and their comments.
const BLOCK_BYTES_MAX: u64 = 8 << 20;
/// Name of the model, in the folder of the state.
const MODEL_FILE: &str = "model";
/// Most files of rules.
const RULE_FILES_MAX: usize = 64;
/// Bytes of all rules together. 32 MiB: forty thousand rules as they are published.
const RULES_BYTES_MAX: u64 = 32 << 20;
/// Bytes of the exceptions.
const ALLOW_BYTES_MAX: u64 = 1 << 20;
/// Bytes read at once from the list of names.
const READ_BYTES: usize = 64 << 10;
/// Rules that did not load and are named one by one in the log.
const PROBLEMS_MAX: usize = 5;

/// Where they are.
#[derive(Debug, Clone)]
pub struct Supplies {
    /// Folder of rules and lists, written by PID 1.
    pub detection: PathBuf,
    /// Folder of the sensor's state.
    pub state: PathBuf,
    /// The accepted site configuration.
    pub site: PathBuf,
}

/// Why a list of names is not used.
#[derive(Debug, Error)]
pub enum NamesError {
    /// It can't be read.
    #[error("HP-SN-076 names: {0}; copy the list again")]
    Read(#[from] io::Error),
    /// It is not what its publisher signed.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a list of addresses is not put in force.
#[derive(Debug, Error)]
pub enum BlockListError {
    /// It can't be read.
    #[error("HP-SN-086 block list: {0}; the one before stays, copy it again")]
    Read(#[from] io::Error),
    /// It does not fit.
    #[error("HP-SN-087 block list: {0}; the one before stays, shorten it")]
    List(#[from] ListError),
}

impl Supplies {
    /// The site configuration that PID 1 accepted, or the defaults.
    #[must_use]
    pub fn site(&self) -> Site {
        read(&self.site, SITE_BYTES_MAX as u64)
            .ok()
            .and_then(|bytes| Site::parse(&bytes).ok())
            .unwrap_or_default()
    }

    /// Rules of every `*.rules` in the folder, in the order of their names; without files no rules.
    #[must_use]
    pub fn rules(&self) -> (Arc<Ruleset>, Sets) {
        let began_ns = boot_ns();
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.detection)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|suffix| suffix == RULES_SUFFIX))
            .collect();
        paths.sort();
        let mut left = RULES_BYTES_MAX;
        let mut files = Vec::new();
        for path in paths.iter().take(RULE_FILES_MAX) {
            match read(path, left) {
                Ok(bytes) => {
                    left = left.saturating_sub(bytes.len() as u64);
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    files.push((name, String::from_utf8_lossy(&bytes).into_owned()));
                }
                Err(error) => {
                    let path = path.display();
                    warn!(
                        "HP-SN-074 rules: {path}: {error}; all rules together have at most 32 MiB"
                    );
                }
            }
        }
        let pairs: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (ruleset, sets) = Ruleset::new(&pairs, settings(&self.site()));
        for problem in ruleset.problems.iter().take(PROBLEMS_MAX) {
            let why = hookprobe_wire::text::escape(&problem.error.to_string(), 200);
            warn!("HP-SN-075 rules: {}:{}: {why}", problem.file, problem.line);
        }
        info!(
            loaded = ruleset.rules().len(),
            failed = ruleset.problems.len(),
            files = files.len(),
            ms = boot_ns().saturating_sub(began_ns) / 1_000_000,
            "rules"
        );
        (Arc::new(ruleset), sets)
    }

    /// The list of names, verified against the keys of the site, with the operator's exceptions;
    /// without a file a list without names. `None` when it can't be used: the one before stays.
    #[must_use]
    pub fn names(&self) -> Option<Arc<Reputation>> {
        let keys: Vec<PublicKey> =
            self.site().detection.name_keys.iter().filter_map(|text| key(text)).collect();
        let names = match load_names(&self.detection.join(NAMES_FILE), &keys) {
            Ok(Some(names)) => names,
            Ok(None) => return Some(Arc::default()),
            Err(error) => {
                warn!("{}", crate::causes(&error));
                return None;
            }
        };
        let allowed = match read(&self.detection.join(ALLOW_FILE), ALLOW_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                warn!("HP-SN-088 {ALLOW_FILE}: {error}; no exceptions, copy it again");
                Vec::new()
            }
        };
        let allow = AllowList::new(
            allowed
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty()),
        );
        info!(
            names = names.len(),
            serial = names.serial().0,
            kib = names.resident_bytes() / 1024,
            "names"
        );
        Some(Arc::new(Reputation { names: Some(names), allow }))
    }

    /// Addresses and networks from which nothing is taken, one a line; `None` without a list. Unless
    /// the site says `autonomous`, what would be dropped is counted and passes.
    ///
    /// # Errors
    /// [`BlockListError`]; the list of before stays.
    pub fn block_list(&self) -> Result<Option<List>, BlockListError> {
        let path = self.detection.join(BLOCK_FILE);
        let bytes = match read(&path, BLOCK_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_enforced = self.site().response.mode == Mode::Autonomous;
        let flags = if is_enforced { 0 } else { DRY_RUN };
        let (rules, garbage) = addresses(&String::from_utf8_lossy(&bytes), flags);
        let list = List::new(rules)?;
        info!(addresses = list.len(), garbage, enforced = is_enforced, "block list");
        Ok(Some(list))
    }

    /// The model of before, or a new one.
    #[must_use]
    pub fn model(&self, seed: ForestSeed) -> Model {
        let path = self.state.join(MODEL_FILE);
        let limit = u64::try_from(model_file::FILE_BYTES_MAX).unwrap_or(u64::MAX);
        let result: Result<Model, FileError> = match read(&path, limit) {
            Ok(bytes) => model_file::load(&bytes),
            // A box that has no model yet.
            Err(_) => return Model::new(seed),
        };
        result.unwrap_or_else(|error| {
            warn!("{error}");
            Model::new(seed)
        })
    }

    /// Keeps the model: written beside, then put in its place, so that there is always a whole one.
    pub fn keep(&self, model: &Model) {
        let bytes = model_file::save(model);
        let path = self.state.join(MODEL_FILE);
        let new = self.state.join("model.new");
        let written = fs::write(&new, bytes)
            .and_then(|()| File::open(&new)?.sync_data())
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            warn!("HP-SN-077 model: {error}; it is not kept, look at the disk");
        }
    }
}

/// A whole file of at most `bytes_max`.
fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// `ADDRESS` or `NETWORK/LENGTH` of each line, and how many lines are neither. What follows `#`, `;`
/// or a blank is a comment.
fn addresses(text: &str, flags: u64) -> (Vec<Rule>, usize) {
    let (mut rules, mut garbage) = (Vec::new(), 0);
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let Some(word) = line.split_whitespace().next() else { continue };
        match rule(word, flags) {
            Some(rule) => rules.push(rule),
            None => garbage += 1,
        }
    }
    (rules, garbage)
}

fn rule(word: &str, flags: u64) -> Option<Rule> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    // An IPv4 address is the end of a mapped one.
    let (whole, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length = length.unwrap_or(whole);
    let entry = BlockEntry { flags, ..BlockEntry::default() };
    let (address, bits) = (from_ip(address), before + length);
    // A length of 0 would be everybody, and so would be a network of IPv6 around the mapped one.
    let is_all_of_v4 = bits <= 96 && masked(&MAPPED, bits) == masked(&address, bits);
    let is_fine = (1..=whole).contains(&length) && !is_all_of_v4;
    is_fine.then_some(Rule { address, bits, entry })
}

/// `::ffff:0:0`, in front of every IPv4 address.
const MAPPED: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];

/// What rules know of the site.
fn settings(site: &Site) -> hookprobe_rules::Config {
    let mut config = hookprobe_rules::Config::default();
    config.variables = hookprobe_rules::Config::shipped_variables();
    if !site.detection.home.is_empty() {
        let home = format!("[{}]", site.detection.home.join(","));
        config.variables.insert("HOME_NET".into(), home);
    }
    config
}

/// Sixty-four hexadecimal digits.
fn key(text: &str) -> Option<PublicKey> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(PublicKey(key))
}

/// `None` when there is no list.
fn load_names(path: &Path, keys: &[PublicKey]) -> Result<Option<NameList>, NamesError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let expect = Expectation { keys, accepted: Serial(0), now_s: real_ns() / 1_000_000_000 };
    let mut loader = Loader::new(&header, &expect)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(Some(loader.finish()?));
        }
        loader.feed(buffer.get(..length).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supplies(folder: &Path) -> Supplies {
        Supplies { detection: folder.into(), state: folder.into(), site: folder.join("site.toml") }
    }

    #[test]
    fn rules_of_all_files_with_the_home_of_the_site() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = supplies(folder.path());
        assert!(supplies.rules().0.rules().is_empty());
        fs::write(&supplies.site, "[detection]\nhome = [\"192.0.2.0/24\"]\n").unwrap();
        let rule =
            |sid: u32| format!("alert ip $HOME_NET any -> any any (msg:\"a\"; sid:{sid};)\n");
        fs::write(folder.path().join("a.rules"), rule(1)).unwrap();
        fs::write(folder.path().join("b.rules"), rule(2) + "alert nothing\n").unwrap();
        fs::write(folder.path().join("c.txt"), rule(3)).unwrap();
        let (ruleset, _) = supplies.rules();
        assert_eq!((ruleset.rules().len(), ruleset.problems.len()), (2, 1));
    }

    #[test]
    fn a_model_is_kept_and_a_corrupt_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = supplies(folder.path());
        let model = Model::new(ForestSeed(7));
        supplies.keep(&model);
        assert_eq!(supplies.model(ForestSeed(9)), model);
        fs::write(folder.path().join("model"), b"HPMODEL1 but not").unwrap();
        assert_eq!(supplies.model(ForestSeed(9)), Model::new(ForestSeed(9)));
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        let text = "# a list\n192.0.2.7\n198.51.100.0/24 ; net\n2001:db8::/32\n\nnonsense\n0.0.0.0/0\n::1/129\n::/8\n::ffff:0:0/96\n";
        let (rules, garbage) = addresses(text, DRY_RUN);
        let bits: Vec<u8> = rules.iter().map(|rule| rule.bits).collect();
        assert_eq!((bits, garbage), (vec![128, 120, 32], 5));
        assert!(rules.iter().all(|rule| rule.entry.flags == DRY_RUN));
        assert_eq!(List::new(rules).unwrap().len(), 3);
    }

    #[test]
    fn a_list_that_nobody_known_signed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = supplies(folder.path());
        assert!(supplies.names().unwrap().names.is_none());
        fs::write(folder.path().join(NAMES_FILE), vec![0; 4096]).unwrap();
        assert!(supplies.names().is_none());
        assert_eq!(key(&"0f".repeat(32)), Some(PublicKey([0x0f; 32])));
        assert_eq!(key("0f"), None);
        assert_eq!(key(&"zz".repeat(32)), None);
    }
}
