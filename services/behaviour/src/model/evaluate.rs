//! How good the model is on minutes whose truth is known: precision, recall, and the area under
//! the ROC curve.
//!
//! The minutes are taken in order, so that each is judged by what came before it only, as live.
//! Minutes of a class that still learns are not judged. A minute counts as told when it has a
//! weight; that is for measuring only, since a weight alone decides nothing.

use std::fmt;

use super::{ClassId, Model, Verdict, features::Minute};

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
