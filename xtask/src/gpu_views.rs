//! What a pipeline draws, as the kernels take it that make views on a GPU.

use s5cl_augment::{Adjustment, DensityMap, PlanStep, Region, Symmetry, ViewPlan};
use s5cl_kernels::{ViewRequest, ViewStep};

/// The view of a tile by a plan.
pub(crate) fn request(tile_idx: usize, plan: &ViewPlan) -> ViewRequest {
    ViewRequest { tile_idx, steps: plan.steps().iter().flat_map(converted).collect() }
}

/// A step of a plan as the kernels have it; a jitter of colors is several.
fn converted(step: &PlanStep) -> Vec<ViewStep> {
    vec![match step {
        PlanStep::Symmetry(Symmetry { transposed, flipped_x, flipped_y }) => ViewStep::Symmetry {
            transposed: *transposed,
            flipped_x: *flipped_x,
            flipped_y: *flipped_y,
        },
        PlanStep::Colors(adjustments) => return adjustments.iter().map(adjusted).collect(),
        PlanStep::Stains(jitter) => {
            let DensityMap { matrix, offset } = DensityMap::of_jitter(jitter);
            ViewStep::Stains { matrix, offset }
        }
        PlanStep::StretchedStains(jitter) => ViewStep::StretchedStains {
            to_stains: DensityMap::to_stains().matrix,
            alpha: jitter.alpha,
            beta: jitter.beta,
            from_stains: DensityMap::from_stains().matrix,
        },
        PlanStep::Crop(Region { left, top, width, height }) => {
            ViewStep::Crop { left: *left, top: *top, width: *width, height: *height }
        }
        PlanStep::Affine(map) => ViewStep::Affine(map.0),
    }]
}

fn adjusted(adjustment: &Adjustment) -> ViewStep {
    match *adjustment {
        Adjustment::Brightness(factor) => ViewStep::Brightness(factor),
        Adjustment::Contrast(factor) => ViewStep::Contrast(factor),
        Adjustment::Saturation(factor) => ViewStep::Saturation(factor),
        Adjustment::Hue(turn) => ViewStep::Hue(turn),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use image::RgbImage;
    use s5cl_augment::{Pipeline, Transform};
    use s5cl_kernels::{ResidentTiles, ViewStep};
    use s5cl_random::stream;

    use super::request;

    #[test]
    fn request_has_the_steps_of_a_plan_in_their_order() {
        let transforms = [
            Transform::HedJitter(0.1),
            Transform::ColorJitter([0.1, 0.1, 0.0, 0.0]),
            Transform::RandomResizedCrop([1.0, 1.0]),
        ];
        let pipeline = Pipeline::new(&transforms, 0).unwrap();
        let request = request(7, &pipeline.draw((30, 30), &mut stream(0, 0, 0, 1)));
        assert_eq!(request.tile_idx, 7);
        let [ViewStep::Stains { .. }, first, second, ViewStep::Crop { .. }] = &request.steps[..]
        else {
            panic!("{request:?}")
        };
        let is_contrast = |step: &ViewStep| matches!(step, ViewStep::Contrast(_));
        assert_ne!(is_contrast(first), is_contrast(second));
    }

    #[test]
    fn views_on_a_gpu_are_those_of_the_cpu() {
        let device = match Device::new_cuda(0) {
            Ok(device) => device,
            Err(reason) => return println!("skipped: {reason}"),
        };
        let presets =
            [include_str!("../presets/s5cl.toml"), include_str!("../presets/faithful.toml")];
        for (width, height) in [(224, 224), (96, 96), (50, 7), (1, 1)] {
            let mut random = stream(1, 0, 0, 0);
            let mut byte = |_, _| image::Rgb([(); 3].map(|()| random.below(256) as u8));
            let images = [(); 3].map(|()| RgbImage::from_fn(width, height, &mut byte));
            let (rows, columns) = (height as usize, width as usize);
            let mut tiles = ResidentTiles::new(images.len(), rows, columns, 0, &device).unwrap();
            images.iter().for_each(|image| tiles.push(image).unwrap());
            for (preset, list) in presets.into_iter().flat_map(|p| [(p, "weak"), (p, "strong")]) {
                let preset: toml::Table = preset.parse().unwrap();
                let transforms: Vec<Transform> = preset["views"][list].clone().try_into().unwrap();
                let pipeline = Pipeline::new(&transforms, 0).unwrap();
                let key = |view| stream(0, 0, view as u64, 0);
                let plan = |view| pipeline.draw((width, height), &mut key(view));
                // More than a large GPU works on at a time.
                let n_views = 700;
                let requests: Vec<_> =
                    (0..n_views).map(|view| request(view % images.len(), &plan(view))).collect();
                let views = tiles.views(&requests).unwrap();
                assert_eq!(views.dims(), [n_views, rows, columns, 3]);
                let views: Vec<u8> = views.flatten_all().unwrap().to_vec1().unwrap();
                let views = views.chunks_exact(3 * rows * columns);
                for (view, got) in views.enumerate() {
                    let expected = plan(view).apply(&images[view % images.len()]);
                    assert!(got == expected.as_raw(), "{width} x {height}, {list}, view {view}");
                }
            }
        }
    }
}
