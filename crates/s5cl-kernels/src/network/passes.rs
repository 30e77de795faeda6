//! What a kind of device does for a network, layer by layer.
//!
//! How the layers hang together, which gradients are added and when memory is free again is the
//! same everywhere: `forward` and `backward` walk over the layers, and ask a device for each.

use candle_core::Result;

use super::operation::Operation;
use super::plan::{Kernel, Normalization, Plan};

/// The passes of single layers, and memory for what they give. Indices of layers and parameters are
/// the plan's.
pub(super) trait Passes {
    /// What a layer gives for the batch, or its gradient.
    type Maps;
    /// What a normalization by the batch's statistics leaves for the way back.
    type Norm;
    /// Which place of its window gave each value of a max pool.
    type Winners;
    /// What another operation leaves for the way back.
    type Kept;

    /// The layers.
    fn plan(&self) -> &Plan;

    /// Room for what a layer gives.
    fn room(&mut self, layer: usize) -> Result<Self::Maps>;

    /// Takes room back.
    fn give(&mut self, maps: Self::Maps);

    /// A convolution, the bias and the residual sum behind it.
    fn convolution(
        &mut self,
        layer: usize,
        kernel: Kernel,
        maps: &Self::Maps,
        residual: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// A normalization by the batch's statistics, the residual sum and ReLU behind it.
    fn normalization(
        &mut self,
        layer: usize,
        norm: &Normalization,
        maps: &Self::Maps,
        residual: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<Self::Norm>;

    /// A normalization by known statistics.
    fn known_normalization(
        &mut self,
        layer: usize,
        norm: &Normalization,
        maps: &Self::Maps,
        residual: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// A convolution, the layer and its weight, whose only reader is the normalization.
    fn normalized_convolution(
        &mut self,
        convolution: (usize, usize),
        norm: &Normalization,
        maps: &Self::Maps,
        residual: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// A convolution, the layer and its kernel, whose only reader is the activation of this layer.
    fn activated_convolution(
        &mut self,
        (convolution, kernel): (usize, Kernel),
        (layer, step): (usize, Step),
        maps: &Self::Maps,
        residual: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<()> {
        let mut sums = self.room(convolution)?;
        self.convolution(convolution, kernel, maps, residual, &mut sums)?;
        self.operation(layer, step, &sums, None, out)?;
        self.give(sums);
        Ok(())
    }

    /// A max pool for the way back.
    fn max_pool(
        &mut self,
        layer: usize,
        maps: &Self::Maps,
        out: &mut Self::Maps,
    ) -> Result<Self::Winners>;

    /// A max pool without a way back.
    fn known_max_pool(
        &mut self,
        layer: usize,
        maps: &Self::Maps,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// The mean over all pixels of the layer before.
    fn global_average_pool(
        &mut self,
        layer: usize,
        input: usize,
        maps: &Self::Maps,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// Another operation.
    fn operation(
        &mut self,
        layer: usize,
        step: Step,
        maps: &Self::Maps,
        other: Option<&Self::Maps>,
        out: &mut Self::Maps,
    ) -> Result<Self::Kept>;
}

/// An operation, the index of the layer that it reads, and that of its first parameter.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) input: usize,
    pub(super) parameters: usize,
}

/// The way back. Gradients of parameters are kept by the device, those that are wanted.
pub(super) trait BackwardPasses: Passes {
    /// The gradient of a convolution's weight.
    fn weight_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        maps: &Self::Maps,
        gradient: &Self::Maps,
    ) -> Result<()>;

    /// The gradient of a convolution's bias.
    fn bias_gradient(&mut self, layer: usize, bias: usize, gradient: &Self::Maps) -> Result<()>;

    /// The gradient of a convolution's input, added to what other readers of it gave.
    fn input_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        gradient: &Self::Maps,
        to: Into<'_, Self::Maps>,
    ) -> Result<()>;

    /// The gradients of a normalization's parameters, its input, and the residual if there is one.
    fn normalization_gradient(
        &mut self,
        layer: usize,
        norm: &Normalization,
        kept: Self::Norm,
        maps: &Self::Maps,
        result: &Self::Maps,
        gradient: Self::Maps,
    ) -> Result<(Self::Maps, Option<Self::Maps>)>;

    /// The gradient of a max pool's input.
    fn max_pool_gradient(
        &mut self,
        layer: usize,
        winners: Self::Winners,
        gradient: &Self::Maps,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// The gradient of the layer whose mean is taken.
    fn global_average_pool_gradient(
        &mut self,
        layer: usize,
        input: usize,
        gradient: &Self::Maps,
        out: &mut Self::Maps,
    ) -> Result<()>;

    /// The gradients of another operation's parameters, its input, and the other maps it reads.
    fn operation_gradient(
        &mut self,
        layer: usize,
        step: Step,
        kept: Self::Kept,
        maps: &Self::Maps,
        other: Option<&Self::Maps>,
        gradient: Self::Maps,
    ) -> Result<(Self::Maps, Option<Self::Maps>)>;

    /// Adds a gradient of a layer to another.
    fn add(&mut self, layer: usize, sum: &mut Self::Maps, gradient: &Self::Maps) -> Result<()>;
}

/// Where a gradient goes.
pub(super) enum Into<'a, Maps> {
    /// What is there does not matter.
    Room(&'a mut Maps),
    /// To what is there.
    Sum(&'a mut Maps),
}
