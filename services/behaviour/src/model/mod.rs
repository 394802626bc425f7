//! A model of what is usual for each class of devices, minute by minute.
//!
//! ```text
//! observations --minutes--> Minute --features--> Vector --ranges--> point --forest--> anomaly
//!                                                                                   -> rarity -> weight
//! ```
//!
//! Half-Space Trees ([`forest`]) over minute records; no labels, no training phase but the first
//! window. Each class has a window of the last [`WINDOW`] minutes of its devices. When it is full it
//! becomes the reference: the ranges move towards it, and the masses are counted anew from it, so
//! that what changes for good is usual after a few windows (and so is an attack that lasts for
//! days, which is why the other detectors do not learn).
//!
//! The anomaly of a point is compared with those of the class's past: only what is rarer than one
//! in [`RARE`] minutes gets a weight, and the weight is bounded by [`WEIGHT_MAX`]. **It adds weight
//! to what other detectors found and never decides alone.** Each verdict with a weight names the
//! features that stand out, found by putting the usual value in the place of each and looking how
//! much the anomaly sinks.
//!
//! The same seed and the same minutes give the same verdicts. Memory is bounded: [`CLASSES_MAX`]
//! classes of about 200 KB. [`file`] keeps it over restarts, [`evaluate`] measures it.

pub mod evaluate;
pub mod features;
pub mod file;
pub mod forest;
pub mod minutes;
pub mod ranges;

use self::{
    features::{Feature, Minute, Vector},
    forest::{Forest, ForestSeed},
    ranges::{Range, Ranges},
};

/// Minutes of a window. 512: eight hours of one device, less than an hour of ten.
pub const WINDOW: usize = 512;
/// Unusual minutes that a window is spared. 26, a twentieth: attacks that come now and then do not
/// become usual, and a lasting change is in the window all the same.
pub const LEFT_OUT_MAX: u16 = 26;
/// Classes of devices; later ones share the last.
pub const CLASSES_MAX: usize = 16;
/// Only one in so many minutes gets a weight.
pub const RARE: f64 = 100.0;
/// Most weight, in percent of what it takes to act. 30: with a suspicion of another detector it
/// may be enough, alone never.
pub const WEIGHT_MAX: u8 = 30;
/// Features that are named at most.
pub const STANDOUTS_MAX: usize = 3;
/// A feature stands out when the usual value in its place takes away this part of the anomaly.
const STANDOUT_SHARE_MIN: f32 = 0.05;
/// Bins of past anomalies.
pub(crate) const BINS: usize = 64;

/// A class of devices, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u8);

/// A feature that makes a minute unusual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standout {
    /// Which.
    pub feature: Feature,
    /// How much it was.
    pub value: f64,
    /// Between what it usually is.
    pub usual: (f64, f64),
    /// The part of the anomaly that goes away with it, 0 to 1.
    pub share: f32,
}

impl std::fmt::Display for Standout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.feature.is_share() { 2 } else { 0 };
        let (low, high) = self.usual;
        write!(
            f,
            "{} {:.digits$} (usually {low:.digits$} to {high:.digits$})",
            self.feature.label(),
            self.value
        )
    }
}

/// What the model says of a minute.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The class's first window is not full yet.
    Learning {
        /// Minutes that are missing.
        minutes_left: usize,
    },
    /// How unusual it was.
    Scored(Score),
}

/// How unusual a minute was.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// 0 usual to 1.
    pub anomaly: f32,
    /// The part of the class's past minutes that were as unusual.
    pub rarity: f64,
    /// What it adds, 0 to [`WEIGHT_MAX`].
    pub weight: u8,
    /// The features that stand out, the most first; empty without a weight.
    pub standouts: Vec<Standout>,
}

/// One class of devices.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    forest: Forest,
    ranges: Ranges,
    /// The last full window; empty while the first is filled.
    reference: Vec<Vector>,
    /// The window that is filled.
    filling: Vec<Vector>,
    /// Minutes that the filling window was spared.
    left_out: u16,
    /// Past anomalies, newer windows counting more.
    past: [u32; BINS],
}

impl Class {
    fn new(seed: ForestSeed) -> Self {
        Self {
            forest: Forest::new(seed),
            ranges: Ranges::default(),
            reference: Vec::new(),
            filling: Vec::new(),
            left_out: 0,
            past: [0; BINS],
        }
    }

    fn handle(&mut self, vector: Vector) -> Verdict {
        let verdict = if self.reference.is_empty() {
            Verdict::Learning { minutes_left: WINDOW.saturating_sub(self.filling.len()) }
        } else {
            Verdict::Scored(self.score(&vector))
        };
        let is_told = matches!(&verdict, Verdict::Scored(score) if score.weight > 0);
        if is_told && self.left_out < LEFT_OUT_MAX {
            self.left_out += 1;
            return verdict;
        }
        self.filling.push(vector);
        if self.filling.len() >= WINDOW {
            self.swap();
        }
        verdict
    }

