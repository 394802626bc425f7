//! The rules hold for this tree.

#![expect(clippy::expect_used, reason = "without the tree there is nothing to test")]

use std::{env, fs, path::Path};

use hookprobe_tidy::{Tree, codes, imports, layout, purity, style};

fn tree() -> Tree {
    Tree::load().expect("the tree is readable")
}

#[track_caller]
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn dependencies_point_the_right_way() {
    none(imports::check(&tree()));
}

#[test]
fn cores_are_pure() {
    none(purity::check(&tree()));
}

#[test]
fn sources_are_short() {
    none(style::too_long(&tree()));
}

#[test]
fn sources_are_ascii() {
    none(style::not_ascii(&tree()));
}

#[test]
fn nothing_is_unfinished() {
    none(style::unfinished(&tree()));
}

#[test]
fn unsafe_is_where_it_is_said_to_be() {
    none(style::unsafe_files(&tree()));
}

#[test]
fn every_dependency_says_why() {
    none(style::unexplained_dependencies(&tree()));
}

#[test]
fn readme_maps_the_tree() {
    match layout::unmapped_folders(&tree()) {
        Some(findings) => none(findings),
        None => println!("skipped: there is no README.md yet"),
    }
}

#[test]
fn a_code_has_one_meaning_and_is_listed() {
    let tree = tree();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("codes.tsv");
    if env::var_os("TIDY_BLESS").is_some() {
        fs::write(&path, codes::list(&tree)).expect("the list is writable");
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    none(codes::check(&tree, &listed));
}

#[test]
fn the_loader_sees_the_tree() {
    let tree = tree();
    assert!(tree.file("tests/tidy/src/lib.rs").is_some());
    assert!(tree.file("Cargo.toml").is_some());
    assert!(tree.top_folders.iter().any(|folder| folder == "init"));
    assert!(!tree.top_folders.iter().any(|folder| folder == "target"));
}
