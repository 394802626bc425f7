//! Boots the real image in QEMU and looks.
//!
//! Only what needs the whole box is tested here; the tests themselves are in `tests/`. They need an
//! image and are skipped, saying so, unless `cargo xtask test` built one and named its folder in
//! HOOKPROBE_IMAGE. Two machines run at a time: translated, each keeps one processor busy.

#![forbid(unsafe_code)]
