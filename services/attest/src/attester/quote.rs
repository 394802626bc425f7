//! Quotes: made, explained by the log, verified by the box itself before anybody else sees them.

use hookprobe_evidence::{
    appraise::Firmware,
    bundle::{EpochQuote, Evidence, Logs, PcrClaim, VERSION},
    digest::{Digest, HashAlg},
    log,
    pcr::PcrIndex,
    quote::Binding,
    tcg::{self, ReplayedLog},
};
use hookprobe_tpm::trust::{AkBlob, Quoted, Selection};
use minicbor::bytes::ByteVec;
use sha2::{Digest as _, Sha256};

use super::{Attester, Ready, appraisal, appraisal::Past, not_enrolled};
use crate::{
    code::{self, Fault},
    host::RawLogs,
    job::{Ask, Attested, Want},
};

/// How often a quote is made again because the log does not explain it: PID 1 extends before it
/// writes, so one more usually does; a storm of restarts ends by PID 1's own budget.
pub(super) const LOG_TRIES_MAX: u32 = 4;
/// Registers of a full quote: firmware's, the boot blob's, the site's, services', the state
/// volume's. Not 10 (the kernel's IMA keeps a log of its own), 14 (shim), 16 and 23 (anybody resets
/// them).
const FULL: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15];
/// Registers of a short one, in one bank, so that it fits in a block: those that decide.
const SHORT: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15];

/// A quote with the logs that go with it.
struct Explained {
    quoted: Quoted,
    raw: RawLogs,
    tcg: Vec<u8>,
    again: u32,
}

impl Attester {
    pub(super) fn quote(
        &mut self,
        want: Want,
        Ask { binding, epoch }: Ask,
    ) -> Result<Attested, Fault> {
        let begun = self.host.micros();
        let full = match want {
            Want::Own | Want::Challenge { full: true } => true,
            Want::Epoch | Want::Challenge { full: false } => false,
        };
        let made = if full { self.explained(&binding)? } else { self.bare(&binding)? };
        let ready = self.ready.as_ref().ok_or_else(not_enrolled)?;
        let verified = made.quoted.quote.verify(&ready.key, &binding).map_err(|error| {
            let reason = format!("own quote: not verified ({error}); restart the box");
            Fault::new(code::OWN_QUOTE, reason)
        })?;
        let us = self.host.micros().saturating_sub(begun);
        let quote = EpochQuote { quote: made.quoted.quote.clone(), binding: binding.clone() };
        let retries = made.quoted.retries.saturating_add(made.again);
        let evidence = self.evidence(made, binding, full, epoch, ready);
        let (evidence, appraisal) = match want {
            Want::Own => {
                let past = Past { memory: &mut self.memory, firmware: &self.firmware };
                let now_s = self.host.seconds();
                let (own, firmware) =
                    appraisal::appraise(&evidence, ready, &self.anchors, past, now_s);
                self.remember_firmware(firmware);
                (Vec::new(), Some(own))
            }
            Want::Epoch | Want::Challenge { .. } => (evidence.to_bytes(), None),
        };
        Ok(Attested { evidence, quote, clock: verified.clock, appraisal, us, retries })
    }

    /// What the next boot compares its firmware with. A change is told for as long as this boot lasts
    /// and stands in the ledger; after that it is the box's firmware. Verifiers remember for longer.
    fn remember_firmware(&mut self, firmware: Option<Firmware>) {
        if self.keep_file || firmware.is_none() || self.identity.firmware == firmware {
            return;
        }
        let before = std::mem::replace(&mut self.identity.firmware, firmware);
        if let Err(error) = self.store.write(&self.identity.to_bytes()) {
            tracing::warn!("{} identity file: firmware not remembered: {error}", code::STORE);
            self.identity.firmware = before;
        }
    }

    fn evidence(
        &self,
        made: Explained,
        binding: Binding,
        full: bool,
        epoch: Option<EpochQuote>,
        ready: &Ready,
    ) -> Evidence {
        let envelope = self.anchors.envelope.clone().filter(|_| full);
        Evidence {
            version: VERSION,
            quote: made.quoted.quote,
            ak_public: ready.ak_public.clone().into(),
            binding,
            pcrs: made.quoted.pcrs,
            epoch,
            boot_id: self.boot_id.clone(),
            taken_s: self.host.seconds(),
            logs: full.then(|| Logs { tcg: made.tcg.into(), userspace: made.raw.userspace.into() }),
            manifest: envelope.map(ByteVec::from),
            ek: full.then(|| ready.endorsement.clone()),
        }
    }

