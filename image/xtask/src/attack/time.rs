//! Going back in time: an older image on the same TPM, a snapshot of disk and TPM; and what is done
//! to a running box's registers.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hookprobe_wire::attest::Verdict;

use super::{
    Campaign, FIRST,
    guest::generation,
    judge::{SITE, about, found, judge, nonce, parse, refused, words},
    session::VERDICT_WAIT,
};
use crate::{
    error::{Result, at},
    vm::{Options, Port, Serial, Vm, folder, proxy::Act, set_site},
};

/// TPM2_PCR_Extend of PCR 12 in the SHA-256 bank with 32 bytes of 0x5a, by the empty password.
const EXTEND_PCR_12: [u8; 65] = {
    let head = [
        0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 12, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
        0, 0, 0, 1, 0, 11,
    ];
    let mut all = [0x5a; 65];
    let mut at = 0;
    while at < head.len() {
        all[at] = head[at];
        at += 1;
    }
    all
};
/// How long a challenge may take while registers never rest.
const STORM_WAIT: Duration = Duration::from_secs(60);
/// Between two extends: less than any command of the box takes.
const GUST: Duration = Duration::from_millis(1);
/// Longer than attest waits for its TPM.
const HANG: Duration = Duration::from_secs(40);
/// What attest says of a TPM that does not answer in time.
const TPM_SILENT: &str = "HP-AT-007";
/// What it says when registers changed during every try to read them.
const RACED: &str = "HP-TP-106";

/// Attack 13, and the second part of 18 on the same boot.
pub(super) fn older(campaign: &mut Campaign<'_>) -> Result<()> {
    let (mut vm, _) = campaign.boot(&campaign.kept())?;
    let locked = state_is_locked(&mut vm, &["HP-AT-107", "HP-TP-112"]);
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.generation_min = generation(campaign.tree)?.saturating_add(1);
    let appraisal = judge(&parse(&port.evidence(&challenge, true)?)?, &reference);
    let status = port.status()?;
    let before = campaign.known()?.memory.epoch;
    let ok = locked.is_some()
        && status.epoch > before
        && refused(&appraisal)
        && found(&appraisal, "HP-QV-043");
    let text = format!(
        "epoch {before}, then {}; state: {}; {}",
        status.epoch,
        locked.unwrap_or_else(|| "open".into()),
        words(&appraisal)
    );
    campaign.saw(13, ok, text);
    hung_later(campaign, &vm, &mut port)
}

/// The diagnostic of a state volume that stays shut, and why: every one of `codes` is in it.
pub(super) fn state_is_locked(vm: &mut Vm, codes: &[&str]) -> Option<String> {
    let line = vm.log.all().iter().find(|line| {
        line.verb() == "diagnostic" && codes.iter().all(|code| line.text.contains(code))
    });
    line.map(|line| line.text.chars().take(160).collect())
}

/// Attack 18: the TPM stops answering for longer than attest waits for it, then comes back.
fn hung_later(campaign: &mut Campaign<'_>, vm: &Vm, port: &mut Port) -> Result<()> {
    let mut first = true;
    vm.proxy()?.set(Box::new(
        move |_| {
            if std::mem::take(&mut first) { Act::Hang(HANG) } else { Act::Pass }
        },
    ));
    port.set_wait(VERDICT_WAIT);
    let silent = port.evidence(&nonce()?, false);
    let text = match &silent {
        Ok(bytes) => format!("{} bytes of evidence from a TPM that hangs", bytes.len()),
        Err(error) => error.to_string(),
    };
    // The box never stopped answering, and the TPM is used again once it is back.
    let said = text.contains(TPM_SILENT) && port.status().is_ok();
    std::thread::sleep(HANG);
    let back = port.evidence(&nonce()?, false).is_ok();
    campaign.saw(18, said && back, format!("hung later: {text}; used again after it: {back}"));
    Ok(())
}

