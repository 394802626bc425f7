//! `hookprobe-verify ledger`: an exported chain, the keys that signed it, and who vouches for them.
//!
//! The chain proves that nobody changed, removed or added a block. That its keys are a box's is
//! what the TPM says: each boot begins with a [`Event::Binding`], a quote over the ledger's key.
//! Pure; called by [`crate::app`].

use std::collections::BTreeMap;

use hookprobe_evidence::{
    bundle::Evidence,
    quote::{AttestationKey, Binding, KeyName, Quote},
};
use hookprobe_wire::{
    Event, NodeId,
    event::{self, BINDING_BYTES_MAX},
    export::{ExportError, Reader},
};
use serde_json::json;

use crate::{
    chain::{Chain, Flawed},
    report::{Exit, Report},
};

/// Most findings of one kind that are listed.
const LISTED_MAX: usize = 8;

/// What is compared with the chain.
#[derive(Debug, Default)]
pub struct Expected {
    /// Name of the attestation key that the box was enrolled with.
    pub ak: Option<Vec<u8>>,
    /// Evidence of the same box, appraised elsewhere.
    pub evidence: Option<Evidence>,
}

/// Why a chain can't be looked at, or where it is broken.
#[derive(Debug)]
enum Broken {
    Export(ExportError),
    Flawed(Flawed),
}

/// Who vouches for the node of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vouched {
    block: u64,
    ak: KeyName,
}

/// A quote over a ledger's key that does not hold.
struct BadBinding {
    block: u64,
    why: String,
}

/// Everything that was seen in the chain.
struct Seen {
    chain: Chain,
    vouched: BTreeMap<u64, Vouched>,
    bad: Vec<BadBinding>,
}

/// Verifies the bytes of an exported chain.
///
/// # Errors
/// [`ExportError`] when the bytes are no exported chain; what is wrong *in* the chain is a finding.
pub fn verify(file: &[u8], expected: &Expected) -> Result<Report, ExportError> {
    let mut report = Report::new("ledger");
    match walk(file) {
        Ok(seen) => {
            chain_facts(&seen, &mut report);
            binding_findings(&seen, expected, &mut report);
            if let Some(evidence) = &expected.evidence {
                evidence_findings(&seen, evidence, &mut report);
            }
        }
        Err(Broken::Flawed(flawed)) => {
            report.finding(Exit::Contraindicated, flawed.to_string());
            report.member("block", flawed.seq);
        }
        Err(Broken::Export(error)) => return Err(error),
    }
    Ok(report)
}

fn walk(file: &[u8]) -> Result<Seen, Broken> {
    let mut reader = Reader::new(file).map_err(Broken::Export)?;
    let summary = reader.summary().clone();
    let mut chain = Chain::new(&summary);
    let (mut vouched, mut bad) = (BTreeMap::new(), Vec::new());
    for record in &mut reader {
        let record = record.map_err(Broken::Export)?;
        let block = chain.length();
        let event = chain.push(&record).map_err(Broken::Flawed)?;
        if let Some(Event::Binding(binding)) = event {
            let header = &record.block.header;
            match vouch(&binding, header.node_identity, header.epoch, &chain) {
                Ok(ak) => {
                    vouched.entry(header.epoch).or_insert(Vouched { block, ak });
                }
                Err(why) => bad.push(BadBinding { block, why }),
            }
        }
    }
    chain.finish(&summary).map_err(Broken::Flawed)?;
    Ok(Seen { chain, vouched, bad })
}

/// The attestation key that vouches for `node` in `epoch` by this event.
fn vouch(
    event: &event::Binding,
    node: NodeId,
    epoch: u64,
    chain: &Chain,
) -> Result<KeyName, String> {
    if event.evidence.len() > BINDING_BYTES_MAX {
        return Err(format!("{} bytes, at most {BINDING_BYTES_MAX}", event.evidence.len()));
    }
    if event.epoch != epoch {
        return Err(format!("for epoch {} in a block of epoch {epoch}", event.epoch));
    }
    let evidence = Evidence::parse(&event.evidence).map_err(|error| error.to_string())?;
    if boot_id(&evidence.boot_id).is_none_or(|boot_id| boot_id != evidence.binding.nonce[..]) {
        return Err("its nonce is not the boot id".into());
    }
    quoted(&evidence.ak_public, &evidence.quote, &evidence.binding, node, epoch, chain)
}

/// Verifies `quote` under the key in `public`, and that it covers `node`, `epoch` and this chain.
fn quoted(
    public: &[u8],
    quote: &Quote,
    binding: &Binding,
    node: NodeId,
    epoch: u64,
    chain: &Chain,
) -> Result<KeyName, String> {
    let key = AttestationKey::from_public(public).map_err(|error| error.to_string())?;
    quote.verify(&key, binding).map_err(|error| error.to_string())?;
    if binding.node.as_ref().is_none_or(|quoted| quoted[..] != node.as_bytes()[..]) {
        return Err("the quote covers another key than the one that signed the block".into());
    }
    if binding.epoch != epoch {
        return Err(format!("the quote is of epoch {}, the block of {epoch}", binding.epoch));
    }
    in_chain(binding, chain)?;
    Ok(key.name().clone())
}

/// Whether the head and the root in a binding are this chain's.
fn in_chain(binding: &Binding, chain: &Chain) -> Result<(), String> {
    if binding.head.is_none() && binding.root.is_none() {
        return Ok(());
    }
    if binding.length > chain.length() {
        let length = chain.length();
        return Err(format!(
            "the quote vouches for {} blocks, there are only {length}: blocks were taken away",
            binding.length
        ));
    }
    let Some((head, root)) = chain.at(binding.length) else {
        return Ok(());
    };
    for (what, quoted, there) in [("head", &binding.head, head), ("root", &binding.root, root)] {
        if let Some(quoted) = quoted
            && quoted[..] != there.as_bytes()[..]
        {
            return Err(format!(
                "the {what} in the quote is not that of the first {} blocks: another chain",
                binding.length
            ));
        }
    }
    Ok(())
}

