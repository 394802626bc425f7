//! What the console knows: fed by events, read by views.
//!
//! Pure: the time comes with every event, what has to be done outside goes out as [`Effect`].
//! Everything that came from outside is cleaned and bounded before it is kept. While the screen is
//! frozen the model keeps learning; views read the copy that was made when it froze.

use std::collections::VecDeque;

use hookprobe_wire::{
    attest::{self, Verdict},
    control,
    event::{Diagnostic, Severity},
    ledger, response, sensor,
    site::Site,
};

use crate::{
    attest::{Attest, DISCONNECTED, Question},
    clean,
    errand::{self, Errand},
    history::History,
    key::Key,
    look::Look,
    proof::{Nonce, Proof},
    recovery::Recovery,
    ui::{Screen, Ui},
};

/// Log lines that are kept; the oldest go, PID 1 has them still.
pub const LOG_LINES_MAX: usize = 256;
/// Seconds of rates that are kept: the widest sparkline.
pub const RATES_MAX: usize = 120;
/// After so long without an answer what is shown is stale: three polls missed, and a bit.
pub const STALE_MS: u64 = 4000;
/// A drill that was sent and not answered is given up: the sensor plays it within 3 s.
pub const DRILL_WAIT_MS: u64 = 10_000;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic.
    pub mono_ms: u64,
    /// Since 1970.
    pub unix_s: u64,
}

/// Where data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// PID 1.
    Init,
    /// The sensor.
    Sensor,
    /// The response.
    Response,
    /// The ledger's state.
    Ledger,
    /// The ledger's blocks.
    Blocks,
    /// The attester.
    Attest,
}

impl Source {
    /// All of them, in the order of [`Source::index`].
    pub const ALL: [Self; 6] =
        [Self::Init, Self::Sensor, Self::Response, Self::Ledger, Self::Blocks, Self::Attest];

    /// Name of its socket.
    #[must_use]
    pub fn socket(self) -> &'static str {
        match self {
            Self::Init => "init.sock",
            Self::Sensor => "sensor.sock",
            Self::Response => "response.sock",
            Self::Ledger | Self::Blocks => "ledger.sock",
            Self::Attest => "attest.sock",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// State of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Contact {
    /// Not connected yet.
    #[default]
    Trying,
    /// Connected.
    Up,
    /// Not connected any more, or never.
    Down {
        /// Since when.
        since_ms: u64,
        /// Why.
        reason: String,
    },
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A source is connected.
    Connected(Source),
    /// A source is not connected.
    Disconnected(Source, String),
    /// PID 1 answered.
    Init(control::Reply),
    /// The sensor answered.
    Sensor(sensor::Reply),
    /// The response answered.
    Response(response::Reply),
    /// The ledger answered about its state.
    Ledger(ledger::Reply),
    /// The ledger sent a block.
    Blocks(ledger::Reply),
    /// The attester answered, and what it was asked.
    Attest(Option<Question>, attest::Reply),
    /// The nonce for evidence is known, or why it could not be drawn.
    Nonce(Result<Nonce, String>),
    /// The nonce for [`Effect::Carry`] could not be drawn, and why.
    NoCarry(String),
    /// The site configuration was read, or why not.
    Site(Result<Box<Site>, String>),
    /// A key was pressed.
    Key(Key),
    /// The terminal has another size.
    Size(u16, u16),
    /// Time passed.
    Tick,
}

/// Something that has to be done outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the sensor for a drill.
    Drill,
    /// Ask PID 1 to read rules and lists again.
    Reload,
    /// Ask PID 1 to carry whole evidence to a USB stick, over the nonce that was typed, or one that is drawn.
    Carry,
    /// Ask the attester for short evidence over the nonce that was typed, or one that is drawn; tell it by
    /// [`Event::Nonce`].
    Evidence,
    /// Ask the attester for the recovery key.
    Recovery,
    /// Tell the attester that the recovery key is noted.
    RecoveryNoted,
    /// Paint every cell again.
    Repaint,
    /// End.
    Quit,
}

