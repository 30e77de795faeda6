//! The set's options and its table: which class, patient and split each sample has.

use crate::Split;

/// The classes in order, named as in NCT-CRC-HE-100K.
pub const CLASS_NAMES: [&str; 9] = [
    "adipose",
    "background",
    "debris",
    "lymphocytes",
    "mucus",
    "smooth_muscle",
    "normal_mucosa",
    "stroma",
    "tumor",
];

/// Patients of training, of validation and of test, in this order.
const PATIENTS: [usize; 3] = [24, 6, 10];
/// All patients.
pub(super) const N_PATIENTS: usize = PATIENTS[0] + PATIENTS[1] + PATIENTS[2];
/// Tiles after which the pattern of splits of a class starts again.
const PERIOD: usize = 20;
/// Places in the period of the validation tiles (15 %).
const VALIDATION: [usize; 3] = [2, 9, 16];
/// Places in the period of the test tiles (20 %).
const TEST: [usize; 4] = [4, 8, 13, 18];
/// Fewest images: then each class has a tile in every split.
const LEAST_IMAGES: usize = 45;
/// Most images; the table of more would not fit a small machine's memory.
const MOST_IMAGES: usize = 10_000_000;

/// Options of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TissueConfig {
    /// Side of a tile in pixels, 16 to 512. Every size shows the same field of view.
    pub size_pixels: u32,
    /// Number of tiles of all classes and splits together, at least 45.
    pub images: usize,
    /// Seed of tiles and patients.
    pub seed: u64,
}

impl TissueConfig {
    /// 3000 tiles of 32 pixels, seed 0.
    #[must_use]
    pub fn standard() -> Self {
        Self { size_pixels: 32, images: 3000, seed: 0 }
    }

    pub(super) fn check(&self) -> Result<(), TissueError> {
        if !(16..=512).contains(&self.size_pixels) {
            return Err(TissueError::Size(self.size_pixels));
        }
        if !(LEAST_IMAGES..=MOST_IMAGES).contains(&self.images) {
            return Err(TissueError::Images(self.images));
        }
        Ok(())
    }
}

/// Why a set cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TissueError {
    /// The side of the tiles is out of range.
    #[error("synthetic tissue: size_pixels is {0}; choose 16 to 512")]
    Size(u32),
    /// The number of images is out of range.
    #[error("synthetic tissue: images is {0}; choose 45 (5 per class) to 10000000")]
    Images(usize),
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TissueSample {
    /// Class name and the number within the class, such as `tumor-00017`.
    pub id: String,
    /// Index into [`CLASS_NAMES`].
    pub class_idx: u32,
    /// Simulated patient, such as `patient-07`; a patient has tiles of one split only.
    pub patient: String,
    /// The part of the set: about 65 % train, 15 % validation, 20 % test.
    pub split: Split,
}

/// The class of a sample: the classes take turns.
pub(super) fn class_idx(sample_idx: usize) -> usize {
    sample_idx % CLASS_NAMES.len()
}

/// The split of a sample and its number among the tiles of its class and split.
fn place(sample_idx: usize) -> (Split, usize) {
    let number = sample_idx / CLASS_NAMES.len();
    let (period, at) = (number / PERIOD, number % PERIOD);
    let before = |places: &[usize]| places.iter().filter(|&&place| place < at).count();
    let (validation, test) = (before(&VALIDATION), before(&TEST));
    if VALIDATION.contains(&at) {
        (Split::Validation, period * VALIDATION.len() + validation)
    } else if TEST.contains(&at) {
        (Split::Test, period * TEST.len() + test)
    } else {
        let train = PERIOD - VALIDATION.len() - TEST.len();
        (Split::Train, period * train + at - validation - test)
    }
}

/// The patient of a sample: those of its split take turns, so that each has all classes.
pub(super) fn patient_idx(sample_idx: usize) -> usize {
    let (split, number) = place(sample_idx);
    match split {
        Split::Train => number % PATIENTS[0],
        Split::Validation => PATIENTS[0] + number % PATIENTS[1],
        Split::Test => PATIENTS[0] + PATIENTS[1] + number % PATIENTS[2],
    }
}

/// The row of a sample.
pub(super) fn sample(sample_idx: usize) -> TissueSample {
    let class_idx = class_idx(sample_idx);
    let number = sample_idx / CLASS_NAMES.len();
    TissueSample {
        id: format!("{}-{number:05}", CLASS_NAMES[class_idx]),
        class_idx: class_idx as u32,
        patient: format!("patient-{:02}", patient_idx(sample_idx)),
        split: place(sample_idx).0,
    }
}
