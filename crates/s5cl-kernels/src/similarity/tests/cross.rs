//! Queries against keys, against the formula pair by pair.

use candle_core::{Device, Result, Tensor, Var};

use crate::checks::{assert_within, draw, gradient, refusal};
use crate::simd::with_each_instruction_set;
use crate::similarity::{CrossContrast, Positives, Reduction, cross_contrast, sup_con};

/// f32 exponents with a rounding of about 1e-7, magnified by a temperature down to 0.05.
const TOLERANCE: f64 = 1e-5;

/// A problem drawn from a seed.
#[derive(Clone)]
pub(in crate::similarity) struct Problem {
    pub(in crate::similarity) dim: usize,
    pub(in crate::similarity) queries: Vec<f32>,
    pub(in crate::similarity) keys: Vec<f32>,
    pub(in crate::similarity) temperatures: Vec<f64>,
    pub(in crate::similarity) query_weights: Vec<f32>,
    pub(in crate::similarity) key_weights: Vec<f32>,
    pub(in crate::similarity) excluded: Vec<u32>,
    pub(in crate::similarity) query_labels: Vec<u32>,
    pub(in crate::similarity) key_labels: Vec<u32>,
    /// Shares of classes.
    pub(in crate::similarity) n_classes: usize,
    pub(in crate::similarity) query_shares: Vec<f32>,
    pub(in crate::similarity) key_shares: Vec<f32>,
}

impl Problem {
    pub(in crate::similarity) fn draw(n: usize, n_keys: usize, dim: usize) -> Self {
        Self::draw_with_classes(n, n_keys, dim, 3)
    }

    pub(in crate::similarity) fn draw_with_classes(
        n: usize,
        n_keys: usize,
        dim: usize,
        n_classes: usize,
    ) -> Self {
        let positive = |n, seed| draw(seed, n).into_iter().map(f32::abs).collect::<Vec<_>>();
        let label = |i: usize| (i * 7 % 5) as u32;
        Self {
            dim,
            queries: draw(1, n * dim),
            keys: draw(2, n_keys * dim),
            temperatures: positive(n, 3).iter().map(|t| f64::from(*t) + 0.05).collect(),
            query_weights: positive(n, 4),
            // Every seventh key is not valid.
            key_weights: positive(n_keys, 5)
                .iter()
                .enumerate()
                .map(|(j, w)| if j % 7 == 3 { 0.0 } else { *w })
                .collect(),
            // Every third query leaves out nothing.
            excluded: (0..n)
                .map(|i| if i % 3 == 0 { u32::MAX } else { (i * 5 % n_keys) as u32 })
                .collect(),
            query_labels: (0..n).map(label).collect(),
            key_labels: (0..n_keys).map(|j| label(j + 1)).collect(),
            n_classes,
            query_shares: positive(n * n_classes, 6),
            key_shares: positive(n_keys * n_classes, 7),
        }
    }

