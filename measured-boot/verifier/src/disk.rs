//! Just enough of GPT (UEFI 2.10, 5.3) and FAT (Microsoft's "FAT: General Overview of On-Disk Format")
//! to read one file with a short name out of a disk image's EFI system partition.
//!
//! The image is hostile. Must never happen here: a read, an allocation or a loop whose size a field
//! of the image decides without a bound. Long names are not read: the boot path of UEFI is short.

use thiserror::Error;

/// Largest file that is read out of an image. A boot blob is at most 32 MiB; a full profile is less
/// than twice that.
pub const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Most partition entries that are looked at; every tool writes 128.
const ENTRIES_MAX: u32 = 128;
/// Most bytes of a directory that are looked at.
const DIRECTORY_BYTES_MAX: usize = 256 * 1024;
/// Sectors of GPT; images of disks with 4096-byte sectors are not made by the composer.
const SECTOR_BYTES: u64 = 512;
/// Most bytes of one allocation table: FAT32 with 2^28 clusters would be a gigabyte.
const TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Type of an EFI system partition, as it stands on disk.
const ESP_TYPE: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// Why no file can be read out of an image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DiskError {
    /// The image ends before what is said to be in it, or the file can't be read.
    #[error("HP-VF-020 image: can't read {bytes} bytes at {at}: {why}; copy it again")]
    Read {
        /// Where.
        at: u64,
        /// How many.
        bytes: usize,
        /// Why not.
        why: String,
    },
    /// No such table, or one that contradicts itself.
    #[error("HP-VF-021 image: {0}; give a boot blob (.efi) or a whole disk image of this product")]
    Layout(&'static str),
    /// The file is not there.
    #[error(
        "HP-VF-022 image: no {0} in the EFI system partition; is this an image of this product?"
    )]
    Missing(String),
    /// Larger than it may be.
    #[error("HP-VF-023 image: {what} has {got} bytes, at most {max} are read")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large.
        got: u64,
        /// How large it may be.
        max: u64,
    },
}

/// Where the bytes of an image come from.
pub trait Blocks {
    /// Exactly `bytes` bytes from `at` on.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    fn read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, DiskError>;
}

