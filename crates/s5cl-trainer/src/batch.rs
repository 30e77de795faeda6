//! What one step is handed.

use candle_core::{Device, Result, Tensor};
use s5cl_kernels::Upload;

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
    /// The first images; black ones where the pixels are elsewhere.
    fn first(&self, n_images: usize) -> Self {
        let bytes = n_images * self.height * self.width * 3;
        let first = |pixels: &[u8]| {
            let mut first = pixels[..bytes.min(pixels.len())].to_vec();
            first.resize(bytes, 0);
            first
        };
        Self { weak: first(&self.weak), strong: first(&self.strong), n_images, ..*self }
    }
}

/// The views of a whole batch where they are on the device that trains already, in the order of a
/// batch: of the labeled images the weak ones, then the strong ones, and the same of the unlabeled
/// images.
#[derive(Clone, Debug)]
pub enum DeviceViews {
    /// u8 `[n_views, height, width, 3]`.
    Pixels(Tensor),
    /// What the encoder's frozen stages made of them, f32 `[n_views, ..]`.
    Features(Tensor),
}

impl DeviceViews {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Pixels(tensor) | Self::Features(tensor) => tensor,
        }
    }
}

impl PartialEq for DeviceViews {
    /// Whether they are the same tensor: values are not read back from a device.
    fn eq(&self, other: &Self) -> bool {
        self.tensor().id() == other.tensor().id()
    }
}

impl Eq for DeviceViews {}

/// One step's images. Unlabeled images have no label here, even where one exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Images with labels.
    pub labeled: Views,
    /// The class of each labeled image.
    pub labels: Vec<u32>,
    /// Images without; `None` where the method does not use them or the pool is empty.
    pub unlabeled: Option<Views>,
    /// All views, where they are on the device already; those above then have no bytes.
    pub on_device: Option<DeviceViews>,
}

impl Batch {
    /// Images that go through the model, both views counted.
    #[must_use]
    pub fn n_views(&self) -> usize {
        2 * (self.labeled.n_images + self.unlabeled.as_ref().map_or(0, |views| views.n_images))
    }

    /// All views on a device.
    pub(crate) fn views(&self, upload: &mut Upload, device: &Device) -> Result<DeviceViews> {
        if let Some(views) = &self.on_device {
            return Ok(views.clone());
        }
        let Views { height, width, .. } = self.labeled;
        let views = [Some(&self.labeled), self.unlabeled.as_ref()].into_iter().flatten();
        let parts: Vec<&[u8]> = views.flat_map(|views| [&views.weak[..], &views.strong]).collect();
        let pixels = upload.send(&parts, (self.n_views(), height, width, 3), device)?;
        Ok(DeviceViews::Pixels(pixels))
    }

    /// The first of so many parts of about the same size, with an image at least; only the size of
    /// its images means anything where they are on a device.
    pub(crate) fn part(&self, n_parts: usize) -> Self {
        let part = |views: &Views| views.first(views.n_images.div_ceil(n_parts));
        let labeled = part(&self.labeled);
        let labels = self.labels.iter().take(labeled.n_images).copied().collect();
        let unlabeled = self.unlabeled.as_ref().map(part);
        Self { labeled, labels, unlabeled, on_device: None }
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use s5cl_kernels::Upload;

    use super::{Batch, DeviceViews, Views};

    fn batch() -> Batch {
        let views = |n_images: usize, first: u8| {
            let pixels = |first: u8| (0..6 * n_images).map(|i| first + i as u8).collect();
            let (weak, strong) = (pixels(first), pixels(first + 100));
            Views { weak, strong, n_images, height: 2, width: 1 }
        };
        let unlabeled = Some(views(9, 7));
        Batch { labeled: views(5, 0), labels: vec![3, 1, 4, 1, 5], unlabeled, on_device: None }
    }

    #[test]
    fn batch_pixels_are_all_views_in_order() -> candle_core::Result<()> {
        let views = batch().views(&mut Upload::default(), &Device::Cpu)?;
        let DeviceViews::Pixels(pixels) = views else { panic!("{views:?}") };
        assert_eq!(pixels.dims(), [28, 2, 1, 3]);
        let firsts = pixels.flatten_from(1)?.to_vec2::<u8>()?.into_iter().map(|view| view[0]);
        // Five labeled images of six bytes, weak and strong, and nine unlabeled ones.
        let starts = [(0, 5), (100, 5), (7, 9), (107, 9)];
        let expected = starts.into_iter().flat_map(|(at, n)| (0..n).map(move |i| at + 6 * i));
        assert!(firsts.eq(expected));
        Ok(())
    }

    #[test]
    fn batch_part_is_its_first_images() {
        let batch = batch();
        let part = batch.part(4);
        assert_eq!((part.labeled.n_images, part.labels.as_slice()), (2, &[3, 1][..]));
        assert_eq!(part.labeled.strong, (100..112).collect::<Vec<u8>>());
        assert_eq!(part.unlabeled.as_ref().map(|views| views.weak[17]), Some(7 + 17));
        assert_eq!(part.n_views(), 2 * (2 + 3));
        assert_eq!(batch.part(100).n_views(), 4);
    }
}
