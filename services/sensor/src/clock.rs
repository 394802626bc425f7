//! The only clocks of the sensor. Records carry CLOCK_BOOTTIME; the ledger and logs carry time
//! since 1970.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::core::TimeNs;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds since the kernel started, suspend included: the clock of the records.
#[must_use]
pub fn boot_ns() -> TimeNs {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// Nanoseconds since the kernel started, suspend left out: the clock of [`FlowStat`]'s last packet.
///
/// [`FlowStat`]: hookprobe_abi::FlowStat
#[must_use]
pub fn monotonic_ns() -> TimeNs {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since 1970.
#[must_use]
pub fn real_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// What a time of the records is since 1970, by the clock as it is set now.
#[must_use]
pub fn to_real_ns(boot: TimeNs) -> u64 {
    real_ns().saturating_sub(boot_ns()).saturating_add(boot)
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(NS_PER_SECOND).saturating_add(rest)
}
