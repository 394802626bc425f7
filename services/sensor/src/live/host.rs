//! What happens on the box itself, as the live sensor shows it.
//!
//! Watching and guarding are extras: whatever of them the kernel does not allow is said as a
//! diagnostic, and the sensor goes on. Executions are refused only where the root is an image that
//! was measured (EROFS); on any other root, such as a developer's, the guard is off.

use hookprobe_abi::{
    config::mode,
    host::{Event, kind},
};
use hookprobe_wire::{Diagnostic, Severity, text::escape};
use rustix::fs::{stat, statfs};
use tracing::{debug, info, warn};

use crate::{
    core::address::to_ip,
    object::{
        Maps, Object, Records, event_from,
        host::{GUARDS, WATCHERS, kernel_device, lsm_is_active},
    },
};

/// EROFS_SUPER_MAGIC_V1: the file system of the measured root.
const EROFS: u64 = 0xe0f5_e1e2;
/// Files whose opening is told: what holds keys, speaks to the TPM or to the kernel's memory.
const WATCHED: [&str; 8] = [
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/tpm0",
    "/dev/tpmrm0",
    "/proc/kcore",
    "/proc/sysrq-trigger",
    "/sys/kernel/security/lsm",
];
/// Events handled in one go, so that the beat is never late.
const DRAIN_MAX: usize = 512;
/// Refusals that are logged one by one in a second; the counter has the rest.
const TOLD_MAX: u32 = 16;
/// Bytes of a reason in a diagnostic.
const REASON_BYTES_MAX: usize = 200;

/// The programs about the host.
#[derive(Debug, Default)]
pub struct Host {
    /// What does not run, and why.
    missing: Vec<(&'static str, String)>,
    guarded: bool,
    told: u32,
    refused: u64,
    foreign: u64,
}

impl Host {
    /// Starts what can be started.
    pub fn start(object: &mut Object, maps: &mut Maps) -> Self {
        let mut host = Self::default();
        for name in WATCHERS {
            if let Err(reason) = object.start_host(name) {
                host.missing.push((name, reason));
            }
        }
        host.watch(maps);
        match guard(object, maps) {
            Ok(()) => host.guarded = true,
            Err(reason) => host.missing.push(("execution guard", reason)),
        }
        object.release_types();
        for (name, reason) in &host.missing {
            info!("{name}: not running: {reason}");
        }
        info!(guard = host.guarded, watchers = WATCHERS.len(), "host programs");
        host
    }

    /// Names the watched files that are there now.
    fn watch(&mut self, maps: &mut Maps) {
        for path in WATCHED {
            let Ok(found) = stat(path) else { continue };
            let inode = hookprobe_abi::host::Inode {
                device: kernel_device(found.st_dev),
                number: found.st_ino,
            };
            if let Err(error) = maps.watched.insert(inode, 1, 0) {
                self.missing.push(("watched files", error.to_string()));
                return;
            }
        }
    }

    /// Takes events out of the ring buffer and logs them.
    pub fn drain(&mut self, ring: &mut Records) {
        for _ in 0..DRAIN_MAX {
            let Some(item) = ring.next() else { break };
            match event_from(&item) {
                Some(event) => self.event(&event),
                None => self.foreign += 1,
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let task = text(&event.task);
        let name = text(&event.name);
        let (pid, uid) = (event.pid, event.uid);
        match event.kind {
            kind::EXEC => info!(%task, pid, uid, file = %name, "exec"),
            kind::CONNECT => {
                debug!(%task, pid, uid, to = %to_ip(&event.address), port = event.port, "connect");
            }
            kind::OPEN => info!(%task, pid, uid, inode = event.file.number, "watched file opened"),
            kind::DENIED | kind::DENIED_MAP => {
                self.refused += 1;
                self.told += 1;
                if self.told <= TOLD_MAX {
                    warn!(
                        "HP-SN-073 {task}: execution outside the measured root refused: {name} \
                         pid={pid} uid={uid} refused={}; find out who put it there",
                        event.refused
                    );
                }
            }
            _ => self.foreign += 1,
        }
    }

    /// Once a second.
    pub fn second(&mut self) {
        self.told = 0;
    }

    /// Numbers for the status.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, u64); 3] {
        [
            ("exec_guarded", u64::from(self.guarded)),
            ("exec_refusals", self.refused),
            ("host_foreign", self.foreign),
        ]
    }

    /// What is wrong.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut diagnostics: Vec<Diagnostic> = self
            .missing
            .iter()
            .map(|(name, reason)| Diagnostic {
                code: "HP-SN-041".into(),
                severity: Severity::Info,
                object: (*name).into(),
                cause: format!("does not run: {}", escape(reason, REASON_BYTES_MAX)),
                remedy: "boot the product's image; its kernel command line names lsm=...,bpf"
                    .into(),
            })
            .collect();
        if self.refused > 0 {
            diagnostics.push(Diagnostic {
                code: "HP-SN-073".into(),
                severity: Severity::Critical,
                object: "execution guard".into(),
                cause: format!("{} executions outside the measured root", self.refused),
                remedy: "see the sensor's log for what and who; isolate the box".into(),
            });
        }
        diagnostics
    }
}

/// Refuses from now on what does not stand on this root.
fn guard(object: &mut Object, maps: &mut Maps) -> Result<(), String> {
    let root = statfs("/").map_err(|error| format!("/: {error}"))?;
    if u64::try_from(root.f_type).ok() != Some(EROFS) {
        return Err("the root is no measured image".into());
    }
    lsm_is_active()?;
    let device = stat("/").map_err(|error| format!("/: {error}"))?.st_dev;
    maps.exec_devices.insert(kernel_device(device), 1, 0).map_err(|error| error.to_string())?;
    for name in GUARDS {
        object.start_host(name)?;
    }
    maps.set_guard(mode::ENFORCE, 0).map_err(|error| crate::causes(&error))
}

/// The text before the first 0, safe to show.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    escape(&text, REASON_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u32) -> Event {
        Event {
            time_ns: 1,
            file: hookprobe_abi::host::Inode::default(),
            address: [0; 16],
            kind,
            pid: 7,
            uid: 0,
            port: 0,
            refused: 1,
            task: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            name: [0; hookprobe_abi::host::NAME_BYTES],
        }
    }

    #[test]
    fn refusals_are_counted_and_shown_as_critical() {
        let mut host = Host::default();
        assert!(host.diagnostics().is_empty());
        for _ in 0..40 {
            host.event(&event(kind::DENIED));
        }
        host.event(&event(99));
        let shown = host.diagnostics();
        assert_eq!((shown[0].code.as_str(), shown[0].severity), ("HP-SN-073", Severity::Critical));
        assert_eq!(host.counters()[1..], [("exec_refusals", 40), ("host_foreign", 1)]);
    }

    #[test]
    fn names_end_at_the_first_zero_and_are_safe_to_show() {
        assert_eq!(text(b"/bin/sh\0rest"), "/bin/sh");
        assert!(!text(b"a\x1b[2Jb").contains('\x1b'));
    }
}
