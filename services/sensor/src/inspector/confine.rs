//! What the inspector gives up once its sockets are open.
//!
//! PID 1 confines every service from its first instruction; this is what only the service itself can
//! do, because it needs more for its start: after [`shut`] there are no capabilities, no new sockets, and
//! a datagram goes nowhere but where its socket is connected to. A packet socket can be read then and
//! not written. What remains is an answer to a device that connected to syslog over TCP.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use thiserror::Error;

/// Calls that make a way out.
const CALLS: [libc::c_long; 7] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
];
/// The address among the arguments of `sendto`.
const SENDTO_ADDRESS: u8 = 4;

/// Why it can't; the service must end then.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// The kernel keeps the capabilities.
    #[error("HP-SN-083 inspector: capabilities can't be given up ({0}); see its seccomp groups")]
    Capabilities(rustix::io::Errno),
    /// The kernel takes no filter.
    #[error("HP-SN-083 inspector: its filter of system calls is refused ({0}); see its groups")]
    Filter(String),
}

/// Shuts the door behind this thread and all that it starts from now on.
///
/// # Errors
/// [`ConfineError`].
pub fn shut() -> Result<(), ConfineError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(ConfineError::Capabilities)?;
    let filter = filter().map_err(|error| ConfineError::Filter(error.to_string()))?;
    apply_filter(&filter).map_err(|error| ConfineError::Filter(error.to_string()))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let has_address =
        SeccompCondition::new(SENDTO_ADDRESS, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![has_address])?]);
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::UdpSocket,
        os::{fd::AsRawFd as _, unix::net::UnixDatagram},
        thread,
    };

    use super::*;
    use crate::inspector::packets::Ring;

    /// Sends a frame through `socket` as `how` says; what the kernel answers.
    #[expect(unsafe_code, reason = "no safe call sends to an address of the link layer")]
    fn send(socket: i32, has_address: bool) -> Option<i32> {
        let mut address: libc::sockaddr_ll = unsafe {
            // SAFETY: all zeros is a value of this structure of integers.
            std::mem::zeroed()
        };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        // Loopback, in every namespace.
        address.sll_ifindex = 1;
        let frame = [0_u8; 64];
        let to = if has_address { (&raw const address).cast() } else { std::ptr::null() };
        let length = if has_address { size_of::<libc::sockaddr_ll>() } else { 0 };
        // SAFETY: both buffers live for the call and their lengths are their sizes.
        let sent = unsafe {
            libc::sendto(
                socket,
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                to,
                u32::try_from(length).unwrap(),
            )
        };
        (sent < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
    }

    #[test]
    fn packets_can_be_read_and_not_written() {
        let Ok(ring) = Ring::open() else {
            println!("skipped: no CAP_NET_RAW");
            return;
        };
        let (notify, init) = UnixDatagram::pair().unwrap();
        // Filters and capabilities are of a thread.
        let shut_in = thread::spawn(move || {
            let socket = ring.descriptor().as_raw_fd();
            assert_eq!(send(socket, true), None, "could before");
            shut().unwrap();
            assert_eq!(send(socket, true), Some(libc::EPERM));
            assert_eq!(send(socket, false), Some(libc::ENXIO), "it is bound to no interface");
            assert!(Ring::open().is_err());
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap_err();
            assert_eq!(udp.raw_os_error(), Some(libc::EPERM));
            let capabilities = rustix::thread::capabilities(None).unwrap();
            assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
            // PID 1 is still told.
            notify.send(b"WATCHDOG=1").unwrap();
        });
        shut_in.join().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(init.recv(&mut buffer).unwrap(), 10);
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok(), "other threads are as they were");
    }
}
