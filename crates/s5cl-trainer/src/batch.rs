//! What one step is handed.

use candle_core::{Device, Result, Tensor};

/// Two views of the same images, as pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views {
    /// Weakly augmented: u8 `[n_images, height, width, 3]`, row after row.
    pub weak: Vec<u8>,
    /// Strongly augmented, in the same order and layout.
    pub strong: Vec<u8>,
    /// Images, each of which is in both views.
    pub n_images: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
}

impl Views {
    /// Weak views, then strong ones: u8 `[2 n_images, height, width, 3]`.
    ///
    /// # Errors
    ///
    /// If the number of bytes is not that of the shape.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = (self.n_images, self.height, self.width, 3);
        let weak = Tensor::from_slice(&self.weak, shape, device)?;
        let strong = Tensor::from_slice(&self.strong, shape, device)?;
        Tensor::cat(&[weak, strong], 0)
    }
}

/// One step's images. Unlabeled images have no label here, even where one exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Images with labels.
    pub labeled: Views,
    /// The class of each labeled image.
    pub labels: Vec<u32>,
    /// Images without; `None` where the method does not use them or the pool is empty.
    pub unlabeled: Option<Views>,
}

impl Batch {
    /// Images that go through the model, both views counted.
    #[must_use]
    pub fn n_views(&self) -> usize {
        2 * (self.labeled.n_images + self.unlabeled.as_ref().map_or(0, |views| views.n_images))
    }
}

/// Why a batch could not be made, in the words of whoever makes it.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the batches of a run.
pub trait BatchSource {
    /// The batch of a step, 0-based. Steps are asked for in order from the one the run starts or
    /// resumes at; the answer must depend on nothing else.
    ///
    /// # Errors
    ///
    /// If the images of the step cannot be read.
    fn batch(&mut self, step: u64) -> std::result::Result<Batch, SourceError>;
}
