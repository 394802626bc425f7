use super::*;

/// A box on which everything works and nobody typed anything.
fn good(disk: Disk) -> Facts {
    Facts {
        tpm: Tpm::Working,
        disk,
        image: Ok(3),
        sealing: Ok(()),
        token: Ok(()),
        recovery: Recovery::None,
        earlier_boots: None,
    }
}

fn ours(generation: u32) -> Facts {
    good(Disk::Ours { generation, leftover: false })
}

/// No TPM: nothing that needs one came out.
fn bare(disk: Disk) -> Facts {
    let none = || Err("no TPM".to_owned());
    Facts { tpm: Tpm::Absent, sealing: none(), token: none(), ..good(disk) }
}

fn failing(disk: Disk) -> Facts {
    let none = || Err("HP-TP-110".to_owned());
    let tpm = Tpm::Failing("HP-TP-110".into());
    Facts { tpm, sealing: none(), token: none(), ..good(disk) }
}

#[track_caller]
fn is_locked(facts: &Facts, code: &str, recoverable: bool) -> String {
    match decide(facts) {
        Plan::Locked { reason, recoverable: is } => {
            assert!(reason.starts_with(code), "{reason}");
            assert!(reason.contains("; "), "no remedy: {reason}");
            assert_eq!(is, recoverable, "{reason}");
            reason
        }
        plan => panic!("{plan:?}, expected {code}"),
    }
}

#[track_caller]
fn opens(facts: &Facts, by: By, change: Change, code: Option<&str>) {
    match decide(facts) {
        Plan::Open { by: is, change: does, note } => {
            assert_eq!((is, does), (by, change), "{note:?}");
            assert_eq!(note.is_some(), code.is_some(), "{note:?}");
            assert!(note.unwrap_or_default().starts_with(code.unwrap_or_default()));
        }
        plan => panic!("{plan:?}"),
    }
}

#[test]
fn a_box_without_a_tpm_has_a_plain_partition() {
    assert_eq!(decide(&bare(Disk::Blank)), Plan::MakePlain);
    assert_eq!(decide(&bare(Disk::Ext4)), Plan::UsePlain);
    is_locked(&bare(Disk::Other), "HP-AT-105", false);
    is_locked(&bare(Disk::Foreign("no token".into())), "HP-AT-104", false);
}

#[test]
fn a_volume_in_a_box_without_a_tpm_opens_by_the_recovery_key_for_one_boot() {
    let mut facts = bare(ours(3).disk);
    is_locked(&facts, "HP-AT-106", true);
    facts.recovery = Recovery::Right;
    opens(&facts, By::RecoveryKey, Change::Nothing, Some("HP-AT-112"));
    facts.recovery = Recovery::Wrong;
    is_locked(&facts, "HP-AT-108", true);
}

#[test]
fn a_blank_partition_becomes_a_volume_only_when_it_can_be_opened_again() {
    let mut facts = good(Disk::Blank);
    assert_eq!(decide(&facts), Plan::Create { note: None });
    facts.earlier_boots = Some(0);
    assert_eq!(decide(&facts), Plan::Create { note: None });

    facts.sealing = Err("HP-TP-111 the state is not signed".into());
    assert!(is_locked(&facts, "HP-AT-102", false).contains("HP-TP-111"));
    facts.sealing = Ok(());
    facts.image = Err("HP-QV-031 not signed".into());
    assert!(is_locked(&facts, "HP-AT-102", false).contains("HP-QV-031"));
    is_locked(&failing(Disk::Blank), "HP-AT-101", false);
}

#[test]
fn a_disk_that_was_wiped_is_noticed() {
    let facts = Facts { earlier_boots: Some(12), ..good(Disk::Blank) };
    let Plan::Create { note: Some(note) } = decide(&facts) else { panic!() };
    assert!(note.starts_with("HP-AT-110") && note.contains("12 boots"), "{note}");
}

#[test]
fn a_tpm_is_never_ignored() {
    // Neither working nor failing does it let a partition without encryption pass.
    is_locked(&good(Disk::Ext4), "HP-AT-103", false);
    is_locked(&failing(Disk::Ext4), "HP-AT-103", false);
    for disk in [Disk::Other, Disk::Foreign("LUKS1".into())] {
        for facts in [good(disk.clone()), failing(disk)] {
            assert!(matches!(decide(&facts), Plan::Locked { recoverable: false, .. }));
        }
    }
}

#[test]
fn what_is_sealed_for_this_image_opens() {
    opens(&ours(3), By::Token, Change::Nothing, None);
    // A recovery key that was typed for nothing changes nothing.
    let facts = Facts { recovery: Recovery::Right, ..ours(3) };
    opens(&facts, By::Token, Change::Nothing, None);
}

#[test]
fn a_newer_image_takes_the_volume_away_from_older_ones() {
    opens(&ours(2), By::Token, Change::Reseal, None);
    let facts = Facts { sealing: Err("HP-TP-112".into()), ..ours(2) };
    opens(&facts, By::Token, Change::Nothing, Some("HP-AT-111"));
}

#[test]
fn what_a_power_cut_left_over_is_tidied() {
    let leftover = |generation| good(Disk::Ours { generation, leftover: true });
    opens(&leftover(3), By::Token, Change::Tidy, None);
    opens(&leftover(2), By::Token, Change::Reseal, None);
}

#[test]
fn a_seal_that_stays_closed_says_why() {
    for why in ["the state is not signed", "no policy", "HP-TP-130 changed blob"] {
        let mut facts = Facts { token: Err(why.into()), ..ours(3) };
        assert!(is_locked(&facts, "HP-AT-107", true).contains(why));
        facts.recovery = Recovery::Wrong;
        assert!(is_locked(&facts, "HP-AT-108", true).contains(why));
        facts.recovery = Recovery::Malformed("7 characters, not 40".into());
        assert!(is_locked(&facts, "HP-AT-109", true).contains("7 characters"));
    }
    assert!(is_locked(&failing(ours(3).disk), "HP-AT-107", true).contains("HP-TP-110"));
}

#[test]
fn a_recovered_volume_is_sealed_to_the_tpm_of_this_box() {
    let facts = Facts { token: Err("other TPM".into()), recovery: Recovery::Right, ..ours(3) };
    opens(&facts, By::RecoveryKey, Change::Reseal, Some("HP-AT-113"));
    // An older generation's as well: it only gets stricter.
    let older = Facts { disk: ours(1).disk, ..facts.clone() };
    opens(&older, By::RecoveryKey, Change::Reseal, Some("HP-AT-113"));
}

#[test]
fn a_recovered_volume_is_sealed_to_nothing_that_is_weaker() {
    let facts = Facts { token: Err("HP-TP-112".into()), recovery: Recovery::Right, ..ours(4) };
    opens(&facts, By::RecoveryKey, Change::Nothing, Some("HP-AT-112"));
    let unsigned = Facts { sealing: Err("HP-TP-111".into()), ..facts.clone() };
    opens(&unsigned, By::RecoveryKey, Change::Nothing, Some("HP-AT-112"));
    let nameless = Facts { image: Err("HP-QV-031".into()), ..facts };
    opens(&nameless, By::RecoveryKey, Change::Nothing, Some("HP-AT-112"));
    let failing = Facts { recovery: Recovery::Right, ..failing(ours(3).disk) };
    opens(&failing, By::RecoveryKey, Change::Nothing, Some("HP-AT-112"));
}
