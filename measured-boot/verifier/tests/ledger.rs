//! Exported ledgers: good ones, changed ones, and those that belong to another box.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

use ed25519_dalek::{Signer as _, SigningKey};
use hookprobe_evidence::{bundle::Evidence, quote::Binding, sample::Sample};
use hookprobe_verifier::{
    ledger::{Expected, verify},
    report::Exit,
};
use hookprobe_wire::{
    Block, Event, Hash, NodeId, Seq,
    block::{self, Header, Signature},
    event, export,
    ledger::{Payload, Record},
};
use sha2::{Digest as _, Sha256};

/// A lane as its box writes it.
struct Lane {
    key: SigningKey,
    epoch: u64,
    records: Vec<Record>,
}

impl Lane {
    fn new() -> Self {
        Self { key: SigningKey::from_bytes(&[0x21; 32]), epoch: 41, records: Vec::new() }
    }

    fn node(&self) -> NodeId {
        NodeId::new(self.key.verifying_key().to_bytes())
    }

    fn append(&mut self, event: &Event) {
        let seq = self.records.len() as u64;
        let (salt, bytes) = ([seq as u8; block::SALT_BYTES], event.to_cbor());
        let header = Header {
            version: block::BLOCK_VERSION,
            node_identity: self.node(),
            epoch: self.epoch,
            seq: Seq(seq),
            prev_hash: self.head(),
            timestamp_ns: 1_900_000_000_000_000_000 + seq,
            event_type: event.event_type(),
            payload_hash: block::payload_hash(&salt, &bytes),
        };
        let payload = Some(Payload { salt: salt.into(), bytes: bytes.into() });
        let record = self.signed(header, payload);
        self.records.push(record);
    }

    fn signed(&self, header: Header, payload: Option<Payload>) -> Record {
        let bytes = self.key.sign(&header.signing_bytes()).to_bytes().into();
        let signatures = vec![Signature { signer: header.node_identity, bytes }];
        Record { hash: header.hash(), block: Block { header, signatures }, payload }
    }

    fn head(&self) -> Hash {
        self.records.last().map_or(Hash::zero(), |record| record.hash)
    }

    fn service(&mut self, name: &str) {
        self.append(&Event::Service(event::ServiceChange {
            service: name.into(),
            change: "started".into(),
            detail: String::new(),
        }));
    }

    /// The TPM's word for the key, as `sample` gives it.
    fn bind(&mut self, sample: &Sample, change: impl FnOnce(&mut Binding)) {
        let mut sample = sample.clone();
        sample.binding = Binding {
            nonce: sample.epoch.as_ref().unwrap().nonce.clone(),
            exporter: None,
            node: Some(self.node().as_bytes().to_vec().into()),
            epoch: self.epoch,
            length: 0,
            head: None,
            root: None,
        };
        change(&mut sample.binding);
        let evidence = Evidence { epoch: None, ..sample.short() }.to_bytes().into();
        self.append(&Event::Binding(event::Binding { epoch: self.epoch, evidence }));
    }

    fn file(&self) -> Vec<u8> {
        export(&self.records)
    }

    /// Evidence over the chain as it is now.
    fn evidence(&self, sample: &Sample) -> Evidence {
        let mut sample = sample.clone();
        sample.binding.node = Some(self.node().as_bytes().to_vec().into());
        sample.binding.length = self.records.len() as u64;
        sample.binding.head = Some(self.head().as_bytes().to_vec().into());
        sample.binding.root = Some(root(&hashes(&self.records)).to_vec().into());
        sample.evidence()
    }
}

fn hashes(records: &[Record]) -> Vec<Hash> {
    records.iter().map(|record| record.hash).collect()
}

/// RFC 6962, 2.1, by its definition.
fn root(leaves: &[Hash]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::new().chain_update([0]).chain_update(leaf.as_bytes()).finalize().into(),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            let (left, right) = (root(left), root(right));
            Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
        }
    }
}

fn export(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    let summary = export::Summary {
        first: Seq(0),
        length: records.len() as u64,
        before: Hash::zero(),
        peaks: Vec::new(),
        hash: records.last().map_or(Hash::zero(), |record| record.hash),
        root: Hash::new(root(&hashes(records))),
    };
    export::begin(&summary, &mut out).unwrap();
    for record in records {
        export::record(record, &mut out).unwrap();
    }
    out
}

/// Two boots of the sample box.
fn good() -> Lane {
    let mut lane = Lane::new();
    lane.bind(&Sample::new(), |_| {});
    lane.service("sensor");
    lane.service("response");
    lane.epoch += 1;
    lane.bind(&Sample::new(), |_| {});
    lane.service("sensor");
    lane
}

#[track_caller]
fn check(file: &[u8], expected: &Expected, exit: Exit, text: &str) {
    let report = verify(file, expected).unwrap();
    assert_eq!(report.verdict(), exit, "{}", report.text());
    assert!(report.text().lines().next().unwrap().contains(text), "{}", report.text());
}

fn nothing() -> Expected {
    Expected::default()
}

fn ak() -> Expected {
    let ak = Sample::new().reference().ak_name.map(|name| name.as_bytes().to_vec());
    Expected { ak, evidence: None }
}

