//! How good the model is on minutes whose truth is known: precision, recall, and the area under
//! the ROC curve.
//!
//! The minutes are taken in order, so that each is judged by what came before it only, as live.
//! Minutes of a class that still learns are not judged. A minute counts as told when it has a
//! weight; that is for measuring only, since a weight alone decides nothing.

use std::fmt;

use super::{ClassId, Model, Verdict, WINDOW, features::Minute, forest::ForestSeed};

/// A minute and its truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// Of which class the device is.
    pub class: ClassId,
    /// What it did.
    pub minute: Minute,
    /// Whether that was an attack.
    pub is_attack: bool,
}

/// The figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evaluation {
    /// Minutes that were only learnt from.
    pub learning: u64,
    /// Attacks that were told.
    pub true_positives: u64,
    /// Harmless minutes that were told.
    pub false_positives: u64,
    /// Attacks that were not told.
    pub false_negatives: u64,
    /// Harmless minutes that were not told.
    pub true_negatives: u64,
    /// The probability that an attack is more unusual than a harmless minute; `None` without both.
    pub auc: Option<f64>,
}

impl Evaluation {
    /// Of what was told, the part that was an attack; `None` when nothing was told.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.false_positives)
    }

    /// Of the attacks, the part that was told; `None` when there was none.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }

    /// Of the harmless minutes, the part that was told.
    #[must_use]
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_positives, self.true_negatives)
    }

    fn count(&mut self, is_attack: bool, is_told: bool) {
        match (is_attack, is_told) {
            (true, true) => self.true_positives += 1,
            (false, true) => self.false_positives += 1,
            (true, false) => self.false_negatives += 1,
            (false, false) => self.true_negatives += 1,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
fn share(part: u64, rest: u64) -> Option<f64> {
    let all = part + rest;
    (all > 0).then(|| part as f64 / all as f64)
}

/// `precision 0.91 recall 0.84 auc 0.97 (tp 84 fp 8 fn 16 tn 5000, 512 learning)`.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<f64>| value.map_or("n/a".into(), |value| format!("{value:.3}"));
        write!(
            f,
            "precision {} recall {} false-positive-rate {} auc {} (tp {} fp {} fn {} tn {}, {} learning)",
            show(self.precision()),
            show(self.recall()),
            show(self.false_positive_rate()),
            show(self.auc),
            self.true_positives,
            self.false_positives,
            self.false_negatives,
            self.true_negatives,
            self.learning
        )
    }
}

/// Runs a model over labelled minutes, which it learns as it goes.
pub fn evaluate(model: &mut Model, minutes: impl IntoIterator<Item = Labelled>) -> Evaluation {
    let mut out = Evaluation::default();
    let mut scored = Vec::new();
    for Labelled { class, minute, is_attack } in minutes {
        match model.handle(class, &minute) {
            Verdict::Learning { .. } => out.learning += 1,
            Verdict::Scored(score) => {
                out.count(is_attack, score.weight > 0);
                scored.push((score.anomaly, is_attack));
            }
        }
    }
    out.auc = auc(&mut scored);
    out
}

/// One capture of [`held_out`].
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What its devices did.
    pub minutes: Vec<Minute>,
    /// Whether that was an attack.
    pub is_attack: bool,
}

