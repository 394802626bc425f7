//! Opening the TPM: absent, unusable, or there.

use std::path::Path;

use hookprobe_tpm::Context;

use crate::{
    attester::{NoTrust, Open},
    code::{self, Fault},
};

/// The kernel's resource manager: every process has the TPM for itself there.
pub const DEVICE: &str = "device:/dev/tpmrm0";

/// Opens the TPM that `tcti` names, later, on the thread that calls it.
#[must_use]
pub fn opener(tcti: String) -> Open {
    Box::new(move || {
        let device = tcti.strip_prefix("device:").unwrap_or(&tcti);
        if device.starts_with('/') && !Path::new(device).exists() {
            let reason = "tpm: the box has none; switch it on in the firmware, or fit one";
            return Err(NoTrust::Absent(Fault::new(code::NO_TPM, reason)));
        }
        match Context::open(&tcti) {
            Ok(context) => Ok(Box::new(context)),
            Err(error) => Err(NoTrust::Broken(Fault::from_error(&error))),
        }
    })
}
