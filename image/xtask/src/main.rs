//! `cargo xtask`: parse first, act later.

#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use hookprobe_xtask::{
    attack, bench, compose, conformance, doctor, drill, error::Result, picture, programs, run,
    suite, tree::Tree,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests HookProbe OS")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone, Copy)]
struct Install {
    /// Refuse to install Debian packages; print what is missing instead.
    #[arg(long)]
    no_install: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Build the image and start it: the appliance's console in this terminal.
    Run {
        #[command(flatten)]
        install: Install,
        /// No terminal: boot, print one line, power off.
        #[arg(long)]
        headless: bool,
        /// With --headless: what to wait for.
        #[arg(long, default_value = "ready", value_parser = ["ready"])]
        until: String,
        /// Memory of the guest in MiB.
        #[arg(long, default_value_t = 1024)]
        memory: u32,
        /// No TPM.
        #[arg(long)]
        no_tpm: bool,
        /// Start from a fresh disk and TPM.
        #[arg(long)]
        fresh: bool,
    },
    /// Build the image only.
    Image {
        #[command(flatten)]
        install: Install,
        /// For others: refuse the development key (name a release key in HOOKPROBE_RELEASE_KEY).
        #[arg(long)]
        release: bool,
    },
    /// Build the eBPF object only.
    Ebpf(Install),
    /// Run every test: unit, integration, boot.
    Test {
        #[command(flatten)]
        install: Install,
        /// Only tests whose package has this name.
        #[arg(long)]
        package: Option<String>,
        /// The lints, too, while the machines that boot leave a processor idle.
        #[arg(long, conflicts_with = "package")]
        with_lint: bool,
    },
    /// Format, clippy with warnings denied, licences.
    Lint(Install),
    /// Attack the booted box and follow the incident from packet to block.
    Drill {
        #[command(flatten)]
        install: Install,
        /// Play this capture instead of the built-in scan.
        #[arg(long)]
        pcap: Option<PathBuf>,
    },
    /// Attack the box's trust: twenty attacks, one line each. Exit code 1 unless all are refused.
    Attack {
        #[command(flatten)]
        install: Install,
        /// Only these (1 to 20).
        numbers: Vec<u8>,
        /// Seed of attack 11, to make its mutants again [default: drawn, and printed].
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Measure the box against what limits it.
    Bench {
        #[command(flatten)]
        install: Install,
        /// Boots to take the median of.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// This part alone.
        #[arg(long, value_parser = ["detect", "stop"])]
        only: Option<String>,
    },
    /// Compare detection with what other engines assert, and write the rates to ARCHITECTURE.md.
    Conformance {
        /// One part alone: eve, the records beside Suricata's.
        #[arg(long)]
        only: Option<String>,
    },
    /// Take README's picture from the booted box.
    Picture(Install),
    /// Say what is missing on this machine, and for what.
    Doctor,
}

fn act(command: Command) -> Result<ExitCode> {
    let tree = Tree::find();
    match command {
        Command::Run { install, headless, until: _, memory, no_tpm, fresh } => {
            let image = compose::image(&tree, !install.no_install)?;
            let wish = run::Wish { memory_mib: memory, tpm: !no_tpm, fresh };
            if headless {
                println!("{}", run::headless(&tree, &image, wish)?);
            } else {
                run::terminal(&tree, &image, wish)?;
            }
        }
        Command::Image { install, release } => {
            if release {
                compose::Signer::find()?.refuse_development()?;
            }
            let image = compose::image(&tree, !install.no_install)?;
            println!("image {}", image.disk().display());
        }
        Command::Ebpf(install) => {
            doctor::ensure(!install.no_install)?;
            println!("object {}", programs::ebpf(&tree)?.display());
        }
        Command::Test { install, package, with_lint } => {
            suite::test(&tree, !install.no_install, with_lint, package.as_deref())?;
        }
        Command::Lint(install) => suite::lint(&tree, !install.no_install)?,
        Command::Drill { install, pcap } => {
            let image = compose::image(&tree, !install.no_install)?;
            print!("{}", drill::drill(&tree, &image, pcap.as_deref())?);
        }
        Command::Attack { install, numbers, seed } => {
            let image = compose::image(&tree, !install.no_install)?;
            let scale = attack::Scale { seed, ..attack::Scale::WHOLE };
            let outcomes = attack::run(&tree, &image, &numbers, scale)?;
            outcomes.iter().for_each(|outcome| println!("{outcome}"));
            println!("{}", attack::summary(&outcomes));
            if outcomes.iter().any(|outcome| outcome.ok == Some(false)) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Bench { install, runs, only } => {
            let image = || compose::image(&tree, !install.no_install);
            match only.as_deref() {
                Some("detect") => bench::detect(&tree)?,
                Some(_) => bench::stop(&tree, &image()?)?,
                None => bench::bench(&tree, &image()?, runs)?,
            }
        }
        Command::Conformance { only } => conformance::conformance(&tree, only.as_deref())?,
        Command::Picture(install) => {
            let image = compose::image(&tree, !install.no_install)?;
            print!("{}", picture::picture(&tree, &image)?);
        }
        Command::Doctor => {
            if !doctor::report() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    // Modes of files are part of the image: they must not depend on who builds it.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match act(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
