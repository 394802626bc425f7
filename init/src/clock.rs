//! The three clocks of PID 1, read here only.

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> (u64, u64) {
    let time = clock_gettime(clock);
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Milliseconds since the kernel started, suspend included.
#[must_use]
pub fn boot_ms() -> u64 {
    let (seconds, nanoseconds) = read(ClockId::Boottime);
    seconds * 1_000 + nanoseconds / 1_000_000
}

/// Microseconds of a clock that never steps, for durations.
#[must_use]
pub fn monotonic_us() -> u64 {
    let (seconds, nanoseconds) = read(ClockId::Monotonic);
    seconds * 1_000_000 + nanoseconds / 1_000
}

/// Seconds since 1970 by the box's clock.
#[must_use]
pub fn wall_s() -> u64 {
    read(ClockId::Realtime).0
}

/// Sets the box's clock.
///
/// # Errors
/// The kernel's.
pub fn step(to_s: u64) -> Result<(), rustix::io::Errno> {
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(to_s).map_err(|_| rustix::io::Errno::INVAL)?,
        tv_nsec: 0,
    };
    rustix::time::clock_settime(ClockId::Realtime, time)
}
