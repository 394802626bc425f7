//! Start of one service: everything is made ready, then fork, then the child puts it on and
//! executes the descriptor that was hashed.
//!
//! PID 1 never waits for the child: a setup that fails comes back as text over a pipe that exec
//! closes, and the child's end by SIGCHLD. The child has one thread and may allocate.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use hookprobe_evidence::closure::{Network, ServiceSpec};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::SigSet,
    unistd::ForkResult,
};
use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    mount::{MountPropagationFlags, mount_change},
    pipe::{PipeFlags, pipe_with},
    process::{Resource, Rlimit, ioctl_tiocsctty, setrlimit, setsid, umask},
    termios::{Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use thiserror::Error;

use super::sandbox::{Prepared, SandboxError};
use crate::sys;

/// Where the cgroups of services are.
pub const CGROUPS: &str = "/sys/fs/cgroup/hookprobe";
/// Descriptors that the child keeps out of the way while it puts the others in place; above the
/// most sockets a service can have.
const PARKED_FD_MIN: i32 = 64;
/// Open files of one service.
const FILES_MAX: u64 = 1024;
/// Exit status of a child that was not set up; its reason is in the pipe.
pub const SETUP_FAILED: i32 = 126;
/// In front of a setup text that is no failure.
pub const NOTE: &str = "note ";
/// A serial line does not know the size of its screen.
const SERIAL_SCREEN: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Why a service was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// Its confinement can't be made or put on.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A text with a NUL.
    #[error("argument or environment with a NUL byte")]
    Nul,
}

fn step<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> SpawnError {
    move |error| SpawnError::Step { step, source: error.into() }
}

/// What a start needs besides the specification.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Specification.
    pub spec: &'a ServiceSpec,
    /// The binary as it was hashed.
    pub exec: &'a File,
    /// Listening sockets in the specification's order.
    pub sockets: &'a [OwnedFd],
    /// Path of the notify socket.
    pub notify: &'a str,
    /// Directory of all cgroups of services; `None`: this kernel has no cgroups for us.
    pub cgroups: Option<&'a str>,
}

/// A started child.
#[derive(Debug)]
pub struct Child {
    /// Its process.
    pub pid: i32,
    /// Ends without bytes when the binary runs; with text when the setup failed or a part of the
    /// confinement is not enforced. Does not block.
    pub setup: OwnedFd,
    /// Its output. Does not block.
    pub output: OwnedFd,
    /// Paths of its specification that are not there.
    pub missing: Vec<String>,
}

/// What the child needs, made before the fork.
struct Ready<'a> {
    launch: Launch<'a>,
    sandbox: Prepared,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    terminal: Option<OwnedFd>,
    input: OwnedFd,
    output: OwnedFd,
    setup: OwnedFd,
    cgroup: Option<File>,
}

/// Starts a service.
///
/// # Errors
/// [`SpawnError`] for what fails before the fork; later failures come over [`Child::setup`].
pub fn spawn(launch: Launch<'_>) -> Result<Child, SpawnError> {
    let spec = launch.spec;
    let (output_read, output) = pipe_with(PipeFlags::CLOEXEC).map_err(step("output pipe"))?;
    let (setup_read, setup) = pipe_with(PipeFlags::CLOEXEC).map_err(step("setup pipe"))?;
    for fd in [&output_read, &setup_read] {
        rustix::io::ioctl_fionbio(fd, true).map_err(step("non-blocking pipe"))?;
    }
    let sandbox = Prepared::new(spec, launch.exec)?;
    let missing = sandbox.missing.clone();
    let ready = Ready {
        launch,
        sandbox,
        arguments: arguments(spec)?,
        environment: environment(&launch)?,
        terminal: terminal(spec)?,
        input: OpenOptions::new().read(true).open("/dev/null").map_err(step("/dev/null"))?.into(),
        output,
        setup,
        cgroup: launch.cgroups.map(|root| cgroup(root, spec)).transpose()?,
    };
    match sys::fork().map_err(step("fork"))? {
        ForkResult::Parent { child } => {
            Ok(Child { pid: child.as_raw(), setup: setup_read, output: output_read, missing })
        }
        ForkResult::Child => run_child(ready),
    }
}

