//! Who is at the other end of a socket, by the kernel: uid and process, held by a descriptor that
//! names this process for ever (SO_PEERPIDFD, Linux 6.5).
//!
//! SO_PEERCRED's pid and the descriptor are of the same process: the one that connected. As long as
//! the descriptor says that it lives, nobody else has its number. Used by [`super::clients`].

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::core::Caller;

/// The other end of a socket.
#[derive(Debug)]
pub(super) struct Peer {
    /// What the core decides by.
    pub(super) caller: Caller,
    process: Option<OwnedFd>,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let process = getsockopt(&socket, sockopt::PeerPidfd).ok();
        let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok();
        let caller = Caller::Process {
            uid: credentials.uid.as_raw(),
            pid: pid.filter(|_| process.as_ref().is_some_and(lives)),
        };
        Ok(Self { caller, process })
    }

    /// The hypervisor's port: no process.
    pub(super) fn port() -> Self {
        Self { caller: Caller::Port, process: None }
    }

    /// Whether the process that connected still runs.
    pub(super) fn lives(&self) -> bool {
        self.process.as_ref().is_some_and(lives)
    }
}

/// A pidfd is readable when its process has ended.
fn lives(process: &OwnedFd) -> bool {
    let mut wanted = [PollFd::new(process, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut wanted, Some(&now)) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::AsFd,
            unix::net::{UnixListener, UnixStream},
        },
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn this_process_lives_and_is_named() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Peer::of(near.as_fd()).unwrap();
        let uid = rustix::process::getuid().as_raw();
        if !peer.lives() {
            eprintln!("skipped: this kernel has no SO_PEERPIDFD");
            return;
        }
        assert_eq!(peer.caller, Caller::Process { uid, pid: Some(std::process::id()) });
        assert!(!Peer::port().lives());
    }

    #[test]
    fn a_process_that_ended_is_not_taken_for_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let python = format!(
            "import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.connect({:?})\nsys.stdin.read()",
            path.to_str().unwrap()
        );
        let child = Command::new("python3").args(["-c", &python]).stdin(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: python3 is missing");
            return;
        };
        let (stream, _) = listener.accept().unwrap();
        let peer = Peer::of(stream.as_fd()).unwrap();
        if !peer.lives() {
            eprintln!("skipped: this kernel has no SO_PEERPIDFD");
            return;
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!peer.lives());
    }
}
