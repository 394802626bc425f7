//! Targets of names, syslog and the model: lists as people write them, signed lists, what devices
//! say, and what the box kept over a restart.

use ed25519_dalek::{Signer as _, SigningKey};
use hookprobe_behaviour::model::{ClassId, Model, features::Minute, file, forest::ForestSeed};
use hookprobe_reputation::{
    draft::{Draft, Edition, ListId},
    format::{Category, Expectation, HEADER_BYTES, ListInfo, PublicKey, Serial},
    hash::HashKey,
    lists::{Counts, Entry, Parser, Syntax},
    name,
    names::NameList,
    suffix,
};
use hookprobe_sensor::syslog::{
    MESSAGE_BYTES_MAX, auth,
    framing::{Framer, Framing},
    message::{self, Transport},
};
use ring::digest;

use crate::{Outcome, Target};

/// All of this part.
pub(crate) const TARGETS: [Target; 5] = [
    plain(
        "reputation-lists",
        lists,
        list_seeds,
        &[b"||", b"^", b"@@||", b"0.0.0.0 ", b" CNAME .\n", b"$ORIGIN ", b"(", b"*.", b"co.uk"],
    ),
    plain("reputation-names", names, name_seeds, &[&[0; 8], &[0xff; 8], &[1, 2], b"ads"]),
    plain(
        "syslog-message",
        syslog_message,
        message_seeds,
        &[b"<13>", b"1 ", b"[a b=\"", b"\\\"", b"]", b" - ", b"Oct 11 22:14:15 ", b"rhost=", b": "],
    ),
    plain(
        "syslog-stream",
        syslog_stream,
        stream_seeds,
        &[b"5 <1>x", b"\n", b"99999 ", b"<1>", b"\0"],
    ),
    plain("model-file", model_file, model_seeds, &[b"HPMODEL1", &[0, 2], &[0xff; 4], &[0; 48]]),
];

const fn plain(
    name: &'static str,
    run: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target { name, run, seeds, repair: |_| {}, dictionary }
}

/// The first byte chooses the syntax. Pieces change nothing; every name may be on a list.
fn lists(bytes: &[u8]) -> Outcome {
    let Some((first, text)) = bytes.split_first() else { return Outcome::of("empty") };
    let syntax = [Syntax::Hosts, Syntax::Adblock, Syntax::Rpz, Syntax::Plain];
    let syntax = syntax[usize::from(*first) % syntax.len()];
    let read = |piece: usize| -> (Vec<(bool, Vec<u8>)>, Counts) {
        let mut out = Vec::new();
        let mut each = |entry: Entry<'_>| match entry {
            Entry::Block(name) => out.push((true, name.to_vec())),
            Entry::Allow(name) => out.push((false, name.to_vec())),
        };
        let mut parser = Parser::new(syntax);
        for piece in text.chunks(piece) {
            parser.feed(piece, &mut each);
        }
        let counts = parser.finish(&mut each);
        (out, counts)
    };
    let (found, counts) = read(text.len().max(1));
    assert_eq!((&found, &counts), (&read(7).0, &read(7).1), "pieces change the names");
    assert_eq!(found.len() as u64, counts.blocked + counts.allowed);
    for (_, found) in &found {
        assert!(!suffix::is_public_suffix(found), "a public suffix");
        let again = name::normalise(found).map(|name| name.as_bytes().to_vec());
        assert_eq!(again.as_ref(), Ok(found), "not normalised");
    }
    let kinds: Vec<bool> = counts.garbage.iter().map(|count| *count > 0).collect();
    Outcome::of(&format!("{kinds:?} {} {}", counts.blocked > 0, counts.allowed > 0))
}

/// A key of this target.
fn signer() -> (SigningKey, PublicKey) {
    let key = SigningKey::from_bytes(&[0x29; 32]);
    let public = PublicKey(key.verifying_key().to_bytes());
    (key, public)
}

/// Signs whatever it is, as a publisher with a bug would; then nothing may go wrong but an error.
fn names(bytes: &[u8]) -> Outcome {
    let (key, public) = signer();
    let expect = Expectation { keys: &[public], accepted: Serial(0), now_s: 0 };
    let mut signed = bytes.to_vec();
    if let Some((header, content)) = signed.split_at_mut_checked(HEADER_BYTES) {
        let hash = digest::digest(&digest::SHA256, content);
        header[64..96].copy_from_slice(hash.as_ref());
        header[96..104].copy_from_slice(&public.id().0);
        let message = [b"hookprobe name list v1\0".as_slice(), &header[..128]].concat();
        header[128..].copy_from_slice(&key.sign(&message).to_bytes());
    }
    // As it came: only this target's own signature can be right.
    let _ = NameList::load(bytes, &expect);
    match NameList::load(&signed, &expect) {
        Ok(list) => {
            for name in [&b"evil.example"[..], b"www.ads.example", b"", b"..", bytes] {
                let _ = list.lookup(name);
            }
            Outcome::of(&format!("list of {}", list.lists().len() > 1))
        }
        Err(error) => Outcome::of(&error.to_string()),
    }
}

