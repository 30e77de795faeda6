//! A `.npz` archive in MedMNIST layout as a dataset.
//!
//! ```text
//! {train,val,test}_images.npy    u8 [N, H, W, 3], [N, H, W, 1] or [N, H, W] (gray)
//! {train,val,test}_labels.npy    any integer [N, 1] or [N]
//! ```
//!
//! Members may be stored or deflated; `val` and `test` may be missing. Images stay in memory as
//! they are. There are as many classes as the largest label says, named by their number; a class
//! in between may be without images.

mod archive;
mod npy;
mod write;

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use self::archive::{Archive, Array};
use self::npy::Integer;
use crate::dataset::name_of;
use crate::digest::Digest;
use crate::{DataError, Dataset, Sample, Split, Tiles};

pub use self::write::{Exported, export_npz};

const SPLITS: [(&str, Split); 3] =
    [("train", Split::Train), ("val", Split::Validation), ("test", Split::Test)];
const LARGEST_LABEL: i64 = 65_535;

/// Reads a whole archive into memory.
pub(crate) fn open(path: &Path) -> Result<Dataset, DataError> {
    let mut archive = Archive::open(path)?;
    let mut samples = Vec::new();
    let mut arrays = Vec::new();
    let mut digest = Digest::new();
    for (name, split) in SPLITS {
        let members = [format!("{name}_images.npy"), format!("{name}_labels.npy")];
        // A split is left out only as a whole: one half of it is a mistake.
        if split != Split::Train && !members.iter().any(|member| archive.has(member)) {
            continue;
        }
        let [images, labels] = members;
        let images = Images::new(path, archive.read(&images)?)?;
        let member = labels;
        let labels = class_indices(path, &archive.read(&member)?)?;
        if images.n != labels.len() {
            let (images, labels) = (images.n, labels.len());
            let reason = format!("{labels} labels for {images} images; there must be one each");
            return Err(DataError::BadMember { path: path.to_owned(), member, reason });
        }
        digest.bytes(&images.pixels);
        samples.extend(labels.into_iter().enumerate().map(|(row, class_idx)| Sample {
            id: format!("{name}/{row:05}"),
            class_idx: Some(class_idx),
            split: Some(split),
            group: None,
        }));
        arrays.push(images);
    }
    let n_classes = samples.iter().filter_map(|sample| sample.class_idx).max().map_or(0, |i| i + 1);
    if n_classes == 1 {
        return Err(DataError::OneClass { path: path.to_owned(), class: "0".to_owned() });
    }
    let class_names = (0..n_classes).map(|class_idx| class_idx.to_string()).collect();
    let content = digest.hex();
    let tiles = Arc::new(Arrays(arrays));
    Dataset::new(name_of(path), class_names, samples, tiles, content.as_bytes())
}

fn class_indices(path: &Path, labels: &Array) -> Result<Vec<u32>, DataError> {
    if !matches!(*labels.header.shape.as_slice(), [_] | [_, 1]) {
        return Err(labels.misshapen(path, "[N] or [N, 1], one class index per image"));
    }
    let Some(integer) = Integer::parse(&labels.header.descr) else {
        return Err(labels.wrong_type(path, "an integer type"));
    };
    let class_idx = |(row, element)| {
        let label = integer.read(element);
        u32::try_from(label).ok().filter(|_| label <= LARGEST_LABEL).ok_or_else(|| {
            let member = labels.member.clone();
            DataError::LabelOutOfRange { path: path.to_owned(), member, row, label }
        })
    };
    labels.bytes.chunks_exact(integer.bytes).enumerate().map(class_idx).collect()
}

/// The images of one split.
struct Images {
    pixels: Vec<u8>,
    n: usize,
    height: u32,
    width: u32,
    /// 3, or 1 for gray.
    channels: usize,
}

impl Images {
    fn new(path: &Path, array: Array) -> Result<Self, DataError> {
        if Integer::parse(&array.header.descr) != Integer::parse("|u1") {
            return Err(array.wrong_type(path, "u1 (uint8, 0 to 255)"));
        }
        let (n, height, width, channels) = match *array.header.shape.as_slice() {
            [n, height, width] => (n, height, width, 1),
            [n, height, width, channels @ (1 | 3)] => (n, height, width, channels),
            _ => return Err(array.misshapen(path, "[N, H, W, 3] or [N, H, W]")),
        };
        let (Ok(height @ 1..), Ok(width @ 1..)) = (u32::try_from(height), u32::try_from(width))
        else {
            return Err(array.misshapen(path, "[N, H, W, 3] or [N, H, W], H and W at least 1"));
        };
        Ok(Self { pixels: array.bytes, n, height, width, channels })
    }

    fn tile(&self, row: usize) -> Option<RgbImage> {
        let tile_bytes = self.height as usize * self.width as usize * self.channels;
        let pixels = self.pixels.get(row * tile_bytes..(row + 1) * tile_bytes)?;
        let rgb = match self.channels {
            1 => pixels.iter().flat_map(|&gray| [gray; 3]).collect(),
            _ => pixels.to_vec(),
        };
        RgbImage::from_raw(self.width, self.height, rgb)
    }
}

/// The images of all splits, one behind the other.
struct Arrays(Vec<Images>);

impl Arrays {
    fn locate(&self, sample_idx: usize) -> Result<(&Images, usize), DataError> {
        let mut row = sample_idx;
        for images in &self.0 {
            if row < images.n {
                return Ok((images, row));
            }
            row -= images.n;
        }
        Err(self.absent(sample_idx))
    }

    fn absent(&self, sample_idx: usize) -> DataError {
        let n_samples = self.0.iter().map(|images| images.n).sum();
        DataError::SampleOutOfRange { dataset: "npz".to_owned(), sample_idx, n_samples }
    }
}

impl Tiles for Arrays {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        let (images, row) = self.locate(sample_idx)?;
        images.tile(row).ok_or_else(|| self.absent(sample_idx))
    }

    fn size(&self, sample_idx: usize) -> Result<(u32, u32), DataError> {
        self.locate(sample_idx).map(|(images, _)| (images.width, images.height))
    }
}

#[cfg(test)]
mod tests;
