//! The rule over whole lives of a box, against what really happened in them.

use hookprobe_wire::Seq;
use proptest::prelude::*;

use super::*;

fn node(byte: u8) -> NodeId {
    NodeId::new([byte; 32])
}

fn boot(key: u8, counter: u64, boot: u8) -> Boot {
    Boot { node: node(key), mark: Mark { counter, boot_id: BootId([boot; 16]) } }
}

/// A database.
#[derive(Debug, Clone, Default)]
struct Rows(Vec<Past>);

impl Rows {
    fn start(&mut self, boot: &Boot) -> (Turn, Option<Rollback>) {
        let (turn, rollback) = decide(&self.0, boot, 0);
        if let Turn::Begin(number) = turn {
            let epoch = Epoch { number, node: boot.node, first: Seq(0) };
            self.0.push(Past { epoch, mark: Some(boot.mark) });
        }
        (turn, rollback)
    }

    /// With a first boot that the TPM counts as `counter`.
    fn begun(counter: u64) -> Self {
        let mut rows = Self::default();
        let first = (counter > 1).then(|| new(counter));
        assert_eq!(rows.start(&boot(1, counter, 1)), (Turn::Begin(counter), first));
        rows
    }

    fn last(&self) -> u64 {
        self.0.last().map_or(0, |past| past.epoch.number)
    }
}

/// What is said about a new database.
fn new(counter: u64) -> Rollback {
    Rollback::Database { counter, used: 0, boots: counter - 1 }
}

#[test]
fn the_number_is_the_counter_when_that_is_greater() {
    let mut rows = Rows::begun(41);
    assert_eq!(rows.start(&boot(1, 42, 2)), (Turn::Begin(42), None));
    // Without the TPM for a boot, then with it again.
    assert_eq!(rows.start(&boot(7, 0, 3)), (Turn::Begin(43), None));
    assert_eq!(rows.start(&boot(1, 44, 4)), (Turn::Begin(44), None));
    // The witness of a database that was set aside.
    assert_eq!(decide(&[], &boot(1, 3, 5), 9), (Turn::Begin(9), Some(new(3))));
    assert_eq!(decide(&[], &boot(1, 0, 5), 0), (Turn::Begin(1), None));
}

#[test]
fn a_restart_goes_on_and_a_boot_under_the_same_key_does_not() {
    let mut rows = Rows::begun(5);
    assert_eq!(rows.start(&boot(1, 5, 1)), (Turn::Continue, Some(new(5))));
    assert_eq!(rows.start(&boot(1, 6, 2)), (Turn::Begin(6), None));
    // One count is one epoch, whatever made attest count twice in a boot.
    assert_eq!(rows.start(&boot(1, 7, 2)), (Turn::Begin(7), None));
    // A key in a file on a disk outlives boots.
    let mut rows = Rows::default();
    rows.start(&boot(1, 0, 1));
    assert_eq!(rows.start(&boot(1, 0, 1)), (Turn::Continue, None));
    assert_eq!(rows.start(&boot(1, 0, 0)), (Turn::Continue, None), "boot not known");
    assert_eq!(rows.start(&boot(1, 0, 2)), (Turn::Begin(2), None));
}

#[test]
fn a_tpm_that_went_back_is_told_until_it_has_caught_up() {
    let mut rows = Rows::default();
    for counter in 1..=5 {
        rows.start(&boot(1, counter, counter as u8));
    }
    let back = |counter| Some(Rollback::Tpm { counter, used: 5 });
    assert_eq!(rows.start(&boot(1, 4, 11)), (Turn::Begin(6), back(4)));
    assert_eq!(rows.start(&boot(1, 4, 11)), (Turn::Continue, back(4)), "also after a restart");
    // The same count in another boot is no restart.
    assert_eq!(rows.start(&boot(1, 4, 12)), (Turn::Begin(7), back(4)));
    assert_eq!(rows.start(&boot(1, 5, 13)), (Turn::Begin(8), back(5)));
    assert_eq!(rows.start(&boot(1, 6, 14)), (Turn::Begin(9), None));
}

/// Its counters can't be compared with those of another, but that it is another one is told.
#[test]
fn another_key_of_a_tpm_is_told_once() {
    let mut rows = Rows::begun(5);
    // A boot on a key of its own is no identity, before or after.
    assert_eq!(rows.start(&boot(7, 0, 2)), (Turn::Begin(6), None));
    let told = Some(Rollback::Identity { epoch: 5 });
    assert_eq!(rows.start(&boot(2, 1, 3)), (Turn::Begin(7), told));
    assert_eq!(rows.start(&boot(2, 1, 3)), (Turn::Continue, told), "also after a restart");
    assert_eq!(rows.start(&boot(2, 2, 4)), (Turn::Begin(8), None));
    assert_eq!(rows.start(&boot(8, 0, 5)), (Turn::Begin(9), None));
    assert_eq!(rows.start(&boot(2, 4, 6)), (Turn::Begin(10), None));
}

#[test]
fn boots_without_a_row_are_told_with_both_numbers() {
    let mut rows = Rows::begun(5);
    let missing = |counter, used, boots| Some(Rollback::Database { counter, used, boots });
    assert_eq!(rows.start(&boot(1, 9, 2)), (Turn::Begin(9), missing(9, 5, 3)));
    assert_eq!(rows.start(&boot(1, 9, 2)), (Turn::Continue, missing(9, 5, 3)));
    assert_eq!(rows.start(&boot(1, 10, 3)), (Turn::Begin(10), None));
    // Two boots on keys of their own, one of which needed three starts; then one without the disk.
    for key in 20..23 {
        rows.start(&boot(key, 0, 4));
    }
    rows.start(&boot(23, 0, 5));
    assert_eq!(rows.start(&boot(1, 14, 7)).1, missing(14, 10, 1));
    // A start on its own key in the same boot is not another boot.
    rows.start(&boot(24, 0, 8));
    assert_eq!(rows.start(&boot(1, 16, 8)).1, missing(16, 14, 1));
}

