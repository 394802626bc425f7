//! `cargo xtask test` and `lint`: what a newcomer runs, and what CI runs.

mod interop;

use std::process::Command;

use crate::{
    compose, doctor,
    error::Result,
    shell,
    tree::{Image, Tree},
    vm,
};

/// Version of cargo-deny that is installed below `target/tools`.
const CARGO_DENY: &str = "0.20.2";
/// Tests that need other people's tools and the logs of a booted box.
const INTEROP: &str = "hookprobe-interop";
/// Test programs that boot the image.
const BOOT_TESTS: [&str; 4] = ["attacks", "boot", "contents", "faults"];
/// Seconds of fuzzing per call of the test command, over all targets together.
const FUZZ_SECONDS: &str = "60";
/// Where tests with random input take its beginning from: our own, proptest's.
const SEEDS: [&str; 2] = ["HP_SEED", "PROPTEST_RNG_SEED"];

fn cargo(tree: &Tree) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(tree.source(""));
    command
}

/// Runs every test, and the lints with them where that is wanted.
///
/// # Errors
/// What cargo says.
pub fn test(tree: &Tree, install: bool, with_lint: bool, package: Option<&str>) -> Result<()> {
    let image = compose::image(tree, install)?;
    // Asked once, before two machines at a time want to know.
    vm::probe(tree)?;
    match package {
        Some(package) => {
            if package == INTEROP {
                interop::prepare(tree, &image, install)?;
            }
            let tests = &mut tests(tree);
            shell::show(tests.args(["--package", package]).env("HOOKPROBE_IMAGE", &image.dir))?;
        }
        None => everything(tree, &image, install, with_lint)?,
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not root: tests of sandbox, namespaces and eBPF were skipped");
    }
    println!("tests passed");
    Ok(())
}

fn tests(tree: &Tree) -> Command {
    let mut tests = cargo(tree);
    tests.args(["test", "--locked"]);
    // The same inputs each time, so that what failed fails again; campaigns draw others.
    for name in SEEDS {
        if std::env::var_os(name).is_none() {
            tests.env(name, "1");
        }
    }
    tests
}

/// The machines take most of the time and leave processors idle, so everything else is compiled and
/// run beside them, and gives way to them.
fn everything(tree: &Tree, image: &Image, install: bool, with_lint: bool) -> Result<()> {
    let log = tree.target("boot-tests.log");
    shell::step(&format!("booting the image, in {} until it is shown below", log.display()));
    // The same packages each time: another choice has other features and compiles anew.
    let all = ["--workspace", "--exclude", INTEROP];
    let mut booting = tests(tree);
    booting.args(all).env("HOOKPROBE_IMAGE", &image.dir);
    for program in BOOT_TESTS {
        booting.args(["--test", program]);
    }
    // Compiled first, here, so that an error is seen.
    let mut compiling = tests(tree);
    compiling.args(all).arg("--no-run");
    for program in BOOT_TESTS {
        compiling.args(["--test", program]);
    }
    shell::show(&mut compiling)?;
    let booted = shell::Beside::start(&mut booting, &log)?;
    shell::step(
        "running tests (unit, integration, fuzzing); those that boot say that they are skipped",
    );
    // A failure here is said before the machines are waited for: dropping ends them.
    let rest = &mut tests(tree);
    shell::show(&mut shell::nice(rest.args(all).env("HOOKPROBE_FUZZ_SECONDS", FUZZ_SECONDS)))?;
    if with_lint {
        lint(tree, install)?;
    }
    shell::step("waiting for the machines");
    booted.finish()?;
    interop::prepare(tree, image, install)?;
    shell::step("other people's tools read our logs and quotes");
    shell::show(cargo(tree).args(["test", "--locked", "--package", INTEROP]))
}

/// Format, clippy, licences.
///
/// # Errors
/// What the tools say.
pub fn lint(tree: &Tree, install: bool) -> Result<()> {
    doctor::ensure(install)?;
    shell::step("fmt");
    shell::show(cargo(tree).args(["fmt", "--all", "--check"]))?;
    shell::step("clippy");
    // Machines of tests may run beside it.
    let clippy = &mut cargo(tree);
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--"]);
    shell::show(&mut shell::nice(clippy.args(["-D", "warnings"])))?;
    let deny = doctor::cargo_tool(tree, "cargo-deny", CARGO_DENY, &[])?;
    shell::step("cargo-deny (licences, bans, sources)");
    shell::show(Command::new(deny).current_dir(tree.source("")).args([
        "--log-level",
        "warn",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))?;
    println!("lints passed");
    Ok(())
}
