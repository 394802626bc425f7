//! The rules see what they are for: each on a small tree that breaks it.

use hookprobe_tidy::{Tree, codes, imports, layout, purity, style};

#[track_caller]
fn one(findings: &[String], expect: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(expect), "{findings:?}");
}

fn package(path: &str, name: &str, dependencies: &str) -> Tree {
    Tree::of(&[
        (&format!("{path}/Cargo.toml"), &format!("[package]\nname = \"{name}\"\n{dependencies}")),
        ("services/ledger/Cargo.toml", "[package]\nname = \"hookprobe-ledger\"\n"),
        ("services/ledger/src/main.rs", "fn main() {}"),
        ("services/daemon/Cargo.toml", "[package]\nname = \"hookprobe-daemon\"\n"),
    ])
}

#[test]
fn imports_that_point_the_wrong_way() {
    let check = |path: &str, name: &str, dependencies: &str, expect: &str| {
        one(&imports::check(&package(path, name, dependencies)), expect);
    };
    let wire = ("services/wire", "hookprobe-wire");
    check(wire.0, wire.1, "[dependencies]\ntokio = \"1\"\n", "is pure");
    let console = ("services/console", "hookprobe-console");
    check(
        console.0,
        console.1,
        "[dev-dependencies]\nhookprobe-ledger.workspace = true\n",
        "services never depend",
    );
    // Without a program it is a library of services.
    let library =
        package(console.0, console.1, "[dependencies]\nhookprobe-daemon.workspace = true\n");
    assert!(imports::check(&library).is_empty());
    check(console.0, console.1, "[dependencies]\nredb.workspace = true\n", "single writer");
    check(
        console.0,
        console.1,
        "[target.'cfg(unix)'.dependencies]\nx = { version = \"1\", package = \"aya\" }\n",
        "eBPF",
    );
    let init = ("init", "hookprobe-init");
    check(init.0, init.1, "[build-dependencies]\ntokio = \"1\"\n", "nothing async");
    check("ebpf/abi", "hookprobe-abi", "[dependencies]\naya = \"0.14\"\n", "optional");
    let source = Tree::of(&[("init/src/x.rs", "async fn x() {}")]);
    one(&imports::check(&source), "nothing async");
    let fine = package("services/response", "hookprobe-response", "[dependencies]\naya = \"1\"\n");
    assert!(imports::check(&fine).is_empty());
}

#[test]
fn cores_that_do_things() {
    let clock = "fn f() { let now = std::time::Instant::now(); }";
    let check = |path| purity::check(&Tree::of(&[(path, clock)]));
    one(&check("services/sensor/src/core/scan.rs"), "is given the time");
    one(&check("services/wire/src/frame.rs"), "Instant");
    one(&check("init/src/supervise/core.rs"), "core.rs:1");
    assert!(check("services/sensor/src/live.rs").is_empty());
    assert!(check("services/sensor/src/core/tests.rs").is_empty());
    let fine = "// Instant\nuse std::net::IpAddr;\n#[cfg(test)]\nmod tests { use std::fs; }\n";
    assert!(purity::check(&Tree::of(&[("services/wire/src/x.rs", fine)])).is_empty());
}

#[test]
fn style_that_is_not_ours() {
    let long = "\n".repeat(style::LINES_MAX + 1);
    one(&style::too_long(&Tree::of(&[("a.rs", &long)])), "split");
    one(&style::not_ascii(&Tree::of(&[("a.rs", "\n// \u{202e}")])), "a.rs:2: \\u{202e}");
    let unfinished = Tree::of(&[("a.rs", "fn a() { todo!() } // todo! is fine here")]);
    one(&style::unfinished(&unfinished), "finish it");
    let ignored = Tree::of(&[("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}")]);
    one(&style::unfinished(&ignored), "a.rs:2");
    let found = style::unsafe_files(&Tree::of(&[("services/x.rs", "unsafe { f() }")]));
    assert!(found[0].contains("not in the list"), "{found:?}");
    assert_eq!(found.len(), 1 + style::UNSAFE.len(), "the list is stale here");
    let why = "[workspace.dependencies]\na = \"1\" # because\n# because\nb = \"1\"\nc = \"1\"\n";
    one(&style::unexplained_dependencies(&Tree::of(&[("Cargo.toml", why)])), "c = \"1\"");
}

#[test]
fn folders_that_nobody_finds() {
    let mut tree = Tree::of(&[("README.md", "init/ PID 1")]);
    tree.top_folders = vec!["init".into(), "attic".into()];
    one(&layout::unmapped_folders(&tree).unwrap(), "attic/");
    assert!(layout::unmapped_folders(&Tree::default()).is_none());
}

#[test]
fn codes_with_two_meanings() {
    let tree = |one: &str, two: &str| {
        Tree::of(&[
            ("a/Cargo.toml", ""),
            ("b/Cargo.toml", ""),
            ("a/src/x.rs", one),
            ("b/src/y.rs", two),
        ])
    };
    let check = |tree: &Tree| codes::check(tree, &codes::list(tree));
    let defined = "#[error(\"HP-AA-001 x: broken\")]";
    let twice = tree(defined, "\"HP-AA-001 y: other\"");
    one(&check(&twice), "one code, one meaning");
    let named = tree(defined, "if code == \"HP-AA-001\" {}");
    assert!(check(&named).is_empty());
    assert_eq!(codes::list(&named), "code\tcrate\nHP-AA-001\ta\n");
    one(&check(&tree("\"HP-AA-002\"", "\"HP-AA-002\"")), "one owner");
    one(&codes::check(&named, "code\tcrate\n"), "lacks");
    one(&codes::check(&tree("", ""), "code\tcrate\nHP-AA-009\ta\n"), "is gone");
    // Who compares does not define.
    let tests = ["b/src/y_tests.rs", "b/src/tests.rs", "tests/b/src/y.rs", "b/tests/y.rs"];
    for path in tests.into_iter().chain(["image/xtask/src/attack/y.rs"]) {
        let files = [("a/Cargo.toml", ""), ("a/src/x.rs", defined)];
        let compared = Tree::of(&[files[0], files[1], (path, "\"HP-AA-001 y: other\"")]);
        assert!(check(&compared).is_empty(), "{path}");
    }
}
