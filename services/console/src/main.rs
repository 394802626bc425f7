//! `hookprobe-console`: opens the terminal line, then runs one loop over keys and sockets.
//!
//! Runs as an unprivileged user with nothing but standard input, output and error. One thread,
//! one `poll`; everything that decides is in the library.

mod carry;

use std::{
    fs::File,
    io::Read,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Instant, SystemTime},
};

use clap::{Parser, Subcommand};
use hookprobe_console::{
    Effect, Event, Model, Now,
    key::{Decoder, ESCAPE_WAIT_MS, Key},
    look::Look,
    painter::{self, PAINT_MS, Pacer, Paint, Painter},
    proof::{NONCE_BYTES, Nonce},
    signals,
    sources::Sources,
    tty::{Tty, TtyError},
    views,
};
use hookprobe_wire::site::{SITE_BYTES_MAX, Site};
use ratatui::{buffer::Buffer, layout::Rect};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    rand::{GetRandomFlags, getrandom},
};
use thiserror::Error;

/// The accepted site configuration is read this often: PID 1 writes it once per boot, but the
/// console may be there first.
const SITE_MS: u64 = 10_000;

/// Local console of HookProbe OS.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// For a serial line: no colours, lines of + - |
    #[arg(long)]
    serial: bool,
    /// Let q end the console
    #[arg(long)]
    allow_quit: bool,
    /// Where the sockets of the services are
    #[arg(long, value_name = "DIR", default_value = hookprobe_wire::SOCKET_DIR)]
    socket_dir: PathBuf,
    /// No colours
    #[arg(long, hide = true)]
    mono: bool,
    #[command(subcommand)]
    errand: Option<Errand>,
}

/// What it does in place of being a console.
#[derive(Debug, Subcommand)]
enum Errand {
    Carry(carry::Arguments),
}

/// Why the console ended.
#[derive(Debug, Error)]
enum ConsoleError {
    #[error(transparent)]
    Tty(#[from] TtyError),
    #[error("HP-CO-006 console: signal handlers refused ({0}); check the seccomp groups")]
    Signals(nix::Error),
    #[error("HP-CO-007 console: poll failed ({0}); check the seccomp groups")]
    Poll(rustix::io::Errno),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.errand {
        Some(Errand::Carry(errand)) => carry::run(&arguments.socket_dir, errand)
            .map(|said| eprintln!("INFO {said}"))
            .map_err(|error| error.to_string()),
        None => run(&arguments).map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), ConsoleError> {
    signals::install().map_err(ConsoleError::Signals)?;
    let mut look = if arguments.serial { Look::SERIAL } else { Look::SCREEN };
    look.colour &= !arguments.mono;
    let tty = Tty::open()?;
    let mut console = Console {
        model: Model::new(look, arguments.allow_quit),
        sources: Sources::new(&arguments.socket_dir),
        painter: Painter::new(),
        pacer: Pacer::new(),
        keys: Decoder::new(),
        started: Instant::now(),
        site_ms: None,
        quit: false,
    };
    let mut told = false;
    while !console.quit && !signals::ending() {
        console.read_site(&arguments.socket_dir.join("site.toml"));
        console.turn();
        console.paint(&tty)?;
        if !told {
            notify("READY=1");
            told = true;
        }
        if console.wait(&tty)? {
            console.press(&tty.read()?);
        }
    }
    let mut out = Vec::new();
    console.painter.leave(&mut out);
    tty.write(&out, signals::ending)?;
    Ok(())
}

struct Console {
    model: Model,
    sources: Sources,
    painter: Painter,
    pacer: Pacer,
    keys: Decoder,
    started: Instant,
    site_ms: Option<u64>,
    quit: bool,
}

impl Console {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Now {
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix_s: unix.map_or(0, |time| time.as_secs()),
        }
    }

    fn update(&mut self, event: Event) {
        let now = self.now();
        let mut effects = Vec::new();
        self.model.update(now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Drill => self.sources.drill(now.mono_ms),
                Effect::Reload => self.sources.reload(now.mono_ms),
                Effect::Evidence => self.ask_evidence(now.mono_ms),
                Effect::Carry => self.carry(now.mono_ms),
                Effect::Recovery => self.sources.recovery(now.mono_ms),
                Effect::RecoveryNoted => self.sources.recovery_noted(now.mono_ms),
                Effect::Repaint => self.pacer.ask(),
                Effect::Quit => self.quit = true,
            }
        }
    }

