//! PID 1's own socket: who asks is told how the box is. A console may ask that rules and lists are read
//! again ([`crate::reload`]) and that evidence is carried out ([`crate::carry`]); nothing else can be
//! changed here.
//!
//! Clients are hostile until their frames decode: each has a bounded buffer in both directions and
//! an idle time, and a client that does not read its answers is closed, never waited for.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
};

use hookprobe_wire::{
    Decoder,
    control::{Reply, Request},
    frame,
};

use crate::{
    limits::{CLIENT_BYTES_MAX, CLIENT_IDLE_MS_MAX, CLIENTS_MAX, READ_BYTES_MAX},
    log::Ring,
};

/// Who a client is, by the kernel's word of when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process; 0: not known.
    pub pid: i32,
}

/// What only the machine can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// How the box is.
    Status,
    /// Rules and lists are to be read again.
    Reload(Peer),
    /// Evidence over a nonce is to be carried out.
    Carry(Peer, Vec<u8>),
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub stream: UnixStream,
    /// Number, never used twice.
    pub id: u32,
    peer: Peer,
    decoder: Decoder,
    out: Vec<u8>,
    active_ms: u64,
    closing: bool,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    all: Vec<Client>,
    next: u32,
    refused: u64,
}

impl Clients {
    /// Takes new connections; returns the numbers of those taken.
    pub fn accept(&mut self, listener: &UnixListener, now_ms: u64) -> Vec<u32> {
        let mut taken = Vec::new();
        // One turn takes at most what there is room for twice: a flood can't hold the loop.
        for _ in 0..2 * CLIENTS_MAX {
            let Ok((stream, _)) = listener.accept() else {
                break;
            };
            if self.all.len() >= CLIENTS_MAX || stream.set_nonblocking(true).is_err() {
                self.refused += 1;
                continue;
            }
            let peer = peer(&stream);
            self.next = self.next.wrapping_add(1);
            taken.push(self.next);
            self.all.push(Client {
                stream,
                id: self.next,
                peer,
                decoder: Decoder::new(),
                out: Vec::new(),
                active_ms: now_ms,
                closing: false,
            });
        }
        taken
    }

    /// A client by number.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Client> {
        self.all.iter().find(|client| client.id == id)
    }

    /// Connections refused because there were too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Serves a client that is readable or writable; `answer` is only called when needed.
    /// Returns whether it stays, and whether it waits for room to write.
    pub fn serve(
        &mut self,
        id: u32,
        now_ms: u64,
        ring: &Ring,
        answer: &mut dyn FnMut(Ask) -> Reply,
    ) -> (bool, bool) {
        let Some(client) = self.all.iter_mut().find(|client| client.id == id) else {
            return (false, false);
        };
        client.active_ms = now_ms;
        let open = client.read(ring, answer) && client.write();
        let waits = !client.out.is_empty();
        if !open || (client.closing && !waits) {
            self.all.retain(|client| client.id != id);
            return (false, false);
        }
        (true, waits)
    }

    /// Closes clients that ask nothing.
    pub fn close_idle(&mut self, now_ms: u64) {
        self.all.retain(|client| now_ms.saturating_sub(client.active_ms) < CLIENT_IDLE_MS_MAX);
    }
}

impl Client {
    fn read(&mut self, ring: &Ring, answer: &mut dyn FnMut(Ask) -> Reply) -> bool {
        let mut bytes = [0; READ_BYTES_MAX];
        let room = self.decoder.room().min(bytes.len());
        match self.stream.read(bytes.get_mut(..room).unwrap_or_default()) {
            Ok(0) => return false,
            Ok(got) => self.decoder.feed(bytes.get(..got).unwrap_or_default()),
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        }
        while !self.closing {
            let reply = match self.decoder.next() {
                Ok(None) => break,
                Ok(Some(Request::Status)) => answer(Ask::Status),
                Ok(Some(Request::Reload)) => answer(Ask::Reload(self.peer)),
                Ok(Some(Request::Carry { nonce })) => answer(Ask::Carry(self.peer, nonce.into())),
                Ok(Some(Request::Log { from })) => Reply::Log(ring.since(from)),
                Err(error) => {
                    self.closing = true;
                    let text = error.to_string();
                    let (code, reason) = text.split_once(' ').unwrap_or(("HP-WR-005", &text));
                    Reply::Error { code: code.into(), reason: reason.into() }
                }
            };
            // Every reply is bounded by construction to fit a frame; one that does not is dropped
            // with its client.
            if frame::encode(&reply, &mut self.out).is_err() || self.out.len() > CLIENT_BYTES_MAX {
                return false;
            }
        }
        true
    }

