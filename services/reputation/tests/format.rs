//! The format's bytes, who is believed, and that lookups say what a plain set says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has to fail; helpers are not seen as tests"
)]

use std::{collections::HashMap, sync::LazyLock};

use hookprobe_reputation::{
    Reputation,
    allow::AllowList,
    draft::{Draft, DraftError, Edition, ListId},
    format::{
        Category, Expectation, HEADER_BYTES, ListInfo, LoadError, NAMES_MAX, PublicKey, Serial,
    },
    hash::HashKey,
    lists::{Entry, Parser, Syntax},
    names::{Loader, NameList, Verdict},
    suffix,
};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const NOW_S: u64 = 1_800_000_000;
const EDITION: Edition =
    Edition { serial: Serial(7), issued_s: NOW_S - 100, expires_s: NOW_S + 86_400 };

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    PublicKey(pair.public_key().as_ref().try_into().unwrap())
}

fn lists() -> Vec<ListInfo> {
    vec![
        ListInfo { category: Category::Malware, name: "bad names".into() },
        ListInfo { category: Category::Advertising, name: "ads".into() },
    ]
}

fn sign(draft: Draft, edition: Edition, pair: &Ed25519KeyPair) -> Vec<u8> {
    let sign = |message: &[u8]| pair.sign(message).as_ref().try_into().unwrap();
    draft.sign(edition, public(pair), sign).unwrap()
}

/// Blocks of list 0 and 1, exceptions; signed by key 1.
fn list(malware: &[&str], ads: &[&str], allowed: &[&str]) -> Vec<u8> {
    let mut draft = Draft::new(HashKey([3; 16]), lists()).unwrap();
    for name in malware {
        draft.add(ListId(0), Entry::Block(name.as_bytes()));
    }
    for name in ads {
        draft.add(ListId(1), Entry::Block(name.as_bytes()));
    }
    for name in allowed {
        draft.add(ListId(1), Entry::Allow(name.as_bytes()));
    }
    sign(draft, EDITION, &pair(1))
}

fn sample() -> Vec<u8> {
    list(
        &["evil.example", "c2.bad.example", "both.example"],
        &["ads.example", "both.example", "mixed.example"],
        &["fine.mixed.example"],
    )
}

fn load(bytes: &[u8]) -> Result<NameList, LoadError> {
    let keys = [public(&pair(1))];
    NameList::load(bytes, &Expectation { keys: &keys, accepted: Serial(7), now_s: NOW_S })
}

