//! One snapshot per screen, state, size and look; reviewed by eye when they change.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like tests"
)]

mod sample;

use hookprobe_console::{
    Event, Model, Now, attest::Question, key::Key, look::Look, proof::Nonce, views,
};
use hookprobe_wire::{
    attest,
    event::{Attestation, Binding, Event as Payload},
    ledger, qr,
};
use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier},
};
use sample::State;

const M: Key = Key::Char('m');
/// Keys to every screen and page.
const SCREENS: [&[Key]; 12] = [
    &[Key::Char('1')],
    &[Key::Char('2')],
    &[Key::Char('3')],
    &[Key::Char('4')],
    &[Key::Char('5')],
    &[Key::Char('6')],
    &[Key::Char('7')],
    &[Key::Char('8')],
    &[M],
    &[M, M],
    &[M, M, M],
    &[M, M, M, M],
];

fn draw(model: &mut Model, width: u16, height: u16) -> Buffer {
    let now = model.now;
    model.update(now, Event::Size(width, height), &mut Vec::new());
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    views::screen(model, area, &mut buffer);
    buffer
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let row = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    buffer.content.chunks(usize::from(buffer.area.width)).map(row).collect()
}

fn text(buffer: &Buffer) -> String {
    let rows = rows(buffer);
    rows.iter().map(|row| format!("{}\n", row.trim_end())).collect()
}

fn style(cell: &Cell) -> String {
    let mut name = match cell.fg {
        Color::Red => "red",
        Color::Green => "green",
        Color::Yellow => "yellow",
        Color::Cyan => "cyan",
        _ => "",
    }
    .to_owned();
    for (modifier, word) in [(Modifier::BOLD, "bold"), (Modifier::REVERSED, "reversed")] {
        if cell.modifier.contains(modifier) {
            name = format!("{name} {word}");
        }
    }
    name.trim().to_owned()
}

/// Every run of cells of one style but the plain one: row, column, style, text.
fn runs(buffer: &Buffer) -> Vec<(usize, usize, String, String)> {
    let mut out: Vec<(usize, usize, String, String)> = Vec::new();
    let width = usize::from(buffer.area.width);
    for (y, cells) in buffer.content.chunks(width).enumerate() {
        let mut last = String::new();
        for (x, cell) in cells.iter().enumerate() {
            let style = style(cell);
            if !style.is_empty() {
                match out.last_mut() {
                    Some(run) if style == last => run.3.push_str(cell.symbol()),
                    _ => out.push((y, x, style.clone(), cell.symbol().into())),
                }
            }
            last = style;
        }
    }
    out
}

fn with_styles(buffer: &Buffer) -> String {
    let mut out = text(buffer);
    for (y, x, style, text) in runs(buffer) {
        out.push_str(&format!("{y}:{x} {style} \"{}\"\n", text.trim_end()));
    }
    out
}

fn press(model: &mut Model, keys: &[Key]) {
    let now = model.now;
    for key in keys {
        model.update(now, Event::Key(*key), &mut Vec::new());
    }
}

#[test]
fn overview_in_every_state_size_and_look() {
    for (width, height) in [(60, 20), (80, 24), (132, 43)] {
        for state in State::ALL {
            let name = format!("overview_{width}x{height}_{state:?}").to_lowercase();
            let mono = draw(&mut sample::model(state, Look::SERIAL), width, height);
            insta::assert_snapshot!(format!("{name}_mono"), text(&mono));
            let colour = draw(&mut sample::model(state, Look::SCREEN), width, height);
            insta::assert_snapshot!(format!("{name}_colour"), with_styles(&colour));
        }
    }
}

