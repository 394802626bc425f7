//! Parts of the box exchanged: a file of the image, the wire to the TPM, the state disk, the TPM.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hookprobe_wire::attest::{Status, Verdict};
use serde_json::Value;

use super::{
    BOX, Campaign, FIRST, QUESTION_WAIT,
    judge::{about, found, judge, nonce, parse, refused, words},
    pass, ready,
    session::{EXTEND, VERDICT_WAIT, challenged},
    time::state_is_locked,
};
use crate::{
    compose::{self, Vouch},
    error::{Error, Result, at},
    run, shell,
    vm::{Line, Options, Port, Vm, folder, proxy, proxy::Act},
};

/// Which extend of PCR 13 never reaches the TPM, and which arrives changed.
const DROPPED: u32 = 3;
const ALTERED: u32 = 5;
/// Before the encrypted bytes of a volume, as the box makes them and we do.
const HEADER_BYTES: u64 = 16 << 20;
/// A passphrase that the attacker knows.
const PASSPHRASE: &[u8] = b"opensesame";
/// What the box seals, with the tag behind it.
const PASSPHRASE_BYTES: usize = 32 + 16;
/// How often a key is typed, and how long an answer may take; the box waits thirty seconds for one.
const KEYS: usize = 3;
const ANSWER_WAIT: Duration = Duration::from_secs(8);
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

/// Attack 14: in place of the box's state, a volume of the same shape whose passphrases somebody else
/// knows. First with the box's own token in it, which this TPM opens; then, while the box asks for a
/// recovery key, with one that claims to seal the known passphrase.
pub(super) fn foreign_state(campaign: &mut Campaign<'_>) -> Result<()> {
    let dir = folder::folder(campaign.tree, BOX);
    folder::restore(&dir, FIRST, &[])?;
    let own = dir.join("own.luks");
    folder::take_state(&dir, &own)?;
    let export = ["token", "export", "--token-id", "0"];
    let token = shell::output(Command::new("cryptsetup").args(export).arg(&own))?;
    let volume = foreign_volume(&dir)?;
    put_token(&volume, &token)?;
    folder::put_state(&dir, &volume)?;
    // Prepared before: the question is only asked for 30 s.
    put_token(&volume, &forged(&token)?)?;
    let header = header_of(&volume)?;
    let mut vm = campaign.start(&campaign.kept())?;
    let asks = |line: &Line| line.text.starts_with("state locked");
    let copied = vm.wait("the question", run::READY_WAIT, asks)?.text;
    folder::overwrite_state(&dir, &header)?;
    let changed = type_wrong_key(&mut vm, asks)?.text;
    pass(&mut vm)?;
    let mut port = Port::plug(&vm)?;
    let challenge = nonce()?;
    let reference = campaign.judge.reference(&challenge)?;
    let evidence = parse(&port.evidence(&challenge, true)?)?;
    let appraisal = judge(&evidence, &reference);
    let measured = port.log()?.iter().any(|line| line.name.starts_with("volume:"));
    let has = |text: &str, parts: [&str; 2]| parts.iter().all(|part| text.contains(part));
    let ok = has(&copied, ["HP-AT-107", "does not open its key slot"])
        && has(&changed, ["HP-AT-108", "HP-TP-123"])
        && !measured
        && found(&appraisal, "HP-MB-062");
    let short = |text: &str| text.chars().take(160).collect::<String>();
    let text = format!(
        "own token: {}; forged token: {}; measured as its own: {measured}; {}",
        short(&copied),
        short(&changed),
        words(&appraisal)
    );
    campaign.saw(14, ok, text);
    Ok(())
}

/// Types a recovery key that opens nothing until the box asks again: what comes before a question is no
/// answer to it.
fn type_wrong_key(vm: &mut Vm, asks: impl Fn(&Line) -> bool) -> Result<Line> {
    let key = format!("{}\r", ["00000"; 8].join("-"));
    // Kept open: what the guest has not read when a line is hung up is lost.
    let mut serial = vm.serial()?;
    let mut last = None;
    for _ in 0..KEYS {
        std::thread::sleep(QUESTION_WAIT);
        serial.write_all(key.as_bytes()).map_err(at("serial.sock"))?;
        match vm.wait("the question again", ANSWER_WAIT, &asks) {
            Ok(line) => return Ok(line),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::Check("no key was typed".into())))
}

