//! Settings of the kernel that PID 1 closes before any service runs, as data.

use std::fs;

/// When a setting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In the mount phase.
    Early,
    /// At the end of coldplug: nothing can be loaded any more.
    AfterModules,
    /// Before the console takes the screen.
    BeforeServices,
}

/// One setting below /proc/sys.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Path below /proc/sys.
    pub path: &'static str,
    /// Value.
    pub value: &'static str,
    /// When.
    pub when: When,
    /// `false`: kernels without it are fine.
    pub required: bool,
    /// Why.
    pub why: &'static str,
}

const fn early(path: &'static str, value: &'static str, why: &'static str) -> Setting {
    Setting { path, value, when: When::Early, required: true, why }
}

/// All settings.
pub const SETTINGS: [Setting; 24] = [
    Setting {
        path: "kernel/printk_devkmsg",
        // The kernel wants the end of line.
        value: "on\n",
        when: When::Early,
        required: false,
        why: "the lines of the boot phases are more than the kernel's rate limit",
    },
    early("kernel/kptr_restrict", "2", "no kernel addresses"),
    early("kernel/dmesg_restrict", "1", "no kernel log for services"),
    early("kernel/unprivileged_bpf_disabled", "2", "BPF only with CAP_BPF"),
    Setting {
        path: "kernel/yama/ptrace_scope",
        value: "3",
        when: When::Early,
        required: false,
        why: "nobody debugs a service",
    },
    early("kernel/panic", "10", "a kernel panic restarts the box, its text stays readable 10 s"),
    early("kernel/panic_on_oops", "1", "no work with a damaged kernel"),
    early("fs/protected_hardlinks", "1", "no tricks with links"),
    early("fs/protected_symlinks", "1", "no tricks with links"),
    early("fs/protected_fifos", "2", "no tricks with pipes"),
    early("fs/protected_regular", "2", "no tricks with files"),
    early("fs/suid_dumpable", "0", "no memory of services on disk"),
    early("net/ipv4/conf/all/rp_filter", "1", "forged sources are dropped"),
    early("net/ipv4/conf/default/rp_filter", "1", "forged sources are dropped"),
    early("net/ipv4/conf/all/accept_redirects", "0", "nobody else routes for us"),
    early("net/ipv4/conf/default/accept_redirects", "0", "nobody else routes for us"),
    early("net/ipv4/conf/all/send_redirects", "0", "we are no router's adviser"),
    early("net/ipv6/conf/all/accept_ra", "0", "no address or route from whoever is on the wire"),
    early("net/ipv6/conf/default/accept_ra", "0", "no address or route from whoever is there"),
    early("net/ipv6/conf/all/accept_redirects", "0", "nobody else routes for us"),
    early("net/ipv6/conf/default/accept_redirects", "0", "nobody else routes for us"),
    Setting {
        path: "kernel/modules_disabled",
        value: "1",
        when: When::AfterModules,
        required: true,
        why: "no module after coldplug",
    },
    Setting {
        path: "kernel/kexec_load_disabled",
        value: "1",
        when: When::AfterModules,
        required: false,
        why: "no other kernel",
    },
    Setting {
        path: "kernel/printk",
        value: "1 4 1 4",
        when: When::BeforeServices,
        required: true,
        why: "the screen belongs to the console; emergencies still show",
    },
];

/// Writes the settings of one moment; returns a text per required one that was refused.
#[must_use]
pub fn apply(when: When) -> Vec<String> {
    let mut refused = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.when == when) {
        let path = format!("/proc/sys/{}", setting.path);
        match fs::write(&path, setting.value) {
            Err(error) if setting.required || error.kind() != std::io::ErrorKind::NotFound => {
                refused.push(format!("{path} = {}: {error}", setting.value.trim()));
            }
            _ => {}
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_settings_exist_in_this_kernel() {
        // The sandbox of a build host may hide /proc/sys; then there is nothing to compare with.
        if !std::path::Path::new("/proc/sys/kernel/panic").exists() {
            println!("skipped: no /proc/sys");
            return;
        }
        for setting in SETTINGS.iter().filter(|setting| setting.required) {
            let path = format!("/proc/sys/{}", setting.path);
            let module = setting.path == "kernel/modules_disabled";
            assert!(module || std::path::Path::new(&path).exists(), "{path}");
        }
    }
}
