//! How many messages a source may send: a token bucket for each, and one for all.
//!
//! Datagrams may carry any source, so that the buckets of sources alone would bound nothing: who
//! forges a thousand addresses has a thousand buckets. The one for all does.

use std::net::IpAddr;

use crate::core::table::Table;

/// Sources that are remembered; the one that was silent longest is forgotten first. 1024: a few
/// times the devices of a segment.
pub const SOURCES_MAX: usize = 1024;
/// Messages a second and source. 200: a busy firewall sends tens.
pub const PER_SOURCE: Limit = Limit { per_second: 200, burst: 400 };
/// Messages a second of all. 2000: a parsed message takes microseconds, so that this is one percent
/// of one core.
pub const ALL: Limit = Limit { per_second: 2000, burst: 4000 };

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How fast, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Tokens that come in a second.
    pub per_second: u64,
    /// Tokens at most.
    pub burst: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousand-millionths of tokens.
    nano_tokens: u64,
    last_ns: u64,
}

impl Bucket {
    fn full(limit: Limit, now_ns: u64) -> Self {
        Self { nano_tokens: limit.burst.saturating_mul(NS_PER_SECOND), last_ns: now_ns }
    }

    fn take(&mut self, limit: Limit, now_ns: u64) -> bool {
        // A clock that was set back gives nothing.
        let passed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        let came = passed.saturating_mul(limit.per_second);
        let most = limit.burst.saturating_mul(NS_PER_SECOND);
        self.nano_tokens = self.nano_tokens.saturating_add(came).min(most);
        match self.nano_tokens.checked_sub(NS_PER_SECOND) {
            Some(left) => {
                self.nano_tokens = left;
                true
            }
            None => false,
        }
    }
}

/// All buckets.
#[derive(Debug)]
pub struct Rate {
    sources: Table<IpAddr, Bucket>,
    all: Bucket,
}

impl Rate {
    /// Full buckets.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self { sources: Table::new(SOURCES_MAX), all: Bucket::full(ALL, now_ns) }
    }

    /// Whether one more message of this source is taken.
    pub fn take(&mut self, source: IpAddr, now_ns: u64) -> bool {
        let is_fine = match self.sources.touch(&source) {
            Some(bucket) => bucket.take(PER_SOURCE, now_ns),
            None => {
                let mut bucket = Bucket::full(PER_SOURCE, now_ns);
                let is_fine = bucket.take(PER_SOURCE, now_ns);
                self.sources.insert(source, bucket);
                is_fine
            }
        };
        // A source above its own limit takes nothing from the others.
        is_fine && self.all.take(ALL, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    fn taken(rate: &mut Rate, source: u32, count: u64, now_ns: u64) -> u64 {
        (0..count).map(|_| u64::from(rate.take(address(source), now_ns))).sum()
    }

    #[test]
    fn a_loud_source_does_not_silence_others() {
        let mut rate = Rate::new(0);
        assert_eq!(taken(&mut rate, 1, 100_000, 0), PER_SOURCE.burst);
        assert_eq!(taken(&mut rate, 2, 10, 0), 10);
        assert_eq!(taken(&mut rate, 1, 100_000, NS_PER_SECOND), PER_SOURCE.per_second);
        // Set back, then forward again.
        assert_eq!(taken(&mut rate, 1, 10, 0), 0);
        assert_eq!(taken(&mut rate, 3, 10, u64::MAX), 10);
    }

    #[test]
    fn forged_sources_meet_the_limit_of_all() {
        let mut rate = Rate::new(0);
        let all: u64 = (0..100_000).map(|n| taken(&mut rate, n, 1, 0)).sum();
        assert_eq!(all, ALL.burst);
        assert!(rate.sources.len() <= SOURCES_MAX);
    }
}
