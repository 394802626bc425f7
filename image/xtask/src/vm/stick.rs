//! A USB stick as shops sell it: one partition, formatted with FAT. Plugged into a running machine that
//! has a USB controller ([`super::Options::usb`]).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::Vm;
use crate::{
    error::{Result, at},
    shell,
};

/// Enough for FAT32.
const BYTES: u64 = 64 << 20;
const SECTOR_BYTES: u64 = 512;
/// Where the partition begins, as everybody aligns it.
const PARTITION_BYTES: u64 = 1 << 20;
/// MBR: FAT32 with addresses of sectors.
const KIND_FAT32_LBA: u8 = 0x0c;

/// A stick, made anew.
#[derive(Debug)]
pub struct Stick {
    path: PathBuf,
}

impl Stick {
    /// Makes one in a machine's folder, with a file on it.
    ///
    /// # Errors
    /// What mkfs.fat and mtools say.
    pub fn make(dir: &Path, file: (&str, &[u8])) -> Result<Self> {
        let path = dir.join("stick.img");
        let _ = fs::remove_file(&path);
        File::create(&path).and_then(|stick| stick.set_len(BYTES)).map_err(at(&path))?;
        let kib = ((BYTES - PARTITION_BYTES) / 1024).to_string();
        let first = (PARTITION_BYTES / SECTOR_BYTES).to_string();
        shell::output(
            Command::new("mkfs.fat")
                .args(["-F", "32", "-n", "STICK", "--offset", &first])
                .arg(&path)
                .arg(&kib),
        )?;
        let stick = Self { path };
        stick.write_table()?;
        let (name, bytes) = file;
        let from = dir.join("on-stick");
        fs::write(&from, bytes).map_err(at(&from))?;
        let to = format!("::/{name}");
        shell::output(Command::new("mcopy").args(["-i", &stick.image()]).arg(&from).arg(to))?;
        Ok(stick)
    }

    fn write_table(&self) -> Result<()> {
        use std::os::unix::fs::FileExt as _;

        let sectors = |bytes: u64| u32::try_from(bytes / SECTOR_BYTES).unwrap_or(u32::MAX);
        let mut sector = [0; SECTOR_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = sector.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(446 + 4, &[KIND_FAT32_LBA]);
        put(446 + 8, &sectors(PARTITION_BYTES).to_le_bytes());
        put(446 + 12, &sectors(BYTES - PARTITION_BYTES).to_le_bytes());
        put(510, &[0x55, 0xaa]);
        let table = File::options().write(true).open(&self.path);
        table.and_then(|disk| disk.write_all_at(&sector, 0)).map_err(at(&self.path))
    }

    /// Puts it into a running machine.
    ///
    /// # Errors
    /// What QEMU says.
    pub fn plug(&self, vm: &Vm) -> Result<()> {
        let mut qmp = vm.qmp()?;
        let file = json!({ "driver": "file", "filename": self.path });
        qmp.execute(
            "blockdev-add",
            json!({ "driver": "raw", "node-name": "stick", "file": file }),
        )?;
        let device =
            json!({ "driver": "usb-storage", "id": "stick0", "bus": "usb0.0", "drive": "stick" });
        qmp.execute("device_add", device)?;
        Ok(())
    }

    /// Names of what is on it.
    ///
    /// # Errors
    /// What mtools says.
    pub fn names(&self) -> Result<Vec<String>> {
        let listed = shell::output(Command::new("mdir").args(["-b", "-i", &self.image(), "::/"]))?;
        Ok(listed.lines().filter_map(|line| line.strip_prefix("::/")).map(str::to_owned).collect())
    }

    /// Bytes of a file on it.
    ///
    /// # Errors
    /// What mtools says.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let to = self.path.with_extension("copy");
        let from = format!("::/{name}");
        shell::output(
            Command::new("mcopy").args(["-n", "-o", "-i", &self.image(), &from]).arg(&to),
        )?;
        fs::read(&to).map_err(at(&to))
    }

    fn image(&self) -> String {
        format!("{}@@{PARTITION_BYTES}", self.path.display())
    }
}
