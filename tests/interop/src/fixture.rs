//! Event logs to give to other programs: those of a booted box when they are there, else made here
//! in the same shape.
//!
//! A box's logs are `bios.bin` and `measure.log`, with `evidence.cbor` from the same boot, in the
//! folder that `HOOKPROBE_EVIDENCE` names, else in `target/interop`.

use std::{fs, path::PathBuf};

use hookprobe_evidence::{
    bundle::Evidence,
    closure::ServiceList,
    digest::{Digest, HashAlg},
    log::{self, Context, Event},
    manifest,
    pcr::{PcrIndex, PcrSet},
    tcg,
};

const SERVICES: &str = include_str!("../../../image/rootfs/services.toml");
/// Names a folder with the logs of a booted box.
const VARIABLE: &str = "HOOKPROBE_EVIDENCE";
/// Banks of the logs made here.
pub const BANKS: [HashAlg; 2] = [HashAlg::Sha1, HashAlg::Sha256];

const EV_NO_ACTION: u32 = 3;
const EV_SEPARATOR: u32 = 4;
const EV_S_CRTM_VERSION: u32 = 8;
const EV_IPL: u32 = 13;

/// Logs of one boot.
#[derive(Debug)]
pub struct Fixture {
    /// Of a box, or made here.
    pub real: bool,
    /// Firmware's and the stub's log.
    pub firmware: Vec<u8>,
    /// PID 1's log, byte for byte as it wrote it.
    pub userspace: Vec<u8>,
    /// The events in it.
    pub ours: Vec<Event>,
    /// Both in one, as it leaves a box.
    pub merged: Vec<u8>,
    /// Values that the logs have to lead to: of the quote, or computed here.
    pub values: Vec<(PcrIndex, Digest)>,
}

/// Where a box's logs are, when there are any.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(crate::scratch, PathBuf::from)
}

/// A box's logs, or those made here.
#[must_use]
pub fn logs() -> Fixture {
    let folder = folder();
    let evidence = fs::read(folder.join("evidence.cbor"));
    let logs = (fs::read(folder.join("bios.bin")), fs::read(folder.join("measure.log")));
    if let (Ok(evidence), (Ok(firmware), Ok(userspace))) = (evidence, logs) {
        println!("logs of a booted box in {}", folder.display());
        let evidence = Evidence::parse(&evidence).unwrap();
        let values = evidence
            .pcrs
            .iter()
            .map(|claim| {
                let bank = HashAlg::from_tpm(claim.alg).unwrap();
                let index = PcrIndex::new(claim.index).unwrap();
                (index, Digest::new(bank, &claim.digest).unwrap())
            })
            .collect();
        let ours = log::parse(&userspace).unwrap();
        // The box's own merge when it is there: that is what a verifier gets.
        let merged = match evidence.logs {
            Some(logs) => logs.tcg.to_vec(),
            None => tcg::merge(&firmware, &ours, &BANKS),
        };
        return Fixture { real: true, firmware, userspace, ours, merged, values };
    }
    println!("no logs of a booted box in {}: logs made here", folder.display());
    synthetic()
}

fn synthetic() -> Fixture {
    let (firmware, before) = firmware();
    let ours = ours();
    let merged = tcg::merge(&firmware, &ours, &BANKS);
    let mut all = before;
    all.extend(ours.iter().cloned());
    let values = log::replay(&all).iter().map(|(_, index, value)| (index, value.clone())).collect();
    let userspace = ours.iter().flat_map(log::to_record).collect();
    Fixture { real: false, firmware, userspace, ours, merged, values }
}

fn event(pcr: PcrIndex, name: &str, measured: &[u8]) -> Event {
    let digests = BANKS.iter().map(|bank| bank.digest(&[measured])).collect();
    let context = Context { boot_id: "0123456789abcdef0123456789abcdef".into(), monotonic_us: 7 };
    Event { pcr, digests, name: name.into(), context }
}

/// What PID 1 measures for the real list of services, in its order.
fn ours() -> Vec<Event> {
    let mut out = Vec::new();
    for spec in &ServiceList::parse(SERVICES).unwrap().service {
        for path in spec.closure_files() {
            out.push(manifest::event(&spec.file_event(path), path.as_bytes(), &BANKS));
        }
        out.push(manifest::event(&spec.spec_event(), &spec.canonical(), &BANKS));
    }
    out.push(event(PcrIndex::STATE, "volume:6f0c3a52-5d3e-4c0e-9d6e-737461746530", &[7; 32]));
    out.push(event(PcrIndex::UKI, "phase:unlocked", b"phase:unlocked"));
    out.push(event(PcrIndex::SITE, "site:hookprobe.toml", b"[node]\nname = \"hp-lab\"\n"));
    out
}

/// A firmware's log: version, separators, and the sections that systemd-stub measures.
fn firmware() -> (Vec<u8>, Vec<Event>) {
    // Its header is that of an empty log.
    let mut out = tcg::merge(&[], &[], &BANKS);
    let mut events = Vec::new();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut put = |pcr: u8, kind: u32, measured: &[u8], data: &[u8]| {
        let index = PcrIndex::new(pcr).unwrap();
        out.extend([u32::from(pcr), kind, BANKS.len() as u32].map(u32::to_le_bytes).concat());
        let event = event(index, "firmware", measured);
        for digest in &event.digests {
            out.extend((digest.alg() as u16).to_le_bytes());
            out.extend(digest.as_bytes());
        }
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        if kind != EV_NO_ACTION {
            events.push(event);
        }
    };
    put(0, EV_S_CRTM_VERSION, &wide("1.0\0"), &wide("1.0\0"));
    for pcr in 0..8 {
        put(pcr, EV_SEPARATOR, &[0; 4], &[0; 4]);
    }
    for section in [".linux", ".osrel", ".cmdline", ".initrd"] {
        // The name with its NUL, then the content, which is no text.
        put(11, EV_IPL, format!("{section}\0").as_bytes(), &wide(&format!("{section}\0")));
        put(11, EV_IPL, section.repeat(100).as_bytes(), &wide(&format!("{section}\0")));
    }
    (out, events)
}

/// All values as replayed from a log of events.
#[must_use]
pub fn set(values: &[(PcrIndex, Digest)], bank: HashAlg) -> Vec<(u8, String)> {
    let mut out: Vec<_> = values
        .iter()
        .filter(|(_, value)| value.alg() == bank)
        .map(|(index, value)| (index.get(), value.hex()))
        .collect();
    out.sort();
    out
}

/// Replays events of PID 1 alone.
#[must_use]
pub fn replay(events: &[Event]) -> PcrSet {
    log::replay(events)
}
