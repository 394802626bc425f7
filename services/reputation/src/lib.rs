//! Names of bad repute: lists that others publish, signed, compact, looked up for each DNS question,
//! ClientHello and HTTP host.
//!
//! ```text
//! hosts, adblock, RPZ, plain --lists--> draft --sign--> bytes --verify--> names --swap--> readers
//! ```
//!
//! [`lists`] and [`draft`] run where lists are made, [`names`] on the box. Pure: bytes and the time
//! come in, nothing is opened here. What must never happen: a byte is used before the signature
//! over it is verified; a public suffix is refused; an allowed name is refused; a reader waits for
//! a swap. Called by the sensor, and by the command that makes lists.

#![forbid(unsafe_code)]

pub mod allow;
pub mod draft;
pub mod format;
pub mod hash;
pub mod lists;
pub mod name;
pub mod names;
pub mod suffix;
pub mod swap;

use crate::{
    allow::AllowList,
    names::{NameList, Verdict},
};

/// What a box refuses: the verified list, if it has one, and what the operator allows.
#[derive(Debug, Default)]
pub struct Reputation {
    /// The list.
    pub names: Option<NameList>,
    /// Wins over it.
    pub allow: AllowList,
}

impl Reputation {
    /// Looks a name up as it came from the wire.
    #[must_use]
    pub fn lookup(&self, name: &[u8]) -> Verdict<'_> {
        let Some(lower) = name::lower(name) else { return Verdict::Unlisted };
        if self.allow.find(lower.as_bytes()).is_some() {
            return Verdict::Allowed;
        }
        self.names.as_ref().map_or(Verdict::Unlisted, |names| names.lookup_lower(lower.as_bytes()))
    }
}
