//! A box that does not exist, for tests: software keys, consistent logs, a signed manifest.
//!
//! Every field is public and [`Sample::evidence`] builds anew from them, so that a test changes one
//! thing and everything that a thief of that one thing could make consistent is consistent. Behind
//! the feature `sample`; must never be in a program that is shipped.

#![expect(clippy::unwrap_used, reason = "only tests call this; a failure here is a failed test")]

use p256::ecdsa::{
    Signature, SigningKey,
    signature::{Signer as _, hazmat::PrehashSigner as _},
};
use sha2::{Digest as _, Sha256};

use crate::{
    appraise::{Reference, SITE_EVENT, Site},
    bundle::{self, Endorsement, EpochQuote, Evidence, Logs, PcrClaim, boot_nonce},
    closure::ServiceList,
    digest::{Digest, HashAlg},
    loader,
    log::{self, Context, Event},
    manifest::{self, ExpectedEvent, ReferenceManifest},
    pcr::{PcrIndex, PcrSet},
    policy::ReleaseKey,
    public::{EndorsementKey, attestation_area, name_of},
    quote::{Binding, ClockInfo, Quote},
    release::phase_event,
    signed, site, tcg,
};

/// The software TPM of the golden tests, whose endorsement key is borrowed.
const SWTPM: &str = include_str!("../tests/fixtures/swtpm.txt");
/// Certificates of other makers for the same key.
const AUTHORITIES: &str = include_str!("../tests/fixtures/authorities.txt");
/// Registers that are quoted.
const QUOTED: [u8; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 15];
const SERVICES: &str = r#"
[[service]]
name = "ledger"
exec = "/usr/lib/hookprobe/hookprobe-ledger"
uid = 801
gid = 801
seccomp = ["base"]
network = "none"
memory_mib_max = 1
tasks_max = 1
[[service]]
name = "sensor"
exec = "/usr/lib/hookprobe/hookprobe-sensor"
files = ["/usr/lib/hookprobe/sensor.bpf.o"]
uid = 802
gid = 802
seccomp = ["base"]
network = "host"
memory_mib_max = 1
tasks_max = 1
"#;

/// An event that firmware or the stub logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Register.
    pub pcr: u8,
    /// Type.
    pub kind: u32,
    /// What was hashed.
    pub measured: Vec<u8>,
    /// What the log says.
    pub data: Vec<u8>,
}

/// The box.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Attestation key.
    pub ak: SigningKey,
    /// Key that signs the manifest.
    pub release: SigningKey,
    /// Banks that are quoted, in this order.
    pub banks: Vec<HashAlg>,
    /// Registers that are quoted.
    pub quoted: Vec<u8>,
    /// What the image should measure; not signed yet.
    pub manifest: ReferenceManifest,
    /// Events of firmware and stub, in order.
    pub firmware: Vec<Firmware>,
    /// Events of PID 1, in order.
    pub events: Vec<Event>,
    /// Content of the site configuration, as in `events`.
    pub site: Vec<u8>,
    /// What the quote is made for.
    pub binding: Binding,
    /// What the epoch's quote was made for; none: there is no such quote.
    pub epoch: Option<Binding>,
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// The TPM's firmware version.
    pub firmware_version: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Certificate of the endorsement key (DER); the key is the golden tests'.
    pub certificate: Option<Vec<u8>>,
    /// Seconds since 1970.
    pub taken_s: u64,
}

/// A structure of the fixtures by its name there, e.g. `root_certificate`, `p384.ek`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn fixture(what: &str) -> Vec<u8> {
    let line = [SWTPM, AUTHORITIES]
        .iter()
        .flat_map(|text| text.lines())
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(' '))
        .unwrap();
    line.as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

impl Default for Sample {
    fn default() -> Self {
        Self::new()
    }
}

impl Sample {
    /// Seconds since 1970 at which everything here is valid.
    pub const NOW_S: u64 = 1_900_000_000;

