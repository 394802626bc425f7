//! Packets to flows, streams, transactions and fingerprints.
//!
//! `engine::Engine` takes frames and calls `engine::Inspector`s; it drives, in this order, `decode`,
//! `defrag`, `flow`, `zeek`, `stream` and `app`. All pure: time and bytes are handed in. Nothing here
//! may panic on hostile bytes or grow without a cap; `counters` tells what was lost.

#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod counters;
pub mod decode;
pub mod defrag;
pub mod engine;
pub mod event;
pub mod fingerprint;
pub mod flow;
pub mod packet;
pub mod stream;
pub mod zeek;

mod bits;
mod checksum;
mod hash;
#[cfg(test)]
mod testing;

/// Which way bytes go within a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// 0 to the server, 1 to the client.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }

    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    /// That of a pair by [`Direction::index`] that is meant.
    pub const fn of<T>(self, pair: &[T; 2]) -> &T {
        let [to_server, to_client] = pair;
        match self {
            Self::ToServer => to_server,
            Self::ToClient => to_client,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut<T>(self, pair: &mut [T; 2]) -> &mut T {
        let [to_server, to_client] = pair;
        match self {
            Self::ToServer => to_server,
            Self::ToClient => to_client,
        }
    }
}
