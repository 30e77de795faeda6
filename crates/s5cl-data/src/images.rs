//! Images without classes: what a trained model is pointed at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use walkdir::WalkDir;

use crate::dataset::name_of;
use crate::folder::{Files, is_image, not_walkable, parts, visible};
use crate::{DataError, Dataset, Sample, npz};

/// Opens an image, all images in a folder at any depth, or the images of a MedMNIST `.npz` file.
///
/// No sample has a class, a split or a group. Ids are paths below the folder, with `/` between
/// the parts, in their order.
///
/// # Errors
///
/// If there is nothing at the path, no image in the folder, or the archive cannot be read.
pub fn open_images(path: &Path) -> Result<Dataset, DataError> {
    if !path.exists() {
        return Err(DataError::NotFound { path: path.to_owned() });
    }
    if path.is_dir() {
        return of_files(path, files_below(path)?);
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
        let mut dataset = npz::open(path)?;
        for sample in &mut dataset.samples {
            (sample.class_idx, sample.split) = (None, None);
        }
        return Ok(dataset);
    }
    of_files(path.parent().unwrap_or(Path::new("")), vec![path.to_owned()])
}

fn files_below(root: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in visible(WalkDir::new(root).follow_links(true).sort_by_file_name()) {
        let entry = entry.map_err(|error| not_walkable(root, &error))?;
        if entry.file_type().is_file() && is_image(entry.path()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn of_files(root: &Path, files: Vec<PathBuf>) -> Result<Dataset, DataError> {
    let id = |file: &PathBuf| parts(root, file).join("/");
    let sample = |id| Sample { id, class_idx: None, split: None, group: None };
    let samples: Vec<Sample> = files.iter().map(id).map(sample).collect();
    if samples.is_empty() {
        return Err(DataError::NoImages { path: root.to_owned() });
    }
    Dataset::new(name_of(root), Vec::new(), samples, Arc::new(Files(files)), b"")
}

#[cfg(test)]
mod tests {
    use super::open_images;
    use crate::test_support::TempFolder;

    #[test]
    fn open_images_finds_every_depth_and_no_other_file() {
        let root = TempFolder::new();
        for name in ["b.png", "deep/er/a.png", ".hidden/c.png"] {
            root.write_tile(name, (2, 2), [1, 2, 3]);
        }
        root.write("notes.txt", b"");
        let dataset = open_images(root.path()).unwrap();
        let ids: Vec<&str> = dataset.samples.iter().map(|sample| sample.id.as_str()).collect();
        assert_eq!(ids, ["b.png", "deep/er/a.png"]);
        assert_eq!(dataset.tile(1).unwrap().get_pixel(0, 0).0, [1, 2, 3]);

        let one = open_images(&root.path().join("b.png")).unwrap();
        assert_eq!(one.samples[0].id, "b.png");
    }

    #[test]
    fn open_images_of_nothing_says_where() {
        let root = TempFolder::new();
        let message = open_images(root.path()).unwrap_err().to_string();
        assert!(message.contains(&*root.path().to_string_lossy()), "{message}");
        assert!(open_images(&root.path().join("absent.png")).is_err());
    }
}
