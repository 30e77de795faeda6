//! The way back through a normalization.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::{Affine, BLOCKS, Parameters, Rows, SUMMING_BLOCKS, Scratch};
use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Pointer};

/// Where the gradient passes the ReLU behind a normalization.
#[derive(Clone, Copy)]
pub(crate) enum Mask<T> {
    /// There is none.
    Open,
    /// Where the affine map, computed once more, is above zero.
    Affine(Affine),
    /// Where the result, which has a residual in it, is above zero.
    Result(Pointer<T>),
}

impl<T> Mask<T> {
    fn affine(&self) -> Affine {
        match self {
            Self::Affine(affine) => *affine,
            _ => Affine { scale: Pointer::NULL, shift: Pointer::NULL },
        }
    }
}

/// The way back through a normalization.
pub(crate) struct Backward<T> {
    pub(crate) maps: Pointer<T>,
    pub(crate) shape: Rows,
    pub(crate) weight: Pointer<f32>,
    /// Null where the maps were normalized by a mean of 0 and a deviation of 1.
    pub(crate) coefficients: Pointer<f32>,
    /// Whether the statistics are the batch's, through which the gradient flows too.
    pub(crate) is_from_batch: bool,
    pub(crate) mask: Mask<T>,
}

impl<T: Stored> Backward<T> {
    /// Floats that [`Self::line`] wants room for.
    pub(crate) fn line_len(shape: Rows) -> usize {
        3 * shape.channels
    }

    /// The gradients of the parameters, each unless it is null, and the line by which
    /// [`Self::maps`] goes on. With [`Mask::Result`] the gradient is masked in place.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shape says.
    pub(crate) unsafe fn parameters<G: Gpu>(
        &self,
        gpu: &G,
        gradient: Pointer<T>,
        scratch: Scratch,
        into: Parameters,
        line: Pointer<f32>,
    ) -> Result<()> {
        let Self { shape, mask, .. } = self;
        let (mode, result) = match mask {
            Mask::Open => (0_u32, Pointer::NULL),
            Mask::Affine(_) => (1, Pointer::NULL),
            Mask::Result(result) => (2, *result),
        };
        let addresses = [self.maps, result, gradient].map(Pointer::address);
        let (kernel, width) =
            names!("batch_norm_gradient_sums").of::<T>(shape.channels, &addresses);
        let launch = shape.launch(kernel, width, SUMMING_BLOCKS);
        let affine = mask.affine();
        let n = if self.is_from_batch { shape.rows as f64 } else { f64::INFINITY };
        let arguments = [
            self.maps.into(),
            result.into(),
            gradient.into(),
            self.coefficients.into(),
            self.weight.into(),
            affine.scale.into(),
            affine.shift.into(),
            scratch.partials.into(),
            scratch.counters.into(),
            into.weight.into(),
            into.bias.into(),
            line.into(),
            (shape.rows as u64).into(),
            (shape.channels as u32).into(),
            mode.into(),
            n.into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// The gradient of the maps from that of the result, after [`Self::parameters`]; `out` may be
    /// the gradient.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shape says.
    pub(crate) unsafe fn maps<G: Gpu>(
        &self,
        gpu: &G,
        gradient: Pointer<T>,
        line: Pointer<f32>,
        out: Pointer<T>,
    ) -> Result<()> {
        let shape = self.shape;
        let addresses = [self.maps, gradient, out].map(Pointer::address);
        let (kernel, width) = names!("batch_norm_gradient").of::<T>(shape.channels, &addresses);
        let launch = shape.launch(kernel, width, BLOCKS * gpu.n_multiprocessors() as usize);
        let affine = self.mask.affine();
        let arguments = [
            self.maps.into(),
            gradient.into(),
            affine.scale.into(),
            affine.shift.into(),
            line.into(),
            out.into(),
            (shape.rows as u64).into(),
            (shape.channels as u32).into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }
}