    /// A quote without logs.
    fn bare(&mut self, binding: &Binding) -> Result<Explained, Fault> {
        let bank = self.ready.as_ref().and_then(|ready| main_bank(&ready.banks));
        let bank = bank.ok_or_else(not_enrolled)?;
        let quoted = self.ask(&vec![(bank, indexes(&SHORT))], binding)?;
        let raw = RawLogs::default();
        Ok(Explained { quoted, raw, tcg: Vec::new(), again: 0 })
    }

    /// A quote and logs that explain it. When they do not, both are taken again: an event may have
    /// come between the two. What stays unexplained goes out as it is, the verifier judges it, and
    /// is not waited for a second time.
    fn explained(&mut self, binding: &Binding) -> Result<Explained, Fault> {
        let banks = self.ready.as_ref().map(|ready| ready.banks.clone());
        let banks = banks.ok_or_else(not_enrolled)?;
        let selection: Selection = banks.iter().map(|bank| (*bank, indexes(&FULL))).collect();
        let mut again = 0;
        loop {
            let quoted = self.ask(&selection, binding)?;
            let raw = self.host.logs().map_err(|error| {
                let reason = format!("event log: {error}; restart the box");
                Fault::new(code::LOG_UNREADABLE, reason)
            })?;
            // A record that is being written is there whole a moment later.
            let parsed = log::parse(&raw.userspace);
            let whole = parsed.is_ok();
            let tcg = tcg::merge(&raw.firmware, &parsed.unwrap_or_default(), &banks);
            if whole && explains(&tcg, &quoted.pcrs) {
                self.unexplained = None;
                return Ok(Explained { quoted, raw, tcg, again });
            }
            let state = Some(fingerprint(&quoted.pcrs, &raw));
            if self.unexplained == state || again + 1 >= LOG_TRIES_MAX {
                self.unexplained = state;
                return Ok(Explained { quoted, raw, tcg, again });
            }
            self.host.pause(again);
            again += 1;
        }
    }

    /// Asks for a quote; once more over a new connection when the old one is broken. A TPM that was
    /// reset under the running box looks like that, and only its next quote says so.
    fn ask(&mut self, selection: &Selection, binding: &Binding) -> Result<Quoted, Fault> {
        let trust = self.trust.as_mut().ok_or_else(not_enrolled)?;
        let extra_data = binding.extra_data();
        let error = match trust.quote(selection, &extra_data) {
            Ok(quoted) => return Ok(quoted),
            Err(error) => error,
        };
        if !error.is_of_the_wire() || !self.reconnect() {
            return Err(Fault::from_error(&error));
        }
        let trust = self.trust.as_mut().ok_or_else(not_enrolled)?;
        trust.quote(selection, &extra_data).map_err(|error| Fault::from_error(&error))
    }

    /// Opens the TPM anew and loads the attestation key; the old connection stays when that fails.
    fn reconnect(&mut self) -> bool {
        let Some(ak) = self.identity.ak.as_ref().map(AkBlob::from) else {
            return false;
        };
        let Ok(mut trust) = (self.open)() else {
            return false;
        };
        let loaded = trust.load_ak(&ak);
        if let Err(error) = &loaded {
            tracing::warn!("tpm: opened anew, without its key: {error}");
            return false;
        }
        tracing::warn!("tpm: opened anew after an error");
        self.trust = Some(trust);
        true
    }
}

/// Names a state of registers and logs.
fn fingerprint(pcrs: &[PcrClaim], raw: &RawLogs) -> [u8; 32] {
    let mut hash = Sha256::new();
    for pcr in pcrs {
        hash.update(pcr.alg.to_be_bytes());
        hash.update([pcr.index]);
        hash.update(pcr.digest.as_slice());
    }
    hash.update(Sha256::digest(&raw.firmware));
    hash.update(&raw.userspace);
    hash.finalize().into()
}

fn indexes(numbers: &[u8]) -> Vec<PcrIndex> {
    numbers.iter().copied().filter_map(PcrIndex::new).collect()
}

/// The bank that policies are for.
fn main_bank(active: &[HashAlg]) -> Option<HashAlg> {
    active.iter().copied().find(|bank| *bank == HashAlg::Sha256).or(active.first().copied())
}

fn explains(tcg: &[u8], claims: &[PcrClaim]) -> bool {
    let quoted: Vec<(PcrIndex, Digest)> = claims
        .iter()
        .filter_map(|claim| {
            let digest = Digest::new(HashAlg::from_tpm(claim.alg)?, &claim.digest)?;
            Some((PcrIndex::new(claim.index)?, digest))
        })
        .collect();
    ReplayedLog::replay(tcg, &quoted).is_ok_and(|log| log.failures().is_empty())
}
