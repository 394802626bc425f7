//! A reload that PID 1 asked for: what it waits for and what it is told. Pure.
//!
//! The sensor puts the list of addresses in force itself and has the inspector read rules and names;
//! PID 1 is answered when the inspector says that a reading is in force that began after the order.
//! One at a time: PID 1 asks for no second one. What must never happen here: an answer that was
//! decided by an older reading, or a client that waits for ever.

use std::time::Duration;

use hookprobe_wire::{
    inspector::Read,
    sensor::{Loaded, Reply},
};

use crate::core::TimeNs;

/// How long the inspector may take. 50 s: less than PID 1 waits, more than any list takes.
const WAIT_NS: TimeNs = Duration::from_secs(50).as_nanos() as TimeNs;

/// Addresses in force, or why those of before stay.
pub type Addresses = Result<u64, String>;

/// What is waited for.
#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    since_ns: TimeNs,
    addresses: Addresses,
    to: T,
}

/// The reload that is under way; `T` is where its answer goes.
#[derive(Debug)]
pub struct Reloading<T> {
    last: u64,
    waiting: Option<Waiting<T>>,
}

impl<T> Default for Reloading<T> {
    fn default() -> Self {
        Self { last: 0, waiting: None }
    }
}

impl<T> Reloading<T> {
    /// Whether one is under way.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The number for the next order: greater than any before, those of a sensor that ended included.
    pub fn number(&mut self, now_ns: TimeNs) -> u64 {
        self.last = now_ns.max(self.last + 1);
        self.last
    }

    /// The inspector was given the order `number`.
    pub fn ordered(&mut self, now_ns: TimeNs, number: u64, addresses: Addresses, to: T) {
        self.waiting = Some(Waiting { number, since_ns: now_ns, addresses, to });
    }

    /// The inspector said what is in force; the answer, when this is the one that is waited for.
    pub fn read(&mut self, read: Option<&Read>) -> Option<(T, Reply)> {
        let read = read?;
        if self.waiting.as_ref()?.number > read.number {
            return None;
        }
        let Waiting { addresses, to, .. } = self.waiting.take()?;
        let mut loaded = Loaded { addresses: 0, ..read.loaded.clone() };
        match addresses {
            Ok(addresses) => loaded.addresses = addresses,
            Err(why) if loaded.trouble.is_empty() => loaded.trouble = why,
            Err(why) => loaded.trouble = format!("{why}; {}", loaded.trouble),
        }
        let loaded = Some(loaded);
        Some((to, Reply::Reload { started: true, reason: "in force".into(), loaded }))
    }

    /// The inspector is away: it reads them at its start, nobody waits for that.
    pub fn away(&mut self) -> Option<(T, Reply)> {
        let Waiting { to, .. } = self.waiting.take()?;
        Some((to, refused("the inspector went away and will read them at its start")))
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ns: TimeNs) -> Option<(T, Reply)> {
        let since_ns = self.waiting.as_ref()?.since_ns;
        if now_ns.saturating_sub(since_ns) < WAIT_NS {
            return None;
        }
        let Waiting { to, .. } = self.waiting.take()?;
        Some((to, refused("the inspector did not read them in time")))
    }
}

/// An answer that says why not.
#[must_use]
pub fn refused(reason: &str) -> Reply {
    Reply::Reload { started: false, reason: reason.into(), loaded: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(number: u64, rules: u64) -> Read {
        Read { number, loaded: Loaded { rules, ..Loaded::default() } }
    }

    #[test]
    fn only_a_reading_that_began_after_the_order_answers_it() {
        let mut reloading = Reloading::default();
        assert_eq!(reloading.number(1), 1);
        let number = reloading.number(1);
        reloading.ordered(0, number, Ok(7), "pid1");
        assert!(reloading.read(None).is_none());
        assert!(reloading.read(Some(&read(1, 3))).is_none());
        let (to, reply) = reloading.read(Some(&read(2, 4))).unwrap();
        let Reply::Reload { started: true, loaded: Some(loaded), .. } = reply else {
            panic!("{reply:?}");
        };
        assert_eq!((to, loaded.rules, loaded.addresses), ("pid1", 4, 7));
        assert!(reloading.read(Some(&read(2, 4))).is_none() && !reloading.is_waiting());
    }

    #[test]
    fn a_list_of_addresses_that_can_not_be_used_is_told() {
        let mut reloading = Reloading::default();
        reloading.ordered(0, 1, Err("HP-SN-087 block list: too long".into()), ());
        let (_, reply) = reloading.read(Some(&read(1, 0))).unwrap();
        assert!(format!("{reply:?}").contains("HP-SN-087"), "{reply:?}");
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut reloading = Reloading::default();
        reloading.ordered(5, 1, Ok(0), ());
        assert!(reloading.tick(WAIT_NS).is_none());
        assert!(reloading.tick(WAIT_NS + 5).is_some());
        reloading.ordered(5, 2, Ok(0), ());
        let (_, reply) = reloading.away().unwrap();
        assert_eq!(reply, refused("the inspector went away and will read them at its start"));
        assert!(reloading.away().is_none());
    }
}
