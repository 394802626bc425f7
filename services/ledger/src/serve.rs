//! The running service: sockets on one thread, the disk on another.
//!
//! ```text
//! sessions --Ask--> [inbox] --> run(): Appender::handle --Job--> writer thread
//!     ^                              ^                               |
//!     '------ oneshot answers -------'<----------- Outcome ----------'
//! ```
//!
//! One loop owns the [`Appender`]; sessions are tasks of the same thread and hold nothing of it.
//! The watchdog is fed only while the writer thread comes back from what it does, so a disk that
//! hangs is seen by PID 1.
//!
//! What must never happen here: an answer that the appender did not give; a queue without a
//! bound; going on after damage.

use std::{
    cell::Cell,
    collections::HashMap,
    path::PathBuf,
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hookprobe_daemon::{
    Notify,
    socket::{self, SocketError},
};
use hookprobe_wire::{
    attest::KeyOrigin,
    block::SALT_BYTES,
    ledger::{Head, Reply},
};
use thiserror::Error;
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, LocalSet},
};

use crate::{
    appender::{Append, Appender, Cause, Client, Effect, Input},
    attest::{Identity, KeySource, Waits, identity},
    code,
    epoch::{Boot, BootId, Mark, Rollback},
    key::{KeyError, fill_random},
    store::open::{DATABASE, OpenError, Opened, open},
    writer::Outcome,
};

mod hub;
mod session;
mod thread;

use hub::{Ask, Hub};
use thread::{Job, WriterThread};

/// Connections at once; 64 writers and as many readers.
pub const CONNECTIONS_MAX: usize = 128;
/// Connections of one uid, so that no service can lock out the others.
pub const CONNECTIONS_PER_UID_MAX: usize = 96;
/// Requests on their way from sessions to the loop; a full inbox makes the session wait.
const INBOX_MAX: usize = 256;
/// How often time is looked at when nothing happens: drives the retry after a full disk.
const TICK: Duration = Duration::from_millis(250);
/// How long a stop waits for what is queued; with [`FLUSH_TIMEOUT`] less than the 5 s that PID 1
/// gives between SIGTERM and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a stop waits for clients to take their last answers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often PID 1 is told about progress while the chain is verified.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);
/// How much longer PID 1 should wait after each such line.
const PROGRESS_EXTEND_S: u32 = 30;

/// How fast a database is read at least, for the estimate given to PID 1: a slow SD card.
const CHECK_BYTES_PER_S: u64 = 10_000_000;
/// The kernel's identity of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// State directory.
    pub dir: PathBuf,
    /// Where the signing key comes from.
    pub key: KeySource,
    /// Where to bind when PID 1 passed no socket.
    pub socket: PathBuf,
    /// Uids that may append anything: tests and benchmarks only.
    pub allow_uids: Vec<u32>,
}

/// Why the service ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// No socket.
    #[error("HP-LD-031 socket {0}")]
    Listen(#[from] SocketError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No chain.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The process could not be set up.
    #[error("HP-LD-032 ledger: {doing}: {source}; restart the box")]
    Setup {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Damage was met while running.
    #[error(
        "HP-LD-028 ledger.redb: damaged ({0}); the next start verifies everything and sets it aside if it must"
    )]
    Damaged(String),
    /// The writer thread is gone.
    #[error("HP-LD-032 ledger: the writer thread ended; restart the service")]
    WriterGone,
}

