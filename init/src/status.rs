//! How the box is now, as the console gets it: collected at the moment of the question.

use std::fs;

use hookprobe_evidence::closure::Start;
use hookprobe_wire::control::{Service, Status};

use crate::{boot::Boot, clock, network, supervise::core::Core};

/// The whole answer but for errands. `pids` are the main processes of the services, 0 where there is none.
#[must_use]
pub fn collect(boot: &Boot, core: &Core, pids: &[i32], now_ms: u64) -> Status {
    let services: Vec<Service> = boot
        .services
        .service
        .iter()
        .zip(core.units())
        .enumerate()
        .filter(|(_, (spec, _))| spec.start == Start::Services)
        .map(|(at, (spec, unit))| {
            let pid = pids.get(at).copied().unwrap_or(0);
            let measured = boot.measurements.get(at).and_then(|m| m.as_ref().ok());
            Service {
                name: spec.name.clone(),
                state: unit.state,
                pid: u32::try_from(pid).unwrap_or(0),
                restarts: unit.restarts,
                up_ms: if pid > 0 { now_ms.saturating_sub(unit.started) } else { 0 },
                rss_kib: resident_kib(pid),
                digest: measured.map(|m| m.digest()).unwrap_or_default(),
                verdict: boot.meter.verdict(spec).into(),
                last_exit: unit.last_exit.clone(),
            }
        })
        .collect();
    Status {
        name: boot.name.clone(),
        version: boot.version.clone(),
        uptime_ms: clock::boot_ms(),
        time_s: clock::wall_s(),
        ready: core.is_ready(),
        phases: boot.phases.clone(),
        rss_kib: services.iter().map(|service| service.rss_kib).sum(),
        services,
        measured: boot.meter.status(),
        addresses: network::addresses(),
        diagnostics: boot.diagnostics.all().to_vec(),
        memory_kib: memory_kib(),
        state: Some(boot.state.words()),
        reload: None,
        carry: None,
    }
}

/// Resident memory of a process in KiB, 0 when it is not there.
#[must_use]
pub fn resident_kib(pid: i32) -> u64 {
    if pid <= 0 {
        return 0;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    field_kib(&text, "VmRSS:")
}

/// Memory of the box and what is available of it, in KiB.
#[must_use]
pub fn memory_kib() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (field_kib(&text, "MemTotal:"), field_kib(&text, "MemAvailable:"))
}

/// `KEY:   123 kB` in a text of /proc.
fn field_kib(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kib_fields() {
        let text = "MemTotal:        506012 kB\nMemAvailable:    400000 kB\n";
        assert_eq!(field_kib(text, "MemAvailable:"), 400_000);
        assert_eq!(field_kib(text, "VmRSS:"), 0);
        assert!(resident_kib(i32::try_from(std::process::id()).unwrap()) > 0);
        assert_eq!(resident_kib(0), 0);
    }
}
