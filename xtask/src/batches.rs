//! Where data and augmentation meet: the batches of a run as a function of the step.

use std::sync::Arc;

use anyhow::Result;
use image::RgbImage;
use s5cl_augment::Pipeline;
use s5cl_data::{
    ClassBalancedSampler, DataError, Dataset, Draw, Loader, PoolSampler, ReferenceSampler,
};
use s5cl_kernels::ViewRequest;
use s5cl_random::{Stream, stream};
use s5cl_trainer::{Batch, BatchSource, MethodKind, SourceError, Views};
use tracing::info_span;

use crate::config::{RunConfig, Sampler};
use crate::experiment::Experiment;
use crate::failure::boxed;
use crate::gpu_views::request;
use crate::tiles::unwrap_loader_error;

/// Makes the batch of any step.
pub(crate) struct BatchMaker {
    dataset: Arc<Dataset>,
    labels: Vec<Option<u32>>,
    labeled: LabeledSampler,
    unlabeled: Option<PoolSampler>,
    weak: Pipeline,
    strong: Pipeline,
    seed: u64,
    image_size: u32,
}

enum LabeledSampler {
    Balanced(ClassBalancedSampler),
    Reference(ReferenceSampler),
}

impl LabeledSampler {
    fn batch(&self, step: u64) -> Vec<Draw> {
        match self {
            Self::Balanced(sampler) => sampler.batch(step),
            Self::Reference(sampler) => sampler.batch(step),
        }
    }
}

/// Which views a stream is for: the weak and strong one of a labeled image, or of one from the
/// pool. Where the pool is the labeled images themselves, the two must differ.
#[derive(Clone, Copy)]
enum Role {
    Labeled = 0,
    Pool = 2,
}

impl BatchMaker {
    /// Prepares samplers and views; notes tell what differs from the settings.
    pub(crate) fn new(
        config: &RunConfig,
        experiment: &Experiment,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let kind: MethodKind = config.method.parse()?;
        let (data, seed) = (&config.data, config.seed);
        let pool: Vec<usize> = if experiment.unlabeled.is_empty() {
            experiment.labeled.iter().map(|(sample_idx, _)| *sample_idx).collect()
        } else {
            experiment.unlabeled.clone()
        };
        let pool = PoolSampler::new(&pool, data.batch_unlabeled, seed)?;
        // A method without unlabeled images gets as many labeled ones in their place.
        let batch_labeled = match kind.uses_unlabeled() {
            true => data.batch_labeled,
            false => data.batch_labeled + pool.batch_len(),
        };
        let unlabeled = kind.uses_unlabeled().then_some(pool);
        if let Some(pool) = &unlabeled {
            if experiment.unlabeled.is_empty() {
                notes.push(
                    "every training image has its label: they are the unlabeled pool too"
                        .to_owned(),
                );
            }
            if pool.shrunk() {
                notes.push(format!(
                    "the unlabeled pool has {} images: the batch is that small",
                    pool.batch_len()
                ));
            }
        }
        let labeled = match data.sampler {
            Sampler::Balanced => LabeledSampler::Balanced(ClassBalancedSampler::new(
                &experiment.labeled,
                batch_labeled,
                data.images_per_class,
                seed,
            )?),
            Sampler::Reference => LabeledSampler::Reference(ReferenceSampler::new(
                &experiment.labeled,
                batch_labeled,
                data.images_per_class,
                seed,
            )?),
        };
        // Labels are taken from the labeled part alone: the rest is hidden from the training.
        let mut labels = vec![None; experiment.dataset.samples.len()];
        for &(sample_idx, class_idx) in &experiment.labeled {
            labels[sample_idx] = Some(class_idx);
        }
        Ok(Self {
            dataset: experiment.dataset.clone(),
            labels,
            labeled,
            unlabeled,
            weak: Pipeline::new(&config.views.weak, seed)?,
            strong: Pipeline::new(&config.views.strong, seed)?,
            seed,
            image_size: data.image_size,
        })
    }

