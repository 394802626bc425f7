//! The sockets: six connections that are polled, followed and opened again.
//!
//! Never blocks: every call on a socket is non-blocking, the loop in `main.rs` waits for all of
//! them at once. A source that does not answer in time, or sends a byte that is no frame, is
//! closed and tried again later.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use hookprobe_wire::{
    Decoder, FrameError, Seq, attest, control,
    frame::{self, FRAME_BYTES_MAX},
    ledger, response, sensor,
};
use minicbor::Encode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{
    attest::Question,
    history::FOLLOW_BACK_BLOCKS,
    model::{Event, Source, Wants},
};

/// Between two questions to a source: people read once a second.
pub const POLL_MS: u64 = 1000;
/// A question that is not answered by then closes the connection: services answer from memory, so
/// this is a service that hangs, and 5 s tells it from one that is only busy on a small box.
pub const ANSWER_MS: u64 = 5000;
/// First wait before a connection is tried again; doubles up to [`RETRY_MS_MAX`].
pub const RETRY_MS_MIN: u64 = 250;
/// Longest wait: a person who restarts a service sees it within 4 s.
pub const RETRY_MS_MAX: u64 = 4000;
/// Bytes read from one source in one turn, so that none starves the keys.
const TURN_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Questions waiting to be written; they are small, a source that takes none is closed.
const OUTBOX_BYTES_MAX: usize = 4096;

struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    outbox: Vec<u8>,
    asked_ms: Option<u64>,
    next_ms: u64,
    following: bool,
    /// What attest was asked and has not answered, in order; bounded by what the outbox and the
    /// wait for an answer allow.
    questions: VecDeque<Question>,
}

struct Link {
    source: Source,
    connection: Option<Connection>,
    retry_ms: u64,
    backoff_ms: u64,
}

/// Questions that wait for an answer of attest: each kind once, and a person who is fast.
const QUESTIONS_MAX: usize = 8;

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("closed by the service")]
    End,
    #[error("no answer for {} s", ANSWER_MS / 1000)]
    Silent,
    #[error("takes no questions")]
    Full,
}

/// All connections.
pub struct Sources {
    dir: PathBuf,
    links: Vec<Link>,
}

impl Sources {
    /// Nothing connected yet; sockets stand in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let link =
            |source| Link { source, connection: None, retry_ms: 0, backoff_ms: RETRY_MS_MIN };
        Self { dir: dir.into(), links: Source::ALL.into_iter().map(link).collect() }
    }

    /// What to poll: descriptor, and whether something waits to be written.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let connections = self.links.iter().filter_map(|link| link.connection.as_ref());
        connections.map(|connection| (connection.stream.as_fd(), !connection.outbox.is_empty()))
    }

    /// Asks the sensor for a drill.
    pub fn drill(&mut self, now_ms: u64) {
        if let Some(connection) = self.connection(Source::Sensor) {
            // A frame of one small value always fits; a full outbox closes the connection.
            let _ = connection.ask(now_ms, &sensor::Request::Drill);
        }
    }

    /// Asks PID 1 to read rules and lists again.
    pub fn reload(&mut self, now_ms: u64) {
        if let Some(connection) = self.connection(Source::Init) {
            // As above.
            let _ = connection.ask(now_ms, &control::Request::Reload);
        }
    }

    /// Asks PID 1 to carry whole evidence over a nonce to a USB stick.
    pub fn carry(&mut self, now_ms: u64, nonce: &[u8]) {
        if let Some(connection) = self.connection(Source::Init) {
            // As above.
            let _ =
                connection.ask(now_ms, &control::Request::Carry { nonce: nonce.to_vec().into() });
        }
    }

    /// Asks attest for short evidence over a nonce.
    pub fn evidence(&mut self, now_ms: u64, nonce: &[u8]) {
        let nonce = nonce.to_vec().into();
        let request = attest::Request::Evidence { nonce, exporter: None, full: false };
        self.ask_attest(now_ms, Question::Evidence, &request);
    }

    /// Asks attest for the recovery key.
    pub fn recovery(&mut self, now_ms: u64) {
        self.ask_attest(now_ms, Question::Recovery, &attest::Request::Recovery);
    }

    /// Tells attest that the recovery key is noted.
    pub fn recovery_noted(&mut self, now_ms: u64) {
        self.ask_attest(now_ms, Question::Recovery, &attest::Request::RecoveryNoted);
    }

    fn ask_attest(&mut self, now_ms: u64, question: Question, request: &attest::Request) {
        if let Some(connection) = self.connection(Source::Attest) {
            // As with the drill; who asked gives up by itself.
            let _ = connection.question(now_ms, question, request);
        }
    }

    fn connection(&mut self, source: Source) -> Option<&mut Connection> {
        let mut links = self.links.iter_mut();
        links.find(|link| link.source == source)?.connection.as_mut()
    }

    /// One turn: connects, asks, reads.
    pub fn turn(&mut self, now_ms: u64, wants: Wants, out: &mut Vec<Event>) {
        for link in &mut self.links {
            if link.connection.is_none() && now_ms >= link.retry_ms {
                link.open(&self.dir, now_ms, out);
            }
            let Some(connection) = &mut link.connection else {
                continue;
            };
            let before = out.len();
            match connection.turn(link.source, now_ms, wants, out) {
                Ok(()) if out.len() > before => link.backoff_ms = RETRY_MS_MIN,
                Ok(()) => {}
                Err(closed) => link.close(now_ms, &closed, out),
            }
        }
    }
}

