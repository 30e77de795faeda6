//! Where a kernel meets a map.

use candle_core::{Result, bail};

use super::Conv2dConfig;

/// Height, width and channels of one image's feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Map {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl Map {
    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Values of one image.
    pub(crate) fn len(self) -> usize {
        self.pixels() * self.channels
    }
}

/// Values that memory can be asked for: its bytes are counted with a sign.
const MOST_VALUES: usize = isize::MAX as usize / size_of::<f32>();

/// The length of a side with its padding, if that is a number.
fn padded(length: usize, padding: usize) -> Option<usize> {
    padding.checked_mul(2)?.checked_add(length)
}

/// A convolution of known shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    pub(crate) input: Map,
    pub(crate) output: Map,
    /// Height and width.
    pub(crate) kernel: (usize, usize),
    pub(crate) config: Conv2dConfig,
}

impl Geometry {
    /// `maps` as `[batch, height, width, in_channels]`, `weight` in PyTorch's layout.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit each other, there are no channels, or the result cannot be held.
    pub(crate) fn new(maps: &[usize], weight: &[usize], config: Conv2dConfig) -> Result<Self> {
        let (&[batch, height, width, channels], &[out_channels, group_channels, kh, kw]) =
            (maps, weight)
        else {
            bail!("conv2d: expected maps and weight of rank 4, got {maps:?} and {weight:?}")
        };
        let Conv2dConfig { stride, padding, dilation, groups } = config;
        if stride == 0 || dilation == 0 || groups == 0 || kh == 0 || kw == 0 {
            bail!("conv2d: {config:?} and weight {weight:?}: all but the padding must be 1 or more")
        }
        if channels == 0 || out_channels == 0 {
            bail!("conv2d: maps {maps:?} and weight {weight:?}: there must be channels in and out")
        }
        if group_channels.checked_mul(groups) != Some(channels)
            || !out_channels.is_multiple_of(groups)
        {
            bail!(
                "conv2d: maps {maps:?} with {channels} channels do not fit weight {weight:?} in \
                 {groups} groups"
            )
        }
        let Some((padded_height, padded_width)) =
            padded(height, padding).zip(padded(width, padding))
        else {
            bail!("conv2d: maps {maps:?} with {config:?} have more values than memory")
        };
        let outputs = |padded: usize, kernel: usize| -> Result<usize> {
            let reach = dilation.checked_mul(kernel - 1).and_then(|reach| reach.checked_add(1));
            match reach.and_then(|reach| padded.checked_sub(reach)) {
                Some(room) => Ok(room / stride + 1),
                None => bail!(
                    "conv2d: weight {weight:?} with {config:?} is larger than the maps {maps:?}"
                ),
            }
        };
        let output = Map {
            height: outputs(padded_height, kh)?,
            width: outputs(padded_width, kw)?,
            channels: out_channels,
        };
        let sizes = [batch, output.height, output.width, output.channels];
        let n_values = sizes.into_iter().try_fold(1_usize, |n, size| n.checked_mul(size));
        if n_values.is_none_or(|n| n > MOST_VALUES) {
            bail!("conv2d: maps {maps:?} with {config:?} give {sizes:?}, more values than memory")
        }
        let input = Map { height, width, channels };
        Ok(Self { batch, input, output, kernel: (kh, kw), config })
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }

    pub(crate) fn groups(&self) -> usize {
        self.config.groups
    }

    /// Input channels of a group.
    pub(crate) fn group_inputs(&self) -> usize {
        self.input.channels / self.config.groups
    }

    /// Output channels of a group.
    pub(crate) fn group_outputs(&self) -> usize {
        self.output.channels / self.config.groups
    }

    /// Down the map and across it, from output to input coordinates.
    pub(crate) fn axes(&self) -> (Axis, Axis) {
        let Self { input, output, kernel, config, .. } = self;
        let axis = |len, out_len, kernel| {
            Axis::new(out_len, kernel, |o, k| {
                let at = o * config.stride + k * config.dilation;
                at.checked_sub(config.padding).filter(|&i| i < len)
            })
        };
        (axis(input.height, output.height, kernel.0), axis(input.width, output.width, kernel.1))
    }

