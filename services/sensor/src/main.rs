//! `hookprobe-sensor`: parses the command line and enters one mode.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use hookprobe_sensor::{
    bench, causes,
    live::{self, Options},
    log, object,
    replay::{self, Summary, eve},
};

/// Packets to events.
#[derive(Debug, Parser)]
#[command(name = "hookprobe-sensor", version)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Watch interfaces and tell the ledger.
    Live {
        /// eBPF object.
        #[arg(long, default_value = object::OBJECT_FILE)]
        object: PathBuf,
        /// Site configuration that PID 1 accepted.
        #[arg(long, default_value = hookprobe_wire::SITE_FILE)]
        site: PathBuf,
        /// Socket of the ledger.
        #[arg(long, default_value = hookprobe_wire::LEDGER_SOCKET)]
        ledger: PathBuf,
        /// Directory on a bpffs for the maps.
        #[arg(long, default_value = hookprobe_abi::PIN_DIR)]
        pin_dir: PathBuf,
        /// Interfaces to watch [default: role lan of the site configuration, else every Ethernet
        /// interface].
        #[arg(long, num_args = 1.., value_name = "NAME")]
        interface: Vec<String>,
    },
    /// Look for the same things in captures (pcap, pcapng).
    Replay {
        /// Captures, in order of time.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where EVE JSON lines go; - is standard output.
        #[arg(long, value_name = "OUT")]
        eve: PathBuf,
        /// Say at the end what was seen.
        #[arg(long)]
        summary: bool,
    },
    /// Measure the XDP program.
    #[command(hide = true)]
    BenchXdp {
        /// eBPF object.
        #[arg(long, default_value = object::OBJECT_FILE)]
        object: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().mode {
        Mode::Live { object, site, ledger, pin_dir, interface } => {
            log::init();
            let options = Options { object, site, ledger, pins: pin_dir, interfaces: interface };
            live::run(&options).map_err(|error| causes(&error))
        }
        Mode::Replay { files, eve, summary } => replay::run(&files, &eve)
            .map(|seen| {
                if summary {
                    print_summary(&seen);
                }
            })
            .map_err(|error| causes(&error)),
        Mode::BenchXdp { object } => bench::run(&object)
            .map(|lines| {
                for line in lines {
                    let (least, most) = line.spread;
                    println!("{:<20} {:>6} ns/packet ({least}-{most})", line.name, line.ns);
                }
            })
            .map_err(|error| causes(&error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR {error}");
            ExitCode::FAILURE
        }
    }
}

/// To standard error, so that EVE lines on standard output stay clean.
fn print_summary(seen: &Summary) {
    eprintln!(
        "{} packets ({} not IP, {} malformed), {} records, {} flows, {} alerts",
        seen.packets, seen.other, seen.malformed, seen.records, seen.flows, seen.alerts
    );
    if let Some(first_ns) = seen.first_ns {
        eprintln!("{} to {}", eve::timestamp(first_ns), eve::timestamp(seen.last_ns));
    }
}
