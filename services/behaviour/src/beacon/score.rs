//! How regular a list of connections is: the score of RITA version 5.
//!
//! Four scores from 0 to 1, each a quarter of the whole (defaults of RITA 5.0):
//!
//! ```text
//! timestamp  = (skew + spread) / 2 of the intervals between different seconds; spread is 1 if the median is below 1
//! data size  = (skew + spread) / 2 of the bytes that the client sent;          spread is 0 if the median is below 1
//!   skew     = 1 - |Bowley| ; Bowley = (Q1 + Q3 - 2 Q2) / (Q3 - Q1), 0 if Q3 - Q1 < 10, Q2 = Q1 or Q2 = Q3
//!   spread   = (median - MAD) / median, at least 0      MAD: median of the distances to the median
//! histogram  = max(flat, bimodal) over 24 equal parts of the window
//!   flat     = 1 - standard deviation / mean, at least 0
//!   bimodal  = parts in the two most common heights / (parts in use - 1), from 11 parts in use on;
//!              heights are equal when they are in the same 5 % of the highest
//! duration   = max(coverage, consistency), from 6 parts in use on, else 0
//!   coverage = (last - first) / window     consistency = longest run of parts in use, round the end / 12
//! ```
//!
//! Quartiles leave the median out of both halves (Moore and McCabe). Rounding to thousandths is
//! where RITA rounds, so that scores can be compared digit by digit.
//!
//! Pure arithmetic over what it is given; never divides by zero, never panics. References:
//! activecm/rita v5, `docs` and default configuration; Bowley, Elements of Statistics (1920);
//! Hampel, JASA 69 (1974) for the MAD.

/// Parts of the histogram: hours when the window is a day.
pub const PARTS: usize = 24;
/// Parts in use from which the duration counts.
pub const DURATION_PARTS_MIN: usize = 6;
/// A run of parts that is as good as all.
pub const RUN_IDEAL: usize = 12;
/// Parts in use from which two heights are a pattern.
pub const BIMODAL_PARTS_MIN: usize = 11;
/// Parts that may fit neither height.
pub const BIMODAL_OUTLIERS: usize = 1;
/// Share of the highest part within which heights are the same.
pub const HEIGHT_SHARE: f64 = 0.05;
/// Interquartile range below which skewness says nothing (seconds or bytes).
pub const SPREAD_MIN: f64 = 10.0;
/// Intervals above zero that are needed.
pub const INTERVALS_MIN: usize = 3;

/// The four scores and their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean of the four.
    pub total: f64,
    /// Of the intervals.
    pub timestamp: f64,
    /// Of the sizes.
    pub data_size: f64,
    /// Of the histogram.
    pub histogram: f64,
    /// Of the duration.
    pub duration: f64,
    /// The median interval in seconds.
    pub interval_s: f64,
    /// MAD of the intervals in seconds.
    pub jitter_s: f64,
    /// The median size in bytes.
    pub size_bytes: f64,
    /// Parts of the histogram in use.
    pub parts: usize,
}

/// One connection of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it began, in whole seconds.
    pub at_s: u32,
    /// IP bytes that the client sent.
    pub sent_bytes: u32,
    /// How long it took, for the total; no part of the score.
    pub duration_ms: u32,
}

/// Scores connections in a window of time (both ends included); `None` when there are too few to
/// say anything. The order of the samples does not matter.
#[must_use]
pub fn score(samples: &[Sample], window_s: (u32, u32)) -> Option<Score> {
    let (begin_s, end_s) = window_s;
    let mut times: Vec<u32> = samples.iter().map(|sample| sample.at_s).collect();
    times.sort_unstable();
    let mut intervals: Vec<f64> = times
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] if after > before => Some(f64::from(after - before)),
            _ => None,
        })
        .collect();
    if intervals.len() < INTERVALS_MIN || end_s <= begin_s {
        return None;
    }
    let mut sizes: Vec<f64> = samples.iter().map(|sample| f64::from(sample.sent_bytes)).collect();
    let (first_s, last_s) = (*times.first()?, *times.last()?);
    let (interval_s, jitter_s, timestamp) = regularity(&mut intervals, 1.0);
    let (size_bytes, _, data_size) = regularity(&mut sizes, 0.0);
    let heights = heights(&times, begin_s, end_s);
    let parts = heights.iter().filter(|height| **height > 0).count();
    let histogram = flatness(&heights).max(bimodality(&heights, parts));
    let span = f64::from(last_s - first_s) / f64::from(end_s - begin_s);
    let duration = duration(span, parts, longest_run(&heights));
    let total = thousandth((timestamp + data_size + histogram + duration) / 4.0);
    Some(Score {
        total,
        timestamp,
        data_size,
        histogram,
        duration,
        interval_s,
        jitter_s,
        size_bytes,
        parts,
    })
}

/// Median, MAD and score of values.
fn regularity(values: &mut [f64], spread_if_small: f64) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let middle = median(values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let mad = median(&distances);
    let spread = if middle >= 1.0 { ((middle - mad) / middle).max(0.0) } else { spread_if_small };
    let skew = 1.0 - bowley(values).abs();
    (middle, mad, thousandth((skew + spread) / 2.0))
}

/// Of sorted values; 0 of none.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.saturating_sub(1)) + at(half)) / 2.0 }
}

/// Bowley's skewness of sorted values.
fn bowley(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let (lower, rest) = sorted.split_at(half);
    let upper = if sorted.len() % 2 == 1 { rest.get(1..).unwrap_or(&[]) } else { rest };
    let (q1, q2, q3) = (median(lower), median(sorted), median(upper));
    let range = q3 - q1;
    #[expect(clippy::float_cmp, reason = "equal only when they are the same value of the list")]
    let says_nothing = range < SPREAD_MIN || q2 == q1 || q2 == q3;
    if says_nothing { 0.0 } else { (q1 + q3 - 2.0 * q2) / range }
}

