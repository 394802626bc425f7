//! The other side of a connection, as short as a table can hold it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use crate::observation::Connection;

/// Whom a host talks to: by name where the client says one, since a provider's addresses change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An address.
    Ip(IpAddr),
    /// The 64-bit hash of a name in lower case. Two names of a million meet with probability
    /// 3e-8; all that follows is that their counts are added.
    Name(u64),
}

impl Peer {
    /// Of a name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        for byte in name {
            hasher.write_u8(byte.to_ascii_lowercase());
        }
        Self::Name(hasher.finish())
    }

    /// Of a connection: the whole name that the client asked for, else the address.
    #[must_use]
    pub fn of(connection: &Connection<'_>) -> Self {
        match connection.server_name {
            Some(name) if !name.is_empty() => Self::of_name(name.as_bytes()),
            _ => Self::Ip(connection.destination),
        }
    }
}

/// The name or the address, for people.
#[must_use]
pub fn word(connection: &Connection<'_>) -> String {
    match connection.server_name {
        Some(name) if !name.is_empty() => crate::finding::printable(name.as_bytes()),
        _ => connection.destination.to_string(),
    }
}
