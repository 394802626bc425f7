//! The shape of a block on disk and on the wire, and that no change of it goes unnoticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail tests"
)]

mod support;

use hookprobe_ledger::{
    Epoch, Lane, LedgerKey,
    chain::Tip,
    verify::{Flaw, verify},
};
use hookprobe_wire::{
    Block, EventType, Hash, NodeId, Seq,
    block::payload_hash,
    frame::decode_body,
    ledger::{Payload, Record},
};
use proptest::prelude::*;
use support::{alert, service};

const SEED: [u8; 32] = *b"hookprobe ledger golden seed 001";

/// Three blocks of one key, then three of another.
fn chain() -> (Vec<Epoch>, Vec<Record>, Tip) {
    let keys = [LedgerKey::from_seed(&SEED), LedgerKey::from_seed(&[2; 32])];
    let epochs: Vec<Epoch> = keys
        .iter()
        .zip([(4, 0), (9, 3)])
        .map(|(key, (number, first))| Epoch { number, node: key.node(), first: Seq(first) })
        .collect();
    let mut lane = Lane { epoch: epochs[0], tip: Tip::empty() };
    let mut records = Vec::new();
    for index in 0..6u8 {
        let key = &keys[usize::from(index) / 3];
        lane.epoch = epochs[usize::from(index) / 3];
        let event = if index % 2 == 0 { alert("port scan") } else { service("x") };
        let (salt, bytes) = ([index; 16], event.to_cbor());
        let now = 1_700_000_000_000_000_000 + u64::from(index);
        let (header, hash) = lane.append(now, event.event_type(), payload_hash(&salt, &bytes));
        records.push(Record {
            hash,
            block: Block { signatures: vec![key.sign(&header)], header },
            payload: Some(Payload { salt: salt.into(), bytes: bytes.into() }),
        });
    }
    (epochs, records, lane.tip)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_block_v1() {
    let (_, records, tip) = chain();
    let block = minicbor::to_vec(&records[0].block).unwrap();
    let text = format!(
        "block {}\nhash {}\npayload {}\nroot {}\n",
        hex(&block),
        records[0].hash,
        hex(&records[0].payload.as_ref().unwrap().bytes),
        tip.tree.root()
    );
    assert_eq!(text, include_str!("fixtures/block-v1.txt"));
    let again: Block = decode_body(&block).unwrap();
    assert_eq!(again, records[0].block);
}

#[test]
fn an_untouched_chain_verifies_over_a_change_of_keys() {
    let (epochs, records, tip) = chain();
    let verified = verify(&epochs, &records, Some((6, tip.tree.root()))).unwrap();
    assert_eq!((verified.tip, verified.payloads_missing), (tip, 0));
}

/// What is changed, and how.
type Tamper = (&'static str, fn(&mut Record));

/// Every field of a record, changed alone.
fn tampers() -> Vec<Tamper> {
    fn flip(hash: &Hash) -> Hash {
        let mut bytes = *hash.as_bytes();
        bytes[7] ^= 0x10;
        Hash::new(bytes)
    }
    vec![
        ("version", |r| r.block.header.version += 1),
        ("node_identity", |r| r.block.header.node_identity = NodeId::new([5; 32])),
        ("epoch", |r| r.block.header.epoch += 1),
        ("seq", |r| r.block.header.seq.0 += 1),
        ("prev_hash", |r| r.block.header.prev_hash = flip(&r.block.header.prev_hash)),
        ("timestamp_ns up", |r| r.block.header.timestamp_ns += 1),
        ("timestamp_ns down", |r| r.block.header.timestamp_ns -= 1_000_000),
        ("event_type", |r| r.block.header.event_type = EventType::Lift),
        ("payload_hash", |r| r.block.header.payload_hash = flip(&r.block.header.payload_hash)),
        ("signatures: signer", |r| r.block.signatures[0].signer = NodeId::new([6; 32])),
        ("signatures: bytes", |r| r.block.signatures[0].bytes[40] ^= 1),
        ("signatures: none", |r| r.block.signatures.clear()),
        ("signatures: two", |r| r.block.signatures.push(r.block.signatures[0].clone())),
        ("hash", |r| r.hash = flip(&r.hash)),
        ("payload: salt", |r| r.payload.as_mut().unwrap().salt[3] ^= 1),
        ("payload: bytes", |r| r.payload.as_mut().unwrap().bytes[5] ^= 1),
        ("payload: longer", |r| r.payload.as_mut().unwrap().bytes.push(0)),
        ("payload: shorter", |r| {
            let _ = r.payload.as_mut().unwrap().bytes.pop();
        }),
    ]
}

#[test]
fn any_changed_field_of_any_block_is_found_and_the_block_named() {
    let (epochs, records, _) = chain();
    for at in 0..records.len() {
        for (field, tamper) in tampers() {
            for rehash in [false, true] {
                let mut changed = records.clone();
                tamper(&mut changed[at]);
                if rehash && field != "hash" {
                    // A forger makes the recorded hash fit; the signature still does not.
                    changed[at].hash = changed[at].block.hash();
                }
                let flawed = verify(&epochs, &changed, None).expect_err(field);
                assert_eq!(flawed.seq, Seq(at as u64), "{field}: {flawed}");
            }
        }
    }
}

#[test]
fn removed_swapped_repeated_and_cut_blocks_are_found() {
    let (epochs, records, tip) = chain();
    let expected = Some((6, tip.tree.root()));
    for at in 0..records.len() {
        let mut removed = records.clone();
        removed.remove(at);
        assert!(verify(&epochs, &removed, expected).is_err(), "removed {at}");
        let mut repeated = records.clone();
        repeated.insert(at, records[at].clone());
        assert!(verify(&epochs, &repeated, expected).is_err(), "repeated {at}");
        if at > 0 {
            let mut swapped = records.clone();
            swapped.swap(at - 1, at);
            assert!(verify(&epochs, &swapped, expected).is_err(), "swapped {at}");
        }
    }
    let flaw = verify(&epochs, &records, Some((6, Hash::zero()))).unwrap_err().flaw;
    assert!(matches!(flaw, Flaw::Root { .. }), "{flaw}");
}

#[test]
fn a_block_of_another_key_or_behind_its_epoch_is_found() {
    let (epochs, records, _) = chain();
    assert!(matches!(verify(&epochs[1..], &records, None).unwrap_err().flaw, Flaw::NoEpoch));
    assert!(matches!(
        verify(&epochs[..1], &records, None).unwrap_err(),
        f if f.seq == Seq(3)
    ));
    let backwards = [epochs[1], epochs[0]];
    assert!(matches!(
        verify(&backwards, &records, None).unwrap_err().flaw,
        Flaw::EpochOrder { .. }
    ));
}

#[test]
fn an_erased_payload_is_counted_and_the_chain_still_verifies() {
    let (epochs, mut records, tip) = chain();
    records[2].payload = None;
    let verified = verify(&epochs, &records, Some((6, tip.tree.root()))).unwrap();
    assert_eq!(verified.payloads_missing, 1);
}

proptest! {
    #[test]
    fn any_flipped_bit_of_a_stored_block_is_found(at in 0usize..6, bit in 0usize..2000) {
        let (epochs, records, _) = chain();
        let mut bytes = minicbor::to_vec(&records[at].block).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // The store refuses what does not decode to its own encoding; the rest is for verify.
        if let Ok(block) = decode_body::<Block>(&bytes)
            && minicbor::to_vec(&block).unwrap() == bytes
        {
            let mut changed = records.clone();
            changed[at].hash = block.hash();
            changed[at].block = block;
            let flawed = verify(&epochs, &changed, None).unwrap_err();
            prop_assert_eq!(flawed.seq, Seq(at as u64));
        }
    }
}
