//! Three implementations of one thing on a real TPM 2.0 (libtpms): PID 1's encoder extends and
//! reads, tpm2-tss reads, `evidence` replays. In every active bank all three say the same.

mod support;

use hookprobe_evidence::{
    closure::ServiceList,
    digest::{Digest, HashAlg},
    log::{self, Event},
    manifest::{self, ReferenceManifest},
    pcr::PcrIndex,
};
use hookprobe_init::tpm::{Tpm, TpmError};
use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::{Context, PcrError};

const ALL_BANKS: &str = "sha1,sha256,sha384,sha512";
const SERVICES: &str = include_str!("../../../image/rootfs/services.toml");

/// Stands for the content of a file of the image.
fn content(path: &str) -> Vec<u8> {
    path.repeat(1000).into_bytes()
}

/// What PID 1 measures for the real `services.toml`, in its order.
fn boot_events(list: &ServiceList, banks: &[HashAlg]) -> Vec<Event> {
    let mut events = vec![Event {
        pcr: PcrIndex::SITE,
        digests: banks.iter().map(|bank| bank.digest(&[b"site"])).collect(),
        name: "site".into(),
        context: log::Context::default(),
    }];
    for spec in &list.service {
        for path in spec.closure_files() {
            events.push(manifest::event(&spec.file_event(path), &content(path), banks));
        }
        events.push(manifest::event(&spec.spec_event(), &spec.canonical(), banks));
    }
    events
}

#[test]
fn three_implementations_agree_in_every_bank() {
    let Some(swtpm) = Swtpm::start_fresh(ALL_BANKS) else {
        return;
    };
    let list = ServiceList::parse(SERVICES).unwrap();
    let indexes = [PcrIndex::SITE, PcrIndex::SERVICES];

    let mut init = Tpm::new(support::data_channel(&swtpm));
    init.startup().unwrap();
    init.startup().expect("a started TPM is fine");
    let banks = init.banks().unwrap();
    assert_eq!(banks, HashAlg::ALL);
    assert!(init.unknown_banks().is_empty());
    let identity = init.identity().unwrap();
    assert!(identity.is_software(), "{identity:?}");
    let before = init.commands();
    let events = boot_events(&list, &banks);
    for event in &events {
        init.extend(event.pcr, &event.digests).unwrap();
    }
    // One command per event, however many banks there are.
    assert_eq!(init.commands() - before, events.len() as u32);

    let written: Vec<u8> = events.iter().flat_map(log::to_record).collect();
    let replayed = log::replay(&log::parse(&written).unwrap());
    for (bank, index, expected) in replayed.iter() {
        assert_eq!(&init.read(bank, index).unwrap(), expected, "{bank} {index}");
    }
    drop(init);

    let mut tss = Context::open(&swtpm.tcti()).unwrap();
    assert_eq!(tss.active_banks().unwrap(), banks);
    let values = tss.pcr_read(&banks, &indexes).unwrap();
    assert_eq!(values.len(), banks.len() * indexes.len());
    for ((bank, index), value) in &values {
        assert_eq!(replayed.get(*bank, *index), Some(value), "{bank} {index}");
    }

    // What the composer would have predicted for this image is what the TPM now holds.
    let predicted = ReferenceManifest::predict("0", 1, &list, |path| Ok(content(path))).unwrap();
    for bank in banks {
        let value = &values[&(bank, PcrIndex::SERVICES)];
        assert_eq!(predicted.pcr(bank, PcrIndex::SERVICES).as_ref(), Some(value));
    }
}

#[test]
fn extends_by_both_sides_add_up() {
    let Some(swtpm) = Swtpm::start_fresh(ALL_BANKS) else {
        return;
    };
    let index = PcrIndex::SERVICES;
    let digests = |text: &str| HashAlg::ALL.map(|bank| bank.digest(&[text.as_bytes()]));
    let mut expected = HashAlg::ALL.map(Digest::zero);
    let mut expect = |text: &str| {
        for (value, digest) in expected.iter_mut().zip(digests(text)) {
            *value = hookprobe_evidence::pcr::extend(value, &digest);
        }
    };

    let mut init = Tpm::new(support::data_channel(&swtpm));
    init.startup().unwrap();
    init.extend(index, &digests("by init")).unwrap();
    expect("by init");
    drop(init);

    let mut tss = Context::open(&swtpm.tcti()).unwrap();
    tss.extend(index, &digests("by tpm2-tss")).unwrap();
    expect("by tpm2-tss");
    drop(tss);

    let mut init = Tpm::new(support::data_channel(&swtpm));
    for value in &expected {
        assert_eq!(&init.read(value.alg(), index).unwrap(), value);
    }
}

#[test]
fn inactive_banks_are_not_made_up() {
    let Some(swtpm) = Swtpm::start_fresh("sha256,sha384") else {
        return;
    };
    let index = PcrIndex::SERVICES;
    let mut init = Tpm::new(support::data_channel(&swtpm));
    init.startup().unwrap();
    assert_eq!(init.banks().unwrap(), [HashAlg::Sha256, HashAlg::Sha384]);
    assert_eq!(
        init.read(HashAlg::Sha1, index).unwrap_err(),
        TpmError::NotAllocated { alg: HashAlg::Sha1, pcr: index }
    );
    drop(init);

    let mut tss = Context::open(&swtpm.tcti()).unwrap();
    assert_eq!(tss.active_banks().unwrap(), [HashAlg::Sha256, HashAlg::Sha384]);
    let error = tss.pcr_read(&[HashAlg::Sha512], &[index]).unwrap_err();
    assert!(matches!(error, PcrError::Selection { .. }), "{error}");
    // More PCRs than fit into one response.
    let every: Vec<_> = (0..24).filter_map(PcrIndex::new).collect();
    let values = tss.pcr_read(&[HashAlg::Sha256], &every).unwrap();
    assert_eq!(values.len(), 24);
    // 17 to 22 are all ones until a dynamic launch.
    assert_eq!(values[&(HashAlg::Sha256, index)], Digest::zero(HashAlg::Sha256));
}

#[test]
fn names_that_are_no_tpm() {
    for (tcti, code) in [
        ("nonsense", "HP-TP-101"),
        ("swtpm:port=banana", "HP-TP-101"),
        ("swtpm:host=127.0.0.1,port=1", "HP-TP-102"),
        ("/nonexistent/tpm", "HP-TP-102"),
    ] {
        let error = Context::open(tcti).unwrap_err().to_string();
        assert!(error.starts_with(code), "{error}");
    }
}
