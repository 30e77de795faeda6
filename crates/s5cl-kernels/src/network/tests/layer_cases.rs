//! Networks of transformers' and other newer layers.

use super::reference::Shape;
use crate::activation::Activation::{Gelu, Silu};
use crate::tokens::TokenPool;
use crate::{Conv2dConfig, Maps, Network};

const EPSILON: f64 = 1e-5;

/// A network that is built with the shapes of its parameters beside it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) images: Shape,
    pub(super) network: Network,
    pub(super) shapes: Vec<Vec<usize>>,
    /// Channels of each batch normalization.
    pub(super) norms: Vec<usize>,
}

impl Case {
    fn new(name: &'static str, images: Shape) -> (Self, Maps) {
        let network = Network::new();
        let maps = network.images();
        (Self { name, images, network, shapes: Vec::new(), norms: Vec::new() }, maps)
    }

    fn conv(&mut self, maps: Maps, weight: Shape, config: Conv2dConfig) -> Maps {
        self.shapes.push(weight.to_vec());
        self.network.conv2d(maps, config)
    }

    fn conv_with_bias(&mut self, maps: Maps, weight: Shape, config: Conv2dConfig) -> Maps {
        self.shapes.extend([weight.to_vec(), vec![weight[0]]]);
        self.network.conv2d_with_bias(maps, None, config)
    }

    fn linear(&mut self, maps: Maps, residual: Option<Maps>, [out, of]: [usize; 2]) -> Maps {
        self.shapes.extend([vec![out, of], vec![out]]);
        self.network.conv2d_with_bias(maps, residual, Conv2dConfig::same(1))
    }

    fn batch_norm(&mut self, maps: Maps, residual: Option<Maps>, relu: bool, of: usize) -> Maps {
        self.shapes.extend([vec![of], vec![of]]);
        self.norms.push(of);
        self.network.batch_norm(maps, residual, relu, EPSILON)
    }

    fn layer_norm(&mut self, maps: Maps, of: usize) -> Maps {
        self.shapes.extend([vec![of], vec![of]]);
        self.network.layer_norm(maps, EPSILON)
    }
}

/// Patches, a class token and two registers, a block with attention and one with a gated unit.
fn vision_transformer(pool: TokenPool) -> Case {
    const DIM: usize = 24;
    let (mut case, images) = Case::new("vision transformer", [2, 12, 8, 3]);
    let stride = Conv2dConfig { stride: 4, padding: 0, dilation: 1, groups: 1 };
    let patches = case.conv_with_bias(images, [DIM, 3, 4, 4], stride);
    case.shapes.extend([vec![3, DIM], vec![6, DIM]]);
    let mut tokens = case.network.tokens(patches);
    for is_gated in [false, true] {
        let normal = case.layer_norm(tokens, DIM);
        let operands = case.linear(normal, None, [3 * DIM, DIM]);
        let attended = case.network.attention(operands, 3);
        tokens = case.linear(attended, Some(tokens), [DIM, DIM]);
        let normal = case.layer_norm(tokens, DIM);
        let wide = case.linear(normal, None, [2 * DIM, DIM]);
        let (hidden, width) = match is_gated {
            false => (case.network.activation(wide, Gelu), 2 * DIM),
            true => (case.network.gated_unit(wide), DIM),
        };
        tokens = case.linear(hidden, Some(tokens), [DIM, width]);
    }
    let normal = case.layer_norm(tokens, DIM);
    case.network.pool_tokens(normal, pool, 3);
    case
}

/// A block of a ConvNeXt behind its stem, and what makes a vector of it.
fn conv_next() -> Case {
    const DIM: usize = 16;
    let (mut case, images) = Case::new("ConvNeXt", [2, 12, 20, 3]);
    let stride = Conv2dConfig { stride: 4, padding: 0, dilation: 1, groups: 1 };
    let stem = case.conv_with_bias(images, [DIM, 3, 4, 4], stride);
    let stem = case.layer_norm(stem, DIM);
    let depthwise = Conv2dConfig { groups: DIM, ..Conv2dConfig::same(7) };
    let maps = case.conv_with_bias(stem, [DIM, 1, 7, 7], depthwise);
    let maps = case.layer_norm(maps, DIM);
    let maps = case.linear(maps, None, [4 * DIM, DIM]);
    let maps = case.network.activation(maps, Gelu);
    let maps = case.linear(maps, Some(stem), [DIM, 4 * DIM]);
    let mean = case.network.global_average_pool(maps);
    case.layer_norm(mean, DIM);
    case
}