fn boot_id(text: &str) -> Option<Vec<u8>> {
    (text.len() == 32).then(|| crate::input::hex(text).ok())?
}

fn chain_facts(seen: &Seen, report: &mut Report) {
    let chain = &seen.chain;
    let first = chain.epochs().first().map_or(0, |epoch| epoch.first);
    let blocks: u64 = chain.epochs().iter().map(|epoch| epoch.blocks).sum();
    report.summary(format!(
        "{blocks} blocks: every link, hash, signature and payload is as the box wrote it"
    ));
    report.fact("blocks", format!("{blocks}, from {first} on; {} without payload", chain.erased()));
    report.fact("head", chain.head().hex());
    report.fact("root", chain.root().hex());
    if first > 0 {
        report.fact("note", "blocks before the first one were not looked at");
    }
    let epochs: Vec<_> = chain
        .epochs()
        .iter()
        .map(|epoch| {
            let vouched = seen.vouched.get(&epoch.number);
            json!({
                "number": epoch.number,
                "node": epoch.node.hex(),
                "first": epoch.first,
                "blocks": epoch.blocks,
                "ak": vouched.map(|vouched| vouched.ak.hex()),
                "binding_block": vouched.map(|vouched| vouched.block),
            })
        })
        .collect();
    for epoch in chain.epochs().iter().rev().take(LISTED_MAX) {
        let vouched = seen.vouched.get(&epoch.number).map_or_else(
            || "no TPM vouches for it".to_owned(),
            |vouched| format!("AK {} in block {}", short(&vouched.ak), vouched.block),
        );
        report.fact(
            "epoch",
            format!(
                "{}  key {}  {} blocks from {}  {vouched}",
                epoch.number,
                epoch.node.short(),
                epoch.blocks,
                epoch.first
            ),
        );
    }
    report.member("blocks", blocks);
    report.member("first", first);
    report.member("length", chain.length());
    report.member("erased", chain.erased());
    report.member("head", chain.head().hex());
    report.member("root", chain.root().hex());
    report.member("epochs", epochs);
}

fn short(name: &KeyName) -> String {
    name.hex().chars().take(16).collect()
}

fn binding_findings(seen: &Seen, expected: &Expected, report: &mut Report) {
    for BadBinding { block, why } in seen.bad.iter().take(LISTED_MAX) {
        report.finding(
            Exit::Contraindicated,
            format!("HP-VF-012 ledger: block {block}: the TPM's word for its key does not hold ({why}); treat the epoch as forged"),
        );
    }
    let bare: Vec<_> = seen
        .chain
        .epochs()
        .iter()
        .filter(|epoch| !seen.vouched.contains_key(&epoch.number))
        .map(|epoch| epoch.number.to_string())
        .collect();
    if !bare.is_empty() {
        let listed = bare.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
        report.finding(
            Exit::Warning,
            format!("HP-VF-011 ledger: no TPM vouches for the key of {} epochs ({listed}); whoever had the file could have signed them, a box without a TPM has only such epochs", bare.len()),
        );
    }
    if let Some(ak) = &expected.ak {
        let other = seen.vouched.values().find(|vouched| vouched.ak.as_bytes() != ak.as_slice());
        if let Some(Vouched { block, ak }) = other {
            report.finding(
                Exit::Contraindicated,
                format!("HP-VF-013 ledger: block {block}: vouched for by the attestation key {}, not by the one that was asked for; it is another box's ledger, or the box was enrolled again", short(ak)),
            );
        }
    } else {
        let mut keys: Vec<_> = seen.vouched.values().map(|vouched| &vouched.ak).collect();
        keys.sort();
        keys.dedup();
        if keys.len() > 1 {
            report.finding(
                Exit::Warning,
                format!("HP-VF-014 ledger: {} attestation keys vouch for its epochs; the box was enrolled again, compare with --ak", keys.len()),
            );
        }
    }
}

/// The evidence is about the key and the head of this chain.
fn evidence_findings(seen: &Seen, evidence: &Evidence, report: &mut Report) {
    let chain = &seen.chain;
    let binding = &evidence.binding;
    let epoch = chain.epochs().iter().find(|epoch| epoch.number == binding.epoch);
    let outcome = epoch.map_or_else(
        || Err(format!("it is of epoch {}, which the ledger does not have", binding.epoch)),
        |epoch| {
            quoted(&evidence.ak_public, &evidence.quote, binding, epoch.node, epoch.number, chain)
        },
    );
    match outcome {
        Ok(ak) => {
            let other = seen.vouched.get(&binding.epoch).filter(|vouched| vouched.ak != ak);
            if let Some(vouched) = other {
                report.finding(
                    Exit::Contraindicated,
                    format!("HP-VF-015 evidence: quoted by the attestation key {}, the ledger's epoch {} is vouched for by {}; they are of two boxes", short(&ak), binding.epoch, short(&vouched.ak)),
                );
            } else if binding.head.is_none() {
                report.finding(
                    Exit::Warning,
                    "HP-VF-016 evidence: it covers no head of a ledger; take new evidence while the ledger runs",
                );
            } else {
                report.fact("evidence", format!("covers the first {} blocks", binding.length));
                report.member("covered", binding.length);
            }
        }
        Err(why) => report.finding(
            Exit::Contraindicated,
            format!("HP-VF-015 evidence: not about this ledger ({why}); ask the same box for both"),
        ),
    }
}
