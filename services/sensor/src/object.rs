//! The eBPF object: loading, pinning, and typed access to its maps.
//!
//! Blocks must survive a restart of the sensor, so an existing BLOCK or PROTECTED pin is used
//! again when it has the right shape; every other pin of an earlier instance is removed. Called by
//! the live shell, the bench and the tests; detectors never see any of it.

pub mod btf;
pub mod host;
pub mod lists;
pub mod read;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::{
        Array, ArrayOfMaps, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray, PerCpuHashMap,
        RingBuf,
    },
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use hookprobe_abi as abi;
use thiserror::Error;

pub use self::read::{event_from, record_from, sample_from};

/// Where the image keeps the object.
pub const OBJECT_FILE: &str = "/usr/lib/hookprobe/hookprobe.bpf.o";
/// An XDP program that only passes, for comparison.
pub const PROGRAM_PASS: &str = "hookprobe_pass";
/// An XDP program that only parses, for comparison.
pub const PROGRAM_PARSE: &str = "hookprobe_parse";
/// The kernel's own types.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
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
    /// Never dropped.
    pub protected: HashMap<MapData, abi::Address, u8>,
    /// IPv4 flows, one copy per CPU.
    pub flows4: PerCpuHashMap<MapData, abi::FlowKey4, abi::FlowStat>,
    /// IPv6 flows, one copy per CPU.
    pub flows6: PerCpuHashMap<MapData, abi::FlowKey, abi::FlowStat>,
    /// Counters, one copy per CPU.
    pub counters: PerCpuArray<MapData, abi::CounterValues>,
    /// What the guard of executions does.
    pub guard: Array<MapData, abi::config::Guard>,
    /// From where may be executed.
    pub exec_devices: HashMap<MapData, u64, u8>,
    /// Files whose opening is told.
    pub watched: HashMap<MapData, abi::host::Inode, u8>,
    config: Array<MapData, abi::config::Config>,
    exact: ArrayOfMaps<MapData, lists::ExactMap>,
    prefix: ArrayOfMaps<MapData, lists::PrefixMap>,
    lpm: ArrayOfMaps<MapData, lists::LpmMap>,
}

/// A ring buffer as it comes.
pub type Records = RingBuf<MapData>;

/// What the programs send.
pub struct Rings {
    /// [`abi::Record`]s.
    pub records: Records,
    /// [`abi::sample::Header`]s and bytes.
    pub samples: Records,
    /// [`abi::host::Event`]s.
    pub host: Records,
}

/// A loaded object; its programs for packets are loaded, none is attached.
#[derive(Debug)]
pub struct Object {
    ebpf: Ebpf,
    /// The kernel's types and whether all fields were found in them.
    kernel: Result<Btf, String>,
}

impl Object {
    /// Reads `path`, makes the maps (pinned under `pins` when given) and loads the programs.
    ///
    /// # Errors
    /// Any [`ObjectError`].
    pub fn load(path: &Path, pins: Option<&Path>) -> Result<(Self, Maps, Rings), ObjectError> {
        let bytes = read(path)?;
        let kernel;
        let offsets;
        let mut loader = EbpfLoader::new();
        // It has read the kernel's types by itself; two of them at once would double the peak of
        // this process's memory.
        loader.btf(None);
        (kernel, offsets) = match kernel_types() {
            Ok((btf, offsets)) => (Ok(btf), offsets),
            Err(error) => (Err(error), abi::host::Offsets::default()),
        };
        loader.btf(kernel.as_ref().ok());
        loader.override_global(abi::host::GLOBAL_OFFSETS, &offsets, true);
        if let Some(directory) = pins {
            prepare_pins(directory)?;
            for name in PINNED {
                loader.map_pin_path(name, directory.join(name));
            }
        }
        let mut ebpf = loader
            .load(&bytes)
            .map_err(|source| ObjectError::Load { path: path.into(), source: Box::new(source) })?;
        if let Some(directory) = pins {
            share_pins(directory)?;
        }
        let program = abi::PROGRAM_XDP;
        xdp(&mut ebpf, program)?.load().map_err(refused(program))?;
        let program = abi::PROGRAM_EGRESS;
        classifier(&mut ebpf, program)?.load().map_err(refused(program))?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.configure(&abi::config::Config {
            flags: abi::config::flag::SAMPLE,
            generation: 1,
            ..abi::config::Config::default()
        })?;
        let rings = Rings {
            records: take(&mut ebpf, abi::MAP_RECORDS)?,
            samples: take(&mut ebpf, abi::MAP_SAMPLES)?,
            host: take(&mut ebpf, abi::MAP_HOST)?,
        };
        Ok((Self { ebpf, kernel }, maps, rings))
    }

    /// Instructions of the loaded programs as the kernel has them, in bytes, and how many the
    /// verifier walked.
    #[must_use]
    pub fn sizes(&self) -> Vec<(String, u32, u32)> {
        let size = |(name, program): (&str, &aya::programs::Program)| {
            let info = program.info().ok()?;
            Some((name.into(), info.size_translated()?, info.verified_instruction_count()?))
        };
        self.ebpf.programs().filter_map(size).collect()
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
        classifier(&mut self.ebpf, abi::PROGRAM_EGRESS)
    }

