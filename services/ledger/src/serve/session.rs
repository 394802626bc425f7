//! One connection: frames in, answers out, in the order of the questions.
//!
//! A client may send up to [`PIPELINE_MAX`] appends ahead; they are written together. `Read` and
//! `Follow` are served from the store directly, one chunk at a time, so that what is held for a
//! reader is one chunk however far behind it is. A reader that does not take a chunk within
//! [`WRITE_TIMEOUT`] is disconnected and counted; it resumes with the next seq it wants.
//!
//! What must never happen here: trust in a byte that the frame decoder did not accept; an
//! unbounded buffer; a wait without a timeout.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use hookprobe_wire::{
    Decoder, FrameError, Seq,
    frame::encode,
    ledger::{READ_BLOCKS_MAX, Reply, Request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::Hub;
use crate::{code, store::StoreError};

/// Requests that one client may have open.
pub(super) const PIPELINE_MAX: usize = 64;
/// A local client that takes no bytes for so long is stuck; a chunk is 256 KiB at most.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A frame that has begun is there within this: local writers send it in one call.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Between requests: long enough for a quiet sensor, short enough that forgotten connections
/// don't use up the table for a day.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Why a connection ended before the client closed it.
enum End {
    /// The client closed, or the kernel did.
    Closed,
    /// It did not take what was sent.
    Slow,
}

enum Pending {
    Answer(oneshot::Receiver<Reply>),
    Ready(Box<Reply>),
    Read { from: Seq, count: u32 },
    Follow { from: Seq },
}

struct Session {
    hub: Rc<Hub>,
    stream: UnixStream,
    uid: u32,
    decoder: Decoder,
    pending: VecDeque<Pending>,
    /// After an error or `Follow` nothing more is read.
    closing: bool,
    deadline: Instant,
}

/// Serves one connection to its end.
pub(super) async fn serve(hub: Rc<Hub>, stream: UnixStream, uid: u32) {
    let mut session = Session {
        hub: Rc::clone(&hub),
        stream,
        uid,
        decoder: Decoder::new(),
        pending: VecDeque::new(),
        closing: false,
        deadline: Instant::now() + IDLE_TIMEOUT,
    };
    match session.run().await {
        Ok(()) | Err(End::Closed) => {}
        Err(End::Slow) => {
            hub.slow.set(hub.slow.get() + 1);
            tracing::warn!(uid, total = hub.slow.get(), "slow reader disconnected");
        }
    }
}

/// Sends one error to a connection that is not served.
pub(super) async fn refuse(mut stream: UnixStream, code: &str, reason: String) {
    let mut out = Vec::new();
    let reply = Reply::Error { code: code.into(), reason };
    if encode(&reply, &mut out).is_ok() {
        // The client may be gone already.
        let _ = timeout(WRITE_TIMEOUT, stream.write_all(&out)).await;
    }
}

impl Session {
    async fn run(&mut self) -> Result<(), End> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            self.dispatch().await;
            if let Some(front) = self.pending.pop_front() {
                match front {
                    Pending::Follow { from } => return self.follow(from).await,
                    Pending::Read { from, count } => self.read(from, count).await?,
                    Pending::Ready(reply) => self.write(&[*reply]).await?,
                    Pending::Answer(answer) => self.answer(answer, &mut buffer).await?,
                }
            } else if self.closing || !self.fill(&mut buffer).await? {
                return Ok(());
            }
        }
    }

    /// Waits for an answer, taking in further requests meanwhile.
    async fn answer(
        &mut self,
        mut answer: oneshot::Receiver<Reply>,
        buffer: &mut [u8],
    ) -> Result<(), End> {
        loop {
            let room = !self.closing
                && self.pending.len() + 1 < PIPELINE_MAX
                && self.decoder.room() >= buffer.len();
            tokio::select! {
                biased;
                reply = &mut answer => {
                    let reply = reply.unwrap_or_else(|_| stopping());
                    self.closing |= matches!(reply, Reply::Error { .. });
                    return self.write(&[reply]).await;
                }
                read = self.stream.read(buffer), if room => {
                    match read {
                        // Half-closed: what was asked for is still answered.
                        Ok(0) => self.closing = true,
                        Ok(count) => self.take(buffer.get(..count).unwrap_or_default()),
                        Err(_) => return Err(End::Closed),
                    }
                    self.dispatch().await;
                }
            }
        }
    }

    /// Reads once; `false` at the end.
    async fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, End> {
        let room = self.decoder.room().min(buffer.len());
        let Some(free) = buffer.get_mut(..room) else {
            return Err(End::Closed);
        };
        let mut stopped = self.hub.stopping.subscribe();
        let count = tokio::select! {
            read = self.stream.read(free) => read.map_err(|_| End::Closed)?,
            () = sleep_until(self.deadline) => {
                let reason = "connection: nothing, or half a frame, came for too long; connect again".into();
                self.fail(code::IDLE, reason);
                return Ok(true);
            }
            _ = stopped.wait_for(|stopped| *stopped) => {
                self.pending.push_back(Pending::Ready(Box::new(stopping())));
                self.closing = true;
                return Ok(true);
            }
        };
        match free.get(..count) {
            Some([]) | None => Ok(false),
            Some(bytes) => {
                let bytes = bytes.to_vec();
                self.take(&bytes);
                Ok(true)
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
        // Only what is complete puts the deadline off, see dispatch.
        self.deadline = self.deadline.min(Instant::now() + FRAME_TIMEOUT);
    }

    fn fail(&mut self, code: &str, reason: String) {
        self.pending
            .push_back(Pending::Ready(Box::new(Reply::Error { code: code.into(), reason })));
        self.closing = true;
    }

    /// Turns complete frames into pending answers.
    async fn dispatch(&mut self) {
        while !self.closing && self.pending.len() < PIPELINE_MAX {
            match self.decoder.next::<Request>() {
                Ok(Some(request)) => {
                    self.deadline = Instant::now() + IDLE_TIMEOUT;
                    self.request(request).await;
                }
                Ok(None) => {
                    let whole = self.decoder.room() == Decoder::new().room();
                    if !whole {
                        self.deadline = self.deadline.min(Instant::now() + FRAME_TIMEOUT);
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(uid = self.uid, %error, "connection closed");
                    self.fail(frame_code(&error), error.to_string());
                }
            }
        }
    }

    async fn request(&mut self, request: Request) {
        let pending = match request {
            Request::Append { id, event } => {
                Pending::Answer(self.hub.append(self.uid, id, event).await)
            }
            Request::Head => Pending::Answer(self.hub.head().await),
            Request::Read { from, count } => {
                Pending::Read { from, count: count.min(READ_BLOCKS_MAX) }
            }
            Request::Follow { from } => {
                self.closing = true;
                Pending::Follow { from }
            }
        };
        self.pending.push_back(pending);
    }

    async fn read(&mut self, from: Seq, count: u32) -> Result<(), End> {
        let mut next = from;
        let mut left = count as usize;
        while left > 0 {
            let Some(chunk) = self.chunk(next, left).await? else {
                return Ok(());
            };
            if chunk.is_empty() {
                break;
            }
            left = left.saturating_sub(chunk.len());
            next = Seq(next.0.saturating_add(chunk.len() as u64));
            self.write(&chunk).await?;
        }
        let next = *self.hub.published.borrow();
        self.write(&[Reply::CaughtUp { next }]).await
    }

    async fn follow(&mut self, from: Seq) -> Result<(), End> {
        let hub = Rc::clone(&self.hub);
        let mut head = hub.published.subscribe();
        let mut stopped = hub.stopping.subscribe();
        let (mut next, mut caught_up) = (from, false);
        loop {
            let until = *head.borrow_and_update();
            if next > until {
                let reason = format!(
                    "follow: block {next} is behind the head {until}; this is another chain, follow from 0"
                );
                self.fail(code::BEYOND_HEAD, reason);
                return self.flush_errors().await;
            }
            while next < until {
                let Some(chunk) = self.chunk(next, usize::MAX).await? else {
                    return Ok(());
                };
                if chunk.is_empty() {
                    hub.damaged(&format!("block {next} was committed and is not there"));
                    return Ok(());
                }
                next = Seq(next.0.saturating_add(chunk.len() as u64));
                self.write(&chunk).await?;
            }
            if !caught_up {
                caught_up = true;
                self.write(&[Reply::CaughtUp { next }]).await?;
            }
            let mut byte = [0];
            tokio::select! {
                changed = head.changed() => changed.map_err(|_| End::Closed)?,
                read = self.stream.read(&mut byte) => {
                    if matches!(read, Ok(1..)) {
                        let reason = "follow: nothing may be sent on a connection that follows; open another".into();
                        self.fail(code::FOLLOWER_SPOKE, reason);
                        self.flush_errors().await?;
                    }
                    return Ok(());
                }
                _ = stopped.wait_for(|stopped| *stopped) => {
                    return self.write(&[stopping()]).await;
                }
            }
        }
    }

    async fn flush_errors(&mut self) -> Result<(), End> {
        while let Some(pending) = self.pending.pop_front() {
            if let Pending::Ready(reply) = pending {
                self.write(&[*reply]).await?;
            }
        }
        Ok(())
    }

    /// The next records as replies; `None` after an error that was told to the client.
    async fn chunk(&mut self, from: Seq, limit: usize) -> Result<Option<Vec<Reply>>, End> {
        match self.hub.store.read(from) {
            Ok(records) => Ok(Some(records.into_iter().take(limit).map(Reply::Block).collect())),
            Err(error) => {
                if let StoreError::Damaged(why) = &error {
                    self.hub.damaged(why);
                }
                let reason = format!("read: block {from}: {error}; try again in a moment");
                self.fail(code::DISK_ERROR, reason);
                self.flush_errors().await.map(|()| None)
            }
        }
    }

    async fn write(&mut self, replies: &[Reply]) -> Result<(), End> {
        let mut out = Vec::new();
        for reply in replies {
            if let Err(error) = encode(reply, &mut out) {
                // A record fits a frame twice by construction; anything else is our own bug.
                tracing::error!(%error, "reply not sent");
                return Err(End::Closed);
            }
        }
        match timeout(WRITE_TIMEOUT, self.stream.write_all(&out)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Slow),
        }
    }
}

fn stopping() -> Reply {
    Reply::Error {
        code: code::STOPPING.into(),
        reason: "ledger: stopping; connect again in a moment".into(),
    }
}

fn frame_code(error: &FrameError) -> &'static str {
    match error {
        FrameError::Magic(_) => "HP-WR-001",
        FrameError::Version(_) => "HP-WR-002",
        FrameError::Flags(_) => "HP-WR-003",
        FrameError::TooLong { .. } => "HP-WR-004",
        FrameError::Body { .. } => "HP-WR-005",
        FrameError::Trailing { .. } => "HP-WR-006",
    }
}
