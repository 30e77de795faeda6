//! Views by the emulated kernel against those of s5cl-augment.

/// The conversion of plans that the program has: what is tested is what is used.
#[path = "../../../../xtask/src/gpu_views.rs"]
mod gpu_views;

use candle_core::Device;
use image::RgbImage;
use s5cl_augment::{AffineMap, Pipeline, Region, Transform, adjust_hue, resized_crop, warp_affine};
use s5cl_random::stream;

use gpu_views::request;

use super::launch::{Normalization, Output, Tiles};
use super::{ResidentTiles, ViewRequest, ViewStep};
use crate::checks::refusal;
use crate::cuda::Plain;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};

/// Views of a tile, more than the blocks of the emulated device take at once for two tiles.
const VIEWS: u64 = 6;

/// Colors of tissue, with neighbors far apart and black and white among them.
fn tile(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut random = stream(seed, 0, 0, 0);
    RgbImage::from_fn(width, height, |x, y| {
        let base = [150 + x % 90, 60 + y % 120, 110 + (x + y) % 140].map(|level| level as f32);
        let level = |level: f32| (level + 30.0 * random.normal()).clamp(0.0, 255.0) as u8;
        image::Rgb(base.map(level))
    })
}

fn resident(gpu: &EmulatedGpu, images: &[RgbImage]) -> Tiles<EmulatedGpu> {
    let (width, height) = images[0].dimensions();
    let shape = [height as usize, width as usize];
    let mut tiles = Tiles::allocate(gpu, images.len(), shape).unwrap();
    images.iter().for_each(|image| tiles.push(gpu, image).unwrap());
    tiles
}

fn made<T: Plain>(
    gpu: &EmulatedGpu,
    images: &[RgbImage],
    requests: &[ViewRequest],
    output: Output,
) -> Vec<T> {
    gpu.download(&resident(gpu, images).views(gpu, requests, output).unwrap())
}

/// Fails unless each view has the bytes of the expected one.
fn assert_equal(what: &str, got: &[u8], expected: &[RgbImage]) {
    let bytes_of_view = expected[0].len();
    assert_eq!(got.len(), expected.len() * bytes_of_view, "{what}");
    for (i, (got, expected)) in got.chunks_exact(bytes_of_view).zip(expected).enumerate() {
        let differs = got.iter().zip(expected.iter()).position(|(got, expected)| got != expected);
        if let Some(at) = differs {
            let (got, expected) = (got[at], expected.as_raw()[at]);
            panic!("{what}: view {i}, byte {at} is {got}, expected {expected}");
        }
    }
}

/// Views of two tiles by a list of transforms.
fn assert_views_of(gpu: &EmulatedGpu, transforms: &[Transform], (width, height): (u32, u32)) {
    let pipeline = Pipeline::new(transforms, 3).unwrap();
    let images = [tile(width, height, 1), tile(width, height, 2)];
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (tile_idx, image) in images.iter().enumerate().rev() {
        for view in 0..VIEWS {
            let key = || stream(3, 0, tile_idx as u64, view);
            requests.push(request(tile_idx, &pipeline.draw((width, height), &mut key())));
            expected.push(pipeline.apply(image, &mut key()));
        }
    }
    let got = made::<u8>(gpu, &images, &requests, Output::U8);
    assert_equal(&format!("{transforms:?}, {width} x {height}"), &got, &expected);
}

/// Each transform with amounts so large that values reach both ends.
fn transforms() -> [Transform; 9] {
    [
        Transform::Flip,
        Transform::Rot90,
        Transform::ColorJitter([0.4, 0.4, 0.4, 0.5]),
        Transform::ColorJitter([0.0, 0.4, 0.0, 0.0]),
        Transform::ColorJitter([0.0, 0.0, 1.0, 0.1]),
        Transform::HedJitter(0.05),
        Transform::HedJitterConstant(0.05),
        Transform::RandomResizedCrop([0.08, 1.0]),
        Transform::Affine(0.16),
    ]
}

#[test]
fn views_of_every_transform_are_those_of_the_cpu() {
    with_emulated_gpu(|gpu| {
        for transform in transforms() {
            for size in [(7, 50), (32, 32), (96, 96), (1, 1), (1, 40), (33, 1)] {
                assert_views_of(gpu, std::slice::from_ref(&transform), size);
            }
        }
    });
}

