//! Who asks for the status: at most [`CLIENTS_MAX`], the next one is turned away and counted.
//!
//! A client is a hostile sender of bytes until its frame is decoded. It can only ask; nothing on this
//! socket changes anything. Used by [`crate::serve`].

use std::{future::poll_fn, task::Poll};

use hookprobe_wire::response::{Reply, Request};
use tokio::net::UnixStream;

use crate::peer::{Peer, PeerError};

/// Two consoles, each reconnecting once, and room for a person with a tool.
pub(crate) const CLIENTS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Clients {
    peers: Vec<Peer>,
    turned_away: u64,
}

impl Clients {
    pub(crate) fn add(&mut self, stream: UnixStream) {
        if self.peers.len() < CLIENTS_MAX {
            self.peers.push(Peer::new(stream));
            return;
        }
        self.turned_away += 1;
        let turned_away = self.turned_away;
        tracing::warn!(turned_away, "client turned away, {CLIENTS_MAX} are connected");
    }

    /// The next request and whose it is. Waits for ever when there are no clients. Clients that
    /// close or misbehave are dropped on the way.
    pub(crate) async fn next(&mut self) -> (usize, Request) {
        poll_fn(|context| {
            let mut at = 0;
            while let Some(peer) = self.peers.get_mut(at) {
                match peer.poll_next(context) {
                    Poll::Ready(Ok(request)) => return Poll::Ready((at, request)),
                    Poll::Ready(Err(error)) => {
                        log(&error);
                        self.peers.remove(at);
                    }
                    Poll::Pending => at += 1,
                }
            }
            Poll::Pending
        })
        .await
    }

    pub(crate) fn answer(&mut self, at: usize, reply: &Reply) {
        let Some(peer) = self.peers.get_mut(at) else {
            return;
        };
        if let Err(error) = peer.send(reply) {
            log(&error);
            self.peers.remove(at);
        }
    }
}

fn log(error: &PeerError) {
    match error {
        PeerError::Closed => {}
        PeerError::Io(_) | PeerError::Frame(_) | PeerError::Slow(_) => {
            tracing::warn!(%error, "client dropped");
        }
    }
}
