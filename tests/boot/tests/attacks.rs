//! The attacks of `cargo xtask attack` at a smaller scale, and what happens to the state volume of a
//! real box: stolen, carried to another box, opened by its recovery key, cut off while it is made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

#[allow(dead_code, reason = "each test program uses a part")]
mod guest;

use std::time::{Duration, Instant};

use guest::{SOON, boot, expect, image};
use hookprobe_evidence::{
    appraise::{Appraisal, Reference, Status as Judged, appraise},
    bundle::Evidence,
    quote::{AttestationKey, KeyName},
};
use hookprobe_wire::attest::{Status, Verdict};
use hookprobe_xtask::{
    attack::{self, Scale},
    compose::Signer,
    run,
    tree::{Image, Tree},
    vm::{self, Options, Port, Screen, Serial, Vm, folder, tpm},
};

/// PID 1 writes the line, then the question, then listens.
const QUESTION_WAIT: Duration = Duration::from_secs(5);

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

/// Who a box says that it is, and what proves it.
struct Who {
    status: Status,
    evidence: Evidence,
    key: KeyName,
}

/// Asks a box that has looked at itself.
fn who(vm: &Vm) -> Who {
    let mut port = Port::plug(vm).unwrap();
    let settled = |status: &Status| status.verdict != Verdict::None && status.node.is_some();
    let status = port.wait_status("its own verification", SOON, settled).unwrap();
    let evidence = Evidence::parse(&port.evidence(b"who are you", true).unwrap()).unwrap();
    let key = AttestationKey::from_public(&evidence.ak_public).unwrap().name().clone();
    assert_eq!(status.ak_name, key.hex());
    Who { status, evidence, key }
}

impl Who {
    /// What somebody finds who enrolled the box under `key`, or looks at it for the first time.
    fn judged(&self, key: Option<&KeyName>) -> Appraisal {
        let release_keys = vec![Signer::find().unwrap().release_key().unwrap()];
        let nonce = Some(self.evidence.binding.nonce.to_vec());
        let ak_name = key.cloned();
        let first_contact = key.is_none();
        let reference =
            Reference { release_keys, nonce, ak_name, first_contact, ..Reference::default() };
        appraise(&self.evidence, &reference, 0)
    }

    /// Whether it is told apart from the box that was enrolled under `key`.
    fn is_another_than(&self, key: &KeyName) -> bool {
        let appraisal = self.judged(Some(key));
        let named = codes(&appraisal).contains(&"HP-QV-047");
        assert_eq!(named, appraisal.status == Judged::Contraindicated, "{:?}", appraisal.findings);
        named
    }
}

fn codes(appraisal: &Appraisal) -> Vec<&str> {
    appraisal.findings.iter().map(|found| found.code.as_str()).collect()
}

/// A new box: its recovery key, which it shows until it was noted and never again, and who it is.
fn new_box(tree: &Tree, image: &Image) -> (String, Who) {
    let options = Options { serial: Serial::Socket, ..Options::lab("volume") };
    let (mut vm, _) = boot(tree, image, &options);
    expect(&mut vm, "state", "volume=");
    let mut screen = Screen::plug(&vm).unwrap();
    screen.wait(&["RECOVERY KEY NOT NOTED"]).unwrap();
    screen.press("R").unwrap();
    let key = recovery_key(&mut screen);
    let group = key.split('-').next().unwrap();
    screen.press(&format!("{group}\r")).unwrap();
    screen.wait(&["noted; the box has forgotten it"]).unwrap();
    screen.press("R").unwrap();
    let shown = screen.wait(&["none waits to be noted"]).unwrap();
    assert!(!shown.contains(&key) && !shown.contains("NOT NOTED"), "{shown}");
    let who = who(&vm);
    assert!(!who.status.recovery_waiting);
    vm.power_off().unwrap();
    (key, who)
}

/// PCR 4 is not what it is when the disk comes first, and nothing else ran.
fn affirmed_after_one_that_failed(vm: &Vm) -> Who {
    let who = who(vm);
    assert_eq!((who.status.verdict, &*who.status.divergence), (Verdict::Affirming, ""));
    let appraisal = who.judged(None);
    assert!(codes(&appraisal).contains(&"HP-MB-069"), "{:?}", appraisal.findings);
    assert_eq!(appraisal.divergence, None);
    who
}

