//! Rules and lists that were read again while the box ran.

use super::*;

/// A sample whose rules were read again once, and once more.
fn reloaded(sample: &mut Sample) {
    for number in 1..=2 {
        let files = [site::File::new("a.rules", &[u8::try_from(number).unwrap()])];
        let name = site::reload(number, &files);
        sample.events.push(sample::event(PcrIndex::SITE, &name, name.as_bytes()));
    }
}

#[test]
fn reloads_follow_the_site_configuration_and_are_told() {
    let result = changed(reloaded);
    assert_eq!(result.status, Status::Affirming, "{:?}", result.findings);
    let told = result.findings.iter().find(|finding| finding.code == "HP-MB-072").unwrap();
    assert!(told.to_string().contains("site:reload 2 files 1 sha256:"), "{told}");
    assert!(told.to_string().contains("2 times"), "{told}");
    // Another content under the name, a number that goes back, or no configuration in front.
    let name = site::reload(1, &[]);
    let lied = changed(|sample| {
        sample.events.push(sample::event(PcrIndex::SITE, &name, b"init=/bin/sh"));
    });
    refused(&lied, "HP-MB-057");
    let twice = changed(|sample| {
        reloaded(sample);
        sample.events.push(sample::event(PcrIndex::SITE, &name, name.as_bytes()));
    });
    refused(&twice, "HP-MB-057");
    let alone = changed(|sample| {
        sample.events.retain(|event| event.name != SITE_EVENT);
        sample.events.push(sample::event(PcrIndex::SITE, &name, name.as_bytes()));
    });
    refused(&alone, "HP-MB-057");
}

/// A verifier that knows no configuration, as the box itself, has seen the register move.
#[test]
fn a_reload_since_the_last_evidence_changes_no_verdict() {
    let now = Sample::NOW_S;
    let mut sample = Sample::new();
    let reference = |sample: &Sample, memory: Option<Memory>| Reference {
        site: None,
        memory,
        ..sample.reference()
    };
    let before = appraise(&sample.evidence(), &reference(&sample, None), now).memory;
    reloaded(&mut sample);
    let result = appraise(&sample.evidence(), &reference(&sample, before.clone()), now);
    assert_eq!(result.status, Status::Affirming, "{:?}", result.findings);
    let after = result.memory;
    // Without a log nothing says what moved it; what was explained stays so.
    let short = |memory| {
        let manifest = Some(sample.manifest.clone());
        Reference { manifest, ek_roots: None, ..reference(&sample, memory) }
    };
    warned(&appraise(&sample.short(), &short(before), now), "HP-MB-061");
    assert_eq!(appraise(&sample.short(), &short(after), now).status, Status::Affirming);
}
