//! The operator's list of addresses: from its file into a form that the kernel's maps take.
//!
//! Hostile text is the normal case: a line that is no address is counted and left out, and no line can
//! mean everybody.

use std::{io, net::IpAddr, path::Path};

use hookprobe_abi::{
    Address, BlockEntry,
    rules::{DRY_RUN, masked},
};
use hookprobe_wire::event::Mode;
use thiserror::Error;
use tracing::info;

use crate::{
    core::address::from_ip,
    files,
    object::lists::{List, ListError, Rule},
};

/// Name of the list.
const BLOCK_FILE: &str = "hookprobe.block";
/// Bytes of it: a hundred thousand addresses and their comments.
const BLOCK_BYTES_MAX: u64 = 8 << 20;

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

/// Addresses and networks from which nothing is taken, one a line; `None` without a list. Unless the
/// site says `autonomous`, what would be dropped is counted and passes.
///
/// # Errors
/// [`BlockListError`]; the list of before stays.
pub fn load(detection: &Path, site: &Path) -> Result<Option<List>, BlockListError> {
    let bytes = match files::read(&detection.join(BLOCK_FILE), BLOCK_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_enforced = files::site(site).response.mode == Mode::Autonomous;
    let flags = if is_enforced { 0 } else { DRY_RUN };
    let (rules, garbage) = addresses(&String::from_utf8_lossy(&bytes), flags);
    let list = List::new(rules)?;
    info!(addresses = list.len(), garbage, enforced = is_enforced, "block list");
    Ok(Some(list))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_of_both_families() {
        let text = "# a list\n192.0.2.7\n198.51.100.0/24 ; net\n2001:db8::/32\n\nnonsense\n0.0.0.0/0\n::1/129\n::/8\n::ffff:0:0/96\n";
        let (rules, garbage) = addresses(text, DRY_RUN);
        let bits: Vec<u8> = rules.iter().map(|rule| rule.bits).collect();
        assert_eq!((bits, garbage), (vec![128, 120, 32], 5));
        assert!(rules.iter().all(|rule| rule.entry.flags == DRY_RUN));
        assert_eq!(List::new(rules).unwrap().len(), 3);
    }
}
