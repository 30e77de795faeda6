//! The difference between two runs on the same test images.

use serde::Serialize;

use super::bootstrap::{Bootstrap, Replicates};
use super::interval::Interval;
use super::mcnemar::{McNemar, mcnemar};
use crate::classification::Confusion;
use crate::error::{EvalError, same_length};

/// What [`paired_bootstrap`] gives, in the unit of the statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedBootstrap {
    /// The first run's statistic less the second's.
    pub difference: f64,
    /// Where the true difference lies with the chance asked for.
    pub interval: Interval,
    /// One less the level at which the interval would end at 0, in `[0, 1]`.
    pub p_value: f64,
    /// Replicates on which the statistic of a run was undefined; they are left out.
    pub n_undefined: usize,
}

/// The interval of the difference of a statistic between two runs on the same test images: both
/// see the same drawn images, so that what is hard for both cancels.
///
/// As [`super::bootstrap`], of `first - second`.
///
/// # Errors
///
/// As [`super::bootstrap`].
pub fn paired_bootstrap(
    n: usize,
    groups: Option<&[u32]>,
    config: &Bootstrap,
    first: impl Fn(&[usize]) -> Option<f64> + Sync,
    second: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Result<PairedBootstrap, EvalError> {
    let difference = |drawn: &[usize]| Some(first(drawn)? - second(drawn)?);
    let replicates = Replicates::draw(n, groups, config, difference)?;
    Ok(PairedBootstrap {
        difference: replicates.estimate,
        interval: replicates.interval(config.level),
        p_value: replicates.p_value(0.0),
        n_undefined: replicates.n_undefined,
    })
}

/// What a run said of its test images.
#[derive(Clone, Copy, Debug)]
pub struct TestRun<'a> {
    /// Id of every image, as its path.
    pub ids: &'a [String],
    /// `[n]`, the true classes.
    pub labels: &'a [u32],
    /// `[n]`, the predicted classes.
    pub predictions: &'a [u32],
}

/// What [`compare_runs`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunComparison {
    /// Of [`Confusion::accuracy`].
    pub accuracy: PairedBootstrap,
    /// Of [`Confusion::balanced_accuracy`].
    pub balanced_accuracy: PairedBootstrap,
    /// Of [`Confusion::macro_f1`].
    pub macro_f1: PairedBootstrap,
    /// On single images.
    pub mcnemar: McNemar,
}

/// How two runs differ in accuracy, balanced accuracy and macro F1 on the same test images, first
/// less second.
///
/// `COMPARE_NOTE`
///
/// # Shapes
///
/// `groups`: `[n]`, the same number for images of the same slide or patient; `None` for
/// independent images. Classes are below `n_classes`.
///
/// # Errors
///
/// When the runs' ids or labels differ, a class index is not below `n_classes`, or as
/// [`paired_bootstrap`].
pub fn compare_runs(
    first: &TestRun<'_>,
    second: &TestRun<'_>,
    n_classes: usize,
    groups: Option<&[u32]>,
    config: &Bootstrap,
) -> Result<RunComparison, EvalError> {
    same_images(first, second)?;
    // Once for the errors: below, a test set that cannot be counted is one that was not drawn.
    Confusion::new(n_classes, first.labels, first.predictions)?;
    Confusion::new(n_classes, second.labels, second.predictions)?;
    let paired = |metric: fn(&Confusion) -> f64| {
        let of = |run: &TestRun<'_>, drawn: &[usize]| {
            let take = |classes: &[u32]| drawn.iter().map(|&i| classes[i]).collect::<Vec<_>>();
            let confusion = Confusion::new(n_classes, &take(run.labels), &take(run.predictions));
            confusion.ok().map(|confusion| metric(&confusion))
        };
        paired_bootstrap(
            first.labels.len(),
            groups,
            config,
            |drawn| of(first, drawn),
            |drawn| of(second, drawn),
        )
    };
    Ok(RunComparison {
        accuracy: paired(Confusion::accuracy)?,
        balanced_accuracy: paired(Confusion::balanced_accuracy)?,
        macro_f1: paired(Confusion::macro_f1)?,
        mcnemar: mcnemar(first.labels, first.predictions, second.predictions)?,
    })
}

/// Refuses runs that were not tested on the same images in the same order.
fn same_images(first: &TestRun<'_>, second: &TestRun<'_>) -> Result<(), EvalError> {
    for run in [first, second] {
        same_length(("ids", run.ids.len()), ("labels", run.labels.len()))?;
    }
    same_length(
        ("the first run's ids", first.ids.len()),
        ("the second run's ids", second.ids.len()),
    )?;
    let differ = |what, index, first: String, second: String| {
        Err(EvalError::RunsDiffer { what, index, first, second })
    };
    for index in 0..first.ids.len() {
        let (id, other) = (&first.ids[index], &second.ids[index]);
        if id != other {
            return differ("ids", index, id.clone(), other.clone());
        }
        let (label, other) = (first.labels[index], second.labels[index]);
        if label != other {
            return differ("labels", index, label.to_string(), other.to_string());
        }
    }
    Ok(())
}
