//! Dataset, split and normalization of a run, from its settings.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use anyhow::Result;
use s5cl_backbone::Normalization;
use s5cl_data::{
    CommonSize, DataError, Dataset, LabelBudget, Loader, Partition, Spec, SplitManifest, open,
    partition,
};

use crate::config::RunConfig;
use crate::device::Device;
use crate::failure::BadInput;
use crate::tiles::{read_tiles, unwrap_loader_error};

/// Above this size, tiles are scaled down where the settings name no size: what a CPU trains on
/// in reasonable time.
pub(crate) const LARGEST_DEFAULT_SIZE: u32 = 96;
/// The same on a graphics card: the size that encoders are pretrained with.
const LARGEST_DEFAULT_SIZE_ON_CUDA: u32 = 224;
/// Training images from which mean and standard deviation are measured.
const NORMALIZATION_IMAGES: usize = 1000;

/// The data of a run, ready to use.
pub(crate) struct Experiment {
    /// All images, at the size of the run.
    pub(crate) dataset: Arc<Dataset>,
    /// Training images with their labels.
    pub(crate) labeled: Vec<(usize, u32)>,
    /// Training images whose labels are hidden or unknown.
    pub(crate) unlabeled: Vec<usize>,
    /// Labeled images to watch the training by.
    pub(crate) validation: Vec<usize>,
    /// Labeled images to judge the result by.
    pub(crate) test: SealedTest,
    /// Who is in which part, by id.
    pub(crate) manifest: SplitManifest,
    /// How pixels become numbers.
    pub(crate) normalization: Normalization,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// What makes a result worth less.
    pub(crate) warnings: Vec<String>,
}

/// The test images. They are handed out once the weights are final, and each opening leaves a
/// line in the run folder.
pub(crate) struct SealedTest(Vec<usize>);

impl SealedTest {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Hands the test images out, once `log` has written down that it happened.
    pub(crate) fn open(&self, log: impl FnOnce() -> Result<()>) -> Result<&[usize]> {
        log()?;
        Ok(&self.0)
    }
}

impl Experiment {
    /// Opens the dataset, reads every image once, and divides them by the settings, or as the
    /// manifest of an earlier run has it. Settings that depend on the images (their size, mean
    /// and standard deviation) are filled in; the size depends on the device, too.
    pub(crate) fn open(
        config: &mut RunConfig,
        manifest: Option<SplitManifest>,
        workers: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut notes = Vec::new();
        let spec: Spec = config.data.spec.parse()?;
        let dataset = open(&spec)?;
        let largest = match device.is_cuda() {
            true => LARGEST_DEFAULT_SIZE_ON_CUDA,
            false => LARGEST_DEFAULT_SIZE,
        };
        let dataset =
            sized(dataset, config, largest, &mut notes)?.cached(config.data.cache_mib << 20);
        let divide = |dataset: &Dataset| -> Result<(Partition, SplitManifest)> {
            Ok(match &manifest {
                Some(manifest) => (manifest.resolve(dataset)?, manifest.clone()),
                None => {
                    let parts = partition(dataset, budget(config), config.seed)?;
                    let manifest = SplitManifest::new(dataset, &parts, config.seed);
                    (parts, manifest)
                }
            })
        };
        // What can be refused without reading an image is refused first; where damaged ones are
        // left out, the division has to wait for that.
        let skip_bad = config.data.skip_bad_images;
        let divided = if skip_bad { None } else { Some(divide(&dataset)?) };
        let (dataset, fingerprints) = readable(dataset, skip_bad, workers, &mut notes)?;
        let (parts, manifest) = match divided {
            Some(divided) => divided,
            None => divide(&dataset)?,
        };
        notes.extend(classes_without_images(&dataset));
        let warnings = leakage(&dataset, &parts, &fingerprints);
        let dataset = Arc::new(dataset);
        let normalization = normalization(config, &dataset, &parts, workers)?;
        let Partition { labeled, unlabeled, validation, test } = parts;
        let labeled = with_labels(&dataset, &labeled)?;
        Ok(Self {
            dataset,
            labeled,
            unlabeled,
            validation,
            test: SealedTest(test),
            manifest,
            normalization,
            notes,
            warnings,
        })
    }
}

/// Pairs of sample and class; all samples must have a label.
pub(crate) fn with_labels(dataset: &Dataset, samples: &[usize]) -> Result<Vec<(usize, u32)>> {
    let paired = samples.iter().map(|&sample_idx| {
        let sample = &dataset.samples[sample_idx];
        let class_idx =
            sample.class_idx.ok_or_else(|| BadInput::new(format!("{} has no label", sample.id)))?;
        Ok((sample_idx, class_idx))
    });
    paired.collect()
}

/// A note where a class has lost all its images, or never had one.
fn classes_without_images(dataset: &Dataset) -> Option<String> {
    let everything: Vec<usize> = (0..dataset.samples.len()).collect();
    let counts = dataset.class_counts(&everything);
    let names = dataset.class_names.iter().zip(counts).filter(|(_, count)| *count == 0);
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| format!("classes without any image: {}", names.join(", ")))
}

/// How many labels the settings keep.
pub(crate) fn budget(config: &RunConfig) -> LabelBudget {
    match (config.data.labels_per_class, config.data.label_fraction) {
        (0, 0.0) => LabelBudget::All,
        (0, fraction) => LabelBudget::Fraction(fraction),
        (per_class, _) => LabelBudget::PerClass(per_class),
    }
}

