//! Identity, seed and quotes on a TPM in memory, and what becomes of them when something fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in a test's helpers is a failed test"
)]

mod support;

use hookprobe_attest::{
    core::{Core, Effect, Input, Now},
    identity::{IDENTITY_BYTES_MAX, Identity},
    job::{Condition, Done, Enrolled, Job, Started, Ticket, Want},
};
use hookprobe_evidence::{
    appraise::{Reference, Status, appraise},
    bundle::Evidence,
    pcr::PcrIndex,
};
use hookprobe_tpm::{fake::Fake, trust::Secret};
use hookprobe_wire::{
    attest::{KeyOrigin, Verdict},
    event::BINDING_BYTES_MAX,
};
use support::{Lab, quote};

fn enrolled(started: &Started) -> &Enrolled {
    match &started.condition {
        Condition::Enrolled(enrolled) => enrolled,
        other => panic!("{other:?}"),
    }
}

fn change(started: &Started) -> Option<&'static str> {
    enrolled(started).change.as_ref().map(|(change, _)| *change)
}

fn codes(started: &Started) -> Vec<&str> {
    started.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect()
}

fn bytes(seed: Option<Secret>) -> [u8; 32] {
    *seed.expect("a seed").expose()
}

#[test]
fn the_same_box_after_a_reboot_and_after_a_restart() {
    let mut lab = Lab::new();
    let (_, first, seed) = lab.start();
    let seed = bytes(seed);
    assert_eq!((change(&first), first.origin), (Some("enrolled"), KeyOrigin::Tpm));
    assert_eq!(enrolled(&first).pin.epoch, 1);
    assert_eq!(codes(&first), [""; 0]);
    lab.reboot(1);
    let (_, second, again) = lab.start();
    assert_eq!(bytes(again), seed);
    assert_eq!(change(&second), None);
    assert_eq!(enrolled(&second).ak_name, enrolled(&first).ak_name);
    assert_eq!(enrolled(&second).pin.epoch, 2);
    // Of the service only: the same epoch and the same pin, whatever the TPM says by now.
    lab.tpm().restart();
    let (_, third, again) = lab.start();
    assert_eq!(bytes(again), seed);
    assert_eq!(enrolled(&third).pin, enrolled(&second).pin);
    assert_ne!(enrolled(&third).clock.restart_count, enrolled(&third).pin.restart_count);
}

#[test]
fn a_reset_between_two_lives_of_the_service_is_seen_by_the_core() {
    let lab = Lab::new();
    lab.start();
    lab.tpm().restart();
    let (_, started, _) = lab.start();
    let mut out = Vec::new();
    let mut core = Core::new(Now::default(), &lab.boot_id, &mut out);
    core.handle(Now::default(), Input::Done(Ticket(0), Done::Started(Box::new(started))), &mut out);
    assert!(out.contains(&Effect::ForgetSeed));
    assert_eq!(core.status(Now::default()).verdict, Verdict::Contraindicated);
}

#[test]
fn a_damaged_file_is_set_aside_and_said() {
    for garbage in [vec![], b"not an identity".to_vec(), vec![0x87; IDENTITY_BYTES_MAX + 1]] {
        let mut lab = Lab::new();
        let (_, first, seed) = lab.start();
        lab.reboot(1);
        lab.files().identity = Some(garbage.clone());
        let (_, second, other) = lab.start();
        assert_eq!(change(&second), Some("recovered"));
        assert!(codes(&second).contains(&"HP-AT-020"));
        assert_ne!(enrolled(&second).ak_name, enrolled(&first).ak_name);
        assert_ne!(bytes(other), bytes(seed));
        assert_eq!(lab.files().aside, Some(garbage));
    }
}

