//! Threshold Random Walk: Jung, Paxson, Berger, Balakrishnan, "Fast Portscan Detection Using
//! Sequential Hypothesis Testing", IEEE Symposium on Security and Privacy 2004.
//!
//! Every first contact of a source is an experiment that succeeds or fails. With the paper's
//! equations (numbers are its own):
//!
//! ```text
//! theta0 = P(success | benign)  = 0.8      (1), section 5.1
//! theta1 = P(success | scanner) = 0.2
//! ratio  = product of P(outcome | scanner) / P(outcome | benign)      (3)
//! alpha  = P(false alarm) wanted = 0.01,  beta = P(detection) wanted = 0.99
//! scanner when ratio >= eta1 = beta / alpha              = 99         (8)
//! benign  when ratio <= eta0 = (1 - beta) / (1 - alpha)  = 0.0101     (9)
//! ```
//!
//! A failure multiplies the ratio by 4, a success divides it by 4: four failures in a row decide.

/// theta0.
pub const SUCCESS_IF_BENIGN: f64 = 0.8;
/// theta1.
pub const SUCCESS_IF_SCANNER: f64 = 0.2;
/// alpha.
pub const FALSE_ALARM: f64 = 0.01;
/// beta.
pub const DETECTION: f64 = 0.99;
/// eta1.
pub const SCANNER_AT: f64 = DETECTION / FALSE_ALARM;
/// eta0.
pub const BENIGN_AT: f64 = (1.0 - DETECTION) / (1.0 - FALSE_ALARM);

/// Where the ratio stops growing: decided long ago, and x1000 still fits a `u64`.
const RATIO_MAX: f64 = 1e15;

/// Outcome of a first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The connection was accepted.
    Success,
    /// It was refused, impossible or not answered.
    Failure,
}

/// What the walk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Not decided.
    Pending,
    /// A scanner.
    Scanner,
    /// Benign; the walk starts again.
    Benign,
}

/// One source's walk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Walk {
    ratio: f64,
}

impl Default for Walk {
    fn default() -> Self {
        Self { ratio: 1.0 }
    }
}

impl Walk {
    /// Takes one outcome.
    pub fn step(&mut self, outcome: Outcome) -> Decision {
        self.ratio *= match outcome {
            Outcome::Success => SUCCESS_IF_SCANNER / SUCCESS_IF_BENIGN,
            Outcome::Failure => (1.0 - SUCCESS_IF_SCANNER) / (1.0 - SUCCESS_IF_BENIGN),
        };
        self.ratio = self.ratio.min(RATIO_MAX);
        if self.ratio >= SCANNER_AT {
            Decision::Scanner
        } else if self.ratio <= BENIGN_AT {
            Decision::Benign
        } else {
            Decision::Pending
        }
    }

    /// The likelihood ratio times 1000, rounded down.
    #[must_use]
    pub fn ratio_x1000(&self) -> u64 {
        // Positive and at most RATIO_MAX * 1000, which a u64 holds.
        (self.ratio * 1000.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(outcomes: &str) -> (Decision, u64) {
        let mut walk = Walk::default();
        let mut decision = Decision::Pending;
        for outcome in outcomes.chars() {
            decision = walk.step(if outcome == 'S' { Outcome::Success } else { Outcome::Failure });
        }
        (decision, walk.ratio_x1000())
    }

    #[test]
    fn the_papers_thresholds() {
        assert_eq!(decide("FFF").0, Decision::Pending);
        assert_eq!(decide("FFFF").0, Decision::Scanner);
        assert_eq!(decide("SSS").0, Decision::Pending);
        assert_eq!(decide("SSSS").0, Decision::Benign);
        assert_eq!(decide("FSFSFSFF").0, Decision::Pending);
        assert_eq!(decide("FSFFSFFF").0, Decision::Scanner);
    }

    #[test]
    fn never_leaves_the_numbers() {
        let ratio = decide(&"F".repeat(10_000)).1;
        assert_eq!(ratio, 1_000_000_000_000_000_000);
        assert_eq!(decide(&"S".repeat(10_000)).1, 0);
    }
}
