//! The box when something is wrong: it comes up, says what and what to do, loses nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

#[allow(dead_code, reason = "each test program uses a part")]
mod guest;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use guest::{SOON, boot, expect, image};
use hookprobe_xtask::{
    compose::state_offset,
    run,
    vm::{self, Options, Serial, Vm, folder},
};
use serde_json::json;

fn diagnosed(vm: &mut Vm, code: &str) {
    let line = expect(vm, "diagnostic", code);
    assert!(line.text.contains("; "), "code and remedy: {}", line.text);
}

#[test]
fn no_tpm() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let (mut vm, ready) =
        boot(&tree, &image, &Options { tpm_banks: None, ..Options::lab("no-tpm") });
    assert_eq!(ready.field("level"), Some("L0"));
    diagnosed(&mut vm, "HP-TP-");
    diagnosed(&mut vm, "HP-ST-008");
    vm.power_off().unwrap();
    // What it says is so: the ledger's database (redb's magic number) can be read off the disk.
    assert!(folder::state_contains(&vm.dir, b"redb\x1a\x0a\xa9\x0d\x0a").unwrap());
}

#[test]
fn a_tpm_that_dies_while_the_box_starts() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let mut vm = Vm::start(&tree, &image, &Options::lab("dead-tpm")).unwrap();
    // The firmware has used it; PID 1 is about to.
    vm.wait("the first phase", run::READY_WAIT, |line| line.verb() == "phase").unwrap();
    vm.kill_tpm();
    let ready = run::wait_ready(&mut vm).unwrap();
    assert_eq!(ready.field("level"), Some("L0"));
    diagnosed(&mut vm, "HP-TP-");
}

#[test]
fn corrupt_state() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let options = Options::lab("corrupt-state");
    let dir = vm::prepare(&tree, &image, &options).unwrap();
    folder::overwrite_state(&dir, &vec![0xa5; 8 << 20]).unwrap();
    let (mut vm, _) = boot(&tree, &image, &Options { keep: true, ..options });
    diagnosed(&mut vm, "HP-AT-105");
}

/// A file system of this size has no room for the ledger's database.
const FULL_BYTES: u64 = 160 << 10;

#[test]
fn full_state() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    // Without a TPM the partition is used as it is.
    let options = Options { tpm_banks: None, ..Options::lab("full-state") };
    let dir = vm::prepare(&tree, &image, &options).unwrap();
    let small = dir.join("small.ext4");
    std::fs::File::create(&small).unwrap().set_len(FULL_BYTES).unwrap();
    let status = Command::new("/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-b", "1024", "-N", "16"])
        .arg(&small)
        .status();
    assert!(status.unwrap().success());
    folder::put_state(&dir, &small).unwrap();
    let (mut vm, _) = boot(&tree, &image, &Options { keep: true, ..options });
    let line = vm
        .wait("full disk", SOON, |line| line.text.contains("HP-LD-") && line.text.contains("full"));
    assert!(
        line.is_ok()
            || vm.log.all().iter().any(|l| l.text.contains("HP-LD-") && l.text.contains("full"))
    );
}

#[test]
fn unreadable_state() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let mut options = Options::lab("unreadable-state");
    let dir = vm::prepare(&tree, &image, &options).unwrap();
    let rules = dir.join("blkdebug.conf");
    let sectors: String = (0..64)
        .map(|sector| {
            format!(
                "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"{}\"\n\n",
                state_offset() / 512 + sector
            )
        })
        .collect();
    std::fs::write(&rules, sectors).unwrap();
    options.keep = true;
    options.disk_prefix = format!("blkdebug:{}:", rules.display());
    let (mut vm, _) = boot(&tree, &image, &options);
    diagnosed(&mut vm, "HP-AT-1");
}

#[test]
fn no_serial_line() {
    let Some((tree, image, _one)) = image() else { return };
    let options = Options { serial: Serial::None, ..Options::lab("no-serial") };
    let (mut vm, _) = boot(&tree, &image, &options);
    vm.power_off().unwrap();
}

#[test]
fn no_network() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let (mut vm, _) =
        boot(&tree, &image, &Options { network: false, ..Options::lab("no-network") });
    diagnosed(&mut vm, "HP-NW-");
}

#[test]
fn corrupt_configuration() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let site = Some(b"[node]\nname = \"unclosed\n\xff".to_vec());
    let (mut vm, _) = boot(&tree, &image, &Options { site, ..Options::lab("corrupt-site") });
    diagnosed(&mut vm, "HP-CF-");
}

#[test]
fn an_interface_that_vanishes() {
    let Some((tree, image, _one)) = image() else {
        return;
    };
    let (mut vm, _) = boot(&tree, &image, &Options::lab("vanishing"));
    vm.qmp().unwrap().execute("device_del", json!({ "id": "nic1" })).unwrap();
    diagnosed(&mut vm, "HP-NW-005");
    let card = json!({
        "driver": "virtio-net-pci", "id": "nic2", "bus": "port1", "netdev": "lan",
        "mac": "52:54:00:48:50:02", "romfile": "",
    });
    // The host lets go of the cable a little after the guest let go of the card.
    let start = Instant::now();
    while let Err(error) = vm.qmp().unwrap().execute("device_add", card.clone()) {
        assert!(start.elapsed() < SOON, "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
    expect(&mut vm, "network", "interface=eth1 is back");
    // Once at boot, once again; the two processes see the card in either order.
    let start = Instant::now();
    let attached = |line: &&vm::Line| line.text.starts_with("attached interface=eth1");
    while vm.log.all().iter().filter(attached).count() < 2 {
        assert!(start.elapsed() < SOON, "the sensor did not attach again:\n{}", vm.tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    vm.power_off().unwrap();
}
