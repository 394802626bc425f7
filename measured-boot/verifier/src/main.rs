//! `hookprobe-verify`: parses the command line, verifies, prints, ends with the verdict's code.

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};
use hookprobe_verifier::{app, cli::Cli, report::Exit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when printing fails too.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { Exit::Usage as u8 });
        }
    };
    ExitCode::from(app::run(&cli, &mut std::io::stdout(), &mut std::io::stderr()) as u8)
}
