//! `cargo xtask bench`: how far the box is from what limits it. Ratios within one run count;
//! absolute times on a shared machine mean little.

mod count;
mod detect;
mod engine;
mod mix;
mod rules;
mod stop;
mod trust;

pub(crate) use detect::suricata;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    compose,
    error::{Error, Result, at},
    programs, run, shell,
    tree::{Image, Tree},
    vm::{self, Options, Vm},
};

/// The kernel alone is up in seconds even when translated.
const FLOOR_WAIT: Duration = Duration::from_secs(90);

/// Minimum, median, maximum.
#[derive(Debug, Clone, Copy)]
struct Spread(f64, f64, f64);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self(at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
    }
}

fn row(what: &str, unit: &str, spread: Spread, note: &str) {
    println!("{what:34} {:>10.2} {:>10.2} {:>10.2} {unit:8} {note}", spread.0, spread.1, spread.2);
}

/// Prints the table.
///
/// # Errors
/// Any [`Error`].
pub fn bench(tree: &Tree, image: &Image, runs: u32) -> Result<()> {
    println!("{:34} {:>10} {:>10} {:>10} {:8} note", "what", "min", "median", "max", "unit");
    boots(tree, image, runs)?;
    let bytes = fs::metadata(image.uki()).map_err(at(image.uki()))?.len() as f64 / 1_048_576.0;
    row(
        "boot blob",
        "MiB",
        Spread(bytes, bytes, bytes),
        &format!("aim 32, ratio {:.2}", bytes / 32.0),
    );
    trust::trust(tree, image)?;
    stop::stop(tree, image)?;
    let binary = |name: &str| programs::folder(tree).join(name);
    println!("\nXDP, ns per packet by BPF_PROG_TEST_RUN on this host's kernel");
    shell::show(
        Command::new(binary("hookprobe-sensor"))
            .args(["bench-xdp", "--object"])
            .arg(programs::object_path(tree)),
    )?;
    detect::detect(tree)?;
    println!("\nledger, beside a plain 512-byte write and fdatasync on the same disk");
    let dir = tree.target("bench/ledger");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    shell::show(Command::new(binary("hookprobe-ledger")).args(["bench", "--dir"]).arg(&dir))
}

/// The detection part alone.
///
/// # Errors
/// Any [`Error`].
pub fn detect(tree: &Tree) -> Result<()> {
    detect::detect(tree)
}

/// The way from a decision to a dropped packet alone.
///
/// # Errors
/// Any [`Error`].
pub fn stop(tree: &Tree, image: &Image) -> Result<()> {
    println!("{:34} {:>10} {:>10} {:>10} {:8} note", "what", "min", "median", "max", "unit");
    stop::stop(tree, image)
}

fn boots(tree: &Tree, image: &Image, runs: u32) -> Result<()> {
    let (mut floor, mut ready, mut measure, mut rss, mut commands) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut small = Vec::new();
    for _ in 0..runs {
        floor.push(kernel_alone(tree)?);
        let mut vm = Vm::start(tree, image, &Options::lab("bench"))?;
        let line = run::wait_ready(&mut vm)?;
        let number = |key: &str| {
            line.field(key).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        ready.push(number("ready_s"));
        measure.push(number("measure_ms"));
        let attest = vm.log.all().iter().find(|line| line.verb() == "enrolled").cloned();
        let attest = attest.and_then(|line| line.number("commands")).unwrap_or(0);
        commands.push(number("tpm_commands") + f64::from(u32::try_from(attest).unwrap_or(0)));
        rss.push(number("rss_mib"));
        vm.power_off()?;
    }
    let mut vm = Vm::start(tree, image, &Options { memory_mib: 512, ..Options::lab("bench") })?;
    let line = run::wait_ready(&mut vm)?;
    small.push(line.field("available_mib").and_then(|text| text.parse().ok()).unwrap_or(f64::NAN));
    vm.power_off()?;
    let (floor, ready) = (Spread::of(floor), Spread::of(ready));
    row(
        "kernel start to power-off init",
        "s",
        floor,
        "the floor: same kernel, an init that does nothing",
    );
    row(
        "kernel start to ready",
        "s",
        ready,
        &format!("ratio to the floor {:.2}", ready.1 / floor.1),
    );
    row(
        "measure all services",
        "ms",
        Spread::of(measure),
        "hash, extend, log; aim 100 on a real machine",
    );
    row("TPM commands per boot", "", Spread::of(commands), "PID 1's and attest's, to its start");
    let rss = Spread::of(rss);
    row(
        "resident memory of all services",
        "MiB",
        rss,
        &format!("aim 96, ratio {:.2}", rss.1 / 96.0),
    );
    row("memory available with -m 512", "MiB", Spread::of(small), "when ready");
    Ok(())
}

/// Seconds from the kernel's start to a first init that powers off, by the guest's own clock.
fn kernel_alone(tree: &Tree) -> Result<f64> {
    let initrd = compose::poweroff_initrd(tree)?;
    let out = tree.target("vm/floor.txt");
    let mut child = Command::new("qemu-system-x86_64")
        .arg("-machine")
        .arg(format!("q35,accel={}", vm::probe(tree)?.name()))
        .args([
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1024",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1", "-kernel"])
        .arg(tree.image().kernel())
        .arg("-initrd")
        .arg(initrd)
        .arg("-serial")
        .arg(format!("file:{}", out.display()))
        .stdin(Stdio::null())
        .spawn()
        .map_err(|source| Error::Spawn { program: "qemu-system-x86_64".into(), source })?;
    let start = Instant::now();
    while child.try_wait().ok().flatten().is_none() {
        if start.elapsed() > FLOOR_WAIT {
            let _ = child.kill();
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.wait();
    let text = fs::read_to_string(&out).map_err(at(&out))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("poweroff: uptime_s=")?.parse().ok())
        .ok_or_else(|| {
            Error::Check(format!("the kernel alone did not start:\n{}", shell::tail(&text, 10)))
        })
}
