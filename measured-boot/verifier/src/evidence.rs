//! `hookprobe-verify quote` and `bundle`: evidence against what the operator knows.
//!
//! All rules are [`hookprobe_evidence::appraise`]'s, the same that the box and its peers use; here is
//! only where the reference comes from and how the result is shown.

use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64, Encoding as _};
use hookprobe_evidence::{
    appraise::{Appraisal, Memory, Reference, Severity, Site, Status, appraise},
    bundle::Evidence,
    endorsement::revocation::RevocationList,
    policy::ReleaseKey,
    quote::KeyName,
    signed, site,
};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    pkcs8::DecodePrivateKey as _,
};
use serde_json::Value;

use crate::{
    app::{Output, format, read_evidence},
    cli::EvidenceArgs,
    error::VerifyError,
    input::{
        self, DETECTION_FILE_BYTES_MAX, KEY_BYTES_MAX, LIST_FILE_BYTES_MAX,
        MANIFEST_FILE_BYTES_MAX, SITE_FILE_BYTES_MAX,
    },
    report::{Exit, Report},
};

/// Member of the claims' submodule that a later call reads back; see `--previous`.
const MEMORY: &str = "hookprobe.memory";
/// Name of the submodule.
const SUBMODULE: &str = "hookprobe";
/// Longest earlier result.
const RESULT_BYTES_MAX: u64 = signed::RESULT_BYTES_MAX as u64;

/// Everything that one appraisal needs.
#[derive(Debug)]
pub struct Case {
    /// What the box said.
    pub evidence: Evidence,
    /// What the operator knows.
    pub reference: Reference,
    /// Seconds since 1970.
    pub now_s: u64,
}

/// Verifies evidence and shows the result.
///
/// # Errors
/// Any [`VerifyError`]: nothing was verified then.
pub fn run(command: &'static str, arguments: &EvidenceArgs) -> Result<Output, VerifyError> {
    let key = arguments.sign.as_deref().map(signing_key).transpose()?;
    let case = load(arguments, key.as_ref())?;
    if command == "bundle" && case.evidence.logs.is_none() {
        return Err(VerifyError::Usage(
            "bundle: the evidence is short, it has no logs; take full evidence, or use quote"
                .into(),
        ));
    }
    let appraisal = appraise(&case.evidence, &case.reference, case.now_s);
    if let Some(key) = key {
        let id = ReleaseKey::new(*key.verifying_key()).id();
        let sign = |message: &[u8]| {
            let signature: Signature = key.sign(message);
            signature.to_bytes().into()
        };
        let claims = claims(&appraisal).to_string();
        let jws = signed::seal_result(claims.as_bytes(), &id, sign);
        return Ok(Output::Text(jws, exit(appraisal.status)));
    }
    Ok(Output::Appraisal(claims(&appraisal), report(command, &case, &appraisal)))
}

/// Reads evidence and all that it is compared with.
///
/// # Errors
/// Any [`VerifyError`].
pub fn load(arguments: &EvidenceArgs, key: Option<&SigningKey>) -> Result<Case, VerifyError> {
    let release = input::release_key(arguments.release_key.as_deref())?;
    let bytes = input::evidence(&arguments.file)?;
    let file = arguments.file.first().map_or(Path::new(""), |file| file.as_path());
    let evidence = Evidence::parse(&bytes).map_err(|error| format(file, error.to_string()))?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut reference = Reference {
        release_keys: vec![release.clone()],
        generation_min: arguments.minimum_generation.unwrap_or(0),
        nonce: arguments.nonce.as_ref().map(|nonce| nonce.0.clone()),
        ak_name: arguments.ak.as_ref().map(|ak| KeyName::new(ak.0.clone())),
        ..Reference::default()
    };
    if let Some(path) = &arguments.manifest {
        let manifest =
            signed::open_manifest(&input::read(path, MANIFEST_FILE_BYTES_MAX)?, &release)
                .map_err(|error| format(path, error.to_string()))?;
        reference.manifest = Some(manifest);
    }
    if let Some(path) = &arguments.site {
        let configuration = input::read(path, SITE_FILE_BYTES_MAX)?;
        let files = arguments.site_file.iter().map(|path| site_file(path));
        let files = files.collect::<Result<Vec<site::File>, VerifyError>>()?;
        reference.site = Some(Site::Bytes(site::measured(&configuration, &files)));
    }
    for path in &arguments.ek_root {
        let roots = blocks(&input::read(path, KEY_BYTES_MAX)?, "CERTIFICATE")
            .map_err(|why| VerifyError::Key { path: path.clone(), why })?;
        reference.ek_roots.get_or_insert_default().extend(roots);
    }
    for path in &arguments.ek_crl {
        let lists = lists(&input::read(path, LIST_FILE_BYTES_MAX)?)
            .map_err(|why| VerifyError::Key { path: path.clone(), why })?;
        reference.ek_lists.get_or_insert_default().extend(lists);
    }
    if let Some(path) = &arguments.previous {
        reference.memory = Some(previous(path, &reference, key, now_s)?);
    }
    Ok(Case { evidence, reference, now_s })
}

