//! A real software TPM for one test: swtpm on two loopback ports.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers: a failure here is a failed test"
)]
#![allow(dead_code, reason = "each file of tests uses a part of this")]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use hookprobe_init::tpm::{TpmError, Transport};
use tempfile::TempDir;
use tss_esapi::{constants::CapabilityType, structures::CapabilityData, tcti_ldr::TctiNameConf};

/// swtpm listens within a fraction of a second; a loaded machine may need a few.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// An extend takes milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// First handles of transient objects, and of loaded HMAC and policy sessions (Part 2, 7.4).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
/// As after power-on: TPM2_Startup is ours to send.
const RAW: &str = "not-need-init";
/// TPM2_Startup(CLEAR) was sent.
const BOOTED: &str = "not-need-init,startup-clear";

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
        Self::make(&["--pcr-banks", banks], RAW, |_| Vec::new())
    }

    /// One that firmware has started already.
    pub(crate) fn start_booted(banks: &str) -> Option<Self> {
        Self::make(&["--pcr-banks", banks], BOOTED, |_| Vec::new())
    }

    /// One with an endorsement key in the maker's place and a certificate of a CA of its own.
    pub(crate) fn start_certified() -> Option<Self> {
        Self::make(&["--create-ek-cert", "--pcr-banks", "sha256"], BOOTED, |directory| {
            vec!["--config".into(), write_ca(directory)]
        })
    }

    fn make(args: &[&str], flags: &str, more: impl FnOnce(&str) -> Vec<String>) -> Option<Self> {
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
            .args(["--tpm2", "--tpmstate", &directory])
            .args(args)
            .args(more(&directory))
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
                .args(["--flags", flags])
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

    /// Port of the data channel.
    pub(crate) fn port(&self) -> u16 {
        self.port
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

/// Configuration of a certificate authority whose keys live and die with the test.
fn write_ca(directory: &str) -> String {
    let path = |name: &str| format!("{directory}/{name}");
    let ca = format!(
        "statedir = {directory}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
        path("signkey.pem"),
        path("issuercert.pem"),
        path("certserial"),
    );
    fs::write(path("localca.conf"), ca).unwrap();
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

/// Runs a program of tpm2-tools; `None`, with the reason printed, where it is not installed.
pub(crate) fn tool(name: &str, args: &[&str]) -> Option<Output> {
    match Command::new(name).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {name}: {error} (package tpm2-tools)");
            None
        }
    }
}

/// Transient objects and sessions that are still in the TPM, seen by a connection of its own.
pub(crate) fn left_over(swtpm: &Swtpm) -> usize {
    let name: TctiNameConf = swtpm.tcti().parse().unwrap();
    let mut esys = tss_esapi::Context::new(name).unwrap();
    [TRANSIENT_FIRST, LOADED_SESSION_FIRST, LOADED_SESSION_FIRST | 0x0100_0000]
        .into_iter()
        .map(|first| {
            let (data, _) = esys.get_capability(CapabilityType::Handles, first, 16).unwrap();
            let CapabilityData::Handles(handles) = data else {
                panic!("no handles");
            };
            let kind = first >> 24;
            handles.into_inner().into_iter().filter(|found| u32::from(*found) >> 24 == kind).count()
        })
        .sum()
}

/// tpm2-tss wants the control channel on the port after the data channel's.
pub(crate) fn free_port_pair() -> u16 {
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
