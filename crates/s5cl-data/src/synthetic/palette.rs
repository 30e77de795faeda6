//! From absorbance to color: the stains and the scanner of a patient, the staining of a tile.

use image::RgbImage;
use s5cl_random::{Stream, named_stream};

use super::canvas::{Canvas, FIELD_MICRONS, Point};
use super::noise::{Noise, exponential, mix};

/// Absorbance of hematoxylin in red, green and blue; length about 1.
const HEMATOXYLIN: [f32; 3] = [0.62, 0.70, 0.33];
/// Absorbance of eosin in red, green and blue; length about 1.
const EOSIN: [f32; 3] = [0.13, 0.87, 0.44];

/// How a patient's slides look: one staining batch on one scanner.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    hematoxylin: [f32; 3],
    eosin: [f32; 3],
    /// Light through empty glass, in gray levels.
    white: [f32; 3],
    /// Gamma of the scanner: a power of the transmittance is a factor on the absorbance.
    gamma: f32,
}

impl Patient {
    /// The patient of a number; different seeds have different patients.
    pub(super) fn new(seed: u64, patient_idx: usize) -> Self {
        let mut stream = named_stream(seed, &format!("tissue-patient-{patient_idx}"));
        let gain_h = exponential(stream.uniform_in(-0.5, 0.4));
        let gain_e = exponential(stream.uniform_in(-0.6, 0.6));
        let mut stain = |base: [f32; 3], gain: f32, spread: f32| {
            base.map(|channel| gain * (channel + stream.uniform_in(-spread, spread)).max(0.02))
        };
        let hematoxylin = stain(HEMATOXYLIN, gain_h, 0.13);
        let eosin = stain(EOSIN, gain_e, 0.13);
        let level = stream.uniform_in(210.0, 248.0);
        let white = [(); 3].map(|()| (level * stream.uniform_in(0.94, 1.04)).min(254.0));
        Self { hematoxylin, eosin, white, gamma: stream.uniform_in(0.8, 1.25) }
    }
}

/// How one tile was cut and stained.
pub(super) struct Appearance {
    gain_hematoxylin: f32,
    gain_eosin: f32,
    /// Relative amplitude of the section's uneven thickness.
    unevenness: f32,
    /// Absorbance of mounting medium and stray light, the same in all channels.
    haze: f32,
    /// Wash of unbound eosin and hematoxylin over everything, glass included.
    wash: (f32, f32),
    /// Relative slope of the illumination across the field, along x and y.
    slope: (f32, f32),
    offset: (f32, f32),
}

impl Appearance {
    /// Draws the appearance of a tile.
    pub(super) fn new(stream: &mut Stream) -> Self {
        let thickness = stream.uniform_in(-0.4, 0.35);
        let washed = stream.uniform();
        Self {
            gain_hematoxylin: exponential(thickness + stream.uniform_in(-0.35, 0.3)),
            gain_eosin: exponential(thickness + stream.uniform_in(-0.5, 0.4)),
            unevenness: stream.uniform_in(0.05, 0.35),
            haze: 0.16 * stream.uniform() * stream.uniform(),
            wash: (0.12 * washed * stream.uniform(), 0.15 * washed * stream.uniform()),
            slope: (stream.uniform_in(-0.06, 0.06), stream.uniform_in(-0.06, 0.06)),
            offset: (stream.uniform_in(0.0, 32.0), stream.uniform_in(0.0, 32.0)),
        }
    }

    /// Develops a canvas into an image of `size` pixels.
    ///
    /// The canvas has a whole number of samples per pixel; they are averaged as light, after
    /// absorption, as a scanner's pixel does.
    pub(super) fn develop(
        &self,
        canvas: &Canvas,
        noise: &Noise,
        patient: &Patient,
        size: u32,
    ) -> RgbImage {
        let per_pixel = canvas.side() / size as usize;
        let weight = 1.0 / (per_pixel * per_pixel) as f32;
        let stain_h = patient.hematoxylin.map(|c| -c * patient.gamma * self.gain_hematoxylin);
        let stain_e = patient.eosin.map(|c| -c * patient.gamma * self.gain_eosin);
        let wash = [0, 1, 2].map(|c| {
            let stray = self.wash.0 * patient.hematoxylin[c] + self.wash.1 * patient.eosin[c];
            -patient.gamma * (stray + self.haze)
        });
        let pixel = FIELD_MICRONS / size as f32;
        let mut image = RgbImage::new(size, size);
        let mut thickness = vec![0.0; canvas.side()];
        let mut light = [(); 3].map(|()| vec![0.0; canvas.side()]);
        let bands = canvas.samples().chunks_exact(canvas.side() * per_pixel);
        for (y, (pixels, band)) in image.rows_mut().zip(bands).enumerate() {
            let y_microns = (y as f32 + 0.5) * pixel;
            for (x, columns) in thickness.chunks_exact_mut(per_pixel).enumerate() {
                columns.fill(self.thickness(noise, ((x as f32 + 0.5) * pixel, y_microns)));
            }
            for (c, light) in light.iter_mut().enumerate() {
                light.fill(0.0);
                for samples in band.chunks_exact(canvas.side()) {
                    for ((sum, sample), thick) in light.iter_mut().zip(samples).zip(&thickness) {
                        let stained = stain_h[c] * sample.hematoxylin + stain_e[c] * sample.eosin;
                        *sum += exponential((thick * stained + wash[c]).max(-8.0));
                    }
                }
            }
            for (x, pixel_out) in pixels.enumerate() {
                let lamp = weight * self.lamp(((x as f32 + 0.5) * pixel, y_microns));
                let columns = x * per_pixel..(x + 1) * per_pixel;
                for (c, level) in pixel_out.0.iter_mut().enumerate() {
                    let sum: f32 = light[c][columns.clone()].iter().sum();
                    *level = (patient.white[c] * lamp * sum + 0.5) as u8;
                }
            }
        }
        image
    }

    /// Thickness of the section at a place, relative to the tile's.
    fn thickness(&self, noise: &Noise, (x, y): Point) -> f32 {
        let local = noise.at(x / 37.0 + self.offset.0, y / 37.0 + self.offset.1);
        1.0 + self.unevenness * (2.0 * local - 1.0)
    }

    /// Light at a place, relative to the middle of the field.
    fn lamp(&self, (x, y): Point) -> f32 {
        mix(1.0 - self.slope.0, 1.0 + self.slope.0, x / FIELD_MICRONS)
            * mix(1.0 - self.slope.1, 1.0 + self.slope.1, y / FIELD_MICRONS)
    }
}
