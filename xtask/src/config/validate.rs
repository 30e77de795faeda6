//! What no type can check of a config, before anything is read or written.

use super::RunConfig;
use crate::failure::BadInput;

impl RunConfig {
    /// Fails with the first key whose value is out of its range.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let Self { data, training, checkpoint, optimizer, encoder, .. } = self;
        for (key, value) in [
            ("training.steps", training.steps),
            ("checkpoint.every", checkpoint.every),
            ("checkpoint.keep", checkpoint.keep as u64),
            ("embedder.dim", self.embedder.dim as u64),
            ("data.batch_unlabeled", data.batch_unlabeled as u64),
        ] {
            require(value > 0, || format!("{key} must be at least 1, got 0"))?;
        }
        require(data.batch_labeled >= 4 && data.images_per_class >= 2, || {
            let (batch, per_class) = (data.batch_labeled, data.images_per_class);
            format!(
                "data.batch_labeled must be at least 4 and data.images_per_class at least 2, got {batch} and {per_class}"
            )
        })?;
        require(data.mean.is_empty() == data.std.is_empty(), || {
            "data.mean and data.std belong together: give both, or neither".to_owned()
        })?;
        let rate = optimizer.learning_rate;
        require(rate > 0.0 && rate.is_finite(), || {
            format!("optimizer.learning_rate must be above 0, got {rate}")
        })?;
        for (key, value) in [
            ("optimizer.weight_decay", optimizer.weight_decay),
            ("optimizer.clip_norm", optimizer.clip_norm),
        ] {
            require(value >= 0.0 && value.is_finite(), || {
                format!("{key} must be 0 or above, got {value}")
            })?;
        }
        let decay = training.ema_decay;
        require((0.0..1.0).contains(&decay), || {
            format!("training.ema_decay must be 0 or above and below 1, got {decay}")
        })?;
        let size = data.image_size;
        require(size == 0 || (8..=1024).contains(&size), || {
            format!("data.image_size must be 0 or between 8 and 1024 pixels, got {size}")
        })?;
        for (key, values) in [("data.mean", &data.mean), ("data.std", &data.std)] {
            let n = values.len();
            require(n == 3 || n == 0, || format!("{key} must hold three values or none, got {n}"))?;
        }
        require(data.std.iter().all(|std| *std > 0.0 && std.is_finite()), || {
            format!("data.std must be above 0, got {:?}", data.std)
        })?;
        require(data.labels_per_class == 0 || data.label_fraction == 0.0, || {
            "data.labels_per_class and data.label_fraction are both given: set one of them to 0"
                .to_owned()
        })?;
        let architecture = encoder.architecture()?;
        if let Err(error) = encoder.trained()?.n_frozen(architecture.n_stages()) {
            return Err(BadInput::new(format!("encoder.train: {error}")).into());
        }
        let decay = encoder.learning_rate_decay;
        require(decay > 0.0 && decay <= 1.0, || {
            format!("encoder.learning_rate_decay must be above 0 and at most 1, got {decay}")
        })?;
        if size > 0
            && let Err(error) = architecture.check_image_size(size as usize)
        {
            return Err(BadInput::new(format!("data.image_size: {error}")).into());
        }
        self.schedule()?;
        self.optimizer()?;
        s5cl_trainer::Method::new(self.method()?)?;
        s5cl_augment::Pipeline::new(&self.views.weak, self.seed)?;
        s5cl_augment::Pipeline::new(&self.views.strong, self.seed)?;
        Ok(())
    }
}

fn require(holds: bool, message: impl FnOnce() -> String) -> anyhow::Result<()> {
    if holds { Ok(()) } else { Err(BadInput::new(message()).into()) }
}
