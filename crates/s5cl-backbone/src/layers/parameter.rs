//! How a network's parameters are computed from variables.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use s5cl_kernels::scale_rows;

/// What the network is given, and the variables that it is computed from.
pub(super) struct Parameter {
    pub(super) value: Value,
    pub(super) names: Vec<String>,
    pub(super) is_norm: bool,
}

/// How a parameter of the network is computed from variables. Gradients flow through candle.
pub(super) enum Value {
    Variable(Tensor),
    /// Layer scale belongs to the layer before it: weight or bias times a factor each output.
    Scaled(Tensor, Tensor),
    /// The class token and registers, the first of which have positions.
    Prefix {
        class: Tensor,
        registers: Option<Tensor>,
        positions: Tensor,
        n_positioned: usize,
    },
    /// Rows of `[1, rows, dim]` from one on.
    Rows(Tensor, usize),
}

impl Value {
    pub(super) fn compute(&self) -> Result<Tensor> {
        match self {
            Self::Variable(tensor) => Ok(tensor.clone()),
            Self::Scaled(tensor, scale) if tensor.rank() == 1 => tensor * scale,
            Self::Scaled(tensor, scale) => scale_rows(tensor, scale),
            Self::Prefix { class, registers, positions, n_positioned } => {
                let mut prefix = class.squeeze(0)?;
                if let Some(registers) = registers {
                    prefix = Tensor::cat(&[&prefix, &registers.squeeze(0)?], 0)?;
                }
                let positions = positions.squeeze(0)?;
                match *n_positioned {
                    0 => Ok(prefix),
                    n if n == prefix.dim(0)? => prefix + positions.narrow(0, 0, n)?,
                    n => {
                        let first = (prefix.narrow(0, 0, n)? + positions.narrow(0, 0, n)?)?;
                        let rest = prefix.narrow(0, n, prefix.dim(0)? - n)?;
                        Tensor::cat(&[&first, &rest], 0)
                    }
                }
            }
            Self::Rows(rows, first) => {
                let rows = rows.squeeze(0)?;
                rows.narrow(0, *first, rows.dim(0)? - first)
            }
        }
    }
}

pub(super) fn full_name(builder: &VarBuilder<'_>, name: &str) -> String {
    match builder.prefix() {
        prefix if prefix.is_empty() => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    }
}