#[test]
fn a_chain_that_its_tpm_vouches_for() {
    let lane = good();
    check(&lane.file(), &ak(), Exit::Affirming, "5 blocks");
    check(&lane.file(), &nothing(), Exit::Affirming, "5 blocks");
    // The end of a longer chain, without its begin.
    let part = &lane.records[3..];
    let summary = export::Summary {
        first: Seq(3),
        length: 5,
        before: lane.records[2].hash,
        peaks: vec![
            Hash::new(root(&hashes(&lane.records[..2]))),
            Hash::new(root(&hashes(&lane.records[2..3]))),
        ],
        hash: lane.head(),
        root: Hash::new(root(&hashes(&lane.records))),
    };
    let mut file = Vec::new();
    export::begin(&summary, &mut file).unwrap();
    for record in part {
        export::record(record, &mut file).unwrap();
    }
    check(&file, &ak(), Exit::Affirming, "2 blocks");
    let text = verify(&file, &ak()).unwrap().text();
    assert!(text.contains("not looked at"), "{text}");
}

#[test]
fn every_change_to_a_block_is_found_and_named() {
    type Change = fn(&mut Lane);
    let changes: [(&str, Change); 12] = [
        ("block 2: version", |lane| lane.records[2].block.header.version = 2),
        ("block 2: it says that it is block 3", |lane| {
            lane.records[2].block.header.seq = Seq(3);
        }),
        ("block 2: its hash", |lane| lane.records[2].hash = Hash::zero()),
        ("block 2: its previous hash", |lane| {
            lane.records[2].block.header.prev_hash = Hash::zero();
        }),
        ("block 2: its previous hash", |lane| drop(lane.records.remove(1))),
        ("block 2: the payload is not", |lane| {
            lane.records[2].payload.as_mut().unwrap().salt[0] ^= 1;
        }),
        ("block 2: the signature", |lane| {
            lane.records[2].block.signatures[0].bytes[0] ^= 1;
        }),
        ("block 2: 0 signatures", |lane| lane.records[2].block.signatures.clear()),
        ("block 2: its signer", |lane| {
            lane.records[2].block.signatures[0].signer = NodeId::new([3; 32]);
        }),
        ("block 4: epoch 40 after epoch 42", |lane| {
            lane.records[4].block.header.epoch = 40;
        }),
        ("block 4: it is", |lane| lane.records[4].block.header.timestamp_ns -= 9),
        ("block 1: signed by the node", |lane| {
            lane.records[1].block.header.node_identity = NodeId::new([3; 32]);
        }),
    ];
    for (at, (text, change)) in changes.into_iter().enumerate() {
        let mut lane = good();
        change(&mut lane);
        let text = if at == 4 { "block 1: it says that it is block 2" } else { text };
        check(
            &lane.file(),
            &nothing(),
            Exit::Contraindicated,
            &format!("HP-VF-010 ledger: {text}"),
        );
    }
}

#[test]
fn a_summary_that_says_something_else() {
    let lane = good();
    let file = lane.file();
    // The last 64 bytes of the summary's content are hash and root.
    let at = |needle: &[u8]| file.windows(32).position(|part| part == needle).unwrap();
    for (needle, text) in [
        (*lane.head().as_bytes(), "block 5: the chain ends"),
        (root(&hashes(&lane.records)), "block 5: the tree head"),
    ] {
        let mut changed = file.clone();
        changed[at(&needle)] ^= 1;
        check(&changed, &nothing(), Exit::Contraindicated, text);
    }
    assert!(verify(&file[..file.len() - 1], &nothing()).is_err());
}

#[test]
fn nobody_vouches_or_somebody_else() {
    let mut lane = Lane::new();
    lane.service("sensor");
    check(&lane.file(), &nothing(), Exit::Warning, "HP-VF-011");
    let mut other = Sample::new();
    other.ak = p256::ecdsa::SigningKey::from_slice(&[0x31; 32]).unwrap();
    let mut lane = good();
    lane.epoch += 1;
    lane.bind(&other, |_| {});
    check(&lane.file(), &ak(), Exit::Contraindicated, "HP-VF-013");
    check(&lane.file(), &nothing(), Exit::Warning, "HP-VF-014");
}

#[test]
fn a_quote_that_does_not_cover_the_key() {
    type Change = fn(&mut Binding);
    let changes: [(&str, Change); 5] = [
        ("covers another key", |binding| binding.node = Some(vec![5; 32].into())),
        ("covers another key", |binding| binding.node = None),
        ("the quote is of epoch 7", |binding| binding.epoch = 7),
        ("its nonce is not the boot id", |binding| binding.nonce = vec![5; 16].into()),
        ("blocks were taken away", |binding| {
            binding.length = 900;
            binding.head = Some(vec![5; 32].into());
        }),
    ];
    for (text, change) in changes {
        let mut lane = Lane::new();
        lane.service("sensor");
        lane.bind(&Sample::new(), change);
        check(&lane.file(), &nothing(), Exit::Contraindicated, text);
    }
}

#[test]
fn evidence_and_ledger_of_one_box() {
    let mut lane = good();
    let mut sample = Sample::new();
    sample.binding.epoch = 42;
    let evidence = Some(lane.evidence(&sample));
    let expected = Expected { evidence, ..ak() };
    check(&lane.file(), &expected, Exit::Affirming, "5 blocks");
    // Blocks that came after the quote.
    lane.service("sensor");
    check(&lane.file(), &expected, Exit::Affirming, "6 blocks");
    // Blocks that were there and are no longer.
    lane.records.truncate(4);
    check(&lane.file(), &expected, Exit::Contraindicated, "blocks were taken away");
    // Other blocks in their place.
    lane.service("another");
    check(&lane.file(), &expected, Exit::Contraindicated, "another chain");
    // Another box's.
    let mut lane = good();
    lane.key = SigningKey::from_bytes(&[0x22; 32]);
    let evidence = Some(lane.evidence(&sample));
    check(&good().file(), &Expected { evidence, ..ak() }, Exit::Contraindicated, "HP-VF-015");
}
