//! The transforms by name, as a config lists them, and what makes one valid.

use serde::{Deserialize, Serialize};

use crate::AugmentError;
use crate::affine::LARGEST_SHIFT;

/// One random change of an image.
///
/// In TOML a list of transforms is
/// `["flip", "rot90", { color_jitter = [0.1, 0.1, 0.1, 0.1] }, { hed_jitter = 0.01 },
/// { random_resized_crop = [0.08, 1.0] }, { affine = 0.05 }]`.
///
/// Amounts are shares without a unit. An amount of 0 gives the image back bit for bit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Left to right with probability 1/2, and top to bottom with probability 1/2.
    ///
    /// Draws: one number for each.
    Flip,
    /// A rotation by 0, 90, 180 or 270 degrees, each as likely.
    ///
    /// An image that is not square keeps its size: it is rotated by 0 or 180 degrees.
    ///
    /// Draws: one integer below 4.
    Rot90,
    /// Brightness, contrast, saturation and hue by a random amount each, in a random order.
    ///
    /// `[b, c, s, h]`: the factors are uniform in `[1 - b, 1 + b]` (not below 0), and so on; the
    /// hue turns by a share of the circle that is uniform in `[-h, h]`, `h` at most 0.5.
    ///
    /// Draws: a shuffle of the four, then four numbers (brightness, contrast, saturation, hue).
    ///
    /// # Source
    ///
    /// torchvision's `ColorJitter` on 8-bit images.
    ColorJitter([f32; 4]),
    /// The amounts of hematoxylin, eosin and DAB, each scaled by `alpha` in `[1 - t, 1 + t]` and
    /// shifted by `beta` in `[-t, t]`, drawn for every image; see [`crate::jitter_stains`].
    ///
    /// Draws: three numbers for `alpha`, then three for `beta`.
    HedJitter(f32),
    /// The stain jitter of the published S5CL code, to compare with its figures: drawn once for
    /// the whole run, and every image stretched; see [`crate::jitter_stains_stretched`].
    ///
    /// Draws: none from an image's stream; six numbers from the run's seed in
    /// [`crate::Pipeline::new`]. The one transform that changes the image when its amount is 0.
    HedJitterConstant(f32),
    /// A random part of the image, scaled back to the image's size.
    ///
    /// `[low, high]`: the part's area as a share of the image's is uniform in this range, its
    /// aspect ratio log-uniform in `[3/4, 4/3]`; of 10 candidates the first that fits is taken,
    /// else the largest centred part with an aspect ratio in range. Bilinear, antialiased.
    ///
    /// Draws: an area and a log ratio for each of the 10 candidates, then the top and the left
    /// edge as integers.
    ///
    /// # Source
    ///
    /// torchvision's `RandomResizedCrop`, which stops to draw at the first candidate that fits.
    RandomResizedCrop([f32; 2]),
    /// An affine map that moves three corners of a centred square, each coordinate by a uniform
    /// share in `[-t, t]` of the image's shorter side; `t` below 1/6. See
    /// [`crate::AffineMap::from_corner_shifts`].
    ///
    /// Draws: six numbers, x and y of each corner.
    Affine(f32),
}

