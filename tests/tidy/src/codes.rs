//! Error codes: one code, one meaning.
//!
//! An operator finds a code in a log or on a screen and looks it up; a code with two meanings sends
//! him the wrong way. `codes.tsv` lists every code with the crate that owns it, so that a new or
//! moved code shows in review. A text that begins with a code defines it; a bare code names it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{File, Tree};

/// Where the list stands.
pub const LIST: &str = "tests/tidy/codes.tsv";
/// What it starts with.
const HEADER: &str = "code\tcrate\n";

/// `HP-`, two capital letters, `-`, three digits.
const CODE_BYTES: usize = 9;

/// Codes in a text, with the text from the code on.
fn codes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("HP-").filter_map(|(at, _)| {
        let rest = &text[at..];
        let code = rest.get(..CODE_BYTES)?;
        let (letters, digits) = code.get(3..)?.split_once('-')?;
        let right = letters.len() == 2
            && letters.bytes().all(|byte| byte.is_ascii_uppercase())
            && digits.len() == 3
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        right.then_some((code, rest))
    })
}

/// Folder of the crate that a file is in.
fn crate_of(tree: &Tree, path: &str) -> String {
    let mut folder = path;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        if tree.file(&format!("{parent}/Cargo.toml")).is_some() {
            return parent.into();
        }
        folder = parent;
    }
    String::new()
}

/// Sources whose strings an operator may see.
fn speaking(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.rust().filter(|file| !file.is_test())
}

#[derive(Default)]
struct Uses {
    /// Crates with a text that begins with the code.
    defining: BTreeSet<String>,
    /// Crates that name it.
    naming: BTreeSet<String>,
    /// Files with a text that begins with the code.
    files: BTreeSet<String>,
}

fn uses(tree: &Tree) -> BTreeMap<String, Uses> {
    let mut out: BTreeMap<String, Uses> = BTreeMap::new();
    for file in speaking(tree) {
        let owner = crate_of(tree, &file.path);
        let lexed = file.lexed();
        for (_, text) in lexed.strings_without_tests() {
            for (code, rest) in codes(text) {
                let uses = out.entry(code.into()).or_default();
                uses.naming.insert(owner.clone());
                if rest.len() > CODE_BYTES && text.starts_with(code) {
                    uses.defining.insert(owner.clone());
                    uses.files.insert(file.path.clone());
                }
            }
        }
    }
    out
}

/// The list as it should be: a code belongs to the crate that defines it, else to the one that
/// names it. Several, joined by `,`, are refused by [`check`].
#[must_use]
pub fn list(tree: &Tree) -> String {
    let mut out = String::from(HEADER);
    for (code, uses) in uses(tree) {
        let owners = if uses.defining.is_empty() { uses.naming } else { uses.defining };
        let owners: Vec<String> = owners.into_iter().collect();
        out.push_str(&format!("{code}\t{}\n", owners.join(",")));
    }
    out
}

/// All findings: codes with two owners or with texts in two files, and differences between the
/// sources and `listed`.
#[must_use]
pub fn check(tree: &Tree, listed: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (code, uses) in uses(tree) {
        if uses.files.len() > 1 {
            let files: Vec<_> = uses.files.into_iter().collect();
            out.push(format!(
                "{code}: has texts in {}; one code, one meaning",
                files.join(" and ")
            ));
        } else if uses.defining.is_empty() && uses.naming.len() > 1 {
            let crates: Vec<_> = uses.naming.into_iter().collect();
            out.push(format!("{code}: used by {}; one code, one owner", crates.join(" and ")));
        }
    }
    let expected = list(tree);
    let (expected, listed): (BTreeSet<_>, BTreeSet<_>) =
        (expected.lines().collect(), listed.lines().collect());
    for line in expected.difference(&listed) {
        out.push(format!("{LIST}: lacks {line:?}; TIDY_BLESS=1 writes the list anew"));
    }
    for line in listed.difference(&expected) {
        out.push(format!("{LIST}: {line:?} is gone; TIDY_BLESS=1 writes the list anew"));
    }
    out
}
