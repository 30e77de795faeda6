//! Layers that are neither convolution nor batch normalization nor pooling.

use candle_core::{Result, bail};

use crate::activation::Activation;
use crate::conv2d::geometry::Map;
use crate::tokens::TokenPool;

/// What such a layer computes. Tokens are maps of one row: height 1, as many pixels as tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    /// Over the channels of each pixel; parameters are weight and bias, `[channels]`.
    LayerNorm { epsilon: f64 },
    /// Of each value.
    Activation(Activation),
    /// SwiGLU, which halves the channels.
    GatedUnit,
    /// The other maps, one pixel an image, are logits of the share of each channel.
    Gate,
    /// With the other maps.
    Sum,
    /// Over `[query, key, value]`, which it leaves a third of the channels of.
    Attention { n_heads: usize },
    /// Patches to tokens; parameters are the prefix, `[n_prefix, channels]`, and the patches'
    /// positions, `[pixels, channels]`.
    Tokens,
    /// Tokens to one pixel, with so many of them before those of the patches.
    PoolTokens { pool: TokenPool, n_prefix: usize },
}

impl Operation {
    pub(super) fn n_parameters(self) -> usize {
        match self {
            Self::LayerNorm { .. } | Self::Tokens => 2,
            Self::Activation(_)
            | Self::GatedUnit
            | Self::Gate
            | Self::Sum
            | Self::Attention { .. }
            | Self::PoolTokens { .. } => 0,
        }
    }

    /// What it makes of maps, other maps and parameters of these shapes.
    pub(super) fn output(
        self,
        map: Map,
        other: Option<Map>,
        parameters: &[&[usize]],
    ) -> Result<Map> {
        let Map { channels, .. } = map;
        let n_tokens = map.pixels();
        match self {
            Self::LayerNorm { .. } if parameters.iter().any(|shape| *shape != [channels]) => {
                bail!("layer_norm of {map:?} got {parameters:?}")
            }
            Self::LayerNorm { .. } | Self::Activation(_) => Ok(map),
            Self::GatedUnit if !channels.is_multiple_of(2) => {
                bail!("a gated unit halves the channels, {map:?} has an odd number of them")
            }
            Self::GatedUnit => Ok(Map { channels: channels / 2, ..map }),
            Self::Gate if other != Some(Map { height: 1, width: 1, channels }) => {
                bail!("a gate of {map:?} got {other:?}")
            }
            Self::Sum if other != Some(map) => bail!("a sum of {map:?} got {other:?}"),
            Self::Gate | Self::Sum => Ok(map),
            Self::Attention { n_heads } => {
                if n_heads == 0 || !channels.is_multiple_of(3 * n_heads) || map.height != 1 {
                    bail!(
                        "attention expects tokens [query, key, value] of {n_heads} heads, got {map:?}"
                    )
                }
                Ok(Map { channels: channels / 3, ..map })
            }
            Self::Tokens => match parameters {
                [[n_prefix, of_prefix], positions]
                    if *of_prefix == channels && **positions == [n_tokens, channels] =>
                {
                    Ok(Map { height: 1, width: n_prefix + n_tokens, channels })
                }
                _ => bail!("tokens of {map:?} got prefix and positions {parameters:?}"),
            },
            Self::PoolTokens { n_prefix, .. } if map.height != 1 || n_tokens <= n_prefix => {
                bail!("expected more tokens than {n_prefix}, got {map:?}")
            }
            Self::PoolTokens { pool: TokenPool::Class | TokenPool::ClassAndMean, n_prefix: 0 } => {
                bail!("there is no class token among {map:?}")
            }
            Self::PoolTokens { pool, .. } => {
                Ok(Map { height: 1, width: 1, channels: pool.width() * channels })
            }
        }
    }
}
