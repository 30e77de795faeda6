//! The two timings of an operation.

use std::hint::black_box;

use candle_core::{Result, Tensor, Var};
use criterion::Criterion;

/// Times an operation alone, and with the way back for a gradient of ones.
pub(crate) fn passes(
    criterion: &mut Criterion,
    name: &str,
    input: &Tensor,
    operation: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    criterion.bench_function(&format!("{name} forward"), |bencher| {
        bencher.iter(|| operation(black_box(input)));
    });
    let variable = Var::from_tensor(input)?;
    criterion.bench_function(&format!("{name} forward and backward"), |bencher| {
        bencher.iter(|| operation(black_box(&variable))?.backward());
    });
    Ok(())
}
