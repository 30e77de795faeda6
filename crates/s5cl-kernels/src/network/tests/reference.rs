//! A network in f64, forth and back, value by value from its definition; none of the kernels' code.

use crate::{Conv2dConfig, Maps, Network};

/// What normalization adds to a variance.
pub(super) const EPSILON: f64 = 1e-5;

/// `[batch, height, width, channels]`.
pub(super) type Shape = [usize; 4];

/// A layer; its input is 0 for the images, `i + 1` for step `i`.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// With the weight's shape.
    Conv(usize, Shape, Conv2dConfig),
    Norm {
        input: usize,
        residual: Option<usize>,
        relu: bool,
    },
    /// Kernel, stride and padding.
    Pool(usize, [usize; 3]),
    Average(usize),
}

/// A network's layers and the shape of its images.
pub(super) struct Plain {
    pub(super) images: Shape,
    pub(super) steps: Vec<Step>,
}

/// What a forward pass leaves behind.
pub(super) struct Pass {
    /// The images, and what each step gives.
    pub(super) maps: Vec<Vec<f64>>,
    /// Mean and biased variance by which each normalization was done.
    pub(super) moments: Vec<Moments>,
}

/// Of each channel.
#[derive(Clone)]
pub(super) struct Moments {
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
}

pub(super) fn len(shape: Shape) -> usize {
    shape.iter().product()
}

fn at(shape: Shape, place: Shape) -> usize {
    place.iter().zip(shape).fold(0, |index, (place, size)| index * size + place)
}

