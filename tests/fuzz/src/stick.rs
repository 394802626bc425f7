//! File systems of strangers' USB sticks: evidence written to them, or an error that says why not.
//!
//! An input is no stick, which has megabytes, but changes to one that is sound: the first byte chooses
//! FAT12, 16 or 32, then come a region (boot sector, FSInfo, tables, root directory, data), an offset
//! in it, a length and the bytes.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    sync::LazyLock,
};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, TimeProvider,
    format_volume,
};
use hookprobe_console::courier;

use crate::{Outcome, Target};

/// The courier's.
pub(crate) const TARGETS: [Target; 1] = [Target {
    name: "stick",
    run: stick,
    seeds: || {
        let seed = |kind, change: &[u8]| [&[kind], change].concat();
        // Untouched; total sectors, a table's first entries, a directory's, FSInfo's hint.
        let mut seeds: Vec<Vec<u8>> = (0..3).map(|kind| seed(kind, &[])).collect();
        seeds.push(seed(0, &[0, 19, 0, 2, 0xff, 0xff]));
        seeds.push(seed(1, &[2, 4, 0, 4, 3, 0, 2, 0]));
        seeds.push(seed(2, &[1, 0xec, 1, 4, 0xff, 0, 0, 0]));
        seeds.push(seed(2, &[3, 0, 0, 32, b'A', 0x0f, 0xff]));
        seeds
    },
    repair: |_| {},
    dictionary: &[
        &[0, 11, 0, 2],
        &[0, 13, 0, 1],
        &[0, 14, 0, 2],
        &[0, 17, 0, 2],
        &[0, 22, 0, 2],
        &[0, 32, 0, 4],
        &[0, 36, 0, 4],
        &[0, 44, 0, 4],
        &[2, 0, 0, 12],
        &[3, 0, 0, 32],
        b"\xff\xff\xff\xff",
        b"\xf8\xff\xff\x0f",
        &[0, 0, 0, 0],
        &[0x0f, 0],
    ],
}];

/// Operations after which a disk is taken out: PID 1 ends a courier that goes round in circles.
const OPERATIONS_MAX: u32 = 100_000;
const EVIDENCE: &[u8] = &[0x5a; 3000];
const SECTOR: u64 = 512;

/// A sound file system and where its regions begin.
struct Base {
    sectors: BTreeMap<u64, [u8; 512]>,
    bytes: u64,
    regions: [u64; 5],
}

static BASES: LazyLock<[Base; 3]> = LazyLock::new(|| {
    [(FatType::Fat12, 256 << 10), (FatType::Fat16, 8 << 20), (FatType::Fat32, 40 << 20)].map(
        |(kind, bytes)| {
            let mut disk = Disk { sectors: BTreeMap::new(), bytes, at: 0, left: u32::MAX };
            let options = FormatVolumeOptions::new().fat_type(kind);
            let options =
                if kind == FatType::Fat12 { options } else { options.bytes_per_cluster(512) };
            if let Err(error) = format_volume(&mut disk, options) {
                panic!("{kind:?}: {error}");
            }
            if let Err(error) = courier::write(&mut disk, "there before", &[7; 20_000], &Noon) {
                panic!("{kind:?}: {error}");
            }
            let boot = disk.sectors.get(&0).copied().unwrap_or([0; 512]);
            let field = |at: usize, bytes: usize| {
                let field = boot.get(at..at + bytes).unwrap_or_default();
                field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
            };
            let table = field(14, 2) * SECTOR;
            let table_sectors = field(22, 2).max(if field(22, 2) == 0 { field(36, 4) } else { 0 });
            let root = table + field(16, 1) * table_sectors * SECTOR;
            let data = root + field(17, 2) * 32;
            Base { sectors: disk.sectors, bytes, regions: [0, SECTOR, table, root, data] }
        },
    )
});

/// Sectors that are not zero.
struct Disk {
    sectors: BTreeMap<u64, [u8; 512]>,
    bytes: u64,
    at: u64,
    left: u32,
}

impl Disk {
    fn spend(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::TimedOut)?;
        Ok(())
    }

    /// As much as lies in one sector.
    fn part(&self, wanted: usize) -> (u64, usize, usize) {
        let inside = usize::try_from(self.at % SECTOR).unwrap_or(0);
        let room = usize::try_from(self.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        (self.at / SECTOR, inside, wanted.min(512 - inside).min(room))
    }
}

impl Read for Disk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.spend()?;
        let (sector, inside, count) = self.part(buffer.len());
        let sector = self.sectors.get(&sector).copied().unwrap_or([0; 512]);
        for (place, byte) in buffer.iter_mut().zip(sector.iter().skip(inside)).take(count) {
            *place = *byte;
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spend()?;
        let (sector, inside, count) = self.part(bytes.len());
        let sector = self.sectors.entry(sector).or_insert([0; 512]);
        for (place, byte) in sector.iter_mut().skip(inside).zip(bytes).take(count) {
            *place = *byte;
        }
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.spend()?;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[derive(Clone, Copy)]
struct Noon;

impl fmt::Debug for Noon {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Noon")
    }
}

impl TimeProvider for Noon {
    fn get_current_date(&self) -> Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> DateTime {
        courier::moment(1_795_694_400)
    }
}

/// The stick that an input stands for, and whether it differs from a sound one.
fn made(input: &[u8]) -> Option<(Disk, bool)> {
    let (kind, mut rest) = input.split_first()?;
    let base = BASES.get(usize::from(kind % 3))?;
    let mut disk = Disk { sectors: base.sectors.clone(), bytes: base.bytes, at: 0, left: u32::MAX };
    let mut changed = false;
    while let [region, low, high, count, bytes @ ..] = rest {
        let (bytes, after) = bytes.split_at_checked(usize::from(*count)).unwrap_or((bytes, &[]));
        let region = base.regions.get(usize::from(region % 5)).copied().unwrap_or(0);
        disk.at = region + u64::from(u16::from_le_bytes([*low, *high]));
        changed |= disk.write_all(bytes).is_err() || !bytes.is_empty();
        rest = after;
    }
    (disk.at, disk.left) = (0, OPERATIONS_MAX);
    Some((disk, changed))
}

fn stick(input: &[u8]) -> Outcome {
    let Some((mut disk, changed)) = made(input) else { return Outcome::of("nothing") };
    let name = match courier::write(&mut disk, "evidence-of-a-box", EVIDENCE, &Noon) {
        Ok(name) => name,
        Err(error) if changed => return Outcome::of(&error.to_string()),
        Err(error) => panic!("a sound stick: {error}"),
    };
    (disk.at, disk.left) = (0, OPERATIONS_MAX);
    let read = FileSystem::new(disk, FsOptions::new()).and_then(|system| {
        let mut read = Vec::new();
        system.root_dir().open_file(&name)?.take(1 << 16).read_to_end(&mut read)?;
        Ok(read)
    });
    // Tables that were changed may say that what is used is free, or lead in circles.
    let there = read.is_ok_and(|read| read == EVIDENCE);
    assert!(there || changed, "it is not on a sound stick");
    Outcome::of(if there { "there" } else { "mixed up" })
}
