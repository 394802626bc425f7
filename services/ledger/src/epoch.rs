//! Which epoch a start belongs to, and what the TPM's boot counter says about the past.
//!
//! An epoch is one key in one boot. Its number is the TPM's boot counter when that is greater than
//! every number before, else one more than the last: numbers grow whatever the TPM does. Beside
//! every row stands its *mark*, the counter and the kernel's boot id, so that a restart of the
//! service goes on in its epoch, and so that a later boot can compare:
//!
//! ```text
//! counter was used before by the same node   the TPM went back (or a snapshot of it did)
//! counter skips boots that have no row       the database went back, or was not there
//! counter is past 1 and there are no rows    the ledger is new on a box that may not be
//! a TPM gave the key, and another one before  the box has a new identity
//! ```
//!
//! All are told and none stops the ledger: it still records, and the chain still verifies. Rows
//! of databases from before there were marks have none and say nothing.
//!
//! Pure. Called by [`crate::store::open`].

use hookprobe_wire::{Diagnostic, NodeId, Severity};

use crate::{chain::Epoch, code};

/// Largest step of the counter that becomes an epoch's number: a box that boots every second for a
/// century stays below it, and a TPM gone wild can't use up the numbers.
pub const STEP_MAX: u64 = 1 << 32;

/// The kernel's random identity of a boot; all zero when it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// From the kernel's text, with or without hyphens; unknown when it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits: String = text.trim().chars().filter(|char| *char != '-').collect();
        let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
        Self(number.unwrap_or(0).to_be_bytes())
    }

    fn is_known(self) -> bool {
        self != Self::default()
    }
}

/// When an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Boot counter of the TPM that gave the key, 0 without one.
    pub counter: u64,
    /// The boot.
    pub boot_id: BootId,
}

/// Who wants to sign now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Its key.
    pub node: NodeId,
    /// When.
    pub mark: Mark,
}

impl Boot {
    /// Of a key that no TPM gave, in a boot that is not known: tests and tools.
    #[must_use]
    pub fn without_tpm(node: NodeId) -> Self {
        Self { node, mark: Mark::default() }
    }
}

/// An epoch in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Its row.
    pub epoch: Epoch,
    /// None in rows from before there were marks.
    pub mark: Option<Mark>,
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Goes on in the last epoch: the service was restarted.
    Continue,
    /// Begins this one.
    Begin(u64),
}

/// What the counter says about the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollback {
    /// The TPM counts what it had counted already.
    Tpm {
        /// Counter now.
        counter: u64,
        /// Greatest counter under the same key.
        used: u64,
    },
    /// Boots have no epoch in the database.
    Database {
        /// Counter now.
        counter: u64,
        /// Greatest counter under the same key; 0 when the database is new.
        used: u64,
        /// How many.
        boots: u64,
    },
    /// Another key than a TPM gave before: the TPM was cleared or is another, or `attest` had to make
    /// a new identity. The chain goes on, as an epoch of the new key.
    Identity {
        /// Last epoch under a key of a TPM.
        epoch: u64,
    },
}

