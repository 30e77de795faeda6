//! The geometry of square windows that slide over feature maps, as pooling has them.

use std::ops::Range;

use candle_core::{Result, bail};

/// A window of `kernel` times `kernel` pixels that moves by `stride` over a padded
/// `height x width` map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Window {
    /// Fails when the window does not fit into the padded map.
    pub(crate) fn checked(self, op: &str) -> Result<Self> {
        let Self { height, width, kernel, stride, padding } = self;
        if stride == 0 {
            bail!("{op}: stride must be at least 1")
        }
        if height.min(width) + 2 * padding < kernel {
            bail!("{op}: kernel {kernel} is larger than {height} x {width} padded by {padding}")
        }
        Ok(self)
    }

    pub(crate) fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(crate) fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Windows of one image.
    pub(crate) fn out_pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Pixels of one image.
    pub(crate) fn in_pixels(&self) -> usize {
        self.height * self.width
    }

    /// The part of the kernel's rows that falls inside the map for output row `out_y`, and the
    /// map's row that the first of them meets.
    pub(crate) fn rows(&self, out_y: usize) -> (Range<usize>, usize) {
        overlap(out_y * self.stride, self.padding, self.kernel, self.height)
    }

    /// The same for columns.
    pub(crate) fn cols(&self, out_x: usize) -> (Range<usize>, usize) {
        overlap(out_x * self.stride, self.padding, self.kernel, self.width)
    }
}

/// Kernel positions inside the map for a window starting at `start - padding`.
fn overlap(start: usize, padding: usize, kernel: usize, length: usize) -> (Range<usize>, usize) {
    let first = padding.saturating_sub(start).min(kernel);
    let last = (length + padding).saturating_sub(start).min(kernel).max(first);
    // A window beside the map meets nothing of it; its start must still lie within.
    (first..last, (start + first).saturating_sub(padding).min(length))
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn window_clips_at_both_borders() {
        let window = Window { height: 5, width: 5, kernel: 3, stride: 2, padding: 1 };
        assert_eq!((window.out_height(), window.out_width()), (3, 3));
        assert_eq!(window.rows(0), (1..3, 0));
        assert_eq!(window.rows(1), (0..3, 1));
        assert_eq!(window.rows(2), (0..2, 3));
    }

    #[test]
    fn window_beside_the_map_is_empty() {
        let window = Window { height: 2, width: 3, kernel: 1, stride: 1, padding: 2 };
        assert_eq!((window.rows(0), window.rows(5)), ((1..1, 0), (0..0, 2)));
        assert_eq!((window.cols(0), window.cols(6)), ((1..1, 0), (0..0, 3)));
    }

    #[test]
    fn window_too_large_is_refused() {
        let window = Window { height: 2, width: 9, kernel: 5, stride: 1, padding: 1 };
        assert!(window.checked("pool").is_err());
    }
}
