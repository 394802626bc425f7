//! What the model does with events and keys: the drill, freezing, filters, the chain of cause.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like tests"
)]

mod sample;

use hookprobe_console::{
    Effect, Event, Model, Now, Source,
    attest::Question,
    history::{AlertState, Commitment, History, Link},
    key::Key,
    look::Look,
    model::{DRILL_WAIT_MS, Drill, STALE_MS, Wants},
    proof::{PROOF_WAIT_MS, Proof},
    recovery::Recovery,
    table,
    ui::{Pane, Screen},
};
use hookprobe_wire::{Hash, attest, ledger, sensor};
use sample::State;

fn press(model: &mut Model, keys: &[Key]) -> Vec<Effect> {
    let now = model.now;
    let mut out = Vec::new();
    for key in keys {
        model.update(now, Event::Key(*key), &mut out);
    }
    out
}

fn later(model: &mut Model, ms: u64) {
    let now = Now { mono_ms: model.now.mono_ms + ms, ..model.now };
    model.update(now, Event::Tick, &mut Vec::new());
}

#[test]
fn a_drill_is_sent_after_yes_and_only_then() {
    let check = |state, keys: &[Key], sent: bool| {
        let effects = press(&mut sample::model(state, Look::SERIAL), keys);
        assert_eq!(effects.contains(&Effect::Drill), sent, "{state:?} {keys:?}");
    };
    let (ask, yes) = (Key::Char('d'), Key::Char('y'));
    check(State::Ok, &[ask], false);
    check(State::Ok, &[yes], false);
    check(State::Ok, &[ask, Key::Enter], false);
    check(State::Ok, &[ask, Key::Esc, yes], false);
    check(State::Ok, &[ask, yes], true);
    check(State::Disconnected, &[ask, yes], false);
}

#[test]
fn a_drill_without_an_answer_fails() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    press(&mut model, &[Key::Char('d'), Key::Char('y')]);
    later(&mut model, DRILL_WAIT_MS);
    assert!(matches!(model.drill, Drill::Sent { .. }));
    later(&mut model, 1);
    assert!(
        matches!(&model.drill, Drill::Done { started: false, reason } if reason.contains("HP-CO-011"))
    );
}

#[test]
fn frozen_data_stays_and_live_data_goes_on() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    press(&mut model, &[Key::Char(' ')]);
    let now = model.now;
    let before = model.data().rates.len();
    let status = sensor::Reply::Status(sample::sensor_status(9_000_000));
    model.update(now, Event::Sensor(status), &mut Vec::new());
    assert_eq!(model.data().rates.len(), before);
    assert_eq!(model.live().rates.len(), before + 1);
    assert!(!model.fresh(Source::Sensor));
    press(&mut model, &[Key::Char(' ')]);
    assert_eq!(model.data().rates.len(), before + 1);
}

#[test]
fn silence_makes_stale() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    assert!(model.fresh(Source::Init));
    later(&mut model, STALE_MS);
    assert!(model.fresh(Source::Init));
    later(&mut model, 1);
    assert!(!model.fresh(Source::Init));
}

#[test]
fn filter_keeps_rows_that_contain_it_and_esc_restores() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    let rows = |model: &Model| table::rows(model).0.len();
    press(&mut model, &[Key::Char('4'), Key::Char('/')]);
    for char in "REFUSAL".chars() {
        press(&mut model, &[Key::Char(char)]);
    }
    assert_eq!(rows(&model), 1);
    press(&mut model, &[Key::Backspace, Key::Enter]);
    assert_eq!(model.ui.list().filter, "REFUSA");
    press(&mut model, &[Key::Char('/'), Key::Char('x'), Key::Esc]);
    assert_eq!(model.ui.list().filter, "REFUSA");
    press(&mut model, &[Key::Esc]);
    assert_eq!(rows(&model), 9);
}

#[test]
fn sort_walks_the_columns_and_ends_where_it_began() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    press(&mut model, &[Key::Char('3')]);
    let natural = table::ids(&model);
    let columns = table::columns(Screen::Flows).len();
    for at in 0..columns {
        press(&mut model, &[Key::Char('s')]);
        assert_eq!(model.ui.list().sort, Some(at));
        let values: Vec<u64> =
            table::rows(&model).0.iter().map(|row| row.cells[at].value).collect();
        assert!(values.is_sorted_by(|a, b| a >= b), "column {at}");
    }
    press(&mut model, &[Key::Char('s')]);
    assert_eq!(table::ids(&model), natural);
}

#[test]
fn the_focus_skips_a_pane_that_is_not_there() {
    let last = |state| {
        let mut model = sample::model(state, Look::SERIAL);
        press(&mut model, &[Key::BackTab]);
        model.ui.pane
    };
    assert_eq!(last(State::Ok), Pane::Log);
    assert_eq!(last(State::Failed), Pane::Diagnostics);
}

