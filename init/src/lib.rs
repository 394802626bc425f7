//! PID 1 of HookProbe OS and the initramfs stage in front of it.
//!
//! ```text
//! kernel -> hookprobe-stage1 (initramfs): modules, root.erofs, switch_root
//!        -> hookprobe-init   (PID 1):     phases of `boot::PHASES`, then one event loop for ever
//! ```
//!
//! What must never happen here: PID 1 ends, panics, waits on a child, or runs a program that it
//! did not hash before. Everything is single-threaded and synchronous; every wait is bounded.
//! What can be decided without the machine is in pure modules (`supervise::core`, `modules::index`,
//! `netlink`, `log`, `diagnostics`, `ledger_client::Outbox`); `unsafe` is in `sys` alone.

pub mod boot;
pub mod carry;
pub mod clock;
pub mod coldplug;
pub mod control;
pub mod detection;
pub mod devices;
pub mod diagnostics;
pub mod emergency;
pub mod errand;
pub mod hardening;
pub mod ledger_client;
pub mod limits;
pub mod log;
pub mod machine;
pub mod measure;
pub mod modules;
pub mod mount;
pub mod netlink;
pub mod network;
pub mod power;
pub mod recovery;
pub mod reload;
pub mod sensor_client;
pub mod sinks;
pub mod stage1;
pub mod state;
pub mod status;
pub mod supervise;
pub mod sys;
pub mod tpm;
pub mod unlock;
