//! Where log lines go besides the ring: the kernel's log while the box boots, and the port
//! `hookprobe.log` of a hypervisor. Both are written without waiting; what does not fit is counted.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use hookprobe_wire::{Severity, control::LogLine};

use crate::{clock, emergency::CONSOLES, limits::LOG_PORT_BYTES_MAX, log::Ring};

/// Name of the port of the hypervisor.
const PORT_NAME: &str = "hookprobe.log";

/// The ring and its sinks.
#[derive(Debug, Default)]
pub struct Log {
    /// Kept lines.
    pub ring: Ring,
    kernel: Option<File>,
    /// Screens that show the boot until a console takes them.
    screens: Vec<File>,
    port: Port,
}

impl Log {
    /// With the kernel's log as a sink, when it can be opened.
    #[must_use]
    pub fn open() -> Self {
        Self {
            ring: Ring::default(),
            kernel: OpenOptions::new().write(true).open("/dev/kmsg").ok(),
            screens: CONSOLES.iter().filter_map(|path| screen(path).ok()).collect(),
            port: Port::default(),
        }
    }

    /// A line of PID 1 itself.
    pub fn say(&mut self, severity: Severity, text: &str) {
        self.line("init", severity, text);
    }

    /// A line of anyone.
    pub fn line(&mut self, source: &str, severity: Severity, text: &str) {
        let up_ms = clock::boot_ms();
        let line = self.ring.push(clock::wall_s(), source, severity, text);
        if let Some(kernel) = &mut self.kernel {
            // Facility 3 (daemons) and the kernel's levels: 6 info, 4 warning, 2 critical.
            let priority = 3 * 8
                + match severity {
                    Severity::Info => 6,
                    Severity::Warn => 4,
                    Severity::Critical => 2,
                };
            let _ = writeln!(kernel, "<{priority}>hookprobe {source}: {}", line.text);
        }
        self.port.push(up_ms, line);
    }

    /// Shows a line to whoever watches the box start; what the terminal does not take is lost.
    pub fn show(&mut self, text: &str) {
        for screen in &mut self.screens {
            let _ = write!(screen, "{text}\r\n");
        }
    }

    /// The services begin: the screens are theirs from now on.
    pub fn leave_screens(&mut self) {
        self.screens.clear();
    }

    /// Ends the copies in the kernel's log: the screen belongs to the console from now on.
    pub fn leave_kernel(&mut self) {
        self.kernel = None;
    }

    /// Opens the port when it is there; what was logged so far waits for it.
    pub fn find_port(&mut self) {
        if self.port.file.is_some() {
            return;
        }
        let Some(path) = port(PORT_NAME) else {
            return;
        };
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
        if let Ok(file) = opened {
            self.port.file = Some(file);
            self.port.flush();
        }
    }

    /// Tries to send what waits for the port. Called once per turn of the loop.
    pub fn flush(&mut self) {
        self.port.flush();
    }
}

fn screen(path: &str) -> std::io::Result<File> {
    // O_NOCTTY: PID 1 never has a controlling terminal.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// The device of the hypervisor's port with a name.
#[must_use]
pub fn port(name: &str) -> Option<PathBuf> {
    port_path(Path::new("/sys/class/virtio-ports"), Path::new("/dev"), name)
}

fn port_path(class: &Path, devices: &Path, wanted: &str) -> Option<PathBuf> {
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == wanted).then(|| devices.join(entry.file_name()))
    })
}

/// The port; lines wait, up to a bound, until it is found and whenever its reader stops.
#[derive(Debug, Default)]
struct Port {
    file: Option<File>,
    waiting: Vec<u8>,
    dropped: u64,
}

impl Port {
    fn push(&mut self, up_ms: u64, line: &LogLine) {
        let text = port_line(up_ms, line);
        if self.waiting.len() + text.len() > LOG_PORT_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let note = format!(
                "{}.{:03} init WARN log port dropped lines={}\n",
                up_ms / 1000,
                up_ms % 1000,
                self.dropped
            );
            self.dropped = 0;
            self.waiting.extend_from_slice(note.as_bytes());
        }
        self.waiting.extend_from_slice(text.as_bytes());
        self.flush();
    }

    fn flush(&mut self) {
        let Some(file) = &mut self.file else {
            return;
        };
        while !self.waiting.is_empty() {
            match file.write(&self.waiting) {
                Ok(0) => break,
                Ok(sent) => drop(self.waiting.drain(..sent.min(self.waiting.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Full, or nobody at the other side: kept until the bound is reached.
                Err(_) => break,
            }
        }
    }
}

/// `UPTIME_S.mmm SOURCE LEVEL text\n`
fn port_line(up_ms: u64, line: &LogLine) -> String {
    format!(
        "{}.{:03} {} {} {}\n",
        up_ms / 1000,
        up_ms % 1000,
        line.source,
        line.severity.word(),
        line.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name() {
        let class = tempfile::tempdir().unwrap();
        for (port, name) in [("vport0p1", "other"), ("vport0p2", "hookprobe.log\n")] {
            fs::create_dir(class.path().join(port)).unwrap();
            fs::write(class.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(
            port_path(class.path(), Path::new("/dev"), PORT_NAME),
            Some(PathBuf::from("/dev/vport0p2"))
        );
    }

    #[test]
    fn a_port_line_has_time_source_level_text() {
        let mut ring = Ring::default();
        let line = ring.push(7, "sensor", Severity::Warn, "queue full");
        assert_eq!(port_line(12_034, line), "12.034 sensor WARN queue full\n");
    }

    #[test]
    fn a_reader_that_stopped_costs_a_bounded_buffer_and_is_told() {
        let (_reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut port = Port { file: Some(File::from(writer)), waiting: Vec::new(), dropped: 0 };
        let mut ring = Ring::default();
        let line = ring.push(0, "x", Severity::Info, &"y".repeat(200)).clone();
        for _ in 0..2000 {
            port.push(0, &line);
        }
        assert!(port.waiting.len() <= LOG_PORT_BYTES_MAX);
        assert!(port.dropped > 0);
    }
}