/// Attack 19 on the running box: memory, TPM and disk as they were in its first boot go on when it
/// has been started again since.
fn thawed(campaign: &mut Campaign<'_>) -> Result<()> {
    let Some(from) = campaign.live.take() else { return Ok(()) };
    // Plugged as the one that was frozen was; nobody looks at its TPM's commands.
    let options = Options { serial: Serial::Socket, ..Options::lab("attack-live") };
    let vm = Vm::thaw(campaign.tree, &from, &options)?;
    let mut port = Port::plug(&vm)?;
    let own = port.status()?;
    let challenge = nonce()?;
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let mut reference = campaign.judge.reference(&challenge)?;
    let forgetful = judge(&evidence, &reference);
    reference.memory = Some(campaign.known()?.memory.clone());
    let remembering = judge(&evidence, &reference);
    let went_back = remembering.findings.iter().find(|finding| finding.code == "HP-QV-049");
    let ok = refused(&remembering) && went_back.is_some();
    let text = format!(
        "running box restored: epoch {}, of itself {}; for who remembers: {}; for who does not: {}",
        own.epoch,
        own.verdict.word(),
        went_back.map_or_else(|| words(&remembering), ToString::to_string),
        words(&forgetful)
    );
    campaign.saw(19, ok, text);
    let dir = vm.dir.clone();
    drop(vm);
    // It is as large as the box's memory.
    std::fs::remove_dir_all(&dir).map_err(at(&dir))
}

/// Attacks 19 and 3 in one boot (both are named apart), then 12.
pub(super) fn restored(campaign: &mut Campaign<'_>) -> Result<()> {
    thawed(campaign)?;
    let dir = folder::folder(campaign.tree, super::BOX);
    folder::restore(&dir, FIRST, &[])?;
    let edited = [SITE, b"# edited\n"].concat();
    set_site(&dir, &edited)?;
    let (vm, _) = campaign.boot(&campaign.kept())?;
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.memory = Some(campaign.known()?.memory.clone());
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let appraisal = judge(&evidence, &reference);
    let finding = |code: &str| {
        let found = appraisal.findings.iter().find(|finding| finding.code == code);
        found.map_or_else(|| words(&appraisal), ToString::to_string)
    };
    let ok = refused(&appraisal) && found(&appraisal, "HP-QV-049");
    campaign.saw(19, ok, finding("HP-QV-049"));
    let named = |pcrs: &[hookprobe_evidence::bundle::PcrClaim]| -> Vec<_> {
        pcrs.iter().filter(|claim| claim.index == 12).map(|claim| claim.digest.clone()).collect()
    };
    let changed = named(&evidence.pcrs) != named(&campaign.known()?.evidence.pcrs);
    let ok = changed && found(&appraisal, "HP-MB-059");
    campaign.saw(3, ok, format!("PCR 12 changed: {changed}; {}", finding("HP-MB-059")));
    storm(campaign, &vm, &mut port)?;
    // What follows starts from an orderly box.
    drop(vm);
    folder::restore(&dir, FIRST, &[])
}

/// Attack 12: PCR 12 is extended without a pause while the box is challenged, and once it is calm.
fn storm(campaign: &mut Campaign<'_>, vm: &Vm, port: &mut Port) -> Result<()> {
    let proxy = vm.proxy()?;
    let over = AtomicBool::new(false);
    let (during, extends) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut extends = 0u64;
            while !over.load(Ordering::Relaxed) {
                let answer = proxy.inject(&EXTEND_PCR_12);
                extends += u64::from(answer.is_ok_and(|bytes| bytes.get(6..10) == Some(&[0; 4])));
                // The box's own commands have to get through, or this is attack 18.
                std::thread::sleep(GUST);
            }
            extends
        });
        port.set_wait(STORM_WAIT);
        let during = stormy(campaign, port);
        over.store(true, Ordering::Relaxed);
        (during, storm.join().unwrap_or_default())
    });
    let (refused_then, said) = during?;
    port.set_wait(VERDICT_WAIT);
    let status = port.wait_status("attest to notice", VERDICT_WAIT, |status| {
        status.verdict == Verdict::Contraindicated
    });
    let (refused_after, after) = stormy(campaign, port)?;
    let ok = extends > 0 && refused_then && refused_after && status.is_ok();
    campaign.saw(12, ok, format!("{extends} extends; during: {said}; after: {after}"));
    Ok(())
}

/// Challenges the box: whether it had no answer, or one in which PCR 12 is not explained. What else
/// is wrong with this boot does not count.
fn stormy(campaign: &Campaign<'_>, port: &mut Port) -> Result<(bool, String)> {
    let challenge = nonce()?;
    match port.evidence(&challenge, true) {
        // An answer of the box, not its silence.
        Err(error) => {
            let text = error.to_string();
            Ok((text.contains(RACED), format!("no evidence: {text}")))
        }
        Ok(bytes) => {
            let reference = campaign.judge.reference(&challenge)?;
            let appraisal = judge(&parse(&bytes)?, &reference);
            let named = about(&appraisal, "PCR 12");
            let ok = refused(&appraisal) && named.is_some();
            Ok((ok, named.unwrap_or_else(|| words(&appraisal))))
        }
    }
}
