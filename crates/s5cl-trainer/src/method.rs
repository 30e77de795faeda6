//! What one step does with a batch: S5CL and the baselines that it is measured against.

use std::str::FromStr;

use candle_core::{D, Device, Result, Tensor};
use s5cl_backbone::{Mode, Model, ModelOutput, Normalization};
use s5cl_kernels::Upload;
use s5cl_losses::{Hierarchy, HierarchyConfig, LabeledViews, Terms, UnlabeledViews};
use tracing::info_span;

use crate::pseudo_labels::Predictions;
use crate::{Batch, DeviceViews, PseudoLabels, TrainError};

/// A method by name. All share the model, the views and the number of images a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// The whole hierarchy: labels, pseudo-labels or instances, classification.
    S5cl,
    /// Contrast on labels and cross entropy, on labeled images alone (the authors' `scl`).
    Supcon,
    /// Cross entropy alone, on both views of labeled images.
    CrossEntropy,
}

/// The names of [`MethodKind`].
pub const METHODS: [&str; 3] = ["s5cl", "supcon", "cross-entropy"];

impl FromStr for MethodKind {
    type Err = TrainError;

    fn from_str(name: &str) -> std::result::Result<Self, TrainError> {
        match name {
            "s5cl" => Ok(Self::S5cl),
            "supcon" => Ok(Self::Supcon),
            "cross-entropy" => Ok(Self::CrossEntropy),
            _ => Err(TrainError::Config(format!(
                "unknown method {name:?}: use one of {}",
                METHODS.join(", ")
            ))),
        }
    }
}

impl MethodKind {
    /// Whether unlabeled images take part. A method that does not use them is given labeled ones
    /// in their place, so that every method sees the same number of images a step.
    #[must_use]
    pub fn uses_unlabeled(self) -> bool {
        self == Self::S5cl
    }
}

/// What a method is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodConfig {
    /// The method.
    pub kind: MethodKind,
    /// The terms and their weights; a method turns off those that it does not have.
    pub hierarchy: HierarchyConfig,
    /// Pseudo-labels take part in the steps after this one, 0-based.
    pub pseudo_labels_after_steps: u64,
    /// Steps over which pseudo-labels take over from instances; 0 for at once.
    pub pseudo_ramp_steps: u64,
    /// A prediction below this probability makes no pseudo-label: its image stays a class of its
    /// own. 0 to 1; 0 accepts every prediction.
    pub pseudo_threshold: f64,
}

/// A method, ready to step.
pub struct Method {
    config: MethodConfig,
    hierarchy: Hierarchy,
}

/// What one step's loss is, and what there is to tell of it.
pub(crate) struct StepLoss {
    pub(crate) terms: Terms,
    pub(crate) supervised_floor: f64,
    pub(crate) pseudo_share: f64,
    /// Of the unlabeled images, where there are some.
    pub(crate) predictions: Option<Predictions>,
    pub(crate) n_classes: usize,
}

impl Method {
    /// Checks the config and makes the losses.
    ///
    /// # Errors
    ///
    /// If a value is out of its range, or the temperatures break the hierarchy.
    pub fn new(config: MethodConfig) -> std::result::Result<Self, TrainError> {
        if !(0.0..=1.0).contains(&config.pseudo_threshold) {
            let threshold = config.pseudo_threshold;
            return Err(TrainError::Config(format!(
                "pseudo_threshold must be between 0 and 1, got {threshold}"
            )));
        }
        // All values are checked, those of terms that this method turns off included.
        Hierarchy::new(&config.hierarchy).map_err(|e| TrainError::Config(e.to_string()))?;
        let mut active = config.hierarchy.clone();
        match config.kind {
            MethodKind::S5cl => {}
            MethodKind::Supcon => active.weight_unsupervised = 0.0,
            MethodKind::CrossEntropy => {
                active.weight_supervised = 0.0;
                active.weight_unsupervised = 0.0;
            }
        }
        let hierarchy = Hierarchy::new(&active).map_err(|e| TrainError::Config(e.to_string()))?;
        Ok(Self { config, hierarchy })
    }