    /// An intact box with a TPM of a maker that [`Self::reference`] trusts.
    ///
    /// # Panics
    /// Never: it is made of constants.
    #[must_use]
    pub fn new() -> Self {
        let list = ServiceList::parse(SERVICES).unwrap();
        let content = |path: &str| path.as_bytes().to_vec();
        let mut manifest =
            ReferenceManifest::predict("0.2.0", 2, &list, |path| Ok(content(path))).unwrap();
        let site = b"[node]\nname = \"hp-1\"\n".to_vec();
        let mut events = Vec::new();
        for spec in &list.service {
            for path in spec.closure_files() {
                events.push(manifest::event(&spec.file_event(path), &content(path), &HashAlg::ALL));
            }
            events.push(manifest::event(&spec.spec_event(), &spec.canonical(), &HashAlg::ALL));
        }
        events.push(event(
            PcrIndex::STATE,
            "volume:6f4d2a10-0000-4000-8000-000000000001",
            &[5; 32],
        ));
        events.push(phase_event(&HashAlg::ALL));
        events.push(event(PcrIndex::SITE, SITE_EVENT, &site::measured(&site, &[])));
        let firmware = firmware();
        let boot: Vec<Event> = firmware
            .iter()
            .filter(|event| event.pcr == PcrIndex::UKI.get())
            .map(|f| {
                event(PcrIndex::UKI, &format!("uki:{}", tcg::shown_data(&f.data)), &f.measured)
            })
            .chain([phase_event(&HashAlg::ALL)])
            .collect();
        for (bank, pcr, value) in log::replay(&boot).iter() {
            manifest.set_pcr(bank, pcr, value);
        }
        manifest.boot = boot.iter().map(ExpectedEvent::from).collect();
        let started: Vec<Event> = firmware
            .iter()
            .filter(|event| event.pcr == PcrIndex::LOADER.get())
            .map(|f| event(PcrIndex::LOADER, "program", &f.measured))
            .collect();
        for (bank, pcr, value) in log::replay(&started).iter() {
            manifest.set_pcr(bank, pcr, value);
        }
        manifest.loader = started.iter().map(ExpectedEvent::from).collect();
        let boot_id = "0123456789abcdef0123456789abcdef".to_owned();
        let epoch = Binding {
            nonce: boot_nonce(&boot_id).into(),
            exporter: None,
            node: Some(vec![7; 32].into()),
            epoch: 41,
            length: 3,
            head: None,
            root: None,
        };
        let binding = Binding {
            nonce: vec![9; 32].into(),
            exporter: Some(vec![8; 32].into()),
            length: 120,
            head: Some(vec![6; 32].into()),
            root: Some(vec![4; 32].into()),
            ..epoch.clone()
        };
        Self {
            ak: SigningKey::from_slice(&[11; 32]).unwrap(),
            release: SigningKey::from_slice(&[12; 32]).unwrap(),
            banks: vec![HashAlg::Sha256],
            quoted: QUOTED.to_vec(),
            manifest,
            firmware,
            events,
            site,
            binding,
            epoch: Some(epoch),
            clock: ClockInfo { clock_ms: 90_000, reset_count: 20, restart_count: 1, safe: true },
            firmware_version: 0x0001_0002_0000_0000,
            boot_id,
            certificate: Some(fixture("p384.ek")),
            taken_s: Self::NOW_S,
        }
    }

    /// What a verifier who enrolled this box brings.
    #[must_use]
    pub fn reference(&self) -> Reference {
        Reference {
            release_keys: vec![ReleaseKey::new(*self.release.verifying_key())],
            generation_min: 1,
            nonce: Some(self.binding.nonce.to_vec()),
            exporter: self.binding.exporter.as_ref().map(|exporter| exporter.to_vec()),
            ak_name: Some(name_of(&self.ak_public())),
            site: Some(Site::Bytes(site::measured(&self.site, &[]))),
            ek_roots: Some(vec![fixture("p384.root")]),
            ..Reference::default()
        }
    }

    /// TPMT_PUBLIC of the attestation key.
    #[must_use]
    pub fn ak_public(&self) -> Vec<u8> {
        attestation_area(self.ak.verifying_key())
    }

    /// The manifest in its envelope, signed by `release`, with policies.
    ///
    /// # Panics
    /// Never: the keys are valid.
    #[must_use]
    pub fn envelope(&self) -> Vec<u8> {
        let key = ReleaseKey::new(*self.release.verifying_key());
        signed::seal_manifest(&self.manifest, &key.id(), |bytes| {
            let signature: Signature = self.release.sign(bytes);
            signature.to_bytes().into()
        })
    }

    /// Registers after all events, in every quoted bank.
    ///
    /// # Panics
    /// When a register above 23 is asked for.
    #[must_use]
    pub fn registers(&self) -> Vec<(HashAlg, PcrIndex, Digest)> {
        let mut pcrs = PcrSet::new();
        for event in &self.firmware {
            for bank in &self.banks {
                let pcr = PcrIndex::new(event.pcr).unwrap();
                if event.kind != tcg::EV_NO_ACTION {
                    pcrs.extend(pcr, &bank.digest(&[&event.measured]));
                }
            }
        }
        for event in &self.events {
            for digest in &event.digests {
                pcrs.extend(event.pcr, digest);
            }
        }
        let mut out = Vec::new();
        for bank in &self.banks {
            for index in &self.quoted {
                let pcr = PcrIndex::new(*index).unwrap();
                let value = pcrs.get(*bank, pcr).cloned().unwrap_or_else(|| Digest::zero(*bank));
                out.push((*bank, pcr, value));
            }
        }
        out
    }

    /// The merged TCG log.
    #[must_use]
    pub fn tcg_log(&self) -> Vec<u8> {
        let mut firmware = tcg::merge(&[], &[], &self.banks);
        for event in &self.firmware {
            let digests: Vec<Digest> =
                self.banks.iter().map(|bank| bank.digest(&[&event.measured])).collect();
            tcg::put_event(&mut firmware, event.pcr.into(), event.kind, &digests, &event.data);
        }
        tcg::merge(&firmware, &self.events, &self.banks)
    }

