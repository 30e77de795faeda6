//! A view before it is made: what a pipeline does to one image, every number drawn.

use std::borrow::Cow;

use image::RgbImage;

use crate::affine::{AffineMap, warp_affine};
use crate::color::adjust;
use crate::crop::{Region, resized_crop};
use crate::geometry::Symmetry;
use crate::stain::{StainJitter, jitter_in_place, stretch_in_place};

/// The steps that make one view of an image, with all of their numbers; see
/// [`crate::Pipeline::draw`].
///
/// [`ViewPlan::apply`] says what each step means. Whoever makes views elsewhere, on another device,
/// reads the steps instead and must come to the same bytes.
///
/// # Example
///
/// ```
/// use image::RgbImage;
/// use s5cl_augment::{Pipeline, PlanStep, Transform};
/// use s5cl_random::stream;
///
/// let pipeline = Pipeline::new(&[Transform::Flip, Transform::RandomResizedCrop([0.2, 0.5])], 0)?;
/// let plan = pipeline.draw((40, 40), &mut stream(0, 3, 17, 1));
/// let Some(PlanStep::Crop(region)) = plan.steps().last() else { panic!("{plan:?}") };
/// assert!(region.width * region.height < 40 * 40);
///
/// let tile = RgbImage::from_fn(40, 40, |x, y| image::Rgb([150 + x as u8, 90, 160 + y as u8]));
/// assert_eq!(plan.apply(&tile), pipeline.apply(&tile, &mut stream(0, 3, 17, 1)));
/// # Ok::<(), s5cl_augment::AugmentError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    size: (u32, u32),
    steps: Vec<PlanStep>,
}

/// One step of a view: an image in, an image of the same size out, in whole grey levels.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanStep {
    /// Flips and quarter turns, [`Symmetry::apply`]; transposed only where the image is square.
    Symmetry(Symmetry),
    /// Adjustments one after another, at least one.
    Colors(Vec<Adjustment>),
    /// [`crate::jitter_stains`].
    Stains(StainJitter),
    /// [`crate::jitter_stains_stretched`].
    StretchedStains(StainJitter),
    /// [`resized_crop`] to the image's own size.
    Crop(Region),
    /// [`warp_affine`].
    Affine(AffineMap),
}

/// A change of the colors, with its amount.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjustment {
    /// [`crate::adjust_brightness`] by this factor.
    Brightness(f32),
    /// [`crate::adjust_contrast`] by this factor.
    Contrast(f32),
    /// [`crate::adjust_saturation`] by this factor.
    Saturation(f32),
    /// [`crate::adjust_hue`] by this share of the circle.
    Hue(f32),
}

impl ViewPlan {
    /// The plan that gives every image of a size back.
    pub(crate) fn new(size: (u32, u32)) -> Self {
        Self { size, steps: Vec::new() }
    }

    /// One more step behind the others.
    pub(crate) fn push(&mut self, step: PlanStep) {
        self.steps.push(step);
    }

    /// Flips and turns behind the other steps. They join those that came right before, so that
    /// pixels move once for all of them.
    pub(crate) fn turn(&mut self, change: impl FnOnce(Symmetry) -> Symmetry) {
        let before = match self.steps.pop_if(|step| matches!(step, PlanStep::Symmetry(_))) {
            Some(PlanStep::Symmetry(symmetry)) => symmetry,
            _ => Symmetry::default(),
        };
        let symmetry = change(before);
        if symmetry != Symmetry::default() {
            self.push(PlanStep::Symmetry(symmetry));
        }
    }

    /// Width and height of the images that the plan is for, in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// What happens to an image, one step after another.
    #[must_use]
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps
    }

    /// The view of an image.
    ///
    /// # Panics
    ///
    /// If the image is not of the plan's size.
    #[must_use]
    pub fn apply(&self, image: &RgbImage) -> RgbImage {
        assert_eq!(image.dimensions(), self.size, "the plan is for images of another size");
        let mut view = Cow::Borrowed(image);
        for step in &self.steps {
            match step {
                PlanStep::Symmetry(symmetry) => view = Cow::Owned(symmetry.apply(&view)),
                PlanStep::Colors(adjustments) => adjust(view.to_mut(), adjustments),
                PlanStep::Stains(jitter) => jitter_in_place(view.to_mut(), jitter),
                PlanStep::StretchedStains(jitter) => stretch_in_place(view.to_mut(), jitter),
                PlanStep::Crop(region) => {
                    view = Cow::Owned(resized_crop(&view, *region, self.size));
                }
                PlanStep::Affine(map) => view = Cow::Owned(warp_affine(&view, *map)),
            }
        }
        view.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_joins_symmetries_that_follow_each_other() {
        let mut plan = ViewPlan::new((4, 4));
        plan.turn(Symmetry::turned_left);
        plan.turn(Symmetry::flipped_vertically);
        let joined = Symmetry::default().turned_left().flipped_vertically();
        assert_eq!(plan.steps(), [PlanStep::Symmetry(joined)]);
        plan.push(PlanStep::Colors(vec![Adjustment::Brightness(0.5)]));
        plan.turn(Symmetry::flipped_vertically);
        assert_eq!(plan.steps().len(), 3);
        plan.turn(Symmetry::flipped_vertically);
        assert_eq!(plan.steps().len(), 2, "two flips are none");
    }

    #[test]
    fn plan_runs_its_steps_in_order() {
        let image = RgbImage::from_fn(6, 6, |x, y| image::Rgb([40 * x as u8, 40 * y as u8, 9]));
        let region = Region { left: 0, top: 0, width: 3, height: 6 };
        let flip = Symmetry::default().flipped_horizontally();
        let plan = |steps: [PlanStep; 2]| ViewPlan { size: (6, 6), steps: steps.into() };
        let steps = [PlanStep::Symmetry(flip), PlanStep::Crop(region)];
        let [first, second] = steps.clone();
        let expected = resized_crop(&flip.apply(&image), region, (6, 6));
        assert_eq!(plan(steps).apply(&image), expected);
        assert_ne!(plan([second, first]).apply(&image), expected);
    }

    #[test]
    #[should_panic(expected = "another size")]
    fn plan_refuses_an_image_of_another_size() {
        let _ = ViewPlan::new((4, 3)).apply(&RgbImage::new(3, 4));
    }
}
