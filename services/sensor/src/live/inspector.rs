//! The way to the inspector of packets: orders there, reports back.
//!
//! The inspector may be away for as long as it likes; it is told again what to watch when it is back. What it
//! says is a claim of a process that strangers' packets go through: decoded within bounds, never more than
//! that. The loop gives [`Said::Away`] a diagnostic.

use std::{io, path::PathBuf, time::Duration};

use hookprobe_wire::{
    frame::{self, Decoder},
    inspector::{Order, Report},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

/// Reports that wait for the loop. 64: it takes them between two beats.
pub const SAID_MAX: usize = 64;
/// Orders that wait for the link: what to watch, and to read again.
pub const ORDERS_MAX: usize = 8;
/// How long a connection may take to be accepted. 2 s: the socket is local.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an order may take to be read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the next try. 500 ms: a restart of the inspector takes about that.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it may say nothing. 15 s: it reports each second, on a board that is busy later.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What the loop is told.
#[derive(Debug)]
pub enum Said {
    /// By the inspector.
    Report(Box<Report>),
    /// There is no connection; tried again.
    Away {
        /// Why.
        reason: String,
    },
}

/// Keeps the connection for ever, or until the loop is gone.
pub async fn run(path: PathBuf, mut orders: mpsc::Receiver<Order>, said: mpsc::Sender<Said>) {
    let mut watched: Option<Order> = None;
    loop {
        let error = match connect(&path).await {
            Ok(stream) => match talk(stream, &mut orders, &mut watched, &said).await {
                Ok(()) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if said.send(Said::Away { reason: error.to_string() }).await.is_err() {
            return;
        }
        let end = Instant::now() + PAUSE;
        loop {
            tokio::select! {
                () = sleep_until(end) => break,
                // It reads rules and lists at its start: only what to watch has to be kept.
                order = orders.recv() => match order {
                    Some(order @ Order::Watch { .. }) => watched = Some(order),
                    Some(Order::Reload { .. } | Order::Missed { .. }) => {}
                    None => return,
                },
            }
        }
    }
}

async fn connect(path: &PathBuf) -> io::Result<UnixStream> {
    timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await?
}

/// One connection; `Ok` when the loop is gone.
async fn talk(
    mut stream: UnixStream,
    orders: &mut mpsc::Receiver<Order>,
    watched: &mut Option<Order>,
    said: &mpsc::Sender<Said>,
) -> io::Result<()> {
    if let Some(order) = &*watched {
        tell(&mut stream, order).await?;
    }
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    let mut silent_at = Instant::now() + SILENCE_MAX;
    loop {
        while let Some(report) = decoder.next::<Report>().map_err(io::Error::other)? {
            silent_at = Instant::now() + SILENCE_MAX;
            if said.send(Said::Report(Box::new(report))).await.is_err() {
                return Ok(());
            }
        }
        let room = decoder.room().min(buffer.len());
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                tell(&mut stream, &order).await?;
                if matches!(order, Order::Watch { .. }) {
                    *watched = Some(order);
                }
            }
            length = stream.read(buffer.get_mut(..room).unwrap_or_default()) => {
                let length = length?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                decoder.feed(buffer.get(..length).unwrap_or_default());
            }
            () = sleep_until(silent_at) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn tell(stream: &mut UnixStream, order: &Order) -> io::Result<()> {
    let frame = frame::to_vec(order).map_err(io::Error::other)?;
    timeout(WRITE_TIMEOUT, stream.write_all(&frame)).await?
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn order(stream: &mut UnixStream) -> Order {
        let (mut decoder, mut buffer) = (Decoder::new(), [0; 256]);
        loop {
            if let Some(order) = decoder.next().unwrap() {
                return order;
            }
            let length = stream.read(&mut buffer).await.unwrap();
            decoder.feed(&buffer[..length]);
        }
    }

    #[test]
    fn an_inspector_that_comes_back_is_told_what_to_watch() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("inspector.sock");
            let (orders, queue) = mpsc::channel(ORDERS_MAX);
            let (said, mut hear) = mpsc::channel(SAID_MAX);
            let link = run(path.clone(), queue, said);
            let script = async {
                assert!(matches!(hear.recv().await, Some(Said::Away { .. })), "not there yet");
                let watch = Order::Watch { interfaces: vec![3] };
                orders.send(watch.clone()).await.unwrap();
                let listener = UnixListener::bind(&path).unwrap();
                for _ in 0..2 {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    assert_eq!(order(&mut stream).await, watch);
                    let report = Report::State(hookprobe_wire::inspector::State::default());
                    stream.write_all(&frame::to_vec(&report).unwrap()).await.unwrap();
                    assert!(matches!(hear.recv().await, Some(Said::Report(_))));
                    drop(stream);
                    assert!(matches!(hear.recv().await, Some(Said::Away { .. })));
                }
                let (mut stream, _) = listener.accept().await.unwrap();
                order(&mut stream).await;
                stream.write_all(b"nonsense that is no frame").await.unwrap();
                assert!(matches!(hear.recv().await, Some(Said::Away { .. })));
            };
            tokio::select! {
                () = link => unreachable!("the queue is open"),
                () = script => {}
            }
        });
    }
}
