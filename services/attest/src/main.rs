//! `hookprobe-attest serve` and `hookprobe-attest unlock`: see the library.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use hookprobe_attest::{
    host, open,
    serve::{self, Options},
    store, unlock,
};
use hookprobe_evidence::signed::{ENVELOPE_PATH, RELEASE_KEY_PATH};
use hookprobe_wire::{INIT_SOCKET, LEDGER_SOCKET, attest::PORT_LINK, unlock::FRESH_RECOVERY_FILE};

/// Owns the TPM: identity, the ledger's seed, quotes; opens the state volume.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(Box<Serve>),
    /// Open the state volume, say what became of it, and end. Run by PID 1 before any service.
    Unlock,
}

/// Paths for tests and for people; on a box none is given.
#[derive(Debug, Args)]
struct Serve {
    /// The TPM, as tpm2-tools name it: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`.
    #[arg(long, value_name = "TCTI", default_value = open::DEVICE)]
    tcti: String,
    /// Directory of the identity file.
    #[arg(long, value_name = "PATH", default_value = store::DIRECTORY)]
    directory: PathBuf,
    /// The release's public key.
    #[arg(long, value_name = "PATH", default_value = RELEASE_KEY_PATH)]
    release: PathBuf,
    /// The signed reference manifest.
    #[arg(long, value_name = "PATH", default_value = ENVELOPE_PATH)]
    envelope: PathBuf,
    /// Event log of the firmware.
    #[arg(long, value_name = "PATH", default_value = host::FIRMWARE_LOG)]
    firmware_log: PathBuf,
    /// Event log of PID 1.
    #[arg(long, value_name = "PATH", default_value = host::USERSPACE_LOG)]
    log: PathBuf,
    /// Where the unlock helper leaves a fresh recovery key.
    #[arg(long, value_name = "PATH", default_value = FRESH_RECOVERY_FILE)]
    recovery: PathBuf,
    /// Where the seed of a boot without one from the TPM is kept.
    #[arg(long, value_name = "PATH", default_value = host::BOOT_SEED)]
    boot_seed: PathBuf,
    /// Socket of the ledger.
    #[arg(long, value_name = "PATH", default_value = LEDGER_SOCKET)]
    ledger: PathBuf,
    /// Socket of PID 1.
    #[arg(long, value_name = "PATH", default_value = INIT_SOCKET)]
    init: PathBuf,
    /// Port of the hypervisor.
    #[arg(long, value_name = "PATH", default_value = PORT_LINK)]
    port: PathBuf,
    /// Socket to make when PID 1 handed none over.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl From<Serve> for Options {
    fn from(serve: Serve) -> Self {
        let Serve {
            tcti,
            directory,
            release,
            envelope,
            firmware_log,
            log,
            recovery,
            boot_seed,
            ledger,
            init,
            port,
            socket,
        } = serve;
        Self {
            tcti,
            directory,
            release,
            envelope,
            firmware_log,
            log,
            recovery,
            boot_seed,
            ledger,
            init,
            port,
            socket,
        }
    }
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    hookprobe_daemon::log::init();
    match command {
        Command::Serve(options) => match serve::run(Options::from(*options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        },
        Command::Unlock => unlock::run(),
    }
}
