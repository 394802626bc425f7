//! How many instructions a packet costs, by callgrind: the same on a slow, a fast and a busy machine,
//! and what a board with another processor can be compared by. Times of a translated guest can't.

use std::{fs, path::Path, process::Command};

use crate::{
    error::{Error, Result, at},
    shell,
};

/// Prints instructions per packet of `capture` with `rules`; what loading costs is taken off with
/// `one`, a capture of one packet.
///
/// # Errors
/// What valgrind says.
pub(super) fn count(
    sensor: &Path,
    rules: &Path,
    (capture, packets): (&Path, u64),
    one: &Path,
    folder: &Path,
) -> Result<()> {
    if !shell::have("valgrind") {
        println!("note: valgrind is not here (apt install valgrind): no instructions are counted");
        return Ok(());
    }
    let (whole, start) =
        (instructions(sensor, rules, capture, folder)?, instructions(sensor, rules, one, folder)?);
    let each = whole.saturating_sub(start) / packets.saturating_sub(1).max(1);
    println!(
        "instructions by callgrind: {each} a packet over {packets} packets, {:.0} million to start",
        start as f64 / 1e6
    );
    Ok(())
}

fn instructions(sensor: &Path, rules: &Path, capture: &Path, folder: &Path) -> Result<u64> {
    let log = folder.join("callgrind.log");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()))
        .arg(sensor)
        .arg("replay")
        .arg(capture)
        .arg("--rules")
        .arg(rules)
        .args(["--rules-only", "--no-checksums", "--eve-types", "alert", "--eve", "/dev/null"]);
    shell::output(&mut command)?;
    let said = fs::read_to_string(&log).map_err(at(&log))?;
    collected(&said)
        .ok_or_else(|| Error::Check(format!("valgrind says no count:\n{}", shell::tail(&said, 5))))
}

/// `==7== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rev().find(|line| line.contains("Collected"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_read() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234\n==7==\n"), Some(1234));
        assert_eq!(collected("==7== nothing"), None);
    }
}
