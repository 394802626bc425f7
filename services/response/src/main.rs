//! `hookprobe-response serve`: see the library.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hookprobe_response::{serve, sources::RESOLVERS_FILE};

/// Answers alerts of the ledger by blocking their source for a while.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve {
        /// Socket of the ledger.
        #[arg(long, value_name = "PATH", default_value = hookprobe_wire::LEDGER_SOCKET)]
        ledger: PathBuf,
        /// Site configuration.
        #[arg(long, value_name = "PATH", default_value = hookprobe_wire::SITE_FILE)]
        site: PathBuf,
        /// Resolvers to protect besides those of the site configuration, one address a line.
        #[arg(long, value_name = "PATH", default_value = RESOLVERS_FILE)]
        resolvers: PathBuf,
        /// Directory of the sensor's pinned maps.
        #[arg(long, value_name = "PATH", default_value = hookprobe_abi::PIN_DIR)]
        pin_dir: PathBuf,
        /// Socket to make when PID 1 handed none over.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Command::Serve { ledger, site, resolvers, pin_dir, socket } = Arguments::parse().command;
    hookprobe_daemon::log::init();
    match serve::run(serve::Options { ledger, site, resolvers, pin_dir, socket }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
