//! Anomalies of a transaction or a flow: names, most of them once, bounded.

/// An anomaly by Suricata's name in `app-layer-event:PROTOCOL.NAME` (without the protocol).
pub type Event = &'static str;

/// Most events that one transaction keeps; the protocols define fewer different ones each.
const EVENTS_MAX: usize = 128;
/// Of these, those that are told each time: they leave room for all that are told once.
const REPEATS_MAX: usize = 64;

/// A short list in order of occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events(Vec<Event>);

impl Events {
    /// Adds `event` unless it is there.
    pub fn add(&mut self, event: Event) {
        if self.0.len() < EVENTS_MAX && !self.contains(event) {
            self.0.push(event);
        }
    }

    /// Adds `event` once more: some are told each time.
    pub fn repeat(&mut self, event: Event) {
        if self.0.len() < REPEATS_MAX {
            self.0.push(event);
        } else {
            self.add(event);
        }
    }

    /// Whether `event` occurred.
    #[must_use]
    pub fn contains(&self, event: &str) -> bool {
        self.0.contains(&event)
    }

    /// In order of occurrence. An inspector can remember how many it saw.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// None.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
