//! The targets.

use std::fmt::Debug;

use hookprobe_evidence::{
    appraise::first_divergence, closure::ServiceList, digest::HashAlg, log,
    manifest::ReferenceManifest, pcr::PcrIndex, uki,
};
use hookprobe_init::{
    modules::index::Index,
    tpm::{Tpm, TpmError, Transport},
};
use hookprobe_ledger::{
    Epoch,
    store::{StoreError, rows, witness},
    verify::verify,
};
use hookprobe_sensor::replay::{self, Replay};
use hookprobe_wire::{
    Seq, attest, control,
    frame::{self, HEADER_BYTES},
    inspector, ledger, response, sensor,
    site::Site,
    text,
};
use minicbor::{Decode, Encode};

use crate::{
    Outcome, Target, app, behaviour, outputs, reputation, rules, seeds, stick, traffic, trust,
    trust_seeds,
};

/// All of them, in the order in which the loop takes them.
#[must_use]
pub fn targets() -> Vec<Target> {
    [
        MESSAGES,
        &traffic::TARGETS,
        &app::TARGETS,
        &outputs::TARGETS,
        &stick::TARGETS,
        &behaviour::TARGETS,
        &reputation::TARGETS,
        &rules::TARGETS,
    ]
    .concat()
}

/// Messages, files and evidence; those of packets stand with them.
const MESSAGES: &[Target] = &[
    frames("control-request", messages::<control::Request>, seeds::control_requests),
    frames("control-reply", messages::<control::Reply>, seeds::control_replies),
    frames("ledger-request", messages::<ledger::Request>, seeds::ledger_requests),
    frames("ledger-reply", messages::<ledger::Reply>, seeds::ledger_replies),
    frames("ledger-record", ledger_record, seeds::ledger_records),
    Target {
        name: "ledger-row",
        run: ledger_row,
        seeds: seeds::ledger_rows,
        repair: |_| {},
        dictionary: &[&[0x82], &[0x88, 1], &[0x58, 0x20], &[0x18, 1], &[0x9f], b"hp.witness.v1"],
    },
    frames("sensor-request", messages::<sensor::Request>, seeds::sensor_requests),
    frames("sensor-reply", messages::<sensor::Reply>, seeds::sensor_replies),
    frames("inspector-order", messages::<inspector::Order>, seeds::inspector_orders),
    frames("inspector-report", messages::<inspector::Report>, seeds::inspector_reports),
    frames("response-request", messages::<response::Request>, seeds::response_requests),
    frames("response-reply", messages::<response::Reply>, seeds::response_replies),
    text("site", site, seeds::sites, &[b"[node]", b"[[interface]]", b"\"dhcp\"", b" = ", b"/33"]),
    text("services", services, seeds::services, &[b"[[service]]", b"\"..\"", b" = ", b"uid"]),
    text(
        "event-log",
        event_log,
        seeds::event_logs,
        &[b"\x1e", b"{\"pcr\":13", b"sha512", b"\\u0000"],
    ),
    text("manifest", manifest, seeds::manifests, &[b"\"pcrs\":{", b"\"13\":", b"\"format\":1"]),
    text(
        "modules",
        modules,
        seeds::module_indexes,
        &[b"alias *", b"module a b c,d\n", b"[!a-z]", b"?"],
    ),
    Target {
        name: "uki",
        run: uki_sections,
        seeds: seeds::ukis,
        repair: |_| {},
        dictionary: &[b".linux\0\0", b"PE\0\0", b"MZ", &[0x0b, 0x02]],
    },
    Target {
        name: "capture",
        run: capture,
        seeds: seeds::captures,
        repair: repair_pcap,
        dictionary: &[
            &[0x08, 0x00, 0x45],
            &[0x86, 0xdd, 0x60],
            &[0x81, 0x00],
            &[0x88, 0xa8],
            &[6, 0, 0, 0],
            &[1, 0, 0, 0],
        ],
    },
    Target {
        name: "tpm",
        run: tpm,
        seeds: seeds::tpm_responses,
        repair: repair_tpm,
        dictionary: &[&[0x80, 0x01], &[0x80, 0x02], &[0, 0x0b, 3], &[0, 0, 0x09, 0x22]],
    },
    frames("attest-request", messages::<attest::Request>, trust_seeds::attest_requests),
    frames("attest-reply", messages::<attest::Reply>, trust_seeds::attest_replies),
    frames("attest-seed", trust::seed_reply, trust_seeds::seed_replies),
    plain("unlock-outcome", trust::unlock_outcome, trust_seeds::outcomes, CBOR),
    plain("tpms-attest", trust::tpms_attest, trust_seeds::attests, STRUCTURES),
    plain("tpmt-signature", trust::tpmt_signatures, trust_seeds::signatures, STRUCTURES),
    plain("tpmt-public", trust::tpmt_public, trust_seeds::publics, STRUCTURES),
    plain(
        "tcg-log",
        trust::tcg_log,
        trust_seeds::tcg_logs,
        &[b"Spec ID Event03\0", &[3, 0, 0, 0], &[13, 0, 0, 0], &[0x0b, 0], &[1, 0, 0, 0x80]],
    ),
    plain(
        "signed",
        trust::envelope,
        trust_seeds::envelopes,
        &[b"\"payloadType\":", b"\"sig\":\"", b"\"signatures\":[", b".", b"=="],
    ),
    plain(
        "ek-certificate",
        trust::ek_certificate,
        trust_seeds::certificates,
        &[&[0x30, 0x82], &[0x30, 0x80], &[0x06, 0x03], &[0x05, 0x00], &[0xa3, 0x82]],
    ),
    plain("evidence", trust::evidence, trust_seeds::evidence, CBOR),
    plain("qr-lines", trust::qr_lines, trust_seeds::qr_texts, &[b"HPQ1:", b":", b"\n", b"A2"]),
    plain("ledger-export", trust::ledger_export, trust_seeds::exports, CBOR),
    plain(
        "disk-image",
        trust::disk_image,
        trust_seeds::disks,
        &[b"EFI PART", &[0x55, 0xaa], &[0xff, 0x0f], b"BOOT       \x10"],
    ),
];

