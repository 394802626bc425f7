//! The model's bytes on disk.
//!
//! ```text
//!  0  magic     8   "HPMODEL1"
//!  8  version   u16  1
//! 10  features  u16  12; another number is another model
//! 12  window    u16  512
//! 14  classes   u16
//! 16  seed      u64
//! 24  each class:
//!       number     u8
//!       ranges     12 * (low, median, high) f32
//!       past       64 * u32
//!       left out   u16
//!       reference  count u16, then count * 12 f32
//!       filling    count u16, then count * 12 f32
//!     checksum  u32  CRC-32 (ISO-HDLC) of everything before
//! ```
//!
//! Little endian. Masses are not stored: they follow from seed, ranges and reference. A checksum
//! finds what rots; it is no signature, and every number is checked before it is believed. A file
//! that can't be used costs the box what it had learnt, and nothing else ([`load_or_fresh`]).

use thiserror::Error;

use super::{
    BINS, CLASSES_MAX, Class, Model, WINDOW,
    features::{FEATURES, Vector},
    forest::ForestSeed,
    ranges::{Range, Ranges},
};

const MAGIC: &[u8; 8] = b"HPMODEL1";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 4;
/// Longest file: header, checksum, and all classes with full windows.
pub const FILE_BYTES_MAX: usize = 24
    + CHECKSUM_BYTES
    + CLASSES_MAX * (3 + 12 * FEATURES + 4 * BINS + 2 * (2 + WINDOW * 4 * FEATURES));

/// Why a file is no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FileError {
    /// Too short or too long.
    #[error("HP-BH-601 model: the file has {0} bytes, which no model has; the model learns anew")]
    Length(usize),
    /// Another kind of file, or of another version.
    #[error("HP-BH-602 model: the file is no model of version 1; the model learns anew")]
    Format,
    /// Changed bytes.
    #[error(
        "HP-BH-603 model: the checksum differs (written {written:08x}, computed {computed:08x}); check the disk, the model learns anew"
    )]
    Checksum {
        /// In the file.
        written: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// A right checksum over numbers that no model has.
    #[error("HP-BH-604 model: {0} can't be right; report it, the model learns anew")]
    Content(&'static str),
}

/// The model's file.
#[must_use]
pub fn save(model: &Model) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_u16(&mut out, usize::from(VERSION));
    put_u16(&mut out, FEATURES);
    put_u16(&mut out, WINDOW);
    put_u16(&mut out, model.classes());
    out.extend(model.seed.0.to_le_bytes());
    for (number, class) in (0_u8..).zip(&model.classes) {
        let Some(class) = class else { continue };
        out.push(number);
        for range in &class.ranges.0 {
            for value in [range.low, range.median, range.high] {
                out.extend(value.to_le_bytes());
            }
        }
        for count in &class.past {
            out.extend(count.to_le_bytes());
        }
        put_u16(&mut out, usize::from(class.left_out));
        put_window(&mut out, &class.reference);
        put_window(&mut out, &class.filling);
    }
    let checksum = crc32(&out);
    out.extend(checksum.to_le_bytes());
    out
}

/// The model in a file.
///
/// # Errors
/// Any [`FileError`].
pub fn load(bytes: &[u8]) -> Result<Model, FileError> {
    let length = FileError::Length(bytes.len());
    if bytes.len() > FILE_BYTES_MAX {
        return Err(length);
    }
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(length)?;
    if !body.starts_with(MAGIC) {
        return Err(FileError::Format);
    }
    let (written, computed) = (u32::from_le_bytes(*checksum), crc32(body));
    if written != computed {
        return Err(FileError::Checksum { written, computed });
    }
    let mut reader = Reader(body.get(MAGIC.len()..).unwrap_or_default());
    if reader.u16()? != VERSION
        || usize::from(reader.u16()?) != FEATURES
        || usize::from(reader.u16()?) != WINDOW
    {
        return Err(FileError::Format);
    }
    let classes = usize::from(reader.u16()?);
    let seed = ForestSeed(u64::from_le_bytes(reader.array()?));
    let mut model = Model::new(seed);
    for _ in 0..classes {
        let [number] = reader.array()?;
        let number = usize::from(number);
        // Ascending, so that none comes twice.
        if number < model.classes.len() || number >= CLASSES_MAX {
            return Err(FileError::Content("the number of a class"));
        }
        model.classes.resize(number, None);
        let class = reader.class(ForestSeed(seed.0.wrapping_add(number as u64)))?;
        model.classes.push(Some(class));
    }
    if !reader.0.is_empty() {
        return Err(FileError::Content("what follows the last class"));
    }
    Ok(model)
}

/// The model in a file, or a fresh one and why.
#[must_use]
pub fn load_or_fresh(bytes: &[u8], seed: ForestSeed) -> (Model, Option<FileError>) {
    match load(bytes) {
        Ok(model) => (model, None),
        Err(error) => (Model::new(seed), Some(error)),
    }
}

fn put_u16(out: &mut Vec<u8>, value: usize) {
    // All of them are bounded by constants far below.
    out.extend(u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes());
}

