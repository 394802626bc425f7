//! What is usual for each feature: running quantiles, which a few wild minutes don't move.

use super::features::{FEATURES, Feature, Vector};

/// Quantiles that span the usual range, in percent.
const LOW_PERCENT: usize = 5;
const HIGH_PERCENT: usize = 95;
/// How much of a new window goes into the ranges: half of a lasting change is in after two or three
/// windows.
const SMOOTHING: f32 = 0.25;
/// How far beyond the usual range a value may lie, in widths; the rest is cut.
const BEYOND: f32 = 2.0;

/// Usual values of one feature, on the model's scale.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    /// Below it are five percent.
    pub low: f32,
    /// The middle one.
    pub median: f32,
    /// Above it are five percent.
    pub high: f32,
}

/// All features.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ranges(pub(super) [Range; FEATURES]);

impl Ranges {
    /// Of a window alone; zero for an empty one.
    #[must_use]
    pub fn of(window: &[Vector]) -> Self {
        let mut column = Vec::with_capacity(window.len());
        Self(Feature::ALL.map(|feature| {
            column.clear();
            column.extend(window.iter().map(|vector| vector.get(feature)));
            column.sort_unstable_by(f32::total_cmp);
            let at = |percent: usize| {
                let index = column.len().saturating_sub(1) * percent / 100;
                column.get(index).copied().unwrap_or(0.0)
            };
            Range { low: at(LOW_PERCENT), median: at(50), high: at(HIGH_PERCENT) }
        }))
    }

    /// Moves towards a new window.
    #[must_use]
    pub fn towards(&self, new: &Self) -> Self {
        let mix = |old: f32, new: f32| old + (new - old) * SMOOTHING;
        let mut out = *self;
        for (range, new) in out.0.iter_mut().zip(&new.0) {
            range.low = mix(range.low, new.low);
            range.median = mix(range.median, new.median);
            range.high = mix(range.high, new.high);
        }
        out
    }

    /// The range of one feature.
    #[must_use]
    pub fn get(&self, feature: Feature) -> Range {
        self.0.get(feature as usize).copied().unwrap_or_default()
    }

    /// To 0..1 for the usual range, and up to [`BEYOND`] widths outside of it.
    #[must_use]
    pub fn normalise(&self, vector: &Vector) -> [f32; FEATURES] {
        Feature::ALL.map(|feature| {
            let range = self.get(feature);
            let width = (range.high - range.low).max(feature.width_min());
            ((vector.get(feature) - range.low) / width).clamp(-BEYOND, 1.0 + BEYOND)
        })
    }

    /// Whether it could come from windows.
    pub(super) fn is_sane(&self) -> bool {
        self.0.iter().all(|range| {
            let values = [range.low, range.median, range.high];
            values.iter().all(|value| value.is_finite() && (0.0..=45.0).contains(value))
                && range.low <= range.median
                && range.median <= range.high
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(value: f32) -> Vector {
        Vector([value; FEATURES])
    }

    #[test]
    fn wild_values_do_not_move_it() {
        let mut window: Vec<Vector> = (0..100_u8).map(|n| vector(f32::from(n) / 25.0)).collect();
        let calm = Ranges::of(&window);
        window.truncate(97);
        window.extend([vector(44.0); 3]);
        let wild = Ranges::of(&window);
        assert!((calm.get(Feature::Flows).high - wild.get(Feature::Flows).high).abs() < 0.1);
        assert!(calm.is_sane() && wild.is_sane());
        let [normal, ..] = calm.normalise(&vector(2.0));
        assert!((0.4..0.6).contains(&normal), "{normal}");
        let [far, ..] = calm.normalise(&vector(44.0));
        assert!((far - 3.0).abs() < 1e-6, "{far}");
    }

    #[test]
    fn constant_features_have_a_width() {
        let ranges = Ranges::of(&[vector(2.0); 10]);
        let [value, ..] = ranges.normalise(&vector(2.7));
        assert!((0.69..0.71).contains(&value), "{value}");
        assert_eq!(Ranges::of(&[]), Ranges::default());
    }
}
