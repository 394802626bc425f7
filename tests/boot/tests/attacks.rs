//! The attacks of `cargo xtask attack` at a smaller scale, and what happens to the state volume of a
//! real box: stolen, carried to another box, opened by its recovery key, cut off while it is made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

#[allow(dead_code, reason = "each test program uses a part")]
mod guest;

use std::time::{Duration, Instant};

use guest::{SOON, boot, expect, image};
use hookprobe_evidence::{
    appraise::{Reference, appraise},
    bundle::Evidence,
};
use hookprobe_wire::attest::Verdict;
use hookprobe_xtask::{
    attack::{self, Scale},
    compose::Signer,
    run,
    vm::{self, Options, Port, Screen, Serial, Vm, folder, tpm},
};

/// Begin of every database of the ledger's (redb's magic number).
const DATABASE: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Begin of a volume (LUKS2 specification, 2.1).
const VOLUME: &[u8] = b"LUKS\xba\xbe";

#[test]
fn twenty_attacks() {
    let Some((tree, image, _one)) = image() else { return };
    let outcomes = attack::run(&tree, &image, &[], Scale::TEST).unwrap();
    let text: Vec<String> = outcomes.iter().map(ToString::to_string).collect();
    println!("{}", text.join("\n"));
    assert_eq!(attack::summary(&outcomes), "attacks: 19 of 19 refused, 1 not covered");
}

/// Reads the recovery key off the console and answers that it was noted.
fn recovery_key(screen: &mut Screen) -> String {
    let groups = |text: &str| -> Option<String> {
        text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '-'))
            // Eight groups of five; a frame is dashes alone.
            .find(|word| word.chars().filter(char::is_ascii_alphanumeric).count() == 40)
            .map(str::to_owned)
    };
    let begun = Instant::now();
    loop {
        if let Some(key) = groups(&screen.text()) {
            return key;
        }
        assert!(begun.elapsed() < SOON, "no recovery key on\n{}", screen.text());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A new box, its recovery key, and its folder once it is off.
fn new_box(tree: &hookprobe_xtask::tree::Tree, image: &hookprobe_xtask::tree::Image) -> String {
    let options = Options { serial: Serial::Socket, ..Options::lab("volume") };
    let (mut vm, _) = boot(tree, image, &options);
    expect(&mut vm, "state", "volume=");
    let mut screen = Screen::plug(&vm).unwrap();
    screen.wait(&["RECOVERY KEY NOT NOTED"]).unwrap();
    screen.press("R").unwrap();
    let key = recovery_key(&mut screen);
    vm.power_off().unwrap();
    key
}

/// PCR 4 is not what it is when the disk comes first, and nothing else ran.
fn affirmed_after_one_that_failed(vm: &Vm) {
    let mut port = Port::plug(vm).unwrap();
    let status = port
        .wait_status("its own verification", SOON, |status| status.verdict != Verdict::None)
        .unwrap();
    assert_eq!((status.verdict, &*status.divergence), (Verdict::Affirming, ""));
    let evidence = Evidence::parse(&port.evidence(b"another boot order", true).unwrap()).unwrap();
    let release_keys = vec![Signer::find().unwrap().release_key().unwrap()];
    let reference = Reference { release_keys, first_contact: true, ..Reference::default() };
    let appraisal = appraise(&evidence, &reference, 0);
    let codes: Vec<&str> = appraisal.findings.iter().map(|found| found.code.as_str()).collect();
    assert!(codes.contains(&"HP-MB-069"), "{codes:?}");
    assert_eq!(appraisal.divergence, None);
}

#[test]
fn a_stolen_volume() {
    let Some((tree, image, _one)) = image() else { return };
    let key = new_box(&tree, &image);
    let dir = folder::folder(&tree, "volume");
    assert!(folder::state_contains(&dir, VOLUME).unwrap(), "there is a volume");
    assert!(!folder::state_contains(&dir, DATABASE).unwrap(), "readable on the disk");
    assert!(!folder::state_contains(&dir, key.as_bytes()).unwrap(), "the key is on the disk");
    folder::snapshot(&dir, "own").unwrap();

    // In another box: locked, until somebody types the recovery key on its console.
    let banks = Options::lab("volume").tpm_banks.unwrap();
    tpm::make(&tree, &dir, &banks).unwrap();
    let options = Options { keep: true, serial: Serial::Socket, ..Options::lab("volume") };
    let mut vm = Vm::start(&tree, &image, &options).unwrap();
    let mut screen = Screen::plug(&vm).unwrap();
    screen.wait(&["ecovery key"]).unwrap();
    screen.press(&format!("{key}\r")).unwrap();
    run::wait_ready(&mut vm).unwrap();
    expect(&mut vm, "state", "volume=");
    let blocks = expect(&mut vm, "chain", "verified").number("blocks").unwrap();
    assert!(blocks > 0, "the ledger of the first box is there");
    vm.power_off().unwrap();
    drop(vm);

    // Sealed anew: it opens by itself, also when the firmware tries a drive with nothing on it first
    // and the clock is far in the future.
    let clock = Some("2090-01-01T00:00:00".to_owned());
    let options = Options { empty_first: true, clock, ..options };
    let (mut vm, _) = boot(&tree, &image, &options);
    expect(&mut vm, "state", "volume=");
    affirmed_after_one_that_failed(&vm);
    assert!(!vm.log.all().iter().any(|line| line.text.contains("HP-AT-1")), "{}", vm.tail());
    drop(vm);

    // And nobody who lets the question pass gets in.
    folder::restore(&dir, "own", &[]).unwrap();
    tpm::make(&tree, &dir, &banks).unwrap();
    let (mut vm, _) = boot(&tree, &image, &Options { keep: true, ..Options::lab("volume") });
    expect(&mut vm, "diagnostic", "HP-AT-107");
    assert!(!vm.log.all().iter().any(|line| line.text.starts_with("state volume=")));
}

#[test]
fn power_cut_while_the_volume_is_made() {
    let Some((tree, image, _one)) = image() else { return };
    let options = Options::lab("cut-format");
    let mut vm = Vm::start(&tree, &image, &options).unwrap();
    // The phase before is over: the helper is at work.
    vm.wait("the phase measure", run::READY_WAIT, |line| {
        line.verb() == "phase" && line.field("name") == Some("measure")
    })
    .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    drop(vm);
    // The battery was out as well: as if the volume came from the future.
    let clock = Some("1990-01-01T00:00:00".to_owned());
    let (mut vm, _) = boot(&tree, &image, &Options { keep: true, clock, ..options });
    expect(&mut vm, "state", "volume=");
    let wrong = |line: &&vm::Line| line.verb() == "diagnostic" && line.text.contains("HP-AT-1");
    assert_eq!(vm.log.all().iter().find(wrong), None);
    vm.power_off().unwrap();
}