fn put_window(out: &mut Vec<u8>, window: &[Vector]) {
    put_u16(out, window.len());
    for value in window.iter().flat_map(|vector| vector.0) {
        out.extend(value.to_le_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or(FileError::Content("the end of the file"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, FileError> {
        self.array().map(u16::from_le_bytes)
    }

    fn f32(&mut self) -> Result<f32, FileError> {
        self.array().map(f32::from_le_bytes)
    }

    fn class(&mut self, seed: ForestSeed) -> Result<Class, FileError> {
        let mut class = Class::new(seed);
        let mut ranges = Ranges::default();
        for range in &mut ranges.0 {
            *range = Range { low: self.f32()?, median: self.f32()?, high: self.f32()? };
        }
        if !ranges.is_sane() {
            return Err(FileError::Content("a usual range"));
        }
        for count in &mut class.past {
            *count = u32::from_le_bytes(self.array()?);
        }
        class.ranges = ranges;
        class.left_out = self.u16()?;
        class.reference = self.window()?;
        class.filling = self.window()?;
        if !matches!(class.reference.len(), 0 | WINDOW) || class.filling.len() >= WINDOW {
            return Err(FileError::Content("the length of a window"));
        }
        class.count_masses();
        Ok(class)
    }

    fn window(&mut self) -> Result<Vec<Vector>, FileError> {
        let count = usize::from(self.u16()?);
        if count > WINDOW {
            return Err(FileError::Content("the length of a window"));
        }
        let mut window = Vec::with_capacity(count);
        for _ in 0..count {
            let mut vector = Vector::default();
            for value in &mut vector.0 {
                *value = self.f32()?;
            }
            if !vector.is_sane() {
                return Err(FileError::Content("a value"));
            }
            window.push(vector);
        }
        Ok(window)
    }
}

/// CRC-32 as in gzip and Ethernet, a bit at a time: a file of 1 MB a few times a day.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ClassId, features::Minute};

    fn model(minutes: u32) -> Model {
        let mut model = Model::new(ForestSeed(3));
        for n in 0..minutes {
            let minute =
                Minute { flows: n % 7, bytes_up: u64::from(n % 11) * 100, ..Minute::default() };
            model.handle(ClassId(u8::try_from(n % 2).unwrap() * 3), &minute);
        }
        model
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// A file of version 1 opens for ever, and is written as it was.
    #[test]
    fn golden() {
        let golden = include_str!("../../tests/golden/model-v1.hex");
        let golden: String = golden.split_whitespace().collect();
        let bytes: Vec<u8> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
            .collect();
        let loaded = load(&bytes).unwrap();
        assert_eq!(loaded.classes(), 2);
        assert_eq!(loaded.seed, ForestSeed(3));
        assert_eq!(hex(&save(&loaded)), golden);
        // Logarithms may differ in the last bit from one machine to another.
        let close = |a: &Model, b: &Model| {
            a.classes.iter().flatten().zip(b.classes.iter().flatten()).all(|(a, b)| {
                let pairs = a.filling.iter().zip(&b.filling);
                pairs.flat_map(|(a, b)| a.0.into_iter().zip(b.0)).all(|(a, b)| (a - b).abs() < 1e-5)
            })
        };
        assert!(close(&loaded, &model(5)));
    }

    #[test]
    fn goes_on_where_it_was() {
        for minutes in [0, 5, 1023, 1024, 2500] {
            let mut before = model(minutes);
            let mut after = load(&save(&before)).unwrap();
            assert_eq!(before, after, "{minutes} minutes");
            let minute = Minute { flows: 3000, failed: 2900, ports: 900, ..Minute::default() };
            assert_eq!(before.handle(ClassId(3), &minute), after.handle(ClassId(3), &minute));
        }
        assert!(save(&model(5000)).len() <= FILE_BYTES_MAX);
    }

    #[test]
    fn a_corrupt_file_gives_an_error_and_a_fresh_model() {
        let good = save(&model(1030));
        for at in (0..good.len()).step_by(1999).chain(0..60) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let (model, error) = load_or_fresh(&bytes, ForestSeed(9));
            assert_eq!(model, Model::new(ForestSeed(9)), "byte {at}");
            assert!(error.is_some());
        }
        for length in (0..good.len()).step_by(3001) {
            assert!(load(&good[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(load(&[]), Err(FileError::Length(0)));
        assert_eq!(load(&vec![0; FILE_BYTES_MAX + 1]), Err(FileError::Length(FILE_BYTES_MAX + 1)));
    }

    /// Lies under a right checksum.
    #[test]
    fn every_number_is_checked() {
        let good = save(&model(1030));
        let lie = |at: usize, with: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            let end = bytes.len() - CHECKSUM_BYTES;
            let checksum = crc32(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_le_bytes());
            load(&bytes).unwrap_err()
        };
        assert_eq!(lie(8, &[2]), FileError::Format);
        assert_eq!(lie(14, &[3]), FileError::Content("the end of the file"));
        assert_eq!(lie(14, &[1]), FileError::Content("what follows the last class"));
        assert_eq!(lie(24, &[16]), FileError::Content("the number of a class"));
        assert_eq!(lie(25, &f32::NAN.to_le_bytes()), FileError::Content("a usual range"));
        let reference = 27 + 12 * FEATURES + 4 * BINS;
        assert_eq!(lie(reference, &[0, 1]), FileError::Content("the length of a window"));
        assert_eq!(lie(reference, &[0xff, 0xff]), FileError::Content("the length of a window"));
        assert_eq!(lie(reference + 2, &f32::INFINITY.to_le_bytes()), FileError::Content("a value"));
        assert_eq!(lie(reference + 2, &(-1.0_f32).to_le_bytes()), FileError::Content("a value"));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(load(&bytes).is_err());
            let mut framed = MAGIC.to_vec();
            framed.extend([1, 0, 12, 0, 0, 2]);
            framed.extend(&bytes);
            let checksum = crc32(&framed);
            framed.extend(checksum.to_le_bytes());
            if let Ok(model) = load(&framed) {
                prop_assert_eq!(save(&model), framed);
            }
        }
    }
}
