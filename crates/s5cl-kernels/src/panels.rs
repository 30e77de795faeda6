//! The right operand of a product, laid out as the micro-kernel reads it.

use pulp::{Arch, Simd, WithSimd};

/// A matrix of `depth x cols` cut into panels of a few vectors' width, each stored row by row.
///
/// The last panel is filled up with zeros. The width depends on the instruction set, which so
/// holds for every product with these panels.
pub(crate) struct Panels {
    values: Vec<f32>,
    depth: usize,
    cols: usize,
    width: usize,
    arch: Arch,
}

impl Panels {
    /// Room for a matrix, all zeros.
    pub(crate) fn zeros(arch: Arch, depth: usize, cols: usize) -> Self {
        let Vectors { lanes, per_panel } = arch.dispatch(CountVectors);
        let width = (lanes * per_panel).min(cols.next_multiple_of(lanes));
        let values = vec![0.0; cols.div_ceil(width.max(1)) * depth * width];
        Self { values, depth, cols, width, arch }
    }

    /// Rows of the matrix.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Columns of a panel, the last one's filling among them.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The instructions these panels are made for.
    pub(crate) fn arch(&self) -> Arch {
        self.arch
    }

    /// One panel, `depth` rows of `width` values.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        &self.values[index * self.depth * self.width..][..self.depth * self.width]
    }

    /// All panels to be written, each with the first of its columns.
    pub(crate) fn panels_mut(&mut self) -> impl Iterator<Item = (usize, &mut [f32])> {
        let width = self.width;
        let panels = self.values.chunks_exact_mut((self.depth * width).max(1));
        panels.enumerate().map(move |(index, panel)| (index * width, panel))
    }
}

struct Vectors {
    lanes: usize,
    per_panel: usize,
}

struct CountVectors;

impl WithSimd for CountVectors {
    type Output = Vectors;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vectors {
        Vectors { lanes: S::F32_LANES, per_panel: vectors_per_panel::<S>() }
    }
}

/// As many vectors as leave the tile's sums, a row of the panel and one value in registers.
pub(crate) const fn vectors_per_panel<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}