    /// Loss, gradient of the queries, gradient of the keys.
    pub(in crate::similarity) fn dense(&self, is_soft: bool, is_plain: bool) -> [Vec<f64>; 3] {
        let (n, n_keys, dim) = (self.query_labels.len(), self.key_labels.len(), self.dim);
        let row = |of: &[f32], at: usize, len: usize| -> Vec<f64> {
            of[at * len..(at + 1) * len].iter().map(|&x| f64::from(x)).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let affinity = |i: usize, j: usize| {
            if is_soft {
                let n_classes = self.n_classes;
                dot(&row(&self.query_shares, i, n_classes), &row(&self.key_shares, j, n_classes))
            } else {
                f64::from(u8::from(self.query_labels[i] == self.key_labels[j]))
            }
        };
        let beta = |j: usize| if is_plain { 1.0 } else { f64::from(self.key_weights[j]) };
        let keys =
            |i: usize| (0..n_keys).filter(move |&j| is_plain || self.excluded[i] as usize != j);
        let n_positives: Vec<f64> = (0..n).map(|i| keys(i).map(|j| affinity(i, j)).sum()).collect();
        let n_with_loss = n_positives.iter().filter(|&&n_positives| n_positives > 0.0).count();
        let (mut loss, mut of_queries, mut of_keys) =
            (0.0, vec![0.0; n * dim], vec![0.0; n_keys * dim]);
        for (i, n_positives) in n_positives.into_iter().enumerate().filter(|(_, n)| *n > 0.0) {
            let (q, t) = (row(&self.queries, i, dim), self.temperatures[i]);
            let logit = |j: usize| dot(&q, &row(&self.keys, j, dim)) / t;
            let max = keys(i).map(logit).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = keys(i).map(|j| beta(j) * (logit(j) - max).exp()).sum();
            let pull: f64 = keys(i).map(|j| affinity(i, j) * logit(j)).sum();
            let weight =
                if is_plain { 1.0 / n_with_loss as f64 } else { f64::from(self.query_weights[i]) };
            loss += weight * (max + sum.ln() - pull / n_positives);
            for j in keys(i) {
                let share = beta(j) * (logit(j) - max).exp() / sum;
                let slope = weight * (share - affinity(i, j) / n_positives) / t;
                for (d, k) in row(&self.keys, j, dim).into_iter().enumerate() {
                    of_queries[i * dim + d] += slope * k;
                    of_keys[j * dim + d] += slope * q[d];
                }
            }
        }
        [vec![loss], of_queries, of_keys]
    }

    fn fused(&self, is_soft: bool, is_plain: bool) -> Result<[Vec<f64>; 3]> {
        let (n, n_keys, cpu) = (self.query_labels.len(), self.key_labels.len(), &Device::Cpu);
        let queries = Var::from_slice(&self.queries, (n, self.dim), cpu)?;
        let keys = Var::from_slice(&self.keys, (n_keys, self.dim), cpu)?;
        let labels = [Tensor::new(&*self.query_labels, cpu)?, Tensor::new(&*self.key_labels, cpu)?];
        let shares = [
            Tensor::from_slice(&self.query_shares, (n, self.n_classes), cpu)?,
            Tensor::from_slice(&self.key_shares, (n_keys, self.n_classes), cpu)?,
        ];
        let positives = if is_soft {
            Positives::Shares { queries: &shares[0], keys: &shares[1] }
        } else {
            Positives::Labels { queries: &labels[0], keys: &labels[1] }
        };
        let query_weights = Tensor::new(&*self.query_weights, cpu)?;
        let key_weights = Tensor::new(&*self.key_weights, cpu)?;
        let excluded = Tensor::new(&*self.excluded, cpu)?;
        let config = CrossContrast {
            temperatures: &self.temperatures,
            positives,
            query_weights: (!is_plain).then_some(&query_weights),
            key_weights: (!is_plain).then_some(&key_weights),
            excluded: (!is_plain).then_some(&excluded),
        };
        let loss = cross_contrast(&queries, &keys, &config)?;
        // The factor stands for what comes behind the loss.
        let gradients = (&loss * 2.0)?.backward()?;
        let half = |var: &Var| -> Result<Vec<f64>> {
            Ok(gradient(&gradients, var)?.into_iter().map(|g| f64::from(g) / 2.0).collect())
        };
        Ok([vec![f64::from(loss.to_scalar::<f32>()?)], half(&queries)?, half(&keys)?])
    }

    fn check(&self) {
        for (is_soft, is_plain) in [(false, false), (true, false), (false, true), (true, true)] {
            let found = self.fused(is_soft, is_plain).unwrap();
            for (part, (found, expected)) in
                found.iter().zip(self.dense(is_soft, is_plain)).enumerate()
            {
                // Where pulls cancel, what is left is a rounding of the pulls.
                let largest = expected.iter().fold(0.1, |max: f64, value| max.max(value.abs()));
                let what = format!("soft {is_soft}, plain {is_plain}, part {part}");
                assert_within(&what, found, &expected, TOLERANCE * largest);
            }
        }
    }
}

#[test]
fn cross_contrast_is_the_dense_formula() {
    with_each_instruction_set(|| {
        for (n, n_keys, dim) in [(1, 1, 1), (3, 40, 5), (65, 33, 16), (40, 150, 63)] {
            Problem::draw(n, n_keys, dim).check();
        }
    });
    // More than a block of both.
    Problem::draw(130, 1100, 8).check();
}

#[test]
fn cross_contrast_of_rows_with_themselves_is_sup_con() -> Result<()> {
    let (n, dim) = (70, 12);
    let rows = Tensor::from_vec(draw(8, n * dim), (n, dim), &Device::Cpu)?;
    let units = rows.broadcast_div(&rows.sqr()?.sum_keepdim(1)?.sqrt()?)?;
    let labels = Tensor::new((0..n as u32).map(|i| i % 9).collect::<Vec<_>>(), &Device::Cpu)?;
    let own = Tensor::arange(0, n as u32, &Device::Cpu)?;
    let config = CrossContrast {
        temperatures: &[0.1],
        positives: Positives::Labels { queries: &labels, keys: &labels },
        query_weights: None,
        key_weights: None,
        excluded: Some(&own),
    };
    let cross: f32 = cross_contrast(&units, &units, &config)?.to_scalar()?;
    let square: f32 = sup_con(&rows, &labels, 0.1, Reduction::MeanValid)?.to_scalar()?;
    assert!(f64::from(cross - square).abs() < TOLERANCE, "{cross} {square}");
    Ok(())
}

#[test]
fn cross_contrast_survives_long_rows_and_keys_without_gradient() -> Result<()> {
    let queries = Var::new(&[[300_f32, 0.0], [0.0, 200.0]], &Device::Cpu)?;
    let keys = Tensor::new(&[[1_f32, 0.0], [0.0, 1.0], [-1.0, 0.0]], &Device::Cpu)?;
    let labels =
        [Tensor::new(&[2_u32, 1], &Device::Cpu)?, Tensor::new(&[0_u32, 1, 2], &Device::Cpu)?];
    let config = CrossContrast {
        temperatures: &[0.1],
        positives: Positives::Labels { queries: &labels[0], keys: &labels[1] },
        query_weights: None,
        key_weights: None,
        excluded: None,
    };
    let loss = cross_contrast(&queries, &keys, &config)?;
    // The first query sees its positive 6000 below the other key, the second sees only its own.
    assert!((loss.to_scalar::<f32>()? - 3000.0).abs() < 0.01);
    assert!(loss.backward()?.get(&queries).is_some());
    Ok(())
}

#[test]
fn cross_contrast_of_a_query_without_positives_has_a_gradient_at_small_temperatures() {
    // The first query has no positive, and its exponents are where powers are beyond f32.
    let drawn = Problem::draw(2, 2, 2);
    for temperature in [0.01, 0.005, 0.003] {
        let problem = Problem {
            queries: vec![1.0, 0.0, 0.0, 1.0],
            keys: vec![0.89, 0.456, 0.0, 1.0],
            temperatures: vec![temperature; 2],
            query_labels: vec![7, 1],
            key_labels: vec![0, 1],
            ..drawn.clone()
        };
        with_each_instruction_set(|| problem.check());
    }
}

#[test]
fn cross_contrast_refuses_what_does_not_fit() -> Result<()> {
    let rows = Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu)?;
    let labels = Tensor::new(&[0_u32, 1], &Device::Cpu)?;
    let negative = Tensor::new(&[1_f32, -1.0], &Device::Cpu)?;
    let config = CrossContrast {
        temperatures: &[0.1],
        positives: Positives::Labels { queries: &labels, keys: &labels },
        query_weights: None,
        key_weights: None,
        excluded: None,
    };
    let refused =
        |keys: &Tensor, config: &CrossContrast<'_>| refusal(cross_contrast(&rows, keys, config));
    assert_eq!(refused(&rows, &config), "");
    assert!(refused(&rows.narrow(0, 0, 1)?.squeeze(0)?, &config).contains("matrix, got F32 [3]"));
    let shares = Positives::Shares { queries: &labels, keys: &labels };
    let message = refused(&rows, &CrossContrast { positives: shares, ..config });
    assert!(message.contains("cross_contrast: expected a matrix, got U32 [2]"), "{message}");
    assert!(refused(&rows.t()?, &config).contains("do not fit"));
    assert!(
        refused(&rows, &CrossContrast { temperatures: &[0.1, 0.0], ..config }).contains("above 0")
    );
    assert!(
        refused(&rows, &CrossContrast { key_weights: Some(&negative), ..config }).contains("-1")
    );
    assert!(refused(&rows, &CrossContrast { excluded: Some(&negative), ..config }).contains("U32"));
    Ok(())
}
