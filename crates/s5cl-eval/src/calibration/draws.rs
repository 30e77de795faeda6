//! Seeded samples whose probabilities are right by construction.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// A linear congruential generator: enough to draw test samples from.
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        let mut draws = Self(seed);
        // The first numbers of near seeds are near.
        (0..8).for_each(|_| _ = draws.uniform());
        draws
    }

    /// In `[0, 1)`.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Samples with random probabilities, each labeled by a draw from its own, which are then
    /// told with `temperature`: above 1 too cautiously, below 1 too surely.
    pub(super) fn samples(
        &mut self,
        n: usize,
        n_classes: usize,
        temperature: f64,
    ) -> Result<(Probabilities, Vec<u32>), EvalError> {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let weights: Vec<f64> = (0..n_classes).map(|_| (3.0 * self.uniform()).exp()).collect();
            let mut left = self.uniform() * weights.iter().sum::<f64>();
            let is_passed = |weight: &&f64| {
                left -= **weight;
                left >= 0.0
            };
            let label = weights.iter().take_while(is_passed).count().min(n_classes - 1);
            let told: Vec<f64> = weights.iter().map(|w| w.powf(1.0 / temperature)).collect();
            let sum: f64 = told.iter().sum();
            values.extend(told.iter().map(|weight| (weight / sum) as f32));
            labels.push(label as u32);
        }
        Ok((Probabilities::new(values, n_classes)?, labels))
    }
}
