//! The way of an alert to the ledger: one after the other, asked again under the same name until
//! the ledger says where it stands.
//!
//! The queue in front of this has [`QUEUE_MAX`] places; what does not fit is dropped, counted and
//! shown by the loop. The ledger may be away for as long as it likes: nothing is given up for that.

use std::{io, path::PathBuf, time::Duration};

use hookprobe_wire::{
    Event, FrameError, Hash, Seq,
    event::Alert,
    frame,
    ledger::{Reply, Request, RequestId},
};
use minicbor::bytes::ByteArray;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::{sleep, timeout},
};

/// Alerts that wait. 256: hours of incidents, about 256 KiB.
pub const QUEUE_MAX: usize = 256;
/// How long a connection may take to be accepted. 2 s: the socket is local, PID 1 listens on it
/// even while the ledger restarts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. 10 s: a slow SD card under load commits within a few.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause before trying again. 100 ms: a restart of the ledger takes about that.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause. 5 s: an operator who repaired something sees it at once.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Times that a rejected alert is sent again. 20, at most 5 s apart: a full queue is empty by then;
/// an alert that the ledger never takes must not hold up the next ones.
const REJECTIONS_MAX: u32 = 20;

/// What the loop is told.
#[derive(Debug)]
pub enum Told {
    /// It is on disk.
    Acknowledged {
        /// What.
        alert: Box<Alert>,
        /// Where.
        seq: Seq,
        /// Under which hash.
        hash: Hash,
    },
    /// The ledger can't be reached; tried again.
    Down {
        /// Why.
        reason: String,
    },
    /// The ledger will not take it.
    Dropped {
        /// Its code.
        code: String,
        /// Its reason.
        reason: String,
    },
}

#[derive(Debug, Error)]
enum LinkError {
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("connection closed")]
    Closed,
    #[error("answer to another question")]
    Unexpected,
    #[error("{code} {reason}")]
    Refused { code: String, reason: String },
}

/// Takes alerts from `queue` until it is closed.
pub async fn run(path: PathBuf, mut queue: mpsc::Receiver<Alert>, told: mpsc::Sender<Told>) {
    let mut link = Link { path, stream: None };
    while let Some(alert) = queue.recv().await {
        let message = link.deliver(alert, &told).await;
        if told.send(message).await.is_err() {
            return;
        }
    }
}

struct Link {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Link {
    /// Sends one alert until there is a final answer.
    async fn deliver(&mut self, alert: Alert, told: &mpsc::Sender<Told>) -> Told {
        let id = RequestId(ByteArray::from(random_id()));
        let event = Event::Alert(alert.clone());
        let request = Request::Append { id, event };
        let frame = match frame::to_vec(&request) {
            Ok(frame) => frame,
            Err(error) => {
                return Told::Dropped { code: "HP-SN-022".into(), reason: error.to_string() };
            }
        };
        let mut backoff = BACKOFF_MIN;
        let mut rejections = 0;
        loop {
            let was_open = self.stream.is_some();
            match self.ask(&frame).await {
                Ok(Reply::Appended { id: about, seq, hash }) if about == id => {
                    let alert = Box::new(alert);
                    return Told::Acknowledged { alert, seq, hash };
                }
                Ok(Reply::Rejected { id: about, code, reason }) if about == id => {
                    rejections += 1;
                    if rejections > REJECTIONS_MAX {
                        return Told::Dropped { code, reason };
                    }
                }
                Err(_) if was_open => {
                    // The ledger restarted, or closed what was silent for an hour: no news, unless
                    // a new connection fails too.
                    self.stream = None;
                    continue;
                }
                Ok(_) => self.down(LinkError::Unexpected, told).await,
                Err(error) => self.down(error, told).await,
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn down(&mut self, error: LinkError, told: &mpsc::Sender<Told>) {
        self.stream = None;
        let reason = error.to_string();
        // Nobody listens only when the sensor ends.
        let _ = told.send(Told::Down { reason }).await;
    }

    /// One question, one answer.
    async fn ask(&mut self, frame: &[u8]) -> Result<Reply, LinkError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let connect = UnixStream::connect(&self.path);
                let stream =
                    timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| LinkError::Timeout)??;
                self.stream.insert(stream)
            }
        };
        timeout(ANSWER_TIMEOUT, exchange(stream, frame)).await.map_err(|_| LinkError::Timeout)?
    }
}

async fn exchange(stream: &mut UnixStream, frame: &[u8]) -> Result<Reply, LinkError> {
    stream.write_all(frame).await?;
    let mut decoder = frame::Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(LinkError::Closed);
        }
        decoder.feed(buffer.get(..length).unwrap_or_default());
        match decoder.next::<Reply>()? {
            Some(Reply::Error { code, reason }) => {
                return Err(LinkError::Refused { code, reason });
            }
            Some(reply) => return Ok(reply),
            None => {}
        }
    }
}

/// A name that no other append has.
fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    // Fails only before the kernel's generator is ready, which PID 1 waits for; then the clock
    // still tells this alert from the others of this boot.
    if rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        let (low, high) = id.split_at_mut(8);
        low.copy_from_slice(&crate::clock::boot_ns().to_le_bytes());
        high.copy_from_slice(&crate::clock::real_ns().to_le_bytes());
    }
    id
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use hookprobe_wire::Severity;
    use tokio::net::UnixListener;

    use super::*;

    fn alert() -> Alert {
        Alert {
            detector: "scan.trw".into(),
            severity: Severity::Warn,
            source: IpAddr::from([192, 0, 2, 1]),
            interface: "eth0".into(),
            summary: String::new(),
            evidence: Vec::new(),
            first_ns: 1,
            decided_ns: 2,
            drill: false,
            reference: None,
        }
    }

    /// Takes one append; says goodbye afterwards as a ledger does that finds it idle.
    async fn serve_one(listener: &UnixListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut decoder = frame::Decoder::new();
        let mut bytes = [0; 1024];
        let id = loop {
            if let Some(Request::Append { id, .. }) = decoder.next().unwrap() {
                break id;
            }
            let length = stream.read(&mut bytes).await.unwrap();
            decoder.feed(&bytes[..length]);
        };
        let done = Reply::Appended { id, seq: Seq(0), hash: Hash::zero() };
        let idle = Reply::Error { code: "HP-LD-015".into(), reason: "idle".into() };
        for reply in [done, idle] {
            stream.write_all(&frame::to_vec(&reply).unwrap()).await.unwrap();
        }
    }

    #[test]
    fn a_connection_that_was_closed_in_a_quiet_hour_is_no_trouble() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let (alerts, queue) = mpsc::channel(4);
            let (told, mut hear) = mpsc::channel(4);
            let link = run(path, queue, told);
            let script = async {
                for _ in 0..2 {
                    alerts.send(alert()).await.unwrap();
                    serve_one(&listener).await;
                    let said = hear.recv().await;
                    assert!(matches!(said, Some(Told::Acknowledged { .. })), "{said:?}");
                }
            };
            tokio::select! {
                () = link => unreachable!("the queue is open"),
                () = script => {}
            }
        });
    }
}