#[test]
fn a_file_that_can_not_be_read_is_not_overwritten() {
    let mut lab = Lab::new();
    let (_, _, seed) = lab.start();
    let file = lab.files().identity.clone();
    lab.reboot(1);
    lab.files().no_read = true;
    let (_, started, other) = lab.start();
    assert_eq!(started.origin, KeyOrigin::Boot);
    assert!(codes(&started).contains(&"HP-AT-021"));
    let seed = bytes(seed);
    assert_ne!(bytes(other), seed);
    lab.files().no_read = false;
    assert_eq!(lab.files().identity, file);
    lab.reboot(2);
    assert_eq!(bytes(lab.start().2), seed);
}

#[test]
fn another_tpm_means_another_box() {
    let mut lab = Lab::new();
    let (_, first, seed) = lab.start();
    *lab.tpm() = Fake::new([2; 32]);
    lab.reboot(1);
    let (_, second, other) = lab.start();
    assert_eq!(change(&second), Some("recovered"));
    assert!(codes(&second).contains(&"HP-AT-022"));
    assert_ne!(enrolled(&second).ak_name, enrolled(&first).ak_name);
    assert_ne!(bytes(other), bytes(seed));
    assert!(lab.files().aside.is_some());
}

#[test]
fn in_another_state_the_seed_stays_sealed_and_comes_back() {
    let mut lab = Lab::new();
    let seed = bytes(lab.start().2);
    lab.reboot(1);
    lab.event(PcrIndex::SERVICES, "service:evil file:/e");
    let (_, started, other) = lab.start();
    assert_eq!(started.origin, KeyOrigin::Boot);
    assert!(codes(&started).contains(&"HP-AT-023"));
    assert_ne!(bytes(other), seed);
    lab.reboot(2);
    let (_, started, again) = lab.start();
    assert_eq!((bytes(again), started.origin), (seed, KeyOrigin::Tpm));
    // Neither does an image without a signature.
    lab.reboot(3);
    lab.signed = false;
    assert_eq!(lab.start().1.origin, KeyOrigin::Boot);
    lab.reboot(4);
    lab.signed = true;
    assert_eq!(bytes(lab.start().2), seed);
}

#[test]
fn a_newer_generation_takes_the_seed_over_and_keeps_the_older_out() {
    let mut lab = Lab::new();
    let seed = bytes(lab.start().2);
    lab.reboot(1);
    lab.generation = 2;
    assert_eq!(bytes(lab.start().2), seed);
    let file = lab.files().identity.clone().unwrap();
    assert_eq!(Identity::parse(&file).unwrap().generation, 2);
    lab.reboot(2);
    lab.generation = 1;
    assert_eq!(lab.start().1.origin, KeyOrigin::Boot);
    lab.reboot(3);
    lab.generation = 2;
    assert_eq!(bytes(lab.start().2), seed);
}

#[test]
fn a_seed_that_this_tpm_did_not_seal_is_not_used() {
    let mut lab = Lab::new();
    let seed = bytes(lab.start().2);
    let file = lab.files().identity.clone().unwrap();
    let mut identity = Identity::parse(&file).unwrap();
    let mut sealed = identity.seed.take().unwrap().to_vec();
    *sealed.last_mut().unwrap() ^= 1;
    identity.seed = Some(sealed.into());
    lab.files().identity = Some(identity.to_bytes());
    lab.reboot(1);
    let (_, started, other) = lab.start();
    assert_eq!((started.origin, change(&started)), (KeyOrigin::Tpm, Some("recovered")));
    assert!(codes(&started).contains(&"HP-AT-024"));
    assert_ne!(bytes(other), seed);
    assert!(lab.files().aside.is_some());
}

#[test]
fn a_restored_copy_of_the_state_is_said() {
    let mut lab = Lab::new();
    lab.start();
    let copy = lab.files().identity.clone();
    for boot in 1..4 {
        lab.reboot(boot);
        lab.start();
    }
    lab.files().identity = copy;
    lab.reboot(4);
    let (_, started, _) = lab.start();
    assert_eq!(change(&started), Some("rolled-back"));
    assert!(codes(&started).contains(&"HP-AT-025"));
}

