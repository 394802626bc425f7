//! Who the box is, what it measured and who verified it, as rows of text.

use hookprobe_wire::{
    attest::{KeyOrigin, Status},
    control, qr,
};

use super::{SELF_MEASURED, Text, fresh_mark, pcr};
use crate::{
    attest, format,
    look::Mark,
    model::{Model, Source},
    proof::Proof,
    table,
    views::attestation,
};

/// The first page: the attester's identity and verdict, then what PID 1 knows.
pub(super) fn identity(model: &Model, text: &mut Text) {
    match &model.data().attest.status {
        None => text.checked("Verdict", (Mark::Plain, " n/a  "), "attest has not answered"),
        Some(status) => {
            verification(model, status, text);
            keys(status, text);
        }
    }
    match &model.data().status {
        None => text.paragraph("PID 1 has not answered yet."),
        Some(status) => boot(model, status, text),
    }
}

fn verification(model: &Model, status: &Status, text: &mut Text) {
    let known = &model.data().attest;
    text.head("VERIFICATION");
    text.checked("Verdict", attest::verdict(model, status), status.verdict.word());
    match known.verified_ago_s(model.now.mono_ms) {
        Some(ago_s) => {
            let when = format::date_time(status.verified_s);
            let by = format!("{}, {when} ({})", status.verified_by, format::ago(ago_s));
            text.field("By", &by);
        }
        None => text.field("By", "nobody"),
    }
    let none = if status.divergence.is_empty() { "none" } else { &status.divergence };
    text.field("Divergence", none);
    text.field("Level", &format!("{} {}", status.level, status.level_text));
    let (made, again, refused) = status.quotes;
    text.field(
        "Quotes",
        &format!("{made} made, {again} again because a register moved, {refused} refused"),
    );
    text.field("Quote took", &format!("{} ms", status.quote_us / 1000));
    let challenged = match known.challenged_ago_s(model.now.mono_ms) {
        Some(ago_s) => format!("{} answered, the last {}", status.challenges.0, format::ago(ago_s)),
        None => "none answered".into(),
    };
    text.field("Challenges", &challenged);
}

fn keys(status: &Status, text: &mut Text) {
    let or_none = |value: &str| if value.is_empty() { "n/a".to_owned() } else { value.into() };
    text.head("IDENTITY");
    text.field("AK name", &or_none(&status.ak_name));
    text.field("EK", &or_none(&status.ek));
    text.field("Node key", &status.node.map_or_else(|| "n/a".into(), |node| node.hex()));
    let origin = match status.key {
        KeyOrigin::None => "not known yet",
        KeyOrigin::Boot => "drawn for this boot, gone with it",
        KeyOrigin::Tpm => "sealed by the TPM to the release's policy",
    };
    text.field("Key origin", &format!("{}, {origin}", attestation::origin(status.key)));
    if status.epoch == 0 {
        text.field("Epoch", "n/a, there is no TPM that counts boots");
    } else {
        text.field("Epoch", &format!("{} of the TPM's boot counter", status.epoch));
        let counters = format!("{} resets, {} restarts", status.reset_count, status.restart_count);
        text.field("TPM", &format!("{counters}, as at the start of attest"));
    }
    text.field("Boot", &or_none(&status.boot_id));
    let waiting = if status.recovery_waiting { "not noted: press R" } else { "none waits" };
    text.field("Recovery", waiting);
}

fn boot(model: &Model, status: &control::Status, text: &mut Text) {
    let measured = &status.measured;
    text.head("MEASUREMENT BY PID 1");
    text.field("Level", &format!("{} {}", measured.level, measured.level_text));
    text.field("Checked by", SELF_MEASURED);
    let took_ms = measured.measure_us / 1000;
    text.field("Took", &format!("{took_ms} ms, {} TPM commands", measured.commands));
    if measured.divergence.is_empty() {
        text.field("Divergence", "none");
    } else {
        text.checked("Divergence", (Mark::Bad, "[FAIL]"), &measured.divergence);
    }
    for value in &measured.pcrs {
        let (mark, word) = pcr(Some(value));
        let verdict = (fresh_mark(model, Source::Init, mark), word);
        text.checked(&format!("{} {}", value.bank, value.index), verdict, said(mark));
    }
    text.head("BOOT");
    for phase in &status.phases {
        let verdict = if phase.ok { (Mark::Plain, "ok    ") } else { (Mark::Bad, "[FAIL]") };
        text.checked(&phase.name, verdict, &format!("{} ms", phase.us / 1000));
    }
    text.head("BOX");
    text.field("State", status.state.as_deref().unwrap_or("n/a"));
    text.field("Addresses", &status.addresses.join(", "));
    let (total, free) = status.memory_kib;
    text.field(
        "Memory",
        &format!(
            "{} used by services, {} of {} available",
            format::kib(status.rss_kib),
            format::kib(free),
            format::kib(total)
        ),
    );
}

