//! Where the reader is: screen, selected row, filter, sort; and what keys do to it.
//!
//! Pure. A row is remembered by its identity, not by its place, so that new rows do not move the
//! selection; the first row is the exception: it stays the newest.

use crate::{
    attest::DISCONNECTED,
    command::{self, Action},
    detail,
    errand::Stage,
    key::Key,
    model::{Contact, Drill, Effect, Model, Source},
    proof::{NONCE_DIGITS_MAX, Nonce, Proof},
    recovery::Recovery,
    table,
    views::evidence,
};

/// Longest filter.
pub const FILTER_CHARS_MAX: usize = 32;

/// The eight screens, and the four pages about what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Screen {
    /// How is the box?
    #[default]
    Overview,
    /// What was detected?
    Alerts,
    /// Who talks to whom?
    Flows,
    /// What is written?
    Ledger,
    /// Who else is there?
    Mesh,
    /// What is being done?
    Mitigations,
    /// What runs?
    Services,
    /// How is it set up?
    Settings,
    /// Who is this box, and who verified what?
    Identity,
    /// What do the registers hold?
    Registers,
    /// What was measured, in order?
    BootLog,
    /// How does somebody else verify it?
    Evidence,
}

impl Screen {
    /// In the order of their digits.
    pub const ALL: [Self; 8] = [
        Self::Overview,
        Self::Alerts,
        Self::Flows,
        Self::Ledger,
        Self::Mesh,
        Self::Mitigations,
        Self::Services,
        Self::Settings,
    ];

    /// Pages about what was measured, in their order.
    pub const MEASURED: [Self; 4] =
        [Self::Identity, Self::Registers, Self::BootLog, Self::Evidence];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Alerts => "Alerts",
            Self::Flows => "Flows",
            Self::Ledger => "Ledger",
            Self::Mesh => "Mesh",
            Self::Mitigations => "Mitigations",
            Self::Services => "Services",
            Self::Settings => "Settings",
            Self::Identity => "Identity",
            Self::Registers => "Registers",
            Self::BootLog => "Boot log",
            Self::Evidence => "Evidence",
        }
    }

    /// Whether it is a page about what was measured.
    #[must_use]
    pub fn is_measured(self) -> bool {
        Self::MEASURED.contains(&self)
    }

    /// The screens or pages among which it is.
    fn group(self) -> &'static [Self] {
        if self.is_measured() { &Self::MEASURED } else { &Self::ALL }
    }

    fn beside(self, step: i8) -> Self {
        let group = self.group();
        let at = group.iter().position(|screen| *screen == self).unwrap_or(0);
        let at = if step < 0 { at + group.len() - 1 } else { at + 1 } % group.len();
        group.get(at).copied().unwrap_or_default()
    }
}

/// Panes of the Overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// What was measured.
    #[default]
    Attestation,
    /// The numbers that matter.
    Posture,
    /// What runs.
    Services,
    /// Packets per second.
    Events,
    /// Log of the box.
    Log,
    /// What is wrong.
    Diagnostics,
}

impl Pane {
    const ALL: [Self; 6] = [
        Self::Attestation,
        Self::Posture,
        Self::Services,
        Self::Events,
        Self::Log,
        Self::Diagnostics,
    ];
}

/// Where the reader is in one list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Identity of the selected row; none: the first one, whichever it is.
    pub anchor: Option<u64>,
    /// Its place when it was last seen.
    pub index: usize,
    /// The detail is open.
    pub detail: bool,
    /// First line of the detail that is shown.
    pub scroll: usize,
    /// Rows must contain it.
    pub filter: String,
    /// Column that rows are sorted by; none: natural order.
    pub sort: Option<usize>,
}

impl List {
    /// Place of the selected row among rows with these identities.
    #[must_use]
    pub fn locate(&self, ids: &[u64]) -> usize {
        let Some(anchor) = self.anchor else { return 0 };
        ids.iter()
            .position(|id| *id == anchor)
            .unwrap_or(self.index)
            .min(ids.len().saturating_sub(1))
    }