/// List and labels, as text.
fn say(verdict: Verdict<'_>) -> String {
    match verdict {
        Verdict::Unlisted => "-".into(),
        Verdict::Allowed => "allowed".into(),
        Verdict::Listed { list, labels } => format!("{} {labels}", list.name),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    let golden = include_str!("golden/names-v1.hex").split_whitespace().collect::<String>();
    assert_eq!(hex(&sample()), golden);
}

/// A file of version 1, whoever wrote it, opens for ever.
#[test]
fn golden_file_opens() {
    let golden = include_str!("golden/names-v1.hex").split_whitespace().collect::<String>();
    let bytes: Vec<u8> = (0..golden.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
        .collect();
    let names = load(&bytes).unwrap();
    assert_eq!(names.len(), 6);
    assert_eq!(names.serial(), Serial(7));
    assert_eq!(names.lists(), lists());
    assert_eq!(say(names.lookup(b"evil.example")), "bad names 2");
}

#[test]
fn lookups() {
    let names = load(&sample()).unwrap();
    for (name, expected) in [
        ("evil.example", "bad names 2"),
        ("EVIL.Example.", "bad names 2"),
        ("a.b.evil.example", "bad names 2"),
        ("odd!label\u{1}.evil.example", "bad names 2"),
        ("notevil.example", "-"),
        ("example", "-"),
        ("bad.example", "-"),
        ("x.c2.bad.example", "bad names 3"),
        // On both: the list named first.
        ("both.example", "bad names 2"),
        ("ads.example", "ads 2"),
        ("mixed.example", "ads 2"),
        ("fine.mixed.example", "allowed"),
        ("deep.fine.mixed.example", "allowed"),
        ("", "-"),
        (".", "-"),
        ("..", "-"),
    ] {
        assert_eq!(say(names.lookup(name.as_bytes())), expected, "{name:?}");
    }
    assert_eq!(names.lookup(&[b'a'; 300]), Verdict::Unlisted);
    let deep = format!("{}evil.example", "a.".repeat(120));
    assert_eq!(say(names.lookup(deep.as_bytes())), "bad names 2");
    assert_eq!(say(names.lookup(format!("a.{deep}").as_bytes())), "-");
}

#[test]
fn the_operator_wins() {
    let allow = AllowList::new([&b"evil.example"[..]]);
    let box_ = Reputation { names: Some(load(&sample()).unwrap()), allow };
    assert_eq!(box_.lookup(b"www.evil.example"), Verdict::Allowed);
    assert_eq!(say(box_.lookup(b"ads.example")), "ads 2");
    assert_eq!(Reputation::default().lookup(b"ads.example"), Verdict::Unlisted);
}

#[test]
fn every_changed_byte_is_refused() {
    let good = sample();
    assert!(load(&good).is_ok());
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            let error = load(&bytes).expect_err("accepted a changed byte");
            if (HEADER_BYTES..).contains(&at) {
                assert!(matches!(error, LoadError::Content(_)), "byte {at}: {error}");
            }
        }
    }
    for length in 0..good.len() {
        assert!(load(&good[..length]).is_err(), "accepted {length} bytes");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(load(&longer).is_err());
    longer.extend([0; 15]);
    assert!(load(&longer).is_err());
}

#[test]
fn who_and_when() {
    let bytes = sample();
    let (ours, other) = (public(&pair(1)), public(&pair(2)));
    let with = |keys: &[PublicKey], accepted, now_s| {
        NameList::load(&bytes, &Expectation { keys, accepted: Serial(accepted), now_s })
            .map(|names| names.len())
    };
    assert_eq!(with(&[other, ours], 7, NOW_S), Ok(6));
    assert_eq!(with(&[ours], 0, NOW_S), Ok(6));
    assert_eq!(with(&[other], 7, NOW_S), Err(LoadError::UnknownKey(ours.id().0)));
    assert_eq!(with(&[], 7, NOW_S), Err(LoadError::UnknownKey(ours.id().0)));
    let rolled_back = LoadError::RolledBack { found: 7, accepted: 8 };
    assert_eq!(with(&[ours], 8, NOW_S), Err(rolled_back));
    let now_s = NOW_S + 86_400;
    let expired = LoadError::Expired { expired_s: now_s, now_s };
    assert_eq!(with(&[ours], 7, now_s), Err(expired));
    // The right key's name with another key's signature.
    let mut draft = Draft::new(HashKey([3; 16]), lists()).unwrap();
    draft.add(ListId(0), Entry::Block(b"evil.example"));
    let forged = draft
        .sign(EDITION, ours, |message| pair(2).sign(message).as_ref().try_into().unwrap())
        .unwrap();
    assert_eq!(load(&forged).map(|names| names.len()), Err(LoadError::Signature));
}

#[test]
fn signed_public_suffixes_are_refused_all_the_same() {
    for name in ["co.uk", "github.io", "kawasaki.jp"] {
        let bytes = list(&["evil.example", name], &[], &[]);
        assert_eq!(
            load(&bytes).map(|names| names.len()),
            Err(LoadError::PublicSuffix(name.into()))
        );
        assert!(load(&list(&["evil.example"], &[], &[name])).is_ok());
    }
}

#[test]
fn order_of_names_and_pieces_does_not_matter() {
    let bytes = sample();
    let again = list(
        &["both.example", "both.example", "c2.bad.example", "evil.example"],
        &["mixed.example", "both.example", "ads.example"],
        &["fine.mixed.example"],
    );
    assert_eq!(hex(&bytes), hex(&again));
    let keys = [public(&pair(1))];
    let expect = Expectation { keys: &keys, accepted: Serial(0), now_s: NOW_S };
    let (header, content) = bytes.split_first_chunk().unwrap();
    for piece in 1..20 {
        let mut loader = Loader::new(header, &expect).unwrap();
        for piece in content.chunks(piece) {
            loader.feed(piece).unwrap();
        }
        assert_eq!(loader.finish().unwrap().len(), 6, "pieces of {piece}");
    }
}

#[test]
fn limits_of_a_draft() {
    let many = vec![lists().remove(0); 256];
    assert_eq!(Draft::new(HashKey([0; 16]), many).err(), Some(DraftError::Lists(256)));
    let bad = ListInfo { category: Category::Other, name: "two\nlines".into() };
    assert_eq!(Draft::new(HashKey([0; 16]), vec![bad]).err(), Some(DraftError::Lists(1)));
    // A list that was not named is nobody's.
    let mut draft = Draft::new(HashKey([0; 16]), lists()).unwrap();
    draft.add(ListId(2), Entry::Block(b"evil.example"));
    draft.add(ListId(255), Entry::Block(b"evil.example"));
    assert!(load(&sign(draft, EDITION, &pair(1))).unwrap().is_empty());
    const { assert!(NAMES_MAX >= 2_200_000) };
}

#[test]
fn from_text_to_lookup() {
    let mut draft = Draft::new(HashKey([9; 16]), lists()).unwrap();
    let texts: [(Syntax, &[u8]); 2] = [
        (Syntax::Hosts, b"0.0.0.0 evil.example\nnonsense\n0.0.0.0 com\n"),
        (Syntax::Adblock, b"||ads.example^\n@@||good.evil.example^\n"),
    ];
    for (number, (syntax, text)) in (0..).zip(texts) {
        let mut parser = Parser::new(syntax);
        parser.feed(text, &mut |entry| draft.add(ListId(number), entry));
        parser.finish(&mut |entry| draft.add(ListId(number), entry));
    }
    let names = load(&sign(draft, EDITION, &pair(1))).unwrap();
    assert_eq!(say(names.lookup(b"evil.example")), "bad names 2");
    assert_eq!(say(names.lookup(b"good.evil.example")), "allowed");
    assert_eq!(say(names.lookup(b"x.ads.example")), "ads 2");
    assert_eq!(say(names.lookup(b"other.com")), "-");
}

proptest! {
    // Each case looks ten thousand public suffixes up.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a map from name to list.
    #[test]
    fn as_a_plain_map(
        blocked in proptest::collection::vec(("[ab]{1,2}(\\.[abc]{1,2}){1,3}\\.(example|com|co\\.uk)", 0_u8..2), 0..60),
        allowed in proptest::collection::vec("[ab]{1,2}\\.[abc]\\.(example|com)", 0..4),
        asked in proptest::collection::vec("[abc]{1,2}(\\.[abc]{1,2}){0,4}\\.(example|com|co\\.uk)", 0..60),
    ) {
        let mut model: HashMap<&str, u8> = HashMap::new();
        let mut draft = Draft::new(HashKey([5; 16]), lists()).unwrap();
        for (name, list) in &blocked {
            prop_assume!(!suffix::is_public_suffix(name.as_bytes()));
            draft.add(ListId(*list), Entry::Block(name.as_bytes()));
            let known = model.entry(name).or_insert(*list);
            *known = (*known).min(*list);
        }
        for name in &allowed {
            draft.add(ListId(0), Entry::Allow(name.as_bytes()));
        }
        let names = load(&sign(draft, EDITION, &pair(1))).unwrap();
        for name in asked.iter().chain(blocked.iter().map(|(name, _)| name)).chain(&allowed) {
            let labels: Vec<&str> = name.split('.').collect();
            let tails = (2..=labels.len()).map(|count| labels[labels.len() - count..].join("."));
            let tails: Vec<String> = tails.collect();
            let expected = if tails.iter().any(|tail| allowed.contains(tail)) {
                "allowed".to_owned()
            } else {
                tails.iter().find_map(|tail| {
                    let list = model.get(tail.as_str())?;
                    Some(format!("{} {}", lists()[usize::from(*list)].name, tail.split('.').count()))
                }).unwrap_or("-".into())
            };
            prop_assert_eq!(say(names.lookup(name.as_bytes())), expected, "{}", name);
        }
    }

    #[test]
    fn any_bytes_are_no_list(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(load(&bytes).is_err());
    }

    #[test]
    fn any_query(name in proptest::collection::vec(any::<u8>(), 0..300)) {
        static NAMES: LazyLock<NameList> = LazyLock::new(|| load(&sample()).unwrap());
        let _ = NAMES.lookup(&name);
    }
}
