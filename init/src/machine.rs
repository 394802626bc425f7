//! PID 1 after the boot phases: one event loop, for ever.
//!
//! It waits for signals, notify messages, output of services, clients, the ledger and time; asks
//! [`Core`] what to do about services and does it. It never waits for one of them, and it is the
//! only place that starts or signals a process.

mod carry;
mod reload;
mod services;
mod watch;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use hookprobe_wire::{
    CLIENTS_GID, Diagnostic, Event as Block, INIT_SOCKET, Severity,
    block::Hash,
    control::{self, Reply},
    event,
    event::BOOT_DIAGNOSTICS_MAX,
    ledger::PAYLOAD_BYTES_MAX,
};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
    socket::SockFlag,
};
use rustix::{
    event::{Timespec, epoll},
    system::{RebootCommand, reboot},
};

use crate::{
    boot::{Boot, harden},
    clock,
    control::{Ask, Clients},
    diagnostics::diagnostic,
    emergency::Emergency,
    hardening::When,
    ledger_client::{Client as Ledger, Note, Outbox},
    limits::CHECK_MS,
    power::{self, End},
    stage1::STARTED_VARIABLE,
    status,
    supervise::{
        core::{Core, Event, Ms, Plan},
        notify, spawn,
    },
};
use carry::Carrying;
use reload::Reloading;
use services::Running;

/// Bytes of diagnostics in the ledger's boot event: what is left of a payload beside the rest.
const BOOT_DIAGNOSTICS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1024;
/// A second request to end counts as "at once" only when somebody made it: not a key that is held.
const FORCE_AFTER_MS: u64 = 2_000;
/// Signals that PID 1 reads; all others keep the kernel's rule for PID 1, which is to ignore them.
const SIGNALS: [Signal; 6] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPWR,
];

/// What woke the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Signal,
    Notify,
    Listener,
    Ledger,
    Client(u32),
    Output(u32),
    Setup(u32),
    Button(u32),
    Sensor,
}

impl Token {
    fn pack(self) -> epoll::EventData {
        let (kind, index) = match self {
            Self::Signal => (0, 0),
            Self::Notify => (1, 0),
            Self::Listener => (2, 0),
            Self::Ledger => (3, 0),
            Self::Client(index) => (4, index),
            Self::Output(index) => (5, index),
            Self::Setup(index) => (6, index),
            Self::Button(index) => (7, index),
            Self::Sensor => (8, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(index))
    }

    fn unpack(data: epoll::EventData) -> Option<Self> {
        let data = data.u64();
        let index = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        Some(match data >> 32 {
            0 => Self::Signal,
            1 => Self::Notify,
            2 => Self::Listener,
            3 => Self::Ledger,
            4 => Self::Client(index),
            5 => Self::Output(index),
            6 => Self::Setup(index),
            7 => Self::Button(index),
            8 => Self::Sensor,
            _ => return None,
        })
    }
}

/// PID 1 with everything open.
pub struct Machine {
    boot: Boot,
    core: Core,
    running: Vec<Running>,
    epoll: OwnedFd,
    signals: SignalFd,
    notify: Option<OwnedFd>,
    listener: Option<UnixListener>,
    clients: Clients,
    reload: Reloading,
    carry: Carrying,
    ledger: Ledger,
    /// The ledger's socket as it is watched now.
    ledger_watched: bool,
    buttons: Vec<File>,
    cgroups: bool,
    end: Option<End>,
    /// When that was asked for.
    end_asked_ms: u64,
    next_check: Ms,
    services_start_us: u64,
    /// Notify messages from processes that are no service.
    strangers: u64,
    counted: Counted,
}

/// Counters as they were last said.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Counted {
    strangers: u64,
    clients_refused: u64,
    ledger_dropped: u64,
    diagnostics_dropped: u64,
}

