//! The hot path: the sensor's XDP program drops sources that stand in its map `BLOCK`, unless they
//! stand in `PROTECTED`. This side only writes the maps, through their pins and their file
//! permissions (group 810); it needs no capability for that.
//!
//! The pins come and go with the sensor. Each operation compares the identity of what is pinned
//! with what is open and opens anew when it differs, so that an entry is never written to a map that
//! no program reads any more. That is four system calls, so it is asked every second without
//! further backoff.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
};

use aya::maps::{HashMap, Map, MapData, MapError, MapInfo};
use hookprobe_abi::{Address, BlockEntry, MAP_BLOCK, MAP_PROTECTED};

use super::{Counts, EnforceError, Enforcer};
use crate::core::{MS, Wanted};

/// An entry whose end is this close to what is wanted stays: clocks are read at different moments.
const SLACK_NS: u64 = 2500 * MS;

/// The maps of the running sensor.
#[derive(Debug)]
pub struct Xdp {
    pin_dir: PathBuf,
    maps: Option<Maps>,
}

#[derive(Debug)]
struct Maps {
    identities: (u32, u32),
    block: HashMap<MapData, Address, BlockEntry>,
    protected: HashMap<MapData, Address, u8>,
}

/// Why the maps are not there.
enum Absent {
    /// Not pinned.
    NotPinned(EnforceError),
    /// Pinned and still of no use.
    Unusable(EnforceError),
}

impl From<Absent> for EnforceError {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::NotPinned(error) | Absent::Unusable(error) => error,
        }
    }
}

impl Xdp {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(pin_dir: PathBuf) -> Self {
        Self { pin_dir, maps: None }
    }

    fn maps(&mut self) -> Result<&mut Maps, Absent> {
        let paths = [self.pin_dir.join(MAP_BLOCK), self.pin_dir.join(MAP_PROTECTED)];
        let [block, protected] = &paths;
        let identities = (identity(block)?, identity(protected)?);
        let maps = match self.maps.take() {
            Some(maps) if maps.identities == identities => maps,
            Some(_) | None => Maps {
                identities,
                block: HashMap::try_from(open(block)?)
                    .map_err(|error| Absent::Unusable(failed(MAP_BLOCK, "open", &error)))?,
                protected: HashMap::try_from(open(protected)?)
                    .map_err(|error| Absent::Unusable(failed(MAP_PROTECTED, "open", &error)))?,
            },
        };
        Ok(self.maps.insert(maps))
    }
}

fn identity(path: &Path) -> Result<u32, Absent> {
    MapInfo::from_pin(path).map(|info| info.id()).map_err(|error| absent(path, &error))
}

fn open(path: &Path) -> Result<Map, Absent> {
    MapData::from_pin(path).map(Map::HashMap).map_err(|error| absent(path, &error))
}

fn absent(path: &Path, error: &MapError) -> Absent {
    let no_map = EnforceError::NoMap { path: path.display().to_string(), why: said(error) };
    match error {
        MapError::SyscallError(error) if error.io_error.kind() == ErrorKind::NotFound => {
            Absent::NotPinned(no_map)
        }
        _ => Absent::Unusable(no_map),
    }
}

