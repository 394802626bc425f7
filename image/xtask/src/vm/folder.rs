//! A machine's folder while the machine is off: its disk, its TPM, its firmware variables; and what
//! somebody with a screwdriver does to them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use super::{OVMF_VARS, Options, tpm};
use hookprobe_evidence::signed::ENVELOPE_NAME;

use crate::{
    compose,
    error::{Result, at},
    shell,
    tree::{Image, Tree},
};

/// What a snapshot holds.
const PARTS: [&str; 3] = ["disk.img", "vars.fd", "tpm"];
/// First byte of what is encrypted on the state partition (`services/attest/src/unlock/header.rs`).
const STATE_DATA_OFFSET: i64 = 16 << 20;
/// Bytes looked at at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Folder of a machine.
#[must_use]
pub fn folder(tree: &Tree, name: &str) -> PathBuf {
    tree.target("vm").join(name)
}

/// Writes a boot blob and the signed manifest that stands beside it.
fn put_blob(disk: &Path, uki: &Path) -> Result<()> {
    esp_put(disk, uki, "EFI/BOOT/BOOTX64.EFI")?;
    esp_put(disk, &uki.with_file_name("manifest.dsse"), ENVELOPE_NAME)
}

/// Makes the folder of a machine with a fresh disk; leaves an existing one when `keep`.
///
/// # Errors
/// Any [`crate::error::Error`].
pub fn prepare(tree: &Tree, image: &Image, options: &Options) -> Result<PathBuf> {
    let dir = folder(tree, &options.name);
    let disk = dir.join("disk.img");
    let whole = dir.join("whole");
    if options.keep && whole.exists() {
        // The state stays, the blob is today's.
        put_blob(&disk, options.uki.as_ref().unwrap_or(&image.uki()))?;
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    copy(&image.disk(), &disk)?;
    let vars = dir.join("vars.fd");
    fs::copy(OVMF_VARS, &vars).map_err(at(OVMF_VARS))?;
    if let Some(uki) = &options.uki {
        put_blob(&disk, uki)?;
    }
    if let Some(site) = &options.site {
        set_site(&dir, site)?;
        for (name, bytes) in &options.beside {
            set_beside(&dir, name, bytes)?;
        }
    }
    if let Some(banks) = &options.tpm_banks {
        tpm::make(tree, &dir, banks)?;
    }
    // Written last: a folder without it is made anew.
    fs::write(&whole, "").map_err(at(&whole))?;
    Ok(dir)
}

/// Writes the site configuration to a machine's boot partition.
///
/// # Errors
/// What mtools says.
pub fn set_site(dir: &Path, site: &[u8]) -> Result<()> {
    set_beside(dir, "hookprobe.toml", site)
}

/// Writes a file beside it.
///
/// # Errors
/// What mtools says.
pub fn set_beside(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let file = dir.join(name);
    fs::write(&file, bytes).map_err(at(&file))?;
    esp_put(&dir.join("disk.img"), &file, name)
}

/// Copies a file to a disk's boot partition.
///
/// # Errors
/// What mtools says.
pub fn esp_put(disk: &Path, from: &Path, to: &str) -> Result<()> {
    let image = format!("{}@@{}", disk.display(), compose::ESP_OFFSET);
    shell::output(
        Command::new("mcopy").args(["-o", "-i", &image]).arg(from).arg(format!("::/{to}")),
    )?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    shell::output(Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to))?;
    Ok(())
}

/// Keeps disk, TPM and firmware variables under a name.
///
/// # Errors
/// What cp says.
pub fn snapshot(dir: &Path, name: &str) -> Result<()> {
    let to = dir.join("snapshots").join(name);
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).map_err(at(&to))?;
    keep_parts(dir, &to)
}

/// Copies disk, TPM and firmware variables.
pub(super) fn keep_parts(dir: &Path, to: &Path) -> Result<()> {
    PARTS.iter().try_for_each(|part| copy(&dir.join(part), &to.join(part)))
}

