//! What a dataset is: samples, where their tiles come from, and a digest of both.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use crate::cache::Cached;
use crate::digest::Digest;
use crate::resize::Resized;
use crate::{DataError, Sample};

/// Where the pixels of a dataset's samples come from.
pub trait Tiles: Send + Sync {
    /// The tile of one sample.
    ///
    /// # Errors
    ///
    /// If the tile cannot be read, decoded or drawn.
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError>;

    /// Width and height of one tile in pixels, without its pixels where that is cheaper.
    ///
    /// # Errors
    ///
    /// As [`Tiles::tile`].
    fn size(&self, sample_idx: usize) -> Result<(u32, u32), DataError> {
        self.tile(sample_idx).map(|tile| tile.dimensions())
    }
}

/// The sizes of a dataset's tiles, as far as [`Dataset::common_size`] looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommonSize {
    /// All have this width and height, in pixels.
    Same(u32, u32),
    /// They differ; width and height of the smallest and of the largest by area, in pixels.
    Mixed {
        /// Width and height of the smallest.
        smallest: (u32, u32),
        /// Width and height of the largest.
        largest: (u32, u32),
    },
}

impl CommonSize {
    /// The longer side of the largest tile, in pixels.
    #[must_use]
    pub fn longest_side(self) -> u32 {
        let (Self::Same(width, height) | Self::Mixed { largest: (width, height), .. }) = self;
        width.max(height)
    }
}

/// An indexed set of tiles.
#[derive(Clone)]
pub struct Dataset {
    /// What reports and run folders call it.
    pub name: String,
    /// The classes, by index.
    pub class_names: Vec<String>,
    /// The samples, in a fixed order.
    pub samples: Vec<Sample>,
    tiles: Arc<dyn Tiles>,
    digest: String,
}

impl Dataset {
    /// How many tiles [`Dataset::common_size`] looks at.
    const SIZE_PROBES: usize = 1024;

    /// Puts index and tiles together.
    ///
    /// `content` identifies the pixels (a hash of them, the lengths of the files, the settings of
    /// a generator) and enters the digest.
    ///
    /// # Errors
    ///
    /// Without samples, with two samples of one id, or with a class index that has no name.
    pub fn new(
        name: impl Into<String>,
        class_names: Vec<String>,
        samples: Vec<Sample>,
        tiles: Arc<dyn Tiles>,
        content: &[u8],
    ) -> Result<Self, DataError> {
        let name = name.into();
        if samples.is_empty() {
            return Err(DataError::NoSamples { dataset: name });
        }
        let n_classes = class_names.len();
        let mut ids = BTreeSet::new();
        for Sample { id, class_idx, .. } in &samples {
            if !ids.insert(id.as_str()) {
                return Err(DataError::DuplicateId { dataset: name, id: id.clone() });
            }
            if let Some(class_idx) = class_idx.filter(|&class_idx| class_idx as usize >= n_classes)
            {
                let id = id.clone();
                return Err(DataError::ClassOutOfRange { dataset: name, id, class_idx, n_classes });
            }
        }
        let digest = digest_of(&class_names, &samples, content);
        Ok(Self { name, class_names, samples, tiles, digest })
    }

