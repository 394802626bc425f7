//! What the tests against other people's tools need: the tools, and the logs of a booted box.

use std::{fs, process::Command};

use hookprobe_evidence::{
    bundle::{Evidence, Logs},
    digest::HashAlg,
    log, tcg,
};

use crate::{
    error::{Error, Result, at},
    run, shell,
    tree::{Image, Tree},
    vm::{Options, Port, Vm},
};

/// Fetched last by the script: when it is there, all are.
const LAST_TOOL: &str = "interop/efivar/root";

/// Fetches the tools where they are missing and takes the logs of a box that boots now.
///
/// # Errors
/// The guest's, and that tools can't be fetched: a test that is skipped shows nothing. With `install`
/// off that is said, and the tests of what is missing say it again.
pub(super) fn prepare(tree: &Tree, image: &Image, install: bool) -> Result<()> {
    if !tree.target(LAST_TOOL).exists() {
        shell::step("fetching systemd and Keylime for interoperation (once)");
        let script = tree.source("tests/interop/fetch-tools.sh");
        match shell::output(Command::new("sh").arg(script)) {
            Err(error) if install => return Err(error),
            Err(error) => println!("note: {error}\nnote: their tests will be skipped"),
            Ok(_) => {}
        }
    }
    shell::step("taking evidence and logs of a booted box");
    let mut vm = Vm::start(tree, image, &Options::lab("evidence"))?;
    run::wait_ready(&mut vm)?;
    let bytes = Port::plug(&vm)?.evidence(b"interoperation tests", true)?;
    vm.power_off()?;
    let evidence = Evidence::parse(&bytes).map_err(|error| Error::Check(error.to_string()))?;
    let logs = evidence.logs.ok_or_else(|| Error::Check("evidence without logs".into()))?;
    let firmware = firmware(&logs)?;
    let folder = tree.target("interop");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    for (name, bytes) in [
        ("evidence.cbor", bytes.as_slice()),
        ("measure.log", logs.userspace.as_slice()),
        ("bios.bin", firmware),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(at(&path))?;
    }
    Ok(())
}

/// The merged log without the events that were put behind the firmware's.
fn firmware(logs: &Logs) -> Result<&[u8]> {
    let ours = log::parse(&logs.userspace).map_err(|error| Error::Check(error.to_string()))?;
    let banks: Vec<HashAlg> = ours
        .first()
        .map(|event| event.digests.iter().map(|digest| digest.alg()).collect())
        .unwrap_or_default();
    let header = tcg::merge(&[], &[], &banks).len();
    let added = tcg::merge(&[], &ours, &banks).len() - header;
    let length = logs.tcg.len().checked_sub(added);
    length
        .and_then(|length| logs.tcg.get(..length))
        .ok_or_else(|| Error::Check("the merged log is shorter than PID 1's events".into()))
}