/// Judges each capture by a model that never saw it: harmless ones by a model of all other harmless
/// ones, attacks by one of all of them. Nothing is learnt from what is judged.
///
/// Captures are short and a model learns a window of [`WINDOW`] minutes, so the harmless minutes
/// are repeated until it is full. Gives the figures over all, and of each case the minutes that
/// were told and those that were judged.
#[must_use]
pub fn held_out(cases: &[Case], seed: ForestSeed) -> (Evaluation, Vec<(u64, u64)>) {
    let (mut out, mut scored, mut told) = (Evaluation::default(), Vec::new(), Vec::new());
    let learnt = |left_out: Option<usize>| {
        let others = cases.iter().enumerate().filter(|(at, case)| {
            !case.is_attack && Some(*at) != left_out && !case.minutes.is_empty()
        });
        let minutes: Vec<&Minute> = others.flat_map(|(_, case)| &case.minutes).collect();
        let mut model = Model::new(seed);
        for minute in minutes.iter().cycle().take(WINDOW) {
            model.handle(ClassId(0), minute);
        }
        model
    };
    let of_attacks = learnt(None);
    for (at, case) in cases.iter().enumerate() {
        let model = if case.is_attack { of_attacks.clone() } else { learnt(Some(at)) };
        let mut hits = 0;
        for minute in &case.minutes {
            match model.clone().handle(ClassId(0), minute) {
                Verdict::Learning { .. } => out.learning += 1,
                Verdict::Scored(score) => {
                    let is_told = score.weight > 0;
                    hits += u64::from(is_told);
                    out.count(case.is_attack, is_told);
                    scored.push((score.anomaly, case.is_attack));
                }
            }
        }
        told.push((hits, case.minutes.len() as u64));
    }
    out.auc = auc(&mut scored);
    (out, told)
}

/// By ranks (Mann and Whitney); equal ones count half.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn auc(scored: &mut [(f32, bool)]) -> Option<f64> {
    scored.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut attacks) = (0_u64, 0.0_f64, 0_u64);
    for equal in scored.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let hits = equal.iter().filter(|(_, is_attack)| *is_attack).count() as u64;
        let others = equal.len() as u64 - hits;
        wins += hits as f64 * (below as f64 + others as f64 / 2.0);
        below += others;
        attacks += hits;
    }
    (attacks > 0 && below > 0).then(|| wins / (attacks as f64 * below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_by_hand() {
        assert_eq!(auc(&mut [(0.1, false), (0.9, true)]), Some(1.0));
        assert_eq!(auc(&mut [(0.9, false), (0.1, true)]), Some(0.0));
        assert_eq!(auc(&mut [(0.5, false), (0.5, true)]), Some(0.5));
        let mut mixed = [(0.1, false), (0.2, true), (0.3, false), (0.4, true)];
        assert_eq!(auc(&mut mixed), Some(0.75));
        assert_eq!(auc(&mut [(0.1, false)]), None);
        assert_eq!(auc(&mut []), None);
    }

    #[test]
    fn captures_are_judged_by_models_that_did_not_see_them() {
        let minute = |flows: u32| Minute { flows, destinations: 2, ..Minute::default() };
        let quiet = |from: u32| Case {
            minutes: (0..20).map(|n| minute(from + n % 5)).collect(),
            is_attack: false,
        };
        let loud = Minute { destinations: 900, ports: 400, failed: 4000, ..minute(5000) };
        let attack = Case { minutes: vec![loud; 3], is_attack: true };
        let cases = [quiet(4), quiet(5), attack, quiet(4)];
        let (figures, told) = held_out(&cases, ForestSeed(1));
        assert_eq!((figures.true_positives, figures.false_negatives), (3, 0), "{figures}");
        assert_eq!(figures.false_positives + figures.true_negatives, 60);
        assert_eq!((told[2], told.len()), ((3, 3), 4));
        // Without anything harmless there is no model, and nothing is judged.
        let (figures, _) = held_out(&cases[2..3], ForestSeed(1));
        assert_eq!((figures.learning, figures.auc), (3, None));
    }

    #[test]
    fn shares_and_text() {
        let figures = Evaluation {
            learning: 512,
            true_positives: 3,
            false_positives: 1,
            false_negatives: 1,
            true_negatives: 95,
            auc: Some(0.5),
        };
        assert_eq!(
            figures.to_string(),
            "precision 0.750 recall 0.750 false-positive-rate 0.010 auc 0.500 \
             (tp 3 fp 1 fn 1 tn 95, 512 learning)"
        );
        assert!(Evaluation::default().to_string().starts_with("precision n/a recall n/a"));
    }
}
