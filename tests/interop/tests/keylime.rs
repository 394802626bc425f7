//! Keylime's verifier (package keylime of PyPI) parses the log that leaves a box with its own code
//! and comes to the same registers.
//!
//! `tests/interop/fetch-tools.sh` makes its environment in `target/interop`. Its parser loads
//! libefivar, which comes from the system or from there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a failure fails the test")]

use std::{fs, process::Command};

use hookprobe_evidence::{digest::HashAlg, pcr::PcrIndex};
use hookprobe_interop::{fixture, output, scratch};
use hookprobe_swtpm::available;

/// Prints one `index digest` a line; ends with a failure where Keylime finds one.
const SCRIPT: &str = r#"
import base64, sys
from keylime.mba.elparsing import tpm2_tools_elparser as parser
log = base64.b64encode(open(sys.argv[1], "rb").read()).decode()
pcrs, aggregates, data, failure = parser.bootlog_parse(log, sys.argv[2])
if failure:
    sys.exit(str([(event.event_id, event.context) for event in failure.events]))
for index, value in pcrs.items():
    print(index, format(value, "x"))
"#;

#[test]
fn replays_pcr_13_as_we_do() {
    let python = scratch().join("keylime-venv/bin/python");
    if !python.exists() {
        println!("skipped: {} is missing; run tests/interop/fetch-tools.sh", python.display());
        return;
    }
    if !available("tpm2_eventlog", "tpm2-tools, which Keylime calls") {
        return;
    }
    let libraries = scratch().join("efivar/root/usr/lib/x86_64-linux-gnu");
    let loads = Command::new(&python)
        .args(["-c", "import keylime.mba.elparsing.tpm_bootlog_enrich"])
        .env("LD_LIBRARY_PATH", &libraries)
        .output()
        .unwrap();
    if !loads.status.success() {
        println!("skipped: Keylime does not load: {}", String::from_utf8_lossy(&loads.stderr));
        return;
    }
    let fixture = fixture::logs();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("merged.bin");
    fs::write(&log, &fixture.merged).unwrap();
    let mut compared = Vec::new();
    for bank in [HashAlg::Sha1, HashAlg::Sha256] {
        let wanted = fixture::set(&fixture.values, bank);
        if wanted.is_empty() {
            continue;
        }
        let text = output(
            Command::new(&python)
                .args(["-c", SCRIPT])
                .arg(&log)
                .arg(bank.name())
                .env("LD_LIBRARY_PATH", &libraries),
        );
        for line in text.lines() {
            let (index, digest) = line.split_once(' ').unwrap();
            let index: u8 = index.parse().unwrap();
            // It prints numbers, without leading zeros.
            let digest = format!("{digest:0>width$}", width = bank.digest_bytes() * 2);
            if let Some((_, value)) = wanted.iter().find(|(pcr, _)| *pcr == index) {
                assert_eq!(*value, digest, "{bank} PCR {index}");
                compared.push(index);
            }
        }
    }
    assert!(compared.contains(&PcrIndex::SERVICES.get()), "PCR 13 is not among {compared:?}");
    println!("Keylime: {} registers equal", compared.len());
}
