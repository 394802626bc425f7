//! `cargo xtask attack`: the attacks of the threat model against the real image, each with what was
//! expected and what was observed.
//!
//! Attacks are grouped into scenes that share a boot. Evidence is judged here, with the release key
//! and the challenge of this side, by the code that `hookprobe-verify` uses; nothing that the box
//! says about itself is believed. Must never happen here: an attack that counts as refused because
//! it could not be made.

mod forge;
mod guest;
mod judge;
mod mutate;
mod parts;
mod race;
mod session;
mod tcg;
mod time;

use std::{collections::BTreeSet, io::Write as _, path::PathBuf, time::Duration};

use hookprobe_evidence::{appraise::Memory, bundle::Evidence, quote::KeyName};

use crate::{
    error::{Error, Result, at},
    run, shell,
    tree::{Image, Tree},
    vm::{Line, Options, Serial, Vm},
};
use judge::Judge;

/// Machine that most attacks are made on.
const BOX: &str = "attack";
/// Its state when it was off after its first boot.
const FIRST: &str = "first";
/// All of it while it ran, in that boot.
const LIVE: &str = "live";
/// PID 1 writes the line, then the question, then listens.
const QUESTION_WAIT: Duration = Duration::from_secs(1);
/// How often Enter is pressed: until somebody listens.
const ENTERS: u32 = 10;
/// What is not covered, and why nothing is run for it.
const NOT_COVERED: u8 = 20;

/// One line of the threat model.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// As in the threat model.
    pub number: u8,
    /// What is done.
    pub name: &'static str,
    /// What must come of it.
    pub expected: &'static str,
}

const fn attack(number: u8, name: &'static str, expected: &'static str) -> Attack {
    Attack { number, name, expected }
}

/// All attacks.
pub const ATTACKS: [Attack; 20] = [
    attack(1, "binary swapped between hash and exec", "what runs is what was hashed, every time"),
    attack(2, "disk changed under the page cache", "the running box goes on as measured"),
    attack(3, "site configuration edited", "the verifier names the site configuration"),
    attack(4, "LD_PRELOAD, planted library, environment", "nothing can be planted or inherited"),
    attack(5, "eBPF object exchanged", "the verdict names the object, state stays locked"),
    attack(6, "TPM reset and PCRs replayed", "the reset is noticed, nothing affirms"),
    attack(7, "proxy that drops and alters extends", "log and registers disagree, PID 1 says so"),
    attack(8, "old quote replayed, another node's nonce", "answers another challenge"),
    attack(9, "nonce relayed to another box", "another attestation key than the enrolled one"),
    attack(10, "AK made in software; second TPM with this disk", "unknown key, no credential"),
    attack(11, "event log and evidence mutated", "no false accept, no panic"),
    attack(12, "extend storm between log and quote", "bounded tries, nothing affirms"),
    attack(13, "previous signed image on the same TPM", "secrets stay shut, the verifier refuses"),
    attack(
        14,
        "state disk with a known passphrase and the box's token",
        "not opened, not taken for the box's own",
    ),
    attack(15, "kexec", "refused by the kernel or the sandbox"),
    attack(
        16,
        "service binary or closure replaced, service killed",
        "can't be replaced; re-measured at restart",
    ),
    attack(17, "a service uses the TPM or the AK", "no device, no seed, no recovery key"),
    attack(18, "TPM gone or hung, at boot and later", "the box runs and claims nothing"),
    attack(19, "VM and TPM restored from a snapshot", "the verifier sees the way back"),
    attack(NOT_COVERED, "memory of the running box only", "not covered: see the threat model"),
];

/// How much of the repeated attacks.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Starts in attack 1.
    pub starts: u32,
    /// Mutated bundles in attack 11.
    pub mutants: u64,
    /// Seed of the first of them; none: drawn.
    pub seed: Option<u64>,
}

impl Scale {
    /// What the command does.
    pub const WHOLE: Self = Self { starts: 10_000, mutants: 1_000_000, seed: None };
    /// What the boot tests do.
    pub const TEST: Self = Self { starts: 500, mutants: 20_000, seed: None };
}

/// What came of one attack.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub attack: Attack,
    /// What was seen.
    pub observed: String,
    /// Whether that is what was expected; `None` for what is not covered.
    pub ok: Option<bool>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Attack { number, name, expected } = self.attack;
        let word = match self.ok {
            Some(true) => "refused",
            Some(false) => "FAILED",
            None => "n/a",
        };
        write!(f, "{number:2} {word:7} {name} | expected: {expected} | observed: {}", self.observed)
    }
}

/// What is known of the box from its first, intact boot.
#[derive(Debug, Clone)]
struct Known {
    evidence: Evidence,
    nonce: Vec<u8>,
    ak: KeyName,
    memory: Memory,
}

/// Attacks under way.
struct Campaign<'a> {
    tree: &'a Tree,
    image: &'a Image,
    scale: Scale,
    judge: Judge,
    wanted: BTreeSet<u8>,
    known: Option<Known>,
    /// All of the box as it ran in its first boot.
    live: Option<PathBuf>,
    mutants: Option<mutate::Running>,
    seen: Vec<(u8, bool, String)>,
}