/// Boots and then runs for ever; returns only what the emergency screen has to show.
///
/// # Errors
/// [`Emergency`].
pub fn run() -> Result<Infallible, Emergency> {
    let kernel_ms = std::env::var(STARTED_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(clock::boot_ms);
    // Before the first child: none may start with these unblocked and be missed.
    let signals = signals()?;
    let _ = reboot(RebootCommand::CadOff);
    let mut boot = Boot::new(kernel_ms);
    boot.run()?;
    let mut machine = Machine::new(boot, signals)?;
    machine.begin();
    machine.run()
}

fn unusable(what: &str, cause: &dyn std::fmt::Display) -> Emergency {
    Emergency {
        code: "HP-BT-080".into(),
        phase: "services",
        cause: format!("{what}: {cause}"),
        remedy: "restart; when it stays, boot the other slot or re-flash".into(),
    }
}

fn signals() -> Result<SignalFd, Emergency> {
    let mut set = SigSet::empty();
    for signal in SIGNALS {
        set.add(signal);
    }
    set.thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| unusable("signals", &errno))
}

impl Machine {
    fn new(mut boot: Boot, signals: SignalFd) -> Result<Self, Emergency> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| unusable("epoll", &errno))?;
        let plans: Vec<Plan> = boot.services.service.iter().map(Plan::from).collect();
        let mut seed = [0; 8];
        // A box without randomness yet restarts its services at predictable moments.
        let _ = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::NONBLOCK);
        let notify = notify::open(notify::PATH);
        let listener = notify::listen(INIT_SOCKET, 0, CLIENTS_GID, SockFlag::SOCK_NONBLOCK);
        for (path, error) in [
            (notify::PATH, notify.as_ref().err().map(ToString::to_string)),
            (INIT_SOCKET, listener.as_ref().err().map(ToString::to_string)),
        ] {
            if let Some(text) = error {
                boot.report(diagnostic(
                    "HP-BT-081",
                    Severity::Critical,
                    path,
                    &text,
                    "restart the box",
                ));
            }
        }
        let cgroups = spawn::open_cgroups();
        if let Err(error) = &cgroups {
            boot.report(diagnostic(
                "HP-SV-010",
                Severity::Warn,
                "cgroups",
                &format!("services run without limits: {error}"),
                "add cgroup_enable=memory to the kernel command line",
            ));
        }
        let prefix = boot_prefix(&boot.boot_id);
        let running = boot.services.service.iter().map(|_| Running::default()).collect();
        Ok(Self {
            core: Core::new(plans, u64::from_ne_bytes(seed)),
            running,
            epoll,
            signals,
            notify: notify.ok(),
            listener: listener.ok().map(UnixListener::from),
            clients: Clients::default(),
            reload: Reloading::default(),
            carry: Carrying::default(),
            ledger: Ledger::new(Outbox::new(prefix)),
            ledger_watched: false,
            buttons: power::buttons(),
            cgroups: cgroups.is_ok(),
            end: None,
            end_asked_ms: 0,
            next_check: 0,
            services_start_us: clock::monotonic_us(),
            strangers: 0,
            counted: Counted::default(),
            boot,
        })
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: Token) {
        // Fails only when the kernel is out of memory; what is not watched is looked at by the
        // check once a second.
        let _ = epoll::add(&self.epoll, fd, token.pack(), epoll::EventFlags::IN);
    }

    /// The phase `services`: sockets, then the first service.
    fn begin(&mut self) {
        harden(&mut self.boot, When::BeforeServices);
        self.watch(self.signals.as_fd(), Token::Signal);
        if let Some(fd) = &self.notify {
            self.watch(fd.as_fd(), Token::Notify);
        }
        if let Some(fd) = &self.listener {
            self.watch(fd.as_fd(), Token::Listener);
        }
        for (index, button) in self.buttons.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.watch(button.as_fd(), Token::Button(index));
        }
        self.open_sockets();
        self.ledger.outbox.push(self.boot_event());
        self.boot.log.show("starting services; the console follows");
        self.boot.log.leave_screens();
        self.feed(Event::Begin);
    }

    fn boot_event(&self) -> Block {
        let boot = &self.boot;
        let pcr13 = boot
            .meter
            .pcr(hookprobe_evidence::PCR_SERVICES)
            .and_then(|digest| digest.as_bytes().first_chunk::<32>().copied())
            .map(Hash::new);
        Block::Boot(event::Boot {
            version: boot.version.clone(),
            boot_id: boot.boot_id.clone(),
            level: boot.meter.level().0.into(),
            pcr13,
            diagnostics: fitting(boot.diagnostics.all()),
        })
    }

    fn run(mut self) -> ! {
        let mut woken = Vec::with_capacity(64);
        loop {
            let timeout = self.timeout(clock::boot_ms());
            woken.clear();
            let waited = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut woken),
                Some(&timeout),
            );
            if waited.is_err() {
                // Interrupted; nothing else can happen to a descriptor of our own.
                woken.clear();
            }
            for event in &woken {
                if let Some(token) = Token::unpack(event.data) {
                    self.woken(token);
                }
            }
            let now = clock::boot_ms();
            if self.core.deadline().is_some_and(|deadline| now >= deadline) {
                self.feed(Event::Tick);
            }
            if now >= self.next_check {
                self.next_check = now + CHECK_MS;
                self.reap();
                self.check(now);
            }
            self.turn_reload(now);
            self.turn_carry(now);
            self.turn_ledger(now);
            self.boot.log.flush();
        }
    }

    fn timeout(&self, now: Ms) -> Timespec {
        let ledger = self.ledger_ready().then(|| self.ledger.deadline()).flatten();
        let next = [self.core.deadline(), ledger, Some(self.next_check)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_check);
        let ms = next.saturating_sub(now).min(CHECK_MS);
        let ms = if self.reload.is_reading() { 0 } else { ms };
        Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(0),
            tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
        }
    }

    fn woken(&mut self, token: Token) {
        match token {
            Token::Signal => self.read_signals(),
            Token::Notify => self.read_notify(),
            Token::Listener => self.accept(),
            // Looked at in every turn.
            Token::Ledger | Token::Sensor => {}
            Token::Client(id) => self.serve(id),
            Token::Output(at) => {
                self.read_output(at as usize);
            }
            Token::Setup(at) => self.read_setup(at as usize),
            Token::Button(at) => {
                if self.buttons.get_mut(at as usize).is_some_and(power::pressed) {
                    self.stop(End::PowerOff, "power button");
                }
            }
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => self.reap(),
                Ok(Signal::SIGINT) => self.stop(End::Reboot, "Ctrl-Alt-Del"),
                Ok(Signal::SIGTERM) => self.stop(End::Reboot, "SIGTERM"),
                Ok(Signal::SIGUSR1 | Signal::SIGUSR2 | Signal::SIGPWR) => {
                    self.stop(End::PowerOff, "power-off signal");
                }
                _ => {}
            }
        }
    }

    /// Stops everything; asked a second time, ends the box at once.
    fn stop(&mut self, end: End, why: &str) {
        let now = clock::boot_ms();
        if self.end.is_some() {
            // A held key repeats itself many times a second: that is one request.
            if now < self.end_asked_ms + FORCE_AFTER_MS {
                return;
            }
            self.boot.log.say(Severity::Warn, &format!("shutdown forced by={why}"));
            self.boot.log.flush();
            power::finish(end);
        }
        self.end = Some(end);
        self.end_asked_ms = now;
        let text = format!("shutdown end={end:?} by={why}");
        self.boot.log.say(Severity::Info, &text);
        self.feed(Event::Shutdown);
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let taken = self.clients.accept(listener, clock::boot_ms());
        for id in taken {
            if let Some(client) = self.clients.get(id) {
                self.watch(client.stream.as_fd(), Token::Client(id));
            }
        }
    }

    fn serve(&mut self, id: u32) {
        let now = clock::boot_ms();
        let consoles = self.consoles();
        let (boot, core) = (&self.boot, &self.core);
        let (reload, carry, is_ending) = (&mut self.reload, &mut self.carry, self.end.is_some());
        let pids: Vec<i32> = self.running.iter().map(|running| running.pid).collect();
        let mut answer = |ask| match ask {
            Ask::Status => Reply::Status(control::Status {
                reload: reload.core.status(),
                carry: carry.core.status(),
                ..status::collect(boot, core, &pids, now)
            }),
            Ask::Reload(peer) => reload.ask(peer, &consoles, now),
            Ask::Carry(peer, nonce) => carry.ask(peer, &consoles, &nonce, is_ending),
        };
        let (stays, waits) = self.clients.serve(id, now, &boot.log.ring, &mut answer);
        // A closed client left the set with its descriptor.
        if let (true, Some(client)) = (stays, self.clients.get(id)) {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, waits);
            let _ = epoll::modify(&self.epoll, &client.stream, Token::Client(id).pack(), flags);
        }
    }

    fn turn_ledger(&mut self, now: Ms) {
        if !self.ledger_ready() {
            // Its end would wake the loop again and again.
            self.ledger.close();
            self.ledger_watched = false;
            return;
        }
        let mut notes = Vec::new();
        self.ledger.turn(now, &mut notes);
        for note in notes {
            let text = match note {
                Note::Rejected(why) => format!("ledger rejected an event of init: {why}"),
                Note::Failed(why) => format!("ledger connection failed, will retry: {why}"),
            };
            self.boot.log.say(Severity::Warn, &text);
        }
        let open = self.ledger.socket().is_some();
        if let (false, Some(socket)) = (self.ledger_watched, self.ledger.socket()) {
            self.watch(socket.as_fd(), Token::Ledger);
        }
        self.ledger_watched = open;
    }
}

