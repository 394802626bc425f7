//! `hookprobe-ledger`: serve, verify, bench.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hookprobe_ledger::{attest::KeySource, bench, offline, serve};
use hookprobe_wire::Seq;

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
        /// Socket of attest, which gives the signing key; without it a key of this boot signs.
        #[arg(long, default_value = hookprobe_wire::ATTEST_SOCKET)]
        attest: PathBuf,
        /// Take the signing key's seed from this file, made when missing (tests and benchmarks only).
        #[arg(long, value_name = "FILE", conflicts_with = "attest")]
        key: Option<PathBuf>,
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
    /// Verify as above and write the blocks to one file that can be verified elsewhere.
    Export {
        /// State directory.
        dir: PathBuf,
        /// File to make; an existing one is not overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// First block to write.
        #[arg(long, value_name = "BLOCK", default_value_t = 0)]
        from: u64,
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
        Command::Serve { dir, attest, key, socket, allow_uid } => {
            hookprobe_daemon::log::init();
            let key = key.map_or(KeySource::Attest(attest), KeySource::File);
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
        Command::Export { dir, out, from } => offline::export(&dir, &out, Seq(from))
            .map(|text| print!("{text}"))
            .map_err(|error| error.to_string()),
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
