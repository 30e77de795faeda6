//! The three passes against the definition in f64, with each algorithm and instruction set.

use candle_core::{DType, Device, Result, Var};

use super::direct::Direct;
use super::geometry::Geometry;
use super::weight_gradient::weight_gradient;
use super::{Conv2dConfig, conv2d};
use crate::batch_norm::affine::Affine;
use crate::checks::{draw, refusal, same_on_any_threads};
use crate::product::{Finish, Start};
use crate::simd::with_each_instruction_set;
use crate::winograd::{self, Winograd};

/// Sums of a few thousand f32 products, against the largest value.
const DIRECT: f64 = 2e-6;
/// Winograd's transforms subtract values of the same size.
const WINOGRAD: f64 = 4e-6;
/// How many times direct's mean error Winograd's may be. It is about twice: nine times fewer
/// products are summed, but the sums are magnified by the transform back, where they cancel. Tiles
/// or points that cancel more than these would reach the limit; another drawing does not.
const WINOGRAD_FACTOR: f64 = 8.0;

struct Case {
    geometry: Geometry,
    maps: Vec<f32>,
    weight: Vec<f32>,
    gradient: Vec<f32>,
}

/// Output, gradient of the maps, gradient of the weight, in f64.
struct Reference {
    output: Vec<f64>,
    for_maps: Vec<f64>,
    for_weight: Vec<f64>,
}

impl Case {
    fn new(maps: [usize; 4], weight: [usize; 4], config: Conv2dConfig) -> Self {
        let geometry = Geometry::new(&maps, &weight, config).unwrap();
        Self {
            geometry,
            maps: draw(1, maps.iter().product()),
            weight: draw(2, weight.iter().product()),
            gradient: draw(3, geometry.batch * geometry.output.len()),
        }
    }

    fn reference(&self) -> Reference {
        let Geometry { batch, input, output, kernel, config } = self.geometry;
        let (inputs, outputs) = (self.geometry.group_inputs(), self.geometry.group_outputs());
        let mut reference = Reference {
            output: vec![0.0; self.gradient.len()],
            for_maps: vec![0.0; self.maps.len()],
            for_weight: vec![0.0; self.weight.len()],
        };
        let at = |o: usize, k: usize, len: usize| {
            let at = o * config.stride + k * config.dilation;
            at.checked_sub(config.padding).filter(|&at| at < len)
        };
        for pixel in 0..batch * output.pixels() {
            let (image, pixel) = (pixel / output.pixels(), pixel % output.pixels());
            for u in 0..kernel.0 {
                for v in 0..kernel.1 {
                    let y = at(pixel / output.width, u, input.height);
                    let x = at(pixel % output.width, v, input.width);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    for o in 0..output.channels {
                        for c in 0..inputs {
                            let m = ((image * input.height + y) * input.width + x) * input.channels
                                + o / outputs * inputs
                                + c;
                            let w = ((o * inputs + c) * kernel.0 + u) * kernel.1 + v;
                            let g = (image * output.pixels() + pixel) * output.channels + o;
                            let [map, weight, gradient] =
                                [self.maps[m], self.weight[w], self.gradient[g]].map(f64::from);
                            reference.output[g] += map * weight;
                            reference.for_maps[m] += gradient * weight;
                            reference.for_weight[w] += gradient * map;
                        }
                    }
                }
            }
        }
        reference
    }

    fn check_direct(&self, reference: &Reference) {
        let what = format!("{:?}", self.geometry);
        let mut out = vec![f32::NAN; self.gradient.len()];
        Direct::forward(&self.geometry, &self.weight).run(&self.maps, &mut out, Finish::OVERWRITE);
        assert_close(&what, &out, &reference.output, DIRECT);
        let mut out = vec![f32::NAN; self.maps.len()];
        let direct = Direct::input_gradient(&self.geometry, &self.weight);
        direct.run(&self.gradient, &mut out, Finish::OVERWRITE);
        assert_close(&what, &out, &reference.for_maps, DIRECT);
        let out = weight_gradient(&self.geometry, &self.maps, &self.gradient);
        assert_close(&what, &out, &reference.for_weight, DIRECT);
    }

