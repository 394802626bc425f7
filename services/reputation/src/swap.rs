//! A value that is replaced at once while others read it.
//!
//! A reader keeps its own `Arc` and looks at one counter before each use; it takes the lock only
//! after the counter moved, and the lock is held for the copy of a pointer. The old value ends with
//! its last reader, so that a swap never makes a packet wait for 19 MB to be freed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The writer's end.
#[derive(Debug)]
pub struct Shared<T> {
    generation: AtomicU64,
    current: Mutex<Arc<T>>,
}

impl<T> Shared<T> {
    /// With its first value.
    #[must_use]
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self { generation: AtomicU64::new(0), current: Mutex::new(Arc::new(value)) })
    }

    /// Replaces the value; gives the old one, so that the caller chooses where it is freed.
    pub fn swap(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, value);
        // Under the lock: whoever sees the new number gets the new value.
        self.generation.fetch_add(1, Ordering::Release);
        old
    }

    /// The value of now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A reader.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Reader<T> {
        let generation = self.generation.load(Ordering::Acquire);
        Reader { shared: Arc::clone(self), generation, current: self.get() }
    }
}

/// A reader's end; one for each thread.
#[derive(Debug)]
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    generation: u64,
    current: Arc<T>,
}

impl<T> Reader<T> {
    /// The value of now; a load and a comparison while nothing changed.
    pub fn current(&mut self) -> &T {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.current = self.shared.get();
        }
        &self.current
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn readers_see_whole_values_in_order() {
        let shared = Shared::new(vec![0_u64; 64]);
        thread::scope(|scope| {
            for _ in 0..2 {
                let mut reader = shared.reader();
                scope.spawn(move || {
                    let mut last = 0;
                    while last < 500 {
                        let value = reader.current();
                        assert!(value.iter().all(|one| *one == value[0]), "torn");
                        assert!(value[0] >= last, "back in time");
                        last = value[0];
                    }
                });
            }
            for round in 1..=500 {
                drop(shared.swap(vec![round; 64]));
            }
        });
        assert_eq!(shared.get()[0], 500);
    }

    #[test]
    fn old_value_lives_until_its_reader_moves_on() {
        let shared = Shared::new(1);
        let mut reader = shared.reader();
        assert_eq!(*reader.current(), 1);
        let old = shared.swap(2);
        assert_eq!(Arc::strong_count(&old), 2);
        assert_eq!(*reader.current(), 2);
        assert_eq!(Arc::strong_count(&old), 1);
    }
}
