//! Attack 1, on the build host: PID 1's own measuring and starting code against a racer.

use std::process::Command;

use super::Campaign;
use crate::{error::Result, shell};

/// What the test says at the end when every start was as it should be.
const GOOD: &str = "other_than_hashed=0";

pub(super) fn race(campaign: &mut Campaign<'_>) -> Result<()> {
    let starts = campaign.scale.starts;
    let said = shell::output(
        Command::new("cargo")
            .current_dir(campaign.tree.source(""))
            .args(["test", "--quiet", "--locked", "--package", "hookprobe-init", "--test", "race"])
            .env("HOOKPROBE_RACE_STARTS", starts.to_string()),
    )?;
    let line = said.lines().rev().find(|line| !line.is_empty()).unwrap_or("nothing was said");
    let made = line.contains(&format!("starts={starts} ")) && line.ends_with(GOOD);
    campaign.saw(
        1,
        made,
        format!("on this host, by rename and in place, plain and overlay: {line}"),
    );
    Ok(())
}
