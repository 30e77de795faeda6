//! Everything that can be wrong with what a user gives: one line each, with its path or value.

use std::path::PathBuf;

use crate::Split;

/// What was wrong, where, and what to do about it; every message is one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing lies at this path.
    #[error("{path}: no such file or folder; give a folder, a .npz file or synthetic:tissue")]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },

    /// A file that is no dataset.
    #[error("{path}: neither a folder nor a .npz file; name the kind with folder: or npz:")]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },

    /// A synthetic set that does not exist.
    #[error("synthetic:{name}: no such synthetic set; there is synthetic:tissue")]
    UnknownSynthetic {
        /// What stands behind `synthetic:`.
        name: String,
    },

    /// An option that the synthetic set does not have.
    #[error("{spec}: unknown option `{option}`; valid options are {valid}")]
    UnknownOption {
        /// The whole specification.
        spec: String,
        /// The unknown name.
        option: String,
        /// The names that are known.
        valid: &'static str,
    },

    /// An option whose value cannot be used.
    #[error("{spec}: `{value}` is no value for `{option}`; give {expected}")]
    BadOption {
        /// The whole specification.
        spec: String,
        /// The option's name.
        option: String,
        /// The value as it was given.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },

    /// A synthetic set that cannot be drawn as asked.
    #[error("{spec}: {reason}")]
    Synthetic {
        /// The whole specification.
        spec: String,
        /// What the generator refuses.
        reason: String,
    },

    /// A split's name that is none.
    #[error("`{name}` is no split; there are train, validation and test")]
    UnknownSplit {
        /// The name as it was given.
        name: String,
    },

    /// A file that cannot be written.
    #[error("{path}: cannot be written: {reason}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },

    /// Images of different size where one size is needed.
    #[error(
        "images are of {} x {} to {} x {} pixels; give one size with --size",
        smallest.0, smallest.1, largest.0, largest.1
    )]
    MixedSizes {
        /// Width and height of the smallest.
        smallest: (u32, u32),
        /// Width and height of the largest.
        largest: (u32, u32),
    },

    /// An image without a label where every image needs one.
    #[error("{dataset}: {id} has no label; a .npz file in MedMNIST layout has one for every image")]
    Unlabeled {
        /// The dataset's name.
        dataset: String,
        /// The image.
        id: String,
    },

    /// A file or folder that the system does not let us read.
    #[error("{path}: cannot be read: {reason}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },

    /// A folder without a single labeled image.
    #[error("{path}: no images in class folders; give each class a folder with its images")]
    NoClasses {
        /// The dataset's folder.
        path: PathBuf,
    },

    /// A folder holds no image.
    #[error("{path}: no image in it; there must be PNG, JPEG, TIFF, BMP or WebP files")]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// A dataset in which there is nothing to tell apart.
    #[error("{path}: only one class, `{class}`; a classifier needs at least two")]
    OneClass {
        /// The dataset's folder or file.
        path: PathBuf,
        /// The only class.
        class: String,
    },

    /// A file that is no image, or only a part of one.
    #[error("{path}: not a readable image ({reason}); repair or remove it")]
    Undecodable {
        /// The image file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },

    /// An archive that cannot be opened or unpacked.
    #[error("{path}: damaged or no .npz archive ({reason}); fetch it again")]
    BadArchive {
        /// The archive.
        path: PathBuf,
        /// What failed, with the member where one is known.
        reason: String,
    },

    /// An archive without a member that the MedMNIST layout requires.
    #[error("{path}: no member {member}; it holds {present}")]
    MissingMember {
        /// The archive.
        path: PathBuf,
        /// The member that is missing.
        member: String,
        /// The members that are there.
        present: String,
    },

    /// A member that is no array of the kind that is needed.
    #[error("{path}: {member}: {reason}")]
    BadMember {
        /// The archive.
        path: PathBuf,
        /// The member.
        member: String,
        /// What is wrong with it and what would be right.
        reason: String,
    },

    /// A member whose array has the wrong shape.
    #[error("{path}: {member} has shape {shape:?}; expected {expected}")]
    Misshapen {
        /// The archive.
        path: PathBuf,
        /// The member.
        member: String,
        /// The shape as it was found.
        shape: Vec<usize>,
        /// The shapes that are accepted.
        expected: &'static str,
    },

    /// A label that is no class index.
    #[error("{path}: {member}, row {row}: label {label} is not in 0..=65535")]
    LabelOutOfRange {
        /// The archive.
        path: PathBuf,
        /// The member.
        member: String,
        /// The row, counted from 0.
        row: usize,
        /// The label as it was found.
        label: i64,
    },

    /// A dataset without a single sample.
    #[error("dataset {dataset}: no samples; give at least one")]
    NoSamples {
        /// The dataset's name.
        dataset: String,
    },

    /// Two samples with one id.
    #[error("dataset {dataset}: two samples have the id `{id}`; ids must be unique")]
    DuplicateId {
        /// The dataset's name.
        dataset: String,
        /// The id.
        id: String,
    },

    /// A sample of a class that the dataset does not have.
    #[error("dataset {dataset}: sample `{id}` is of class {class_idx}, but there are {n_classes}")]
    ClassOutOfRange {
        /// The dataset's name.
        dataset: String,
        /// The sample's id.
        id: String,
        /// Its class index.
        class_idx: u32,
        /// The number of classes.
        n_classes: usize,
    },

    /// A sample that the dataset does not have.
    #[error("dataset {dataset}: no sample {sample_idx}; there are {n_samples}")]
    SampleOutOfRange {
        /// The dataset's name.
        dataset: String,
        /// The index, counted from 0.
        sample_idx: usize,
        /// The number of samples.
        n_samples: usize,
    },

    /// A tile that cannot be scaled.
    #[error("a tile of {width}x{height} px cannot be scaled to {size_pixels} px; give 1 or more")]
    CannotResize {
        /// Width of the tile in pixels.
        width: u32,
        /// Height of the tile in pixels.
        height: u32,
        /// Side length that was asked for, in pixels.
        size_pixels: u32,
    },

    /// A tile of another size in a batch.
    #[error(
        "{width}x{height} px in a batch of {batch_width}x{batch_height} px tiles; scale to one size"
    )]
    TileSize {
        /// Width of the tile in pixels.
        width: u32,
        /// Height of the tile in pixels.
        height: u32,
        /// Width of the batch's tiles in pixels.
        batch_width: u32,
        /// Height of the batch's tiles in pixels.
        batch_height: u32,
    },

    /// A class with fewer labels than the budget asks for.
    #[error("class `{class}` has {has} labeled training images, not {wanted}; ask for fewer")]
    TooFewLabels {
        /// The class.
        class: String,
        /// How many it has.
        has: usize,
        /// How many were asked for.
        wanted: usize,
    },

    /// A label budget that keeps nothing or more than everything.
    #[error(
        "{budget} is no label budget; give at least 1 per class or a fraction above 0, up to 1"
    )]
    BadBudget {
        /// The budget, in words.
        budget: String,
    },

    /// A part of the partition in which nothing is left.
    #[error("dataset {dataset}: no labeled image for {part} among {n_samples} samples; {advice}")]
    EmptyPart {
        /// The dataset's name.
        dataset: String,
        /// The part that is empty.
        part: Split,
        /// The number of samples.
        n_samples: usize,
        /// What would help.
        advice: &'static str,
    },

    /// A recorded split that belongs to other data.
    #[error("dataset {dataset}: its digest is {found}, the split was recorded for {recorded}")]
    DigestChanged {
        /// The dataset's name.
        dataset: String,
        /// The digest in the record.
        recorded: String,
        /// The digest of the dataset at hand.
        found: String,
    },

    /// A recorded split that names a sample which is not there.
    #[error("dataset {dataset}: the recorded split names `{id}`, which is not in it")]
    UnknownId {
        /// The dataset's name.
        dataset: String,
        /// The id.
        id: String,
    },

    /// A recorded split that was changed by hand.
    #[error("recorded split of {dataset}: its ids give the hash {found}, not {recorded}")]
    ManifestChanged {
        /// The dataset's name.
        dataset: String,
        /// The hash in the record.
        recorded: String,
        /// The hash of the ids in the record.
        found: String,
    },

    /// A sampler that cannot be built from what it was given.
    #[error("{sampler}: {reason}")]
    BadSampler {
        /// Which sampler.
        sampler: &'static str,
        /// What it was given and what it needs.
        reason: String,
    },
}
