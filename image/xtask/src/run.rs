//! `cargo xtask run`: the appliance in this terminal, or headless until it is ready.

use std::{fs, time::Duration};

use crate::{
    error::{Result, at},
    shell,
    tree::{Image, Tree},
    vm::{self, Line, Options, Serial, Vm},
};

/// From power-on to ready takes 20 to 40 s when instructions are translated on two cores; a busy
/// machine may need several times that.
pub const READY_WAIT: Duration = Duration::from_secs(240);

/// What kind of machine is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Memory of the guest.
    pub memory_mib: u32,
    /// With a TPM.
    pub tpm: bool,
    /// From a fresh disk.
    pub fresh: bool,
}

fn options(name: &str, wish: Wish) -> Options {
    let mut options = Options::lab(name);
    options.memory_mib = wish.memory_mib;
    options.keep = !wish.fresh;
    if !wish.tpm {
        options.name.push_str("-no-tpm");
        options.tpm_banks = None;
    }
    options
}

/// Waits for the guest's ready line.
///
/// # Errors
/// [`crate::error::Error::Guest`].
pub fn wait_ready(vm: &mut Vm) -> Result<Line> {
    vm.wait("ready", READY_WAIT, |line| line.source == "init" && line.verb() == "ready")
}

/// Boots without a terminal and returns the ready line, completed with the size of the boot blob.
///
/// # Errors
/// [`crate::error::Error::Guest`] with the log's tail when the box does not become ready.
pub fn headless(tree: &Tree, image: &Image, wish: Wish) -> Result<String> {
    let mut options = options("headless", wish);
    options.keep = false;
    let mut vm = Vm::start(tree, image, &options)?;
    let line = wait_ready(&mut vm)?;
    let bytes = fs::metadata(image.uki()).map_err(at(image.uki()))?.len();
    let text = ready_line(&line, bytes);
    vm.power_off()?;
    Ok(text)
}

fn ready_line(line: &Line, blob_bytes: u64) -> String {
    let field = |key: &str| line.field(key).unwrap_or("n/a").to_owned();
    let mut out = String::from("ready");
    for key in ["version", "kernel_s", "ready_s", "services", "pcr13", "level"] {
        out.push_str(&format!(" {key}={}", field(key)));
    }
    out.push_str(&format!(
        " blob_mib={:.1} rss_mib={}",
        blob_bytes as f64 / 1_048_576.0,
        field("rss_mib")
    ));
    out
}

/// Gives the appliance's console in this terminal until QEMU ends.
///
/// # Errors
/// Any [`crate::error::Error`].
pub fn terminal(tree: &Tree, image: &Image, wish: Wish) -> Result<()> {
    let mut options = options("run", wish);
    options.serial = Serial::Terminal;
    let accel = vm::probe(tree)?;
    shell::step(&format!(
        "starting the appliance ({}; the console appears in {}).\n    \
         To leave: Ctrl-A, then X. The disk and TPM are kept below target/vm/run; --fresh forgets them.",
        accel.name(),
        if accel == vm::Accel::Kvm { "a few seconds" } else { "about half a minute" },
    ));
    Vm::start(tree, image, &options)?.join();
    Ok(())
}
