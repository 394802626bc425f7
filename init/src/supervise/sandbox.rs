//! What a service may do: capabilities, files (landlock), system calls (seccomp).
//!
//! Everything is prepared by PID 1 before the fork, so that a specification that can't be enforced
//! is found out without a child; the child only puts it on, in [`Prepared::enter`]. Whatever can't
//! be enforced by this kernel is said, never skipped in silence.

use std::{collections::BTreeMap, fs::File, path::Path};

use hookprobe_evidence::closure::ServiceSpec;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::{
    fs::{SealFlags, fcntl_get_seals},
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
        set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use thiserror::Error;

use super::syscalls::{GROUPS, KILL, Rule, Test};

/// Landlock of the kernels we ship (6.12): what older ones lack is left out and said.
const LANDLOCK: ABI = ABI::V6;
/// What every program may use: it keeps nothing and tells nothing.
const NOWHERE: &str = "/dev/null";
/// Highest capability number that is removed from the bounding set.
const CAPABILITY_MAX: u32 = 63;

/// Why a service can't be confined, or could not put its confinement on.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A capability that does not exist.
    #[error("sandbox: unknown capability {0}; correct services.toml")]
    Capability(String),
    /// A group of calls that does not exist.
    #[error("sandbox: unknown seccomp group {0}; correct services.toml")]
    Group(String),
    /// The filter can't be made.
    #[error("sandbox: seccomp: {0}")]
    Seccomp(String),
    /// The rules can't be made.
    #[error("sandbox: landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// The kernel refused a step.
    #[error("sandbox: {step}: {errno}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        errno: rustix::io::Errno,
    },
}

/// The confinement of one service, ready to be put on by a child.
pub struct Prepared {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    capabilities: CapabilitySet,
    landlock: RulesetCreated,
    filters: [BpfProgram; 3],
    /// Paths of the specification that are not there; they stay forbidden.
    pub missing: Vec<String>,
}

impl Prepared {
    /// Prepares the confinement of `spec`, whose binary is `exec`.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub fn new(spec: &ServiceSpec, exec: &File) -> Result<Self, SandboxError> {
        Ok(Self {
            uid: Uid::from_raw(spec.uid),
            gid: Gid::from_raw(spec.gid),
            groups: spec.groups.iter().copied().map(Gid::from_raw).collect(),
            capabilities: capabilities(&spec.capabilities)?,
            landlock: landlock(spec, exec)?,
            filters: filters(&spec.seccomp)?,
            missing: spec
                .read
                .iter()
                .chain(&spec.write)
                .filter(|path| !Path::new(path).exists())
                .cloned()
                .collect(),
        })
    }

    /// Puts it on, in the child, as its last act before exec. Returns what the kernel does not
    /// enforce, in words; empty when everything is.
    ///
    /// # Errors
    /// [`SandboxError`]; the child must end then.
    pub fn enter(self) -> Result<&'static str, SandboxError> {
        let step = |step| move |errno| SandboxError::Step { step, errno };
        for number in 0..=CAPABILITY_MAX {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // Above the kernel's last capability it says EINVAL.
            if !self.capabilities.contains(one)
                && let Err(errno) = remove_capability_from_bounding_set(one)
                && errno != rustix::io::Errno::INVAL
            {
                return Err(step("bounding set")(errno));
            }
        }
        set_keep_capabilities(true).map_err(step("keep capabilities"))?;
        set_thread_groups(&self.groups).map_err(step("groups"))?;
        set_thread_res_gid(self.gid, self.gid, self.gid).map_err(step("gid"))?;
        set_thread_res_uid(self.uid, self.uid, self.uid).map_err(step("uid"))?;
        let sets = CapabilitySets {
            effective: self.capabilities,
            permitted: self.capabilities,
            inheritable: self.capabilities,
        };
        set_capabilities(None, sets).map_err(step("capabilities"))?;
        for one in self.capabilities.iter() {
            configure_capability_in_ambient_set(one, true).map_err(step("ambient set"))?;
        }
        set_no_new_privs(true).map_err(step("no_new_privs"))?;
        let status = self.landlock.restrict_self()?;
        for filter in &self.filters {
            apply_filter(filter).map_err(|error| SandboxError::Seccomp(error.to_string()))?;
        }
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => "",
            RulesetStatus::PartiallyEnforced => "landlock: this kernel enforces a part only",
            RulesetStatus::NotEnforced => "landlock: this kernel does not enforce it",
        })
    }
}

/// Capabilities by name.
fn capabilities(names: &[String]) -> Result<CapabilitySet, SandboxError> {
    names.iter().try_fold(CapabilitySet::empty(), |set, name| {
        name.strip_prefix("CAP_")
            .and_then(CapabilitySet::from_name)
            .map(|one| set | one)
            .ok_or_else(|| SandboxError::Capability(name.clone()))
    })
}

