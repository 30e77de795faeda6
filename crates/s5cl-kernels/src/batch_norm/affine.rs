//! A normalization with known statistics, as it meets each value.

/// One multiplication and one addition a value: a normalization with known statistics.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Affine {
    /// Only an addition.
    pub(crate) fn shift(by: &[f32]) -> Self {
        Self { scale: vec![1.0; by.len()], shift: by.to_vec() }
    }

    pub(crate) fn new(
        weight: &[f32],
        bias: &[f32],
        mean: &[f64],
        variance: &[f64],
        epsilon: f64,
    ) -> Self {
        let scale = |c: usize| f64::from(weight[c]) / (variance[c] + epsilon).sqrt();
        let shift = |c: usize| f64::from(bias[c]) - mean[c] * scale(c);
        let channels = 0..weight.len();
        Self {
            scale: channels.clone().map(|c| scale(c) as f32).collect(),
            shift: channels.map(|c| shift(c) as f32).collect(),
        }
    }
}

/// Where the gradient passes the ReLU behind a normalization.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// There is none.
    Open,
    /// Where the affine map, computed once more, is above zero.
    Affine(&'a Affine),
    /// Where the result, which has a residual in it, is above zero.
    Result(&'a [f32]),
}
