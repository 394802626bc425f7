//! Fixtures: one `what hex` per line.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// swtpm listens within a fraction of a second; a loaded machine may need a few.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const SWTPM: &str = include_str!("../fixtures/swtpm.txt");
pub(crate) const RELEASE_PEM: &str = include_str!("../fixtures/release.pem");

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A structure of the software TPM.
pub(crate) fn swtpm(what: &str) -> Vec<u8> {
    let line = SWTPM.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    unhex(line.unwrap_or_else(|| panic!("no {what}")))
}

/// A software TPM of its own: gone, with its state, after drop.
pub(crate) struct Swtpm {
    child: Child,
    port: u16,
    _state: TempDir,
}

impl Swtpm {
    /// `None`, with the reason printed, where the tools are not installed.
    pub(crate) fn start() -> Option<Self> {
        for program in ["swtpm", "tpm2_activatecredential"] {
            if Command::new(program).arg("--version").output().is_err() {
                eprintln!("skipped: {program} is not installed (packages swtpm, tpm2-tools)");
                return None;
            }
        }
        let state = TempDir::with_prefix("hookprobe-evidence-").unwrap();
        // Another process may take a port between the search and the start.
        for _ in 0..5 {
            let port = free_port_pair();
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--tpmstate", &format!("dir={}", state.path().display())])
                .args(["--server", &format!("type=tcp,port={port}")])
                .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&mut child, port + 1) {
                return Some(Self { child, port, _state: state });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm does not start");
    }

    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
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

fn listens(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}
