//! The notify socket (sd_notify(3)): who spoke, checked by the kernel, and what.
//!
//! The words are parsed in [`parse`] (pure). A message counts only when the process that sent it is
//! the main process of a service; everything else is dropped and counted by the caller.

use std::{
    fs,
    io::IoSliceMut,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
        UnixCredentials, bind, recvmsg, setsockopt, socket, sockopt::PassCred,
    },
};

/// Where services find it.
pub const PATH: &str = "/run/hookprobe/notify.sock";
/// Longest message that is read.
const BYTES_MAX: usize = 1024;

/// What a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// READY=1
    Ready,
    /// WATCHDOG=1
    Alive,
    /// EXTEND_TIMEOUT_USEC=..., in milliseconds
    Extend(u64),
    /// STATUS=...
    Status(String),
}

/// Words of one message; unknown ones are left out, as the protocol asks.
#[must_use]
pub fn parse(message: &str) -> Vec<Word> {
    message
        .lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Word::Ready),
            ("WATCHDOG", "1") => Some(Word::Alive),
            ("EXTEND_TIMEOUT_USEC", us) => us.parse().ok().map(|us: u64| Word::Extend(us / 1000)),
            ("STATUS", text) => Some(Word::Status(text.into())),
            _ => None,
        })
        .collect()
}

/// Opens the socket at `path`.
///
/// # Errors
/// The kernel's.
pub fn open(path: &str) -> Result<OwnedFd, Errno> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    setsockopt(&fd, PassCred, &true)?;
    let _ = fs::remove_file(path);
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    // Whoever may send is decided by the sender's process, not by the file.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(fd)
}

/// The next message and the process that sent it; `None` when there is none.
#[must_use]
pub fn receive(fd: &OwnedFd) -> Option<(i32, Vec<Word>)> {
    let mut bytes = [0; BYTES_MAX];
    let mut control = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<UnixAddr>(
        std::os::fd::AsRawFd::as_raw_fd(fd),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .ok()?;
    let length = message.bytes;
    let pid = message
        .cmsgs()
        .ok()?
        .find_map(|part| match part {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
            _ => None,
        })
        .unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    Some((pid, parse(&text)))
}

/// A listening stream socket. Those of services block, as the protocol has it; a service that
/// wants another mode sets it.
///
/// # Errors
/// The kernel's.
pub fn listen(path: &str, uid: u32, gid: u32, flags: SockFlag) -> Result<OwnedFd, std::io::Error> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | flags, None)?;
    let _ = fs::remove_file(path);
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    nix::sys::socket::listen(&fd, Backlog::new(64)?)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(
            parse("READY=1\nSTATUS=up\nMAINPID=1\nREADY=0\nx\n"),
            [Word::Ready, Word::Status("up".into())]
        );
    }

    #[test]
    fn the_kernel_names_the_sender() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n").display().to_string();
        let fd = open(&path).unwrap();
        assert!(receive(&fd).is_none());
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.send_to(b"WATCHDOG=1", &path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(receive(&fd), Some((own, vec![Word::Alive])));
    }
}
