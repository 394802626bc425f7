//! The connections to the ledger: one for appends, one that is the stream of blocks.
//!
//! Both live and die together, so that the core sees one link. Used by [`crate::serve`].

use std::{
    future::poll_fn,
    path::Path,
    task::Poll,
    time::{Duration, Instant},
};

use hookprobe_wire::{
    Seq,
    ledger::{Reply, Request},
};
use tokio::{net::UnixStream, time::timeout};

use crate::{
    core::Input,
    peer::{Peer, PeerError},
};

/// Longest wait for a connection: a local socket answers at once unless its backlog is full.
const CONNECT_MS_MAX: u64 = 1000;
/// First pause before connecting again; doubles up to [`RETRY_MS_MAX`].
const RETRY_MS_MIN: u64 = 100;
/// Longest pause: a restarted ledger is found within this.
const RETRY_MS_MAX: u64 = 5000;

/// Both connections.
#[derive(Debug)]
pub(crate) struct Link {
    append: Peer,
    stream: Peer,
}

impl Link {
    /// Connects and asks for the state of the lane.
    pub(crate) async fn connect(path: &Path) -> Result<Self, PeerError> {
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        let connect = || async {
            let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
            timeout(limit, UnixStream::connect(path)).await.map_err(late)?
        };
        let mut append = Peer::new(connect().await?);
        let stream = Peer::new(connect().await?);
        append.send(&Request::Head)?;
        Ok(Self { append, stream })
    }

    pub(crate) fn follow(&mut self, from: Seq) -> Result<(), PeerError> {
        self.stream.send(&Request::Follow { from })
    }

    pub(crate) fn send(&mut self, request: &Request) -> Result<(), PeerError> {
        self.append.send(request)
    }

    /// What the ledger says next, on either connection.
    pub(crate) async fn next(&mut self) -> Result<Reply, PeerError> {
        poll_fn(|context| match self.append.poll_next(context) {
            Poll::Ready(reply) => Poll::Ready(reply),
            Poll::Pending => self.stream.poll_next(context),
        })
        .await
    }
}

/// Code with which the ledger closes what asked nothing for an hour: on a quiet box, the connection
/// for appends.
const IDLE: &str = hookprobe_wire::ledger::IDLE_CODE;

/// Why the ledger ended the link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing was to be appended for long. No trouble.
    Idle,
    /// It says what it does not like. After HP-LD-013 (the lane is shorter than what was followed:
    /// the ledger set a damaged one aside) the next link begins with the new head, and the core
    /// reads that lane from its first block.
    Refused(String),
}

/// What the core is told about a reply; an error of the ledger ends the link.
pub(crate) fn input(reply: Reply) -> Result<Input, Ended> {
    match reply {
        Reply::Appended { id, seq, hash } => Ok(Input::Appended { id, seq, hash }),
        Reply::Rejected { id, code, reason } => Ok(Input::Rejected { id, code, reason }),
        Reply::Block(record) => Ok(Input::Record(Box::new(record))),
        Reply::CaughtUp { .. } => Ok(Input::CaughtUp),
        Reply::Head(head) => Ok(Input::Head(head)),
        Reply::Error { code, .. } if code == IDLE => Err(Ended::Idle),
        Reply::Error { code, reason } => {
            Err(Ended::Refused(hookprobe_wire::text::escape(&format!("{code} {reason}"), 200)))
        }
    }
}

/// When to connect again.
#[derive(Debug)]
pub(crate) struct Retry {
    pause_ms: u64,
    due: Instant,
}

impl Retry {
    pub(crate) fn new() -> Self {
        Self { pause_ms: RETRY_MS_MIN, due: Instant::now() }
    }

    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    pub(crate) fn failed(&mut self) {
        self.due = Instant::now() + Duration::from_millis(self.pause_ms);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(RETRY_MS_MAX);
    }

    pub(crate) fn worked(&mut self) {
        self.pause_ms = RETRY_MS_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_silence_is_no_trouble_and_everything_else_is() {
        let said = |code: &str| {
            input(Reply::Error { code: code.into(), reason: "why\nnot".into() }).unwrap_err()
        };
        assert_eq!(said("HP-LD-015"), Ended::Idle);
        assert_eq!(said("HP-LD-013"), Ended::Refused("HP-LD-013 why\\u{a}not".into()));
    }
}
