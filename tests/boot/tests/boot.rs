//! The box as it should be: measured as predicted, usable over its serial line, orderly, lasting.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

#[allow(dead_code, reason = "each test program uses a part")]
mod guest;

use std::time::{Duration, Instant};

use guest::{boot, expect, image};
use hookprobe_evidence::{
    appraise::{Appraisal, Memory, Reference, Site, appraise},
    bundle::Evidence,
    digest::HashAlg,
    manifest::ReferenceManifest,
    pcr::PcrIndex,
    site,
};
use hookprobe_wire::qr;
use hookprobe_xtask::{
    compose::{self, Signer, Vouch},
    vm::{
        self, Options, Port, Screen, Serial, Stick, Vm, folder,
        wire::{self, Cable, Station},
    },
};

fn manifest(image: &hookprobe_xtask::tree::Image) -> ReferenceManifest {
    ReferenceManifest::parse(&std::fs::read(image.manifest()).unwrap()).unwrap()
}

/// Value of a PCR as the box read it from the TPM.
fn pcr(vm: &mut Vm, bank: &str, index: u8) -> String {
    let line = expect(vm, "pcr", &format!("bank={bank} index={index} "));
    line.field("value").unwrap().to_owned()
}

/// Short evidence off the console, page by page as somebody copies it, over a nonce that is typed.
fn copied_evidence(screen: &mut Screen, nonce: &str) -> Evidence {
    screen.press("mmmm/").unwrap();
    screen.wait(&["nonce (hexadecimal):"]).unwrap();
    screen.press(nonce).unwrap();
    screen.wait(&[&format!("{nonce}_")]).unwrap();
    screen.press("\r\r").unwrap();
    let mut copied = screen.wait(&[nonce, "as typed", "HPQ1:"]).unwrap();
    for _ in 0..9 {
        if let Ok(bytes) = qr::join(&copied) {
            return Evidence::parse(&bytes).unwrap();
        }
        let shown = screen.text();
        screen.press("n").unwrap();
        // The next part, or the same again where there is one alone.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && screen.text() == shown {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_secs(1));
        copied.push('\n');
        copied.push_str(&screen.text());
    }
    panic!("no whole evidence in\n{copied}");
}

/// What a verifier that drew `nonce` finds.
fn found(evidence: &Evidence, nonce: &[u8]) -> Vec<String> {
    let release_keys = vec![Signer::find().unwrap().release_key().unwrap()];
    let nonce = Some(nonce.to_vec());
    let reference = Reference { release_keys, nonce, first_contact: true, ..Reference::default() };
    appraise(evidence, &reference, 0).findings.iter().map(|found| found.code.clone()).collect()
}

/// Put beside the laboratory's rules while the box runs: one rule, and one that nobody understands.
const ADDED: (&str, &[u8]) = (
    "added.rules",
    b"alert udp any any -> $HOME_NET 4444 (msg:\"LAB added\"; content:\"added\"; sid:9000099; rev:1; priority:2;)\n\
      alert udp any any -> any any (no_such_keyword; sid:9000098;)\n",
);

/// Full evidence, and what a verifier finds that knows the site configuration of the start.
fn appraised(vm: &Vm, memory: Option<Memory>) -> Appraisal {
    let mut port = Port::plug(vm).unwrap();
    let evidence = Evidence::parse(&port.evidence(b"a reload", true).unwrap()).unwrap();
    let files = [site::File::new(vm::LAB_RULES.0, vm::LAB_RULES.1)];
    let reference = Reference {
        release_keys: vec![Signer::find().unwrap().release_key().unwrap()],
        first_contact: true,
        site: Some(Site::Bytes(site::measured(vm::LAB_SITE, &files))),
        memory: memory.clone(),
        ..Reference::default()
    };
    let known = appraise(&evidence, &reference, 0);
    // Who does not know it, as the box itself, comes to the same.
    let unknown = appraise(&evidence, &Reference { site: None, ..reference }, 0);
    assert_eq!(unknown.status, known.status, "{:?}", unknown.findings);
    known
}