    /// The batch of a step: a pure function of seed and step.
    pub(crate) fn batch(&self, step: u64) -> Result<Batch, DataError> {
        let _span = info_span!("views").entered();
        let labeled = self.labeled.batch(step);
        let labels = labeled.iter().filter_map(|draw| self.labels[draw.sample_idx]).collect();
        let unlabeled =
            self.unlabeled.as_ref().map(|pool| self.views(&pool.batch(step), Role::Pool));
        Ok(Batch {
            labeled: self.views(&labeled, Role::Labeled)?,
            labels,
            unlabeled: unlabeled.transpose()?,
            on_device: None,
        })
    }

    /// The batch of a step without its pixels, and what makes them of tiles on a GPU, in the order
    /// of [`s5cl_trainer::DeviceViews`]; `place` says where the tile of a sample is.
    pub(crate) fn requests(
        &self,
        step: u64,
        place: impl Fn(usize) -> usize,
    ) -> (Batch, Vec<ViewRequest>) {
        let _span = info_span!("views").entered();
        self.without_pixels(step, |draw, role, view| {
            let pipeline = if view == 0 { &self.weak } else { &self.strong };
            let mut random = self.key(draw, role, view);
            let plan = pipeline.draw((self.image_size, self.image_size), &mut random);
            request(place(draw.sample_idx), &plan)
        })
    }

    /// The batch of a step without its pixels, and the sample of each view in the order of
    /// [`s5cl_trainer::DeviceViews`].
    pub(crate) fn samples(&self, step: u64) -> (Batch, Vec<usize>) {
        self.without_pixels(step, |draw, _role, _view| draw.sample_idx)
    }

    /// A batch without pixels, and something of each view, the weak ones, 0, before the strong
    /// ones, 1.
    fn without_pixels<T>(
        &self,
        step: u64,
        of_view: impl Fn(&Draw, Role, u64) -> T,
    ) -> (Batch, Vec<T>) {
        let mut all = Vec::new();
        let mut draw = |draws: &[Draw], role| -> Views {
            for view in 0..2 {
                all.extend(draws.iter().map(|draw| of_view(draw, role, view)));
            }
            let side = self.image_size as usize;
            let (weak, strong) = (Vec::new(), Vec::new());
            Views { weak, strong, n_images: draws.len(), height: side, width: side }
        };
        let labeled = self.labeled.batch(step);
        let labels = labeled.iter().filter_map(|draw| self.labels[draw.sample_idx]).collect();
        let labeled = draw(&labeled, Role::Labeled);
        let unlabeled = self.unlabeled.as_ref().map(|pool| draw(&pool.batch(step), Role::Pool));
        (Batch { labeled, labels, unlabeled, on_device: None }, all)
    }

    /// Side of the views in pixels.
    pub(crate) fn image_size(&self) -> u32 {
        self.image_size
    }

    /// The labels that the run hides of the unlabeled images of a step, to compare pseudo-labels
    /// with; `None` for an image that has none. The training never sees them.
    pub(crate) fn hidden_labels(&self, step: u64) -> Vec<Option<u32>> {
        let draws = self.unlabeled.as_ref().map(|pool| pool.batch(step)).unwrap_or_default();
        draws.iter().map(|draw| self.dataset.samples[draw.sample_idx].class_idx).collect()
    }

    /// The first images of the first step: each as it is, seen weakly and seen strongly.
    pub(crate) fn example_views(&self, n: usize) -> Result<[Vec<RgbImage>; 3], DataError> {
        let (mut draws, role) = match &self.unlabeled {
            Some(pool) => (pool.batch(0), Role::Pool),
            None => (self.labeled.batch(0), Role::Labeled),
        };
        draws.truncate(n);
        let mut rows = [Vec::new(), Vec::new(), Vec::new()];
        for draw in &draws {
            let tile = self.dataset.tile(draw.sample_idx)?;
            let [weak, strong] = self.pair(&tile, draw, role);
            for (row, image) in rows.iter_mut().zip([tile, weak, strong]) {
                row.push(image);
            }
        }
        Ok(rows)
    }

    /// The weak and the strong view of a tile.
    fn pair(&self, tile: &RgbImage, draw: &Draw, role: Role) -> [RgbImage; 2] {
        [(&self.weak, 0), (&self.strong, 1)]
            .map(|(pipeline, view)| pipeline.apply(tile, &mut self.key(draw, role, view)))
    }

