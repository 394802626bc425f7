//! The detectors that work on facts, and how the model adds to what they find.
//!
//! The model never tells anything alone. It remembers which devices have unusual minutes
//! ([`UNUSUAL_NS`]); a suspicion about such a device gets the weight as evidence and the features
//! that stand out in its sentence. A suspicion counts [`SUSPICION_POINTS`]; with the model's weight
//! it becomes a conviction at [`CONVICTION_POINTS`], which only the rarest minutes reach.

use std::{net::IpAddr, sync::Arc};

use hookprobe_behaviour::{
    Behaviour, Config,
    finding::{EVIDENCE_MAX, Finding, Weight},
    incident::{self, Gate},
    inventory::Class,
    model::{
        ClassId, Model, Verdict, WEIGHT_MAX,
        forest::ForestSeed,
        minutes::{DeviceMinute, Minutes, Night},
    },
    network::Networks,
    observation::{MINUTE_NS, Observation, TimeNs},
    traffic::Facts,
};
use hookprobe_reputation::Reputation;

use super::names::Names;
use crate::core::table::Table;

/// How long an unusual minute counts. 10 min: what a beacon or a tunnel takes to be noticed.
const UNUSUAL_NS: TimeNs = 10 * MINUTE_NS;
/// Devices with an unusual minute that are remembered; the oldest gives way.
const UNUSUAL_MAX: usize = 1024;
/// Findings about names in a minute: questions with forged sources cost nothing.
const NAMES_PER_MINUTE_MAX: usize = 20;
/// The gate's counter of what it held back.
const HELD_BACK: &str = "findings_held_back";
/// What a suspicion counts.
const SUSPICION_POINTS: u8 = 100 - WEIGHT_MAX;
/// What may be acted on.
const CONVICTION_POINTS: u8 = 100;
/// When sites sleep, in minutes of the day (UTC).
const NIGHT: Night = Night { from: 22 * 60, until: 6 * 60 };

/// What the site says, and secrets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Behaviour's own.
    pub behaviour: Config,
    /// The model to go on with; none: a new one.
    pub model: Option<Model>,
    /// Seed of a new model.
    pub model_seed: u64,
    /// Lists of names.
    pub names: Arc<Reputation>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            behaviour: Config::default(),
            model: None,
            model_seed: 0,
            names: Arc::new(Reputation::default()),
        }
    }
}

/// The last unusual minute of a device.
#[derive(Debug, Clone)]
struct Unusual {
    at_ns: TimeNs,
    weight: u8,
    standouts: String,
}

/// Behaviour, model and names.
#[derive(Debug)]
pub struct Detectors {
    behaviour: Behaviour,
    networks: Networks,
    minutes: Minutes,
    /// Minutes that are over; empty between calls.
    done: Vec<DeviceMinute>,
    model: Model,
    unusual: Table<IpAddr, Unusual>,
    names: Names,
    /// For what the names find; behaviour has one of its own.
    gate: Gate,
    found: Vec<Finding>,
    minutes_scored: u64,
    minutes_unusual: u64,
    raised: u64,
}

