//! Averages that follow present values.

use candle_core::{DType, Result, Tensor, bail};

use super::Slot;
use super::update::update;
use crate::values::Values;

/// Moves averages towards present values, all on one device.
///
/// ```text
/// average = average + (1 - decay) * (value - average)
/// ```
///
/// # Shapes
///
/// - each average: changed in place
/// - its values: f32 of any shape, as many
///
/// `decay` is from 0 to 1.
///
/// # Errors
///
/// If the numbers of values differ, values are not f32, or the decay is out of its range. Nothing
/// is changed then.
pub fn average_step(items: &mut [(&mut Slot, &Tensor)], decay: f64) -> Result<()> {
    const NAME: &str = "average_step";
    if !(0.0..=1.0).contains(&decay) {
        bail!("{NAME}: decay {decay} is not from 0 to 1")
    }
    for (average, values) in items.iter() {
        let shape = values.shape();
        if average.len() != values.elem_count() {
            bail!("{NAME}: {} values of average for {shape:?}", average.len())
        }
        if values.dtype() != DType::F32 || !average.is_on(values.device()) {
            let (dtype, device) = (values.dtype(), values.device());
            bail!("{NAME}: expected f32 beside its average, got {dtype:?} {shape:?} on {device:?}")
        }
    }
    // The share alone is rounded: a decay beside it would not add up to 1 with it.
    let share = (1.0 - decay) as f32;
    #[cfg(feature = "cuda")]
    if items.first().is_some_and(|(_, values)| values.device().is_cuda()) {
        return super::cuda::average(items, share);
    }
    for (average, values) in items {
        let values = values.contiguous()?;
        update(
            average.on_cpu(),
            &Values::of(&values, NAME)?,
            [&mut [], &mut []],
            #[inline(always)]
            |averages, values, _| {
                for (average, value) in averages.iter_mut().zip(values) {
                    *average += (value - *average) * share;
                }
            },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::average_step;
    use crate::checks::{draw, drawn, refusal, same_everywhere, values};
    use crate::optimizer_step::Slot;
    use crate::optimizer_step::update::BLOCK;

    /// Several blocks, the last one not full.
    const LEN: usize = 2 * BLOCK + 77;
    /// A decay whose distance from 1 is no number of f32, and steps in which its error would add up.
    const LONG_DECAY: f64 = 0.9999;
    const LONG_STEPS: usize = 20_000;
    /// Each step rounds the average once, by half of f32's spacing below 2 (6e-8), and forgets it at
    /// the rate of the decay: at most 6e-4, were all roundings on one side. They are on both, and so
    /// add up like a walk, the root of 5000 steps long: 4e-6, of which this is the triple.
    const AVERAGED: f64 = 1.3e-5;

    #[test]
    fn average_step_moves_the_average_alone() -> Result<()> {
        let value = drawn(1, &[LEN])?;
        let averaged = same_everywhere(|| {
            let mut average = Slot::copy_of(&drawn(2, &[LEN])?)?;
            average_step(&mut [(&mut average, &value)], 0.75)?;
            values(&average.to_tensor(LEN)?)
        });
        for ((got, value), average) in averaged.iter().zip(draw(1, LEN)).zip(draw(2, LEN)) {
            // Products with a quarter and three quarters; the sum is rounded.
            assert!((got - (0.75 * average + 0.25 * value)).abs() < f32::EPSILON);
        }
        let refused = |len: usize, value: &Tensor| -> Result<String> {
            let mut average = Slot::zeros(len, &Device::Cpu)?;
            Ok(refusal(average_step(&mut [(&mut average, value)], 0.5)))
        };
        let message = refused(2, &value)?;
        assert!(message.contains("average_step: 2 values of average"), "{message}");
        let message = refused(LEN, &value.to_dtype(DType::F64)?)?;
        assert!(message.contains("average_step: expected f32"), "{message}");
        for decay in [-0.1, 1.1, f64::NAN] {
            let mut average = Slot::zeros(LEN, &Device::Cpu)?;
            let message = refusal(average_step(&mut [(&mut average, &value)], decay));
            assert!(message.contains(&format!("average_step: decay {decay} is not")), "{message}");
        }
        Ok(())
    }

    #[test]
    fn average_step_follows_an_average_in_f64() -> Result<()> {
        // The last value does not change, and nor may an average that is there already.
        let value = Tensor::new(&[1.37_f32, -0.9, 0.7, 1.9], &Device::Cpu)?;
        let initial = [0.25, 0.5, -1.1, 1.9_f32];
        let mut average = Slot::copy_of(&Tensor::new(&initial, &Device::Cpu)?)?;
        let mut expected = initial.map(f64::from);
        for _ in 0..LONG_STEPS {
            average_step(&mut [(&mut average, &value)], LONG_DECAY)?;
            for (expected, value) in expected.iter_mut().zip(values(&value)?) {
                *expected = LONG_DECAY * *expected + (1.0 - LONG_DECAY) * f64::from(value);
            }
        }
        let average = values(&average.to_tensor(4)?)?;
        for (got, expected) in average.iter().zip(expected) {
            let difference = (f64::from(*got) - expected).abs();
            assert!(difference < AVERAGED, "{got}, not {expected}: off by {difference:e}");
        }
        assert_eq!(average[3], 1.9);
        Ok(())
    }
}
