//! The loop: mutates, feeds, and on a panic says how to see it again.
//!
//! Ends with 0 when every target took everything, with 1 and the offending input in hexadecimal
//! when one panicked or dawdled, with 2 when it was asked for something that does not exist.

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use fuzz_targets::{
    Outcome, TARGETS, Target, find,
    mutate::Corpus,
    mutations::{Campaign, Fate, Tally},
};

/// A parser that needs longer for a few kilobytes is a way to stop the box.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
/// After this a parser is taken to be in an endless loop. Far more than [`INPUT_TIME_MAX`], so that
/// a busy machine does not look like one.
const HANG_TIME_MAX: Duration = Duration::from_secs(20);
/// How often the input that is being parsed is checked against that bound.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Iterations between two looks at the clock.
const BATCH: u64 = 64;

/// Mutated bundles of evidence in every run of all targets; a million is its own command.
const MUTATIONS: u64 = 20_000;

#[derive(Parser)]
#[command(about = "Feeds mutated inputs to every parser of hostile bytes")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
    /// How long, all targets together.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Iterations per target instead of a time: the same seed then does exactly the same.
    #[arg(long)]
    iterations: Option<u64>,
    /// Where the pseudo-random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
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

#[derive(Args)]
struct Mutations {
    /// How many.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Where the pseudo-random numbers start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; the mutations are the same with any number of them.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Only the mutation with this number, and what it differs in.
    #[arg(long)]
    only: Option<u64>,
}

/// What a target did wrong.
struct Failure {
    iteration: u64,
    what: String,
}

