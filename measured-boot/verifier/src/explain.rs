//! `hookprobe-verify explain`: what a code means, or the event logs of evidence in words.

use std::path::Path;

use hookprobe_evidence::{
    appraise::{Reference, appraise},
    bundle::Evidence,
    digest::Digest,
    manifest::ReferenceManifest,
    pcr::PcrIndex,
    signed, site,
    tcg::ReplayedLog,
};
use serde_json::json;

use crate::{
    error::VerifyError,
    input,
    report::{Exit, Report},
};

/// `code, tab, meaning, tab, what to do`, one a line.
const CODES: &str = include_str!("codes.tsv");

/// Which part of the product speaks with which letters.
const FAMILIES: [(&str, &str); 17] = [
    ("HP-AT", "attest, which keeps the box's identity and quotes, and opens the state volume"),
    ("HP-BT", "PID 1: the phases of the boot"),
    ("HP-CF", "the site configuration hookprobe.toml"),
    ("HP-CK", "PID 1: the clock"),
    ("HP-CO", "the console"),
    ("HP-LD", "the ledger"),
    ("HP-MB", "measured boot: services, event logs, manifests"),
    ("HP-NW", "PID 1: the network"),
    ("HP-QR", "evidence as lines of QR codes"),
    ("HP-QV", "verification of quotes and evidence"),
    ("HP-RS", "the response, which blocks sources"),
    ("HP-SN", "the sensor, which watches the network"),
    ("HP-ST", "PID 1: the state volume"),
    ("HP-SV", "PID 1: supervision of services"),
    ("HP-TP", "the TPM"),
    ("HP-VF", "this program"),
    ("HP-WR", "messages between services, and exported files"),
];

/// Meaning and remedy of a code.
#[must_use]
pub fn meaning(code: &str) -> Option<(&'static str, &'static str)> {
    CODES.lines().find_map(|line| {
        let (known, rest) = line.split_once('\t')?;
        let (meaning, remedy) = rest.split_once('\t')?;
        (known == code).then_some((meaning, remedy))
    })
}

/// What a code means.
///
/// # Errors
/// [`VerifyError::Usage`] when no part of the product has such codes.
pub fn code(code: &str) -> Result<Report, VerifyError> {
    let code = code.to_ascii_uppercase();
    let family = code.get(..5).and_then(|family| FAMILIES.iter().find(|(name, _)| *name == family));
    let Some((_, part)) = family else {
        return Err(VerifyError::Usage(format!(
            "explain: {code} is neither a file nor a code such as HP-MB-004; check the spelling"
        )));
    };
    let mut report = Report::new("explain");
    report.fact("part", *part);
    report.member("code", code.clone());
    report.member("part", *part);
    if let Some((meaning, remedy)) = meaning(&code) {
        report.summary(format!("{code}: {meaning}"));
        report.fact("do", remedy);
        report.member("meaning", meaning);
        report.member("remedy", remedy);
    } else {
        report.summary(format!("{code}: the text beside the code says what it is and what to do"));
    }
    Ok(report)
}

/// What is in a register.
#[must_use]
pub fn register(pcr: u8) -> &'static str {
    match pcr {
        0 => "firmware code",
        1 => "firmware settings",
        2 => "option ROMs",
        3 => "option ROM settings",
        4 => "boot loader: the boot blob as a program",
        5 => "partition table and boot loader settings",
        6 => "maker's own",
        7 => "Secure Boot state and keys",
        11 => "boot blob: kernel, command line, initramfs; then the end of the phase unlock",
        12 => {
            "overrides of the command line; then the site configuration; then rules and lists read again"
        }
        13 => "services: files and specification of each",
        15 => "state volume",
        _ => "not used by this product",
    }
}

