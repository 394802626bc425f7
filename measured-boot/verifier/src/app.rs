//! One command from files to exit code. Reads, calls the pure parts, prints.

use std::{io::Write, path::Path};

use hookprobe_evidence::bundle::Evidence;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    bench,
    cli::{Cli, Command, ExplainArgs, ImageArgs, LedgerArgs},
    error::VerifyError,
    evidence, explain, image,
    input::{self, LEDGER_BYTES_MAX, MANIFEST_FILE_BYTES_MAX},
    ledger,
    report::{self, Exit, Report},
};

/// Bytes of a challenge: few enough to be typed, too many to be guessed or met twice.
const NONCE_BYTES: usize = 8;

/// What is printed.
pub enum Output {
    /// A report, as text or JSON.
    Report(Report),
    /// The claims set of an attestation result, and the report about it for people.
    Appraisal(serde_json::Value, Report),
    /// A text of its own (a JWS), with its verdict.
    Text(String, Exit),
}

/// Runs one command; never panics, whatever the files hold.
pub fn run(cli: &Cli, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let outcome = match &cli.command {
        Command::Quote(arguments) => evidence::run("quote", arguments),
        Command::Bundle(arguments) => evidence::run("bundle", arguments),
        Command::Ledger(arguments) => run_ledger(arguments).map(Output::Report),
        Command::Image(arguments) => run_image(arguments).map(Output::Report),
        Command::Explain(arguments) => run_explain(arguments).map(Output::Report),
        Command::Nonce => nonce(),
        Command::Bench(arguments) => bench::run(arguments).map(Output::Report),
    };
    let (text, exit) = match outcome {
        Ok(Output::Report(report)) if cli.json => (line(&report.json()), report.verdict()),
        Ok(Output::Appraisal(claims, report)) if cli.json => (line(&claims), report.verdict()),
        Ok(Output::Report(report) | Output::Appraisal(_, report)) => {
            (report.text(), report.verdict())
        }
        Ok(Output::Text(text, exit)) => (format!("{text}\n"), exit),
        Err(error) => {
            let exit = error.exit();
            if cli.json {
                (line(&report::error_json(exit, &error.to_string())), exit)
            } else {
                // Nobody is left to tell when printing fails too.
                let _ = writeln!(errors, "{error}");
                return exit;
            }
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // A verdict that nobody could read is none.
        Err(error) => {
            let _ = writeln!(errors, "HP-VF-007 output: {error}; nothing was shown");
            Exit::Unreadable
        }
    }
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

fn nonce() -> Result<Output, VerifyError> {
    let mut bytes = [0; NONCE_BYTES];
    match getrandom(&mut bytes[..], GetRandomFlags::empty()) {
        Ok(NONCE_BYTES) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Output::Text(digits, Exit::Affirming))
        }
        Ok(count) => Err(VerifyError::Random(format!("{count} of {NONCE_BYTES} bytes"))),
        Err(errno) => Err(VerifyError::Random(errno.to_string())),
    }
}

fn run_ledger(arguments: &LedgerArgs) -> Result<Report, VerifyError> {
    let evidence = arguments.evidence.as_deref().map(read_evidence).transpose()?;
    let ak = arguments.ak.as_ref().map(|ak| ak.0.clone());
    let file = input::read(&arguments.file, LEDGER_BYTES_MAX)?;
    ledger::verify(&file, &ledger::Expected { ak, evidence })
        .map_err(|error| format(&arguments.file, error.to_string()))
}

fn run_image(arguments: &ImageArgs) -> Result<Report, VerifyError> {
    let release = input::release_key(arguments.release_key.as_deref())?;
    let (blob, beside) = image::blob(&arguments.file)?;
    let given = arguments
        .manifest
        .as_deref()
        .map(|path| input::read(path, MANIFEST_FILE_BYTES_MAX))
        .transpose()?;
    let envelope = given.or(beside);
    image::verify(&arguments.file, &blob, &release, arguments.root.as_deref(), envelope.as_deref())
}

fn run_explain(arguments: &ExplainArgs) -> Result<Report, VerifyError> {
    let path = Path::new(&arguments.subject);
    if path.exists() {
        return explain::logs(&read_evidence(path)?, arguments.release_key.as_deref());
    }
    explain::code(&arguments.subject)
}

/// Evidence in a file, binary or as lines.
///
/// # Errors
/// Those of [`input::evidence`], [`VerifyError::Format`].
pub fn read_evidence(path: &Path) -> Result<Evidence, VerifyError> {
    let bytes = input::evidence(&[path.to_owned()])?;
    Evidence::parse(&bytes).map_err(|error| format(path, error.to_string()))
}

/// A file that is not what it should be.
#[must_use]
pub fn format(path: &Path, why: String) -> VerifyError {
    VerifyError::Format { path: path.to_owned(), why }
}
