//! The running service: sockets, clocks and signals around the core, in one loop on one thread; the
//! TPM on another.
//!
//! Must never happen here: a wait for the TPM in this loop; the seed anywhere but in [`Vault`] and on
//! its way to the ledger. Called by `main`.

mod caller;
mod clients;
mod links;
mod port;
mod stream;

use std::{
    io,
    os::unix::net::UnixListener as StdListener,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use hookprobe_daemon::{
    Notify,
    socket::{self, SocketError},
};
use hookprobe_tpm::trust::Secret;
use hookprobe_wire::{
    Severity,
    attest::{KeyOrigin, Reply, Seed, SeedReply},
    ledger,
};
use thiserror::Error;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroize as _;

use self::{
    clients::{Clients, Said},
    links::{Control, Link, from_ledger},
};
use crate::{
    anchors::{Anchors, read_bounded},
    attester::Attester,
    code,
    core::{ClientId, Core, Effect, Input, Now},
    host::{self, Files, Host as _},
    open,
    store::Directory,
    worker::Worker,
};

/// Turn of the loop: a deadline is noticed at most this late.
const TICK_MS: u64 = 250;
/// A quarter of the twenty seconds after which PID 1 restarts a silent service.
const WATCHDOG: Duration = Duration::from_secs(5);
/// Pause after the kernel refused to accept a client: no busy loop while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// What the start may take longer from each tick on: two of the loop's longest turns.
const EXTEND_S: u32 = 15;
/// The kernel's identity of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// It has 36 characters and a line end.
const BOOT_ID_BYTES_MAX: usize = 64;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The TPM, in the notation of tpm2-tools.
    pub tcti: String,
    /// Directory of the identity file.
    pub directory: PathBuf,
    /// The release's public key.
    pub release: PathBuf,
    /// The signed manifest.
    pub envelope: PathBuf,
    /// Firmware's log.
    pub firmware_log: PathBuf,
    /// PID 1's log.
    pub log: PathBuf,
    /// Where the unlock helper leaves a fresh recovery key.
    pub recovery: PathBuf,
    /// Where the seed of a boot without one from the TPM is kept.
    pub boot_seed: PathBuf,
    /// The ledger's socket.
    pub ledger: PathBuf,
    /// PID 1's socket.
    pub init: PathBuf,
    /// The hypervisor's port.
    pub port: PathBuf,
    /// Socket to make when PID 1 handed none over.
    pub socket: Option<PathBuf>,
}

/// Why the service can't run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// No socket to listen on.
    #[error("HP-AT-040 socket: {0}")]
    Socket(#[from] SocketError),
    /// Runtime, thread or signals can't be set up.
    #[error("HP-AT-041 process: {0}; check the service's limits")]
    Setup(io::Error),
    /// The TPM's thread ended.
    #[error("HP-AT-043 process: the thread that owns the TPM ended; it is started again")]
    Worker,
}

/// The only place of the seed in this process's loop.
#[derive(Debug, Default)]
struct Vault(Option<Secret>);

