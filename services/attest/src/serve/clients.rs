//! Everybody who asks: sockets of the box's processes and the hypervisor's port.
//!
//! At most [`CLIENTS_MAX`], of one uid [`PER_UID_MAX`], so that no service can keep the ledger from
//! its seed; the next one is turned away and counted. A client is a hostile sender of bytes until its
//! frame is decoded. Used by [`crate::serve`].

use std::{
    future::poll_fn,
    os::fd::AsFd,
    path::{Path, PathBuf},
    task::Poll,
    time::{Duration, Instant},
};

use hookprobe_wire::attest::{EVIDENCE_BYTES_MAX, PART_BYTES_MAX, Reply, Request, Seed, SeedReply};
use minicbor::Encode;
use tokio::net::UnixStream;

use super::{
    caller::Peer,
    port,
    stream::{Channel, Stream, StreamError},
};
use crate::{
    code::{self, Fault},
    core::{Caller, ClientId},
};

/// Every client uid with all it may have, and the port.
pub(super) const CLIENTS_MAX: usize = 20;
/// Two consoles, each reconnecting once.
pub(super) const PER_UID_MAX: usize = 4;
/// Pause before the port is opened again: nobody may be at its other end for days.
const PORT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Client {
    id: ClientId,
    peer: Peer,
    stream: Stream,
}

#[derive(Debug)]
pub(super) struct Clients {
    clients: Vec<Client>,
    next_id: u64,
    turned_away: u64,
    port: PathBuf,
    port_due: Instant,
}

/// What a client did.
#[derive(Debug)]
pub(super) enum Said {
    Request(ClientId, Caller, Request),
    Gone(ClientId),
}

impl Clients {
    pub(super) fn new(port: &Path) -> Self {
        Self {
            clients: Vec::new(),
            next_id: 0,
            turned_away: 0,
            port: port.into(),
            port_due: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, socket: UnixStream) {
        let peer = match Peer::of(socket.as_fd()) {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(%error, "client without credentials dropped"),
        };
        let uid = uid_of(peer.caller);
        let own = self.clients.iter().filter(|client| uid_of(client.peer.caller) == uid).count();
        if self.clients.len() >= CLIENTS_MAX || own >= PER_UID_MAX {
            self.turned_away += 1;
            let (turned_away, code) = (self.turned_away, code::CONNECTIONS);
            tracing::warn!(
                turned_away,
                uid,
                "{code} client turned away, {own} of it are connected"
            );
            return;
        }
        self.push(peer, Channel::Socket(socket));
    }

    fn push(&mut self, peer: Peer, channel: Channel) {
        let id = ClientId(self.next_id);
        self.next_id += 1;
        self.clients.push(Client { id, peer, stream: Stream::new(channel) });
    }

    /// Opens the port when it is there and not open. Opening it anew is also what throws away what is
    /// left of a peer that stopped in the middle of a frame.
    pub(super) fn open_port(&mut self) {
        let open = self.clients.iter().any(|client| client.peer.caller == Caller::Port);
        if open || Instant::now() < self.port_due {
            return;
        }
        self.port_due = Instant::now() + PORT_PAUSE;
        match port::open(&self.port) {
            Ok(device) => self.push(Peer::port(), Channel::Device(device)),
            Err(error) => tracing::debug!(%error, "port not opened"),
        }
    }

    /// What happens next. Waits for ever when there are no clients.
    pub(super) async fn next(&mut self) -> Said {
        poll_fn(|context| {
            for at in 0..self.clients.len() {
                let Some(client) = self.clients.get_mut(at) else {
                    break;
                };
                let (id, caller) = (client.id, client.peer.caller);
                match client.stream.poll_next(context) {
                    Poll::Ready(Ok(request)) => {
                        return Poll::Ready(Said::Request(id, caller, request));
                    }
                    Poll::Ready(Err(error)) => {
                        self.drop_client(id, &error);
                        return Poll::Ready(Said::Gone(id));
                    }
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    fn drop_client(&mut self, id: ClientId, error: &StreamError) {
        let caller = self.find(id).map(|client| client.peer.caller);
        match (error, caller) {
            // Nobody at the other end of the port is the usual case.
            (StreamError::Closed, _) | (StreamError::Io(_), Some(Caller::Port)) => {}
            (StreamError::Io(_) | StreamError::Frame(_) | StreamError::Slow(_), _) => {
                tracing::warn!(?caller, %error, "client dropped");
            }
        }
        self.clients.retain(|client| client.id != id);
    }

    fn find(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    /// Sends a message; `false` when the client is gone because of it.
    pub(super) fn send<M: Encode<()>>(&mut self, id: ClientId, message: &M) -> bool {
        let Some(client) = self.find(id) else {
            return true;
        };
        let Err(error) = client.stream.send(message) else {
            return true;
        };
        self.drop_client(id, &error);
        false
    }

    /// Sends a secret past every buffer; `false` as above.
    pub(super) fn send_secret<M: Encode<()>>(&mut self, id: ClientId, message: &M) -> bool {
        let Some(client) = self.find(id) else {
            return true;
        };
        let Err(error) = client.stream.send_secret(message) else {
            return true;
        };
        self.drop_client(id, &error);
        false
    }

    /// Sends evidence in parts; `false` as above.
    pub(super) fn send_evidence(&mut self, id: ClientId, evidence: &[u8]) -> bool {
        let total = u32::try_from(evidence.len()).unwrap_or(u32::MAX);
        if evidence.len() > EVIDENCE_BYTES_MAX {
            let reason = format!("evidence: {total} bytes, at most {EVIDENCE_BYTES_MAX}");
            let Fault { code, reason } = Fault::new(code::TOO_LONG, reason);
            return self.send(id, &Reply::Error { code, reason });
        }
        let parts = evidence.chunks(PART_BYTES_MAX).enumerate();
        parts.fold(true, |alive, (number, bytes)| {
            let offset = u32::try_from(number.saturating_mul(PART_BYTES_MAX)).unwrap_or(u32::MAX);
            alive && self.send(id, &Reply::Part { offset, total, bytes: bytes.to_vec().into() })
        })
    }

    /// Hands the seed over if the process that connected still lives; `false` when it does not.
    pub(super) fn hand_seed(&mut self, id: ClientId, seed: Seed) -> bool {
        let Some(client) = self.find(id).filter(|client| client.peer.lives()) else {
            return false;
        };
        match client.stream.send_secret(&SeedReply::Seed(seed)) {
            Ok(()) => true,
            Err(error) => {
                self.drop_client(id, &error);
                false
            }
        }
    }
}

fn uid_of(caller: Caller) -> Option<u32> {
    match caller {
        Caller::Process { uid, .. } => Some(uid),
        Caller::Port => None,
    }
}
