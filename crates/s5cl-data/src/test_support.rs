//! What several tests need: a folder that goes away, datasets without tiles, arrays on disk.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{Rgb, RgbImage};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{DataError, Dataset, Sample, Split, Tiles};

/// A folder of one test, removed with everything in it.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("s5cl-data-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a flat tile in the format of its extension.
    pub(crate) fn write_tile(&self, name: &str, size: (u32, u32), color: [u8; 3]) -> PathBuf {
        let path = self.write(name, b"");
        RgbImage::from_pixel(size.0, size.1, Rgb(color)).save(&path).unwrap();
        path
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Tiles of one black pixel.
struct Black;

impl Tiles for Black {
    fn tile(&self, _: usize) -> Result<RgbImage, DataError> {
        Ok(RgbImage::new(1, 1))
    }
}

/// What a sample of a test is: class, split and group.
pub(crate) type Kind = (Option<u32>, Option<Split>, Option<&'static str>);

/// A dataset of 1-pixel tiles with classes `c0`, `c1` and so on.
pub(crate) fn dataset_of(kinds: &[Kind]) -> Dataset {
    let n_classes = kinds.iter().filter_map(|kind| kind.0).max().map_or(0, |i| i + 1);
    let class_names = (0..n_classes).map(|i| format!("c{i}")).collect();
    let samples = kinds.iter().enumerate().map(|(i, &(class_idx, split, group))| Sample {
        id: format!("s{i:04}"),
        class_idx,
        split,
        group: group.map(str::to_owned),
    });
    Dataset::new("test", class_names, samples.collect(), Arc::new(Black), b"").unwrap()
}

/// A `.npy` file: version 1 header in C order, then the elements.
pub(crate) fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    npy_with(1, &dictionary, elements)
}

/// A `.npy` file of any version with any header.
pub(crate) fn npy_with(version: u8, dictionary: &str, elements: &[u8]) -> Vec<u8> {
    let length = dictionary.len() as u32 + 1;
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    let length_bytes = if version == 1 { 2 } else { 4 };
    file.extend(&length.to_le_bytes()[..length_bytes]);
    file.extend(dictionary.as_bytes());
    file.push(b'\n');
    file.extend(elements);
    file
}

/// A zip archive of the given members.
pub(crate) fn npz(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
