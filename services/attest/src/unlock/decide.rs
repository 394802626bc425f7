//! Decides what becomes of the state volume. Pure: facts in, plan out; whatever could be found out
//! without writing to the disk was found out before.
//!
//! Must never happen here: a plan that uses a partition without encryption although the box has a
//! TPM; one that makes a volume whose key this box could not have again at the next boot; one that
//! wipes what is not blank.

/// The box's TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tpm {
    /// The kernel found none.
    Absent,
    /// It is there and can't be used; why.
    Failing(String),
    /// It answers.
    Working,
}

/// What is on the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// Nothing, or a volume whose making was cut off before anything was in it.
    Blank,
    /// A volume of this shape with our token.
    Ours {
        /// Lowest generation of images that the token is sealed for, by its own claim.
        generation: u32,
        /// A key slot is left over from an earlier change that was cut off.
        leftover: bool,
    },
    /// Encrypted, but not by us; why that is known.
    Foreign(String),
    /// An ext4 file system without encryption.
    Ext4,
    /// Something else.
    Other,
}

/// A recovery key that an operator typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// None was typed, or there was nothing to try it on.
    None,
    /// It is no recovery key; why.
    Malformed(String),
    /// It opens nothing.
    Wrong,
    /// It opens the volume.
    Right,
}

/// Everything that the decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// TPM.
    pub tpm: Tpm,
    /// Partition.
    pub disk: Disk,
    /// Generation of the running image, from its signed manifest; or why it has none.
    pub image: Result<u32, String>,
    /// The TPM gives the key that new secrets are sealed under; or why it does not.
    pub sealing: Result<(), String>,
    /// The sealed passphrase came out and opens the volume; or why not.
    pub token: Result<(), String>,
    /// What was typed.
    pub recovery: Recovery,
    /// Boots that the TPM counted before this one.
    pub earlier_boots: Option<u64>,
}

/// Whose secret opens the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The TPM's.
    Token,
    /// The operator's.
    RecoveryKey,
}

/// What is changed in the header of a volume that opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Slots that an earlier change left over are destroyed.
    Tidy,
    /// A fresh passphrase is sealed for this TPM and this image; the old slot is destroyed.
    Reseal,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The partition is used as it is.
    UsePlain,
    /// A file system without encryption is made.
    MakePlain,
    /// A volume is made.
    Create {
        /// For the operator.
        note: Option<String>,
    },
    /// The volume is opened.
    Open {
        /// With which secret.
        by: By,
        /// What else.
        change: Change,
        /// For the operator.
        note: Option<String>,
    },
    /// Nothing is touched.
    Locked {
        /// Why, and what to do.
        reason: String,
        /// A recovery key helps.
        recoverable: bool,
    },
}

const WIPE: &str = "back up what is on it, then wipe the first 16 MiB of the partition and restart";

/// The decision.
#[must_use]
pub fn decide(facts: &Facts) -> Plan {
    match (&facts.tpm, &facts.disk) {
        (Tpm::Absent, Disk::Blank) => Plan::MakePlain,
        (Tpm::Absent, Disk::Ext4) => Plan::UsePlain,
        (Tpm::Failing(why), Disk::Blank) => locked(
            false,
            format!(
                "HP-AT-101 state volume: blank, and the TPM fails ({why}); power the box off and \
                 on, or switch the TPM off in the firmware to do without encryption"
            ),
        ),
        (Tpm::Working, Disk::Blank) => blank(facts),
        (Tpm::Working | Tpm::Failing(_), Disk::Ext4) => locked(
            false,
            format!("HP-AT-103 state volume: not encrypted, although this box has a TPM; {WIPE}"),
        ),
        (_, Disk::Foreign(why)) => locked(
            false,
            format!("HP-AT-104 state volume: not made by this system ({why}); {WIPE}"),
        ),
        (_, Disk::Other) => locked(
            false,
            format!("HP-AT-105 state volume: neither blank nor anything known; {WIPE}"),
        ),
        (_, Disk::Ours { generation, leftover }) => ours(facts, *generation, *leftover),
    }
}

fn locked(recoverable: bool, reason: String) -> Plan {
    Plan::Locked { reason, recoverable }
}

