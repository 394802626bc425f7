//! What the detectors work with and the box keeps in files: rules, lists of names, the model.
//!
//! Read beside the packets, never in their way. A file that is not there is no trouble, and what it
//! said before is no longer in force; one that can't be used is said with its code, and what was in
//! use before stays.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
};

use hookprobe_behaviour::model::{
    Model,
    file::{self as model_file, FileError},
    forest::ForestSeed,
};
use hookprobe_reputation::{
    Reputation,
    allow::AllowList,
    format::{Expectation, HEADER_BYTES, Header, KeyId, LoadError, PublicKey, Serial},
    names::{Loader, NameList},
};
use hookprobe_rules::{Ruleset, Sets};
use hookprobe_wire::{sensor::Loaded, site::Site, text};
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    clock::{boot_ns, real_ns},
    files,
};

/// Suffix of files of rules.
const RULES_SUFFIX: &str = "rules";
/// Name of the list of names.
const NAMES_FILE: &str = "hookprobe.names";
/// Name of the operator's exceptions to it.
const ALLOW_FILE: &str = "hookprobe.allow";
/// Name of the model, in the folder of the state.
const MODEL_FILE: &str = "model";
/// Name of the serials of lists that were accepted, in the folder of the state.
const SERIALS_FILE: &str = "serials";
/// Publishers that are remembered; the site names fewer keys.
const SERIALS_MAX: usize = 64;
/// Bytes of that file: a key's identity, a serial and a line end each.
const SERIALS_BYTES_MAX: u64 = 64 * 40;
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

/// Characters of what is wrong with a list of names.
const TROUBLE_CHARS_MAX: usize = 300;

/// Something that detectors work with, ready to be put in force.
pub enum Supply {
    /// Rules.
    Rules(Arc<Ruleset>, Sets),
    /// The list of names.
    Names(Arc<Reputation>),
}

