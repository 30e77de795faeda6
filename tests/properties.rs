//! What no change of order, name, scale or direction may do to a contrastive loss.

use candle_core::{Device, Tensor, Var};
use s5cl_losses::{Reduction, SupCon, SupervisedLoss, TripletMargin};
use s5cl_random::{Stream, named_stream};

use crate::golden_files::{TestResult, assert_values_close, gradient, values};

/// Batches tried for each property.
const BATCHES: u64 = 60;
/// f32 similarities with a rounding of about 1e-7, magnified by a temperature of 0.2 or by the
/// root in a small distance.
const SAME_VALUE: f64 = 2e-5;
/// f32 rounding of the largest part of a gradient.
const SAME_GRADIENT: f64 = 5e-5;

/// A random batch: 2 to 40 embeddings of 2 to 16 values with a few labels.
struct Batch {
    random: Stream,
    rows: Vec<Vec<f64>>,
    labels: Vec<u32>,
}

impl Batch {
    fn draw(seed: u64) -> Self {
        let mut random = named_stream(seed, "properties");
        let (n, dim) = (2 + random.below(39), 2 + random.below(15));
        let n_classes = 1 + random.below(n);
        let row = |random: &mut Stream| (0..dim).map(|_| f64::from(random.normal())).collect();
        let rows = (0..n).map(|_| row(&mut random)).collect();
        let labels = (0..n).map(|_| random.below(n_classes) as u32).collect();
        Self { random, rows, labels }
    }

    fn dim(&self) -> usize {
        self.rows[0].len()
    }

    fn embeddings(&self) -> TestResult<Var> {
        let rows: Vec<f32> = self.rows.iter().flatten().map(|&value| value as f32).collect();
        Ok(Var::from_vec(rows, (self.rows.len(), self.dim()), &Device::Cpu)?)
    }

    fn loss_and_gradient(&self, loss: &dyn SupervisedLoss) -> TestResult<(f64, Vec<Vec<f64>>)> {
        let embeddings = self.embeddings()?;
        let labels = Tensor::new(self.labels.as_slice(), &Device::Cpu)?;
        let value = loss.forward(&embeddings, &labels)?;
        let gradients = value.backward()?;
        let gradient = values(gradient(&gradients, &embeddings)?)?;
        let rows = gradient.chunks(self.dim()).map(<[f64]>::to_vec).collect();
        Ok((values(&value)?[0], rows))
    }
}

/// Every loss and reduction at temperatures and margins drawn for the batch.
fn losses(random: &mut Stream) -> Vec<(String, Box<dyn SupervisedLoss>)> {
    let temperature = f64::from(random.uniform_in(0.2, 1.0));
    let margin = f64::from(random.uniform_in(0.05, 1.0));
    let mut losses: Vec<(String, Box<dyn SupervisedLoss>)> = Vec::new();
    for reduction in [
        Reduction::MeanValid,
        Reduction::PmlAvgNonZero,
        Reduction::SupContrastMeanAll { base_temperature: 0.07 },
    ] {
        let supcon = SupCon { temperature, reduction };
        losses.push((format!("{supcon:?}"), Box::new(supcon)));
    }
    let triplet = TripletMargin { margin };
    losses.push((format!("{triplet:?}"), Box::new(triplet)));
    losses
}

