//! `hookprobe-ledger`: serve, verify, bench.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hookprobe_ledger::{bench, log, offline, serve};

/// Signed event blocks of this box.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM.
    Serve {
        /// State directory.
        #[arg(long, default_value = "/var/lib/hookprobe/ledger")]
        dir: PathBuf,
        /// File of the signing key's seed; made when missing.
        #[arg(long, default_value = "/run/hookprobe/keys/ledger.seed")]
        key: PathBuf,
        /// Where to listen when PID 1 passed no socket.
        #[arg(long, default_value = hookprobe_wire::LEDGER_SOCKET)]
        socket: PathBuf,
        /// Let this uid append anything (tests and benchmarks only; may be repeated).
        #[arg(long, value_name = "UID")]
        allow_uid: Vec<u32>,
    },
    /// Verify the ledger in a directory that no service uses; nothing is changed.
    Verify {
        /// State directory.
        dir: PathBuf,
    },
    /// Measure appends beside plain write+fdatasync on the same disk.
    Bench {
        /// Directory on the disk to measure; a sub-directory is made and removed.
        #[arg(long)]
        dir: PathBuf,
        /// Seconds for the whole run.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve { dir, key, socket, allow_uid } => {
            log::init();
            let options = serve::Options { dir, key, socket, allow_uids: allow_uid };
            match serve::serve(&options) {
                Ok(()) => Ok(()),
                Err(error) => {
                    tracing::error!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        Command::Verify { dir } => {
            offline::verify(&dir).map(|text| print!("{text}")).map_err(|error| error.to_string())
        }
        Command::Bench { dir, seconds } => bench::run(&dir, seconds)
            .map(|text| print!("{text}"))
            .map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