struct Service {
    core: Core,
    worker: Worker,
    vault: Vault,
    clients: Clients,
    ledger: Link,
    control: Control,
    notify: Notify,
    host: Files,
    watchdog: Instant,
    accept_due: Instant,
    ready: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Any [`ServeError`].
pub fn run(options: Options) -> Result<(), ServeError> {
    let listener = socket::listener("attest", options.socket.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(ServeError::Setup)?;
    runtime.block_on(async { Service::new(options)?.run(listener).await })
}

/// The boot id's digits; of another kernel than ours, none.
fn boot_id() -> String {
    let bytes = read_bounded(BOOT_ID.as_ref(), BOOT_ID_BYTES_MAX).unwrap_or_default();
    bytes.into_iter().filter(u8::is_ascii_hexdigit).map(char::from).collect()
}

impl Service {
    fn new(options: Options) -> Result<Self, ServeError> {
        let boot_id = boot_id();
        let files = || Files {
            firmware: options.firmware_log.clone(),
            userspace: options.log.clone(),
            recovery: options.recovery.clone(),
            seed: options.boot_seed.clone(),
            started: Instant::now(),
        };
        let host = files();
        let worker = {
            let (host, boot_id) = (Box::new(files()), boot_id.clone());
            let anchors = Anchors::read(&options.release, &options.envelope);
            let store = Box::new(Directory::new(&options.directory));
            let open = open::opener(options.tcti.clone());
            let make = move || Attester::new(open, host, store, anchors, &boot_id);
            Worker::spawn(make).map_err(ServeError::Setup)?
        };
        let mut effects = Vec::new();
        let core = Core::new(now(&host), &boot_id, &mut effects);
        let mut service = Self {
            core,
            worker,
            vault: Vault::default(),
            clients: Clients::new(&options.port),
            ledger: Link::new(options.ledger),
            control: Control::new(options.init),
            notify: Notify::from_environment(),
            host,
            watchdog: Instant::now(),
            accept_due: Instant::now(),
            ready: false,
        };
        // None of the first effects can bring another input.
        let _ = service.first(effects);
        Ok(service)
    }

    fn first(&mut self, effects: Vec<Effect>) -> Vec<Input> {
        let mut back = Vec::new();
        for effect in effects {
            self.carry_out(effect, &mut back);
        }
        back
    }

    async fn run(mut self, listener: StdListener) -> Result<(), ServeError> {
        let listener = UnixListener::from_std(listener).map_err(ServeError::Setup)?;
        let on = |kind| signal(kind).map_err(ServeError::Setup);
        let mut terminate: Signal = on(SignalKind::terminate())?;
        let mut interrupt: Signal = on(SignalKind::interrupt())?;
        let mut tick = interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = tick.tick() => self.on_tick().await,
                answer = self.worker.answers.recv() => {
                    let (ticket, done, seed) = answer.ok_or(ServeError::Worker)?;
                    self.keep(seed);
                    self.feed(Input::Done(ticket, done)).await;
                }
                reply = self.ledger.next() => self.on_ledger(reply).await,
                input = self.control.next() => self.feed(input).await,
                accepted = listener.accept(), if Instant::now() >= self.accept_due => match accepted {
                    Ok((socket, _)) => self.clients.add(socket),
                    Err(error) => {
                        self.accept_due = Instant::now() + ACCEPT_PAUSE;
                        tracing::warn!(%error, "accept failed");
                    }
                },
                said = self.clients.next() => self.feed(match said {
                    Said::Request(client, caller, request) => Input::Request(client, caller, request),
                    Said::Gone(client) => Input::Gone(client),
                }).await,
            }
        }
        self.notify.stopping();
        tracing::info!("stopping");
        self.worker.stop().await;
        Ok(())
    }

    /// The first seed stays: what came too late must not replace one that was handed over.
    fn keep(&mut self, seed: Option<Secret>) {
        if self.vault.0.is_none() && !self.ready {
            self.vault.0 = seed;
        }
    }

    async fn on_tick(&mut self) {
        self.clients.open_port();
        if self.ledger.connect().await {
            self.feed(Input::LedgerUp).await;
        }
        self.feed(Input::Tick).await;
        if self.watchdog.elapsed() >= WATCHDOG {
            self.watchdog = Instant::now();
            let status = self.summary();
            self.notify.alive(&status);
        }
    }

    fn summary(&self) -> String {
        let status = self.core.status(now(&self.host));
        format!("level {}, verdict {}", status.level, status.verdict.word())
    }

    async fn on_ledger(&mut self, reply: Result<ledger::Reply, stream::StreamError>) {
        let input = reply.ok().and_then(from_ledger);
        if input.is_none() {
            self.ledger.hang_up();
        }
        self.feed(input.unwrap_or(Input::LedgerLost)).await;
    }

