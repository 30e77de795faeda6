//! Batch normalization that trains, with the residual sum and ReLU behind it.

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use s5cl_kernels::{batch_norm_eval, batch_norm_train};

use crate::Mode;

/// PyTorch's defaults, with which every torchvision weight was made.
const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// `torch.nn.BatchNorm2d` over maps with channels last.
///
/// In training mode, running statistics move by a tenth towards the batch's, the variance in its
/// unbiased form, as PyTorch does.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl BatchNorm {
    /// Builds one with the parameters `weight`, `bias`, `running_mean`, `running_var`, all
    /// `[channels]`.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn new(channels: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        let constant =
            |name: &str, value: f64| builder.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: constant("weight", 1.0)?,
            bias: constant("bias", 0.0)?,
            running_mean: Var::from_tensor(&constant("running_mean", 0.0)?)?,
            running_var: Var::from_tensor(&constant("running_var", 1.0)?)?,
        })
    }

    /// Normalizes, adds the residual if there is one, and applies a ReLU if asked to.
    ///
    /// # Shapes
    ///
    /// - `maps`, `residual`, result: f32 `[batch, height, width, channels]`
    ///
    /// # Errors
    ///
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        maps: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        mode: Mode,
    ) -> Result<Tensor> {
        let Self { weight, bias, running_mean, running_var } = self;
        match mode {
            Mode::Train => {
                let output = batch_norm_train(maps, weight, bias, residual, relu, EPSILON)?;
                move_towards(running_mean, &output.mean)?;
                move_towards(running_var, &output.variance)?;
                Ok(output.maps)
            }
            Mode::Evaluate => batch_norm_eval(
                maps,
                weight,
                bias,
                running_mean,
                running_var,
                residual,
                relu,
                EPSILON,
            ),
        }
    }
}

fn move_towards(running: &Var, batch: &Tensor) -> Result<()> {
    let kept = (running.as_detached_tensor() * (1.0 - MOMENTUM))?;
    running.set(&(kept + (batch * MOMENTUM)?)?)
}
