//! Carries out jobs on the TPM: the identity, the seed, quotes. Synchronous; runs on one thread that
//! owns the TPM, so that a TPM that hangs stops this and nothing else.
//!
//! Must never happen here: a sealed seed that is overwritten because this boot can't open it; an
//! attestation key that is used before it is in the identity file; evidence of a quote that the box
//! itself can't verify. Called by [`crate::worker`].

mod appraisal;
mod quote;
mod start;

use hookprobe_evidence::{
    appraise::{Firmware, Memory},
    bundle::Endorsement,
    digest::HashAlg,
    quote::AttestationKey,
};
use hookprobe_tpm::trust::{Maker, Secret, Trust};
use zeroize::Zeroizing;

use crate::{
    anchors::Anchors,
    code::{self, Fault},
    host::Host,
    identity::Identity,
    job::{Condition, Done, Job},
    store::Store,
};

/// Why there is no TPM to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTrust {
    /// The box has none.
    Absent(Fault),
    /// It has one that can't be used.
    Broken(Fault),
}

/// Opens the TPM. Called on the thread that owns it: at the start, and when the connection broke.
pub type Open = Box<dyn FnMut() -> Result<Box<dyn Trust>, NoTrust> + Send>;

/// Everything that jobs need.
pub struct Attester {
    open: Open,
    trust: Option<Box<dyn Trust>>,
    host: Box<dyn Host + Send>,
    store: Box<dyn Store + Send>,
    anchors: Anchors,
    boot_id: String,
    identity: Identity,
    /// The file could not be read: it is not written either, what is in it may come back.
    keep_file: bool,
    ready: Option<Ready>,
    /// What the last appraisal left for the next one.
    memory: Option<Memory>,
    /// Firmware of the boot before, for as long as this one is looked at.
    firmware: Option<Firmware>,
    /// The state of registers and logs that was waited for in vain.
    unexplained: Option<[u8; 32]>,
}

/// What quotes need of the identity.
struct Ready {
    key: AttestationKey,
    ak_public: Vec<u8>,
    endorsement: Endorsement,
    maker: Maker,
    banks: Vec<HashAlg>,
}

impl std::fmt::Debug for Attester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attester").field("ready", &self.ready.is_some()).finish_non_exhaustive()
    }
}

impl Attester {
    /// From its parts; nothing is done yet.
    #[must_use]
    pub fn new(
        open: Open,
        host: Box<dyn Host + Send>,
        store: Box<dyn Store + Send>,
        anchors: Anchors,
        boot_id: &str,
    ) -> Self {
        Self {
            open,
            trust: None,
            host,
            store,
            anchors,
            boot_id: boot_id.into(),
            identity: Identity::default(),
            keep_file: false,
            ready: None,
            memory: None,
            firmware: None,
            unexplained: None,
        }
    }

    /// Carries out one job; the seed comes beside the answer to [`Job::Start`].
    pub fn run(&mut self, job: Job) -> (Done, Option<Secret>) {
        match job {
            Job::Start => {
                let (started, seed) = self.start();
                (Done::Started(Box::new(started)), seed)
            }
            Job::Quote(want, ask) => (Done::Quoted(self.quote(want, *ask).map(Box::new)), None),
            Job::Activate { credential, secret } => {
                (Done::Activated(self.activate(&credential, &secret)), None)
            }
            Job::ForgetRecovery => (Done::Forgotten(self.forget_recovery()), None),
        }
    }

    fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let trust = self.trust.as_mut().ok_or_else(not_enrolled)?;
        trust
            .activate(credential, secret)
            .map(Zeroizing::new)
            .map_err(|error| Fault::from_error(&error))
    }

    fn forget_recovery(&mut self) -> Result<(), Fault> {
        let noted = self.identity.recovery.take().map(Zeroizing::new);
        if self.keep_file {
            // It never got into the file, and what is in that one may come back.
            self.host.remove_fresh_recovery();
            return Ok(());
        }
        let Err(error) = self.store.write(&self.identity.to_bytes()) else {
            self.host.remove_fresh_recovery();
            return Ok(());
        };
        self.identity.recovery = noted.map(|text| text.to_string());
        let reason =
            format!("identity file: {error}; the recovery key is not forgotten, try again");
        Err(Fault::new(code::STORE, reason))
    }
}

fn not_enrolled() -> Fault {
    Fault::new(code::NOT_ENROLLED, "identity: there is none; see the diagnostics of attest")
}

/// How the TPM is when it can't be used.
fn condition(why: NoTrust) -> Condition {
    match why {
        NoTrust::Absent(fault) => Condition::None(fault),
        NoTrust::Broken(fault) => Condition::Failed(fault),
    }
}