    fn check_winograd(&self, reference: &Reference) {
        let what = format!("{:?}", self.geometry);
        let mut out = vec![f32::NAN; self.gradient.len()];
        let forward = Winograd::forward(&self.geometry, &self.weight);
        forward.run(&self.maps, &mut out, Finish::OVERWRITE);
        assert_close(&what, &out, &reference.output, WINOGRAD);
        let mut out = vec![f32::NAN; self.maps.len()];
        let backward = Winograd::input_gradient(&self.geometry, &self.weight);
        backward.run(&self.gradient, &mut out, Finish::OVERWRITE);
        assert_close(&what, &out, &reference.for_maps, WINOGRAD);
        let out = winograd::weight_gradient(&self.geometry, &self.maps, &self.gradient);
        assert_close(&what, &out, &reference.for_weight, WINOGRAD);
    }
}

/// Errors are measured against the largest value.
fn assert_close(what: &str, values: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(values.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let errors = values.iter().zip(expected).map(|(&value, &e)| (f64::from(value) - e).abs());
    let error = errors.fold(0.0, |worst, e| if e.is_nan() { e } else { e.max(worst) });
    assert!(error <= tolerance * largest, "{what}: error {error:e}, largest {largest}");
}

#[test]
fn direct_is_the_definition_for_any_configuration() {
    let config =
        |stride, padding, dilation, groups| Conv2dConfig { stride, padding, dilation, groups };
    let cases = [
        ([2, 7, 5, 3], [4, 3, 3, 3], config(1, 1, 1, 1)),
        ([1, 1, 1, 1], [1, 1, 1, 1], config(1, 0, 1, 1)),
        ([3, 1, 1, 5], [7, 5, 3, 3], config(1, 1, 1, 1)),
        ([9, 2, 2, 6], [33, 6, 3, 3], config(1, 1, 1, 1)),
        ([2, 13, 11, 3], [20, 3, 7, 7], config(2, 3, 1, 1)),
        ([2, 8, 9, 16], [70, 16, 1, 1], config(2, 0, 1, 1)),
        ([1, 12, 6, 4], [6, 2, 3, 2], config(1, 2, 2, 2)),
        ([2, 9, 14, 6], [6, 1, 3, 3], config(2, 1, 1, 6)),
        ([2, 6, 17, 8], [129, 8, 2, 5], config(3, 4, 1, 1)),
        ([1, 3, 3, 2], [3, 2, 1, 1], config(1, 2, 1, 1)),
        ([1, 40, 30, 5], [65, 5, 3, 3], config(1, 1, 3, 1)),
    ];
    for (maps, weight, config) in cases {
        let case = Case::new(maps, weight, config);
        let reference = case.reference();
        with_each_instruction_set(|| case.check_direct(&reference));
    }
}

#[test]
fn winograd_is_the_definition() {
    let config = |padding| Conv2dConfig { padding, ..Conv2dConfig::same(3) };
    let cases = [
        ([1, 4, 4, 16], [16, 16, 3, 3], config(1)),
        ([2, 7, 7, 32], [48, 32, 3, 3], config(1)),
        ([1, 9, 14, 64], [80, 64, 3, 3], config(1)),
        ([3, 1, 3, 16], [64, 16, 3, 3], config(1)),
        ([2, 6, 11, 16], [16, 16, 3, 3], config(0)),
        ([2, 5, 8, 16], [32, 16, 3, 3], config(2)),
        ([2, 57, 31, 16], [16, 16, 3, 3], config(1)),
    ];
    for (maps, weight, config) in cases {
        let case = Case::new(maps, weight, config);
        let reference = case.reference();
        with_each_instruction_set(|| case.check_winograd(&reference));
    }
}

#[test]
fn winograd_of_maps_of_any_size_is_the_definition() {
    for (height, width) in (1..10).flat_map(|height| (1..10).map(move |width| (height, width))) {
        for padding in 0..3 {
            if height.min(width) + 2 * padding < 3 {
                continue;
            }
            let config = Conv2dConfig { padding, ..Conv2dConfig::same(3) };
            let case = Case::new([2, height, width, 16], [16, 16, 3, 3], config);
            case.check_winograd(&case.reference());
        }
    }
}

/// Their golden values are to be values of Winograd's convolution too.
#[test]
fn winograd_pays_in_the_golden_resnets() {
    for maps in [[3, 31, 35, 32], [3, 31, 47, 32]] {
        let geometry = Geometry::new(&maps, &[32, 32, 3, 3], Conv2dConfig::same(3)).unwrap();
        assert!(winograd::pays(&geometry), "{geometry:?}");
    }
}

#[test]
fn conv2d_has_the_same_bits_on_any_threads() {
    let cases = [
        // For itself, by Winograd, in groups, each channel alone, and with more weights than pixels.
        ([3, 31, 26, 3], [20, 3, 7, 7], Conv2dConfig { stride: 2, ..Conv2dConfig::same(7) }, false),
        ([3, 21, 19, 64], [64, 64, 3, 3], Conv2dConfig::same(3), true),
        ([5, 13, 8, 6], [6, 2, 3, 3], Conv2dConfig { groups: 3, ..Conv2dConfig::same(3) }, false),
        ([2, 3, 2, 96], [70, 96, 3, 3], Conv2dConfig::same(3), false),
    ];
    for (maps, weight, config, is_winograds) in cases {
        let case = Case::new(maps, weight, config);
        assert_eq!(winograd::pays(&case.geometry), is_winograds, "{:?}", case.geometry);
        same_on_any_threads(|| {
            let mut output = vec![f32::NAN; case.gradient.len()];
            let finish = Finish::OVERWRITE;
            super::forward(&case.geometry, &case.maps, &case.weight, &mut output, finish);
            let (geometry, gradient) = (&case.geometry, &case.gradient);
            let mut for_maps = vec![f32::NAN; case.maps.len()];
            super::input_gradient(geometry, &case.weight, gradient, &mut for_maps, finish);
            let for_weight = super::weight_gradient(geometry, &case.maps, gradient);
            Ok([output, for_maps, for_weight].concat())
        });
    }
}

#[test]
fn winograd_error_stays_close_to_directs() {
    let case = Case::new([1, 12, 12, 256], [32, 256, 3, 3], Conv2dConfig::same(3));
    let (geometry, reference) = (&case.geometry, case.reference());
    case.check_direct(&reference);
    case.check_winograd(&reference);
    let mut direct = vec![f32::NAN; case.gradient.len()];
    Direct::forward(geometry, &case.weight).run(&case.maps, &mut direct, Finish::OVERWRITE);
    let mut winograd = vec![f32::NAN; case.gradient.len()];
    Winograd::forward(geometry, &case.weight).run(&case.maps, &mut winograd, Finish::OVERWRITE);
    let [direct, winograd] = [direct, winograd].map(|out| mean_error(&out, &reference.output));
    let factor = winograd / direct;
    assert!(factor < WINOGRAD_FACTOR, "errors {winograd:e} and {direct:e}: {factor} times");
}

/// The root of the mean of the squared errors.
fn mean_error(values: &[f32], expected: &[f64]) -> f64 {
    let errors = values.iter().zip(expected).map(|(&value, &e)| f64::from(value) - e);
    (errors.map(|error| error * error).sum::<f64>() / values.len() as f64).sqrt()
}

/// As the documentation of `conv2d` says.
#[test]
fn winograd_of_an_infinite_pixel_is_no_number_in_its_tile() {
    const SIDE: usize = 12;
    // Every place along the second tile, and the outputs of the tiles that read it.
    for (place, reached) in [(4, 0..8), (5, 4..8), (6, 4..8), (7, 4..12)] {
        let mut case = Case::new([1, SIDE, SIDE, 16], [16, 16, 3, 3], Conv2dConfig::same(3));
        case.maps[(place * SIDE + place) * 16] = f32::INFINITY;
        let mut out = vec![0.0; case.gradient.len()];
        let forward = Winograd::forward(&case.geometry, &case.weight);
        forward.run(&case.maps, &mut out, Finish::OVERWRITE);
        for (pixel, values) in out.chunks_exact(16).enumerate() {
            let (y, x) = (pixel / SIDE, pixel % SIDE);
            if (4..8).contains(&y) && (4..8).contains(&x) {
                assert!(values.iter().all(|value| value.is_nan()), "{place}: {y}, {x}");
            } else if !(reached.contains(&y) && reached.contains(&x)) {
                assert!(values.iter().all(|value| value.is_finite()), "{place}: {y}, {x}");
            }
        }
    }
}

#[test]
fn conv2d_refuses_maps_and_weights_without_channels() -> Result<()> {
    for (maps, weight) in [([1, 4, 4, 0], [8, 0, 3, 3]), ([1, 4, 4, 3], [0, 3, 3, 3])] {
        let shapes = format!("maps {maps:?} and weight {weight:?}");
        let maps = Var::zeros(&maps, DType::F32, &Device::Cpu)?;
        let weight = Var::zeros(&weight, DType::F32, &Device::Cpu)?;
        let message = refusal(conv2d(&maps, &weight, Conv2dConfig::same(3)));
        assert!(message.contains("conv2d: ") && message.contains(&shapes), "{message}");
    }
    Ok(())
}

#[test]
fn finish_scales_adds_and_clips() {
    let case = Case::new([2, 6, 9, 16], [32, 16, 3, 3], Conv2dConfig::same(3));
    let start = draw(5, case.gradient.len());
    let affine = Affine { scale: draw(6, 32), shift: draw(7, 32) };
    let mut expected = case.reference().output;
    for (i, value) in expected.iter_mut().enumerate() {
        let [scale, shift, start] =
            [affine.scale[i % 32], affine.shift[i % 32], start[i]].map(f64::from);
        *value = (*value * scale + shift + start).max(0.0);
    }
    let others = [Start::Other(&start), Start::Output];
    for start_from in others {
        let finish = Finish { start: start_from, affine: Some(&affine), relu: true };
        let mut out = start.clone();
        Direct::forward(&case.geometry, &case.weight).run(&case.maps, &mut out, finish);
        assert_close("direct", &out, &expected, DIRECT);
        let mut out = start.clone();
        Winograd::forward(&case.geometry, &case.weight).run(&case.maps, &mut out, finish);
        assert_close("winograd", &out, &expected, WINOGRAD);
    }
}

#[test]
fn depthwise_is_the_definition() {
    let config = |channels, stride, padding, dilation| Conv2dConfig {
        stride,
        padding,
        dilation,
        groups: channels,
    };
    let cases = [
        ([2, 9, 14, 6], [6, 1, 3, 3], config(6, 1, 1, 1)),
        ([1, 1, 1, 33], [33, 1, 7, 7], config(33, 1, 3, 1)),
        ([3, 8, 5, 16], [16, 1, 7, 7], config(16, 1, 3, 1)),
        ([2, 13, 20, 20], [20, 1, 3, 3], config(20, 2, 1, 1)),
        ([1, 12, 11, 5], [5, 1, 2, 3], config(5, 3, 2, 2)),
        ([9, 31, 40, 40], [40, 1, 5, 5], config(40, 1, 2, 1)),
    ];
    for (maps, weight, config) in cases {
        let case = Case::new(maps, weight, config);
        let (what, reference) = (format!("{:?}", case.geometry), case.reference());
        with_each_instruction_set(|| {
            let (geometry, finish) = (&case.geometry, Finish::OVERWRITE);
            let mut out = vec![f32::NAN; case.gradient.len()];
            super::forward(geometry, &case.maps, &case.weight, &mut out, finish);
            assert_close(&what, &out, &reference.output, DIRECT);
            let mut out = vec![f32::NAN; case.maps.len()];
            super::input_gradient(geometry, &case.weight, &case.gradient, &mut out, finish);
            assert_close(&what, &out, &reference.for_maps, DIRECT);
            let out = super::weight_gradient(geometry, &case.maps, &case.gradient);
            assert_close(&what, &out, &reference.for_weight, DIRECT);
        });
    }
}

#[test]
fn depthwise_shifts_adds_and_clips_what_is_asked_for() {
    let case = Case::new(
        [2, 7, 9, 19],
        [19, 1, 3, 3],
        Conv2dConfig { groups: 19, ..Conv2dConfig::same(3) },
    );
    let (shift, other) = (draw(4, 19), draw(5, case.gradient.len()));
    let affine = Affine::shift(&shift);
    let finish = Finish { start: Start::Other(&other), affine: Some(&affine), relu: true };
    let reference = case.reference().output.into_iter().enumerate();
    let expected =
        reference.map(|(i, sum)| (sum + f64::from(shift[i % 19]) + f64::from(other[i])).max(0.0));
    let expected: Vec<f64> = expected.collect();
    with_each_instruction_set(|| {
        let mut out = vec![f32::NAN; case.gradient.len()];
        super::forward(&case.geometry, &case.maps, &case.weight, &mut out, finish);
        assert_close("finished", &out, &expected, DIRECT);
    });
}
