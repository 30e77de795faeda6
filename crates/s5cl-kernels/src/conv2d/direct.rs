//! Convolution without a copy of the input: every output pixel is a row of a matrix product, its
//! window one segment of depth for each tap that meets the map.
//!
//! The gradient of the input is the same product with the axes transposed: each input pixel
//! gathers from the output gradients that it took part in.

use rayon::prelude::*;

use super::geometry::{Axis, Geometry, Map};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment, Start};
use crate::{linear, simd};

/// Pixels of a part: enough rows for full tiles, few enough for a part to stay in cache.
const PART_PIXELS: usize = 384;

/// Output pixels as rows over a source map.
pub(crate) struct Direct {
    batch: usize,
    source: Map,
    target: Map,
    rows: Axis,
    cols: Axis,
    /// For each pattern of rows, for each pattern of columns: the taps that meet the map.
    segments: Vec<Vec<Vec<Segment>>>,
    /// One for each group.
    panels: Vec<Panels>,
}

impl Direct {
    /// From the input's maps to the output's, with a weight in PyTorch's layout.
    pub(crate) fn forward(geometry: &Geometry, weight: &[f32]) -> Self {
        let (rows, cols) = geometry.axes();
        let taps = geometry.met_taps();
        let pack = |group| pack_forward(geometry, &taps, group, weight);
        let panels = (0..geometry.groups()).map(pack).collect();
        Self::new(geometry, &taps, (geometry.input, geometry.output), (rows, cols), panels)
    }

    /// From the output's gradient to the input's.
    pub(crate) fn input_gradient(geometry: &Geometry, weight: &[f32]) -> Self {
        let (rows, cols) = geometry.transposed_axes();
        let taps = geometry.met_taps();
        let pack = |group| pack_backward(geometry, &taps, group, weight);
        let panels = (0..geometry.groups()).map(pack).collect();
        Self::new(geometry, &taps, (geometry.output, geometry.input), (rows, cols), panels)
    }

    /// `taps` are those that the panels hold.
    fn new(
        geometry: &Geometry,
        taps: &[usize],
        (source, target): (Map, Map),
        (rows, cols): (Axis, Axis),
        panels: Vec<Panels>,
    ) -> Self {
        let mut place = vec![0; geometry.taps()];
        taps.iter().enumerate().for_each(|(index, &tap)| place[tap] = index);
        let depth = source.channels / geometry.groups();
        let segments = rows.patterns.iter().map(|row_taps| {
            let of_pattern = cols.patterns.iter().map(|col_taps| {
                let mut segments: Vec<Segment> = Vec::new();
                for row in row_taps {
                    for col in col_taps {
                        let tap = place[row.kernel * geometry.kernel.1 + col.kernel];
                        let lhs = (row.source * source.width + col.source) * source.channels;
                        push_or_extend(&mut segments, Segment { lhs, rhs: tap * depth, depth });
                    }
                }
                segments
            });
            of_pattern.collect()
        });
        let segments = segments.collect();
        Self { batch: geometry.batch, source, target, rows, cols, segments, panels }
    }

    /// Computes the whole target; `finish`'s other start is of the target's length.
    pub(crate) fn run(&self, source: &[f32], target: &mut [f32], finish: Finish<'_>) {
        self.run_then(source, target, finish, |_| ());
    }

    /// [`Self::run`], and something with each part of the target while it is in cache.
    pub(crate) fn run_then(
        &self,
        source: &[f32],
        target: &mut [f32],
        finish: Finish<'_>,
        then: impl Fn(&mut [f32]) + Sync,
    ) {
        assert_eq!(source.len(), self.batch * self.source.len(), "values of the source");
        assert_eq!(target.len(), self.batch * self.target.len(), "values of the target");
        let row_len = self.target.width * self.target.channels;
        let part_rows = (PART_PIXELS / self.target.width.max(1)).max(1);
        target.par_chunks_mut((part_rows * row_len).max(1)).enumerate().for_each(|(part, out)| {
            let finish = match finish.start {
                Start::Other(other) => {
                    let start = Start::Other(&other[part * part_rows * row_len..][..out.len()]);
                    Finish { start, ..finish }
                }
                Start::Zero | Start::Output => finish,
            };
            self.part(source, out, part * part_rows, finish);
            then(out);
        });
    }

