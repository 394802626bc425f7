//! Somebody on the wire between the box and its TPM.
//!
//! QEMU hands swtpm one end of a socket pair (CMD_SET_DATAFD, SCM_RIGHTS) and speaks TPM commands
//! over the other. The proxy relays the control channel, keeps QEMU's descriptor for itself, gives
//! swtpm one of its own, and shows every command to a filter, which may drop, change, answer or
//! delay it. It also takes control commands of others (`swtpm_ioctl`), which swtpm would not while
//! QEMU is connected, and sends commands of its own, as whoever holds the bus can.

use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::error::{Error, Result, at};

/// Between two looks at whether the machine has ended.
const LOOK: Duration = Duration::from_millis(20);
/// swtpm answers in milliseconds, key generation in seconds; a minute is a machine that is very busy.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Longest TPM command or response (TPM2_PT_MAX_COMMAND_SIZE of swtpm is 4096).
const COMMAND_BYTES_MAX: usize = 8192;
/// Commands that are remembered, newest last; a boot sends some hundred.
const REMEMBERED_MAX: usize = 4096;
/// CMD_GET_STATEBLOB (tpm_ioctl.h of swtpm): the one control command with bytes behind its answer, as
/// many as the last word of the answer says.
const GET_STATE: [u8; 4] = [0, 0, 0, 0x0c];
const STATE_HEAD_BYTES: usize = 16;
/// Longest state of a TPM; libtpms' have some ten KiB.
const STATE_BYTES_MAX: usize = 256 * 1024;
/// TPM header: tag, size, code.
const HEADER_BYTES: usize = 10;

/// What becomes of one command.
pub enum Act {
    /// It passes.
    Pass,
    /// Another goes to the TPM in its place.
    Rewrite(Vec<u8>),
    /// It never reaches the TPM; this is the answer.
    Answer(Vec<u8>),
    /// It passes; its answer is changed.
    Edit(fn(&mut Vec<u8>)),
    /// It passes after this long.
    Hang(Duration),
}

/// Looks at every command.
pub type Filter = Box<dyn FnMut(&[u8]) -> Act + Send>;

struct Shared {
    stop: AtomicBool,
    /// To swtpm: one command, one answer, whoever asks.
    control: Mutex<UnixStream>,
    /// Our end of the data channel to swtpm.
    data: Mutex<Option<UnixStream>>,
    filter: Mutex<Filter>,
    seen: Mutex<Vec<Vec<u8>>>,
}

/// A running proxy. Dropping it ends its threads.
pub struct Proxy(Arc<Shared>);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// A thread that failed must not fail the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Command code of a command; 0 for bytes that are none.
#[must_use]
pub fn code(command: &[u8]) -> u32 {
    command.get(6..10).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

impl Proxy {
    /// Connects to swtpm and waits for QEMU at `front` and for others at `side`.
    pub(super) fn start(swtpm: &Path, front: &Path, side: &Path) -> Result<Self> {
        let control = UnixStream::connect(swtpm).map_err(at(swtpm))?;
        control.set_read_timeout(Some(ANSWER_WAIT)).map_err(at(swtpm))?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            control: Mutex::new(control),
            data: Mutex::new(None),
            filter: Mutex::new(Box::new(|_| Act::Pass)),
            seen: Mutex::new(Vec::new()),
        });
        for path in [front, side] {
            let listener = UnixListener::bind(path).map_err(at(path))?;
            listener.set_nonblocking(true).map_err(at(path))?;
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&shared, &listener));
        }
        Ok(Self(shared))
    }

    /// From now on every command is shown to `filter`.
    pub fn set(&self, filter: Filter) {
        *lock(&self.0.filter) = filter;
    }

    /// Commands that the box sent, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Vec<u8>> {
        lock(&self.0.seen).clone()
    }

    /// Sends a command of our own and returns the TPM's answer.
    ///
    /// # Errors
    /// [`Error::Check`] while QEMU has no TPM, [`Error::Io`].
    pub fn inject(&self, command: &[u8]) -> Result<Vec<u8>> {
        exchange(&self.0, command)
            .map_err(at("data channel of the TPM"))?
            .ok_or_else(|| Error::Check("QEMU did not connect to its TPM yet".into()))
    }
}

fn accept(shared: &Arc<Shared>, listener: &UnixListener) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                let shared = Arc::clone(shared);
                thread::spawn(move || relay(&shared, &client));
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Control commands of one client, until it goes.
fn relay(shared: &Arc<Shared>, client: &UnixStream) {
    if client.set_read_timeout(Some(LOOK)).is_err() {
        return;
    }
    while !shared.stop.load(Ordering::Relaxed) {
        match receive(client) {
            Ok((command, _)) if command.is_empty() => return,
            Ok((command, fd)) => {
                let Ok(answer) = control(shared, &command, fd) else { return };
                if (&mut &*client).write_all(&answer).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn receive(client: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; COMMAND_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        client,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    bytes.truncate(got.bytes);
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, fd))
}

/// One control command; a descriptor that comes with it is QEMU's end of the data channel.
fn control(shared: &Arc<Shared>, command: &[u8], fd: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut upstream = lock(&shared.control);
    if let Some(box_end) = fd {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_WAIT))?;
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&*upstream, &[IoSlice::new(command)], &mut ancillary, SendFlags::empty())?;
        *lock(&shared.data) = Some(ours);
        let shared = Arc::clone(shared);
        thread::spawn(move || splice(&shared, UnixStream::from(box_end)));
    } else {
        upstream.write_all(command)?;
    }
    let mut answer = vec![0; COMMAND_BYTES_MAX];
    let got = upstream.read(&mut answer)?;
    answer.truncate(got);
    if command.starts_with(&GET_STATE) {
        let whole = state_bytes(&answer).ok_or(io::ErrorKind::InvalidData)?;
        let got = answer.len().min(whole);
        answer.resize(whole, 0);
        upstream.read_exact(answer.get_mut(got..).unwrap_or_default())?;
    }
    Ok(answer)
}

