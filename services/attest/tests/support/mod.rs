//! A box in memory: TPM, logs, identity file and a signed image, each to be turned wrong by a test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers, every test program uses another part of them"
)]

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use hookprobe_attest::{
    anchors::Anchors,
    attester::{Attester, NoTrust, Open},
    code::Fault,
    host::{Host, RawLogs},
    job::{Ask, Attested, Done, Job, Started, Want},
    store::Store,
};
use hookprobe_evidence::{
    bundle::Endorsement,
    digest::{Digest, HashAlg},
    log::{self, Event},
    manifest::{ExpectedEvent, ReferenceManifest},
    pcr::PcrIndex,
    policy::{self, Purpose, ReleaseKey, SignedPolicy},
    quote::{Binding, ClockInfo},
    signed,
};
use hookprobe_tpm::{
    TrustError,
    fake::Fake,
    trust::{AkBlob, Maker, Quoted, Secret, Selection, Trust},
};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use zeroize::Zeroizing;

pub(crate) const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];
const SERVICE_EVENTS: [&str; 2] = ["service:ledger file:/l", "service:ledger spec"];

fn lock<T>(shared: &Arc<Mutex<T>>) -> MutexGuard<'_, T> {
    shared.lock().unwrap()
}

/// What outlives a start of the service.
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) tpm: Arc<Mutex<Fake>>,
    pub(crate) files: Arc<Mutex<Memory>>,
    pub(crate) key: SigningKey,
    pub(crate) generation: u32,
    pub(crate) signed: bool,
    pub(crate) present: bool,
    pub(crate) boot_id: String,
    pub(crate) seconds: u64,
}

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) identity: Option<Vec<u8>>,
    pub(crate) aside: Option<Vec<u8>>,
    pub(crate) recovery: Option<String>,
    pub(crate) seed: Option<[u8; 32]>,
    pub(crate) userspace: Vec<Event>,
    /// Reads of the log that end before its last event.
    pub(crate) late: u32,
    pub(crate) pauses: u32,
    pub(crate) no_read: bool,
    pub(crate) no_write: bool,
    pub(crate) no_log: bool,
    pub(crate) drawn: u8,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self {
            tpm: Arc::new(Mutex::new(Fake::new([1; 32]))),
            files: Arc::default(),
            key: SigningKey::from_slice(&[7; 32]).unwrap(),
            generation: 1,
            signed: true,
            present: true,
            boot_id: "0".repeat(32),
            seconds: 1_700_000_000,
        };
        lab.measure();
        lab
    }

    pub(crate) fn tpm(&self) -> MutexGuard<'_, Fake> {
        lock(&self.tpm)
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Memory> {
        lock(&self.files)
    }

    /// Extends and logs.
    pub(crate) fn event(&self, index: PcrIndex, name: &str) {
        self.tpm().extend(index, name.as_bytes());
        self.files().userspace.push(event(index, name));
    }

    fn measure(&self) {
        self.event(PcrIndex::UKI, ".linux");
        self.event(PcrIndex::UKI, policy::PHASE_EVENT);
        self.event(PcrIndex::SITE, "site:hookprobe.toml");
        for name in SERVICE_EVENTS {
            self.event(PcrIndex::SERVICES, name);
        }
        self.event(PcrIndex::STATE, "volume:0123");
    }

    /// Power off and on.
    pub(crate) fn reboot(&mut self, boot: u8) {
        self.tpm().reset();
        self.files().userspace.clear();
        self.files().seed = None;
        self.boot_id = format!("{boot:02x}").repeat(16);
        self.measure();
    }

    pub(crate) fn release(&self) -> ReleaseKey {
        ReleaseKey::new(*self.key.verifying_key())
    }

    /// The image's manifest: what [`Self::measure`] does.
    pub(crate) fn manifest(&self) -> ReferenceManifest {
        let events: Vec<Event> =
            SERVICE_EVENTS.iter().map(|name| event(PcrIndex::SERVICES, name)).collect();
        let boot: Vec<Event> =
            [".linux", policy::PHASE_EVENT].iter().map(|name| event(PcrIndex::UKI, name)).collect();
        let mut manifest = ReferenceManifest {
            format: hookprobe_evidence::manifest::FORMAT,
            version: "1".into(),
            generation: self.generation,
            pcrs: Default::default(),
            events: events.iter().map(ExpectedEvent::from).collect(),
            boot: boot.iter().map(ExpectedEvent::from).collect(),
            loader: Vec::new(),
            policies: Vec::new(),
        };
        let all: Vec<Event> = boot.into_iter().chain(events).collect();
        let predicted = log::replay(&all);
        for (bank, index, value) in predicted.iter() {
            manifest.set_pcr(bank, index, value);
        }
        // Nothing is measured into PCR 4 here: no firmware runs.
        let value = |index| {
            predicted.get(HashAlg::Sha256, index).cloned().unwrap_or(Digest::zero(HashAlg::Sha256))
        };
        let values = [PcrIndex::LOADER, PcrIndex::UKI, PcrIndex::SERVICES]
            .map(|index| (index, value(index)));
        let digest = policy::pcr_policy(Purpose::Ledger, &values).unwrap();
        for generation in 1..=self.generation {
            let message = [&digest[..], &Purpose::Ledger.reference(generation)].concat();
            let signature: Signature = self.key.sign(&message);
            manifest.policies.push(SignedPolicy {
                purpose: Purpose::Ledger,
                generation,
                bank: "sha256".into(),
                digest: hex(&digest),
                signature: hex(&signature.to_bytes()),
            });
        }
        manifest
    }

    pub(crate) fn envelope(&self) -> Vec<u8> {
        let release = self.release();
        signed::seal_manifest(&self.manifest(), &release.id(), |bytes| {
            let signature: Signature = self.key.sign(bytes);
            signature.to_bytes().into()
        })
    }

    pub(crate) fn attester(&self) -> Attester {
        let (tpm, present) = (self.tpm.clone(), self.present);
        let open: Open = Box::new(move || match present {
            true => Ok(Box::new(Shared(Arc::clone(&tpm)))),
            false => Err(NoTrust::Absent(Fault::new("HP-AT-006", "tpm: none; fit one"))),
        });
        let anchors = match self.signed {
            true => Anchors {
                release: Some(self.release()),
                envelope: Some(self.envelope()),
                manifest: Some(self.manifest()),
                diagnostics: Vec::new(),
            },
            false => Anchors::default(),
        };
        let files = Files(self.files.clone(), self.seconds);
        Attester::new(open, Box::new(files.clone()), Box::new(files), anchors, &self.boot_id)
    }

    /// A start of the service.
    pub(crate) fn start(&self) -> (Attester, Started, Option<Secret>) {
        let mut attester = self.attester();
        match attester.run(Job::Start) {
            (Done::Started(started), seed) => (attester, *started, seed),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn event(index: PcrIndex, name: &str) -> Event {
    Event {
        pcr: index,
        digests: BANKS.iter().map(|bank| bank.digest(&[name.as_bytes()])).collect(),
        name: name.into(),
        context: log::Context::default(),
    }
}

pub(crate) fn binding(nonce: u8) -> Binding {
    Binding {
        nonce: vec![nonce; 32].into(),
        exporter: None,
        node: None,
        epoch: 1,
        length: 0,
        head: None,
        root: None,
    }
}

pub(crate) fn quote(attester: &mut Attester, want: Want) -> Result<Attested, Fault> {
    let ask = Ask { binding: binding(5), epoch: None };
    match attester.run(Job::Quote(want, Box::new(ask))).0 {
        Done::Quoted(result) => result.map(|attested| *attested),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone)]
struct Files(Arc<Mutex<Memory>>, u64);

impl Store for Files {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let memory = lock(&self.0);
        if memory.no_read { Err(io::Error::other("no read")) } else { Ok(memory.identity.clone()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut memory = lock(&self.0);
        if memory.no_write {
            return Err(io::Error::other("no write"));
        }
        memory.identity = Some(bytes.to_vec());
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.aside = memory.identity.take();
        Ok(())
    }
}

impl Host for Files {
    fn logs(&mut self) -> io::Result<RawLogs> {
        let mut memory = lock(&self.0);
        if memory.no_log {
            return Err(io::Error::other("no log"));
        }
        let mut events = memory.userspace.clone();
        if memory.late > 0 {
            memory.late -= 1;
            events.pop();
        }
        Ok(RawLogs {
            firmware: Vec::new(),
            userspace: events.iter().flat_map(log::to_record).collect(),
        })
    }

    fn random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut memory = lock(&self.0);
        memory.drawn += 1;
        bytes.fill(memory.drawn);
        Ok(())
    }

    fn seconds(&self) -> u64 {
        self.1
    }

    fn micros(&self) -> u64 {
        0
    }

    fn pause(&mut self, _again: u32) {
        lock(&self.0).pauses += 1;
    }

    fn fresh_recovery(&mut self) -> Option<Zeroizing<String>> {
        lock(&self.0).recovery.clone().map(Zeroizing::new)
    }

    fn remove_fresh_recovery(&mut self) {
        lock(&self.0).recovery = None;
    }

    fn kept_seed(&mut self) -> Option<Secret> {
        lock(&self.0).seed.map(Secret::new)
    }

    fn keep_seed(&mut self, seed: &Secret) -> io::Result<()> {
        let mut memory = lock(&self.0);
        if memory.no_write {
            return Err(io::Error::other("no write"));
        }
        memory.seed = Some(*seed.expose());
        Ok(())
    }
}

/// The test keeps the other end.
struct Shared(Arc<Mutex<Fake>>);

impl Trust for Shared {
    fn banks(&mut self) -> Result<Vec<HashAlg>, TrustError> {
        lock(&self.0).banks()
    }

    fn maker(&mut self) -> Result<Maker, TrustError> {
        lock(&self.0).maker()
    }

    fn clock(&mut self) -> Result<ClockInfo, TrustError> {
        lock(&self.0).clock()
    }

    fn endorsement(&mut self) -> Result<Endorsement, TrustError> {
        // Its quotes are under no endorsement key, so none is shown that they would contradict.
        let endorsement = lock(&self.0).endorsement()?;
        Ok(Endorsement { public: vec![0; 32].into(), ..endorsement })
    }

    fn create_ak(&mut self) -> Result<AkBlob, TrustError> {
        lock(&self.0).create_ak()
    }

    fn load_ak(&mut self, ak: &AkBlob) -> Result<(), TrustError> {
        lock(&self.0).load_ak(ak)
    }

    fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>, TrustError> {
        lock(&self.0).activate(credential, secret)
    }

    fn quote(&mut self, selection: &Selection, data: &[u8; 32]) -> Result<Quoted, TrustError> {
        lock(&self.0).quote(selection, data)
    }

    fn epoch(&mut self) -> Result<Option<u64>, TrustError> {
        lock(&self.0).epoch()
    }

    fn next_epoch(&mut self) -> Result<u64, TrustError> {
        lock(&self.0).next_epoch()
    }

    fn wrapping_key(
        &mut self,
        release: &ReleaseKey,
        purpose: Purpose,
        generation: u32,
        policies: &[SignedPolicy],
    ) -> Result<Secret, TrustError> {
        lock(&self.0).wrapping_key(release, purpose, generation, policies)
    }

    fn commands(&self) -> u64 {
        lock(&self.0).commands()
    }
}
