//! Connections to the ledger and to PID 1: made when needed, made again after a pause when lost.
//! Used by [`crate::serve`].

use std::{
    collections::VecDeque,
    future::poll_fn,
    path::PathBuf,
    time::{Duration, Instant},
};

use hookprobe_wire::{control, ledger, text};
use minicbor::{Decode, Encode};
use tokio::{net::UnixStream, time::timeout};

use super::stream::{Channel, Stream, StreamError};
use crate::{
    code::Fault,
    core::{Input, Seen},
};

/// Longest wait for a connection: a local socket answers at once unless its backlog is full.
const CONNECT: Duration = Duration::from_millis(200);
/// First pause before connecting again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a restarted service is found within this.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Questions to PID 1 that may be unanswered; the next one begins with a new connection.
const ROUNDS_MAX: usize = 16;
/// Verdict of PID 1 about a service that is the measured one.
const MATCH: &str = "match";

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    stream: Option<Stream>,
    pause: Duration,
    due: Instant,
}

impl Link {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, stream: None, pause: RETRY_MIN, due: Instant::now() }
    }

    /// Connects when there is no connection and it is time; `true` when there is a new one.
    pub(super) async fn connect(&mut self) -> bool {
        if self.stream.is_some() || Instant::now() < self.due {
            return false;
        }
        match timeout(CONNECT, UnixStream::connect(&self.path)).await {
            Ok(Ok(socket)) => {
                self.stream = Some(Stream::new(Channel::Socket(socket)));
                true
            }
            Ok(Err(_)) | Err(_) => {
                self.hang_up();
                false
            }
        }
    }

    /// Sends a message, `false` when there is no connection (any more).
    pub(super) fn send<M: Encode<()>>(&mut self, message: &M) -> bool {
        let sent = self.stream.as_mut().is_some_and(|stream| stream.send(message).is_ok());
        if !sent && self.stream.is_some() {
            self.hang_up();
        }
        sent
    }

    /// The next message; waits for ever without a connection.
    pub(super) async fn next<M>(&mut self) -> Result<M, StreamError>
    where
        M: for<'b> Decode<'b, ()>,
    {
        match &mut self.stream {
            Some(stream) => {
                let message = poll_fn(|context| stream.poll_next(context)).await;
                if message.is_ok() {
                    self.pause = RETRY_MIN;
                }
                message
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.stream = None;
        self.due = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }
}

/// What the core is told about a reply of the ledger; `None` ends the connection.
pub(super) fn from_ledger(reply: ledger::Reply) -> Option<Input> {
    match reply {
        ledger::Reply::Appended { id, .. } => Some(Input::Appended(id)),
        ledger::Reply::Rejected { id, code, reason } => {
            let reason = text::escape(&reason, 200);
            Some(Input::Rejected(id, Fault { code: text::escape(&code, 16), reason }))
        }
        ledger::Reply::Head(head) => Some(Input::Head(head)),
        // Nothing of this was asked for; an error comes before the end.
        ledger::Reply::Block(_) | ledger::Reply::CaughtUp { .. } | ledger::Reply::Error { .. } => {
            None
        }
    }
}

/// PID 1, and which of its answers is to which question.
#[derive(Debug)]
pub(super) struct Control {
    link: Link,
    rounds: VecDeque<u64>,
}

impl Control {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { link: Link::new(path), rounds: VecDeque::new() }
    }

    /// Asks; `false` when PID 1 can't be asked.
    pub(super) async fn ask(&mut self, round: u64) -> bool {
        if self.rounds.len() >= ROUNDS_MAX {
            self.hang_up();
        }
        if self.link.connect().await {
            self.rounds.clear();
        }
        let sent = self.link.send(&control::Request::Status);
        if sent {
            self.rounds.push_back(round);
        }
        sent
    }

    /// What PID 1 says next.
    pub(super) async fn next(&mut self) -> Input {
        match self.link.next().await {
            Ok(control::Reply::Status(status)) => match self.rounds.pop_front() {
                Some(round) => Input::Control(round, seen(status)),
                None => self.lost(),
            },
            // What was not asked for.
            Ok(
                control::Reply::Log(_)
                | control::Reply::Reload { .. }
                | control::Reply::Carry { .. }
                | control::Reply::Error { .. },
            )
            | Err(_) => self.lost(),
        }
    }

    fn lost(&mut self) -> Input {
        self.hang_up();
        Input::ControlLost
    }

    fn hang_up(&mut self) {
        self.rounds.clear();
        self.link.hang_up();
    }
}

fn seen(status: control::Status) -> Vec<Seen> {
    let of = |service: control::Service| Seen {
        matches: service.verdict == MATCH,
        name: service.name,
        pid: service.pid,
        restarts: service.restarts,
    };
    status.services.into_iter().map(of).collect()
}
