//! Builds, composes, runs, attacks and measures the image.
//!
//! A library as well as a program, because `tests/boot` drives the same virtual machines. Nothing
//! here is part of the appliance; what both sides must agree on (measurements, messages) comes from
//! `evidence`. Every program that is started has a bounded life and is ended by its own handle.

#![forbid(unsafe_code)]

pub mod attack;
pub mod base;
pub mod bench;
pub mod compose;
pub mod conformance;
pub mod doctor;
pub mod drill;
pub mod error;
pub mod picture;
pub mod programs;
pub mod run;
pub mod shell;
pub mod suite;
pub mod tree;
pub mod vm;
