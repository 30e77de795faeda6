//! The S5CL hierarchy: labels above pseudo-labels above instances, and classification.

use candle_core::{Result, Tensor, bail};
use s5cl_kernels::{CrossEntropyConfig, cross_entropy};

use crate::{
    Reduction, SupCon, SupervisedConfig, SupervisedLoss, instance_labels, supervised_loss,
};

/// What the hierarchy is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct HierarchyConfig {
    /// Name of the loss on labels, one of [`crate::SUPERVISED_LOSSES`].
    pub supervised: String,
    /// Temperature of contrast on labels; above 0.
    pub temperature_labeled: f64,
    /// Temperature of contrast between instances; above that of the labels.
    pub temperature_unlabeled: f64,
    /// Temperature of contrast on pseudo-labels; not below that of the labels.
    pub temperature_pseudo: f64,
    /// How anchors are averaged.
    pub reduction: Reduction,
    /// Margin of the triplet loss, 0 to 2.
    pub margin: f64,
    /// Weight of contrast on labels; not negative.
    pub weight_supervised: f64,
    /// Weight of contrast on unlabeled images; not negative.
    pub weight_unsupervised: f64,
    /// Weight of cross entropy; not negative.
    pub weight_classification: f64,
}

impl HierarchyConfig {
    /// The published temperatures and weights (Tran et al., "S5CL", MICCAI 2022), with the mean
    /// over the anchors that have a positive; the margin, which SupCon does not use, is ours.
    #[must_use]
    pub fn published() -> Self {
        Self {
            supervised: SupCon::NAME.to_owned(),
            temperature_labeled: 0.2,
            temperature_unlabeled: 0.7,
            temperature_pseudo: 0.7,
            reduction: Reduction::MeanValid,
            margin: 0.2,
            weight_supervised: 1.0,
            weight_unsupervised: 1.0,
            weight_classification: 1.0,
        }
    }
}

/// The weighted sum of the terms of S5CL.
///
/// ```text
/// total = weight_supervised * supervised + weight_unsupervised * unsupervised
///       + weight_classification * classification
/// unsupervised = (1 - share) * contrast between instances + share * contrast on pseudo-labels
/// ```
///
/// The hierarchy lies in the temperatures: a pull between images of a class must be sharper than
/// a pull between views of one image, or the terms work against each other. [`Hierarchy::new`]
/// refuses temperatures that break this.
///
/// # Source
///
/// Tran et al., "S5CL", MICCAI 2022. The reference replaces instances by pseudo-labels at once,
/// a `share` that jumps from 0 to 1; a share in between is ours.
pub struct Hierarchy {
    supervised: Box<dyn SupervisedLoss>,
    instances: SupCon,
    pseudo: SupCon,
    weight_supervised: f64,
    weight_unsupervised: f64,
    weight_classification: f64,
}

/// The labeled images of a batch, behind the model.
#[derive(Clone, Copy, Debug)]
pub struct LabeledViews<'a> {
    /// f32 `[2 n, dim]`: the weak views, then the strong ones.
    pub embeddings: &'a Tensor,
    /// f32 `[n, n_classes]` for the weak views, or `[2 n, n_classes]` for both.
    pub logits: &'a Tensor,
    /// u32 `[n]`.
    pub labels: &'a Tensor,
}

/// The unlabeled images of a batch, behind the model.
#[derive(Clone, Copy, Debug)]
pub struct UnlabeledViews<'a> {
    /// f32 `[2 n, dim]`: the weak views, then the strong ones.
    pub embeddings: &'a Tensor,
    /// u32 `[n]`; needed where `pseudo_share` is above 0.
    pub pseudo_labels: Option<&'a Tensor>,
    /// How much of the term is contrast on pseudo-labels, 0 to 1.
    pub pseudo_share: f64,
}

/// The terms of one batch, scalars before weighting, and their weighted sum. A term that does
/// not take part is absent.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is minimized.
    pub total: Tensor,
    /// Contrast on labels.
    pub supervised: Option<Tensor>,
    /// Contrast on instances, pseudo-labels, or a mixture.
    pub unsupervised: Option<Tensor>,
    /// Cross entropy.
    pub classification: Option<Tensor>,
}