    /// A quote over the registers, for `binding`.
    ///
    /// # Panics
    /// Never: the keys are valid.
    #[must_use]
    pub fn quote(&self, binding: &Binding) -> Quote {
        let attest = self.attest(binding);
        let signature: Signature = self.ak.sign_prehash(&Sha256::digest(&attest)).unwrap();
        let (r, s) = signature.split_bytes();
        let mut bytes = vec![0x00, 0x18, 0x00, 0x0b];
        for number in [r, s] {
            bytes.extend([0, 32]);
            bytes.extend(number);
        }
        Quote { attest: attest.into(), signature: bytes.into() }
    }

    /// TPMS_ATTEST.
    fn attest(&self, binding: &Binding) -> Vec<u8> {
        let ek = EndorsementKey::from_public(&fixture("ek_public")).unwrap();
        let signer = ek.qualified_child(&name_of(&self.ak_public()));
        let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        for bytes in [signer.as_bytes(), &binding.extra_data()] {
            out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
        }
        out.extend(self.clock.clock_ms.to_be_bytes());
        out.extend(self.clock.reset_count.to_be_bytes());
        out.extend(self.clock.restart_count.to_be_bytes());
        out.push(u8::from(self.clock.safe));
        out.extend(self.firmware_version.to_be_bytes());
        out.extend(u32::try_from(self.banks.len()).unwrap().to_be_bytes());
        for bank in &self.banks {
            let bits = self.quoted.iter().fold(0u32, |bits, index| bits | 1 << index);
            out.extend((*bank as u16).to_be_bytes());
            out.push(3);
            out.extend(&bits.to_le_bytes()[..3]);
        }
        let mut hash = Sha256::new();
        for (_, _, value) in self.registers() {
            hash.update(value.as_bytes());
        }
        out.extend([0, 32]);
        out.extend(hash.finalize());
        out
    }

    /// Full evidence.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let registers = self.registers();
        let claim = |(bank, pcr, value): &(HashAlg, PcrIndex, Digest)| PcrClaim {
            alg: *bank as u16,
            index: pcr.get(),
            digest: value.as_bytes().to_vec().into(),
        };
        Evidence {
            version: bundle::VERSION,
            quote: self.quote(&self.binding),
            ak_public: self.ak_public().into(),
            binding: self.binding.clone(),
            pcrs: registers.iter().map(claim).collect(),
            epoch: self
                .epoch
                .as_ref()
                .map(|binding| EpochQuote { quote: self.quote(binding), binding: binding.clone() }),
            boot_id: self.boot_id.clone(),
            taken_s: self.taken_s,
            logs: Some(Logs {
                tcg: self.tcg_log().into(),
                userspace: self.events.iter().flat_map(log::to_record).collect::<Vec<u8>>().into(),
            }),
            manifest: Some(self.envelope().into()),
            ek: Some(Endorsement {
                public: fixture("ek_public").into(),
                certificate: self.certificate.clone().map(Into::into),
            }),
        }
    }

    /// Evidence without logs, manifest and endorsement key.
    #[must_use]
    pub fn short(&self) -> Evidence {
        Evidence { logs: None, manifest: None, ek: None, ..self.evidence() }
    }
}

/// An event of PID 1 over `measured`, in every bank.
#[must_use]
pub fn event(pcr: PcrIndex, name: &str, measured: &[u8]) -> Event {
    Event {
        pcr,
        digests: HashAlg::ALL.iter().map(|bank| bank.digest(&[measured])).collect(),
        name: name.into(),
        context: Context::default(),
    }
}

/// What a firmware with Secure Boot and systemd-stub log.
fn firmware() -> Vec<Firmware> {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let same = |pcr: u8, kind: u32, data: &[u8]| Firmware {
        pcr,
        kind,
        measured: data.to_vec(),
        data: data.to_vec(),
    };
    let name = wide("SecureBoot");
    let secure_boot =
        [&[1; 16][..], &10u64.to_le_bytes(), &1u64.to_le_bytes(), &name, &[1]].concat();
    let mut out = vec![same(0, 0x08, b"firmware 1.2")];
    out.push(same(7, 0x8000_0001, &secure_boot));
    out.push(same(4, 0x8000_0007, loader::CALLING));
    out.extend((0..8).map(|pcr| same(pcr, 0x04, &[0; 4])));
    // What is hashed of a program is not what the log says: its path is.
    for (name, path) in [("the boot blob", "disk"), ("the kernel", "blob")] {
        let (measured, data) = (name.as_bytes().to_vec(), path.as_bytes().to_vec());
        out.push(Firmware { pcr: 4, kind: 0x8000_0003, measured, data });
    }
    for section in [".linux", ".osrel", ".cmdline", ".initrd"] {
        let data = wide(&format!("{section}\0"));
        let name = format!("{section}\0").into_bytes();
        let content = format!("content of {section}").into_bytes();
        for measured in [name, content] {
            let (pcr, kind) = (PcrIndex::UKI.get(), tcg::EV_IPL);
            out.push(Firmware { pcr, kind, measured, data: data.clone() });
        }
    }
    out
}