#[test]
fn other_screens() {
    let check = |name: &str, state, keys: &[Key]| {
        let mut model = sample::model(state, Look::SCREEN);
        press(&mut model, keys);
        insta::assert_snapshot!(format!("screen_{name}"), with_styles(&draw(&mut model, 80, 24)));
    };
    let (enter, down) = (Key::Enter, Key::Down);
    check("alerts", State::Ok, &[Key::Char('2')]);
    check("alerts_detail_refused", State::Ok, &[Key::Char('2'), enter]);
    check("alerts_detail_blocked", State::Ok, &[Key::Char('2'), down, enter]);
    check("alerts_loading", State::Loading, &[Key::Char('2')]);
    check("alerts_disconnected", State::Disconnected, &[Key::Char('2')]);
    check("flows", State::Ok, &[Key::Char('3')]);
    check("ledger", State::Ok, &[Key::Char('4'), down]);
    check("ledger_broken", State::Failed, &[Key::Char('4')]);
    check("ledger_detail", State::Ok, &[Key::Char('4'), enter]);
    check("mesh", State::Ok, &[Key::Char('5')]);
    check("mitigations", State::Ok, &[Key::Char('6')]);
    check("mitigations_detail", State::Ok, &[Key::Char('6'), enter]);
    check("services", State::Warn, &[Key::Char('7')]);
    check("services_detail", State::Failed, &[Key::Char('7'), down, enter]);
    check("settings", State::Ok, &[Key::Char('8')]);
    check("help", State::Ok, &[Key::Char('?')]);
    check("drill", State::Ok, &[Key::Char('d')]);
    check("reload", State::Ok, &[Key::Char('8'), Key::Char('r')]);
    check("reload_not_here", State::Ok, &[Key::Char('2'), Key::Char('r')]);
    let m = M;
    check("identity", State::Failed, &[enter]);
    check("identity_no_tpm", State::Warn, &[m]);
    check("identity_no_attest", State::Unverified, &[m]);
    check("identity_end", State::Ok, &[m, Key::PageDown]);
    check("registers", State::Failed, &[m, m]);
    check("registers_stale", State::Stale, &[m, Key::Tab]);
    check("registers_detail", State::Failed, &[m, m, down, down, down, enter]);
    check("registers_no_tpm", State::Warn, &[m, m]);
    check("boot_log", State::Ok, &[m, m, m, down]);
    check("boot_log_detail", State::Ok, &[m, m, m, Key::End, enter]);
    let filter = "sensor".chars().map(Key::Char);
    let filter: Vec<Key> = [m, m, m, Key::Char('/')].into_iter().chain(filter).collect();
    check("boot_log_filter", State::Ok, &filter);
    check("boot_log_no_attest", State::Unverified, &[m, m, m]);
    check("evidence", State::Ok, &[m, Key::BackTab]);
    check("evidence_asked", State::Ok, &[m, m, m, m, enter]);
    check("evidence_no_attest", State::Unverified, &[m, m, m, m, enter]);
    check("recovery_asked", State::Recovery, &[Key::Char('R')]);
    check("recovery_notice_read", State::Recovery, &[Key::Esc]);
    check("diagnostics_detail", State::Failed, &[Key::BackTab, enter]);
    let filter = [Key::Char('4'), Key::Char('/'), Key::Char('7'), Key::Char('7')];
    check("ledger_filter", State::Ok, &filter);
    check("frozen", State::Ok, &[Key::Char(' ')]);
}

/// The model after its evidence came.
fn with_evidence(look: Look) -> Model {
    let mut model = sample::model(State::Ok, look);
    press(&mut model, &[M, M, M, M, Key::Enter]);
    let now = model.now;
    model.update(
        now,
        Event::Nonce(Ok(Nonce { bytes: vec![0xa5; 16], typed: false })),
        &mut Vec::new(),
    );
    for (offset, piece) in [(0, &sample::evidence()[..500]), (500, &sample::evidence()[500..])] {
        let bytes = piece.to_vec().into();
        let part = attest::Reply::Part { offset, total: 900, bytes };
        model.update(now, Event::Attest(Some(Question::Evidence), part), &mut Vec::new());
    }
    model
}

