//! `hookprobe-verify bench`: how many appraisals one core does in a second, and how long one
//! verification takes as a process, with reading, parsing and printing.

use std::{
    hint::black_box,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hookprobe_evidence::{
    appraise::{Cache, appraise, appraise_with},
    bundle::Evidence,
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    cli::EvidenceArgs,
    error::VerifyError,
    evidence,
    report::{Exit, Report},
};

/// Long enough that caches and the clock rate do not decide the figure.
const RUN: Duration = Duration::from_secs(2);
/// Appraisals between two looks at the clock.
const BATCH: u32 = 16;
/// Processes that are started; the median is shown.
const PROCESSES: usize = 11;

/// Measures with the given evidence.
///
/// # Errors
/// Any [`VerifyError`].
pub fn run(arguments: &EvidenceArgs) -> Result<Report, VerifyError> {
    let case = evidence::load(arguments, None)?;
    let bytes = case.evidence.to_bytes();
    let status = appraise(&case.evidence, &case.reference, case.now_s).status;
    // As who looks at a fleet: its boxes bring the same manifest.
    let mut cache = Cache::default();
    // By the processor's time: what else the machine does is not the verifier's.
    let (mut appraisals, started) = (0u32, worked());
    let spent = || worked().saturating_sub(started);
    while spent() < RUN {
        for _ in 0..BATCH {
            // From bytes, as a verifier gets it.
            if let Ok(evidence) = Evidence::parse(black_box(&bytes)) {
                black_box(appraise_with(&mut cache, &evidence, &case.reference, case.now_s));
            }
            appraisals += 1;
        }
    }
    let spent = spent();
    let per_second = f64::from(appraisals) / spent.as_secs_f64();
    let mut report = Report::new("bench");
    report.summary(format!("{per_second:.0} appraisals per second on one core"));
    report.fact("evidence", format!("{} bytes, {}", bytes.len(), status.word()));
    report.fact("appraisals", format!("{appraisals} in {} ms of a processor", spent.as_millis()));
    report.member("appraisals_per_s", per_second);
    report.member("evidence_bytes", bytes.len());
    match process_ms(arguments) {
        Some(ms) => {
            report.fact("one process", format!("{ms:.1} ms, median of {PROCESSES}"));
            report.member("process_ms", ms);
        }
        None => report.finding(
            Exit::Warning,
            "HP-VF-009 bench: this program can't start itself; run it from a file system that may",
        ),
    }
    Ok(report)
}

/// What this thread had of a processor.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// Median time of the same verification as a process of its own.
fn process_ms(arguments: &EvidenceArgs) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let mut times = Vec::new();
    for _ in 0..PROCESSES {
        let mut command = Command::new(&program);
        command.arg("quote").args(&arguments.file).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(key) = &arguments.release_key {
            command.arg("--release-key").arg(key);
        }
        let started = Instant::now();
        command.status().ok()?.code()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times.get(PROCESSES / 2).copied()
}
