//! The sensor's own socket: clients ask, the loop answers.
//!
//! Bytes from clients are hostile until the frame decoder accepted them. A client that sends
//! nonsense, nothing or too slowly is disconnected; it can never hold up the loop.

use std::{io, time::Duration};

use hookprobe_wire::{
    frame::{self, Decoder},
    sensor::{Reply, Request},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

/// Clients at once. 8: two consoles, the web, a tool, and as many again; more are closed.
const CLIENTS_MAX: usize = 8;
/// Questions that wait for the loop. As many as clients: each asks one at a time.
pub const CALLS_MAX: usize = CLIENTS_MAX;
/// How long a client may be silent. 5 min: consoles ask each second; what is silent for longer was
/// left behind.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client may take to read an answer. 5 s: it is local.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept. 200 ms: no busy loop while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A question and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Who asks, by the kernel's word.
    pub uid: Option<u32>,
    /// For the answer.
    pub reply: oneshot::Sender<Reply>,
}

/// Serves clients for ever; dropping it disconnects them.
pub async fn run(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    clients.spawn(client(stream, calls.clone()));
                }
                Ok(_) => debug!("client closed: {CLIENTS_MAX} are connected"),
                Err(error) => {
                    debug!("accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn client(mut stream: UnixStream, calls: mpsc::Sender<Call>) {
    if let Err(error) = talk(&mut stream, &calls).await {
        debug!("client: {error}");
    }
}

async fn talk(stream: &mut UnixStream, calls: &mpsc::Sender<Call>) -> io::Result<()> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        let request = match decoder.next::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => {
                let room = decoder.room().min(buffer.len());
                let space = buffer.get_mut(..room).unwrap_or_default();
                let length = timeout(IDLE_TIMEOUT, stream.read(space)).await??;
                if length == 0 {
                    return Ok(());
                }
                decoder.feed(buffer.get(..length).unwrap_or_default());
                continue;
            }
            Err(error) => {
                let reply = Reply::Error { code: "HP-SN-060".into(), reason: error.to_string() };
                return answer(stream, &reply).await;
            }
        };
        let (reply, answered) = oneshot::channel();
        let call = Call { request, uid, reply };
        if calls.send(call).await.is_err() {
            return Ok(());
        }
        let Ok(reply) = answered.await else {
            return Ok(());
        };
        answer(stream, &reply).await?;
    }
}

async fn answer(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let frame = frame::to_vec(reply).map_err(io::Error::other)?;
    timeout(WRITE_TIMEOUT, stream.write_all(&frame)).await?
}
