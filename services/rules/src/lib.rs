//! The Suricata rule language: parser, compiler, matcher.
//!
//! Text goes through `syntax` (one rule, no meaning yet), `compile` (a [`Rule`] with its matches in
//! Suricata's lists) and `ruleset` (order, prefilter) into a [`Ruleset`] that is never changed. A
//! [`Detector`] holds it together with the state of flows and hosts and is an
//! `hookprobe_traffic::engine::Inspector`. `config` reads the part of suricata.yaml that matters.
//!
//! What must never happen here: a clock, I/O, randomness, a panic on hostile rules or packets, state
//! without a cap, a rule that is dropped without being named. Callers: the sensor's replay, live,
//! `verify` and `test-rules`.

#![forbid(unsafe_code)]

pub mod address;
mod buffer;
mod candidates;
mod chain;
mod compile;
pub mod config;
pub mod detector;
mod few;
mod finder;
mod grown;
mod keywords;
mod lists;
mod literals;
mod number;
mod pcre;
mod prefilter;
pub mod rule;
pub mod ruleset;
mod sets;
mod state;
pub mod syntax;
mod tags;
mod threshold;
mod transform;
pub mod yaml;

pub use config::{Config, ExceptionPolicy};
pub use detector::{Alert, Detector, DropReason, Mode, Statistics, Verdict};
pub use keywords::{Keyword, keywords};
pub use rule::Rule;
pub use ruleset::{Problem, Ruleset};
pub use sets::Sets;