    /// Feeds the core and carries out what it wants, and what comes back of that.
    async fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.core.handle(now(&self.host), input, &mut effects);
            for effect in effects {
                if let Effect::AskControl(round) = effect {
                    if !self.control.ask(round).await {
                        inputs.push(Input::ControlLost);
                    }
                } else {
                    self.carry_out(effect, &mut inputs);
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, back: &mut Vec<Input>) {
        match effect {
            Effect::Tpm(ticket, job) => {
                if !self.worker.give(ticket, job) {
                    tracing::error!("the thread that owns the TPM takes no job");
                }
            }
            Effect::Reply(client, reply) => {
                if !self.send_reply(client, reply) {
                    back.push(Input::Gone(client));
                }
            }
            Effect::Evidence(client, evidence) => {
                if !self.clients.send_evidence(client, &evidence) {
                    back.push(Input::Gone(client));
                }
            }
            Effect::HandSeed { client, pid, epoch, origin } => {
                self.hand_seed(client, pid, epoch, origin);
            }
            Effect::RefuseSeed(client, fault) => {
                let reply = SeedReply::Refused { code: fault.code, reason: fault.reason };
                self.send_seed_reply(client, &reply, back);
            }
            Effect::SeedLater(client) => self.send_seed_reply(client, &SeedReply::Later, back),
            Effect::ForgetSeed => self.vault.0 = None,
            Effect::DrawSeed => self.draw_seed(),
            Effect::AskHead => self.send_ledger(&ledger::Request::Head, back),
            Effect::Append(id, event) => {
                self.send_ledger(&ledger::Request::Append { id, event }, back);
            }
            // Handled by the caller, which may wait for a connection.
            Effect::AskControl(_) => {}
            Effect::Extend => {
                self.notify.starting("setting up the identity", EXTEND_S);
            }
            Effect::Ready => {
                self.ready = true;
                let status = self.summary();
                self.notify.ready(&status);
                tracing::info!(%status, "ready");
            }
            Effect::Log(Severity::Info, line) => tracing::info!("{line}"),
            Effect::Log(Severity::Warn, line) => tracing::warn!("{line}"),
            Effect::Log(Severity::Critical, line) => tracing::error!("{line}"),
        }
    }

    /// Replies with a secret leave no copy of it here; `false` as [`Clients::send`].
    fn send_reply(&mut self, client: ClientId, mut reply: Reply) -> bool {
        let secret = matches!(reply, Reply::Recovery(Some(_)) | Reply::Activated { .. });
        let sent = match secret {
            true => self.clients.send_secret(client, &reply),
            false => self.clients.send(client, &reply),
        };
        if let Reply::Recovery(Some(text)) = &mut reply {
            text.zeroize();
        }
        if let Reply::Activated { secret } = &mut reply {
            secret.zeroize();
        }
        sent
    }

    fn send_ledger(&mut self, request: &ledger::Request, back: &mut Vec<Input>) {
        if !self.ledger.send(request) {
            back.push(Input::LedgerLost);
        }
    }

    fn send_seed_reply(&mut self, client: ClientId, reply: &SeedReply, back: &mut Vec<Input>) {
        if !self.clients.send(client, reply) {
            back.push(Input::Gone(client));
        }
    }

    fn hand_seed(&mut self, client: ClientId, pid: u32, epoch: u64, origin: KeyOrigin) {
        let Some(secret) = &self.vault.0 else {
            return;
        };
        let seed = Seed::new(*secret.expose(), epoch, origin);
        if self.clients.hand_seed(client, seed) {
            tracing::info!(pid, epoch, ?origin, "seed handed to ledger");
        } else {
            let code = code::NOT_THE_LEDGER;
            tracing::warn!(pid, "{code} seed: the ledger ended before it got its seed");
        }
    }

    fn draw_seed(&mut self) {
        match host::boot_seed(&mut self.host) {
            Ok(seed) => self.vault.0 = Some(seed),
            Err(error) => tracing::error!(%error, "{} random: no seed", code::RANDOM),
        }
    }
}

fn now(host: &Files) -> Now {
    let real_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: host.micros() / 1000, real_s: real_s.as_secs() }
}
