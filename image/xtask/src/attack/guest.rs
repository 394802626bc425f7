//! A service that was taken over, in an image that the release signed for the next generation: it
//! is measured and started like any other, and tries everything from inside.

use std::{
    collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use hookprobe_evidence::appraise::Status;

use super::{
    Campaign,
    judge::{judge, nonce, parse, words},
    parts::gone_later,
};
use crate::{
    compose::{self, Vouch},
    error::{Error, Result, at},
    programs,
    tree::{Image, Tree},
    vm::{Line, Options, Port, Vm},
};

/// Attempts with answers of other services; a translated guest on a busy machine is slow.
const ATTEMPTS_WAIT: Duration = Duration::from_secs(120);
/// What the sensor says when the guard in the kernel refused to execute something.
const GUARD: &str = "HP-SN-073";
/// The service's user, by whom the guard's line is known.
const UID: &str = "uid=850";
/// Name of the image and of the service.
const NAME: &str = "adversary";
/// The service: sandboxed as services are, with what could help it and is harmless in the list.
const SERVICE: &str = r#"
[[service]]
name = "adversary"
exec = "/usr/lib/hookprobe/hookprobe-adversary"
env = { LD_PRELOAD = "/var/lib/hookprobe/adversary/planted", LD_LIBRARY_PATH = "/var/lib/hookprobe/adversary" }
uid = 850
gid = 850
groups = [800]
seccomp = ["base", "files", "unix", "libraries"]
read = ["/dev", "/etc", "/proc", "/run", "/usr", "/var"]
write = ["/var/lib/hookprobe/adversary"]
directories = ["/var/lib/hookprobe/adversary"]
network = "none"
memory_mib_max = 32
tasks_max = 64
essential = false
"#;
/// What shows which attack.
const ATTEMPTS: [(u8, &[&str]); 4] = [
    (
        4,
        &[
            "plant-library",
            "preload-file",
            "exec-planted",
            "exec-planted-descriptor",
            "map-planted",
            "memfd",
            "own-environment",
            "preloaded",
        ],
    ),
    (
        15,
        &[
            "kexec-load",
            "kexec-file-load",
            "kexec-disabled",
            "module",
            "modules-disabled",
            "mount",
            "ptrace",
            "memory-of-init",
        ],
    ),
    (16, &["overwrite-self", "rename-over-self", "edit-services", "edit-log"]),
    (
        17,
        &[
            "open-tpmrm0",
            "open-tpm0",
            "open-mapper",
            "open-memory",
            "list-attest",
            "list-unlock",
            "list-ledger",
            "seed",
            "activate",
            "recovery",
            "recovery-noted",
            "append",
        ],
    ),
];

/// Security generation of the image in the checkout.
pub(super) fn generation(tree: &Tree) -> Result<u32> {
    let path = tree.source("image/layout/generation");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    text.trim().parse().map_err(|_| Error::Check(format!("{}: not a number", path.display())))
}

/// Puts the adversary and its service into a root.
fn plant(root: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = root.join("usr/lib/hookprobe/hookprobe-adversary");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555))?;
    let list = root.join("etc/hookprobe/services.toml");
    let text = fs::read_to_string(&list)? + SERVICE;
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644))?;
    fs::write(&list, text)?;
    fs::set_permissions(&list, fs::Permissions::from_mode(0o444))
}

/// The image of the next generation, with the adversary in it.
fn image(tree: &Tree) -> Result<Image> {
    let binary = programs::folder(tree).join("hookprobe-adversary");
    let bytes = fs::read(&binary).map_err(at(&binary))?;
    let vouch = Vouch::Signed { generation: generation(tree)?.saturating_add(1) };
    let mut planted = Ok(());
    let image = compose::repack(tree, NAME, vouch, |root| planted = plant(root, &bytes))?;
    planted.map_err(at(image.rootfs()))?;
    Ok(image)
}

