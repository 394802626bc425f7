//! Text from outside made safe, once, at the door of the model.
//!
//! Every string of every reply passes [`text`] before the model keeps it; views never see another.
//! What comes out is printable ASCII (one character is one cell on every terminal) and bounded.
//! Lists are cut to their limits here too: the wire says "at most", this is where it is believed.

use hookprobe_wire::{attest, control, event::Diagnostic, event::Event, response, sensor};

/// Names: of services, detectors, interfaces, counters.
pub const NAME_CHARS_MAX: usize = 48;
/// Sentences: summaries, reasons, log lines.
pub const TEXT_CHARS_MAX: usize = 320;
/// Digests in hexadecimal, SHA-512 included.
pub const DIGEST_CHARS_MAX: usize = 128;
/// Services, boot phases, addresses, diagnostics that are kept of one reply.
pub const ITEMS_MAX: usize = 32;
/// PCR values that are kept: 24 in each of four banks.
pub const PCRS_MAX: usize = 96;
/// Counters that are kept.
pub const COUNTERS_MAX: usize = 64;
/// Evidence numbers of an alert that are kept.
pub const EVIDENCE_MAX: usize = 16;

/// Printable ASCII of at most `chars_max` characters and a `~` where something was cut.
#[must_use]
pub fn text(raw: &str, chars_max: usize) -> String {
    let mut ascii = String::new();
    for char in raw.chars().take(chars_max.saturating_add(1)) {
        if char.is_ascii() {
            ascii.push(char);
        } else {
            ascii.extend(char.escape_unicode());
        }
    }
    hookprobe_wire::text::escape(&ascii, chars_max)
}

fn each(chars_max: usize, strings: &mut [&mut String]) {
    for string in strings {
        **string = text(string, chars_max);
    }
}

fn diagnostics(list: &mut Vec<Diagnostic>) {
    list.truncate(ITEMS_MAX);
    for item in list {
        each(NAME_CHARS_MAX, &mut [&mut item.code, &mut item.object]);
        each(TEXT_CHARS_MAX, &mut [&mut item.cause, &mut item.remedy]);
    }
}

/// What PID 1 says.
pub fn control_status(status: &mut control::Status) {
    each(NAME_CHARS_MAX, &mut [&mut status.name, &mut status.version]);
    status.phases.truncate(ITEMS_MAX);
    for phase in &mut status.phases {
        each(NAME_CHARS_MAX, &mut [&mut phase.name]);
    }
    status.services.truncate(ITEMS_MAX);
    for service in &mut status.services {
        each(NAME_CHARS_MAX, &mut [&mut service.name, &mut service.verdict]);
        each(DIGEST_CHARS_MAX, &mut [&mut service.digest]);
        each(TEXT_CHARS_MAX, &mut [&mut service.last_exit]);
    }
    let measured = &mut status.measured;
    each(NAME_CHARS_MAX, &mut [&mut measured.level]);
    each(TEXT_CHARS_MAX, &mut [&mut measured.level_text, &mut measured.divergence]);
    pcrs(&mut measured.pcrs);
    if let Some(state) = &mut status.state {
        each(TEXT_CHARS_MAX, &mut [state]);
    }
    for errand in [&mut status.reload, &mut status.carry].into_iter().flatten() {
        each(TEXT_CHARS_MAX, &mut [&mut errand.text]);
    }
    status.addresses.truncate(ITEMS_MAX);
    for address in &mut status.addresses {
        each(NAME_CHARS_MAX, &mut [address]);
    }
    diagnostics(&mut status.diagnostics);
}

fn pcrs(list: &mut Vec<control::PcrValue>) {
    list.truncate(PCRS_MAX);
    for pcr in list {
        each(NAME_CHARS_MAX, &mut [&mut pcr.bank]);
        each(DIGEST_CHARS_MAX, &mut [&mut pcr.value, &mut pcr.predicted]);
    }
}

/// What the attester says.
pub fn attest_status(status: &mut attest::Status) {
    each(NAME_CHARS_MAX, &mut [&mut status.level, &mut status.verified_by, &mut status.boot_id]);
    each(TEXT_CHARS_MAX, &mut [&mut status.level_text, &mut status.divergence, &mut status.ek]);
    each(DIGEST_CHARS_MAX, &mut [&mut status.ak_name]);
    pcrs(&mut status.pcrs);
    diagnostics(&mut status.diagnostics);
}

