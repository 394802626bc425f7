//! What trust costs: from a challenge to its verdict, and how fast a verifier judges.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hookprobe_evidence::{
    appraise::{Reference, appraise},
    bundle::Evidence,
};

use super::{Spread, row};
use crate::{
    compose,
    error::{Error, Result, at},
    programs, run, shell,
    tree::{Image, Tree},
    vm::{Options, Port, Vm},
};

/// Challenges that are timed; enough for a 95th percentile.
const CHALLENGES: usize = 60;
/// Pause between two: `attest` answers a bounded number in a row.
const PAUSE: Duration = Duration::from_millis(600);
/// Starts of the verifier that are timed.
const STARTS: usize = 21;

/// Prints the table of trust.
pub(super) fn trust(tree: &Tree, image: &Image) -> Result<()> {
    let mut vm = Vm::start(tree, image, &Options::lab("bench"))?;
    run::wait_ready(&mut vm)?;
    let mut port = Port::plug(&vm)?;
    let release = compose::Signer::find()?.release_key()?;
    let (mut short, mut full, mut quotes) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = Vec::new();
    for number in 0..CHALLENGES * 2 {
        let with_logs = number % 2 == 1;
        std::thread::sleep(PAUSE);
        let nonce = format!("bench challenge {number:08}").into_bytes();
        let begun = Instant::now();
        let bytes = port.evidence(&nonce, with_logs)?;
        if with_logs {
            let verdict = judge(&bytes, &release, Some(&nonce))?;
            full.push(ms(begun.elapsed()));
            last = bytes;
            expect_good(&verdict)?;
        } else {
            short.push(ms(begun.elapsed()));
            quotes.push(
                f64::from(u32::try_from(port.status()?.quote_us).unwrap_or(u32::MAX)) / 1000.0,
            );
        }
    }
    vm.power_off()?;
    println!(
        "\ntrust, over a port of the hypervisor; the guest's processor is translated where KVM does not work"
    );
    let quote = Spread::of(quotes);
    row("quote in the box", "ms", quote, "TPM2_Quote and reading the registers: the floor");
    let short = Spread::of(short);
    row("challenge to quote", "ms", short, &format!("ratio to the floor {:.1}", short.1 / quote.1));
    let p95 = percentile(&mut full, 95);
    row(
        "challenge to verdict, with logs",
        "ms",
        Spread::of(full),
        &format!("p95 {p95:.1}, aim 50, ratio {:.2}; {} challenges", p95 / 50.0, CHALLENGES),
    );
    verifier(tree, &last, &release)
}

fn verifier(
    tree: &Tree,
    bytes: &[u8],
    release: &hookprobe_evidence::policy::ReleaseKey,
) -> Result<()> {
    expect_good(&judge(bytes, release, None)?)?;
    let file = tree.target("bench/evidence.cbor");
    fs::create_dir_all(tree.target("bench")).map_err(at(&file))?;
    fs::write(&file, bytes).map_err(at(&file))?;
    let key = tree.target("bench/release.pem");
    fs::write(&key, compose::Signer::find()?.public_pem()?).map_err(at(&key))?;
    let program = programs::folder(tree).join("hookprobe-verify");
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let status = Command::new(&program)
            .arg("bundle")
            .arg(&file)
            .arg("--release-key")
            .arg(&key)
            .stdout(Stdio::null())
            .status()
            .map_err(|source| Error::Spawn { program: program.display().to_string(), source })?;
        times.push(ms(begun.elapsed()));
        if !matches!(status.code(), Some(0 | 1)) {
            return Err(Error::Check(format!("hookprobe-verify bundle: {status}")));
        }
    }
    let times = Spread::of(times);
    row(
        "hookprobe-verify bundle",
        "ms",
        times,
        &format!("process from start to end; aim 20, ratio {:.2}", times.1 / 20.0),
    );
    println!();
    shell::show(Command::new(&program).arg("bench").arg(&file).arg("--release-key").arg(&key))
}

fn judge(
    bytes: &[u8],
    release: &hookprobe_evidence::policy::ReleaseKey,
    nonce: Option<&[u8]>,
) -> Result<hookprobe_evidence::appraise::Appraisal> {
    let evidence = Evidence::parse(bytes).map_err(|error| Error::Check(error.to_string()))?;
    let reference = Reference {
        release_keys: vec![release.clone()],
        nonce: nonce.map(<[u8]>::to_vec),
        ..Reference::default()
    };
    Ok(appraise(&evidence, &reference, evidence.taken_s))
}

fn expect_good(verdict: &hookprobe_evidence::appraise::Appraisal) -> Result<()> {
    use hookprobe_evidence::appraise::Status;
    if matches!(verdict.status, Status::Affirming | Status::Warning) {
        return Ok(());
    }
    let why = verdict.worst().map(ToString::to_string).unwrap_or_default();
    Err(Error::Check(format!("the box's evidence is {}: {why}", verdict.status.word())))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}
