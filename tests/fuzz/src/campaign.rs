//! The loop: mutates, feeds, and on a panic says how to see it again.
//!
//! Used by the command for as long as one likes and by the test for a minute. It watches itself: an
//! input that takes too long is a finding, one that never ends stops the process.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Outcome, Target,
    mutate::Corpus,
    mutations::{Campaign, Fate, Tally},
};

/// A parser that needs longer for a few kilobytes is a way to stop the box.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
/// After this a parser is taken to be in an endless loop. Far more than [`INPUT_TIME_MAX`], so that
/// a busy machine does not look like one.
const HANG_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the input that is being parsed is checked against that bound.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Iterations between two looks at the clock.
const BATCH: u64 = 64;

/// Mutated bundles of evidence in every run of all targets; a million is its own command.
const MUTATIONS: u64 = 20_000;

/// How much of it, and where it starts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Plan {
    /// How long, all targets together.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Iterations per target instead of a time: the same seed then does exactly the same.
    #[arg(long)]
    pub iterations: Option<u64>,
    /// Where the pseudo-random numbers start.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Mutations of evidence, appraised.
#[derive(Debug, Clone, Copy, Args)]
pub struct Mutations {
    /// How many.
    #[arg(long, default_value_t = 1_000_000)]
    pub count: u64,
    /// Where the pseudo-random numbers start.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; the mutations are the same with any number of them.
    #[arg(long, default_value_t = 1)]
    pub threads: u64,
    /// Only the mutation with this number, and what it differs in.
    #[arg(long)]
    pub only: Option<u64>,
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

/// From now on a panic says which input it was.
pub fn tell_panics() {
    panic::set_hook(Box::new(|info| {
        let what = info.to_string().replace('\n', " ");
        if let Ok(mut message) = PANIC.lock() {
            message.clone_from(&what);
        }
        // Said here too, because not every panic unwinds to `one`.
        tell_current(&what);
    }));
}

/// All `targets` by the plan, and a share of mutated evidence where they are run for a time.
/// `false` after the first that did wrong; everything is told on standard output.
#[must_use]
pub fn run(targets: &[Target], plan: &Plan) -> bool {
    watch();
    let (all, seed) = (targets.len(), plan.seed);
    match plan.iterations {
        Some(most) => println!("{all} targets, {most} iterations each, seed {seed}"),
        None => println!("{all} targets, {} s together, seed {seed}", plan.seconds),
    }
    if all > 1 && plan.iterations.is_none() {
        let wanted = Mutations { count: MUTATIONS, seed, threads: 1, only: None };
        if !mutations(&wanted) {
            return false;
        }
    }
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    for (at, target) in targets.iter().enumerate() {
        // Of what is left: a target that took longer takes it from those after it.
        let left = u32::try_from(all - at).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        let place = format!("[{:>2}/{all}] {:<17}", at + 1, target.name);
        match one(*target, plan, share) {
            Ok((iterations, kept)) => {
                println!("{place} {iterations:>9} iterations  {kept:>3} inputs kept  ok");
            }
            Err(Failure { iteration, what }) => {
                println!("{place} FAILED at iteration {iteration}, seed {seed}: {what}");
                return false;
            }
        }
    }
    true
}

/// Iterations done and inputs kept.
fn one(target: Target, plan: &Plan, share: Duration) -> Result<(u64, usize), Failure> {
    let mut corpus = Corpus::new(target, plan.seed);
    let until = Instant::now() + share;
    let mut iteration = 0;
    loop {
        let done = match plan.iterations {
            Some(most) => iteration >= most,
            None => iteration > 0 && iteration % BATCH == 0 && Instant::now() >= until,
        };
        if done {
            return Ok((iteration, corpus.len()));
        }
        let input = corpus.next_input();
        let started = worked();
        let outcome = feed(target, &input);
        let failure = |what| Failure { iteration, what };
        let outcome = outcome.map_err(failure)?;
        let took = worked().saturating_sub(started);
        if took > INPUT_TIME_MAX {
            let what = format!("took {} ms of a processor", took.as_millis());
            tell_current(&what);
            return Err(failure(what));
        }
        corpus.learn(input, outcome);
        iteration += 1;
    }
}

/// What this thread had of a processor: the machine may have other things to do.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Feeds one input; the message of the panic where there was one.
///
/// # Errors
/// The message of a panic.
pub fn feed(target: Target, input: &[u8]) -> Result<Outcome, String> {
    if let Ok(mut current) = CURRENT.lock() {
        current.0 = target.name;
        input.clone_into(&mut current.1);
    }
    FED.fetch_add(1, Ordering::Relaxed);
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|_| {
        PANIC.lock().map_or_else(|_| "panicked".into(), |message| message.replace('\n', " "))
    })
}

/// A campaign of mutated evidence: `true` when nothing that was changed was accepted.
#[must_use]
pub fn mutations(wanted: &Mutations) -> bool {
    let campaign = match Campaign::sample(wanted.seed) {
        Ok(campaign) => campaign,
        Err(why) => {
            println!("mutations FAILED: the unchanged evidence is not affirmed: {}", why.0);
            return false;
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
        return true;
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
    all.false_accepts == 0 && all.made == wanted.count
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

/// In hexadecimal, as `--input` takes it.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
