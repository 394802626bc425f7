//! PID 1 as a client of the sensor: one question, that rules and lists are read again. Never waits.

use std::os::fd::OwnedFd;

use hookprobe_wire::{
    Decoder, SENSOR_SOCKET, frame,
    sensor::{Loaded, Reply, Request},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
        recv, send, socket_with,
    },
};

use crate::limits::{READ_BYTES_MAX, RELOAD_ANSWER_MS_MAX};

/// A question that was asked.
#[derive(Debug)]
pub struct Question {
    socket: OwnedFd,
    decoder: Decoder,
    deadline_ms: u64,
}

impl Question {
    /// Asks the sensor to read rules and lists again. One that is not up takes it when it is: PID 1
    /// keeps its socket.
    ///
    /// # Errors
    /// Why it can't be asked.
    pub fn reload(now_ms: u64) -> Result<Self, String> {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(SENSOR_SOCKET)?)?;
            Ok(socket)
        };
        let socket = open().map_err(|errno: Errno| format!("connect: {errno}"))?;
        let bytes = frame::to_vec(&Request::Reload).map_err(|error| error.to_string())?;
        // Small against the socket's buffer, which is empty: it goes whole or not at all.
        match send(&socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(_) => return Err("cut off".into()),
            Err(errno) => return Err(errno.to_string()),
        }
        let deadline_ms = now_ms + RELOAD_ANSWER_MS_MAX;
        Ok(Self { socket, decoder: Decoder::new(), deadline_ms })
    }

    /// To be watched.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What it said, once it has: what is in force, or why not.
    pub fn answer(&mut self, now_ms: u64) -> Option<Result<Loaded, String>> {
        let mut bytes = [0; READ_BYTES_MAX];
        loop {
            match self.decoder.next::<Reply>() {
                Ok(Some(Reply::Reload { loaded: Some(loaded), started: true, .. })) => {
                    return Some(Ok(loaded));
                }
                Ok(Some(Reply::Reload { reason, .. })) => return Some(Err(reason)),
                Ok(Some(Reply::Error { code, reason })) => {
                    return Some(Err(format!("{code} {reason}")));
                }
                Ok(Some(other)) => return Some(Err(format!("unexpected answer {other:?}"))),
                Ok(None) => {}
                Err(error) => return Some(Err(error.to_string())),
            }
            let room = self.decoder.room().min(bytes.len());
            match recv(&self.socket, bytes.get_mut(..room).unwrap_or_default(), RecvFlags::DONTWAIT)
            {
                Ok((_, 0)) => return Some(Err("it closed the connection".into())),
                Ok((_, got)) => self.decoder.feed(bytes.get(..got).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) if now_ms >= self.deadline_ms => {
                    return Some(Err(format!("no answer for {} s", RELOAD_ANSWER_MS_MAX / 1000)));
                }
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Err(errno) => return Some(Err(errno.to_string())),
            }
        }
    }
}
