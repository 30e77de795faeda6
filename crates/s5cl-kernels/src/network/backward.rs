//! From the result's gradient to those of the parameters and the images, on any device.

use candle_core::{Result, bail};

use super::forward::TapeOf;
use super::passes::{BackwardPasses, Into, Step};
use super::plan::{Kernel, Layer};

/// Which gradients are wanted.
pub(super) struct Wanted {
    pub(super) images: bool,
    pub(super) parameters: Vec<bool>,
}

/// The way back; each layer's values are given back as soon as nothing needs them. Returns the
/// images' gradient if it is wanted; those of the parameters stay with the device.
pub(super) fn backward<P: BackwardPasses>(
    passes: &mut P,
    tape: TapeOf<P>,
    gradient: P::Maps,
    wanted: &Wanted,
) -> Result<Option<P::Maps>> {
    let layers = passes.plan().layers.clone();
    let mut gradients: Vec<Option<P::Maps>> = layers.iter().map(|_| None).collect();
    gradients[layers.len() - 1] = Some(gradient);
    let mut pass = Pass { passes, tape, wanted, gradients };
    for (index, &layer) in layers.iter().enumerate().skip(1).rev() {
        // A layer without a gradient is one that nothing reads.
        if let Some(gradient) = pass.gradients[index].take() {
            pass.layer(index, layer, gradient)?;
        }
        // Whatever reads this layer came before, on the way back.
        if let Some(values) = pass.tape.values.pop() {
            pass.passes.give(values);
        }
    }
    let of_images = pass.gradients[0].take();
    if wanted.images && of_images.is_none() {
        bail!("network: nothing reads the images")
    }
    pass.tape.values.drain(..).for_each(|images| pass.passes.give(images));
    Ok(of_images.filter(|_| wanted.images))
}

struct Pass<'a, P: BackwardPasses> {
    passes: &'a mut P,
    tape: TapeOf<P>,
    wanted: &'a Wanted,
    /// Of what each layer gives, as far as its readers have been passed.
    gradients: Vec<Option<P::Maps>>,
}

impl<P: BackwardPasses> Pass<'_, P> {
    /// From the gradient of what a layer gives to those of what it reads.
    fn layer(&mut self, index: usize, layer: Layer, gradient: P::Maps) -> Result<()> {
        match layer {
            Layer::Images => Ok(()),
            Layer::Conv2d { input, residual, kernel, .. } => {
                self.convolution(index, (input, residual), kernel, gradient)
            }
            Layer::BatchNorm { input, residual, norm } => {
                let Some(kept) = self.tape.norms[index].take() else {
                    bail!("network: layer {index} was not normalized on the way forth")
                };
                let (maps, result) = (&self.tape.values[input], &self.tape.values[index]);
                let passes = &mut self.passes;
                let (of_input, of_residual) =
                    passes.normalization_gradient(index, &norm, kept, maps, result, gradient)?;
                self.add(input, of_input)?;
                match (residual, of_residual) {
                    (Some(residual), Some(of_residual)) => self.add(residual, of_residual),
                    _ => Ok(()),
                }
            }
            Layer::MaxPool2d { input, .. } => {
                let Some(winners) = self.tape.winners[index].take() else {
                    bail!("network: layer {index} was not pooled on the way forth")
                };
                let mut of_input = self.passes.room(input)?;
                self.passes.max_pool_gradient(index, winners, &gradient, &mut of_input)?;
                self.passes.give(gradient);
                self.add(input, of_input)
            }
            Layer::GlobalAveragePool { input } => {
                let mut of_input = self.passes.room(input)?;
                let passes = &mut self.passes;
                passes.global_average_pool_gradient(index, input, &gradient, &mut of_input)?;
                self.passes.give(gradient);
                self.add(input, of_input)
            }
            Layer::Operation { input, other, operation, parameters } => {
                let Some(kept) = self.tape.kept[index].take() else {
                    bail!("network: layer {index} was not computed on the way forth")
                };
                let step = Step { operation, input, parameters };
                let maps = &self.tape.values[input];
                let of_other = other.map(|other| &self.tape.values[other]);
                let passes = &mut self.passes;
                let (of_input, of_other) =
                    passes.operation_gradient(index, step, kept, maps, of_other, gradient)?;
                self.add(input, of_input)?;
                match (other, of_other) {
                    (Some(other), Some(of_other)) => self.add(other, of_other),
                    _ => Ok(()),
                }
            }
        }
    }

    /// From the gradient of what a convolution gives to those of what it reads.
    fn convolution(
        &mut self,
        index: usize,
        (input, residual): (usize, Option<usize>),
        kernel: Kernel,
        gradient: P::Maps,
    ) -> Result<()> {
        let weight = kernel.weight;
        if let Some(bias) = kernel.bias().filter(|&bias| self.wanted.parameters[bias]) {
            self.passes.bias_gradient(index, bias, &gradient)?;
        }
        if self.wanted.parameters[weight] {
            let maps = &self.tape.values[input];
            self.passes.weight_gradient(index, weight, maps, &gradient)?;
        }
        if self.is_wanted(input) {
            let of_input = match self.gradients[input].take() {
                Some(mut sum) => {
                    let to = Into::Sum(&mut sum);
                    self.passes.input_gradient(index, weight, &gradient, to)?;
                    sum
                }
                None => {
                    let mut room = self.passes.room(input)?;
                    let to = Into::Room(&mut room);
                    self.passes.input_gradient(index, weight, &gradient, to)?;
                    room
                }
            };
            self.gradients[input] = Some(of_input);
        }
        match residual {
            Some(residual) => self.add(residual, gradient),
            None => {
                self.passes.give(gradient);
                Ok(())
            }
        }
    }

    /// Whether the gradient of what a layer gives is of use.
    fn is_wanted(&self, layer: usize) -> bool {
        layer != 0 || self.wanted.images
    }

    /// Adds to what other readers of the same maps gave.
    fn add(&mut self, layer: usize, gradient: P::Maps) -> Result<()> {
        if self.is_wanted(layer) {
            match &mut self.gradients[layer] {
                Some(sum) => self.passes.add(layer, sum, &gradient)?,
                none => {
                    *none = Some(gradient);
                    return Ok(());
                }
            }
        }
        self.passes.give(gradient);
        Ok(())
    }
}
