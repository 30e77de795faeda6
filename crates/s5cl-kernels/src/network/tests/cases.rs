//! Networks that have every layer and every way in which layers are read.

use super::reference::{Plain, Shape, Step};
use crate::Conv2dConfig;

/// The way back through normalization, which takes means off: three times what is measured,
/// against the largest value.
const GRADIENT: f64 = 3.5e-5;
/// The same where each value is the sum of hundreds.
const WIDE_GRADIENT: f64 = 1.6e-4;

/// A network to be checked.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) plain: Plain,
    /// Parameters that the result does not depend on.
    pub(super) unread: &'static [usize],
    /// Bound of the gradients' error.
    pub(super) gradient_error: f64,
}

/// A square convolution with the padding that keeps an odd map's size.
pub(super) fn conv(input: usize, weight: Shape, stride: usize) -> Step {
    Step::Conv(input, weight, Conv2dConfig { stride, ..Conv2dConfig::same(weight[2]) })
}

fn norm(input: usize, residual: Option<usize>, relu: bool) -> Step {
    Step::Norm { input, residual, relu }
}

/// The layers of a ResNet: a stem with overlapping max pooling, a block on its own input, a block
/// with a projection of the input, a branch that nobody reads, the mean over pixels.
pub(super) fn residual(images: Shape) -> Case {
    let steps = vec![
        conv(0, [5, 3, 7, 7], 2),
        norm(1, None, true),
        Step::Pool(2, [3, 2, 1]),
        // Maps 3 have two readers, the convolution and the sum.
        conv(3, [5, 5, 3, 3], 1),
        norm(4, None, true),
        conv(5, [5, 5, 3, 3], 1),
        norm(6, Some(3), true),
        // Maps 7 have three: both sides of the block, and the branch.
        conv(7, [7, 5, 1, 1], 2),
        norm(8, None, false),
        conv(7, [4, 5, 3, 3], 1),
        norm(10, None, true),
        conv(7, [7, 5, 3, 3], 2),
        norm(12, None, true),
        conv(13, [7, 7, 3, 3], 1),
        norm(14, Some(9), true),
        Step::Average(15),
    ];
    let plain = Plain { images, steps };
    Case { name: "residual", plain, unread: &[12, 13, 14], gradient_error: GRADIENT }
}

/// Layers of Winograd's kind, behind a stem that makes channels of images.
pub(super) fn wide() -> Case {
    let steps = vec![
        conv(0, [64, 3, 3, 3], 2),
        norm(1, None, true),
        conv(2, WIDE, 1),
        norm(3, None, true),
        conv(4, WIDE, 1),
        norm(5, Some(2), true),
        Step::Average(6),
    ];
    let plain = Plain { images: [3, 42, 38, 3], steps };
    Case { name: "wide", plain, unread: &[], gradient_error: WIDE_GRADIENT }
}

/// The weight of the convolutions of [`wide`] that are of Winograd's kind.
pub(super) const WIDE: Shape = [64, 64, 3, 3];

/// What a ResNet does not have.
fn unusual() -> Vec<(&'static str, Plain)> {
    let grouped = Conv2dConfig { stride: 1, padding: 3, dilation: 2, groups: 2 };
    let images = [2, 5, 4, 3];
    let plain = |steps| Plain { images, steps };
    vec![
        ("ends with a convolution", plain(vec![conv(0, [4, 3, 3, 3], 2)])),
        ("ends with a pool", plain(vec![Step::Pool(0, [3, 1, 1])])),
        (
            "ends with a sum that is clipped",
            plain(vec![conv(0, [3, 3, 3, 3], 1), norm(1, Some(0), true)]),
        ),
        (
            "adds without clipping",
            plain(vec![conv(0, [3, 3, 1, 1], 1), norm(1, Some(0), false), Step::Average(2)]),
        ),
        ("normalizes the images and adds them", plain(vec![norm(0, Some(0), true)])),
        (
            "adds what it normalizes",
            plain(vec![conv(0, [4, 3, 3, 3], 1), norm(1, Some(1), true), Step::Average(2)]),
        ),
        (
            "normalizes a convolution twice",
            plain(vec![
                conv(0, [4, 3, 3, 3], 1),
                norm(1, None, true),
                norm(1, Some(2), false),
                conv(3, [2, 4, 3, 3], 1),
            ]),
        ),
        (
            "adds a convolution's own sums",
            plain(vec![
                conv(0, [4, 3, 3, 3], 1),
                conv(0, [4, 3, 1, 1], 1),
                norm(2, Some(1), true),
                Step::Average(3),
            ]),
        ),
        (
            "normalizes long after the convolution",
            plain(vec![
                conv(0, [4, 3, 3, 3], 1),
                norm(1, None, true),
                conv(2, [4, 4, 3, 3], 1),
                conv(2, [4, 4, 1, 1], 1),
                norm(4, None, false),
                Step::Pool(2, [3, 1, 1]),
                norm(3, Some(6), true),
                norm(7, Some(5), true),
            ]),
        ),
        (
            "pools the same maps twice, in groups",
            plain(vec![
                conv(0, [6, 3, 3, 3], 1),
                Step::Conv(1, [4, 3, 3, 2], grouped),
                Step::Pool(2, [3, 2, 1]),
                Step::Pool(2, [1, 2, 0]),
                norm(3, Some(4), true),
                conv(5, [2, 4, 1, 2], 1),
                Step::Average(6),
            ]),
        ),
    ]
}

/// All of them but the wide one.
pub(super) fn small() -> Vec<Case> {
    // Odd and even sizes, a batch of one, none of them square.
    let images = [[3, 33, 26, 3], [2, 32, 44, 3], [1, 41, 50, 3]];
    let unusual = unusual().into_iter();
    let unusual =
        unusual.map(|(name, plain)| Case { name, plain, unread: &[], gradient_error: GRADIENT });
    images.map(residual).into_iter().chain(unusual).collect()
}