    /// The full window becomes the reference.
    fn swap(&mut self) {
        let is_first = self.reference.is_empty();
        let new = Ranges::of(&self.filling);
        self.ranges = if is_first { new } else { self.ranges.towards(&new) };
        self.reference = std::mem::take(&mut self.filling);
        self.left_out = 0;
        self.count_masses();
        for count in &mut self.past {
            *count /= 2;
        }
        if is_first {
            // A past to compare with: the window itself, which the masses know already. What comes
            // is a little more unusual than that, which the first halves of the count forget.
            for vector in self.reference.clone() {
                let anomaly = self.forest.anomaly(&self.ranges.normalise(&vector));
                self.remember(anomaly);
            }
        }
    }

    fn count_masses(&mut self) {
        self.forest.clear();
        for vector in &self.reference {
            self.forest.add(&self.ranges.normalise(vector));
        }
    }

    fn remember(&mut self, anomaly: f32) {
        if let Some(count) = self.past.get_mut(bin(anomaly)) {
            *count = count.saturating_add(1);
        }
    }

    fn score(&mut self, vector: &Vector) -> Score {
        let anomaly = self.forest.anomaly(&self.ranges.normalise(vector));
        let all: u64 = self.past.iter().map(|count| u64::from(*count)).sum();
        let above: u64 = self.past.iter().skip(bin(anomaly)).map(|count| u64::from(*count)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let rarity = (above + 1) as f64 / (all + 1) as f64;
        self.remember(anomaly);
        let weight = weight(rarity);
        let standouts = if weight > 0 { self.standouts(vector, anomaly) } else { Vec::new() };
        Score { anomaly, rarity, weight, standouts }
    }

    /// The features whose usual value would take most of the anomaly away.
    fn standouts(&self, vector: &Vector, anomaly: f32) -> Vec<Standout> {
        let mut out: Vec<Standout> = Feature::ALL
            .into_iter()
            .filter_map(|feature| {
                let Range { low, median, high } = self.ranges.get(feature);
                let without = vector.with(feature, median);
                let rest = self.forest.anomaly(&self.ranges.normalise(&without));
                let share = (anomaly - rest) / anomaly.max(f32::EPSILON);
                let usual = (feature.count(low), feature.count(high));
                let value = feature.count(vector.get(feature));
                (share >= STANDOUT_SHARE_MIN).then_some(Standout { feature, value, usual, share })
            })
            .collect();
        out.sort_by(|a, b| b.share.total_cmp(&a.share));
        out.truncate(STANDOUTS_MAX);
        out
    }
}

/// 10 for one in a hundred, 20 for one in a thousand, and so on.
fn weight(rarity: f64) -> u8 {
    if rarity * RARE > 1.0 {
        return 0;
    }
    let points = (-10.0 * rarity.log10() - 10.0).clamp(0.0, f64::from(WEIGHT_MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and WEIGHT_MAX"
    )]
    let points = points as u8;
    points
}

fn bin(anomaly: f32) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and BINS"
    )]
    let bin = (anomaly.clamp(0.0, 1.0) * BINS as f32) as usize;
    bin.min(BINS - 1)
}

/// The models of all classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    seed: ForestSeed,
    /// By number; `None` for those that were never seen.
    classes: Vec<Option<Class>>,
}

impl Model {
    /// Knows nothing yet. The seed is drawn once for a box, so that nobody knows its halves.
    #[must_use]
    pub fn new(seed: ForestSeed) -> Self {
        Self { seed, classes: Vec::new() }
    }

    /// Takes a minute of a device of this class: says how unusual it is, then learns it.
    pub fn handle(&mut self, class: ClassId, minute: &Minute) -> Verdict {
        let number = usize::from(class.0).min(CLASSES_MAX - 1);
        if self.classes.len() <= number {
            self.classes.resize(number + 1, None);
        }
        let vector = Vector::of(minute);
        let seed = ForestSeed(self.seed.0.wrapping_add(number as u64));
        match self.classes.get_mut(number) {
            Some(slot) => slot.get_or_insert_with(|| Class::new(seed)).handle(vector),
            None => Verdict::Learning { minutes_left: WINDOW },
        }
    }

    /// What is usual for a class, once it is known.
    #[must_use]
    pub fn ranges(&self, class: ClassId) -> Option<Ranges> {
        let class = self.classes.get(usize::from(class.0))?.as_ref()?;
        (!class.reference.is_empty()).then_some(class.ranges)
    }

    /// Classes that were seen.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests;
