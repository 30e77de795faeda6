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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Kind, dataset_of};
    use crate::{LabelBudget, partition};

    fn recorded() -> (Dataset, Partition, SplitManifest) {
        let kinds: Vec<Kind> = (0..60).map(|i| (Some(i % 3), None, None)).collect();
        let dataset = dataset_of(&kinds);
        let parts = partition(&dataset, LabelBudget::PerClass(4), 5).unwrap();
        let manifest = SplitManifest::new(&dataset, &parts, 5);
        (dataset, parts, manifest)
    }

    #[test]
    fn manifest_resolves_after_a_round_trip() {
        let (dataset, parts, manifest) = recorded();
        assert_eq!(manifest.counts.labeled, 12);
        assert_eq!(manifest.labeled[0], dataset.samples[parts.labeled[0]].id);
        let text = serde_json::to_string(&manifest).unwrap();
        let read: SplitManifest = serde_json::from_str(&text).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.resolve(&dataset).unwrap(), parts);
    }

    #[test]
    fn manifest_refuses_other_data() {
        let (_, _, manifest) = recorded();
        let other = dataset_of(&[(Some(0), None, None), (Some(1), None, None)]);
        let message = manifest.resolve(&other).unwrap_err().to_string();
        assert!(message.contains(&manifest.digest) && message.contains(other.digest()));
    }

    #[test]
    fn manifest_refuses_ids_that_were_changed() {
        let (dataset, _, manifest) = recorded();
        let mut moved = manifest.clone();
        let id = moved.test.remove(0);
        moved.labeled.push(id);
        let error = moved.resolve(&dataset).unwrap_err();
        assert!(matches!(error, DataError::ManifestChanged { .. }), "{error}");

        let mut renamed = manifest;
        renamed.test[0] = "nobody".to_owned();
        renamed.hash = renamed.hash_of_ids();
        let error = renamed.resolve(&dataset).unwrap_err();
        assert!(error.to_string().contains("`nobody`"), "{error}");
    }
}
