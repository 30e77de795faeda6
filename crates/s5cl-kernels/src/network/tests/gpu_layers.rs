//! Networks of transformers' and other newer layers on an emulated GPU against the same on the CPU.

use candle_core::{Device, Result, Tensor, Var};
use half::{bf16, f16};

use super::on_gpu::{OnGpu, assert_near};
use super::reference::Shape;
use crate::activation::Activation::{Gelu, Silu};
use crate::checks::{draw, gradient, values};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::network::backward::Wanted;
use crate::tokens::TokenPool;
use crate::{Conv2dConfig, Maps, Network};

const EPSILON: f64 = 1e-5;

/// A network that is built with the shapes of its parameters beside it.
struct Case {
    name: &'static str,
    images: Shape,
    network: Network,
    shapes: Vec<Vec<usize>>,
    /// Channels of each batch normalization.
    norms: Vec<usize>,
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

fn cases() -> Vec<Case> {
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

/// Distances from the CPU that are allowed: against the largest value in f32, otherwise against the
/// length, twice what is measured.
struct Distances {
    values: f64,
    gradients: f64,
}

impl Distances {
    fn of<T: Stored>() -> Self {
        match T::TYPE {
            StoredType::F32 => Self { values: 1e-5, gradients: 5e-5 },
            StoredType::Bf16 => Self { values: 2e-2, gradients: 0.1 },
            StoredType::F16 => Self { values: 3e-3, gradients: 2e-2 },
        }
    }
}

/// Around 1 for the weight of a normalization, which is followed by another parameter of its shape;
/// in a size that keeps maps alive.
fn drawn(shapes: &[Vec<usize>]) -> Vec<(Vec<usize>, Vec<f32>)> {
    let parameter = |(index, shape): (usize, &Vec<usize>)| {
        let is_scale = shape.len() == 1 && shapes.get(index + 1) == Some(shape);
        let inputs: usize = shape[1..].iter().product();
        let (scale, shift) = match (shape.len(), is_scale) {
            (1, true) => (0.3, 1.0),
            (1, false) => (0.3, 0.0),
            _ => ((3.0 / inputs as f32).sqrt(), 0.0),
        };
        let values = draw(10 + index as u64, shape.iter().product());
        (shape.clone(), values.into_iter().map(|x| scale * x + shift).collect())
    };
    shapes.iter().enumerate().map(parameter).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn check<T: Stored>(gpu: &EmulatedGpu, case: &Case) -> Result<()> {
    let Case { name, images: shape, network, shapes, .. } = case;
    let Distances { values: of_values, gradients: of_gradients } = Distances::of::<T>();
    let images = draw(1, shape.iter().product());
    let parameters = drawn(shapes);
    let variable = |shape: &[usize], values: &[f32]| {
        Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu)?)
    };
    let image_variable = variable(shape, &images)?;
    let variables: Vec<Var> =
        parameters.iter().map(|(shape, of)| variable(shape, of)).collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = variables.iter().map(Var::as_tensor).collect();
    let output = network.train(&image_variable, &tensors)?;
    let above = draw(2, output.maps.elem_count());
    let weights = Tensor::from_slice(&above, output.maps.shape(), &Device::Cpu)?;
    let of_cpu = (&output.maps * weights)?.sum_all()?.backward()?;

    let mut on_gpu = OnGpu::new(gpu, network, &(*shape, images), &parameters)?;
    let wanted = Wanted { images: true, parameters: vec![true; parameters.len()] };
    let near = |what: &str, got: &[f32], expected: &[f32], distance: f64| {
        assert_near::<T>(&format!("{name}: {what}"), got, &wide(expected), distance, distance);
    };
    // The second time in memory that was used before.
    for _ in 0..2 {
        let trained = on_gpu.train::<T>();
        let result = gpu.download(&trained.result);
        near("result", &result, &values(&output.maps)?, of_values);
        let gradients = on_gpu.backward::<T>(trained, &above, &wanted);
        let all = gpu.download(&gradients.parameters);
        for (index, variable) in variables.iter().enumerate() {
            let expected = gradient(&of_cpu, variable)?;
            let start = gradients.starts[index].unwrap();
            let what = format!("gradient of parameter {index}, {:?}", variable.shape());
            near(&what, &all[start..][..expected.len()], &expected, of_gradients);
        }
        let got = gpu.download(&gradients.images.unwrap());
        near("images' gradient", &got, &gradient(&of_cpu, &image_variable)?, of_gradients);
        check_evaluation::<T>(case, &mut on_gpu, (&image_variable, &tensors), of_values)?;
    }
    Ok(())
}

/// With statistics that are not the batch's.
fn check_evaluation<T: Stored>(
    case: &Case,
    on_gpu: &mut OnGpu<'_>,
    (images, parameters): (&Tensor, &[&Tensor]),
    distance: f64,
) -> Result<()> {
    let known = case.norms.iter().enumerate().map(|(index, &of)| {
        let seed = 100 + 2 * index as u64;
        let variance = draw(seed + 1, of).into_iter().map(|v| 1.5 + v).collect();
        [draw(seed, of), variance]
    });
    let known: Vec<[Vec<f32>; 2]> = known.collect();
    let tensor = |values: &Vec<f32>| Tensor::new(&values[..], &Device::Cpu);
    let tensors: Vec<[Tensor; 2]> = known
        .iter()
        .map(|[mean, variance]| Ok([tensor(mean)?, tensor(variance)?]))
        .collect::<Result<_>>()?;
    let statistics: Vec<(&Tensor, &Tensor)> =
        tensors.iter().map(|[mean, variance]| (mean, variance)).collect();
    let expected = values(&case.network.evaluate(images, parameters, &statistics)?)?;
    let what = format!("{}: evaluation", case.name);
    assert_near::<T>(&what, &on_gpu.evaluate::<T>(&known), &wide(&expected), distance, distance);
    Ok(())
}

#[test]
fn newer_layers_on_a_gpu_are_those_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for case in cases() {
            check::<f32>(gpu, &case).unwrap();
        }
    });
}

#[test]
fn newer_layers_on_a_gpu_are_near_those_on_the_cpu_in_16_bits() {
    with_emulated_gpu(|gpu| {
        for case in cases() {
            check::<bf16>(gpu, &case).unwrap();
            check::<f16>(gpu, &case).unwrap();
        }
    });
}
