//! How often the 95 % intervals hold the truth of synthetic evaluations. The draws are seeded, so
//! that every share is the same in every run.

#[path = "../examples/coverage/simulation.rs"]
mod simulation;

use s5cl_eval::EvalError;
use simulation::{
    Coverage, Grouping, MIXED, ONE_SMALL, PerImage, SMALL, Setting, bootstrap_coverage,
    seed_coverage,
};

/// The share of 0.95 is known to 0.007 from this many draws.
const N_DRAWS: u32 = 1_000;
/// The honest range of a 95 % interval.
const HONEST: [f64; 2] = [0.93, 0.97];
/// Where classes of a few images allow few values, an interval may be wider than asked for.
/// Never to miss is to say nothing, which is caught.
const CAUTIOUS: [f64; 2] = [0.93, 0.995];

#[track_caller]
fn assert_share(what: &str, coverage: Coverage, [least, most]: [f64; 2]) {
    let share = coverage.share();
    assert!((least..=most).contains(&share), "{what}: {share}");
}

const MIXED_SLIDES: Option<Grouping> =
    Some(Grouping { n_groups: 20, n_groups_of_class: 20, deviation: 1.0 });
const PURE_SLIDES: Option<Grouping> =
    Some(Grouping { n_groups: 40, n_groups_of_class: 4, deviation: 0.7 });

#[test]
fn intervals_of_a_run_cover_as_often_as_they_say() -> Result<(), EvalError> {
    for grouping in [None, MIXED_SLIDES] {
        for accuracy in [0.6, 0.8] {
            let found = Setting { support: MIXED, accuracy, grouping }.coverage(N_DRAWS)?;
            let what = |figure| format!("{figure} at {accuracy}, {grouping:?}");
            assert_share(&what("accuracy"), found.accuracy, HONEST);
            assert_share(&what("balanced accuracy"), found.balanced_accuracy, HONEST);
            assert_share(&what("macro F1"), found.macro_f1, HONEST);
            assert_share(&what("recall"), found.recall_large, HONEST);
            assert_share(&what("recall of few images"), found.recall_small, CAUTIOUS);
        }
    }
    Ok(())
}

#[test]
fn intervals_err_to_the_cautious_side_for_small_classes_and_high_accuracy() -> Result<(), EvalError>
{
    for (support, accuracy, grouping) in
        [(SMALL, 0.8, None), (MIXED, 0.95, MIXED_SLIDES), (MIXED, 0.8, PURE_SLIDES)]
    {
        let found = Setting { support, accuracy, grouping }.coverage(N_DRAWS)?;
        let what = |figure| format!("{figure} at {accuracy}, {grouping:?}");
        assert_share(&what("accuracy"), found.accuracy, CAUTIOUS);
        assert_share(&what("balanced accuracy"), found.balanced_accuracy, CAUTIOUS);
        assert_share(&what("macro F1"), found.macro_f1, CAUTIOUS);
        assert_share(&what("recall of few images"), found.recall_small, CAUTIOUS);
    }
    Ok(())
}

#[test]
fn intervals_that_take_images_of_a_slide_for_independent_do_not_cover() -> Result<(), EvalError> {
    // The simulation itself is at stake: what ignores the groups has to fail in it.
    let setting = Setting { support: &[60; 9], accuracy: 0.8, grouping: MIXED_SLIDES };
    let found = setting.coverage_without_groups(N_DRAWS)?;
    assert!(found.accuracy.share() < 0.85, "{}", found.accuracy.share());
    Ok(())
}

#[test]
fn intervals_of_differences_cover_as_often_as_they_say() -> Result<(), EvalError> {
    for grouping in [None, MIXED_SLIDES, PURE_SLIDES] {
        let setting = Setting { support: MIXED, accuracy: 0.8, grouping };
        let found = setting.paired_coverage(N_DRAWS, None)?;
        let what = |figure| format!("{figure}, {grouping:?}");
        assert_share(&what("accuracy"), found.accuracy, HONEST);
        // In which classes of five images weigh as much as those of 200.
        assert_share(&what("balanced accuracy"), found.balanced_accuracy, CAUTIOUS);
        assert_share(&what("macro F1"), found.macro_f1, HONEST);
    }
    Ok(())
}

#[test]
fn intervals_of_differences_hold_where_one_run_never_has_a_class_right() -> Result<(), EvalError> {
    for (support, lost) in [(MIXED, 0), (SMALL, 4), (ONE_SMALL, 2)] {
        for grouping in [None, MIXED_SLIDES] {
            let setting = Setting { support, accuracy: 0.8, grouping };
            let found = setting.paired_coverage(N_DRAWS, Some(lost))?;
            let what = |figure| format!("{figure}, {support:?}, {grouping:?}");
            assert_share(&what("accuracy"), found.accuracy, CAUTIOUS);
            assert_share(&what("balanced accuracy"), found.balanced_accuracy, CAUTIOUS);
            assert_share(&what("macro F1"), found.macro_f1, CAUTIOUS);
        }
    }
    Ok(())
}

#[test]
fn intervals_over_seeds_cover_as_often_as_they_say() -> Result<(), EvalError> {
    for n_seeds in [3, 5] {
        let (single, paired) = seed_coverage(n_seeds, 10 * N_DRAWS)?;
        assert_share("mean", single, HONEST);
        assert_share("difference", paired, HONEST);
    }
    Ok(())
}

#[test]
fn intervals_of_the_bootstrap_cover_as_often_as_they_say() -> Result<(), EvalError> {
    /// Few enough to be fast; the quantiles of a mean do not need more.
    const N_REPLICATES: usize = 500;
    for n_groups in [20, 40] {
        let found = bootstrap_coverage(PerImage::Bounded, n_groups, N_DRAWS, N_REPLICATES)?;
        assert_share("a precision", found, HONEST);
    }
    let found = bootstrap_coverage(PerImage::Skewed, 100, N_DRAWS, N_REPLICATES)?;
    assert_share("a loss", found, HONEST);
    Ok(())
}