fn arguments(spec: &ServiceSpec) -> Result<Vec<CString>, SpawnError> {
    [&spec.exec]
        .into_iter()
        .chain(&spec.args)
        .map(|text| CString::new(text.as_str()).map_err(|_| SpawnError::Nul))
        .collect()
}

/// Exactly what the specification says, and the two protocols.
fn environment(launch: &Launch<'_>) -> Result<Vec<CString>, SpawnError> {
    let spec = launch.spec;
    let mut all: Vec<String> =
        spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    all.push(format!("NOTIFY_SOCKET={}", launch.notify));
    if !launch.sockets.is_empty() {
        let names: Vec<&str> = spec.sockets.iter().map(|socket| socket.name.as_str()).collect();
        all.push(format!("LISTEN_FDS={}", launch.sockets.len()));
        all.push(format!("LISTEN_FDNAMES={}", names.join(":")));
    }
    if spec.watchdog_s > 0 {
        all.push(format!("WATCHDOG_USEC={}", spec.watchdog_s.saturating_mul(1_000_000)));
    }
    all.into_iter().map(|text| CString::new(text).map_err(|_| SpawnError::Nul)).collect()
}

/// The terminal of a service with `stdio`, made sane and given to its user.
fn terminal(spec: &ServiceSpec) -> Result<Option<OwnedFd>, SpawnError> {
    if spec.stdio == "log" {
        return Ok(None);
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        // Without O_NONBLOCK the open waits for a carrier.
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(&spec.stdio)
        .map_err(step("terminal"))?;
    let mut modes = tcgetattr(&file).map_err(step("terminal modes"))?;
    // What the last one, perhaps killed, left behind.
    modes.input_modes |= rustix::termios::InputModes::ICRNL;
    modes.output_modes |= rustix::termios::OutputModes::OPOST | rustix::termios::OutputModes::ONLCR;
    modes.control_modes |= rustix::termios::ControlModes::CLOCAL;
    modes.local_modes |= rustix::termios::LocalModes::ICANON
        | rustix::termios::LocalModes::ECHO
        | rustix::termios::LocalModes::ISIG;
    tcsetattr(&file, rustix::termios::OptionalActions::Now, &modes)
        .map_err(step("terminal modes"))?;
    if tcgetwinsize(&file).is_ok_and(|size| size.ws_row == 0 || size.ws_col == 0) {
        tcsetwinsize(&file, SERIAL_SCREEN).map_err(step("terminal size"))?;
    }
    rustix::io::ioctl_fionbio(&file, false).map_err(step("terminal"))?;
    rustix::fs::fchown(
        &file,
        Some(rustix::fs::Uid::from_raw(spec.uid)),
        Some(rustix::fs::Gid::from_raw(spec.gid)),
    )
    .map_err(step("terminal owner"))?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .map_err(step("terminal mode"))?;
    Ok(Some(file.into()))
}

/// The cgroup of a service with its limits; returns its list of processes, open.
fn cgroup(root: &str, spec: &ServiceSpec) -> Result<File, SpawnError> {
    let directory = format!("{root}/{}", spec.name);
    fs::create_dir_all(&directory).map_err(step("cgroup"))?;
    let bytes = spec.memory_mib_max.saturating_mul(1024 * 1024);
    let limits = [
        ("memory.max", bytes.to_string()),
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", spec.tasks_max.to_string()),
    ];
    for (name, value) in limits {
        fs::write(format!("{directory}/{name}"), value).map_err(step("cgroup limit"))?;
    }
    OpenOptions::new().write(true).open(format!("{directory}/cgroup.procs")).map_err(step("cgroup"))
}

/// Makes the directory of all cgroups, with the controllers that limits need.
///
/// # Errors
/// The kernel's, e.g. on a board whose firmware turned the memory controller off.
pub fn open_cgroups() -> Result<(), std::io::Error> {
    fs::create_dir_all(CGROUPS)?;
    for directory in ["/sys/fs/cgroup", CGROUPS] {
        fs::write(format!("{directory}/cgroup.subtree_control"), "+memory +pids")?;
    }
    Ok(())
}

/// Ends whatever a service left behind.
pub fn kill_cgroup(name: &str) {
    // Without cgroups there is only the main process, which is killed by its id.
    let _ = fs::write(format!("{CGROUPS}/{name}/cgroup.kill"), "1");
}

/// Never returns to the event loop of the parent.
fn run_child(ready: Ready<'_>) -> ! {
    let parked = fcntl_dupfd_cloexec(&ready.setup, PARKED_FD_MIN);
    let failure = match become_service(ready, parked.as_ref().ok().map(AsFd::as_fd)) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let Ok(pipe) = parked {
        let _ = File::from(pipe).write_all(failure.to_string().as_bytes());
    }
    sys::exit_child(SETUP_FAILED)
}

fn become_service(
    ready: Ready<'_>,
    setup: Option<BorrowedFd<'_>>,
) -> Result<Infallible, SpawnError> {
    sys::default_signals();
    SigSet::empty().thread_set_mask().map_err(step("signal mask"))?;
    setsid().map_err(step("session"))?;
    if let Some(mut cgroup) = ready.cgroup.as_ref() {
        cgroup.write_all(b"0").map_err(step("cgroup"))?;
    }
    limits().map_err(step("limits"))?;
    namespaces(ready.launch.spec).map_err(step("namespaces"))?;
    if let Some(terminal) = &ready.terminal {
        ioctl_tiocsctty(terminal).map_err(step("controlling terminal"))?;
    }
    let exec = descriptors(&ready)?;
    umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    rustix::process::chdir("/").map_err(step("working directory"))?;
    let note = ready.sandbox.enter()?;
    if let (false, Some(pipe)) = (note.is_empty(), setup) {
        // What is not enforced is told on the way; the binary still runs.
        let _ = rustix::io::write(pipe, format!("{NOTE}{note}").as_bytes());
    }
    nix::unistd::execveat(
        &exec,
        c"",
        &ready.arguments,
        &ready.environment,
        nix::fcntl::AtFlags::AT_EMPTY_PATH,
    )
    .map_err(step("execveat"))
}

fn limits() -> Result<(), Errno> {
    let exact = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Nofile, exact(FILES_MAX))?;
    setrlimit(Resource::Core, exact(0))
}

