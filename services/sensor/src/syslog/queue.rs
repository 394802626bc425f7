//! Records on their way to the sensor's loop: the oldest give way, and everything lost is counted.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hookprobe_wire::{Diagnostic, Severity};
use tokio::sync::Notify;

use super::message::Record;

/// Most records that wait. 4096: two seconds of what the rate lets through.
pub const RECORDS_MAX: usize = 4096;
/// Most bytes that wait, by what the texts take. 4 MiB: the usual message has 200 bytes.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What came and what became of it, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were taken apart.
    pub received: u64,
    /// Of these, with a [`super::message::Fault`].
    pub faulty: u64,
    /// Records that gave way to later ones.
    pub dropped: u64,
    /// Messages above a source's or the common rate.
    pub limited: u64,
    /// Connections that were taken.
    pub connections: u64,
    /// Connections that were refused because of their number.
    pub refused: u64,
    /// Connections that were closed because of what they sent, or of a handshake.
    pub broken: u64,
}

impl Counts {
    /// What an operator should know of what happened since `before`.
    #[must_use]
    pub fn trouble(&self, before: &Self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        let mut note = |code: &str, count: u64, cause: &str, remedy: &str| {
            if count > 0 {
                out.push(Diagnostic {
                    code: code.into(),
                    severity: Severity::Warn,
                    object: "syslog".into(),
                    cause: format!("{count} {cause}"),
                    remedy: remedy.into(),
                });
            }
        };
        note(
            "HP-SN-602",
            self.dropped.saturating_sub(before.dropped),
            "messages gave way to later ones before they were looked at",
            "have senders send less, or look for one that floods",
        );
        note(
            "HP-SN-603",
            self.limited.saturating_sub(before.limited),
            "messages came faster than a source may send",
            "look for the loudest sender and lower its log level",
        );
        note(
            "HP-SN-604",
            self.refused.saturating_sub(before.refused),
            "connections were refused: too many at once",
            "look for a sender that connects again and again",
        );
        out
    }
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    bytes: usize,
    counts: Counts,
}

/// The queue; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    state: Arc<Mutex<State>>,
    filled: Arc<Notify>,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and a list: whole after a panic elsewhere, too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in; the oldest give way to it.
    pub fn push(&self, record: Record) {
        let mut state = self.state();
        state.counts.received += 1;
        state.counts.faulty += u64::from(record.fault.is_some());
        state.bytes += text_bytes(&record);
        state.records.push_back(record);
        while state.records.len() > RECORDS_MAX || state.bytes > BYTES_MAX {
            let Some(oldest) = state.records.pop_front() else { break };
            state.bytes -= text_bytes(&oldest);
            state.counts.dropped += 1;
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The oldest record, if there is one.
    #[must_use]
    pub fn try_pop(&self) -> Option<Record> {
        let mut state = self.state();
        let record = state.records.pop_front()?;
        state.bytes -= text_bytes(&record);
        Some(record)
    }

    /// Waits for a record. May be cancelled; nothing is lost then. One reader.
    pub async fn pop(&self) -> Record {
        loop {
            if let Some(record) = self.try_pop() {
                return record;
            }
            self.filled.notified().await;
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
    }
}

/// What a record's texts take.
fn text_bytes(record: &Record) -> usize {
    let fields = [&record.timestamp, &record.host, &record.app, &record.procid, &record.msgid];
    let fields: usize = fields.into_iter().flatten().map(String::len).sum();
    let structured = record.structured.iter().map(|element| {
        let params: usize =
            element.params.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
        48 + element.id.len() + params
    });
    size_of::<Record>() + fields + record.message.len() + structured.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Transport, parse},
        *,
    };

    fn record(text: &str) -> Record {
        parse(text.as_bytes(), [192, 0, 2, 9].into(), 5, Transport::Udp)
    }

    #[test]
    fn the_oldest_give_way() {
        let queue = Queue::new();
        for n in 0..RECORDS_MAX + 10 {
            queue.push(record(&format!("<13>{n}")));
        }
        assert_eq!(queue.counts().dropped, 10);
        assert_eq!(queue.try_pop().unwrap().message, "10");
        let trouble = queue.counts().trouble(&Counts::default());
        assert_eq!(trouble.len(), 1);
        assert_eq!(trouble[0].code, "HP-SN-602");
        assert!(queue.counts().trouble(&queue.counts()).is_empty());
    }

    #[test]
    fn bytes_are_bounded_and_come_back_to_nothing() {
        let queue = Queue::new();
        let long = format!("<13>{}", "x".repeat(8000));
        for _ in 0..RECORDS_MAX {
            queue.push(record(&long));
        }
        assert!(queue.state().bytes <= BYTES_MAX);
        assert!(queue.counts().dropped > 0);
        while queue.try_pop().is_some() {}
        assert_eq!(queue.state().bytes, 0);
    }
}
