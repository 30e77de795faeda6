//! Smooth random fields and the few functions that must give the same bits everywhere.

use s5cl_random::Stream;

/// Cells along one side of the periodic lattice; a power of two, so that wrapping is a mask.
const SIDE: usize = 32;

/// Value noise on a periodic lattice, drawn once per tile and read at many scales and offsets.
pub(super) struct Noise {
    // An array, because an index below a known length needs no check.
    lattice: [f32; SIDE * SIDE],
}

impl Noise {
    /// Draws a new lattice.
    pub(super) fn new(stream: &mut Stream) -> Self {
        Self { lattice: [(); SIDE * SIDE].map(|()| stream.uniform()) }
    }

    /// The field at a point in lattice units: smooth, in `[0, 1]`, one feature per unit.
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let (column, row) = (whole(x), whole(y));
        let (tx, ty) = (ease(x - column as f32), ease(y - row as f32));
        let mask = SIDE - 1;
        let left = column as usize & mask;
        let top = row as usize & mask;
        let right = (left + 1) & mask;
        let (upper, lower) = (top * SIDE, ((top + 1) & mask) * SIDE);
        let above = mix(self.lattice[upper + left], self.lattice[upper + right], tx);
        let below = mix(self.lattice[lower + left], self.lattice[lower + right], tx);
        mix(above, below, ty)
    }

    /// Two octaves along the lattice, for fibers: the finer one has a third of the weight and is
    /// finer across (`y`) only; in `[0, 1]`.
    pub(super) fn fibers(&self, x: f32, y: f32) -> f32 {
        0.67 * self.at(x, y) + 0.33 * self.at(1.3 * x + 11.3, 2.3 * y + 5.7)
    }

    /// Two octaves turned against each other and the image, so that the lattice does not show;
    /// in `[0, 1]`.
    pub(super) fn cloud(&self, x: f32, y: f32) -> f32 {
        let (coarse_x, coarse_y) = (0.8 * x - 0.6 * y, 0.6 * x + 0.8 * y);
        let (fine_x, fine_y) = (2.0 * (0.92 * x + 0.39 * y), 2.0 * (0.92 * y - 0.39 * x));
        0.62 * self.at(coarse_x, coarse_y) + 0.38 * self.at(fine_x + 11.3, fine_y + 5.7)
    }
}

/// The largest whole number not above `x`; the library's `floor` is a call on plain x86-64.
fn whole(x: f32) -> i32 {
    let truncated = x as i32;
    truncated - i32::from(x < truncated as f32)
}

/// `a` at `t = 0`, `b` at `t = 1`.
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The cubic step from 0 to 1 on `[0, 1]`.
fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// The cubic step from 0 at `low` to 1 at `high`.
pub(super) fn step_between(low: f32, high: f32, x: f32) -> f32 {
    ease(((x - low) / (high - low)).clamp(0.0, 1.0))
}

/// `sin(2 pi turns)` within 1e-4, from additions and products only: the libraries of two
/// platforms disagree in the last bit of a sine, and a pinned tile must not.
pub(super) fn wave(turns: f32) -> f32 {
    let centered = turns - whole(turns + 0.5) as f32;
    // Fold onto a quarter turn, where the series converges fast.
    let folded = if centered > 0.25 {
        0.5 - centered
    } else if centered < -0.25 {
        -0.5 - centered
    } else {
        centered
    };
    let x = folded * std::f32::consts::TAU;
    let square = x * x;
    x * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))))
}

/// The unit vector at an angle in turns.
pub(super) fn direction(turns: f32) -> (f32, f32) {
    (wave(turns + 0.25), wave(turns))
}

/// `e^x` for `x` in `[-8, 4]`, within 1e-3 of its value, from additions and products only.
pub(super) fn exponential(x: f32) -> f32 {
    // Horner's scheme with products: a division takes several times as long.
    const THIRD: f32 = 1.0 / 3.0;
    let y = x * (1.0 / 16.0);
    let tail = 1.0 + y * THIRD * (1.0 + y * 0.25 * (1.0 + y * 0.2));
    let root = 1.0 + y * (1.0 + y * 0.5 * tail);
    let power_2 = root * root;
    let power_4 = power_2 * power_2;
    let power_8 = power_4 * power_4;
    power_8 * power_8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wave_is_a_sine() {
        for i in -40..40 {
            let turns = i as f32 / 13.0;
            let sine = (turns * std::f32::consts::TAU).sin();
            assert!((wave(turns) - sine).abs() < 1e-4, "{turns}");
        }
    }

    #[test]
    fn exponential_is_close() {
        for i in -80..=40 {
            let x = i as f32 / 10.0;
            assert!((exponential(x) / x.exp() - 1.0).abs() < 1e-3, "{x}");
        }
    }

    #[test]
    fn noise_is_bounded_periodic_and_defined_left_of_zero() {
        let noise = Noise::new(&mut s5cl_random::named_stream(0, "noise"));
        for i in -50..50 {
            let (x, y) = (i as f32 * 0.37, i as f32 * -0.61);
            let value = noise.at(x, y);
            assert!((0.0..=1.0).contains(&value));
            assert!((value - noise.at(x + SIDE as f32, y)).abs() < 1e-4);
        }
    }
}