    /// The tile of one sample.
    ///
    /// # Errors
    ///
    /// If there is no such sample, or if its tile cannot be read, decoded or drawn.
    pub fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        if sample_idx < self.samples.len() {
            return self.tiles.tile(sample_idx);
        }
        let (dataset, n_samples) = (self.name.clone(), self.samples.len());
        Err(DataError::SampleOutOfRange { dataset, sample_idx, n_samples })
    }

    /// SHA-256, in hex, over the class names, over each sample's id, label, split and group, and
    /// over what identifies the pixels: the images of a `.npz`, the file lengths of a folder
    /// (reading every file would take too long), the settings of a synthetic set.
    ///
    /// The dataset's own name is left out, so that a folder may be moved.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The number of classes.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.class_names.len()
    }

    /// How many of the given samples each class has; those without a label count nowhere.
    #[must_use]
    pub fn class_counts(&self, sample_indices: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.n_classes()];
        for class_idx in sample_indices.iter().filter_map(|&i| self.samples.get(i)?.class_idx) {
            counts[class_idx as usize] += 1;
        }
        counts
    }

    /// The sizes of up to 1024 tiles, evenly spread over the dataset; those that cannot be read are
    /// passed over.
    ///
    /// # Errors
    ///
    /// If none of these tiles can be read.
    pub fn common_size(&self) -> Result<CommonSize, DataError> {
        let n_probes = self.samples.len().min(Self::SIZE_PROBES);
        let mut sizes = BTreeSet::new();
        let mut failure = None;
        for probe in 0..n_probes {
            match self.tiles.size(probe * self.samples.len() / n_probes) {
                Ok(size) => _ = sizes.insert(size),
                Err(error) => failure = Some(error),
            }
        }
        if let (true, Some(error)) = (sizes.is_empty(), failure) {
            return Err(error);
        }
        let by_area = |size: &&(u32, u32)| u64::from(size.0) * u64::from(size.1);
        let smallest = sizes.iter().min_by_key(by_area).copied().unwrap_or_default();
        let largest = sizes.iter().max_by_key(by_area).copied().unwrap_or_default();
        Ok(if sizes.len() == 1 {
            CommonSize::Same(largest.0, largest.1)
        } else {
            CommonSize::Mixed { smallest, largest }
        })
    }

    /// The same dataset with every tile scaled to `size_pixels` squared, see
    /// [`resize`](crate::resize()); tiles of that size stay as they are.
    #[must_use]
    pub fn resized(mut self, size_pixels: u32) -> Self {
        self.tiles = Arc::new(Resized { tiles: self.tiles, size_pixels });
        self
    }

    /// The same dataset with tiles that are kept once they were asked for, up to `max_bytes` of
    /// pixels; what does not fit is read again each time.
    #[must_use]
    pub fn cached(mut self, max_bytes: usize) -> Self {
        self.tiles = Arc::new(Cached::new(self.tiles, self.samples.len(), max_bytes));
        self
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("class_names", &self.class_names)
            .field("samples", &self.samples.len())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What reports call the dataset at a path: the last part of the path, without `.npz`.
pub(crate) fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    name.map_or_else(|| "dataset".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn digest_of(class_names: &[String], samples: &[Sample], content: &[u8]) -> String {
    let mut digest = Digest::new();
    digest.number(class_names.len());
    for name in class_names {
        digest.text(name);
    }
    digest.number(samples.len());
    for sample in samples {
        digest.text(&sample.id);
        digest.text(&sample.class_idx.map(|class_idx| class_idx.to_string()).unwrap_or_default());
        digest.text(&sample.split.map(|split| split.to_string()).unwrap_or_default());
        digest.text(sample.group.as_deref().unwrap_or_default());
    }
    digest.bytes(content);
    digest.hex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::dataset_of;

    struct Nothing;

    impl Tiles for Nothing {
        fn tile(&self, _: usize) -> Result<RgbImage, DataError> {
            Ok(RgbImage::new(2, 3))
        }
    }

    fn sample(id: &str, class_idx: Option<u32>) -> Sample {
        Sample { id: id.to_owned(), class_idx, split: None, group: None }
    }

    fn built(samples: Vec<Sample>) -> Result<Dataset, DataError> {
        let class_names = vec!["a".to_owned(), "b".to_owned()];
        Dataset::new("cells", class_names, samples, Arc::new(Nothing), b"")
    }

    #[test]
    fn dataset_refuses_a_wrong_index() {
        let refused = |samples| built(samples).unwrap_err().to_string();
        assert!(refused(vec![]).contains("dataset cells: no samples"));
        let twice = vec![sample("x", None), sample("x", Some(0))];
        assert!(refused(twice).contains("two samples have the id `x`"));
        let third = vec![sample("x", Some(2))];
        assert!(refused(third).contains("sample `x` is of class 2, but there are 2"));
    }

    #[test]
    fn dataset_has_no_tile_beyond_its_samples() {
        let dataset = built(vec![sample("x", Some(0))]).unwrap();
        assert_eq!(dataset.tile(0).unwrap().dimensions(), (2, 3));
        let message = dataset.tile(1).unwrap_err().to_string();
        assert_eq!(message, "dataset cells: no sample 1; there are 1");
        assert_eq!(dataset.common_size().unwrap(), CommonSize::Same(2, 3));
    }

    #[test]
    fn dataset_digest_follows_the_index() {
        let digest =
            |id, class_idx| built(vec![sample(id, class_idx)]).unwrap().digest().to_owned();
        assert_eq!(digest("x", Some(0)), digest("x", Some(0)));
        assert_ne!(digest("x", Some(0)), digest("y", Some(0)));
        assert_ne!(digest("x", Some(0)), digest("x", Some(1)));
        assert_ne!(digest("x", Some(0)), digest("x", None));
    }

    #[test]
    fn dataset_counts_classes() {
        let dataset =
            dataset_of(&[(Some(1), None, None), (None, None, None), (Some(1), None, None)]);
        assert_eq!(dataset.class_counts(&[0, 1, 2, 99]), [0, 2]);
    }
}