impl Rollback {
    /// For the operator.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Identity { epoch } => code::diagnostic(
                code::NEW_IDENTITY,
                Severity::Warn,
                "epoch",
                format!(
                    "the TPM gives another key than in epoch {epoch}; the chain goes on under the new one"
                ),
                "if the TPM was cleared or the box was enrolled again, that is why; if not, the disk is another box's or somebody put another TPM in: compare the attestation keys",
            ),
            Self::Tpm { counter, used } => code::diagnostic(
                code::TPM_WENT_BACK,
                Severity::Critical,
                "epoch",
                format!(
                    "the TPM's boot counter is {counter}, this ledger has seen {used} under the same key; the TPM went back"
                ),
                "if the machine was restored from a snapshot, that is why; if not, somebody replays an old state of it: compare the ledger with a copy from elsewhere",
            ),
            Self::Database { counter, used: 0, boots } => code::diagnostic(
                code::BOOTS_MISSING,
                Severity::Info,
                "epoch",
                format!(
                    "the ledger is new and the TPM's boot counter is {counter}; boots that are not in it: at most {boots}"
                ),
                "nothing to do when the box or its disk is new; else find out where the ledger before is",
            ),
            Self::Database { counter, used, boots } => code::diagnostic(
                code::BOOTS_MISSING,
                Severity::Warn,
                "epoch",
                format!(
                    "the TPM's boot counter is {counter}, the last one in this ledger is {used}; boots that are not in it: {boots}"
                ),
                "if the disk was restored from a backup or was not used for some boots, that is why; if not, compare the ledger with a copy from elsewhere",
            ),
        }
    }

    /// One phrase for the status line.
    #[must_use]
    pub fn phrase(&self) -> &'static str {
        match self {
            Self::Tpm { .. } => "TPM went back",
            Self::Identity { .. } => "new identity",
            Self::Database { used: 0, .. } => "new ledger",
            Self::Database { .. } => "boots missing",
        }
    }
}

/// What `boot` does with a database whose epochs are `past`, oldest first. `reserved` is the least
/// number that the witness has left free, 0 without one.
#[must_use]
pub fn decide(past: &[Past], boot: &Boot, reserved: u64) -> (Turn, Option<Rollback>) {
    if let Some((last, earlier)) = past.split_last()
        && is_same(last, boot)
    {
        return (Turn::Continue, compare(earlier, boot));
    }
    let last = past.last().map_or(0, |last| last.epoch.number);
    let counter =
        Some(boot.mark.counter).filter(|counter| *counter <= last.saturating_add(STEP_MAX));
    let number = last.saturating_add(1).max(reserved).max(counter.unwrap_or(0));
    (Turn::Begin(number), compare(past, boot))
}

/// Whether `last` began in this boot under this key.
fn is_same(last: &Past, boot: &Boot) -> bool {
    let now = boot.mark;
    let mark = last.mark.unwrap_or_default();
    let same_boot =
        mark.boot_id == now.boot_id || !mark.boot_id.is_known() || !now.boot_id.is_known();
    last.epoch.node == boot.node && mark.counter == now.counter && same_boot
}

fn compare(earlier: &[Past], boot: &Boot) -> Option<Rollback> {
    let counter = boot.mark.counter;
    let same_key = earlier.iter().enumerate().filter(|(_, past)| past.epoch.node == boot.node);
    let counted = same_key.filter_map(|(at, past)| Some((at, past.mark?.counter)));
    let greatest =
        counted.filter(|(_, used)| counter > 0 && *used > 0).max_by_key(|(_, used)| *used);
    let Some((at, used)) = greatest else {
        if earlier.is_empty() {
            let new = counter > 1;
            return new.then(|| Rollback::Database { counter, used: 0, boots: counter - 1 });
        }
        let by_tpm = |past: &&Past| past.mark.is_some_and(|mark| mark.counter > 0);
        let before = earlier.iter().rfind(by_tpm).filter(|_| counter > 0);
        return before.map(|past| Rollback::Identity { epoch: past.epoch.number });
    };
    if counter <= used {
        return Some(Rollback::Tpm { counter, used });
    }
    let there = boots(earlier.get(at..).unwrap_or_default(), boot);
    let boots = (counter - used - 1).saturating_sub(there);
    (boots > 0).then_some(Rollback::Database { counter, used, boots })
}

/// Boots between the first of `rows` and this one, each of which the counter has counted. A boot
/// has several rows when its service was restarted under keys of its own.
fn boots(rows: &[Past], boot: &Boot) -> u64 {
    let id = |past: &Past| past.mark.map(|mark| mark.boot_id).filter(|id| id.is_known());
    let now = Some(boot.mark.boot_id).filter(|id| id.is_known());
    let pairs = rows.windows(2);
    let begin_another = pairs.filter(|pair| match pair {
        [before, row] => id(row).is_none() || (id(row) != id(before) && id(row) != now),
        _ => false,
    });
    begin_another.count() as u64
}

#[cfg(test)]
mod tests;
