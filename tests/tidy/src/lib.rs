//! Rules about the tree that no compiler checks, each with its reason.
//!
//! A rule is a pure function from the [`Tree`] to a list of findings, one line each, that name the
//! file, the line and the reason; the tests in `tests/` demand that the list is empty and, on
//! small made-up trees, that it is not. Only [`Tree::load`] touches files. A rule that is wrong
//! for a case gets an entry with a reason in the rule's own table, never a silent exception.

#![forbid(unsafe_code)]

pub mod codes;
pub mod imports;
pub mod layout;
pub mod lexer;
pub mod purity;
pub mod style;

mod tree;

pub use tree::{File, Tree};
