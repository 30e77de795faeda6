//! The few distributions that the project draws from.

use std::f64::consts::TAU;

use crate::Stream;

impl Stream {
    /// Uniform in `[0, 1)`, on a grid of 2^-24.
    pub fn uniform(&mut self) -> f32 {
        const STEP: f32 = 1.0 / (1_u32 << 24) as f32;
        (self.next_u32() >> 8) as f32 * STEP
    }

    /// Uniform in `[0, 1)`, on a grid of 2^-53.
    pub fn uniform_f64(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * STEP
    }

    /// Uniform between `low` and `high`.
    pub fn uniform_in(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// True with the given probability, in `[0, 1]`.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// A normal deviate with mean 0 and standard deviation 1 (Box and Muller, cosine branch).
    pub fn normal(&mut self) -> f32 {
        // 1 - u is in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        (radius * (TAU * self.uniform_f64()).cos()) as f32
    }

    /// Uniform in `0..bound`, without bias (Lemire, "Fast random integer generation in an
    /// interval", 2019).
    ///
    /// # Panics
    ///
    /// If `bound` is zero: there is nothing to choose from.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "below(0): there is nothing to choose from");
        let bound = bound as u64;
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    }

    /// Puts the items into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// The numbers `0..n` in a uniformly random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use crate::{named_stream, stream};

    #[test]
    fn stream_values_are_pinned() {
        let mut pinned = stream(1, 2, 3, 4);
        let drawn: Vec<u32> = (0..4).map(|_| pinned.next_u32()).collect();
        assert_eq!(drawn, [2921608188, 284948456, 2826778254, 1482866815]);
    }

    #[test]
    fn stream_every_part_of_the_key_matters() {
        let first = |mut s: crate::Stream| s.next_u64();
        let base = first(stream(1, 2, 3, 4));
        assert_ne!(base, first(stream(0, 2, 3, 4)));
        assert_ne!(base, first(stream(1, 0, 3, 4)));
        assert_ne!(base, first(stream(1, 2, 0, 4)));
        assert_ne!(base, first(stream(1, 2, 3, 0)));
        assert_ne!(first(named_stream(0, "a")), first(named_stream(0, "b")));
    }

    #[test]
    fn uniform_stays_in_range_and_fills_it() {
        let mut s = stream(0, 0, 0, 0);
        let drawn: Vec<f32> = (0..20_000).map(|_| s.uniform()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn normal_has_unit_moments() {
        let mut s = stream(0, 0, 0, 0);
        let n = 50_000;
        let drawn: Vec<f64> = (0..n).map(|_| f64::from(s.normal())).collect();
        let mean = drawn.iter().sum::<f64>() / f64::from(n);
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn below_is_uniform_and_never_reaches_the_bound() {
        let mut counts = [0_u32; 7];
        let mut s = stream(5, 0, 0, 0);
        for _ in 0..70_000 {
            counts[s.below(7)] += 1;
        }
        assert!(counts.iter().all(|&n| (9_500..10_500).contains(&n)), "{counts:?}");
    }

    #[test]
    fn permutation_holds_every_number_once() {
        let mut order = stream(9, 0, 0, 0).permutation(1000);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }
}
