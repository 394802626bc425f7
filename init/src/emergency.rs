//! The last screen: plain text from PID 1 itself when the box can't be used.
//!
//! It needs nothing but a console device. It never returns: a PID 1 that ends makes the kernel
//! panic, and a reboot loop would hide the reason. Ctrl-Alt-Del restarts the box.

use std::{
    fmt::Write as _, fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use rustix::system::{RebootCommand, reboot};

/// Where the screen is shown: the kernel's console and the screen of the box.
pub const CONSOLES: [&str; 2] = ["/dev/console", "/dev/tty1"];
/// How often it is shown again, for a terminal that was connected later.
const REPEAT: Duration = Duration::from_secs(60);

/// Why the box can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// Stable code.
    pub code: String,
    /// Boot phase.
    pub phase: &'static str,
    /// What happened.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// The screen, at most 80 columns as far as the cause allows.
#[must_use]
pub fn screen(emergency: &Emergency) -> String {
    let mut out = String::from("\r\n");
    let rule = "=".repeat(72);
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "{rule}\r\nHookProbe OS can't go on.\r\n\r\n  code    {}\r\n  phase   {}\r\n  cause   {}\r\n  \
         remedy  {}\r\n\r\nCtrl-Alt-Del restarts the box; where the keyboard is dead, switch it off and on.\r\n{rule}\r\n",
        emergency.code,
        emergency.phase,
        hookprobe_wire::text::escape(&emergency.cause, 400),
        emergency.remedy
    );
    out
}

fn show(text: &str) {
    for console in CONSOLES {
        // Non-blocking: a serial line whose other side holds it must not hold PID 1.
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(console);
        if let Ok(mut file) = opened {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Shows the screen and waits for ever. Outside PID 1 it ends the process.
pub fn stay(emergency: &Emergency) -> ! {
    let text = screen(emergency);
    if std::process::id() != 1 {
        let _ = writeln!(std::io::stderr(), "{text}");
        std::process::exit(1);
    }
    // The kernel restarts the box on Ctrl-Alt-Del by itself again.
    let _ = reboot(RebootCommand::CadOn);
    loop {
        show(&text);
        std::thread::sleep(REPEAT);
    }
}

/// A panic in PID 1 is a bug of ours; it ends in the emergency screen, not in a kernel panic.
pub fn install_panic_hook(phase: &'static str) {
    std::panic::set_hook(Box::new(move |info| {
        let emergency = Emergency {
            code: "HP-BT-099".into(),
            phase,
            cause: info.to_string().replace('\n', " "),
            remedy: "restart; when it comes back, boot the other slot and report the cause".into(),
        };
        // In a forked child this prints to its stderr and ends it.
        stay(&emergency);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_names_code_phase_cause_remedy_and_is_safe() {
        let text = screen(&Emergency {
            code: "HP-BT-003".into(),
            phase: "root",
            cause: "no such file\x1b[2J".into(),
            remedy: "re-flash the boot medium".into(),
        });
        for part in ["HP-BT-003", "root", "no such file", "re-flash", "Ctrl-Alt-Del"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains('\x1b'));
    }
}
