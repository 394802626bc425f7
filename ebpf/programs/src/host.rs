//! Programs about the box itself: what is started, connected to and opened, and the guard that
//! refuses to execute what does not stand on the measured root.
//!
//! Structures of the kernel are read at offsets that user space took from its BTF. Nothing here
//! may sleep or loop; a field that can't be read counts as a foreign device.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_probe_read_kernel,
        generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel_str},
    },
    macros::{btf_tracepoint, fentry, lsm},
    programs::{BtfTracePointContext, FEntryContext, LsmContext},
};
use hookprobe_abi::{
    Address, Counter,
    config::mode,
    host::{EVENT_BYTES, Event, Inode, NAME_BYTES, Offsets, kind},
    parse::mapped,
};

use crate::{
    maps::{Counters, EXEC_DEVICES, HOST, WATCHED, guard},
    verdict::now_ns,
};

/// Written by user space before the programs are loaded.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    bprm_file: 0,
    bprm_filename: 0,
    file_inode: 0,
    inode_sb: 0,
    inode_number: 0,
    sb_device: 0,
};

const EPERM: i32 = 1;
const PROT_EXEC: u64 = 4;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

type Pointer = *const c_void;

/// A program was started.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn hookprobe_exec(ctx: BtfTracePointContext) -> i32 {
    let bprm: Pointer = ctx.arg(2);
    let offsets = offsets();
    let file = inode_of(field(bprm, offsets.bprm_file), &offsets);
    let name = field(bprm, offsets.bprm_filename);
    tell(Counter::HostExec, kind::EXEC, file, name, ([0; 16], 0), false);
    0
}

/// A connection is begun; the address is the kernel's copy already.
#[fentry(function = "security_socket_connect")]
pub fn hookprobe_connect(ctx: FEntryContext) -> i32 {
    let address: Pointer = ctx.arg(1);
    if let Some(to) = socket_address(address) {
        let file = Inode::default();
        tell(Counter::HostConnect, kind::CONNECT, file, core::ptr::null(), to, false);
    }
    0
}

/// A file is opened: told when user space watches it.
#[fentry(function = "security_file_open")]
pub fn hookprobe_open(ctx: FEntryContext) -> i32 {
    let file = inode_of(ctx.arg(0), &offsets());
    if WATCHED.get_ptr(file).is_some() {
        tell(Counter::HostOpen, kind::OPEN, file, core::ptr::null(), ([0; 16], 0), false);
    }
    0
}

/// May this be executed?
#[lsm(hook = "bprm_check_security")]
pub fn hookprobe_guard_exec(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(1);
    if before != 0 {
        return -EPERM;
    }
    let bprm: Pointer = ctx.arg(0);
    let offsets = offsets();
    let name = field(bprm, offsets.bprm_filename);
    judge(kind::DENIED, field(bprm, offsets.bprm_file), name, &offsets)
}

/// May this be mapped to be executed?
#[lsm(hook = "mmap_file")]
pub fn hookprobe_guard_map(ctx: LsmContext) -> i32 {
    let before: i32 = ctx.arg(4);
    if before != 0 {
        return -EPERM;
    }
    let file: Pointer = ctx.arg(0);
    let protection: u64 = ctx.arg(2);
    // Memory without a file has no place that could be measured; W^X is seccomp's.
    if file.is_null() || protection & PROT_EXEC == 0 {
        return 0;
    }
    judge(kind::DENIED_MAP, file, core::ptr::null(), &offsets())
}

#[inline(always)]
fn judge(kind: u32, file: Pointer, name: Pointer, offsets: &Offsets) -> i32 {
    let Some(guard) = guard() else { return 0 };
    if guard.mode == mode::OFF {
        return 0;
    }
    // SAFETY: takes nothing, returns a number.
    if guard.cgroup != 0 && unsafe { bpf_get_current_cgroup_id() } != guard.cgroup {
        return 0;
    }
    let file = inode_of(file, offsets);
    if EXEC_DEVICES.get_ptr(file.device).is_some() {
        return 0;
    }
    let refused = guard.mode == mode::ENFORCE;
    let counter = if refused { Counter::ExecDenied } else { Counter::ExecDry };
    tell(counter, kind, file, name, ([0; 16], 0), refused);
    if refused { -EPERM } else { 0 }
}

#[inline(always)]
fn offsets() -> Offsets {
    // SAFETY: a constant of the object that user space may have replaced: read as if it were not
    // known.
    unsafe { (&raw const OFFSETS).read_volatile() }
}

/// The pointer that stands `offset` bytes into a structure, null when it can't be read.
#[inline(always)]
fn field(structure: Pointer, offset: u32) -> Pointer {
    read::<Pointer>(structure, offset).unwrap_or(core::ptr::null())
}

#[inline(always)]
fn read<T>(structure: Pointer, offset: u32) -> Option<T> {
    let at = structure.wrapping_byte_add(offset as usize);
    // SAFETY: the helper checks the address and fails where nothing can be read.
    unsafe { bpf_probe_read_kernel(at.cast::<T>()) }.ok()
}

/// Device and number of a `struct file`.
#[inline(always)]
fn inode_of(file: Pointer, offsets: &Offsets) -> Inode {
    let inode = field(file, offsets.file_inode);
    let superblock = field(inode, offsets.inode_sb);
    Inode {
        device: u64::from(read::<u32>(superblock, offsets.sb_device).unwrap_or(0)),
        number: read::<u64>(inode, offsets.inode_number).unwrap_or(0),
    }
}

/// Address and port of a `struct sockaddr` of IPv4 or IPv6.
#[inline(always)]
fn socket_address(address: Pointer) -> Option<(Address, u16)> {
    let port = u16::from_be(read::<u16>(address, 2)?);
    match read::<u16>(address, 0)? {
        AF_INET => Some((mapped(read::<[u8; 4]>(address, 4)?), port)),
        AF_INET6 => Some((read::<Address>(address, 8)?, port)),
        _ => None,
    }
}

/// Counts, and tells user space or counts that it could not be told.
#[inline(always)]
fn tell(
    counter: Counter,
    kind: u32,
    file: Inode,
    name: Pointer,
    to: (Address, u16),
    refused: bool,
) {
    let Some(counters) = Counters::get() else { return };
    counters.count(counter);
    let Some(mut entry) = HOST.reserve::<[u8; EVENT_BYTES]>(0) else {
        counters.count(Counter::HostLost);
        return;
    };
    let event = entry.as_mut_ptr().cast::<Event>();
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let uid = bpf_get_current_uid_gid() as u32;
    let task = bpf_get_current_comm().unwrap_or([0; 16]);
    // SAFETY: the reservation has the size of an event and is aligned to eight bytes; every field
    // is written, the name by the helper, which writes at most as many bytes as it is told.
    unsafe {
        (&raw mut (*event).time_ns).write(now_ns());
        (&raw mut (*event).file).write(file);
        (&raw mut (*event).address).write(to.0);
        (&raw mut (*event).kind).write(kind);
        (&raw mut (*event).pid).write(pid);
        (&raw mut (*event).uid).write(uid);
        (&raw mut (*event).port).write(to.1);
        (&raw mut (*event).refused).write(u16::from(refused));
        (&raw mut (*event).task).write(task);
        (&raw mut (*event).name).write([0; NAME_BYTES]);
        if !name.is_null() {
            let to = (&raw mut (*event).name).cast();
            bpf_probe_read_kernel_str(to, NAME_BYTES as u32, name);
        }
    }
    entry.submit(0);
}
