//! Sections that show images: the sprite sheet, the map, retrieval panels, mistakes, views.

use serde::Deserialize;

/// What a browser shows, and what cannot leave its place in a style or an attribute.
const IMAGE_TYPES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];

/// Thumbnails in one image; tile `i` is at column `i % columns`, row `i / columns`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sheet {
    pub(crate) side: u32,
    pub(crate) columns: usize,
    pub(crate) n: usize,
    pub(crate) mime: String,
    pub(crate) base64: String,
}

/// Embeddings in the plane, one entry of every list an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Atlas {
    pub(crate) method: String,
    pub(crate) x: Vec<Option<f64>>,
    pub(crate) y: Vec<Option<f64>>,
    /// Class indices; -1 is unknown.
    pub(crate) label: Vec<i64>,
    pub(crate) prediction: Vec<i64>,
    pub(crate) confidence: Vec<Option<f64>>,
    /// 0 test, 1 labeled, 2 unlabeled.
    pub(crate) part: Vec<i64>,
    /// Class indices; -1 is no pseudo-label.
    pub(crate) pseudo: Vec<i64>,
    pub(crate) thumbnail: Vec<usize>,
    pub(crate) id: Vec<String>,
}

/// One image: where it is from, its tile, and what is known of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Picture {
    pub(crate) id: String,
    pub(crate) thumbnail: usize,
    /// Class index; -1 is unknown.
    pub(crate) label: i64,
    pub(crate) prediction: Option<i64>,
    /// Cosine to the query, in `[-1, 1]`.
    pub(crate) similarity: Option<f64>,
}

/// A test image and the images nearest to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Panel {
    pub(crate) query: Picture,
    pub(crate) neighbors: Vec<Picture>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Mistake {
    #[serde(flatten)]
    pub(crate) picture: Picture,
    pub(crate) confidence: Option<f64>,
}

/// Views of some images, one row a kind of view, as one image.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Views {
    pub(crate) mime: String,
    pub(crate) base64: String,
    pub(crate) rows: Vec<String>,
    pub(crate) columns: usize,
}

impl Sheet {
    /// The number of tiles, if the sheet can be shown.
    pub(super) fn check(&self) -> Result<usize, String> {
        check_image("thumbnails", &self.mime, &self.base64)?;
        if self.side == 0 || self.columns == 0 || self.n == 0 {
            return Err("thumbnails.side, columns and n must be positive".to_owned());
        }
        Ok(self.n)
    }
}

impl Views {
    pub(super) fn check(&self) -> Result<(), String> {
        check_image("views", &self.mime, &self.base64)?;
        if self.rows.is_empty() || self.columns == 0 {
            return Err("views has no rows or no columns".to_owned());
        }
        Ok(())
    }
}

impl Atlas {
    pub(super) fn check(&self, n_classes: usize, n_tiles: Option<usize>) -> Result<(), String> {
        let n = self.x.len();
        let lengths = [
            ("y", self.y.len()),
            ("label", self.label.len()),
            ("prediction", self.prediction.len()),
            ("confidence", self.confidence.len()),
            ("part", self.part.len()),
            ("pseudo", self.pseudo.len()),
            ("thumbnail", self.thumbnail.len()),
            ("id", self.id.len()),
        ];
        if let Some((name, length)) = lengths.into_iter().find(|(_, length)| *length != n) {
            return Err(format!("atlas.x has {n} entries but atlas.{name} has {length}"));
        }
        for (name, classes) in
            [("label", &self.label), ("prediction", &self.prediction), ("pseudo", &self.pseudo)]
        {
            classes.iter().try_for_each(|&class_idx| {
                check_class(&format!("atlas.{name}"), class_idx, n_classes)
            })?;
        }
        if let Some(part) = self.part.iter().find(|part| !(0..3).contains(*part)) {
            return Err(format!("atlas.part has {part}; it is 0, 1 or 2"));
        }
        self.thumbnail.iter().try_for_each(|&tile| check_tile("atlas.thumbnail", tile, n_tiles))
    }
}

impl Picture {
    pub(super) fn check(
        &self,
        place: &str,
        n_classes: usize,
        n_tiles: Option<usize>,
    ) -> Result<(), String> {
        check_class(place, self.label, n_classes)?;
        check_class(place, self.prediction.unwrap_or(-1), n_classes)?;
        check_tile(place, self.thumbnail, n_tiles)
    }
}

fn check_class(place: &str, class_idx: i64, n_classes: usize) -> Result<(), String> {
    let is_class = usize::try_from(class_idx).is_ok_and(|class_idx| class_idx < n_classes);
    if class_idx == -1 || is_class {
        return Ok(());
    }
    Err(format!("{place} names class {class_idx} of {n_classes}"))
}

fn check_tile(place: &str, tile: usize, n_tiles: Option<usize>) -> Result<(), String> {
    match n_tiles {
        Some(n_tiles) if tile >= n_tiles => {
            Err(format!("{place} names thumbnail {tile} of {n_tiles}"))
        }
        _ => Ok(()),
    }
}

fn check_image(place: &str, mime: &str, base64: &str) -> Result<(), String> {
    if !IMAGE_TYPES.contains(&mime) {
        return Err(format!("{place}.mime is {mime:?}; it must be one of {IMAGE_TYPES:?}"));
    }
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if base64.is_empty() || !base64.bytes().all(is_digit) {
        return Err(format!("{place} holds no image in base64"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_that_could_leave_its_place_is_refused() {
        assert!(check_image("views", "image/png", "iVBORw0=").is_ok());
        assert!(check_image("views", "image/png", "a\");b").is_err());
        assert!(check_image("views", "image/png", "").is_err());
        assert!(check_image("views", "image/svg+xml", "iVBORw0=").is_err());
    }

    #[test]
    fn indices_outside_their_lists_are_refused() {
        assert!(check_class("label", -1, 0).is_ok() && check_class("label", 2, 3).is_ok());
        assert!(check_class("label", 3, 3).is_err() && check_class("label", -2, 3).is_err());
        assert!(check_tile("label", 7, None).is_ok() && check_tile("label", 6, Some(7)).is_ok());
        assert!(check_tile("label", 7, Some(7)).is_err());
    }

    #[test]
    fn atlas_of_uneven_lists_is_refused() {
        let atlas = Atlas { x: vec![Some(0.0)], ..Atlas::default() };
        assert_eq!(atlas.check(1, None).unwrap_err(), "atlas.x has 1 entries but atlas.y has 0");
    }
}
