//! A real software TPM for one test: swtpm on two loopback ports.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers: a failure here is a failed test"
)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use hookprobe_init::tpm::{TpmError, Transport};
use tempfile::TempDir;

/// swtpm listens within a fraction of a second; a loaded machine may need a few.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// An extend takes milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// swtpm and its state; both are gone after drop.
pub(crate) struct Swtpm {
    child: Child,
    port: u16,
    _state: TempDir,
}

impl Swtpm {
    /// Makes a TPM with the given banks and starts it; `None`, with the reason printed, where
    /// swtpm is not installed.
    pub(crate) fn start(banks: &str) -> Option<Self> {
        for program in ["swtpm", "swtpm_setup"] {
            if Command::new(program).arg("--version").output().is_err() {
                eprintln!("skipped: {program} is not installed (packages swtpm, swtpm-tools)");
                return None;
            }
        }
        // An absolute path: swtpm changes its directory.
        let state = TempDir::with_prefix("hookprobe-tpm-").unwrap();
        let directory = state.path().to_str().unwrap().to_owned();
        let Output { status, stdout, stderr } = Command::new("swtpm_setup")
            .args(["--tpm2", "--tpmstate", &directory, "--pcr-banks", banks])
            .output()
            .unwrap();
        assert!(
            status.success(),
            "swtpm_setup: {}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
        // Another process may take a port between the search and the start.
        for _ in 0..5 {
            let port = free_port_pair();
            let mut child = Command::new("swtpm")
                .arg("socket")
                .arg("--tpm2")
                .args(["--tpmstate", &format!("dir={directory}")])
                .args(["--server", &format!("type=tcp,port={port}")])
                .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
                .args(["--flags", "not-need-init"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&mut child, port) {
                return Some(Self { child, port, _state: state });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm does not start");
    }

    /// Where tpm2-tss finds it.
    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// A connection to the data channel. swtpm serves one client: drop it before the next.
    pub(crate) fn transport(&self) -> DataChannel {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        DataChannel(stream)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// tpm2-tss wants the control channel on the port after the data channel's.
fn free_port_pair() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two neighbouring ports are free");
}

/// The control channel takes a connection without disturbing the data channel.
fn listens(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// swtpm's data channel: raw commands and responses, as on `/dev/tpm0`.
pub(crate) struct DataChannel(TcpStream);

impl Transport for DataChannel {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        self.0.write_all(command).unwrap();
        let mut response = vec![0; 10];
        self.0.read_exact(&mut response).unwrap();
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
        response.resize(size, 0);
        self.0.read_exact(&mut response[10..]).unwrap();
        Ok(response)
    }
}