#[test]
fn views_of_the_presets_are_those_of_the_cpu() {
    let presets = [
        include_str!("../../../../xtask/presets/s5cl.toml"),
        include_str!("../../../../xtask/presets/faithful.toml"),
    ];
    with_emulated_gpu(|gpu| {
        for preset in presets {
            let preset: toml::Table = preset.parse().unwrap();
            for list in ["weak", "strong"] {
                let transforms = preset["views"][list].clone();
                let transforms: Vec<Transform> = transforms.try_into().unwrap();
                for size in [(7, 50), (32, 32), (96, 96), (1, 1), (224, 224)] {
                    assert_views_of(gpu, &transforms, size);
                }
            }
        }
    });
}

#[test]
fn views_of_any_order_of_steps_are_those_of_the_cpu() {
    let [flip, turn, jitter, contrast, saturation, stains, stretch, part, affine] = transforms();
    let orders = [
        vec![contrast.clone(), contrast.clone(), stretch.clone(), stretch.clone()],
        vec![part.clone(), jitter.clone(), turn.clone(), stains, flip.clone(), part.clone()],
        vec![affine.clone(), contrast.clone(), turn.clone(), stretch, affine, saturation],
        vec![jitter.clone(), part, contrast, jitter, turn, flip],
        vec![],
    ];
    with_emulated_gpu(|gpu| {
        for transforms in &orders {
            for size in [(40, 40), (64, 30), (5, 9)] {
                assert_views_of(gpu, transforms, size);
            }
        }
    });
}

#[test]
fn views_of_every_part_are_those_of_the_cpu() {
    // Weights are a function of two lengths.
    let images = [tile(224, 5, 1), tile(31, 33, 2)];
    with_emulated_gpu(|gpu| {
        for image in &images {
            let (width, height) = image.dimensions();
            let part = |i| Region {
                left: (width - 1 - i % width) / 2,
                top: height - 1 - i % height,
                width: 1 + i % width,
                height: 1 + i % height,
            };
            let parts: Vec<Region> = (0..width.max(height)).map(part).collect();
            let request = |part: &Region| {
                let Region { left, top, width, height } = *part;
                let steps = vec![ViewStep::Crop { left, top, width, height }];
                ViewRequest { tile_idx: 0, steps }
            };
            let requests: Vec<ViewRequest> = parts.iter().map(request).collect();
            let got = made::<u8>(gpu, std::slice::from_ref(image), &requests, Output::U8);
            let expected: Vec<RgbImage> =
                parts.iter().map(|part| resized_crop(image, *part, (width, height))).collect();
            assert_equal("parts", &got, &expected);
        }
    });
}

#[test]
fn views_of_every_hue_and_saturation_are_those_of_the_cpu() {
    // Hues are a function of the order of the colors, their range, and that of the middle one.
    let mut pixels = Vec::new();
    for range in 0..=255 {
        for rest in 0..=range {
            let (low, middle, high) = (255 - range, 255 - range + rest, 255);
            pixels.extend([[high, middle, low], [high, low, middle], [middle, high, low]]);
            pixels.extend([[low, high, middle], [middle, low, high], [low, middle, high]]);
            pixels.push([range, range - rest, range - rest]);
        }
    }
    let width = 512;
    let height = (pixels.len() as u32).div_ceil(width);
    pixels.resize((width * height) as usize, [0; 3]);
    let image = RgbImage::from_raw(width, height, pixels.concat()).unwrap();
    let turns = [0.5, -0.004, 0.1];
    let request = |turn: &f32| ViewRequest { tile_idx: 0, steps: vec![ViewStep::Hue(*turn)] };
    let expected = turns.map(|turn| adjust_hue(&image, turn));
    with_emulated_gpu(|gpu| {
        let images = std::slice::from_ref(&image);
        let got = made::<u8>(gpu, images, &turns.each_ref().map(request), Output::U8);
        assert_equal("hues", &got, &expected);
    });
}

#[test]
fn views_mirror_the_border_again_and_again() {
    let maps = [
        [[1.0, 0.0, -200.25], [0.0, -3.5, 77.0]],
        [[0.3, 0.9, 1e6], [-40.0, 1.1, -1e8]],
        [[0.0, 0.0, 3.4], [0.0, 0.0, 2.6]],
    ];
    with_emulated_gpu(|gpu| {
        for (width, height) in [(12, 20), (1, 9), (9, 1), (2, 2)] {
            let image = tile(width, height, 5);
            let requests =
                maps.map(|map| ViewRequest { tile_idx: 0, steps: vec![ViewStep::Affine(map)] });
            let expected = maps.map(|map| warp_affine(&image, AffineMap(map)));
            let got = made::<u8>(gpu, &[image], &requests, Output::U8);
            assert_equal("far away", &got, &expected);
        }
    });
}

