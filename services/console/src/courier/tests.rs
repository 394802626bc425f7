use std::io::Cursor;

use fatfs::{FatType, FormatVolumeOptions, format_volume};
use hookprobe_wire::attest::PART_BYTES_MAX;

use super::*;

#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn get_current_date(&self) -> Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> DateTime {
        moment(1_795_719_901)
    }
}

const MIB: usize = 1024 * 1024;

fn formatted(kind: FatType, bytes: usize) -> Vec<u8> {
    let mut disk = vec![0; bytes];
    let options = FormatVolumeOptions::new().fat_type(kind);
    let options = if kind == FatType::Fat12 { options } else { options.bytes_per_cluster(512) };
    format_volume(Cursor::new(&mut disk), options).unwrap();
    disk
}

fn read_back(disk: &mut [u8], name: &str) -> Vec<u8> {
    let system = FileSystem::new(Cursor::new(disk), FsOptions::new()).unwrap();
    let mut bytes = Vec::new();
    system.root_dir().open_file(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read_back_and_nothing_is_overwritten() {
    for (kind, bytes) in
        [(FatType::Fat12, MIB), (FatType::Fat16, 8 * MIB), (FatType::Fat32, 48 * MIB)]
    {
        let mut disk = formatted(kind, bytes);
        let stem = name("hp-lab", 1_795_719_901, "0a1b2c3d4e5f");
        assert_eq!(stem, "hookprobe-hp-lab-20261126T190501Z-0a1b2c3d");
        let evidence: Vec<u8> = (0..150_000_u32).map(|at| (at % 251) as u8).collect();
        let first = write(Cursor::new(&mut disk), &stem, &evidence, &Clock).unwrap();
        let second = write(Cursor::new(&mut disk), &stem, b"later", &Clock).unwrap();
        assert_eq!(first, format!("{stem}.evidence"));
        assert_eq!(second, format!("{stem}-2.evidence"));
        assert_eq!(read_back(&mut disk, &first), evidence);
        assert_eq!(read_back(&mut disk, &second), b"later");
    }
}

#[test]
fn a_full_stick_keeps_what_it_had() {
    let mut disk = formatted(FatType::Fat12, MIB);
    write(Cursor::new(&mut disk), "old", &vec![7; 700_000], &Clock).unwrap();
    let error = write(Cursor::new(&mut disk), "new", &vec![1; 600_000], &Clock).unwrap_err();
    assert!(error.to_string().starts_with("HP-US-022"), "{error}");
    assert_eq!(read_back(&mut disk, "old.evidence"), vec![7; 700_000]);
    write(Cursor::new(&mut disk), "small", &vec![1; 200_000], &Clock).unwrap();
}

#[test]
fn what_is_no_fat_is_said_to_be_none() {
    for disk in [vec![0; MIB], vec![0xff; MIB], b"EXFAT   ".repeat(1000), vec![0; 100]] {
        let error = write(Cursor::new(disk), "x", b"y", &Clock).unwrap_err();
        assert!(error.to_string().starts_with("HP-US-021"), "{error}");
    }
}

#[test]
fn names_have_nothing_that_a_path_could_use() {
    assert_eq!(name("../a b\u{202e}", 0, "zz/"), "hookprobe-ab-19700101T000000Z-zz");
}

#[test]
fn dates_before_and_after_what_fat_knows() {
    let years = [0, u64::MAX].map(|unix_s| moment(unix_s).date.year);
    assert_eq!(years, [1980, 2107]);
}

/// Answers with frames that stand ready.
struct Attest(Cursor<Vec<u8>>);

impl Attest {
    fn new(replies: &[Reply]) -> Self {
        Self(Cursor::new(replies.iter().flat_map(|reply| frame::to_vec(reply).unwrap()).collect()))
    }
}

impl Read for Attest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Attest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn part(offset: u32, total: u32, bytes: &[u8]) -> Reply {
    Reply::Part { offset, total, bytes: bytes.to_vec().into() }
}

#[test]
fn pieces_become_evidence() {
    let whole = vec![5; 2 * PART_BYTES_MAX + 3];
    let total = u32::try_from(whole.len()).unwrap();
    let mut offset = 0;
    let mut replies = Vec::new();
    for piece in whole.chunks(PART_BYTES_MAX) {
        replies.push(part(offset, total, piece));
        offset += u32::try_from(piece.len()).unwrap();
    }
    assert_eq!(fetch(&mut Attest::new(&replies), &[1; 8]).unwrap(), whole);
}

#[test]
fn an_attest_that_sends_something_else_is_refused() {
    let error = || Reply::Error { code: "HP-AT-009".into(), reason: "no TPM\n".into() };
    let too_long = u32::try_from(EVIDENCE_BYTES_MAX).unwrap() + 1;
    for (replies, expected) in [
        (vec![error()], "HP-AT-009 no TPM"),
        (vec![part(0, 9, b"abc"), part(4, 9, b"d")], "HP-US-026"),
        (vec![part(0, 2, b"abc")], "HP-US-026"),
        (vec![part(0, too_long, b"abc")], "HP-US-026"),
        (vec![part(0, 9, b"")], "HP-US-026"),
        (vec![part(0, 9, b"abc")], "HP-US-024"),
        (vec![Reply::Recovery(None)], "HP-US-026"),
    ] {
        let why = fetch(&mut Attest::new(&replies), &[1; 8]).unwrap_err().to_string();
        assert!(why.starts_with(expected), "{why}");
    }
    let mut garbage = Attest(Cursor::new(b"GET / HTTP/1.1\r\n".to_vec()));
    assert!(fetch(&mut garbage, &[1; 8]).unwrap_err().to_string().starts_with("HP-US-025"));
}
