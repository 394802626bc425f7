//! The rules against suricata-verify, when its tests are at hand: rates by tier do not fall.

use std::path::PathBuf;

use hookprobe_sensor::verify;

/// Tests of each tier that pass with Suricata 8.0.6 and must pass here. Raise, never lower.
const PASSED_MIN: &[(&str, usize)] = &[("T1", 154), ("T2", 31), ("T3", 419), ("T4", 14)];

fn data() -> Option<PathBuf> {
    let named = std::env::var_os("HOOKPROBE_TESTDATA").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata");
    named
        .into_iter()
        .chain([beside])
        .map(|root| root.join("suricata-verify"))
        .find(|tree| tree.is_dir())
}

#[test]
fn rates_do_not_fall() {
    let Some(tree) = data() else {
        println!("skipped: no test data");
        return;
    };
    let reports = verify::tree(&tree, "").unwrap();
    let rates = verify::rates(&reports);
    for (tier, least) in PASSED_MIN {
        let passed = rates.get(*tier).map_or(0, |rate| rate.passed);
        assert!(passed >= *least, "{tier}: {passed} passed, {least} did before");
    }
}
