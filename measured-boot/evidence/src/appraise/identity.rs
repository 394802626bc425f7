//! Which box it is, whether it is the one that was asked, and whether it went back in time.

use super::{Claim, Claims, Problem, Run, Verified};
use crate::{
    bundle::{Endorsement, boot_nonce},
    endorsement::{self, CertificateError},
    public::EndorsementKey,
};

/// How far a TPM's clock may go back when it was not shut down in an orderly way: the longest
/// interval between two writes of it to NV memory (Part 1, 36.3.2), 2^22 ms.
const CLOCK_LOSS_MS_MAX: u64 = 1 << 22;
/// firmwareVersion of libtpms and of the reference code it comes from, which date themselves so.
const SOFTWARE_FIRMWARE: u64 = 0x2019_1023;

fn identity(claims: &mut Claims) -> &mut Claim {
    &mut claims.instance_identity
}

fn hardware(claims: &mut Claims) -> &mut Claim {
    &mut claims.hardware
}

impl Run<'_> {
    /// All about identity.
    pub(super) fn identity(&mut self, verified: &Verified) {
        self.challenge();
        self.pinned(verified);
        self.epoch(verified);
        self.memory(verified);
        if verified.quote.firmware >> 32 == SOFTWARE_FIRMWARE {
            self.basis.software = true;
        }
        match &self.evidence.ek {
            Some(ek) => self.endorsement(ek, verified),
            None => {
                self.out.endorsement = "not in this evidence".into();
                if self.reference.ek_roots.is_some() {
                    let problem = Problem::Endorsement("not in the evidence".into());
                    self.fail(hardware, Claim::UNSAFE, &problem);
                }
            }
        }
        if self.basis.software {
            self.note(&Problem::Software(self.out.endorsement.clone()));
        }
    }

    fn challenge(&mut self) {
        let binding = &self.evidence.binding;
        match &self.reference.nonce {
            Some(nonce) if nonce[..] != binding.nonce[..] => {
                self.fail(identity, Claim::WRONG, &Problem::Nonce);
            }
            Some(_) => {}
            None => self.note(&Problem::NoChallenge),
        }
        if let Some(exporter) = &self.reference.exporter
            && binding.exporter.as_ref().is_none_or(|got| got[..] != exporter[..])
        {
            self.fail(identity, Claim::WRONG, &Problem::Exporter);
        }
    }

    fn pinned(&mut self, verified: &Verified) {
        let got = verified.key.name().hex();
        let remembered = self.reference.memory.as_ref().map(|memory| memory.ak_name.clone());
        let pinned = self.reference.ak_name.as_ref().map(|name| name.hex());
        if let Some(expected) = pinned.into_iter().chain(remembered).find(|name| *name != got) {
            self.fail(identity, Claim::UNKNOWN, &Problem::OtherKey { expected, got });
        }
        // Attributes and parents of a key are the key's own word: only a credential that was made
        // for its name and opened by the TPM (crate::credential) shows where it is. Whoever gives
        // the name says that this was done.
        if !self.is_enrolled() {
            if self.reference.first_contact {
                self.note(&Problem::NotEnrolled);
            } else {
                self.fail(identity, Claim::UNSAFE, &Problem::NotEnrolled);
            }
        }
    }

    /// Whether the verifier was told a name, of whatever key. One that it only remembers from an
    /// earlier look was no more proven then.
    pub(super) fn is_enrolled(&self) -> bool {
        self.reference.ak_name.is_some()
    }

    /// The quote that certified the ledger's key when the epoch began.
    fn epoch(&mut self, verified: &Verified) {
        let binding = &self.evidence.binding;
        let Some(epoch) = &self.evidence.epoch else {
            if binding.node.is_some() {
                let problem = Problem::Binding("no quote of this boot certifies it yet");
                self.fail(identity, Claim::UNSAFE, &problem);
            }
            return;
        };
        let certified = match epoch.quote.verify(&verified.key, &epoch.binding) {
            Ok(quote) => quote,
            Err(error) => return self.fail(identity, Claim::CRYPTO_FAILED, &error),
        };
        let problem = if epoch.binding.nonce[..] != boot_nonce(&self.evidence.boot_id)[..]
            || epoch.binding.nonce.is_empty()
        {
            "certified for another boot id"
        } else if certified.clock.reset_count != verified.quote.clock.reset_count {
            "certified before the last reset of the TPM"
        } else if epoch.binding.epoch != binding.epoch {
            "certified for another epoch"
        } else if epoch.binding.node != binding.node {
            "another key was certified when this epoch began"
        } else {
            return;
        };
        self.fail(identity, Claim::WRONG, &Problem::Binding(problem));
    }

    /// Whether the box went on since it was last looked at.
    fn memory(&mut self, verified: &Verified) {
        let Some(memory) = &self.reference.memory else {
            return;
        };
        if memory.ak_name != verified.key.name().hex() {
            return;
        }
        let (clock, binding) = (verified.quote.clock, &self.evidence.binding);
        let mut back: Vec<(&'static str, String, String)> = Vec::new();
        let mut check = |what, went_back: bool, before: &dyn ToString, now: &dyn ToString| {
            if went_back {
                back.push((what, before.to_string(), now.to_string()));
            }
        };
        let same_reset = clock.reset_count == memory.reset_count;
        check(
            "the TPM's reset counter",
            clock.reset_count < memory.reset_count,
            &memory.reset_count,
            &clock.reset_count,
        );
        check(
            "the TPM's restart counter",
            same_reset && clock.restart_count < memory.restart_count,
            &memory.restart_count,
            &clock.restart_count,
        );
        let lost = memory.clock_ms.saturating_sub(clock.clock_ms);
        let tolerated = if same_reset || clock.safe { 0 } else { CLOCK_LOSS_MS_MAX };
        check("the TPM's clock", lost > tolerated, &memory.clock_ms, &clock.clock_ms);
        check("the boot counter", binding.epoch < memory.epoch, &memory.epoch, &binding.epoch);
        // The counter moves once for each boot: two boots with one number, and one of them is undone.
        let boot = self.evidence.epoch.as_ref().map(|_| self.evidence.boot_id.clone());
        let (before, now) = (memory.boot_id.clone(), boot.clone());
        check(
            "the boot of one epoch",
            binding.epoch == memory.epoch
                && memory.boot_id.is_some()
                && boot.is_some_and(|boot| Some(boot) != memory.boot_id),
            &before.unwrap_or_default(),
            &now.unwrap_or_default(),
        );
        let node = binding.node.as_ref().map(|node| crate::hex::hex(node));
        let same_lane = binding.epoch == memory.epoch && node == memory.node;
        check(
            "the ledger",
            same_lane && binding.length < memory.ledger_length,
            &memory.ledger_length,
            &binding.length,
        );
        let head = binding.head.as_ref().map(|head| crate::hex::hex(head));
        check(
            "the ledger's head",
            same_lane && binding.length == memory.ledger_length && head != memory.ledger_head,
            &memory.ledger_head.clone().unwrap_or_default(),
            &head.clone().unwrap_or_default(),
        );
        self.basis.memory = back.is_empty();
        for (what, before, now) in back {
            self.fail(identity, Claim::WRONG, &Problem::Rollback { what, before, now });
        }
        if binding.epoch == memory.epoch && memory.node.is_some() && node != memory.node {
            let problem = Problem::Binding("changed within one epoch");
            self.fail(identity, Claim::WRONG, &problem);
        }
    }

    fn endorsement(&mut self, ek: &Endorsement, verified: &Verified) {
        let key = match EndorsementKey::from_public(&ek.public) {
            Ok(key) => key,
            Err(error) => {
                self.out.endorsement = "not usable".into();
                return self.fail(hardware, Claim::UNSAFE, &error);
            }
        };
        if key.qualified_child(verified.key.name()) != verified.quote.qualified_signer {
            return self.fail(hardware, Claim::UNKNOWN, &Problem::ForeignEndorsement);
        }
        let Some(certificate) = &ek.certificate else {
            self.out.endorsement = "without a certificate of its maker".into();
            if self.reference.ek_roots.is_some() {
                let problem = Problem::Endorsement(self.out.endorsement.clone());
                self.fail(hardware, Claim::UNSAFE, &problem);
            }
            return;
        };
        let certificate = match endorsement::Certificate::parse(certificate) {
            Ok(certificate) => certificate,
            Err(error) => {
                self.out.endorsement = "certificate not readable".into();
                return self.fail(
                    hardware,
                    Claim::UNSAFE,
                    &Problem::Endorsement(error.to_string()),
                );
            }
        };
        self.out.endorsement = certificate.maker().to_string();
        self.basis.software |= certificate.maker().is_software();
        if !certificate.is_of(&key) {
            return self.fail(hardware, Claim::UNKNOWN, &Problem::ForeignCertificate);
        }
        let Some(roots) = &self.reference.ek_roots else {
            return;
        };
        if let Err(error) = certificate.verify(roots, self.now_s) {
            return self.fail(hardware, Claim::UNKNOWN, &Problem::Endorsement(error.to_string()));
        }
        if !self.stands(&certificate, roots) {
            return;
        }
        // The maker vouches for the endorsement key; that the attestation key is under it is only
        // known of one that was enrolled.
        if self.is_enrolled() {
            self.basis.maker = true;
            // A software TPM's maker vouches for nothing that its host could not forge.
            if !self.basis.software {
                self.claim(hardware, Claim::GOOD);
            }
        }
    }

    /// Whether the maker did not take its certificate back, where the verifier wants to know that.
    fn stands(&mut self, certificate: &endorsement::Certificate, roots: &[Vec<u8>]) -> bool {
        let Some(lists) = &self.reference.ek_lists else {
            return true;
        };
        match certificate.stands(roots, lists, self.now_s) {
            Ok(()) => true,
            Err(error @ CertificateError::Revoked(_)) => {
                self.fail(hardware, Claim::UNKNOWN, &Problem::Revoked(error.to_string()));
                false
            }
            Err(error) => {
                self.fail(hardware, Claim::UNSAFE, &Problem::NotListed(error.to_string()));
                false
            }
        }
    }
}