#[test]
fn firmware_that_changed_is_told_for_one_boot() {
    let boot = |lab: &Lab, firmware: &str| {
        let (mut attester, _, _) = lab.start();
        lab.event(PcrIndex::new(0).unwrap(), firmware);
        // As often as the box looks at itself.
        [(); 2].map(|()| {
            let own = quote(&mut attester, Want::Own).unwrap().appraisal.unwrap();
            own.divergence.contains("HP-MB-070")
        })
    };
    let mut lab = Lab::new();
    assert_eq!(boot(&lab, "1.2"), [false; 2]);
    lab.reboot(1);
    assert_eq!(boot(&lab, "1.2"), [false; 2]);
    for changed in [[true; 2], [false; 2]] {
        lab.reboot(2);
        assert_eq!(boot(&lab, "1.3"), changed);
    }
    // Not remembered: told again.
    lab.reboot(3);
    lab.files().no_write = true;
    assert_eq!(boot(&lab, "1.4"), [true; 2]);
    lab.files().no_write = false;
    lab.reboot(4);
    assert_eq!(boot(&lab, "1.4"), [true; 2]);
    // Another TPM: another box.
    lab.reboot(5);
    *lab.tpm() = Fake::new([2; 32]);
    assert_eq!(boot(&lab, "1.5"), [false; 2]);
}

#[test]
fn a_clock_that_is_wrong_locks_nobody_out() {
    let mut lab = Lab::new();
    let seed = bytes(lab.start().2);
    for (boot, seconds) in [0, u64::MAX, 4_000_000_000, 1].into_iter().enumerate() {
        lab.seconds = seconds;
        lab.reboot(u8::try_from(boot).unwrap() + 1);
        let (mut attester, started, again) = lab.start();
        assert_eq!((bytes(again), codes(&started), change(&started)), (seed, vec![], None));
        let own = quote(&mut attester, Want::Own).unwrap().appraisal.unwrap();
        assert_ne!(own.verdict, Verdict::Contraindicated, "{}", own.divergence);
    }
}

#[test]
fn without_a_tpm_there_is_a_seed_of_this_boot_and_nothing_else() {
    let mut lab = Lab::new();
    lab.present = false;
    let (mut attester, started, seed) = lab.start();
    assert!(matches!(started.condition, Condition::None(_)));
    assert_eq!(started.origin, KeyOrigin::Boot);
    assert!(seed.is_some());
    assert_eq!(lab.files().identity, None);
    assert_eq!(quote(&mut attester, Want::Own).unwrap_err().code, "HP-AT-008");
}

/// The TPM fails from every step on, first of an enrolment, then of a later start: nothing panics,
/// the core can say how it stands, there is a seed, and the box is itself again afterwards.
#[test]
fn a_failure_at_any_step_is_survived() {
    let steps = {
        let lab = Lab::new();
        lab.start();
        lab.tpm().steps()
    };
    assert!(steps >= 7, "{steps}");
    for step in 0..steps {
        let mut lab = Lab::new();
        lab.tpm().fail_from(step);
        check_degraded(&lab, step);
        lab.tpm().heal();
        lab.reboot(1);
        let (_, healed, seed) = lab.start();
        assert_eq!(healed.origin, KeyOrigin::Tpm, "step {step}");
        let seed = bytes(seed);
        lab.reboot(2);
        let before = lab.tpm().steps();
        lab.tpm().fail_from(before + step);
        check_degraded(&lab, step);
        lab.tpm().heal();
        lab.reboot(3);
        let (_, again, known) = lab.start();
        assert_eq!(bytes(known), seed, "step {step}: the seed survives");
        assert_eq!(enrolled(&again).ak_name, enrolled(&healed).ak_name, "step {step}");
    }
}

