//! The eBPF object: loading, pinning, and typed access to its maps.
//!
//! Blocks must survive a restart of the sensor, so an existing BLOCK or PROTECTED pin is used
//! again when it has the right shape; every other pin of an earlier instance is removed. Called by
//! the live shell, the bench and the tests; detectors never see any of it.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, MapInfo, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use hookprobe_abi as abi;
use thiserror::Error;

/// Where the image keeps the object.
pub const OBJECT_FILE: &str = "/usr/lib/hookprobe/hookprobe.bpf.o";
/// An XDP program that only passes, for comparison.
pub const PROGRAM_PASS: &str = "hookprobe_pass";
/// Largest object that is read; ours has about 70 KiB without, 350 KiB with debug sections.
const OBJECT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Group that may write BLOCK and PROTECTED: `response` is in it.
const MAPS_GID: u32 = 810;
/// Mode of the pins of BLOCK and PROTECTED.
const SHARED_PIN_MODE: u32 = 0o660;

/// Why the object can't be used.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The file can't be read.
    #[error("HP-SN-001 {path}: can't be read; reinstall the image or name it with --object")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too long to be ours.
    #[error(
        "HP-SN-001 {path}: {bytes} bytes, at most {OBJECT_BYTES_MAX} are read; name our object with --object"
    )]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The object is not accepted by the loader, or its maps can't be made.
    #[error("HP-SN-002 {path}: maps can't be made; is the kernel 6.1 or newer, is CAP_BPF there?")]
    Load {
        /// Which file.
        path: PathBuf,
        /// What the loader said.
        source: Box<aya::EbpfError>,
    },
    /// A program is missing or refused by the kernel's verifier.
    #[error("HP-SN-003 program {program}: refused; boot the other slot, report the next line")]
    Program {
        /// Which program.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The object has no such program.
    #[error("HP-SN-004 program {program}: not in the object; object and sensor are of two builds")]
    NoProgram {
        /// Which program.
        program: &'static str,
    },
    /// The object has no such map, or one of another shape.
    #[error("HP-SN-005 map {map}: not in the object; object and sensor are of two builds")]
    NoMap {
        /// Which map.
        map: &'static str,
    },
    /// A map can't be used.
    #[error("HP-SN-005 map {map}: can't be used; object and sensor are of two builds")]
    Map {
        /// Which map.
        map: &'static str,
        /// What the loader said.
        source: Box<MapError>,
    },
    /// The pin directory can't be used.
    #[error("HP-SN-006 {path}: maps can't be pinned; is bpffs mounted on /sys/fs/bpf?")]
    Pin {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The maps, typed and owned.
pub struct Maps {
    /// Blocked sources.
    pub block: HashMap<MapData, abi::Address, abi::BlockEntry>,
    /// Sources that are never dropped.
    pub protected: HashMap<MapData, abi::Address, u8>,
    /// Flows, one copy per CPU.
    pub flows: PerCpuHashMap<MapData, abi::FlowKey, abi::FlowStat>,
    /// Counters, one copy per CPU.
    pub counters: PerCpuArray<MapData, u64>,
}

/// The records as they come.
pub type Records = RingBuf<MapData>;

/// A loaded object; its programs are loaded, none is attached.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Reads `path`, makes the maps (pinned under `pins` when given) and loads the programs.
    ///
    /// # Errors
    /// Any [`ObjectError`].
    pub fn load(path: &Path, pins: Option<&Path>) -> Result<(Self, Maps, Records), ObjectError> {
        let bytes = read(path)?;
        let mut loader = EbpfLoader::new();
        if let Some(directory) = pins {
            prepare_pins(directory)?;
            for name in MAPS {
                loader.map_pin_path(name, directory.join(name));
            }
        }
        let mut ebpf = loader
            .load(&bytes)
            .map_err(|source| ObjectError::Load { path: path.into(), source: Box::new(source) })?;
        if let Some(directory) = pins {
            share_pins(directory)?;
        }
        for program in [abi::PROGRAM_XDP, PROGRAM_PASS] {
            xdp(&mut ebpf, program)?.load().map_err(refused(program))?;
        }
        classifier(&mut ebpf)?.load().map_err(refused(abi::PROGRAM_EGRESS))?;
        let maps = Maps {
            block: typed(abi::MAP_BLOCK, take(&mut ebpf, abi::MAP_BLOCK)?)?,
            protected: typed(abi::MAP_PROTECTED, take(&mut ebpf, abi::MAP_PROTECTED)?)?,
            flows: typed(abi::MAP_FLOWS, take(&mut ebpf, abi::MAP_FLOWS)?)?,
            counters: typed(abi::MAP_COUNTERS, take(&mut ebpf, abi::MAP_COUNTERS)?)?,
        };
        let records = typed(abi::MAP_RECORDS, take(&mut ebpf, abi::MAP_RECORDS)?)?;
        Ok((Self { ebpf }, maps, records))
    }

    /// The ingress program.
    ///
    /// # Errors
    /// [`ObjectError::NoProgram`], never after a successful [`Self::load`].
    pub fn ingress(&mut self) -> Result<&mut Xdp, ObjectError> {
        xdp(&mut self.ebpf, abi::PROGRAM_XDP)
    }

    /// The egress program.
    ///
    /// # Errors
    /// As [`Self::ingress`].
    pub fn egress(&mut self) -> Result<&mut SchedClassifier, ObjectError> {
        classifier(&mut self.ebpf)
    }

    /// Runs an XDP program on `packet` inside the kernel, without an interface; the verdict and
    /// the mean time of one run.
    ///
    /// # Errors
    /// [`ObjectError::Program`] when the kernel can't run it.
    pub fn test_run(
        &mut self,
        program: &'static str,
        packet: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration), ObjectError> {
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
        let result = if program == abi::PROGRAM_EGRESS {
            classifier(&mut self.ebpf)?.test_run(options)
        } else {
            xdp(&mut self.ebpf, program)?.test_run(options)
        };
        let result = result.map_err(refused(program))?;
        Ok((result.return_value, result.duration))
    }
}

impl Maps {
    /// Blocks a source.
    ///
    /// # Errors
    /// [`ObjectError::Map`], for example when the map is full.
    pub fn insert_block(
        &mut self,
        source: abi::Address,
        entry: abi::BlockEntry,
    ) -> Result<(), ObjectError> {
        self.block.insert(source, entry, 0).map_err(unusable(abi::MAP_BLOCK))
    }

    /// One counter, all CPUs together.
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn counter(&self, counter: abi::Counter) -> Result<u64, ObjectError> {
        let values =
            self.counters.get(&(counter as u32), 0).map_err(unusable(abi::MAP_COUNTERS))?;
        Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
    }
}

/// Every map, in the order of the ABI.
const MAPS: [&str; 5] =
    [abi::MAP_BLOCK, abi::MAP_PROTECTED, abi::MAP_FLOWS, abi::MAP_COUNTERS, abi::MAP_RECORDS];

/// Shape of the maps that outlive the sensor: name, key bytes, value bytes, entries.
const SHARED: [(&str, u32, u32, u32); 2] = [
    (abi::MAP_BLOCK, 16, 24, abi::BLOCK_ENTRIES_MAX),
    (abi::MAP_PROTECTED, 16, 1, abi::PROTECTED_ENTRIES_MAX),
];

fn read(path: &Path) -> Result<Vec<u8>, ObjectError> {
    let failed = |source| ObjectError::Read { path: path.into(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > OBJECT_BYTES_MAX {
        return Err(ObjectError::TooLong { path: path.into(), bytes });
    }
    fs::read(path).map_err(failed)
}

/// Makes the directory and removes what must not be used again.
fn prepare_pins(directory: &Path) -> Result<(), ObjectError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ObjectError::Pin { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for name in MAPS {
        let path = directory.join(name);
        let keep = SHARED.iter().any(|shape| shape.0 == name && has_shape(&path, shape));
        if keep {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn has_shape(path: &Path, &(_, key, value, entries): &(&str, u32, u32, u32)) -> bool {
    MapInfo::from_pin(path).is_ok_and(|info| {
        info.key_size() == key && info.value_size() == value && info.max_entries() == entries
    })
}

/// Lets `response` open the two maps that it writes.
fn share_pins(directory: &Path) -> Result<(), ObjectError> {
    for (name, ..) in SHARED {
        let path = directory.join(name);
        let share = || {
            chown(&path, None, Some(MAPS_GID))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(SHARED_PIN_MODE))
        };
        share().map_err(|source| ObjectError::Pin { path: path.clone(), source })?;
    }
    Ok(())
}

fn xdp<'e>(ebpf: &'e mut Ebpf, program: &'static str) -> Result<&'e mut Xdp, ObjectError> {
    ebpf.program_mut(program)
        .and_then(|program| program.try_into().ok())
        .ok_or(ObjectError::NoProgram { program })
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, ObjectError> {
    let program = abi::PROGRAM_EGRESS;
    ebpf.program_mut(program)
        .and_then(|program| program.try_into().ok())
        .ok_or(ObjectError::NoProgram { program })
}

fn take(ebpf: &mut Ebpf, map: &'static str) -> Result<Map, ObjectError> {
    ebpf.take_map(map).ok_or(ObjectError::NoMap { map })
}

fn typed<M: TryFrom<Map, Error = MapError>>(
    name: &'static str,
    map: Map,
) -> Result<M, ObjectError> {
    M::try_from(map).map_err(unusable(name))
}

fn unusable(map: &'static str) -> impl FnOnce(MapError) -> ObjectError {
    move |source| ObjectError::Map { map, source: Box::new(source) }
}

fn refused(program: &'static str) -> impl FnOnce(ProgramError) -> ObjectError {
    move |source| ObjectError::Program { program, source: Box::new(source) }
}

/// A record as the eBPF programs wrote it.
#[must_use]
pub fn record_from(bytes: &[u8; size_of::<abi::Record>()]) -> abi::Record {
    let (numbers, rest) = split::<8>(bytes);
    let time_ns = u64::from_ne_bytes(numbers);
    let (source, rest) = split::<16>(rest);
    let (destination, rest) = split::<16>(rest);
    let (source_port, rest) = split::<2>(rest);
    let (destination_port, rest) = split::<2>(rest);
    let (length, rest) = split::<4>(rest);
    let (interface, rest) = split::<4>(rest);
    let ([protocol, kind, flags, tcp_flags], _) = split::<4>(rest);
    abi::Record {
        time_ns,
        source,
        destination,
        source_port: u16::from_ne_bytes(source_port),
        destination_port: u16::from_ne_bytes(destination_port),
        bytes: u32::from_ne_bytes(length),
        interface: u32::from_ne_bytes(interface),
        protocol,
        kind,
        flags,
        tcp_flags,
    }
}

/// The first `N` bytes and the rest; zeros where there are none.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    match bytes.split_first_chunk::<N>() {
        Some((head, rest)) => (*head, rest),
        None => ([0; N], &[]),
    }
}
