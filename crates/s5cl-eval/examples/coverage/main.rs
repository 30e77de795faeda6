//! How often the 95 % intervals of this crate hold the truth, as a table.
//!
//! `cargo build -p xtask -p s5cl-eval --example coverage && target/debug/examples/coverage 1500`;
//! the number is that of the draws.

mod simulation;

use crate::simulation::{
    Grouping, MIXED, ONE_SMALL, PerImage, SMALL, Setting, bootstrap_coverage, seed_coverage,
};
use s5cl_eval::EvalError;

fn main() -> Result<(), EvalError> {
    let n_draws = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let group = |n_groups, n_groups_of_class, deviation| {
        Some(Grouping { n_groups, n_groups_of_class, deviation })
    };
    let groupings = [
        ("independent", None),
        ("20 mixed groups", group(20, 20, 1.0)),
        ("40 mixed groups", group(40, 40, 1.0)),
        ("40 groups, 4 a class", group(40, 4, 0.7)),
        ("10 mixed groups", group(10, 10, 1.0)),
        ("5 mixed groups", group(5, 5, 1.0)),
    ];
    let supports = [("5 to 200", MIXED), ("5", SMALL), ("60", &[60; 9])];
    println!("{n_draws} draws; recall of classes below 20 images | of the others");
    for (images, support) in supports {
        for (name, grouping) in groupings {
            for accuracy in [0.6, 0.8, 0.95] {
                let c = Setting { support, accuracy, grouping }.coverage(n_draws)?;
                println!(
                    "{images:>9} images a class, {name:<20} {accuracy:4}: accuracy {:.3}, balanced \
                     {:.3}, macro F1 {:.3}, recall {:.3} | {:.3}",
                    c.accuracy.share(),
                    c.balanced_accuracy.share(),
                    c.macro_f1.share(),
                    c.recall_small.share(),
                    c.recall_large.share(),
                );
            }
        }
    }
    let setting = Setting { support: &[60; 9], accuracy: 0.8, grouping: groupings[1].1 };
    let unaware = setting.coverage_without_groups(n_draws)?.accuracy.share();
    println!("20 mixed groups taken for independent images: accuracy {unaware:.3}");
    println!("differences of two runs on the same images");
    for (images, support) in supports {
        for (name, grouping) in groupings {
            for accuracy in [0.64, 0.95] {
                let setting = Setting { support, accuracy, grouping };
                let found = setting.paired_coverage(n_draws, None)?;
                println!("{images:>9} images a class, {name:<20} {accuracy:4}: {found}");
            }
        }
    }
    println!("where the second run has no image of one class right");
    for (images, support, lost) in
        [("5 to 200", MIXED, 0), ("5", SMALL, 0), ("60, 60 and 5", ONE_SMALL, 2)]
    {
        for (name, grouping) in groupings {
            for accuracy in [0.8, 0.95] {
                let setting = Setting { support, accuracy, grouping };
                let found = setting.paired_coverage(n_draws, Some(lost))?;
                println!("{images:>12} images a class, {name:<20} {accuracy:4}: {found}");
            }
        }
    }
    for n_groups in [5, 10, 20, 40, 100] {
        let share = |figure| {
            bootstrap_coverage(figure, n_groups, n_draws, 1_000).map(|coverage| coverage.share())
        };
        let (bounded, skewed) = (share(PerImage::Bounded)?, share(PerImage::Skewed)?);
        println!("bootstrap, {n_groups} groups: precision {bounded:.3}, loss {skewed:.3}");
    }
    for n_seeds in [2, 3, 5] {
        let (single, paired) = seed_coverage(n_seeds, 10 * n_draws)?;
        println!("{n_seeds} seeds: mean {:.3}, difference {:.3}", single.share(), paired.share());
    }
    Ok(())
}
