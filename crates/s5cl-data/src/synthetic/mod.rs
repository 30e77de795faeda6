//! The synthetic tissue set: nine tissues drawn as H&E tiles, for trials without a download.
//!
//! The classes are those of NCT-CRC-HE-100K. Each tile is drawn in absorbance planes of
//! hematoxylin and eosin in micrometers on one fixed field of view, so that any size in pixels
//! shows the same tissue, and is then colored by the stains and the scanner of its patient.
//! Color varies as much between patients and tiles as between classes: what tells the classes
//! apart is texture. The patients of training, validation and test are different ones.

mod adipose;
mod canvas;
mod cellular;
mod epithelium;
mod fibrous;
mod noise;
mod pale;
mod palette;
mod scene;
mod table;

use image::RgbImage;
use s5cl_random::stream;

use canvas::{Canvas, FIELD_MICRONS};
use noise::Noise;
use palette::{Appearance, Patient};
use scene::Scene;

pub use table::{CLASS_NAMES, TissueConfig, TissueError, TissueSample};

/// Keeps the streams of the tiles apart from those of the views, which are small numbers.
const TILE_VIEW: u64 = 0x7469_7373_7565;

/// A canvas is sampled at least this finely, in micrometers.
const COARSEST_STEP_MICRONS: f32 = 1.5;

/// The set: a validated config, the table of samples and the patients.
///
/// # Example
///
/// ```
/// use s5cl_data::synthetic::{Tissue, TissueConfig};
///
/// let tissue = Tissue::new(TissueConfig { images: 90, ..TissueConfig::standard() })?;
/// let tile = tissue.tile(7);
/// assert_eq!(tile.dimensions(), (32, 32));
/// assert_eq!(tissue.samples()[7].id, "stroma-00000");
/// # Ok::<(), s5cl_data::synthetic::TissueError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tissue {
    config: TissueConfig,
    samples: Vec<TissueSample>,
    patients: Vec<Patient>,
}

impl Tissue {
    /// Draws the table of samples; the tiles are drawn when asked for.
    ///
    /// # Errors
    ///
    /// When the size in pixels or the number of images is out of range.
    pub fn new(config: TissueConfig) -> Result<Self, TissueError> {
        config.check()?;
        let samples = (0..config.images).map(table::sample).collect();
        let patients = (0..table::N_PATIENTS).map(|idx| Patient::new(config.seed, idx)).collect();
        Ok(Self { config, samples, patients })
    }

    /// The config that the set was made from.
    #[must_use]
    pub fn config(&self) -> &TissueConfig {
        &self.config
    }

    /// The samples in order; the first ones of a larger set are those of a smaller one.
    #[must_use]
    pub fn samples(&self) -> &[TissueSample] {
        &self.samples
    }

    /// Side of a pixel in micrometers.
    #[must_use]
    pub fn microns_per_pixel(&self) -> f32 {
        FIELD_MICRONS / self.config.size_pixels as f32
    }

    /// Draws one tile, a pure function of the seed, the sample's index and the size; every size
    /// shows the same tissue. An index beyond the table gives the tile of a larger set.
    #[must_use]
    pub fn tile(&self, sample_idx: usize) -> RgbImage {
        let mut stream = stream(self.config.seed, 0, sample_idx as u64, TILE_VIEW);
        let size = self.config.size_pixels;
        let per_pixel = (FIELD_MICRONS / size as f32 / COARSEST_STEP_MICRONS).ceil() as u32;
        let mut canvas = Canvas::new((size * per_pixel) as usize);
        let noise = Noise::new(&mut stream);
        let appearance = Appearance::new(&mut stream);
        let mut scene = Scene { stream: &mut stream, noise: &noise, canvas: &mut canvas };
        match table::class_idx(sample_idx) {
            0 => adipose::adipose(&mut scene),
            1 => pale::background(&mut scene),
            2 => cellular::debris(&mut scene),
            3 => cellular::lymphocytes(&mut scene),
            4 => pale::mucus(&mut scene),
            5 => fibrous::smooth_muscle(&mut scene),
            6 => epithelium::normal_mucosa(&mut scene),
            7 => fibrous::stroma(&mut scene),
            _ => epithelium::tumor(&mut scene),
        }
        let patient = &self.patients[table::patient_idx(sample_idx)];
        appearance.develop(&canvas, &noise, patient, size)
    }
}

#[cfg(test)]
mod tests;
