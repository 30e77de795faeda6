//! Convolution without a copy of the input: every output pixel is a row of a matrix product, its
//! window one segment of depth for each tap that meets the map.
//!
//! The gradient of the input is the same product with the axes transposed: each input pixel
//! gathers from the output gradients that it took part in.

use rayon::prelude::*;

use super::geometry::{Axis, Geometry, Map};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment, Start};
use crate::simd;

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
        let panels = (0..geometry.groups()).map(|group| {
            pack(geometry.taps(), geometry.group_inputs(), geometry.group_outputs(), |c, k, tap| {
                weight[weight_index(geometry, group, k, c, tap)]
            })
        });
        let panels = panels.collect();
        Self::new(geometry, geometry.input, geometry.output, rows, cols, panels)
    }

    /// From the output's gradient to the input's.
    pub(crate) fn input_gradient(geometry: &Geometry, weight: &[f32]) -> Self {
        let (rows, cols) = geometry.transposed_axes();
        let panels = (0..geometry.groups()).map(|group| {
            pack(geometry.taps(), geometry.group_outputs(), geometry.group_inputs(), |k, c, tap| {
                weight[weight_index(geometry, group, k, c, tap)]
            })
        });
        let panels = panels.collect();
        Self::new(geometry, geometry.output, geometry.input, rows, cols, panels)
    }

    fn new(
        geometry: &Geometry,
        source: Map,
        target: Map,
        rows: Axis,
        cols: Axis,
        panels: Vec<Panels>,
    ) -> Self {
        let depth = source.channels / geometry.groups();
        let segments = rows.patterns.iter().map(|row_taps| {
            let of_pattern = cols.patterns.iter().map(|col_taps| {
                let mut segments: Vec<Segment> = Vec::new();
                for row in row_taps {
                    for col in col_taps {
                        let tap = row.kernel * geometry.kernel.1 + col.kernel;
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

/// The index of an element of a weight in PyTorch's layout.
fn weight_index(
    geometry: &Geometry,
    group: usize,
    output: usize,
    input: usize,
    tap: usize,
) -> usize {
    let output = group * geometry.group_outputs() + output;
    (output * geometry.group_inputs() + input) * geometry.taps() + tap
}

/// Rows by tap and source channel, columns by target channel.
fn pack(
    taps: usize,
    sources: usize,
    targets: usize,
    value: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Panels {
    let mut panels = Panels::zeros(simd::arch(), taps * sources, targets);
    let width = panels.width();
    panels.panels_mut().par_bridge().for_each(|(first, panel)| {
        let n_cols = width.min(targets - first);
        for source in 0..sources {
            for tap in 0..taps {
                let row = &mut panel[(tap * sources + source) * width..][..n_cols];
                for (target, out) in row.iter_mut().enumerate() {
                    *out = value(source, first + target, tap);
                }
            }
        }
    });
    panels
}
