//! An init that powers off at once: the floor for boot times, and the probe whether KVM works.
//! Never part of the image.

#![forbid(unsafe_code)]

use std::time::Duration;

use rustix::{
    system::{RebootCommand, reboot},
    time::{ClockId, clock_gettime},
};

fn main() {
    let now = clock_gettime(ClockId::Boottime);
    println!("poweroff: uptime_s={}.{:03}", now.tv_sec, now.tv_nsec / 1_000_000);
    let result = reboot(RebootCommand::PowerOff);
    println!("poweroff: {result:?}");
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
