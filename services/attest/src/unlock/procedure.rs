//! Finds the facts, has them judged by [`decide`], does what the plan says.
//!
//! Must never happen here: a write before the decision; a volume that is opened by anything but the
//! sealed passphrase or the recovery key.

use hookprobe_evidence::policy::{Purpose, ReleaseKey, SignedPolicy};
use hookprobe_tpm::{
    seal::{self, NONCE_BYTES, Sealed},
    trust::{Secret, Trust},
};
use hookprobe_wire::unlock::Outcome;
use zeroize::Zeroizing;

use super::{
    chain,
    decide::{By, Change, Disk, Facts, Plan, Recovery, Tpm, decide},
    disk::Place,
    error::UnlockError,
    header::{Head, SEALED_SLOTS, Token, classify},
    machine::Machine,
    recovery::{KEY_BYTES, RecoveryKey},
    volume::{Loaded, Step, Volume, VolumeKey},
};

/// The TPM as it was found.
pub(super) enum Found<'a> {
    /// None.
    Absent,
    /// It can't be opened; why.
    Failing(String),
    /// Open.
    Working(&'a mut dyn Trust),
}

/// What the image brings, its signature verified.
#[derive(Debug)]
pub(super) struct Release {
    /// Key that it was signed with.
    pub(super) key: ReleaseKey,
    /// Generation of the image.
    pub(super) generation: u32,
    /// Its signed policies.
    pub(super) policies: Vec<SignedPolicy>,
}

/// What was found out, and the secrets that came with it.
struct Findings {
    facts: Facts,
    volume: Option<Box<Volume>>,
    key: Option<VolumeKey>,
    sealing: Option<Secret>,
}

const NOT_ASKED: &str = "not asked for";

/// Does all of it. Whatever fails becomes an outcome.
pub(super) fn unlock(
    place: &Place,
    tpm: Found<'_>,
    release: Result<Release, String>,
    machine: &mut dyn Machine,
) -> Outcome {
    let done = gather(place, tpm, release).and_then(|findings| {
        let plan = decide(&findings.facts);
        carry_out(place, plan, findings, machine)
    });
    done.unwrap_or_else(|error| Outcome::Locked { reason: chain(&error), recoverable: false })
}

/// Finds out what can be known without a write (libcryptsetup mends a torn copy of the header).
fn gather(
    place: &Place,
    tpm: Found<'_>,
    release: Result<Release, String>,
) -> Result<Findings, UnlockError> {
    let typed = place.take_recovery()?;
    let (disk, volume) = look(place)?;
    let not_asked = || Err(NOT_ASKED.to_owned());
    let facts = Facts {
        tpm: Tpm::Absent,
        disk,
        image: release.as_ref().map(|release| release.generation).map_err(Clone::clone),
        sealing: not_asked(),
        token: not_asked(),
        recovery: Recovery::None,
        earlier_boots: None,
    };
    let mut findings = Findings { facts, volume, key: None, sealing: None };
    match tpm {
        Found::Absent => {}
        Found::Failing(why) => findings.facts.tpm = Tpm::Failing(why),
        Found::Working(trust) => {
            findings.facts.tpm = Tpm::Working;
            if let Ok(release) = &release {
                findings.ask(trust, release, typed.is_some())?;
            }
        }
    }
    if let Some(typed) = typed
        && findings.key.is_none()
    {
        findings.try_recovery(&typed)?;
    }
    Ok(findings)
}

/// What is on the partition.
fn look(place: &Place) -> Result<(Disk, Option<Box<Volume>>), UnlockError> {
    Ok(match classify(&place.head()?) {
        Head::Blank => (Disk::Blank, None),
        Head::Ext4 => (Disk::Ext4, None),
        Head::Other => (Disk::Other, None),
        Head::OtherLuks => (Disk::Foreign("LUKS of another version or size".into()), None),
        Head::Luks2 => match Volume::load(&place.partition)? {
            Loaded::Foreign(why) => (Disk::Foreign(why), None),
            Loaded::Ours(volume) => {
                let header = volume.header();
                let disk = Disk::Ours {
                    generation: header.token.generation,
                    leftover: !header.leftover.is_empty(),
                };
                (disk, Some(volume))
            }
        },
    })
}

