//! What looks at the packets of a replay, in the order of cause and effect: rules and detectors,
//! what is told about them, then the logs.

use std::{collections::BTreeSet, io::Write, net::IpAddr};

use hookprobe_behaviour::{
    Behaviour,
    finding::{Finding, Weight},
    traffic::Glue,
};
use hookprobe_rules::Detector;
use hookprobe_traffic::{
    engine::{Inspector, View},
    flow::{Flow, Reason},
    zeek::Connection,
};

use super::{Options, ReplayError};
use crate::{
    core::{self, address::to_ip},
    outputs::{eve, told, zeek},
};

/// How often waits of the detectors may end: once a second of the capture's time.
const TICK_NS: u64 = 1_000_000_000;
/// Scanning sources that are remembered; more are told twice.
const SCANNERS_MAX: usize = 4096;
/// Technique of the core's findings: network service discovery (MITRE ATT&CK).
const SCAN_TECHNIQUE: &str = "T1046";
/// Counters of one part.
pub type Counters = Vec<(&'static str, u64)>;

/// Everything that looks.
pub struct Pipeline<W: Write> {
    /// EVE lines.
    pub eve: Option<eve::Writer<W>>,
    /// Zeek's logs.
    pub zeek: Option<zeek::Logs>,
    /// Rules.
    pub rules: Option<Detector>,
    /// Flows that have ended.
    pub flows: u64,
    /// Alerts of rules and detectors.
    pub alerts: u64,
    /// A packet of the frame was the first of its direction in its flow.
    pub is_new: bool,
    behaviour: Glue,
    ticked_ns: u64,
    scanners: BTreeSet<IpAddr>,
    doubles: u64,
}

impl<W: Write> Pipeline<W> {
    /// Detectors, and outputs where they are wanted.
    pub fn new(
        rules: Option<Detector>,
        eve: Option<eve::Writer<W>>,
        zeek: Option<zeek::Logs>,
    ) -> Self {
        Self {
            rules,
            eve,
            zeek,
            flows: 0,
            alerts: 0,
            is_new: false,
            behaviour: Glue::new(Behaviour::new(&hookprobe_behaviour::Config::default())),
            ticked_ns: 0,
            scanners: BTreeSet::new(),
            doubles: 0,
        }
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
        self.finding(&found);
    }

    /// A finding of a detector. The core and the detectors over flows see the same scans: the first
    /// to be convinced tells, the other is counted.
    fn finding(&mut self, finding: &Finding) {
        if finding.detector.starts_with("scan.") {
            let is_known = self.scanners.contains(&finding.source);
            if is_known {
                self.doubles += 1;
                return;
            }
            if self.scanners.len() < SCANNERS_MAX {
                self.scanners.insert(finding.source);
            }
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

    /// Rules against a packet, and what they find.
    fn rules(&mut self, view: &mut View<'_, '_>) {
        let Some(detector) = &mut self.rules else {
            return;
        };
        detector.inspect(view);
        for alert in &detector.verdict().alerts {
            let rule = usize::try_from(alert.rule).ok();
            let Some(rule) = rule.and_then(|index| detector.rules().rules().get(index)) else {
                continue;
            };
            self.alerts += 1;
            let signature = told::signature(rule, alert, false);
            let place = told::place(view, alert);
            if let Some(eve) = &mut self.eve {
                eve.alert(&signature, &place);
            }
            if let Some(zeek) = &mut self.zeek {
                zeek.rule(&signature, &place);
            }
        }
    }

    fn tell_findings(&mut self) {
        for finding in self.behaviour.take_findings() {
            self.finding(&finding);
        }
    }

    /// Ends every wait of the detectors; after the engine's `finish`.
    pub fn finish(&mut self) {
        self.behaviour.finish();
        self.tell_findings();
    }

    /// Begins with detectors that know nothing.
    pub fn forget(&mut self) {
        self.behaviour = Glue::new(Behaviour::new(&hookprobe_behaviour::Config::default()));
        self.scanners.clear();
        self.ticked_ns = 0;
    }

    /// Named counters, by group.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, Counters)> {
        let mut groups = vec![("behaviour", self.behaviour.counters())];
        if let Some((_, numbers)) = groups.first_mut() {
            numbers.push(("scan_doubles", self.doubles));
        }
        if let Some(rules) = &self.rules {
            let seen = rules.statistics();
            groups.push((
                "detect",
                vec![
                    ("alert", seen.alerts),
                    ("alert_queue_overflow", seen.overflow),
                    ("alerts_suppressed", seen.suppressed),
                    ("limits_evicted", seen.counters_evicted),
                    ("host_bits_dropped", seen.host_bits_dropped),
                    ("members_dropped", seen.members_dropped),
                    ("rules_loaded", rules.rules().rules().len() as u64),
                    ("rules_failed", rules.rules().problems.len() as u64),
                ],
            ));
        }
        if let Some(eve) = &self.eve {
            groups.push(("eve", eve.counters()));
        }
        if let Some(zeek) = &self.zeek {
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
        if let Some(mut eve) = self.eve {
            eve.stats(now_ns, counters);
            let path = options.eve.clone().unwrap_or_default();
            eve.close().map_err(|source| ReplayError::Write { path, source })?;
        }
        if let Some(zeek) = self.zeek {
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
        self.rules(view);
        let flow = view.flow.as_deref();
        self.is_new |= flow.is_some_and(|flow| flow.side(view.direction).packets == 1);
        self.behaviour.packet(view);
        let now_ns = view.packet.time_ns;
        if now_ns >= self.ticked_ns.saturating_add(TICK_NS) {
            self.ticked_ns = now_ns;
            self.behaviour.tick(now_ns);
            self.tell_findings();
        }
        if let Some(eve) = &mut self.eve {
            eve.packet(view);
        }
        if let Some(zeek) = &mut self.zeek {
            zeek.packet(view);
        }
    }

    fn connection_end(&mut self, flow: &Flow, connection: &Connection) {
        self.behaviour.connection_end(flow, connection);
        if let Some(zeek) = &mut self.zeek {
            zeek.connection_end(flow, connection);
        }
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        self.flows += 1;
        if let Some(rules) = &mut self.rules {
            rules.flow_end(flow, reason);
        }
        self.behaviour.flow_end(flow, reason);
        if let Some(eve) = &mut self.eve {
            eve.flow_end(flow, reason);
        }
        if let Some(zeek) = &mut self.zeek {
            zeek.flow_end(flow, reason);
        }
    }

    fn reads_raw_streams(&self) -> bool {
        self.rules.as_ref().is_some_and(Inspector::reads_raw_streams)
    }
}