/// Runs until SIGTERM.
///
/// # Errors
/// Any [`ServeError`]; its text is the last line of the log.
pub fn serve(options: &Options) -> Result<(), ServeError> {
    let notify = Notify::from_environment();
    let listener = socket::listener("ledger", Some(&options.socket))?;
    let waits = Waits::default();
    let extend_s =
        PROGRESS_EXTEND_S.saturating_add(u32::try_from(waits.total.as_secs()).unwrap_or(u32::MAX));
    let asking = "asking attest for the signing key";
    let identity = identity(&options.key, waits, &mut || notify.starting(asking, extend_s))?;
    identity.diagnostic.iter().for_each(hookprobe_daemon::log::say);
    // Before anything is read, so that a long check is not taken for a hang.
    let bytes = std::fs::metadata(options.dir.join(DATABASE)).map_or(0, |meta| meta.len());
    let seconds = u32::try_from(bytes / CHECK_BYTES_PER_S).unwrap_or(u32::MAX);
    notify.starting("checking the database", PROGRESS_EXTEND_S.saturating_add(seconds));
    let mut opened = open(&options.dir, &boot(&identity), &mut progress(&notify))?;
    opened.diagnostics.iter().for_each(hookprobe_daemon::log::say);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| setup("start the runtime", source))?;
    let Identity { key, origin, .. } = identity;
    let (writer, thread) = thread::spawn(&mut opened, key)?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        let service = Service::new(options, origin, notify, opened, writer);
        service.run(listener).await
    });
    // The loop and with it the sender of jobs is gone: the writer ends after what it is doing.
    if thread.join().is_err() {
        return result.and(Err(ServeError::WriterGone));
    }
    result
}

/// What the epoch is decided from.
fn boot(identity: &Identity) -> Boot {
    // Without the boot id a restart can't be told from a boot under the same key and the same
    // count, of which there is none unless the TPM goes back.
    let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_else(|error| {
        tracing::warn!(%error, "{BOOT_ID} not read");
        String::new()
    });
    let mark = Mark { counter: identity.counter, boot_id: BootId::parse(&boot_id) };
    Boot { node: identity.key.node(), mark }
}

fn setup(doing: &'static str, source: std::io::Error) -> ServeError {
    ServeError::Setup { doing, source }
}

/// Tells PID 1 and the log how far the verification is.
fn progress(notify: &Notify) -> impl FnMut(u64, u64) + '_ {
    let mut last = Instant::now();
    move |done, total| {
        if last.elapsed() >= PROGRESS_PERIOD {
            last = Instant::now();
            let status = format!("verifying block {done} of {total}");
            notify.starting(&status, PROGRESS_EXTEND_S);
        }
    }
}

/// State of the loop.
struct Service {
    hub: Rc<Hub>,
    appender: Appender,
    inbox: mpsc::Receiver<Ask>,
    writer: WriterThread,
    /// Clients that wait for an answer: bounded by the appender's queue and batch.
    waiting: HashMap<Client, oneshot::Sender<Reply>>,
    next_client: u64,
    sessions: JoinSet<u32>,
    per_uid: HashMap<u32, usize>,
    allow_uids: Vec<u32>,
    verified: u64,
    volatile: bool,
    origin: KeyOrigin,
    rollback: Option<Rollback>,
    notify: Notify,
    beats_seen: u64,
    fed: Instant,
    trouble: Option<Cause>,
    refused_connections: u64,
}

impl Service {
    fn new(
        options: &Options,
        origin: KeyOrigin,
        notify: Notify,
        opened: Opened,
        writer: WriterThread,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let next = opened.lane.tip.next();
        let epoch = opened.lane.epoch;
        tracing::info!(
            blocks = opened.verified,
            epoch = epoch.number,
            node = %epoch.node.short(),
            key = %key_word(origin),
            volatile = opened.volatile,
            "chain verified"
        );
        Self {
            hub: Rc::new(Hub {
                store: opened.store,
                inbox: sender,
                published: watch::Sender::new(next),
                stopping: watch::Sender::new(false),
                slow: Cell::new(0),
            }),
            appender: Appender::new(opened.lane, opened.requests),
            inbox,
            writer,
            waiting: HashMap::new(),
            next_client: 0,
            sessions: JoinSet::new(),
            per_uid: HashMap::new(),
            allow_uids: options.allow_uids.clone(),
            verified: opened.verified,
            volatile: opened.volatile,
            origin,
            rollback: opened.rollback,
            notify,
            beats_seen: 0,
            fed: Instant::now(),
            trouble: None,
            refused_connections: 0,
        }
    }

