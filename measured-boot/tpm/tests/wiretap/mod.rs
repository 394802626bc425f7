//! A wire between tpm2-tss and swtpm that records, and changes what a test tells it to.

#![expect(clippy::unwrap_used, reason = "a test's helpers: a failure here is a failed test")]

use hookprobe_swtpm::{Swtpm, free_port_pair};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

/// Tag, size and code of a command or response.
const HEADER_BYTES: usize = 10;

/// The wire; its threads end with the process.
pub(crate) struct Wiretap {
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Command whose responses are changed, 0 for none, and at which byte.
    changed: Arc<(AtomicU32, AtomicUsize)>,
}

impl Wiretap {
    pub(crate) fn on(swtpm: &Swtpm) -> Self {
        let (from, to) = (free_port_pair(), swtpm.port());
        let data = TcpListener::bind((Ipv4Addr::LOCALHOST, from)).unwrap();
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, from + 1)).unwrap();
        let tap = Self { port: from, seen: Arc::default(), changed: Arc::default() };
        let (seen, changed) = (Arc::clone(&tap.seen), Arc::clone(&tap.changed));
        thread::spawn(move || {
            for client in data.incoming().map_while(Result::ok) {
                // Until the client is gone.
                let _ = carry(client, to, &seen, &changed);
            }
        });
        thread::spawn(move || {
            for client in control.incoming().map_while(Result::ok) {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to + 1)).unwrap();
                copy(client.try_clone().unwrap(), server.try_clone().unwrap());
                copy(server, client);
            }
        });
        tap
    }

    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Whether `bytes` crossed the wire.
    pub(crate) fn saw(&self, bytes: &[u8]) -> bool {
        self.seen.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }

    /// From now on one bit of each response to `command` is another.
    pub(crate) fn change(&self, command: u32) {
        // Inside the parameters: behind header, parameter size and the first field's size.
        self.change_at(command, 28);
    }

    /// The same, of the byte with this number in the response.
    pub(crate) fn change_at(&self, command: u32, byte: usize) {
        self.changed.1.store(byte, Ordering::SeqCst);
        self.changed.0.store(command, Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

fn carry(
    mut client: TcpStream,
    to: u16,
    seen: &Mutex<Vec<u8>>,
    changed: &(AtomicU32, AtomicUsize),
) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    loop {
        let command = frame(&mut client)?;
        server.write_all(&command)?;
        let mut response = frame(&mut server)?;
        seen.lock().unwrap().extend([&command[..], &response[..]].concat());
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        if code == changed.0.load(Ordering::SeqCst) && response.len() > 80 {
            response[changed.1.load(Ordering::SeqCst)] ^= 1;
        }
        client.write_all(&response)?;
    }
}

fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    stream.read_exact(&mut frame)?;
    let size = u32::from_be_bytes(frame[2..6].try_into().unwrap()) as usize;
    frame.resize(size, 0);
    stream.read_exact(&mut frame[HEADER_BYTES..])?;
    Ok(frame)
}