/// What a token is in: all that lies before the encrypted bytes.
fn header_of(volume: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut header = Vec::new();
    let file = fs::File::open(volume).map_err(at(volume))?;
    file.take(HEADER_BYTES).read_to_end(&mut header).map_err(at(volume))?;
    Ok(header)
}

/// A volume as the box makes them, with slots for its passphrase and for a recovery key.
fn foreign_volume(dir: &Path) -> Result<PathBuf> {
    let (volume, key) = (dir.join("foreign.luks"), dir.join("foreign.key"));
    fs::write(&key, PASSPHRASE).map_err(at(&key))?;
    let file = fs::File::create(&volume).map_err(at(&volume))?;
    file.set_len(compose::STATE_MIB << 20).map_err(at(&volume))?;
    let kdf = ["--batch-mode", "--hash", "sha256", "--pbkdf", "pbkdf2"];
    let kdf = || kdf.into_iter().chain(["--pbkdf-force-iterations", "1000", "--key-file"]);
    shell::output(
        Command::new("cryptsetup")
            .args(["luksFormat", "--type", "luks2", "--cipher", "aes-xts-plain64"])
            .args(["--key-size", "512", "--sector-size", "512", "--offset", "32768"])
            .args(["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "4161536"])
            .args(["--key-slot", "0"])
            .args(kdf())
            .arg(&key)
            .arg(&volume),
    )?;
    shell::output(
        Command::new("cryptsetup")
            .args(["luksAddKey", "--key-slot", "1"])
            .args(kdf())
            .args([&key, &volume, &key]),
    )?;
    Ok(volume)
}

/// Puts a token into a volume, in place of the one that is there.
fn put_token(volume: &Path, token: &str) -> Result<()> {
    let file = volume.with_extension("json");
    fs::write(&file, token).map_err(at(&file))?;
    // There is none the first time.
    let remove = ["token", "remove", "--token-id", "0"];
    let _ = shell::output(Command::new("cryptsetup").args(remove).arg(volume));
    let import = ["token", "import", "--token-id", "0", "--json-file"];
    shell::output(Command::new("cryptsetup").args(import).args([&file, volume]))?;
    Ok(())
}

/// The token with other bytes where the passphrase is sealed.
fn forged(token: &str) -> Result<String> {
    let wrong = || Error::Check(format!("the box's token is not as expected: {token}"));
    let mut json: Value = serde_json::from_str(token).map_err(|_| wrong())?;
    let sealed = json.get("sealed").and_then(Value::as_str).ok_or_else(wrong)?;
    let kept = sealed.get(..sealed.len().saturating_sub(2 * PASSPHRASE_BYTES)).unwrap_or_default();
    json["sealed"] = Value::from(kept.to_owned() + &"5a".repeat(PASSPHRASE_BYTES));
    Ok(json.to_string())
}

/// The third part of attack 18: the TPM of a box that claims something of itself is gone.
pub(super) fn gone_later(campaign: &mut Campaign<'_>, vm: &mut Vm, port: &mut Port) -> Result<()> {
    let claims = |status: &Status| matches!(status.verdict, Verdict::Affirming | Verdict::Warning);
    let before = port.wait_status("a box that claims something", VERDICT_WAIT, claims)?;
    vm.kill_tpm();
    let (silent, said) = challenged(campaign, port)?;
    let status = port.wait_status("attest to notice", VERDICT_WAIT, |status| !claims(status));
    let (noticed, after) = match &status {
        Ok(status) => (
            status.verdict == Verdict::None && status.level == "L0",
            format!("{} {}", status.level, status.verdict.word()),
        ),
        Err(error) => (false, error.to_string()),
    };
    let before = format!("{} {}", before.level, before.verdict.word());
    campaign.saw(18, silent && noticed, format!("gone later: {before}, then {after}; {said}"));
    Ok(())
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
