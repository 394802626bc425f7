//! Payload of new flows out of the ring buffer.
//!
//! Counted by kind, so that it shows whether samples come and how many. While the inspector is away
//! nobody sees whole packets: then those that say where a flow goes (DNS questions, ClientHellos) are
//! kept, unread, and given to it when it is back; `inspector::missed` says why those and no others.
//! Must never happen here: a look into the payload. Called by [`super::sensor`] at each beat.

use std::collections::VecDeque;

use hookprobe_abi::sample::{Header, kind};
use hookprobe_wire::inspector::{SAMPLES_MAX, Sample, SampleKind};

use crate::{
    core::address::to_ip,
    object::{Records, sample_from},
};

/// Samples handled in one go, so that the beat is never late: as many as the ring buffer holds of
/// the longest.
const DRAIN_MAX: usize = 1024;
/// Samples that are kept for the inspector; the oldest goes. 512: a restart takes some seconds, in which
/// a hundred devices begin fewer flows; 800 KB at most.
const MISSED_MAX: usize = 512;

/// Counts by kind, and what nobody looked at.
#[derive(Debug, Default)]
pub struct Samples {
    tls: u64,
    quic: u64,
    dns: u64,
    http: u64,
    ssh: u64,
    foreign: u64,
    missed: VecDeque<Sample>,
    kept: u64,
    missed_lost: u64,
}

impl Samples {
    /// Takes samples out of the ring buffer. `is_away`: nobody sees whole packets.
    pub fn drain(&mut self, ring: &mut Records, is_away: bool) {
        for _ in 0..DRAIN_MAX {
            let Some(item) = ring.next() else { break };
            match sample_from(&item) {
                Some((header, bytes)) => self.take(&header, bytes, is_away),
                None => self.foreign += 1,
            }
        }
    }

    /// The oldest that nobody looked at, as many as one order holds; empty when there are none.
    pub fn missed(&mut self) -> Vec<Sample> {
        self.missed.drain(..self.missed.len().min(SAMPLES_MAX)).collect()
    }

    fn take(&mut self, header: &Header, bytes: &[u8], is_away: bool) {
        self.count(header.kind);
        let kind = match header.kind {
            kind::DNS => SampleKind::Dns,
            // What follows the first packet has no name in front.
            kind::TLS if header.number == 0 => SampleKind::Tls,
            _ => return,
        };
        if !is_away {
            return;
        }
        if self.missed.len() >= MISSED_MAX {
            self.missed.pop_front();
            self.missed_lost += 1;
        }
        self.kept += 1;
        self.missed.push_back(Sample {
            source: to_ip(&header.source),
            destination: to_ip(&header.destination),
            ports: (header.source_port, header.destination_port),
            protocol: header.protocol,
            interface: header.interface,
            kind,
            bytes: bytes.to_vec().into(),
        });
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
    pub fn counters(&self) -> [(&'static str, u64); 8] {
        [
            ("samples_tls", self.tls),
            ("samples_quic", self.quic),
            ("samples_dns", self.dns),
            ("samples_http", self.http),
            ("samples_ssh", self.ssh),
            ("samples_foreign", self.foreign),
            ("samples_missed", self.kept),
            ("samples_missed_lost", self.missed_lost),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, number: u8) -> Header {
        Header { kind, number, protocol: 17, ..Header::default() }
    }

    #[test]
    fn kept_while_nobody_looks_and_only_what_has_a_name() {
        let mut samples = Samples::default();
        samples.take(&header(kind::DNS, 0), b"seen", false);
        for (kind, number) in
            [(kind::DNS, 0), (kind::TLS, 0), (kind::TLS, 1), (kind::HTTP, 0), (kind::SSH, 0)]
        {
            samples.take(&header(kind, number), b"missed", true);
        }
        let missed = samples.missed();
        assert_eq!(missed.len(), 2);
        assert!(missed.iter().all(|sample| &**sample.bytes == b"missed"));
        assert!(samples.missed().is_empty());
        assert_eq!(samples.counters()[2], ("samples_dns", 2));
    }

    #[test]
    fn what_is_kept_is_bounded_and_counted() {
        let mut samples = Samples::default();
        for _ in 0..MISSED_MAX + 5 {
            samples.take(&header(kind::DNS, 0), &[0; 1500], true);
        }
        assert_eq!(samples.missed.len(), MISSED_MAX);
        assert_eq!(samples.counters()[7], ("samples_missed_lost", 5));
        let order = hookprobe_wire::inspector::Order::Missed { samples: samples.missed() };
        assert!(hookprobe_wire::frame::to_vec(&order).is_ok(), "fits in a frame");
    }
}
