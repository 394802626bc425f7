//! How the inspector is: what its client is told once a second, and what it does with what it hears.

use std::time::Duration;

use hookprobe_behaviour::observation::Login;
use hookprobe_wire::{
    Diagnostic, Severity,
    event::STATUS_DIAGNOSTICS_MAX,
    inspector::{Sample, State},
    sensor::{COUNTERS_MAX, Counter},
    text,
};

use super::{inspection::Inspection, packets::PacketsError};
use crate::{
    clock::boot_ns,
    core::TimeNs,
    syslog::{
        Record, auth,
        queue::{Counts, Queue},
    },
};

/// How long a loss is shown as a diagnostic. 60 s: until a person has looked.
const LOSS_SHOWN_NS: TimeNs = Duration::from_secs(60).as_nanos() as TimeNs;
/// Counters of the shell itself, beside those of packets.
const OWN_COUNTERS: usize = 5;

/// The parts that something is to be said of.
pub struct Health {
    /// None when the kernel refuses whole packets.
    inspection: Option<Inspection>,
    messages: Queue,
    messages_seen: Counts,
    messages_told_ns: Option<TimeNs>,
    logins_failed: u64,
    /// Does not pass.
    trouble: Option<Diagnostic>,
}

impl Health {
    /// With why there is no inspection, where there is none.
    #[must_use]
    pub fn new(
        inspection: Option<Inspection>,
        messages: Queue,
        refused: Option<PacketsError>,
    ) -> Self {
        let trouble = refused.map(|error| Diagnostic {
            code: "HP-SN-085".into(),
            severity: Severity::Critical,
            object: "inspector".into(),
            cause: text::escape(&crate::causes(&error), 200),
            remedy: "restart the inspector; without CAP_NET_RAW it stays so".into(),
        });
        Self {
            inspection,
            messages,
            messages_seen: Counts::default(),
            messages_told_ns: None,
            logins_failed: 0,
            trouble,
        }
    }

    /// Inspects packets of these interfaces.
    pub fn watch(&mut self, interfaces: Vec<u32>) {
        if let Some(inspection) = &mut self.inspection {
            inspection.watch(interfaces);
        }
    }

    /// Reads rules and lists again.
    pub fn reload(&mut self, number: u64) {
        if let Some(inspection) = &mut self.inspection {
            inspection.reload(number);
        }
    }

    /// First payloads of flows that began while this process was away.
    pub fn missed(&mut self, samples: Vec<Sample>) {
        if let Some(inspection) = &mut self.inspection {
            inspection.missed(samples);
        }
    }

    /// A device said something.
    pub fn heard(&mut self, record: &Record) {
        let Some(failure) = auth::failure(record) else { return };
        self.logins_failed += 1;
        if let Some(inspection) = &mut self.inspection {
            inspection.login(Login { client: failure.client, server: failure.server });
        }
    }

    /// As of the last second.
    pub fn state(&mut self) -> State {
        if self.messages_told_ns.is_none_or(|at| boot_ns().saturating_sub(at) >= LOSS_SHOWN_NS) {
            // What was lost since is shown for a minute.
            self.messages_told_ns = Some(boot_ns());
            self.messages_seen = self.messages.counts();
        }
        let named = |name: &str, value| Counter { name: name.into(), value };
        let inspected = self.inspection.as_ref().map(Inspection::counters).unwrap_or_default();
        let mut counters: Vec<Counter> =
            inspected.iter().map(|(name, value)| named(name, *value)).collect();
        // The wire takes so many; the last are the least.
        counters.truncate(COUNTERS_MAX - OWN_COUNTERS);
        let heard = self.messages.counts();
        counters.extend([
            named("syslog_received", heard.received),
            named("syslog_faulty", heard.faulty),
            named("syslog_dropped", heard.dropped),
            named("syslog_limited", heard.limited),
            named("syslog_logins_failed", self.logins_failed),
        ]);
        State {
            counters,
            diagnostics: self.diagnostics(),
            lost: self.inspection.as_ref().map_or(0, Inspection::lost),
            held_back: self.inspection.as_ref().map_or(0, Inspection::held_back),
            read: self.inspection.as_ref().and_then(Inspection::read),
        }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut diagnostics: Vec<Diagnostic> = self.trouble.clone().into_iter().collect();
        if self.inspection.as_ref().is_some_and(|inspection| !inspection.is_running()) {
            diagnostics.push(Diagnostic {
                code: "HP-SN-079".into(),
                severity: Severity::Critical,
                object: "inspector".into(),
                cause: "packets are not inspected: no thread could be had".into(),
                remedy: "restart the inspector; its limit of tasks may be too low".into(),
            });
        }
        diagnostics.extend(self.messages.counts().trouble(&self.messages_seen));
        diagnostics.truncate(STATUS_DIAGNOSTICS_MAX);
        diagnostics
    }
}
