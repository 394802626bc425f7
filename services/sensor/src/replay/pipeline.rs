//! What looks at the packets of a replay, in the order of cause and effect: what live has, too
//! ([`Watch`]), what is told about it, then the logs.

use std::io::Write;

use hookprobe_behaviour::finding::{Finding, Weight};
use hookprobe_rules::Detector;
use hookprobe_traffic::{
    engine::{Inspector, View},
    flow::{Fate, Flow, Reason},
    packet::Origin,
    zeek::Connection,
};
use hookprobe_wire::Severity;

use super::{Options, ReplayError};
use crate::{
    core::{self, address::to_ip},
    outputs::{
        eve::{self, Place, Signature},
        events, told, zeek,
    },
    watch::{Scanners, Settings, Told, Watch},
};

/// Technique of the core's findings: network service discovery (MITRE ATT&CK).
const SCAN_TECHNIQUE: &str = "T1046";
/// Counters of one part.
pub type Counters = Vec<(&'static str, u64)>;

/// Everything that looks.
pub struct Pipeline<W: Write> {
    /// Flows that have ended.
    pub flows: u64,
    /// A packet of the frame was the first of its direction in its flow.
    pub is_new: bool,
    watch: Watch,
    outputs: Outputs<W>,
}

/// Where it goes.
struct Outputs<W: Write> {
    eve: Option<eve::Writer<W>>,
    zeek: Option<zeek::Logs>,
    scanners: Scanners,
    alerts: u64,
}

impl<W: Write> Told for Outputs<W> {
    fn rule(&mut self, signature: &Signature<'_>, place: &Place<'_, '_>) {
        self.alerts += 1;
        if let Some(eve) = &mut self.eve {
            eve.alert(signature, place);
        }
        if let Some(zeek) = &mut self.zeek {
            zeek.rule(signature, place);
        }
    }

    fn judged(&mut self, view: &View<'_, '_>, detector: &Detector) {
        let Some(eve) = &mut self.eve else { return };
        let verdict = detector.verdict();
        // Of most packets nothing is told, and they cost nothing here.
        let is_dropped = verdict.drop.is_some() && detector.is_inline();
        if verdict.alerts.is_empty() && !verdict.is_tagged && !is_dropped {
            return;
        }
        let mut judged = eve::Judged::default();
        if eve.has_metadata() {
            let flow = view.flow.as_deref();
            judged.metadata = told::metadata(detector, flow, &verdict.packet_variables);
        }
        if eve.has_verdicts() {
            judged.verdict = Some(told::verdict(detector, view));
        }
        eve.judged(judged);
    }

    fn decided(&mut self, view: &View<'_, '_>, detector: &Detector) {
        let Some(eve) = &mut self.eve else { return };
        let verdict = detector.verdict();
        let is_told = detector.is_inline() && view.packet.origin != Origin::FlowEnd;
        let Some(reason) = verdict.drop.filter(|_| is_told) else { return };
        let by = verdict
            .dropped_by
            .and_then(|rule| detector.rules().rules().get(usize::try_from(rule).ok()?));
        let alert = by.map(|rule| hookprobe_rules::Alert {
            rule: verdict.dropped_by.unwrap_or_default(),
            action: rule.action,
            tx_id: None,
            is_tx_guessed: false,
            is_stream: false,
            contexts: Vec::new(),
        });
        let signature = by.zip(alert.as_ref());
        // Whatever the rule wanted: this is what became of the packet.
        let signature = signature.map(|(rule, alert)| Signature {
            is_blocked: true,
            ..told::signature(rule, alert, true)
        });
        eve.dropped(&told::place_of(view), told::drop_reason(reason), signature.as_ref());
    }

    fn flow_ends(&mut self, flow: &Flow, detector: &Detector) {
        if let Some(eve) = &mut self.eve {
            let wanted = Some(flow).filter(|_| eve.has_metadata());
            let metadata = wanted.and_then(|flow| told::metadata(detector, Some(flow), &[]));
            eve.flow_ends(flow, told::flow_end(detector, flow), metadata);
        }
    }

    fn tagged(&mut self, place: &Place<'_, '_>) {
        if let Some(eve) = &mut self.eve {
            eve.tagged(place);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let (now_ns, severity): (u64, Severity) =
            (finding.decided_ns, events::severity(finding.weight));
        if !self.scanners.is_news(now_ns, finding.detector, severity, finding.source) {
            return;
        }
        self.alerts += 1;
        if let Some(eve) = &mut self.eve {
            eve.finding(finding);
        }
        if let Some(zeek) = &mut self.zeek {
            let sub: Vec<String> =
                finding.evidence.iter().map(|(name, value)| format!("{name}={value}")).collect();
            zeek.notice(&zeek::Notice {
                time_ns: finding.decided_ns,
                ident: None,
                protocol: None,
                note: &zeek::note(finding.detector),
                message: &finding.summary,
                sub: &sub.join(" "),
                source: finding.source,
                destination: finding.destination,
                port: finding.port,
            });
        }
    }
}

impl<W: Write> Pipeline<W> {
    /// Detectors, and outputs where they are wanted.
    pub fn new(
        rules: Option<Detector>,
        eve: Option<eve::Writer<W>>,
        zeek: Option<zeek::Logs>,
    ) -> Self {
        Self {
            flows: 0,
            is_new: false,
            watch: Watch::new(rules, Settings::default()),
            outputs: Outputs { eve, zeek, scanners: Scanners::default(), alerts: 0 },
        }
    }

    /// Leaves out everything but the rules: to see what they cost alone.
    pub const fn only_rules(&mut self) {
        self.watch.only_rules();
    }

    /// Alerts of rules and detectors.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.outputs.alerts
    }

    /// A finding of the core that the live sensor has, too.
    pub fn core_finding(&mut self, finding: &core::Finding) {
        let found = Finding::new(
            finding.detector,
            SCAN_TECHNIQUE,
            Weight::Conviction,
            to_ip(&finding.source),
            finding.summary.clone(),
        )
        .against(finding.destination.as_ref().map(to_ip), None)
        .because(finding.evidence.clone())
        .during(finding.first_ns, finding.decided_ns);
        self.outputs.finding(&found);
    }

    /// Gives back where EVE lines went.
    pub fn into_eve(self) -> Option<W> {
        self.outputs.eve.map(eve::Writer::into_inner)
    }

    /// Ends every wait of the detectors; after the engine's `finish`.
    pub fn finish(&mut self) {
        self.watch.finish(&mut self.outputs);
    }

    /// Begins with detectors that know nothing.
    pub fn forget(&mut self) {
        self.watch.forget();
        self.outputs.scanners = Scanners::default();
    }

    /// Named counters, by group.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, Counters)> {
        let mut behaviour = self.watch.behaviour_counters();
        behaviour.push(("scan_doubles", self.outputs.scanners.doubles()));
        let mut groups = vec![("behaviour", behaviour)];
        let rules = self.watch.rule_counters();
        if !rules.is_empty() {
            groups.push(("detect", rules));
        }
        if let Some(eve) = &self.outputs.eve {
            groups.push(("eve", eve.counters()));
        }
        if let Some(zeek) = &self.outputs.zeek {
            groups.push(("zeek", zeek.counters()));
        }
        groups
    }

    /// Ends every output.
    ///
    /// # Errors
    /// [`ReplayError::Write`] for the first that could not be written.
    pub fn close(
        self,
        now_ns: u64,
        counters: &[(&'static str, Counters)],
        options: &Options,
    ) -> Result<(), ReplayError> {
        if let Some(mut eve) = self.outputs.eve {
            eve.stats(now_ns, counters);
            let path = options.eve.clone().unwrap_or_default();
            eve.close().map_err(|source| ReplayError::Write { path, source })?;
        }
        if let Some(zeek) = self.outputs.zeek {
            zeek.close().map_err(|(name, source)| {
                let folder = options.zeek.clone().unwrap_or_default();
                ReplayError::Write { path: folder.join(name).with_extension("log"), source }
            })?;
        }
        Ok(())
    }
}

impl<W: Write> Inspector for Pipeline<W> {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        let flow = view.flow.as_deref();
        self.is_new |= flow.is_some_and(|flow| flow.side(view.direction).packets == 1);
        let was_dropped = flow.is_some_and(|flow| flow.fate == Fate::Dropped);
        self.watch.packet(view, &mut self.outputs);
        if let Some(eve) = self.outputs.eve.as_mut().filter(|_| !was_dropped) {
            let (rules, flow) = (self.watch.detector(), view.flow.as_deref());
            let make = || rules.and_then(|rules| told::metadata(rules, flow, &[]));
            eve.packet(view, &eve::Metadata::new(&make));
        }
        if let Some(zeek) = &mut self.outputs.zeek {
            zeek.packet(view);
        }
    }

    fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        self.watch.connection_end(flow, connection);
        if let Some(zeek) = &mut self.outputs.zeek {
            zeek.connection_end(flow, connection);
        }
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        self.flows += 1;
        self.watch.flow_end(flow, reason, &mut self.outputs);
        if let Some(eve) = &mut self.outputs.eve {
            eve.flow_end(flow, reason);
        }
        if let Some(zeek) = &mut self.outputs.zeek {
            zeek.flow_end(flow, reason);
        }
    }

    fn app_lost(&mut self, flow: &Flow) {
        self.watch.app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        self.watch.reads_raw_streams()
    }
}