/// The kernel's words rather than the library's.
fn said(error: &MapError) -> String {
    match error {
        MapError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

fn failed(map: &'static str, what: &'static str, error: &MapError) -> EnforceError {
    EnforceError::Map { map, what, why: said(error) }
}

fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn subject(key: Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(key)).to_canonical()
}

/// A key that is not there any more is fine.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

impl Maps {
    fn sync_protected(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<(), EnforceError> {
        let wanted: BTreeSet<Address> = wanted.iter().map(|address| key(*address)).collect();
        let mut held = BTreeSet::new();
        for key in self.protected.keys() {
            held.insert(key.map_err(|error| failed(MAP_PROTECTED, "read", &error))?);
        }
        for key in wanted.difference(&held) {
            let done = self.protected.insert(key, 1, 0);
            done.map_err(|error| failed(MAP_PROTECTED, "insert", &error))?;
        }
        for key in held.difference(&wanted) {
            let done = gone(self.protected.remove(key));
            done.map_err(|error| failed(MAP_PROTECTED, "remove", &error))?;
        }
        Ok(())
    }

    fn held(&self) -> Result<BTreeMap<IpAddr, BlockEntry>, EnforceError> {
        let mut held = BTreeMap::new();
        for entry in self.block.iter() {
            let (key, entry) = entry.map_err(|error| failed(MAP_BLOCK, "read", &error))?;
            held.insert(subject(key), entry);
        }
        Ok(held)
    }

    fn insert(&mut self, subject: IpAddr, entry: BlockEntry) -> Result<(), EnforceError> {
        let done = self.block.insert(key(subject), entry, 0);
        done.map_err(|error| failed(MAP_BLOCK, "insert", &error))
    }

    fn remove(&mut self, subject: IpAddr) -> Result<(), EnforceError> {
        let done = gone(self.block.remove(&key(subject)));
        done.map_err(|error| failed(MAP_BLOCK, "remove", &error))
    }
}

impl Enforcer for Xdp {
    fn name(&self) -> &'static str {
        "xdp"
    }

    fn sync(&mut self, wanted: &Wanted, _boot_ns: u64) -> Result<Counts, EnforceError> {
        let maps = self.maps()?;
        maps.sync_protected(&wanted.protected)?;
        let mut counts = Vec::new();
        let held = maps.held()?;
        for (subject, entry) in &held {
            match wanted.blocks.get(subject) {
                Some(_) => counts.push((*subject, entry.packets)),
                None => maps.remove(*subject)?,
            }
        }
        for (subject, expires_ns) in &wanted.blocks {
            let entry = held.get(subject).copied().unwrap_or_default();
            if !held.contains_key(subject) || entry.expires_ns.abs_diff(*expires_ns) > SLACK_NS {
                maps.insert(*subject, BlockEntry { expires_ns: *expires_ns, ..entry })?;
            }
        }
        Ok(counts)
    }

    fn block(
        &mut self,
        subject: IpAddr,
        expires_boot_ns: u64,
        _boot_ns: u64,
    ) -> Result<(), EnforceError> {
        let entry = BlockEntry { expires_ns: expires_boot_ns, ..BlockEntry::default() };
        self.maps()?.insert(subject, entry)
    }

    fn release(&mut self, subject: IpAddr) -> Result<Option<u64>, EnforceError> {
        let maps = match self.maps() {
            Ok(maps) => maps,
            // Without pins there is no program that could drop anything by them.
            Err(Absent::NotPinned(_)) => return Ok(None),
            Err(Absent::Unusable(error)) => return Err(error),
        };
        let packets = match maps.block.get(&key(subject), 0) {
            Ok(entry) => Some(entry.packets),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(failed(MAP_BLOCK, "read", &error)),
        };
        maps.remove(subject)?;
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sixteen_bytes_both_ways() {
        for text in ["10.0.0.1", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(subject(key(address)), address);
        }
        let mapped = key("10.0.0.1".parse().unwrap());
        assert_eq!(mapped, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }

    #[test]
    fn without_pins_blocking_fails_and_releasing_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let mut xdp = Xdp::new(directory.path().to_owned());
        let subject = "10.0.0.1".parse().unwrap();
        let error = xdp.block(subject, 1, 0).unwrap_err();
        assert!(error.to_string().starts_with("HP-RS-004 xdp: "), "{error}");
        assert_eq!(error.diagnostic().code, "HP-RS-004");
        if error.to_string().contains("No such file") {
            assert_eq!(xdp.release(subject).unwrap(), None);
        } else {
            println!("skipped: bpf(2) is not allowed here: {error}");
        }
    }
}