pub(super) fn adversary(campaign: &mut Campaign<'_>) -> Result<()> {
    let image = image(campaign.tree)?;
    let options = Options { uki: Some(image.uki()), ..campaign.kept() };
    let (mut vm, _) = campaign.boot(&options)?;
    let from = |line: &Line, word: &str| line.source == NAME && line.text.contains(word);
    wait(&mut vm, "the attempts", |line| from(line, "attempts done=yes"))?;
    let again = wait(&mut vm, "the second start", |line| from(line, "attempts again=yes"));
    let tried: BTreeMap<String, (String, String)> = vm
        .log
        .all()
        .iter()
        .filter(|line| line.source == NAME && line.verb() == "attempt")
        .filter_map(|line| {
            let field = |key| Some(line.field(key)?.to_owned());
            Some((field("name")?, (field("result")?, field("detail").unwrap_or_default())))
        })
        .collect();
    for (number, names) in ATTEMPTS {
        let failed: Vec<String> = names
            .iter()
            .filter_map(|name| match tried.get(*name) {
                Some((result, _)) if result == "refused" || result == "killed" => None,
                Some((result, detail)) => Some(format!("{name} {result} ({detail})")),
                None => Some(format!("{name} was not tried")),
            })
            .collect();
        let some = names.iter().filter_map(|name| {
            let (result, detail) = tried.get(*name)?;
            Some(format!("{name} {result} ({detail})"))
        });
        let text = if failed.is_empty() {
            let shown: Vec<String> = some.take(2).collect();
            format!("{} attempts refused, e.g. {}", names.len(), shown.join(", "))
        } else {
            failed.join(", ")
        };
        campaign.saw(number, failed.is_empty(), text);
    }
    guarded(campaign, &mut vm);
    let mut port = restarted(campaign, &mut vm, again.is_ok())?;
    gone_later(campaign, vm, &mut port)
}

/// Attack 4, below the sandbox: mapping what was planted is refused by the kernel's guard before any
/// mount flag is looked at, and the sensor says so.
fn guarded(campaign: &mut Campaign<'_>, vm: &mut Vm) {
    let said = wait(vm, "the guard's line", |line| {
        line.source == "sensor" && line.text.contains(GUARD) && line.text.contains(UID)
    });
    let text = match &said {
        Ok(line) => format!("guard: {}", line.text),
        Err(error) => error.to_string().replace('\n', " / "),
    };
    let mapped = vm.log.all().iter().any(|line| {
        line.source == NAME && line.field("name").is_some_and(|name| name == "map-planted-again")
    });
    campaign.saw(4, said.is_ok() && !mapped, text);
}

/// Attack 16's second half: the killed service was measured again and is still what it was; and
/// the whole image is one that a verifier accepts, so that nothing above is an accident.
fn restarted(campaign: &mut Campaign<'_>, vm: &mut Vm, again: bool) -> Result<Port> {
    let mut port = Port::plug(vm)?;
    let challenge = nonce()?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.memory = Some(campaign.known()?.memory.clone());
    reference.generation_min = generation(campaign.tree)?.saturating_add(1);
    let appraisal = judge(&parse(&port.evidence(&challenge, true)?)?, &reference);
    let ok = again && appraisal.status == Status::Affirming;
    let text = format!("restarted after its end: {again}, then {}", words(&appraisal));
    campaign.saw(16, ok, text);
    if let (Some(memory), Some(known)) = (appraisal.memory, campaign.known.as_mut()) {
        known.memory = memory;
    }
    Ok(port)
}

/// Waits for a line, seen already or not.
pub(super) fn wait(vm: &mut Vm, what: &str, want: impl Fn(&Line) -> bool) -> Result<Line> {
    if let Some(line) = vm.log.all().iter().find(|line| want(line)) {
        return Ok(line.clone());
    }
    vm.wait(what, ATTEMPTS_WAIT, want)
}
