use proptest::prelude::*;

use super::*;
use crate::{
    levels::Level,
    loader, log, manifest,
    policy::PHASE_EVENT,
    quote::{ClockInfo, KeyName},
    sample::{self, Firmware, Sample, fixture},
    signed, site,
};

mod reload;

/// Appraises what `change` makes of an intact box, against the intact box's reference.
fn changed(change: impl FnOnce(&mut Sample)) -> Appraisal {
    let mut sample = Sample::new();
    let reference = sample.reference();
    change(&mut sample);
    appraise(&sample.evidence(), &reference, Sample::NOW_S)
}

/// The same with what `change` makes of the reference.
fn against(change: impl FnOnce(&mut Reference)) -> Appraisal {
    let sample = Sample::new();
    let mut reference = sample.reference();
    change(&mut reference);
    appraise(&sample.evidence(), &reference, Sample::NOW_S)
}

#[track_caller]
fn refused(result: &Appraisal, code: &str) {
    assert_eq!(result.status, Status::Contraindicated, "{:?}", result.findings);
    assert_eq!(result.worst().unwrap().code, code, "{:?}", result.findings);
    assert_eq!(result.memory, None);
    for finding in &result.findings {
        assert!(!finding.object.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
    }
}

#[track_caller]
fn warned(result: &Appraisal, code: &str) {
    assert_eq!(result.status, Status::Warning, "{:?}", result.findings);
    assert_eq!(result.worst().unwrap().code, code, "{:?}", result.findings);
}

#[test]
fn an_intact_box_is_affirmed() {
    let sample = Sample::new();
    let result = against(|_| ());
    assert_eq!(result.findings, []);
    assert_eq!((result.status, result.level), (Status::Affirming, Level::L3));
    assert_eq!(result.secure_boot, Some(true));
    assert_eq!(result.image, Some(("0.2.0".into(), 2)));
    assert_eq!(result.node, Some(vec![7; 32]));
    assert_eq!(result.expires_s, Sample::NOW_S + VALIDITY_S);
    for banks in [&HashAlg::ALL[..], &[HashAlg::Sha384], &[HashAlg::Sha512, HashAlg::Sha1]] {
        let result = changed(|sample| sample.banks = banks.to_vec());
        assert_eq!((result.status, result.findings), (Status::Affirming, vec![]), "{banks:?}");
    }
    // Remembered, the same box a boot later is at the highest level.
    let mut later = sample.clone();
    later.clock.reset_count += 1;
    later.clock.clock_ms += 1;
    later.binding.epoch += 1;
    later.binding.length = 1;
    later.epoch.as_mut().unwrap().epoch += 1;
    let reference = Reference { memory: result.memory, ..sample.reference() };
    let result = appraise(&later.evidence(), &reference, Sample::NOW_S);
    assert_eq!((result.status, result.level), (Status::Affirming, Level::L4));
}

#[test]
fn a_changed_service_is_named() {
    let result = changed(|sample| {
        let name = sample.events[2].name.clone();
        sample.events[2] = manifest::event(&name, b"another", &HashAlg::ALL);
    });
    refused(&result, "HP-MB-004");
    let divergence = result.divergence.unwrap();
    assert!(
        divergence
            .starts_with("HP-MB-004 service:sensor file:/usr/lib/hookprobe/hookprobe-sensor: "),
        "{divergence}"
    );
    let gone = changed(|sample| drop(sample.events.remove(2)));
    refused(&gone, "HP-MB-005");
    let violation = changed(|sample| {
        sample.events.push(sample::event(PcrIndex::SERVICES, "violation:x", b"x"));
    });
    refused(&violation, "HP-MB-005");
    assert!(violation.divergence.unwrap().contains("violation:x"));
}

#[test]
fn a_changed_boot_blob_is_named_by_its_section() {
    let change = |sample: &mut Sample| {
        let content = b"content of .initrd";
        let event = sample.firmware.iter_mut().find(|event| event.measured == content).unwrap();
        event.measured = b"another".to_vec();
    };
    let result = changed(change);
    refused(&result, "HP-MB-055");
    assert!(result.divergence.unwrap().starts_with("HP-MB-055 uki:.initrd: "));
    // A manifest without events still has the value.
    let result = changed(|sample| {
        change(sample);
        sample.manifest.boot.clear();
    });
    refused(&result, "HP-MB-056");
    // Before the end of the phase, and with the phase ended twice.
    let early = changed(|sample| sample.events.retain(|event| event.name != PHASE_EVENT));
    refused(&early, "HP-MB-055");
    let twice = changed(|sample| {
        sample.events.push(crate::release::phase_event(&HashAlg::ALL));
    });
    refused(&twice, "HP-MB-055");
}

/// Puts events into PCR 4 where the firmware measures a boot option that comes before the blob.
fn before_the_blob(sample: &mut Sample, measured: &[&[u8]]) {
    let at = sample.firmware.iter().position(|event| event.measured == b"the boot blob").unwrap();
    let events = measured.iter().map(|measured| Firmware {
        pcr: 4,
        kind: 0x8000_0007,
        measured: measured.to_vec(),
        data: measured.to_vec(),
    });
    drop(sample.firmware.splice(at..at, events));
}

#[test]
fn a_boot_option_that_failed_is_told_and_one_that_ran_refused() {
    let failed: [&[u8]; 2] = [loader::RETURNING, loader::CALLING];
    for count in 1..=loader::FAILED_MAX {
        let result = changed(|sample| {
            sample.banks = vec![HashAlg::Sha256, HashAlg::Sha384];
            before_the_blob(sample, &failed.repeat(count));
        });
        assert_eq!(result.status, Status::Affirming, "{:?}", result.findings);
        let finding = result.findings[0].to_string();
        assert!(finding.starts_with(&format!("HP-MB-069 firmware: {count} boot options")));
        let of_4 = result.registers.iter().filter(|register| register.pcr == PcrIndex::LOADER);
        assert!(of_4.clone().all(|r| r.expected.as_ref() == Some(&r.value)) && of_4.count() == 2);
    }
    let many = changed(|sample| before_the_blob(sample, &failed.repeat(loader::FAILED_MAX + 1)));
    refused(&many, "HP-MB-056");
    // Something ran, came back, and the blob ran after it.
    let ran: [&[u8]; 3] = [b"another system", failed[0], failed[1]];
    let other = changed(|sample| before_the_blob(sample, &ran));
    refused(&other, "HP-MB-068");
    assert!(other.divergence.unwrap().contains("(efi-action, sha256:"));
    // Whatever the log calls it: a digest is known or is not.
    let twice = changed(|sample| before_the_blob(sample, &[b"the boot blob"]));
    refused(&twice, "HP-MB-056");
    let none = changed(|sample| sample.firmware.retain(|event| event.measured != b"the kernel"));
    refused(&none, "HP-MB-056");
    // A manifest with the value alone accepts that alone.
    let value_only = changed(|sample| {
        sample.manifest.loader.clear();
        before_the_blob(sample, &failed);
    });
    refused(&value_only, "HP-MB-056");
    assert_eq!(changed(|sample| sample.manifest.loader.clear()).status, Status::Affirming);
}

#[test]
fn what_the_log_hides_is_seen() {
    let check = |code: &str, change: fn(&mut Evidence)| {
        let sample = Sample::new();
        let mut evidence = sample.evidence();
        change(&mut evidence);
        refused(&appraise(&evidence, &sample.reference(), Sample::NOW_S), code);
    };
    // A log that tells of another box than the registers do.
    check("HP-MB-052", |evidence| {
        let mut sample = Sample::new();
        sample.events.remove(0);
        evidence.logs.as_mut().unwrap().tcg = sample.tcg_log().into();
    });
    check("HP-MB-053", |evidence| {
        let mut sample = Sample::new();
        sample.firmware.retain(|event| event.pcr != 7);
        evidence.logs.as_mut().unwrap().tcg = sample.tcg_log().into();
    });
    check("HP-MB-050", |evidence| evidence.logs.as_mut().unwrap().tcg = vec![1].into());
    check("HP-MB-022", |evidence| evidence.logs.as_mut().unwrap().userspace = vec![0x1e].into());
    check("HP-MB-054", |evidence| {
        let other = log::to_record(&sample::event(PcrIndex::SITE, SITE_EVENT, b"other"));
        evidence.logs.as_mut().unwrap().userspace = other.into();
    });
    check("HP-MB-054", |evidence| {
        let mut sample = Sample::new();
        sample.events[0].name = "service:innocent".into();
        let log: Vec<u8> = sample.events.iter().flat_map(log::to_record).collect();
        evidence.logs.as_mut().unwrap().userspace = log.into();
    });
    // PID 1's log without its begin, and without anything.
    check("HP-MB-066", |evidence| {
        let events = Sample::new().events;
        let log: Vec<u8> = events.iter().skip(1).flat_map(log::to_record).collect();
        evidence.logs.as_mut().unwrap().userspace = log.into();
    });
    check("HP-MB-066", |evidence| evidence.logs.as_mut().unwrap().userspace = vec![].into());
    // Registers beside the quote.
    check("HP-QV-040", |evidence| evidence.pcrs[3].digest[0] ^= 1);
    check("HP-QV-040", |evidence| drop(evidence.pcrs.pop()));
    check("HP-QV-040", |evidence| evidence.pcrs.push(evidence.pcrs[0].clone()));
    check("HP-QV-040", |evidence| evidence.pcrs[0].alg = 4);
    check("HP-QV-040", |evidence| evidence.pcrs[0].index = 23);
}

#[test]
fn quotes_over_too_little_are_refused() {
    refused(&changed(|sample| sample.banks = vec![HashAlg::Sha1]), "HP-QV-041");
    for pcr in [0, 4, 7, 11, 12, 13, 15] {
        let result = changed(|sample| sample.quoted.retain(|index| *index != pcr));
        let codes: Vec<&str> = result.findings.iter().map(|f| f.code.as_str()).collect();
        assert_eq!(result.status, Status::Contraindicated);
        assert!(codes.contains(&"HP-QV-041"), "{codes:?}");
    }
}

#[test]
fn another_challenge_session_or_key_is_refused() {
    refused(&against(|reference| reference.nonce = Some(vec![1; 32])), "HP-QV-045");
    refused(&against(|reference| reference.exporter = Some(vec![1; 32])), "HP-QV-046");
    let other = KeyName::new(vec![0; 34]);
    refused(&against(|reference| reference.ak_name = Some(other)), "HP-QV-047");
    let check = |code: &str, change: fn(&mut Evidence)| {
        let sample = Sample::new();
        let mut evidence = sample.evidence();
        change(&mut evidence);
        let result = appraise(&evidence, &sample.reference(), Sample::NOW_S);
        refused(&result, code);
        assert_eq!((result.level, result.ak_name), (Level::L0, None));
    };
    check("HP-QV-004", |evidence| evidence.binding.length += 1);
    check("HP-QV-004", |evidence| evidence.binding.node = None);
    check("HP-QV-003", |evidence| evidence.quote.attest[30] ^= 1);
    check("HP-QV-003", |evidence| {
        let mut other = Sample::new();
        other.ak = p256::ecdsa::SigningKey::from_slice(&[99; 32]).unwrap();
        evidence.ak_public = other.ak_public().into();
    });
    check("HP-QV-002", |evidence| evidence.ak_public[5] ^= 1);
    check("HP-QV-001", |evidence| evidence.ak_public.truncate(9));
    // Without a challenge of its own a verifier is told that this may be old.
    let result = against(|reference| reference.nonce = None);
    assert_eq!((result.status, &*result.findings[0].code), (Status::Affirming, "HP-QV-050"));
}

#[test]
fn manifests_are_the_verifiers_business() {
    let other = p256::ecdsa::SigningKey::from_slice(&[98; 32]).unwrap();
    refused(&changed(|sample| sample.release = other), "HP-QV-031");
    refused(&against(|reference| reference.release_keys.clear()), "HP-QV-055");
    refused(&against(|reference| reference.generation_min = 3), "HP-QV-043");
    refused(&against(|reference| reference.version_min = Some("0.2.1".into())), "HP-QV-044");
    for fine in ["0.2.0", "0.1.9", "0.2"] {
        let result = against(|reference| reference.version_min = Some(fine.into()));
        assert_eq!(result.status, Status::Affirming);
    }
    let sample = Sample::new();
    let mut evidence = sample.evidence();
    evidence.manifest = None;
    warned(&appraise(&evidence, &sample.reference(), Sample::NOW_S), "HP-QV-042");
    // One that the verifier trusts by itself needs no key.
    let own = Reference {
        manifest: Some(sample.manifest.clone()),
        release_keys: Vec::new(),
        ..sample.reference()
    };
    assert_eq!(appraise(&evidence, &own, Sample::NOW_S).status, Status::Affirming);
    let mut other = own;
    other.manifest.as_mut().unwrap().pcrs.clear();
    refused(&appraise(&evidence, &other, Sample::NOW_S), "HP-MB-056");
}

#[test]
fn the_site_register_holds_one_event() {
    let result = changed(|sample| {
        sample.firmware.push(Firmware {
            pcr: 12,
            kind: 0x0d,
            measured: b"init=/bin/sh".to_vec(),
            data: b"init=/bin/sh".to_vec(),
        });
    });
    refused(&result, "HP-MB-057");
    assert!(result.findings[0].to_string().contains("HP-MB-057 init=/bin/sh: "));
    // Under the name of the site configuration.
    let twice = changed(|sample| {
        sample.firmware.push(Firmware {
            pcr: 12,
            kind: 0x0d,
            measured: b"init=/bin/sh".to_vec(),
            data: SITE_EVENT.into(),
        });
    });
    refused(&twice, "HP-MB-057");
    let none = changed(|sample| sample.events.retain(|event| event.name != SITE_EVENT));
    refused(&none, "HP-MB-058");
    refused(&against(|reference| reference.site = Some(Site::Bytes(vec![]))), "HP-MB-059");
    let digest = |bank: HashAlg| {
        Some(Site::Digest(bank.digest(&[&site::measured(&Sample::new().site, &[])])))
    };
    assert_eq!(against(|r| r.site = digest(HashAlg::Sha256)).status, Status::Affirming);
    refused(&against(|r| r.site = digest(HashAlg::Sha384)), "HP-MB-059");
    let unknown = against(|reference| reference.site = None);
    assert_eq!(unknown.claims.configuration, Claim::CONFIGURATION_PLAUSIBLE);
    assert_eq!(unknown.findings[0].code, "HP-MB-067");
}

#[test]
fn the_state_register_holds_one_volume() {
    let volumes = |sample: &mut Sample| {
        sample.events.retain(|event| event.pcr != PcrIndex::STATE);
    };
    warned(&changed(volumes), "HP-MB-062");
    let two =
        changed(|sample| sample.events.push(sample::event(PcrIndex::STATE, "volume:2", b"2")));
    refused(&two, "HP-MB-063");
    let other = changed(|sample| {
        volumes(sample);
        sample.events.push(sample::event(PcrIndex::STATE, "x", b"2"));
    });
    refused(&other, "HP-MB-063");
}

/// An event that extended nothing must not lend its name to a register that holds nothing.
#[test]
fn a_volume_or_a_site_that_only_the_log_has_is_refused() {
    for (pcr, name) in [(PcrIndex::STATE, "volume:1"), (PcrIndex::SITE, SITE_EVENT)] {
        let mut sample = Sample::new();
        let reference = Reference { site: None, ..sample.reference() };
        sample.events.retain(|event| event.pcr != pcr);
        let mut hollow = sample::event(pcr, name, b"");
        hollow.digests.retain(|digest| digest.alg() == HashAlg::Sha512);
        let mut evidence = sample.evidence();
        sample.events.push(hollow.clone());
        let logs = evidence.logs.as_mut().unwrap();
        logs.tcg = sample.tcg_log().into();
        logs.userspace.extend(log::to_record(&hollow));
        refused(&appraise(&evidence, &reference, Sample::NOW_S), "HP-MB-065");
        // In one of two banks it is no better.
        hollow.digests.push(HashAlg::Sha256.digest(&[b"x"]));
        *sample.events.last_mut().unwrap() = hollow;
        sample.banks = vec![HashAlg::Sha256, HashAlg::Sha384];
        refused(&appraise(&sample.evidence(), &reference, Sample::NOW_S), "HP-MB-065");
    }
}

/// All that a key's public area and its quote say of the key, its owner can say of any key.
#[test]
fn a_key_that_nobody_enrolled_is_no_known_box() {
    let unknown = against(|reference| reference.ak_name = None);
    warned(&unknown, "HP-QV-056");
    assert_eq!((unknown.level, unknown.claims.hardware), (Level::L2, Claim::default()));
    let enrolling = |reference: &mut Reference| {
        reference.ak_name = None;
        reference.first_contact = true;
    };
    let first = against(enrolling);
    assert_eq!((first.status, &*first.findings[0].code), (Status::Affirming, "HP-QV-056"));
    assert_eq!((first.level, first.claims.instance_identity), (Level::L2, Claim::default()));
    // Seen twice is not enrolled either.
    let again = against(|reference| {
        reference.ak_name = None;
        reference.memory = first.memory;
    });
    warned(&again, "HP-QV-056");
    assert_eq!(again.level, Level::L2);
}

#[test]
fn an_older_generation_than_before_is_told_each_time() {
    let mut sample = Sample::new();
    let mut memory = against(|_| ()).memory;
    sample.manifest.generation = 1;
    for _ in 0..2 {
        let reference = Reference { memory, ..sample.reference() };
        let result = appraise(&sample.evidence(), &reference, Sample::NOW_S);
        warned(&result, "HP-QV-049");
        assert!(result.findings[0].cause.starts_with("the image's generation went from 2"));
        memory = result.memory;
    }
}

#[test]
fn short_evidence_is_worth_what_earlier_evidence_explained() {
    let sample = Sample::new();
    let reference = |memory: Option<Memory>| Reference {
        manifest: Some(sample.manifest.clone()),
        ek_roots: None,
        site: None,
        memory,
        ..sample.reference()
    };
    let now = Sample::NOW_S;
    warned(&appraise(&sample.short(), &reference(None), now), "HP-MB-060");
    let memory = appraise(&sample.evidence(), &reference(None), now).memory;
    let result = appraise(&sample.short(), &reference(memory.clone()), now);
    assert_eq!((result.status, result.level), (Status::Affirming, Level::L2));
    let mut edited = sample.clone();
    let site = edited.events.iter_mut().find(|event| event.name == SITE_EVENT).unwrap();
    *site = sample::event(PcrIndex::SITE, SITE_EVENT, b"edited");
    warned(&appraise(&edited.short(), &reference(memory), now), "HP-MB-061");
    // Without any manifest nothing says what should run.
    let result = appraise(&sample.short(), &sample.reference(), now);
    assert_eq!(result.status, Status::Warning);
}

#[test]
fn the_epoch_is_certified_by_the_same_boot() {
    let check = |code: &str, change: fn(&mut Sample)| refused(&changed(change), code);
    check("HP-QV-048", |sample| sample.boot_id = "f".repeat(32));
    check("HP-QV-048", |sample| sample.epoch.as_mut().unwrap().epoch += 1);
    check("HP-QV-048", |sample| sample.epoch.as_mut().unwrap().node = None);
    check("HP-QV-048", |sample| sample.binding.node = Some(vec![1; 32].into()));
    warned(&changed(|sample| sample.epoch = None), "HP-QV-048");
    let sample = Sample::new();
    let mut earlier = sample.clone();
    earlier.clock.reset_count -= 1;
    let mut evidence = sample.evidence();
    evidence.epoch = earlier.evidence().epoch;
    refused(&appraise(&evidence, &sample.reference(), Sample::NOW_S), "HP-QV-048");
    let mut other = sample.clone();
    other.ak = p256::ecdsa::SigningKey::from_slice(&[97; 32]).unwrap();
    evidence.epoch = other.evidence().epoch;
    refused(&appraise(&evidence, &sample.reference(), Sample::NOW_S), "HP-QV-003");
}

#[test]
fn two_boots_with_one_epoch_are_a_restored_box() {
    let memory = against(|_| ()).memory.unwrap();
    assert!(memory.boot_id.is_some());
    let mut sample = Sample::new();
    sample.boot_id = "f".repeat(32);
    sample.epoch.as_mut().unwrap().nonce = crate::bundle::boot_nonce(&sample.boot_id).into();
    // Later in every counter: as if the copy had caught up before it was looked at.
    sample.clock.clock_ms += 1_000_000;
    let look = |memory: Memory| {
        let reference = Reference { memory: Some(memory), ..sample.reference() };
        appraise(&sample.evidence(), &reference, Sample::NOW_S)
    };
    let result = look(memory.clone());
    refused(&result, "HP-QV-049");
    assert!(result.findings[0].cause.starts_with("the boot of one epoch"), "{result:?}");
    // What an older version remembered says nothing of boots.
    let result = look(Memory { boot_id: None, ..memory });
    assert_eq!(result.status, Status::Affirming, "{:?}", result.findings);
}

#[test]
fn a_restored_box_is_found() {
    let memory = against(|_| ()).memory;
    let check = |expect: Option<&str>, change: fn(&mut Sample)| {
        let mut sample = Sample::new();
        change(&mut sample);
        let reference = Reference { memory: memory.clone(), ..sample.reference() };
        let result = appraise(&sample.evidence(), &reference, Sample::NOW_S);
        match expect {
            Some(what) => {
                refused(&result, "HP-QV-049");
                assert!(result.findings[0].cause.starts_with(what), "{:?}", result.findings);
            }
            None => assert_eq!(result.status, Status::Affirming, "{:?}", result.findings),
        }
    };
    check(None, |_| ());
    check(None, |sample| sample.binding.length += 1);
    check(Some("the TPM's reset counter"), |sample| sample.clock.reset_count -= 1);
    check(Some("the TPM's restart counter"), |sample| sample.clock.restart_count -= 1);
    check(Some("the TPM's clock"), |sample| sample.clock.clock_ms -= 1);
    check(Some("the boot counter"), |sample| {
        sample.binding.epoch -= 1;
        sample.epoch.as_mut().unwrap().epoch -= 1;
    });
    check(Some("the ledger went"), |sample| sample.binding.length -= 1);
    check(Some("the ledger's head"), |sample| sample.binding.head = Some(vec![1; 32].into()));
    // After a power cut the clock may have lost what was not written, not more.
    check(None, |sample| {
        sample.clock = ClockInfo { clock_ms: 1, reset_count: 21, restart_count: 0, safe: false };
    });
    check(Some("the TPM's clock"), |sample| {
        sample.clock = ClockInfo { clock_ms: 1, reset_count: 21, restart_count: 0, safe: true };
    });
}

#[test]
fn firmware_is_the_one_of_the_enrolment_until_the_next() {
    let first = against(|_| ()).memory;
    let looked = |memory: &Option<Memory>, change: fn(&mut Sample)| {
        let mut sample = Sample::new();
        change(&mut sample);
        let reference = Reference { memory: memory.clone(), ..sample.reference() };
        appraise(&sample.evidence(), &reference, Sample::NOW_S)
    };
    let updated = |sample: &mut Sample| sample.firmware[0].measured = b"firmware 1.3".to_vec();
    assert_eq!(looked(&first, |_| ()).findings, []);
    let mut memory = first.clone();
    for _ in 0..2 {
        let result = looked(&memory, updated);
        warned(&result, "HP-MB-070");
        assert!(result.findings[0].cause.starts_with("PCR 0 ("), "{:?}", result.findings);
        memory = result.memory;
    }
    assert_eq!(memory.as_ref().unwrap().firmware, first.as_ref().unwrap().firmware);
    assert_eq!(looked(&None, updated).status, Status::Affirming);
    // Settings change with what is plugged in: told, and no claim.
    let settings = looked(&first, |sample| {
        let mut event = sample.firmware[0].clone();
        event.pcr = 1;
        sample.firmware.push(event);
    });
    assert_eq!((settings.status, &*settings.findings[0].code), (Status::Affirming, "HP-MB-071"));
    // Of another key nothing is known, unless the verifier says it itself.
    let pins = first.as_ref().unwrap().firmware.clone();
    let mut other = first;
    other.as_mut().unwrap().ak_name = "000b".into();
    let codes = |result: Appraisal| -> Vec<String> {
        result.findings.into_iter().map(|finding| finding.code).collect()
    };
    assert!(!codes(looked(&other, updated)).contains(&"HP-MB-070".into()));
    let mut sample = Sample::new();
    let reference = Reference { firmware: Some(pins), ..sample.reference() };
    updated(&mut sample);
    assert_eq!(codes(appraise(&sample.evidence(), &reference, Sample::NOW_S)), ["HP-MB-070"]);
}

#[test]
fn levels_follow_the_endorsement_key() {
    let level = |change: fn(&mut Sample), roots: Option<&str>| {
        let mut sample = Sample::new();
        change(&mut sample);
        let ek_roots = roots.map(|roots| vec![fixture("rsa.root"), fixture(roots)]);
        let reference = Reference { ek_roots, ..sample.reference() };
        appraise(&sample.evidence(), &reference, Sample::NOW_S)
    };
    let keep = |_: &mut Sample| ();
    assert_eq!(level(keep, Some("p384.root")).level, Level::L3);
    assert_eq!(
        level(|s| s.certificate = Some(fixture("p256.ek")), Some("p256.root")).level,
        Level::L3
    );
    assert_eq!(
        level(|s| s.certificate = Some(fixture("rsa.ek")), Some("rsa.root")).level,
        Level::L3
    );
    // Nobody asked for a maker: nothing is claimed, and nothing is gained.
    let unasked = level(keep, None);
    assert_eq!((unasked.status, unasked.level), (Status::Affirming, Level::L2));
    assert_eq!(unasked.claims.hardware, Claim::default());
    let untrusted = level(keep, Some("p256.root"));
    refused(&untrusted, "HP-QV-051");
    assert_eq!(untrusted.level, Level::L2);
    warned(&level(|s| s.certificate = None, Some("p384.root")), "HP-QV-051");
    refused(&level(|s| s.certificate = Some(fixture("rsa.tls")), Some("rsa.root")), "HP-QV-051");
    refused(&level(|s| s.certificate = Some(fixture("p384.root")), Some("p384.root")), "HP-QV-052");
    // A software TPM stays one, whoever signed for it.
    let software =
        level(|s| s.certificate = Some(fixture("ek_certificate")), Some("issuer_certificate"));
    assert_eq!((software.status, software.level), (Status::Affirming, Level::T));
    assert_eq!(software.worst().unwrap().code, "HP-QV-054");
    let by_firmware = level(|s| s.firmware_version = 0x2019_1023_0016_3636, Some("p384.root"));
    assert_eq!(by_firmware.level, Level::T);
    // Too late for the certificate, and an endorsement key of another box.
    let sample = Sample::new();
    let late = appraise(&sample.evidence(), &sample.reference(), 9_000_000_000);
    refused(&late, "HP-QV-051");
    let mut evidence = sample.evidence();
    evidence.ek.as_mut().unwrap().public[100] ^= 2;
    refused(&appraise(&evidence, &sample.reference(), Sample::NOW_S), "HP-QV-053");
}

#[test]
fn secure_boot_is_reported() {
    let off = changed(|sample| {
        let event = &mut sample.firmware[1];
        *event.measured.last_mut().unwrap() = 0;
        event.data = event.measured.clone();
    });
    assert_eq!((off.status, off.secure_boot), (Status::Affirming, Some(false)));
    assert_eq!(off.findings[0].code, "HP-MB-064");
}

/// Who runs after the firmware can extend every register with the digest of "on", and edit what the
/// log says of the true variable in front of it.
#[test]
fn secure_boot_is_what_the_firmware_measured_first() {
    for pcr in [7, 5, 14] {
        let off = changed(|sample| {
            let on = sample.firmware[1].clone();
            let event = &mut sample.firmware[1];
            *event.measured.last_mut().unwrap() = 0;
            event.kind = 0x8000_0007;
            sample.firmware.push(Firmware { pcr, ..on });
            sample.quoted = vec![0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15];
        });
        assert_eq!((off.status, off.secure_boot), (Status::Affirming, None));
        assert_eq!(off.findings[0].code, "HP-MB-064");
    }
}

#[test]
fn the_result_is_a_signed_claims_set() {
    use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
    let key = SigningKey::from_slice(&[3; 32]).unwrap();
    let result = against(|_| ());
    let jws = result.sign("verifier-1", |bytes| {
        let signature: Signature = key.sign(bytes);
        signature.to_bytes().into()
    });
    let claims = signed::open_result(&jws, key.verifying_key()).unwrap();
    assert_eq!(claims, result.to_json());
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["eat_profile"], PROFILE);
    assert_eq!(claims["exp"], Sample::NOW_S + 300);
    let appraised = &claims["submods"]["hookprobe"];
    assert_eq!(appraised["ear.status"], "affirming");
    assert_eq!(appraised["hookprobe.level"], "L3");
    let vector = serde_json::json!({
        "instance-identity": 2, "configuration": 2, "executables": 2,
        "file-system": 2, "hardware": 2, "storage-opaque": 2,
    });
    assert_eq!(appraised["ear.trustworthiness-vector"], vector);
    assert_eq!(appraised["hookprobe.registers"]["sha256"]["15"].as_str().unwrap().len(), 64);
}

#[test]
fn versions_are_compared_number_by_number() {
    assert!(numbers("0.10.0") > numbers("0.9.9"));
    assert!(numbers("1.0.0-rc1") >= numbers("1.0"));
    assert_eq!(numbers("x"), Vec::<u64>::new());
}

/// The one thing that must not happen.
#[test]
fn a_mutated_bundle_is_never_affirmed_as_something_else() {
    let sample = Sample::new();
    let (bytes, reference) = (sample.evidence().to_bytes(), sample.reference());
    let good = appraise(&sample.evidence(), &reference, Sample::NOW_S);
    let config = ProptestConfig::with_cases(300);
    proptest!(config, |(at in any::<prop::sample::Index>(), byte in any::<u8>())| {
        let mut mutated = bytes.clone();
        let at = at.index(mutated.len());
        mutated[at] = byte;
        if let Ok(evidence) = Evidence::parse(&mutated) {
            let result = appraise(&evidence, &reference, Sample::NOW_S);
            if result.status == Status::Affirming {
                let (got, expect) = (&result.registers, &good.registers);
                prop_assert_eq!(got, expect);
                prop_assert_eq!(&result.ledger, &good.ledger);
                prop_assert_eq!(&result.image, &good.image);
            }
        }
    });
}