impl Link {
    fn open(&mut self, dir: &Path, now_ms: u64, out: &mut Vec<Event>) {
        match connect(&dir.join(self.source.socket())) {
            Ok(stream) => {
                self.connection = Some(Connection {
                    stream,
                    decoder: Decoder::new(),
                    outbox: Vec::new(),
                    asked_ms: None,
                    next_ms: now_ms,
                    following: false,
                    questions: VecDeque::new(),
                });
                out.push(Event::Connected(self.source));
            }
            Err(error) => self.close(now_ms, &Closed::Io(error), out),
        }
    }

    fn close(&mut self, now_ms: u64, closed: &Closed, out: &mut Vec<Event>) {
        self.connection = None;
        self.retry_ms = now_ms.saturating_add(self.backoff_ms);
        self.backoff_ms = (self.backoff_ms * 2).min(RETRY_MS_MAX);
        out.push(Event::Disconnected(self.source, closed.to_string()));
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // A full backlog is an error at once, not a wait.
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Connection {
    fn turn(
        &mut self,
        source: Source,
        now_ms: u64,
        wants: Wants,
        out: &mut Vec<Event>,
    ) -> Result<(), Closed> {
        if now_ms >= self.next_ms && self.asked_ms.is_none() && !self.following {
            self.next_ms = now_ms.saturating_add(POLL_MS);
            match source {
                Source::Init => {
                    self.ask(now_ms, &control::Request::Status)?;
                    self.ask(now_ms, &control::Request::Log { from: wants.log })?;
                }
                Source::Sensor => self.ask(now_ms, &sensor::Request::Status)?,
                Source::Response => self.ask(now_ms, &response::Request::Status)?,
                Source::Ledger | Source::Blocks => self.ask(now_ms, &ledger::Request::Head)?,
                Source::Attest => {
                    self.question(now_ms, Question::Status, &attest::Request::Status)?;
                    if let Some(from) = wants.measurements {
                        self.question(now_ms, Question::Log, &attest::Request::Log { from })?;
                    }
                }
            }
        }
        self.send()?;
        self.receive(source, now_ms, out)?;
        match self.asked_ms {
            Some(asked) if now_ms.saturating_sub(asked) > ANSWER_MS => Err(Closed::Silent),
            _ => Ok(()),
        }
    }

    fn ask<M: Encode<()>>(&mut self, now_ms: u64, message: &M) -> Result<(), Closed> {
        if self.outbox.len() > OUTBOX_BYTES_MAX {
            return Err(Closed::Full);
        }
        frame::encode(message, &mut self.outbox)?;
        self.asked_ms.get_or_insert(now_ms);
        Ok(())
    }

    fn question(
        &mut self,
        now_ms: u64,
        question: Question,
        request: &attest::Request,
    ) -> Result<(), Closed> {
        if self.questions.len() >= QUESTIONS_MAX {
            return Err(Closed::Full);
        }
        self.ask(now_ms, request)?;
        self.questions.push_back(question);
        Ok(())
    }

    /// What a reply of attest answers; none when nothing of the kind was asked.
    fn answered(&mut self, reply: &attest::Reply) -> Option<Question> {
        let kind = match reply {
            attest::Reply::Status(_) => Question::Status,
            attest::Reply::Log { .. } => Question::Log,
            attest::Reply::Recovery(_) => Question::Recovery,
            attest::Reply::Part { offset, total, bytes } => {
                // Answered by the last piece.
                if usize::try_from(total.saturating_sub(*offset)) != Ok(bytes.len()) {
                    return Some(Question::Evidence);
                }
                Question::Evidence
            }
            // In order: the oldest question is the one that was refused.
            attest::Reply::Error { .. } => return self.questions.pop_front(),
            attest::Reply::Activated { .. } => return None,
        };
        let at = self.questions.iter().position(|question| *question == kind)?;
        self.questions.remove(at)
    }

    fn send(&mut self) -> Result<(), Closed> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, source: Source, now_ms: u64, out: &mut Vec<Event>) -> Result<(), Closed> {
        let mut bytes = [0; 16 * 1024];
        let mut total = 0;
        while total < TURN_BYTES_MAX {
            let room = self.decoder.room().min(bytes.len());
            let Some(free) = bytes.get_mut(..room) else {
                return Ok(());
            };
            match self.stream.read(free) {
                Ok(0) => return Err(Closed::End),
                Ok(count) => {
                    total += count;
                    self.decoder.feed(free.get(..count).unwrap_or_default());
                    self.decode(source, now_ms, out)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn decode(&mut self, source: Source, now_ms: u64, out: &mut Vec<Event>) -> Result<(), Closed> {
        loop {
            let event = match source {
                Source::Init => self.decoder.next().map(|reply| reply.map(Event::Init)),
                Source::Sensor => self.decoder.next().map(|reply| reply.map(Event::Sensor)),
                Source::Response => self.decoder.next().map(|reply| reply.map(Event::Response)),
                Source::Ledger => self.decoder.next().map(|reply| reply.map(Event::Ledger)),
                Source::Blocks => self.decoder.next().map(|reply| reply.map(Event::Blocks)),
                Source::Attest => self.decoder.next().map(|reply: Option<attest::Reply>| {
                    reply.map(|reply| Event::Attest(self.answered(&reply), reply))
                }),
            }?;
            let Some(event) = event else { return Ok(()) };
            self.asked_ms = None;
            if let Event::Blocks(ledger::Reply::Head(head)) = &event {
                let from = Seq(head.length.saturating_sub(FOLLOW_BACK_BLOCKS));
                self.ask(now_ms, &ledger::Request::Follow { from })?;
                // From here on blocks come when they come.
                self.asked_ms = None;
                self.following = true;
                self.send()?;
            }
            out.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use hookprobe_wire::{Hash, NodeId};

    use super::*;

    fn head(epoch: u64, length: u64) -> ledger::Reply {
        ledger::Reply::Head(ledger::Head {
            node: NodeId::new([1; 32]),
            epoch,
            length,
            hash: Hash::zero(),
            root: Hash::zero(),
            verified_at_start: 0,
            volatile: false,
            queue: 0,
            rejected: 0,
            key: None,
        })
    }

    fn ask(peer: &mut (UnixStream, Decoder)) -> ledger::Request {
        loop {
            if let Some(request) = peer.1.next().unwrap() {
                return request;
            }
            let mut bytes = [0; 256];
            let count = peer.0.read(&mut bytes).unwrap();
            assert!(count > 0, "closed");
            peer.1.feed(&bytes[..count]);
        }
    }

    fn say(peer: &mut (UnixStream, Decoder), reply: &ledger::Reply) {
        peer.0.write_all(&frame::to_vec(reply).unwrap()).unwrap();
    }

    /// The ledger set a damaged database aside: its blocks begin again at 0.
    #[test]
    fn a_shorter_lane_is_followed_from_its_own_head() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("ledger.sock")).unwrap();
        let mut sources = Sources::new(folder.path());
        sources.links.retain(|link| link.source == Source::Blocks);
        let (mut now_ms, mut out) = (0, Vec::new());
        let mut turn = |sources: &mut Sources| {
            now_ms += RETRY_MS_MAX;
            sources.turn(now_ms, Wants::default(), &mut out);
            std::mem::take(&mut out)
        };
        for (epoch, length, follow) in [(0, 900, 400), (1, 3, 0)] {
            turn(&mut sources);
            let mut peer = (listener.accept().unwrap().0, Decoder::new());
            assert_eq!(ask(&mut peer), ledger::Request::Head);
            say(&mut peer, &head(epoch, length));
            turn(&mut sources);
            assert_eq!(ask(&mut peer), ledger::Request::Follow { from: Seq(follow) });
            let (code, reason) = ("HP-LD-013".to_owned(), "behind the head".to_owned());
            say(&mut peer, &ledger::Reply::Error { code, reason });
            drop(peer);
            let events = turn(&mut sources);
            assert!(matches!(events[0], Event::Blocks(ledger::Reply::Error { .. })), "{events:?}");
            assert!(matches!(events[1], Event::Disconnected(Source::Blocks, _)), "{events:?}");
        }
    }

    fn attest_answer(
        sources: &mut Sources,
        peer: &mut (UnixStream, Decoder),
        reply: &attest::Reply,
    ) -> Option<Question> {
        peer.0.write_all(&frame::to_vec(reply).unwrap()).unwrap();
        let mut out = Vec::new();
        sources.turn(1, Wants::default(), &mut out);
        match out.as_slice() {
            [Event::Attest(question, _)] => *question,
            other => panic!("{other:?}"),
        }
    }

    /// A refusal names no question: it is the oldest one that is refused.
    #[test]
    fn answers_of_attest_find_their_questions() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("attest.sock")).unwrap();
        let mut sources = Sources::new(folder.path());
        sources.links.retain(|link| link.source == Source::Attest);
        let wants = Wants { log: 0, measurements: Some(3) };
        sources.turn(0, wants, &mut Vec::new());
        let mut peer = (listener.accept().unwrap().0, Decoder::new());
        sources.evidence(0, &[7; 16]);
        let part = |offset, bytes: &[u8]| attest::Reply::Part {
            offset,
            total: 5,
            bytes: bytes.to_vec().into(),
        };
        let refused = attest::Reply::Error { code: "HP-AT-030".into(), reason: "later".into() };
        let mut answer = |reply| attest_answer(&mut sources, &mut peer, &reply);
        assert_eq!(answer(part(0, b"abc")), Some(Question::Evidence));
        assert_eq!(answer(refused.clone()), Some(Question::Status));
        assert_eq!(answer(part(3, b"de")), Some(Question::Evidence));
        assert_eq!(answer(part(0, b"abcde")), None);
        assert_eq!(answer(refused.clone()), Some(Question::Log));
        assert_eq!(answer(refused), None);
    }

    /// A person who presses keys faster than attest answers closes nothing and fills nothing.
    #[test]
    fn questions_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("attest.sock")).unwrap();
        let mut sources = Sources::new(folder.path());
        sources.links.retain(|link| link.source == Source::Attest);
        sources.turn(0, Wants::default(), &mut Vec::new());
        let _peer = listener.accept().unwrap();
        for _ in 0..1000 {
            sources.recovery(0);
        }
        let connection = sources.connection(Source::Attest).unwrap();
        assert_eq!(connection.questions.len(), QUESTIONS_MAX);
        assert!(connection.outbox.len() <= OUTBOX_BYTES_MAX);
    }
}
