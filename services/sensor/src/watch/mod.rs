//! What looks at packets: rules, detectors without signatures, the model, lists of names.
//!
//! ```text
//! View --rules--------------------------> Told::rule
//!      --facts--> Detectors (behaviour, model, names) --> Told::finding
//! ```
//!
//! The same for live and replay, behind the same engine. Pure: no clock, no file, no chance; time is
//! the packets'. Nothing here may keep a packet, and every table has a cap and a counter.

mod detectors;
mod names;
mod repeats;

use std::sync::Arc;

use hookprobe_behaviour::{
    finding::Finding, model::Model, observation::Observation, traffic::Glue,
};
use hookprobe_reputation::Reputation;
use hookprobe_rules::{Detector, Ruleset};
use hookprobe_traffic::{
    engine::{Inspector, View},
    flow::{Flow, Reason},
    zeek::Connection,
};

pub use self::{
    detectors::{Detectors, Settings},
    repeats::{Limits, Repeats, Scanners},
};
use crate::outputs::{
    eve::{Place, Signature},
    told,
};

/// How often waits of the detectors may end: once a second of the input's time.
const TICK_NS: u64 = 1_000_000_000;

/// Who is told.
pub trait Told {
    /// A rule matched.
    fn rule(&mut self, signature: &Signature<'_>, place: &Place<'_, '_>);
    /// Rules looked at a packet; the alerts of it are told next.
    fn judged(&mut self, _view: &View<'_, '_>, _detector: &Detector) {}
    /// What rules decided about a packet beyond their alerts, after these.
    fn decided(&mut self, _view: &View<'_, '_>, _detector: &Detector) {}
    /// A flow ends, and what rules know of it with it.
    fn flow_ends(&mut self, _flow: &Flow, _detector: &Detector) {}
    /// A packet follows the alert of a rule that wants that told.
    fn tagged(&mut self, _place: &Place<'_, '_>) {}
    /// A detector is convinced.
    fn finding(&mut self, finding: &Finding);
    /// What is told from now on, until the next packet, is the end of a wait and no packet's doing.
    fn wait_ends(&mut self) {}
}

/// Everything that looks.
pub struct Watch {
    rules: Option<Detector>,
    glue: Glue<Detectors>,
    settings: Settings,
    /// Detectors and names are left out.
    is_rules_only: bool,
    ticked_ns: u64,
}

impl Watch {
    /// With rules, if there are any, and detectors that know nothing yet.
    #[must_use]
    pub fn new(rules: Option<Detector>, settings: Settings) -> Self {
        let glue = Glue::new(Detectors::new(&settings));
        Self { rules, glue, settings, is_rules_only: false, ticked_ns: 0 }
    }

    /// Leaves out everything but the rules: to see what they cost alone.
    pub const fn only_rules(&mut self) {
        self.is_rules_only = true;
    }

    /// A packet, as the engine shows it.
    pub fn packet(&mut self, view: &mut View<'_, '_>, told: &mut impl Told) {
        self.rules(view, told);
        if self.is_rules_only {
            return;
        }
        self.glue.packet(view);
        self.tell(told);
        let now_ns = view.packet.time_ns;
        if now_ns >= self.ticked_ns.saturating_add(TICK_NS) {
            self.tick(now_ns, told);
        }
    }

    /// Rules against a packet, and what they find.
    fn rules(&mut self, view: &mut View<'_, '_>, told: &mut impl Told) {
        let Some(detector) = &mut self.rules else { return };
        detector.inspect(view);
        told.judged(view, detector);
        let is_inline = detector.is_inline();
        for alert in &detector.verdict().alerts {
            let rule = usize::try_from(alert.rule).ok();
            let Some(rule) = rule.and_then(|index| detector.rules().rules().get(index)) else {
                continue;
            };
            told.rule(&told::signature(rule, alert, is_inline), &told::place(view, alert));
        }
        if detector.verdict().is_tagged {
            told.tagged(&told::place_of(view));
        }
        told.decided(view, detector);
    }

