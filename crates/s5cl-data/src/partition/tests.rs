//! Shares, groups, budgets and what is refused.

use std::collections::BTreeSet;

use s5cl_random::named_stream;

use super::{LabelBudget, Partition, partition};
use crate::Split::{Test, Train, Validation};
use crate::test_support::{Kind, dataset_of};
use crate::{DataError, Dataset};

const GROUPS: [&str; 20] = [
    "g00", "g01", "g02", "g03", "g04", "g05", "g06", "g07", "g08", "g09", "g10", "g11", "g12",
    "g13", "g14", "g15", "g16", "g17", "g18", "g19",
];

/// Classes of the given sizes, without splits and groups.
fn classes(sizes: &[usize]) -> Vec<Kind> {
    let sizes = sizes.iter().enumerate();
    sizes.flat_map(|(class, &n)| vec![(Some(class as u32), None, None); n]).collect()
}

fn parts(partition: &Partition) -> [&Vec<usize>; 4] {
    [&partition.labeled, &partition.unlabeled, &partition.validation, &partition.test]
}

/// Checks what holds for every partition.
fn checked(dataset: &Dataset, budget: LabelBudget, seed: u64) -> Partition {
    let partition = partition(dataset, budget, seed).unwrap();
    let mut seen = BTreeSet::new();
    for part in parts(&partition) {
        assert!(part.is_sorted());
        assert!(part.iter().all(|i| seen.insert(*i)), "an index is in two parts");
    }
    for labeled in [&partition.labeled, &partition.validation, &partition.test] {
        assert!(labeled.iter().all(|&i| dataset.samples[i].class_idx.is_some()));
    }
    partition
}

#[test]
fn partition_holds_out_shares_of_every_class() {
    let dataset = dataset_of(&classes(&[100, 20, 4, 3, 2, 1]));
    for seed in 0..20 {
        let parts = checked(&dataset, LabelBudget::All, seed);
        assert_eq!(dataset.class_counts(&parts.test), [20, 4, 1, 1, 0, 0]);
        assert_eq!(dataset.class_counts(&parts.validation), [15, 3, 1, 0, 0, 0]);
        assert_eq!(dataset.class_counts(&parts.labeled), [65, 13, 2, 2, 2, 1]);
        assert!(parts.unlabeled.is_empty());
    }
}

#[test]
fn partition_is_drawn_by_seed() {
    let dataset = dataset_of(&classes(&[50, 50]));
    let draw = |seed| checked(&dataset, LabelBudget::PerClass(5), seed);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1).test, draw(2).test);
    assert_ne!(draw(1).labeled, draw(2).labeled);
}

#[test]
fn partition_keeps_groups_on_one_side() {
    for seed in 0..30 {
        let mut stream = named_stream(seed, "groups");
        let kinds: Vec<Kind> = (0..600)
            .map(|_| {
                let class = stream.below(4) as u32;
                let label = (stream.below(10) > 0).then_some(class);
                (label, None, Some(GROUPS[stream.below(GROUPS.len())]))
            })
            .collect();
        let dataset = dataset_of(&kinds);
        let parts = checked(&dataset, LabelBudget::PerClass(5), seed);
        let groups = |part: &[usize]| -> BTreeSet<&str> {
            part.iter().filter_map(|&i| dataset.samples[i].group.as_deref()).collect()
        };
        let train = &groups(&parts.labeled) | &groups(&parts.unlabeled);
        let (validation, test) = (groups(&parts.validation), groups(&parts.test));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation));
        assert!(validation.is_disjoint(&test));
        // Whole groups of about 30 of 600 come near to the shares.
        let n_labeled = kinds.iter().filter(|kind| kind.0.is_some()).count() as f64;
        for (part, share) in [(&parts.test, 0.20), (&parts.validation, 0.15)] {
            let found = part.len() as f64 / n_labeled;
            assert!((found - share).abs() < 0.07, "{found} instead of {share}");
            assert!(dataset.class_counts(part).iter().all(|&n| n > 0));
        }
    }
}

#[test]
fn partition_takes_a_large_group_rather_than_leave_a_class_untested() {
    let mut kinds = classes(&[20]);
    // Class 1 has two groups, each more than twice its target.
    kinds.extend([(Some(1), None, Some("p")); 10]);
    kinds.extend([(Some(1), None, Some("q")); 12]);
    // Class 2 is all of one group, which has to stay in training.
    kinds.extend([(Some(2), None, Some("r")); 9]);
    let dataset = dataset_of(&kinds);
    for seed in 0..10 {
        let parts = checked(&dataset, LabelBudget::All, seed);
        let counts = dataset.class_counts(&parts.test);
        assert!(counts[1] == 10 || counts[1] == 12, "{counts:?}");
        assert_eq!(counts[2], 0);
        assert_eq!(dataset.class_counts(&parts.labeled)[2], 9);
    }
}