impl Blocks for &[u8] {
    fn read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        usize::try_from(at)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(bytes)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| DiskError::Read { at, bytes, why: "the image ends before".into() })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, DiskError> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map(|chunk| u16::from_le_bytes(*chunk)).ok_or(DiskError::Layout("a field is cut off"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, DiskError> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map(|chunk| u32::from_le_bytes(*chunk)).ok_or(DiskError::Layout("a field is cut off"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, DiskError> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map(|chunk| u64::from_le_bytes(*chunk)).ok_or(DiskError::Layout("a field is cut off"))
}

/// Start of the EFI system partition in bytes.
///
/// # Errors
/// [`DiskError::Read`], [`DiskError::Layout`].
pub fn find_esp(disk: &mut impl Blocks) -> Result<u64, DiskError> {
    let header = disk.read(SECTOR_BYTES, 92)?;
    if !header.starts_with(b"EFI PART") {
        return Err(DiskError::Layout("no GPT"));
    }
    let (table, count, entry_bytes) =
        (u64_at(&header, 72)?, u32_at(&header, 80)?, u32_at(&header, 84)?);
    if !(128..=1024).contains(&entry_bytes) {
        return Err(DiskError::Layout("GPT entries of an impossible size"));
    }
    let table = table.checked_mul(SECTOR_BYTES).ok_or(DiskError::Layout("GPT far away"))?;
    for index in 0..u64::from(count.min(ENTRIES_MAX)) {
        let at = table.checked_add(index * u64::from(entry_bytes));
        let entry = disk.read(at.ok_or(DiskError::Layout("GPT far away"))?, 48)?;
        if entry.starts_with(&ESP_TYPE) {
            let first = u64_at(&entry, 32)?;
            return first
                .checked_mul(SECTOR_BYTES)
                .ok_or(DiskError::Layout("a partition far away"));
        }
    }
    Err(DiskError::Layout("no EFI system partition in the GPT"))
}

/// Width of an entry in the allocation table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// A FAT volume, its allocation table in memory.
struct Volume<'d, B> {
    disk: &'d mut B,
    width: Width,
    table: Vec<u8>,
    clusters: u32,
    cluster_bytes: usize,
    /// Where cluster 2 begins.
    data_at: u64,
    root: Root,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    /// A region of its own: FAT12, FAT16.
    Region { at: u64, bytes: usize },
    /// A chain: FAT32.
    Chain { cluster: u32 },
}

/// A directory entry that was found.
struct Entry {
    directory: bool,
    cluster: u32,
    bytes: u32,
}

/// Reads `path` (short names, `/` between them) out of the FAT volume at `start`.
///
/// # Errors
/// Any [`DiskError`].
pub fn read_file(disk: &mut impl Blocks, start: u64, path: &str) -> Result<Vec<u8>, DiskError> {
    let mut volume = Volume::open(disk, start)?;
    let missing = || DiskError::Missing(path.to_owned());
    let mut directory = match volume.root {
        Root::Region { at, bytes } => volume.disk.read(at, bytes)?,
        Root::Chain { cluster } => volume.chain(cluster, DIRECTORY_BYTES_MAX, true)?,
    };
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let entry = find(&directory, part)?.ok_or_else(missing)?;
        if parts.peek().is_none() {
            if entry.directory {
                return Err(missing());
            }
            if u64::from(entry.bytes) > FILE_BYTES_MAX {
                return Err(DiskError::TooLarge {
                    what: "the boot blob",
                    got: entry.bytes.into(),
                    max: FILE_BYTES_MAX,
                });
            }
            return volume.chain(entry.cluster, entry.bytes as usize, false);
        }
        if !entry.directory {
            return Err(missing());
        }
        directory = volume.chain(entry.cluster, DIRECTORY_BYTES_MAX, true)?;
    }
    Err(missing())
}

impl<'d, B: Blocks> Volume<'d, B> {
    fn open(disk: &'d mut B, start: u64) -> Result<Self, DiskError> {
        const FAR: DiskError = DiskError::Layout("a FAT volume larger than the disk");
        let boot = disk.read(start, 512)?;
        if boot.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(DiskError::Layout("no FAT volume in the EFI system partition"));
        }
        let sector = u64::from(u16_at(&boot, 11)?);
        let per_cluster = u64::from(boot.get(13).copied().unwrap_or(0));
        let tables = u64::from(boot.get(16).copied().unwrap_or(0));
        if !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !per_cluster.is_power_of_two()
            || !(1..=4).contains(&tables)
        {
            return Err(DiskError::Layout("a FAT volume with impossible sizes"));
        }
        let reserved = u64::from(u16_at(&boot, 14)?);
        let root_bytes = u64::from(u16_at(&boot, 17)?) * 32;
        let either = |short: u16, long: u32| if short == 0 { long } else { short.into() };
        let total = u64::from(either(u16_at(&boot, 19)?, u32_at(&boot, 32)?));
        let table_sectors = u64::from(either(u16_at(&boot, 22)?, u32_at(&boot, 36)?));
        let root_sectors = root_bytes.div_ceil(sector);
        // No product overflows: sectors are 32-bit numbers, everything else 16-bit or less.
        let before = reserved + tables * table_sectors + root_sectors;
        let clusters = total.checked_sub(before).ok_or(FAR)? / per_cluster;
        let clusters = u32::try_from(clusters).map_err(|_| FAR)?;
        let width = match clusters {
            ..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            _ => Width::Fat32,
        };
        let table_bytes = table_sectors * sector;
        if table_bytes > TABLE_BYTES_MAX {
            return Err(DiskError::TooLarge {
                what: "the allocation table",
                got: table_bytes,
                max: TABLE_BYTES_MAX,
            });
        }
        let at = |sectors: u64| start.checked_add(sectors * sector).ok_or(FAR);
        let root = if width == Width::Fat32 {
            Root::Chain { cluster: u32_at(&boot, 44)? }
        } else {
            Root::Region {
                at: at(reserved + tables * table_sectors)?,
                // At most 2 MiB; of which no more than a directory's most is looked at.
                bytes: usize::try_from(root_bytes).unwrap_or(0).min(DIRECTORY_BYTES_MAX),
            }
        };
        let table = disk.read(at(reserved)?, usize::try_from(table_bytes).map_err(|_| FAR)?)?;
        let (data_at, cluster_bytes) = (at(before)?, sector * per_cluster);
        let cluster_bytes = usize::try_from(cluster_bytes).map_err(|_| FAR)?;
        Ok(Self { disk, width, table, clusters, cluster_bytes, data_at, root })
    }

    /// The cluster after `cluster`, `None` at the end of its chain.
    fn next(&self, cluster: u32) -> Result<Option<u32>, DiskError> {
        let index = cluster as usize;
        let (value, end) = match self.width {
            Width::Fat12 => {
                let pair = u32::from(u16_at(&self.table, index + index / 2)?);
                (if index.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }, 0xff8)
            }
            Width::Fat16 => (u32::from(u16_at(&self.table, index * 2)?), 0xfff8),
            Width::Fat32 => (u32_at(&self.table, index * 4)? & 0x0fff_ffff, 0x0fff_fff8),
        };
        Ok((value < end).then_some(value))
    }

    /// `bytes` bytes of a chain; a directory has no length, there `bytes` is the most that is read.
    fn chain(&mut self, first: u32, bytes: usize, directory: bool) -> Result<Vec<u8>, DiskError> {
        let mut out = Vec::new();
        let mut cluster = first;
        // A chain of more clusters than there are goes round in circles.
        for _ in 0..=self.clusters {
            if out.len() >= bytes {
                break;
            }
            let index = cluster.checked_sub(2).filter(|index| *index < self.clusters);
            let index = index.ok_or(DiskError::Layout("a chain leaves the FAT volume"))?;
            let at = u64::from(index) * self.cluster_bytes as u64;
            let at = self.data_at.checked_add(at).ok_or(DiskError::Layout("a chain far away"))?;
            let wanted = self.cluster_bytes.min(bytes - out.len());
            out.extend(self.disk.read(at, wanted)?);
            match self.next(cluster)? {
                Some(next) => cluster = next,
                None => break,
            }
        }
        if out.len() < bytes && !directory {
            return Err(DiskError::Layout("a file's chain ends before the file"));
        }
        Ok(out)
    }
}