/// A rule is added to the boot partition of the running box, by the machine's disk image, and asked for
/// from the console: it is measured, told to verifiers, and matches the next packet.
fn rules_read_again(vm: &mut Vm, screen: &mut Screen, cable: &Cable, station: Station) {
    let before = appraised(vm, None);
    assert_eq!(before.divergence, None, "{:?}", before.findings);
    let pcr12 = |seen: &Appraisal| {
        let register = seen.registers.iter().find(|register| register.pcr == PcrIndex::SITE);
        register.unwrap().value.hex()
    };
    let lab_rules = vm::LAB_RULES.1;
    let rules = lab_rules.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"alert"));
    let rules = rules.count() + 1;

    folder::set_beside(&vm.dir, ADDED.0, ADDED.1).unwrap();
    screen.press("7r").unwrap();
    screen.wait(&["y yes"]).unwrap();
    screen.press("y").unwrap();
    screen.wait(&["reload: [ OK ]", &format!("{rules} rules loaded, 1 rejected")]).unwrap();
    let measured = expect(vm, "reload", "number=1 measured");
    assert!(measured.text.contains("site:reload 1 files 2 sha256:"), "{}", measured.text);
    let done = expect(vm, "reload", "result=done");
    assert_eq!(done.number("rules"), Some(rules as u64), "{}", done.text);

    cable.send(&wire::datagram(station, 4444, b"added")).unwrap();
    let alert = expect(vm, "alert", "detector=rule");
    assert!(alert.text.contains(&station.address.to_string()), "{}", alert.text);

    let after = appraised(vm, before.memory.clone());
    assert_eq!(after.status, before.status, "{:?}", after.findings);
    assert_eq!(measured.field("pcr12"), Some(&*pcr12(&after)));
    assert_ne!(pcr12(&after), pcr12(&before));
    let told = after.findings.iter().find(|found| found.code == "HP-MB-072").unwrap().to_string();
    assert!(told.contains("site:reload 1 files 2"), "{told}");

    // Nothing was restarted for it.
    let lines = vm.log.all();
    assert!(!lines.iter().any(|line| line.text.contains("change=exited")), "{}", vm.tail());
}

/// Whole evidence over a verifier's nonce, on a USB stick that is plugged into the running box.
fn evidence_on_a_stick(vm: &mut Vm, screen: &mut Screen, nonce: &[u8]) {
    let theirs = ("holiday.txt", &b"not ours"[..]);
    let stick = Stick::make(&vm.dir, theirs).unwrap();
    screen.press("w").unwrap();
    screen.wait(&["usb: FAIL HP-US-005"]).unwrap();
    stick.plug(vm).unwrap();
    // The kernel looks at it for a second or two, on a loaded machine for longer.
    let written = (0..10).any(|_| {
        std::thread::sleep(Duration::from_secs(10));
        screen.press("w").unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(500));
            let text = screen.text();
            if text.contains("usb: [ OK ] hookprobe-hp-lab-") {
                return true;
            }
            // The answer of before stands there for a while.
            if begun.elapsed() > Duration::from_secs(20) && text.contains("usb: FAIL HP-US-005") {
                return false;
            }
        }
        false
    });
    assert!(written, "{}", screen.text());
    let done = expect(vm, "carry", "result=done");
    let names = stick.names().unwrap();
    let [_, ours] = names.as_slice() else { panic!("{names:?}") };
    assert!(done.text.contains(ours.as_str()), "{ours} {}", done.text);
    assert_eq!(stick.read(theirs.0).unwrap(), theirs.1);
    let evidence = Evidence::parse(&stick.read(ours).unwrap()).unwrap();
    let reference = Reference {
        release_keys: vec![Signer::find().unwrap().release_key().unwrap()],
        nonce: Some(nonce.to_vec()),
        first_contact: true,
        ..Reference::default()
    };
    let seen = appraise(&evidence, &reference, 0);
    assert_eq!(seen.divergence, None, "{:?}", seen.findings);
    let stale = seen.findings.iter().any(|found| found.code == "HP-QV-045");
    assert!(!stale && seen.level.to_string() == "T", "{} {:?}", seen.level, seen.findings);
}