/// A file beside the site configuration.
fn site_file(path: &Path) -> Result<site::File, VerifyError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !site::is_file(name) {
        let why = "the box does not use a file of this name; *.rules, hookprobe.names".into();
        return Err(VerifyError::Read { path: path.to_owned(), why });
    }
    Ok(site::File::new(name, &input::read(path, DETECTION_FILE_BYTES_MAX)?))
}

fn signing_key(path: &Path) -> Result<SigningKey, VerifyError> {
    let wrong = || VerifyError::Key {
        path: path.to_owned(),
        why: "not a P-256 private key in PEM (PKCS#8)".into(),
    };
    let text = String::from_utf8(input::read(path, KEY_BYTES_MAX)?).map_err(|_| wrong())?;
    SigningKey::from_pkcs8_pem(&text).map_err(|_| wrong())
}

/// DER in a file: itself, or the blocks of one kind of PEM.
fn blocks(bytes: &[u8], kind: &str) -> Result<Vec<Vec<u8>>, String> {
    let [begin, end] = ["BEGIN", "END"].map(|word| std::format!("-----{word} {kind}-----"));
    let Some(text) = str::from_utf8(bytes).ok().filter(|text| text.contains(&begin)) else {
        return Ok(vec![bytes.to_vec()]);
    };
    text.split(&begin)
        .skip(1)
        .map(|rest| {
            let (body, _) = rest.split_once(&end).ok_or("a block of it does not end")?;
            let body: String = body.split_whitespace().collect();
            Base64::decode_vec(&body).map_err(|_| "a block of it is not Base64".into())
        })
        .collect()
}

/// Lists of revoked certificates in a file. One that can't be read is no list that is empty.
fn lists(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let lists = blocks(bytes, "X509 CRL")?;
    for list in &lists {
        RevocationList::parse(list).map_err(|error| error.to_string())?;
    }
    Ok(lists)
}

/// What an earlier look at the box left: an earlier result, or earlier evidence that is appraised
/// again.
fn previous(
    path: &Path,
    reference: &Reference,
    key: Option<&SigningKey>,
    now_s: u64,
) -> Result<Memory, VerifyError> {
    let unusable = |why: &str| format(path, format!("HP-VF-008 earlier result: {why}"));
    let bytes = input::read(path, RESULT_BYTES_MAX.max(input::EVIDENCE_FILE_BYTES_MAX))?;
    let text = str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    let claims = if text.starts_with('{') {
        Some(text.as_bytes().to_vec())
    } else if text.starts_with("ey") {
        let key = key.ok_or_else(|| {
            unusable("it is signed, so --sign with the same key is needed to check that")
        })?;
        let opened = signed::open_result(text, key.verifying_key());
        Some(opened.map_err(|error| format(path, error.to_string()))?)
    } else {
        None
    };
    if let Some(claims) = claims {
        let claims: Value = serde_json::from_slice(&claims)
            .map_err(|_| unusable("it is not JSON; give one that this program printed"))?;
        let memory = claims.pointer(&format!("/submods/{SUBMODULE}/{MEMORY}")).cloned();
        return memory.and_then(|memory| serde_json::from_value(memory).ok()).ok_or_else(|| {
            unusable("it remembers nothing of the box, it was contraindicated; give an earlier one")
        });
    }
    let evidence = read_evidence(path)?;
    // Its nonce was another one; everything else that is asked now is asked of it too.
    let reference = Reference { nonce: Some(evidence.binding.nonce.to_vec()), ..reference.clone() };
    let appraisal = appraise(&evidence, &reference, now_s);
    let worst = appraisal.worst().map(ToString::to_string).unwrap_or_default();
    appraisal.memory.ok_or_else(|| {
        unusable(&std::format!("the earlier evidence does not hold by itself ({worst})"))
    })
}

