//! Which samples are learned from with their label, without it, chosen by and judged by.

mod holdout;

use std::fmt;

use s5cl_random::named_stream;

use self::holdout::Remaining;
use crate::{DataError, Dataset, Split};

/// Share of the images that becomes the test part of a dataset without one.
pub const TEST_SHARE: f64 = 0.20;
/// Share of the images that becomes the validation part of a dataset without one.
pub const VALIDATION_SHARE: f64 = 0.15;
/// A class of this many images has at least one in the test part.
const CLASS_WITH_TEST: usize = 3;

/// How many of the training labels are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LabelBudget {
    /// Every label.
    All,
    /// This many of each class.
    PerClass(usize),
    /// This share of each class, in (0, 1], rounded, at least one.
    Fraction(f64),
}

impl fmt::Display for LabelBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all labels"),
            Self::PerClass(n) => write!(f, "{n} labels per class"),
            Self::Fraction(fraction) => write!(f, "a fraction of {fraction}"),
        }
    }
}

/// Sample indices by purpose, each list sorted, no index in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Training images whose label is kept.
    pub labeled: Vec<usize>,
    /// Training images without a label, or whose label is hidden.
    pub unlabeled: Vec<usize>,
    /// Labeled images to choose by.
    pub validation: Vec<usize>,
    /// Labeled images to judge by.
    pub test: Vec<usize>,
}

/// Divides a dataset.
///
/// The dataset's own splits hold. A test part that is missing is made of 20 % of the training
/// images, then a missing validation part of 15 % of them: class by class, whole groups where
/// groups are known, drawn by `seed`. Every class keeps a training image, and a class of 3 or
/// more images gets one in the test part unless they are all of one group.
///
/// Then `budget` labels are kept, drawn by `seed` so that a larger budget keeps all that a
/// smaller one keeps, and the other training images become the unlabeled pool. Images that come
/// without a label are in the pool whatever the budget, unless their group was held out. With
/// [`LabelBudget::All`] these are the whole pool.
///
/// # Errors
///
/// If the budget keeps nothing, if a class of the dataset has fewer labels than it asks for, or
/// if no labeled image is left for training or for test. A class without any image in the whole
/// dataset is passed over.
pub fn partition(
    dataset: &Dataset,
    budget: LabelBudget,
    seed: u64,
) -> Result<Partition, DataError> {
    check(budget)?;
    let labeled_of = |split| of_split(dataset, split).filter(|&i| is_labeled(dataset, i));
    let mut test: Vec<usize> = labeled_of(Split::Test).collect();
    let mut validation: Vec<usize> = labeled_of(Split::Validation).collect();
    let training: Vec<usize> = of_split(dataset, Split::Train).collect();

    let mut remaining = Remaining::new(&dataset.samples, &training, dataset.n_classes());
    let mut stream = named_stream(seed, "split");
    if test.is_empty() {
        let targets = remaining.targets(TEST_SHARE, CLASS_WITH_TEST);
        test = remaining.take(&targets, &mut stream);
    }
    if validation.is_empty() {
        let targets = remaining.targets(VALIDATION_SHARE, usize::MAX);
        validation = remaining.take(&targets, &mut stream);
    }
    for part in [&mut test, &mut validation] {
        part.retain(|&i| is_labeled(dataset, i));
        part.sort_unstable();
    }
    let mut training = remaining.into_members();
    training.sort_unstable();
    let (labeled, unlabeled) = keep_labels(dataset, &training, budget, seed)?;
    let partition = Partition { labeled, unlabeled, validation, test };
    refuse_empty(dataset, &partition)?;
    Ok(partition)
}

fn check(budget: LabelBudget) -> Result<(), DataError> {
    let usable = match budget {
        LabelBudget::All => true,
        LabelBudget::PerClass(n) => n > 0,
        LabelBudget::Fraction(fraction) => fraction > 0.0 && fraction <= 1.0,
    };
    if usable { Ok(()) } else { Err(DataError::BadBudget { budget: budget.to_string() }) }
}

/// The samples of a split; what is in no split is for training.
fn of_split(dataset: &Dataset, split: Split) -> impl Iterator<Item = usize> {
    let samples = dataset.samples.iter().enumerate();
    samples.filter(move |(_, s)| s.split.unwrap_or(Split::Train) == split).map(|(i, _)| i)
}

fn is_labeled(dataset: &Dataset, sample_idx: usize) -> bool {
    dataset.samples[sample_idx].class_idx.is_some()
}

/// Parts the training images into those that keep their label and the pool.
fn keep_labels(
    dataset: &Dataset,
    training: &[usize],
    budget: LabelBudget,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let (mut labeled, mut unlabeled) = (Vec::new(), Vec::new());
    let mut by_class = vec![Vec::new(); dataset.n_classes()];
    for &sample_idx in training {
        match dataset.samples[sample_idx].class_idx {
            Some(class_idx) => by_class[class_idx as usize].push(sample_idx),
            None => unlabeled.push(sample_idx),
        }
    }
    for (class_idx, mut of_class) in by_class.into_iter().enumerate() {
        let class = &dataset.class_names[class_idx];
        let has = of_class.len();
        let wanted = match budget {
            LabelBudget::All => has,
            LabelBudget::PerClass(n) => n,
            LabelBudget::Fraction(share) => ((share * has as f64).round() as usize).max(1).min(has),
        };
        if wanted > has {
            if has == 0 && !occurs(dataset, class_idx) {
                continue;
            }
            return Err(DataError::TooFewLabels { class: class.clone(), has, wanted });
        }
        // The first of one order that depends on no budget: budgets are nested.
        named_stream(seed, &format!("labels of {class}")).shuffle(&mut of_class);
        unlabeled.extend(of_class.split_off(wanted));
        labeled.extend(of_class);
    }
    labeled.sort_unstable();
    unlabeled.sort_unstable();
    Ok((labeled, unlabeled))
}

fn occurs(dataset: &Dataset, class_idx: usize) -> bool {
    dataset.samples.iter().any(|sample| sample.class_idx == Some(class_idx as u32))
}

fn refuse_empty(dataset: &Dataset, partition: &Partition) -> Result<(), DataError> {
    let (part, advice) = if partition.labeled.is_empty() {
        (Split::Train, "label some training images")
    } else if partition.test.is_empty() {
        (Split::Test, "give a class at least 3 images, or add a test split")
    } else {
        return Ok(());
    };
    let (dataset, n_samples) = (dataset.name.clone(), dataset.samples.len());
    Err(DataError::EmptyPart { dataset, part, n_samples, advice })
}

#[cfg(test)]
mod tests;