#[test]
fn measured_as_predicted_and_driven_over_the_serial_line() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let options = Options { serial: Serial::Socket, usb: true, ..Options::lab("boot") };
    let dir = vm::prepare(&tree, &image, &options).unwrap();
    let station = Station::new(67);
    let cable = Cable::plug(&dir, &[station]).unwrap();
    let options = Options { keep: true, ..options };
    let (mut vm, ready) = boot(&tree, &image, &options);
    assert_eq!(ready.field("level"), Some("T"));
    let services = ready.field("services").unwrap().to_owned();
    let (up, of) = services.split_once('/').unwrap();
    assert_eq!(up, of, "{services}");

    let manifest = manifest(&image);
    for bank in [HashAlg::Sha256, HashAlg::Sha384] {
        for index in [PcrIndex::UKI, PcrIndex::SERVICES] {
            let predicted = manifest.pcr(bank, index).unwrap().hex();
            assert_eq!(pcr(&mut vm, bank.name(), index.get()), predicted, "{bank} {index}");
        }
    }

    let mut screen = Screen::plug(&vm).unwrap();
    screen.press("1").unwrap();
    // A new box has a recovery key that nobody has noted; it says so until somebody puts it off.
    screen.wait(&["RECOVERY KEY NOT NOTED"]).unwrap();
    screen.press("\x1b").unwrap();
    screen.wait(&["ATTESTATION", "hp-lab", "[ OK ]"]).unwrap();
    screen.press("7").unwrap();
    screen.wait(&["ledger", "sensor", "response"]).unwrap();
    screen.press("4").unwrap();
    let ledger = screen.wait(&["boot"]).unwrap();
    assert!(!ledger.contains("disconnected"), "{ledger}");
    screen.press("2").unwrap();
    screen.wait(&["Alerts"]).unwrap();

    // The built-in drill, by one key.
    screen.press("1d").unwrap();
    screen.wait(&["drill"]).unwrap();
    screen.press("y").unwrap();
    let result = expect(&mut vm, "drill", "result=");
    assert_eq!(result.field("result"), Some("blocked"), "{}", result.text);
    screen.press("2").unwrap();
    screen.wait(&["198.51.100.1", "blocked", "drill"]).unwrap();

    rules_read_again(&mut vm, &mut screen, &cable, station);

    // The short evidence answers the verifier's own challenge, and no other.
    let evidence = copied_evidence(&mut screen, "0123456789abcdef");
    let nonce = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let stale = |nonce: &[u8]| found(&evidence, nonce).iter().any(|code| code == "HP-QV-045");
    assert!(!stale(&nonce), "{:?}", found(&evidence, &nonce));
    assert!(stale(&[0xab; 8]));

    // And all of it, over the same.
    evidence_on_a_stick(&mut vm, &mut screen, &nonce);

    // Orderly shutdown by the power button.
    vm.power_off().unwrap();
    // Every service may still say something between the two.
    let all: Vec<String> = vm.log.all().iter().map(|line| line.text.clone()).collect();
    let begun = all.iter().position(|line| line.starts_with("shutdown"));
    let ended = all.iter().position(|line| line == "services stopped");
    assert!(begun.is_some() && begun < ended, "{begun:?} {ended:?} {}", vm.tail());
}

