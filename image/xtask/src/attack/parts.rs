//! Parts of the box exchanged: a file of the image, the wire to the TPM, the state disk, the TPM.

use std::{fs, io, path::Path, process::Command};

use hookprobe_wire::attest::{Status, Verdict};

use super::{
    Campaign,
    judge::{about, found, judge, nonce, parse, refused, words},
    ready,
    session::{EXTEND, VERDICT_WAIT, challenged},
    time::state_is_locked,
};
use crate::{
    compose::{self, Vouch},
    error::{Result, at},
    run, shell,
    vm::{self, Options, Port, Vm, folder, proxy, proxy::Act},
};

/// Which extend of PCR 13 never reaches the TPM, and which arrives changed.
const DROPPED: u32 = 3;
const ALTERED: u32 = 5;
/// A passphrase that the attacker knows.
const PASSPHRASE: &[u8] = b"opensesame";
/// TPM_RC_SUCCESS with one password session.
const SUCCESS: [u8; 19] = [0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

fn lengthen(path: &Path) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    bytes.push(0);
    fs::remove_file(path)?;
    fs::write(path, bytes)
}

/// Attack 5: the eBPF object of a signed image with one byte more.
pub(super) fn exchanged(campaign: &mut Campaign<'_>) -> Result<()> {
    let mut edited = Ok(());
    let image = compose::repack(campaign.tree, "exchanged", Vouch::Stolen, |root| {
        edited = lengthen(&root.join("usr/lib/hookprobe/hookprobe.bpf.o"));
    })?;
    edited.map_err(at(image.rootfs()))?;
    let options = Options { uki: Some(image.uki()), ..Options::lab("attack-exchanged") };
    let (mut vm, _) = campaign.boot(&options)?;
    let said = vm.log.all().iter().any(|line| {
        line.verb() == "diagnostic"
            && line
                .text
                .contains("HP-MB-004 service:sensor file:/usr/lib/hookprobe/hookprobe.bpf.o")
    });
    let locked = state_is_locked(&mut vm, &["HP-AT-102", "HP-TP-111"]);
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let reference = campaign.judge.reference(&challenge)?;
    let appraisal = judge(&parse(&port.evidence(&challenge, true)?)?, &reference);
    let named = appraisal.divergence.clone().filter(|text| text.contains("hookprobe.bpf.o"));
    let ok = said && refused(&appraisal) && locked.is_some() && named.is_some();
    let text = format!(
        "PID 1 names it: {said}; state: {}; {}",
        locked.unwrap_or_else(|| "open".into()),
        named.unwrap_or_else(|| words(&appraisal))
    );
    campaign.saw(5, ok, text);
    Ok(())
}

/// Attack 7: on the wire, one extend of PCR 13 is dropped and one altered; both are answered well.
pub(super) fn rewritten(campaign: &mut Campaign<'_>) -> Result<()> {
    let options = Options { tap: true, ..Options::lab("attack-proxy") };
    let mut vm = campaign.start(&options)?;
    let mut count = 0;
    vm.proxy()?.set(Box::new(move |command| {
        let of_13 = command.get(10..14) == Some(&[0, 0, 0, 13]);
        if proxy::code(command) != EXTEND || !of_13 {
            return Act::Pass;
        }
        count += 1;
        match count {
            DROPPED => Act::Answer(SUCCESS.to_vec()),
            ALTERED => {
                let mut other = command.to_vec();
                if let Some(last) = other.last_mut() {
                    *last = !*last;
                }
                Act::Rewrite(other)
            }
            _ => Act::Pass,
        }
    }));
    ready(&mut vm)?;
    let said = vm
        .log
        .all()
        .iter()
        .any(|line| line.verb() == "diagnostic" && line.text.contains("HP-MB-007 pcr 13"));
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let reference = campaign.judge.reference(&challenge)?;
    let appraisal = judge(&parse(&port.evidence(&challenge, true)?)?, &reference);
    let named = about(&appraisal, "PCR 13");
    let ok = said && refused(&appraisal) && named.is_some();
    let text = named.unwrap_or_else(|| words(&appraisal));
    campaign.saw(7, ok, format!("HP-MB-007 by PID 1: {said}; {text}"));
    Ok(())
}

