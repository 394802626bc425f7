//! The running service: sockets, clocks and signals around the engine, in one loop on one thread.
//!
//! SIGTERM ends it without touching a block: what the kernel holds ends by itself, and the next life
//! reads from the ledger what there is. Called by `main`.

use std::{
    io,
    os::unix::net::UnixListener as StdListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use hookprobe_daemon::{
    Notify,
    socket::{self, SocketError},
};
use hookprobe_wire::{
    Diagnostic, Severity,
    response::{Reply, Request},
    site::{SITE_BYTES_MAX, Site},
};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Now,
    clients::Clients,
    core::{Input, Policy},
    enforce::{nft::Nft, xdp::Xdp},
    engine::{Action, Clock, Engine},
    link::{self, Ended, Link, Retry},
    peer::PeerError,
    sources::Live,
};

/// Turn of the loop: a block ends at most this late.
const TICK_MS: u64 = 100;
/// A quarter of the twenty seconds after which PID 1 restarts a silent service.
const WATCHDOG_MS: u64 = 5000;
/// Pause after the kernel refused to accept a client: no busy loop while descriptors are short.
const ACCEPT_PAUSE_MS: u64 = 1000;
/// Longest wait for the ledger before PID 1 is told that the service runs, degraded: other services
/// must not wait for it for ever.
const READY_MS_MAX: u64 = 10_000;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ledger's socket.
    pub ledger: PathBuf,
    /// The site configuration.
    pub site: PathBuf,
    /// Resolvers besides those of the site configuration.
    pub resolvers: PathBuf,
    /// The sensor's pinned maps.
    pub pin_dir: PathBuf,
    /// Socket to make when PID 1 handed none over.
    pub socket: Option<PathBuf>,
}

/// Why the service can't run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// No socket to listen on.
    #[error("HP-RS-030 socket: {0}")]
    Socket(#[from] SocketError),
    /// The runtime can't be built.
    #[error("HP-RS-032 runtime: {0}; check the service's limits")]
    Runtime(io::Error),
}

/// The kernel's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Kernel;

impl Clock for Kernel {
    fn now(&self) -> Now {
        let read = |clock| {
            let time = clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
            let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
            seconds.saturating_mul(1_000_000_000).saturating_add(rest)
        };
        Now { boot_ns: read(ClockId::Boottime), real_ns: read(ClockId::Realtime) }
    }
}

struct Service {
    options: Options,
    engine: Engine<Kernel, Live>,
    link: Option<Link>,
    retry: Retry,
    clients: Clients,
    notify: Notify,
    site_fault: Option<Diagnostic>,
    started: Instant,
    ready: bool,
    watchdog: Instant,
    accept_due: Instant,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Any [`ServeError`], all of them at the start.
pub fn run(options: Options) -> Result<(), ServeError> {
    let listener = socket::listener("response", options.socket.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(Service::new(options).run(listener))
}

/// The site configuration, or the defaults (mode observe) and what is wrong with it.
fn read_site(options: &Options) -> (Site, Option<Diagnostic>) {
    let path = options.site.display();
    let read = || {
        let file = std::fs::File::open(&options.site).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let limit = SITE_BYTES_MAX as u64 + 1;
        io::Read::read_to_end(&mut io::Read::take(file, limit), &mut bytes)
            .map_err(|error| error.to_string())?;
        Site::parse(&bytes).map_err(|error| error.to_string())
    };
    match read() {
        Ok(site) => (site, None),
        Err(cause) => {
            let fault = Diagnostic {
                code: "HP-RS-025".into(),
                severity: Severity::Warn,
                object: path.to_string(),
                cause: format!("can't be used, mode is observe: {cause}"),
                remedy: "restart the box; PID 1 writes this file".into(),
            };
            tracing::warn!("{fault}");
            (Site::default(), Some(fault))
        }
    }
}

impl Service {
    fn new(options: Options) -> Self {
        let (site, site_fault) = read_site(&options);
        let sources = Live::new(&site, options.resolvers.clone());
        let xdp = Box::new(Xdp::new(options.pin_dir.clone()));
        let policy = Policy::from(&site.response);
        let engine = Engine::new(policy, Kernel, sources, vec![xdp, Box::new(Nft::new())]);
        tracing::info!(
            mode = site.response.mode.word(),
            block_s = site.response.block_s,
            "starting"
        );
        Self {
            options,
            engine,
            link: None,
            retry: Retry::new(),
            clients: Clients::default(),
            notify: Notify::from_environment(),
            site_fault,
            started: Instant::now(),
            ready: false,
            watchdog: Instant::now(),
            accept_due: Instant::now(),
        }
    }

    async fn run(mut self, listener: StdListener) -> Result<(), ServeError> {
        let listener = UnixListener::from_std(listener).map_err(ServeError::Runtime)?;
        let on = |kind| signal(kind).map_err(ServeError::Runtime);
        let mut terminate: Signal = on(SignalKind::terminate())?;
        let mut interrupt: Signal = on(SignalKind::interrupt())?;
        let mut tick = interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = tick.tick() => self.on_tick().await,
                reply = next(&mut self.link) => self.on_reply(reply),
                accepted = listener.accept(), if Instant::now() >= self.accept_due => match accepted {
                    Ok((stream, _)) => self.clients.add(stream),
                    Err(error) => {
                        self.accept_due = Instant::now() + Duration::from_millis(ACCEPT_PAUSE_MS);
                        tracing::warn!(%error, "accept failed");
                    }
                },
                (client, Request::Status) = self.clients.next() => {
                    let mut status = self.engine.status();
                    status.diagnostics.extend(self.site_fault.clone());
                    self.clients.answer(client, &Reply::Status(status));
                }
            }
        }
        self.notify.stopping();
        tracing::info!("stopping; blocks in force stay until they end");
        Ok(())
    }