/// What came from outside.
#[derive(Debug, Clone, Default)]
pub struct Data {
    contacts: [Contact; Source::ALL.len()],
    heard_ms: [Option<u64>; Source::ALL.len()],
    /// What PID 1 said last.
    pub status: Option<control::Status>,
    /// When.
    pub status_ms: u64,
    /// Log of the box, oldest first.
    pub log: VecDeque<control::LogLine>,
    /// What the sensor said last.
    pub sensor: Option<sensor::Status>,
    /// Packets per second, oldest first.
    pub rates: VecDeque<u64>,
    packets: Option<(u64, u64)>,
    /// What the response said last.
    pub response: Option<response::Status>,
    /// What the ledger said last.
    pub head: Option<ledger::Head>,
    /// The last blocks.
    pub history: History,
    /// What the attester said last.
    pub attest: Attest,
    /// Accepted site configuration as lines, or why there is none.
    pub site: Option<Result<Vec<String>, String>>,
}

impl Data {
    /// State of a source.
    #[must_use]
    pub fn contact(&self, source: Source) -> &Contact {
        self.contacts.get(source.index()).unwrap_or(&Contact::Trying)
    }

    /// Number of the first log line that is not known yet.
    #[must_use]
    pub fn log_next(&self) -> u64 {
        self.log.back().map_or(0, |line| line.number.saturating_add(1))
    }

