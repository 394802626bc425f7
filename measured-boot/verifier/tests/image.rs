//! Boot blobs and disk images: what they will measure, against what was signed.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hookprobe_evidence::{
    closure::ServiceList,
    digest::HashAlg,
    loader,
    manifest::ReferenceManifest,
    pcr::{PcrIndex, extend},
    policy::{PHASE_EVENT, ReleaseKey},
    signed, uki,
};
use hookprobe_verifier::{disk, image, report::Exit};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};

const SERVICES: &str = r#"
[[service]]
name = "ledger"
exec = "/usr/lib/hookprobe/hookprobe-ledger"
uid = 801
gid = 801
seccomp = ["base"]
network = "none"
memory_mib_max = 1
tasks_max = 1
"#;

fn release() -> SigningKey {
    SigningKey::from_slice(&[0x61; 32]).unwrap()
}

/// A PE file with room for sections, as small as systemd-stub is large.
fn stub() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x80]);
    put(0x80, b"PE\0\0");
    put(0x80 + 20, &[112]);
    let optional = 0x80 + 24;
    put(optional, &0x20b_u16.to_le_bytes());
    for (at, value) in [(32, 0x1000u32), (36, 0x200), (56, 0x1000), (60, 0x400)] {
        put(optional + at, &value.to_le_bytes());
    }
    image
}

fn root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for (path, content) in [
        ("etc/hookprobe/services.toml", SERVICES),
        ("usr/lib/hookprobe/hookprobe-ledger", "program"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

/// A boot blob with a kernel of this content.
fn uki_of(kernel: &[u8]) -> Vec<u8> {
    let kernel = uki::compose(&stub(), &[(".text", kernel)]).unwrap();
    uki::compose(&stub(), &[(".linux", &kernel)]).unwrap()
}

/// A boot blob with `linux` inside and a manifest made for `signed_linux`.
fn blob(linux: &[u8], signed_linux: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let list = ServiceList::parse(SERVICES).unwrap();
    let read = |_: &str| Ok(b"program".to_vec());
    let mut manifest = ReferenceManifest::predict("0.2.0", 2, &list, read).unwrap();
    let signed = uki_of(signed_linux);
    loader::add_loader(&mut manifest, &signed).unwrap();
    for (bank, value) in uki::predict_pcr11(&signed, &HashAlg::ALL).unwrap() {
        let value = extend(&value, &bank.digest(&[PHASE_EVENT.as_bytes()]));
        manifest.set_pcr(bank, PcrIndex::UKI, &value);
    }
    let key = release();
    let id = ReleaseKey::new(*key.verifying_key()).id();
    let envelope = signed::seal_manifest(&manifest, &id, |message| {
        let signature: Signature = key.sign(message);
        signature.to_bytes().into()
    });
    (uki_of(linux), envelope)
}

#[track_caller]
fn check(
    (blob, envelope): &(Vec<u8>, Vec<u8>),
    key: &SigningKey,
    root: Option<&Path>,
    exit: Exit,
    text: &str,
) -> String {
    let release = ReleaseKey::new(*key.verifying_key());
    let envelope = (!envelope.is_empty()).then_some(envelope.as_slice());
    let report = image::verify(Path::new("x.efi"), blob, &release, root, envelope).unwrap();
    assert_eq!(report.verdict(), exit, "{}", report.text());
    assert!(report.text().lines().next().unwrap().contains(text), "{}", report.text());
    report.text()
}

#[test]
fn a_release_is_what_it_says() {
    let text = check(&blob(b"kernel", b"kernel"), &release(), None, Exit::Affirming, "0.2.0");
    assert!(text.contains("PCR 13 was not computed"), "{text}");
    for bank in HashAlg::ALL {
        assert!(text.contains(&format!("PCR 11   {:6}", bank.name())), "{text}");
        assert!(text.contains(&format!("PCR 13   {:6}", bank.name())), "{text}");
    }
}

#[test]
fn another_kernel_another_key_or_no_manifest() {
    let contra = Exit::Contraindicated;
    check(&blob(b"other", b"kernel"), &release(), None, contra, "HP-VF-025 image: PCR 4");
    let key = SigningKey::from_slice(&[0x62; 32]).unwrap();
    check(&blob(b"kernel", b"kernel"), &key, None, contra, "HP-QV-031");
    let bare = (uki_of(b"kernel"), Vec::new());
    check(&bare, &release(), None, contra, "HP-VF-024");
}

#[test]
fn the_services_are_measured_from_an_unpacked_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let blob = blob(b"kernel", b"kernel");
    let text = check(&blob, &release(), Some(&root), Exit::Affirming, "0.2.0");
    assert!(text.contains("computed from the root"), "{text}");
    fs::write(root.join("usr/lib/hookprobe/hookprobe-ledger"), "another").unwrap();
    let text = check(&blob, &release(), Some(&root), Exit::Contraindicated, "PCR 13");
    let event = "HP-VF-026 root: service:ledger file:/usr/lib/hookprobe/hookprobe-ledger";
    assert!(text.contains(event), "{text}");
}

/// A disk image as the composer makes it, when its tools are there.
#[test]
fn a_disk_image_is_read_by_other_peoples_format() {
    let folder = tempfile::tempdir().unwrap();
    let esp = folder.path().join("esp.vfat");
    let efi = folder.path().join("x.efi");
    let (content, envelope) = blob(&[7; 300_000], &[7; 300_000]);
    fs::write(&efi, &content).unwrap();
    let beside = folder.path().join("manifest.dsse");
    fs::write(&beside, &envelope).unwrap();
    for mib in [8, 40, 64] {
        fs::File::create(&esp).unwrap().set_len(mib << 20).unwrap();
        let width = if mib == 64 { "32" } else { "16" };
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|out| out.status.success())
        };
        let esp_text = esp.to_str().unwrap();
        if !run("/sbin/mkfs.vfat", &["-F", width, esp_text])
            || !run("mmd", &["-i", esp_text, "::/EFI", "::/EFI/BOOT"])
            || !run("mcopy", &["-i", esp_text, efi.to_str().unwrap(), "::/EFI/BOOT/BOOTX64.EFI"])
            || !run("mcopy", &["-i", esp_text, beside.to_str().unwrap(), "::/MANIFEST.SIG"])
        {
            println!("skipped: mkfs.vfat or mcopy is missing (packages dosfstools, mtools)");
            return;
        }
        let bytes = fs::read(&esp).unwrap();
        let read = disk::read_file(&mut &bytes[..], 0, image::BLOB_PATH).unwrap();
        assert!(read == content, "FAT{width} of {mib} MiB");
        let read = disk::read_file(&mut &bytes[..], 0, signed::ENVELOPE_NAME).unwrap();
        assert!(read == envelope, "FAT{width} of {mib} MiB");
    }
}