/// Attack 14: a state disk whose passphrase somebody else knows.
pub(super) fn foreign_state(campaign: &mut Campaign<'_>) -> Result<()> {
    let options = Options { tap: true, ..Options::lab("attack-state") };
    let dir = vm::prepare(campaign.tree, campaign.image, &options)?;
    let (volume, key) = (dir.join("foreign.luks"), dir.join("foreign.key"));
    fs::write(&key, PASSPHRASE).map_err(at(&key))?;
    let file = fs::File::create(&volume).map_err(at(&volume))?;
    file.set_len(compose::STATE_MIB << 20).map_err(at(&volume))?;
    shell::output(
        Command::new("cryptsetup")
            .args(["luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2"])
            .args(["--pbkdf-force-iterations", "1000", "--key-file"])
            .arg(&key)
            .arg(&volume),
    )?;
    folder::put_state(&dir, &volume)?;
    let (mut vm, _) = campaign.boot(&Options { keep: true, ..options })?;
    let locked = state_is_locked(&mut vm, &["HP-AT-104"]);
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let reference = campaign.judge.reference(&challenge)?;
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let appraisal = judge(&evidence, &reference);
    let measured = port.log()?.iter().any(|line| line.name.starts_with("volume:"));
    let ok = locked.is_some() && !measured && found(&appraisal, "HP-MB-062");
    let text = format!(
        "state: {}; measured as its own: {measured}; {}",
        locked.unwrap_or_else(|| "open".into()),
        words(&appraisal)
    );
    campaign.saw(14, ok, text);
    Ok(())
}

/// The third part of attack 18: the TPM of a box that affirms itself is gone.
pub(super) fn gone_later(campaign: &mut Campaign<'_>, mut vm: Vm, port: &mut Port) -> Result<()> {
    let affirms = |status: &Status| status.verdict == Verdict::Affirming;
    let before = port.wait_status("a box that affirms", VERDICT_WAIT, affirms)?;
    vm.kill_tpm();
    let (silent, said) = challenged(campaign, port)?;
    let status = port.wait_status("attest to notice", VERDICT_WAIT, |status| !affirms(status));
    let (noticed, after) = match &status {
        Ok(status) => (
            status.verdict == Verdict::None && status.level == "L0",
            format!("{} {}", status.level, status.verdict.word()),
        ),
        Err(error) => (false, error.to_string()),
    };
    let before = format!("{} {}", before.level, before.verdict.word());
    campaign.saw(18, silent && noticed, format!("gone later: {before}, then {after}; {said}"));
    vm.power_off()
}

/// The first part of attack 18: the TPM stops answering when PID 1 is about to use it.
pub(super) fn hung(campaign: &mut Campaign<'_>) -> Result<()> {
    let options = Options { tap: true, ..Options::lab("attack-hung") };
    let mut vm = campaign.start(&options)?;
    vm.wait("the first phase", run::READY_WAIT, |line| line.verb() == "phase")?;
    vm.proxy()?.set(Box::new(|_| Act::Hang(run::READY_WAIT)));
    let ready = ready(&mut vm)?;
    let level = ready.field("level").unwrap_or_default().to_owned();
    let said = vm
        .log
        .all()
        .iter()
        .find(|line| line.verb() == "diagnostic" && line.text.contains("HP-TP-"))
        .map(|line| line.text.chars().take(120).collect::<String>());
    let ok = level == "L0" && said.is_some();
    campaign.saw(18, ok, format!("hung at boot: {level}, {}", said.unwrap_or_default()));
    Ok(())
}