/// Heads of CBOR items.
const CBOR: &[&[u8]] =
    &[&[0x82], &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0], &[0x58, 0x20], &[0x9f], &[0xf6], &[0xff]];
/// Words of TPM structures.
const STRUCTURES: &[&[u8]] =
    &[b"\xffTCG\x80\x18", &[0, 0x0b], &[0, 0x18], &[0, 0x23], &[0, 0x10], &[0, 0x20], &[0, 3]];

const fn plain(
    name: &'static str,
    run: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target { name, run, seeds, repair: |_| {}, dictionary }
}

const fn frames(
    name: &'static str,
    run: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
) -> Target {
    Target {
        name,
        run,
        seeds,
        repair: repair_frame,
        // Heads of CBOR items: arrays, long strings, indefinite lengths, tags, null, break.
        dictionary: &[
            b"HP\x01\0",
            &[0x82],
            &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x5a, 0xff, 0xff, 0xff, 0xff],
            &[0x7f],
            &[0x9f],
            &[0xf6],
            &[0xff],
            &[0xc0],
        ],
    }
}

const fn text(
    name: &'static str,
    run: fn(&[u8]) -> Outcome,
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target { name, run, seeds, repair: |_| {}, dictionary }
}

/// The length of the first frame is what follows it.
fn repair_frame(input: &mut [u8]) {
    let Some(body) = input.len().checked_sub(HEADER_BYTES) else {
        return;
    };
    let header = [b"HP\x01\0".as_slice(), &(body as u32).to_le_bytes()].concat();
    input[..HEADER_BYTES].copy_from_slice(&header);
}

fn repair_tpm(input: &mut [u8]) {
    let size = (input.len() as u32).to_be_bytes();
    if let Some(slot) = input.get_mut(2..6) {
        slot.copy_from_slice(&size);
    }
}

/// Records of a little-endian pcap end inside the file.
fn repair_pcap(input: &mut [u8]) {
    let mut at = 24;
    while input.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) {
        let rest = input.len().saturating_sub(at + 16);
        let Some(slot) = input.get_mut(at + 8..at + 12) else {
            return;
        };
        let claimed = slot.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        slot.copy_from_slice(&(claimed.min(rest) as u32).to_le_bytes());
        at += 16 + claimed.min(rest);
    }
}

fn outcome<T: Debug, E: ToString>(result: &Result<T, E>) -> Outcome {
    match result {
        Ok(value) => Outcome::shape(&format!("{value:?}")),
        Err(error) => Outcome::of(&error.to_string()),
    }
}

