//! Payload of new flows out of the ring buffer.
//!
//! What is read in it is for the protocol parsers; this counts by kind, so that it shows whether
//! samples come and how many. Called by [`super::sensor`] at each beat.

use hookprobe_abi::sample::{Header, kind};

use crate::object::{Records, sample_from};

/// Samples handled in one go, so that the beat is never late: as many as the ring buffer holds of
/// the longest.
const DRAIN_MAX: usize = 1024;

/// Counts by kind.
#[derive(Debug, Default)]
pub struct Samples {
    tls: u64,
    quic: u64,
    dns: u64,
    http: u64,
    ssh: u64,
    foreign: u64,
}

impl Samples {
    /// Takes samples out of the ring buffer; each is given to `read` with its payload.
    pub fn drain(&mut self, ring: &mut Records, mut read: impl FnMut(&Header, &[u8])) {
        for _ in 0..DRAIN_MAX {
            let Some(item) = ring.next() else { break };
            match sample_from(&item) {
                Some((header, bytes)) => {
                    self.count(header.kind);
                    read(&header, bytes);
                }
                None => self.foreign += 1,
            }
        }
    }

    fn count(&mut self, of: u8) {
        let counter = match of {
            kind::TLS => &mut self.tls,
            kind::QUIC => &mut self.quic,
            kind::DNS => &mut self.dns,
            kind::HTTP => &mut self.http,
            kind::SSH => &mut self.ssh,
            _ => &mut self.foreign,
        };
        *counter += 1;
    }

    /// Numbers for the status.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("samples_tls", self.tls),
            ("samples_quic", self.quic),
            ("samples_dns", self.dns),
            ("samples_http", self.http),
            ("samples_ssh", self.ssh),
            ("samples_foreign", self.foreign),
        ]
    }
}