fn syslog_message(bytes: &[u8]) -> Outcome {
    let record = message::parse(bytes, [192, 0, 2, 1].into(), 1, Transport::Udp);
    // What is not UTF-8 is replaced by three bytes.
    assert!(record.message.len() <= 3 * MESSAGE_BYTES_MAX);
    assert!(record.facility.0 <= 23);
    let failure = auth::failure(&record).is_some();
    let fields = [&record.host, &record.app, &record.procid, &record.msgid].map(Option::is_some);
    let (format, fault) = (record.format, record.fault);
    Outcome::of(&format!(
        "{format:?} {fault:?} {fields:?} {failure} {}",
        record.structured.len() > 1
    ))
}

/// However it arrives, the messages are the same and bounded.
fn syslog_stream(bytes: &[u8]) -> Outcome {
    let mut shape = String::new();
    for framing in [Framing::Either, Framing::Counted] {
        let read = |piece: usize| {
            let (mut out, mut framer) = (Vec::new(), Framer::new(framing));
            let mut each = |message: &[u8]| out.push(message.to_vec());
            for piece in bytes.chunks(piece) {
                if let Err(error) = framer.feed(piece, &mut each) {
                    return (out, Some(error), framer.cut());
                }
            }
            framer.finish(&mut each);
            (out, None, framer.cut())
        };
        let whole = read(bytes.len().max(1));
        assert_eq!(whole, read(5), "pieces change the messages");
        assert!(whole.0.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        shape += &format!("{:?} {} {};", whole.1, whole.0.len() > 1, whole.2 > 0);
    }
    Outcome::of(&shape)
}

/// With the checksum that is there and with the right one; what is accepted goes on and is written
/// as it was.
fn model_file(bytes: &[u8]) -> Outcome {
    let _ = file::load(bytes);
    let mut framed = bytes.to_vec();
    let body = framed.len().saturating_sub(4);
    let checksum = crc32(&framed[..body]).to_le_bytes();
    framed[body..].copy_from_slice(&checksum[..bytes.len() - body]);
    match file::load(&framed) {
        Ok(mut model) => {
            assert_eq!(file::save(&model), framed, "not the same again");
            for class in 0..4 {
                model.handle(ClassId(class), &Minute { flows: 77, ..Minute::default() });
            }
            Outcome::of(&format!("model of {:?}", model.ranges(ClassId(0)).is_some()))
        }
        Err(error) => Outcome::of(&error.to_string()),
    }
}

/// CRC-32 as in gzip.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

fn list_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"0.0.0.0 ads.example tracker.example # c\n127.0.0.1 localhost\n192.0.2.1 nas.example\n",
        b"! c\n||ads.example^\n@@||good.ads.example^$important\nexample.com##.ad\n||github.io^\n",
        b"$ORIGIN rpz.box.\n@ SOA a. b. (\n 1 )\nbad.example CNAME .\n*.bad.example.rpz.box. 60 IN CNAME *.\n\
          good.example CNAME rpz-passthru.\nx.example A 0.0.0.0\n\tAAAA ::1\n",
        b"evil.example\n*.bad.example # c\nnot a name\n",
    ];
    (0_u8..).zip(texts).map(|(first, text)| [&[first], text].concat()).collect()
}

fn name_seeds() -> Vec<Vec<u8>> {
    let (key, public) = signer();
    let mut out = Vec::new();
    for count in [0, 3, 40] {
        let info = |name: &str| ListInfo { category: Category::Malware, name: name.into() };
        let Ok(mut draft) = Draft::new(HashKey([1; 16]), vec![info("bad"), info("ads")]) else {
            continue;
        };
        for n in 0..count {
            draft.add(ListId(n % 2), Entry::Block(format!("n{n}.example").as_bytes()));
        }
        draft.add(ListId(0), Entry::Allow(b"fine.example"));
        let edition = Edition { serial: Serial(1), issued_s: 0, expires_s: u64::MAX };
        out.extend(draft.sign(edition, public, |message| key.sign(message).to_bytes()));
    }
    out
}

fn message_seeds() -> Vec<Vec<u8>> {
    [
        "<34>1 2003-10-11T22:14:15.003Z host su 1 ID47 [a@1 b=\"c\\\"d\" e=\"f\"][g] \u{feff}text",
        "<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed for lonvick",
        "<86>Feb  5 17:32:18 sshd[4211]: Failed password for invalid user x from 2001:db8::7 port 1",
        "<13>2024-02-01T10:00:00+01:00 nas smbd: up",
        "no priority",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn stream_seeds() -> Vec<Vec<u8>> {
    [&b"5 <1>ab8 <2>\nabcd"[..], b"<1>one\n<2>two\r\n\n12 <3>counted..<4>last", b"<1>\0<2>\0"]
        .map(<[u8]>::to_vec)
        .to_vec()
}

fn model_seeds() -> Vec<Vec<u8>> {
    let seeds = [0, 1, 20].map(|minutes| {
        let mut model = Model::new(ForestSeed(5));
        for n in 0..minutes {
            let minute = Minute { flows: n, bytes_up: 1000, ..Minute::default() };
            model.handle(ClassId((n % 2) as u8), &minute);
        }
        file::save(&model)
    });
    seeds.to_vec()
}
