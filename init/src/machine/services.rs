//! The event loop's side of supervision: carries out what [`Core`](crate::supervise::core::Core)
//! decides and brings back what happened to the processes.

use super::*;

use hookprobe_evidence::closure::Start;
use hookprobe_wire::{control::ServiceState, event::ServiceChange, text::escape};
use nix::{
    sys::{
        signal::kill,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use thiserror::Error;

use crate::{
    devices,
    limits::READ_BYTES_MAX,
    log::{Admission, Limiter, Splitter, leveled},
    supervise::{
        core::{Change, Effect, ServiceId},
        notify::Word,
        spawn::{CGROUPS, Launch, NOTE, ending},
    },
};

/// Characters of the last log line in an exit message.
const LAST_LINE_CHARS_MAX: usize = 160;
/// Longest text that a child's setup can send.
const SETUP_BYTES_MAX: usize = 1024;
/// Notify messages taken in one turn of the loop.
const NOTIFY_MAX: usize = 64;
/// The service that other parts of PID 1 talk to.
const LEDGER: &str = "ledger";

/// What belongs to a service while PID 1 runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) pid: i32,
    sockets: Vec<OwnedFd>,
    output: Option<OwnedFd>,
    setup: Option<OwnedFd>,
    setup_text: Vec<u8>,
    splitter: Splitter,
    limiter: Limiter,
    last_line: String,
}

/// Why a service does not run.
#[derive(Debug, Error)]
pub(super) enum LaunchError {
    /// It is not what was measured.
    #[error("{0}")]
    Refused(String),
    /// The kernel refused a step.
    #[error("{0}")]
    Failed(String),
}

impl Machine {
    /// Gives an event to the core and does what it says, until there is nothing left to do.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.core.handle(clock::boot_ms(), event, &mut effects);
            for effect in effects {
                if let Some(event) = self.carry_out(effect) {
                    events.push_back(event);
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn(id) => return self.spawn(id),
            Effect::Terminate(id) => self.signal(id, Signal::SIGTERM),
            Effect::Kill(id) => self.kill(id.0),
            Effect::Changed(id, change, detail) => self.changed(id, change, &detail),
            Effect::AllReady => self.all_ready(),
            Effect::AllStopped => self.all_stopped(),
        }
        None
    }

    /// Opens every listening socket before the first service runs, so that a client can connect
    /// to one that is not up yet.
    pub(super) fn open_sockets(&mut self) {
        let mut failed = Vec::new();
        for (spec, running) in self.boot.services.service.iter().zip(&mut self.running) {
            for socket in &spec.sockets {
                let opened = notify::listen(&socket.path, spec.uid, CLIENTS_GID, SockFlag::empty());
                match opened {
                    Ok(fd) => running.sockets.push(fd),
                    Err(error) => failed.push((socket.path.clone(), error.to_string())),
                }
            }
        }
        for (path, error) in failed {
            self.boot.report(diagnostic(
                "HP-SV-011",
                Severity::Critical,
                &path,
                &error,
                "restart the box",
            ));
        }
    }

    fn spawn(&mut self, id: ServiceId) -> Option<Event> {
        match self.launch(id.0, Vec::new()) {
            Ok(()) => None,
            Err(LaunchError::Refused(why)) => Some(Event::Refused { id, why }),
            Err(LaunchError::Failed(how)) => Some(Event::Ended { id, how }),
        }
    }

    /// Starts the service at a place of the list, with arguments behind those of the list.
    pub(super) fn launch(&mut self, at: usize, more: Vec<String>) -> Result<(), LaunchError> {
        let none = || LaunchError::Failed("no such service".into());
        // The first start is of what was measured just before.
        let again = self.core.units().get(at).is_some_and(|unit| unit.restarts > 0);
        let mut spec = self.boot.services.service.get(at).cloned().ok_or_else(none)?;
        let again = again || spec.start != Start::Services;
        let measurement = match self.boot.measurements.get(at).ok_or_else(none)? {
            Ok(measurement) => measurement,
            Err(error) => return Err(LaunchError::Refused(error.to_string())),
        };
        if again && let Err(error) = measurement.check(&spec) {
            self.boot.meter.violation(&error);
            let why = error.to_string();
            self.boot.meter_problems();
            return Err(LaunchError::Refused(why));
        }
        spec.args.extend(more);
        let spec = &spec;
        let running = self.running.get_mut(at).ok_or_else(none)?;
        for text in devices::give(spec) {
            self.boot
                .log
                .say(Severity::Warn, &format!("service={} device not given: {text}", spec.name));
        }
        let launch = Launch {
            spec,
            exec: &measurement.exec,
            sockets: &running.sockets,
            notify: notify::PATH,
            cgroups: self.cgroups.then_some(CGROUPS),
        };
        let child = match spawn::spawn(launch) {
            Ok(child) => child,
            Err(error) => {
                devices::take_back(spec);
                let how = escape(&error.to_string(), LAST_LINE_CHARS_MAX);
                return Err(LaunchError::Failed(how));
            }
        };
        let mut text = format!("start service={} pid={}", spec.name, child.pid);
        if !child.missing.is_empty() {
            text.push_str(&format!(" missing={}", child.missing.join(",")));
        }
        running.pid = child.pid;
        running.setup_text.clear();
        running.last_line.clear();
        running.splitter = Splitter::default();
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        let epoll_add = |fd: &OwnedFd, token: Token| {
            let _ = epoll::add(&self.epoll, fd, token.pack(), epoll::EventFlags::IN);
        };
        epoll_add(&child.output, Token::Output(index));
        epoll_add(&child.setup, Token::Setup(index));
        running.output = Some(child.output);
        running.setup = Some(child.setup);
        self.boot.log.say(Severity::Info, &text);
        Ok(())
    }

    /// Ends a service and everything in its cgroup.
    pub(super) fn kill(&self, at: usize) {
        self.signal(ServiceId(at), Signal::SIGKILL);
        if let Some(spec) = self.boot.services.service.get(at) {
            spawn::kill_cgroup(&spec.name);
        }
    }

    fn signal(&self, ServiceId(at): ServiceId, signal: Signal) {
        if let Some(running) = self.running.get(at)
            && running.pid > 0
        {
            // The process is not reaped yet, so the number is still its own.
            let _ = kill(Pid::from_raw(running.pid), signal);
        }
    }

    fn changed(&mut self, id: ServiceId, change: Change, detail: &str) {
        let Some(spec) = self.boot.services.service.get(id.0) else {
            return;
        };
        let (name, essential) = (spec.name.clone(), spec.essential);
        let severity = match change {
            Change::Started => Severity::Info,
            Change::Exited => Severity::Warn,
            Change::GivenUp | Change::Refused if essential => Severity::Critical,
            Change::GivenUp | Change::Refused => Severity::Warn,
        };
        let text = format!("service={name} change={} {detail}", change.word());
        self.boot.log.say(severity, &text);
        match change {
            Change::Started => {
                self.boot.diagnostics.clear("HP-SV-003", &name);
            }
            // The line above has said it.
            Change::Exited => {
                self.boot.diagnostics.set(diagnostic(
                    "HP-SV-003",
                    Severity::Warn,
                    &name,
                    detail,
                    "nothing to do if it comes back; see 7 Services",
                ));
            }
            Change::GivenUp => {
                self.boot.diagnostics.clear("HP-SV-003", &name);
                self.boot.report(diagnostic(
                    "HP-SV-001",
                    severity,
                    &name,
                    detail,
                    "restart the box; when it stays, boot the other slot",
                ));
            }
            Change::Refused => {
                self.boot.diagnostics.clear("HP-SV-003", &name);
                self.boot.report_text(detail, severity);
            }
        }
        self.ledger.outbox.push(Block::Service(ServiceChange {
            service: name,
            change: change.word().into(),
            detail: detail.into(),
        }));
    }

    /// The phases `services` and `bless` are done: the line that says what the boot came to.
    fn all_ready(&mut self) {
        let start = self.services_start_us;
        self.boot.done("services", true, start);
        self.boot.done("bless", true, clock::monotonic_us());
        let units = self.core.units();
        let up = units.iter().filter(|unit| unit.state == ServiceState::Running).count();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let rss_kib: u64 =
            self.running.iter().map(|running| status::resident_kib(running.pid)).sum::<u64>()
                + status::resident_kib(own);
        let meter = &self.boot.meter;
        let (measure_us, commands) = meter.cost();
        let pcr13 = meter
            .pcr(hookprobe_evidence::PCR_SERVICES)
            .map_or_else(|| "none".to_owned(), |digest| digest.hex());
        for value in meter.status().pcrs {
            self.boot.log.say(
                Severity::Info,
                &format!(
                    "pcr bank={} index={} value={} predicted={}",
                    value.bank, value.index, value.value, value.predicted
                ),
            );
        }
        let text = format!(
            "ready version={} kernel_s={} ready_s={} services={up}/{} pcr13={pcr13} level={} \
             state={} rss_mib={} available_mib={} measure_ms={} tpm_commands={commands}",
            self.boot.version,
            seconds(self.boot.kernel_ms),
            seconds(clock::boot_ms()),
            units.iter().filter(|unit| unit.state != ServiceState::Stopped).count(),
            meter.level().0,
            self.boot.state.words().split(':').next().unwrap_or_default(),
            rss_kib / 1024,
            status::memory_kib().1 / 1024,
            measure_us / 1000,
        );
        self.boot.log.say(Severity::Info, &text);
        self.boot.log.leave_kernel();
    }

    /// Takes every dead child; PID 1 also gets those whose parents died.
    pub(super) fn reap(&mut self) {
        loop {
            let status = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(status) => status,
            };
            let Some(pid) = status.pid().map(Pid::as_raw) else {
                continue;
            };
            let Some(at) = self.running.iter().position(|running| running.pid == pid) else {
                continue;
            };
            // What it said last belongs to its end.
            self.read_setup(at);
            self.drain_output(at);
            let Some(running) = self.running.get_mut(at) else {
                continue;
            };
            running.pid = 0;
            running.output = None;
            running.setup = None;
            let setup = String::from_utf8_lossy(&running.setup_text).into_owned();
            let mut how = if setup.is_empty() || setup.starts_with(NOTE) {
                ending(status)
            } else {
                escape(&setup, LAST_LINE_CHARS_MAX)
            };
            let line = running.last_line.clone();
            let spec = self.boot.services.service.get(at);
            if let Some(spec) = spec {
                spawn::kill_cgroup(&spec.name);
                devices::take_back(spec);
            }
            if spec.is_some_and(|spec| spec.start == Start::Carry) {
                let good = matches!(status, WaitStatus::Exited(_, 0));
                self.carry_ended(good, &how, leveled(&line).1);
                continue;
            }
            if !line.is_empty() {
                let line = escape(&line, LAST_LINE_CHARS_MAX);
                how.push_str(&format!(", last line: {line}"));
            }
            self.feed(Event::Ended { id: ServiceId(at), how });
        }
    }

    pub(super) fn read_setup(&mut self, at: usize) {
        let Some(running) = self.running.get_mut(at) else {
            return;
        };
        let Some(fd) = &running.setup else {
            return;
        };
        let mut bytes = [0; SETUP_BYTES_MAX];
        while let Ok(got) = rustix::io::read(fd, &mut bytes[..]) {
            if got > 0 {
                let room = SETUP_BYTES_MAX.saturating_sub(running.setup_text.len());
                let part = bytes.get(..got.min(room)).unwrap_or_default();
                running.setup_text.extend_from_slice(part);
                continue;
            }
            running.setup = None;
            let text = String::from_utf8_lossy(&running.setup_text).into_owned();
            if let Some(note) = text.strip_prefix(NOTE) {
                let name = self.name(at);
                self.boot.report(diagnostic(
                    "HP-SV-012",
                    Severity::Warn,
                    &name,
                    note,
                    "use the kernel of the image",
                ));
            }
            if text.is_empty() || text.starts_with(NOTE) {
                self.feed(Event::Executed(ServiceId(at)));
            }
            return;
        }
    }

    fn name(&self, at: usize) -> String {
        self.boot.services.service.get(at).map(|spec| spec.name.clone()).unwrap_or_default()
    }

    /// One turn of output; `true` when there may be more.
    pub(super) fn read_output(&mut self, at: usize) -> bool {
        let mut bytes = [0; READ_BYTES_MAX];
        let name = self.name(at);
        let Some(running) = self.running.get_mut(at) else {
            return false;
        };
        let Some(fd) = &running.output else {
            return false;
        };
        let mut lines = Vec::new();
        let got = rustix::io::read(fd, &mut bytes[..]);
        match got {
            Ok(0) => {
                running.splitter.finish(|line| lines.push(line.to_owned()));
                running.output = None;
            }
            Ok(got) => running.splitter.feed(bytes.get(..got).unwrap_or_default(), |line| {
                lines.push(line.to_owned());
            }),
            Err(_) => return false,
        }
        let now = clock::boot_ms();
        for line in lines {
            let (severity, text) = leveled(&line);
            match running.limiter.admit(now) {
                Admission::Drop => {}
                Admission::Keep => self.boot.log.line(&name, severity, text),
                Admission::KeepAfter(dropped) => {
                    let note = format!("service={name} log lines dropped={dropped}");
                    self.boot.log.say(Severity::Warn, &note);
                    self.boot.log.line(&name, severity, text);
                }
            }
            running.last_line = line;
        }
        got != Ok(0)
    }

    fn drain_output(&mut self, at: usize) {
        /// A pipe holds 64 KiB: what a dead process wrote is read whole, a grandchild that still
        /// writes is not waited for.
        const TURNS_MAX: usize = 8;
        for _ in 0..TURNS_MAX {
            if !self.read_output(at) {
                break;
            }
        }
        if let Some(running) = self.running.get_mut(at) {
            let mut tail = None;
            running.splitter.finish(|line| tail = Some(line.to_owned()));
            running.last_line = tail.unwrap_or_else(|| std::mem::take(&mut running.last_line));
        }
    }

    pub(super) fn read_notify(&mut self) {
        for _ in 0..NOTIFY_MAX {
            let Some((pid, words)) = self.notify.as_ref().and_then(notify::receive) else {
                return;
            };
            let sender = self.running.iter().position(|running| running.pid == pid && pid > 0);
            let Some(at) = sender else {
                self.strangers += 1;
                continue;
            };
            for word in words {
                match word {
                    Word::Ready => self.feed(Event::Ready(ServiceId(at))),
                    Word::Alive => self.feed(Event::Alive(ServiceId(at))),
                    Word::Extend(ms) => self.feed(Event::Extend(ServiceId(at), ms)),
                    // For people who look at the process; the console asks the service itself.
                    Word::Status(_) => {}
                }
            }
        }
    }

    pub(super) fn ledger_ready(&self) -> bool {
        self.boot
            .services
            .service
            .iter()
            .zip(self.core.units())
            .any(|(spec, unit)| spec.name == LEDGER && unit.state == ServiceState::Running)
    }
}

/// Milliseconds as seconds with three places.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
