//! A validated list of transforms and how it runs.

use image::RgbImage;
use s5cl_random::{Stream, named_stream};

use crate::affine::AffineMap;
use crate::crop::Region;
use crate::plan::{Adjustment, PlanStep, ViewPlan};
use crate::stain::StainJitter;
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

    /// A view of the image, of the same size; an image without pixels comes back as it is.
    ///
    /// The same as [`Pipeline::draw`] and then [`ViewPlan::apply`].
    #[must_use]
    pub fn apply(&self, image: &RgbImage, random: &mut Stream) -> RgbImage {
        self.draw(image.dimensions(), random).apply(image)
    }

    /// What makes a view of an image of this size (width, height).
    ///
    /// Every transform takes its draws from `random` in the order of the list, the same number
    /// whatever the size and the amounts are, unless the size is that of no pixels. A transform
    /// that changes nothing leaves no step.
    #[must_use]
    pub fn draw(&self, size: (u32, u32), random: &mut Stream) -> ViewPlan {
        let mut plan = ViewPlan::new(size);
        if size.0 == 0 || size.1 == 0 {
            return plan;
        }
        for step in &self.steps {
            match *step {
                Step::Flip => plan.turn(|symmetry| flip(symmetry, random)),
                Step::Rot90 => plan.turn(|symmetry| rotate(symmetry, size.0 == size.1, random)),
                Step::ColorJitter(amounts) => {
                    let adjustments = color_jitter(amounts, random);
                    if !adjustments.is_empty() {
                        plan.push(PlanStep::Colors(adjustments));
                    }
                }
                Step::HedJitter(amount) => {
                    let jitter = StainJitter::draw(amount, random);
                    if amount > 0.0 {
                        plan.push(PlanStep::Stains(jitter));
                    }
                }
                Step::HedConstant(jitter) => plan.push(PlanStep::StretchedStains(jitter)),
                Step::RandomResizedCrop(areas) => {
                    plan.push(PlanStep::Crop(Region::draw(size, areas, random)));
                }
                Step::Affine(amount) => {
                    let map = AffineMap::draw(size, amount, random);
                    if amount > 0.0 {
                        plan.push(PlanStep::Affine(map));
                    }
                }
            }
        }
        plan
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

#[cfg(test)]
mod tests {
    use super::*;
    use s5cl_random::stream;

    const EVERYTHING: [Transform; 7] = [
        Transform::Rot90,
        Transform::ColorJitter([0.1, 0.2, 0.3, 0.1]),
        Transform::Flip,
        Transform::HedJitter(0.05),
        Transform::RandomResizedCrop([0.08, 1.0]),
        Transform::Affine(0.05),
        Transform::HedJitterConstant(0.01),
    ];

    fn tile(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([200 - (x % 100) as u8, 90 + (y % 100) as u8, 130 + (x * y % 50) as u8])
        })
    }

    fn view(transforms: &[Transform], image: &RgbImage, sample: u64) -> RgbImage {
        let pipeline = Pipeline::new(transforms, 0).unwrap();
        pipeline.apply(image, &mut stream(0, 0, sample, 1))
    }

    #[test]
    fn pipeline_keeps_the_size() {
        for (width, height) in [(32, 32), (224, 160), (7, 50), (1, 1), (3, 1), (0, 0), (0, 4)] {
            for sample in 0..20 {
                let view = view(&EVERYTHING, &tile(width, height), sample);
                assert_eq!(view.dimensions(), (width, height));
            }
        }
    }

    #[test]
    fn pipeline_depends_on_the_stream_alone() {
        let pipeline = Pipeline::new(&EVERYTHING, 0).unwrap();
        let tile = tile(40, 40);
        let views: Vec<RgbImage> =
            (0..10).map(|sample| pipeline.apply(&tile, &mut stream(0, 0, sample, 1))).collect();
        for (sample, view) in views.iter().enumerate().rev() {
            assert_eq!(*view, pipeline.apply(&tile, &mut stream(0, 0, sample as u64, 1)));
        }
        assert_ne!(views[0], views[1]);
    }

    #[test]
    fn plan_of_nothing_has_no_steps() {
        let nothing =
            [Transform::ColorJitter([0.0; 4]), Transform::HedJitter(0.0), Transform::Affine(0.0)];
        let plan = |transforms: &[Transform], size| {
            Pipeline::new(transforms, 0).unwrap().draw(size, &mut stream(0, 0, 0, 1))
        };
        assert_eq!(plan(&nothing, (33, 20)), ViewPlan::new((33, 20)));
        assert_eq!(plan(&EVERYTHING, (0, 20)), ViewPlan::new((0, 20)));
    }

    #[test]
    fn pipeline_of_nothing_is_the_identity() {
        let nothing =
            [Transform::ColorJitter([0.0; 4]), Transform::HedJitter(0.0), Transform::Affine(0.0)];
        assert_eq!(view(&nothing, &tile(33, 20), 0), tile(33, 20));
        assert_eq!(view(&[], &tile(33, 20), 0), tile(33, 20));
    }

    #[test]
    fn pipeline_reaches_every_symmetry_alike() {
        let (tile, n_views) = (tile(9, 9), 4000);
        let mut counts = std::collections::BTreeMap::new();
        for sample in 0..n_views {
            let view = view(&[Transform::Rot90], &tile, sample);
            *counts.entry(view.into_raw()).or_insert(0) += 1;
        }
        // Four turns, a quarter of the views each; 5 standard deviations of a binomial are 137.
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (863..=1137).contains(count)), "{counts:?}");
        let both = [Transform::Flip, Transform::Rot90];
        let views = (0..200).map(|sample| view(&both, &tile, sample).into_raw());
        assert_eq!(views.collect::<std::collections::BTreeSet<_>>().len(), 8);
    }

    #[test]
    fn transforms_take_the_same_draws_whatever_the_amounts_and_the_image() {
        let next = |transform: Transform, image: &RgbImage| {
            let mut random = stream(0, 0, 5, 1);
            let _ = Pipeline::new(&[transform], 0).unwrap().apply(image, &mut random);
            random.next_u64()
        };
        let (square, wide) = (tile(16, 16), tile(30, 4));
        for (some, other) in [
            (Transform::Rot90, Transform::Rot90),
            (Transform::Flip, Transform::Flip),
            (Transform::ColorJitter([0.1; 4]), Transform::ColorJitter([0.0; 4])),
            (Transform::HedJitter(0.1), Transform::HedJitter(0.0)),
            (Transform::RandomResizedCrop([0.1, 0.2]), Transform::RandomResizedCrop([1.0, 1.0])),
            (Transform::Affine(0.1), Transform::Affine(0.0)),
        ] {
            assert_eq!(next(some.clone(), &square), next(other, &wide), "{some:?}");
        }
        let untouched = stream(0, 0, 5, 1).next_u64();
        assert_eq!(next(Transform::HedJitterConstant(0.1), &square), untouched);
    }

    #[test]
    fn constant_jitter_belongs_to_the_run() {
        let transforms = [Transform::HedJitterConstant(0.1)];
        assert_eq!(view(&transforms, &tile(20, 20), 0), view(&transforms, &tile(20, 20), 1));
        let other_run = Pipeline::new(&transforms, 1).unwrap();
        let other = other_run.apply(&tile(20, 20), &mut stream(0, 0, 0, 1));
        assert_ne!(view(&transforms, &tile(20, 20), 0), other);
    }

    #[test]
    fn color_jitter_takes_every_order() {
        let mut random = stream(0, 0, 0, 0);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            orders.insert(format!(
                "{:?}",
                color_jitter([0.0, 0.1, 0.1, 0.1], &mut random)
                    .iter()
                    .map(std::mem::discriminant)
                    .collect::<Vec<_>>()
            ));
        }
        // Brightness is left out, the other three stand in any order.
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn invalid_transform_is_refused() {
        let error = Pipeline::new(&[Transform::Flip, Transform::HedJitter(-0.5)], 0).unwrap_err();
        assert!(error.to_string().starts_with("hed_jitter = -0.5"), "{error}");
    }
}
