//! A validated list of transforms and how it runs.

use std::borrow::Cow;

use image::RgbImage;
use s5cl_random::{Stream, named_stream};

use crate::affine::{AffineMap, warp_affine};
use crate::color::{Adjustment, adjust};
use crate::crop::{Region, resized_crop};
use crate::stain::{jitter_in_place, stretch_in_place};
use crate::{AugmentError, Symmetry, Transform};

/// Transforms that run one after another on an image.
///
/// Flips and quarter turns that follow each other cost one copy of the image together.
#[derive(Clone, Debug)]
pub struct Pipeline {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Flip,
    Rot90,
    ColorJitter([f32; 4]),
    HedJitter(f32),
    HedConstant(StainJitter),
    RandomResizedCrop([f32; 2]),
    Affine(f32),
}

#[derive(Clone, Debug)]
struct StainJitter {
    alpha: [f32; 3],
    beta: [f32; 3],
}

impl StainJitter {
    fn draw(amount: f32, random: &mut Stream) -> Self {
        Self {
            alpha: [(); 3].map(|()| random.uniform_in(1.0 - amount, 1.0 + amount)),
            beta: [(); 3].map(|()| random.uniform_in(-amount, amount)),
        }
    }
}

impl Pipeline {
    /// The pipeline of these transforms, in this order; none gives every image back.
    ///
    /// `seed` is the run's; only [`Transform::HedJitterConstant`] draws from it, each one in the
    /// list from a stream of its own.
    ///
    /// # Errors
    ///
    /// If an amount is not valid, see [`Transform::validate`].
    pub fn new(transforms: &[Transform], seed: u64) -> Result<Self, AugmentError> {
        let step = |(position, transform): (usize, &Transform)| {
            transform.validate()?;
            Ok(match *transform {
                Transform::Flip => Step::Flip,
                Transform::Rot90 => Step::Rot90,
                Transform::ColorJitter(amounts) => Step::ColorJitter(amounts),
                Transform::HedJitter(amount) => Step::HedJitter(amount),
                Transform::HedJitterConstant(amount) => {
                    let mut random = named_stream(seed, &format!("hed_jitter_constant {position}"));
                    Step::HedConstant(StainJitter::draw(amount, &mut random))
                }
                Transform::RandomResizedCrop(areas) => Step::RandomResizedCrop(areas),
                Transform::Affine(amount) => Step::Affine(amount),
            })
        };
        let steps = transforms.iter().enumerate().map(step).collect::<Result<_, _>>()?;
        Ok(Self { steps })
    }

    /// A view of the image, of the same size.
    ///
    /// Every transform takes its draws from `random` in the order of the list, the same number
    /// whatever the image and the amounts are.
    #[must_use]
    pub fn apply(&self, image: &RgbImage, random: &mut Stream) -> RgbImage {
        let mut view = View { image: Cow::Borrowed(image), symmetry: Symmetry::default() };
        let size = image.dimensions();
        for step in &self.steps {
            match step {
                Step::Flip => view.symmetry = flip(view.symmetry, random),
                Step::Rot90 => view.symmetry = rotate(view.symmetry, size.0 == size.1, random),
                Step::ColorJitter(amounts) => {
                    let adjustments = color_jitter(*amounts, random);
                    adjust(view.pixels(), &adjustments);
                }
                Step::HedJitter(amount) => {
                    let jitter = StainJitter::draw(*amount, random);
                    if *amount > 0.0 {
                        jitter_in_place(view.pixels(), jitter.alpha, jitter.beta);
                    }
                }
                Step::HedConstant(jitter) => {
                    stretch_in_place(view.pixels(), jitter.alpha, jitter.beta);
                }
                Step::RandomResizedCrop(areas) => {
                    let region = Region::draw(size, *areas, random);
                    view.replace(|image| resized_crop(image, region, size));
                }
                Step::Affine(amount) => {
                    let map = AffineMap::draw(size, *amount, random);
                    view.replace(|image| warp_affine(image, map));
                }
            }
        }
        view.finish()
    }
}

/// An image on its way, and the symmetry that it is still to be seen through.
struct View<'a> {
    image: Cow<'a, RgbImage>,
    symmetry: Symmetry,
}

impl View<'_> {
    fn settle(&mut self) {
        if self.symmetry != Symmetry::default() {
            self.image = Cow::Owned(self.symmetry.apply(&self.image));
            self.symmetry = Symmetry::default();
        }
    }

    fn pixels(&mut self) -> &mut RgbImage {
        self.settle();
        self.image.to_mut()
    }

    fn replace(&mut self, make: impl FnOnce(&RgbImage) -> RgbImage) {
        self.settle();
        self.image = Cow::Owned(make(&self.image));
    }

    fn finish(mut self) -> RgbImage {
        self.settle();
        self.image.into_owned()
    }
}

fn flip(symmetry: Symmetry, random: &mut Stream) -> Symmetry {
    let (x, y) = (random.chance(0.5), random.chance(0.5));
    let symmetry = if x { symmetry.flipped_horizontally() } else { symmetry };
    if y { symmetry.flipped_vertically() } else { symmetry }
}

fn rotate(symmetry: Symmetry, square: bool, random: &mut Stream) -> Symmetry {
    let n_turns = random.below(4);
    // Half turns keep the size of an image that is not square.
    let n_turns = if square { n_turns } else { n_turns / 2 * 2 };
    (0..n_turns).fold(symmetry, |symmetry, _| symmetry.turned_left())
}

/// The adjustments of one jitter in their order; an amount of 0 leaves its own out.
fn color_jitter(amounts: [f32; 4], random: &mut Stream) -> Vec<Adjustment> {
    let order = random.permutation(4);
    let [brightness, contrast, saturation] =
        [0, 1, 2].map(|i: usize| random.uniform_in((1.0 - amounts[i]).max(0.0), 1.0 + amounts[i]));
    let hue = random.uniform_in(-amounts[3], amounts[3]);
    let adjustments = [
        Adjustment::Brightness(brightness),
        Adjustment::Contrast(contrast),
        Adjustment::Saturation(saturation),
        Adjustment::Hue(hue),
    ];
    order.into_iter().filter(|&i| amounts[i] > 0.0).map(|i| adjustments[i]).collect()
}