/// The entry called `name` in a directory.
fn find(directory: &[u8], name: &str) -> Result<Option<Entry>, DiskError> {
    const LONG_NAME: u8 = 0x0f;
    const VOLUME_LABEL: u8 = 0x08;
    const DIRECTORY: u8 = 0x10;
    let Some(wanted) = short_name(name) else { return Ok(None) };
    for entry in directory.chunks_exact(32) {
        let attributes = entry.get(11).copied().unwrap_or(0);
        match entry.first() {
            None | Some(0) => break,
            Some(0xe5) => continue,
            Some(_) if attributes & 0x3f == LONG_NAME || attributes & VOLUME_LABEL != 0 => continue,
            Some(_) => {}
        }
        if entry.starts_with(&wanted) {
            let (high, low) = (u16_at(entry, 20)?, u16_at(entry, 26)?);
            return Ok(Some(Entry {
                directory: attributes & DIRECTORY != 0,
                cluster: u32::from(high) << 16 | u32::from(low),
                bytes: u32_at(entry, 28)?,
            }));
        }
    }
    Ok(None)
}

/// `BOOTX64.EFI` as it stands in a directory; `None` for a name that is not short.
fn short_name(name: &str) -> Option<[u8; 11]> {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let mut out = [b' '; 11];
    let (left, right) = out.split_at_mut(8);
    for (slot, part) in [(left, stem), (right, extension)] {
        slot.get_mut(..part.len())?.copy_from_slice(part.to_ascii_uppercase().as_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A FAT16 volume with EFI/BOOT/BOOTX64.EFI in three clusters that are not neighbours.
    pub(crate) fn volume(content: &[u8]) -> Vec<u8> {
        const CLUSTERS: usize = 5000;
        let (reserved, table_sectors, root_sectors) = (1, 20, 1);
        let before = reserved + table_sectors + root_sectors;
        let mut disk = vec![0; (before + CLUSTERS) * 512];
        let put = |disk: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            disk[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for (at, value) in [
            (11, 512u16),
            (14, reserved as u16),
            (17, 16),
            (19, (before + CLUSTERS) as u16),
            (22, table_sectors as u16),
            (510, 0xaa55),
        ] {
            put(&mut disk, at, &value.to_le_bytes());
        }
        disk[13] = 1;
        disk[16] = 1;
        let root = (reserved + table_sectors) * 512;
        let data = |cluster: usize| before * 512 + (cluster - 2) * 512;
        let entry = |name: &[u8; 11], attributes: u8, cluster: u16, bytes: u32| {
            let mut entry = [0; 32];
            entry[..11].copy_from_slice(name);
            entry[11] = attributes;
            entry[26..28].copy_from_slice(&cluster.to_le_bytes());
            entry[28..32].copy_from_slice(&bytes.to_le_bytes());
            entry
        };
        put(&mut disk, root, &entry(b"HOOKPROBE  ", 8, 0, 0));
        put(&mut disk, root + 32, &entry(b"EFI        ", 0x10, 2, 0));
        put(&mut disk, data(2), &entry(b"BOOT       ", 0x10, 3, 0));
        put(&mut disk, data(3), &entry(b"BOOTX64 EFI", 0x20, 10, content.len() as u32));
        let chain = [10usize, 40, 20];
        for (index, part) in content.chunks(512).enumerate() {
            put(&mut disk, data(chain[index]), part);
        }
        for (cluster, next) in [(2, 0xffff_u16), (3, 0xffff), (10, 40), (40, 20), (20, 0xffff)] {
            put(&mut disk, 512 + cluster * 2, &next.to_le_bytes());
        }
        disk
    }

    #[test]
    fn a_file_is_read_along_its_chain() {
        let content: Vec<u8> = (0..1300u32).map(|at| at as u8).collect();
        let disk = volume(&content);
        assert_eq!(read_file(&mut &disk[..], 0, "EFI/BOOT/BOOTX64.EFI").unwrap(), content);
        let error = read_file(&mut &disk[..], 0, "EFI/BOOT/GRUB.EFI").unwrap_err();
        assert_eq!(error, DiskError::Missing("EFI/BOOT/GRUB.EFI".into()));
    }

    #[test]
    fn circles_and_cut_images_end() {
        let mut disk = volume(&[7; 1300]);
        disk[512 + 20..512 + 22].copy_from_slice(&10u16.to_le_bytes());
        // Round and round, but never more than the file has.
        assert_eq!(read_file(&mut &disk[..], 0, "EFI/BOOT/BOOTX64.EFI").unwrap().len(), 1300);
        let disk = volume(&[7; 1300]);
        for bytes in (0..disk.len()).step_by(4099) {
            let _ = read_file(&mut &disk[..bytes], 0, "EFI/BOOT/BOOTX64.EFI");
        }
        assert!(matches!(find_esp(&mut &disk[..]), Err(DiskError::Layout("no GPT"))));
    }
}
