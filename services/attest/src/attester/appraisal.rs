//! The box's own look at its evidence: what a verifier with the image's release key would say.

use hookprobe_evidence::{
    appraise::{self, Firmware, Memory, Reference, Register, Status},
    bundle::{Endorsement, Evidence},
    digest::{Digest, HashAlg},
    levels::Level,
    log::Event,
    manifest::ReferenceManifest,
    tcg::ReplayedLog,
};
use hookprobe_tpm::trust::Maker;
use hookprobe_wire::{
    attest::{Measurement, Verdict},
    control::PcrValue,
    text,
};

use super::Ready;
use crate::{anchors::Anchors, job::Appraisal};

/// Longest name of a measurement that is shown.
const NAME_CHARS_MAX: usize = 160;

/// Level while nothing was appraised.
pub(super) fn level_until_appraised(maker: &Maker) -> (String, String) {
    let level = if maker.software { Level::T } else { Level::L0 };
    let text = if maker.software { level.text() } else { "the box did not verify itself yet" };
    (level.word().into(), text.into())
}

/// What is known of the endorsement key.
pub(super) fn endorsement_line(endorsement: &Endorsement) -> String {
    match &endorsement.certificate {
        Some(der) => format!("certificate of its maker in the TPM ({} bytes)", der.len()),
        None => "no certificate in the TPM: its maker can't be proven".into(),
    }
}

/// Measurements for people: `unknown` is what the manifest says nothing about.
pub(super) fn measurements<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    manifest: Option<&ReferenceManifest>,
) -> Vec<Measurement> {
    // Every expected event stands for one measurement.
    let mut expected: Vec<_> = manifest
        .map(|manifest| manifest.boot.iter().chain(&manifest.events).collect())
        .unwrap_or_default();
    let mut verdict = |event: &Event| {
        let Some(at) = expected.iter().position(|expected| expected.name == event.name) else {
            return "unknown";
        };
        let expected = expected.remove(at);
        let same = |digest: &Digest| {
            expected.digests.get(digest.alg().name()).is_some_and(|hex| *hex == digest.hex())
        };
        if !event.digests.is_empty() && event.digests.iter().all(same) {
            "match"
        } else {
            "differs"
        }
    };
    events
        .into_iter()
        .map(|event| {
            let digest = event.digest(HashAlg::Sha256).or(event.digests.first());
            Measurement {
                pcr: event.pcr.get(),
                name: text::escape(&event.name, NAME_CHARS_MAX),
                digest: digest.map(Digest::hex).unwrap_or_default(),
                verdict: verdict(event).into(),
            }
        })
        .collect()
}

/// What the box knows of its past.
pub(super) struct Past<'a> {
    /// Of the last appraisal in this life of the service.
    pub(super) memory: &'a mut Option<Memory>,
    /// Of the boot before.
    pub(super) firmware: &'a Option<Firmware>,
}

/// What a verifier with the image's release key, this box's key and its past would say; and the
/// firmware, when nothing speaks against remembering it.
pub(super) fn appraise(
    evidence: &Evidence,
    ready: &Ready,
    anchors: &Anchors,
    Past { memory, firmware }: Past<'_>,
    now_s: u64,
) -> (Appraisal, Option<Firmware>) {
    let earlier = memory.take().map(|memory| forget_other_lane(memory, evidence));
    let reference = Reference {
        release_keys: anchors.release.iter().cloned().collect(),
        nonce: Some(evidence.binding.nonce.to_vec()),
        ak_name: Some(ready.key.name().clone()),
        memory: earlier.clone(),
        firmware: firmware.clone(),
        ..Reference::default()
    };
    let result = appraise::appraise(evidence, &reference, now_s);
    // A result that must not be built upon leaves what was known before.
    let firmware = result.memory.as_ref().map(|_| appraise::firmware_of(&result.registers));
    *memory = result.memory.clone().or(earlier);
    let level =
        if ready.maker.software && result.level != Level::L0 { Level::T } else { result.level };
    let appraisal = Appraisal {
        verdict: verdict(result.status),
        divergence: divergence(&result),
        level: (level.word().into(), level.text().into()),
        pcrs: result.registers.iter().map(register).collect(),
        log: log(evidence, &result, anchors.manifest.as_ref()),
    };
    (appraisal, firmware)
}

/// The ledger may be away, or sign with another key, without the box being another: that is for
/// those who verify the ledger. What is remembered of a lane counts while it is the same.
fn forget_other_lane(memory: Memory, evidence: &Evidence) -> Memory {
    let node = evidence.binding.node.as_ref();
    let node = node.map(|node| node.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if node == memory.node { memory } else { Memory { node: None, ..memory } }
}

fn verdict(status: Status) -> Verdict {
    match status {
        Status::None => Verdict::None,
        Status::Affirming => Verdict::Affirming,
        Status::Warning => Verdict::Warning,
        Status::Contraindicated => Verdict::Contraindicated,
    }
}

/// The first event that is not as predicted, else the worst that was found.
fn divergence(result: &appraise::Appraisal) -> String {
    if result.status == Status::Affirming {
        return String::new();
    }
    let worst = result.worst().map(ToString::to_string);
    result.divergence.clone().or(worst).unwrap_or_else(|| "nothing could be compared".into())
}

fn register(register: &Register) -> PcrValue {
    PcrValue {
        bank: register.value.alg().name().into(),
        index: register.pcr.get(),
        value: register.value.hex(),
        predicted: register.expected.as_ref().map(Digest::hex).unwrap_or_default(),
    }
}

/// Events that the quote proves; where it proves none, PID 1's as they stand in its log.
fn log(
    evidence: &Evidence,
    result: &appraise::Appraisal,
    manifest: Option<&ReferenceManifest>,
) -> Vec<Measurement> {
    let quoted: Vec<_> =
        result.registers.iter().map(|register| (register.pcr, register.value.clone())).collect();
    let Some(logs) = &evidence.logs else {
        return Vec::new();
    };
    match ReplayedLog::replay(&logs.tcg, &quoted) {
        Ok(log) if !log.events().is_empty() => {
            measurements(log.events().iter().map(|event| &event.event), manifest)
        }
        Ok(_) | Err(_) => {
            let events = hookprobe_evidence::log::parse(&logs.userspace).unwrap_or_default();
            measurements(&events, manifest)
        }
    }
}