/// Where they are.
#[derive(Debug, Clone)]
pub struct Supplies {
    /// Folder of rules and lists, written by PID 1.
    pub detection: PathBuf,
    /// Folder of the inspector's state.
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

impl Supplies {
    /// Rules, then names, each given to `put` as it is ready; what is in force then. `None` for names:
    /// the list can't be used and the one before stays.
    pub fn load(&self, mut put: impl FnMut(Supply)) -> Loaded {
        let began_ns = boot_ns();
        let mut loaded = Loaded::default();
        let (rules, sets) = self.rules();
        loaded.rules = rules.rules().len() as u64;
        loaded.rejected = rules.problems.len() as u64;
        put(Supply::Rules(rules, sets));
        match self.names() {
            Ok(names) => {
                loaded.names = names.names.as_ref().map_or(0, |names| names.len() as u64);
                put(Supply::Names(names));
            }
            Err(error) => {
                let cause = crate::causes(&error);
                warn!("{cause}");
                loaded.trouble = text::escape(&cause, TROUBLE_CHARS_MAX);
            }
        }
        loaded.ms = boot_ns().saturating_sub(began_ns) / 1_000_000;
        loaded
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
            match files::read(path, left) {
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
        let (ruleset, sets) = Ruleset::new(&pairs, settings(&files::site(&self.site)));
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
    /// without a file a list without names.
    ///
    /// # Errors
    /// [`NamesError`]; the one before stays.
    pub fn names(&self) -> Result<Arc<Reputation>, NamesError> {
        let keys: Vec<PublicKey> = files::site(&self.site)
            .detection
            .name_keys
            .iter()
            .filter_map(|text| key(text))
            .collect();
        let Some(names) = self.load_names(&keys)? else { return Ok(Arc::default()) };
        let allowed = match files::read(&self.detection.join(ALLOW_FILE), ALLOW_BYTES_MAX) {
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
        Ok(Arc::new(Reputation { names: Some(names), allow }))
    }

    /// `None` when there is no list. One that is older than what its publisher signed before is
    /// refused: it would leave out what was added since.
    fn load_names(&self, keys: &[PublicKey]) -> Result<Option<NameList>, NamesError> {
        let mut file = match File::open(self.detection.join(NAMES_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)?;
        let now_s = real_ns() / 1_000_000_000;
        let mut expect = Expectation { keys, accepted: Serial(0), now_s };
        let publisher = hex(Header::verify(&header, &expect)?.key_id);
        let mut serials = self.serials();
        let before = serials.iter().find(|(name, _)| *name == publisher);
        expect.accepted = Serial(before.map_or(0, |(_, serial)| *serial));
        let mut loader = Loader::new(&header, &expect)?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            loader.feed(buffer.get(..length).unwrap_or_default())?;
        }
        let names = loader.finish()?;
        if names.serial().0 > expect.accepted.0 || before.is_none() {
            serials.retain(|(name, _)| *name != publisher);
            serials.insert(0, (publisher, names.serial().0));
            serials.truncate(SERIALS_MAX);
            self.keep_serials(&serials);
        }
        Ok(Some(names))
    }

    /// Publishers and the greatest serial that was accepted of each, the last one first.
    fn serials(&self) -> Vec<(String, u64)> {
        let bytes = files::read(&self.state.join(SERIALS_FILE), SERIALS_BYTES_MAX);
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        let lines = text.lines().filter_map(|line| {
            let (publisher, serial) = line.split_once(' ')?;
            Some((publisher.to_owned(), serial.parse().ok()?))
        });
        lines.take(SERIALS_MAX).collect()
    }

    fn keep_serials(&self, serials: &[(String, u64)]) {
        let text: String =
            serials.iter().map(|(publisher, serial)| format!("{publisher} {serial}\n")).collect();
        if let Err(error) = files::replace(&self.state, SERIALS_FILE, text.as_bytes()) {
            warn!("HP-SN-084 names: {error}; an older list could come back, look at the disk");
        }
    }

    /// The model of before, or a new one.
    #[must_use]
    pub fn model(&self, seed: ForestSeed) -> Model {
        let path = self.state.join(MODEL_FILE);
        let limit = u64::try_from(model_file::FILE_BYTES_MAX).unwrap_or(u64::MAX);
        let result: Result<Model, FileError> = match files::read(&path, limit) {
            Ok(bytes) => model_file::load(&bytes),
            // A box that has no model yet.
            Err(_) => return Model::new(seed),
        };
        result.unwrap_or_else(|error| {
            warn!("{error}");
            Model::new(seed)
        })
    }

    /// Keeps the model.
    pub fn keep(&self, model: &Model) {
        if let Err(error) = files::replace(&self.state, MODEL_FILE, &model_file::save(model)) {
            warn!("HP-SN-077 model: {error}; it is not kept, look at the disk");
        }
    }
}

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

fn hex(id: KeyId) -> String {
    id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hookprobe_reputation::{
        draft::{Draft, Edition},
        format::{Category, ListInfo},
        hash::HashKey,
    };
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

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

    /// A list without names, signed with a key of this test; the key.
    fn list(serial: u64) -> (Vec<u8>, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey(pair.public_key().as_ref().try_into().unwrap());
        let info = ListInfo { category: Category::Malware, name: "test".into() };
        let draft = Draft::new(HashKey([3; 16]), vec![info]).unwrap();
        let edition = Edition { serial: Serial(serial), issued_s: 1, expires_s: u64::MAX };
        let sign = |message: &[u8]| pair.sign(message).as_ref().try_into().unwrap();
        (draft.sign(edition, key, sign).unwrap(), key)
    }

    #[test]
    fn a_list_older_than_the_one_before_is_refused_after_a_restart_too() {
        let folder = tempfile::tempdir().unwrap();
        let serial = |number: u64| {
            let (bytes, key) = list(number);
            fs::write(folder.path().join(NAMES_FILE), bytes).unwrap();
            let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let site = format!("[detection]\nname_keys = [\"{hex}\"]\n");
            fs::write(folder.path().join("site.toml"), site).unwrap();
            let names = supplies(folder.path()).names().ok()?;
            Some(names.names.as_ref()?.serial().0)
        };
        assert_eq!(serial(5), Some(5));
        assert_eq!(serial(5), Some(5));
        assert_eq!(serial(4), None);
        assert_eq!(serial(6), Some(6));
        assert_eq!(serial(5), None);
        // Lost serials cost the memory, not the list.
        fs::write(folder.path().join(SERIALS_FILE), b"\xff nonsense\n\n1\n").unwrap();
        assert_eq!(serial(5), Some(5));
    }

    #[test]
    fn a_list_that_nobody_known_signed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = supplies(folder.path());
        assert!(supplies.names().unwrap().names.is_none());
        fs::write(folder.path().join(NAMES_FILE), vec![0; 4096]).unwrap();
        assert!(supplies.names().is_err());
        let mut put = 0;
        let loaded = supplies.load(|_| put += 1);
        assert_eq!((put, loaded.names), (1, 0));
        assert!(loaded.trouble.starts_with("HP-"), "{}", loaded.trouble);
        assert_eq!(supplies.serials(), []);
        assert_eq!(key(&"0f".repeat(32)), Some(PublicKey([0x0f; 32])));
        assert_eq!(key("0f"), None);
        assert_eq!(key(&"zz".repeat(32)), None);
    }
}
