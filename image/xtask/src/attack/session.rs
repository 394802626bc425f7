//! One intact boot of a new box: what evidence looks like when nothing is wrong, and what is done to
//! it from outside while it runs.

use std::{fs, path::Path, process::Command, time::Duration};

use hookprobe_evidence::{appraise::Status, signed::RELEASE_KEY_PATH};
use hookprobe_wire::attest::Verdict;

use super::{
    BOX, Campaign, FIRST, Known, LIVE,
    judge::{found, judge, nonce, parse, refused, words},
    mutate,
};
use crate::{
    error::{Error, Result, at},
    programs,
    vm::{Options, Port, Vm, folder, proxy, tpm},
};

/// The first self-quote comes with the start of attest, the next every minute.
pub(super) const VERDICT_WAIT: Duration = Duration::from_secs(150);
/// Exit codes of `hookprobe-verify`.
const AFFIRMED: i32 = 0;
const REFUSED: i32 = 2;
/// What attest says of a TPM that was reset under the running box.
const RESET_SEEN: &str = "HP-AT-030";
/// TPM2_CC_PCR_Extend
pub(super) const EXTEND: u32 = 0x182;
/// TPM2_Startup(CLEAR)
const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];

pub(super) fn intact(campaign: &mut Campaign<'_>) -> Result<()> {
    let options = Options { tap: true, ..Options::lab(BOX) };
    let (mut vm, _) = campaign.boot(&options)?;
    let mut port = Port::plug(&vm)?;
    port.wait_status("its own verification", VERDICT_WAIT, |status| {
        status.verdict == Verdict::Affirming
    })?;
    let challenge = nonce()?;
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let appraisal = judge(&evidence, &campaign.judge.reference(&challenge)?);
    let (Status::Affirming, Some(ak), Some(memory)) =
        (appraisal.status, appraisal.ak_name.clone(), appraisal.memory.clone())
    else {
        return Err(Error::Check(format!("an intact box is not affirmed: {}", words(&appraisal))));
    };
    campaign.known = Some(Known { evidence, nonce: challenge, ak, memory });
    if campaign.wanted.contains(&19) {
        campaign.live = Some(vm.freeze(LIVE)?);
    }
    old_quote(campaign, &vm.dir)?;
    changed_disk(campaign, &vm, &mut port)?;
    if campaign.wanted.contains(&11) {
        campaign.mutants = Some(mutate::begin(campaign)?);
    }
    reset(campaign, &vm, &mut port)?;
    vm.power_off()?;
    let dir = vm.dir.clone();
    drop(vm);
    folder::snapshot(&dir, FIRST)
}

/// Exit code of the shipped verifier about the first evidence for a challenge.
fn shipped(campaign: &Campaign<'_>, dir: &Path, challenge: &[u8]) -> Result<i32> {
    let file = dir.join("evidence.cbor");
    fs::write(&file, campaign.known()?.evidence.to_bytes()).map_err(at(&file))?;
    let program = programs::folder(campaign.tree).join("hookprobe-verify");
    let hex: String = challenge.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = campaign.image.rootfs().join(RELEASE_KEY_PATH.trim_start_matches('/'));
    let output = Command::new(&program)
        .arg("bundle")
        .arg(&file)
        .args(["--nonce", &hex, "--ak", &campaign.known()?.ak.hex(), "--release-key"])
        .arg(key)
        .output()
        .map_err(|source| Error::Spawn { program: program.display().to_string(), source })?;
    // -1: ended by a signal, which is none of its answers.
    Ok(output.status.code().unwrap_or(-1))
}