    /// The rows of pixels from `first_row` on, counted through the batch.
    fn part(&self, source: &[f32], out: &mut [f32], first_row: usize, finish: Finish<'_>) {
        let row_len = self.target.width * self.target.channels;
        let n_rows = out.len() / row_len;
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for (row_pattern, by_col) in self.segments.iter().enumerate() {
            for (col_pattern, segments) in by_col.iter().enumerate() {
                sources.clear();
                targets.clear();
                for row in 0..n_rows {
                    let image = (first_row + row) / self.target.height;
                    let y = self.rows.positions[(first_row + row) % self.target.height];
                    if y.pattern != row_pattern {
                        continue;
                    }
                    for (col, x) in self.cols.positions.iter().enumerate() {
                        if x.pattern == col_pattern {
                            let pixel = image * self.source.pixels()
                                + y.source * self.source.width
                                + x.source;
                            sources.push(pixel * self.source.channels);
                            targets.push(row * row_len + col * self.target.channels);
                        }
                    }
                }
                if !targets.is_empty() {
                    self.pattern(source, out, &mut sources, &mut targets, segments, finish);
                }
            }
        }
    }

    /// All groups of one pattern; the rows are moved on from group to group.
    fn pattern(
        &self,
        source: &[f32],
        out: &mut [f32],
        sources: &mut [usize],
        targets: &mut [usize],
        segments: &[Segment],
        finish: Finish<'_>,
    ) {
        let n_groups = self.panels.len();
        let (inputs, outputs) = (self.source.channels / n_groups, self.target.channels / n_groups);
        for (group, panels) in self.panels.iter().enumerate() {
            Product {
                lhs: source,
                lhs_rows: sources,
                segments,
                rhs: panels,
                out,
                out_rows: targets,
                finish,
                first_affine: group * outputs,
            }
            .run();
            sources.iter_mut().for_each(|source| *source += inputs);
            targets.iter_mut().for_each(|target| *target += outputs);
        }
    }
}

/// Joins what is contiguous in both operands, as the taps of one row of a kernel often are.
fn push_or_extend(segments: &mut Vec<Segment>, next: Segment) {
    match segments.last_mut() {
        Some(last) if last.lhs + last.depth == next.lhs && last.rhs + last.depth == next.rhs => {
            last.depth += next.depth;
        }
        _ => segments.push(next),
    }
}

/// Input channels whose weights are turned at a time, so that both sides stay in cache.
const PACK_INPUTS: usize = 16;

/// The kernels of one group, `[outputs][inputs][taps]`.
fn of_group<'a>(geometry: &Geometry, group: usize, weight: &'a [f32]) -> &'a [f32] {
    let len = geometry.group_outputs() * geometry.group_inputs() * geometry.taps();
    &weight[group * len..(group + 1) * len]
}

/// Rows by met tap and input channel, columns by output channel.
fn pack_forward(geometry: &Geometry, taps: &[usize], group: usize, weight: &[f32]) -> Panels {
    let (n_taps, inputs, outputs) =
        (geometry.taps(), geometry.group_inputs(), geometry.group_outputs());
    let weight = of_group(geometry, group, weight);
    if n_taps == 1 {
        return linear::turned(weight, inputs, outputs);
    }
    let mut panels = Panels::new(simd::arch(), taps.len() * inputs, outputs);
    let width = panels.width();
    let panels_mut: Vec<(usize, &mut [f32])> = panels.panels_mut().collect();
    panels_mut.into_par_iter().for_each(|(first, panel)| {
        let n_cols = width.min(outputs - first);
        for block in (0..inputs).step_by(PACK_INPUTS) {
            let block = block..(block + PACK_INPUTS).min(inputs);
            for col in 0..n_cols {
                let kernels = &weight[(first + col) * inputs * n_taps..][..inputs * n_taps];
                for input in block.clone() {
                    let kernel = &kernels[input * n_taps..(input + 1) * n_taps];
                    for (place, &tap) in taps.iter().enumerate() {
                        panel[(place * inputs + input) * width + col] = kernel[tap];
                    }
                }
            }
        }
    });
    panels
}

/// Rows by met tap and output channel, columns by input channel.
fn pack_backward(geometry: &Geometry, taps: &[usize], group: usize, weight: &[f32]) -> Panels {
    let (n_taps, inputs, outputs) =
        (geometry.taps(), geometry.group_inputs(), geometry.group_outputs());
    let weight = of_group(geometry, group, weight);
    if n_taps == 1 {
        return linear::upright(weight, inputs, outputs);
    }
    let mut panels = Panels::new(simd::arch(), taps.len() * outputs, inputs);
    let width = panels.width();
    let panels_mut: Vec<(usize, &mut [f32])> = panels.panels_mut().collect();
    panels_mut.into_par_iter().for_each(|(first, panel)| {
        let n_cols = width.min(inputs - first);
        for output in 0..outputs {
            let kernels = &weight[(output * inputs + first) * n_taps..][..n_cols * n_taps];
            for (col, kernel) in kernels.chunks_exact(n_taps).enumerate() {
                for (place, &tap) in taps.iter().enumerate() {
                    panel[(place * outputs + output) * width + col] = kernel[tap];
                }
            }
        }
    });
    panels
}
