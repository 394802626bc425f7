//! Text from outside: escape sequences, overrides of direction, names of 10 KB. None of it reaches
//! a cell, in no place where it could stand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like tests"
)]

mod sample;

use hookprobe_console::{Event, Source, key::Key, look::Look, painter::Painter, views};
use hookprobe_wire::{
    Seq, Severity,
    attest::{self, Measurement},
    control::{self, LogLine, PcrValue, ServiceState},
    event::{Attestation, Diagnostic, Event as Payload, Evidence},
    ledger, response, sensor,
};
use ratatui::{buffer::Buffer, layout::Rect};

const NASTY: [&str; 6] = [
    "\x1b[2J\x1b[31mowned\x07",
    "\u{9b}6n\u{90}payload\u{9c}",
    "abc\u{202e}txt.exe\u{2066}",
    "a\r\nb\tc\x0bd\x7f",
    "e\u{301}\u{301}\u{301}\u{4e2d}\u{1f600}\u{200d}",
    "[ OK ] \u{fe0f}\u{e0041}",
];

fn feed(nasty: &str) -> sample::Feed {
    let nasty = || nasty.to_owned();
    let mut feed = sample::Feed::new(Look::SCREEN);
    for source in Source::ALL {
        feed.event(Event::Connected(source));
    }
    let wrong = || Diagnostic {
        code: nasty(),
        severity: Severity::Warn,
        object: nasty(),
        cause: nasty(),
        remedy: nasty(),
    };
    let mut status = sample::status();
    (status.name, status.version) = (nasty(), nasty());
    status.addresses = vec![nasty(); 100];
    status.diagnostics = vec![wrong(); 100];
    status.phases.iter_mut().for_each(|phase| phase.name = nasty());
    let measured = &mut status.measured;
    (measured.level, measured.level_text, measured.divergence) = (nasty(), nasty(), nasty());
    measured.pcrs =
        vec![PcrValue { bank: nasty(), index: 11, value: nasty(), predicted: nasty() }; 200];
    let mut service = sample::service("x", 1, 1, 1);
    (service.name, service.digest) = (nasty(), nasty());
    (service.verdict, service.last_exit) = (nasty(), nasty());
    service.state = ServiceState::Failed;
    status.services = vec![service; 100];
    feed.event(Event::Init(control::Reply::Status(status)));
    let line = |number| LogLine {
        number,
        time_s: u64::MAX,
        source: nasty(),
        severity: Severity::Info,
        text: nasty(),
    };
    feed.event(Event::Init(control::Reply::Log((1..500).map(line).collect())));
    let mut status = sample::sensor_status(1);
    status.interfaces.iter_mut().for_each(|item| (item.name, item.xdp_mode) = (nasty(), nasty()));
    status.counters.iter_mut().for_each(|item| item.name = nasty());
    status.diagnostics = vec![wrong()];
    feed.event(Event::Sensor(sensor::Reply::Status(status)));
    feed.event(Event::Init(control::Reply::Reload { number: 0, reason: nasty() }));
    feed.event(Event::Init(control::Reply::Carry { number: 0, reason: nasty() }));
    feed.event(Event::Sensor(sensor::Reply::Drill { started: false, reason: nasty() }));
    let mut status = sample::response_status(&sample::records());
    status.protected.iter_mut().for_each(|item| item.why = nasty());
    status.enforcers = vec![nasty(); 50];
    feed.event(Event::Response(response::Reply::Status(status)));
    let mut alert = sample::alert(1, Severity::Critical, false);
    (alert.detector, alert.interface, alert.summary) = (nasty(), nasty(), nasty());
    alert.evidence = vec![Evidence { name: nasty(), value: u64::MAX }; 100];
    (alert.first_ns, alert.decided_ns) = (u64::MAX, u64::MAX);
    for record in sample::chain(0, &[Payload::Alert(alert)]) {
        feed.event(Event::Blocks(ledger::Reply::Block(record)));
    }
    feed.event(Event::Blocks(ledger::Reply::CaughtUp { next: Seq(1) }));
    feed.event(Event::Ledger(ledger::Reply::Error { code: nasty(), reason: nasty() }));
    feed.event(Event::Site(Err(nasty())));
    attester(&mut feed, &nasty());
    feed
}

