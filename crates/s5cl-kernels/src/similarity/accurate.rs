//! Sums along rows in f64: what is linear in the rows costs little, and is exact where f32 is not.

/// Partial sums of one row: their number, not the vector length, fixes the order of a sum.
const PARTS: usize = 8;

/// `sum over k of term(left[k], right[k])`.
#[inline(always)]
pub(super) fn sum<A: Copy, B: Copy>(left: &[A], right: &[B], term: impl Fn(A, B) -> f64) -> f64 {
    let mut parts = [0.0; PARTS];
    let (left, left_rest) = left.as_chunks::<PARTS>();
    let (right, right_rest) = right.as_chunks::<PARTS>();
    for (left, right) in left.iter().zip(right) {
        for (part, (&left, &right)) in parts.iter_mut().zip(left.iter().zip(right)) {
            *part += term(left, right);
        }
    }
    for (part, (&left, &right)) in parts.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *part += term(left, right);
    }
    parts.into_iter().sum()
}
