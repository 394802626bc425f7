//! Whether the firmware is the one that the box was enrolled with.
//!
//! No reference values exist for the firmware of other makers. So the first values that a verifier
//! sees are kept, and a change is told: of code (PCR 0 and 2) as a warning until somebody enrols the
//! box again, of settings (PCR 1 and 3: boot order, memory modules) as a remark, because a stick in a
//! port is enough for it. Must never happen here: a pin that a later look moves.

use super::{Claim, Firmware, Memory, Problem, Register, Run, Verified};
use crate::digest::HashAlg;

/// Code of the firmware, and of what is plugged in.
const CODE: [u8; 2] = [0, 2];
/// Their settings.
const SETTINGS: [u8; 2] = [1, 3];

/// What is remembered of firmware, of registers whose bank can be believed.
#[must_use]
pub fn firmware_of(registers: &[Register]) -> Firmware {
    registers
        .iter()
        .filter(|register| register.value.alg() != HashAlg::Sha1)
        .filter(|register| CODE.iter().chain(&SETTINGS).any(|pcr| *pcr == register.pcr.get()))
        .map(|register| (Memory::register(register.pcr, &register.value), register.value.hex()))
        .collect()
}

impl Run<'_> {
    /// Firmware as it was at enrolment, where the verifier knows it of this very key.
    fn enrolled_firmware(&self, verified: &Verified) -> Option<&Firmware> {
        let memory = self.reference.memory.as_ref();
        let of_this_key = memory.filter(|memory| memory.ak_name == verified.key.name().hex());
        self.reference.firmware.as_ref().or(of_this_key.map(|memory| &memory.firmware))
    }

    pub(super) fn firmware_since(&mut self, verified: &Verified) {
        let Some(before) = self.enrolled_firmware(verified) else {
            return;
        };
        let changed: Vec<Register> = self
            .out
            .registers
            .iter()
            .filter(|register| {
                let known = before.get(&Memory::register(register.pcr, &register.value));
                known.is_some_and(|known| !register.value.is_hex(known))
            })
            .cloned()
            .collect();
        let of = |pcrs: [u8; 2]| {
            let mut of = changed.iter().filter(move |r| pcrs.contains(&r.pcr.get()));
            of.next().map(|register| (register.pcr, register.value.short()))
        };
        if let Some((pcr, measured)) = of(CODE) {
            let problem = Problem::FirmwareChanged { pcr, measured };
            self.out.divergence.get_or_insert_with(|| problem.to_string());
            self.fail(|c| &mut c.executables, Claim::UNRECOGNIZED, &problem);
        }
        if let Some((pcr, measured)) = of(SETTINGS) {
            self.note(&Problem::SettingsChanged { pcr, measured });
        }
    }

    /// The first values stay; a bank that was not quoted then is added.
    pub(super) fn firmware_to_remember(&self, verified: &Verified) -> Firmware {
        let mut firmware = firmware_of(&self.out.registers);
        firmware.extend(
            self.enrolled_firmware(verified)
                .into_iter()
                .flatten()
                .map(|(register, value)| (register.clone(), value.clone())),
        );
        firmware
    }
}
