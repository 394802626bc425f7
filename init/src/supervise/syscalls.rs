//! System calls that services may make, as named groups, and the few that end a service at once.
//!
//! `services.toml` names groups; a call in none of them fails with EPERM. Data only: `sandbox`
//! makes filters of it.

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The low 32 bits are this.
    Is(u64),
    /// The bits of the mask are all 0.
    Without(u64),
}

/// A call that is allowed with conditions only. Rules of the same call are alternatives.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Number of the call.
    pub call: libc::c_long,
    /// Number of the argument, from 0.
    pub argument: u8,
    /// Condition.
    pub test: Test,
}

/// A group.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Name in `services.toml`.
    pub name: &'static str,
    /// Calls allowed whatever their arguments.
    pub calls: &'static [libc::c_long],
    /// Calls that only the older architectures have.
    pub legacy: &'static [libc::c_long],
    /// Calls allowed with conditions.
    pub rules: &'static [Rule],
}

const fn is(call: libc::c_long, argument: u8, value: u64) -> Rule {
    Rule { call, argument, test: Test::Is(value) }
}

const fn without(call: libc::c_long, argument: u8, mask: u64) -> Rule {
    Rule { call, argument, test: Test::Without(mask) }
}

const fn ioctl(request: u64) -> Rule {
    is(libc::SYS_ioctl, 1, request)
}

const fn socket(family: u64) -> Rule {
    is(libc::SYS_socket, 0, family)
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, and CLONE_PTRACE
const CLONE_DANGEROUS: u64 = 0x7e02_0000 | 0x2000;
const PROT_EXEC: u64 = 4;
const AT_EMPTY_PATH: u64 = 0x1000;
const PR_SET_NAME: u64 = 15;
const PR_GET_NAME: u64 = 16;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const PR_SET_VMA: u64 = 0x5356_4d41;
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const AF_PACKET: u64 = 17;

/// All groups.
pub const GROUPS: [Group; 11] =
    [BASE, FILES, UNIX, NETLINK, BPF, TTY, INET, PACKET, LIBRARIES, VOLUME, CONFINE];

const BASE: Group = Group {
    name: "base",
    calls: &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_fstat,
        libc::SYS_lseek,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_mlock,
        libc::SYS_munlock,
        libc::SYS_brk,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_futex,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_gettimeofday,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getgroups,
        libc::SYS_getrandom,
        libc::SYS_getcwd,
        libc::SYS_capget,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_rseq,
        libc::SYS_prlimit64,
        libc::SYS_getrusage,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_clone3,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_eventfd2,
        libc::SYS_pipe2,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_fcntl,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_getcpu,
        libc::SYS_membarrier,
        libc::SYS_tgkill,
        libc::SYS_restart_syscall,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        libc::SYS_timerfd_gettime,
        libc::SYS_signalfd4,
        libc::SYS_umask,
    ],
    legacy: legacy::BASE,
    rules: &[
        without(libc::SYS_mmap, 2, PROT_EXEC),
        without(libc::SYS_mprotect, 2, PROT_EXEC),
        without(libc::SYS_clone, 0, CLONE_DANGEROUS),
        is(libc::SYS_execveat, 4, AT_EMPTY_PATH),
        is(libc::SYS_prctl, 0, PR_SET_NAME),
        is(libc::SYS_prctl, 0, PR_GET_NAME),
        is(libc::SYS_prctl, 0, PR_SET_VMA),
        ioctl(libc::FIONBIO),
        ioctl(libc::FIOCLEX),
        ioctl(libc::FIONREAD),
        // Only asks: is it a terminal?
        ioctl(libc::TCGETS),
        ioctl(libc::TCGETS2),
    ],
};

const FILES: Group = Group {
    name: "files",
    calls: &[
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_readlinkat,
        libc::SYS_getdents64,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_linkat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        // To a group of its own only, without CAP_CHOWN.
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_chdir,
        libc::SYS_flock,
        libc::SYS_utimensat,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_copy_file_range,
        libc::SYS_sendfile,
        libc::SYS_fadvise64,
        libc::SYS_inotify_init1,
        libc::SYS_inotify_add_watch,
        libc::SYS_inotify_rm_watch,
    ],
    legacy: legacy::FILES,
    rules: &[],
};

