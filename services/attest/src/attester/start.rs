//! The start: identity file, attestation key, boot counter, the ledger's seed.

use ed25519_dalek::SigningKey;
use hookprobe_evidence::{
    policy::{Purpose, ReleaseKey, SignedPolicy},
    quote::{AttestationKey, ClockInfo},
};
use hookprobe_tpm::{
    TrustError,
    seal::{self, NONCE_BYTES, SealError, Sealed},
    trust::{AkBlob, Secret, Trust},
};
use hookprobe_wire::{
    Diagnostic, NodeId, Severity,
    attest::{KeyOrigin, Measurement},
};
use zeroize::Zeroizing;

use super::{Attester, Ready, appraisal, condition};
use crate::{
    code::{self, Fault},
    host,
    identity::{Ak, BootPin, Identity},
    job::{Condition, Enrolled, Started},
};

/// What happened to the identity, for the ledger.
type Change = Option<(&'static str, String)>;

/// How often the identity is set up again when the TPM fails in the middle: it may be busy with its
/// self-test, a loose contact answers the second time. What is done stays done, each try goes on.
const TRIES_MAX: u32 = 3;
/// First pause between two tries, as a number for [`crate::host::Host::pause`]: 1.3 s, then 5 s. With
/// them a failed start is over long before [`crate::core::START_MS_MAX`] on a TPM that answers.
const TRY_PAUSE: u32 = 3;

/// What the start found out besides the identity.
#[derive(Default)]
struct Notes {
    diagnostics: Vec<Diagnostic>,
    change: Change,
}

impl Notes {
    fn add(&mut self, code: &str, severity: Severity, object: &str, cause: String, remedy: &str) {
        self.diagnostics.push(code::diagnostic(code, severity, object, cause, remedy));
    }

    /// The first change is the one that explains the others.
    fn change(&mut self, change: &'static str, detail: &str) {
        self.change.get_or_insert_with(|| (change, detail.to_owned()));
    }
}

impl Attester {
    pub(super) fn start(&mut self) -> (Started, Option<Secret>) {
        let mut notes = Notes::default();
        notes.diagnostics.extend(self.anchors.diagnostics.clone());
        self.load_identity(&mut notes);
        let fresh = self.host.fresh_recovery();
        if let Some(text) = &fresh {
            self.identity.recovery = Some(text.to_string());
        }
        let (condition, seed) = match (self.open)() {
            Ok(mut trust) => {
                let enrolled = self.enrol_patiently(trust.as_mut(), &mut notes);
                self.trust = Some(trust);
                match enrolled {
                    Ok((enrolled, seed)) => (Condition::Enrolled(enrolled), seed),
                    Err(fault) => (Condition::Failed(fault), None),
                }
            }
            Err(why) => (condition(why), None),
        };
        // Without the TPM there is nothing new to remember but the recovery key.
        if fresh.is_some() && !matches!(condition, Condition::Enrolled(_)) {
            self.save(&mut notes);
        }
        if fresh.is_some() && !notes.diagnostics.iter().any(|note| note.code == code::STORE) {
            self.host.remove_fresh_recovery();
        }
        let (seed, origin) = match seed {
            Some(seed) => (Some(seed), KeyOrigin::Tpm),
            None => self.boot_seed(&mut notes),
        };
        let node = seed.as_ref().map(node_of);
        let recovery = self.identity.recovery.clone().map(Zeroizing::new);
        let log = self.present_log();
        let condition = match condition {
            Condition::Enrolled(enrolled) => {
                Condition::Enrolled(Enrolled { change: notes.change.take(), ..enrolled })
            }
            other => other,
        };
        let diagnostics = notes.diagnostics;
        (Started { condition, origin, node, recovery, diagnostics, log }, seed)
    }

    fn present_log(&mut self) -> Vec<Measurement> {
        let raw = self.host.logs().unwrap_or_default();
        let events = hookprobe_evidence::log::parse(&raw.userspace).unwrap_or_default();
        appraisal::measurements(&events, self.anchors.manifest.as_ref())
    }

    fn load_identity(&mut self, notes: &mut Notes) {
        let bytes = match self.store.read() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(error) => {
                let cause = format!("can't be read: {error}");
                let remedy = "check the state volume; the box has another identity until then";
                notes.add(code::STORE, Severity::Critical, "identity file", cause, remedy);
                self.keep_file = true;
                return;
            }
        };
        match Identity::parse(&bytes) {
            Ok(identity) => self.identity = identity,
            Err(error) => {
                let cause = format!("damaged: {error}; set aside, the box enrols anew");
                let remedy = "tell those who verify this box, look for who wrote the disk";
                notes.add(code::DAMAGED, Severity::Critical, "identity file", cause, remedy);
                notes.change("recovered", "the identity file was damaged");
                self.set_aside(notes);
            }
        }
    }

    fn set_aside(&mut self, notes: &mut Notes) {
        if let Err(error) = self.store.set_aside() {
            let cause = format!("can't be set aside: {error}");
            notes.add(
                code::STORE,
                Severity::Warn,
                "identity file",
                cause,
                "check the state volume",
            );
        }
    }

    fn save(&mut self, notes: &mut Notes) {
        if self.keep_file {
            return; // Said when it could not be read.
        }
        if let Err(error) = self.store.write(&self.identity.to_bytes()) {
            let cause = format!("can't be written: {error}; the identity ends with this boot");
            let remedy = "check the state volume";
            notes.add(code::STORE, Severity::Critical, "identity file", cause, remedy);
        }
    }

    /// [`Self::enrol`], again when it fails, a bounded number of times.
    fn enrol_patiently(
        &mut self,
        trust: &mut dyn Trust,
        notes: &mut Notes,
    ) -> Result<(Enrolled, Option<Secret>), Fault> {
        let mut tries = 0;
        loop {
            let result = self.enrol(trust, notes);
            tries += 1;
            match result {
                Err(fault) if tries < TRIES_MAX => {
                    tracing::warn!(tries, "identity not set up, tried again: {fault}");
                    self.host.pause(TRY_PAUSE + tries - 1);
                }
                result => return result,
            }
        }
    }

    /// Identity, epoch and seed of a TPM that answers. The file is written once, at the end, before
    /// anything of it is used.
    fn enrol(
        &mut self,
        trust: &mut dyn Trust,
        notes: &mut Notes,
    ) -> Result<(Enrolled, Option<Secret>), Fault> {
        let fault = |error: TrustError| Fault::from_error(&error);
        let maker = trust.maker().map_err(fault)?;
        let banks = trust.banks().map_err(fault)?;
        let endorsement = trust.endorsement().map_err(fault)?;
        let ak = self.attestation_key(trust, notes).map_err(fault)?;
        let key = AttestationKey::from_public(&ak.public).map_err(|e| Fault::from_error(&e))?;
        let clock = trust.clock().map_err(fault)?;
        let pin = self.pin(trust, clock, notes).map_err(fault)?;
        let seed = self.seed(trust, notes);
        self.save(notes);
        let enrolled = Enrolled {
            ak_name: key.name().hex(),
            ek: appraisal::endorsement_line(&endorsement),
            pin,
            clock,
            change: None,
            level: appraisal::level_until_appraised(&maker),
            commands: trust.commands(),
        };
        self.ready = Some(Ready { key, ak_public: ak.public, endorsement, maker, banks });
        // Of another TPM there is none by now: that is another box's firmware.
        self.firmware = self.identity.firmware.clone();
        Ok((enrolled, seed))
    }

    /// Loads the key of the identity file, or makes one.
    fn attestation_key(
        &mut self,
        trust: &mut dyn Trust,
        notes: &mut Notes,
    ) -> Result<AkBlob, TrustError> {
        if let Some(known) = self.identity.ak.as_ref().map(AkBlob::from) {
            match trust.load_ak(&known) {
                Ok(()) => return Ok(known),
                Err(TrustError::ForeignKey) => {
                    let cause = "its key was made by another TPM, or this one was cleared";
                    let remedy = "tell those who verify this box; the ledger's key is new as well";
                    let severity = Severity::Critical;
                    notes.add(code::OTHER_TPM, severity, "identity", cause.into(), remedy);
                    notes.change("recovered", cause);
                    self.set_aside(notes);
                    // Nothing of it is of use here but what opens the volume.
                    let recovery = self.identity.recovery.take();
                    self.identity = Identity::default();
                    self.identity.recovery = recovery;
                }
                Err(other) => return Err(other),
            }
        }
        let made = trust.create_ak()?;
        notes.change("enrolled", "the box got an identity");
        self.identity.ak = Some(Ak::from(&made));
        self.identity.enrolled_s = self.host.seconds();
        Ok(made)
    }

    /// The boot counter, counted once per boot, and the TPM's reset counters as they were when this
    /// boot was first seen.
    fn pin(
        &mut self,
        trust: &mut dyn Trust,
        clock: ClockInfo,
        notes: &mut Notes,
    ) -> Result<BootPin, TrustError> {
        let last = self.identity.boot.clone();
        if let Some(same) = last.as_ref().filter(|last| last.boot_id == self.boot_id)
            && trust.epoch()? == Some(same.epoch)
        {
            return Ok(same.clone());
        }
        let epoch = trust.next_epoch()?;
        if let Some(last) = last
            && epoch != last.epoch.saturating_add(1)
        {
            let cause = format!(
                "the state was last used in boot {}, the TPM counts {epoch}: it was restored from a copy, or the box ran without it",
                last.epoch
            );
            let remedy = "nothing if you know why, else look for who changed the disk";
            notes.add(code::ROLLED_BACK, Severity::Warn, "state", cause.clone(), remedy);
            notes.change("rolled-back", &cause);
        }
        let pin = BootPin {
            boot_id: self.boot_id.clone(),
            epoch,
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
        };
        self.identity.boot = Some(pin.clone());
        Ok(pin)
    }

    /// The ledger's seed under the release's policy; none when this boot can't have it. A sealed seed
    /// that can't be opened now stays as it is.
    fn seed(&mut self, trust: &mut dyn Trust, notes: &mut Notes) -> Option<Secret> {
        let (Some(release), Some(manifest)) = (&self.anchors.release, &self.anchors.manifest)
        else {
            let cause = "the image brings no signed policy".to_owned();
            let remedy = "boot a signed image";
            notes.add(code::SEED_SEALED, Severity::Warn, "ledger key", cause, remedy);
            return None;
        };
        if self.keep_file {
            sealed(notes, "the identity file can't be read");
            return None;
        }
        let image = Image {
            release: release.clone(),
            generation: manifest.generation,
            policies: manifest.policies.clone(),
        };
        let known = self.identity.seed.as_ref().map(|bytes| open(trust, &image, bytes));
        let secret = match known {
            Some(Ok((secret, generation))) if generation >= image.generation => {
                return Some(secret);
            }
            Some(Ok((secret, _))) => Some(secret), // Of an older generation: sealed again.
            Some(Err(OpenError::Seal(error))) => {
                let cause =
                    format!("the sealed seed is not this TPM's: {error}; a new one is made");
                let remedy = "tell those who verify this box, look for who wrote the disk";
                let severity = Severity::Critical;
                notes.add(code::SEED_FORGED, severity, "ledger key", cause, remedy);
                notes.change("recovered", "the sealed seed was not this TPM's");
                self.set_aside(notes);
                None
            }
            Some(Err(OpenError::Trust(error))) => {
                sealed(notes, &error.to_string());
                return None;
            }
            None => None,
        };
        self.seal(trust, &image, secret, notes)
    }

    /// Seals `secret`, or a fresh one, for the image's generation.
    fn seal(
        &mut self,
        trust: &mut dyn Trust,
        image: &Image,
        secret: Option<Secret>,
        notes: &mut Notes,
    ) -> Option<Secret> {
        let mut nonce = [0; NONCE_BYTES];
        let mut drawn = Zeroizing::new([0; 32]);
        let random =
            self.host.random(&mut nonce).and_then(|()| self.host.random(drawn.as_mut_slice()));
        if let Err(error) = random {
            sealed(notes, &format!("{} random: {error}", code::RANDOM));
            return secret;
        }
        let fresh = secret.is_none();
        let secret = secret.unwrap_or_else(|| Secret::new(*drawn));
        let purpose = Purpose::Ledger;
        let result = trust
            .wrapping_key(&image.release, purpose, image.generation, &image.policies)
            .map_err(|error| error.to_string())
            .and_then(|key| {
                seal::seal(&key, purpose, image.generation, secret.expose(), nonce)
                    .map_err(|error| error.to_string())
            });
        match result {
            Ok(blob) => {
                self.identity.seed = Some(blob.to_bytes().into());
                self.identity.generation = image.generation;
                Some(secret)
            }
            Err(why) => {
                sealed(notes, &why);
                // One that is sealed already is good for this boot, too.
                (!fresh).then_some(secret)
            }
        }
    }

    /// A seed without the TPM. It is kept in memory for the rest of the boot: a service that starts
    /// again must not give the ledger, when that starts again too, another key for the same epoch.
    /// When a later start gets the sealed one, the ledger changes to that at its own next start.
    fn boot_seed(&mut self, notes: &mut Notes) -> (Option<Secret>, KeyOrigin) {
        match host::boot_seed(self.host.as_mut()) {
            Ok(seed) => (Some(seed), KeyOrigin::Boot),
            Err(error) => {
                let cause = format!("the kernel gave no random bytes: {error}");
                let remedy = "restart the box";
                notes.add(code::RANDOM, Severity::Critical, "ledger key", cause, remedy);
                (None, KeyOrigin::None)
            }
        }
    }
}

