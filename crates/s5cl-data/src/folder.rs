//! A folder of images as a dataset: one subfolder per class.
//!
//! ```text
//! root/CLASS/**/image.png                       without splits
//! root/{train,val,test}/CLASS/**/image.png      with splits (also valid, validation)
//! root/unlabeled/**/image.png                   images without a label, beside either
//! ```
//!
//! A folder counts as split when it has a `train/`; what else lies beside the splits is left
//! alone. A subfolder within a class names the group (patient, slide) of the images in it. A
//! sample's id is its path below the root, with `/` between the parts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{ImageReader, RgbImage};
use walkdir::{DirEntry, WalkDir};

use crate::decode::{decode_file, undecodable, unreadable};
use crate::digest::Digest;
use crate::spec::name_of;
use crate::{DataError, Dataset, Sample, Split, Tiles};

const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp"];
const UNLABELED: &str = "unlabeled";

/// An image file and what its place in the tree says about it.
struct Found {
    path: PathBuf,
    bytes: u64,
    id: String,
    class: Option<String>,
    split: Option<Split>,
    group: Option<String>,
}

/// Indexes a folder; reads names and lengths only.
pub(crate) fn open(root: &Path) -> Result<Dataset, DataError> {
    if !root.exists() {
        return Err(DataError::NotFound { path: root.to_owned() });
    }
    let mut found = find_images(root)?;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let classes: BTreeSet<&str> =
        found.iter().filter_map(|image| image.class.as_deref()).collect();
    let class_names: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    match class_names.as_slice() {
        [] => return Err(DataError::NoClasses { path: root.to_owned() }),
        [class] => {
            return Err(DataError::OneClass { path: root.to_owned(), class: class.clone() });
        }
        _ => {}
    }
    let mut lengths = Digest::new();
    let (mut samples, mut paths) = (Vec::new(), Vec::new());
    for image in found {
        lengths.number(image.bytes as usize);
        paths.push(image.path);
        samples.push(Sample {
            id: image.id,
            class_idx: image.class.and_then(|class| index_of(&class_names, &class)),
            split: image.split,
            group: image.group,
        });
    }
    let lengths = lengths.hex();
    let tiles = Arc::new(Files(paths));
    Dataset::new(name_of(root), class_names, samples, tiles, lengths.as_bytes())
}

fn index_of(class_names: &[String], class: &str) -> Option<u32> {
    class_names.binary_search_by(|name| name.as_str().cmp(class)).ok().map(|idx| idx as u32)
}

fn find_images(root: &Path) -> Result<Vec<Found>, DataError> {
    let folders = subfolders(root)?;
    let split_of = |folder: &DirEntry| folder.file_name().to_str()?.parse::<Split>().ok();
    let has_splits = folders.iter().any(|folder| split_of(folder) == Some(Split::Train));
    let mut found = Vec::new();
    for folder in &folders {
        if folder.file_name() == UNLABELED {
            collect(root, folder, None, Some(Split::Train), &mut found)?;
        } else if !has_splits {
            collect(root, folder, Some(folder.file_name()), None, &mut found)?;
        } else if let Some(split) = split_of(folder) {
            for class in subfolders(folder.path())? {
                if class.file_name() != UNLABELED {
                    collect(root, &class, Some(class.file_name()), Some(split), &mut found)?;
                } else if split == Split::Train {
                    collect(root, &class, None, Some(split), &mut found)?;
                }
            }
        }
    }
    Ok(found)
}

fn collect(
    root: &Path,
    folder: &DirEntry,
    class: Option<&OsStr>,
    split: Option<Split>,
    found: &mut Vec<Found>,
) -> Result<(), DataError> {
    for entry in visible(WalkDir::new(folder.path()).min_depth(1).follow_links(true)) {
        let entry = entry.map_err(|error| not_walkable(root, &error))?;
        let path = entry.path();
        if !entry.file_type().is_file() || !is_image(path) {
            continue;
        }
        let bytes = entry.metadata().map_err(|error| not_walkable(root, &error))?.len();
        let group = class.and_then(|_| parts(folder.path(), path).into_iter().rev().nth(1));
        found.push(Found {
            path: path.to_owned(),
            bytes,
            id: parts(root, path).join("/"),
            class: class.map(|name| name.to_string_lossy().into_owned()),
            split,
            group,
        });
    }
    Ok(())
}

/// The folders right below `path`, by name.
fn subfolders(path: &Path) -> Result<Vec<DirEntry>, DataError> {
    let walk = WalkDir::new(path).min_depth(1).max_depth(1).follow_links(true).sort_by_file_name();
    visible(walk)
        .filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_type().is_dir()))
        .map(|entry| entry.map_err(|error| not_walkable(path, &error)))
        .collect()
}

/// Everything but hidden files and what is in hidden folders.
fn visible(walk: WalkDir) -> impl Iterator<Item = walkdir::Result<DirEntry>> {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    walk.into_iter().filter_entry(move |entry| entry.depth() == 0 || !hidden(entry.file_name()))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The names on the way from `root` to `path`.
fn parts(root: &Path, path: &Path) -> Vec<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

fn not_walkable(root: &Path, error: &walkdir::Error) -> DataError {
    let reason = match error.io_error() {
        Some(io) => io.to_string(),
        None => "a link leads back to a folder above it".to_owned(),
    };
    DataError::Unreadable { path: error.path().unwrap_or(root).to_owned(), reason }
}

/// The image files of a folder, by sample.
struct Files(Vec<PathBuf>);

impl Tiles for Files {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        decode_file(&self.0[sample_idx])
    }

    fn size(&self, sample_idx: usize) -> Result<(u32, u32), DataError> {
        let path = &self.0[sample_idx];
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        ImageReader::new(BufReader::new(file))
            .with_guessed_format()
            .map_err(|error| unreadable(path, &error))?
            .into_dimensions()
            .map_err(|error| undecodable(path, &error))
    }
}
