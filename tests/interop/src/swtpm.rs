//! A software TPM for one test: swtpm on two loopback ports.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::available;

/// swtpm listens within a fraction of a second; a loaded machine may need a few.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// swtpm and its state; both are gone after drop.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    port: u16,
    state: TempDir,
}

impl Swtpm {
    /// A started TPM with the given banks, ready for commands; `None`, with the reason printed,
    /// where swtpm is not installed.
    #[must_use]
    pub fn start(banks: &str) -> Option<Self> {
        if !available("swtpm", "swtpm") || !available("swtpm_setup", "swtpm-tools") {
            return None;
        }
        let state = TempDir::with_prefix("hookprobe-interop-").unwrap();
        let directory = state.path().to_str().unwrap().to_owned();
        let setup = Command::new("swtpm_setup")
            .args(["--tpm2", "--tpmstate", &directory, "--pcr-banks", banks])
            .output()
            .unwrap();
        assert!(setup.status.success(), "swtpm_setup: {setup:?}");
        // Another process may take a port between the search and the start.
        for _ in 0..5 {
            let port = free_port_pair();
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate", &format!("dir={directory}")])
                .args(["--server", &format!("type=tcp,port={port}")])
                .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
                .args(["--flags", "not-need-init,startup-clear"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&mut child, port) {
                return Some(Self { child, port, state });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm does not start");
    }

    /// Where tpm2-tss finds it.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// A folder that is gone with the TPM.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.path()
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
