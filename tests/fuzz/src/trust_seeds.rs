//! Valid inputs of the targets in [`crate::trust`].

use std::collections::BTreeMap;

use ed25519_dalek::Signer as _;
use hookprobe_evidence::{
    bundle::{Endorsement, EpochQuote, Evidence, Logs, PcrClaim, VERSION},
    digest::{Digest, HashAlg},
    log::{self, Context, Event},
    manifest::{ExpectedEvent, FORMAT, ReferenceManifest},
    pcr::PcrIndex,
    policy::{Purpose, SignedPolicy},
    quote::{Binding, Quote},
    sample, signed, tcg,
};
use hookprobe_wire::{
    Block, Event as LedgerEvent, Hash, NodeId, Seq, Severity, attest,
    block::{self, Header},
    control::PcrValue,
    event, export, frame,
    ledger::{Payload, Record},
    qr, unlock,
};

use crate::trust::{ak_public, sign, tpmt_signature};

/// Claims of the seed of an attestation result.
pub(crate) const CLAIMS: &[u8] = b"{\"ear.status\":\"affirming\"}";

pub(crate) fn binding() -> Binding {
    Binding {
        nonce: vec![1; 16].into(),
        exporter: Some(vec![2; 32].into()),
        node: Some(vec![3; 32].into()),
        epoch: 7,
        length: 42,
        head: Some(vec![4; 32].into()),
        root: Some(vec![5; 32].into()),
    }
}

/// What the TPM of the seeds has measured.
pub(crate) fn own_events() -> Vec<Event> {
    let event = |pcr: PcrIndex, name: &str| Event {
        pcr,
        digests: [HashAlg::Sha256, HashAlg::Sha384]
            .iter()
            .map(|bank| bank.digest(&[name.as_bytes()]))
            .collect(),
        name: name.into(),
        context: Context { boot_id: "0".repeat(32), monotonic_us: 1 },
    };
    vec![
        event(PcrIndex::SERVICES, "service:ledger file:/usr/lib/hookprobe/hookprobe-ledger"),
        event(PcrIndex::SERVICES, "service:ledger spec"),
        event(PcrIndex::UKI, "phase:unlocked"),
        event(PcrIndex::SITE, "site:hookprobe.toml"),
    ]
}

pub(crate) fn quoted() -> Vec<(PcrIndex, Digest)> {
    log::replay(&own_events()).iter().map(|(_, index, value)| (index, value.clone())).collect()
}

/// TPMS_ATTEST of a quote of PCRs 11, 12 and 13 in the SHA-256 bank.
pub(crate) fn attest() -> Vec<u8> {
    let mut out = vec![0xff, b'T', b'C', b'G', 0x80, 0x18];
    let sized = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend((bytes.len() as u16).to_be_bytes());
        out.extend(bytes);
    };
    sized(&mut out, &[&[0, 0x0b][..], &[9; 32]].concat());
    sized(&mut out, &binding().extra_data());
    out.extend(123_456u64.to_be_bytes());
    out.extend(5u32.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    out.push(1);
    out.extend(0x2024_0101u64.to_be_bytes());
    out.extend(1u32.to_be_bytes());
    out.extend([0, 0x0b, 3, 0, 0x38, 0]);
    let mut values: Vec<_> =
        quoted().into_iter().filter(|(_, value)| value.alg() == HashAlg::Sha256).collect();
    values.sort();
    let parts: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_bytes()).collect();
    sized(&mut out, HashAlg::Sha256.digest(&parts).as_bytes());
    out
}

pub(crate) fn attests() -> Vec<Vec<u8>> {
    vec![attest()]
}

pub(crate) fn signatures() -> Vec<Vec<u8>> {
    vec![tpmt_signature(&attest()), tpmt_signature(b"another message")]
}

pub(crate) fn publics() -> Vec<Vec<u8>> {
    // Template L-1 of the TCG EK Credential Profile, its policy as the profile prints it.
    const POLICY: [u8; 32] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7,
        0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14,
        0x69, 0xaa,
    ];
    let mut ek = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20];
    ek.extend(POLICY);
    ek.extend([0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 1, 0]);
    ek.extend([0xc5; 256]);
    vec![ak_public(), ek]
}