    fn write(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(0) => return false,
                Ok(sent) => drop(self.out.drain(..sent.min(self.out.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn peer(stream: &UnixStream) -> Peer {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) => Peer { uid: peer.uid.as_raw(), pid: peer.pid.as_raw_nonzero().get() },
        // Nobody that anything is allowed to.
        Err(_) => Peer { uid: u32::MAX, pid: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookprobe_wire::{
        Severity,
        control::{Measured, Status},
    };

    fn answer(ask: Ask) -> Reply {
        match ask {
            Ask::Status => Reply::Status(status()),
            Ask::Reload(Peer { uid, pid }) => {
                Reply::Reload { number: 0, reason: format!("{uid} {pid}") }
            }
            Ask::Carry(Peer { uid, pid }, nonce) => {
                Reply::Carry { number: 0, reason: format!("{uid} {pid} {nonce:?}") }
            }
        }
    }

    fn status() -> Status {
        Status {
            name: "hp-test".into(),
            version: "0".into(),
            uptime_ms: 0,
            time_s: 0,
            ready: true,
            phases: Vec::new(),
            services: Vec::new(),
            measured: Measured {
                level: "L0".into(),
                level_text: String::new(),
                pcrs: Vec::new(),
                divergence: String::new(),
                measure_us: 0,
                commands: 0,
            },
            addresses: Vec::new(),
            diagnostics: Vec::new(),
            rss_kib: 0,
            memory_kib: (0, 0),
            state: None,
            reload: None,
            carry: None,
        }
    }

    struct Server {
        _directory: tempfile::TempDir,
        path: std::path::PathBuf,
        listener: UnixListener,
        clients: Clients,
        ring: Ring,
    }

    impl Server {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("init.sock");
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let mut ring = Ring::default();
            ring.push(0, "init", Severity::Info, "hello");
            Self { _directory: directory, path, listener, clients: Clients::default(), ring }
        }

        fn exchange(&mut self, bytes: &[u8]) -> (Vec<Reply>, bool) {
            let mut stream = UnixStream::connect(&self.path).unwrap();
            stream.write_all(bytes).unwrap();
            let id = self.clients.accept(&self.listener, 0)[0];
            let (stays, _) = self.clients.serve(id, 0, &self.ring, &mut answer);
            stream.set_nonblocking(true).unwrap();
            let mut decoder = Decoder::new();
            let mut got = vec![0; 1 << 16];
            let length = stream.read(&mut got).unwrap();
            decoder.feed(&got[..length]);
            let mut replies = Vec::new();
            while let Some(reply) = decoder.next().unwrap() {
                replies.push(reply);
            }
            (replies, stays)
        }
    }

    #[test]
    fn two_questions_in_one_packet_get_two_answers() {
        let mut bytes = frame::to_vec(&Request::Status).unwrap();
        frame::encode(&Request::Log { from: 0 }, &mut bytes).unwrap();
        let (replies, stays) = Server::new().exchange(&bytes);
        assert!(stays);
        assert!(matches!(&replies[0], Reply::Status(status) if status.name == "hp-test"));
        assert!(matches!(&replies[1], Reply::Log(lines) if lines[0].text == "hello"));
    }

    #[test]
    fn who_asks_for_a_reload_is_the_kernels_word() {
        let (replies, _) = Server::new().exchange(&frame::to_vec(&Request::Reload).unwrap());
        let own = format!("{} {}", rustix::process::geteuid().as_raw(), std::process::id());
        assert_eq!(replies, [Reply::Reload { number: 0, reason: own }]);
    }

    #[test]
    fn a_bad_frame_is_answered_once_and_the_client_is_gone() {
        let (replies, stays) = Server::new().exchange(b"GET / HTTP/1.0\r\n\r\n");
        assert!(!stays);
        assert!(matches!(&replies[..], [Reply::Error { code, .. }] if code == "HP-WR-001"));
    }

    #[test]
    fn clients_are_bounded_and_idle_ones_go() {
        let mut server = Server::new();
        let open: Vec<_> =
            (0..CLIENTS_MAX + 4).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
        let taken = server.clients.accept(&server.listener, 0);
        assert_eq!(taken.len(), CLIENTS_MAX);
        assert_eq!(server.clients.refused(), 4);
        server.clients.close_idle(CLIENT_IDLE_MS_MAX);
        assert!(server.clients.get(taken[0]).is_none());
        drop(open);
    }
}