/// Cuts a stream into messages; each of them survives being encoded and decoded again, and the
/// stream gives the same however it arrives.
fn messages<M>(bytes: &[u8]) -> Outcome
where
    M: Encode<()> + for<'b> Decode<'b, ()> + Debug + PartialEq,
{
    let drain = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = frame::Decoder::new();
        let mut out: Vec<M> = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk);
            loop {
                match decoder.next::<M>() {
                    Ok(Some(message)) => out.push(message),
                    Ok(None) => break,
                    Err(error) => return (out, Err(error)),
                }
            }
        }
        (out, Ok(()))
    };
    let whole = drain(&mut std::iter::once(bytes));
    assert_eq!(whole, drain(&mut bytes.chunks(7)), "chunking changes the messages");
    for message in &whole.0 {
        let again = frame::to_vec(message).map(|frame| {
            assert!(frame.len() >= HEADER_BYTES);
            frame::decode_body::<M>(&frame[HEADER_BYTES..])
        });
        // A message may be larger than its wire form only by a bug: what came in fits.
        assert_eq!(again.as_ref().map(Result::as_ref), Ok(Ok(message)), "not the same again");
    }
    match whole.1 {
        Ok(()) => outcome(&Ok::<_, String>(&whole.0)),
        Err(error) => outcome(&Err::<(), _>(error)),
    }
}

fn ledger_record(bytes: &[u8]) -> Outcome {
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let record = frame::decode_body::<ledger::Record>(body);
    if let Ok(record) = &record {
        let header = &record.block.header;
        let epoch = Epoch { number: header.epoch, node: header.node_identity, first: Seq(0) };
        // Nobody here has the key.
        assert!(verify(&[epoch], [record], None).is_err(), "a forged block verifies");
    }
    if let Ok(record) = &record
        && let Some(event) = record.event()
    {
        // The commitment holds, so these are the bytes that were committed to; another
        // encoding of the same event would be another block.
        assert_eq!(event.event_type(), record.block.header.event_type);
        assert_eq!(frame::decode_body(&event.to_cbor()), Ok(event.clone()));
        return Outcome::of(&format!("event {:?}", event.event_type()));
    }
    outcome(&record.map(|_| "no event"))
}

/// The rows of the ledger's tables and its witness, the kind in the first byte: what is accepted is
/// written back as the same bytes.
fn ledger_row(bytes: &[u8]) -> Outcome {
    let Some((kind, row)) = bytes.split_first() else {
        return Outcome::of("empty");
    };
    let written = match kind % seeds::ROW_KINDS {
        0 => rows::block(row).map(|block| rows::from_block(&block)),
        1 => rows::payload(row).map(|payload| rows::from_payload(&payload)),
        2 => rows::state(row).map(|state| {
            if let Ok(lane) = state.lane() {
                assert_eq!(lane.tip.next().0, state.length);
                assert_eq!(hookprobe_ledger::store::State::of(&lane), state);
            }
            rows::from_state(&state)
        }),
        3 => row.try_into().map_or_else(
            |_| Err(StoreError::Damaged("length".into())),
            |row| rows::epoch(1, row).map(|epoch| rows::from_epoch(&epoch).to_vec()),
        ),
        _ => {
            let seen = row.first_chunk().and_then(witness::from_slot);
            if let Some(seen) = seen {
                assert_eq!(
                    witness::to_slot(&seen).first_chunk().and_then(witness::from_slot),
                    Some(seen)
                );
            }
            return Outcome::of(if seen.is_some() { "witness" } else { "no witness" });
        }
    };
    if let Ok(written) = &written {
        assert_eq!(written, row, "kept in another encoding");
    }
    Outcome::of(&format!("{kind} {:?}", written.map(|_| ())))
}

fn site(bytes: &[u8]) -> Outcome {
    let site = Site::parse(bytes);
    if let Ok(site) = &site {
        assert_eq!(Site::parse(site.to_toml().as_bytes()).as_ref(), Ok(site));
        for interface in &site.interface {
            assert!(interface.addressing().is_ok());
        }
    }
    if let Err(error) = &site {
        let shown = error.to_string();
        assert!(shown.starts_with(error.code()), "{shown}");
        assert!(!shown.contains(['\n', '\x1b']), "{shown:?} moves the cursor");
    }
    outcome(&site)
}

fn services(bytes: &[u8]) -> Outcome {
    let Ok(list) = std::str::from_utf8(bytes) else {
        return Outcome::of("not text");
    };
    let list = ServiceList::parse(list);
    if let Ok(list) = &list {
        for (at, spec) in list.service.iter().enumerate() {
            assert!(spec.closure_files().all(|path| path.starts_with('/')));
            for other in list.service.iter().skip(at + 1) {
                assert_ne!(spec.canonical(), other.canonical());
            }
        }
    }
    outcome(&list)
}

