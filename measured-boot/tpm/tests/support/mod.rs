//! What the tests do with a software TPM beside using it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers: a failure here is a failed test"
)]
#![allow(dead_code, reason = "each file of tests uses a part of this")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Command, Output},
    time::Duration,
};

use hookprobe_init::tpm::{TpmError, Transport};
use hookprobe_swtpm::Swtpm;
use tss_esapi::{constants::CapabilityType, structures::CapabilityData, tcti_ldr::TctiNameConf};

/// An extend takes milliseconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// First handles of transient objects, and of loaded HMAC and policy sessions (Part 2, 7.4).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;

/// A connection to the data channel. swtpm serves one client: drop it before the next.
pub(crate) fn data_channel(swtpm: &Swtpm) -> DataChannel {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, swtpm.port())).unwrap();
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    DataChannel(stream)
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
