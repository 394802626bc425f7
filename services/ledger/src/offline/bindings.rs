//! Which epochs the TPM has vouched for, as far as that shows without verifying its signatures.
//!
//! Pure; sees every record once and keeps one line per epoch. Called by [`super`].

use std::collections::BTreeMap;

use hookprobe_wire::{Event, EventType, NodeId, ledger::Record, text::escape};

/// Longest name of a key that is printed: hexadecimal of an algorithm and a SHA-512.
const NAME_CHARS_MAX: usize = 132;

/// What the chain says about one epoch.
#[derive(Debug, Default)]
struct Found {
    /// Boot counter that the first binding names, and whether it names the epoch's node.
    binding: Option<(u64, bool)>,
    /// Name of the attestation key in the last `Event::Attestation`.
    ak_name: String,
}

/// What the chain says about its epochs.
#[derive(Debug, Default)]
pub(super) struct Bindings(BTreeMap<u64, Found>);

impl Bindings {
    /// Looks at the next record; it was verified.
    pub(super) fn see(&mut self, record: &Record) {
        let header = &record.block.header;
        if !matches!(header.event_type, EventType::Binding | EventType::Attestation) {
            return;
        }
        let found = self.0.entry(header.epoch).or_default();
        match record.event() {
            Some(Event::Binding(binding)) if found.binding.is_none() => {
                let covers = names(&binding.evidence, &header.node_identity);
                found.binding = Some((binding.epoch, covers));
            }
            Some(Event::Attestation(attestation)) => {
                found.ak_name = escape(&attestation.ak_name, NAME_CHARS_MAX);
            }
            _ => {}
        }
    }

    /// One line about an epoch.
    pub(super) fn describe(&self, epoch: u64) -> String {
        let found = self.0.get(&epoch);
        let Some((found, (counter, covers))) =
            found.and_then(|found| Some((found, found.binding?)))
        else {
            return "no binding: no TPM vouches for this key".into();
        };
        let key = match found.ak_name.as_str() {
            "" => "unknown",
            name => name,
        };
        let covers = if covers { "names this node" } else { "DOES NOT name this node" };
        format!(
            "binding at boot counter {counter} by attestation key {key}, {covers}; the TPM's signature is not verified here"
        )
    }
}

/// Whether the evidence has the node's public key in it. What it says about that key is for who
/// verifies the evidence.
fn names(evidence: &[u8], node: &NodeId) -> bool {
    evidence.windows(32).any(|window| window == node.as_bytes())
}