    /// The rules with what they know, if there are any.
    #[must_use]
    pub const fn detector(&self) -> Option<&Detector> {
        self.rules.as_ref()
    }

    /// Lets waits end and tells what was found; after the engine's own tick.
    pub fn tick(&mut self, now_ns: u64, told: &mut impl Told) {
        self.ticked_ns = self.ticked_ns.max(now_ns);
        told.wait_ends();
        self.glue.tick(now_ns);
        self.tell(told);
    }

    /// A connection ended.
    pub fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        if !self.is_rules_only {
            self.glue.connection_end(flow, connection);
        }
    }

    /// A flow ended.
    pub fn flow_end(&mut self, flow: &mut Flow, reason: Reason, told: &mut impl Told) {
        if let Some(rules) = &mut self.rules {
            told.flow_ends(flow, rules);
            rules.flow_end(flow, reason);
        }
        if !self.is_rules_only {
            self.glue.flow_end(flow, reason);
        }
    }

    /// The application layer of a flow was given up.
    pub fn app_lost(&mut self, flow: &Flow) {
        if let Some(rules) = &mut self.rules {
            rules.app_lost(flow);
        }
    }

    /// Whether rules read streams.
    #[must_use]
    pub fn reads_raw_streams(&self) -> bool {
        self.rules.as_ref().is_some_and(Inspector::reads_raw_streams)
    }

    /// A fact that is not from packets.
    pub fn hear(&mut self, now_ns: u64, fact: &Observation<'_>, told: &mut impl Told) {
        self.glue.hear(now_ns, fact);
        self.tell(told);
    }

    /// The input is over: judges what was kept for later. After the engine's `finish`.
    pub fn finish(&mut self, told: &mut impl Told) {
        self.glue.finish();
        self.tell(told);
    }

    /// Begins again with detectors that know nothing; rules stay as they are.
    pub fn forget(&mut self) {
        self.glue = Glue::new(Detectors::new(&self.settings));
        self.ticked_ns = 0;
    }

    /// Other rules from the next packet on; flows keep what they have.
    pub fn reload(&mut self, rules: Arc<Ruleset>, sets: hookprobe_rules::Sets) {
        match &mut self.rules {
            Some(detector) => detector.reload(rules, sets),
            // Nothing is looked at for no rules.
            None if rules.rules().is_empty() => {}
            None => {
                self.rules = Some(Detector::new(rules, sets, hookprobe_rules::Mode::Passive));
            }
        }
    }

    /// Other names from the next packet on; the old ones are given back to be freed elsewhere.
    pub fn set_names(&mut self, names: Arc<Reputation>) -> Arc<Reputation> {
        self.settings.names = Arc::clone(&names);
        self.glue.facts_mut().set_names(names)
    }

    /// The model, to be kept.
    #[must_use]
    pub fn model(&self) -> &Model {
        self.glue.facts().model()
    }

    /// Named counters of the detectors and the names.
    #[must_use]
    pub fn behaviour_counters(&self) -> Vec<(&'static str, u64)> {
        self.glue.counters()
    }

    /// Named counters of the rules; none without rules.
    #[must_use]
    pub fn rule_counters(&self) -> Vec<(&'static str, u64)> {
        let Some(rules) = &self.rules else { return Vec::new() };
        let seen = rules.statistics();
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        vec![
            ("alert", seen.alerts),
            ("alert_queue_overflow", seen.overflow),
            ("alerts_suppressed", seen.suppressed),
            ("limits_evicted", seen.counters_evicted),
            ("host_bits_dropped", seen.host_bits_dropped),
            ("members_dropped", seen.members_dropped),
            ("tags_dropped", seen.tags_dropped),
            ("rules_loaded", count(rules.rules().rules().len())),
            ("rules_failed", count(rules.rules().problems.len())),
        ]
    }

    fn tell(&mut self, told: &mut impl Told) {
        for finding in self.glue.take_findings() {
            told.finding(&finding);
        }
    }
}
