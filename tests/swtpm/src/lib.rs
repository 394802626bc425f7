//! A software TPM for one test: swtpm on two loopback ports, gone with its state after drop.
//!
//! The tests of `evidence`, `tpm` and `interop` use it. Virtual machines have theirs in `xtask`: on
//! Unix sockets, kept from boot to boot. Must never happen here: a failure where swtpm is not
//! installed; that is said and its tests are skipped.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a failure here is a failed test"
)]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// swtpm listens within a fraction of a second; a loaded machine may need a few.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Starts: another process may take a port between the search and the start.
const STARTS_MAX: u32 = 5;
/// Searches for two ports that are free.
const PORTS_MAX: u32 = 100;

/// Whether firmware was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// As after power-on: TPM2_Startup is the test's to send.
    Fresh,
    /// TPM2_Startup(CLEAR) was sent.
    Booted,
}

impl Power {
    fn flags(self) -> &'static str {
        match self {
            Self::Fresh => "not-need-init",
            Self::Booted => "not-need-init,startup-clear",
        }
    }
}

/// swtpm and its state.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    port: u16,
    state: TempDir,
}

impl Swtpm {
    /// One with the given banks that firmware has started; `None`, with the reason printed, where
    /// swtpm is not installed.
    #[must_use]
    pub fn start(banks: &str) -> Option<Self> {
        Self::make(&["--pcr-banks", banks], Power::Booted, |_| Vec::new())
    }

    /// One that nobody has started yet.
    #[must_use]
    pub fn start_fresh(banks: &str) -> Option<Self> {
        Self::make(&["--pcr-banks", banks], Power::Fresh, |_| Vec::new())
    }

    /// One with an endorsement key in the maker's place and a certificate of a CA of its own.
    #[must_use]
    pub fn start_certified() -> Option<Self> {
        Self::make(&["--create-ek-cert", "--pcr-banks", "sha256"], Power::Booted, |directory| {
            vec!["--config".into(), write_authority(directory)]
        })
    }

    fn make(args: &[&str], power: Power, more: impl FnOnce(&str) -> Vec<String>) -> Option<Self> {
        if !available("swtpm", "swtpm") || !available("swtpm_setup", "swtpm-tools") {
            return None;
        }
        // An absolute path: swtpm changes its directory.
        let state = TempDir::with_prefix("hookprobe-swtpm-").unwrap();
        let directory = state.path().to_str().unwrap().to_owned();
        let setup = Command::new("swtpm_setup")
            .args(["--tpm2", "--tpmstate", &directory])
            .args(args)
            .args(more(&directory))
            .output()
            .unwrap();
        assert!(setup.status.success(), "swtpm_setup: {setup:?}");
        for _ in 0..STARTS_MAX {
            let port = free_port_pair();
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate", &format!("dir={directory}")])
                .args(["--server", &format!("type=tcp,port={port}")])
                .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
                .args(["--flags", power.flags()])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&mut child, port + 1) {
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

    /// Port of the data channel; swtpm serves one client on it at a time.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
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

/// Whether `program` can be run; says what to install when not.
#[must_use]
pub fn available(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed (package {package})");
    }
    found
}

/// The first of two neighbouring ports: tpm2-tss wants the control channel on the port after the data
/// channel's.
#[must_use]
pub fn free_port_pair() -> u16 {
    for _ in 0..PORTS_MAX {
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
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Configuration of a certificate authority whose keys live and die with the test; its path.
fn write_authority(directory: &str) -> String {
    let path = |name: &str| format!("{directory}/{name}");
    let authority = format!(
        "statedir = {directory}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
        path("signkey.pem"),
        path("issuercert.pem"),
        path("certserial"),
    );
    fs::write(path("localca.conf"), authority).unwrap();
    let options = "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n";
    fs::write(path("localca.options"), options).unwrap();
    let setup = format!(
        "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
         create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
        path("localca.conf"),
        path("localca.options"),
    );
    fs::write(path("setup.conf"), setup).unwrap();
    path("setup.conf")
}