/// Attacks that share a boot.
struct Scene {
    shows: &'static [u8],
    /// Attacks of later scenes that build on this one.
    needed_by: &'static [u8],
    act: fn(&mut Campaign<'_>) -> Result<()>,
}

const SCENES: [Scene; 10] = [
    Scene { shows: &[1], needed_by: &[], act: race::race },
    Scene {
        shows: &[2, 6, 8, 11],
        needed_by: &[1, 3, 4, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19],
        act: session::intact,
    },
    Scene { shows: &[1, 4, 15, 16, 17], needed_by: &[13, 19], act: guest::adversary },
    Scene { shows: &[13, 18], needed_by: &[], act: time::older },
    Scene { shows: &[3, 12, 19], needed_by: &[], act: time::restored },
    Scene { shows: &[5], needed_by: &[], act: parts::exchanged },
    Scene { shows: &[7], needed_by: &[], act: parts::rewritten },
    Scene { shows: &[14], needed_by: &[], act: parts::foreign_state },
    Scene { shows: &[9, 10, 18], needed_by: &[], act: forge::twin },
    Scene { shows: &[18], needed_by: &[], act: parts::hung },
];

impl Campaign<'_> {
    /// Records one observation; an attack with several is refused when all are.
    fn saw(&mut self, number: u8, ok: bool, observed: impl Into<String>) {
        self.seen.push((number, ok, observed.into()));
    }

    fn known(&self) -> Result<&Known> {
        self.known
            .as_ref()
            .ok_or_else(|| Error::Check("the box never showed evidence that affirms".into()))
    }

    /// Starts a machine and waits until it is ready.
    fn boot(&self, options: &Options) -> Result<(Vm, Line)> {
        let mut vm = self.start(options)?;
        let ready = ready(&mut vm)?;
        Ok((vm, ready))
    }

    /// Starts a machine on whose serial line somebody can type.
    fn start(&self, options: &Options) -> Result<Vm> {
        Vm::start(self.tree, self.image, &Options { serial: Serial::Socket, ..options.clone() })
    }

    /// The box of most attacks, as it was left.
    fn kept(&self) -> Options {
        Options { keep: true, tap: true, ..Options::lab(BOX) }
    }

    fn outcome(&self, attack: Attack) -> Outcome {
        if attack.number == NOT_COVERED {
            let observed = "nothing is measured after the start of a program".into();
            return Outcome { attack, observed, ok: None };
        }
        let of: Vec<_> = self.seen.iter().filter(|(number, ..)| *number == attack.number).collect();
        let texts: Vec<&str> = of.iter().map(|(.., text)| text.as_str()).collect();
        Outcome {
            attack,
            observed: texts.join("; "),
            ok: Some(!of.is_empty() && of.iter().all(|(_, ok, _)| *ok)),
        }
    }
}

/// Waits until a machine is ready; when it asks for a recovery key, nobody has one.
fn ready(vm: &mut Vm) -> Result<Line> {
    let is_ready = |line: &Line| line.source == "init" && line.verb() == "ready";
    let asks = |line: &Line| line.verb() == "state" && line.text.starts_with("state locked");
    let line = vm.wait("ready", run::READY_WAIT, |line| is_ready(line) || asks(line))?;
    if is_ready(&line) { Ok(line) } else { pass(vm) }
}

/// Lets the question for a recovery key pass.
fn pass(vm: &mut Vm) -> Result<Line> {
    let is_ready = |line: &Line| line.source == "init" && line.verb() == "ready";
    let mut serial = vm.serial()?;
    for _ in 0..ENTERS {
        std::thread::sleep(QUESTION_WAIT);
        serial.write_all(b"\r").map_err(at("serial.sock"))?;
        let goes_on = |line: &Line| is_ready(line) || line.verb() == "phase";
        if let Ok(line) = vm.wait("an answer to Enter", 2 * QUESTION_WAIT, goes_on) {
            return if is_ready(&line) { Ok(line) } else { run::wait_ready(vm) };
        }
    }
    run::wait_ready(vm)
}

/// Makes the attacks in `numbers` (all when empty).
///
/// # Errors
/// [`Error::Check`] for a number that is none; everything that goes wrong in an attack is its
/// outcome.
pub fn run(tree: &Tree, image: &Image, numbers: &[u8], scale: Scale) -> Result<Vec<Outcome>> {
    let all = || ATTACKS.iter().map(|attack| attack.number);
    if let Some(number) = numbers.iter().find(|number| !all().any(|known| known == **number)) {
        return Err(Error::Check(format!("attack {number} does not exist; 1 to 20 do")));
    }
    let wanted: BTreeSet<u8> =
        if numbers.is_empty() { all().collect() } else { numbers.iter().copied().collect() };
    let judge = Judge::new(tree)?;
    let mut campaign = Campaign {
        tree,
        image,
        scale,
        judge,
        wanted,
        known: None,
        live: None,
        mutants: None,
        seen: Vec::new(),
    };
    for scene in &SCENES {
        let mut of = scene.shows.iter().chain(scene.needed_by);
        if !of.any(|number| campaign.wanted.contains(number)) {
            continue;
        }
        let list: Vec<String> = scene.shows.iter().map(u8::to_string).collect();
        shell::step(&format!("attacks {}", list.join(", ")));
        if let Err(error) = (scene.act)(&mut campaign) {
            eprintln!("note: {error}");
            for number in scene.shows {
                campaign.saw(*number, false, error.to_string().replace('\n', " / "));
            }
        }
    }
    if let Some(running) = campaign.mutants.take() {
        shell::step("attack 11: waiting for its mutants");
        mutate::end(&mut campaign, running);
    }
    let wanted = |attack: &&Attack| campaign.wanted.contains(&attack.number);
    Ok(ATTACKS.iter().filter(wanted).map(|attack| campaign.outcome(*attack)).collect())
}

/// The last line.
#[must_use]
pub fn summary(outcomes: &[Outcome]) -> String {
    let made = outcomes.iter().filter(|outcome| outcome.ok.is_some()).count();
    let refused = outcomes.iter().filter(|outcome| outcome.ok == Some(true)).count();
    let open = outcomes.len() - made;
    format!("attacks: {refused} of {made} refused, {open} not covered")
}
