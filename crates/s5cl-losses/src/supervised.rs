//! The seam between a loss on labels and whoever trains with it.

use candle_core::{Result, Tensor, bail};

use crate::{Reduction, SupCon, TripletMargin};

/// A loss on embeddings and the labels that they should agree with.
pub trait SupervisedLoss: Send + Sync {
    /// The name under which [`supervised_loss`] makes it.
    fn name(&self) -> &'static str;

    /// The loss of one batch, a scalar with a gradient for the embeddings.
    ///
    /// # Shapes
    ///
    /// - `embeddings`: f32 `[n, dim]`, normalized inside
    /// - `labels`: u32 `[n]`
    /// - result: f32 scalar
    ///
    /// # Errors
    ///
    /// If the shapes or types differ from these.
    fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor>;

    /// The value near which a batch with these labels cannot improve any more, in the loss's own
    /// unit: what a curve should be read against.
    fn floor(&self, labels: &[u32]) -> f64;
}

/// What the losses of [`supervised_loss`] are made from; each takes what it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SupervisedConfig {
    /// Divides cosine similarities; above 0.
    pub temperature: f64,
    /// How anchors are averaged.
    pub reduction: Reduction,
    /// By how much a negative should be farther than a positive, as a distance on the unit
    /// sphere, 0 to 2.
    pub margin: f64,
}

/// The names that [`supervised_loss`] knows.
pub const SUPERVISED_LOSSES: [&str; 2] = [SupCon::NAME, TripletMargin::NAME];

/// Makes a loss by its name.
///
/// # Errors
///
/// If the name is not one of [`SUPERVISED_LOSSES`], or a value is out of its range.
pub fn supervised_loss(name: &str, config: SupervisedConfig) -> Result<Box<dyn SupervisedLoss>> {
    let SupervisedConfig { temperature, reduction, margin } = config;
    if !(temperature > 0.0 && temperature.is_finite()) {
        bail!("temperature must be above 0, got {temperature}")
    }
    if !(0.0..=2.0).contains(&margin) {
        bail!("margin must be between 0 and 2, got {margin}")
    }
    match name {
        SupCon::NAME => Ok(Box::new(SupCon { temperature, reduction })),
        TripletMargin::NAME => Ok(Box::new(TripletMargin { margin })),
        _ => bail!("unknown supervised loss {name:?}: use one of {}", SUPERVISED_LOSSES.join(", ")),
    }
}