fn sized(
    dataset: Dataset,
    config: &mut RunConfig,
    largest: u32,
    notes: &mut Vec<String>,
) -> Result<Dataset> {
    let found = dataset.common_size()?;
    let size = &mut config.data.image_size;
    if *size == 0 {
        let architecture = config.encoder.architecture()?;
        let (smallest, step) =
            (architecture.smallest_image() as u32, architecture.image_size_step() as u32);
        *size = found.longest_side().min(largest).max(smallest.max(8)) / step * step;
    }
    match found {
        CommonSize::Same(width, height) if (width, height) == (*size, *size) => {}
        CommonSize::Same(width, height) => {
            notes.push(format!("images of {width} x {height} px are scaled to {size} px"));
        }
        CommonSize::Mixed { smallest, largest } => notes.push(format!(
            "images of different size ({} x {} to {} x {} px) are scaled to {size} px",
            smallest.0, smallest.1, largest.0, largest.1
        )),
    }
    Ok(dataset.resized(*size))
}

/// Test images that are in the training too: the same pixels, or the same patient or slide.
fn leakage(dataset: &Dataset, parts: &Partition, fingerprints: &[u64]) -> Vec<String> {
    let Partition { labeled, unlabeled, validation, test } = parts;
    let others = || labeled.iter().chain(unlabeled).chain(validation);
    let seen: BTreeSet<u64> = others().map(|&sample_idx| fingerprints[sample_idx]).collect();
    let n_copies = test.iter().filter(|&&sample_idx| seen.contains(&fingerprints[sample_idx]));
    let group = |&sample_idx: &usize| dataset.samples[sample_idx].group.as_deref();
    let groups: BTreeSet<&str> = others().filter_map(group).collect();
    let shared: BTreeSet<&str> =
        test.iter().filter_map(group).filter(|group| groups.contains(group)).collect();
    let mut notes = Vec::new();
    let n_copies = n_copies.count();
    if n_copies > 0 {
        notes.push(format!(
            "leakage: {n_copies} of {} test images are, pixel by pixel, images that the run learns \
             from or is chosen by",
            test.len()
        ));
    }
    if let Some(first) = shared.first() {
        notes.push(format!(
            "leakage: {} groups (patients, slides) have images on both sides of the test split; \
             the first: {first}",
            shared.len()
        ));
    }
    notes
}

/// Reads every image once: a damaged one is told now rather than after an hour, and what fits
/// stays decoded. Also gives a fingerprint of every image's pixels.
fn readable(
    dataset: Dataset,
    skip_bad: bool,
    workers: usize,
    notes: &mut Vec<String>,
) -> Result<(Dataset, Vec<u64>)> {
    let n = dataset.samples.len();
    let shared = Arc::new(dataset);
    let reader = shared.clone();
    let read = move |sample_idx: u64| -> Result<Result<u64, String>, DataError> {
        match reader.tile(sample_idx as usize) {
            Ok(tile) => {
                let mut hasher = DefaultHasher::new();
                tile.as_raw().hash(&mut hasher);
                Ok(Ok(hasher.finish()))
            }
            Err(error) if skip_bad => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    };
    let (mut fingerprints, mut bad) = (Vec::with_capacity(n), Vec::new());
    for (sample_idx, result) in Loader::new(0..n as u64, workers, 64, read).enumerate() {
        match result.map_err(unwrap_loader_error)? {
            Ok(fingerprint) => fingerprints.push(fingerprint),
            Err(reason) => bad.push((sample_idx, reason)),
        }
    }
    if let Some((_, reason)) = bad.first() {
        notes.push(format!(
            "{} of {n} images cannot be read and are left out; the first: {reason}",
            bad.len()
        ));
    }
    let bad: Vec<usize> = bad.into_iter().map(|(sample_idx, _)| sample_idx).collect();
    let left = if bad.is_empty() { Arc::unwrap_or_clone(shared) } else { shared.without(&bad)? };
    Ok((left, fingerprints))
}

/// The settings' mean and standard deviation, or those of the training images; no label is used.
fn normalization(
    config: &mut RunConfig,
    dataset: &Arc<Dataset>,
    parts: &Partition,
    workers: usize,
) -> Result<Normalization> {
    let data = &mut config.data;
    if data.mean.is_empty() || data.std.is_empty() {
        let mut training: Vec<usize> =
            parts.labeled.iter().chain(&parts.unlabeled).copied().collect();
        training.sort_unstable();
        let every = training.len().div_ceil(NORMALIZATION_IMAGES).max(1);
        let chosen: Vec<usize> = training.into_iter().step_by(every).collect();
        let pixels = read_tiles(dataset, &chosen, data.image_size, workers)?.pixels;
        let (mean, std) = channel_statistics(&pixels);
        (data.mean, data.std) = (mean.to_vec(), std.to_vec());
    }
    let three = |values: &[f32]| [values[0], values[1], values[2]];
    Ok(Normalization { mean: three(&data.mean), std: three(&data.std) })
}

/// Mean and standard deviation of each channel, 0 to 1, rounded to four digits as papers give
/// them; a channel without spread counts as spread by 0.01.
fn channel_statistics(pixels: &[u8]) -> ([f32; 3], [f32; 3]) {
    let (mut sums, mut squares) = ([0_u64; 3], [0_u64; 3]);
    for pixel in pixels.chunks_exact(3) {
        for c in 0..3 {
            sums[c] += u64::from(pixel[c]);
            squares[c] += u64::from(pixel[c]).pow(2);
        }
    }
    let n = (pixels.len() / 3).max(1) as f64;
    let round = |value: f64| ((value * 1e4).round() / 1e4) as f32;
    let mean = sums.map(|sum| sum as f64 / n);
    let std = [0, 1, 2].map(|c| (squares[c] as f64 / n - mean[c].powi(2)).max(0.0).sqrt());
    (mean.map(|mean| round(mean / 255.0)), std.map(|std| round(std / 255.0).max(0.01)))
}
