//! Every parser under mutation, for as long as one likes: `cargo fuzz-loop --seconds 3600`.
//!
//! Ends with 0 when every target took everything, with 1 and the offending input in hexadecimal
//! when one panicked or dawdled, with 2 when it was asked for something that does not exist.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hookprobe_fuzz::{
    Target,
    campaign::{self, Mutations, Plan, feed},
    find, targets,
};

#[derive(Parser)]
#[command(about = "Feeds mutated inputs to every parser of hostile bytes")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    plan: Plan,
    /// Only this one.
    #[arg(long)]
    target: Option<String>,
    /// Feeds this one input, as printed after a panic, and nothing else; needs --target.
    #[arg(long, requires = "target")]
    input: Option<String>,
}

#[derive(Subcommand)]
enum Task {
    /// Appraises mutated evidence: nothing that was changed may be accepted.
    Mutations(Mutations),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Task::Mutations(wanted)) = &arguments.command {
        return status(campaign::mutations(wanted));
    }
    let targets: Vec<Target> = match &arguments.target {
        None => targets(),
        Some(name) => match find(name) {
            Some(target) => vec![target],
            None => {
                let names: Vec<_> = targets().iter().map(|target| target.name).collect();
                eprintln!("no target {name}; there are {}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    campaign::tell_panics();
    match (&arguments.input, targets.as_slice()) {
        (Some(input), [target]) => replay(*target, input),
        (_, targets) => status(campaign::run(targets, &arguments.plan)),
    }
}

fn status(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(target: Target, text: &str) -> ExitCode {
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect();
    let Some(bytes) = bytes else {
        eprintln!("--input is not hexadecimal");
        return ExitCode::from(2);
    };
    match feed(target, &bytes) {
        Ok(_) => {
            println!("{} takes it", target.name);
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{} FAILED: {what}", target.name);
            ExitCode::FAILURE
        }
    }
}
