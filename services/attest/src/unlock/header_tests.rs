use serde_json::json;

use super::*;

fn token() -> Token {
    Token { slot: 0, generation: 3, sealed: vec![0x82, 0, 0xff] }
}

fn slot(offset: u64) -> Value {
    json!({
        "type": "luks2", "key_size": 64,
        "af": { "type": "luks1", "stripes": 4000, "hash": "sha256" },
        "area": {
            "type": "raw", "offset": offset.to_string(), "size": "258048",
            "encryption": "aes-xts-plain64", "key_size": 64
        },
        "kdf": { "type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": "AA==" }
    })
}

fn metadata() -> Value {
    json!({
        "keyslots": { "0": slot(32768), "1": slot(290816) },
        "tokens": { "0": token().to_json() },
        "segments": { "0": {
            "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 512
        } },
        "digests": { "0": {
            "type": "pbkdf2", "keyslots": ["0", "1"], "segments": ["0"], "hash": "sha256",
            "iterations": 1000, "salt": "AA==", "digest": "AA=="
        } },
        "config": { "json_size": "12288", "keyslots_size": KEYSLOTS_BYTES.to_string() }
    })
}

#[test]
fn heads() {
    let mut head = vec![0u8; HEAD_BYTES];
    assert_eq!(classify(&head), Head::Blank);
    head[HEAD_BYTES - 1] = 1;
    assert_eq!(classify(&head), Head::Other);
    head[..UNFINISHED.len()].copy_from_slice(UNFINISHED);
    assert_eq!(classify(&head), Head::Blank);
    head[0] = 0;
    head[EXT4_MAGIC_AT..EXT4_MAGIC_AT + 2].copy_from_slice(EXT4_MAGIC);
    assert_eq!(classify(&head), Head::Ext4);
    head[..6].copy_from_slice(LUKS_MAGIC);
    assert_eq!(classify(&head), Head::OtherLuks);
    head[6..16].copy_from_slice(&[0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0]);
    assert_eq!(classify(&head), Head::Luks2);
    // Metadata of another length: not ours, and more to read than we want.
    head[14..16].copy_from_slice(&[0x80, 0]);
    assert_eq!(classify(&head), Head::OtherLuks);
    assert_eq!(classify(LUKS_MAGIC), Head::OtherLuks);
    assert_eq!(classify(&[]), Head::Blank);
}

#[test]
fn our_shape_is_read() {
    let header = Header::from_json(metadata()).unwrap();
    assert_eq!(header, Header { token: token(), leftover: vec![] });
    assert_eq!(header.next_slot(), 2);

    let mut cut_off = metadata();
    cut_off["keyslots"]["2"] = slot(548864);
    let header = Header::from_json(cut_off).unwrap();
    assert_eq!(header.leftover, [2]);
}

