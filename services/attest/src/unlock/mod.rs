//! `hookprobe-attest unlock`: opens the state volume, or makes it. PID 1 runs it once before any
//! service; what became of the volume goes to PID 1 as [`Outcome`].
//!
//! | file | what it is |
//! |---|---|
//! | `decide` | facts in, plan out; pure |
//! | `header` | what a partition and a LUKS2 header of ours look like; pure |
//! | `recovery` | recovery keys; pure |
//! | `procedure` | finds the facts, does what the plan says |
//! | `volume` | LUKS2 through libcryptsetup |
//! | `disk` | files, and the head of the partition |
//! | `machine` | random bytes, device-mapper, mke2fs |
//! | `native` | the callback and the exec that need `unsafe` |
//!
//! Must never happen here: a network; a secret in the log or in an argument; a wait that PID 1's
//! bound (90 s) would cut off. Spec: LUKS2 On-Disk Format 1.1.

pub mod decide;
mod disk;
mod error;
pub mod header;
mod machine;
mod native;
mod procedure;
mod recovery;
mod volume;

use std::{error::Error, fs::File, io::Read as _, path::Path, process::ExitCode};

use hookprobe_evidence::{
    policy::ReleaseKey,
    signed::{self, ENVELOPE_BYTES_MAX, ENVELOPE_PATH, RELEASE_KEY_PATH},
};
use hookprobe_tpm::Context;
use hookprobe_wire::unlock::Outcome;

use self::{
    disk::Place,
    machine::Real,
    procedure::{Found, Release},
};

/// The TPM through the kernel's resource manager.
const TPM: &str = "/dev/tpmrm0";
/// Longest release key: a P-256 key in PEM has 180 bytes.
const KEY_BYTES_MAX: usize = 4096;

/// Runs the helper once. It succeeds when the outcome is where PID 1 reads it, whatever it is.
#[must_use]
pub fn run() -> ExitCode {
    native::forward_messages();
    let place = Place::default();
    let release = release();
    if let Err(why) = &release {
        tracing::warn!("{why}");
    }
    let outcome = if Path::new(TPM).exists() {
        match Context::open(TPM) {
            Ok(mut tpm) => procedure::unlock(&place, Found::Working(&mut tpm), release, &mut Real),
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                procedure::unlock(&place, Found::Failing(chain(&error)), release, &mut Real)
            }
        }
    } else {
        procedure::unlock(&place, Found::Absent, release, &mut Real)
    };
    say(&outcome);
    match place.write_outcome(outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// One line that says what became of it.
fn say(outcome: &Outcome) {
    match outcome {
        Outcome::Open { uuid, created, recovered, resealed, note, .. } => {
            tracing::info!(uuid, created, recovered, resealed, "state volume: ready");
            if let Some(note) = note {
                tracing::warn!("{note}");
            }
        }
        Outcome::Plain { created } => {
            tracing::warn!(created, "state volume: not encrypted, this box has no TPM");
        }
        Outcome::Locked { reason, recoverable } => tracing::error!(recoverable, "{reason}"),
    }
}

/// What the image brings, verified.
fn release() -> Result<Release, String> {
    let key = read(RELEASE_KEY_PATH, KEY_BYTES_MAX)?;
    let key = ReleaseKey::from_pem(&String::from_utf8_lossy(&key)).map_err(|e| chain(&e))?;
    let envelope = read(ENVELOPE_PATH, ENVELOPE_BYTES_MAX)?;
    let manifest = signed::open_manifest(&envelope, &key).map_err(|error| chain(&error))?;
    Ok(Release { key, generation: manifest.generation, policies: manifest.policies })
}

fn read(path: &str, most: usize) -> Result<Vec<u8>, String> {
    let failed = |why: String| {
        format!("HP-AT-127 unlock: {path}: {why}; the image is not signed, boot a signed one")
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            file.take(limit).read_to_end(&mut bytes)
        })
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() > most { Err(failed(format!("longer than {most} bytes"))) } else { Ok(bytes) }
}

/// An error and what is behind it, in one line; nothing is said twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        let behind_text = behind.to_string();
        if !text.contains(&behind_text) {
            text.push_str(": ");
            text.push_str(&behind_text);
        }
        source = behind.source();
    }
    text
}
