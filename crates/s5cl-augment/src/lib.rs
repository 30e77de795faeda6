//! Weak and strong views of histology images: flips, rotations, colour, stain, crops.
//!
//! Images in, images out, of the same size; no tensor, no file, no generator of its own. A
//! [`Pipeline`] is a validated list of [`Transform`]s. What it draws comes from the stream that
//! the caller passes, so that a view depends on nothing but its key, and every transform takes
//! the same number of draws whatever the image is, so that changing one amount leaves the draws
//! of the other transforms alone. What was drawn is a [`ViewPlan`], plain numbers: who makes views
//! on another device reads it with [`Pipeline::draw`], and [`Pipeline::apply`] runs it here.
//!
//! The transforms are also plain functions of an image and fixed amounts ([`adjust_hue`],
//! [`jitter_stains`], ...), as tests, robustness sweeps and previews need them.
//!
//! ```
//! use image::RgbImage;
//! use s5cl_augment::{Pipeline, Transform};
//! use s5cl_random::stream;
//!
//! let weak = [Transform::Flip, Transform::Rot90, Transform::ColorJitter([0.1, 0.1, 0.1, 0.1])];
//! let weak = Pipeline::new(&weak, 0)?;
//! let tile = RgbImage::from_fn(32, 32, |x, y| image::Rgb([150 + x as u8, 90, 160 + y as u8]));
//!
//! // Seed 0, epoch 3, sample 17, view 0: the same view whenever and wherever it is made.
//! let view = weak.apply(&tile, &mut stream(0, 3, 17, 0));
//! assert_eq!(view, weak.apply(&tile, &mut stream(0, 3, 17, 0)));
//! # Ok::<(), s5cl_augment::AugmentError>(())
//! ```

mod transform;

mod affine;
mod color;
mod crop;
mod geometry;
mod pipeline;
mod plan;
mod stain;

mod block;
mod density;
mod error;
mod resize;

pub use affine::{AffineMap, warp_affine};
pub use color::{adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use crop::{Region, resized_crop};
pub use density::DensityMap;
pub use error::AugmentError;
pub use geometry::Symmetry;
pub use pipeline::Pipeline;
pub use plan::{Adjustment, PlanStep, ViewPlan};
pub use stain::{StainJitter, jitter_stains, jitter_stains_stretched};
pub use transform::Transform;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