/// A blank partition and a TPM that works.
fn blank(facts: &Facts) -> Plan {
    if let Err(why) = facts.image.as_ref().map(drop).and(facts.sealing.as_ref().map(drop)) {
        return locked(
            false,
            format!(
                "HP-AT-102 state volume: blank, and the TPM does not release a key for this boot \
                 ({why}); boot a signed image with its own command line"
            ),
        );
    }
    let note = facts.earlier_boots.filter(|boots| *boots > 0).map(|boots| {
        format!(
            "HP-AT-110 state volume: made anew, although this TPM counted {boots} boots before; if \
             nobody wiped the disk on purpose, ask who did; enrol the new identity"
        )
    });
    Plan::Create { note }
}

/// A volume of ours, whatever the TPM does.
fn ours(facts: &Facts, generation: u32, leftover: bool) -> Plan {
    if facts.tpm == Tpm::Working && facts.token.is_ok() {
        let change = match &facts.image {
            Ok(own) if generation < *own && facts.sealing.is_ok() => Change::Reseal,
            _ if leftover => Change::Tidy,
            _ => Change::Nothing,
        };
        let note = match (&facts.image, &facts.sealing) {
            (Ok(own), Err(why)) if generation < *own => Some(format!(
                "HP-AT-111 state volume: still sealed for generation {generation} ({why}); older \
                 images can open it until a boot seals it anew"
            )),
            _ => None,
        };
        return Plan::Open { by: By::Token, change, note };
    }
    let why = closed(facts);
    match &facts.recovery {
        Recovery::Right => recovered(facts, generation, &why),
        Recovery::Wrong => locked(
            true,
            format!(
                "HP-AT-108 state volume: this recovery key does not open it ({why}); type the one \
                 that was shown when this volume was made"
            ),
        ),
        Recovery::Malformed(how) => locked(
            true,
            format!("HP-AT-109 state volume: {how}; type all eight groups of five characters"),
        ),
        Recovery::None => match facts.tpm {
            Tpm::Absent => locked(
                true,
                "HP-AT-106 state volume: sealed to a TPM, and this box has none; put the disk back \
                 into its box, switch the TPM on in the firmware, or type the recovery key"
                    .into(),
            ),
            Tpm::Failing(_) | Tpm::Working => locked(
                true,
                format!(
                    "HP-AT-107 state volume: stays sealed ({why}); do what this says, or type the \
                     recovery key"
                ),
            ),
        },
    }
}

/// Why the TPM did not open a volume of ours.
fn closed(facts: &Facts) -> String {
    match (&facts.tpm, &facts.image, &facts.token) {
        (Tpm::Absent, _, _) => "no TPM".into(),
        (Tpm::Failing(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => why.clone(),
        (Tpm::Working, Ok(_), Ok(())) => "no reason".into(),
    }
}

/// The recovery key opens it: sealed to this TPM again where that is possible and no step back.
fn recovered(facts: &Facts, generation: u32, why: &str) -> Plan {
    let once = |cause: &str| {
        Some(format!(
            "HP-AT-112 state volume: opened by the recovery key for this boot only ({cause}); \
             the next boot asks again"
        ))
    };
    let (change, note) = match (&facts.tpm, &facts.image, &facts.sealing) {
        // Sealing for an older image what a newer one had would let the older one in for good.
        (Tpm::Working, Ok(own), _) if generation > *own => (
            Change::Nothing,
            once(&format!("sealed for images of generation {generation}, this one is {own}")),
        ),
        (Tpm::Working, Ok(_), Ok(())) => (
            Change::Reseal,
            Some(format!(
                "HP-AT-113 state volume: opened by the recovery key ({why}) and sealed to this TPM \
                 anew; if the board was not replaced on purpose, ask who was at the box"
            )),
        ),
        (Tpm::Absent, _, _) => (Change::Nothing, once("no TPM")),
        (Tpm::Failing(cause), _, _) | (_, Err(cause), _) | (_, _, Err(cause)) => {
            (Change::Nothing, once(cause))
        }
    };
    Plan::Open { by: By::RecoveryKey, change, note }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
