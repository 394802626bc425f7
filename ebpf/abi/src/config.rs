//! What user space tells the programs. The sensor alone writes it; the programs only read.

use crate::bucket::Rate;

/// Lengths of prefixes per family that have a hash lookup of their own; the rest is in the trie.
pub const LENGTHS_MAX: usize = 8;
/// Slots for lists: one in force, one to be filled.
pub const SLOTS: usize = 2;

/// What the programs for packets need. A new value is written field by field, in this order:
/// everything about a list stands in its slot before `slot` and `generation` say so.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// By slot, what the list in it is like.
    pub lists: [ListShape; SLOTS],
    /// Limit per source.
    pub source: Rate,
    /// Limit per /24 or /64.
    pub prefix: Rate,
    /// See [`flag`].
    pub flags: u32,
    /// The slot of the list in force.
    pub slot: u32,
    /// Changes with each list, so that flows are held against the new one.
    pub generation: u64,
}

/// Bits of [`Config::flags`].
pub mod flag {
    /// Rate limits are counted and nothing is dropped for them.
    pub const RATE_DRY_RUN: u32 = 1;
    /// Payload is sampled.
    pub const SAMPLE: u32 = 2;
    /// Each packet is held against the list, known flow or not. For measurements.
    pub const NO_CACHE: u32 = 4;
    /// Flows are not counted. For measurements.
    pub const NO_FLOWS: u32 = 8;
}

/// Which lookups a list needs. Aligned so that eight lengths are read as one word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListShape {
    /// Lengths of IPv4 prefixes, counted in 128 bits (a /24 is 120), longest first, then 0.
    pub lengths4: [u8; LENGTHS_MAX],
    /// Lengths of IPv6 prefixes, longest first, then 0.
    pub lengths6: [u8; LENGTHS_MAX],
    /// There are single addresses.
    pub has_exact: u32,
    /// There are prefixes in the trie.
    pub has_lpm: u32,
}

/// What the guard of executions does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// See [`mode`].
    pub mode: u32,
    /// 0.
    pub reserved: u32,
    /// Only tasks in the control group with this id (version 2); 0: all.
    pub cgroup: u64,
}

/// Values of [`Guard::mode`].
pub mod mode {
    /// Nothing is looked at.
    pub const OFF: u32 = 0;
    /// Executions from outside are told and counted.
    pub const DRY_RUN: u32 = 1;
    /// They are refused, too.
    pub const ENFORCE: u32 = 2;
}

const _: () = assert!(core::mem::size_of::<ListShape>() == 24);
const _: () = assert!(core::mem::size_of::<Config>() == 96);
const _: () = assert!(core::mem::size_of::<Guard>() == 16);
