//! The disk image: GPT with the EFI system partition and the state partition.

use std::{fs, path::Path, process::Command};

use hookprobe_evidence::signed::ENVELOPE_NAME;

use crate::{
    error::{Result, at},
    shell,
    tree::{Image, Tree},
};

/// Room for two boot blobs and the site configuration.
const ESP_MIB: u64 = 128;
/// State that a fresh image has room for.
pub const STATE_MIB: u64 = 256;
/// Byte at which the ESP starts in the disk image; see image/layout/disk-x86_64.cfg.
pub(crate) const ESP_OFFSET: u64 = 1024 * 1024;

/// Byte at which the state partition starts in the disk image: right after the ESP.
#[must_use]
pub fn state_offset() -> u64 {
    ESP_OFFSET + ESP_MIB * 1024 * 1024
}

fn blank(path: &Path, mib: u64) -> Result<()> {
    let _ = fs::remove_file(path);
    let file = fs::File::create(path).map_err(at(path))?;
    file.set_len(mib * 1024 * 1024).map_err(at(path))
}

/// Puts the disk image together with genimage.
pub(super) fn assemble(tree: &Tree, image: &Image, time: u64) -> Result<()> {
    let work = image.dir.join("genimage");
    let _ = fs::remove_dir_all(&work);
    let (input, empty) = (work.join("input"), work.join("empty"));
    for dir in [&input, &empty] {
        fs::create_dir_all(dir).map_err(at(dir))?;
    }
    let esp = input.join("esp.vfat");
    blank(&esp, ESP_MIB)?;
    shell::output(
        Command::new("/sbin/mkfs.vfat")
            .args(["-F32", "--invariant", "-i", "48504f53", "-n", "HP-ESP"])
            .arg(&esp),
    )?;
    let mtools = |program: &str| {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", time.to_string()).env("TZ", "UTC").arg("-i").arg(&esp);
        command
    };
    shell::output(mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    shell::output(mtools("mcopy").arg(image.uki()).arg("::/EFI/BOOT/BOOTX64.EFI"))?;
    let beside = format!("::/{ENVELOPE_NAME}");
    shell::output(mtools("mcopy").arg(image.envelope()).arg(beside))?;
    // Empty: the box makes its volume at the first boot, because only its TPM can keep the key.
    blank(&input.join("state.img"), STATE_MIB)?;
    shell::output(
        Command::new("genimage")
            .arg("--config")
            .arg(tree.source("image/layout/disk-x86_64.cfg"))
            .arg("--inputpath")
            .arg(&input)
            .arg("--rootpath")
            .arg(&empty)
            .arg("--tmppath")
            .arg(work.join("tmp"))
            .arg("--outputpath")
            .arg(&image.dir),
    )?;
    fs::remove_dir_all(&work).map_err(at(&work))
}