    /// The random numbers of a view: 0 is the weak one, 1 the strong one.
    fn key(&self, draw: &Draw, role: Role, view: u64) -> Stream {
        let view = 4 * draw.repeat + role as u64 + view;
        stream(self.seed, draw.epoch, draw.sample_idx as u64, view)
    }

    fn views(&self, draws: &[Draw], role: Role) -> Result<Views, DataError> {
        let side = self.image_size as usize;
        let bytes = draws.len() * side * side * 3;
        let (mut weak, mut strong) = (Vec::with_capacity(bytes), Vec::with_capacity(bytes));
        for draw in draws {
            let tile = self.dataset.tile(draw.sample_idx)?;
            let [weak_view, strong_view] = self.pair(&tile, draw, role);
            weak.extend_from_slice(weak_view.as_raw());
            strong.extend_from_slice(strong_view.as_raw());
        }
        Ok(Views { weak, strong, n_images: draws.len(), height: side, width: side })
    }
}

/// Batches made ahead of time on other threads.
pub(crate) struct PrefetchedBatches(Loader<Batch, DataError>);

impl PrefetchedBatches {
    /// The batches of `first..end`.
    pub(crate) fn new(
        maker: Arc<BatchMaker>,
        steps: std::ops::Range<u64>,
        workers: usize,
        prefetch: usize,
    ) -> Self {
        Self(Loader::new(steps, workers, prefetch, move |step| maker.batch(step)))
    }
}

impl BatchSource for PrefetchedBatches {
    fn batch(&mut self, step: u64) -> Result<Batch, SourceError> {
        match self.0.next() {
            Some(Ok(batch)) => Ok(batch),
            Some(Err(error)) => Err(boxed(unwrap_loader_error(error))),
            None => Err(format!("step {step} is beyond the steps of the run").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use image::imageops::{flip_horizontal_in_place, flip_vertical_in_place};
    use s5cl_kernels::{ViewRequest, ViewStep};

    use super::BatchMaker;
    use crate::config::{Overrides, resolve};
    use crate::device::Device;
    use crate::experiment::Experiment;

    /// A view of a tile by flips alone.
    fn flipped(mut tile: RgbImage, request: &ViewRequest) -> Vec<u8> {
        for step in &request.steps {
            let ViewStep::Symmetry { transposed: false, flipped_x, flipped_y } = *step else {
                panic!("{step:?}")
            };
            if flipped_x {
                flip_horizontal_in_place(&mut tile);
            }
            if flipped_y {
                flip_vertical_in_place(&mut tile);
            }
        }
        tile.into_raw()
    }

    #[test]
    fn requests_of_a_step_make_the_views_of_its_batch() -> anyhow::Result<()> {
        let set = [
            "data.spec=synthetic:tissue?size=16&images=180",
            "data.batch_labeled=8",
            "data.batch_unlabeled=7",
            "views.weak=[]",
            "views.strong=[\"flip\"]",
        ];
        let set = set.map(str::to_owned).to_vec();
        let mut config = resolve(&Overrides { set, ..Overrides::default() })?;
        let experiment = Experiment::open(&mut config, None, 0, &Device::cpu())?;
        let maker = BatchMaker::new(&config, &experiment, &mut Vec::new())?;
        for step in [0, 30] {
            let batch = maker.batch(step)?;
            // Here a tile is where its sample is.
            let (without_pixels, requests) = maker.requests(step, |sample_idx| sample_idx);
            assert_eq!(without_pixels.labels, batch.labels);
            assert_eq!(without_pixels.n_views(), batch.n_views());
            let mut made = Vec::new();
            for request in &requests {
                made.extend(flipped(experiment.dataset.tile(request.tile_idx)?, request));
            }
            let views = [Some(&batch.labeled), batch.unlabeled.as_ref()];
            let views = views.into_iter().flatten();
            let expected: Vec<u8> =
                views.flat_map(|views| [&views.weak[..], &views.strong].concat()).collect();
            assert!(made == expected, "step {step}");
            assert!(requests.iter().any(|request| !request.steps.is_empty()));
        }
        Ok(())
    }
}