/// Checks that a change of the batch leaves the loss, and moves the gradient as `expect` says: it
/// is given the gradient's rows before the change.
fn check_unchanged<C>(
    change: impl Fn(&mut Batch) -> C,
    expect: impl Fn(&C, Vec<Vec<f64>>) -> Vec<Vec<f64>>,
) -> TestResult {
    let mut n_above_zero = 0;
    for seed in 0..BATCHES {
        let mut batch = Batch::draw(seed);
        let losses = losses(&mut batch.random);
        let before: Vec<_> = losses
            .iter()
            .map(|(_, loss)| batch.loss_and_gradient(loss.as_ref()))
            .collect::<TestResult<_>>()?;
        let changed = change(&mut batch);
        for ((name, loss), (value, gradient)) in losses.iter().zip(before) {
            let what = format!("seed {seed}, {name}, {:?}", batch.labels);
            let (changed_value, changed_gradient) = batch.loss_and_gradient(loss.as_ref())?;
            assert!(
                (changed_value - value).abs() <= SAME_VALUE * value.abs().max(1.0),
                "{what}: {changed_value} {value}"
            );
            let expected = expect(&changed, gradient).concat();
            // Where no pair pulls, what is left is rounding.
            if expected.iter().any(|part| part.abs() > SAME_GRADIENT) {
                let got = changed_gradient.concat();
                assert_values_close(&what, &got, &expected, SAME_GRADIENT);
                n_above_zero += 1;
            }
        }
    }
    assert!(n_above_zero > BATCHES, "only {n_above_zero} batches had a gradient");
    Ok(())
}

#[test]
fn losses_do_not_see_the_order_of_the_batch() -> TestResult {
    check_unchanged(
        |batch| {
            let order = batch.random.permutation(batch.rows.len());
            batch.rows = order.iter().map(|&i| batch.rows[i].clone()).collect();
            batch.labels = order.iter().map(|&i| batch.labels[i]).collect();
            order
        },
        |order, gradient| order.iter().map(|&i| gradient[i].clone()).collect(),
    )
}

#[test]
fn losses_do_not_see_the_names_of_the_labels() -> TestResult {
    check_unchanged(
        |batch| {
            let names = batch.random.permutation(1000);
            batch.labels = batch.labels.iter().map(|&label| names[label as usize] as u32).collect();
        },
        |(), gradient| gradient,
    )
}

#[test]
fn losses_do_not_see_the_length_of_an_embedding() -> TestResult {
    check_unchanged(
        |batch| {
            let random = &mut batch.random;
            let scales: Vec<f64> =
                batch.rows.iter().map(|_| f64::from(random.uniform_in(0.5, 4.0))).collect();
            for (row, scale) in batch.rows.iter_mut().zip(&scales) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
            scales
        },
        // A longer embedding turns less for the same step.
        |scales, mut gradient| {
            for (row, scale) in gradient.iter_mut().zip(scales) {
                row.iter_mut().for_each(|value| *value /= scale);
            }
            gradient
        },
    )
}

#[test]
fn losses_do_not_see_the_direction_of_the_space() -> TestResult {
    check_unchanged(
        |batch| {
            let dim = batch.dim();
            let rotation: Vec<(usize, usize, f64)> = (0..3 * dim)
                .map(|_| {
                    let first = batch.random.below(dim);
                    let second = (first + 1 + batch.random.below(dim - 1)) % dim;
                    (first, second, f64::from(batch.random.uniform_in(-3.0, 3.0)))
                })
                .collect();
            rotate(&rotation, &mut batch.rows);
            rotation
        },
        |rotation, mut gradient| {
            rotate(rotation, &mut gradient);
            gradient
        },
    )
}

/// Turns every row in one plane after the other.
fn rotate(planes: &[(usize, usize, f64)], rows: &mut [Vec<f64>]) {
    for row in rows {
        for &(first, second, angle) in planes {
            let (sin, cos) = angle.sin_cos();
            (row[first], row[second]) =
                (cos * row[first] - sin * row[second], sin * row[first] + cos * row[second]);
        }
    }
}

#[test]
fn gradients_are_orthogonal_to_their_embeddings() -> TestResult {
    for seed in 0..BATCHES {
        let mut batch = Batch::draw(seed);
        for (name, loss) in losses(&mut batch.random) {
            let (_, gradient) = batch.loss_and_gradient(loss.as_ref())?;
            let length = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
            let longest = gradient.iter().map(|row| length(row)).fold(0.0, f64::max);
            for (row, gradient) in batch.rows.iter().zip(&gradient) {
                let product: f64 = row.iter().zip(gradient).map(|(a, b)| a * b).sum();
                let largest = length(row) * longest.max(1.0);
                assert!(product.abs() <= SAME_GRADIENT * largest, "seed {seed}, {name}: {product}");
            }
        }
    }
    Ok(())
}
