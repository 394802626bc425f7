//! `hookprobe-sensor inspect`: the service that takes packets of strangers apart.
//!
//! ```text
//! packets -> inspection (thread) -> Found  \
//! syslog  -> queue -> failed logins         > loop -> Report -> sensor
//!                     rules, names, model  /       <- Order  <-
//! ```
//!
//! It opens the ring of packets and the ports of syslog, gives every capability away ([`confine`]), and only then
//! looks at the first byte. It has no way to the ledger, to the kernel's programs or to whoever did not connect
//! to its syslog: what it finds it reports to the one client that may connect, the sensor. Must never happen here: a capability, a socket that
//! is opened after the start, a wait for the client.

pub mod confine;
pub mod identity;
pub mod inspection;
pub mod missed;
pub mod packets;
pub mod rotating;
pub mod state;
pub mod supplies;
pub mod syslog;
pub mod wall;

use std::{io, os::unix::net::UnixListener as StdListener, path::PathBuf, time::Duration};

use hookprobe_daemon::{
    Notify,
    socket::{self as passed, SocketError},
};
use hookprobe_wire::{
    SENSOR_UID,
    frame::{self, Decoder},
    inspector::{Order, Report},
};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use self::{
    confine::ConfineError, inspection::Inspection, packets::Ring, state::Health, supplies::Supplies,
};
use crate::{files, syslog::queue::Queue};

/// How often the client is told how it is, and PID 1 that it lives.
const SECOND: Duration = Duration::from_secs(1);
/// How long the client may take to read a report. 2 s: it is local, and PID 1 waits longer for a sign of life.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after the system refused to accept: no busy loop while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What `inspect` is given.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen when PID 1 passed no socket.
    pub socket: Option<PathBuf>,
    /// The accepted site configuration.
    pub site: PathBuf,
    /// Folder of rules and lists of names.
    pub detection: PathBuf,
    /// Folder of its own state.
    pub state: PathBuf,
}

/// Why the service ends.
#[derive(Debug, Error)]
pub enum InspectorError {
    /// There is no socket to listen on.
    #[error("HP-SN-062 socket: {0}")]
    Socket(#[from] SocketError),
    /// It can't give up what it must not have.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The runtime, a signal or a socket can't be set up.
    #[error("HP-SN-063 inspector: {what} can't be set up; restart the box")]
    Setup {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn setup(what: &'static str) -> impl FnOnce(io::Error) -> InspectorError {
    move |source| InspectorError::Setup { what, source }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Any [`InspectorError`].
pub fn run(options: &Options) -> Result<(), InspectorError> {
    let notifier = Notify::from_environment();
    let listener = passed::listener("inspector", options.socket.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(setup("the runtime"))?;
    runtime.block_on(serve(options, &notifier, listener))
}

async fn serve(
    options: &Options,
    notifier: &Notify,
    listener: StdListener,
) -> Result<(), InspectorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(setup("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(setup("SIGINT"))?;
    let listener = UnixListener::from_std(listener).map_err(setup("the socket"))?;
    let supplies = Supplies {
        detection: options.detection.clone(),
        state: options.state.clone(),
        site: options.site.clone(),
    };
    // Whatever needs a capability or a new socket comes before the door is shut.
    let ring = Ring::open();
    let devices = syslog::bind(&files::site(&supplies.site), &supplies.state).await;
    confine::shut()?;

    let (found, mut from_packets) = mpsc::channel(inspection::FOUND_MAX);
    let (inspection, trouble) = match ring {
        Ok(ring) => (Some(Inspection::start(ring, supplies, found)), None),
        Err(error) => {
            warn!("{}", crate::causes(&error));
            (None, Some(error))
        }
    };
    let messages = Queue::default();
    let to_devices = syslog::run(devices, messages.clone());
    tokio::pin!(to_devices);
    let mut health = Health::new(inspection, messages.clone(), trouble);
    let mut client: Option<Client> = None;
    // What could not be told is told to the next client.
    let mut kept: Option<Report> = None;
    info!("ready");
    notifier.ready("inspecting packets");

    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let may_tell = client.is_some();
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            accepted = accept(&listener) => {
                if let Some(stream) = accepted.and_then(admit) {
                    client = Some(Client::new(stream));
                    if let Some(report) = kept.take() {
                        tell(&mut client, &mut kept, report).await;
                    }
                }
            }
            order = next_order(&mut client) => match order {
                Ok(Order::Watch { interfaces }) => health.watch(interfaces),
                Ok(Order::Missed { samples }) => health.missed(samples),
                Ok(Order::Reload { number }) => health.reload(number.unwrap_or(0)),
                Err(error) => {
                    info!("the sensor has gone: {error}");
                    client = None;
                }
            },
            Some(found) = from_packets.recv(), if may_tell => {
                let report = Report::Found { alert: found.alert, interface: found.interface };
                tell(&mut client, &mut kept, report).await;
            }
            record = messages.pop() => health.heard(&record),
            () = &mut to_devices => {}
            _ = second.tick() => {
                notifier.watchdog();
                let state = Report::State(health.state());
                if may_tell {
                    // The next one says it, too.
                    tell(&mut client, &mut None, state).await;
                }
            }
        }
    }
    notifier.stopping();
    drop(health);
    info!("stopped");
    Ok(())
}

/// The one that orders and is told.
struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new() }
    }

    /// Its next order. Nothing is lost when the wait for it is given up.
    async fn order(&mut self) -> io::Result<Order> {
        let mut buffer = [0; 1024];
        loop {
            if let Some(order) = self.decoder.next().map_err(io::Error::other)? {
                return Ok(order);
            }
            let room = self.decoder.room().min(buffer.len());
            let length = self.stream.read(buffer.get_mut(..room).unwrap_or_default()).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.decoder.feed(buffer.get(..length).unwrap_or_default());
        }
    }

    async fn tell(&mut self, report: &Report) -> io::Result<()> {
        let frame = frame::to_vec(report).map_err(io::Error::other)?;
        timeout(WRITE_TIMEOUT, self.stream.write_all(&frame)).await?
    }
}

async fn next_order(client: &mut Option<Client>) -> io::Result<Order> {
    match client {
        Some(client) => client.order().await,
        None => std::future::pending().await,
    }
}

async fn accept(listener: &UnixListener) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            warn!("HP-SN-064 inspector: a client can't be accepted ({error}); tried again");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Only the sensor, or whoever runs this by hand, may order: others could make it blind.
fn admit(stream: UnixStream) -> Option<UnixStream> {
    let uid = stream.peer_cred().ok()?.uid();
    let is_known = uid == SENSOR_UID || uid == rustix::process::geteuid().as_raw();
    if !is_known {
        warn!("HP-SN-082 inspector: user {uid} connected and was refused; find out who that is");
    }
    is_known.then_some(stream)
}

/// Tells the client; one that does not listen is given up, and the report kept.
async fn tell(client: &mut Option<Client>, kept: &mut Option<Report>, report: Report) {
    let result = match client.as_mut() {
        Some(client) => client.tell(&report).await,
        None => Err(io::ErrorKind::NotConnected.into()),
    };
    if let Err(error) = result {
        info!("the sensor does not listen: {error}");
        *client = None;
        *kept = Some(report);
    }
}
