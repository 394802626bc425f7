//! Token buckets, in the form that needs one number each (GCRA, ITU-T I.371): the time at which the
//! bucket would be full again. Nothing here reads a clock; the programs and the tests call it.

/// Rate and depth of a bucket. Shortest useful depth: ten milliseconds, the step of the kernel's
/// coarse clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds until one token is back; 0: no limit.
    pub interval_ns: u64,
    /// Nanoseconds until an empty bucket is full.
    pub depth_ns: u64,
}

impl Rate {
    /// `per_second` packets in the long run, `burst` at once; `per_second` 0: no limit.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self { interval_ns: 0, depth_ns: 0 };
        }
        let interval_ns = 1_000_000_000 / per_second as u64;
        Self { interval_ns, depth_ns: interval_ns.saturating_mul(burst as u64) }
    }

    /// Takes a token at `now_ns` out of the bucket that is full again at `full_ns`; when it will be
    /// full then, or `None` when it is empty.
    #[inline(always)]
    pub const fn take(&self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let start = if full_ns > now_ns { full_ns } else { now_ns };
        let next = start + self.interval_ns;
        if next - now_ns > self.depth_ns {
            None
        } else {
            Some(next)
        }
    }
}
