//! Half-Space Trees (Tan, Ting, Liu: Fast Anomaly Detection for Streaming Data, IJCAI 2011).
//!
//! A tree halves the space of features again and again, each time along a feature drawn at random,
//! whatever the data. Counted is only how many points of the reference window fell into each part
//! (its mass). Where there is little mass, a point is unusual. As in the paper: work ranges around a
//! random centre, halves at the middle, a tree's score is mass * 2^depth where the walk ends.
//!
//! Four things differ, because an attack shows in two or three of the twelve features and the
//! paper's trees would seldom halve along these twice:
//!
//! - each tree looks at [`MEMBERS`] features; they are dealt like cards, so that each feature is in
//!   as many trees as any other;
//! - depth 10 instead of 15: with two features that is five halvings of each (150 KB for a class);
//! - a walk ends at a leaf or where a fiftieth of the window is left, not a tenth;
//! - the logarithms of the trees' scores are added, not the scores, and only of the half of the
//!   trees that find the point the most unusual: else one tree that sees nothing outweighs ten that
//!   do.
//!
//! The halves are not stored: they follow from the seed.

use super::features::FEATURES;

/// Trees of a forest: each feature is in six.
pub const TREES: usize = 36;
/// Halvings from the root to a leaf.
pub const DEPTH: u32 = 10;
/// Features of a tree.
pub const MEMBERS: usize = 2;
/// Trees that one deck of features is dealt to.
const TREES_PER_DECK: usize = FEATURES / MEMBERS;
const _: () = assert!(FEATURES.is_multiple_of(MEMBERS) && TREES.is_multiple_of(TREES_PER_DECK));
/// A walk ends where this part of the window is left.
const MASS_SHARE: u16 = 50;
/// Trees that decide: those that find a point the most unusual.
const TREES_HEARD: usize = 18;
/// Nodes of a tree.
const NODES: usize = (1 << (DEPTH + 1)) - 1;

/// Where the random numbers of a forest start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForestSeed(pub u64);

/// A tree's features and their work ranges.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Space {
    seed: u64,
    members: [usize; MEMBERS],
    low: [f32; MEMBERS],
    high: [f32; MEMBERS],
}

impl Space {
    fn new(seed: ForestSeed, tree: usize) -> Self {
        let deck = mix(seed.0 ^ mix((tree / TREES_PER_DECK) as u64 | 1 << 62));
        let mut cards: [usize; FEATURES] = std::array::from_fn(|at| at);
        // Fisher and Yates.
        for at in (1..FEATURES).rev() {
            let other = mix(deck ^ at as u64) % (at as u64 + 1);
            cards.swap(at, usize::try_from(other).unwrap_or(0));
        }
        let hand = tree % TREES_PER_DECK * MEMBERS;
        let members = std::array::from_fn(|at| cards.get(hand + at).copied().unwrap_or(0));
        let seed = mix(seed.0 ^ mix(tree as u64 | 1 << 63));
        let centres: [f32; MEMBERS] = std::array::from_fn(|at| unit(mix(seed ^ mix(at as u64))));
        let reach = |centre: f32| 2.0 * centre.max(1.0 - centre);
        let low = centres.map(|centre| centre - reach(centre));
        let high = centres.map(|centre| centre + reach(centre));
        Self { seed, members, low, high }
    }

    /// From the root to a leaf: the node and its depth at each step, until `each` says `false`.
    fn walk(mut self, point: &[f32; FEATURES], mut each: impl FnMut(usize, u32) -> bool) {
        let (mut node, mut depth) = (0, 0);
        while each(node, depth) && depth < DEPTH {
            let drawn = mix(self.seed ^ node as u64) % MEMBERS as u64;
            let member = usize::try_from(drawn).unwrap_or(0);
            let (Some(low), Some(high), Some(feature)) =
                (self.low.get_mut(member), self.high.get_mut(member), self.members.get(member))
            else {
                return;
            };
            let middle = f32::midpoint(*low, *high);
            if point.get(*feature).is_some_and(|value| *value < middle) {
                *high = middle;
                node = 2 * node + 1;
            } else {
                *low = middle;
                node = 2 * node + 2;
            }
            depth += 1;
        }
    }
}