/// Connections in each part of the window; what is outside counts in the part at that end.
fn heights(times: &[u32], begin_s: u32, end_s: u32) -> [u32; PARTS] {
    let mut heights = [0_u32; PARTS];
    let part_s = f64::from(end_s - begin_s) / PARTS as f64;
    for time_s in times {
        let part = (f64::from(time_s.saturating_sub(begin_s)) / part_s) as usize;
        if let Some(height) = heights.get_mut(part.min(PARTS - 1)) {
            *height += 1;
        }
    }
    heights
}

fn flatness(heights: &[u32; PARTS]) -> f64 {
    let parts = PARTS as f64;
    let mean = heights.iter().map(|height| f64::from(*height)).sum::<f64>() / parts;
    if mean <= 0.0 {
        return 0.0;
    }
    let squares: f64 = heights.iter().map(|height| (f64::from(*height) - mean).powi(2)).sum();
    let variation = (squares / parts).sqrt() / mean;
    if variation > 1.0 { 0.0 } else { thousandth(1.0 - variation) }
}

fn bimodality(heights: &[u32; PARTS], parts: usize) -> f64 {
    if parts < BIMODAL_PARTS_MIN {
        return 0.0;
    }
    let highest = heights.iter().copied().max().unwrap_or(0);
    let step = (f64::from(highest) * HEIGHT_SHARE).ceil().max(1.0);
    let mut bins: Vec<(u32, usize)> = Vec::new();
    for height in heights.iter().filter(|height| **height > 0) {
        let bin = (f64::from(*height) / step) as u32;
        match bins.iter_mut().find(|(held, _)| *held == bin) {
            Some((_, count)) => *count += 1,
            None => bins.push((bin, 1)),
        }
    }
    let mut counts: Vec<usize> = bins.into_iter().map(|(_, count)| count).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let two: usize = counts.iter().take(2).sum();
    let of = parts.saturating_sub(BIMODAL_OUTLIERS).max(1);
    thousandth(two as f64 / of as f64).min(1.0)
}

/// Parts in use one after the other; the end is next to the begin.
fn longest_run(heights: &[u32; PARTS]) -> usize {
    let (mut longest, mut run) = (0, 0);
    for height in heights.iter().chain(heights) {
        run = if *height > 0 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest.min(PARTS)
}

fn duration(span: f64, parts: usize, run: usize) -> f64 {
    if parts < DURATION_PARTS_MIN {
        return 0.0;
    }
    let up = |share: f64| ((share * 1000.0).ceil() / 1000.0).min(1.0);
    up(span).max(up(run as f64 / RUN_IDEAL as f64))
}

fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_S: u32 = 86_400;

    fn every(step_s: u32, bytes: impl Fn(u32) -> u32) -> Vec<Sample> {
        let sample = |n| Sample { at_s: n * step_s, sent_bytes: bytes(n), duration_ms: 0 };
        (0..DAY_S / step_s).map(sample).collect()
    }

    #[test]
    fn a_clock_scores_one() {
        let score = score(&every(300, |_| 292), (0, DAY_S)).unwrap();
        assert_eq!((score.total, score.interval_s, score.jitter_s), (1.0, 300.0, 0.0));
    }

    #[test]
    fn sizes_all_over_the_place_cost_their_quarter() {
        let random = |n: u32| n.wrapping_mul(2_654_435_761) % 100_000;
        let score = score(&every(300, random), (0, DAY_S)).unwrap();
        assert!(score.timestamp == 1.0 && score.data_size < 0.8, "{score:?}");
    }

    #[test]
    fn a_burst_scores_low() {
        let burst: Vec<_> = (0..200)
            .map(|n: u32| Sample { at_s: n * n % 991, sent_bytes: n.pow(3) % 7919, duration_ms: 0 })
            .collect();
        let score = score(&burst, (0, DAY_S)).unwrap();
        assert!(score.total < 0.5, "{score:?}");
    }

    #[test]
    fn quartiles_leave_the_median_out() {
        // Q1 = 15, Q2 = 40, Q3 = 43 of Moore and McCabe's method.
        let values = [6.0, 7.0, 15.0, 36.0, 39.0, 40.0, 41.0, 42.0, 43.0, 47.0, 49.0];
        assert!((bowley(&values) - (15.0 + 43.0 - 80.0) / 28.0).abs() < 1e-12);
    }

    #[test]
    fn two_heights_fit_round_the_clock() {
        let mut heights = [10; PARTS];
        heights.iter_mut().skip(12).for_each(|height| *height = 40);
        assert_eq!(bimodality(&heights, 24), 1.0);
        assert!(flatness(&heights) < 0.5);
        heights[3] = 0;
        assert_eq!(longest_run(&heights), 23, "from 4 round the end to 2");
    }

    proptest! {
        #[test]
        fn any_list_scores_between_zero_and_one_in_any_order(
            list in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..60),
            window in any::<(u32, u32)>(),
        ) {
            let mut samples: Vec<_> = list
                .iter()
                .map(|(at_s, sent_bytes)| Sample {
                    at_s: *at_s, sent_bytes: *sent_bytes, duration_ms: 0,
                })
                .collect();
            let first = score(&samples, window);
            samples.reverse();
            prop_assert_eq!(first, score(&samples, window));
            if let Some(score) = first {
                for part in
                    [score.total, score.timestamp, score.data_size, score.histogram, score.duration]
                {
                    prop_assert!((0.0..=1.0).contains(&part), "{:?}", score);
                }
            }
        }
    }
}
