//! The xdp enforcer against real maps, pinned as the sensor pins them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers too")]

mod kernel;

use std::{net::IpAddr, path::Path};

use aya::maps::{HashMap, Map, MapData};
use hookprobe_abi::{
    Address, BLOCK_ENTRIES_MAX, BlockEntry, MAP_BLOCK, MAP_PROTECTED, PROTECTED_ENTRIES_MAX,
};
use hookprobe_response::{
    core::Wanted,
    enforce::{Enforcer, xdp::Xdp},
};
use kernel::{in_namespace, mount_bpffs, pin_hash_map};

const S: u64 = 1_000_000_000;

fn pin(directory: &Path) {
    pin_hash_map(&directory.join(MAP_BLOCK), 32, BLOCK_ENTRIES_MAX);
    pin_hash_map(&directory.join(MAP_PROTECTED), 1, PROTECTED_ENTRIES_MAX);
}

fn unpin(directory: &Path) {
    for map in [MAP_BLOCK, MAP_PROTECTED] {
        std::fs::remove_file(directory.join(map)).unwrap();
    }
}

fn block_map(directory: &Path) -> HashMap<MapData, Address, BlockEntry> {
    let data = MapData::from_pin(directory.join(MAP_BLOCK)).unwrap();
    HashMap::try_from(Map::HashMap(data)).unwrap()
}

fn protected(directory: &Path) -> Vec<Address> {
    let data = MapData::from_pin(directory.join(MAP_PROTECTED)).unwrap();
    let map: HashMap<MapData, Address, u8> = HashMap::try_from(Map::HashMap(data)).unwrap();
    let mut keys: Vec<Address> = map.keys().map(Result::unwrap).collect();
    keys.sort_unstable();
    keys
}

fn key(text: &str) -> Address {
    let address: IpAddr = text.parse().unwrap();
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn wanted(blocks: &[(&str, u64)], protected: &[&str]) -> Wanted {
    Wanted {
        blocks: blocks.iter().map(|(subject, end)| (subject.parse().unwrap(), *end)).collect(),
        protected: protected.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

#[test]
fn entries_are_made_kept_counted_and_taken_back() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        mount_bpffs(directory.path());
        pin(directory.path());
        let mut xdp = Xdp::new(directory.path().to_owned());
        let subject: IpAddr = "10.0.0.66".parse().unwrap();
        xdp.block(subject, 50 * S, 0).unwrap();
        let entry = BlockEntry { expires_ns: 50 * S, ..BlockEntry::default() };
        let mut map = block_map(directory.path());
        assert_eq!(map.get(&key("10.0.0.66"), 0).unwrap(), entry);

        // The program counts; comparing leaves a right entry alone and corrects a wrong end.
        map.insert(key("10.0.0.66"), BlockEntry { packets: 7, bytes: 420, ..entry }, 0).unwrap();
        map.insert(key("10.0.0.99"), entry, 0).unwrap();
        let both =
            wanted(&[("10.0.0.66", 50 * S), ("2001:db8::1", 60 * S)], &["10.0.0.1", "fd00::1"]);
        assert_eq!(xdp.sync(&both, 0).unwrap(), [(subject, 7)]);
        assert_eq!(map.get(&key("10.0.0.66"), 0).unwrap().packets, 7);
        assert_eq!(map.get(&key("2001:db8::1"), 0).unwrap().expires_ns, 60 * S);
        assert!(map.get(&key("10.0.0.99"), 0).is_err());
        assert_eq!(protected(directory.path()), [key("10.0.0.1"), key("fd00::1")]);

        let later = wanted(&[("10.0.0.66", 90 * S)], &["fd00::1"]);
        xdp.sync(&later, 0).unwrap();
        let entry = map.get(&key("10.0.0.66"), 0).unwrap();
        assert_eq!((entry.expires_ns, entry.packets), (90 * S, 7));
        assert_eq!(protected(directory.path()), [key("fd00::1")]);
        assert_eq!(xdp.release(subject).unwrap(), Some(7));
        assert_eq!(xdp.release(subject).unwrap(), None);
        assert_eq!(map.keys().count(), 0);
    });
}

#[test]
fn a_sensor_that_restarts_is_found_again() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        mount_bpffs(directory.path());
        let mut xdp = Xdp::new(directory.path().to_owned());
        let subject: IpAddr = "10.0.0.66".parse().unwrap();
        let error = xdp.block(subject, 50 * S, 0).unwrap_err();
        assert!(error.to_string().starts_with("HP-RS-004 xdp: "), "{error}");
        pin(directory.path());
        xdp.block(subject, 50 * S, 0).unwrap();
        unpin(directory.path());
        assert_eq!(xdp.block(subject, 50 * S, 0).unwrap_err().diagnostic().code, "HP-RS-004");
        assert_eq!(xdp.release(subject).unwrap(), None);
        pin(directory.path());
        xdp.sync(&wanted(&[("10.0.0.66", 50 * S)], &["10.0.0.1"]), 0).unwrap();
        let map = block_map(directory.path());
        assert_eq!(map.get(&key("10.0.0.66"), 0).unwrap().expires_ns, 50 * S);
        assert_eq!(protected(directory.path()), [key("10.0.0.1")]);
    });
}

#[test]
fn a_full_map_is_an_error_that_names_the_map() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        mount_bpffs(directory.path());
        pin_hash_map(&directory.path().join(MAP_BLOCK), 32, 1);
        pin_hash_map(&directory.path().join(MAP_PROTECTED), 1, 1);
        let mut xdp = Xdp::new(directory.path().to_owned());
        xdp.block("10.0.0.66".parse().unwrap(), S, 0).unwrap();
        let error = xdp.block("10.0.0.67".parse().unwrap(), S, 0).unwrap_err();
        assert!(error.to_string().contains("insert in map BLOCK"), "{error}");
    });
}