#[test]
fn an_alert_is_open_until_what_was_done_has_ended() {
    let records = sample::records();
    let check = |kept: usize, alert: usize, expect: AlertState| {
        let mut history = History::new();
        records[..kept].iter().for_each(|record| history.push(record.clone()));
        assert_eq!(history.alert_state(records[alert].hash), expect, "{kept} blocks");
    };
    check(3, 2, AlertState::Open);
    check(4, 2, AlertState::Blocked);
    check(5, 2, AlertState::Ended);
    check(9, 7, AlertState::Refused);
    check(9, 5, AlertState::Blocked);
}

#[test]
fn links_and_commitments_are_computed_not_believed() {
    let check = |change: &dyn Fn(&mut ledger::Record), link: Link, commitment: Commitment| {
        let mut records = sample::records();
        change(&mut records[1]);
        let mut history = History::new();
        records.into_iter().take(2).for_each(|record| history.push(record));
        let last = history.iter().last().unwrap();
        assert_eq!((last.link, last.commitment), (link, commitment));
    };
    check(&|_| {}, Link::Holds, Commitment::Matches);
    check(&|record| record.hash = Hash::zero(), Link::Broken, Commitment::Matches);
    check(
        &|record| {
            record.block.header.seq.0 += 1;
            record.hash = record.block.hash();
        },
        Link::Broken,
        Commitment::Matches,
    );
    check(
        &|record| {
            record.block.header.epoch += 1;
            record.hash = record.block.hash();
        },
        Link::Broken,
        Commitment::Matches,
    );
    check(&|record| record.payload = None, Link::Holds, Commitment::Erased);
    check(
        &|record| record.payload.as_mut().unwrap().salt = [0; 16].into(),
        Link::Holds,
        Commitment::Differs,
    );
}

#[test]
fn a_new_connection_begins_the_history_again() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    let now = model.now;
    let head = sample::head(&sample::records());
    model.update(now, Event::Blocks(ledger::Reply::Head(head)), &mut Vec::new());
    assert!(model.data().history.is_empty());
    assert!(!model.data().history.caught_up);
}

fn attest(model: &mut Model, question: Question, reply: attest::Reply) {
    let now = model.now;
    model.update(now, Event::Attest(Some(question), reply), &mut Vec::new());
}

fn refused() -> attest::Reply {
    attest::Reply::Error { code: "HP-AT-030".into(), reason: "too many; ask later".into() }
}

const M: Key = Key::Char('m');

#[test]
fn the_pages_are_a_circle_and_esc_leads_back() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    let mut seen = Vec::new();
    for key in [M, M, Key::Tab, Key::Right, M, Key::BackTab, Key::Left] {
        press(&mut model, &[key]);
        seen.push(model.ui.screen);
    }
    let [identity, registers, boot_log, evidence] = Screen::MEASURED;
    assert_eq!(seen, [identity, registers, boot_log, evidence, identity, evidence, boot_log]);
    press(&mut model, &[Key::Esc]);
    assert_eq!(model.ui.screen, Screen::Overview);
    press(&mut model, &[Key::Enter]);
    assert_eq!(model.ui.screen, Screen::Identity);
}

#[test]
fn the_boot_log_is_asked_for_while_it_is_looked_at() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    assert_eq!(model.wants().measurements, None);
    press(&mut model, &[M, M, M]);
    assert_eq!(model.wants(), Wants { log: 9, measurements: Some(10) });
    // attest started again: from the beginning.
    let now = model.now;
    model.update(now, Event::Disconnected(Source::Attest, "gone".into()), &mut Vec::new());
    assert_eq!(model.data().attest.log.len(), 10);
    model.update(now, Event::Connected(Source::Attest), &mut Vec::new());
    assert_eq!(model.wants().measurements, Some(0));
    attest(&mut model, Question::Log, refused());
    let said = model.data().attest.log_refused.clone();
    assert_eq!(said.as_deref(), Some("HP-AT-030 too many; ask later"));
}