fn namespaces(spec: &ServiceSpec) -> Result<(), std::io::Error> {
    let network = match spec.network {
        Network::Host => CloneFlags::empty(),
        Network::None => CloneFlags::CLONE_NEWNET,
    };
    unshare(CloneFlags::CLONE_NEWNS | network)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Puts 0, 1, 2 and the sockets (from 3 on, LISTEN_FDS) in place; returns the binary, out of their way.
fn descriptors(ready: &Ready<'_>) -> Result<OwnedFd, SpawnError> {
    let park =
        |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, PARKED_FD_MIN).map_err(step("descriptor"));
    let exec = park(ready.launch.exec.as_fd())?;
    let screen = ready.terminal.as_ref();
    // Output to the terminal, messages to the log: a console's complaint must not be overdrawn.
    let mut wanted = vec![
        park(screen.unwrap_or(&ready.input).as_fd())?,
        park(screen.unwrap_or(&ready.output).as_fd())?,
        park(ready.output.as_fd())?,
    ];
    for socket in ready.launch.sockets {
        wanted.push(park(socket.as_fd())?);
    }
    let mut next = 0;
    for fd in &wanted {
        sys::install_fd(fd.as_fd(), next).map_err(step("descriptor"))?;
        next += 1;
    }
    sys::close_on_exec_from(next).map_err(step("descriptor"))?;
    Ok(exec)
}

/// The end of a process in words.
#[must_use]
pub fn ending(status: nix::sys::wait::WaitStatus) -> String {
    use nix::sys::{signal::Signal, wait::WaitStatus};
    match status {
        WaitStatus::Exited(_, code) => format!("exit {code}"),
        WaitStatus::Signaled(_, Signal::SIGSYS, _) => {
            "killed by SIGSYS: a system call outside its sandbox".into()
        }
        WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
        _ => "ended".into(),
    }
}