    fn select(&mut self, ids: &[u64], index: usize) {
        self.index = index.min(ids.len().saturating_sub(1));
        self.anchor = if self.index == 0 { None } else { ids.get(self.index).copied() };
        self.scroll = 0;
    }
}

/// Where the reader is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ui {
    /// The screen that is shown.
    pub screen: Screen,
    /// The pane that has the focus on Overview.
    pub pane: Pane,
    /// Help lies over the screen.
    pub help: bool,
    /// The filter, or the nonce on [`Screen::Evidence`], is being typed; what it was before.
    pub typing: Option<String>,
    /// A verifier's nonce for evidence, as typed; empty: the console draws one.
    pub nonce: String,
    /// The notice about the recovery key was read.
    pub notice_read: bool,
    lists: [List; Screen::ALL.len() + Screen::MEASURED.len()],
}

impl Ui {
    /// The list of the screen that is shown.
    #[must_use]
    pub fn list(&self) -> &List {
        let [one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve] =
            &self.lists;
        match self.screen {
            Screen::Overview => one,
            Screen::Alerts => two,
            Screen::Flows => three,
            Screen::Ledger => four,
            Screen::Mesh => five,
            Screen::Mitigations => six,
            Screen::Services => seven,
            Screen::Settings => eight,
            Screen::Identity => nine,
            Screen::Registers => ten,
            Screen::BootLog => eleven,
            Screen::Evidence => twelve,
        }
    }

    fn list_mut(&mut self) -> &mut List {
        let [one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve] =
            &mut self.lists;
        match self.screen {
            Screen::Overview => one,
            Screen::Alerts => two,
            Screen::Flows => three,
            Screen::Ledger => four,
            Screen::Mesh => five,
            Screen::Mitigations => six,
            Screen::Services => seven,
            Screen::Settings => eight,
            Screen::Identity => nine,
            Screen::Registers => ten,
            Screen::BootLog => eleven,
            Screen::Evidence => twelve,
        }
    }
}

/// Does what a key asks for.
pub fn press(model: &mut Model, key: Key, out: &mut Vec<Effect>) {
    if model.ui.typing.is_some() && key != Key::Ctrl('l') {
        if model.ui.screen == Screen::Evidence {
            type_nonce(&mut model.ui, key);
        } else {
            type_filter(&mut model.ui, key);
        }
        return;
    }
    if model.drill == Drill::Asking && key != Key::Ctrl('l') {
        answer_drill(model, key, out);
        return;
    }
    let connected = *model.live().contact(Source::Init) == Contact::Up;
    if model.reload.stage == Stage::Asking && key != Key::Ctrl('l') {
        if model.reload.press(model.now.mono_ms, connected, key) {
            out.push(Effect::Reload);
        }
        return;
    }
    if model.recovery.is_open() && key != Key::Ctrl('l') {
        if model.recovery.press(model.now.mono_ms, key) {
            out.push(Effect::RecoveryNoted);
        }
        return;
    }
    if matches!(model.drill, Drill::Done { .. }) {
        model.drill = Drill::Idle;
    }
    model.reload.seen();
    model.carry.seen();
    if matches!(model.recovery, Recovery::Done { .. }) {
        model.recovery = Recovery::Idle;
    }
    let Some(action) = command::action(key, model.allow_quit) else {
        return;
    };
    if model.ui.help && !matches!(action, Action::Redraw | Action::Quit | Action::Colour) {
        model.ui.help = false;
        if matches!(action, Action::Help | Action::Back | Action::Detail) {
            return;
        }
    }
    perform(model, action, out);
}