/// Puts `parts` of a snapshot back (all of them when empty).
///
/// # Errors
/// What cp says.
pub fn restore(dir: &Path, name: &str, parts: &[&str]) -> Result<()> {
    let from = dir.join("snapshots").join(name);
    for part in PARTS.iter().filter(|part| parts.is_empty() || parts.contains(part)) {
        let to = dir.join(part);
        let _ = fs::remove_dir_all(&to);
        let _ = fs::remove_file(&to);
        copy(&from.join(part), &to)?;
    }
    Ok(())
}

/// Puts the disk and the firmware variables of another machine's snapshot into this one: the box's
/// disk carried to another board.
///
/// # Errors
/// What cp says.
pub fn adopt(from: &Path, name: &str, dir: &Path) -> Result<()> {
    let from = from.join("snapshots").join(name);
    ["disk.img", "vars.fd"].iter().try_for_each(|part| copy(&from.join(part), &dir.join(part)))
}

fn open_state(dir: &Path, write: bool) -> Result<File> {
    let disk = dir.join("disk.img");
    let mut file = OpenOptions::new().read(true).write(write).open(&disk).map_err(at(&disk))?;
    file.seek(SeekFrom::Start(compose::state_offset())).map_err(at(&disk))?;
    Ok(file)
}

/// Copies the state partition into a file.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn take_state(dir: &Path, to: &Path) -> Result<()> {
    let bytes = compose::STATE_MIB << 20;
    let mut from = open_state(dir, false)?.take(bytes);
    let mut file = File::create(to).map_err(at(to))?;
    io::copy(&mut from, &mut file).map_err(at(to))?;
    Ok(())
}

/// Overwrites the state partition from its start with a file's bytes.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn put_state(dir: &Path, from: &Path) -> Result<()> {
    let mut file = File::open(from).map_err(at(from))?;
    io::copy(&mut file, &mut open_state(dir, true)?).map_err(at(from))?;
    Ok(())
}

/// Overwrites the state partition from its start.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn overwrite_state(dir: &Path, with: &[u8]) -> Result<()> {
    open_state(dir, true)?.write_all(with).map_err(at(dir.join("disk.img")))
}

/// Inverts so many bytes of what is encrypted on the state partition, behind the back of whoever has it
/// open.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn disturb_state(dir: &Path, bytes: usize) -> Result<()> {
    let disk = dir.join("disk.img");
    let mut file = open_state(dir, true)?;
    let data = SeekFrom::Current(STATE_DATA_OFFSET);
    let begin = file.seek(data).map_err(at(&disk))?;
    let mut content = vec![0; bytes];
    file.read_exact(&mut content).map_err(at(&disk))?;
    content.iter_mut().for_each(|byte| *byte = !*byte);
    file.seek(SeekFrom::Start(begin)).map_err(at(&disk))?;
    file.write_all(&content).map_err(at(&disk))
}

/// Whether `needle` is anywhere on the state partition: what a thief's eye sees.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn state_contains(dir: &Path, needle: &[u8]) -> Result<bool> {
    let disk = dir.join("disk.img");
    let mut from = open_state(dir, false)?.take(compose::STATE_MIB << 20);
    let mut window = Vec::with_capacity(2 * CHUNK_BYTES);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let got = from.read(&mut chunk).map_err(at(&disk))?;
        if got == 0 {
            return Ok(false);
        }
        window.extend_from_slice(chunk.get(..got).unwrap_or_default());
        if contains(&window, needle) {
            return Ok(true);
        }
        // A needle over the border of two chunks is found in the next window.
        window.drain(..window.len().saturating_sub(needle.len()));
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    hay.iter()
        .enumerate()
        .filter(|(_, byte)| *byte == first)
        .any(|(at, _)| hay.get(at + 1..).is_some_and(|tail| tail.starts_with(rest)))
}