#[test]
fn partition_keeps_given_splits_and_adds_the_missing_one() {
    let mut kinds = vec![(Some(0), Some(Train), None); 40];
    kinds.extend(vec![(Some(1), Some(Train), None); 20]);
    kinds.extend(vec![(Some(0), Some(Test), None); 5]);
    kinds.extend(vec![(Some(1), Some(Test), None); 7]);
    let without_validation = dataset_of(&kinds);
    let parts = checked(&without_validation, LabelBudget::All, 0);
    assert_eq!(parts.test, (60..72).collect::<Vec<_>>());
    assert_eq!(without_validation.class_counts(&parts.validation), [6, 3]);

    kinds.extend([(Some(0), Some(Validation), None), (None, Some(Validation), None)]);
    let whole = dataset_of(&kinds);
    let parts = checked(&whole, LabelBudget::All, 0);
    assert_eq!((parts.labeled.len(), parts.validation), (60, vec![72]));

    let without_test: Vec<Kind> = kinds.into_iter().filter(|kind| kind.1 != Some(Test)).collect();
    let without_test = dataset_of(&without_test);
    let parts = checked(&without_test, LabelBudget::All, 0);
    assert_eq!(without_test.class_counts(&parts.test), [8, 4]);
}

#[test]
fn budget_keeps_labels_by_class_and_hides_the_rest() {
    let mut kinds = classes(&[40, 20, 10]);
    kinds.extend([(None, Some(Train), None); 5]);
    let dataset = dataset_of(&kinds);
    let all = checked(&dataset, LabelBudget::All, 3);
    assert_eq!(all.unlabeled, [70, 71, 72, 73, 74]);
    let n_train = all.labeled.len() + all.unlabeled.len();

    let few = checked(&dataset, LabelBudget::PerClass(5), 3);
    assert_eq!(dataset.class_counts(&few.labeled), [5, 5, 5]);
    assert_eq!(few.labeled.len() + few.unlabeled.len(), n_train);
    assert!((70..75).all(|i| few.unlabeled.contains(&i)));
    assert_eq!((&few.test, &few.validation), (&all.test, &all.validation));

    // 26, 13 and 6 training images; at least one of each is kept.
    let share = |share| {
        let parts = checked(&dataset, LabelBudget::Fraction(share), 3);
        dataset.class_counts(&parts.labeled)
    };
    assert_eq!(dataset.class_counts(&all.labeled), [26, 13, 6]);
    assert_eq!(share(0.25), [7, 3, 2]);
    assert_eq!(share(0.001), [1, 1, 1]);
    assert_eq!(share(1.0), [26, 13, 6]);
}

#[test]
fn budget_of_more_labels_keeps_those_of_fewer() {
    let dataset = dataset_of(&classes(&[60, 60, 60]));
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for n in [1, 2, 5, 20] {
        let labeled = checked(&dataset, LabelBudget::PerClass(n), 9).labeled.into_iter().collect();
        assert!(kept.is_subset(&labeled));
        kept = labeled;
    }
}

#[test]
fn budget_that_cannot_be_met_is_refused() {
    let dataset = dataset_of(&classes(&[40, 4]));
    let refused = |budget| partition(&dataset, budget, 0).unwrap_err();
    let too_few = DataError::TooFewLabels { class: "c1".to_owned(), has: 2, wanted: 5 };
    assert_eq!(refused(LabelBudget::PerClass(5)), too_few);
    assert!(too_few.to_string().contains("class `c1` has 2 labeled training images, not 5"));
    for budget in [
        LabelBudget::PerClass(0),
        LabelBudget::Fraction(0.0),
        LabelBudget::Fraction(-0.5),
        LabelBudget::Fraction(1.5),
        LabelBudget::Fraction(f64::NAN),
    ] {
        assert!(matches!(refused(budget), DataError::BadBudget { .. }), "{budget}");
    }
}

#[test]
fn partition_passes_over_a_class_without_images() {
    let mut kinds = classes(&[20]);
    kinds.extend([(Some(2), None, None); 20]);
    let dataset = dataset_of(&kinds);
    let parts = checked(&dataset, LabelBudget::PerClass(3), 0);
    assert_eq!(dataset.class_counts(&parts.labeled), [3, 0, 3]);
}

#[test]
fn partition_without_a_test_image_is_refused() {
    let dataset = dataset_of(&classes(&[2, 2]));
    let message = partition(&dataset, LabelBudget::All, 0).unwrap_err().to_string();
    assert!(message.contains("no labeled image for test among 4 samples"), "{message}");
}