pub(crate) fn tcg_logs() -> Vec<Vec<u8>> {
    let banks = [HashAlg::Sha256, HashAlg::Sha384];
    let mut firmware = tcg::merge(&[], &[], &banks);
    let mut raw = |pcr: u32, kind: u32, data: &[u8]| {
        firmware.extend([pcr, kind, 2].map(u32::to_le_bytes).concat());
        for bank in banks {
            firmware.extend((bank as u16).to_le_bytes());
            firmware.extend(bank.digest(&[data]).as_bytes());
        }
        firmware.extend((data.len() as u32).to_le_bytes());
        firmware.extend(data);
    };
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    raw(0, 3, b"StartupLocality\0\x03");
    raw(0, 8, &wide("1.0\0"));
    let mut variable = vec![9; 16];
    variable.extend(10u64.to_le_bytes());
    variable.extend(1u64.to_le_bytes());
    variable.extend(wide("SecureBoot"));
    variable.push(1);
    raw(7, 0x8000_0001, &variable);
    raw(7, 4, &[0; 4]);
    raw(11, 13, &wide(".linux\0"));
    vec![
        tcg::merge(&[], &own_events(), &banks),
        tcg::merge(&firmware, &own_events(), &banks),
        firmware,
    ]
}

pub(crate) fn manifest() -> ReferenceManifest {
    let mut pcrs: BTreeMap<String, BTreeMap<u8, String>> = BTreeMap::new();
    for (index, value) in quoted() {
        pcrs.entry(value.alg().name().into()).or_default().insert(index.get(), value.hex());
    }
    let events = own_events()
        .iter()
        .filter(|event| event.pcr == PcrIndex::SERVICES)
        .map(|event| ExpectedEvent {
            name: event.name.clone(),
            digests: event.digests.iter().map(|d| (d.alg().name().into(), d.hex())).collect(),
        })
        .collect();
    ReferenceManifest {
        format: FORMAT,
        version: "0.1.0".into(),
        generation: 1,
        pcrs,
        events,
        boot: Vec::new(),
        loader: Vec::new(),
        policies: vec![SignedPolicy {
            purpose: Purpose::Volume,
            generation: 1,
            bank: "sha256".into(),
            digest: "ab".repeat(32),
            signature: "cd".repeat(64),
        }],
    }
}

pub(crate) fn envelopes() -> Vec<Vec<u8>> {
    vec![
        signed::seal_manifest(&manifest(), "000b", sign),
        signed::seal_result(CLAIMS, "000b", sign).into_bytes(),
    ]
}

pub(crate) fn full_evidence() -> Evidence {
    let quote = || Quote { attest: attest().into(), signature: tpmt_signature(&attest()).into() };
    Evidence {
        version: VERSION,
        quote: quote(),
        ak_public: ak_public().into(),
        binding: binding(),
        pcrs: quoted()
            .into_iter()
            .map(|(index, value)| PcrClaim {
                alg: value.alg() as u16,
                index: index.get(),
                digest: value.as_bytes().to_vec().into(),
            })
            .collect(),
        epoch: Some(EpochQuote { quote: quote(), binding: binding() }),
        boot_id: "01".repeat(16),
        taken_s: 1_700_000_000,
        logs: Some(Logs {
            tcg: tcg::merge(&[], &own_events(), &[HashAlg::Sha256]).into(),
            userspace: own_events().iter().flat_map(log::to_record).collect::<Vec<u8>>().into(),
        }),
        manifest: Some(signed::seal_manifest(&manifest(), "000b", sign).into()),
        ek: Some(Endorsement {
            public: publics().pop().unwrap_or_default().into(),
            certificate: Some(vec![0x30, 0].into()),
        }),
    }
}

pub(crate) fn short_evidence() -> Evidence {
    Evidence { logs: None, manifest: None, ek: None, epoch: None, ..full_evidence() }
}

/// Certificates of endorsement keys by makers with keys of several kinds.
pub(crate) fn certificates() -> Vec<Vec<u8>> {
    ["p384.ek", "p384.root", "p256.ek", "rsa.ek", "rsa.tls"].map(sample::fixture).to_vec()
}