    /// What is wrong, worst first: what the services say and what the console finds itself.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        if let Some(status) = &self.status {
            out.extend(status.diagnostics.iter().cloned());
            add_divergence(&status.measured.divergence, Severity::Critical, &mut out);
        }
        self.attested(&mut out);
        let sensor = self.sensor.iter().flat_map(|status| &status.diagnostics);
        let response = self.response.iter().flat_map(|status| &status.diagnostics);
        out.extend(sensor.chain(response).cloned());
        let (_, broken) = self.history.links();
        if broken > 0 {
            out.push(Diagnostic {
                code: "HP-CO-010".into(),
                severity: Severity::Critical,
                object: "ledger".into(),
                cause: format!("{broken} blocks do not continue the block before them"),
                remedy: "see 4 Ledger; keep the disk and verify the lane offline".into(),
            });
        }
        out.sort_by_key(|item| std::cmp::Reverse(item.severity));
        out
    }

    /// What the attester says is wrong.
    fn attested(&self, out: &mut Vec<Diagnostic>) {
        let Some(status) = &self.attest.status else {
            return;
        };
        out.extend(status.diagnostics.iter().cloned());
        let severity = match status.verdict {
            Verdict::Contraindicated => Severity::Critical,
            Verdict::Warning => Severity::Warn,
            Verdict::None | Verdict::Affirming => Severity::Info,
        };
        add_divergence(&status.divergence, severity, out);
        if status.recovery_waiting {
            out.push(Diagnostic {
                code: "HP-CO-019".into(),
                severity: Severity::Warn,
                object: "recovery key".into(),
                cause: "not noted".into(),
                remedy: "press R and write it down".into(),
            });
        }
    }

    /// Sum of the sensor's counters whose name ends so.
    #[must_use]
    pub fn counters(&self, end: &str) -> u64 {
        let counters = self.sensor.iter().flat_map(|status| &status.counters);
        counters
            .filter(|counter| counter.name.ends_with(end))
            .fold(0, |sum, counter| sum.saturating_add(counter.value))
    }

    fn hear(&mut self, source: Source, now: Now) {
        if let Some(heard) = self.heard_ms.get_mut(source.index()) {
            *heard = Some(now.mono_ms);
        }
    }

    fn set_contact(&mut self, source: Source, contact: Contact) {
        if let Some(slot) = self.contacts.get_mut(source.index()) {
            *slot = contact;
        }
    }

    fn fail(&mut self, now: Now, source: Source, reason: &str) {
        let since_ms = match self.contact(source) {
            Contact::Down { since_ms, .. } => *since_ms,
            Contact::Trying | Contact::Up => now.mono_ms,
        };
        let reason = clean::text(reason, clean::TEXT_CHARS_MAX);
        self.set_contact(source, Contact::Down { since_ms, reason });
    }

    fn init(&mut self, now: Now, reply: control::Reply) {
        match reply {
            control::Reply::Status(mut status) => {
                clean::control_status(&mut status);
                self.status = Some(status);
                self.status_ms = now.mono_ms;
            }
            control::Reply::Log(lines) => {
                for mut line in lines.into_iter().take(control::LOG_LINES_MAX) {
                    if line.number < self.log_next() {
                        continue;
                    }
                    clean::log_line(&mut line);
                    self.log.push_back(line);
                    if self.log.len() > LOG_LINES_MAX {
                        self.log.pop_front();
                    }
                }
            }
            // The model's, see [`Model::update`].
            control::Reply::Reload { .. } | control::Reply::Carry { .. } => {}
            control::Reply::Error { code, reason } => {
                self.fail(now, Source::Init, &format!("{code} {reason}"));
            }
        }
    }

    fn sensor_status(&mut self, now: Now, mut status: sensor::Status) {
        clean::sensor_status(&mut status);
        let packets = status.counters.iter().find(|counter| counter.name == "packets");
        let value = packets.map_or(0, |counter| counter.value);
        if let Some((before_ms, before)) = self.packets {
            let ms = now.mono_ms.saturating_sub(before_ms).max(1);
            // A smaller value means that the sensor started again: one second says nothing.
            let rate = value.saturating_sub(before).saturating_mul(1000) / ms;
            self.rates.push_back(rate);
            if self.rates.len() > RATES_MAX {
                self.rates.pop_front();
            }
        }
        self.packets = Some((now.mono_ms, value));
        self.sensor = Some(status);
    }

    fn blocks(&mut self, now: Now, reply: ledger::Reply) {
        match reply {
            // The head comes first on every new connection; blocks follow from the beginning.
            ledger::Reply::Head(_) => self.history = History::new(),
            ledger::Reply::Block(record) => self.history.push(record),
            ledger::Reply::CaughtUp { .. } => self.history.caught_up = true,
            ledger::Reply::Error { code, reason } => {
                self.fail(now, Source::Blocks, &format!("{code} {reason}"));
            }
            ledger::Reply::Appended { .. } | ledger::Reply::Rejected { .. } => {}
        }
    }
}

/// Adds what a divergence says, unless its code is there already.
fn add_divergence(divergence: &str, severity: Severity, out: &mut Vec<Diagnostic>) {
    let known = |item: &Diagnostic| divergence.starts_with(item.code.as_str());
    if !divergence.is_empty() && !out.iter().any(known) {
        out.push(diverged(divergence, severity));
    }
}

fn diverged(divergence: &str, severity: Severity) -> Diagnostic {
    let (code, rest) = divergence.split_once(' ').unwrap_or(("HP-MB-004", divergence));
    let (object, rest) = rest.split_once(": ").unwrap_or(("measurement", rest));
    let (cause, remedy) =
        rest.rsplit_once("; ").unwrap_or((rest, "boot the other slot or re-flash"));
    Diagnostic {
        code: code.into(),
        severity,
        object: object.into(),
        cause: cause.into(),
        remedy: remedy.into(),
    }
}

/// The drill, from the key to the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Drill {
    /// Not asked for.
    #[default]
    Idle,
    /// Effect and undo are shown, `y` is waited for.
    Asking,
    /// Sent.
    Sent {
        /// When.
        at_ms: u64,
    },
    /// Answered.
    Done {
        /// Whether it began.
        started: bool,
        /// What the sensor said.
        reason: String,
    },
}

/// What is to be asked for beside everybody's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Lines of the box's log, from this one on.
    pub log: u64,
    /// Measurements of this boot, from this one on.
    pub measurements: Option<u32>,
}