#[test]
fn rows_from_before_there_were_marks_say_nothing() {
    let old: Vec<Past> = (1..=37)
        .map(|number| Past {
            epoch: Epoch { number, node: node(number as u8), first: Seq(number) },
            mark: None,
        })
        .collect();
    let mut rows = Rows(old);
    assert_eq!(rows.start(&boot(200, 3, 1)), (Turn::Begin(38), None));
    assert_eq!(rows.start(&boot(200, 4, 2)), (Turn::Begin(39), None));
    assert_eq!(rows.start(&boot(200, 50, 3)).0, Turn::Begin(50));
    let key_on_disk = Boot::without_tpm(node(37));
    let before: Vec<Past> = rows.0.into_iter().take(37).collect();
    assert_eq!(decide(&before, &key_on_disk, 0), (Turn::Continue, None));
}

#[test]
fn a_counter_gone_wild_does_not_use_up_the_numbers() {
    let mut rows = Rows::begun(5);
    let (turn, rollback) = rows.start(&boot(1, u64::MAX, 2));
    assert_eq!(turn, Turn::Begin(6));
    assert!(matches!(rollback, Some(Rollback::Database { .. })));
}

#[test]
fn boot_ids() {
    let text = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n";
    let id = BootId::parse(text);
    assert_eq!(id.0[..3], [0x0f, 0x1e, 0x2d]);
    assert_eq!(BootId::parse(&text.replace('-', "")), id);
    for bad in ["", "0f1e", "zz1e2d3c4b5a69788796a5b4c3d2e1f0"] {
        assert!(!BootId::parse(bad).is_known(), "{bad}");
    }
}

/// What happens to a box between two looks.
#[derive(Debug, Clone)]
enum Life {
    Boot,
    Restart,
    BootWithoutDisk,
    BootOnOwnKey,
    Backup,
    RestoreDisk,
    SnapshotTpm,
    RestoreTpm,
}

proptest! {
    /// Numbers only grow; every restored TPM and every lost boot is told; nothing else is.
    #[test]
    fn told_exactly_when_it_happened(lives in proptest::collection::vec(prop_oneof![
        6 => Just(Life::Boot),
        2 => Just(Life::Restart),
        1 => Just(Life::BootWithoutDisk),
        1 => Just(Life::BootOnOwnKey),
        1 => Just(Life::Backup),
        1 => Just(Life::RestoreDisk),
        1 => Just(Life::SnapshotTpm),
        1 => Just(Life::RestoreTpm),
    ], 1..60)) {
        let mut rows = Rows::default();
        let (mut backup, mut saved) = (Rows::default(), 0u64);
        let (mut counter, mut id) = (0u64, 0u8);
        // Counters of the boots in the database, with and without the TPM's key.
        let mut there: Vec<(u64, bool)> = Vec::new();
        let mut backed_up = there.clone();
        let mut now: Option<Boot> = None;
        for life in lives {
            match life {
                Life::Backup => { backup = rows.clone(); backed_up = there.clone(); now = None; continue; }
                Life::RestoreDisk => { rows = backup.clone(); there = backed_up.clone(); now = None; continue; }
                Life::SnapshotTpm => { saved = counter; continue; }
                Life::RestoreTpm => { counter = saved; now = None; continue; }
                Life::BootWithoutDisk => { counter += 1; id += 1; now = None; continue; }
                Life::BootOnOwnKey => {
                    counter += 1;
                    id += 1;
                    let before = rows.last();
                    let (turn, rollback) = rows.start(&boot(100 + id, 0, id));
                    prop_assert_eq!((turn, rollback), (Turn::Begin(before + 1), None));
                    there.push((counter, false));
                    now = None;
                    continue;
                }
                Life::Restart => {
                    let Some(running) = now else { continue };
                    prop_assert_eq!(rows.start(&running).0, Turn::Continue);
                    continue;
                }
                Life::Boot => {}
            }
            counter += 1;
            id += 1;
            let running = boot(1, counter, id);
            let before = rows.last();
            let (turn, rollback) = rows.start(&running);
            prop_assert_eq!(turn, Turn::Begin(counter.max(before + 1)));
            let used = there.iter().filter(|(_, tpm)| *tpm).map(|(counter, _)| *counter).max();
            match (rollback, used) {
                (Some(Rollback::Tpm { used: told, .. }), Some(used)) =>
                    prop_assert!(counter <= used && told == used),
                (Some(Rollback::Database { boots, .. }), Some(used)) => {
                    let at = there.iter().rposition(|entry| *entry == (used, true)).unwrap();
                    let since = (there.len() - at - 1) as u64;
                    prop_assert!(boots > 0);
                    prop_assert_eq!(used + boots + since + 1, counter);
                }
                (Some(Rollback::Identity { .. }), _) => prop_assert!(false, "one key is used"),
                (Some(told), None) if there.is_empty() => prop_assert_eq!(told, new(counter)),
                (Some(told), None) => prop_assert!(false, "{told:?} out of nothing"),
                (None, Some(used)) => {
                    let at = there.iter().rposition(|entry| *entry == (used, true)).unwrap();
                    prop_assert!(counter > used);
                    prop_assert!(counter <= used + 1 + (there.len() - at - 1) as u64);
                }
                (None, None) => prop_assert!(!there.is_empty() || counter == 1),
            }
            there.push((counter, true));
            now = Some(running);
        }
    }
}
