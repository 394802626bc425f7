//! Running other programs: what is run is shown on failure with the end of its output.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::error::{Error, Result};

/// Lines of output kept in an error.
const TAIL_LINES: usize = 25;

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

fn line(command: &Command) -> String {
    let mut out = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        out.push(' ');
        out.push_str(&argument.to_string_lossy());
    }
    out
}

/// Runs a program and returns what it printed to standard output.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Command`].
pub fn output(command: &mut Command) -> Result<String> {
    let program = line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Spawn { program: program.clone(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let both = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Command {
        command: program,
        status: output.status.to_string(),
        tail: tail(&both, TAIL_LINES),
    })
}

/// Runs a program whose output people want to see as it comes.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Command`].
pub fn show(command: &mut Command) -> Result<()> {
    let program = line(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Error::Spawn { program: program.clone(), source })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command { command: program, status: status.to_string(), tail: String::new() })
}

/// A step that takes a while: says so before it starts.
pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Whether a program is on the search path.
#[must_use]
pub fn have(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