#[test]
fn a_changed_byte_changes_pcr_13_and_names_the_service() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let tampered = compose::repack(&tree, "tampered", Vouch::Stolen, |root| {
        let path = root.join("usr/lib/hookprobe/hookprobe-sensor");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.push(0);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o555)).unwrap();
    })
    .unwrap();
    let uki = Some(tampered.uki());
    let (mut vm, _) = boot(&tree, &image, &Options { uki, ..Options::lab("tampered") });
    let manifest = manifest(&image);
    for bank in [HashAlg::Sha256, HashAlg::Sha384] {
        for index in [PcrIndex::UKI, PcrIndex::SERVICES] {
            let predicted = manifest.pcr(bank, index).unwrap().hex();
            assert_ne!(pcr(&mut vm, bank.name(), index.get()), predicted, "{bank} {index}");
        }
    }
    let line = expect(&mut vm, "diagnostic", "HP-MB-004");
    // The first that runs this program.
    assert!(
        line.text.contains("service:inspector file:/usr/lib/hookprobe/hookprobe-sensor"),
        "{}",
        line.text
    );
}

/// Who the box is to devices that send it syslog over TLS.
fn fingerprint(vm: &mut Vm) -> String {
    let line = expect(vm, "syslog", "fingerprint=");
    line.field("fingerprint").unwrap().to_owned()
}

#[test]
fn blocks_and_identity_survive_power_off_and_power_cut() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let options = Options::lab("lasting");
    let dir = vm::prepare(&tree, &image, &options).unwrap();
    let attacker = Station::new(66);
    let cable = Cable::plug(&dir, &[attacker]).unwrap();
    let keep = Options { keep: true, ..options };
    let (mut vm, _) = boot(&tree, &image, &keep);
    let pinned = fingerprint(&mut vm);
    assert!(pinned.starts_with("sha-256:"), "{pinned}");
    let mut port = 0;
    let alert = loop {
        port += 1;
        assert!(port < 8000, "no alert");
        cable.send(&wire::syn(attacker, port, 40_000)).unwrap();
        cable.drain().unwrap();
        std::thread::sleep(Duration::from_millis(25));
        if let Some(line) =
            vm.log.all().iter().find(|l| l.verb() == "alert" && l.field("seq").is_some())
        {
            break line.clone();
        }
    };
    drop(vm); // the power cut: QEMU is killed
    let (mut vm, _) = boot(&tree, &image, &keep);
    let verified = expect(&mut vm, "chain", "verified").number("blocks").unwrap();
    assert!(
        verified > alert.number("seq").unwrap(),
        "{verified} blocks, acknowledged: {}",
        alert.text
    );
    assert_eq!(fingerprint(&mut vm), pinned);
    vm.power_off().unwrap();
    let (mut vm, _) = boot(&tree, &image, &keep);
    let again = expect(&mut vm, "chain", "verified").number("blocks").unwrap();
    assert!(again > verified, "{again} blocks after {verified}");
    assert!(!vm.log.all().iter().any(|line| line.text.contains("damaged")));
}

#[test]
fn five_hundred_and_twelve_mebibytes_are_enough() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let (mut vm, ready) =
        boot(&tree, &image, &Options { memory_mib: 512, ..Options::lab("small") });
    assert!(ready.number("rss_mib").unwrap() <= 96, "{}", ready.text);
    vm.power_off().unwrap();
}

#[test]
fn a_fresh_image_without_configuration_watches_everything_and_only_observes() {
    let Some((tree, image, _one)) = image() else { return };
    let (mut vm, _) = boot(&tree, &image, &Options { site: None, ..Options::lab("fresh") });
    expect(&mut vm, "attached", "interface=eth0");
    expect(&mut vm, "attached", "interface=eth1");
    expect(&mut vm, "starting", "observe");
    expect(&mut vm, "eth0:", "leased 10.0.2.15");
    let wrong = |line: &&vm::Line| line.text.contains("HP-CF-");
    assert_eq!(vm.log.all().iter().find(wrong), None);
    vm.power_off().unwrap();
}