impl Plain {
    /// Of the images, and of what each step gives.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let mut shapes = vec![self.images];
        for step in &self.steps {
            let out = |size: usize, reach: usize, stride: usize, padding: usize| {
                (size + 2 * padding - reach) / stride + 1
            };
            shapes.push(match *step {
                Step::Conv(input, [channels, _, kh, kw], config) => {
                    let [batch, height, width, _] = shapes[input];
                    let side = |size, kernel: usize| {
                        let reach = config.dilation * (kernel - 1) + 1;
                        out(size, reach, config.stride, config.padding)
                    };
                    [batch, side(height, kh), side(width, kw), channels]
                }
                Step::Norm { input, .. } => shapes[input],
                Step::Pool(input, [kernel, stride, padding]) => {
                    let [batch, height, width, channels] = shapes[input];
                    let side = |size| out(size, kernel, stride, padding);
                    [batch, side(height), side(width), channels]
                }
                Step::Average(input) => [shapes[input][0], 1, 1, shapes[input][3]],
            });
        }
        shapes
    }

    /// Of the parameters, in order.
    pub(super) fn parameters(&self) -> Vec<Vec<usize>> {
        let shapes = self.shapes();
        let mut parameters = Vec::new();
        for step in &self.steps {
            match *step {
                Step::Conv(_, weight, _) => parameters.push(weight.to_vec()),
                Step::Norm { input, .. } => {
                    parameters.extend([vec![shapes[input][3]], vec![shapes[input][3]]]);
                }
                Step::Pool(..) | Step::Average(_) => {}
            }
        }
        parameters
    }

    /// The network that is to compute the same.
    pub(super) fn network(&self) -> Network {
        let mut network = Network::new();
        let mut maps: Vec<Maps> = vec![network.images()];
        for step in &self.steps {
            maps.push(match *step {
                Step::Conv(input, _, config) => network.conv2d(maps[input], config),
                Step::Norm { input, residual, relu } => {
                    let residual = residual.map(|residual| maps[residual]);
                    network.batch_norm(maps[input], residual, relu, EPSILON)
                }
                Step::Pool(input, [kernel, stride, padding]) => {
                    network.max_pool2d(maps[input], kernel, stride, padding)
                }
                Step::Average(input) => network.global_average_pool(maps[input]),
            });
        }
        network
    }

    /// Normalizes by the batch's moments unless others are given.
    pub(super) fn forward(
        &self,
        images: &[f64],
        parameters: &[Vec<f64>],
        known: Option<&[Moments]>,
    ) -> Pass {
        let shapes = self.shapes();
        let mut pass = Pass { maps: vec![images.to_vec()], moments: Vec::new() };
        let mut parameters = parameters.iter();
        for (step, &shape) in self.steps.iter().zip(&shapes[1..]) {
            let mut out = vec![0.0; len(shape)];
            match *step {
                Step::Conv(input, weight_shape, config) => {
                    let (maps, weight) = (&pass.maps[input], parameters.next().unwrap());
                    each_product(shapes[input], weight_shape, shape, config, |m, w, o| {
                        out[o] += maps[m] * weight[w];
                    });
                }
                Step::Norm { input, residual, relu } => {
                    let maps = &pass.maps[input];
                    let [weight, bias] = [(); 2].map(|()| parameters.next().unwrap());
                    let moments = match known {
                        Some(known) => known[pass.moments.len()].clone(),
                        None => moments(maps, shape[3]),
                    };
                    for (i, out) in out.iter_mut().enumerate() {
                        let c = i % shape[3];
                        let deviation = (moments.variance[c] + EPSILON).sqrt();
                        let sum = (maps[i] - moments.mean[c]) / deviation * weight[c] + bias[c];
                        let sum = sum + residual.map_or(0.0, |residual| pass.maps[residual][i]);
                        *out = if relu { sum.max(0.0) } else { sum };
                    }
                    pass.moments.push(moments);
                }
                Step::Pool(input, window) => {
                    for (out, winner) in
                        out.iter_mut().zip(winners(&pass.maps[input], shapes[input], shape, window))
                    {
                        *out = pass.maps[input][winner];
                    }
                }
                Step::Average(input) => {
                    let [_, height, width, channels] = shapes[input];
                    let pixels = height * width;
                    for (i, value) in pass.maps[input].iter().enumerate() {
                        let image = i / (pixels * channels);
                        out[image * channels + i % channels] += value / pixels as f64;
                    }
                }
            }
            pass.maps.push(out);
        }
        pass
    }

    /// The gradients of the images and of the parameters, in order, for `above`, the result's;
    /// the moments are the batch's.
    pub(super) fn backward(
        &self,
        pass: &Pass,
        parameters: &[Vec<f64>],
        above: &[f64],
    ) -> (Vec<f64>, Vec<Vec<f64>>) {
        let shapes = self.shapes();
        let mut gradients: Vec<Vec<f64>> = pass.maps.iter().map(|m| vec![0.0; m.len()]).collect();
        let mut of_parameters: Vec<Vec<f64>> =
            parameters.iter().map(|p| vec![0.0; p.len()]).collect();
        gradients[self.steps.len()] = above.to_vec();
        let (mut parameter, mut norm) = (parameters.len(), pass.moments.len());
        for (index, step) in self.steps.iter().enumerate().rev() {
            let shape = shapes[index + 1];
            let gradient = std::mem::take(&mut gradients[index + 1]);
            match *step {
                Step::Conv(input, weight_shape, config) => {
                    parameter -= 1;
                    let (maps, weight) = (&pass.maps[input], &parameters[parameter]);
                    let of_weight = &mut of_parameters[parameter];
                    let of_maps = &mut gradients[input];
                    each_product(shapes[input], weight_shape, shape, config, |m, w, o| {
                        of_maps[m] += gradient[o] * weight[w];
                        of_weight[w] += gradient[o] * maps[m];
                    });
                }
                Step::Norm { input, residual, relu } => {
                    (parameter, norm) = (parameter - 2, norm - 1);
                    let (maps, moments) = (&pass.maps[input], &pass.moments[norm]);
                    let (channels, rows) = (shape[3], (len(shape) / shape[3]) as f64);
                    let masked = |i: usize| {
                        if relu && pass.maps[index + 1][i] <= 0.0 { 0.0 } else { gradient[i] }
                    };
                    for c in 0..channels {
                        let inverse = (moments.variance[c] + EPSILON).sqrt().recip();
                        let normalized = |i: usize| (maps[i] - moments.mean[c]) * inverse;
                        let of_channel = || (c..len(shape)).step_by(channels);
                        let bias: f64 = of_channel().map(masked).sum();
                        let weight: f64 = of_channel().map(|i| masked(i) * normalized(i)).sum();
                        for i in of_channel() {
                            let centered = masked(i) - bias / rows - normalized(i) * weight / rows;
                            gradients[input][i] += parameters[parameter][c] * inverse * centered;
                            if let Some(residual) = residual {
                                gradients[residual][i] += masked(i);
                            }
                        }
                        of_parameters[parameter][c] = weight;
                        of_parameters[parameter + 1][c] = bias;
                    }
                }
                Step::Pool(input, window) => {
                    let winners = winners(&pass.maps[input], shapes[input], shape, window);
                    for (winner, gradient) in winners.into_iter().zip(gradient) {
                        gradients[input][winner] += gradient;
                    }
                }
                Step::Average(input) => {
                    let [_, height, width, channels] = shapes[input];
                    let pixels = height * width;
                    for (i, of_map) in gradients[input].iter_mut().enumerate() {
                        let image = i / (pixels * channels);
                        *of_map += gradient[image * channels + i % channels] / pixels as f64;
                    }
                }
            }
        }
        (gradients.swap_remove(0), of_parameters)
    }
}

