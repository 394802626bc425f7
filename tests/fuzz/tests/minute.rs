//! A share of every campaign, with the seed that it printed: `cargo fuzz-loop` goes on from there.

use std::env;

use hookprobe_fuzz::{
    campaign::{self, Plan},
    targets,
};

/// Seconds, all targets together, where nobody says more (`cargo xtask test` does).
const SECONDS: u64 = 20;

#[test]
fn every_parser_takes_foreign_bytes() {
    let seconds = env::var("HOOKPROBE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    campaign::tell_panics();
    let plan = Plan { seconds: seconds.unwrap_or(SECONDS), iterations: None, seed: 1 };
    assert!(campaign::run(&targets(), &plan), "told above");
}
