//! The event loop's side of a reload: reads, measures, puts in force, asks the sensor; each in a turn
//! of its own, so that nothing else waits.

use super::*;

use std::path::Path;

use hookprobe_evidence::{pcr::PcrIndex, site::File as Measured};
use hookprobe_wire::{
    CONSOLE_UID, DETECTION_DIR, control::ErrandState, event::ServiceChange, text::escape,
};

use crate::{
    control::Peer,
    detection::{self, Copying, NEXT},
    reload::{ReloadError, Reloads},
    sensor_client::Question,
    state::BootPartition,
};

/// Characters of what came of it in the ledger.
const DETAIL_CHARS_MAX: usize = 600;
/// The service that it is about, in the ledger.
const SERVICE: &str = "inspector";

/// What a reload has open.
#[derive(Debug, Default)]
pub(super) struct Reloading {
    pub(super) core: Reloads,
    copying: Option<(BootPartition, Copying)>,
    question: Option<Question>,
    /// The event in PCR 12.
    event: String,
    began_ms: Ms,
    /// What has to be said and could not be yet.
    said: Option<(Severity, String)>,
}

impl Reloading {
    /// A client asks for one.
    pub(super) fn ask(&mut self, peer: Peer, consoles: &[i32], now: Ms) -> Reply {
        match self.core.ask(peer, consoles) {
            Ok(number) => {
                self.began_ms = now;
                self.said = Some((Severity::Info, format!("reload number={number} asked")));
                Reply::Reload { number, reason: String::new() }
            }
            Err(error) => {
                let reason = error.to_string();
                // Once for a flood; the counter has the rest.
                if self.core.refused().is_power_of_two() {
                    let text = format!("{reason} refused={}", self.core.refused());
                    self.said = Some((Severity::Warn, text));
                }
                Reply::Reload { number: 0, reason }
            }
        }
    }

    /// Whether the loop must not sleep because of it.
    pub(super) fn is_reading(&self) -> bool {
        self.core.state() == Some(ErrandState::Begun)
    }
}

impl Machine {
    /// Processes of the consoles that run.
    pub(super) fn consoles(&self) -> Vec<i32> {
        let services = self.boot.services.service.iter().zip(&self.running);
        services
            .filter(|(spec, _)| spec.uid == CONSOLE_UID)
            .map(|(_, running)| running.pid)
            .collect()
    }

    /// Does the next piece.
    pub(super) fn turn_reload(&mut self, now: Ms) {
        if let Some((severity, text)) = self.reload.said.take() {
            self.boot.log.say(severity, &text);
        }
        let outcome = match self.reload.core.state() {
            Some(ErrandState::Begun) => self.read_on(now),
            Some(ErrandState::Measured) => self.hear_sensor(now),
            None | Some(ErrandState::Done | ErrandState::Failed) => return,
        };
        if let Err(error) = outcome {
            self.reload_failed(&error);
        }
    }

    fn read_on(&mut self, now: Ms) -> Result<(), ReloadError> {
        let Some((_, copying)) = &mut self.reload.copying else {
            let partition =
                BootPartition::open().map_err(|error| ReloadError::Partition(error.why()))?;
            let before = Some((Path::new(DETECTION_DIR), self.boot.files.as_slice()));
            let copying = Copying::new(&partition.root(), Path::new(NEXT), before);
            self.reload.copying = Some((partition, copying));
            return Ok(());
        };
        if copying.step() {
            return Ok(());
        }
        let (files, problems) = match self.reload.copying.take() {
            Some((_, copying)) => copying.finish(),
            None => return Ok(()),
        };
        if let Some(first) = problems.first() {
            return Err(ReloadError::Files { count: problems.len(), first: first.clone() });
        }
        self.put_in_force(files, now)
    }

    /// Measured first: what is in force without a trace must not be.
    fn put_in_force(&mut self, files: Vec<Measured>, now: Ms) -> Result<(), ReloadError> {
        let number = self.reload.core.number();
        let event = self.boot.meter.reload(number, &files).map_err(ReloadError::Measure)?;
        self.reload.event = event;
        detection::exchange(Path::new(NEXT), Path::new(DETECTION_DIR))
            .map_err(|error| ReloadError::Exchange(error.to_string()))?;
        for Measured { name, digest } in &files {
            let text = format!("reload number={number} file={name} sha256={}", digest.hex());
            self.boot.log.say(Severity::Info, &text);
        }
        self.boot.files = files;
        self.boot.appraise();
        let register = self.boot.meter.pcr(PcrIndex::SITE);
        let pcr12 = register.map_or_else(|| "none".to_owned(), |digest| digest.hex());
        let text = format!(
            "reload number={number} measured event=\"{}\" pcr12={pcr12} ms={}",
            self.reload.event,
            now.saturating_sub(self.reload.began_ms)
        );
        self.boot.log.say(Severity::Info, &text);
        self.reload.core.measured();
        let question = Question::reload(now).map_err(ReloadError::Sensor)?;
        self.watch(question.socket().as_fd(), Token::Sensor);
        self.reload.question = Some(question);
        Ok(())
    }

    fn hear_sensor(&mut self, now: Ms) -> Result<(), ReloadError> {
        let Some(answer) = self.reload.question.as_mut().and_then(|asked| asked.answer(now)) else {
            return Ok(());
        };
        self.reload.question = None;
        let loaded = answer.map_err(|why| ReloadError::Sensor(escape(&why, DETAIL_CHARS_MAX)))?;
        let text = self.reload.core.done(&loaded);
        let number = self.reload.core.number();
        self.boot.log.say(
            Severity::Info,
            &format!(
                "reload number={number} result=done rules={} rejected={} names={} addresses={} ms={} {}",
                loaded.rules,
                loaded.rejected,
                loaded.names,
                loaded.addresses,
                loaded.ms,
                loaded.trouble
            ),
        );
        self.boot.diagnostics.clear("HP-CF-027", "reload");
        self.note_reload(&text);
        Ok(())
    }

    fn reload_failed(&mut self, error: &ReloadError) {
        let was_measured = !self.reload.event.is_empty();
        self.reload.copying = None;
        self.reload.question = None;
        detection::forget(Path::new(NEXT));
        self.boot.meter_problems();
        self.reload.core.failed(error);
        let number = self.reload.core.number();
        let text = format!("reload number={number} result=failed {error}");
        self.boot.log.say(Severity::Warn, &text);
        if was_measured {
            // Until the next one: what the log of PCR 12 says is in force and what is are not the same.
            self.boot.report_text(&error.to_string(), Severity::Warn);
            self.note_reload(&error.to_string());
        }
    }

    /// What was measured stands in the ledger, with what came of it.
    fn note_reload(&mut self, what: &str) {
        let event = std::mem::take(&mut self.reload.event);
        let detail = escape(&format!("{event}: {what}"), DETAIL_CHARS_MAX);
        self.ledger.outbox.push(Block::Service(ServiceChange {
            service: SERVICE.into(),
            change: "reloaded".into(),
            detail,
        }));
    }
}