    /// The taps that meet the map at all, in order: on a map of one pixel, a 3x3 kernel has one.
    pub(crate) fn met_taps(&self) -> Vec<usize> {
        let (rows, cols) = self.axes();
        let is_met = |axis: &Axis, kernel| {
            axis.patterns.iter().flatten().any(|tap: &Tap| tap.kernel == kernel)
        };
        let width = self.kernel.1;
        let is_met = |&tap: &usize| is_met(&rows, tap / width) && is_met(&cols, tap % width);
        (0..self.taps()).filter(is_met).collect()
    }

    /// Down the map and across it, from input to output coordinates: where the gradient of an
    /// input comes from.
    pub(crate) fn transposed_axes(&self) -> (Axis, Axis) {
        let Self { input, output, kernel, config, .. } = self;
        let axis = |len, out_len, kernel| {
            Axis::new(len, kernel, |i, k| {
                let at = (i + config.padding).checked_sub(k * config.dilation)?;
                let o = at / config.stride;
                (at.is_multiple_of(config.stride) && o < out_len).then_some(o)
            })
        };
        (axis(input.height, output.height, kernel.0), axis(input.width, output.width, kernel.1))
    }
}

/// One tap of the kernel along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Position in the kernel.
    pub(crate) kernel: usize,
    /// Coordinate in the source, counted from [`Position::source`].
    pub(crate) source: usize,
}

/// A coordinate of the target along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Index of its taps in [`Axis::patterns`].
    pub(crate) pattern: usize,
    /// The first coordinate of the source that one of them meets.
    pub(crate) source: usize,
}

/// Which taps meet the source at each coordinate of the target. Few patterns occur: the inner
/// one, and those of the borders.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) patterns: Vec<Vec<Tap>>,
    pub(crate) positions: Vec<Position>,
}

impl Axis {
    fn new(len: usize, kernel: usize, source: impl Fn(usize, usize) -> Option<usize>) -> Self {
        let mut axis = Self { patterns: Vec::new(), positions: Vec::with_capacity(len) };
        for target in 0..len {
            let met: Vec<(usize, usize)> =
                (0..kernel).filter_map(|k| Some((k, source(target, k)?))).collect();
            let first = met.iter().map(|&(_, source)| source).min().unwrap_or(0);
            let tap = |&(kernel, source): &(usize, usize)| Tap { kernel, source: source - first };
            let taps: Vec<Tap> = met.iter().map(tap).collect();
            let known = axis.patterns.iter().position(|pattern| *pattern == taps);
            let pattern = known.unwrap_or_else(|| {
                axis.patterns.push(taps);
                axis.patterns.len() - 1
            });
            axis.positions.push(Position { pattern, source: first });
        }
        axis
    }
}

#[cfg(test)]
mod tests {
    use super::{Conv2dConfig, Geometry, Position, Tap};

    const SAME: Conv2dConfig = Conv2dConfig { stride: 1, padding: 1, dilation: 1, groups: 1 };

    #[test]
    fn axes_have_the_patterns_of_both_borders() {
        let config = Conv2dConfig { stride: 2, ..SAME };
        let geometry = Geometry::new(&[1, 5, 4, 1], &[1, 1, 3, 3], config).unwrap();
        let (rows, cols) = geometry.axes();
        let taps = |range: std::ops::Range<usize>| -> Vec<Tap> {
            let start = range.start;
            range.map(|kernel| Tap { kernel, source: kernel - start }).collect()
        };
        assert_eq!(rows.patterns, [taps(1..3), taps(0..3), taps(0..2)]);
        let at = |pattern, source| Position { pattern, source };
        assert_eq!(rows.positions, [at(0, 0), at(1, 1), at(2, 3)]);
        assert_eq!(cols.positions, [at(0, 0), at(1, 1)]);
    }