pub(crate) fn evidence() -> Vec<Vec<u8>> {
    vec![short_evidence().to_bytes(), full_evidence().to_bytes()]
}

pub(crate) fn qr_texts() -> Vec<Vec<u8>> {
    let bytes = short_evidence().to_bytes();
    [40, 80, 400]
        .iter()
        .filter_map(|width| qr::split(&bytes, *width).ok())
        .map(|lines| lines.join("\n").into_bytes())
        .collect()
}

/// Blocks that a key of the seeds signed.
pub(crate) fn export_records() -> Vec<Record> {
    let key = ed25519_dalek::SigningKey::from_bytes(&[0x23; 32]);
    let node_identity = NodeId::new(key.verifying_key().to_bytes());
    let events = [
        LedgerEvent::Binding(event::Binding {
            epoch: 1,
            evidence: short_evidence().to_bytes().into(),
        }),
        LedgerEvent::Attestation(event::Attestation {
            change: "verified".into(),
            level: "T".into(),
            ak_name: "000b".into(),
            detail: "as the manifest says".into(),
        }),
        LedgerEvent::Service(event::ServiceChange {
            service: "sensor".into(),
            change: "started".into(),
            detail: String::new(),
        }),
    ];
    let mut previous = Hash::zero();
    let mut out = Vec::new();
    for (seq, event) in (0..).zip(&events) {
        let (salt, bytes) = ([7; block::SALT_BYTES], event.to_cbor());
        let header = Header {
            version: block::BLOCK_VERSION,
            node_identity,
            epoch: 1 + seq / 2,
            seq: Seq(seq),
            prev_hash: previous,
            timestamp_ns: 1_700_000_000_000_000_000 + seq,
            event_type: event.event_type(),
            payload_hash: block::payload_hash(&salt, &bytes),
        };
        previous = header.hash();
        let signature = key.sign(&header.signing_bytes()).to_bytes();
        let signatures = vec![block::Signature { signer: node_identity, bytes: signature.into() }];
        out.push(Record {
            hash: previous,
            block: Block { header, signatures },
            payload: Some(Payload { salt: salt.into(), bytes: bytes.into() }),
        });
    }
    if let Some(erased) = out.last_mut() {
        erased.payload = None;
    }
    out
}

pub(crate) fn exports() -> Vec<Vec<u8>> {
    let records = export_records();
    let summary = export::Summary {
        first: Seq(0),
        length: records.len() as u64,
        before: Hash::zero(),
        peaks: Vec::new(),
        hash: records.last().map_or(Hash::zero(), |record| record.hash),
        root: Hash::zero(),
    };
    let mut out = Vec::new();
    let mut fits = export::begin(&summary, &mut out).is_ok();
    for record in &records {
        fits &= export::record(record, &mut out).is_ok();
    }
    if fits { vec![out] } else { Vec::new() }
}

fn framed<M: minicbor::Encode<()>>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().filter_map(|message| frame::to_vec(message).ok()).collect()
}

pub(crate) fn attest_requests() -> Vec<Vec<u8>> {
    use attest::Request;
    framed(&[
        Request::Status,
        Request::Evidence {
            nonce: vec![1; 16].into(),
            exporter: Some(Hash::new([2; 32])),
            full: true,
        },
        Request::Activate { credential: vec![3; 52].into(), secret: vec![4; 256].into() },
        Request::Seed,
        Request::Recovery,
        Request::RecoveryNoted,
        Request::Log { from: 128 },
    ])
}

