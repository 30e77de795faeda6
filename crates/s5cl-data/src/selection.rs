//! A dataset without some of its samples.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::RgbImage;

use crate::{DataError, Dataset, Tiles};

/// Tiles of a dataset under new indices.
struct Selected {
    dataset: Dataset,
    kept: Vec<usize>,
}

impl Tiles for Selected {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        self.dataset.tile(self.kept[sample_idx])
    }
}

impl Dataset {
    /// The same dataset without the given samples, in the same order; its classes stay, and its
    /// digest is another one.
    ///
    /// # Errors
    ///
    /// If no sample is left.
    pub fn without(&self, sample_indices: &[usize]) -> Result<Self, DataError> {
        let dropped: BTreeSet<&usize> = sample_indices.iter().collect();
        let is_kept = |sample_idx: &usize| !dropped.contains(sample_idx);
        let kept: Vec<usize> = (0..self.samples.len()).filter(is_kept).collect();
        let samples = kept.iter().map(|&sample_idx| self.samples[sample_idx].clone()).collect();
        let content = self.digest().to_owned();
        let (name, class_names) = (self.name.clone(), self.class_names.clone());
        let tiles = Arc::new(Selected { dataset: self.clone(), kept });
        Self::new(name, class_names, samples, tiles, content.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Spec, open};

    #[test]
    fn without_renumbers_the_tiles_that_stay() -> Result<(), Box<dyn std::error::Error>> {
        let dataset = open(&"synthetic:tissue?images=45&size=16".parse::<Spec>()?)?;
        let fewer = dataset.without(&[0, 2])?;
        assert_eq!(fewer.samples.len(), 43);
        assert_eq!(fewer.samples[1].id, dataset.samples[3].id);
        assert_eq!(fewer.tile(1)?, dataset.tile(3)?);
        assert_ne!(fewer.digest(), dataset.digest());
        assert!(dataset.without(&(0..45).collect::<Vec<_>>()).is_err());
        Ok(())
    }
}