impl Transform {
    /// The name in a config.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rot90 => "rot90",
            Self::ColorJitter(_) => "color_jitter",
            Self::HedJitter(_) => "hed_jitter",
            Self::HedJitterConstant(_) => "hed_jitter_constant",
            Self::RandomResizedCrop(_) => "random_resized_crop",
            Self::Affine(_) => "affine",
        }
    }

    /// Checks the amounts.
    ///
    /// # Errors
    ///
    /// If an amount is negative, not finite, above what the transform can do, or a range is out
    /// of order.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let transform = self.name();
        let amount = |value: f32| {
            let valid = value.is_finite() && value >= 0.0;
            if valid { Ok(()) } else { Err(AugmentError::Amount { transform, value }) }
        };
        match *self {
            Self::Flip | Self::Rot90 => Ok(()),
            Self::ColorJitter(amounts) => {
                amounts.into_iter().try_for_each(amount)?;
                let reason = "half of the hue circle";
                self.at_most(amounts[3], 0.5, reason)
            }
            Self::HedJitter(value) | Self::HedJitterConstant(value) => amount(value),
            Self::RandomResizedCrop([low, high]) => {
                // Written so that a NaN fails.
                let valid = low > 0.0 && low <= high && high <= 1.0;
                if valid { Ok(()) } else { Err(AugmentError::AreaRange { transform, low, high }) }
            }
            Self::Affine(value) => {
                amount(value)?;
                self.at_most(value, LARGEST_SHIFT, "beyond it the three corners can form a line")
            }
        }
    }

    fn at_most(&self, value: f32, limit: f32, reason: &'static str) -> Result<(), AugmentError> {
        if value <= limit {
            return Ok(());
        }
        Err(AugmentError::TooLarge { transform: self.name(), value, limit, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Views {
        strong: Vec<Transform>,
    }

    const STRONG: &str = r#"strong = ["flip", "rot90", { color_jitter = [0.1, 0.1, 0.1, 0.1] }, { hed_jitter = 0.01 }, { hed_jitter_constant = 0.01 }, { random_resized_crop = [0.08, 1] }, { affine = 0.05 }]"#;

    fn strong() -> Views {
        Views {
            strong: vec![
                Transform::Flip,
                Transform::Rot90,
                Transform::ColorJitter([0.1; 4]),
                Transform::HedJitter(0.01),
                Transform::HedJitterConstant(0.01),
                Transform::RandomResizedCrop([0.08, 1.0]),
                Transform::Affine(0.05),
            ],
        }
    }

    #[test]
    fn transform_reads_and_writes_toml() {
        assert_eq!(toml::from_str::<Views>(STRONG).unwrap(), strong());
        let written = toml::to_string(&strong()).unwrap();
        assert_eq!(toml::from_str::<Views>(&written).unwrap(), strong());
    }

    #[test]
    fn transform_name_is_the_name_in_toml() {
        for transform in strong().strong {
            let text = toml::to_string(&Views { strong: vec![transform.clone()] }).unwrap();
            assert!(text.contains(transform.name()), "{text}");
        }
    }

    #[test]
    fn transform_unknown_lists_the_valid_ones() {
        let error = toml::from_str::<Views>(r#"strong = ["blur"]"#).unwrap_err().to_string();
        assert!(error.contains("blur"), "{error}");
        for transform in strong().strong {
            assert!(error.contains(transform.name()), "{error}");
        }
    }

    #[test]
    fn validate_names_the_transform_and_the_value() {
        let cases = [
            (Transform::ColorJitter([0.1, -0.2, 0.1, 0.1]), "color_jitter = -0.2"),
            (Transform::ColorJitter([0.1, 0.1, 0.1, 0.6]), "color_jitter = 0.6: at most 0.5"),
            (Transform::ColorJitter([f32::NAN, 0.1, 0.1, 0.1]), "color_jitter = NaN"),
            (Transform::HedJitter(-1.0), "hed_jitter = -1"),
            (Transform::HedJitterConstant(f32::INFINITY), "hed_jitter_constant = inf"),
            (Transform::RandomResizedCrop([0.5, 0.2]), "random_resized_crop = [0.5, 0.2]"),
            (Transform::RandomResizedCrop([0.0, 1.0]), "random_resized_crop = [0, 1]"),
            (Transform::RandomResizedCrop([0.5, 1.5]), "random_resized_crop = [0.5, 1.5]"),
            (Transform::RandomResizedCrop([f32::NAN, 1.0]), "random_resized_crop = [NaN, 1]"),
            (Transform::Affine(0.2), "affine = 0.2: at most 0.166"),
            (Transform::Affine(-0.1), "affine = -0.1"),
        ];
        for (transform, expected) in cases {
            let message = transform.validate().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(strong().strong.iter().all(|transform| transform.validate().is_ok()));
    }
}
