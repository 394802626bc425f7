//! Panics of the storage engine, made harmless.
//!
//! redb promises errors, but a file that was altered under it can still trip an assertion. Where
//! panics unwind (tests, debug builds) such a panic becomes [`StoreError::Damaged`]; where they
//! abort (releases) the panic hook leaves a note in the state directory first, and the next start
//! sets the database aside instead of running into the same wall again. A `kill -9` leaves no
//! note, so it never costs a database.

use std::{
    cell::Cell,
    fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::Once,
};

use super::StoreError;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Installs the hook that writes `note` when a panic happens inside the storage engine. Once per
/// process; the first path counts.
pub fn install(note: PathBuf) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                // Best effort: there is nobody left to tell.
                let _ = fs::write(&note, format!("{info}\n"));
            }
            before(info);
        }));
    });
}

/// Runs work on the storage engine.
///
/// # Errors
/// Those of `work`; a panic is [`StoreError::Damaged`].
pub fn run<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let outer = INSIDE.replace(true);
    // The database is dropped or reopened after an error, so a half-changed value is not used.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer);
    result.unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("no text");
        Err(StoreError::Damaged(format!("the storage engine panicked: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_damage_and_leaves_a_note_and_one_outside_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("suspect");
        install(note.clone());
        assert!(panic::catch_unwind(|| panic!("outside")).is_err());
        assert!(!note.exists());
        let result: Result<(), _> = run(|| panic!("page 7 is odd"));
        let Err(StoreError::Damaged(why)) = result else { panic!("{result:?}") };
        assert!(why.contains("page 7 is odd"));
        assert!(note.exists());
        assert_eq!(run(|| Ok(3)), Ok(3));
    }
}