/// A measurement of this boot.
pub fn measurement(line: &mut attest::Measurement) {
    each(TEXT_CHARS_MAX, &mut [&mut line.name]);
    each(DIGEST_CHARS_MAX, &mut [&mut line.digest]);
    each(NAME_CHARS_MAX, &mut [&mut line.verdict]);
}

/// A log line.
pub fn log_line(line: &mut control::LogLine) {
    each(NAME_CHARS_MAX, &mut [&mut line.source]);
    each(TEXT_CHARS_MAX, &mut [&mut line.text]);
}

/// What the sensor says.
pub fn sensor_status(status: &mut sensor::Status) {
    status.interfaces.truncate(ITEMS_MAX);
    for interface in &mut status.interfaces {
        each(NAME_CHARS_MAX, &mut [&mut interface.name, &mut interface.xdp_mode]);
    }
    status.counters.truncate(COUNTERS_MAX);
    for counter in &mut status.counters {
        each(NAME_CHARS_MAX, &mut [&mut counter.name]);
    }
    status.flows.truncate(sensor::FLOWS_MAX);
    diagnostics(&mut status.diagnostics);
}

/// What the response says.
pub fn response_status(status: &mut response::Status) {
    status.active.truncate(response::STATUS_ACTIVE_MAX);
    status.protected.truncate(response::STATUS_ACTIVE_MAX);
    for protected in &mut status.protected {
        each(NAME_CHARS_MAX, &mut [&mut protected.why]);
    }
    status.enforcers.truncate(ITEMS_MAX);
    for enforcer in &mut status.enforcers {
        each(NAME_CHARS_MAX, &mut [enforcer]);
    }
    diagnostics(&mut status.diagnostics);
}

/// The event of a block.
pub fn event(event: &mut Event) {
    match event {
        Event::Boot(boot) => {
            each(NAME_CHARS_MAX, &mut [&mut boot.version, &mut boot.boot_id, &mut boot.level]);
            diagnostics(&mut boot.diagnostics);
        }
        Event::Service(change) => {
            each(NAME_CHARS_MAX, &mut [&mut change.service, &mut change.change]);
            each(TEXT_CHARS_MAX, &mut [&mut change.detail]);
        }
        // Its evidence is bytes that are not shown.
        Event::Binding(_) => {}
        Event::Attestation(attestation) => {
            each(NAME_CHARS_MAX, &mut [&mut attestation.change, &mut attestation.level]);
            each(DIGEST_CHARS_MAX, &mut [&mut attestation.ak_name]);
            each(TEXT_CHARS_MAX, &mut [&mut attestation.detail]);
        }
        Event::Alert(alert) => {
            each(NAME_CHARS_MAX, &mut [&mut alert.detector, &mut alert.interface]);
            each(TEXT_CHARS_MAX, &mut [&mut alert.summary]);
            alert.evidence.truncate(EVIDENCE_MAX);
            for evidence in &mut alert.evidence {
                each(NAME_CHARS_MAX, &mut [&mut evidence.name]);
            }
        }
        Event::Mitigation(mitigation) => {
            mitigation.enforced_by.truncate(ITEMS_MAX);
            for enforcer in &mut mitigation.enforced_by {
                each(NAME_CHARS_MAX, &mut [enforcer]);
            }
            each(TEXT_CHARS_MAX, &mut [&mut mitigation.reason]);
        }
        Event::Lift(lift) => each(TEXT_CHARS_MAX, &mut [&mut lift.reason]),
        Event::Refusal(refusal) => {
            each(NAME_CHARS_MAX, &mut [&mut refusal.code]);
            each(TEXT_CHARS_MAX, &mut [&mut refusal.reason]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn printable_ascii_of_bounded_length_comes_out() {
        let check = |raw: &str, chars_max, expect: &str| assert_eq!(text(raw, chars_max), expect);
        check("plain", 10, "plain");
        check("a\x1b[2J\u{9b}b", 40, "a\\u{1b}[2J\\u{9b}b");
        check("x\u{202e}y\u{301}\u{4e2d}", 40, "x\\u{202e}y\\u{301}\\u{4e2d}");
        check(&"n".repeat(10_000), 4, "nnnn~");
    }
}