    fn on_reply(&mut self, reply: Result<hookprobe_wire::ledger::Reply, PeerError>) {
        match reply.map(link::input) {
            Ok(Ok(input)) => self.feed(input),
            Ok(Err(Ended::Idle)) => {
                tracing::info!("ledger: quiet connection is renewed");
                self.hang_up();
            }
            Ok(Err(Ended::Refused(why))) => self.disconnect(&why),
            Err(error) => self.disconnect(&error.to_string()),
        }
    }

    async fn on_tick(&mut self) {
        if self.link.is_none() && self.retry.is_due() {
            match Link::connect(&self.options.ledger).await {
                Ok(link) => self.link = Some(link),
                Err(error) => {
                    tracing::debug!(%error, "ledger not reached");
                    self.retry.failed();
                }
            }
        }
        self.feed(Input::Tick);
        let late = self.started.elapsed() >= Duration::from_millis(READY_MS_MAX);
        if !self.ready && (self.engine.is_ready() || late) {
            self.ready = true;
            let (mode, enforcers) = self.summary();
            self.notify.ready(&format!("mode {mode}, enforcers {enforcers}"));
            tracing::info!(mode, enforcers, degraded = late, "ready");
        }
        if self.watchdog.elapsed() >= Duration::from_millis(WATCHDOG_MS) {
            self.watchdog = Instant::now();
            let (mode, enforcers) = self.summary();
            self.notify.alive(&format!("mode {mode}, enforcers {enforcers}"));
        }
    }

    fn summary(&self) -> (&'static str, String) {
        let status = self.engine.status();
        let enforcers = status.enforcers.join(",");
        let none = "none (blocks are not enforced)".to_owned();
        (status.mode.word(), if enforcers.is_empty() { none } else { enforcers })
    }

    fn feed(&mut self, input: Input) {
        let caught_up = matches!(input, Input::CaughtUp);
        let mut actions = Vec::new();
        self.engine.feed(input, &mut actions);
        if caught_up {
            self.retry.worked();
            tracing::info!("ledger followed to its present");
        }
        for action in actions {
            let sent = match (action, &mut self.link) {
                (Action::Follow(from), Some(link)) => link.follow(from),
                (Action::Send(request), Some(link)) => link.send(&request),
                // Without a link the core sends again when it is back.
                (Action::Follow(_) | Action::Send(_), None) => Ok(()),
                (Action::Reconnect, _) => {
                    self.disconnect("its lane is not the one that was followed");
                    return;
                }
                (Action::Note(note), _) => {
                    tracing::info!("{note}");
                    Ok(())
                }
                (Action::Health(name, Some(fault)), _) => {
                    tracing::warn!(enforcer = name, "{fault}");
                    Ok(())
                }
                (Action::Health(name, None), _) => {
                    tracing::info!(enforcer = name, "enforcer works again");
                    Ok(())
                }
            };
            if let Err(error) = sent {
                self.disconnect(&error.to_string());
                return;
            }
        }
    }

    fn disconnect(&mut self, why: &str) {
        tracing::warn!(why, "HP-RS-001 ledger: connection lost; it is tried again");
        self.hang_up();
    }

    fn hang_up(&mut self) {
        self.link = None;
        self.retry.failed();
        let mut actions = Vec::new();
        // Yields nothing that needs the link.
        self.engine.feed(Input::Disconnected, &mut actions);
    }
}

/// Waits for ever without a link.
async fn next(link: &mut Option<Link>) -> Result<hookprobe_wire::ledger::Reply, PeerError> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}