#[test]
fn a_failure_that_passes_is_tried_again_and_a_lasting_one_is_given_up() {
    let (steps, commands) = {
        let lab = Lab::new();
        let (_, started, _) = lab.start();
        (lab.tpm().steps(), enrolled(&started).commands)
    };
    assert_eq!(commands, u64::from(steps));
    // The last step is the seed's.
    for step in 0..steps - 1 {
        let lab = Lab::new();
        lab.tpm().fail_at(step);
        let (_, started, _) = lab.start();
        assert_eq!((change(&started), started.origin), (Some("enrolled"), KeyOrigin::Tpm));
        assert_eq!(enrolled(&started).pin.epoch, 1, "step {step}: counted once");
        assert_eq!(lab.files().pauses, 1);
    }
    let lab = Lab::new();
    lab.tpm().fail_from(2);
    let (_, started, _) = lab.start();
    assert!(matches!(started.condition, Condition::Failed(_)));
    assert_eq!(lab.files().pauses, 2);
}

#[test]
fn a_boot_without_the_sealed_seed_has_one_seed_however_often_the_service_starts() {
    let mut lab = Lab::new();
    lab.present = false;
    let (_, first, seed) = lab.start();
    let (_, second, again) = lab.start();
    let seed = bytes(seed);
    assert_eq!((bytes(again), second.node), (seed, first.node));
    assert!(first.node.is_some());
    lab.reboot(1);
    let (_, third, other) = lab.start();
    assert_ne!((bytes(other), third.node), (seed, first.node));
    // With nowhere to keep it there is one all the same.
    lab.reboot(2);
    lab.files().no_write = true;
    assert_ne!(bytes(lab.start().2), bytes(lab.start().2));
}

fn check_degraded(lab: &Lab, step: u32) {
    let (mut attester, started, seed) = lab.start();
    assert!(seed.is_some(), "step {step}: the ledger gets a key");
    let mut out = Vec::new();
    let mut core = Core::new(Now::default(), &lab.boot_id, &mut out);
    let _ = quote(&mut attester, Want::Own);
    core.handle(Now::default(), Input::Done(Ticket(0), Done::Started(Box::new(started))), &mut out);
    assert!(out.contains(&Effect::Ready), "step {step}");
    assert_ne!(core.status(Now::default()).level, "", "step {step}");
}

#[test]
fn evidence_stands_up_to_a_verifier_and_tells_what_is_wrong() {
    let lab = Lab::new();
    let (mut attester, _, _) = lab.start();
    let verify = |bytes: &[u8]| {
        let reference = Reference {
            release_keys: vec![lab.release()],
            nonce: Some(vec![5; 32]),
            ..Reference::default()
        };
        appraise(&Evidence::parse(bytes).unwrap(), &reference, lab.seconds)
    };
    let full = quote(&mut attester, Want::Challenge { full: true }).unwrap();
    let result = verify(&full.evidence);
    // The fake has no endorsement key that anybody could verify; the rest is as it should be.
    assert_eq!(result.divergence, None, "{:?}", result.findings);
    assert_ne!(result.status, Status::Contraindicated, "{:?}", result.findings);
    let own = quote(&mut attester, Want::Own).unwrap();
    assert!(own.evidence.is_empty());
    let appraisal = own.appraisal.unwrap();
    assert_ne!(appraisal.verdict, Verdict::Contraindicated, "{}", appraisal.divergence);
    assert_eq!(appraisal.level.0, "T");
    assert!(appraisal.pcrs.iter().any(|pcr| pcr.index == 13 && pcr.value == pcr.predicted));
    let verdicts: Vec<_> =
        appraisal.log.iter().map(|line| (line.pcr, line.verdict.as_str())).collect();
    assert_eq!(
        verdicts,
        [
            (11, "match"),
            (11, "match"),
            (12, "unknown"),
            (13, "match"),
            (13, "match"),
            (15, "unknown")
        ]
    );
    lab.event(PcrIndex::SERVICES, "service:evil file:/e");
    let own = quote(&mut attester, Want::Own).unwrap().appraisal.unwrap();
    assert_eq!(own.verdict, Verdict::Contraindicated);
    assert!(own.divergence.contains("service:evil"), "{}", own.divergence);
    let full = quote(&mut attester, Want::Challenge { full: true }).unwrap();
    assert_eq!(verify(&full.evidence).status, Status::Contraindicated);
}