impl Hierarchy {
    /// Checks the config and makes the losses.
    ///
    /// # Errors
    ///
    /// If a temperature, weight or name is out of range, or the temperatures break the hierarchy;
    /// the message names the keys and the rule.
    pub fn new(config: &HierarchyConfig) -> Result<Self> {
        let HierarchyConfig { reduction, temperature_labeled: labeled, .. } = *config;
        let (unlabeled, pseudo) = (config.temperature_unlabeled, config.temperature_pseudo);
        let named = [
            ("temperature_labeled", labeled),
            ("temperature_unlabeled", unlabeled),
            ("temperature_pseudo", pseudo),
        ];
        for (name, temperature) in named {
            if !(temperature > 0.0 && temperature.is_finite()) {
                bail!("{name} must be above 0, got {temperature}")
            }
        }
        if unlabeled <= labeled {
            bail!(
                "temperature_unlabeled ({unlabeled}) must be above temperature_labeled ({labeled}), or the losses pull against each other"
            )
        }
        if pseudo < labeled {
            bail!(
                "temperature_pseudo ({pseudo}) must not be below temperature_labeled ({labeled}), or pseudo-labels outweigh labels"
            )
        }
        let weights = [
            ("weight_supervised", config.weight_supervised),
            ("weight_unsupervised", config.weight_unsupervised),
            ("weight_classification", config.weight_classification),
        ];
        for (name, weight) in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                bail!("{name} must be 0 or above, got {weight}")
            }
        }
        if weights.iter().all(|(_, weight)| *weight == 0.0) {
            bail!("every weight of the loss is 0: there is nothing to learn")
        }
        let supervised =
            SupervisedConfig { temperature: labeled, reduction, margin: config.margin };
        Ok(Self {
            supervised: supervised_loss(&config.supervised, supervised)?,
            instances: SupCon { temperature: unlabeled, reduction },
            pseudo: SupCon { temperature: pseudo, reduction },
            weight_supervised: config.weight_supervised,
            weight_unsupervised: config.weight_unsupervised,
            weight_classification: config.weight_classification,
        })
    }

    /// The loss of one batch. A term whose weight is 0 is not computed.
    ///
    /// # Errors
    ///
    /// If shapes do not fit each other, or pseudo-labels are missing where they have a share.
    pub fn forward(
        &self,
        labeled: LabeledViews<'_>,
        unlabeled: Option<UnlabeledViews<'_>>,
    ) -> Result<Terms> {
        let twice = Tensor::cat(&[labeled.labels, labeled.labels], 0)?;
        let supervised = active(self.weight_supervised)
            .then(|| self.supervised.forward(labeled.embeddings, &twice))
            .transpose()?;
        let unsupervised = unlabeled
            .filter(|_| active(self.weight_unsupervised))
            .map(|views| self.unsupervised(views))
            .transpose()?;
        let classification = active(self.weight_classification)
            .then(|| {
                let both_views = labeled.logits.dim(0)? == twice.dim(0)?;
                let labels = if both_views { &twice } else { labeled.labels };
                cross_entropy(labeled.logits, labels, CrossEntropyConfig { label_smoothing: 0.0 })
            })
            .transpose()?;
        let weighted = [
            (&supervised, self.weight_supervised),
            (&unsupervised, self.weight_unsupervised),
            (&classification, self.weight_classification),
        ];
        let mut total: Option<Tensor> = None;
        for (term, weight) in weighted {
            let Some(term) = term else { continue };
            let term = (term * weight)?;
            total = Some(match total {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
        let Some(total) = total else {
            bail!(
                "no term of the loss takes part: unlabeled images are needed for the only one with a weight"
            )
        };
        Ok(Terms { total, supervised, unsupervised, classification })
    }

    fn unsupervised(&self, views: UnlabeledViews<'_>) -> Result<Tensor> {
        let UnlabeledViews { embeddings, pseudo_labels, pseudo_share: share } = views;
        let n_images = embeddings.dim(0)? / 2;
        let instances = || {
            let labels = instance_labels(n_images, embeddings.device())?;
            self.instances.forward(embeddings, &labels)
        };
        let pseudo = || {
            let Some(labels) = pseudo_labels else {
                bail!("pseudo-labels have a share of {share} but were not given")
            };
            self.pseudo.forward(embeddings, &Tensor::cat(&[labels, labels], 0)?)
        };
        if share <= 0.0 {
            instances()
        } else if share >= 1.0 {
            pseudo()
        } else {
            (instances()? * (1.0 - share))? + (pseudo()? * share)?
        }
    }

    /// The floor of the supervised term for these labels of the images (one a weak view).
    #[must_use]
    pub fn supervised_floor(&self, labels: &[u32]) -> f64 {
        self.supervised.floor(&labels.repeat(2))
    }

    /// The floor of the unsupervised term for these pseudo-labels; without any share they may be
    /// of any value.
    #[must_use]
    pub fn unsupervised_floor(&self, pseudo_labels: &[u32], pseudo_share: f64) -> f64 {
        let instances: Vec<u32> = (0..pseudo_labels.len() as u32).collect();
        (1.0 - pseudo_share) * self.instances.floor(&instances.repeat(2))
            + pseudo_share * self.pseudo.floor(&pseudo_labels.repeat(2))
    }
}

fn active(weight: f64) -> bool {
    weight > 0.0
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::{Hierarchy, HierarchyConfig, LabeledViews, UnlabeledViews};

    fn config() -> HierarchyConfig {
        HierarchyConfig::published()
    }

    fn refusal(config: &HierarchyConfig) -> String {
        Hierarchy::new(config).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn hierarchy_temperature_rule_is_enforced() {
        let equal = HierarchyConfig { temperature_unlabeled: 0.2, ..config() };
        assert!(refusal(&equal).contains("temperature_unlabeled (0.2) must be above"));
        let low = HierarchyConfig { temperature_pseudo: 0.1, ..config() };
        assert!(refusal(&low).contains("temperature_pseudo (0.1) must not be below"));
        let same = HierarchyConfig { temperature_pseudo: 0.2, ..config() };
        assert_eq!(refusal(&same), "");
    }

    #[test]
    fn hierarchy_unknown_loss_names_the_known_ones() {
        let unknown = HierarchyConfig { supervised: "arcface".to_owned(), ..config() };
        assert!(refusal(&unknown).contains("supcon, triplet"));
    }

    #[test]
    fn hierarchy_total_is_the_weighted_sum_and_zero_weights_drop_out() -> Result<()> {
        let device = Device::Cpu;
        let embeddings = Tensor::new(&[[1_f32, 0.2], [0.1, 1.0], [0.9, 0.0], [0.0, 0.8]], &device)?;
        let logits = Tensor::new(&[[2_f32, 0.0], [0.5, 1.0]], &device)?;
        let labels = Tensor::new(&[0_u32, 1], &device)?;
        let labeled = LabeledViews { embeddings: &embeddings, logits: &logits, labels: &labels };
        let unlabeled = UnlabeledViews {
            embeddings: &embeddings,
            pseudo_labels: Some(&labels),
            pseudo_share: 0.25,
        };
        let weighted =
            HierarchyConfig { weight_supervised: 0.5, weight_unsupervised: 2.0, ..config() };
        let terms = Hierarchy::new(&weighted)?.forward(labeled, Some(unlabeled))?;
        let value = |term: &Option<Tensor>| match term {
            Some(term) => term.to_scalar::<f32>(),
            None => Ok(f32::NAN),
        };
        let sum = 0.5 * value(&terms.supervised)?
            + 2.0 * value(&terms.unsupervised)?
            + value(&terms.classification)?;
        assert!((terms.total.to_scalar::<f32>()? - sum).abs() < 1e-5);

        let baseline =
            HierarchyConfig { weight_supervised: 0.0, weight_unsupervised: 0.0, ..config() };
        let terms = Hierarchy::new(&baseline)?.forward(labeled, Some(unlabeled))?;
        assert!(terms.supervised.is_none() && terms.unsupervised.is_none());
        Ok(())
    }

    #[test]
    fn hierarchy_share_mixes_instances_and_pseudo_labels() -> Result<()> {
        let embeddings =
            Tensor::new(&[[1_f32, 0.2], [0.1, 1.0], [0.9, 0.0], [0.0, 0.8]], &Device::Cpu)?;
        let labels = Tensor::new(&[0_u32, 0], &Device::Cpu)?;
        let hierarchy = Hierarchy::new(&config())?;
        let term = |pseudo_share: f64| -> Result<f32> {
            let pseudo_labels = Some(&labels);
            hierarchy
                .unsupervised(UnlabeledViews {
                    embeddings: &embeddings,
                    pseudo_labels,
                    pseudo_share,
                })?
                .to_scalar()
        };
        let mixed = 0.25 * term(1.0)? + 0.75 * term(0.0)?;
        assert!((term(0.25)? - mixed).abs() < 1e-5);
        let missing =
            UnlabeledViews { embeddings: &embeddings, pseudo_labels: None, pseudo_share: 1.0 };
        assert!(hierarchy.unsupervised(missing).is_err());
        Ok(())
    }
}
