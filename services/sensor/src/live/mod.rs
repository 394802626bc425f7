//! `hookprobe-sensor live`: the service.
//!
//! One loop in one thread: records from the kernel, a beat five times a second, questions of
//! clients, answers of the ledger, reports of the inspector. Nothing in it may wait: everything that can
//! take long is a future beside it ([`ledger`], [`socket`], [`inspector`]). No interface is a degraded state; an
//! object that the kernel refuses is the end, and PID 1 knows what to do about it.
//!
//! This process may load programs into the kernel. Must never happen here: bytes of a packet or of a device's
//! message that are taken apart; both are the business of `hookprobe-sensor inspect`.

pub mod attach;
pub mod blocklist;
pub mod drill;
pub mod drops;
pub mod host;
pub mod inspector;
pub mod interfaces;
pub mod ledger;
pub mod reload;
pub mod ring;
pub mod samples;
pub mod sensor;
pub mod socket;
pub mod status;

use std::{
    io,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    time::Duration,
};

use hookprobe_daemon::{
    Notify,
    socket::{self as passed, SocketError},
};
use hookprobe_wire::{Diagnostic, Severity};
use thiserror::Error;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use self::{
    interfaces::Wanted,
    sensor::{Lists, Sensor},
};
use crate::object::{Maps, Object, ObjectError, Rings};

/// Period of the beat. 200 ms: the pause between two frames of a drill, and how late the end of a
/// detector's wait is noticed at most.
const BEAT: Duration = Duration::from_millis(200);
/// Beats between two looks at interfaces and counters: one second.
const BEATS_PER_TICK: u64 = 5;
/// What the ledger's future may have to say before the loop listens. 16: one at a time, with room.
const TOLD_MAX: usize = 16;

/// What `live` is given.
#[derive(Debug, Clone)]
pub struct Options {
    /// The eBPF object.
    pub object: PathBuf,
    /// The accepted site configuration.
    pub site: PathBuf,
    /// The ledger's socket.
    pub ledger: PathBuf,
    /// The inspector's socket.
    pub inspector: PathBuf,
    /// Where maps are pinned.
    pub pins: PathBuf,
    /// Interfaces; empty: as the site configuration says.
    pub interfaces: Vec<String>,
    /// Folder of the list of addresses.
    pub detection: PathBuf,
}

/// Why the service ends.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The object can't be used.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The socket that PID 1 passed is none.
    #[error("HP-SN-072 socket: {0}")]
    Socket(SocketError),
    /// The runtime, a signal or a socket can't be set up.
    #[error("HP-SN-070 sensor: {what} can't be set up; restart the box")]
    Setup {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn setup(what: &'static str) -> impl FnOnce(io::Error) -> LiveError {
    move |source| LiveError::Setup { what, source }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Any [`LiveError`].
pub fn run(options: &Options) -> Result<(), LiveError> {
    let notifier = Notify::from_environment();
    let listener = match passed::listener("sensor", None) {
        Ok(listener) => Some(listener),
        // Started by hand: nobody asks.
        Err(SocketError::Missing(_)) => None,
        Err(error) => return Err(LiveError::Socket(error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup("the runtime"))?;
    runtime.block_on(serve(options, &notifier, listener))
}

async fn serve(
    options: &Options,
    notifier: &Notify,
    listener: Option<StdListener>,
) -> Result<(), LiveError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(setup("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(setup("SIGINT"))?;
    let (object, maps, rings, trouble) = load(&options.object, &options.pins)?;
    let Rings { records, samples, host } = rings;
    let mut ring = ring::register(records).map_err(setup("the ring buffer"))?;

    let (alerts, queue) = mpsc::channel(ledger::QUEUE_MAX);
    let (told, mut from_ledger) = mpsc::channel(TOLD_MAX);
    let (calls, mut from_clients) = mpsc::channel(socket::CALLS_MAX);
    let to_ledger = ledger::run(options.ledger.clone(), queue, told);
    let to_clients = clients(listener, calls);
    tokio::pin!(to_ledger, to_clients);

    let wanted = Wanted::new(&options.interfaces, &options.site);
    let (orders, ordered) = mpsc::channel(inspector::ORDERS_MAX);
    let (said, mut from_inspector) = mpsc::channel(inspector::SAID_MAX);
    let to_inspector = inspector::run(options.inspector.clone(), ordered, said);
    tokio::pin!(to_inspector);
    let lists = Lists { detection: options.detection.clone(), site: options.site.clone() };
    let mut sensor =
        Sensor::new(object, maps, (samples, host), wanted, (alerts, orders), lists, trouble);
    sensor.second();
    let state = sensor.state();
    info!("ready: {state}");
    notifier.ready(&state);

    let mut beat = interval(BEAT);
    // After a suspend, one beat is enough.
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut beats = 0_u64;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ready = ring.readable_mut() => {
                let mut guard = ready.map_err(setup("the ring buffer"))?;
                if sensor.drain(guard.get_inner_mut()) {
                    guard.clear_ready();
                }
            }
            _ = beat.tick() => {
                // Whatever came in the meantime belongs before the end of waits.
                sensor.beat(ring.get_mut());
                beats = beats.wrapping_add(1);
                if beats.is_multiple_of(BEATS_PER_TICK) {
                    sensor.second();
                    notifier.watchdog();
                }
            }
            Some(call) = from_clients.recv() => sensor.answer(call),
            Some(told) = from_ledger.recv() => sensor.told(told),
            Some(said) = from_inspector.recv() => sensor.said(said),
            // None ends while the loop holds the other end of its channels.
            () = &mut to_ledger => break,
            () = &mut to_clients => break,
            () = &mut to_inspector => break,
        }
    }
    notifier.stopping();
    info!("stopped");
    Ok(())
}

/// Serves clients, or waits for ever when there is no socket.
async fn clients(listener: Option<StdListener>, calls: mpsc::Sender<socket::Call>) {
    match listener.map(UnixListener::from_std) {
        Some(Ok(listener)) => socket::run(listener, calls).await,
        Some(Err(error)) => {
            warn!("HP-SN-071 sensor: clients can't be served ({error}); restart the sensor");
            std::future::pending().await
        }
        None => std::future::pending().await,
    }
}

/// Loads the object with pinned maps, or without pins when those can't be had: then everything but
/// blocking works.
fn load(
    object: &Path,
    pins: &Path,
) -> Result<(Object, Maps, Rings, Option<Diagnostic>), ObjectError> {
    let error = match Object::load(object, Some(pins)) {
        Ok((object, maps, rings)) => return Ok((object, maps, rings, None)),
        Err(error @ (ObjectError::Pin { .. } | ObjectError::Load { .. })) => error,
        Err(error) => return Err(error),
    };
    let (object, maps, rings) = Object::load(object, None)?;
    let cause = crate::causes(&error);
    warn!("{cause}; going on without pins, response can't block in XDP");
    let trouble = Diagnostic {
        code: "HP-SN-006".into(),
        severity: Severity::Warn,
        object: "sensor".into(),
        cause: hookprobe_wire::text::escape(&cause, 200),
        remedy: "mount bpffs on /sys/fs/bpf and restart the sensor".into(),
    };
    Ok((object, maps, rings, Some(trouble)))
}