/// The partition under the volume is changed while the box has it open: what was measured is what
/// runs, and the box goes on proving it (attack 2 on the state).
fn goes_on_over_a_changed_disk(vm: &Vm, before: &Who) {
    folder::disturb_state(&vm.dir, 8 << 20).unwrap();
    let after = who(vm);
    assert_eq!(after.evidence.pcrs, before.evidence.pcrs);
    assert_eq!(after.judged(None).divergence, None);
    assert!(!after.is_another_than(&before.key));
}

/// A recovery key that opens nothing, and then the right one, on a box without a TPM.
fn opened_without_a_tpm(tree: &Tree, image: &Image, key: &str) {
    let options = Options { keep: true, serial: Serial::Socket, ..Options::lab("volume") };
    let options = Options { tpm_banks: None, ..options };
    let mut vm = Vm::start(tree, image, &options).unwrap();
    let mut screen = Screen::plug(&vm).unwrap();
    let asks = |line: &vm::Line| line.text.starts_with("state locked");
    let asked = vm.wait("the question", run::READY_WAIT, asks).unwrap();
    assert!(asked.text.contains("HP-AT-106") && asked.text.contains("; "), "{}", asked.text);
    // What was typed before the question is no answer to it.
    screen.wait(&["Waiting 30 s"]).unwrap();
    screen.press(&format!("{}\r", ["00000"; 8].join("-"))).unwrap();
    let again = vm.wait("the question again", SOON, asks).unwrap();
    assert!(again.text.contains("HP-AT-108"), "{}", again.text);
    std::thread::sleep(QUESTION_WAIT);
    screen.press(&format!("{key}\r")).unwrap();
    let ready = run::wait_ready(&mut vm).unwrap();
    assert_eq!(ready.field("level"), Some("L0"));
    let said = expect(&mut vm, "diagnostic", "HP-AT-112");
    assert!(said.text.contains("; "), "code and remedy: {}", said.text);
    let blocks = expect(&mut vm, "chain", "verified").number("blocks").unwrap();
    assert!(blocks > 0, "the ledger of the box is there");
    // It claims nothing of itself, and has nothing to show.
    let mut port = Port::plug(&vm).unwrap();
    let status = port.status().unwrap();
    assert_eq!((status.verdict, &*status.level, &*status.ak_name), (Verdict::None, "L0", ""));
    let refused = port.evidence(b"without a TPM", true).unwrap_err().to_string();
    assert!(refused.contains("HP-AT-006"), "{refused}");
    let claims = |line: &&vm::Line| line.source == "attest" && line.verb() == "attested";
    assert_eq!(vm.log.all().iter().find(claims), None);
}

#[test]
fn a_stolen_volume() {
    let Some((tree, image, _one)) = image() else { return };
    let (key, first) = new_box(&tree, &image);
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
    expect(&mut vm, "diagnostic", "HP-AT-113");
    let blocks = expect(&mut vm, "chain", "verified").number("blocks").unwrap();
    assert!(blocks > 0, "the ledger of the first box is there");
    // The state is the same, who answers is another, and says so.
    let second = who(&vm);
    assert_ne!(second.key, first.key);
    assert_ne!(second.status.node, first.status.node);
    assert!(second.is_another_than(&first.key) && first.is_another_than(&second.key));
    assert!(!second.is_another_than(&second.key) && !first.is_another_than(&first.key));
    assert!(second.status.diagnostics.iter().any(|said| said.code == "HP-AT-022"));
    vm.power_off().unwrap();
    drop(vm);

    // Sealed anew: it opens by itself, also when the firmware tries a drive with nothing on it first
    // and the clock is far in the future.
    let clock = Some("2090-01-01T00:00:00".to_owned());
    let options = Options { empty_first: true, clock, ..options };
    let (mut vm, _) = boot(&tree, &image, &options);
    expect(&mut vm, "state", "volume=");
    let third = affirmed_after_one_that_failed(&vm);
    assert_eq!((&third.key, third.status.node), (&second.key, second.status.node));
    assert!(!vm.log.all().iter().any(|line| line.text.contains("HP-AT-1")), "{}", vm.tail());
    goes_on_over_a_changed_disk(&vm, &third);
    drop(vm);

    // In a box without a TPM: it asks as well, opens with the key, and claims nothing.
    folder::restore(&dir, "own", &[]).unwrap();
    opened_without_a_tpm(&tree, &image, &key);
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
