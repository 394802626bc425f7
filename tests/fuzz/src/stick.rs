//! File systems of strangers' USB sticks: evidence written to them is there afterwards, or an error says
//! why not.

use std::{
    fmt,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
};

use fatfs::{
    Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, TimeProvider, format_volume,
};
use hookprobe_console::courier;

use crate::{Outcome, Target};

/// The courier's.
pub(crate) const TARGETS: [Target; 1] = [Target {
    name: "stick",
    run: stick,
    seeds: || vec![formatted(64 << 10, b"old"), formatted(256 << 10, &[7; 20_000])],
    repair: |_| {},
    dictionary: &[
        b"\xf8\xff\xff",
        b"\xff\x0f",
        &[0, 2],
        &[0, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff],
        b"RRaA",
        b"rrAa",
        b"FAT32   ",
        b"FAT16   ",
        &[0x55, 0xaa],
        &[0x0f, 0],
    ],
}];

/// Operations after which a disk is taken out: PID 1 ends a courier that goes round in circles.
const OPERATIONS_MAX: u32 = 20_000;
const EVIDENCE: &[u8] = &[0x5a; 3000];

struct Disk<'a> {
    bytes: Cursor<&'a mut [u8]>,
    left: u32,
}

impl Disk<'_> {
    fn spend(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::TimedOut)?;
        Ok(())
    }
}

impl Read for Disk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.spend()?;
        self.bytes.read(buffer)
    }
}

impl Write for Disk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spend()?;
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.spend()?;
        self.bytes.seek(to)
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

fn formatted(bytes: usize, file: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; bytes];
    let made = format_volume(Cursor::new(disk.as_mut_slice()), FormatVolumeOptions::new());
    if made.is_ok() {
        let cursor = Cursor::new(disk.as_mut_slice());
        let _ = courier::write(cursor, "there before", file, &Noon);
    }
    disk
}

fn stick(bytes: &[u8]) -> Outcome {
    let mut disk = bytes.to_vec();
    let written = {
        let disk = Disk { bytes: Cursor::new(disk.as_mut_slice()), left: OPERATIONS_MAX };
        courier::write(disk, "evidence-of-a-box", EVIDENCE, &Noon)
    };
    match written {
        Ok(name) => {
            let disk = Disk { bytes: Cursor::new(disk.as_mut_slice()), left: OPERATIONS_MAX };
            let read = FileSystem::new(disk, FsOptions::new()).and_then(|system| {
                let mut read = Vec::new();
                system.root_dir().open_file(&name)?.read_to_end(&mut read)?;
                Ok(read)
            });
            // A table that says that clusters of others are free may well mix them up.
            Outcome::of(if read.is_ok_and(|read| read == EVIDENCE) { "there" } else { "mixed up" })
        }
        Err(error) => Outcome::of(&error.to_string()),
    }
}
