//! The guarantees of the samplers, over many shapes.

use std::collections::{BTreeMap, BTreeSet};

use s5cl_random::named_stream;

use super::{ClassBalancedSampler, Draw, PoolSampler, ReferenceSampler};

/// Sample index and class of classes with the given numbers of labels.
fn labels(n_labels: &[usize]) -> Vec<(usize, u32)> {
    let classes = n_labels.iter().enumerate();
    classes
        .flat_map(|(class, &n)| (0..n).map(move |i| (class * 1000 + i, class as u32 * 3)))
        .collect()
}

fn class_of(draw: &Draw) -> usize {
    draw.sample_idx / 1000
}

/// Shapes from small to large, balanced and not.
fn shapes() -> Vec<(Vec<usize>, usize, usize)> {
    let mut stream = named_stream(0, "sampler shapes");
    let mut shapes = vec![(vec![5; 9], 32, 4), (vec![1, 1], 4, 2), (vec![1; 15], 128, 4)];
    for n_classes in 2..=15 {
        for batch in [4, 5, 7, 32, 33, 50, 64, 127, 128] {
            for per_class in [2, 3, 4, 8] {
                let most = 1 + stream.below(50);
                let balanced = vec![most; n_classes];
                let unbalanced = (0..n_classes).map(|_| 1 + stream.below(50)).collect();
                shapes.extend([(balanced, batch, per_class), (unbalanced, batch, per_class)]);
            }
        }
    }
    shapes
}

#[test]
fn class_balanced_every_batch_has_positives_and_negatives() {
    for (n_labels, batch, per_class) in shapes() {
        let sampler = ClassBalancedSampler::new(&labels(&n_labels), batch, per_class, 7).unwrap();
        for step in 0..2 * sampler.steps_per_epoch() {
            let draws = sampler.batch(step);
            assert_eq!(draws.len(), batch);
            let mut of_class: BTreeMap<usize, Vec<Draw>> = BTreeMap::new();
            draws.iter().for_each(|draw| of_class.entry(class_of(draw)).or_default().push(*draw));
            assert!(of_class.len() >= 2, "{n_labels:?} {batch} {per_class} {step}");
            for (class, draws) in of_class {
                assert!(draws.len() >= 2, "{n_labels:?} {batch} {per_class} {step}");
                let images: BTreeSet<_> = draws.iter().map(|draw| draw.sample_idx).collect();
                assert_eq!(images.len(), draws.len().min(n_labels[class]));
            }
        }
    }
}

#[test]
fn class_balanced_every_epoch_covers_every_image_and_repeats_none_unmarked() {
    for (n_labels, batch, per_class) in shapes() {
        let samples = labels(&n_labels);
        let sampler = ClassBalancedSampler::new(&samples, batch, per_class, 7).unwrap();
        let steps = sampler.steps_per_epoch();
        for epoch in 0..2 {
            let draws: Vec<Draw> =
                (epoch * steps..(epoch + 1) * steps).flat_map(|s| sampler.batch(s)).collect();
            assert!(draws.iter().all(|draw| draw.epoch == epoch));
            let first: BTreeSet<_> =
                draws.iter().filter(|draw| draw.repeat == 0).map(|draw| draw.sample_idx).collect();
            assert!(samples.iter().all(|(i, _)| first.contains(i)), "{n_labels:?} {batch}");
            let unique: BTreeSet<_> = draws.iter().collect();
            assert_eq!(unique.len(), draws.len(), "{n_labels:?} {batch} {per_class}");
            for draw in &draws {
                let before = Draw { repeat: draw.repeat.saturating_sub(1), ..*draw };
                assert!(unique.contains(&before), "{draw:?} skips a repeat");
            }
        }
    }
}

#[test]
fn class_balanced_gives_classes_equal_turns() {
    // 9 classes of 4 in batches of 32: 8 classes a batch, one sits out.
    let sampler = ClassBalancedSampler::new(&labels(&[5; 9]), 32, 4, 0).unwrap();
    assert_eq!((sampler.classes_per_batch(), sampler.steps_per_epoch()), (8, 3));
    let mut draws_of = [0; 9];
    for step in 0..3 * 30 {
        sampler.batch(step).iter().for_each(|draw| draws_of[class_of(draw)] += 1);
    }
    let (least, most) = (draws_of.iter().min().unwrap(), draws_of.iter().max().unwrap());
    // Each epoch gives every class 2 or 3 turns of 4.
    assert!(*least >= 30 * 8 && *most <= 30 * 12, "{draws_of:?}");
    assert!(most - least < 30 * 2, "{draws_of:?}");
}

#[test]
fn class_balanced_gives_a_single_label_twice() {
    let sampler = ClassBalancedSampler::new(&labels(&[1, 40]), 8, 4, 0).unwrap();
    let repeats: Vec<u64> = sampler
        .batch(0)
        .iter()
        .filter(|draw| class_of(draw) == 0)
        .map(|draw| draw.repeat)
        .collect();
    assert_eq!(repeats, [0, 1, 2, 3]);
}

