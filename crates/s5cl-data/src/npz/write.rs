//! A dataset as a `.npz` archive in MedMNIST layout.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::SPLITS;
use crate::{CommonSize, DataError, Dataset, Split};

/// How many images of each split were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Images of train, those without a split among them.
    pub train: usize,
    /// Images of validation.
    pub validation: usize,
    /// Images of test.
    pub test: usize,
}

/// Writes a dataset as a `.npz` archive that [`crate::open`] reads: deflated, in MedMNIST layout,
/// labels by class index. An image without a split goes to train. The file is written beside its
/// place and renamed; one that was there before is replaced.
///
/// # Errors
///
/// If images differ in size (see [`Dataset::resized`]), one cannot be read or has no label, as the
/// layout has no place for it, or the file cannot be written.
pub fn export_npz(dataset: &Dataset, path: &Path) -> Result<Exported, DataError> {
    let size = match dataset.common_size()? {
        CommonSize::Same(width, height) => (width, height),
        CommonSize::Mixed { smallest, largest } => {
            return Err(DataError::MixedSizes { smallest, largest });
        }
    };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    let beside = path.with_file_name(name);
    let written = write(dataset, size, &beside).and_then(|exported| {
        std::fs::rename(&beside, path).map_err(|error| unwritable(path, &error))?;
        Ok(exported)
    });
    written.inspect_err(|_| {
        // The first error is the one to tell; what remains of the file is of no use.
        let _ = std::fs::remove_file(&beside);
    })
}

fn write(dataset: &Dataset, size: (u32, u32), path: &Path) -> Result<Exported, DataError> {
    let failed = |error: &dyn std::error::Error| unwritable(path, error);
    let file = File::create(path).map_err(|error| failed(&error))?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        // An archive of many images is beyond what 32 bits count.
        .large_file(true);
    let mut exported = Exported::default();
    for (name, split) in SPLITS {
        let chosen: Vec<usize> = (0..dataset.samples.len())
            .filter(|&i| dataset.samples[i].split.unwrap_or(Split::Train) == split)
            .collect();
        if chosen.is_empty() && split != Split::Train {
            continue;
        }
        *match split {
            Split::Train => &mut exported.train,
            Split::Validation => &mut exported.validation,
            Split::Test => &mut exported.test,
        } = chosen.len();
        zip.start_file(format!("{name}_images.npy"), options).map_err(|error| failed(&error))?;
        let (width, height) = size;
        let header = header("|u1", &format!("({}, {height}, {width}, 3)", chosen.len()));
        zip.write_all(&header).map_err(|error| failed(&error))?;
        for &sample_idx in &chosen {
            let tile = dataset.tile(sample_idx)?;
            zip.write_all(tile.as_raw()).map_err(|error| failed(&error))?;
        }
        zip.start_file(format!("{name}_labels.npy"), options).map_err(|error| failed(&error))?;
        zip.write_all(&self::header("<i4", &format!("({}, 1)", chosen.len())))
            .map_err(|error| failed(&error))?;
        for &sample_idx in &chosen {
            let sample = &dataset.samples[sample_idx];
            let class_idx = sample.class_idx.ok_or_else(|| DataError::Unlabeled {
                dataset: dataset.name.clone(),
                id: sample.id.clone(),
            })?;
            zip.write_all(&class_idx.to_le_bytes()).map_err(|error| failed(&error))?;
        }
    }
    let mut file = zip.finish().map_err(|error| failed(&error))?;
    file.flush().map_err(|error| failed(&error))?;
    file.get_ref().sync_all().map_err(|error| failed(&error))?;
    Ok(exported)
}

/// The start of a `.npy` member, version 1, filled up so that the numbers begin at a multiple of 64.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; the last byte is a line feed.
    let length = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(dictionary.as_bytes());
    bytes.resize(10 + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> DataError {
    DataError::Unwritable { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Exported, export_npz, header};
    use crate::test_support::TempFolder;
    use crate::{DataError, Spec, open};

    fn dataset(spec: &str) -> crate::Dataset {
        open(&spec.parse::<Spec>().unwrap()).unwrap()
    }

    #[test]
    fn exported_dataset_is_the_same_again() {
        let folder = TempFolder::new();
        let path = folder.path().join("tissue.npz");
        let drawn = dataset("synthetic:tissue?size=16&images=90");
        let exported = export_npz(&drawn, &path).unwrap();
        let read = dataset(&path.display().to_string());
        assert_eq!(read.samples.len(), drawn.samples.len());
        assert_eq!(exported.train + exported.validation + exported.test, drawn.samples.len());
        let mut seen = Exported::default();
        for split in [crate::Split::Train, crate::Split::Validation, crate::Split::Test] {
            let of = |dataset: &crate::Dataset| -> Vec<(Vec<u8>, Option<u32>)> {
                let chosen =
                    (0..dataset.samples.len()).filter(|&i| dataset.samples[i].split == Some(split));
                chosen
                    .map(|i| (dataset.tile(i).unwrap().into_raw(), dataset.samples[i].class_idx))
                    .collect()
            };
            assert_eq!(of(&read), of(&drawn), "{split:?}");
            match split {
                crate::Split::Train => seen.train = of(&read).len(),
                crate::Split::Validation => seen.validation = of(&read).len(),
                crate::Split::Test => seen.test = of(&read).len(),
            }
        }
        assert_eq!(seen, exported);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn export_refuses_what_the_layout_cannot_hold() {
        let folder = TempFolder::new();
        for (class, number) in [("a", 0), ("a", 1), ("b", 0), ("b", 1)] {
            folder.write_tile(&format!("mixed/{class}/{number}.png"), (8 + number, 8), [9; 3]);
            folder.write_tile(&format!("part/{class}/{number}.png"), (8, 8), [9; 3]);
        }
        folder.write_tile("part/unlabeled/0.png", (8, 8), [9; 3]);
        let refused = |name: &str| {
            let spec = folder.path().join(name).display().to_string();
            export_npz(&dataset(&spec), &folder.path().join("out.npz")).unwrap_err()
        };
        assert!(matches!(refused("mixed"), DataError::MixedSizes { .. }));
        assert!(matches!(refused("part"), DataError::Unlabeled { .. }));
        let nowhere = folder.path().join("no/folder/out.npz");
        let error = export_npz(&dataset("synthetic:tissue?size=16&images=90"), &nowhere);
        assert!(matches!(error, Err(DataError::Unwritable { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no file is left");
    }

    #[test]
    fn header_ends_at_a_multiple_of_64() {
        let bytes = header("|u1", "(3, 2, 2, 3)");
        assert_eq!((bytes.len() % 64, bytes.last()), (0, Some(&b'\n')));
    }
}