    /// How much of the unsupervised term is contrast on pseudo-labels in a step, 0 to 1.
    #[must_use]
    pub fn pseudo_share(&self, step: u64) -> f64 {
        let MethodConfig { pseudo_labels_after_steps: after, pseudo_ramp_steps: ramp, .. } =
            self.config;
        match step.checked_sub(after) {
            None | Some(0) => 0.0,
            Some(since) => (since as f64 / ramp.max(1) as f64).min(1.0),
        }
    }

    /// The loss of one batch: all views in one forward pass, so that batch normalization sees
    /// them together, then the terms.
    pub(crate) fn loss(
        &self,
        model: &Model,
        normalization: &Normalization,
        batch: &Batch,
        step: u64,
        (upload, device): (&mut Upload, &Device),
    ) -> Result<StepLoss> {
        let output = info_span!("forward").in_scope(|| match batch.views(upload, device)? {
            DeviceViews::Pixels(pixels) => {
                model.forward(&normalization.apply(&pixels)?, Mode::Train)
            }
            DeviceViews::Features(maps) => model.forward_trained(&maps, Mode::Train),
        })?;
        info_span!("loss").in_scope(|| self.terms(&output, batch, step))
    }

    fn terms(&self, output: &ModelOutput, batch: &Batch, step: u64) -> Result<StepLoss> {
        let n_labeled = batch.labeled.n_images;
        let classified = match self.config.kind {
            MethodKind::S5cl | MethodKind::Supcon => n_labeled,
            MethodKind::CrossEntropy => 2 * n_labeled,
        };
        let labels = Tensor::new(batch.labels.as_slice(), output.logits.device())?;
        let embeddings = output.embeddings.narrow(0, 0, 2 * n_labeled)?;
        let logits = output.logits.narrow(0, 0, classified)?;
        let labeled = LabeledViews { embeddings: &embeddings, logits: &logits, labels: &labels };
        let supervised_floor = self.hierarchy.supervised_floor(&batch.labels);
        let n_classes = output.logits.dim(D::Minus1)?;

        let Some(unlabeled) = &batch.unlabeled else {
            let terms = self.hierarchy.forward(labeled, None)?;
            let (pseudo_share, predictions) = (0.0, None);
            return Ok(StepLoss { terms, supervised_floor, pseudo_share, predictions, n_classes });
        };
        let n_unlabeled = unlabeled.n_images;
        let embeddings = output.embeddings.narrow(0, 2 * n_labeled, 2 * n_unlabeled)?;
        let weak_logits = output.logits.narrow(0, 2 * n_labeled, n_unlabeled)?;
        let predictions = Predictions::of(&weak_logits)?;
        let labels = predictions.labels(self.pseudo_threshold(), n_classes)?;
        let pseudo_share = self.pseudo_share(step);
        let views =
            UnlabeledViews { embeddings: &embeddings, pseudo_labels: Some(&labels), pseudo_share };
        let terms = self.hierarchy.forward(labeled, Some(views))?;
        let predictions = Some(predictions);
        Ok(StepLoss { terms, supervised_floor, pseudo_share, predictions, n_classes })
    }

    /// What predictions must reach to count as labels.
    pub(crate) fn pseudo_threshold(&self) -> f32 {
        self.config.pseudo_threshold as f32
    }