fn event_log(bytes: &[u8]) -> Outcome {
    let events = log::parse(bytes);
    if let Ok(events) = &events {
        let written: Vec<u8> = events.iter().flat_map(log::to_record).collect();
        assert_eq!(log::parse(&written).as_ref(), Ok(events));
        assert_eq!(log::replay(events).iter().count() == 0, events.is_empty());
    }
    outcome(&events)
}

fn manifest(bytes: &[u8]) -> Outcome {
    let manifest = ReferenceManifest::parse(bytes);
    if let Ok(manifest) = &manifest {
        assert_eq!(ReferenceManifest::parse(&manifest.to_json()).as_ref(), Ok(manifest));
        for alg in HashAlg::ALL {
            let _ = manifest.pcr(alg, PcrIndex::SERVICES);
        }
        let measured = log::parse(&seeds::event_log()).unwrap_or_default();
        return match first_divergence(manifest, &measured) {
            Some(divergence) => Outcome::of(&divergence.to_string()),
            None => Outcome::of("no divergence"),
        };
    }
    outcome(&manifest)
}

fn modules(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Outcome::of("not text");
    };
    let index = Index::parse(text);
    if let Ok(index) = &index {
        let alias = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        for name in index.matching(alias).chain(index.always().iter().map(String::as_str)) {
            let order = index.load_order(name);
            let mut names: Vec<_> = order.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), order.len(), "a module is loaded twice");
        }
        // Both sides of a match are from outside.
        if let Some((pattern, text)) = text.split_once(' ') {
            let _ = hookprobe_init::modules::index::glob(pattern.as_bytes(), text.as_bytes());
        }
    }
    outcome(
        &index.map(|index| (vec![(); index.len().min(40)], vec![(); index.always().len().min(40)])),
    )
}

fn uki_sections(bytes: &[u8]) -> Outcome {
    let sections = uki::sections(bytes);
    if let Ok(sections) = &sections {
        assert!(sections.iter().all(|section| section.content.len() <= bytes.len()));
    }
    let _ = uki::predict_pcr11(bytes, &[HashAlg::Sha256]);
    // A stub whose headers overlap may compose to nonsense; the composer's input is our own stub.
    let _ = uki::compose(bytes, &[(".osrel", b"ID=x"), (".linux", bytes)]);
    outcome(&sections.map(|sections| vec![(); sections.len()]))
}

/// Answers everything with the same bytes.
struct Answer<'a>(&'a [u8]);

impl Transport for Answer<'_> {
    fn exchange(&mut self, _command: &[u8]) -> Result<Vec<u8>, TpmError> {
        Ok(self.0.to_vec())
    }

    fn pause_ms(&mut self, _ms: u64) {}
}

fn tpm(bytes: &[u8]) -> Outcome {
    let client = || Tpm::new(Answer(bytes));
    let (alg, pcr) = (HashAlg::Sha256, PcrIndex::SERVICES);
    let started = client().startup();
    let banks = client().banks();
    if let Ok(banks) = &banks {
        assert!(!banks.is_empty());
    }
    let identity = client().identity();
    if let Ok(identity) = &identity {
        for shown in [&identity.manufacturer, &identity.vendor] {
            assert_eq!(*shown, text::escape(shown, 200), "not safe to show");
        }
    }
    let extended = client().extend(pcr, &[alg.digest(&[b"x"])]);
    let read = client().read(alg, pcr);
    let text = format!("{started:?}{banks:?}{extended:?}{:?}{:?}", identity.err(), read.err());
    Outcome::of(&text)
}

/// The whole of `hookprobe-sensor replay`: capture, headers, flows, detectors, EVE lines.
fn capture(bytes: &[u8]) -> Outcome {
    let mut lines = Vec::new();
    let mut replay = Replay::new(&mut lines);
    let mut packets = 0u32;
    let read = replay::capture::read(bytes, |packet, _| {
        packets += 1;
        assert!(packet.data.len() <= bytes.len());
        replay.packet(packet);
    });
    replay.finish();
    drop(replay);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let whole = line.starts_with(b"{") && line.ends_with(b"}");
        let text = std::str::from_utf8(line).is_ok_and(|text| !text.contains(char::is_control));
        assert!(whole && text, "not one JSON object: {}", String::from_utf8_lossy(line));
    }
    let error = read.err().map(|error| error.to_string()).unwrap_or_default();
    let lines = lines.split(|byte| *byte == b'\n').count();
    let (packets, lines) = ("p".repeat(packets.min(20) as usize), "l".repeat(lines.min(20)));
    Outcome::of(&format!("{error} {packets} {lines}"))
}