/// What the console knows.
#[derive(Debug, Clone)]
pub struct Model {
    live: Data,
    frozen: Option<Box<Data>>,
    /// Time of the last event.
    pub now: Now,
    /// Size of the terminal.
    pub size: (u16, u16),
    /// What the line can show.
    pub look: Look,
    /// `q` ends the console.
    pub allow_quit: bool,
    /// Screens, lists, input.
    pub ui: Ui,
    /// See [`Drill`].
    pub drill: Drill,
    /// See [`Proof`].
    pub proof: Proof,
    /// See [`Recovery`].
    pub recovery: Recovery,
    /// See [`errand::RELOAD`].
    pub reload: Errand,
    /// See [`errand::CARRY`].
    pub carry: Errand,
}

impl Model {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(look: Look, allow_quit: bool) -> Self {
        Self {
            live: Data::default(),
            frozen: None,
            now: Now::default(),
            size: (80, 24),
            look,
            allow_quit,
            ui: Ui::default(),
            drill: Drill::Idle,
            proof: Proof::Idle,
            recovery: Recovery::Idle,
            reload: Errand::new(errand::RELOAD),
            carry: Errand::new(errand::CARRY),
        }
    }

    /// What is to be asked for beside everybody's status.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let shown = self.ui.screen == Screen::BootLog;
        let measurements = self.live.attest.log_next().filter(|_| shown);
        Wants { log: self.live.log_next(), measurements }
    }

    /// What views show: the live data, or the copy of when the screen was frozen.
    #[must_use]
    pub fn data(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// The live data.
    #[must_use]
    pub fn live(&self) -> &Data {
        &self.live
    }

    /// Whether the screen is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Freezes the screen, or lets it go.
    pub fn toggle_frozen(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(Box::new(self.live.clone())),
        };
    }

    /// Whether what a source said is of now: connected, answered lately, not frozen.
    #[must_use]
    pub fn fresh(&self, source: Source) -> bool {
        // Blocks come when they come; the ledger's state is asked for every second.
        let heard = match source {
            Source::Blocks => Source::Ledger,
            source => source,
        };
        let heard = self.live.heard_ms.get(heard.index()).copied().flatten();
        !self.is_frozen()
            && *self.live.contact(source) == Contact::Up
            && heard.is_some_and(|at| self.now.mono_ms.saturating_sub(at) <= STALE_MS)
    }

    /// Takes in one event.
    pub fn update(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.now = now;
        let live = &mut self.live;
        match event {
            Event::Connected(source) => {
                live.set_contact(source, Contact::Up);
                if source == Source::Attest {
                    live.attest.forget_log();
                }
            }
            Event::Disconnected(source, reason) => {
                live.fail(now, source, &reason);
                if source == Source::Attest {
                    self.proof.fail(DISCONNECTED);
                    self.recovery.fail(DISCONNECTED);
                }
            }
            Event::Init(reply) => {
                live.hear(Source::Init, now);
                match &reply {
                    control::Reply::Reload { number, reason } => {
                        self.reload.answered(now.mono_ms, *number, reason);
                    }
                    control::Reply::Carry { number, reason } => {
                        self.carry.answered(now.mono_ms, *number, reason);
                    }
                    _ => {}
                }
                live.init(now, reply);
                if let Some(status) = &live.status {
                    self.reload.heard(status.reload.as_ref());
                    self.carry.heard(status.carry.as_ref());
                }
            }
            Event::Sensor(reply) => {
                live.hear(Source::Sensor, now);
                self.sensor(now, reply);
            }
            Event::Response(reply) => {
                live.hear(Source::Response, now);
                match reply {
                    response::Reply::Status(mut status) => {
                        clean::response_status(&mut status);
                        live.response = Some(status);
                    }
                    response::Reply::Error { code, reason } => {
                        live.fail(now, Source::Response, &format!("{code} {reason}"));
                    }
                }
            }
            Event::Ledger(reply) => {
                live.hear(Source::Ledger, now);
                match reply {
                    ledger::Reply::Head(head) => live.head = Some(head),
                    ledger::Reply::Error { code, reason } => {
                        live.fail(now, Source::Ledger, &format!("{code} {reason}"));
                    }
                    ledger::Reply::Appended { .. }
                    | ledger::Reply::Rejected { .. }
                    | ledger::Reply::Block(_)
                    | ledger::Reply::CaughtUp { .. } => {}
                }
            }
            Event::Blocks(reply) => {
                live.hear(Source::Blocks, now);
                live.blocks(now, reply);
            }
            Event::Attest(question, reply) => {
                live.hear(Source::Attest, now);
                self.attest(now, question, reply);
            }
            Event::Nonce(known) => self.proof.begin(known),
            Event::NoCarry(reason) => self.carry.fail(&format!(
                "HP-CO-026 usb: no random nonce ({reason}); check the seccomp groups"
            )),
            Event::Site(site) => live.site = Some(site_lines(site)),
            Event::Key(key) => crate::ui::press(self, key, out),
            Event::Size(width, height) => self.size = (width, height),
            Event::Tick => self.tick(),
        }
    }

    fn sensor(&mut self, now: Now, reply: sensor::Reply) {
        match reply {
            sensor::Reply::Status(status) => self.live.sensor_status(now, status),
            sensor::Reply::Drill { started, reason } => {
                let reason = clean::text(&reason, clean::TEXT_CHARS_MAX);
                self.drill = Drill::Done { started, reason };
            }
            // The console asks PID 1 for it.
            sensor::Reply::Reload { .. } => {}
            sensor::Reply::Error { code, reason } => {
                self.live.fail(now, Source::Sensor, &format!("{code} {reason}"));
            }
        }
    }

    fn attest(&mut self, now: Now, question: Option<Question>, reply: attest::Reply) {
        let live = &mut self.live;
        match reply {
            attest::Reply::Status(status) => {
                live.set_contact(Source::Attest, Contact::Up);
                live.attest.hear(now.mono_ms, status);
            }
            attest::Reply::Log { total, lines } => live.attest.hear_log(total, lines),
            attest::Reply::Part { offset, total, bytes } => self.proof.part(offset, total, &bytes),
            attest::Reply::Recovery(key) => self.recovery.answered(now.mono_ms, key),
            attest::Reply::Error { code, reason } => {
                let reason = clean::text(&format!("{code} {reason}"), clean::TEXT_CHARS_MAX);
                match question {
                    Some(Question::Evidence) => self.proof.fail(&reason),
                    Some(Question::Recovery) => self.recovery.fail(&reason),
                    Some(Question::Log) => live.attest.log_refused = Some(reason),
                    Some(Question::Status) | None => live.fail(now, Source::Attest, &reason),
                }
            }
            // The console has no credential to activate.
            attest::Reply::Activated { .. } => {}
        }
    }

    fn tick(&mut self) {
        self.proof.tick(self.now.mono_ms);
        self.recovery.tick(self.now.mono_ms);
        self.reload.tick(self.now.mono_ms);
        self.carry.tick(self.now.mono_ms);
        if let Drill::Sent { at_ms } = self.drill
            && self.now.mono_ms.saturating_sub(at_ms) > DRILL_WAIT_MS
        {
            self.drill = Drill::Done {
                started: false,
                reason: "HP-CO-011 drill: no answer from the sensor; see 7 Services".into(),
            };
        }
    }
}

fn site_lines(site: Result<Box<Site>, String>) -> Result<Vec<String>, String> {
    let site = site.map_err(|reason| clean::text(&reason, clean::TEXT_CHARS_MAX))?;
    let text = site.to_toml();
    let lines = text.lines().filter(|line| !line.is_empty());
    Ok(lines.map(|line| clean::text(line, clean::TEXT_CHARS_MAX)).collect())
}