fn perform(model: &mut Model, action: Action, out: &mut Vec<Effect>) {
    match action {
        Action::Screen(digit) => {
            let at = usize::from(digit.saturating_sub(1));
            model.ui.screen = Screen::ALL.get(at).copied().unwrap_or_default();
            // A digit leads to the list, whatever was read there before.
            model.ui.list_mut().detail = false;
        }
        Action::Beside(step) => model.ui.screen = model.ui.screen.beside(step),
        Action::Pane(step) => next_pane(model, step),
        Action::Row(step) => move_by(model, isize::from(step)),
        Action::Page(step) => {
            let rows = isize::from(model.size.1.saturating_sub(8).max(1).cast_signed());
            move_by(model, rows * isize::from(step));
        }
        Action::First => move_by(model, isize::MIN),
        Action::Last => move_by(model, isize::MAX),
        Action::Detail if model.ui.screen == Screen::Evidence => ask_evidence(model, out),
        Action::Detail => open(model),
        Action::Back => back(model),
        Action::Filter if table::exists(model) => {
            let before = model.ui.list().filter.clone();
            model.ui.typing = Some(before);
            model.ui.list_mut().detail = false;
        }
        Action::Filter if model.ui.screen == Screen::Evidence => {
            model.ui.typing = Some(model.ui.nonce.clone());
        }
        Action::Filter => {}
        Action::Sort => sort(model),
        Action::Freeze => model.toggle_frozen(),
        Action::Drill => model.drill = Drill::Asking,
        Action::Reload => {
            let here = matches!(model.ui.screen, Screen::Services | Screen::Settings);
            if here && model.reload.is_idle() {
                model.reload.stage = Stage::Asking;
            }
        }
        Action::Carry => {
            let connected = *model.live().contact(Source::Init) == Contact::Up;
            let here = model.ui.screen == Screen::Evidence && model.carry.is_idle();
            if here && model.carry.send(model.now.mono_ms, connected) {
                out.push(Effect::Carry);
            }
        }
        Action::Measured => {
            let ui = &mut model.ui;
            ui.screen =
                if ui.screen.is_measured() { ui.screen.beside(1) } else { Screen::Identity };
            ui.list_mut().detail = false;
        }
        Action::Recovery => ask_recovery(model, out),
        Action::Colour => {
            model.look.colour = !model.look.colour;
            out.push(Effect::Repaint);
        }
        Action::Help => model.ui.help = true,
        Action::Redraw => out.push(Effect::Repaint),
        Action::Quit => out.push(Effect::Quit),
    }
}

fn type_filter(ui: &mut Ui, key: Key) {
    match key {
        Key::Char(char) => {
            let filter = &mut ui.list_mut().filter;
            if filter.len() < FILTER_CHARS_MAX {
                filter.push(char);
            }
        }
        Key::Backspace => {
            ui.list_mut().filter.pop();
        }
        Key::Enter | Key::Tab => ui.typing = None,
        Key::Esc => ui.list_mut().filter = ui.typing.take().unwrap_or_default(),
        _ => {}
    }
    let list = ui.list_mut();
    list.anchor = None;
    list.index = 0;
}

fn type_nonce(ui: &mut Ui, key: Key) {
    match key {
        Key::Char(digit) if digit.is_ascii_hexdigit() && ui.nonce.len() < NONCE_DIGITS_MAX => {
            ui.nonce.push(digit.to_ascii_lowercase());
        }
        Key::Backspace => {
            ui.nonce.pop();
        }
        Key::Enter | Key::Tab => ui.typing = None,
        Key::Esc => ui.nonce = ui.typing.take().unwrap_or_default(),
        _ => {}
    }
}

fn answer_drill(model: &mut Model, key: Key, out: &mut Vec<Effect>) {
    if !matches!(key, Key::Char('y' | 'Y')) {
        model.drill = Drill::Idle;
        return;
    }
    if *model.live().contact(Source::Sensor) != Contact::Up {
        model.drill = Drill::Done {
            started: false,
            reason: "HP-CO-012 drill: the sensor is disconnected; see 7 Services".into(),
        };
        return;
    }
    model.drill = Drill::Sent { at_ms: model.now.mono_ms };
    out.push(Effect::Drill);
}

fn ask_evidence(model: &mut Model, out: &mut Vec<Effect>) {
    if matches!(model.proof, Proof::Asked { .. }) {
        // What comes is an answer to the first nonce; asking ends by itself.
        return;
    }
    model.ui.list_mut().scroll = 0;
    model.proof.ask(model.now.mono_ms);
    if let Err(reason) = Nonce::parse(&model.ui.nonce) {
        model.proof.fail(&reason);
        return;
    }
    if *model.live().contact(Source::Attest) == Contact::Up {
        out.push(Effect::Evidence);
    } else {
        model.proof.fail(DISCONNECTED);
    }
}

