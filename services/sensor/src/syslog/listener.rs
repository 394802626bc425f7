//! The shell: sockets, connections and their limits.
//!
//! Runs as one future beside the sensor's loop; dropping it closes everything. Nothing here waits
//! for the loop: records go to a [`Queue`], whose oldest give way.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::ServerConfig;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tracing::debug;

use super::{
    MESSAGE_BYTES_MAX,
    framing::{Framer, Framing},
    message::{self, Transport},
    queue::Queue,
    rate::Rate,
    tls::Session,
};
use crate::core::table::Table;

/// Connections at once. 64: more devices than a segment of this size has that speak TCP.
pub const CONNECTIONS_MAX: usize = 64;
/// Connections at once of one source. 4: one is usual, two while a sender restarts.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 4;
/// How long a connection may be silent. 30 min: quiet devices say something each quarter of an
/// hour, and a sender that finds its connection closed opens another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a handshake may take in all. 10 s: three round trips with room for the slowest device.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a sender may take to read what TLS answers. 5 s: a few hundred bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept or receive. 200 ms: no busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(200);
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;

/// Where to listen; all `None`: nowhere.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Datagrams; 514 by custom.
    pub udp: Option<SocketAddr>,
    /// Connections; 601 or 514 by custom.
    pub tcp: Option<SocketAddr>,
    /// Encrypted connections, with the identity from [`super::tls::identity`]; 6514 by custom.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
}

/// Why there is no listener.
#[derive(Debug, Error)]
#[error("HP-SN-600 syslog: {what} {address} can't be opened; choose another address or port")]
pub struct BindError {
    /// Which socket.
    what: &'static str,
    /// Where.
    address: SocketAddr,
    /// What the system said.
    source: io::Error,
}

/// Open sockets.
#[derive(Debug)]
pub struct Listener {
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    tls: Option<(TcpListener, Arc<ServerConfig>)>,
}

impl Listener {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`BindError`] for the first that can't be opened.
    pub async fn bind(options: &Options) -> Result<Self, BindError> {
        let udp = match options.udp {
            Some(address) => {
                let fail = |source| BindError { what: "UDP", address, source };
                Some(UdpSocket::bind(address).await.map_err(fail)?)
            }
            None => None,
        };
        let tcp = match options.tcp {
            Some(address) => Some(listen("TCP", address).await?),
            None => None,
        };
        let tls = match &options.tls {
            Some((address, config)) => Some((listen("TLS", *address).await?, Arc::clone(config))),
            None => None,
        };
        Ok(Self { udp, tcp, tls })
    }

    /// Where it listens: UDP, TCP, TLS.
    #[must_use]
    pub fn addresses(&self) -> [Option<SocketAddr>; 3] {
        [
            self.udp.as_ref().and_then(|socket| socket.local_addr().ok()),
            self.tcp.as_ref().and_then(|socket| socket.local_addr().ok()),
            self.tls.as_ref().and_then(|(socket, _)| socket.local_addr().ok()),
        ]
    }

    /// Receives for ever. `now_ns` gives nanoseconds since 1970.
    pub async fn run(self, queue: Queue, now_ns: fn() -> u64) {
        let rate = Mutex::new(Rate::new(now_ns()));
        let intake = Arc::new(Intake { queue, rate, now_ns });
        let mut connections = Connections::default();
        let mut buffer = vec![0; MESSAGE_BYTES_MAX + 1];
        loop {
            tokio::select! {
                received = receive(self.udp.as_ref(), &mut buffer) => match received {
                    Ok((length, source)) => {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        intake.take(bytes, source.ip(), Transport::Udp);
                    }
                    Err(error) => pause("receive", &error).await,
                },
                accepted = accept(self.tcp.as_ref()) => match accepted {
                    Ok((stream, from)) => connections.start(stream, from, None, &intake),
                    Err(error) => pause("accept", &error).await,
                },
                accepted = accept(self.tls.as_ref().map(|(socket, _)| socket)) => match accepted {
                    Ok((stream, from)) => {
                        let config = self.tls.as_ref().map(|(_, config)| Arc::clone(config));
                        connections.start(stream, from, config, &intake);
                    }
                    Err(error) => pause("accept", &error).await,
                },
                () = connections.ended() => {}
            }
        }
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let fail = |source| BindError { what, address, source };
    TcpListener::bind(address).await.map_err(fail)
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

async fn accept(socket: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

async fn pause(what: &str, error: &io::Error) {
    debug!("syslog: {what}: {error}");
    tokio::time::sleep(ERROR_PAUSE).await;
}

/// What all transports end in.
#[derive(Debug)]
struct Intake {
    queue: Queue,
    rate: Mutex<Rate>,
    now_ns: fn() -> u64,
}

impl Intake {
    fn take(&self, bytes: &[u8], source: IpAddr, transport: Transport) {
        let (source, now_ns) = (source.to_canonical(), (self.now_ns)());
        let is_fine = self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(source, now_ns);
        if is_fine {
            self.queue.push(message::parse(bytes, source, now_ns, transport));
        } else {
            self.queue.count(|counts| counts.limited += 1);
        }
    }
}

/// Connections that are open, and how many each source has.
#[derive(Debug)]
struct Connections {
    tasks: JoinSet<IpAddr>,
    sources: Table<IpAddr, usize>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), sources: Table::new(CONNECTIONS_MAX) }
    }
}

