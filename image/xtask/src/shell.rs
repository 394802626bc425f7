//! Running other programs: what is run is shown on failure with the end of its output.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::error::{Error, Result, at};

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

/// The same program, giving way to others.
pub fn nice(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "10"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice
}

/// A program that runs beside this one, its output in a file. Dropping ends it.
#[derive(Debug)]
pub struct Beside {
    program: String,
    log: PathBuf,
    child: Child,
}

impl Beside {
    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Spawn`], [`Error::Io`].
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let program = line(command);
        let out = File::create(log).map_err(at(log))?;
        let err = out.try_clone().map_err(at(log))?;
        // A group of its own, so that all that it starts ends with it.
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.clone(), source })?;
        Ok(Self { program, log: log.into(), child })
    }

    /// Waits for its end and shows what it said.
    ///
    /// # Errors
    /// [`Error::Command`] when it failed, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait().map_err(at(&self.log))?;
        let said = fs::read_to_string(&self.log).map_err(at(&self.log))?;
        print!("{said}");
        if status.success() {
            return Ok(());
        }
        Err(Error::Command {
            command: self.program.clone(),
            status: status.to_string(),
            tail: tail(&said, TAIL_LINES),
        })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
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
