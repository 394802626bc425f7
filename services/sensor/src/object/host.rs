//! The programs about the box itself: each is loaded and attached by itself, and one that the
//! kernel does not take is a fact to be shown, never the end of the sensor.
//!
//! Needs CAP_BPF and CAP_PERFMON, nothing else: tracing programs are attached by bpf(2), without
//! perf events or tracefs.

use aya::programs::{BtfTracePoint, FEntry, Lsm, Program, ProgramError};
use hookprobe_abi::{
    MAP_GUARD,
    config::Guard,
    host::{PROGRAM_CONNECT, PROGRAM_EXEC, PROGRAM_GUARD_EXEC, PROGRAM_GUARD_MAP, PROGRAM_OPEN},
};

use super::{Maps, Object, ObjectError, unusable};
use crate::causes;

/// Hooks that the kernel was built with but that are not in force are silent: attaching succeeds
/// and nothing happens. This file says which are in force.
const ACTIVE_LSMS: &str = "/sys/kernel/security/lsm";

/// Programs that only look.
pub const WATCHERS: [&str; 3] = [PROGRAM_EXEC, PROGRAM_CONNECT, PROGRAM_OPEN];
/// Programs that refuse.
pub const GUARDS: [&str; 2] = [PROGRAM_GUARD_EXEC, PROGRAM_GUARD_MAP];

/// Whether BPF programs are asked by the kernel's security hooks.
///
/// # Errors
/// Why they are not, or why that is not known.
pub fn lsm_is_active() -> Result<(), String> {
    let active =
        std::fs::read_to_string(ACTIVE_LSMS).map_err(|error| format!("{ACTIVE_LSMS}: {error}"))?;
    if active.trim().split(',').any(|name| name == "bpf") {
        return Ok(());
    }
    Err(format!("the kernel's lsm= does not name bpf, only {}", active.trim()))
}

impl Object {
    /// Loads and attaches one of [`WATCHERS`] or [`GUARDS`].
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start_host(&mut self, name: &'static str) -> Result<(), String> {
        let btf = self.kernel.as_ref().map_err(Clone::clone)?;
        let program = self.ebpf.program_mut(name).ok_or("not in the object")?;
        let refused = |error: ProgramError| causes(&error);
        let wrong = |_: ProgramError| "of another kind in the object".to_owned();
        match name {
            PROGRAM_EXEC => {
                let program: &mut BtfTracePoint = program.try_into().map_err(wrong)?;
                program.load("sched_process_exec", btf).map_err(refused)?;
                program.attach().map_err(refused)?;
            }
            PROGRAM_CONNECT => start_fentry(program, "security_socket_connect", btf)?,
            PROGRAM_OPEN => start_fentry(program, "security_file_open", btf)?,
            PROGRAM_GUARD_EXEC => start_lsm(program, "bprm_check_security", btf)?,
            PROGRAM_GUARD_MAP => start_lsm(program, "mmap_file", btf)?,
            _ => return Err("not a program about the host".into()),
        }
        Ok(())
    }
}

fn start_fentry(program: &mut Program, function: &str, btf: &aya::Btf) -> Result<(), String> {
    let program: &mut FEntry =
        program.try_into().map_err(|_| "of another kind in the object".to_owned())?;
    program.load(function, btf).map_err(|error| causes(&error))?;
    program.attach().map(drop).map_err(|error| causes(&error))
}

fn start_lsm(program: &mut Program, hook: &str, btf: &aya::Btf) -> Result<(), String> {
    let program: &mut Lsm =
        program.try_into().map_err(|_| "of another kind in the object".to_owned())?;
    program.load(hook, btf).map_err(|error| causes(&error))?;
    program.attach().map(drop).map_err(|error| causes(&error))
}

impl Maps {
    /// Says what the guard does, and for whom (`cgroup` 0: for all).
    ///
    /// # Errors
    /// [`ObjectError::Map`].
    pub fn set_guard(&mut self, mode: u32, cgroup: u64) -> Result<(), ObjectError> {
        let guard = Guard { mode, reserved: 0, cgroup };
        self.guard.set(0, guard, 0).map_err(unusable(MAP_GUARD))
    }
}

/// A device number as user space has it, to one as the kernel has it inside.
#[must_use]
pub fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}