    /// Where the unsupervised term cannot go lower with these pseudo-labels.
    pub(crate) fn unsupervised_floor(
        &self,
        pseudo_labels: &PseudoLabels,
        n_classes: usize,
        pseudo_share: f64,
    ) -> f64 {
        self.hierarchy.unsupervised_floor(&pseudo_labels.labels(n_classes), pseudo_share)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use s5cl_backbone::{EncoderConfig, Model, ModelConfig, Normalization, Parameters};
    use s5cl_kernels::Upload;
    use s5cl_losses::HierarchyConfig;

    use super::{Method, MethodConfig, MethodKind};
    use crate::{Batch, Views};

    fn config() -> MethodConfig {
        MethodConfig {
            kind: MethodKind::S5cl,
            hierarchy: HierarchyConfig::published(),
            pseudo_labels_after_steps: 781,
            pseudo_ramp_steps: 0,
            pseudo_threshold: 0.0,
        }
    }

    #[test]
    fn method_pseudo_labels_switch_after_the_given_step() -> Result<(), Box<dyn std::error::Error>>
    {
        let method = Method::new(config())?;
        assert_eq!([method.pseudo_share(781), method.pseudo_share(782)], [0.0, 1.0]);
        let ramp = Method::new(MethodConfig { pseudo_ramp_steps: 100, ..config() })?;
        assert_eq!(
            [ramp.pseudo_share(781), ramp.pseudo_share(831), ramp.pseudo_share(900)],
            [0.0, 0.5, 1.0]
        );
        Ok(())
    }

    fn views(n_images: usize, size: usize) -> Views {
        let pixels = |factor: usize| {
            (0..n_images * size * size * 3).map(|i| (i * factor % 251) as u8).collect()
        };
        Views { weak: pixels(7), strong: pixels(31), n_images, height: size, width: size }
    }

    /// candle's own convolutions, normalizations and sums would leave maps between layers in the
    /// graph, which is what makes its backward pass slow.
    #[test]
    fn step_has_no_maps_in_its_graph() -> Result<(), Box<dyn std::error::Error>> {
        /// Whatever stands behind the encoder, heads, cuts and terms, and what makes a transformer's
        /// first tokens of class token and positions.
        const MOST_OTHERS: usize = 20;
        let method = Method::new(MethodConfig { pseudo_ramp_steps: 1, ..config() })?;
        let (labeled, unlabeled) = (views(4, 32), Some(views(3, 32)));
        let batch = Batch { labeled, labels: vec![0, 0, 1, 1], unlabeled, on_device: None };
        for name in ["resnet-slim", "resnet18-small", "wide-resnet28-2", "vit-small-16"] {
            let encoder = EncoderConfig::named(name, 32)?;
            let config = ModelConfig { encoder, embedding_dim: 8, n_classes: 2 };
            let parameters = Parameters::new(0);
            let model = Model::new(&config, &parameters.builder(&Device::Cpu))?;
            for step in [0, 1000] {
                let place = (&mut Upload::default(), &Device::Cpu);
                let loss = method.loss(&model, &Normalization::HALF, &batch, step, place)?;
                let nodes = loss.terms.total.sorted_nodes();
                let is_maps = |node: &&&Tensor| node.rank() > 2 && !node.is_variable();
                let maps: Vec<_> = nodes.iter().filter(is_maps).collect();
                assert!(maps.is_empty(), "{name}: {maps:?}");
                // Every weight is in the graph, and one node ties two of the encoder's.
                let weights = parameters.trainable();
                for (key, weight) in &weights {
                    assert!(nodes.iter().any(|node| node.id() == weight.id()), "{name}: {key}");
                }
                let most = weights.len() + weights.len().div_ceil(2) + MOST_OTHERS;
                assert!(nodes.len() <= most, "{name}: {} nodes, {most} expected", nodes.len());
            }
        }
        Ok(())
    }

    #[test]
    fn method_threshold_out_of_range_is_refused() {
        assert!(Method::new(MethodConfig { pseudo_threshold: 1.5, ..config() }).is_err());
    }

    #[test]
    fn method_baseline_keeps_the_temperature_rule() {
        let mut broken = MethodConfig { kind: MethodKind::CrossEntropy, ..config() };
        broken.hierarchy.temperature_unlabeled = 0.1;
        assert!(Method::new(broken).is_err());
    }
}