#[test]
fn evidence_is_asked_for_by_enter_and_fails_with_its_source() {
    let check = |state, sent: bool| {
        let mut model = sample::model(state, Look::SERIAL);
        let effects = press(&mut model, &[M, M, M, M, Key::Enter]);
        assert_eq!(effects.contains(&Effect::Evidence), sent, "{state:?}");
        assert_eq!(matches!(model.proof, Proof::Asked { .. }), sent, "{state:?}");
        model
    };
    check(State::Disconnected, false);
    let code = |model: &Model| match &model.proof {
        Proof::Failed(reason) => reason.get(..9).unwrap().to_owned(),
        proof => panic!("{proof:?}"),
    };
    let mut model = check(State::Ok, true);
    attest(&mut model, Question::Evidence, refused());
    assert_eq!(code(&model), "HP-AT-030");
    let mut model = check(State::Ok, true);
    let now = model.now;
    model.update(now, Event::Disconnected(Source::Attest, "gone".into()), &mut Vec::new());
    assert_eq!(code(&model), "HP-CO-020");
    let mut model = check(State::Ok, true);
    later(&mut model, PROOF_WAIT_MS + 1);
    assert_eq!(code(&model), "HP-CO-016");
}

/// Digits are the nonce's on this page: no screen changes, and what is no digit is not taken.
#[test]
fn a_verifiers_nonce_is_typed_on_the_page_of_the_evidence() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    press(&mut model, &[M, M, M, M, Key::Char('/')]);
    let typed = |digits: &str| digits.chars().map(Key::Char).collect::<Vec<_>>();
    assert_eq!(press(&mut model, &typed("A1 b2xz")), []);
    assert_eq!((model.ui.screen, model.ui.nonce.as_str()), (Screen::Evidence, "a1b2"));
    // Too short: said, and nothing is asked.
    assert_eq!(press(&mut model, &[Key::Enter, Key::Enter]), []);
    assert!(matches!(&model.proof, Proof::Failed(why) if why.starts_with("HP-CO-021")));
    press(&mut model, &[Key::Char('/')]);
    assert_eq!(press(&mut model, &typed("c3d4e5f60718")), []);
    assert_eq!(press(&mut model, &[Key::Enter, Key::Enter]), [Effect::Evidence]);
    // Not asked twice at once: the answer to one nonce is not shown with another.
    assert_eq!(press(&mut model, &[Key::Enter]), []);
    later(&mut model, PROOF_WAIT_MS + 1);
    // Esc brings back what was there; without digits the console draws.
    press(&mut model, &[Key::Char('/'), Key::Backspace, Key::Esc]);
    assert_eq!(model.ui.nonce, "a1b2c3d4e5f60718");
    let emptied = [vec![Key::Char('/')], vec![Key::Backspace; 16], vec![Key::Enter]].concat();
    press(&mut model, &emptied);
    assert_eq!(press(&mut model, &[Key::Enter]), [Effect::Evidence]);
}

#[test]
fn a_refusal_is_not_a_lost_connection() {
    let mut model = sample::model(State::Ok, Look::SERIAL);
    attest(&mut model, Question::Evidence, refused());
    assert!(model.fresh(Source::Attest));
    attest(&mut model, Question::Status, refused());
    assert!(!model.fresh(Source::Attest));
    attest(&mut model, Question::Status, attest::Reply::Status(sample::attest_status()));
    assert!(model.fresh(Source::Attest));
}

#[test]
fn the_recovery_key_is_shown_until_its_first_group_was_typed() {
    let mut model = sample::model(State::Recovery, Look::SERIAL);
    assert!(model.data().diagnostics().iter().any(|item| item.code == "HP-CO-019"));
    assert_eq!(press(&mut model, &[Key::Char('R')]), [Effect::Recovery]);
    let key = || attest::Reply::Recovery(Some(sample::RECOVERY_KEY.into()));
    attest(&mut model, Question::Recovery, key());
    // Keys belong to the dialog: no screen, no drill, no copy in a frozen screen.
    assert_eq!(press(&mut model, &[Key::Char('2'), Key::Char('d'), Key::Char(' ')]), []);
    assert_eq!((model.ui.screen, model.drill.clone()), (Screen::Overview, Drill::Idle));
    assert!(!model.is_frozen());
    assert_eq!(press(&mut model, &[Key::Enter]), []);
    let typed = "k3qf".chars().map(Key::Char).chain([Key::Enter]);
    assert_eq!(press(&mut model, &typed.collect::<Vec<_>>()), [Effect::RecoveryNoted]);
    attest(&mut model, Question::Recovery, attest::Reply::Recovery(None));
    assert!(matches!(model.recovery, Recovery::Done { noted: true, .. }));
    assert!(!format!("{model:?}").contains("K3QF"));
}

#[test]
fn no_debug_output_of_the_model_has_the_recovery_key() {
    let mut model = sample::model(State::Recovery, Look::SERIAL);
    press(&mut model, &[Key::Char('R')]);
    let key = attest::Reply::Recovery(Some(sample::RECOVERY_KEY.into()));
    attest(&mut model, Question::Recovery, key);
    assert!(model.recovery.is_open());
    assert!(!format!("{model:?}").contains("K3QF"));
}