/// Tells where maps, weight and output meet: each output is the sum of such products.
fn each_product(
    maps: Shape,
    weight: Shape,
    output: Shape,
    config: Conv2dConfig,
    mut product: impl FnMut(usize, usize, usize),
) {
    let Conv2dConfig { stride, padding, dilation, groups } = config;
    let per_group = output[3] / groups;
    let source = |out: usize, tap: usize, size: usize| {
        (out * stride + tap * dilation).checked_sub(padding).filter(|&source| source < size)
    };
    for pixel in 0..len(output) / output[3] {
        let (n, y, x) =
            (pixel / (output[1] * output[2]), pixel / output[2] % output[1], pixel % output[2]);
        for (u, v) in (0..weight[2]).flat_map(|u| (0..weight[3]).map(move |v| (u, v))) {
            let (from_y, from_x) = (source(y, u, maps[1]), source(x, v, maps[2]));
            let (Some(from_y), Some(from_x)) = (from_y, from_x) else { continue };
            for o in 0..output[3] {
                for c in 0..weight[1] {
                    let channel = o / per_group * weight[1] + c;
                    let m = at(maps, [n, from_y, from_x, channel]);
                    product(m, at(weight, [o, c, u, v]), pixel * output[3] + o);
                }
            }
        }
    }
}

fn moments(maps: &[f64], channels: usize) -> Moments {
    let of_channel = |c: usize| maps.iter().skip(c).step_by(channels);
    let rows = (maps.len() / channels) as f64;
    let mean: Vec<f64> = (0..channels).map(|c| of_channel(c).sum::<f64>() / rows).collect();
    let squares = |c: usize| of_channel(c).map(|value| (value - mean[c]).powi(2)).sum::<f64>();
    let variance = (0..channels).map(|c| squares(c) / rows).collect();
    Moments { mean, variance }
}

/// Where each output's value is from: the first largest value of its window.
fn winners(
    maps: &[f64],
    shape: Shape,
    [_, height, width, channels]: Shape,
    [kernel, stride, padding]: [usize; 3],
) -> Vec<usize> {
    let mut winners = Vec::new();
    let places = (0..shape[0] * height * width * channels).map(|i| {
        let (pixel, channel) = (i / channels, i % channels);
        [pixel / (height * width), pixel / width % height, pixel % width, channel]
    });
    for [n, y, x, channel] in places {
        let side = |out: usize, size: usize| {
            let start = out * stride;
            let reached = start.max(padding)..(start + kernel).min(size + padding);
            reached.map(move |place| place - padding)
        };
        let window = side(y, shape[1])
            .flat_map(|y| side(x, shape[2]).map(move |x| at(shape, [n, y, x, channel])));
        // `max_by` would give the last of several.
        let first =
            window.reduce(|best, place| if maps[place] > maps[best] { place } else { best });
        winners.push(first.unwrap());
    }
    winners
}