/// Attack 8: the quote of then for the challenge of now.
fn old_quote(campaign: &mut Campaign<'_>, dir: &Path) -> Result<()> {
    let fresh = campaign.judge.reference(&nonce()?)?;
    let mut evidence = campaign.known()?.evidence.clone();
    let replayed = judge(&evidence, &fresh);
    let mut ok = refused(&replayed) && found(&replayed, "HP-QV-045");
    // With the new nonce written over the old one.
    evidence.binding.nonce = fresh.nonce.clone().unwrap_or_default().into();
    let edited = judge(&evidence, &fresh);
    ok &= refused(&edited) && found(&edited, "HP-QV-004");
    let own = shipped(campaign, dir, &campaign.known()?.nonce.clone())?;
    let other = shipped(campaign, dir, &fresh.nonce.unwrap_or_default())?;
    ok &= own == AFFIRMED && other == REFUSED;
    let text = format!(
        "{}; nonce written over: {}; exit code of hookprobe-verify: {other}, for its own nonce \
         {own}",
        words(&replayed),
        words(&edited)
    );
    campaign.saw(8, ok, text);
    Ok(())
}

/// Attack 2: another blob on the disk while the box runs from the old one.
fn changed_disk(campaign: &mut Campaign<'_>, vm: &Vm, port: &mut Port) -> Result<()> {
    let other = vm.dir.join("other.efi");
    let mut bytes = fs::read(campaign.image.uki()).map_err(at(campaign.image.uki()))?;
    bytes.iter_mut().rev().take(1 << 20).for_each(|byte| *byte = !*byte);
    fs::write(&other, bytes).map_err(at(&other))?;
    folder::esp_put(&vm.dir.join("disk.img"), &other, "EFI/BOOT/BOOTX64.EFI")?;
    let challenge = nonce()?;
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.memory = Some(campaign.known()?.memory.clone());
    let appraisal = judge(&evidence, &reference);
    let same = evidence.pcrs == campaign.known()?.evidence.pcrs;
    let ok = same && appraisal.status == Status::Affirming;
    let text = format!(
        "blob on disk overwritten; registers {}, {}",
        if same { "unchanged" } else { "changed" },
        words(&appraisal)
    );
    campaign.saw(2, ok, text);
    Ok(())
}

/// Attack 6: the reset line is pulled, then every extend is sent again.
fn reset(campaign: &mut Campaign<'_>, vm: &Vm, port: &mut Port) -> Result<()> {
    let proxy = vm.proxy()?;
    let extends: Vec<Vec<u8>> =
        proxy.seen().into_iter().filter(|command| proxy::code(command) == EXTEND).collect();
    tpm::reset(&vm.dir)?;
    proxy.inject(&STARTUP)?;
    let good = |answer: &Vec<u8>| answer.get(6..10) == Some(&[0; 4]);
    let mut replayed = 0;
    for extend in &extends {
        replayed += usize::from(good(&proxy.inject(extend)?));
    }
    let made = replayed == extends.len() && replayed > 0;
    let (asked, said) = challenged(campaign, port)?;
    let status = port.wait_status("attest to notice the reset", VERDICT_WAIT, |status| {
        status.verdict != Verdict::Affirming
    });
    let (named, noticed) = match &status {
        Ok(status) => (
            status.divergence.starts_with(RESET_SEEN),
            format!("self: {} {}", status.verdict.word(), status.divergence),
        ),
        Err(error) => (false, format!("self: {error}")),
    };
    let ok = made && asked && named;
    campaign.saw(6, ok, format!("{replayed} extends replayed; {said}; {noticed}"));
    Ok(())
}

/// Challenges a box that should not affirm any more: whether it did not, and in which words.
pub(super) fn challenged(campaign: &Campaign<'_>, port: &mut Port) -> Result<(bool, String)> {
    let challenge = nonce()?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.memory = campaign.known.as_ref().map(|known| known.memory.clone());
    match port.evidence(&challenge, true) {
        Err(error) => Ok((true, format!("no evidence: {error}"))),
        Ok(bytes) => {
            let appraisal = judge(&parse(&bytes)?, &reference);
            Ok((refused(&appraisal), words(&appraisal)))
        }
    }
}