    /// The ingress program for TC, loaded when it is wanted for the first time: hardly any box
    /// needs it, and the verifier takes a while.
    ///
    /// # Errors
    /// As [`Self::ingress`], and when the kernel refuses it.
    pub fn ingress_tc(&mut self) -> Result<&mut SchedClassifier, ObjectError> {
        let name = abi::PROGRAM_INGRESS_TC;
        let program = classifier(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load().map_err(refused(name))?;
        }
        Ok(program)
    }

    /// A program to compare with, loaded when it is wanted.
    fn compared(&mut self, name: &'static str) -> Result<&mut Xdp, ObjectError> {
        let program = xdp(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load().map_err(refused(name))?;
        }
        Ok(program)
    }

    /// Gives back the memory of the kernel's types, once no more programs about the host are
    /// started.
    pub fn release_types(&mut self) {
        if self.kernel.is_ok() {
            self.kernel = Err("started already".into());
        }
    }

    /// Runs a program on `packet` inside the kernel, without an interface; the verdict and
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
        let result = match program {
            abi::PROGRAM_INGRESS_TC => self.ingress_tc()?.test_run(options),
            abi::PROGRAM_EGRESS => self.egress()?.test_run(options),
            abi::PROGRAM_XDP => self.ingress()?.test_run(options),
            _ => self.compared(program)?.test_run(options),
        };
        let result = result.map_err(refused(program))?;
        Ok((result.return_value, result.duration))
    }
}

impl Maps {
    fn take(ebpf: &mut Ebpf) -> Result<Self, ObjectError> {
        Ok(Self {
            block: take(ebpf, abi::MAP_BLOCK)?,
            protected: take(ebpf, abi::MAP_PROTECTED)?,
            flows4: take(ebpf, abi::MAP_FLOWS4)?,
            flows6: take(ebpf, abi::MAP_FLOWS6)?,
            counters: take(ebpf, abi::MAP_COUNTERS)?,
            guard: take(ebpf, abi::MAP_GUARD)?,
            exec_devices: take(ebpf, abi::MAP_EXEC_DEVICES)?,
            watched: take(ebpf, abi::MAP_WATCHED)?,
            config: take(ebpf, abi::MAP_CONFIG)?,
            exact: take(ebpf, abi::MAP_LIST_EXACT)?,
            prefix: take(ebpf, abi::MAP_LIST_PREFIX)?,
            lpm: take(ebpf, abi::MAP_LIST_LPM)?,
        })
    }

    /// What the programs are told.
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn config(&self) -> Result<abi::config::Config, ObjectError> {
        self.config.get(&0, 0).map_err(unusable(abi::MAP_CONFIG))
    }

    /// Tells the programs; lists are changed by [`Self::swap_list`] only.
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn configure(&mut self, config: &abi::config::Config) -> Result<(), ObjectError> {
        self.config.set(0, config, 0).map_err(unusable(abi::MAP_CONFIG))
    }

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
        let totals = self.counters()?;
        Ok(totals.get(counter as usize).copied().unwrap_or(0))
    }

    /// All counters, all CPUs together.
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn counters(&self) -> Result<abi::CounterValues, ObjectError> {
        let copies = self.counters.get(&0, 0).map_err(unusable(abi::MAP_COUNTERS))?;
        let mut totals = [0_u64; abi::COUNTERS];
        for copy in copies.iter() {
            for (total, value) in totals.iter_mut().zip(copy) {
                *total = total.wrapping_add(*value);
            }
        }
        Ok(totals)
    }
}

/// The maps that are pinned.
const PINNED: [&str; 6] = [
    abi::MAP_BLOCK,
    abi::MAP_PROTECTED,
    abi::MAP_FLOWS4,
    abi::MAP_FLOWS6,
    abi::MAP_COUNTERS,
    abi::MAP_RECORDS,
];

/// Shape of the maps that outlive the sensor: name, key bytes, value bytes, entries.
const SHARED: [(&str, u32, u32, u32); 2] = [
    (abi::MAP_BLOCK, 16, 32, abi::BLOCK_ENTRIES_MAX),
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
    for name in PINNED {
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

fn classifier<'e>(
    ebpf: &'e mut Ebpf,
    program: &'static str,
) -> Result<&'e mut SchedClassifier, ObjectError> {
    ebpf.program_mut(program)
        .and_then(|program| program.try_into().ok())
        .ok_or(ObjectError::NoProgram { program })
}

fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<M, ObjectError> {
    M::try_from(ebpf.take_map(map).ok_or(ObjectError::NoMap { map })?).map_err(unusable(map))
}

/// The kernel's types, and where the fields stand that the programs read.
fn kernel_types() -> Result<(Btf, abi::host::Offsets), String> {
    let bytes = fs::read(KERNEL_BTF).map_err(|error| format!("{KERNEL_BTF}: {error}"))?;
    let offsets = btf::offsets(&bytes).map_err(|error| format!("{KERNEL_BTF}: {error}"))?;
    let endianness =
        if cfg!(target_endian = "little") { Endianness::Little } else { Endianness::Big };
    let btf = Btf::parse(&bytes, endianness).map_err(|error| format!("{KERNEL_BTF}: {error}"))?;
    Ok((btf, offsets))
}

fn unusable(map: &'static str) -> impl FnOnce(MapError) -> ObjectError {
    move |source| ObjectError::Map { map, source: Box::new(source) }
}

fn refused(program: &'static str) -> impl FnOnce(ProgramError) -> ObjectError {
    move |source| ObjectError::Program { program, source: Box::new(source) }
}