#[test]
fn views_are_written_normalized() {
    let by = Normalization { scale: [0.03, 0.02, -0.5], shift: [-2.0, 0.125, 3.0] };
    // The nearest number of fewer bits, of two the even one; that of 16 bits has 13 bits less.
    let bf16 = |value: f32| ((value.to_bits() + 0x7fff + (value.to_bits() >> 16 & 1)) >> 16) as u16;
    let f16_as_f32 = |bits: u16| {
        let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * 2_f32.powi(112);
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    };
    let turned = ViewStep::Symmetry { transposed: true, flipped_x: false, flipped_y: true };
    let requests = [
        ViewRequest { tile_idx: 1, steps: vec![turned] },
        ViewRequest { tile_idx: 0, steps: vec![ViewStep::Brightness(0.9)] },
    ];
    with_emulated_gpu(|gpu| {
        for side in [64, 45] {
            let images = [tile(side, side, 3), tile(side, side, 4)];
            let bytes = made::<u8>(gpu, &images, &requests, Output::U8);
            let expected: Vec<f32> = bytes
                .iter()
                .enumerate()
                .map(|(i, byte)| f32::from(*byte) * by.scale[i % 3] + by.shift[i % 3])
                .collect();
            assert_eq!(made::<f32>(gpu, &images, &requests, Output::F32(by)), expected);
            let rounded: Vec<u16> = expected.iter().copied().map(bf16).collect();
            assert_eq!(made::<u16>(gpu, &images, &requests, Output::Bf16(by)), rounded);
            let halves = made::<u16>(gpu, &images, &requests, Output::F16(by));
            for (half, expected) in halves.into_iter().map(f16_as_f32).zip(expected) {
                // Half of the last of 11 bits, or of the smallest number's.
                let most = (expected.abs() * 2_f32.powi(-11)).max(2_f32.powi(-25));
                assert!((half - expected).abs() <= most, "{half}, expected {expected}");
            }
        }
    });
}

#[test]
fn tiles_are_pushed_in_pieces_and_views_see_only_those() {
    let images = [tile(6, 5, 1), tile(6, 5, 2), tile(6, 5, 3)];
    let request = |tile_idx| ViewRequest { tile_idx, steps: Vec::new() };
    with_emulated_gpu(|gpu| {
        let mut tiles = Tiles::allocate(gpu, 3, [5, 6]).unwrap();
        tiles.push(gpu, &[images[0].as_raw().as_slice(), images[1].as_raw()].concat()).unwrap();
        assert_eq!(tiles.len(), 2);
        let message = refusal(tiles.views::<u8>(gpu, &[request(2)], Output::U8));
        assert!(message.contains("tile 2 of request 0 is not among the 2"), "{message}");
        let message = refusal(tiles.push(gpu, &[0; 91]));
        assert!(message.contains("91 bytes are not tiles of 6 x 5 x 3"), "{message}");
        let message = refusal(tiles.push(gpu, &[0; 180]));
        assert!(message.contains("2 more than 2, where there is room for 3"), "{message}");
        tiles.push(gpu, &images[2]).unwrap();
        let views = tiles.views::<u8>(gpu, &[2, 0, 1].map(request), Output::U8).unwrap();
        let expected = [2, 0, 1].map(|i: usize| images[i].clone());
        assert_equal("pieces", &gpu.download(&views), &expected);
        for (n_tiles, shape) in [(1, [0, 4]), (1, [1 << 14, 1 << 14]), (1, [1, (1 << 16) - 31])] {
            assert!(Tiles::allocate(gpu, n_tiles, shape).is_err(), "{shape:?}");
        }
        assert!(refusal(Tiles::allocate(gpu, 1 << 62, [4, 4])).contains("are too many"));
    });
}

#[test]
fn resident_tiles_refuse_a_device_that_is_no_gpu() {
    let message = refusal(ResidentTiles::new(10, 8, 8, 0, &Device::Cpu));
    assert!(message.contains("resident tiles: expected a CUDA device, got Cpu"), "{message}");
}