#[test]
fn a_broken_connection_is_opened_anew_and_the_reset_behind_it_is_seen() {
    let lab = Lab::new();
    let (mut attester, started, _) = lab.start();
    let pinned = enrolled(&started).pin.reset_count;
    let next = lab.tpm().steps();
    lab.tpm().reset();
    lab.tpm().fail_at(next);
    let attested = quote(&mut attester, Want::Own).unwrap();
    assert_eq!(attested.clock.reset_count, pinned + 1);
    // One new connection per quote: a TPM that goes on failing is not asked for ever.
    let next = lab.tpm().steps();
    lab.tpm().fail_from(next);
    assert!(quote(&mut attester, Want::Own).is_err());
    assert!(lab.tpm().steps() <= next + 2);
}

#[test]
fn short_evidence_fits_in_a_block() {
    let lab = Lab::new();
    let (mut attester, _, _) = lab.start();
    let epoch = quote(&mut attester, Want::Epoch).unwrap();
    assert!(epoch.evidence.len() < BINDING_BYTES_MAX * 3 / 4, "{}", epoch.evidence.len());
    let short = quote(&mut attester, Want::Challenge { full: false }).unwrap();
    let evidence = Evidence::parse(&short.evidence).unwrap();
    assert!(evidence.logs.is_none() && evidence.manifest.is_none() && evidence.ek.is_none());
}

#[test]
fn a_log_that_lags_is_read_again_and_one_that_lies_is_not_waited_for() {
    let lab = Lab::new();
    let (mut attester, _, _) = lab.start();
    for late in 1..=3 {
        lab.files().late = late;
        let own = quote(&mut attester, Want::Own).unwrap();
        assert_eq!((own.retries, lab.files().late), (late, 0));
        assert_ne!(own.appraisal.unwrap().verdict, Verdict::Contraindicated);
    }
    // Extended, never logged: waited for once, judged every time.
    lab.tpm().extend(PcrIndex::SERVICES, b"secret");
    for retries in [3, 0, 0] {
        let own = quote(&mut attester, Want::Own).unwrap();
        assert_eq!(own.appraisal.unwrap().verdict, Verdict::Contraindicated);
        assert_eq!(own.retries, retries);
    }
    lab.files().no_log = true;
    assert_eq!(quote(&mut attester, Want::Own).unwrap_err().code, "HP-AT-033");
}

#[test]
fn the_recovery_key_is_kept_until_it_was_noted() {
    let mut lab = Lab::new();
    lab.files().recovery = Some("aaaa-bbbb".into());
    lab.files().no_write = true;
    let (_, started, _) = lab.start();
    assert_eq!(started.recovery.unwrap().as_str(), "aaaa-bbbb");
    assert!(lab.files().recovery.is_some(), "not on the disk: not removed");
    lab.files().no_write = false;
    let (_, started, _) = lab.start();
    assert!(started.recovery.is_some());
    assert!(lab.files().recovery.is_none());
    lab.reboot(1);
    let (mut attester, started, _) = lab.start();
    assert!(started.recovery.is_some());
    lab.files().no_write = true;
    assert!(matches!(attester.run(Job::ForgetRecovery).0, Done::Forgotten(Err(_))));
    lab.files().no_write = false;
    assert!(matches!(attester.run(Job::ForgetRecovery).0, Done::Forgotten(Ok(()))));
    assert!(lab.start().1.recovery.is_none());
}

#[test]
fn noting_the_recovery_key_does_not_overwrite_a_file_that_can_not_be_read() {
    let mut lab = Lab::new();
    lab.start();
    let file = lab.files().identity.clone();
    lab.reboot(1);
    lab.files().no_read = true;
    lab.files().recovery = Some("aaaa-bbbb".into());
    let (mut attester, started, _) = lab.start();
    assert!(started.recovery.is_some());
    assert!(lab.files().recovery.is_some(), "not on the disk: not removed");
    assert!(matches!(attester.run(Job::ForgetRecovery).0, Done::Forgotten(Ok(()))));
    assert_eq!(lab.files().identity, file);
    assert!(lab.files().recovery.is_none());
    assert!(attester.run(Job::Start).1.is_some());
}
