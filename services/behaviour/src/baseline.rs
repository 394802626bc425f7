//! What is usual: the mean and spread of a volume per period, forgotten slowly.
//!
//! Exponentially weighted mean and variance (Roberts, "Control Chart Tests Based on Geometric Moving
//! Averages", Technometrics 1, 1959; variance after West, CACM 22, 1979), and the highest value.

/// Weight of a new period. 0.1: twenty periods are remembered.
const WEIGHT: f64 = 0.1;

/// Of one quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baseline {
    mean: f64,
    variance: f64,
    highest: f64,
    periods: u32,
}

impl Baseline {
    /// Adds a finished period.
    pub fn learn(&mut self, value: f64) {
        if self.periods == 0 {
            self.mean = value;
        } else {
            let difference = value - self.mean;
            let step = WEIGHT * difference;
            self.mean += step;
            self.variance = (1.0 - WEIGHT) * (self.variance + difference * step);
        }
        // A peak is forgotten within some weeks of days.
        self.highest = (self.highest * 0.97).max(value);
        self.periods = self.periods.saturating_add(1);
    }

    /// Periods learnt.
    #[must_use]
    pub fn periods(&self) -> u32 {
        self.periods
    }

    /// The highest lately.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// The mean lately.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// How many standard deviations a value is above the mean; a spread below a tenth of the mean
    /// counts as that, so that a perfect clock does not make every byte an outlier.
    #[must_use]
    pub fn deviations(&self, value: f64) -> f64 {
        let spread = self.variance.max(0.0).sqrt().max(self.mean * 0.1).max(1.0);
        (value - self.mean) / spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_stands_out_and_the_usual_does_not() {
        let mut baseline = Baseline::default();
        for n in 0..100 {
            baseline.learn(1000.0 + f64::from(n % 5) * 20.0);
        }
        assert!(baseline.deviations(1080.0) < 1.0);
        assert!(baseline.deviations(5000.0) > 20.0);
        assert!((1000.0..1100.0).contains(&baseline.mean()));
    }
}