#[test]
fn any_other_shape_is_foreign() {
    let cases: &[(&str, Value)] = &[
        (
            "/keyslots/0/kdf",
            json!({ "type": "argon2id", "time": 9, "memory": 4194304, "cpus": 4, "salt": "AA==" }),
        ),
        ("/keyslots/0/kdf/iterations", json!(4_000_000_000u64)),
        ("/keyslots/0/area/encryption", json!("cipher_null-ecb")),
        ("/keyslots/0/area/offset", json!("99999999999999999999")),
        ("/keyslots/0/area/size", json!("18446744073709551615")),
        ("/keyslots/0/key_size", json!(32)),
        ("/keyslots/0/priority", json!(0)),
        ("/keyslots/0/type", json!("reencrypt")),
        ("/keyslots/3", slot(548864)),
        ("/segments/1", json!({})),
        ("/segments/0/type", json!("linear")),
        ("/segments/0/encryption", json!("cipher_null-ecb")),
        ("/segments/0/encryption", json!("aes-cbc-essiv:sha256")),
        ("/segments/0/offset", json!("0")),
        ("/segments/0/sector_size", json!(4096)),
        ("/segments/0/integrity", json!({})),
        ("/segments/0/flags", json!(["backup-final"])),
        ("/digests/0/iterations", json!(4_000_000_000u64)),
        ("/digests/1", json!({})),
        ("/digests/0/segments", json!([])),
        ("/digests/0/keyslots", json!(["7"])),
        ("/config/flags", json!(["allow-discards"])),
        ("/config/requirements", json!({ "mandatory": ["online-reencrypt-v2"] })),
        ("/config/keyslots_size", json!("16744448")),
        ("/tokens/0/type", json!("systemd-tpm2")),
        ("/tokens/0/version", json!(2)),
        ("/tokens/0/keyslots", json!([])),
        ("/tokens/0/keyslots", json!(["0", "2"])),
        ("/tokens/0/keyslots", json!(["1"])),
        ("/tokens/0/keyslots", json!(["2"])),
        ("/tokens/0/generation", json!(-1)),
        ("/tokens/0/sealed", json!("")),
        ("/tokens/0/sealed", json!("+1")),
        ("/tokens/0/sealed", json!("a".repeat(2 * SEALED_BYTES_MAX + 2))),
        ("/tokens/0/more", json!(1)),
        ("/tokens/1", token().to_json()),
        ("/more", json!(1)),
    ];
    for (place, value) in cases {
        let mut changed = metadata();
        let (parent, name) = place.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[name] = value.clone();
        assert!(Header::from_json(changed).is_err(), "{place} = {value}");
    }
    for missing in ["/keyslots/1", "/keyslots/0", "/tokens/0", "/segments/0", "/digests/0"] {
        let mut changed = metadata();
        let (parent, name) = missing.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert!(Header::from_json(changed).is_err(), "{missing}");
    }
    for other in [json!(null), json!([]), json!("x"), json!({})] {
        assert!(Header::from_json(other).is_err());
    }
}

/// Every value of the metadata that decides anything: path and another value.
fn weakened() -> Vec<(&'static str, Value)> {
    vec![
        ("/segments/0/encryption", json!("cipher_null-ecb")),
        ("/segments/0/offset", json!("0")),
        ("/segments/0/sector_size", json!(4096)),
        ("/digests/0/hash", json!("sha1")),
        ("/digests/0/iterations", json!(u64::MAX)),
        ("/keyslots/0/kdf/iterations", json!(u64::MAX)),
        ("/keyslots/0/area/offset", json!("18446744073709551615")),
        ("/keyslots/0/area/encryption", json!("cipher_null-ecb")),
        ("/tokens/0/sealed", json!("zz")),
        ("/tokens/0/keyslots", json!(["1"])),
        ("/config/json_size", json!("4194304")),
    ]
}

#[test]
fn nothing_that_decides_can_be_weakened() {
    for (path, value) in weakened() {
        let mut json = metadata();
        *json.pointer_mut(path).unwrap() = value;
        assert!(Header::from_json(json).is_err(), "{path}");
    }
}

proptest::proptest! {
    /// Bytes of a disk that anybody could have changed: no panic, and what is taken for ours is
    /// within every bound.
    #[test]
    fn hostile_metadata(
        edits in proptest::collection::vec((0_usize..4096, proptest::num::u8::ANY), 0..4),
        head in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
    ) {
        let _ = classify(&head);
        let mut text = metadata().to_string().into_bytes();
        for (at, byte) in edits {
            let at = at % text.len();
            text[at] = byte;
        }
        if let Ok(header) = serde_json::from_slice(&text).map_err(|_| ()).and_then(|json| {
            Header::from_json(json).map_err(|_| ())
        }) {
            proptest::prop_assert!(header.token.sealed.len() <= SEALED_BYTES_MAX);
            proptest::prop_assert!(SEALED_SLOTS.contains(&header.token.slot));
        }
    }
}