#[test]
fn class_balanced_refuses_what_has_no_contrast() {
    let refused = |n_labels: &[usize], batch, per_class| {
        ClassBalancedSampler::new(&labels(n_labels), batch, per_class, 0).err().unwrap().to_string()
    };
    assert!(refused(&[5], 32, 4).contains("1 classes"));
    assert!(refused(&[5, 5], 3, 2).contains("batch 3"));
    assert!(refused(&[5, 5], 32, 1).contains("1 per class"));
}

#[test]
fn samplers_depend_on_seed_and_step_alone() {
    let samples = labels(&[5, 9, 3]);
    let pool: Vec<usize> = (0..100).collect();
    let class_balanced = |seed| ClassBalancedSampler::new(&samples, 8, 2, seed).unwrap();
    let from_pool = |seed| PoolSampler::new(&pool, 16, seed).unwrap();
    let reference = |seed| ReferenceSampler::new(&samples, 8, 2, seed).unwrap();
    // Backwards and forwards: nothing depends on what was asked before.
    let (a, b, c) = (class_balanced(1), from_pool(1), reference(1));
    for step in (0..40).rev().chain(0..40) {
        assert_eq!(a.batch(step), class_balanced(1).batch(step));
        assert_eq!(b.batch(step), from_pool(1).batch(step));
        assert_eq!(c.batch(step), reference(1).batch(step));
    }
    assert_ne!(a.batch(0), class_balanced(2).batch(0));
    assert_ne!(b.batch(0), from_pool(2).batch(0));
    assert_ne!(c.batch(0), reference(2).batch(0));
}

#[test]
fn pool_every_epoch_gives_every_image_and_no_batch_gives_one_twice() {
    let mut stream = named_stream(0, "pool shapes");
    for batch in [1, 2, 7, 16, 128] {
        for _ in 0..20 {
            let pool: Vec<usize> = (0..1 + stream.below(300)).map(|i| i * 2).collect();
            let sampler = PoolSampler::new(&pool, batch, 3).unwrap();
            assert_eq!(sampler.batch_len(), batch.min(pool.len()));
            assert_eq!(sampler.shrunk(), batch > pool.len());
            let steps = sampler.steps_per_epoch();
            for epoch in 0..3 {
                let mut first = BTreeSet::new();
                let mut all = BTreeSet::new();
                for step in epoch * steps..(epoch + 1) * steps {
                    let draws = sampler.batch(step);
                    assert_eq!(draws.len(), sampler.batch_len());
                    let images: BTreeSet<_> = draws.iter().map(|draw| draw.sample_idx).collect();
                    assert_eq!(images.len(), draws.len());
                    for draw in draws {
                        assert_eq!(draw.epoch, epoch);
                        assert!(all.insert(draw));
                        assert!(draw.repeat > 0 || first.insert(draw.sample_idx));
                    }
                }
                assert!(first.into_iter().eq(pool.iter().copied()));
            }
        }
    }
}

#[test]
fn pool_orders_differ_between_epochs() {
    let pool: Vec<usize> = (0..64).collect();
    let sampler = PoolSampler::new(&pool, 64, 0).unwrap();
    let order = |step| sampler.batch(step).iter().map(|d| d.sample_idx).collect::<Vec<_>>();
    assert_ne!(order(0), order(1));
    assert!(PoolSampler::new(&[], 4, 0).err().unwrap().to_string().contains("0 images"));
    assert!(PoolSampler::new(&pool, 0, 0).is_err());
}

#[test]
fn reference_keeps_the_short_batch_of_one_class() {
    let sampler = ReferenceSampler::new(&labels(&[5; 9]), 32, 4, 0).unwrap();
    assert_eq!(sampler.steps_per_epoch(), 2);
    for epoch in 0..5 {
        let (long, short) = (sampler.batch(2 * epoch), sampler.batch(2 * epoch + 1));
        assert_eq!((long.len(), short.len()), (32, 4));
        assert!(short.iter().all(|draw| class_of(draw) == class_of(&short[0])));
        let list: Vec<Draw> = long.into_iter().chain(short).collect();
        for of_class in list.chunks(4) {
            assert!(of_class.iter().all(|draw| class_of(draw) == class_of(&of_class[0])));
            assert_eq!(of_class.iter().map(|d| d.sample_idx).collect::<BTreeSet<_>>().len(), 4);
        }
        assert_eq!(list.iter().map(class_of).collect::<BTreeSet<_>>().len(), 9);
    }
}

#[test]
fn reference_draws_with_replacement_only_where_labels_run_short() {
    let sampler = ReferenceSampler::new(&labels(&[2, 20]), 8, 4, 0).unwrap();
    // 22 images fill two passes of 8.
    assert_eq!(sampler.steps_per_epoch(), 2);
    let draws: Vec<Draw> = (0..2).flat_map(|step| sampler.batch(step)).collect();
    assert_eq!(draws.iter().collect::<BTreeSet<_>>().len(), 16, "repeats are marked");
    assert!(ReferenceSampler::new(&[], 8, 4, 0).is_err());
}
