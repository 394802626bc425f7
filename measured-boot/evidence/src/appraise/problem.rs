//! What an appraisal can find, each with its code and remedy.

use thiserror::Error;

use crate::{digest::HashAlg, pcr::PcrIndex};

/// Something that is not as it should be, beside what the parsers and the divergence say.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Problem {
    #[error(
        "HP-QV-040 quote: the PCR values beside it are not the ones that it is over ({0}); the evidence was changed, take new"
    )]
    Registers(&'static str),
    #[error(
        "HP-QV-041 quote: no bank of sha256, sha384 or sha512 with PCRs 0-7, 11, 12, 13 and 15; enable the sha256 bank in the firmware setup"
    )]
    Selection,
    #[error(
        "HP-QV-042 manifest: neither the evidence nor the verifier has one; take full evidence or give the verifier the image's manifest"
    )]
    NoManifest,
    #[error(
        "HP-QV-043 image: generation {got} is below {minimum}, older images have a known weakness; update the box"
    )]
    Generation { got: u32, minimum: u32 },
    #[error("HP-QV-044 image: version {got} is below {minimum}; update the box")]
    Version { got: String, minimum: String },
    #[error(
        "HP-QV-045 quote: it answers another challenge than the one sent; ask again with a fresh nonce"
    )]
    Nonce,
    #[error(
        "HP-QV-046 quote: made for another TLS session, somebody relays; connect to the box itself"
    )]
    Exporter,
    #[error(
        "HP-QV-047 attestation key: {got} is not the {expected} that this box was enrolled with; it is another box or its TPM was cleared, enrol it again on purpose"
    )]
    OtherKey { expected: String, got: String },
    #[error(
        "HP-QV-056 attestation key: this verifier has not enrolled it, so nothing shows that it is inside a TPM; enrol the box and give the verifier the key's name"
    )]
    NotEnrolled,
    #[error("HP-QV-048 ledger key: {0}; restart the box, then take new evidence")]
    Binding(&'static str),
    #[error(
        "HP-QV-049 box: {what} went from {before} back to {now}, an older state of the box was restored; find out who did, then enrol it again"
    )]
    Rollback { what: &'static str, before: String, now: String },
    #[error(
        "HP-QV-050 quote: nobody's challenge is in it that this verifier knows, so it may be old; ask the box itself for fresh evidence"
    )]
    NoChallenge,
    #[error(
        "HP-QV-051 endorsement key: {0}; give the verifier the certificates of the TPM's maker"
    )]
    Endorsement(String),
    #[error(
        "HP-QV-057 endorsement key: {0}; trust nothing that this TPM says, ask its maker why, replace it"
    )]
    Revoked(String),
    #[error("HP-QV-058 endorsement key: {0}; give the verifier a current list of the TPM's maker")]
    NotListed(String),
    #[error(
        "HP-QV-052 endorsement key: its certificate is for another key; the evidence was changed, enrol the box again"
    )]
    ForeignCertificate,
    #[error(
        "HP-QV-053 attestation key: it is not under this endorsement key; the evidence mixes two TPMs, enrol the box again"
    )]
    ForeignEndorsement,
    #[error(
        "HP-QV-054 TPM: a software TPM ({0}), whoever runs the host can forge all of this; use such a box in a laboratory only"
    )]
    Software(String),
    #[error(
        "HP-QV-055 release key: the verifier was given none, so nothing can vouch for the image; give it the release's public key"
    )]
    NoReleaseKey,
    #[error(
        "HP-MB-054 event log: record {record} of the user-space log ({name}) is not in the TCG log; the evidence was changed, take new"
    )]
    LogsDisagree { record: usize, name: String },
    #[error(
        "HP-MB-066 event log: the user-space log lacks {name}, which is in the TCG log; the evidence was changed, take new"
    )]
    LogShort { name: String },
    #[error(
        "HP-MB-055 {event}: boot blob differs from manifest (expected {expected}, measured {measured}); boot the other slot or re-flash"
    )]
    Boot { event: String, expected: String, measured: String },
    #[error(
        "HP-MB-056 PCR {pcr}: {bank}:{measured} is not the value that the manifest predicts ({expected}); boot the other slot or re-flash"
    )]
    Predicted { pcr: PcrIndex, bank: HashAlg, expected: String, measured: String },
    #[error(
        "HP-MB-057 {event}: measured into PCR 12 beside the site configuration, something overrides the kernel's command line; remove it from the boot partition"
    )]
    Override { event: String },
    #[error(
        "HP-MB-058 site configuration: not measured; re-flash the box, its PID 1 did not do its work"
    )]
    NoSite,
    #[error(
        "HP-MB-059 site configuration: not the expected one; compare /etc/hookprobe.toml of the box with the one that it should have"
    )]
    Site,
    #[error(
        "HP-MB-067 site configuration: the verifier does not know which one the box should have, and only the log's word says that it is one; give the verifier the box's hookprobe.toml"
    )]
    SiteUnknown,
    #[error(
        "HP-MB-060 PCR {pcr}: no log says what its value is made of and no earlier evidence did; take full evidence once"
    )]
    Unexplained { pcr: PcrIndex },
    #[error(
        "HP-MB-061 PCR {pcr}: changed since the last evidence that had a log; take full evidence"
    )]
    Changed { pcr: PcrIndex },
    #[error(
        "HP-MB-062 state volume: none is measured, the box's state is not encrypted by this TPM; see the console's Settings screen"
    )]
    NoVolume,
    #[error(
        "HP-MB-063 state volume: {event} measured beside or instead of the one volume; re-flash and restore the state from a peer"
    )]
    Volume { event: String },
    #[error(
        "HP-MB-064 Secure Boot: off or not measured, so firmware starts any boot blob; enrol the release's keys in the firmware setup"
    )]
    SecureBoot,
    #[error(
        "HP-MB-068 PCR 4: the firmware ran something that is neither the boot blob nor the kernel in it ({event}, {bank}:{measured}); remove other boot options in the firmware setup, or re-flash"
    )]
    Foreign { event: String, bank: HashAlg, measured: String },
    #[error(
        "HP-MB-069 firmware: {count} boot options failed before the boot blob's turn, nothing of theirs ran; put the box's disk first in the firmware setup"
    )]
    OptionsFailed { count: usize },
    #[error(
        "HP-MB-070 firmware: PCR {pcr} ({measured}) is not what it was when this box was enrolled, its firmware or a plugged-in card's changed; if you updated it, enrol the box again"
    )]
    FirmwareChanged { pcr: PcrIndex, measured: String },
    #[error(
        "HP-MB-071 firmware settings: PCR {pcr} ({measured}) is not what it was when this box was enrolled, its boot order or hardware changed; nothing if you know why"
    )]
    SettingsChanged { pcr: PcrIndex, measured: String },
    #[error(
        "HP-MB-072 {event}: rules and lists were read again {count} times since the start, the last is named; nothing if you know who did"
    )]
    Reloaded { event: String, count: usize },
}