const CONNECTION: &[libc::c_long] = &[
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

const UNIX: Group =
    Group { name: "unix", calls: CONNECTION, legacy: &[], rules: &[socket(AF_UNIX)] };

const NETLINK: Group = Group {
    name: "netlink",
    calls: CONNECTION,
    legacy: &[],
    rules: &[
        socket(AF_NETLINK),
        ioctl(libc::SIOCGIFINDEX),
        ioctl(libc::SIOCGIFNAME),
        ioctl(libc::SIOCGIFFLAGS),
        ioctl(libc::SIOCGIFHWADDR),
        ioctl(libc::SIOCGIFMTU),
    ],
};

const BPF: Group = Group {
    name: "bpf",
    calls: &[libc::SYS_bpf, libc::SYS_perf_event_open],
    legacy: &[],
    rules: &[
        // PERF_EVENT_IOC_ENABLE, DISABLE, SET_BPF
        ioctl(0x2400),
        ioctl(0x2401),
        ioctl(0x4004_2408),
    ],
};

const TTY: Group = Group {
    name: "tty",
    calls: &[],
    legacy: &[],
    // No TIOCSTI: nobody types for somebody else.
    rules: &[
        ioctl(libc::TIOCGWINSZ),
        ioctl(libc::TIOCGPGRP),
        ioctl(libc::TCSETS),
        ioctl(libc::TCSETSW),
        ioctl(libc::TCSETSF),
        ioctl(libc::TCSETS2),
        ioctl(libc::TCSETSW2),
        ioctl(libc::TCSETSF2),
        ioctl(libc::TCFLSH),
    ],
};

const INET: Group = Group {
    name: "inet",
    calls: CONNECTION,
    legacy: &[],
    rules: &[socket(AF_INET), socket(AF_INET6)],
};

const PACKET: Group =
    Group { name: "packet", calls: CONNECTION, legacy: &[], rules: &[socket(AF_PACKET)] };

/// For a service that gives up more once it has started: with no_new_privs on, each of these only takes
/// away.
const CONFINE: Group = Group {
    name: "confine",
    calls: &[libc::SYS_capset, libc::SYS_seccomp],
    legacy: &[],
    rules: &[is(libc::SYS_prctl, 0, PR_SET_NO_NEW_PRIVS)],
};

/// For programs that are not ours: they load shared libraries, which are in their closure.
const LIBRARIES: Group = Group {
    name: "libraries",
    calls: &[libc::SYS_mmap, libc::SYS_mprotect],
    legacy: &[],
    rules: &[],
};

/// A request of device-mapper (linux/dm-ioctl.h): `_IOWR(0xfd, number, struct dm_ioctl)`, 312 bytes.
const fn device_mapper(number: u64) -> Rule {
    ioctl(0xc138_fd00 | number)
}

/// For the helper that opens the state volume: libcryptsetup and libdevmapper, and mke2fs as a child
/// that is executed by its descriptor. No keyring: the key goes to the kernel with the table.
const VOLUME: Group = Group {
    name: "volume",
    calls: &[
        // The node below /dev/mapper; landlock says where.
        libc::SYS_mknodat,
        libc::SYS_wait4,
        libc::SYS_waitid,
        // Its own child, when it hangs; landlock keeps signals inside.
        libc::SYS_kill,
    ],
    legacy: legacy::VOLUME,
    rules: &[
        // DM_VERSION, LIST_DEVICES, DEV_CREATE, DEV_REMOVE, DEV_SUSPEND, DEV_STATUS, DEV_WAIT
        device_mapper(0),
        device_mapper(2),
        device_mapper(3),
        device_mapper(4),
        device_mapper(6),
        device_mapper(7),
        device_mapper(8),
        // TABLE_LOAD, TABLE_CLEAR, TABLE_DEPS, TABLE_STATUS, LIST_VERSIONS, GET_TARGET_VERSION
        device_mapper(9),
        device_mapper(10),
        device_mapper(11),
        device_mapper(12),
        device_mapper(13),
        device_mapper(17),
        // BLKROGET, BLKGETSIZE, BLKFLSBUF, BLKRAGET, BLKSSZGET
        ioctl(0x125e),
        ioctl(0x1260),
        ioctl(0x1261),
        ioctl(0x1263),
        ioctl(0x1268),
        // BLKIOMIN, BLKIOOPT, BLKALIGNOFF, BLKPBSZGET, BLKDISCARDZEROES, BLKROTATIONAL
        ioctl(0x1278),
        ioctl(0x1279),
        ioctl(0x127a),
        ioctl(0x127b),
        ioctl(0x127c),
        ioctl(0x127e),
        // BLKZEROOUT: how libcryptsetup and mke2fs write zeros.
        ioctl(0x127f),
        // BLKGETSIZE64
        ioctl(0x8008_1272),
        // HDIO_GETGEO, BLKGETZONESZ: questions of libblkid.
        ioctl(0x0301),
        ioctl(0x8004_1284),
    ],
};

/// Calls that no service of ours has a reason to try: the one that does is not ours any more.
pub const KILL: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
];

#[cfg(target_arch = "x86_64")]
mod legacy {
    //! Calls that newer architectures never had; the C library of x86_64 still makes them.

    pub(super) const BASE: &[libc::c_long] = &[
        libc::SYS_arch_prctl,
        libc::SYS_epoll_wait,
        libc::SYS_poll,
        libc::SYS_select,
        libc::SYS_pipe,
        libc::SYS_dup2,
        libc::SYS_getrlimit,
        libc::SYS_time,
    ];

    pub(super) const FILES: &[libc::c_long] = &[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_readlink,
        libc::SYS_rename,
        libc::SYS_unlink,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_chmod,
        libc::SYS_chown,
    ];

    pub(super) const VOLUME: &[libc::c_long] = &[libc::SYS_mknod];
}

#[cfg(not(target_arch = "x86_64"))]
mod legacy {
    //! Newer architectures have none of them.

    pub(super) const BASE: &[libc::c_long] = &[];
    pub(super) const FILES: &[libc::c_long] = &[];
    pub(super) const VOLUME: &[libc::c_long] = &[];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_allows_what_kills() {
        for group in &GROUPS {
            for call in group.calls.iter().chain(group.legacy) {
                assert!(!KILL.contains(call), "{}: {call}", group.name);
            }
            for rule in group.rules {
                assert!(!KILL.contains(&rule.call), "{}: {}", group.name, rule.call);
            }
        }
    }

    #[test]
    fn nothing_executes_another_program_or_types_for_others() {
        let all = || GROUPS.iter().flat_map(|group| group.calls.iter().chain(group.legacy));
        assert!(all().all(|call| *call != libc::SYS_execve && *call != libc::SYS_execveat));
        assert!(all().all(|call| *call != libc::SYS_ioctl && *call != libc::SYS_socket));
        let rules = GROUPS.iter().flat_map(|group| group.rules);
        assert!(!rules.clone().any(|rule| rule.test == Test::Is(libc::TIOCSTI)));
    }
}
