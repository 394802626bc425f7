//! A service that was taken over, in an image that the release signed for the next generation: it
//! is measured and started like any other, and tries everything from inside.

use std::{
    collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use hookprobe_evidence::appraise::Status;
use hookprobe_wire::attest::Verdict;

use super::{
    Campaign,
    judge::{judge, nonce, parse, words},
    session::{VERDICT_WAIT, challenged},
};
use crate::{
    compose::{self, Vouch},
    error::{Error, Result, at},
    programs,
    tree::{Image, Tree},
    vm::{Line, Options, Port, Vm},
};

/// Attempts with answers of other services and ten thousand starts; a translated guest on a busy
/// machine is slow.
const ATTEMPTS_WAIT: Duration = Duration::from_secs(300);
/// What PID 1 says of a file that is not what it was at boot.
const CHANGED: &str = "HP-MB-014 service:borrower file:";
/// Why attest looked at the box.
const RESTARTED: &str = "cause=restart service=adversary";
/// What the sensor says when the guard in the kernel refused to execute something.
const GUARD: &str = "HP-SN-073";
/// The service's user, by whom the guard's line is known.
const UID: &str = "uid=850";
/// Name of the image and of the service.
const NAME: &str = "adversary";
/// The services: sandboxed as services are, the first with what could help it and is harmless in the
/// list.
const SERVICES: &str = r#"
[[service]]
name = "adversary"
exec = "/usr/lib/hookprobe/hookprobe-adversary"
args = ["STARTS"]
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

[[service]]
name = "borrower"
exec = "/usr/lib/hookprobe/hookprobe-adversary"
args = ["borrow"]
files = ["/var/lib/hookprobe/adversary/borrowed"]
uid = 851
gid = 851
groups = [800]
seccomp = ["base", "files", "unix"]
read = ["/run"]
network = "none"
memory_mib_max = 16
tasks_max = 8
essential = false
"#;
/// A file of the second service's closure, in the root. Measured before the state is mounted over it,
/// and then in the directory of the first: the only way that a closure can change at all.
const BORROWED: &str = "/var/lib/hookprobe/adversary/borrowed";
/// What shows which attack.
const ATTEMPTS: [(u8, &[&str]); 5] = [
    (1, &["race", "writable-exec", "overlay"]),
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

/// Puts the adversary and its services into a root.
fn plant(root: &Path, bytes: &[u8], starts: u32) -> io::Result<()> {
    let path = root.join("usr/lib/hookprobe/hookprobe-adversary");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555))?;
    let borrowed = root.join(BORROWED.trim_start_matches('/'));
    fs::create_dir_all(borrowed.parent().unwrap_or(root))?;
    fs::write(&borrowed, b"as measured\n")?;
    let list = root.join("etc/hookprobe/services.toml");
    let services = SERVICES.replace("STARTS", &starts.to_string());
    let text = fs::read_to_string(&list)? + &services;
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644))?;
    fs::write(&list, text)?;
    fs::set_permissions(&list, fs::Permissions::from_mode(0o444))
}

/// The image of the next generation, with the adversary in it.
fn image(tree: &Tree, starts: u32) -> Result<Image> {
    let binary = programs::folder(tree).join("hookprobe-adversary");
    let bytes = fs::read(&binary).map_err(at(&binary))?;
    let vouch = Vouch::Signed { generation: generation(tree)?.saturating_add(1) };
    let mut planted = Ok(());
    let image = compose::repack(tree, NAME, vouch, |root| planted = plant(root, &bytes, starts))?;
    planted.map_err(at(image.rootfs()))?;
    Ok(image)
}

pub(super) fn adversary(campaign: &mut Campaign<'_>) -> Result<()> {
    let image = image(campaign.tree, campaign.scale.starts)?;
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
    borrowed(campaign, &mut vm, &mut port)?;
    vm.power_off()
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
    // The box looked at itself because of it, not only when the minute was over. Before anybody asks:
    // an answered challenge makes the borrower end.
    let looked = wait(vm, "a look because of the restart", |line| {
        line.source == "attest" && line.verb() == "attested" && line.text.contains(RESTARTED)
    });
    let mut port = Port::plug(vm)?;
    let challenge = nonce()?;
    let mut reference = campaign.judge.reference(&challenge)?;
    reference.memory = Some(campaign.known()?.memory.clone());
    reference.generation_min = generation(campaign.tree)?.saturating_add(1);
    let appraisal = judge(&parse(&port.evidence(&challenge, true)?)?, &reference);
    let verdict = looked.ok().and_then(|line| line.field("verdict").map(str::to_owned));
    let own = verdict.as_deref() == Some(Verdict::Affirming.word());
    let ok = again && own && appraisal.status == Status::Affirming;
    let own = verdict.unwrap_or_else(|| "did not look".into());
    let text = format!(
        "restarted after its end: {again}, self because of it: {own}, {}",
        words(&appraisal)
    );
    campaign.saw(16, ok, text);
    if let (Some(memory), Some(known)) = (appraisal.memory, campaign.known.as_mut()) {
        known.memory = memory;
    }
    Ok(port)
}

/// Attack 16 on a closure: a file beside the binary is another one when its service is to be started
/// again, which ends as soon as the box answered a challenge.
fn borrowed(campaign: &mut Campaign<'_>, vm: &mut Vm, port: &mut Port) -> Result<()> {
    let refused_by_init = wait(vm, "the refusal of a changed closure", |line| {
        line.source == "init" && line.text.contains(CHANGED) && line.text.contains(BORROWED)
    });
    let starts = |line: &&Line| line.source == "borrower" && line.text.contains("starts");
    let starts = vm.log.all().iter().filter(starts).count();
    let status = port.wait_status("attest to notice the violation", VERDICT_WAIT, |status| {
        status.verdict == Verdict::Contraindicated
    });
    let (asked, said) = challenged(campaign, port)?;
    let ok = refused_by_init.is_ok() && starts == 1 && status.is_ok() && asked;
    let by_init = match refused_by_init {
        Ok(line) => line.text.chars().take(160).collect(),
        Err(error) => error.to_string().replace('\n', " / "),
    };
    campaign.saw(16, ok, format!("closure changed: {starts} start, then {by_init}; {said}"));
    Ok(())
}

/// Waits for a line, seen already or not.
pub(super) fn wait(vm: &mut Vm, what: &str, want: impl Fn(&Line) -> bool) -> Result<Line> {
    if let Some(line) = vm.log.all().iter().find(|line| want(line)) {
        return Ok(line.clone());
    }
    vm.wait(what, ATTEMPTS_WAIT, want)
}
