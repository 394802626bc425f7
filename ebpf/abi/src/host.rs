//! What happens on the box itself: programs started, connections begun, watched files opened,
//! executions refused.

use crate::Address;

/// Program on the tracepoint `sched_process_exec`.
pub const PROGRAM_EXEC: &str = "hookprobe_exec";
/// Program at the entry of `security_socket_connect`.
pub const PROGRAM_CONNECT: &str = "hookprobe_connect";
/// Program at the entry of `security_file_open`.
pub const PROGRAM_OPEN: &str = "hookprobe_open";
/// LSM program on `bprm_check_security`.
pub const PROGRAM_GUARD_EXEC: &str = "hookprobe_guard_exec";
/// LSM program on `mmap_file`: what is mapped to be executed, libraries among it.
pub const PROGRAM_GUARD_MAP: &str = "hookprobe_guard_map";

/// Entries of [`crate::MAP_EXEC_DEVICES`].
pub const EXEC_DEVICES_MAX: u32 = 16;
/// Entries of [`crate::MAP_WATCHED`].
pub const WATCHED_MAX: u32 = 256;
/// Bytes of a name in an event.
pub const NAME_BYTES: usize = 128;

/// The global variable with [`Offsets`].
pub const GLOBAL_OFFSETS: &str = "OFFSETS";

/// Kinds of events.
pub mod kind {
    /// A program was started; the name is its file's.
    pub const EXEC: u32 = 1;
    /// A connection was begun; address and port say where to.
    pub const CONNECT: u32 = 2;
    /// A watched file was opened.
    pub const OPEN: u32 = 3;
    /// An execution was refused, or would have been.
    pub const DENIED: u32 = 4;
    /// The mapping of a file to be executed was refused, or would have been.
    pub const DENIED_MAP: u32 = 5;
}

/// A file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Its device, `major << 20 | minor` as the kernel has it.
    pub device: u64,
    /// Its number there.
    pub number: u64,
}

/// What the programs tell user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_BOOTTIME nanoseconds.
    pub time_ns: u64,
    /// The file.
    pub file: Inode,
    /// Where to, for [`kind::CONNECT`].
    pub address: Address,
    /// One of [`kind`].
    pub kind: u32,
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Port in host order, for [`kind::CONNECT`].
    pub port: u16,
    /// 1: refused; 0: only told.
    pub refused: u16,
    /// Name of the task, ends at the first 0.
    pub task: [u8; 16],
    /// Name of the file as it was asked for, ends at the first 0; empty where it is not known.
    pub name: [u8; NAME_BYTES],
}

/// Bytes of an [`Event`].
pub const EVENT_BYTES: usize = 200;
const _: () = assert!(core::mem::size_of::<Event>() == EVENT_BYTES);

/// Where fields stand in this kernel's structures; user space reads it from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `struct linux_binprm`, `file`.
    pub bprm_file: u32,
    /// `struct linux_binprm`, `filename`.
    pub bprm_filename: u32,
    /// `struct file`, `f_inode`.
    pub file_inode: u32,
    /// `struct inode`, `i_sb`.
    pub inode_sb: u32,
    /// `struct inode`, `i_ino`.
    pub inode_number: u32,
    /// `struct super_block`, `s_dev`.
    pub sb_device: u32,
}

const _: () = assert!(core::mem::size_of::<Offsets>() == 24);