/// Message of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());
/// What is being parsed, for the watcher.
static CURRENT: Mutex<(&str, Vec<u8>)> = Mutex::new(("", Vec::new()));
/// Inputs fed so far; the watcher sees by it that one takes too long.
static FED: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Task::Mutations(wanted)) = &arguments.command {
        return mutations(wanted);
    }
    let targets: Vec<Target> = match &arguments.target {
        None => TARGETS.to_vec(),
        Some(name) => match find(name) {
            Some(target) => vec![target],
            None => {
                let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                eprintln!("no target {name}; there are {}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    panic::set_hook(Box::new(|info| {
        let what = info.to_string().replace('\n', " ");
        if let Ok(mut message) = PANIC.lock() {
            message.clone_from(&what);
        }
        // Said here too, because not every panic unwinds to `run`.
        tell_current(&what);
    }));
    if let (Some(input), [target]) = (&arguments.input, targets.as_slice()) {
        return replay(*target, input);
    }
    watch();
    let (all, seed) = (targets.len(), arguments.seed);
    match arguments.iterations {
        Some(most) => println!("{all} targets, {most} iterations each, seed {seed}"),
        None => println!("{all} targets, {} s together, seed {seed}", arguments.seconds),
    }
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    if arguments.target.is_none() && arguments.iterations.is_none() {
        let wanted = Mutations { count: MUTATIONS, seed, threads: 1, only: None };
        if mutations(&wanted) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    for (at, target) in targets.into_iter().enumerate() {
        // Of what is left: a target that took longer takes it from those after it.
        let left = u32::try_from(all - at).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        let place = format!("[{:>2}/{all}] {:<17}", at + 1, target.name);
        match run(target, &arguments, share) {
            Ok((iterations, kept)) => {
                println!("{place} {iterations:>9} iterations  {kept:>3} inputs kept  ok");
            }
            Err(Failure { iteration, what }) => {
                println!("{place} FAILED at iteration {iteration}, seed {seed}: {what}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Iterations done and inputs kept.
fn run(target: Target, arguments: &Arguments, share: Duration) -> Result<(u64, usize), Failure> {
    let mut corpus = Corpus::new(target, arguments.seed);
    let until = Instant::now() + share;
    let mut iteration = 0;
    loop {
        let done = match arguments.iterations {
            Some(most) => iteration >= most,
            None => iteration % BATCH == 0 && Instant::now() >= until,
        };
        if done {
            return Ok((iteration, corpus.len()));
        }
        let input = corpus.next_input();
        let started = Instant::now();
        let outcome = feed(target, &input);
        let failure = |what| Failure { iteration, what };
        let outcome = outcome.map_err(failure)?;
        if started.elapsed() > INPUT_TIME_MAX {
            let what = format!("took {} ms", started.elapsed().as_millis());
            tell_current(&what);
            return Err(failure(what));
        }
        corpus.learn(input, outcome);
        iteration += 1;
    }
}

fn feed(target: Target, input: &[u8]) -> Result<Outcome, String> {
    if let Ok(mut current) = CURRENT.lock() {
        current.0 = target.name;
        input.clone_into(&mut current.1);
    }
    FED.fetch_add(1, Ordering::Relaxed);
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|_| {
        PANIC.lock().map_or_else(|_| "panicked".into(), |message| message.replace('\n', " "))
    })
}

/// A campaign of mutated evidence.
fn mutations(wanted: &Mutations) -> ExitCode {
    let campaign = match Campaign::sample(wanted.seed) {
        Ok(campaign) => campaign,
        Err(why) => {
            println!("mutations FAILED: the unchanged evidence is not affirmed: {}", why.0);
            return ExitCode::FAILURE;
        }
    };
    if let Some(number) = wanted.only {
        let bytes = campaign.mutation(number);
        println!(
            "{:?}\n{}\n{}",
            campaign.try_one(&bytes),
            campaign.difference(&bytes),
            hex(&bytes)
        );
        return ExitCode::SUCCESS;
    }
    let (started, threads) = (Instant::now(), wanted.threads.max(1));
    let campaign = &campaign;
    let share = move |thread: u64| {
        let mut tally = Tally::default();
        for number in (thread..wanted.count).step_by(usize::try_from(threads).unwrap_or(1)) {
            let bytes = campaign.mutation(number);
            let tried = panic::catch_unwind(AssertUnwindSafe(|| campaign.try_one(&bytes)));
            let fate = tried.unwrap_or_else(|_| {
                println!("mutation {number}, seed {}: PANIC", wanted.seed);
                Fate::FalseAccept
            });
            if fate == Fate::FalseAccept {
                println!(
                    "mutation {number}, seed {}: ACCEPTED\n{}again: mutations --seed {} --only {number}",
                    wanted.seed,
                    campaign.difference(&bytes),
                    wanted.seed
                );
            }
            tally.count(fate);
        }
        tally
    };
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        for thread in running {
            match thread.join() {
                Ok(tally) => all.add(&tally),
                Err(_) => all.false_accepts += 1,
            }
        }
    });
    let per_second = all.made as f64 / started.elapsed().as_secs_f64();
    println!(
        "mutations: {} made with seed {}, {per_second:.0}/s: {} contraindicated, {} warned of, \
         {} unreadable, {} accepted with nothing changed that counts, {} FALSELY ACCEPTED",
        all.made,
        wanted.seed,
        all.contraindicated,
        all.warned,
        all.unreadable,
        all.same,
        all.false_accepts
    );
    if all.false_accepts == 0 && all.made == wanted.count {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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

/// Ends the process when one input is parsed for ever.
fn watch() {
    std::thread::spawn(|| {
        let mut last = (FED.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(WATCH_EVERY);
            let fed = FED.load(Ordering::Relaxed);
            if fed != last.0 {
                last = (fed, Instant::now());
            } else if fed != 0 && last.1.elapsed() > HANG_TIME_MAX {
                tell_current("does not end");
                std::process::exit(1);
            }
        }
    });
}

/// Says what is wrong with the input that is being parsed.
fn tell_current(what: &str) {
    if let Ok(current) = CURRENT.try_lock() {
        println!("{:<17} FAILED: {what}", current.0);
        println!("input: {}", hex(&current.1));
        println!("again: --target {} --input <hex>", current.0);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
