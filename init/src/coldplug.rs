//! Finding devices once, at boot: drivers by alias until the devices that the box needs are there.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    limits::{DEVICES_MS_MAX, DEVICES_POLL_MS, MODULE_INDEX_BYTES_MAX},
    modules::{Loaded, index::Index, modaliases},
    state,
};

const INDEX: &str = "/usr/lib/modules/index";
/// The resource-managed TPM device, shared with `attest` later.
pub const TPM_DEVICE: &str = "/dev/tpmrm0";
/// Where the firmware announces a TPM.
const TPM_ANNOUNCED: &str = "/sys/firmware/acpi/tables/TPM2";

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Modules tried.
    pub modules: usize,
    /// Rounds through the devices.
    pub rounds: u32,
    /// What could not be loaded or read.
    pub failures: Vec<String>,
}

/// Loads drivers until the state partition and an announced TPM are there, or for
/// [`DEVICES_MS_MAX`]: a new driver finds new devices, which have aliases of their own.
#[must_use]
pub fn run() -> Found {
    let mut found = Found::default();
    let index = match read_index() {
        Ok(index) => index,
        Err(text) => {
            found.failures.push(text);
            Index::default()
        }
    };
    let mut loaded = Loaded::default();
    for name in index.always() {
        loaded.with_dependencies(&index, name);
    }
    let deadline = Instant::now() + Duration::from_millis(DEVICES_MS_MAX);
    loop {
        found.rounds += 1;
        let mut new = false;
        for alias in modaliases(Path::new("/sys/devices")) {
            for name in index.matching(&alias) {
                new |= loaded.with_dependencies(&index, name);
            }
        }
        if !new {
            if complete() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(DEVICES_POLL_MS));
        }
    }
    found.modules = loaded.count();
    found.failures.append(&mut loaded.failures);
    found
}

fn read_index() -> Result<Index, String> {
    let length = fs::metadata(INDEX).map_or(0, |data| data.len());
    if length > MODULE_INDEX_BYTES_MAX as u64 {
        return Err(format!("{INDEX}: {length} bytes"));
    }
    let text = fs::read_to_string(INDEX).map_err(|error| format!("{INDEX}: {error}"))?;
    Index::parse(&text).map_err(|error| error.to_string())
}

fn complete() -> bool {
    let tpm = !tpm_expected() || Path::new(TPM_DEVICE).exists();
    tpm && !state::partitions(Path::new(state::BLOCK_CLASS), state::STATE_LABEL).is_empty()
}

/// Whether the firmware says that there is a TPM.
#[must_use]
pub fn tpm_expected() -> bool {
    Path::new(TPM_ANNOUNCED).exists()
}