impl Detectors {
    /// Know nothing but what the settings say.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let model = settings.model.clone();
        Self {
            behaviour: Behaviour::new(&settings.behaviour),
            networks: settings.behaviour.networks.clone(),
            minutes: Minutes::new(settings.behaviour.seed, NIGHT),
            done: Vec::new(),
            model: model.unwrap_or_else(|| Model::new(ForestSeed(settings.model_seed))),
            unusual: Table::new(UNUSUAL_MAX),
            names: Names::new(Arc::clone(&settings.names)),
            gate: Gate::new(
                settings.behaviour.seed,
                incident::Limits {
                    per_minute_max: NAMES_PER_MINUTE_MAX,
                    ..incident::Limits::default()
                },
            ),
            found: Vec::new(),
            minutes_scored: 0,
            minutes_unusual: 0,
            raised: 0,
        }
    }

    /// The model, to be kept.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Other lists of names; the old ones are given back.
    pub fn set_names(&mut self, names: Arc<Reputation>) -> Arc<Reputation> {
        self.names.set(names)
    }

    /// Gives the minutes that are over to the model.
    fn judge(&mut self) {
        for done in std::mem::take(&mut self.done) {
            let class =
                self.behaviour.inventory().device_at(done.device).map(|device| device.class());
            let Verdict::Scored(score) = self.model.handle(number(class), &done.minute) else {
                continue;
            };
            self.minutes_scored += 1;
            if score.weight == 0 {
                continue;
            }
            self.minutes_unusual += 1;
            let standouts: Vec<String> = score.standouts.iter().map(ToString::to_string).collect();
            self.unusual.remove(&done.device);
            let at_ns = done.start_ns.saturating_add(MINUTE_NS);
            let unusual = Unusual { at_ns, weight: score.weight, standouts: standouts.join(", ") };
            self.unusual.insert(done.device, unusual);
        }
    }

    /// Adds the model's weight to what was found from `from` on.
    fn weigh(&mut self, now_ns: TimeNs, found: &mut [Finding]) {
        for finding in found.iter_mut().filter(|finding| finding.weight == Weight::Suspicion) {
            let Some(unusual) = self.unusual.get(&finding.source) else { continue };
            if now_ns.saturating_sub(unusual.at_ns) > UNUSUAL_NS {
                continue;
            }
            self.raised += 1;
            if finding.evidence.len() < EVIDENCE_MAX {
                finding.evidence.push(("model_weight", u64::from(unusual.weight)));
            }
            if !unusual.standouts.is_empty() {
                finding.summary.push_str("; unusual here: ");
                finding.summary.push_str(&unusual.standouts);
            }
            if SUSPICION_POINTS.saturating_add(unusual.weight) >= CONVICTION_POINTS {
                finding.weight = Weight::Conviction;
            }
        }
    }

    /// Runs one step of the detectors and weighs what it found.
    fn step(
        &mut self,
        now_ns: TimeNs,
        out: &mut Vec<Finding>,
        step: impl FnOnce(&mut Self, &mut Vec<Finding>),
    ) {
        let before = out.len();
        step(self, out);
        self.judge();
        if let Some(found) = out.get_mut(before..) {
            self.weigh(now_ns, found);
        }
    }
}

impl Facts for Detectors {
    fn handle(&mut self, now_ns: TimeNs, fact: &Observation<'_>, out: &mut Vec<Finding>) {
        self.step(now_ns, out, |own, out| {
            own.behaviour.handle(now_ns, fact, out);
            own.minutes.handle(now_ns, fact, &own.networks, &mut own.done);
            own.names.handle(now_ns, fact, &mut own.found);
            for finding in own.found.drain(..) {
                if own.gate.passes(now_ns, &finding, own.behaviour.inventory()) {
                    out.push(finding);
                }
            }
        });
    }

    fn tick(&mut self, now_ns: TimeNs, out: &mut Vec<Finding>) {
        self.step(now_ns, out, |own, out| {
            own.behaviour.tick(now_ns, out);
            own.minutes.tick(now_ns, &mut own.done);
        });
    }

    fn finish(&mut self, out: &mut Vec<Finding>) {
        self.step(0, out, |own, out| {
            own.behaviour.finish(out);
            own.minutes.finish(&mut own.done);
        });
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.behaviour.counters();
        counters.extend(self.names.counters());
        // Of the gate, what it held back.
        let held_back = self.gate.counters().into_iter().find(|(name, _)| *name == HELD_BACK);
        counters.extend(held_back.map(|(_, count)| ("names_held_back", count)));
        counters.extend([
            ("model_classes", self.model.classes() as u64),
            ("model_minutes_scored", self.minutes_scored),
            ("model_minutes_unusual", self.minutes_unusual),
            ("model_minutes_evicted", self.minutes.evicted()),
            ("model_raised", self.raised),
        ]);
        counters
    }
}

/// The model's number of a class of devices; what is not known is a device like any other.
fn number(class: Option<Class>) -> ClassId {
    ClassId(match class {
        None | Some(Class::General) => 0,
        Some(Class::Appliance) => 1,
        Some(Class::Industrial) => 2,
        Some(Class::Network) => 3,
        Some(Class::Storage) => 4,
    })
}