    /// The one that was typed, or one that is drawn.
    fn nonce(&self) -> Result<Nonce, String> {
        match Nonce::parse(&self.model.ui.nonce) {
            Ok(Some(typed)) => Ok(typed),
            // A wrong one is refused where it is typed.
            Ok(None) | Err(_) => draw(),
        }
    }

    fn carry(&mut self, now_ms: u64) {
        match self.nonce() {
            Ok(nonce) => self.sources.carry(now_ms, &nonce.bytes),
            Err(reason) => self.update(Event::NoCarry(reason)),
        }
    }

    fn ask_evidence(&mut self, now_ms: u64) {
        let nonce = self.nonce();
        if let Ok(nonce) = &nonce {
            self.sources.evidence(now_ms, &nonce.bytes);
        }
        self.update(Event::Nonce(nonce));
    }

    /// Asks and hears every source.
    fn turn(&mut self) {
        let mut events = vec![Event::Tick];
        let wants = self.model.wants();
        self.sources.turn(self.now().mono_ms, wants, &mut events);
        for event in events {
            self.update(event);
        }
        let mut keys = Vec::new();
        self.keys.tick(self.now().mono_ms, &mut keys);
        self.keys_pressed(keys);
    }

    fn press(&mut self, bytes: &[u8]) {
        let now_ms = self.now().mono_ms;
        let mut keys = Vec::new();
        for byte in bytes {
            self.keys.feed(now_ms, *byte, &mut keys);
        }
        self.keys_pressed(keys);
    }

    fn keys_pressed(&mut self, keys: Vec<Key>) {
        for key in keys {
            let woke = self.pacer.pressed(self.now().mono_ms);
            if !(woke && key == Key::Enter) {
                self.update(Event::Key(key));
            }
        }
    }

    fn paint(&mut self, tty: &Tty) -> Result<(), TtyError> {
        let (columns, rows) = tty.size();
        let size = painter::size(columns, rows);
        if size != self.model.size {
            self.update(Event::Size(size.0, size.1));
            self.pacer.ask();
        }
        match self.pacer.due(self.now().mono_ms) {
            Paint::Wait => return Ok(()),
            Paint::Everything => self.painter.forget(),
            Paint::Difference => {}
        }
        let area = Rect::new(0, 0, size.0, size.1);
        let mut buffer = Buffer::empty(area);
        views::screen(&self.model, area, &mut buffer);
        let mut out = Vec::new();
        self.painter.paint(buffer, &mut out);
        tty.write(&out, signals::ending)
    }

    /// Waits for keys, sockets or the next paint; `true` when there are keys.
    fn wait(&self, tty: &Tty) -> Result<bool, ConsoleError> {
        let input = tty.input();
        let mut polled = vec![PollFd::new(&input, PollFlags::IN)];
        let sockets: Vec<_> = self.sources.descriptors().collect();
        for (socket, writes) in &sockets {
            let out = if *writes { PollFlags::OUT } else { PollFlags::empty() };
            polled.push(PollFd::new(socket, PollFlags::IN | out));
        }
        let wait_ms = if self.keys.pending() { ESCAPE_WAIT_MS } else { PAINT_MS / 2 };
        let timeout =
            Timespec { tv_sec: 0, tv_nsec: i64::try_from(wait_ms * 1_000_000).unwrap_or(0) };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => Ok(polled.first().is_some_and(|keys| !keys.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(ConsoleError::Poll(errno)),
        }
    }

    fn read_site(&mut self, path: &Path) {
        let now_ms = self.now().mono_ms;
        if self.site_ms.is_some_and(|at| now_ms.saturating_sub(at) < SITE_MS) {
            return;
        }
        self.site_ms = Some(now_ms);
        let limit = u64::try_from(SITE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
        let site = match read {
            Ok(_) => Site::parse(&bytes).map(Box::new).map_err(|error| error.to_string()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        self.update(Event::Site(site));
    }
}

/// Tells PID 1, when it asked to be told (sd_notify(3)).
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Ok(socket) = UnixDatagram::unbound() {
        // PID 1 notices by itself when this is lost: the start times out.
        let _ = socket.send_to(state.as_bytes(), path);
    }
}

fn draw() -> Result<Nonce, String> {
    let mut bytes = vec![0; NONCE_BYTES];
    // The kernel fills so few bytes whole, or not at all.
    match getrandom(&mut bytes[..], GetRandomFlags::NONBLOCK) {
        Ok(NONCE_BYTES) => Ok(Nonce { bytes, typed: false }),
        Ok(count) => Err(format!("{count} of {NONCE_BYTES} bytes")),
        Err(errno) => Err(errno.to_string()),
    }
}
