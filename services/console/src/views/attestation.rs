//! The Overview's pane about attestation: who verified what, when, and the registers.

use hookprobe_wire::{attest::KeyOrigin, attest::Status, attest::Verdict, control::PcrValue};

use super::missing;
use crate::{
    attest, detail, format,
    look::{Line, Mark},
    model::{Contact, Model, Source},
};

/// Registers of the pane: what the image, its configuration and its state answer for.
pub const REGISTERS: [u8; 5] = [7, 11, 12, 13, 15];
/// Rows of the pane with a row per register.
pub const ROWS: u16 = 8;
/// Rows of the pane with all registers in one.
pub const ROWS_COMPACT: u16 = 5;

/// The rows.
#[must_use]
pub fn pane(model: &Model, width: usize, rows: u16) -> Vec<Line> {
    let data = model.data();
    let Some(status) = &data.attest.status else {
        return unverified(model, width, rows);
    };
    let compact = rows < ROWS;
    let mut lines = vec![verdict(model, status)];
    if !status.divergence.is_empty() {
        lines.push(Line::plain(format::fit(&status.divergence, width)));
    }
    if status.divergence.is_empty() || compact {
        let level = format!("{} {}", status.level, status.level_text);
        let room = if status.pcrs.is_empty() { usize::from(rows).saturating_sub(3) } else { 1 };
        lines.extend(wrapped(&level, width, room).into_iter().map(Line::plain));
    }
    if !status.pcrs.is_empty() {
        let mark = |mark| attest::mark(model, mark);
        lines.extend(registers(&status.pcrs, compact, width, mark));
    }
    lines.push(key(model, status));
    if compact || rows > ROWS {
        lines.push(challenges(model));
    }
    lines
}

/// At most `rows` rows; the last one is cut.
fn wrapped(text: &str, width: usize, rows: usize) -> Vec<String> {
    let mut lines = format::wrap(text, width);
    if lines.len() > rows {
        let rest = lines.split_off(rows.saturating_sub(1)).join(" ");
        lines.push(format::fit(&rest, width));
    }
    lines
}

/// `[ OK ] VERIFIED by self 17 s ago`.
#[must_use]
pub fn verdict(model: &Model, status: &Status) -> Line {
    let by = model.data().attest.verified_ago_s(model.now.mono_ms).map_or_else(
        || "never".to_owned(),
        |ago_s| format!("by {} {}", status.verified_by, format::ago(ago_s)),
    );
    let said = match status.verdict {
        Verdict::None if status.level == "L0" => "L0: there is nothing to verify".into(),
        Verdict::None => "not verified yet".into(),
        Verdict::Affirming => format!("VERIFIED {by}"),
        Verdict::Warning | Verdict::Contraindicated => {
            format!("checked {by}, {}", status.level)
        }
    };
    let (mark, word) = attest::verdict(model, status);
    Line::new().add(mark, word).add(Mark::Plain, format!(" {said}"))
}

/// `epoch 4  key tpm  state encrypted`.
fn key(model: &Model, status: &Status) -> Line {
    let epoch = match status.epoch {
        0 => "n/a".to_owned(),
        epoch => epoch.to_string(),
    };
    let line = Line::plain(format!("epoch {epoch}  key {}  state ", origin(status.key)));
    let said = model.data().status.as_ref().and_then(|status| status.state.as_deref());
    let said = said.unwrap_or("n/a");
    match said.split(|char: char| !char.is_ascii_alphanumeric()).next() {
        Some("locked") => line.add(Mark::Warn, "WARN").add(Mark::Plain, " locked"),
        Some(word @ ("encrypted" | "plain" | "memory")) => line.add(Mark::Plain, word),
        _ => line.add(Mark::Plain, said),
    }
}

/// Word of a key's origin.
#[must_use]
pub fn origin(key: KeyOrigin) -> &'static str {
    match key {
        KeyOrigin::None => "n/a",
        KeyOrigin::Boot => "boot",
        KeyOrigin::Tpm => "tpm",
    }
}

/// `last challenge 12 s ago`.
#[must_use]
pub fn challenges(model: &Model) -> Line {
    let attest = &model.data().attest;
    Line::plain(match attest.challenged_ago_s(model.now.mono_ms) {
        Some(ago_s) => format!("last challenge {}", format::ago(ago_s)),
        None if attest.status.is_some() => "no challenge yet".into(),
        None => "n/a".into(),
    })
}

/// What PID 1 measured, while the attester says nothing.
fn unverified(model: &Model, width: usize, rows: u16) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.push(match model.live().contact(Source::Attest) {
        Contact::Down { .. } => Line::plain("n/a    attest is ").add(Mark::Warn, "disconnected"),
        Contact::Trying | Contact::Up => Line::plain("n/a    attest has not answered yet"),
    });
    let Some(status) = &model.data().status else {
        lines.extend(missing(model, Source::Init, width));
        return lines;
    };
    let measured = &status.measured;
    let level = format!("{} {}", measured.level, measured.level_text);
    let room = if measured.pcrs.is_empty() { usize::from(rows).saturating_sub(2) } else { 1 };
    if measured.divergence.is_empty() {
        lines.extend(wrapped(&level, width, room).into_iter().map(Line::plain));
    } else {
        let text = format!(" {}", measured.divergence);
        lines.push(Line::new().add(Mark::Bad, "[FAIL]").add(Mark::Plain, text));
    }
    lines.push(Line::plain(detail::SELF_MEASURED));
    if !measured.pcrs.is_empty() {
        let mark = |mark| detail::fresh_mark(model, Source::Init, mark);
        lines.extend(registers(&measured.pcrs, rows < ROWS, width, mark));
    }
    lines
}

fn registers(
    pcrs: &[PcrValue],
    compact: bool,
    width: usize,
    mark: impl Fn(Mark) -> Mark,
) -> Vec<Line> {
    let of_index = |index: u8, bank: Option<&str>| {
        pcrs.iter().find(|pcr| pcr.index == index && bank.is_none_or(|bank| pcr.bank == bank))
    };
    let found = REGISTERS.map(|index| {
        let value = of_index(index, Some("sha256")).or_else(|| of_index(index, None));
        (index, value, detail::pcr(value))
    });
    if compact {
        let mut line = Line::plain("PCR");
        for (index, _, (state, word)) in found {
            line = line.add(Mark::Plain, format!(" {index} ")).add(mark(state), word);
        }
        return vec![line];
    }
    let label_width = width.saturating_sub(19).min(22);
    let row = |(index, value, (state, word)): (u8, Option<&PcrValue>, (Mark, &str))| {
        let label = format!("PCR {index:>2} {}", attest::register(index));
        let ends = value.map_or_else(|| "no value".into(), |pcr| format::ends(&pcr.value));
        Line::plain(format!("{label:<label_width$} "))
            .add(mark(state), word)
            .add(Mark::Plain, format!(" {ends}"))
    };
    found.map(row).into()
}