/// Inverted bottleneck with squeeze and excitation, whose channels are no multiple of a vector.
fn mb_conv() -> Case {
    let (mut case, images) = Case::new("MBConv", [3, 9, 8, 3]);
    let stem =
        case.conv(images, [12, 3, 3, 3], Conv2dConfig { stride: 2, ..Conv2dConfig::same(3) });
    let stem = case.batch_norm(stem, None, false, 12);
    let stem = case.network.activation(stem, Silu);
    let maps = case.conv(stem, [36, 12, 1, 1], Conv2dConfig::same(1));
    let maps = case.batch_norm(maps, None, false, 36);
    let maps = case.network.activation(maps, Silu);
    let depthwise = Conv2dConfig { groups: 36, ..Conv2dConfig::same(3) };
    let maps = case.conv(maps, [36, 1, 3, 3], depthwise);
    let maps = case.batch_norm(maps, None, false, 36);
    let maps = case.network.activation(maps, Silu);
    let squeezed = case.network.global_average_pool(maps);
    let squeezed = case.linear(squeezed, None, [5, 36]);
    let squeezed = case.network.activation(squeezed, Silu);
    let logits = case.linear(squeezed, None, [36, 5]);
    let maps = case.network.gate(maps, logits);
    let maps = case.conv(maps, [12, 36, 1, 1], Conv2dConfig::same(1));
    let maps = case.batch_norm(maps, Some(stem), false, 12);
    case.network.global_average_pool(maps);
    case
}

/// A residual block with its normalizations in front, as in a Wide ResNet.
fn pre_activation() -> Case {
    let (mut case, images) = Case::new("pre-activation", [2, 10, 8, 3]);
    let stem = case.conv(images, [16, 3, 3, 3], Conv2dConfig::same(3));
    let maps = case.batch_norm(stem, None, true, 16);
    let maps = case.conv(maps, [16, 16, 3, 3], Conv2dConfig::same(3));
    let maps = case.batch_norm(maps, None, true, 16);
    case.shapes.push(vec![16, 16, 3, 3]);
    let maps = case.network.conv2d_with_residual(maps, stem, Conv2dConfig::same(3));
    let maps = case.batch_norm(maps, None, true, 16);
    case.network.global_average_pool(maps);
    case
}

/// Ways in which layers hang together that no encoder has.
fn unusual() -> Vec<Case> {
    let (mut adds_images, images) = Case::new("adds the images", [2, 5, 4, 3]);
    let maps = adds_images.linear(images, Some(images), [3, 3]);
    let sum = adds_images.network.sum(maps, images);
    adds_images.layer_norm(sum, 3);

    let (mut ends_with_attention, images) = Case::new("ends with attention", [2, 1, 70, 6]);
    ends_with_attention.network.attention(images, 1);

    let (mut behind_a_pool, images) = Case::new("goes on behind a pool", [3, 2, 3, 8]);
    behind_a_pool.shapes.extend([vec![1, 8], vec![6, 8]]);
    let tokens = behind_a_pool.network.tokens(images);
    let pooled = behind_a_pool.network.pool_tokens(tokens, TokenPool::ClassAndMean, 1);
    let hidden = behind_a_pool.linear(pooled, None, [8, 16]);
    let hidden = behind_a_pool.network.activation(hidden, Silu);
    let sum = behind_a_pool.network.sum(hidden, hidden);
    behind_a_pool.layer_norm(sum, 8);
    vec![adds_images, ends_with_attention, behind_a_pool]
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        vision_transformer(TokenPool::ClassAndMean),
        vision_transformer(TokenPool::Class),
        conv_next(),
        mb_conv(),
        pre_activation(),
    ];
    all.extend(unusual());
    all
}
