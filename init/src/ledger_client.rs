//! PID 1 as a client of the ledger: what happened to the box becomes blocks.
//!
//! [`Outbox`] is pure: a bounded queue whose entries keep their [`RequestId`] until the ledger has
//! answered, so that an answer that got lost does not make a second block. [`Client`] is its thin
//! shell: one connection, one question at a time, never waits.

use std::{collections::VecDeque, io::ErrorKind, os::fd::OwnedFd};

use hookprobe_wire::{
    Decoder, Event, LEDGER_SOCKET, frame,
    ledger::{Reply, Request, RequestId},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
        recv, send, socket_with,
    },
};

use crate::limits::{LEDGER_ANSWER_MS_MAX, LEDGER_RETRY_MS, OUTBOX_MAX, READ_BYTES_MAX};

/// Events that wait for the ledger.
#[derive(Debug)]
pub struct Outbox {
    queue: VecDeque<(RequestId, Event)>,
    prefix: [u8; 8],
    next: u64,
    dropped: u64,
}

impl Outbox {
    /// `prefix` must differ from boot to boot: it comes from the boot's identity.
    #[must_use]
    pub fn new(prefix: [u8; 8]) -> Self {
        Self { queue: VecDeque::new(), prefix, next: 0, dropped: 0 }
    }

    /// Adds an event; the oldest goes when there is no room.
    pub fn push(&mut self, event: Event) {
        let mut id = [0; 16];
        let (front, back) = id.split_at_mut(8);
        front.copy_from_slice(&self.prefix);
        back.copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        if self.queue.len() >= OUTBOX_MAX {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back((RequestId(id.into()), event));
    }

    /// What to ask next.
    #[must_use]
    pub fn front(&self) -> Option<(RequestId, &Event)> {
        self.queue.front().map(|(id, event)| (*id, event))
    }

    /// The ledger has answered about `id`.
    pub fn done(&mut self, id: RequestId) {
        self.queue.retain(|(waiting, _)| *waiting != id);
    }

    /// Events dropped because the ledger did not take them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
    asked: Option<(RequestId, u64)>,
}

/// The shell of an [`Outbox`].
#[derive(Debug)]
pub struct Client {
    /// What waits.
    pub outbox: Outbox,
    connection: Option<Connection>,
    retry_ms: u64,
}

/// What a turn of the client has to say to the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Note {
    /// The ledger refused an event; it is not tried again.
    Rejected(String),
    /// The connection failed; it is tried again.
    Failed(String),
}

impl Client {
    /// Not connected.
    #[must_use]
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, connection: None, retry_ms: 0 }
    }

    /// The socket, to be watched.
    #[must_use]
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.connection.as_ref().map(|open| &open.socket)
    }

    /// Ends the connection: the ledger is not up. What was asked is asked again.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// When [`Self::turn`] is next needed without an answer.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match &self.connection {
            Some(open) => open.asked.map(|(_, deadline)| deadline),
            None => self.outbox.front().map(|_| self.retry_ms),
        }
    }

    /// Does what can be done now. Call it when the socket is readable, when something was pushed
    /// and when the deadline has passed.
    pub fn turn(&mut self, now_ms: u64, notes: &mut Vec<Note>) {
        if self.connection.is_none() && self.outbox.front().is_some() && now_ms >= self.retry_ms {
            match open() {
                Ok(socket) => {
                    self.connection =
                        Some(Connection { socket, decoder: Decoder::new(), asked: None });
                }
                Err(errno) => self.fail(now_ms, &format!("connect: {errno}"), notes),
            }
        }
        if let Err(why) = self.answers(notes).and_then(|()| self.ask(now_ms)) {
            self.fail(now_ms, &why, notes);
        }
    }

    fn fail(&mut self, now_ms: u64, why: &str, notes: &mut Vec<Note>) {
        self.connection = None;
        self.retry_ms = now_ms + LEDGER_RETRY_MS;
        notes.push(Note::Failed(why.into()));
    }

    fn answers(&mut self, notes: &mut Vec<Note>) -> Result<(), String> {
        let Some(open) = &mut self.connection else {
            return Ok(());
        };
        let mut bytes = [0; READ_BYTES_MAX];
        loop {
            let room = open.decoder.room().min(bytes.len());
            let part = bytes.get_mut(..room).unwrap_or_default();
            match recv(&open.socket, part, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err("the ledger closed the connection".into()),
                Ok((_, got)) => open.decoder.feed(bytes.get(..got).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno.to_string()),
            }
            while let Some(reply) = open.decoder.next().map_err(|error| error.to_string())? {
                let id = match reply {
                    Reply::Appended { id, .. } => id,
                    Reply::Rejected { id, code, reason } => {
                        notes.push(Note::Rejected(format!("{code} {reason}")));
                        id
                    }
                    Reply::Error { code, reason } => return Err(format!("{code} {reason}")),
                    other => return Err(format!("unexpected answer {other:?}")),
                };
                self.outbox.done(id);
                if open.asked.is_some_and(|(asked, _)| asked == id) {
                    open.asked = None;
                }
            }
        }
    }

    fn ask(&mut self, now_ms: u64) -> Result<(), String> {
        let Some(open) = &mut self.connection else {
            return Ok(());
        };
        if let Some((_, deadline)) = open.asked {
            return if now_ms >= deadline { Err("no answer in time".into()) } else { Ok(()) };
        }
        let Some((id, event)) = self.outbox.front() else {
            return Ok(());
        };
        let request = Request::Append { id, event: event.clone() };
        let bytes = frame::to_vec(&request).map_err(|error| error.to_string())?;
        // Small against the socket's buffer, which is empty: it goes whole or not at all.
        match send(&open.socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) if sent == bytes.len() => {
                open.asked = Some((id, now_ms + LEDGER_ANSWER_MS_MAX));
                Ok(())
            }
            Ok(_) => Err(ErrorKind::WriteZero.to_string()),
            Err(errno) => Err(errno.to_string()),
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(LEDGER_SOCKET)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookprobe_wire::event::ServiceChange;

    fn event(number: usize) -> Event {
        Event::Service(ServiceChange {
            service: number.to_string(),
            change: "exited".into(),
            detail: String::new(),
        })
    }

    #[test]
    fn an_event_keeps_its_name_until_it_is_answered() {
        let mut outbox = Outbox::new(*b"boot0001");
        outbox.push(event(0));
        outbox.push(event(1));
        let (first, _) = outbox.front().unwrap();
        assert_eq!(outbox.front().unwrap().0, first);
        outbox.done(first);
        outbox.done(first);
        let (second, left) = outbox.front().unwrap();
        assert_ne!(first, second);
        assert_eq!(*left, event(1));
    }

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let mut outbox = Outbox::new([0; 8]);
        for number in 0..OUTBOX_MAX + 2 {
            outbox.push(event(number));
        }
        assert_eq!(*outbox.front().unwrap().1, event(2));
        assert_eq!(outbox.dropped(), 2);
    }
}
