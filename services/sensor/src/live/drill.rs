//! The drill: a harmless scan through the loaded XDP program, to prove the path from packet to
//! block on this very box.
//!
//! Frames are run with BPF_PROG_TEST_RUN: they never touch an interface. Source and destination
//! are documentation addresses (RFC 5737), so that nothing real can be blocked by it. The drill
//! has no power of its own: it only sees whether the XDP program starts to drop.

use std::net::{IpAddr, Ipv4Addr};

use crate::core::{TimeNs, address::from_ip};
use hookprobe_abi::Address;

/// XDP_DROP.
pub const XDP_DROP: u32 = 1;
/// Frames at the start. 24 ports: three times what convicts.
const BURST_FRAMES: u16 = 24;
/// How long a block is waited for. 15 s: 3 s for missing answers, the rest for ledger and response
/// on the slowest board.
const WAIT_NS_MAX: TimeNs = 15_000_000_000;
/// Pause between two drills. 30 s: a drill and its alert are over.
const PAUSE_NS_MIN: TimeNs = 30_000_000_000;
/// How long after its end a finding still belongs to the drill. 5 s: longer than any wait of a
/// detector.
const GRACE_NS: TimeNs = 5_000_000_000;
/// TEST-NET-2, sources; the last byte changes with each drill so that each is a new incident.
const SOURCE_NET: [u8; 3] = [198, 51, 100];
/// Sources in it, 1 to 120: drills of an hour, and [`Drill::start`] can't overflow.
const HOSTS: u8 = 120;
/// In TEST-NET-1, destination.
const DESTINATION: [u8; 4] = [192, 0, 2, 1];

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program began to drop.
    Blocked,
    /// It did not, in time.
    NotBlocked,
}

impl Outcome {
    /// Word for the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::NotBlocked => "not-blocked",
        }
    }
}

/// All drills; one at a time.
#[derive(Debug, Default)]
pub struct Drill {
    running: Option<Running>,
    count: u8,
    last: Option<(Address, TimeNs)>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    source: [u8; 4],
    began_ns: TimeNs,
    next_port: u16,
}

impl Drill {
    /// Begins a drill from a source that is not blocked; its first frames, to be run at once.
    ///
    /// # Errors
    /// A sentence for people when one runs or ran just now, or when every source is blocked.
    pub fn start(
        &mut self,
        now_ns: TimeNs,
        is_blocked: impl Fn(&Address) -> bool,
    ) -> Result<Vec<Vec<u8>>, String> {
        if self.running.is_some() {
            return Err("HP-SN-050 drill: one is running; wait for its result".into());
        }
        if let Some((_, ended_ns)) = self.last {
            let since_ns = now_ns.saturating_sub(ended_ns);
            if since_ns < PAUSE_NS_MIN {
                let rest_s = PAUSE_NS_MIN.saturating_sub(since_ns) / 1_000_000_000 + 1;
                return Err(format!(
                    "HP-SN-051 drill: the last one just ended; try again in {rest_s} s"
                ));
            }
        }
        let [a, b, c] = SOURCE_NET;
        let mut running = (0..HOSTS)
            .map(|step| (self.count + step) % HOSTS)
            .map(|host| (host, Running::from([a, b, c, host + 1], now_ns)))
            .find(|(_, running)| !is_blocked(&running.address()))
            .map(|(host, running)| {
                self.count = (host + 1) % HOSTS;
                running
            })
            .ok_or("HP-SN-052 drill: every source of it is blocked; wait for a block to end")?;
        let frames = (0..BURST_FRAMES).map(|_| running.frame()).collect();
        self.running = Some(running);
        Ok(frames)
    }

    /// The next frame of a running drill.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.running.as_mut().map(Running::frame)
    }

    /// What the program did with a frame; the result and how long it took, once it is known.
    pub fn verdict(&mut self, now_ns: TimeNs, action: u32) -> Option<(Outcome, u64)> {
        let running = self.running?;
        let elapsed_ns = now_ns.saturating_sub(running.began_ns);
        let outcome = if action == XDP_DROP {
            Outcome::Blocked
        } else if elapsed_ns >= WAIT_NS_MAX {
            Outcome::NotBlocked
        } else {
            return None;
        };
        self.last = Some((running.address(), now_ns));
        self.running = None;
        Some((outcome, elapsed_ns / 1_000_000))
    }

    /// Whether a finding about `source` is due to a drill.
    #[must_use]
    pub fn owns(&self, now_ns: TimeNs, source: &Address) -> bool {
        let runs = self.running.is_some_and(|running| running.address() == *source);
        let just_ran = self.last.is_some_and(|(last, ended_ns)| {
            last == *source && now_ns.saturating_sub(ended_ns) < GRACE_NS
        });
        runs || just_ran
    }
}

impl Running {
    fn from(source: [u8; 4], began_ns: TimeNs) -> Self {
        Self { source, began_ns, next_port: 1 }
    }

    fn address(&self) -> Address {
        from_ip(IpAddr::V4(Ipv4Addr::from(self.source)))
    }

    fn frame(&mut self) -> Vec<u8> {
        let port = self.next_port;
        self.next_port = self.next_port.wrapping_add(1).max(1);
        let mut frame = Vec::with_capacity(64);
        let written = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(self.source, DESTINATION, 64)
            .tcp(40_000, port, 0, 1024)
            .syn()
            .write(&mut frame, &[]);
        // Into a Vec, with a payload that fits: there is no error to have.
        debug_assert!(written.is_ok());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: TimeNs = 1_000_000_000;

    fn free(_: &Address) -> bool {
        false
    }

    #[test]
    fn a_source_that_is_still_blocked_is_not_used() {
        let first = from_ip("198.51.100.1".parse().unwrap());
        let frames = Drill::default().start(0, |source| *source == first).unwrap();
        assert_eq!(&frames[0][26..30], &[198, 51, 100, 2]);
        let refusal = Drill::default().start(0, |_| true).unwrap_err();
        assert!(refusal.starts_with("HP-SN-052"), "{refusal}");
    }

    #[test]
    fn ends_with_the_first_drop() {
        let mut drill = Drill::default();
        let frames = drill.start(SECOND, free).unwrap();
        assert_eq!(frames.len(), 24);
        assert!(frames.iter().all(|frame| frame.len() == 54));
        assert!(drill.start(SECOND, free).is_err(), "one at a time");
        assert_eq!(drill.verdict(2 * SECOND, 2), None);
        let source = from_ip("198.51.100.1".parse().unwrap());
        assert!(drill.owns(2 * SECOND, &source));
        let result = drill.verdict(4 * SECOND, XDP_DROP);
        assert_eq!(result, Some((Outcome::Blocked, 3000)));
        assert!(drill.owns(5 * SECOND, &source));
        assert!(!drill.owns(10 * SECOND, &source), "a real scan from there is no drill");
        assert_eq!(drill.next_frame(), None);
    }

    #[test]
    fn ends_in_time_and_is_rate_limited() {
        let mut drill = Drill::default();
        drill.start(0, free).unwrap();
        assert_eq!(drill.verdict(14 * SECOND, 2), None);
        let result = drill.verdict(15 * SECOND, 2);
        assert_eq!(result, Some((Outcome::NotBlocked, 15_000)));
        let refusal = drill.start(20 * SECOND, free).unwrap_err();
        assert!(refusal.contains("in 26 s"), "{refusal}");
        let frames = drill.start(45 * SECOND, free).unwrap();
        let first = frames.first().unwrap();
        assert_eq!(&first[26..30], &[198, 51, 100, 2], "another source, another incident");
    }
}