/// Eight bytes that differ from boot to boot, out of the kernel's identity of this boot.
fn boot_prefix(boot_id: &str) -> [u8; 8] {
    let mut prefix = [0; 8];
    for (at, byte) in prefix.iter_mut().enumerate() {
        *byte = boot_id
            .get(2 * at..2 * at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .unwrap_or(0);
    }
    prefix
}

/// As many of the first diagnostics as fit in the boot event: a block that the ledger refuses for
/// its size would be missing on the box that needs it most.
fn fitting(all: &[Diagnostic]) -> Vec<Diagnostic> {
    let mut room = BOOT_DIAGNOSTICS_BYTES_MAX;
    let mut taken = Vec::new();
    for diagnostic in all.iter().take(BOOT_DIAGNOSTICS_MAX) {
        // Text, and at most 24 bytes of lengths and frame around it.
        let bytes = diagnostic.code.len()
            + diagnostic.object.len()
            + diagnostic.cause.len()
            + diagnostic.remedy.len()
            + 24;
        let Some(left) = room.checked_sub(bytes) else {
            break;
        };
        room = left;
        taken.push(diagnostic.clone());
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Signal,
            Token::Notify,
            Token::Listener,
            Token::Ledger,
            Token::Client(u32::MAX),
            Token::Output(3),
            Token::Setup(0),
            Token::Button(7),
            Token::Sensor,
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(epoll::EventData::new_u64(9 << 32)), None);
    }

    #[test]
    fn boots_have_different_prefixes() {
        assert_eq!(boot_prefix("0102030405060708ffff"), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(boot_prefix(""), [0; 8]);
    }

    #[test]
    fn the_boot_event_always_fits_in_a_block() {
        let long = crate::diagnostics::diagnostic(
            "HP-ST-001",
            Severity::Critical,
            &"o".repeat(60),
            &"c".repeat(300),
            &"r".repeat(300),
        );
        let diagnostics = fitting(&vec![long; 40]);
        assert!(diagnostics.len() > 16);
        let boot = event::Boot {
            version: "0".repeat(32),
            boot_id: "0".repeat(36),
            level: "T".into(),
            pcr13: Some(Hash::zero()),
            diagnostics,
        };
        assert!(Block::Boot(boot).to_cbor().len() <= PAYLOAD_BYTES_MAX);
    }
}