fn exit(status: Status) -> Exit {
    match status {
        Status::Affirming => Exit::Affirming,
        // That nothing is claimed is not that all is well.
        Status::None | Status::Warning => Exit::Warning,
        Status::Contraindicated => Exit::Contraindicated,
    }
}

/// The claims set, with what a later call remembers.
fn claims(appraisal: &Appraisal) -> Value {
    let mut claims: Value = serde_json::from_slice(&appraisal.to_json()).unwrap_or_default();
    if let Some(memory) = &appraisal.memory
        && let Some(Value::Object(submodule)) = claims.pointer_mut(&format!("/submods/{SUBMODULE}"))
    {
        submodule.insert(MEMORY.into(), serde_json::json!(memory));
    }
    claims
}

fn report(command: &'static str, case: &Case, appraisal: &Appraisal) -> Report {
    let mut report = Report::new(command);
    report.at_least(exit(appraisal.status));
    let level = appraisal.level;
    report.summary(std::format!("level {level}: as the release predicts, nothing else found"));
    for finding in &appraisal.findings {
        let severity = match finding.severity {
            // A remark is shown, and changes nothing.
            Severity::Info => Exit::Affirming,
            Severity::Warn => Exit::Warning,
            Severity::Critical => Exit::Contraindicated,
        };
        report.finding(severity.min(exit(appraisal.status)), finding.to_string());
    }
    report.fact("level", std::format!("{level}  {}", level.text()));
    if let Some(divergence) = &appraisal.divergence {
        report.fact("first divergent event", divergence.clone());
    }
    if let Some((version, generation)) = &appraisal.image {
        report.fact("image", std::format!("{version}, generation {generation}"));
    }
    if let Some(ak) = &appraisal.ak_name {
        report.fact("attestation key", ak.hex());
    }
    if !appraisal.endorsement.is_empty() {
        report.fact("endorsement", appraisal.endorsement.clone());
    }
    report.fact("nonce", hex(&appraisal.nonce));
    if let Some(clock) = &appraisal.clock {
        let epoch = appraisal.epoch.unwrap_or(0);
        report.fact(
            "boot",
            std::format!(
                "epoch {epoch}, resets {}, restarts {}, TPM clock {} s",
                clock.reset_count,
                clock.restart_count,
                clock.clock_ms / 1000
            ),
        );
    }
    if let Some((length, head, _)) = &appraisal.ledger {
        let head = head.as_deref().map_or_else(|| "none".into(), hex);
        report.fact("ledger", std::format!("{length} blocks, head {head}"));
    }
    if let Some(secure_boot) = appraisal.secure_boot {
        report.fact("Secure Boot", if secure_boot { "on" } else { "off" });
    }
    for register in &appraisal.registers {
        let word = match &register.expected {
            Some(expected) if *expected == register.value => "as predicted",
            Some(_) => "DIFFERS",
            None => "not predicted",
        };
        let label = "register";
        report.fact(
            label,
            std::format!(
                "{:2} {} {}  {word}",
                register.pcr.get(),
                register.value.alg(),
                register.value.hex()
            ),
        );
    }
    report.fact(
        "taken",
        std::format!("{} s since 1970 by the box's own clock", case.evidence.taken_s),
    );
    report
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