/// The ledger's name: the public key of its seed.
fn node_of(seed: &Secret) -> NodeId {
    NodeId::new(SigningKey::from_bytes(seed.expose()).verifying_key().to_bytes())
}

struct Image {
    release: ReleaseKey,
    generation: u32,
    policies: Vec<SignedPolicy>,
}

enum OpenError {
    Trust(TrustError),
    Seal(SealError),
}

/// The seed and the generation that it was sealed for.
fn open(trust: &mut dyn Trust, image: &Image, bytes: &[u8]) -> Result<(Secret, u32), OpenError> {
    let blob = Sealed::parse(bytes).map_err(OpenError::Seal)?;
    if blob.purpose() != Some(Purpose::Ledger) {
        return Err(OpenError::Seal(SealError::Syntax("sealed for something else")));
    }
    let key = trust
        .wrapping_key(&image.release, Purpose::Ledger, blob.generation, &image.policies)
        .map_err(OpenError::Trust)?;
    let plain = seal::unseal(&key, &blob).map_err(OpenError::Seal)?;
    let seed: [u8; 32] = plain
        .as_slice()
        .try_into()
        .map_err(|_| OpenError::Seal(SealError::Syntax("seed of another length")))?;
    Ok((Secret::new(seed), blob.generation))
}

fn sealed(notes: &mut Notes, why: &str) {
    let cause =
        format!("the TPM does not give it in this state, blocks of this boot have another: {why}");
    let remedy = "boot the signed image from power-off; the sealed key is kept";
    notes.add(code::SEED_SEALED, Severity::Critical, "ledger key", cause, remedy);
}
