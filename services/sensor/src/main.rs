//! `hookprobe-sensor`: parses the command line and enters one mode.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use hookprobe_sensor::{
    bench, benchdetect, causes, inspector,
    live::{self, Options},
    makenames, modeleval,
    object::{self, ObjectError},
    replay, testrules, verify,
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
        /// Socket of the inspector.
        #[arg(long, default_value = hookprobe_wire::INSPECTOR_SOCKET)]
        inspector: PathBuf,
        /// Folder of the list of addresses.
        #[arg(long, default_value = hookprobe_wire::DETECTION_DIR)]
        detection: PathBuf,
        /// Directory on a bpffs for the maps.
        #[arg(long, default_value = hookprobe_abi::PIN_DIR)]
        pin_dir: PathBuf,
        /// Interfaces to watch [default: role lan of the site configuration, else every Ethernet
        /// interface].
        #[arg(long, num_args = 1.., value_name = "NAME")]
        interface: Vec<String>,
    },
    /// Take packets apart for a sensor that watches, without any right but to look at them.
    Inspect {
        /// Where to listen when no socket was handed over.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Site configuration that PID 1 accepted.
        #[arg(long, default_value = hookprobe_wire::SITE_FILE)]
        site: PathBuf,
        /// Folder of rules (*.rules) and lists of names.
        #[arg(long, default_value = hookprobe_wire::DETECTION_DIR)]
        detection: PathBuf,
        /// Folder for the model and the file of alerts.
        #[arg(long, default_value = "/var/lib/hookprobe/inspector")]
        state: PathBuf,
    },
    /// Look for the same things in captures (pcap, pcapng).
    Replay(Replay),
    /// Say which rules load, which do not and why.
    TestRules {
        /// Rules in Suricata's language.
        #[arg(required_unless_present = "keywords", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Variables, as in suricata.yaml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// List the keywords that are supported.
        #[arg(long)]
        keywords: bool,
    },
    /// Run a tree of tests in the layout of suricata-verify and print the pass rate of each tier.
    Verify {
        /// Root of the tree: the folder that holds `tests`.
        tree: PathBuf,
        /// Only tests whose name contains this.
        #[arg(long, default_value = "", hide_default_value = true)]
        filter: String,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Make one signed list of names for boxes out of lists that others publish.
    MakeNames {
        /// A list: hosts, adblock, rpz or plain; what it is about; where it is. The first list that
        /// has a name counts.
        #[arg(long = "list", required = true, value_name = "SYNTAX:CATEGORY:FILE")]
        lists: Vec<makenames::Input>,
        /// Ed25519 private key (PKCS#8, PEM).
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
        /// Number of the edition; boxes refuse an older one.
        #[arg(long)]
        serial: u64,
        /// Days until boxes no longer use it.
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// Where it goes; on the boot partition it is called hookprobe.names.
        #[arg(long, default_value = "hookprobe.names")]
        out: PathBuf,
    },
    /// Print precision and recall of the model of minutes on labelled captures.
    ModelEval {
        /// Lines of `path<TAB>attack|harmless[<TAB>address of the device]`.
        labels: PathBuf,
        /// Where the paths begin [default: the folder of the labels].
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Measure loading of rules and memory for many flows.
    #[command(hide = true)]
    BenchDetect {
        /// Rules in Suricata's language.
        #[arg(long)]
        rules: PathBuf,
        /// Flows at once.
        #[arg(long, default_value_t = 100_000)]
        flows: u32,
    },
    /// Measure the XDP program.
    #[command(hide = true)]
    BenchXdp {
        /// eBPF object.
        #[arg(long, default_value = object::OBJECT_FILE)]
        object: PathBuf,
    },
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
struct Replay {
    /// Captures, in order of time.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Rules in Suricata's language.
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Variables, host policies and limits, as in suricata.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting over those of the configuration, as in suricata's --set.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Behave as if packets could be held back: rules with drop and reject do.
    #[arg(long)]
    simulate_ips: bool,
    /// Where EVE JSON lines go; - is standard output.
    #[arg(long, value_name = "OUT")]
    eve: Option<PathBuf>,
    /// Only these types of EVE events [default: all].
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    eve_types: Vec<String>,
    /// Form of DNS events: 2 has one for each query, 3 one for each message [default: 3].
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(2..=3))]
    eve_dns_version: Option<u8>,
    /// Folder for logs as Zeek writes them.
    #[arg(long, value_name = "DIR")]
    zeek: Option<PathBuf>,
    /// Zeek's logs as JSON.
    #[arg(long, requires = "zeek")]
    zeek_json: bool,
    /// Take packets with a wrong checksum, too.
    #[arg(long)]
    no_checksums: bool,
    /// Look with the rules alone: no detectors of behaviour, no lists of names.
    #[arg(long)]
    rules_only: bool,
    /// Say at the end what was seen and what was lost.
    #[arg(long)]
    summary: bool,
}