/// The masses of a reference window.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    spaces: Vec<Space>,
    /// Of all trees, one after the other, each in the order of a heap.
    masses: Vec<u16>,
    points: u16,
}

impl Forest {
    /// Without any mass.
    #[must_use]
    pub fn new(seed: ForestSeed) -> Self {
        let spaces = (0..TREES).map(|tree| Space::new(seed, tree)).collect();
        Self { spaces, masses: vec![0; TREES * NODES], points: 0 }
    }

    /// Forgets all masses.
    pub fn clear(&mut self) {
        self.masses.fill(0);
        self.points = 0;
    }

    /// Adds a point of the window.
    pub fn add(&mut self, point: &[f32; FEATURES]) {
        self.points = self.points.saturating_add(1);
        for (space, masses) in self.spaces.iter().zip(self.masses.chunks_exact_mut(NODES)) {
            space.walk(point, |node, _| {
                if let Some(mass) = masses.get_mut(node) {
                    *mass = mass.saturating_add(1);
                }
                true
            });
        }
    }

    /// How unusual a point is: 0 where all of the window is, 1 where nothing is.
    #[must_use]
    pub fn anomaly(&self, point: &[f32; FEATURES]) -> f32 {
        let mass_min = self.points / MASS_SHARE;
        let most = f64::from(self.points.max(1)) * f64::from(1_u32 << DEPTH);
        let mut scores = [0.0_f64; TREES];
        let trees = self.spaces.iter().zip(self.masses.chunks_exact(NODES));
        for (score, (space, masses)) in scores.iter_mut().zip(trees) {
            space.walk(point, |node, depth| {
                let mass = masses.get(node).copied().unwrap_or(0);
                *score = f64::from(mass) * f64::from(1_u32 << depth);
                mass > mass_min
            });
        }
        scores.sort_unstable_by(f64::total_cmp);
        let lowest = scores.iter().take(TREES_HEARD);
        let sum: f64 = lowest.map(|score| score.ln_1p()).sum();
        #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1")]
        let anomaly = (1.0 - sum / (TREES_HEARD as f64 * most.ln_1p())) as f32;
        anomaly.clamp(0.0, 1.0)
    }
}

/// The finaliser of SplitMix64: each bit of the input changes half of the output's.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Between 0 and 1.
fn unit(value: u64) -> f32 {
    let top = u16::try_from(value >> 48).unwrap_or(0);
    f32::from(top) / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(seed: u64, centre: f32) -> [f32; FEATURES] {
        std::array::from_fn(|at| centre + (unit(mix(seed * 100 + at as u64)) - 0.5) * 0.3)
    }

    #[test]
    fn far_points_are_unusual() {
        let mut forest = Forest::new(ForestSeed(1));
        for n in 0..250 {
            forest.add(&point(n, 0.5));
        }
        let near = forest.anomaly(&point(1000, 0.5));
        let far = forest.anomaly(&point(1000, 2.0));
        assert!(near + 0.3 < far, "{near} {far}");
        // Masses add up: the root of each tree has all points.
        assert!((0..TREES).all(|tree| forest.masses[tree * NODES] == 250));
        for tree in 0..TREES {
            for node in 0..NODES / 2 {
                let mass = |node: usize| forest.masses[tree * NODES + node];
                assert_eq!(mass(node), mass(2 * node + 1) + mass(2 * node + 2));
            }
        }
    }

    #[test]
    fn each_feature_is_in_as_many_trees() {
        for seed in 0..20 {
            let mut count = [0; FEATURES];
            for tree in 0..TREES {
                for member in Space::new(ForestSeed(seed), tree).members {
                    count[member] += 1;
                }
            }
            assert_eq!(count, [TREES * MEMBERS / FEATURES; FEATURES]);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_forest() {
        let (mut a, mut b, mut other) =
            (Forest::new(ForestSeed(7)), Forest::new(ForestSeed(7)), Forest::new(ForestSeed(8)));
        for n in 0..50 {
            for forest in [&mut a, &mut b, &mut other] {
                forest.add(&point(n, 0.5));
            }
        }
        assert_eq!(a, b);
        assert_ne!(a.masses, other.masses);
        a.clear();
        assert_eq!(a, Forest::new(ForestSeed(7)));
    }
}