fn ask_recovery(model: &mut Model, out: &mut Vec<Effect>) {
    model.recovery = Recovery::Asked { at_ms: model.now.mono_ms };
    if *model.live().contact(Source::Attest) == Contact::Up {
        out.push(Effect::Recovery);
    } else {
        model.recovery.fail(DISCONNECTED);
    }
}

/// Whether a notice that a recovery key waits lies over the screen.
#[must_use]
pub fn notice(model: &Model) -> bool {
    let here = model.ui.screen == Screen::Overview && !model.ui.list().detail && !model.ui.help;
    let busy = model.drill != Drill::Idle || model.recovery != Recovery::Idle;
    here && !busy && !model.ui.notice_read && model.data().attest.recovery_waiting()
}

fn next_pane(model: &mut Model, step: i8) {
    if model.ui.screen.is_measured() {
        model.ui.screen = model.ui.screen.beside(step);
        return;
    }
    if model.ui.screen != Screen::Overview || model.ui.list().detail {
        if model.ui.list().detail {
            back(model);
        } else {
            open(model);
        }
        return;
    }
    // An invisible pane can't have the focus.
    let count = Pane::ALL.len() - usize::from(model.data().diagnostics().is_empty());
    let at = (model.ui.pane as usize).min(count - 1);
    let at = if step < 0 { at + count - 1 } else { at + 1 } % count;
    model.ui.pane = Pane::ALL.get(at).copied().unwrap_or_default();
}

fn open(model: &mut Model) {
    if model.ui.screen == Screen::Overview {
        let screen = match model.ui.pane {
            Pane::Posture => Screen::Alerts,
            Pane::Services => Screen::Services,
            Pane::Events => Screen::Flows,
            Pane::Attestation => Screen::Identity,
            Pane::Log | Pane::Diagnostics => Screen::Overview,
        };
        if screen != Screen::Overview {
            model.ui.screen = screen;
            return;
        }
    }
    let ids = table::ids(model);
    let list = model.ui.list_mut();
    let index = list.locate(&ids);
    if model.ui.screen != Screen::Overview {
        let Some(id) = ids.get(index) else { return };
        // What is being read stays, even when newer rows come.
        let list = model.ui.list_mut();
        list.anchor = Some(*id);
        list.index = index;
    }
    let list = model.ui.list_mut();
    list.detail = true;
    list.scroll = 0;
}

fn back(model: &mut Model) {
    if notice(model) {
        model.ui.notice_read = true;
        return;
    }
    let ui = &mut model.ui;
    let list = ui.list_mut();
    if list.detail {
        list.detail = false;
        list.scroll = 0;
    } else if !list.filter.is_empty() {
        list.filter.clear();
    } else if ui.screen.is_measured() {
        ui.screen = Screen::Overview;
    }
}

fn sort(model: &mut Model) {
    let columns = table::columns(model.ui.screen).len();
    let list = model.ui.list_mut();
    list.sort = match list.sort {
        None if columns > 0 => Some(0),
        Some(at) if at + 1 < columns => Some(at + 1),
        _ => None,
    };
    list.anchor = None;
    list.index = 0;
}

fn move_by(model: &mut Model, rows: isize) {
    if let Some(codes) = evidence::lines(model) {
        // One code at a time, whatever the key.
        let list = model.ui.list_mut();
        let step = if matches!(rows, isize::MIN | isize::MAX) { rows } else { rows.signum() };
        list.scroll = list.scroll.min(codes.len().saturating_sub(1)).saturating_add_signed(step);
        list.scroll = list.scroll.min(codes.len().saturating_sub(1));
        return;
    }
    if model.ui.list().detail || !table::exists(model) {
        let (lines, shown) = (detail::length(model), detail::rows(model));
        let list = model.ui.list_mut();
        list.scroll = list.scroll.saturating_add_signed(rows).min(lines.saturating_sub(shown));
        return;
    }
    let ids = table::ids(model);
    let list = model.ui.list_mut();
    let index = list.locate(&ids).saturating_add_signed(rows);
    list.select(&ids, index);
}