impl Findings {
    /// Asks the TPM for what the disk makes necessary.
    fn ask(
        &mut self,
        trust: &mut dyn Trust,
        release: &Release,
        typed: bool,
    ) -> Result<(), UnlockError> {
        let own = release.generation;
        let mut key_of = |generation| {
            trust
                .wrapping_key(&release.key, Purpose::Volume, generation, &release.policies)
                .map_err(|error| chain(&error))
        };
        let Some(volume) = &mut self.volume else {
            if self.facts.disk == Disk::Blank {
                let sealing = key_of(own);
                self.take_sealing(sealing);
                // Not knowing costs a note, nothing else.
                self.facts.earlier_boots = trust.epoch().unwrap_or_else(|error| {
                    tracing::warn!("{}", chain(&error));
                    None
                });
            }
            return Ok(());
        };
        let token = volume.header().token.clone();
        match key_of(token.generation).and_then(|key| open_token(&key, &token)) {
            Err(why) => self.facts.token = Err(why),
            Ok(passphrase) => match volume.open_sealed(&passphrase)? {
                Some(key) => {
                    self.facts.token = Ok(());
                    self.key = Some(key);
                }
                None => {
                    self.facts.token =
                        Err("what the token seals does not open its key slot".into());
                }
            },
        }
        if token.generation < own || typed {
            let sealing = key_of(own);
            self.take_sealing(sealing);
        }
        Ok(())
    }

    fn take_sealing(&mut self, sealing: Result<Secret, String>) {
        self.facts.sealing = sealing.as_ref().map(drop).map_err(Clone::clone);
        self.sealing = sealing.ok();
    }

    fn try_recovery(&mut self, typed: &str) -> Result<(), UnlockError> {
        let Some(volume) = &mut self.volume else { return Ok(()) };
        self.facts.recovery = match RecoveryKey::parse(typed) {
            Err(error) => Recovery::Malformed(error.to_string()),
            Ok(typed) => match volume.open_recovery(&typed)? {
                None => Recovery::Wrong,
                Some(key) => {
                    self.key = Some(key);
                    Recovery::Right
                }
            },
        };
        Ok(())
    }
}

/// The passphrase in a token.
fn open_token(key: &Secret, token: &Token) -> Result<Zeroizing<[u8; 32]>, String> {
    let sealed = Sealed::parse(&token.sealed).map_err(|error| chain(&error))?;
    if sealed.purpose() != Some(Purpose::Volume) || sealed.generation != token.generation {
        return Err("the token says another purpose or generation than what it seals".into());
    }
    let plain = seal::unseal(key, &sealed).map_err(|error| chain(&error))?;
    plain
        .as_slice()
        .try_into()
        .map(Zeroizing::new)
        .map_err(|_| format!("the token seals {} bytes, not 32", plain.len()))
}

/// A fresh passphrase and a token that seals it for `slot`.
fn fresh_token(
    machine: &mut dyn Machine,
    sealing: &Secret,
    generation: u32,
    slot: u32,
) -> Result<(Zeroizing<[u8; 32]>, Token), UnlockError> {
    let mut passphrase = Zeroizing::new([0; 32]);
    let mut nonce = [0; NONCE_BYTES];
    machine.random(passphrase.as_mut_slice())?;
    machine.random(&mut nonce)?;
    let sealed = seal::seal(sealing, Purpose::Volume, generation, passphrase.as_slice(), nonce)
        .map_err(|error| UnlockError::Seal(chain(&error)))?;
    Ok((passphrase, Token { slot, generation, sealed: sealed.to_bytes() }))
}

