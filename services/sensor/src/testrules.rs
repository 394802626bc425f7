//! `hookprobe-sensor test-rules FILE...`: which rules load, which do not and why.
//!
//! Called by `main`. Reads files and writes to standard output; all judgement is in
//! `hookprobe_rules`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use hookprobe_rules::{Config, Ruleset, keywords, yaml};

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum TestRulesError {
    /// A file.
    #[error("HP-SN-065 test-rules: {0}: can't be read; check the path")]
    Read(PathBuf, #[source] io::Error),
    /// The configuration.
    #[error("HP-SN-066 test-rules: {0}: is no YAML that can be read; correct the line")]
    Config(PathBuf, #[source] yaml::YamlError),
    /// Output.
    #[error("HP-SN-067 test-rules: results can't be written")]
    Output(#[from] io::Error),
}

/// Prints a table of all keywords.
///
/// # Errors
/// [`TestRulesError::Output`].
pub fn print_keywords() -> Result<(), TestRulesError> {
    let mut out = io::stdout().lock();
    let mut group = "";
    for keyword in keywords() {
        if keyword.group != group {
            group = keyword.group;
            writeln!(out, "\n## {group}\n")?;
        }
        writeln!(out, "- `{}`", keyword.name)?;
    }
    Ok(())
}

/// Compiles the files and prints what did not load; whether all did.
///
/// # Errors
/// [`TestRulesError`].
pub fn run(files: &[PathBuf], config: Option<&Path>) -> Result<bool, TestRulesError> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| TestRulesError::Read(path.to_owned(), error))
    };
    let mut settings = Config::default();
    if let Some(path) = config {
        let node = yaml::parse(&read(path)?)
            .map_err(|error| TestRulesError::Config(path.into(), error))?;
        settings = Config::from_yaml(&node);
    }
    if settings.variables.is_empty() {
        settings.variables = Config::shipped_variables();
    }
    let mut texts = Vec::new();
    for path in files {
        texts.push((path.to_string_lossy().into_owned(), read(path)?));
    }
    let pairs: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (ruleset, _) = Ruleset::new(&pairs, settings);
    let mut out = io::stdout().lock();
    for problem in &ruleset.problems {
        let sid = problem.sid.map_or_else(|| "-".to_owned(), |sid| sid.to_string());
        writeln!(out, "{}:{}: sid {sid}: {}", problem.file, problem.line, problem.error)?;
    }
    let (loaded, failed) = (ruleset.rules().len(), ruleset.problems.len());
    writeln!(out, "{loaded} rules loaded, {failed} did not")?;
    Ok(failed == 0)
}