#[test]
fn evidence_in_every_size_and_look() {
    for (width, height) in [(60, 20), (80, 24), (132, 43)] {
        let size = format!("{width}x{height}");
        let mut serial = with_evidence(Look::SERIAL);
        let shown = draw(&mut serial, width, height);
        insta::assert_snapshot!(format!("evidence_{size}_text"), text(&shown));
        let mut screen = with_evidence(Look::SCREEN);
        draw(&mut screen, width, height);
        press(&mut screen, &[Key::Char('n')]);
        let shown = draw(&mut screen, width, height);
        insta::assert_snapshot!(format!("evidence_{size}_code"), with_styles(&shown));
    }
}

/// Pages of text as somebody copies them, frame and all.
#[test]
fn copied_text_is_the_evidence() {
    for (width, height) in [(60, 20), (80, 24), (132, 43)] {
        let mut model = with_evidence(Look::SERIAL);
        let mut copied = String::new();
        for _ in 0..9 {
            copied.push_str(&text(&draw(&mut model, width, height)));
            press(&mut model, &[Key::PageDown]);
        }
        assert_eq!(qr::join(&copied).unwrap(), sample::evidence(), "{width}x{height}");
    }
}

/// Every code as a camera sees it: dark cells are what is not drawn.
#[test]
fn scanned_codes_are_the_evidence() {
    for (width, height) in [(60, 20), (80, 24), (132, 43)] {
        let mut model = with_evidence(Look::SCREEN);
        draw(&mut model, width, height);
        let count = views::evidence::lines(&model).unwrap().len();
        let mut scanned = String::new();
        for _ in 0..count {
            scanned.push_str(&scan(&rows(&draw(&mut model, width, height))));
            scanned.push('\n');
            press(&mut model, &[Key::PageDown]);
        }
        assert_eq!(qr::join(&scanned).unwrap(), sample::evidence(), "{width}x{height}");
    }
}

fn scan(rows: &[String]) -> String {
    const PIXELS: usize = 4;
    let cells: Vec<Vec<char>> = rows.iter().map(|row| row.chars().collect()).collect();
    let (width, height) = (cells[0].len() * PIXELS, cells.len() * 2 * PIXELS);
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        let half = if (y / PIXELS).is_multiple_of(2) { '\u{2580}' } else { '\u{2584}' };
        let cell = cells[y / PIXELS / 2][x / PIXELS];
        if cell == '\u{2588}' || cell == half { 255 } else { 0 }
    });
    let grids = picture.detect_grids();
    assert_eq!(grids.len(), 1);
    grids[0].decode().unwrap().1
}

fn with_recovery(look: Look) -> Model {
    let mut model = sample::model(State::Recovery, look);
    press(&mut model, &[Key::Char('R')]);
    let now = model.now;
    let reply = attest::Reply::Recovery(Some(sample::RECOVERY_KEY.into()));
    model.update(now, Event::Attest(Some(Question::Recovery), reply), &mut Vec::new());
    model
}

#[test]
fn recovery_in_every_size_and_look() {
    for (width, height) in [(60, 20), (80, 24), (132, 43)] {
        let size = format!("{width}x{height}");
        let mono = draw(&mut with_recovery(Look::SERIAL), width, height);
        insta::assert_snapshot!(format!("recovery_{size}_mono"), text(&mono));
        let colour = draw(&mut with_recovery(Look::SCREEN), width, height);
        insta::assert_snapshot!(format!("recovery_{size}_colour"), with_styles(&colour));
    }
    let mut model = with_recovery(Look::SCREEN);
    press(&mut model, &[Key::Char('x'), Key::Enter]);
    insta::assert_snapshot!("screen_recovery_wrong", with_styles(&draw(&mut model, 80, 24)));
}

