//! Policy and enforcement: answers alerts of the ledger by blocking their source for a while.
//!
//! ```text
//! ledger --Record--> core --Effect--> engine --> enforcers (xdp, nft) --> kernel
//!    ^                |                  |
//!    +----- Append ---+                  +--> sources (site, routes, addresses, resolvers)
//! ```
//!
//! [`core`] decides and is pure; [`engine`] carries its effects out against the traits
//! [`enforce::Enforcer`] and [`engine::Sources`]; [`serve`] owns sockets and signals.
//!
//! What must never happen here: a protected address is blocked; a mitigation is recorded as
//! enforced before an enforcer accepted it; an alert is answered twice; a block has no end of its
//! own in the kernel; state is kept that the ledger could not rebuild.

mod clients;
pub mod core;
pub mod enforce;
pub mod engine;
mod link;
pub mod netlink;
mod peer;
pub mod protected;
pub mod serve;
pub mod sources;

/// Reads of the two clocks that matter, taken by the shell and handed to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// CLOCK_BOOTTIME, nanoseconds: what ends are counted in; nobody can set it.
    pub boot_ns: u64,
    /// CLOCK_REALTIME, nanoseconds since 1970: what stands in records.
    pub real_ns: u64,
}
