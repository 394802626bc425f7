//! Which interfaces are watched, and whether they are there.
//!
//! An interface may come and go; that is never fatal. What is wanted is looked up again each
//! second, because there is no other way to learn of a renamed or returned interface without
//! parsing netlink.

use std::{fs, path::Path};

use hookprobe_wire::site::{INTERFACES_MAX, Role, SITE_BYTES_MAX, Site};
use tracing::warn;

use crate::files;

/// Interfaces as files.
const NET_DIR: &str = "/sys/class/net";
/// ARPHRD_ETHER.
const TYPE_ETHERNET: &str = "1";

/// What is to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These, whether they are there or not.
    Named(Vec<String>),
    /// Every Ethernet interface.
    Ethernet,
}

impl Wanted {
    /// From the command line, else from the site configuration, else every Ethernet interface.
    #[must_use]
    pub fn new(named: &[String], site: &Path) -> Self {
        let mut names = named.to_vec();
        if names.is_empty() {
            names = lan_of(site);
        }
        names.truncate(INTERFACES_MAX);
        if names.is_empty() { Self::Ethernet } else { Self::Named(names) }
    }

    /// Names and indices of those that are there.
    #[must_use]
    pub fn present(&self) -> Vec<(String, u32)> {
        let names = match self {
            Self::Named(names) => names.clone(),
            Self::Ethernet => ethernet(),
        };
        names
            .into_iter()
            .filter_map(|name| index_of(&name).map(|index| (name, index)))
            .take(INTERFACES_MAX)
            .collect()
    }
}

/// Interfaces with role `lan`; none when the file is absent or says nothing of interfaces.
fn lan_of(site: &Path) -> Vec<String> {
    let Ok(bytes) = files::read(site, SITE_BYTES_MAX as u64) else { return Vec::new() };
    match Site::parse(&bytes) {
        Ok(site) => site
            .interface
            .into_iter()
            .filter(|interface| interface.role == Role::Lan)
            .map(|interface| interface.name)
            .collect(),
        Err(error) => {
            warn!("{error}");
            Vec::new()
        }
    }
}

/// Ethernet interfaces but loopback and bridges, whose ports are watched instead.
fn ethernet() -> Vec<String> {
    let Ok(entries) = fs::read_dir(NET_DIR) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "lo" && attribute(name, "type").as_deref() == Some(TYPE_ETHERNET))
        .filter(|name| !Path::new(NET_DIR).join(name).join("bridge").exists())
        .collect();
    names.sort();
    names
}

/// Index of an interface that is there.
fn index_of(name: &str) -> Option<u32> {
    attribute(name, "ifindex")?.parse().ok()
}

fn attribute(name: &str, attribute: &str) -> Option<String> {
    // A name from the command line must not lead out of the directory.
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = Path::new(NET_DIR).join(name).join(attribute);
    fs::read_to_string(path).ok().map(|text| text.trim().into())
}