impl Connections {
    fn start(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        intake: &Arc<Intake>,
    ) {
        let source = from.ip().to_canonical();
        let open = self.sources.get(&source).copied().unwrap_or(0);
        if self.tasks.len() >= CONNECTIONS_MAX || open >= CONNECTIONS_PER_SOURCE_MAX {
            intake.queue.count(|counts| counts.refused += 1);
            return;
        }
        intake.queue.count(|counts| counts.connections += 1);
        self.sources.insert(source, open + 1);
        let intake = Arc::clone(intake);
        self.tasks.spawn(async move {
            if let Err(error) = follow(stream, source, tls, &intake).await {
                intake.queue.count(|counts| counts.broken += 1);
                debug!("syslog: {source}: {error}");
            }
            source
        });
    }

    /// Waits until one ended.
    async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(source)) => match self.sources.get_mut(&source) {
                Some(open) if *open > 1 => *open -= 1,
                _ => {
                    self.sources.remove(&source);
                }
            },
            // Tasks neither panic nor are cancelled one by one.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

async fn follow(
    stream: TcpStream,
    source: IpAddr,
    tls: Option<Arc<ServerConfig>>,
    intake: &Intake,
) -> io::Result<()> {
    match tls {
        None => follow_plain(stream, source, intake).await,
        Some(config) => follow_tls(stream, source, config, intake).await,
    }
}

async fn follow_plain(mut stream: TcpStream, source: IpAddr, intake: &Intake) -> io::Result<()> {
    let mut framer = Framer::new(Framing::Either);
    let mut each = |message: &[u8]| intake.take(message, source, Transport::Tcp);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = timeout(IDLE_TIMEOUT, stream.read(&mut buffer)).await??;
        if length == 0 {
            framer.finish(&mut each);
            return Ok(());
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        framer.feed(bytes, &mut each).map_err(io::Error::other)?;
    }
}

async fn follow_tls(
    mut stream: TcpStream,
    source: IpAddr,
    config: Arc<ServerConfig>,
    intake: &Intake,
) -> io::Result<()> {
    let mut session = Session::new(config).map_err(io::Error::other)?;
    let mut framer = Framer::new(Framing::Counted);
    let mut each = |message: &[u8]| intake.take(message, source, Transport::Tls);
    let mut buffer = vec![0; READ_BYTES];
    let shaken_until = Instant::now() + HANDSHAKE_TIMEOUT;
    loop {
        let idle_until = Instant::now() + IDLE_TIMEOUT;
        let until = if session.is_handshaking() { shaken_until } else { idle_until };
        let length = timeout_at(until, stream.read(&mut buffer)).await??;
        if length == 0 {
            return Ok(());
        }
        let step = session.feed(buffer.get(..length).unwrap_or_default())?;
        if !step.answer.is_empty() {
            timeout(WRITE_TIMEOUT, stream.write_all(&step.answer)).await??;
        }
        framer.feed(&step.plain, &mut each).map_err(io::Error::other)?;
        if let Some(error) = step.failed {
            return Err(io::Error::other(error));
        }
        if step.is_closed {
            return Ok(());
        }
    }
}