    async fn run(mut self, listener: std::os::unix::net::UnixListener) -> Result<(), ServeError> {
        listener.set_nonblocking(true).map_err(|source| setup("set up the socket", source))?;
        let listener = UnixListener::from_std(listener)
            .map_err(|source| setup("set up the socket", source))?;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|source| setup("watch for SIGTERM", source))?;
        self.notify.ready(&self.status());
        self.answer_all(&listener, &mut terminate).await?;
        drop(listener);
        self.finish().await
    }

    /// The loop, until SIGTERM.
    async fn answer_all(
        &mut self,
        listener: &UnixListener,
        terminate: &mut Signal,
    ) -> Result<(), ServeError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                Some(ask) = self.inbox.recv() => self.ask(ask)?,
                outcome = self.writer.outcomes.recv() => self.outcome(outcome)?,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.accept(stream),
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = self.sessions.join_next() => self.ended(ended),
                _ = tick.tick() => self.feed_watchdog(),
                _ = terminate.recv() => return Ok(()),
            }
            self.settle()?;
        }
    }

    /// Stop: write what is queued, let clients take their answers.
    async fn finish(mut self) -> Result<(), ServeError> {
        self.notify.stopping();
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        while !(self.appender.is_idle() && self.inbox.is_empty()) {
            tokio::select! {
                Some(ask) = self.inbox.recv() => self.ask(ask)?,
                outcome = self.writer.outcomes.recv() => self.outcome(outcome)?,
                () = tokio::time::sleep_until(deadline) => {
                    tracing::error!("stopped before the disk took what was queued; clients will ask again");
                    break;
                }
            }
            self.settle()?;
        }
        self.hub.stopping.send_replace(true);
        self.inbox.close();
        let sessions = &mut self.sessions;
        let flushed = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("clients did not take their last answers");
        }
        tracing::info!(length = self.appender.tip().next().0, "stopped");
        Ok(())
    }

    fn accept(&mut self, stream: UnixStream) {
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                tracing::warn!(%error, "connection without credentials closed");
                return;
            }
        };
        let of_uid = self.per_uid.entry(uid).or_default();
        if self.sessions.len() >= CONNECTIONS_MAX || *of_uid >= CONNECTIONS_PER_UID_MAX {
            self.refused_connections += 1;
            if self.refused_connections.is_power_of_two() {
                let total = self.refused_connections;
                tracing::warn!(uid, total, "connection refused, too many are open");
            }
            // Not more than twice the limit, so that refusing can't be used to fill memory.
            if self.sessions.len() < 2 * CONNECTIONS_MAX {
                *of_uid += 1;
                let reason = format!(
                    "connection: {CONNECTIONS_MAX} are allowed, {CONNECTIONS_PER_UID_MAX} for one user; close some"
                );
                self.sessions.spawn_local(async move {
                    session::refuse(stream, code::CONNECTIONS, reason).await;
                    uid
                });
            }
            return;
        }
        *of_uid += 1;
        let hub = Rc::clone(&self.hub);
        self.sessions.spawn_local(async move {
            session::serve(hub, stream, uid).await;
            uid
        });
    }

    fn ended(&mut self, ended: Result<u32, tokio::task::JoinError>) {
        let Ok(uid) = ended else { return };
        if let Some(count) = self.per_uid.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_uid.remove(&uid);
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<(), ServeError> {
        match ask {
            Ask::Append { uid, id, event, answer } => {
                let mut salt = [0; SALT_BYTES];
                fill_random(&mut salt).map_err(|source| setup("draw random bytes", source))?;
                let client = Client(self.next_client);
                self.next_client += 1;
                self.waiting.insert(client, answer);
                let wish = Append {
                    client,
                    trusted: self.allow_uids.contains(&uid),
                    uid,
                    id,
                    event,
                    salt,
                };
                self.handle(Input::Append(wish))
            }
            Ask::Head { answer } => {
                let head = self.appender.head(self.verified, self.volatile);
                let head = Head { key: Some(self.origin), ..head };
                // The client may be gone.
                let _ = answer.send(Reply::Head(head));
                Ok(())
            }
            Ask::Damaged(why) => Err(ServeError::Damaged(why)),
        }
    }

    fn outcome(&mut self, outcome: Option<Outcome>) -> Result<(), ServeError> {
        let input = match outcome {
            Some(Outcome::Committed) => Input::Committed,
            Some(Outcome::NotWritten(cause, why)) => {
                self.say_trouble(cause, &why);
                Input::NotWritten(cause)
            }
            Some(Outcome::Down(cause, why)) => {
                self.say_trouble(cause, &why);
                Input::Down(cause)
            }
            Some(Outcome::Damaged(why)) => return Err(ServeError::Damaged(why)),
            None => return Err(ServeError::WriterGone),
        };
        self.handle(input)
    }

    /// Takes everything else that came meanwhile, so that it is one batch.
    fn settle(&mut self) -> Result<(), ServeError> {
        for _ in 0..INBOX_MAX {
            match self.inbox.try_recv() {
                Ok(ask) => self.ask(ask)?,
                Err(_) => break,
            }
        }
        self.handle(Input::Tick)?;
        if self.trouble.is_some() && self.appender.trouble().is_none() && self.appender.is_idle() {
            self.trouble = None;
            tracing::info!("the state disk takes writes again");
        }
        Ok(())
    }

    /// Once per trouble, not per append.
    fn say_trouble(&mut self, cause: Cause, why: &str) {
        if self.trouble == Some(cause) {
            return;
        }
        self.trouble = Some(cause);
        match cause {
            Cause::Full => tracing::error!(
                "{} ledger: disk full, appends are rejected ({why}); free space on the state disk",
                code::DISK_FULL
            ),
            Cause::Error => tracing::error!(
                "{} ledger: the state disk does not take writes ({why}); check the disk",
                code::DISK_ERROR
            ),
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), ServeError> {
        let mut effects = Vec::new();
        let refused = self.appender.counters().refused;
        self.appender.handle(now_ns(), input, &mut effects);
        let total = self.appender.counters().refused;
        if total > refused && total.is_power_of_two() {
            tracing::warn!(total, "append refused by policy or size");
        }
        for effect in effects {
            match effect {
                Effect::Reply { client, reply } => {
                    if let Some(answer) = self.waiting.remove(&client) {
                        // The client may be gone; its block is not.
                        let _ = answer.send(reply);
                    }
                }
                Effect::Commit(batch) => self.job(Job::Commit(batch))?,
                Effect::Recover => self.job(Job::Recover)?,
                Effect::Published(next) => {
                    self.hub.published.send_replace(next);
                }
            }
        }
        Ok(())
    }

    fn job(&self, job: Job) -> Result<(), ServeError> {
        self.writer.jobs.try_send(job).map_err(|_| ServeError::WriterGone)
    }

    fn feed_watchdog(&mut self) {
        let beats = self.writer.beats.load(Ordering::Relaxed);
        if self.fed.elapsed() >= self.notify.period && beats != self.beats_seen {
            self.beats_seen = beats;
            self.fed = Instant::now();
            self.notify.watchdog();
            self.notify.status(&self.status());
        }
    }

    fn status(&self) -> String {
        let counters = self.appender.counters();
        let disk = match self.appender.trouble() {
            None if self.volatile => "volatile",
            None => "ok",
            Some(Cause::Full) => "full",
            Some(Cause::Error) => "failing",
        };
        let rollback = self.rollback.map_or(String::new(), |told| format!(", {}", told.phrase()));
        format!(
            "blocks {} (verified {}), key {}{rollback}, disk {disk}, batches {}, duplicates {}, queue full {}, refused {}, disk rejected {}, slow readers {}, connections {} (refused {})",
            self.appender.tip().next(),
            self.verified,
            key_word(self.origin),
            counters.batches,
            counters.duplicates,
            counters.queue_full,
            counters.refused,
            counters.disk,
            self.hub.slow.get(),
            self.sessions.len(),
            self.refused_connections,
        )
    }
}

/// Who vouches for the key, in a word.
fn key_word(origin: KeyOrigin) -> &'static str {
    match origin {
        KeyOrigin::None => "unknown",
        KeyOrigin::Boot => "boot",
        KeyOrigin::Tpm => "tpm",
    }
}

/// The box's clock; a clock before 1970 counts as 1970, the chain keeps its own order.
fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}