fn carry_out(
    place: &Place,
    plan: Plan,
    findings: Findings,
    machine: &mut dyn Machine,
) -> Result<Outcome, UnlockError> {
    match plan {
        Plan::Locked { reason, recoverable } => Ok(Outcome::Locked { reason, recoverable }),
        Plan::UsePlain => Ok(Outcome::Plain { created: false }),
        Plan::MakePlain => {
            tracing::info!("state volume: no TPM, making a file system without encryption");
            machine.make_file_system(&place.partition)?;
            Ok(Outcome::Plain { created: true })
        }
        Plan::Create { note } => {
            let (Some(sealing), Ok(generation)) = (&findings.sealing, findings.facts.image) else {
                return Err(UnlockError::Seal("no key".into()));
            };
            create(place, machine, sealing, generation, note)
        }
        Plan::Open { by, change, note } => open(findings, by, change, note, machine),
    }
}

/// Makes the volume. Its header goes to the disk last, when the file system is in it and the
/// recovery key is where it will be shown: cut off earlier, the next boot begins anew.
fn create(
    place: &Place,
    machine: &mut dyn Machine,
    sealing: &Secret,
    generation: u32,
    note: Option<String>,
) -> Result<Outcome, UnlockError> {
    tracing::info!(generation, "state volume: blank, making an encrypted one");
    let [slot, _] = SEALED_SLOTS;
    let (passphrase, token) = fresh_token(machine, sealing, generation, slot)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    machine.random(bytes.as_mut_slice())?;
    let recovery = RecoveryKey::from_bytes(&bytes);
    place.mark_unfinished()?;
    let header = place.make_header_file()?;
    let (mut volume, key) =
        Volume::format(&header, &place.partition, &passphrase, &recovery, &token)?;
    tracing::info!(uuid = volume.uuid(), "state volume: header made, mapping it");
    let device = machine.map(&mut volume, &key)?;
    tracing::info!(device = %device.display(), "state volume: mapped, making a file system");
    let finished = machine
        .make_file_system(&device)
        .and_then(|()| place.leave_recovery(&recovery))
        .and_then(|()| place.commit());
    if let Err(error) = finished {
        machine.unmap(&mut volume);
        place.forget();
        return Err(error);
    }
    tracing::info!(uuid = volume.uuid(), "state volume: made");
    Ok(Outcome::Open {
        key_identity: key.identity(volume.uuid()),
        uuid: volume.uuid().to_owned(),
        created: true,
        recovered: false,
        resealed: false,
        note,
    })
}

/// Opens the volume and changes its header. A change that fails is said, and tried again at the
/// next boot; the volume is open all the same.
fn open(
    findings: Findings,
    by: By,
    change: Change,
    note: Option<String>,
    machine: &mut dyn Machine,
) -> Result<Outcome, UnlockError> {
    let Findings { facts, volume, key, sealing } = findings;
    let (Some(mut volume), Some(key)) = (volume, key) else {
        return Err(UnlockError::Map("no key".into()));
    };
    let device = machine.map(&mut volume, &key)?;
    tracing::info!(uuid = volume.uuid(), device = %device.display(), "state volume: open");
    let mut said = |step: Step| {
        tracing::info!(?step, "state volume: header changed");
        Ok(())
    };
    let changed = match (change, sealing, facts.image) {
        (Change::Reseal, Some(sealing), Ok(generation)) => {
            let slot = volume.header().next_slot();
            fresh_token(machine, &sealing, generation, slot)
                .and_then(|(passphrase, token)| volume.reseal(&key, &passphrase, token, &mut said))
        }
        (Change::Reseal, _, _) => Err(UnlockError::Seal("no key".into())),
        (Change::Tidy, _, _) => volume.tidy(&mut said),
        (Change::Nothing, _, _) => Ok(()),
    };
    let (resealed, note) = match changed {
        Ok(()) => (change == Change::Reseal, note),
        Err(error) => (false, Some(chain(&error))),
    };
    Ok(Outcome::Open {
        key_identity: key.identity(volume.uuid()),
        uuid: volume.uuid().to_owned(),
        created: false,
        recovered: by == By::RecoveryKey,
        resealed,
        note,
    })
}

#[cfg(test)]
#[path = "procedure_tests.rs"]
mod tests;
