//! Which addresses somebody asked DNS for, and by what domain.
//!
//! Learnt from answers; the address longest unused is forgotten. Also which clients' questions are
//! seen at all: who asks over TLS or HTTPS leaves nothing here, and nothing may be concluded.

use std::net::IpAddr;

use crate::{
    dns::Name,
    finding::count,
    observation::Dns,
    peer::Peer,
    table::{Seed, Table},
};

/// Addresses. About 120 bytes each: 4 MB.
pub const ADDRESSES_MAX: usize = 32_768;
/// Clients.
pub const CLIENTS_MAX: usize = 8192;
/// Answers from which a client is known to ask where we see it.
pub const ANSWERS_MIN: u32 = 10;

/// The table.
#[derive(Debug, Clone)]
pub struct Resolved {
    domains: Table<IpAddr, Peer>,
    answers: Table<IpAddr, u32>,
}

impl Resolved {
    /// Knows none.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { domains: Table::new(seed, ADDRESSES_MAX), answers: Table::new(seed, CLIENTS_MAX) }
    }

    /// Learns from an answer.
    pub fn learn(&mut self, message: &Dns<'_>) {
        if message.response_code.is_none() {
            return;
        }
        if let Some(answers) = self.answers.entry(&message.client, || 0) {
            *answers = answers.saturating_add(1);
        }
        if let Some(name) = Name::new(message.name) {
            let peer = Peer::of_name(name.registered());
            for address in message.addresses {
                self.domains.insert(*address, peer);
            }
        }
    }

    /// The registered domain that an address belongs to.
    #[must_use]
    pub fn domain(&self, address: IpAddr) -> Option<Peer> {
        self.domains.get(&address).copied()
    }

    /// Whether this client's questions are seen and none had this address in its answer.
    #[must_use]
    pub fn is_unasked(&self, client: IpAddr, address: IpAddr) -> bool {
        let answers = self.answers.get(&client).copied().unwrap_or(0);
        answers >= ANSWERS_MIN && !self.domains.contains(&address)
    }

    /// Named counters.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("resolved_addresses", count(self.domains.len())),
            ("resolved_addresses_evicted", self.domains.evicted()),
        ]
    }
}