    #[test]
    fn transposed_axes_invert_the_axes() {
        let config = Conv2dConfig { stride: 2, padding: 2, dilation: 3, groups: 1 };
        let geometry = Geometry::new(&[1, 9, 12, 1], &[1, 1, 2, 3], config).unwrap();
        let pairs = |axis: &super::Axis| {
            let mut pairs = Vec::new();
            for (target, position) in axis.positions.iter().enumerate() {
                for tap in &axis.patterns[position.pattern] {
                    pairs.push((target, position.source + tap.source, tap.kernel));
                }
            }
            pairs
        };
        let (rows, cols) = geometry.axes();
        let (rows_back, cols_back) = geometry.transposed_axes();
        for (forth, back) in [(rows, rows_back), (cols, cols_back)] {
            let mut turned: Vec<_> = pairs(&back).into_iter().map(|(i, o, k)| (o, i, k)).collect();
            turned.sort_unstable();
            assert_eq!(pairs(&forth), turned);
            assert!(!turned.is_empty());
        }
    }

    #[test]
    fn taps_that_never_meet_the_map_are_left_out() {
        let met = |height, width, config| {
            Geometry::new(&[1, height, width, 1], &[1, 1, 3, 3], config).unwrap().met_taps()
        };
        assert_eq!(met(1, 1, SAME), [4]);
        assert_eq!(met(1, 2, SAME), [3, 4, 5]);
        assert_eq!(met(2, 2, Conv2dConfig { stride: 2, ..SAME }), [4, 5, 7, 8]);
        assert_eq!(met(5, 5, SAME), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn geometry_refuses_what_does_not_fit() {
        let message = |maps: &[usize], weight: &[usize], config| {
            Geometry::new(maps, weight, config).unwrap_err().to_string()
        };
        assert!(message(&[1, 4, 4, 3], &[8, 4, 3, 3], SAME).contains("[8, 4, 3, 3]"));
        assert!(message(&[1, 4, 4], &[8, 4, 3, 3], SAME).contains("rank 4"));
        assert!(message(&[1, 1, 9, 3], &[8, 3, 5, 5], SAME).contains("larger"));
        let no_stride = Conv2dConfig { stride: 0, ..SAME };
        assert!(message(&[1, 4, 4, 3], &[8, 3, 3, 3], no_stride).contains("stride: 0"));
        let groups = Conv2dConfig { groups: 2, ..SAME };
        assert!(message(&[1, 4, 4, 4], &[3, 2, 3, 3], groups).contains("2 groups"));
        assert!(message(&[1, 4, 4, 0], &[8, 0, 3, 3], SAME).contains("[8, 0, 3, 3]"));
        assert!(message(&[1, 4, 4, 3], &[0, 3, 3, 3], SAME).contains("[0, 3, 3, 3]"));
    }

    #[test]
    fn geometry_refuses_sizes_beyond_the_numbers() {
        let message = |config: Conv2dConfig| {
            let geometry = Geometry::new(&[1, 4, 4, 3], &[8, 3, 3, 3], config);
            geometry.err().map(|error| error.to_string()).unwrap_or_default()
        };
        // Twice these are 0 and 2, as the hardware counts.
        let half = usize::MAX / 2 + 1;
        for padding in [half, half + 1, usize::MAX, 1 << 40] {
            let message = message(Conv2dConfig { padding, ..SAME });
            assert!(message.contains("more values than memory"), "{padding}: {message}");
        }
        for dilation in [half, half + 1, usize::MAX] {
            let message = message(Conv2dConfig { dilation, ..SAME });
            assert!(message.contains("larger than the maps"), "{dilation}: {message}");
        }
        let message = message(Conv2dConfig { padding: half, dilation: half, ..SAME });
        assert!(message.contains("more values than memory"), "{message}");
    }
}