impl From<Replay> for replay::Options {
    fn from(arguments: Replay) -> Self {
        Self {
            files: arguments.files,
            rules: arguments.rules,
            config: arguments.config,
            set: arguments.set,
            is_ips: arguments.simulate_ips,
            eve: arguments.eve,
            eve_types: arguments.eve_types,
            eve_dns_version: arguments.eve_dns_version,
            zeek: arguments.zeek,
            is_zeek_json: arguments.zeek_json,
            ignores_checksums: arguments.no_checksums,
            is_rules_only: arguments.rules_only,
        }
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().mode {
        Mode::Live { object, site, ledger, inspector, pin_dir, interface, detection } => {
            hookprobe_daemon::log::init();
            let options = Options {
                object,
                site,
                ledger,
                inspector,
                pins: pin_dir,
                interfaces: interface,
                detection,
            };
            live::run(&options).map_err(|error| causes(&error))
        }
        Mode::Inspect { socket, site, detection, state } => {
            hookprobe_daemon::log::init();
            let options = inspector::Options { socket, site, detection, state };
            inspector::run(&options).map_err(|error| causes(&error))
        }
        Mode::Replay(arguments) => {
            let wants_summary = arguments.summary;
            replay::run(&arguments.into())
                .map(|seen| {
                    if wants_summary {
                        // To standard error, so that EVE lines on standard output stay clean.
                        eprint!("{seen}");
                    }
                })
                .map_err(|error| causes(&error))
        }
        Mode::TestRules { files, config, keywords } => {
            let result = if keywords {
                testrules::print_keywords().map(|()| true)
            } else {
                testrules::run(&files, config.as_deref())
            };
            return finish(result.map_err(|error| causes(&error)));
        }
        Mode::Verify { tree, filter, json } => {
            return finish(verify::run(&tree, &filter, json).map_err(|error| causes(&error)));
        }
        Mode::MakeNames { lists, key, serial, days, out } => {
            let options = makenames::Options { lists, key, serial, days, out };
            makenames::run(&options).map_err(|error| causes(&error))
        }
        Mode::ModelEval { labels, root } => {
            modeleval::run(&labels, root.as_deref()).map_err(|error| causes(&error))
        }
        Mode::BenchDetect { rules, flows } => benchdetect::run(&rules, flows)
            .map(|figures| println!("{figures}"))
            .map_err(|error| causes(&error)),
        Mode::BenchXdp { object } => bench_xdp(&object).map_err(|error| causes(&error)),
    };
    finish(result.map(|()| true))
}

fn bench_xdp(object: &Path) -> Result<(), ObjectError> {
    for line in bench::run(object)? {
        let (least, most) = line.spread;
        println!("{:<20} {:>6} ns/packet ({least}-{most})", line.name, line.ns);
    }
    // The same on every processor: what is translated from them is not.
    for (name, bytes, walked) in bench::sizes(object)? {
        let instructions = bytes / bench::INSTRUCTION_BYTES;
        println!("{name:<20} {instructions:>6} instructions, {walked} walked by the verifier");
    }
    Ok(())
}

/// The exit code: success only if all was well.
fn finish(result: Result<bool, String>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ERROR {error}");
            ExitCode::FAILURE
        }
    }
}