/// Length of an answer to [`GET_STATE`] with the state behind it.
fn state_bytes(answer: &[u8]) -> Option<usize> {
    let Some(length) = answer.get(12..STATE_HEAD_BYTES) else {
        // A refusal is its code alone.
        return Some(answer.len());
    };
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    (length <= STATE_BYTES_MAX).then_some(STATE_HEAD_BYTES + length)
}

/// Commands of the box, until QEMU ends.
fn splice(shared: &Shared, mut side: UnixStream) {
    while let Ok(command) = message(&mut side) {
        {
            let mut seen = lock(&shared.seen);
            if seen.len() < REMEMBERED_MAX {
                seen.push(command.clone());
            }
        }
        let act = (lock(&shared.filter))(&command);
        let answer = match act {
            Act::Pass => exchange(shared, &command),
            Act::Rewrite(other) => exchange(shared, &other),
            Act::Answer(answer) => Ok(Some(answer)),
            Act::Edit(edit) => exchange(shared, &command).map(|answer| {
                answer.map(|mut answer| {
                    edit(&mut answer);
                    answer
                })
            }),
            Act::Hang(span) => {
                let begun = Instant::now();
                while begun.elapsed() < span && !shared.stop.load(Ordering::Relaxed) {
                    thread::sleep(LOOK);
                }
                exchange(shared, &command)
            }
        };
        let Ok(Some(answer)) = answer else { return };
        if side.write_all(&answer).is_err() {
            return;
        }
    }
}

fn exchange(shared: &Shared, command: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut data = lock(&shared.data);
    let Some(stream) = data.as_mut() else { return Ok(None) };
    stream.write_all(command)?;
    message(stream).map(Some)
}

/// One command or response, whole.
fn message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    stream.read_exact(&mut bytes)?;
    let size = bytes.get(2..6).and_then(|size| size.try_into().ok()).map_or(0, u32::from_be_bytes);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=COMMAND_BYTES_MAX).contains(&size) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    bytes.resize(size, 0);
    stream.read_exact(bytes.get_mut(HEADER_BYTES..).unwrap_or_default())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU's part and swtpm's part played here: the descriptor reaches us, a pair of our own
    /// reaches swtpm, and the filter sees and changes what passes.
    #[test]
    fn relays_control_and_filters_data() {
        let folder = std::env::temp_dir().join(format!("hp-proxy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        let _ = ["swtpm", "front", "side"].map(|name| std::fs::remove_file(path(name)));
        let listener = UnixListener::bind(path("swtpm")).unwrap();
        let echo = thread::spawn(move || {
            let (control, _) = listener.accept().unwrap();
            let (command, fd) = receive(&control).unwrap();
            assert_eq!(command, [0, 0, 0, 0x10]);
            (&control).write_all(&[0; 4]).unwrap();
            let mut data = UnixStream::from(fd.unwrap());
            while let Ok(command) = message(&mut data) {
                data.write_all(&command).unwrap();
            }
        });
        let proxy = Proxy::start(&path("swtpm"), &path("front"), &path("side")).unwrap();
        let front = UnixStream::connect(path("front")).unwrap();
        let (mut qemu, theirs) = UnixStream::pair().unwrap();
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let set = [0, 0, 0, 0x10];
        sendmsg(&front, &[IoSlice::new(&set)], &mut ancillary, SendFlags::empty()).unwrap();
        let mut answer = [1; 4];
        (&front).read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0; 4]);

        let extend = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x82, 7, 7];
        let other = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x44];
        let mut ask = |command: &[u8]| {
            qemu.write_all(command).unwrap();
            message(&mut qemu).unwrap()
        };
        assert_eq!(ask(&extend), extend);
        proxy.set(Box::new(move |command| match code(command) {
            0x182 => Act::Answer(other.to_vec()),
            _ => Act::Edit(|answer| answer[9] = 5),
        }));
        assert_eq!(ask(&extend), other);
        assert_eq!(ask(&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 1])[9], 5);
        assert_eq!(proxy.inject(&extend).unwrap(), extend);
        assert_eq!(proxy.seen().len(), 3);
        drop(qemu);
        drop(proxy);
        drop(front);
        drop(theirs);
        let _ = std::fs::remove_dir_all(&folder);
        drop(echo);
    }
}
