//! The transforms at fixed amounts against torchvision, Pillow, scikit-image and scipy; the values
//! come from `tests/golden/augment.py` of the workspace.

use image::RgbImage;
use s5cl_augment::{
    AffineMap, Region, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation,
    jitter_stains, jitter_stains_stretched, resized_crop, warp_affine,
};
use serde::Deserialize;

/// The same operations and roundings as Pillow.
const EQUAL: u8 = 0;
/// One rounding to a byte, of values that differ in their last bits.
const ROUNDING: u8 = 1;
/// Places rounded to 1/64 of a pixel move a value between black and white by 2 along each axis,
/// and the result is rounded.
const AFFINE: u8 = 3;

#[derive(Deserialize)]
struct Golden {
    images: Images,
    color: Vec<ColorCase>,
    hed: Vec<HedCase>,
    crop: Vec<CropCase>,
    affine: Vec<AffineCase>,
}

#[derive(Deserialize)]
struct Images {
    tissue: Rows,
    stains: Rows,
}

#[derive(Deserialize)]
struct ColorCase {
    operation: String,
    amount: f32,
    output: Rows,
}

#[derive(Deserialize)]
struct HedCase {
    image: String,
    alpha: [f32; 3],
    beta: [f32; 3],
    hed_skimage: Rows,
    hed_unclamped: Rows,
    hed_stretched: Rows,
}

#[derive(Deserialize)]
struct CropCase {
    region: [u32; 4],
    size: (u32, u32),
    output: Rows,
}

#[derive(Deserialize)]
struct AffineCase {
    shifts: [[f64; 2]; 3],
    matrix: [[f64; 3]; 2],
    output: Rows,
}

/// Rows of interleaved bytes, in hexadecimal.
#[derive(Deserialize)]
struct Rows(Vec<String>);

impl Rows {
    fn image(&self) -> RgbImage {
        let height = self.0.len() as u32;
        let text = self.0.concat();
        let bytes: Vec<u8> = (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("two digits"))
            .collect();
        let width = bytes.len() as u32 / 3 / height;
        RgbImage::from_raw(width, height, bytes).expect("whole rows")
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/augment.json")).expect("the golden file")
}

#[track_caller]
fn assert_close(ours: &RgbImage, theirs: &RgbImage, tolerance: u8, name: &str) {
    assert_eq!(ours.dimensions(), theirs.dimensions(), "{name}");
    let mut differences = [0_usize; 256];
    for (a, b) in ours.iter().zip(theirs.iter()) {
        differences[usize::from(a.abs_diff(*b))] += 1;
    }
    let largest = differences.iter().rposition(|&n| n > 0).unwrap_or(0);
    println!(
        "{name}: {} of {} differ, by up to {largest}",
        ours.len() - differences[0],
        ours.len()
    );
    assert!(largest <= usize::from(tolerance), "{name}: {differences:?}");
}

#[test]
fn golden_color_equals_torchvision() {
    let golden = golden();
    let tissue = golden.images.tissue.image();
    for ColorCase { operation, amount, output } in golden.color {
        let adjust = match operation.as_str() {
            "brightness" => adjust_brightness,
            "contrast" => adjust_contrast,
            "saturation" => adjust_saturation,
            "hue" => adjust_hue,
            unknown => panic!("{unknown}"),
        };
        let name = format!("{operation} {amount}");
        assert_close(&adjust(&tissue, amount), &output.image(), EQUAL, &name);
    }
}

#[test]
fn golden_stains_equal_skimage_for_mixtures_of_the_stains() {
    let golden = golden();
    let stains = golden.images.stains.image();
    for case in golden.hed.iter().filter(|case| case.image == "stains") {
        let ours = jitter_stains(&stains, case.alpha, case.beta);
        let name = format!("{:?} {:?}", case.alpha, case.beta);
        assert_close(&ours, &case.hed_skimage.image(), ROUNDING, &name);
        assert_close(&ours, &case.hed_unclamped.image(), ROUNDING, &name);
    }
}

#[test]
fn golden_stains_equal_the_unclamped_formula_for_any_color() {
    let golden = golden();
    let tissue = golden.images.tissue.image();
    for case in golden.hed.iter().filter(|case| case.image == "tissue") {
        let ours = jitter_stains(&tissue, case.alpha, case.beta);
        assert_close(&ours, &case.hed_unclamped.image(), ROUNDING, "unclamped");
        assert_ne!(case.hed_unclamped.image(), case.hed_skimage.image());
    }
}

#[test]
fn golden_stretched_stains_equal_the_published_code() {
    let golden = golden();
    for case in golden.hed {
        let images = &golden.images;
        let image = if case.image == "tissue" { &images.tissue } else { &images.stains };
        let ours = jitter_stains_stretched(&image.image(), case.alpha, case.beta);
        let name = format!("{} {:?} {:?}", case.image, case.alpha, case.beta);
        assert_close(&ours, &case.hed_stretched.image(), ROUNDING, &name);
    }
}

#[test]
fn golden_crop_equals_torchvision() {
    let golden = golden();
    let tissue = golden.images.tissue.image();
    for CropCase { region: [left, top, width, height], size, output } in golden.crop {
        let region = Region { left, top, width, height };
        let name = format!("{region:?} to {size:?}");
        assert_close(&resized_crop(&tissue, region, size), &output.image(), EQUAL, &name);
    }
}

#[test]
fn golden_affine_equals_an_exact_bilinear_warp() {
    let golden = golden();
    let tissue = golden.images.tissue.image();
    for AffineCase { shifts, matrix, output } in golden.affine {
        let map = AffineMap::from_corner_shifts(tissue.dimensions(), shifts);
        for (ours, theirs) in map.0.into_iter().zip(matrix) {
            assert!(ours.into_iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-12), "{map:?}");
        }
        assert_close(&warp_affine(&tissue, map), &output.image(), AFFINE, "affine");
    }
}