/// Executes its own binary only; reads and writes what the specification names, writes nothing
/// that could then be executed. TCP only with the group `inet`.
fn landlock(spec: &ServiceSpec, exec: &File) -> Result<RulesetCreated, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(LANDLOCK)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?;
    if !spec.seccomp.iter().any(|group| group == "inet") {
        ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK))?;
    }
    let there = |paths: &[String]| -> Vec<String> {
        paths.iter().filter(|path| Path::new(path).exists()).cloned().collect()
    };
    // The loader and the libraries of a program that is not ours; all of them are measured.
    let libraries = spec.seccomp.iter().any(|group| group == "libraries");
    let closure = if libraries { there(&spec.files) } else { Vec::new() };
    // Nodes that it was given; in a directory of nodes it may make and remove some.
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let nodes =
        device | AccessFs::ReadDir | AccessFs::MakeBlock | AccessFs::MakeSym | AccessFs::RemoveFile;
    let (directories, devices): (Vec<String>, Vec<String>) =
        there(&spec.devices).into_iter().partition(|path| Path::new(path).is_dir());
    // A sealed copy in memory (see `measure`) is in no directory: landlock has no rule for it and
    // needs none, whoever holds the descriptor may execute it.
    let sealed = fcntl_get_seals(exec).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let exec = (!sealed).then(|| PathBeneath::new(exec, AccessFs::Execute | AccessFs::ReadFile));
    ruleset
        .create()?
        .add_rules(path_beneath_rules(devices, device))?
        .add_rules(path_beneath_rules(directories, nodes))?
        .add_rules(path_beneath_rules(closure, AccessFs::Execute | AccessFs::ReadFile))?
        .add_rules(exec.into_iter().map(Ok::<_, RulesetError>))?
        .add_rules(path_beneath_rules([NOWHERE], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(there(&spec.read), read))?
        .add_rules(path_beneath_rules(there(&spec.write), write))
}

/// Three filters, of which the kernel takes the hardest answer: dangerous calls end the process,
/// clone3 does not exist (its flags are in memory, where a filter can't look; the C library then
/// uses clone), and what no group allows fails with EPERM.
fn filters(groups: &[String]) -> Result<[BpfProgram; 3], SandboxError> {
    let kill = KILL.iter().map(|call| (*call, Vec::new())).collect();
    let clone3 = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    let errno = |number: i32| SeccompAction::Errno(u32::try_from(number).unwrap_or(1));
    Ok([
        program(kill, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(clone3, SeccompAction::Allow, errno(libc::ENOSYS))?,
        program(allowed(groups)?, errno(libc::EPERM), SeccompAction::Allow)?,
    ])
}

fn allowed(names: &[String]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, SandboxError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut whole = Vec::new();
    for name in names {
        let group = GROUPS
            .iter()
            .find(|group| group.name == name)
            .ok_or_else(|| SandboxError::Group(name.clone()))?;
        whole.extend(group.calls.iter().chain(group.legacy).copied());
        for rule in group.rules {
            rules.entry(rule.call).or_default().push(compile(rule)?);
        }
    }
    // No condition: whatever the arguments, even when another group has conditions.
    rules.extend(whole.into_iter().map(|call| (call, Vec::new())));
    Ok(rules)
}

fn compile(rule: &Rule) -> Result<SeccompRule, SandboxError> {
    let (operator, value) = match rule.test {
        Test::Is(value) => (SeccompCmpOp::Eq, value),
        Test::Without(mask) => (SeccompCmpOp::MaskedEq(mask), 0),
    };
    SeccompCondition::new(rule.argument, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| SandboxError::Seccomp(error.to_string()))
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let failed = |error: seccompiler::BackendError| SandboxError::Seccomp(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(BpfProgram::try_from)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused() {
        let names = |name: &str| vec![name.to_owned()];
        assert!(matches!(capabilities(&names("CAP_ROOT")), Err(SandboxError::Capability(_))));
        assert!(matches!(capabilities(&names("NET_ADMIN")), Err(SandboxError::Capability(_))));
        assert!(matches!(filters(&names("all")), Err(SandboxError::Group(_))));
        assert_eq!(capabilities(&names("CAP_NET_ADMIN")).unwrap(), CapabilitySet::NET_ADMIN);
    }

    #[test]
    fn groups_add_up_and_a_whole_call_beats_a_condition() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rules = allowed(&names(&["base", "unix", "netlink"])).unwrap();
        assert_eq!(rules[&libc::SYS_socket].len(), 2);
        assert!(rules[&libc::SYS_read].is_empty());
        assert!(!rules.contains_key(&libc::SYS_bpf));
        assert!(
            filters(&names(&["base", "files", "unix", "netlink", "bpf", "tty", "inet"])).is_ok()
        );
    }

    #[test]
    fn every_service_of_the_image_can_be_prepared() {
        let text = include_str!("../../../image/rootfs/services.toml");
        let list = hookprobe_evidence::closure::ServiceList::parse(text).unwrap();
        let exec = File::open("/proc/self/exe").unwrap();
        for spec in &list.service {
            Prepared::new(spec, &exec).unwrap();
        }
    }
}