pub(crate) fn attest_replies() -> Vec<Vec<u8>> {
    use attest::Reply;
    framed(&[
        Reply::Status(attest::Status {
            level: "T".into(),
            level_text: "a software TPM: for laboratories only".into(),
            verdict: attest::Verdict::Affirming,
            divergence: String::new(),
            verified_by: "self".into(),
            verified_s: 1_700_000_000,
            verified_ago_s: 17,
            challenges: (3, 60),
            ak_name: "000b".into(),
            ek: "none".into(),
            node: Some(NodeId::new([3; 32])),
            key: attest::KeyOrigin::Tpm,
            epoch: 7,
            reset_count: 5,
            restart_count: 1,
            boot_id: "01".repeat(16),
            quotes: (9, 1, 0),
            quote_us: 40_000,
            pcrs: vec![PcrValue {
                bank: "sha256".into(),
                index: 13,
                value: "ab".repeat(32),
                predicted: "ab".repeat(32),
            }],
            recovery_waiting: true,
            diagnostics: vec![hookprobe_wire::Diagnostic {
                code: "HP-AT-001".into(),
                severity: Severity::Warn,
                object: "tpm".into(),
                cause: "slow".into(),
                remedy: "wait".into(),
            }],
        }),
        Reply::Part { offset: 0, total: 5, bytes: vec![1, 2, 3, 4, 5].into() },
        Reply::Activated { secret: vec![6; 32].into() },
        Reply::Recovery(Some("abcd-efgh".into())),
        Reply::Recovery(None),
        Reply::Log {
            total: 1,
            lines: vec![attest::Measurement {
                pcr: 13,
                name: "service:ledger spec".into(),
                digest: "ab".repeat(32),
                verdict: "match".into(),
            }],
        },
        Reply::Error { code: "HP-AT-010".into(), reason: "too many challenges".into() },
    ])
}

pub(crate) fn seed_replies() -> Vec<Vec<u8>> {
    use attest::{KeyOrigin, Seed, SeedReply};
    framed(&[
        SeedReply::Seed(Seed::new([9; 32], 7, KeyOrigin::Tpm)),
        SeedReply::Refused { code: "HP-AT-020".into(), reason: "not the ledger".into() },
        SeedReply::Later,
    ])
}

pub(crate) fn outcomes() -> Vec<Vec<u8>> {
    use unlock::Outcome;
    [
        Outcome::Open {
            uuid: "6f0c3a52-5d3e-4c0e-9d6e-737461746530".into(),
            key_identity: Hash::new([7; 32]),
            created: true,
            recovered: false,
            resealed: true,
            note: Some("HP-AT-101 volume: sealed anew; nothing to do".into()),
        },
        Outcome::Plain { created: false },
        Outcome::Locked {
            reason: "HP-AT-102 volume: another TPM; recover".into(),
            recoverable: true,
        },
    ]
    .iter()
    .map(|outcome| {
        let mut out = Vec::new();
        let _ = minicbor::encode(outcome, &mut out);
        out
    })
    .collect()
}

/// A small FAT12 volume behind a partition table, with the boot blob in it.
pub(crate) fn disks() -> Vec<Vec<u8>> {
    const START: usize = 3;
    let mut disk = vec![0; (START + 16) * 512];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(slot) = disk.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    };
    put(512, b"EFI PART");
    put(512 + 72, &2u64.to_le_bytes());
    put(512 + 80, &1u32.to_le_bytes());
    put(512 + 84, &128u32.to_le_bytes());
    put(
        1024,
        &[
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9,
            0x3b,
        ],
    );
    put(1024 + 32, &(START as u64).to_le_bytes());
    let boot = START * 512;
    for (at, value) in [(11, 512u16), (14, 1), (17, 16), (19, 16), (22, 1), (510, 0xaa55)] {
        put(boot + at, &value.to_le_bytes());
    }
    put(boot + 13, &[1]);
    put(boot + 16, &[1]);
    // Clusters 2 to 5 end their chains; three bytes hold two entries.
    put(boot + 512, &[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let entry = |name: &[u8], attributes: u8, cluster: u8, bytes: u8| {
        let mut entry = name.to_vec();
        entry.push(attributes);
        entry.resize(32, 0);
        entry[26] = cluster;
        entry[28] = bytes;
        entry
    };
    put(boot + 1024, &entry(b"EFI        ", 0x10, 2, 0));
    put(boot + 1536, &entry(b"BOOT       ", 0x10, 3, 0));
    put(boot + 2048, &entry(b"BOOTX64 EFI", 0x20, 4, 200));
    put(boot + 2560, &[7; 200]);
    vec![disk]
}