fn attester(feed: &mut sample::Feed, text: &str) {
    let nasty = || text.to_owned();
    let mut status = sample::attest_status();
    (status.level, status.level_text, status.divergence) = (nasty(), nasty(), nasty());
    (status.verified_by, status.ak_name, status.ek) = (nasty(), nasty(), nasty());
    (status.boot_id, status.verified_ago_s, status.verified_s) = (nasty(), u64::MAX, u64::MAX);
    (status.challenges, status.quotes) = ((u64::MAX, u64::MAX), (u64::MAX, u64::MAX, u64::MAX));
    status.pcrs =
        vec![PcrValue { bank: nasty(), index: 255, value: nasty(), predicted: nasty() }; 200];
    let reply = |reply| Event::Attest(None, reply);
    feed.event(reply(attest::Reply::Status(status)));
    let line = Measurement { pcr: 255, name: nasty(), digest: nasty(), verdict: nasty() };
    for _ in 0..3 {
        feed.event(reply(attest::Reply::Log { total: u32::MAX, lines: vec![line.clone(); 999] }));
    }
    let event = Payload::Attestation(Attestation {
        change: nasty(),
        level: nasty(),
        ak_name: nasty(),
        detail: nasty(),
    });
    for record in sample::chain(1, &[event]) {
        feed.event(Event::Blocks(ledger::Reply::Block(record)));
    }
    feed.event(Event::Key(Key::Char('R')));
    feed.event(reply(attest::Reply::Recovery(Some(nasty()))));
}

#[test]
fn nothing_but_printable_ascii_and_lines_reaches_a_cell() {
    let long = "n".repeat(10_000);
    for nasty in NASTY.into_iter().chain([long.as_str()]) {
        let m = Key::Char('m');
        let pages = (0..=4).map(|pages| vec![m; pages]);
        let screens = ('1'..='8').map(|digit| vec![Key::Char(digit)]);
        for screen in pages.chain(screens) {
            for keys in [&[][..], &[Key::Enter][..], &[Key::BackTab, Key::Enter][..]] {
                let mut feed = feed(nasty);
                if screen.is_empty() {
                    // With the recovery key on the screen.
                    assert!(feed.model.recovery.is_open());
                } else {
                    feed.event(Event::Key(Key::Esc));
                }
                screen.iter().for_each(|key| feed.event(Event::Key(*key)));
                keys.iter().for_each(|key| feed.event(Event::Key(*key)));
                let area = Rect::new(0, 0, 80, 24);
                let mut buffer = Buffer::empty(area);
                views::screen(&feed.model, area, &mut buffer);
                for cell in &buffer.content {
                    let mut chars = cell.symbol().chars();
                    let char = chars.next().unwrap();
                    assert!(chars.next().is_none(), "{:?}", cell.symbol());
                    let line = ('\u{2500}'..='\u{257f}').contains(&char);
                    assert!(line || (' '..='~').contains(&char), "screen {screen:?}: {char:?}");
                }
                let mut bytes = Vec::new();
                Painter::new().paint(buffer, &mut bytes);
                assert!(!bytes.windows(4).any(|four| four == b"\x1b[2J" || four == b"\x1b[6n"));
            }
        }
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut feed = feed("x");
    let events: Vec<Payload> =
        (0..600).map(|_| Payload::Alert(sample::alert(9, Severity::Info, false))).collect();
    for record in sample::chain(0, &events) {
        feed.event(Event::Blocks(ledger::Reply::Block(record)));
    }
    let data = feed.model.data();
    assert_eq!(data.history.len(), hookprobe_console::history::HISTORY_BLOCKS_MAX);
    assert_eq!(data.history.dropped, 602 - 512);
    assert_eq!(data.attest.log.len(), hookprobe_console::attest::LOG_LINES_MAX);
    assert!(data.attest.status.as_ref().unwrap().pcrs.len() <= 96);
    assert!(data.log.len() <= hookprobe_console::model::LOG_LINES_MAX);
    assert!(data.status.as_ref().unwrap().services.len() <= 32);
}
