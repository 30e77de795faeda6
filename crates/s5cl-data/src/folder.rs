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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use walkdir::{DirEntry, WalkDir};

use crate::dataset::name_of;
use crate::decode::decode_file;
use crate::digest::Digest;
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
    let classes: BTreeSet<&str> = found.iter().filter_map(|image| image.class.as_deref()).collect();
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
        let below_class = parts(folder.path(), path);
        let in_subfolder = class.is_some() && below_class.len() > 1;
        found.push(Found {
            path: path.to_owned(),
            bytes,
            id: parts(root, path).join("/"),
            class: class.map(|name| name.to_string_lossy().into_owned()),
            split,
            group: in_subfolder.then(|| below_class[0].clone()),
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
pub(crate) fn visible(walk: WalkDir) -> impl Iterator<Item = walkdir::Result<DirEntry>> {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    walk.into_iter().filter_entry(move |entry| entry.depth() == 0 || !hidden(entry.file_name()))
}

pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The names on the way from `root` to `path`.
pub(crate) fn parts(root: &Path, path: &Path) -> Vec<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

pub(crate) fn not_walkable(root: &Path, error: &walkdir::Error) -> DataError {
    let reason = match error.io_error() {
        Some(io) => io.to_string(),
        None => "a link leads back to a folder above it".to_owned(),
    };
    DataError::Unreadable { path: error.path().unwrap_or(root).to_owned(), reason }
}

/// The image files of a folder, by sample.
pub(crate) struct Files(pub(crate) Vec<PathBuf>);

impl Tiles for Files {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        decode_file(&self.0[sample_idx])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommonSize;
    use crate::test_support::TempFolder;

    fn ids(dataset: &Dataset) -> Vec<&str> {
        dataset.samples.iter().map(|sample| sample.id.as_str()).collect()
    }

    #[test]
    fn folder_without_splits_has_one_class_per_subfolder() {
        let root = TempFolder::new();
        for name in ["b/2.PNG", "b/1.jpeg", "a/x.TIF", "a/y.webp", "a/z.bmp", "unlabeled/u.png"] {
            root.write_tile(name, (4, 4), [10, 20, 30]);
        }
        for ignored in ["a/notes.txt", "a/.hidden.png", ".cache/c.png", "top.png", "docs/a.md"] {
            root.write(ignored, b"no image");
        }
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.class_names, ["a", "b"]);
        let expected = ["a/x.TIF", "a/y.webp", "a/z.bmp", "b/1.jpeg", "b/2.PNG", "unlabeled/u.png"];
        assert_eq!(ids(&dataset), expected);
        let labels: Vec<_> = dataset.samples.iter().map(|sample| sample.class_idx).collect();
        assert_eq!(labels, [Some(0), Some(0), Some(0), Some(1), Some(1), None]);
        assert!(dataset.samples[..5].iter().all(|sample| sample.split.is_none()));
        assert_eq!(dataset.samples[5].split, Some(Split::Train));
        assert!(dataset.samples.iter().all(|sample| sample.group.is_none()));
        assert_eq!(dataset.tile(0).unwrap().get_pixel(3, 3).0, [10, 20, 30]);
        assert_eq!(dataset.common_size().unwrap(), CommonSize::Same(4, 4));
    }

    #[test]
    fn folder_with_splits_joins_the_classes_of_all() {
        let root = TempFolder::new();
        for name in [
            "Train/b/1.png",
            "Train/unlabeled/2.png",
            "valid/a/3.png",
            "test/b/4.png",
            "test/unlabeled/5.png",
            "unlabeled/6.png",
            "masks/7.png",
        ] {
            root.write_tile(name, (2, 2), [0; 3]);
        }
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.class_names, ["a", "b"]);
        let found: Vec<_> =
            dataset.samples.iter().map(|s| (s.id.as_str(), s.class_idx, s.split)).collect();
        let expected = [
            ("Train/b/1.png", Some(1), Some(Split::Train)),
            ("Train/unlabeled/2.png", None, Some(Split::Train)),
            ("test/b/4.png", Some(1), Some(Split::Test)),
            ("unlabeled/6.png", None, Some(Split::Train)),
            ("valid/a/3.png", Some(0), Some(Split::Validation)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn folder_within_a_class_names_the_group() {
        let root = TempFolder::new();
        for name in ["a/p1/slide/1.png", "a/2.png", "b/p1/3.png"] {
            root.write_tile(name, (2, 2), [0; 3]);
        }
        let dataset = open(root.path()).unwrap();
        let groups: Vec<_> = dataset.samples.iter().map(|s| s.group.as_deref()).collect();
        assert_eq!(ids(&dataset), ["a/2.png", "a/p1/slide/1.png", "b/p1/3.png"]);
        assert_eq!(groups, [None, Some("p1"), Some("p1")]);
    }

    #[test]
    fn folder_digest_follows_names_and_lengths_but_not_the_place() {
        let fill = |root: &TempFolder| {
            root.write("a/1.png", b"12");
            root.write("b/1.png", b"34");
            open(root.path()).unwrap().digest().to_owned()
        };
        let (first, second) = (TempFolder::new(), TempFolder::new());
        let digest = fill(&first);
        assert_eq!(digest, fill(&second));
        second.write("b/1.png", b"345");
        assert_ne!(digest, open(second.path()).unwrap().digest());
        second.write("b/1.png", b"34");
        second.write("b/2.png", b"");
        assert_ne!(digest, open(second.path()).unwrap().digest());
    }

    #[test]
    fn folder_that_is_no_dataset_is_refused() {
        let root = TempFolder::new();
        let refused = |path: &Path| open(path).unwrap_err().to_string();
        assert!(refused(root.path()).contains("no images in class folders"));
        root.write_tile("only/1.png", (2, 2), [0; 3]);
        let message = refused(root.path());
        assert!(message.contains("only one class, `only`"), "{message}");
        assert!(message.contains(&root.path().display().to_string()), "{message}");
        assert!(refused(Path::new("no/such/folder")).starts_with("no/such/folder: no such"));
    }

    #[test]
    fn folder_names_the_image_that_cannot_be_read() {
        let root = TempFolder::new();
        let whole = root.write_tile("a/1.png", (32, 32), [9; 3]);
        let bytes = std::fs::read(whole).unwrap();
        root.write("b/cut.png", &bytes[..bytes.len() / 2]);
        let dataset = open(root.path()).unwrap();
        let message = dataset.tile(1).unwrap_err().to_string();
        assert!(message.contains("b/cut.png: not a readable image"), "{message}");
        std::fs::remove_file(root.path().join("a/1.png")).unwrap();
        let message = dataset.tile(0).unwrap_err().to_string();
        assert!(message.contains("a/1.png: cannot be read"), "{message}");
    }

    #[test]
    fn folder_of_mixed_sizes_is_seen_and_scaled() {
        let root = TempFolder::new();
        root.write_tile("a/1.png", (4, 6), [9; 3]);
        root.write_tile("b/1.png", (10, 8), [9; 3]);
        let dataset = open(root.path()).unwrap();
        let size = dataset.common_size().unwrap();
        assert_eq!(size, CommonSize::Mixed { smallest: (4, 6), largest: (10, 8) });
        assert_eq!(size.longest_side(), 10);
        let digest = dataset.digest().to_owned();
        let scaled = dataset.resized(5).cached(1 << 10);
        assert_eq!(scaled.digest(), digest);
        assert_eq!(scaled.common_size().unwrap(), CommonSize::Same(5, 5));
        assert!((0..2).all(|i| scaled.tile(i).unwrap().dimensions() == (5, 5)));
    }
}
