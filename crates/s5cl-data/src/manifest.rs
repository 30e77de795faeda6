//! A partition in terms of sample ids, to be written down and read back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::{DataError, Dataset, Partition};

/// The number of samples in each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCounts {
    /// Training images whose label is kept.
    pub labeled: usize,
    /// Training images in the unlabeled pool.
    pub unlabeled: usize,
    /// Validation images.
    pub validation: usize,
    /// Test images.
    pub test: usize,
}

/// Which images a run used for what; the content of `split.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitManifest {
    /// The dataset's name.
    pub dataset: String,
    /// The dataset's digest, see [`Dataset::digest`].
    pub digest: String,
    /// The seed that drew the partition.
    pub seed: u64,
    /// The number of samples in each part.
    pub counts: SplitCounts,
    /// SHA-256, in hex, over the ids below, part by part.
    pub hash: String,
    /// Ids of the training images whose label is kept.
    pub labeled: Vec<String>,
    /// Ids of the unlabeled pool.
    pub unlabeled: Vec<String>,
    /// Ids of the validation images.
    pub validation: Vec<String>,
    /// Ids of the test images.
    pub test: Vec<String>,
}

impl SplitManifest {
    /// Writes a partition down; indices beyond the dataset are left out.
    #[must_use]
    pub fn new(dataset: &Dataset, partition: &Partition, seed: u64) -> Self {
        let ids = |part: &[usize]| -> Vec<String> {
            part.iter().filter_map(|&i| dataset.samples.get(i)).map(|s| s.id.clone()).collect()
        };
        let mut manifest = Self {
            dataset: dataset.name.clone(),
            digest: dataset.digest().to_owned(),
            seed,
            counts: SplitCounts {
                labeled: partition.labeled.len(),
                unlabeled: partition.unlabeled.len(),
                validation: partition.validation.len(),
                test: partition.test.len(),
            },
            hash: String::new(),
            labeled: ids(&partition.labeled),
            unlabeled: ids(&partition.unlabeled),
            validation: ids(&partition.validation),
            test: ids(&partition.test),
        };
        manifest.hash = manifest.hash_of_ids();
        manifest
    }

    /// Finds the partition again in the dataset it was made for.
    ///
    /// # Errors
    ///
    /// If the dataset's digest or the hash of the ids is not as recorded, or an id is not there.
    pub fn resolve(&self, dataset: &Dataset) -> Result<Partition, DataError> {
        let name = dataset.name.clone();
        let found = self.hash_of_ids();
        if found != self.hash {
            let recorded = self.hash.clone();
            return Err(DataError::ManifestChanged { dataset: name, recorded, found });
        }
        if dataset.digest() != self.digest {
            let (recorded, found) = (self.digest.clone(), dataset.digest().to_owned());
            return Err(DataError::DigestChanged { dataset: name, recorded, found });
        }
        let samples = dataset.samples.iter().enumerate();
        let index: BTreeMap<&str, usize> = samples.map(|(i, s)| (s.id.as_str(), i)).collect();
        let resolve = |ids: &[String]| {
            let mut part = ids
                .iter()
                .map(|id| match index.get(id.as_str()) {
                    Some(&sample_idx) => Ok(sample_idx),
                    None => Err(DataError::UnknownId { dataset: name.clone(), id: id.clone() }),
                })
                .collect::<Result<Vec<_>, _>>()?;
            part.sort_unstable();
            Ok(part)
        };
        Ok(Partition {
            labeled: resolve(&self.labeled)?,
            unlabeled: resolve(&self.unlabeled)?,
            validation: resolve(&self.validation)?,
            test: resolve(&self.test)?,
        })
    }

    fn hash_of_ids(&self) -> String {
        let mut digest = Digest::new();
        for part in [&self.labeled, &self.unlabeled, &self.validation, &self.test] {
            digest.number(part.len());
            part.iter().for_each(|id| digest.text(id));
        }
        digest.hex()
    }
}