/// The events of full evidence in words: which event in which register, what it is, and, under a
/// release key, what it should be. Only events that the quote vouches for are shown.
///
/// # Errors
/// [`VerifyError::Usage`] for short evidence; those of [`input::release_key`], but for having none.
pub fn logs(evidence: &Evidence, release_key: Option<&Path>) -> Result<Report, VerifyError> {
    let Some(logs) = &evidence.logs else {
        return Err(VerifyError::Usage(
            "explain: the evidence is short, it has no logs; take full evidence".into(),
        ));
    };
    let mut report = Report::new("explain");
    let manifest = match input::release_key(release_key) {
        Ok(release) => {
            let envelope = evidence.manifest.as_deref().map(Vec::as_slice).unwrap_or_default();
            signed::open_manifest(envelope, &release)
                .inspect_err(|error| report.finding(Exit::Warning, error.to_string()))
                .ok()
        }
        Err(VerifyError::NoReleaseKey) => None,
        Err(error) => return Err(error),
    };
    // Without a release nothing is affirmed; the registers are those of a verified quote, or none.
    let appraisal = appraise(evidence, &Reference::default(), 0);
    if appraisal.registers.is_empty() {
        let why = appraisal.worst().map(ToString::to_string).unwrap_or_default();
        report.finding(Exit::Contraindicated, why);
        return Ok(report);
    }
    let quoted: Vec<(PcrIndex, Digest)> =
        appraisal.registers.iter().map(|register| (register.pcr, register.value.clone())).collect();
    let replayed = match ReplayedLog::replay(&logs.tcg, &quoted) {
        Ok(replayed) => replayed,
        Err(error) => {
            report.finding(Exit::Contraindicated, error.to_string());
            return Ok(report);
        }
    };
    for failure in replayed.failures() {
        report.finding(Exit::Contraindicated, failure.to_string());
    }
    events(&replayed, manifest.as_ref(), &mut report);
    Ok(report)
}

fn events(replayed: &ReplayedLog, manifest: Option<&ReferenceManifest>, report: &mut Report) {
    let mut lines = Vec::new();
    let mut expected = manifest.map(|manifest| manifest.events.iter());
    report.summary(format!("{} events, each vouched for by the quote", replayed.events().len()));
    for event in replayed.events() {
        let event = &event.event;
        let Some(digest) = event.digests.first() else { continue };
        let mut line =
            format!("{:2}  {}  {}:{}", event.pcr.get(), event.name, digest.alg(), digest.short());
        let mut wanted = None;
        if event.pcr == PcrIndex::SERVICES
            && let Some(next) = expected.as_mut().map(Iterator::next)
        {
            let digest_wanted = next.and_then(|next| next.digests.get(digest.alg().name()));
            let named = next.is_some_and(|next| next.name == event.name);
            if named && digest_wanted.is_some_and(|wanted| *wanted == digest.hex()) {
                line.push_str("  as signed");
            } else {
                let short = digest_wanted.map_or("nothing", String::as_str);
                let short: String = short.chars().take(8).collect();
                let name = next.map_or("no event", |next| next.name.as_str());
                line.push_str(&format!("  SHOULD BE {name} {}:{short}", digest.alg()));
                report.at_least(Exit::Contraindicated);
            }
            wanted = digest_wanted.cloned();
        }
        report.fact(what(&event.name, event.pcr.get()), line);
        lines.push(json!({
            "pcr": event.pcr.get(),
            "name": event.name,
            "bank": digest.alg().name(),
            "digest": digest.hex(),
            "expected": wanted,
        }));
    }
    if manifest.is_none() {
        report.fact("note", "no release key: what each event should be is not shown");
    }
    report.member("events", lines);
}

/// What an event is about, by its name and register.
fn what(name: &str, pcr: u8) -> &'static str {
    match name.split_once(':').map_or(name, |(kind, _)| kind) {
        "service" if name.ends_with(" spec") => "service specification",
        "service" => "service file",
        "phase" => "end of a boot phase",
        "site" if name.starts_with(site::RELOAD_EVENT) => "rules and lists read again",
        "site" => "site configuration",
        "volume" => "state volume",
        _ => register(pcr),
    }
}
