//! The distances that embeddings are compared by.

use std::borrow::Cow;

use crate::EvalError;
use crate::features::Features;
use crate::vectors::{dot, squared_distance, unit_rows};

/// Names of the distances, for [`Distance::named`].
pub const DISTANCES: &[&str] = &["cosine", "euclidean"];

/// Twice what the cosine of two rows of one direction is off 1 at most, as each was rounded to f32.
/// A distance below says nothing, and may be below 0.
const UNIT_ROUNDING: f64 = 2.0 * f32::EPSILON as f64;

/// How far two embeddings are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// `1 - cos(x, y)`, in `[0, 2]`; 0 up to 2.4e-7, where rounding decides; a row of zeros is at 1
    /// from all others.
    Cosine,
    /// `|x - y|`.
    Euclidean,
}

impl Distance {
    /// The distance of a name, one of [`DISTANCES`].
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn named(name: &str) -> Result<Self, EvalError> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "euclidean" => Ok(Self::Euclidean),
            _ => Err(EvalError::UnknownName {
                what: "distance",
                name: name.to_owned(),
                known: DISTANCES,
            }),
        }
    }

    /// The rows that [`Self::between`] compares.
    pub(crate) fn rows(self, features: &Features) -> Cow<'_, [f32]> {
        match self {
            Self::Cosine => Cow::Owned(unit_rows(features)),
            Self::Euclidean => Cow::Borrowed(features.as_slice()),
        }
    }

    /// The distance between two of [`Self::rows`].
    pub(crate) fn between(self, left: &[f32], right: &[f32]) -> f64 {
        match self {
            Self::Cosine => {
                let distance = 1.0 - dot(left, right);
                if distance > UNIT_ROUNDING { distance.min(2.0) } else { 0.0 }
            }
            Self::Euclidean => squared_distance(left, right).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_has_every_name_and_refuses_others() {
        let named: Vec<Distance> =
            DISTANCES.iter().map(|name| Distance::named(name).unwrap()).collect();
        assert_eq!(named, [Distance::Cosine, Distance::Euclidean]);
        assert_eq!(
            Distance::named("l1").unwrap_err().to_string(),
            "there is no distance \"l1\": choose one of cosine, euclidean"
        );
    }

    #[test]
    fn distance_is_what_its_formula_says() {
        let rows = Features::new(vec![3.0, 4.0, 0.0, 2.0], 2).unwrap();
        let between = |distance: Distance| {
            let rows = distance.rows(&rows);
            distance.between(&rows[..2], &rows[2..])
        };
        assert!((between(Distance::Cosine) - 0.2).abs() < 1e-7);
        assert!((between(Distance::Euclidean) - 13.0_f64.sqrt()).abs() < 1e-15);
    }
}
