//! The courier as PID 1 starts it: evidence of an attester on a stick, which is a file here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output},
    thread,
};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use hookprobe_wire::{
    Decoder,
    attest::{PART_BYTES_MAX, Reply, Request},
    frame,
};

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// Answers one client.
fn attester(dir: &Path, evidence: Vec<u8>) {
    let listener = UnixListener::bind(dir.join("attest.sock")).unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut decoder = Decoder::new();
        let mut bytes = [0; 4096];
        let request = loop {
            let got = client.read(&mut bytes).unwrap();
            decoder.feed(&bytes[..got]);
            if let Some(request) = decoder.next().unwrap() {
                break request;
            }
        };
        let Request::Evidence { nonce, exporter: None, full: true } = request else {
            panic!("{request:?}")
        };
        assert_eq!(nonce[..3], [0x00, 0x11, 0x22]);
        let total = u32::try_from(evidence.len()).unwrap();
        let mut offset = 0;
        for piece in evidence.chunks(PART_BYTES_MAX) {
            let part = Reply::Part { offset, total, bytes: piece.to_vec().into() };
            client.write_all(&frame::to_vec(&part).unwrap()).unwrap();
            offset += u32::try_from(piece.len()).unwrap();
        }
    });
}

fn carry(dir: &Path, stick: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookprobe-console"))
        .arg("--socket-dir")
        .arg(dir)
        .args(["carry", "--nonce", NONCE, "--name", "hp-lab", "--stick"])
        .arg(stick)
        .output()
        .unwrap()
}

#[test]
fn evidence_of_the_attester_is_on_the_stick() {
    let dir = tempfile::tempdir().unwrap();
    let stick = dir.path().join("stick");
    let mut disk = OpenOptions::new().read(true).write(true).create_new(true).open(&stick).unwrap();
    disk.set_len(16 << 20).unwrap();
    format_volume(&mut disk, FormatVolumeOptions::new()).unwrap();
    let evidence: Vec<u8> = (0..147_001_u32).map(|at| (at % 249) as u8).collect();
    attester(dir.path(), evidence.clone());
    let output = carry(dir.path(), &stick);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let name = said.strip_prefix("INFO ").and_then(|said| said.split_once(',')).unwrap().0;
    assert!(
        name.starts_with("hookprobe-hp-lab-") && name.ends_with("Z-00112233.evidence"),
        "{name}"
    );
    assert!(said.ends_with(&format!("147001 bytes over nonce {NONCE}\n")), "{said}");
    let system = FileSystem::new(disk, FsOptions::new()).unwrap();
    let mut read = Vec::new();
    system.root_dir().open_file(name).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, evidence);
}

#[test]
fn without_a_stick_or_an_attester_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let stick = dir.path().join("stick");
    for (make, code) in [(false, "ERROR HP-US-020"), (true, "ERROR HP-US-024")] {
        if make {
            fs::write(&stick, vec![0; 1 << 20]).unwrap();
        }
        let output = carry(dir.path(), &stick);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.starts_with(code), "{said}");
    }
}