/// What attest writes into the ledger.
#[test]
fn blocks_of_attest() {
    let binding = Payload::Binding(Binding { epoch: 4, evidence: vec![1; 612].into() });
    let attestation = Payload::Attestation(Attestation {
        change: "failed".into(),
        level: "L3".into(),
        ak_name: sample::attest_status().ak_name,
        detail: "HP-QV-031 PCR 13: not as predicted; boot the other slot".into(),
    });
    let mut feed = sample::Feed::new(Look::SCREEN);
    for record in sample::chain(0, &[binding, attestation]) {
        feed.event(Event::Blocks(ledger::Reply::Block(record)));
    }
    press(&mut feed.model, &[Key::Char('4')]);
    insta::assert_snapshot!("ledger_of_attest", text(&draw(&mut feed.model, 80, 24)));
    press(&mut feed.model, &[Key::Enter]);
    insta::assert_snapshot!("ledger_attestation", text(&draw(&mut feed.model, 80, 24)));
    press(&mut feed.model, &[Key::Esc, Key::Down, Key::Enter]);
    insta::assert_snapshot!("ledger_binding", text(&draw(&mut feed.model, 80, 24)));
}

#[test]
fn every_red_and_yellow_run_has_its_word() {
    const RED: [&str; 3] = ["FAIL", "CRIT", "DIFF"];
    const YELLOW: [&str; 6] = ["WARN", "RETRY", "STALE", "FROZEN", "LOST", "disconnected"];
    let mut seen = 0;
    for state in State::ALL {
        for screen in SCREENS {
            for keys in [&[][..], &[Key::Enter][..], &[Key::Down, Key::Enter][..]] {
                let mut model = sample::model(state, Look::SCREEN);
                press(&mut model, screen);
                press(&mut model, keys);
                for (y, x, style, text) in runs(&draw(&mut model, 80, 24)) {
                    let words: &[&str] = if style.contains("red") {
                        &RED
                    } else if style.contains("yellow") {
                        &YELLOW
                    } else {
                        continue;
                    };
                    seen += 1;
                    let has = words.iter().any(|word| text.contains(word));
                    assert!(has, "{state:?} screen {screen:?} {y}:{x} {style} {text:?}");
                }
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn nothing_stale_is_green() {
    for screen in SCREENS {
        for keys in [&[][..], &[Key::Enter][..]] {
            let mut model = sample::model(State::Disconnected, Look::SCREEN);
            press(&mut model, screen);
            press(&mut model, keys);
            assert_eq!(green(&mut model), [""; 0], "screen {screen:?}");
        }
    }
    // The attester answers, but its last verification is old.
    for screen in [&[M, M][..], &[M, M, Key::Enter][..]] {
        let mut model = sample::model(State::Stale, Look::SCREEN);
        press(&mut model, screen);
        assert_eq!(green(&mut model), [""; 0], "screen {screen:?}");
    }
}

fn green(model: &mut Model) -> Vec<String> {
    let runs = runs(&draw(model, 80, 24)).into_iter();
    runs.filter(|run| run.2.contains("green")).map(|run| run.3).collect()
}

#[test]
fn no_screen_says_that_the_box_is_trusted() {
    for state in State::ALL {
        for screen in SCREENS {
            let mut model = sample::model(state, Look::SERIAL);
            press(&mut model, screen);
            let text = text(&draw(&mut model, 132, 43)).to_lowercase();
            for word in ["attested", "trusted", "verified by peers"] {
                assert!(!text.contains(word), "{state:?} screen {screen:?} says {word}");
            }
        }
    }
    let shown = |state| text(&draw(&mut sample::model(state, Look::SERIAL), 60, 20));
    assert!(shown(State::Ok).contains("[ OK ] VERIFIED by self 17 s ago"));
    assert!(shown(State::Stale).contains("STALE VERIFIED by self 5m00s ago"));
    assert!(shown(State::Disconnected).contains("STALE VERIFIED by self"));
    let unverified = shown(State::Unverified);
    assert!(unverified.contains("n/a    attest is disconnected"), "{unverified}");
    assert!(unverified.contains("self-measured, not verified by a peer"));
}

#[test]
fn every_size_from_1x1_to_140x50_stays_inside() {
    let with = |state, keys: &[Key]| {
        let mut model = sample::model(state, Look::SERIAL);
        press(&mut model, keys);
        model
    };
    let mut models: Vec<Model> = State::ALL.map(|state| with(state, &[])).into();
    for digit in '2'..='8' {
        models.push(with(State::Failed, &[Key::Char(digit)]));
        models.push(with(State::Failed, &[Key::Char(digit), Key::Enter]));
    }
    models.push(with(State::Failed, &[Key::Enter]));
    models.push(with(State::Failed, &[Key::Char('?')]));
    models.push(with(State::Failed, &[Key::Char('d')]));
    for pages in 1..=4 {
        models.push(with(State::Failed, &vec![Key::Char('m'); pages]));
    }
    models.push(with_recovery(Look::SERIAL));
    // Two halves at once: this is most of the time that the tests of this crate take.
    let (left, right) = models.split_at(models.len() / 2);
    std::thread::scope(|scope| {
        for half in [left, right] {
            scope.spawn(|| half.iter().for_each(every_size));
        }
    });
}

fn every_size(model: &Model) {
    let mut model = model.clone();
    for width in 1..=140 {
        for height in 1..=50 {
            inside(&mut model, width, height);
        }
    }
}

/// Codes take long to make: fewer sizes, those at which the version of the code changes among them.
#[test]
fn codes_of_many_sizes_stay_inside() {
    let mut model = with_evidence(Look::SCREEN);
    for width in (1..=140).step_by(9) {
        for height in 1..=45 {
            inside(&mut model, width, height);
        }
    }
}

/// Draws into the middle of a larger buffer and looks at the cells around.
fn inside(model: &mut Model, width: u16, height: u16) {
    model.size = (width, height);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width + 2, height + 2));
    views::screen(model, Rect::new(1, 1, width, height), &mut buffer);
    let blank = Cell::EMPTY;
    let columns = (0..width + 2).flat_map(|x| [(x, 0), (x, height + 1)]);
    let rows = (0..height + 2).flat_map(|y| [(0, y), (width + 1, y)]);
    for place in columns.chain(rows) {
        assert!(buffer[place] == blank, "{width}x{height} writes {place:?}");
    }
}

#[test]
fn a_screen_drawn_after_another_size_keeps_the_selection_in_view() {
    let mut model = sample::model(State::Ok, Look::SCREEN);
    press(&mut model, &[Key::Char('4'), Key::End]);
    for height in [12, 24, 9] {
        let shown = runs(&draw(&mut model, 80, height));
        assert!(shown.iter().any(|run| run.2 == "cyan reversed" && run.3.contains("boot")));
    }
}

#[test]
fn new_blocks_do_not_move_what_is_selected() {
    let mut feed = sample::Feed::new(Look::SERIAL);
    let records = sample::records();
    let (first, later) = records.split_at(6);
    let block = |record: &hookprobe_wire::ledger::Record| {
        Event::Blocks(hookprobe_wire::ledger::Reply::Block(record.clone()))
    };
    first.iter().for_each(|record| feed.event(block(record)));
    press(&mut feed.model, &[Key::Char('4'), Key::Down]);
    let selected = |model: &mut Model| {
        let found = runs(&draw(model, 80, 24)).into_iter().find(|run| run.2 == "reversed");
        found.map(|run| run.3)
    };
    let before = selected(&mut feed.model);
    later.iter().for_each(|record| feed.event(block(record)));
    assert!(before.is_some());
    assert_eq!(selected(&mut feed.model), before);
}

#[test]
fn the_now_of_samples_is_fixed() {
    let model = sample::model(State::Ok, Look::SERIAL);
    assert_eq!(model.now, Now { mono_ms: sample::SECONDS * 1000, unix_s: sample::UNIX_S });
}
