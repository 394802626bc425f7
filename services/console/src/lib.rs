//! The local console: eight screens on a serial line or a virtual terminal, and four about what was
//! measured.
//!
//! A client like any other: it connects to the services' sockets as an unprivileged user, shows
//! what they say and can ask for five things: the drill, short evidence, the recovery key, and of PID 1
//! that rules are read again and that whole evidence is carried out on a USB stick. It must never query
//! the terminal (a serial line answers nothing), never write the last cell of the last row, never let text from outside
//! reach the screen unescaped, and never say that the box is trusted: it says what was measured
//! and by whom it was checked.
//!
//! ```text
//! sources  Unix sockets -> Event \
//! tty      bytes -> key -> Event  -> model (pure) -> views (pure) -> painter (pure) -> bytes
//! clock    Tick -> Event         /
//! ```
//!
//! Everything but [`sources`], [`signals`] and [`tty`] is pure. `main.rs` is the one loop. [`courier`] is
//! another process: `hookprobe-console carry`, started by PID 1.

pub mod attest;
pub mod clean;
pub mod code;
pub mod command;
pub mod courier;
pub mod detail;
pub mod errand;
pub mod format;
pub mod history;
pub mod key;
pub mod look;
pub mod model;
pub mod painter;
pub mod proof;
pub mod recovery;
pub mod signals;
pub mod sources;
pub mod table;
pub mod tty;
pub mod ui;
pub mod views;

pub use model::{Effect, Event, Model, Now, Source};
