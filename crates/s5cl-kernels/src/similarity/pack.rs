//! Rows of embeddings in the two orders that the tiles read: unit rows, and panels of columns.

use rayon::prelude::*;

use super::accurate::sum;
use crate::simd::dispatch;

/// Rows side by side in one panel; a multiple of every vector length.
pub(super) const PANEL: usize = 32;
/// torch's `eps` of `normalize`: a shorter row is divided by this instead of its norm.
const SMALLEST_NORM: f64 = 1e-12;

/// A matrix of embeddings, row after row, each to be scaled by a factor of its own.
#[derive(Clone, Copy)]
pub(super) struct Embeddings<'a> {
    pub(super) values: &'a [f32],
    pub(super) dim: usize,
    /// One per row: the inverse norm, or 1.
    pub(super) factors: &'a [f32],
}

impl Embeddings<'_> {
    pub(super) fn len(&self) -> usize {
        self.factors.len()
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// Writes the scaled rows from `start` on into rows of `width` values with zeros behind them.
    pub(super) fn pack_rows(&self, start: usize, count: usize, width: usize, out: &mut [f32]) {
        for (index, out) in (start..start + count).zip(out.chunks_exact_mut(width)) {
            let factor = self.factors[index];
            let (used, behind) = out.split_at_mut(self.dim);
            for (out, value) in used.iter_mut().zip(self.row(index)) {
                *out = value * factor;
            }
            behind.fill(0.0);
        }
    }

    /// Writes the scaled rows from `start` on as panels `[dim, PANEL]`; the last is filled up with
    /// zeros.
    pub(super) fn pack_panels(&self, start: usize, count: usize, out: &mut [f32]) {
        let firsts = (start..start + count).step_by(PANEL);
        for (first, panel) in firsts.zip(out.chunks_exact_mut(PANEL * self.dim)) {
            let used = PANEL.min(start + count - first);
            if used < PANEL {
                panel.fill(0.0);
            }
            for lane in 0..used {
                let factor = self.factors[first + lane];
                for (value, out) in
                    self.row(first + lane).iter().zip(panel[lane..].iter_mut().step_by(PANEL))
                {
                    *out = value * factor;
                }
            }
        }
    }

    /// All rows as panels.
    pub(super) fn panels(&self) -> Vec<f32> {
        // A group of panels is long enough to be worth a task.
        const ROWS: usize = 16 * PANEL;
        let mut panels = vec![0.0; panels_len(self.len(), self.dim)];
        panels.par_chunks_mut(ROWS * self.dim).enumerate().for_each(|(group, out)| {
            let start = group * ROWS;
            self.pack_panels(start, ROWS.min(self.len() - start), out);
        });
        panels
    }
}

/// Rows of embeddings that are wanted as panels, again and again.
pub(super) struct RowPanels<'a> {
    pub(super) embeddings: Embeddings<'a>,
    all: Option<Vec<f32>>,
}

impl<'a> RowPanels<'a> {
    /// Makes all panels now, or none.
    pub(super) fn new(embeddings: Embeddings<'a>, are_kept: bool) -> Self {
        Self { embeddings, all: are_kept.then(|| embeddings.panels()) }
    }

    /// The panels of some rows, the first one at the beginning of a panel; made in `own` if they
    /// are not at hand.
    pub(super) fn of<'b>(
        &'b self,
        (start, count): (usize, usize),
        own: &'b mut Vec<f32>,
    ) -> &'b [f32] {
        let dim = self.embeddings.dim;
        match &self.all {
            Some(panels) => &panels[start * dim..][..panels_len(count, dim)],
            None => {
                own.resize(panels_len(count, dim), 0.0);
                self.embeddings.pack_panels(start, count, own);
                own
            }
        }
    }
}

/// Values in the panels of so many rows.
pub(super) fn panels_len(rows: usize, dim: usize) -> usize {
    rows.next_multiple_of(PANEL) * dim
}

/// The norms of the rows.
pub(super) fn norms(values: &[f32], dim: usize) -> Vec<f64> {
    let norm = |row| sum(row, row, |x: f32, y: f32| f64::from(x) * f64::from(y)).sqrt();
    dispatch(
        #[inline(always)]
        || values.chunks_exact(dim).map(norm).collect(),
    )
}

/// What scales a row of this norm to unit length; a zero row stays zero.
pub(super) fn inverse_norm(norm: f64) -> f64 {
    1.0 / norm.max(SMALLEST_NORM)
}

/// Whether the norm itself, not the smallest one, scales the row.
pub(super) fn is_normalized(norm: f64) -> bool {
    norm >= SMALLEST_NORM
}