fn said(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "as the manifest predicts",
        Mark::Bad => "not as the manifest predicts",
        _ => "the manifest predicts nothing",
    }
}

/// One register.
pub(super) fn register(model: &Model, id: Option<u64>, text: &mut Text) {
    let status = model.data().attest.status.iter();
    let mut pcrs = status.flat_map(|status| &status.pcrs);
    let Some(found) = pcrs.find(|pcr| Some(table::register_id(pcr)) == id) else {
        text.paragraph("The last quote has no such register.");
        return;
    };
    let (mark, word) = pcr(Some(found));
    text.head(&format!("PCR {} ({})", found.index, attest::register(found.index)));
    text.field("Bank", &found.bank);
    text.checked("Verdict", (attest::mark(model, mark), word), said(mark));
    text.field("Value", &found.value);
    text.field("Predicted", if found.predicted.is_empty() { "nothing" } else { &found.predicted });
}

/// One measurement.
pub(super) fn measurement(model: &Model, id: Option<u64>, text: &mut Text) {
    let mut lines = (1..).zip(&model.data().attest.log);
    let Some((number, line)) = lines.find(|(number, _)| Some(*number) == id) else {
        text.paragraph("This measurement is not in the log that attest has now.");
        return;
    };
    let (mark, word) = attest::measured(&line.verdict);
    text.head(&format!("MEASUREMENT {number}"));
    text.field("Register", &format!("{} ({})", line.pcr, attest::register(line.pcr)));
    text.field("Name", &line.name);
    text.field("Digest", &line.digest);
    let mark = fresh_mark(model, Source::Attest, mark);
    text.checked("Verdict", (mark, word), said(mark_of(&line.verdict)));
}

/// What the verdict means, whether it is of now or not.
fn mark_of(verdict: &str) -> Mark {
    attest::measured(verdict).0
}

/// Short evidence as lines that can be copied; QR codes are `views::evidence`'s.
pub(super) fn evidence(model: &Model, text: &mut Text) {
    match &model.proof {
        Proof::Idle => {
            text.head("SHORT EVIDENCE");
            text.paragraph(
                "A quote of the registers under this box's attestation key, over a nonce. It fits \
                 into a few QR codes (or lines of text on a serial line), for a verifier that has \
                 no network to this box: hookprobe-verify quote.",
            );
            text.paragraph(
                "Only a nonce that the verifier drew (hookprobe-verify nonce) shows that the quote \
                 is not an old one: / types it. Without it this console draws one.",
            );
            if !model.ui.nonce.is_empty() {
                text.field("Nonce", &model.ui.nonce);
            }
            text.paragraph("Enter asks attest for it.");
            text.head("ALL OF IT");
            text.paragraph(
                "With both logs, the manifest and the certificate of the endorsement key it fits on a \
                 USB stick that is formatted with FAT: plug it in, then w writes one file, which \
                 hookprobe-verify bundle reads. What else is on the stick stays.",
            );
        }
        Proof::Asked { .. } => text.paragraph("waiting for attest"),
        Proof::Failed(reason) => {
            text.checked("Evidence", (Mark::Warn, "WARN"), reason);
            text.paragraph("Enter asks again, / types a nonce.");
        }
        Proof::Ready { nonce, bytes } => {
            let (nonce, whose) = nonce;
            text.paragraph(&format!(
                "{} bytes over nonce {nonce}, {whose}. Copy all lines below, to the last row, and \
                 give them to hookprobe-verify quote. Enter asks again, / types a nonce.",
                bytes.len()
            ));
            match qr::split(bytes, text.width) {
                Ok(lines) => text.lines.extend(lines.into_iter().map(crate::look::Line::plain)),
                Err(error) => text.checked("", (Mark::Warn, "WARN"), &error.to_string()),
            }
        }
    }
}
